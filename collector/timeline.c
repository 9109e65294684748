/*
 * timeline.c - see timeline.h.
 *
 * In:      order.c        Out: order.c
 * Context: P
 */
#include "collector/timeline.h"

#include "wire/arena.h"

#define NS_PER_S UINT64_C(1000000000)
#define FIRST_BEND_NS NS_PER_S
#define BEND_NS (10 * NS_PER_S)

void timeline_init(struct timeline *t, const struct arena *a)
{
    uint64_t rate = a->ticks_per_second;
    if (rate < 1000000 || rate > UINT64_C(100000000000))
        rate = NS_PER_S;
    *t = (struct timeline){.bend = a->anchor_ticks,
                           .bend_ns = a->anchor_monotonic_ns,
                           .epoch = a->anchor_realtime_ns - a->anchor_monotonic_ns};
    t->before = t->after = (uint64_t)(((unsigned __int128)NS_PER_S << 32) / rate);
    if (a->clock != CLOCK_KIND_TSC) {
        /* no TSC to bend after; fallback arenas of this machine will not use one either */
        t->bend = 0;
        t->bend_ns = 0;
        return;
    }
    t->base = t->bent = (struct instant){a->anchor_ticks, a->anchor_monotonic_ns};
}

/* The slope that a long baseline shows. */
static uint64_t measured(const struct timeline *t, const struct instant *now)
{
    uint64_t ticks = now->tsc - t->base.tsc, ns = now->monotonic_ns - t->base.monotonic_ns;
    return (uint64_t)(((unsigned __int128)ns << 32) / ticks);
}

void timeline_adjust(struct timeline *t, const struct instant *now)
{
    if (!t->base.tsc || now->tsc <= t->bent.tsc || now->monotonic_ns <= t->bent.monotonic_ns)
        return;
    uint64_t since = now->monotonic_ns - t->bent.monotonic_ns;
    bool first = t->bent.tsc == t->base.tsc;
    if (since < (first ? FIRST_BEND_NS : BEND_NS))
        return;
    uint64_t here = t->bend_ns + timeline_scale(now->tsc - t->bend, t->after);
    uint64_t slope = measured(t, now);
    /* what is wrong now is made good over the next ten seconds, by half a per mille at most */
    int64_t wrong = (int64_t)(now->monotonic_ns - here);
    int64_t most = (int64_t)(BEND_NS / 2000);
    if (wrong > most)
        wrong = most;
    if (wrong < -most)
        wrong = -most;
    int64_t turn = (int64_t)((double)slope * (double)wrong / (double)BEND_NS);
    t->before = t->after;
    t->after = slope + (uint64_t)turn;
    t->bend = now->tsc;
    t->bend_ns = here;
    t->bent = *now;
}
