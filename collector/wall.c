/*
 * wall.c - see wall.h.
 *
 * Context: P
 */
#include "collector/wall.h"

void wall_charge_any(struct exchange *e, const struct stretch *s, const struct cost *c)
{
    struct span *p = &e->span;
    uint64_t from = s->from_ns > p->start_ns ? s->from_ns : p->start_ns;
    uint64_t to = e->state & TIME_OVER && p->end_ns < s->to_ns ? p->end_ns : s->to_ns;
    if (to <= from || !p->start_ns)
        return;
    uint64_t lasted = to - from, room = lasted;
    p->wall.cpu_ns += wall_take(&room, c->cpu_ns);
    p->wall.lock_ns += wall_take(&room, c->lock_ns);
    p->wall.disk_ns += wall_take(&room, c->disk_ns);
    p->wall.sleep_ns += wall_take(&room, c->sleep_ns);
    if (s->calm && s->ready)
        p->wall.runqueue_ns += wall_take(&room, room);
    if (e->children) { /* what it did itself meanwhile is not waiting for them */
        uint64_t since = e->child_since > from ? e->child_since : from, spent = lasted - room;
        if (to > since)
            e->child_since += wall_take(&(uint64_t){to - since}, spent);
    } else if (s->calls_out && to > s->entry_ns) {
        uint64_t called = to - (s->entry_ns > from ? s->entry_ns : from);
        p->downstream_ns += wall_take(&room, called);
    }
}

/* A client's request has been sent: until its answer comes there is nothing to do but wait. */
static uint64_t awaited(const struct span *p)
{
    return p->answered && p->last_out_ns && p->first_in_ns > p->last_out_ns ? p->first_in_ns - p->last_out_ns : 0;
}

static void cut(struct span *p, uint64_t room, uint64_t downstream)
{
    struct wall *w = &p->wall;
    w->cpu_ns = wall_take(&room, w->cpu_ns);
    w->lock_ns = wall_take(&room, w->lock_ns);
    w->disk_ns = wall_take(&room, w->disk_ns);
    w->sleep_ns = wall_take(&room, w->sleep_ns);
    w->runqueue_ns = wall_take(&room, w->runqueue_ns);
    p->downstream_ns = wall_take(&room, downstream);
}

void wall_finish(struct exchange *e)
{
    struct span *p = &e->span;
    uint64_t room = p->start_ns && p->end_ns > p->start_ns ? p->end_ns - p->start_ns : 0;
    uint64_t downstream = p->side == SIDE_CLIENT ? awaited(p) : p->downstream_ns;
    if (wall_sum(&p->wall) + downstream > room)
        cut(p, room, downstream);
    else
        p->downstream_ns = downstream;
    p->cpu_known = (e->state & (CPU_SEEN | CPU_MISSED)) == CPU_SEEN;
    p->waits_known = (e->state & WAITS_SEEN) != 0;
}
