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
    bool is_stream;                /* DESCRIPTOR */
    uint8_t local_length, remote_length;
    uint8_t local[112], remote[112]; /* struct sockaddr */
    struct totals total;
    uint64_t cpu_ns;               /* /proc/PID/stat at the end, 0 unknown */
    char executable[256];
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
    uint64_t missing;
    enum loss loss;
    struct totals total; /* the thread's running totals at this event, widened to 64 bits */
    const struct event *event; /* checked copy, borrowed until the next call; connection ids are made unique over arenas */
    const uint8_t *data;       /* head then tail captured bytes */
    uint32_t data_len;
    const struct fact *fact;
};

#define ITEM_LANES_MAX 65536u

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

#endif
