/*
 * wall.h - where the time of a request went: of each interval that is charged to it, what lies between its start and
 * its end.
 *
 * In:      activity.c (intervals and what they cost), span.c (the end)
 * Context: P
 *
 * CPU and waits of one thread exclude each other, so within an interval they are cut to what it lasted, CPU first. What
 * is left of an interval in which the thread never gave its processor up itself but in waits that are timed, it stood in
 * the run queue: the kernel's count says so. Else it waited in a way that nobody timed (its client is slow, a pipe, a
 * child, a page fault), or for the processor besides: unknown.
 */
#ifndef SONDE_WALL_H
#define SONDE_WALL_H

#include "collector/span.h"

/* An interval between two events of a thread, or several in a row. */
struct stretch {
    uint64_t from_ns, to_ns;
    uint64_t entry_ns; /* the call that ends it began */
    bool calm;         /* its CPU and waits are known, and the thread did not poll or idle in it */
    bool ready;        /* it gave its processor up in timed waits at most: the rest was the run queue */
    bool calls_out;    /* the call that ends it waited for an outbound connection */
};

/* The part of `most` that is still free. */
static inline uint64_t wall_take(uint64_t *room, uint64_t most)
{
    uint64_t n = most < *room ? most : *room;
    *room -= n;
    return n;
}

/* An interval that cost `c` was charged to the request. Most have no waits in them, and lie within it. */
void wall_charge_any(struct exchange *, const struct stretch *, const struct cost *c);
static inline void wall_charge(struct exchange *e, const struct stretch *s, const struct cost *c)
{
    struct span *p = &e->span;
    if (s->to_ns <= p->start_ns)
        return; /* before its first byte */
    if ((c->lock_ns | c->disk_ns | c->sleep_ns) || e->children || s->calls_out || s->from_ns < p->start_ns ||
        s->to_ns < s->from_ns || (e->state & TIME_OVER && p->end_ns < s->to_ns)) {
        wall_charge_any(e, s, c);
        return;
    }
    uint64_t lasted = s->to_ns - s->from_ns, cpu = c->cpu_ns < lasted ? c->cpu_ns : lasted;
    p->wall.cpu_ns += cpu;
    if (s->calm && s->ready)
        p->wall.runqueue_ns += lasted - cpu;
}
/* It is final: nothing exceeds its duration. */
void wall_finish(struct exchange *);

#endif
