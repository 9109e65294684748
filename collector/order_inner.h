/*
 * order_inner.h - what order.c (which lane is next) and give.c (what an item says) share. Nobody
 * else includes it.
 */
#ifndef SONDE_ORDER_INNER_H
#define SONDE_ORDER_INNER_H

#include "collector/drain.h"
#include "collector/order.h"
#include "collector/timeline.h"

#define NS_PER_MS UINT64_C(1000000)
#define NS_PER_S UINT64_C(1000000000)

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

struct entry {
    uint64_t key;
    struct drain_lane *lane;
};

struct queued_fact {
    struct item item;
    struct fact fact;
};

struct order {
    struct entry *heap;
    uint32_t entries;
    uint64_t watermark, last;  /* last: newest time given out */
    struct drain_lane *behind; /* its event was given out and is still borrowed */
    struct timeline line;
    uint64_t now, lag;
    struct order_hooks hooks;
    bool finishing, ticked;
    uint64_t last_tick, broken_told, rounds, given;
    struct order_counts counts, told;
    uint64_t no_lane_detached;
    /* arenas */
    struct drain *arena[ORDER_ARENAS];
    uint32_t ordinal[ORDER_ARENAS], ordinals;
    uint32_t capacity; /* of the heap: lanes of all arenas */
    struct window_pool windows;
    /* numbers */
    uint32_t threads;
    uint32_t *free_numbers, free_count, numbers_high;
    /* facts */
    struct queued_fact *facts;
    uint32_t fact_head, fact_count, fact_room; /* room: a power of two */
    struct queued_fact given_fact;
};

static inline const struct event *event_at(const struct drain_lane *l)
{
    return (const struct event *)(const void *)l->at;
}

static inline uint64_t moment_ns(const struct order *o, const struct drain *d, uint64_t ticks)
{
    return d->tsc ? timeline_from_tsc(&o->line, ticks) : timeline_from_monotonic(&o->line, ticks);
}

static inline uint64_t length_ns(const struct order *o, const struct drain *d, uint64_t ticks)
{
    return d->tsc ? timeline_scale(ticks, o->line.after) : ticks;
}

/* give.c */
int give_queued_fact(struct order *, struct item *out);
int give_tick(struct order *, struct item *out);
void give_gap(struct order *, struct drain_lane *, uint64_t n, enum loss, struct item *out);
/* Another collector had this thread before: its totals as of now are where ours begin. */
void give_base(struct order *, struct drain_lane *, struct item *out);
/* The end of a dead thread, or the call that a live one is in; all its events are handed on. */
void give_thread(struct order *, struct drain_lane *, struct item *out);
void give_reaped(struct order *, const struct item *);
/* The CPU clock of an event that may carry it, or has no time; order.c does the others. */
void give_cpu(struct drain_lane *, const struct event *);
/* Ticks of waits as ns, added to the lane's totals. */
void give_waits(const struct order *, struct drain_lane *, uint64_t lock, uint64_t disk,
                uint64_t asleep);

#endif
