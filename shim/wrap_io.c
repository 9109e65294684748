/*
 * wrap_io.c - read, write and their kin; sendfile and splice at their socket ends.
 *
 * In:      exports.c, syscall.S.                Out: libc, watch.c.
 * Context: S
 * Failure: forwarded unseen.
 *
 * The positioned kin (pread...) cannot be used on sockets and stand in wrap_file.c, but for preadv2 and pwritev2: with
 * offset -1 they are readv and writev.
 */
#define _GNU_SOURCE
#include "shim/real.h"
#include "shim/stall.h"
#include "shim/watch.h"

static inline void moved(const struct watch *w, uint8_t type, ssize_t result, const void *buffer, size_t size)
{
    struct iovec v = {(void *)(uintptr_t)buffer, size};
    struct transfer t = {.type = type, .result = result, .data = &v, .data_count = 1, .asked = size};
    watch_data(w, &t);
}

static inline void moved_vector(const struct watch *w, uint8_t type, ssize_t result, const struct iovec *v, int count)
{
    struct transfer t = {.type = type, .result = result, .data = v, .data_count = count};
    if (!result)
        t.asked = iovec_bytes(v, count);
    watch_data(w, &t);
}

/* By sendfile and splice: nothing of it was ever in this process's memory. */
static inline void moved_unseen(const struct watch *w, uint8_t type, ssize_t result, size_t size)
{
    struct transfer t = {.type = type, .result = result, .asked = size};
    watch_data(w, &t);
}

/* A call on what makes no events: it may be a file and wait for the disk. */
#define ON_FILE(call, expression)                                                                                      \
    do {                                                                                                               \
        struct stall s;                                                                                                \
        stall_file_begin(&s, fd, call);                                                                                \
        ssize_t moved_there = expression;                                                                              \
        stall_file_end(&s, fd);                                                                                        \
        return moved_there;                                                                                            \
    } while (0)

ssize_t on_read(int fd, void *buffer, size_t size)
{
    struct watch w;
    if (!watch_begin(&w, fd, CALL_READ))
        ON_FILE(CALL_READ, real.read(fd, buffer, size));
    ssize_t result = real.read(fd, buffer, size);
    moved(&w, EVENT_IN, result, buffer, size);
    return result;
}

ssize_t on___read_chk(int fd, void *buffer, size_t size, size_t room)
{
    struct watch w;
    if (!watch_begin(&w, fd, CALL_READ))
        ON_FILE(CALL_READ, real.__read_chk(fd, buffer, size, room));
    ssize_t result = real.__read_chk(fd, buffer, size, room);
    moved(&w, EVENT_IN, result, buffer, size);
    return result;
}

ssize_t on_write(int fd, const void *buffer, size_t size)
{
    struct watch w;
    if (!watch_begin(&w, fd, CALL_WRITE))
        ON_FILE(CALL_WRITE, real.write(fd, buffer, size));
    ssize_t result = real.write(fd, buffer, size);
    moved(&w, EVENT_OUT, result, buffer, size);
    return result;
}

ssize_t on_readv(int fd, const struct iovec *v, int count)
{
    struct watch w;
    if (!watch_begin(&w, fd, CALL_READ))
        ON_FILE(CALL_READ, real.readv(fd, v, count));
    ssize_t result = real.readv(fd, v, count);
    moved_vector(&w, EVENT_IN, result, v, count);
    return result;
}

ssize_t on_writev(int fd, const struct iovec *v, int count)
{
    struct watch w;
    if (!watch_begin(&w, fd, CALL_WRITE))
        ON_FILE(CALL_WRITE, real.writev(fd, v, count));
    ssize_t result = real.writev(fd, v, count);
    moved_vector(&w, EVENT_OUT, result, v, count);
    return result;
}

ssize_t on_preadv2(int fd, const struct iovec *v, int count, off_t at, int flags)
{
    struct watch w;
    if (at != -1 || !watch_begin(&w, fd, CALL_READ))
        ON_FILE(CALL_READ, real.preadv2(fd, v, count, at, flags));
    ssize_t result = real.preadv2(fd, v, count, at, flags);
    moved_vector(&w, EVENT_IN, result, v, count);
    return result;
}

ssize_t on_preadv64v2(int fd, const struct iovec *v, int count, off64_t at, int flags)
{
    struct watch w;
    if (at != -1 || !watch_begin(&w, fd, CALL_READ))
        ON_FILE(CALL_READ, real.preadv64v2(fd, v, count, at, flags));
    ssize_t result = real.preadv64v2(fd, v, count, at, flags);
    moved_vector(&w, EVENT_IN, result, v, count);
    return result;
}

ssize_t on_pwritev2(int fd, const struct iovec *v, int count, off_t at, int flags)
{
    struct watch w;
    if (at != -1 || !watch_begin(&w, fd, CALL_WRITE))
        ON_FILE(CALL_WRITE, real.pwritev2(fd, v, count, at, flags));
    ssize_t result = real.pwritev2(fd, v, count, at, flags);
    moved_vector(&w, EVENT_OUT, result, v, count);
    return result;
}

ssize_t on_pwritev64v2(int fd, const struct iovec *v, int count, off64_t at, int flags)
{
    struct watch w;
    if (at != -1 || !watch_begin(&w, fd, CALL_WRITE))
        ON_FILE(CALL_WRITE, real.pwritev64v2(fd, v, count, at, flags));
    ssize_t result = real.pwritev64v2(fd, v, count, at, flags);
    moved_vector(&w, EVENT_OUT, result, v, count);
    return result;
}

/* To a socket that never blocks: what it waits for is the file. */
static inline void sending_begin(struct stall *s, const struct watch *w)
{
    s->lane = NULL;
    if (w->slot && load_relaxed(&w->slot->mode) & SLOT_NONBLOCKING)
        stall_borrow(s, w->lane, w->entry);
}

ssize_t on_sendfile(int to, int from, off_t *at, size_t size)
{
    struct watch w;
    if (!watch_begin(&w, to, CALL_SENDFILE))
        return real.sendfile(to, from, at, size);
    struct stall s;
    sending_begin(&s, &w);
    ssize_t result = real.sendfile(to, from, at, size);
    stall_borrowed(&s);
    moved_unseen(&w, EVENT_OUT, result, size);
    return result;
}

ssize_t on_sendfile64(int to, int from, off64_t *at, size_t size)
{
    struct watch w;
    if (!watch_begin(&w, to, CALL_SENDFILE))
        return real.sendfile64(to, from, at, size);
    struct stall s;
    sending_begin(&s, &w);
    ssize_t result = real.sendfile64(to, from, at, size);
    stall_borrowed(&s);
    moved_unseen(&w, EVENT_OUT, result, size);
    return result;
}

/* One end is a pipe; the other may be a socket. */
ssize_t on_splice(int from, off64_t *from_at, int to, off64_t *to_at, size_t size, unsigned flags)
{
    struct watch in, out;
    bool see_in = watch_begin(&in, from, CALL_SPLICE), see_out = watch_begin(&out, to, CALL_SPLICE);
    ssize_t result = real.splice(from, from_at, to, to_at, size, flags);
    if (see_out) /* the inner mark first */
        moved_unseen(&out, EVENT_OUT, result, size);
    if (see_in)
        moved_unseen(&in, EVENT_IN, result, size);
    return result;
}
