/*
 * wrap_socket.c - sockets come into being, are bound, listen, accept, connect, shut down.
 *
 * In:      exports.c.                Out: libc, watch.c, record.c, descriptor.c.
 * Context: S
 * Failure: forwarded unseen.
 *
 * Followed are stream and seqpacket sockets of the families INET, INET6 and UNIX. Datagrams, socketpairs and the rest
 * are `other`: they make no events.
 *
 * accept without an address gets a buffer of ours instead (the peer's address costs nothing there); that is the only
 * call whose arguments we change.
 */
#define _GNU_SOURCE
#include "shim/real.h"
#include "shim/watch.h"

#include <errno.h>
#include <string.h>
#include <sys/un.h>

#define NEAR_STACK 16384u /* an address this close above our frame is a caller's local: it may be read before the call */

static bool is_stream(int domain, int type)
{
    int kind = type & ~(SOCK_NONBLOCK | SOCK_CLOEXEC);
    return (domain == AF_INET || domain == AF_INET6 || domain == AF_UNIX) &&
           (kind == SOCK_STREAM || kind == SOCK_SEQPACKET);
}

int on_socket(int domain, int type, int protocol)
{
    int fd = real.socket(domain, type, protocol);
    if (fd >= 0 && following())
        descriptor_reset(fd, is_stream(domain, type) ? KIND_SOCKET : KIND_OTHER);
    if (type & SOCK_NONBLOCK)
        watch_mode(fd, true);
    return fd;
}

int on_socketpair(int domain, int type, int protocol, int pair[2])
{
    int result = real.socketpair(domain, type, protocol, pair);
    if (!result) {
        watch_other(pair[0]);
        watch_other(pair[1]);
    }
    return result;
}

/* --- events with an address ------------------------------------------------------------------------------------- */

/* One note: struct event_address and the address behind it. */
static void note_address(struct lane *l, const struct observation *o, uint64_t listener, int argument,
                         const void *address, size_t length)
{
    _Alignas(struct event_address) uint8_t note[sizeof(struct event_address) + sizeof(struct sockaddr_un)];
    sa_family_t family = 0;
    if (!address || length < sizeof family)
        length = 0;
    if (length > sizeof(struct sockaddr_un))
        length = sizeof(struct sockaddr_un);
    if (length) {
        memcpy(note + sizeof(struct event_address), address, length);
        memcpy(&family, note + sizeof(struct event_address), sizeof family);
    }
    struct event_address head = {listener, argument, (uint16_t)length, family};
    memcpy(note, &head, sizeof head);
    record_note(l, o, note, sizeof head + length);
}

/* The id of a slot; gives it one, of this kind, when it has none. 0: the descriptor changed meanwhile. */
static uint64_t ensure_id(const struct watch *w, enum kind kind)
{
    struct slot *s = w->slot ? w->slot : descriptor_make(w->fd);
    uint64_t old = w->word;
    if (!s)
        return 0;
    uint64_t id = old >> 4 ? slot_id(old) : connection_id_next(w->lane);
    uint64_t fresh = slot_word(kind, id) | (old & SLOT_SHARED);
    return cas_acq_rel(&s->word, &old, fresh) ? id : 0;
}

/* --- accept ----------------------------------------------------------------------------------------------------- */

struct accept_buffer { /* ours, or what we know of the caller's */
    struct sockaddr *address;
    socklen_t *length;
    socklen_t room; /* of the caller's buffer, as far as known */
    socklen_t own_length;
    union {
        struct sockaddr any;
        struct sockaddr_un un;
        char bytes[128];
    } own;
};

static inline void accept_prepare(struct accept_buffer *b, struct sockaddr *address, socklen_t *length)
{
    b->address = address;
    b->length = length;
    b->room = sizeof b->own;
    if (!address) {
        b->address = &b->own.any;
        b->length = &b->own_length;
        b->own_length = sizeof b->own;
    } else if ((uintptr_t)length - (uintptr_t)b < NEAR_STACK)
        b->room = *length;
}

static void accepted(const struct watch *w, const struct accept_buffer *b, int fd)
{
    call_leave(w->lane, &w->before);
    if (fd < 0)
        return;
    struct slot *s = descriptor_make(fd);
    if (!s)
        return;
    uint64_t id = connection_id_next(w->lane), listener = w->word >> 4 ? slot_id(w->word) : 0;
    slot_set(s, slot_word(KIND_CONNECTION, id));
    struct observation o = {.type = EVENT_ACCEPT,
                            .flags = listener ? EVENT_LISTENER_KNOWN : 0,
                            .descriptor = fd,
                            .connection = id,
                            .result = fd,
                            .entry = w->entry,
                            .time = ticks_now()};
    socklen_t length = *b->length < b->room ? *b->length : b->room;
    note_address(w->lane, &o, listener, w->fd, b->address, length);
}

/* A listener that makes no events accepts what makes none. */
static int accepted_unseen(int listener, int fd)
{
    const struct slot *s = descriptor_find(listener);
    if (fd >= 0 && following())
        descriptor_reset(fd, s && slot_is_silent(load_relaxed(&s->word)) ? KIND_OTHER : KIND_UNKNOWN);
    return fd;
}

int on_accept(int fd, struct sockaddr *address, socklen_t *length)
{
    struct watch w;
    if (!watch_begin(&w, fd, CALL_ACCEPT))
        return accepted_unseen(fd, real.accept(fd, address, length));
    struct accept_buffer b;
    accept_prepare(&b, address, length);
    int result = real.accept(fd, b.address, b.length);
    accepted(&w, &b, result);
    return result;
}

int on_accept4(int fd, struct sockaddr *address, socklen_t *length, int flags)
{
    struct watch w;
    if (!watch_begin(&w, fd, CALL_ACCEPT))
        return accepted_unseen(fd, real.accept4(fd, address, length, flags));
    struct accept_buffer b;
    accept_prepare(&b, address, length);
    int result = real.accept4(fd, b.address, b.length, flags);
    accepted(&w, &b, result);
    if (flags & SOCK_NONBLOCK)
        watch_mode(result, true);
    return result;
}

/* --- connect, bind, listen, shutdown ---------------------------------------------------------------------------- */

/* The kernel never came to read the address, or nothing happened. */
static bool is_no_attempt(int error)
{
    return error == EFAULT || error == EINVAL || error == EBADF || error == ENOTSOCK || error == EALREADY ||
           error == EISCONN || error == EINTR || error == EAFNOSUPPORT;
}

static void connected(const struct watch *w, int result, const struct sockaddr *to, socklen_t length)
{
    call_leave(w->lane, &w->before);
    int error = result ? errno : 0;
    if (is_no_attempt(error) || to->sa_family == AF_UNSPEC)
        return;
    bool going = !error || error == EINPROGRESS;
    enum kind kind = slot_kind(w->word) == KIND_UNKNOWN ? KIND_UNSURE : going ? KIND_CONNECTION : KIND_SOCKET;
    uint64_t id = ensure_id(w, kind);
    if (!id || arena_plan_get(&shim.view, id) == PLAN_IGNORE)
        return;
    struct observation o = {.type = EVENT_CONNECT,
                            .flags = kind == KIND_UNSURE ? EVENT_UNSURE : 0,
                            .descriptor = w->fd,
                            .connection = id,
                            .result = -error,
                            .entry = w->entry,
                            .time = ticks_now()};
    note_address(w->lane, &o, 0, 0, to, length);
}

int on_connect(int fd, const struct sockaddr *to, socklen_t length)
{
    struct watch w;
    if (!watch_begin(&w, fd, CALL_CONNECT))
        return real.connect(fd, to, length);
    int result = real.connect(fd, to, length);
    connected(&w, result, to, length);
    return result;
}

int on_bind(int fd, const struct sockaddr *at, socklen_t length)
{
    struct watch w;
    watch_note(&w, fd);
    w.lane = slot_kind(w.word) == KIND_SOCKET ? lane_here() : NULL;
    bool watched = slot_kind(w.word) == KIND_SOCKET && recording();
    int result = real.bind(fd, at, length);
    if (!watched || result)
        return result;
    struct observation o = {.type = EVENT_BIND,
                            .descriptor = fd,
                            .connection = ensure_id(&w, KIND_SOCKET),
                            .time = ticks_now()};
    if (o.connection)
        note_address(w.lane, &o, 0, 0, at, length);
    return result;
}

int on_listen(int fd, int backlog)
{
    struct watch w;
    watch_note(&w, fd);
    int result = real.listen(fd, backlog);
    if (result || slot_is_silent(w.word))
        return result;
    w.lane = lane_here();
    if (!recording())
        return result;
    struct observation o = {.type = EVENT_LISTEN,
                            .descriptor = fd,
                            .connection = ensure_id(&w, KIND_LISTENER),
                            .time = ticks_now()};
    struct event_argument argument = {backlog};
    if (o.connection)
        record_note(w.lane, &o, &argument, sizeof argument);
    return result;
}

int on_shutdown(int fd, int how)
{
    struct watch w;
    watch_note(&w, fd);
    bool known = slot_kind(w.word) == KIND_CONNECTION || slot_kind(w.word) == KIND_UNSURE;
    if (known && how >= SHUT_RD && how <= SHUT_RDWR && (w.lane = lane_here(), recording()) &&
        arena_plan_get(&shim.view, slot_id(w.word)) != PLAN_IGNORE) {
        struct observation o = {.type = EVENT_SHUTDOWN,
                                .descriptor = fd,
                                .connection = slot_id(w.word),
                                .time = ticks_now()};
        struct event_argument argument = {how};
        record_note(w.lane, &o, &argument, sizeof argument);
    }
    return real.shutdown(fd, how);
}
