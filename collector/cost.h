/*
 * cost.h - sums and differences of costs.
 *
 * In:      activity.c, pipeline.c        Context: P
 * Every field of struct cost and its namesake in struct totals is a 64-bit counter.
 */
#ifndef SONDE_COST_H
#define SONDE_COST_H

#include <stdbool.h>
#include <stdint.h>
#include "collector/order.h"
#include "collector/span.h"

static inline struct cost cost_of(const struct totals *t)
{
    return (struct cost){.allocated = t->allocated,
                         .freed = t->freed,
                         .allocations = t->allocations,
                         .cpu_ns = t->cpu_ns,
                         .lock_ns = t->lock_ns,
                         .disk_ns = t->disk_ns,
                         .sleep_ns = t->sleep_ns};
}

static inline void cost_subtract(struct cost *from, const struct cost *c)
{
    from->allocated -= c->allocated;
    from->freed -= c->freed;
    from->allocations -= c->allocations;
    from->cpu_ns -= c->cpu_ns;
    from->lock_ns -= c->lock_ns;
    from->disk_ns -= c->disk_ns;
    from->sleep_ns -= c->sleep_ns;
}

static inline bool cost_is_zero(const struct cost *c)
{
    return !(c->allocated | c->freed | c->allocations | c->cpu_ns | c->lock_ns | c->disk_ns | c->sleep_ns);
}

/* What a running total grew by; one that went back (a late item) has been counted. */
static inline uint64_t cost_grown(uint64_t *last, uint64_t now)
{
    if (now <= *last)
        return 0;
    uint64_t d = now - *last;
    *last = now;
    return d;
}

static inline struct cost cost_advance(struct totals *last, const struct totals *now)
{
    return (struct cost){.allocated = cost_grown(&last->allocated, now->allocated),
                         .freed = cost_grown(&last->freed, now->freed),
                         .allocations = cost_grown(&last->allocations, now->allocations),
                         .cpu_ns = cost_grown(&last->cpu_ns, now->cpu_ns),
                         .lock_ns = cost_grown(&last->lock_ns, now->lock_ns),
                         .disk_ns = cost_grown(&last->disk_ns, now->disk_ns),
                         .sleep_ns = cost_grown(&last->sleep_ns, now->sleep_ns)};
}

static inline uint64_t cost_beyond(uint64_t a, uint64_t b)
{
    return a > b ? a - b : 0;
}

/* Field by field, 0 where `b` is the greater. */
static inline struct cost cost_above(const struct cost *a, const struct cost *b)
{
    return (struct cost){.allocated = cost_beyond(a->allocated, b->allocated),
                         .freed = cost_beyond(a->freed, b->freed),
                         .allocations = cost_beyond(a->allocations, b->allocations),
                         .cpu_ns = cost_beyond(a->cpu_ns, b->cpu_ns),
                         .lock_ns = cost_beyond(a->lock_ns, b->lock_ns),
                         .disk_ns = cost_beyond(a->disk_ns, b->disk_ns),
                         .sleep_ns = cost_beyond(a->sleep_ns, b->sleep_ns)};
}

static inline struct cost cost_share(const struct cost *c, uint32_t parts)
{
    return (struct cost){.allocated = c->allocated / parts,
                         .freed = c->freed / parts,
                         .allocations = c->allocations / parts,
                         .cpu_ns = c->cpu_ns / parts,
                         .lock_ns = c->lock_ns / parts,
                         .disk_ns = c->disk_ns / parts,
                         .sleep_ns = c->sleep_ns / parts};
}

/* The first one's share has what is left over. */
static inline struct cost cost_first_share(const struct cost *c, const struct cost *share, uint32_t parts)
{
    struct cost first = *c, others = {.allocated = share->allocated * (parts - 1),
                                      .freed = share->freed * (parts - 1),
                                      .allocations = share->allocations * (parts - 1),
                                      .cpu_ns = share->cpu_ns * (parts - 1),
                                      .lock_ns = share->lock_ns * (parts - 1),
                                      .disk_ns = share->disk_ns * (parts - 1),
                                      .sleep_ns = share->sleep_ns * (parts - 1)};
    cost_subtract(&first, &others);
    return first;
}

#endif
