/*
 * lanes.h - for tests: writes lanes as the recorder does (shim/record.c), without a server, one
 * thread per lane or none.
 */
#ifndef SONDE_TEST_LANES_H
#define SONDE_TEST_LANES_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include "wire/arena.h"
#include "wire/atomics.h"
#include "wire/event.h"

struct writer {
    const struct arena_view *v;
    struct lane *l;
};

static inline struct process_slot *lanes_process(const struct arena_view *v, int32_t pid)
{
    int32_t i = arena_pop_process(v);
    if (i < 0)
        return NULL;
    struct process_slot *p = &v->process[i];
    memset(p, 0, sizeof *p);
    p->pid = pid;
    p->serial = __atomic_add_fetch(&v->arena->s_process_serial, 1, __ATOMIC_RELAXED);
    strcpy(p->executable, "/usr/bin/synthetic");
    store_release(&p->state, (uint32_t)PROCESS_LIVE);
    return p;
}

static inline bool lanes_claim(struct writer *w, const struct arena_view *v,
                               const struct process_slot *p, int32_t tid)
{
    int32_t i = arena_pop_lane(v);
    w->v = v;
    w->l = NULL;
    if (i < 0)
        return false;
    struct lane *l = &v->lane[i];
    memset(l, 0, sizeof *l);
    l->process = (uint32_t)(p - v->process);
    l->process_serial = p->serial;
    l->tid = tid;
    l->serial = __atomic_add_fetch(&v->arena->s_lane_serial, 1, __ATOMIC_RELAXED);
    store_release(&l->state, (uint32_t)LANE_LIVE);
    w->l = l;
    return true;
}

static inline struct chunk *lanes_next_chunk(struct writer *w)
{
    struct lane *l = w->l;
    int32_t held = (int32_t)(load_relaxed(&l->chunks_taken) - load_relaxed(&l->chunks_freed));
    int32_t i = held > 0 && (uint32_t)held >= w->v->arena->lane_chunks ? -1 : arena_pop_chunk(w->v);
    if (i < 0)
        return NULL;
    struct chunk *c = &w->v->chunk[i], *old = l->chunk ? &w->v->chunk[l->chunk - 1] : NULL;
    store_relaxed(&c->committed, CHUNK_HEADER);
    store_relaxed(&c->next, 0);
    store_relaxed(&c->lane_serial, l->serial);
    store_relaxed(&c->lane, (uint32_t)(l - w->v->lane) + 1);
    store_relaxed(&l->chunks_taken, l->chunks_taken + 1);
    l->chunk = (uint32_t)i + 1;
    l->write = CHUNK_HEADER;
    store_release(old ? &old->next : &l->first, (uint32_t)i + 1);
    if (!old && load_relaxed(&l->recall) == 2)
        store_release(&l->recall, 0);
    return c;
}

/* Up to commit; `e` gives the fields, `data` its head. NULL: dropped, counted. */
static inline struct event *lanes_reserve(struct writer *w, const struct event *e,
                                          const void *block, const void *data)
{
    struct lane *l = w->l;
    store_relaxed(&l->reserved_at, e->time ? e->time : 1);
    store_relaxed(&l->busy, 1);
    fence_total();
    uint32_t asked = 1;
    if (load_relaxed(&l->recall) && !cas_acq_rel(&l->recall, &asked, 0) && asked == 2)
        l->chunk = 0;
    store_relaxed(&l->sequence, l->sequence + 1);
    uint32_t fixed = (uint32_t)sizeof *e + (block ? (uint32_t)sizeof(struct event_block) : 0);
    uint32_t size = (fixed + e->head + e->tail + 7) & ~7u;
    struct chunk *c = l->chunk ? &w->v->chunk[l->chunk - 1] : NULL;
    if ((!c || l->write + size > CHUNK_BYTES) && !(c = lanes_next_chunk(w))) {
        store_relaxed(&l->lost_full, l->lost_full + 1);
        store_relaxed(&l->busy, 0);
        return NULL;
    }
    struct event *to = (struct event *)(void *)((char *)c + l->write);
    *to = *e;
    to->size = (uint16_t)size;
    to->flags = (uint8_t)(e->flags | (block ? EVENT_HAS_BLOCK : 0));
    to->sequence = (uint32_t)l->sequence;
    to->allocated = (uint32_t)l->allocated;
    to->freed = (uint32_t)l->freed;
    to->allocations = (uint32_t)l->allocations;
    if (block)
        memcpy(to + 1, block, sizeof(struct event_block));
    if (data)
        memcpy((char *)to + fixed, data, (size_t)e->head + e->tail);
    l->write += size;
    return to;
}

static inline void lanes_commit(struct writer *w)
{
    store_release(&w->v->chunk[w->l->chunk - 1].committed, w->l->write);
    store_release(&w->l->busy, 0);
}

static inline bool lanes_event(struct writer *w, const struct event *e, const void *data)
{
    if (!lanes_reserve(w, e, NULL, data))
        return false;
    lanes_commit(w);
    return true;
}

/* An attempt that a signal handler's nesting dropped. */
static inline void lanes_nested(struct writer *w)
{
    store_relaxed(&w->l->sequence, w->l->sequence + 1);
    store_relaxed(&w->l->lost_nested, w->l->lost_nested + 1);
}

#endif
