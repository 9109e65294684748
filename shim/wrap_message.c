/*
 * wrap_message.c - recv, send and their message forms.
 *
 * In:      exports.c, syscall.S.                Out: libc, watch.c.
 * Context: S
 * Failure: forwarded unseen.
 *
 * Peeks are no traffic; MSG_ERRQUEUE is not the stream. MSG_TRUNC throws the bytes away (and may tell more than the
 * buffer holds), urgent bytes stand outside the stream: both count and show nothing. Message headers are read only
 * after the kernel has accepted them.
 */
#define _GNU_SOURCE
#include "shim/real.h"
#include "shim/by_number.h"
#include "shim/watch.h"

#include <string.h>

#define UNWATCHED (MSG_PEEK | MSG_ERRQUEUE)
#define UNSHOWN (MSG_TRUNC | MSG_OOB)

static inline __attribute__((always_inline)) bool begin_receive(struct watch *w, int fd, int flags)
{
    return !(flags & UNWATCHED) && watch_begin(w, fd, CALL_READ);
}

static inline void received(const struct watch *w, ssize_t result, void *buffer, size_t size, int flags)
{
    struct iovec v = {buffer, size};
    struct transfer t = {.type = EVENT_IN, .result = result, .data_count = 1, .asked = size};
    t.data = flags & UNSHOWN ? NULL : &v;
    watch_data(w, &t);
}

static inline void sent(const struct watch *w, ssize_t result, const void *buffer, size_t size)
{
    struct iovec v = {(void *)(uintptr_t)buffer, size};
    struct transfer t = {.type = EVENT_OUT, .result = result, .data = &v, .data_count = 1, .asked = size};
    watch_data(w, &t);
}

ssize_t on_recv(int fd, void *buffer, size_t size, int flags)
{
    struct watch w;
    if (!begin_receive(&w, fd, flags))
        return real.recv(fd, buffer, size, flags);
    ssize_t result = real.recv(fd, buffer, size, flags);
    received(&w, result, buffer, size, flags);
    return result;
}

ssize_t on___recv_chk(int fd, void *buffer, size_t size, size_t room, int flags)
{
    struct watch w;
    if (!begin_receive(&w, fd, flags))
        return real.__recv_chk(fd, buffer, size, room, flags);
    ssize_t result = real.__recv_chk(fd, buffer, size, room, flags);
    received(&w, result, buffer, size, flags);
    return result;
}

ssize_t on_recvfrom(int fd, void *buffer, size_t size, int flags, struct sockaddr *from, socklen_t *length)
{
    struct watch w;
    if (!begin_receive(&w, fd, flags))
        return real.recvfrom(fd, buffer, size, flags, from, length);
    ssize_t result = real.recvfrom(fd, buffer, size, flags, from, length);
    received(&w, result, buffer, size, flags);
    return result;
}

ssize_t on___recvfrom_chk(int fd, void *buffer, size_t size, size_t room, int flags, struct sockaddr *from,
                          socklen_t *length)
{
    struct watch w;
    if (!begin_receive(&w, fd, flags))
        return real.__recvfrom_chk(fd, buffer, size, room, flags, from, length);
    ssize_t result = real.__recvfrom_chk(fd, buffer, size, room, flags, from, length);
    received(&w, result, buffer, size, flags);
    return result;
}

ssize_t on_send(int fd, const void *buffer, size_t size, int flags)
{
    struct watch w;
    if (!watch_begin(&w, fd, CALL_WRITE))
        return real.send(fd, buffer, size, flags);
    ssize_t result = real.send(fd, buffer, size, flags);
    sent(&w, result, buffer, size);
    return result;
}

ssize_t on_sendto(int fd, const void *buffer, size_t size, int flags, const struct sockaddr *to, socklen_t length)
{
    struct watch w;
    if (!watch_begin(&w, fd, CALL_WRITE))
        return real.sendto(fd, buffer, size, flags, to, length);
    ssize_t result = real.sendto(fd, buffer, size, flags, to, length);
    sent(&w, result, buffer, size);
    return result;
}

/* --- messages --------------------------------------------------------------------------------------------------- */

/* Descriptors that came along are new numbers here, of unknown kind. */
static void forget_passed(const struct msghdr *m)
{
    size_t left = m->msg_controllen;
    const char *at = m->msg_control;
    while (at && left >= sizeof(struct cmsghdr)) {
        struct cmsghdr c;
        memcpy(&c, at, sizeof c);
        if (c.cmsg_len < sizeof c || c.cmsg_len > left)
            return;
        if (c.cmsg_level == SOL_SOCKET && c.cmsg_type == SCM_RIGHTS)
            for (size_t i = CMSG_LEN(0); i + sizeof(int) <= c.cmsg_len; i += sizeof(int)) {
                int fd;
                memcpy(&fd, at + i, sizeof fd);
                descriptor_reset(fd, KIND_UNKNOWN);
            }
        size_t step = CMSG_ALIGN(c.cmsg_len);
        if (step >= left)
            return;
        at += step;
        left -= step;
    }
}

/* `message` was filled by the kernel: its vector, its control bytes and its flags may be looked at. */
static inline void received_message(const struct watch *w, const struct msghdr *m, ssize_t result, int flags)
{
    struct transfer t = {.type = EVENT_IN, .result = result};
    if (result >= 0) {
        if (m->msg_controllen && following())
            forget_passed(m);
        t.data = (flags | m->msg_flags) & UNSHOWN ? NULL : m->msg_iov;
        t.data_count = (int)m->msg_iovlen;
        t.asked = result ? 0 : iovec_bytes(m->msg_iov, (int)m->msg_iovlen);
    }
    if (w)
        watch_data(w, &t);
}

ssize_t on_recvmsg(int fd, struct msghdr *m, int flags)
{
    struct watch w;
    bool watched = begin_receive(&w, fd, flags);
    ssize_t result = real.recvmsg(fd, m, flags);
    if (watched)
        received_message(&w, m, result, flags);
    else if (result >= 0 && m->msg_controllen && following())
        forget_passed(m);
    return result;
}

ssize_t on_sendmsg(int fd, const struct msghdr *m, int flags)
{
    struct watch w;
    if (!watch_begin(&w, fd, CALL_WRITE))
        return real.sendmsg(fd, m, flags);
    ssize_t result = real.sendmsg(fd, m, flags);
    struct transfer t = {.type = EVENT_OUT, .result = result};
    if (result > 0) {
        t.data = m->msg_iov;
        t.data_count = (int)m->msg_iovlen;
    }
    watch_data(&w, &t);
    return result;
}

/* `result` messages went or came; each is a transfer of its own. */
static void moved_messages(const struct watch *w, uint8_t type, const struct mmsghdr *m, int result, int flags)
{
    if (result < 0) {
        struct transfer failed = {.type = type, .result = result};
        watch_data(w, &failed);
    }
    for (int i = 0; i < result; i++) {
        if (type == EVENT_IN) {
            received_message(w, &m[i].msg_hdr, (ssize_t)m[i].msg_len, flags);
            continue;
        }
        struct transfer t = {.type = type,
                             .result = (ssize_t)m[i].msg_len,
                             .data = m[i].msg_hdr.msg_iov,
                             .data_count = (int)m[i].msg_hdr.msg_iovlen};
        watch_data(w, &t);
    }
}

static void forget_all_passed(const struct mmsghdr *m, int result)
{
    for (int i = 0; i < result && following(); i++)
        if (m[i].msg_hdr.msg_controllen)
            forget_passed(&m[i].msg_hdr);
}

int on_recvmmsg(int fd, struct mmsghdr *m, unsigned count, int flags, struct timespec *limit)
{
    struct watch w;
    bool watched = begin_receive(&w, fd, flags);
    int result = real.recvmmsg(fd, m, count, flags, limit);
    if (watched)
        moved_messages(&w, EVENT_IN, m, result, flags);
    else
        forget_all_passed(m, result);
    return result;
}

int on_sendmmsg(int fd, struct mmsghdr *m, unsigned count, int flags)
{
    struct watch w;
    if (!watch_begin(&w, fd, CALL_WRITE))
        return real.sendmmsg(fd, m, count, flags);
    int result = real.sendmmsg(fd, m, count, flags);
    moved_messages(&w, EVENT_OUT, m, result, flags);
    return result;
}

/* The same by syscall(2), as libuv does for datagrams. */
long watched_recvmmsg(int fd, struct mmsghdr *m, unsigned count, int flags, struct timespec *limit)
{
    struct watch w;
    bool watched = begin_receive(&w, fd, flags);
    long result = real_syscall(SYS_recvmmsg, fd, (long)m, count, flags, (long)limit, 0);
    if (watched)
        moved_messages(&w, EVENT_IN, m, (int)result, flags);
    else
        forget_all_passed(m, (int)result);
    return result;
}

long watched_sendmmsg(int fd, struct mmsghdr *m, unsigned count, int flags)
{
    struct watch w;
    if (!watch_begin(&w, fd, CALL_WRITE))
        return real_syscall(SYS_sendmmsg, fd, (long)m, count, flags, 0, 0);
    long result = real_syscall(SYS_sendmmsg, fd, (long)m, count, flags, 0, 0);
    moved_messages(&w, EVENT_OUT, m, (int)result, flags);
    return result;
}
