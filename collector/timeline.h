/*
 * timeline.h - ticks of an arena's clock → ns since the epoch, on one line for all arenas of a run.
 *
 * In:      the main arena's anchor; a moment (TSC and CLOCK_MONOTONIC read together) each round.
 * Context: P
 *
 * The supervisor's rate was measured over 10 ms: good to 50 ppm, which is 4 s a day. So the line is
 * bent a little every ten seconds, at the present moment, towards CLOCK_MONOTONIC: it stays
 * unbroken and never runs backwards. Everything before the last bend goes by the slope before it.
 * Steps of the wall clock are not followed: the run keeps the epoch that it began with.
 */
#ifndef SONDE_TIMELINE_H
#define SONDE_TIMELINE_H

#include <stdbool.h>
#include <stdint.h>

struct arena;

struct instant {
    uint64_t tsc, monotonic_ns;
};

struct timeline {
    uint64_t bend;            /* TSC: from here on `after` holds */
    uint64_t bend_ns;         /* CLOCK_MONOTONIC at the bend */
    uint64_t before, after;   /* ns per tick << 32 */
    uint64_t epoch;           /* added to CLOCK_MONOTONIC, modulo 2^64: ns since the epoch */
    struct instant base, bent; /* the first moment known, the moment of the last bend */
};

void timeline_init(struct timeline *, const struct arena *main);
/* Bends the line when it is time to. */
void timeline_adjust(struct timeline *, const struct instant *now);

static inline uint64_t timeline_scale(uint64_t ticks, uint64_t slope)
{
    return (uint64_t)(((unsigned __int128)ticks * slope) >> 32);
}

static inline uint64_t timeline_from_tsc(const struct timeline *t, uint64_t tsc)
{
    if (tsc >= t->bend)
        return t->epoch + t->bend_ns + timeline_scale(tsc - t->bend, t->after);
    return t->epoch + t->bend_ns - timeline_scale(t->bend - tsc, t->before);
}

static inline uint64_t timeline_from_monotonic(const struct timeline *t, uint64_t monotonic_ns)
{
    return t->epoch + monotonic_ns;
}

#endif
