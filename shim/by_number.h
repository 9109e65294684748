/*
 * by_number.h - what syscall.S hands to C: calls made by syscall(2). They are no cancellation points, so they go on to the
 * real syscall, not to the libc function of the same name.
 */
#ifndef SONDE_BY_NUMBER_H
#define SONDE_BY_NUMBER_H

#include <errno.h>

#include "shim/real.h"
#include "wire/raw.h"

#ifndef SYS_close_range
#define SYS_close_range 436
#endif
#ifndef SYS_futex_waitv
#define SYS_futex_waitv 449
#endif

long watched_syscall(long number, long a, long b, long c, long d, long e, long f);
long watched_futex(long number, long a, long b, long c, long d, long e, long f);
long watched_recvmmsg(int fd, struct mmsghdr *m, unsigned count, int flags, struct timespec *limit);
long watched_sendmmsg(int fd, struct mmsghdr *m, unsigned count, int flags);

/* The next syscall(2), or the kernel where none is known (yet). */
static inline long real_syscall(long number, long a, long b, long c, long d, long e, long f)
{
    if (real.syscall)
        return real.syscall(number, a, b, c, d, e, f);
    long result = raw6(number, a, b, c, d, e, f);
    if (!raw_failed(result))
        return result;
    errno = (int)-result;
    return -1;
}

#endif
