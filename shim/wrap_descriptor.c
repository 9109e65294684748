/*
 * wrap_descriptor.c - descriptors are opened, duplicated, closed.
 *
 * In:      exports.c, syscall.S.      Out: libc, watch.c, descriptor.c.
 * Context: S
 * Failure: a number whose change we miss is unknown or stale; ids are never given twice, so no connection is confused.
 *
 * Closing is observed before the call: the number may be given to another thread at once. fclose, pclose, freopen and
 * closedir close inside libc, out of sight of close. fcloseall only flushes, whatever its name says.
 */
#define _GNU_SOURCE
#include "shim/real.h"
#include "shim/process.h"
#include "shim/rule.h"
#include "shim/stall.h"
#include "shim/watch.h"

#include <errno.h>

#include "shim/by_number.h"

/* --- closing ---------------------------------------------------------------------------------------------------- */

int on_close(int fd)
{
    watch_close(fd);
    return real.close(fd);
}

/* A stream without a descriptor (fmemopen) answers -1 and sets errno: not ours to change. */
static int number_of(FILE *stream)
{
    int error = errno;
    int fd = fileno(stream);
    errno = error;
    return fd;
}

int on_fclose(FILE *stream)
{
    watch_close(number_of(stream));
    return real.fclose(stream);
}

int on_pclose(FILE *stream)
{
    watch_close(number_of(stream));
    return real.pclose(stream);
}

static FILE *reopened(FILE *stream)
{
    if (stream)
        watch_opened(number_of(stream));
    return stream;
}

FILE *on_freopen(const char *path, const char *mode, FILE *stream)
{
    watch_close(number_of(stream));
    return reopened(real.freopen(path, mode, stream));
}

FILE *on_freopen64(const char *path, const char *mode, FILE *stream)
{
    watch_close(number_of(stream));
    return reopened(real.freopen64(path, mode, stream));
}

int on_closedir(DIR *folder)
{
    int error = errno;
    watch_close(dirfd(folder));
    errno = error;
    return real.closedir(folder);
}

int on_close_range(unsigned first, unsigned last, int flags)
{
    if (!(flags & CLOSE_RANGE_CLOEXEC))
        watch_close_range(first, last);
    return real.close_range(first, last, flags);
}

void on_closefrom(int first)
{
    watch_close_range(first > 0 ? (unsigned)first : 0, UINT32_MAX);
    real.closefrom(first);
}

/* --- duplicating ------------------------------------------------------------------------------------------------ */

static inline int duplicated(int from, int to)
{
    if (to >= 0)
        watch_duplicate(from, to);
    return to;
}

int on_dup(int fd)
{
    return duplicated(fd, real.dup(fd));
}

int on_dup2(int fd, int to)
{
    return duplicated(fd, real.dup2(fd, to));
}

int on_dup3(int fd, int to, int flags)
{
    return duplicated(fd, real.dup3(fd, to, flags));
}

static inline bool is_dup(int command)
{
    return command == F_DUPFD || command == F_DUPFD_CLOEXEC;
}

/* What a successful call changed. */
static inline int changed(int fd, int command, long argument, int result)
{
    if (command == F_SETFL && !result)
        watch_mode(fd, argument & O_NONBLOCK);
    return is_dup(command) ? duplicated(fd, result) : result;
}

int on_fcntl(int fd, int command, long argument)
{
    return changed(fd, command, argument, real.fcntl(fd, command, argument));
}

int on_fcntl64(int fd, int command, long argument)
{
    return changed(fd, command, argument, real.fcntl64(fd, command, argument));
}

/* --- opening: whatever stood under the number is gone, and it makes no events ----------------------------------- */

/* The way to a file may lead over the disk as well; a pipe without a writer is no disk. */
#define OPENED(expression)                                                                                             \
    struct stall s;                                                                                                    \
    stall_open_begin(&s);                                                                                              \
    int fd = watch_opened(expression);                                                                                 \
    stall_open_end(&s, fd);                                                                                            \
    return fd

int on_open(const char *path, int flags, mode_t mode)
{
    OPENED(real.open(path, flags, mode));
}

int on_open64(const char *path, int flags, mode_t mode)
{
    OPENED(real.open64(path, flags, mode));
}

int on_openat(int at, const char *path, int flags, mode_t mode)
{
    OPENED(real.openat(at, path, flags, mode));
}

int on_openat64(int at, const char *path, int flags, mode_t mode)
{
    OPENED(real.openat64(at, path, flags, mode));
}

int on___open_2(const char *path, int flags)
{
    OPENED(real.__open_2(path, flags));
}

int on___open64_2(const char *path, int flags)
{
    OPENED(real.__open64_2(path, flags));
}

int on___openat_2(int at, const char *path, int flags)
{
    OPENED(real.__openat_2(at, path, flags));
}

int on___openat64_2(int at, const char *path, int flags)
{
    OPENED(real.__openat64_2(at, path, flags));
}

int on_creat(const char *path, mode_t mode)
{
    OPENED(real.creat(path, mode));
}

int on_creat64(const char *path, mode_t mode)
{
    OPENED(real.creat64(path, mode));
}

static inline int both_other(int result, const int pair[2])
{
    if (!result) {
        watch_other(pair[0]);
        watch_other(pair[1]);
    }
    return result;
}

/* libunwind opens one for the probing of addresses that we never ask it for, and goes without where it gets none. */
static int no_pipe(void)
{
    errno = ENFILE;
    return -1;
}

int on_pipe(int pair[2])
{
    return rule_is_starting() ? no_pipe() : both_other(real.pipe(pair), pair);
}

int on_pipe2(int pair[2], int flags)
{
    return rule_is_starting() ? no_pipe() : both_other(real.pipe2(pair, flags), pair);
}

int on_eventfd(unsigned start, int flags)
{
    return watch_other(real.eventfd(start, flags));
}

int on_epoll_create(int size)
{
    return watch_other(real.epoll_create(size));
}

int on_epoll_create1(int flags)
{
    return watch_other(real.epoll_create1(flags));
}

int on_timerfd_create(clockid_t clock, int flags)
{
    return watch_other(real.timerfd_create(clock, flags));
}

int on_signalfd(int fd, const sigset_t *mask, int flags)
{
    return watch_other(real.signalfd(fd, mask, flags));
}

int on_inotify_init(void)
{
    return watch_other(real.inotify_init());
}

int on_inotify_init1(int flags)
{
    return watch_other(real.inotify_init1(flags));
}

int on_memfd_create(const char *name, unsigned flags)
{
    return watch_other(real.memfd_create(name, flags));
}

/* --- by number, from syscall.S ---------------------------------------------------------------------------------- */

/* prctl, seccomp */
static long watched_restriction(long number, long a, long b, long c, long d, long e, long f)
{
    bool taken = process_before_syscall(number, a, b);
    long result = real_syscall(number, a, b, c, d, e, f);
    if (taken && result < 0)
        process_clock_back();
    return result;
}

long watched_syscall(long number, long a, long b, long c, long d, long e, long f)
{
    switch (number) {
    case SYS_close:
        watch_close((int)a);
        break;
    case SYS_close_range:
        if (!((int)c & CLOSE_RANGE_CLOEXEC))
            watch_close_range((unsigned)a, (unsigned)b);
        break;
    case SYS_dup3:
        return duplicated((int)a, (int)real_syscall(number, a, b, c, d, e, f));
    case SYS_futex:
    case SYS_futex_waitv:
        return watched_futex(number, a, b, c, d, e, f);
    case SYS_recvmmsg:
        return watched_recvmmsg((int)a, (struct mmsghdr *)b, (unsigned)c, (int)d, (struct timespec *)e);
    case SYS_sendmmsg:
        return watched_sendmmsg((int)a, (struct mmsghdr *)b, (unsigned)c, (int)d);
    default:
        return watched_restriction(number, a, b, c, d, e, f);
    }
    return real_syscall(number, a, b, c, d, e, f);
}
