/*
 * order.h - one stream in time order, the only source of time, chance and /proc for everything below it.
 *
 * In:      drain.c (checked copies of events), watch.c (facts about processes and descriptors), recording.c (replay)
 * Out:     connection.c and the rest of the pipeline; `sonde record` writes what leaves here, `sonde replay` enters here.
 * Context: C
 *
 * Below this line nobody reads a clock, /proc or randomness: a replay of the items gives the same report.
 */
#ifndef SONDE_ORDER_H
#define SONDE_ORDER_H

#include <stdbool.h>
#include <stdint.h>
#include "wire/event.h"

enum item_kind {
    ITEM_EVENT,
    ITEM_FACT,
    ITEM_GAP, /* `missing` events of this lane are lost before the lane's next one, for `loss` */
    ITEM_TICK /* nothing older than time_ns will come; at least every 100 ms while the stream runs */
};

/* Why events are missing: the reasons of `events.lost`. */
enum loss { LOSS_FULL, LOSS_NO_LANE, LOSS_NESTED, LOSS_UNFINISHED, LOSS_COLLECTOR, LOSS_DAMAGED, LOSS_COUNT };
extern const char *const loss_names[LOSS_COUNT];

struct totals {
    uint64_t allocated, freed, allocations;
    uint64_t lock_ns, disk_ns, sleep_ns, cpu_ns;
};

enum fact_kind {
    FACT_PROCESS,       /* an image or forked child began: all fields but end, exit */
    FACT_PROCESS_TOTAL, /* its lane headers' sums so far (`total`), read from shared memory */
    FACT_PROCESS_END,   /* died or was replaced by exec; total is final; exit_code/signal when told, else -1 */
    FACT_REAPED,        /* a parent's wait told pid's status (may follow the end) */
    FACT_THREAD_END,    /* thread `item.thread` is gone; in_call, call_since, connection tell what it was in;
                           `total` is its final one (what lies behind its last event: frees after a close) */
    FACT_THREAD_CALL,   /* at the end or on request: what a live thread is in now */
    FACT_ADDRESS,       /* local (and remote) address of `connection`, found in /proc */
    FACT_DESCRIPTOR,    /* what an unsure descriptor is: is_stream */
    FACT_STREAM,        /* counts of the stream itself: written, drained, late, lost[] since the run began */
    FACT_COMMAND_END,   /* CMD itself ended: exit_code, signal */
    FACT_THREAD_TOTAL,  /* a thread that made no event for 250 ms though its totals moved: `total` now; once */
    FACT_THREAD_BASE    /* take-over: `total` of this thread, its process's too, was counted by another collector */
};

struct fact {
    enum fact_kind kind;
    int32_t pid, parent, tid;      /* process ids */
    uint32_t uid, parent_process;  /* item.process number of the forking parent, 0 unknown */
    int32_t exit_code, signal;     /* -1 unknown */
    bool replaced;                 /* PROCESS_END: by exec, the pid lives on */
    bool heap_tail_unknown;        /* jemalloc's own counters: bytes after the last event are unknown */
    uint32_t flags;                /* enum process_flag */
    uint32_t in_call;              /* enum call */
    uint64_t call_since_ns;
    uint64_t connection;
    bool is_stream;                /* DESCRIPTOR: a stream or seqpacket socket that is no socketpair's end */
    bool is_known;                 /* ADDRESS, DESCRIPTOR: false: gone before it could be looked at */
    uint8_t local_length, remote_length;
    uint8_t local[112], remote[112]; /* struct sockaddr */
    struct totals total;           /* PROCESS_TOTAL, PROCESS_END, THREAD_* */
    uint64_t cpu_ns;               /* PROCESS_TOTAL, PROCESS_END: of all its threads, also unwatched ones; 0 unknown */
    char executable[256], name[56]; /* its path; by which name of that file it was started, empty: its last part */
    uint64_t written, drained, late, lost[LOSS_COUNT];
};

struct item {
    enum item_kind kind;
    uint32_t lane;    /* dense number of the lane over all arenas, below item_lanes_max */
    uint32_t thread;  /* unique per thread in this run, from 1; a lane used again has another thread */
    uint32_t process; /* unique per executed image or forked child in this run, from 1 */
    int32_t tid;      /* of `thread`, 0 unknown */
    uint64_t time_ns;  /* ns since the epoch: the event's return, or entry where event.h says so */
    uint64_t entry_ns; /* time_ns - duration */
    uint64_t ready_ns; /* when the thread's last wait returned, 0: no wait since its last event */
    bool late;         /* older than an item that left before: used, out of order */
    bool ready;        /* since its last event the thread ran or stood in the run queue, it waited for nothing itself */
    bool cpu_known;    /* total.cpu_ns is as of now; else as of the last event at which it was known */
    uint64_t missing;
    enum loss loss;
    struct totals total; /* the thread's running totals at this event, widened to 64 bits */
    const struct event *event; /* checked copy, borrowed until the next call; connection ids are made unique over arenas */
    const uint8_t *data;       /* head then tail captured bytes */
    uint32_t data_len;
    const struct fact *fact;
};

#ifndef ITEM_LANES_MAX /* a fuzzer has fewer */
#define ITEM_LANES_MAX 65536u
#endif

struct source {
    int (*next)(void *self, struct item *out); /* 1 item, 0 none now, -errno; -ENODATA: the stream has ended */
    void *self;
};

/* What the pipeline asks back of whoever owns the arena; replay ignores it. Any pointer may be NULL. */
struct feedback {
    void (*plan)(void *to, uint64_t connection, uint32_t plan); /* enum plan */
    void (*ask_address)(void *to, uint32_t process, int32_t descriptor, uint64_t connection);    /* → FACT_ADDRESS */
    void (*ask_descriptor)(void *to, uint32_t process, int32_t descriptor, uint64_t connection); /* → FACT_DESCRIPTOR */
    void *to;
};

const char *fact_name(enum fact_kind);

/*
 * The live stream: merges all lanes of all arenas by time. A round looks at every lane once, then
 * gives out what is older than the watermark: `watermark_ns` before the round began, or less where
 * a thread stands between reserve and commit (for a second at most, and not when the pool runs
 * full). What comes later than that is `late`.
 */
struct order;
struct arena_view;
struct drain;
struct drain_lane;
struct instant;

/* Who knows processes: watch.c. */
struct order_hooks {
    /* its process's number, 0: unknown; before its first item */
    uint32_t (*lane_begin)(void *to, struct drain_lane *);
    /* after its last item, before its header is given back */
    void (*lane_end)(void *to, struct drain_lane *);
    void (*reaped)(void *to, const struct item *, int32_t pid, int32_t status);
    void *to;
};

#define ORDER_ARENAS 64

struct order *order_new(uint64_t watermark_ns, const struct order_hooks *);
void order_free(struct order *);

/* The first one is the main arena: its clock is the run's. A number below ORDER_ARENAS, or -errno.
 * The view is copied. */
int order_attach(struct order *, const struct arena_view *);
/* An arena without lanes in use. The view is the caller's to unmap. */
void order_detach(struct order *, int arena);
struct drain *order_arena(struct order *, int arena); /* NULL: none */
/* The arena that a connection id belongs to, *bare its id there. */
struct drain *order_arena_of(struct order *, uint64_t connection, uint64_t *bare);

/*
 * Takes over: what the store had counted at its last commit. What the lanes' positions are ahead of
 * that is `collector` loss. After all arenas are attached, before the first round.
 */
struct order_counts {
    uint64_t written, drained, late, lost[LOSS_COUNT];
};
void order_resume(struct order *, const struct order_counts *committed);
void order_counts(struct order *, struct order_counts *);

/* Queues a fact: it leaves before the next event. Copied. `item` gives time, process, thread, lane. */
void order_fact(struct order *, const struct item *, const struct fact *);
/* The thread is proven dead: its lane is drained, told as ended, given back. */
void order_lane_dead(struct order *, struct drain_lane *, uint64_t death_ns);
/* Threads without events for 250 ms whose totals moved → FACT_THREAD_TOTAL, once until their next event. */
void order_silent_threads(struct order *);

void order_round(struct order *, const struct instant *now);
/* The last round: everything up to now leaves, then what live threads are in, then a tick. */
void order_finish(struct order *, const struct instant *now);
struct source order_source(struct order *);

uint64_t order_now(const struct order *); /* ns since the epoch of this round */
uint64_t order_watermark(const struct order *);
uint64_t order_rounds(const struct order *);
bool order_is_drained(const struct order *); /* nothing is held back that a later round would give */
uint64_t order_given(const struct order *);  /* events so far, by this collector */
/* A moment's ticks → ns since the epoch, 0 stays 0; a length of time in ticks → ns. */
uint64_t order_ticks_to_ns(const struct order *, const struct drain *, uint64_t ticks);
uint64_t order_duration_to_ns(const struct order *, const struct drain *, uint64_t ticks);

#endif
