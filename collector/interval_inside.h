/*
 * interval_inside.h - what interval.c (adding up, closing, merging) and interval_rows.c (sums into rows) share.
 *
 * Context: C
 */
#ifndef SONDE_INTERVAL_INSIDE_H
#define SONDE_INTERVAL_INSIDE_H

#include "collector/interval.h"
#include "collector/sketch.h"

#define CLASSES 8u

struct total {
    uint64_t count, errors, unobserved, inferred, shared;
    uint64_t bytes[2], body[2];
    struct cost cost;
    struct wall wall; /* of those whose latency counts */
    uint64_t downstream_ns;
    uint64_t cpu_count, stacks_count, retained, retained_samples, waits_count;
    bool changed;
    struct sketch latency, first, heap, cpu;
};

struct status {
    uint32_t status;
    bool changed;
    uint64_t count;
};

struct tally {
    struct tally *next; /* in its interval */
    struct tally *next_changed;
    struct endpoint *endpoint;
    struct total *total[CLASSES];
    struct status *status;
    uint16_t statuses, statuses_room, last_status;
    bool changed;
};

struct interval {
    struct interval *next; /* closed later */
    uint32_t number;
    uint64_t start_ns, end_ns;
    struct flow flow;
    struct stream_counts stream;
    uint64_t shed, uncounted;
    struct tally *tallies, *changed_tallies;
    bool closed, changed, sent; /* sent: a row that names it is in the queue */
};

struct intervals {
    struct sketch_pool *pool;
    struct endpoints *endpoints;
    struct interval *open, *waiting; /* oldest first */
    size_t waiting_count;
    uint32_t next_number;
    bool heap;
};

void interval_free(struct intervals *, struct interval *);

#endif
