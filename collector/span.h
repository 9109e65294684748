/*
 * span.h - one request and its answer, seen from one side; and the flow counters that spans do not cover.
 *
 * In:      connection.c (messages with the item they arrived in), activity.c (costs)
 * Out:     span_fn, once per span, at its cost end: rollup.c
 * Context: C
 */
#ifndef SONDE_SPAN_H
#define SONDE_SPAN_H

#include <stdbool.h>
#include <stdint.h>
#include "collector/order.h"
#include "collector/protocol/protocol.h"

struct cost {
    uint64_t allocated, freed, allocations, cpu_ns, lock_ns, disk_ns, sleep_ns;
};

/* What of a span was concluded, not seen. */
enum inferred {
    INFERRED_START = 1 << 0,    /* its first byte was not captured */
    INFERRED_END = 1 << 1,
    INFERRED_BOUNDARY = 1 << 2, /* message boundaries lay in bytes that were not captured */
    INFERRED_COST = 1 << 3,     /* costs divided among the requests of one read */
    INFERRED_PARENT = 1 << 4,
    INFERRED_LOSS = 1 << 5      /* events of its thread or connection were lost meanwhile */
};

#define SPAN_TARGET 256

struct span {
    uint64_t id, parent; /* unique in the run; parent 0: none known */
    uint8_t trace[16];   /* W3C trace id; zero: none seen */
    bool traced;
    /* ns since the epoch, 0 unknown. ready: the poll that told of it returned; entry: of the client's first write */
    uint64_t ready_ns, first_in_ns, last_in_ns, first_out_ns, last_out_ns;
    uint64_t start_ns, end_ns; /* INTERFACE.md "Time"; end of an unanswered one: when its connection or process ended */
    uint64_t first_byte_ns;    /* duration start → first answer byte, 0 unknown */
    uint64_t downstream_ns;    /* of it, spent in client spans that are surely its children */
    uint64_t bytes[2], body[2]; /* enum way: wire bytes of its messages, heads included */
    struct cost cost;
    uint64_t connection;
    uint32_t process, thread, tid;
    uint32_t status;   /* 0: unobserved, or the protocol has none */
    uint32_t inferred; /* enum inferred */
    uint16_t shared;   /* with how many requests of a pipeline costs were divided, 0: with none */
    uint8_t side;      /* enum side */
    bool answered;     /* false: "unobserved" */
    bool error;
    bool upgraded;
    const struct protocol *protocol;
    uint8_t verb_len, error_len;
    uint16_t target_len;
    char verb[32], error_text[32];
    char target[SPAN_TARGET]; /* as sent, cut; never stored before redact.c saw it */
    uint8_t peer_length, local_length;
    uint8_t peer[28], local[28]; /* struct sockaddr, in/in6 only */
};

typedef void (*span_fn)(void *to, const struct span *);

/* A request that was in progress when its process was killed, or is now. */
struct in_flight {
    uint64_t span;
    int32_t pid, tid;
    uint32_t process;
    uint64_t start_ns, age_ns;
    uint32_t in_call; /* enum call, CALL_NONE: in none */
    const struct span *of; /* verb, target, protocol for its endpoint name */
};

/* Running counts since the run began (of this collector). `outside` = charged to no request. */
struct flow {
    uint64_t accepted, opened, inherited, bytes_in, bytes_out; /* connections */
    uint64_t outside_in, outside_out;
    struct cost outside;
    uint64_t bound_connections, bound_parsers, bound_spans; /* what a bound of ours shed: reasons of `lost` */
};

/* A listener or peer whose connections could not be read. */
enum unread_reason { UNREAD_TLS, UNREAD_UNKNOWN, UNREAD_LATE_ATTACH, UNREAD_CAPTURE, UNREAD_COUNT };
extern const char *const unread_names[UNREAD_COUNT];
struct unread {
    uint8_t address_length;
    uint8_t address[112]; /* our end's address for accepted ones, the peer's for opened ones */
    enum unread_reason reason;
    uint64_t connections, bytes_in, bytes_out;
};

#endif
