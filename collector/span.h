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

/*
 * Where a request's time went: of its duration, what its threads spent on the CPU and in waits that were seen. All of it
 * lies between start_ns and end_ns, unlike `cost`, which has the work before the first byte and after the last one too.
 * The rest of the duration (less downstream_ns) is unknown: shown, never shared out.
 */
struct wall {
    uint64_t cpu_ns, lock_ns, disk_ns, sleep_ns;
    uint64_t runqueue_ns; /* ready to run without a processor: by the kernel's count of waits (wall.h) */
};

static inline uint64_t wall_sum(const struct wall *w)
{
    return w->cpu_ns + w->lock_ns + w->disk_ns + w->sleep_ns + w->runqueue_ns;
}

static inline void wall_add(struct wall *to, const struct wall *from)
{
    to->cpu_ns += from->cpu_ns;
    to->lock_ns += from->lock_ns;
    to->disk_ns += from->disk_ns;
    to->sleep_ns += from->sleep_ns;
    to->runqueue_ns += from->runqueue_ns;
}

/* What of `duration_ns` was neither seen nor concluded. */
static inline uint64_t wall_unknown(const struct wall *w, uint64_t downstream_ns, uint64_t duration_ns)
{
    uint64_t known = wall_sum(w) + (downstream_ns == UINT64_MAX ? 0 : downstream_ns);
    return duration_ns != UINT64_MAX && known < duration_ns ? duration_ns - known : 0;
}

/* What of a span was concluded, not seen. */
enum inferred {
    INFERRED_START = 1 << 0,    /* its first byte was not captured */
    INFERRED_END = 1 << 1,
    INFERRED_BOUNDARY = 1 << 2, /* message boundaries lay in bytes that were not captured */
    INFERRED_COST = 1 << 3,     /* costs divided among the requests of one read, or of one of two */
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
    uint64_t start_ns, end_ns; /* docs/report.md "time"; end of an unanswered one: when its connection or process ended */
    uint64_t first_byte_ns;    /* duration start → first answer byte, 0 unknown */
    uint64_t downstream_ns;    /* of it, spent in client spans that are surely its children */
    uint64_t bytes[2], body[2]; /* enum way: wire bytes of its messages, heads included */
    struct cost cost;
    struct wall wall;
    bool cpu_known;   /* cost.cpu_ns and wall.cpu_ns were measured */
    bool waits_known; /* so were lock, disk and sleep */
    uint32_t samples; /* in progress: list of samples (heap.c); then: its sampled blocks that live when it is handed on */
    uint64_t retained; /* estimate in bytes, UINT64_MAX: not known (yet) */
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
/* It leaves, and is handed on if `counted`: sets samples and retained. */
typedef void (*span_leaves_fn)(void *to, struct span *, bool counted);

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
    uint64_t unseen_cpu_ns; /* of outside.cpu_ns: what /proc told and no event showed */
    uint64_t bound_connections, bound_parsers, bound_spans, bound_samples, bound_held; /* what a bound of ours shed: reasons of `lost` */
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

/* --- requests in progress: for connection.c, activity.c and pipeline.c --------------------------------------------- */

/* When and by whom the bytes in hand were moved. */
struct moment {
    uint64_t time_ns, entry_ns, ready_ns;
    uint32_t lane, thread, process;
    int32_t tid;
};

enum exchange_state {
    HEAD_SEEN = 1 << 0,
    REQUEST_OVER = 1 << 1,
    RESPONSE_SEEN = 1 << 2, /* its first byte */
    STATUS_SEEN = 1 << 3,
    RESPONSE_OVER = 1 << 4,
    TIME_OVER = 1 << 5, /* nothing more will come of it but costs */
    UNCOUNTED = 1 << 6, /* its bytes and costs are outside: never a whole request, or cut off by a signal */
    CPU_SEEN = 1 << 7,   /* at an event of it the thread's CPU clock was known; at another not: */
    CPU_MISSED = 1 << 8,
    WAITS_SEEN = 1 << 9
};

/*
 * One request and its answer in progress. It leaves (span_fn, or to `outside`) when its time is over and no thread's
 * interval is its own any more.
 */
struct exchange {
    uint64_t began[2];      /* enum way: stream positions of its messages' first bytes */
    uint64_t child_since;   /* since when `children` is not 0, and later by what the request did itself meanwhile */
    uint32_t next, previous; /* of its connection, in order of beginning */
    uint32_t older, newer;   /* of all */
    uint32_t claims;         /* threads whose interval in hand is its own */
    uint32_t stream;
    uint32_t lane; /* of its thread */
    uint32_t parent;   /* exchange of span.parent, when it is still there: check its id */
    uint32_t children; /* client spans and other calls in progress that are surely its own */
    uint32_t state;    /* enum exchange_state */
    struct dialogue *dialogue;
    struct span span;
};

/* What a connection knows of its requests. Positions count bytes since the connection was first seen. */
struct dialogue {
    uint32_t first, last;  /* exchanges not yet gone, in order of beginning; 0 none */
    uint32_t pending;      /* the oldest without its whole answer */
    uint32_t given_up;     /* answers still to come whose requests were given up for the bound of open spans */
    uint32_t over_first;   /* exchanges whose time was over by the call in hand: the first, */
    uint32_t over_count;
    uint64_t over_last_id; /* and the last one's id */
    uint64_t fed[2];       /* enum way: position up to which the parser knows */
    uint64_t message[2];   /* position up to which bytes belong to messages that have ended */
    uint64_t last_ns[2];   /* when bytes last moved */
    uint64_t begin_ns[2];  /* when the first byte behind `message` moved */
    uint64_t parent;       /* server span that had this connection opened, 0 unknown */
    uint32_t parent_exchange;
    uint8_t side;
    bool astray;   /* the answer in hand belongs to no request */
    bool upgraded; /* the protocol was left */
    const struct protocol *protocol;
};

struct spans;
/* At most `limit` in progress; NULL: no memory. */
struct spans *spans_new(uint32_t limit, span_fn, void *to);
void spans_free(struct spans *);
void spans_leave_by(struct spans *, span_leaves_fn, void *to);
void spans_start(struct spans *, uint64_t time_ns); /* span ids count from here, so that they are unique over collectors */

/*
 * One message of a dialogue. `way` and `position` are those of the bytes in hand before the feed or skip call. Returns
 * the exchange that a REQUEST_BEGIN or REQUEST made, else 0.
 */
uint32_t span_message(struct spans *, struct dialogue *, const struct message *, enum way, uint64_t position,
                      const struct moment *);
/* No more messages will come: what is still open ends unanswered. */
void span_dialogue_end(struct spans *, struct dialogue *, const struct moment *);
/* The same by a signal's death: what is open is in flight; `tell` is called for each, then they are outside. */
void span_dialogue_kill(struct spans *, struct dialogue *, uint64_t time_ns,
                        void (*tell)(void *to, const struct exchange *), void *to);
/* After the call in hand was charged: hands on what is over and nobody claims. */
void span_settle(struct spans *, struct dialogue *);
void span_unclaim(struct spans *, struct exchange *); /* one claim less, then as above */
void span_give_up(struct spans *, struct exchange *); /* final now, whoever claims it */
/* A call of it to what no parser reads; the end is told with the id that the exchange had. */
void span_call_begin(struct spans *, uint32_t exchange, uint64_t time_ns);
void span_call_end(struct spans *, uint32_t exchange, uint64_t id, uint64_t time_ns);

struct exchange *spans_at(const struct spans *, uint32_t index);
uint32_t spans_index(const struct spans *, const struct exchange *);
uint32_t spans_oldest(const struct spans *); /* then exchange.newer */
/* Of spans handed on, and of what was in progress and came to nothing. */
struct charged {
    uint64_t bytes[2];  /* with spans */
    struct cost spans, uncounted;
    uint64_t bound_spans, count;
};
const struct charged *spans_charged(const struct spans *);

static inline void cost_add(struct cost *to, const struct cost *from)
{
    to->allocated += from->allocated;
    to->freed += from->freed;
    to->allocations += from->allocations;
    to->cpu_ns += from->cpu_ns;
    to->lock_ns += from->lock_ns;
    to->disk_ns += from->disk_ns;
    to->sleep_ns += from->sleep_ns;
}

#endif
