/*
 * watch.h - before and after one call on a descriptor.
 *
 * In:      wrap_*.c.                       Out: record.c, descriptor.c.
 * Context: S
 * Failure: the call is forwarded unseen.
 *
 *     struct watch w;
 *     if (!watch_begin(&w, fd, CALL_READ))
 *         return real.read(fd, buffer, size);
 *     ssize_t result = real.read(fd, buffer, size);
 *     watch_data(&w, EVENT_IN, result, ...);
 *
 * Nothing is held between: the call may be cancelled or left by siglongjmp. errno is read, never written.
 */
#ifndef SONDE_WATCH_H
#define SONDE_WATCH_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "shim/descriptor.h"
#include "shim/record.h"

struct watch {
    struct lane *lane;
    struct slot *slot; /* NULL: a number above the first leaf, not seen yet */
    uint64_t word;     /* the slot's before the call */
    uint64_t entry;    /* ticks */
    struct call_mark before;
    int fd;
};

/* May descriptors be followed here: attached, and not a vfork child, whose table is its parent's. */
static inline bool following(void)
{
    return shim.attached && !self.in_vfork;
}

static inline void watch_note(struct watch *w, int fd)
{
    w->fd = fd;
    w->slot = descriptor_find(fd);
    w->word = w->slot ? load_relaxed(&w->slot->word) : 0;
}

/* False: no events of this descriptor, or of anything; forward the call and forget it. */
bool watch_start(struct watch *w, int fd, enum call call);
static inline __attribute__((always_inline)) bool watch_begin(struct watch *w, int fd, enum call call)
{
    const struct slot *s = descriptor_find(fd);
    return !(s && slot_is_silent(load_relaxed(&s->word))) && watch_start(w, fd, call);
}

/* A call that moved bytes has returned. `asked` tells an end of file from an empty request. */
struct transfer {
    uint8_t type;             /* EVENT_IN or EVENT_OUT */
    int64_t result;           /* of the call; -1: errno says why */
    const struct iovec *data; /* what the result vouches for, NULL: nothing to look at */
    int data_count;
    uint64_t asked; /* bytes; only looked at when the result is 0 */
};
void watch_data(const struct watch *, const struct transfer *);

/* The descriptor is about to be closed, or was closed by a call that returned: CLOSE for what it was, then unknown. */
void watch_close(int fd);
void watch_close_range(unsigned first, unsigned last);

/* `from` was duplicated as `to` (which may have been open before: then that one was closed). After success. */
void watch_duplicate(int from, int to);

/* A call returned a new descriptor that makes no events (-1: it failed). */
static inline int watch_other(int fd)
{
    if (fd >= 0 && following())
        descriptor_reset(fd, KIND_OTHER);
    return fd;
}

/* The same, by a path: most likely a file. */
static inline int watch_opened(int fd)
{
    if (fd >= 0 && following())
        descriptor_reset(fd, KIND_OPENED);
    return fd;
}

/* Calls on this socket never wait (any more), or do. */
static inline void watch_mode(int fd, bool nonblocking)
{
    struct slot *s = descriptor_find(fd);
    if (s && following())
        store_relaxed(&s->mode, nonblocking ? SLOT_NONBLOCKING : 0);
}

/* The sum of an iovec that the kernel has accepted. */
static inline uint64_t iovec_bytes(const struct iovec *v, int count)
{
    uint64_t sum = 0;
    for (int i = 0; i < count; i++)
        sum += v[i].iov_len;
    return sum;
}

#endif
