/*
 * reclaim.c - chunks come back: from lanes that fell silent, and from threads that died between
 * two steps.
 *
 * In:      drain.c's picture of the lanes        Out: the arena's free stack
 * Owns:    lane.recall's values 1 (asked) and 2 (taken).
 * Context: C
 * Sharing: with the producer by lane.recall and lane.busy, see wire/arena.h; the fence is the
 *          caller's membarrier.
 */
#include "collector/drain.h"

#include <stdlib.h>
#include <string.h>

#include "wire/atomics.h"

/* --- idle lanes --- */

static bool holds_idle_chunk(const struct drain_lane *l)
{
    return l->stage == STAGE_LIVE && !l->broken && !l->recalled && l->read_chunk &&
           l->at == l->end && !l->peeked && !drain_has_news(l);
}

/* true: its chunk is asked for, or taken. */
static bool ask_or_take(struct drain_lane *l, uint64_t now_ns, uint64_t quiet_ns, bool fenced)
{
    struct lane *s = l->shared;
    uint32_t recall = load_acquire(&s->recall);
    if (l->asked) {
        l->asked = false;
        if (recall == 1 && fenced && !load_relaxed(&s->busy) && cas_acq_rel(&s->recall, &recall, 2))
            l->recalled = true;
        return l->recalled;
    }
    if (!l->quiet_since_ns || l->drained != l->quiet_drained) {
        l->quiet_since_ns = now_ns;
        l->quiet_drained = l->drained;
    }
    if (now_ns - l->quiet_since_ns < quiet_ns || recall > 1)
        return false;
    store_release(&s->recall, 1);
    l->asked = true;
    return true;
}

uint32_t drain_recall(struct drain *d, uint64_t now_ns, uint64_t quiet_ns,
                      bool (*barrier)(void *to), void *to)
{
    uint32_t high = drain_high(d), moved = 0;
    bool fenced = false, tried = false;
    for (uint32_t i = 0; i < high; i++) {
        struct drain_lane *l = &d->lanes[i];
        if (!holds_idle_chunk(l)) {
            l->quiet_since_ns = 0;
            l->asked = false;
            continue;
        }
        if (l->asked && !tried) {
            tried = true;
            fenced = barrier(to);
        }
        moved += ask_or_take(l, now_ns, quiet_ns, fenced);
    }
    return moved;
}

/* --- leaked chunks --- */

enum { IN_USE, ON_STACK, OWNER_GONE, NOBODY };

/* Marks what stands on the free stack. false: it changed meanwhile. */
static bool mark_free(const struct drain *d, uint8_t *mark)
{
    const struct arena_view *v = &d->view;
    uint64_t head = load_acquire(&v->arena->s_free_chunks);
    uint32_t at = (uint32_t)head;
    for (uint32_t n = 0; at; n++) {
        if (at > v->chunks || n >= v->chunks)
            return false;
        mark[at - 1] = ON_STACK;
        at = load_relaxed(&v->chunk[at - 1].next_free);
    }
    return load_acquire(&v->arena->s_free_chunks) == head;
}

static bool owner_is_gone(const struct drain *d, uint32_t lane, uint32_t serial)
{
    if (lane > d->view.lanes)
        return false;
    const struct lane *s = &d->view.lane[lane - 1];
    const struct drain_lane *l = &d->lanes[lane - 1];
    if (l->stage != STAGE_NONE && l->serial == serial)
        return false;
    return load_acquire(&s->state) != LANE_LIVE || load_relaxed(&s->serial) != serial;
}

static bool someone_is_busy(struct drain *d)
{
    uint32_t high = drain_high(d);
    for (uint32_t i = 0; i < high; i++)
        if (load_acquire(&d->view.lane[i].state) == LANE_LIVE && d->lanes[i].stage != STAGE_DEAD &&
            load_relaxed(&d->view.lane[i].busy))
            return true;
    return false;
}

static uint32_t free_marked(const struct drain *d, const uint8_t *mark, uint32_t high, bool unowned)
{
    uint32_t freed = 0;
    for (uint32_t i = 0; i < high; i++) {
        struct chunk *c = &d->view.chunk[i];
        uint32_t lane = load_acquire(&c->lane);
        bool leaked = mark[i] == NOBODY ? unowned && !lane
                                        : mark[i] == OWNER_GONE && lane &&
                                              owner_is_gone(d, lane, load_relaxed(&c->lane_serial));
        if (!leaked)
            continue;
        store_release(&c->lane, 0);
        arena_push_chunk(&d->view, i);
        freed++;
    }
    return freed;
}

/*
 * A chunk off the stack that names no lane was popped by a thread that had not come to write its
 * name, or died before it could. Popping and naming happen while `busy` is up: once a fence lies
 * behind us and nobody is busy, it is dead.
 */
uint32_t drain_sweep(struct drain *d, bool (*barrier)(void *to), void *to)
{
    const struct arena_view *v = &d->view;
    uint32_t high = load_relaxed(&v->arena->s_chunks_high), freed = 0;
    if (high > v->chunks)
        high = v->chunks;
    uint8_t *mark = malloc(v->chunks);
    if (!mark)
        return 0;
    bool whole = false;
    for (int i = 0; i < 8 && !whole; i++) {
        memset(mark, IN_USE, v->chunks);
        whole = mark_free(d, mark);
    }
    uint32_t unowned = 0;
    for (uint32_t i = 0; whole && i < high; i++) {
        if (mark[i] == ON_STACK)
            continue;
        uint32_t lane = load_acquire(&v->chunk[i].lane);
        if (!lane) {
            mark[i] = NOBODY;
            unowned++;
        } else if (owner_is_gone(d, lane, load_relaxed(&v->chunk[i].lane_serial)))
            mark[i] = OWNER_GONE;
    }
    if (whole) {
        bool proven = unowned && barrier(to) && !someone_is_busy(d);
        freed = free_marked(d, mark, high, proven);
        d->leaking = unowned && !proven;
    }
    free(mark);
    return freed;
}
