/*
 * wrap_wait.c - where a thread waits for its descriptors: poll, select, epoll.
 *
 * In:      exports.c.                Out: libc, record.c.
 * Context: S
 * Failure: forwarded unseen.
 *
 * Each of these calls ends what the thread was busy with, whatever its time limit: a loop that polls with limit 0 has
 * come round as well. The turn is an event only when a total moved since the thread's last one. Without a descriptor, but
 * with a limit, poll and select are a sleep, which ends nothing.
 */
#define _GNU_SOURCE
#include "shim/real.h"
#include "shim/record.h"
#include "shim/stall.h"

static inline struct lane *wait_enter(struct call_mark *before, enum call call)
{
    struct lane *l = lane_here();
    if (!l || !recording())
        return NULL;
    wait_begin(l, before, call);
    return l;
}

#define SLEPT(expression)                                                                                              \
    do {                                                                                                               \
        struct stall s;                                                                                                \
        stall_begin(&s, CALL_SLEEP);                                                                                   \
        int result_of_sleep = expression;                                                                              \
        stall_slept(&s);                                                                                               \
        return result_of_sleep;                                                                                        \
    } while (0)

int on_poll(struct pollfd *p, nfds_t count, int limit_ms)
{
    if (!count && limit_ms > 0)
        SLEPT(real.poll(p, count, limit_ms));
    struct call_mark before;
    struct lane *l = wait_enter(&before, CALL_POLL);
    int result = real.poll(p, count, limit_ms);
    wait_end(l, &before);
    return result;
}

int on___poll_chk(struct pollfd *p, nfds_t count, int limit_ms, size_t room)
{
    if (!count && limit_ms > 0)
        SLEPT(real.__poll_chk(p, count, limit_ms, room));
    struct call_mark before;
    struct lane *l = wait_enter(&before, CALL_POLL);
    int result = real.__poll_chk(p, count, limit_ms, room);
    wait_end(l, &before);
    return result;
}

int on_ppoll(struct pollfd *p, nfds_t count, const struct timespec *limit, const sigset_t *mask)
{
    if (!count && limit)
        SLEPT(real.ppoll(p, count, limit, mask));
    struct call_mark before;
    struct lane *l = wait_enter(&before, CALL_POLL);
    int result = real.ppoll(p, count, limit, mask);
    wait_end(l, &before);
    return result;
}

int on___ppoll_chk(struct pollfd *p, nfds_t count, const struct timespec *limit, const sigset_t *mask, size_t room)
{
    if (!count && limit)
        SLEPT(real.__ppoll_chk(p, count, limit, mask, room));
    struct call_mark before;
    struct lane *l = wait_enter(&before, CALL_POLL);
    int result = real.__ppoll_chk(p, count, limit, mask, room);
    wait_end(l, &before);
    return result;
}

int on_select(int count, fd_set *in, fd_set *out, fd_set *error, struct timeval *limit)
{
    if (!count && limit)
        SLEPT(real.select(count, in, out, error, limit));
    struct call_mark before;
    struct lane *l = wait_enter(&before, CALL_SELECT);
    int result = real.select(count, in, out, error, limit);
    wait_end(l, &before);
    return result;
}

int on_pselect(int count, fd_set *in, fd_set *out, fd_set *error, const struct timespec *limit, const sigset_t *mask)
{
    if (!count && limit)
        SLEPT(real.pselect(count, in, out, error, limit, mask));
    struct call_mark before;
    struct lane *l = wait_enter(&before, CALL_SELECT);
    int result = real.pselect(count, in, out, error, limit, mask);
    wait_end(l, &before);
    return result;
}

int on_epoll_wait(int fd, struct epoll_event *events, int count, int limit_ms)
{
    struct call_mark before;
    struct lane *l = wait_enter(&before, CALL_EPOLL_WAIT);
    int result = real.epoll_wait(fd, events, count, limit_ms);
    wait_end(l, &before);
    return result;
}

int on_epoll_pwait(int fd, struct epoll_event *events, int count, int limit_ms, const sigset_t *mask)
{
    struct call_mark before;
    struct lane *l = wait_enter(&before, CALL_EPOLL_WAIT);
    int result = real.epoll_pwait(fd, events, count, limit_ms, mask);
    wait_end(l, &before);
    return result;
}

int on_epoll_pwait2(int fd, struct epoll_event *events, int count, const struct timespec *limit, const sigset_t *mask)
{
    struct call_mark before;
    struct lane *l = wait_enter(&before, CALL_EPOLL_WAIT);
    int result = real.epoll_pwait2(fd, events, count, limit, mask);
    wait_end(l, &before);
    return result;
}
