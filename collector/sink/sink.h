/*
 * sink.h - where rows end up: the store, the outputs, a test's list.
 *
 * In:      sinks.c, tests.            Out: store.c, elasticsearch.c.
 * Context: the sink thread alone; a row is borrowed for the call.
 * Errors:  0 or -errno. A row that is refused is counted by the sink itself; the caller goes on with the next.
 */
#ifndef SONDE_SINK_H
#define SONDE_SINK_H

#include <stdint.h>
#include "collector/sink/queue.h"
#include "wire/options.h"

/* The counters of docs/report.md "documents"; accepted + carried = acknowledged + duplicates + dead + Σ dropped + queued. */
struct documents {
    uint64_t carried, accepted, acknowledged, duplicates, dead, queued;
    uint64_t dropped_memory, dropped_exit, dropped_refused; /* reasons: "memory", "exit", "refused" */
    uint64_t totals_through; /* of intervals up to this one no total waits any more */
};

struct sink {
    const char *name;
    int (*push)(void *self, const struct row *); /* 0, or -errno, which is counted; never blocks on the network */
    int (*commit)(void *self);
    /* Lets it work for at most `ms` (network, timers); 0 when idle, 1 when it wants to be called again soon. */
    int (*turn)(void *self, int ms);
    void (*documents)(void *self, struct documents *); /* may be NULL */
    /* Delivers until the deadline (CLOCK_MONOTONIC ns), then gives up, counting what is left; frees itself. */
    int (*close)(void *self, uint64_t deadline_ns);
    void *self;
    /* The first half of close, may be NULL: delivers until the deadline, counts what is left. Only documents() and
     * close follow it, so that the final counts can be shown and stored. */
    void (*finish)(void *self, uint64_t deadline_ns);
};

#endif
