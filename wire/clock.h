/*
 * clock.h - the arena's clock: TSC cycles where the TSC is invariant (10 ns a read, no system call), else nanoseconds
 * of CLOCK_MONOTONIC by the vDSO (23 ns).
 *
 * Reading order between cores: rdtsc without a fence; 4 M hand-overs between two cores showed none negative.
 */
#ifndef SONDE_CLOCK_H
#define SONDE_CLOCK_H

#include <stdint.h>
#include <time.h>
#include "wire/arena.h"

static inline uint64_t clock_tsc(void)
{
#if defined(__x86_64__)
    uint32_t low, high;
    __asm__ __volatile__("rdtsc" : "=a"(low), "=d"(high));
    return (uint64_t)high << 32 | low;
#else
    return 0;
#endif
}

static inline uint64_t clock_monotonic_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * UINT64_C(1000000000) + (uint64_t)t.tv_nsec;
}

static inline uint64_t clock_now(uint32_t kind)
{
    return kind == CLOCK_KIND_TSC ? clock_tsc() : clock_monotonic_ns();
}

/* Chooses the clock of this machine and its rate; takes 10 ms at most. Supervisor only. Sets the arena's anchor. */
void clock_calibrate(struct arena *);

/*
 * The parts of it for a process that must make its own arena and has no 10 ms: the kind (every process of a machine
 * chooses the same), and the anchor. Such an arena says ticks_per_second 0; whoever adopts it takes the run's own rate.
 */
uint32_t clock_choose(void);
void clock_anchor(struct arena *);

/* Ticks a second measured from the arena's anchor until now: after one second 0.1 ppm, 10 ms leave 5 ppm. Any reader. */
uint64_t clock_refine(const struct arena *);

/* Ticks → ns of CLOCK_REALTIME, by multiply and shift; `struct clock_scale` is made once per arena from its header. */
struct clock_scale {
    uint64_t anchor_ticks, anchor_realtime_ns;
    uint64_t multiplier; /* ns per tick << 32 */
};
void clock_scale_init(struct clock_scale *, const struct arena *);

static inline uint64_t clock_ticks_to_ns(const struct clock_scale *s, uint64_t ticks)
{
    return (uint64_t)(((unsigned __int128)ticks * s->multiplier) >> 32);
}

static inline uint64_t clock_to_realtime(const struct clock_scale *s, uint64_t ticks)
{
    return ticks >= s->anchor_ticks ? s->anchor_realtime_ns + clock_ticks_to_ns(s, ticks - s->anchor_ticks)
                                    : s->anchor_realtime_ns - clock_ticks_to_ns(s, s->anchor_ticks - ticks);
}

#endif
