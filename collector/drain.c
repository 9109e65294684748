/*
 * drain.c - see drain.h.
 *
 * In:      wire/arena.h's pages        Out: order.c, watch.c
 * Owns:    the private picture of each lane.
 * Context: C
 * Sharing: chunk.next is loaded before chunk.committed, each with acquire: with a successor there,
 *          `committed` is final.
 * Failure: see drain.h; bounds come from the view, never from the pages.
 */
#include "collector/drain.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "wire/atomics.h"

#define EMPTY_CHUNKS 4 /* in a row; more are a circle, not an accident */
#define ABSURD_EVENTS (UINT64_C(1) << 40)

/* --- windows --- */

static struct window *window_take(struct window_pool *p)
{
    struct window *w = p->free;
    if (w) {
        p->free = w->next;
        return w;
    }
    if (p->made >= DRAIN_WINDOWS)
        return NULL;
    w = aligned_alloc(64, sizeof *w);
    if (w)
        p->made++;
    return w;
}

void drain_release_window(struct drain_lane *l)
{
    l->at = l->end = NULL;
    if (!l->window)
        return;
    l->window->next = l->drain->windows->free;
    l->drain->windows->free = l->window;
    l->window = NULL;
}

void window_pool_fini(struct window_pool *p)
{
    while (p->free) {
        struct window *w = p->free;
        p->free = w->next;
        free(w);
    }
    p->made = 0;
}

/* --- the arena --- */

int drain_init(struct drain *d, const struct arena_view *v, uint64_t mark,
               struct window_pool *windows)
{
    memset(d, 0, sizeof *d);
    d->view = *v;
    d->mark = mark;
    d->windows = windows;
    d->lanes = calloc(v->lanes, sizeof *d->lanes);
    d->process_lanes = calloc(v->processes, sizeof *d->process_lanes);
    if (!d->lanes || !d->process_lanes) {
        drain_fini(d);
        return -ENOMEM;
    }
    const struct arena *a = v->arena;
    d->tsc = a->clock == CLOCK_KIND_TSC;
    d->accounted_freed = load_relaxed(&a->accounted[load_acquire(&a->accounted_valid) & 1].events);
    return 0;
}

void drain_fini(struct drain *d)
{
    for (uint32_t i = 0; d->lanes && i < d->view.lanes; i++)
        drain_release_window(&d->lanes[i]);
    free(d->lanes);
    free(d->process_lanes);
    d->lanes = NULL;
    d->process_lanes = NULL;
}

/* Never less than before: lanes in use are looked at whatever becomes of the pages. */
uint32_t drain_high(struct drain *d)
{
    uint32_t high = load_relaxed(&d->view.arena->s_lanes_high);
    if (high > d->view.lanes)
        high = d->view.lanes;
    if (high > d->high)
        d->high = high;
    return d->high;
}

uint32_t drain_free_chunks(const struct drain *d)
{
    uint64_t n = load_relaxed(&d->view.arena->s_free_count);
    return n < d->view.chunks ? (uint32_t)n : d->view.chunks;
}

/* --- identity --- */

static void join_process(struct drain *d, struct drain_lane *l)
{
    uint32_t *first = &d->process_lanes[l->process_index];
    l->previous_of_process = 0;
    l->next_of_process = *first;
    if (*first)
        d->lanes[*first - 1].previous_of_process = l->index + 1;
    *first = l->index + 1;
}

static void leave_process(struct drain *d, struct drain_lane *l)
{
    if (l->next_of_process)
        d->lanes[l->next_of_process - 1].previous_of_process = l->previous_of_process;
    if (l->previous_of_process)
        d->lanes[l->previous_of_process - 1].next_of_process = l->next_of_process;
    else
        d->process_lanes[l->process_index] = l->next_of_process;
}

static struct chunk *owned_chunk(const struct drain_lane *l, uint32_t number)
{
    const struct arena_view *v = &l->drain->view;
    if (!number || number > v->chunks)
        return NULL;
    struct chunk *c = &v->chunk[number - 1];
    if (load_relaxed(&c->lane) != l->index + 1 || load_relaxed(&c->lane_serial) != l->serial)
        return NULL;
    return c;
}

/* Where an earlier collector stopped; zero in a fresh lane. */
static void resume(struct drain_lane *l)
{
    struct lane *s = l->shared;
    l->drained = load_relaxed(&s->drained);
    l->gone = load_relaxed(&s->gone);
    l->accounted = l->drained + l->gone;
    l->read_chunk = load_relaxed(&s->read_chunk);
    l->read_offset = load_relaxed(&s->read_offset);
    l->resumed = l->accounted || l->read_chunk;
    l->recalled = l->read_chunk && load_relaxed(&s->recall) == 2;
    if (l->read_chunk && (!owned_chunk(l, l->read_chunk) || l->read_offset < CHUNK_HEADER ||
                          l->read_offset > CHUNK_BYTES || l->read_offset % 8))
        l->broken = true;
    /* which losses it had told we know only by their number */
    uint64_t full = load_relaxed(&s->lost_full), nested = load_relaxed(&s->lost_nested);
    l->full_told = l->gone < full ? l->gone : full;
    l->nested_told = l->gone - l->full_told < nested ? l->gone - l->full_told : nested;
}

bool drain_begin(struct drain *d, uint32_t index)
{
    struct lane *s = &d->view.lane[index];
    if (load_acquire(&s->state) != LANE_LIVE)
        return false;
    uint32_t process = load_relaxed(&s->process);
    if (process >= d->view.processes)
        return false;
    struct drain_lane *l = &d->lanes[index];
    memset(l, 0, sizeof *l);
    l->drain = d;
    l->shared = s;
    l->index = index;
    l->stage = STAGE_LIVE;
    l->serial = load_relaxed(&s->serial);
    l->process_index = process;
    l->process_serial = load_relaxed(&s->process_serial);
    l->tid = load_relaxed(&s->tid);
    resume(l);
    join_process(d, l);
    d->live++;
    return true;
}

bool drain_is_gone(const struct drain_lane *l)
{
    const struct lane *s = l->shared;
    return load_acquire(&s->state) != LANE_LIVE || load_relaxed(&s->serial) != l->serial;
}

void drain_forget(struct drain_lane *l)
{
    drain_release_window(l);
    leave_process(l->drain, l);
    l->drain->live--;
    l->stage = STAGE_NONE;
}

/* --- reading --- */

static bool break_lane(struct drain_lane *l)
{
    if (!l->broken)
        l->drain->broken_lanes++;
    l->broken = true;
    l->peeked = false;
    l->drain->leaking = true;
    return false;
}

static void store_position(struct drain_lane *l)
{
    struct lane *s = l->shared;
    store_relaxed(&s->drained, l->drained);
    store_relaxed(&s->gone, l->gone);
    store_relaxed(&s->read_offset, l->read_offset);
    store_release(&s->read_chunk, l->read_chunk);
}

static void give_back(struct drain_lane *l, uint32_t number)
{
    store_relaxed(&l->shared->chunks_freed, load_relaxed(&l->shared->chunks_freed) + 1);
    store_release(&l->drain->view.chunk[number - 1].lane, 0);
    arena_push_chunk(&l->drain->view, number - 1);
}

/* On to the successor (0: the producer will name one in `first`); the position moves before the
 * chunk is given back. */
static void leave_chunk(struct drain_lane *l, uint32_t next)
{
    uint32_t old = l->read_chunk;
    l->read_chunk = next;
    l->read_offset = next ? CHUNK_HEADER : 0;
    store_position(l);
    give_back(l, old);
}

/* The first chunk after a claim or a recall. */
static bool find_first(struct drain_lane *l)
{
    if (load_acquire(&l->shared->recall) == 2)
        return false;
    uint32_t first = load_acquire(&l->shared->first);
    if (!first)
        return false;
    if (!owned_chunk(l, first))
        return break_lane(l);
    l->read_chunk = first;
    l->read_offset = CHUNK_HEADER;
    return true;
}

static inline uint32_t fixed_bytes(const struct event *e)
{
    return e->flags & EVENT_HAS_BLOCK ? sizeof *e + sizeof(struct event_block) : sizeof *e;
}

static inline bool is_sound(const struct event *e, uint32_t room)
{
    if (room < sizeof *e || e->size < sizeof *e || e->size > room || e->size % 8 ||
        e->type >= EVENT_TYPE_COUNT)
        return false;
    return e->type == EVENT_NONE || fixed_bytes(e) + (uint32_t)e->head + e->tail <= e->size;
}

static void mark_ids(const struct drain *d, struct event *e)
{
    e->connection = drain_id(d, e->connection);
    struct event_address *a = (struct event_address *)(void *)((char *)e + fixed_bytes(e));
    if (e->type == EVENT_ACCEPT && e->head >= sizeof *a)
        a->listener = drain_id(d, a->listener);
}

/*
 * Counts the sound events at the start of a copy; a hole (EVENT_NONE) is no event, its number is
 * missing. *sound: bytes that they take.
 */
static uint32_t check(struct drain_lane *l, uint8_t *from, uint32_t bytes, uint32_t *sound)
{
    uint32_t last = (uint32_t)(l->drained + l->gone), first = last, count = 0, at = 0;
    uint32_t attempts = (uint32_t)load_relaxed(&l->shared->sequence);
    while (at < bytes) {
        struct event *e = (struct event *)(void *)(from + at);
        if (!is_sound(e, bytes - at))
            break;
        if (e->type != EVENT_NONE) {
            if (e->sequence - last - 1 >= UINT32_C(1) << 31 || attempts - e->sequence >= UINT32_C(1)
                                                                                             << 31)
                break;
            last = e->sequence;
            count++;
            if (l->drain->mark)
                mark_ids(l->drain, e);
        }
        at += e->size;
    }
    *sound = at;
    l->drained += count;
    l->gone += last - first - count;
    return count;
}

/* Copies `bytes` of the chunk from where we stand. true: there are events in it. */
static bool copy_out(struct drain_lane *l, const struct chunk *c, uint32_t bytes, uint8_t *to)
{
    memcpy(to, (const char *)c + l->read_offset, bytes);
    uint32_t sound, count = check(l, to, bytes, &sound);
    if (sound < bytes)
        break_lane(l);
    l->read_offset += sound;
    store_position(l);
    l->at = to;
    l->end = to + sound;
    return count > 0;
}

/* What stands unread in the chunk we are in; follows `next`. 0: nothing now. */
static uint32_t unread(struct drain_lane *l, struct chunk **chunk, uint32_t *next)
{
    for (int i = 0; i < EMPTY_CHUNKS; i++) {
        if (!l->read_chunk && !find_first(l))
            return 0;
        struct chunk *c = owned_chunk(l, l->read_chunk);
        if (!c)
            return (uint32_t)break_lane(l);
        *chunk = c;
        *next = load_acquire(&c->next);
        uint32_t committed = load_acquire(&c->committed);
        if (committed > CHUNK_BYTES || committed < l->read_offset || committed % 8 ||
            (*next && (!owned_chunk(l, *next) || *next == l->read_chunk)))
            return (uint32_t)break_lane(l);
        if (committed > l->read_offset)
            return committed - l->read_offset;
        if (!*next && !l->recalled)
            return 0;
        if (*next && l->recalled)
            return (uint32_t)break_lane(l); /* who gave its chunk up links none to it */
        leave_chunk(l, *next);
        if (l->recalled) {
            l->recalled = false;
            return 0;
        }
    }
    return (uint32_t)break_lane(l);
}

/* Without a window only the head of the event is looked at: its time decides when it is wanted. */
static bool peek(struct drain_lane *l, const struct chunk *c, uint32_t bytes)
{
    struct event e;
    if (bytes < sizeof e)
        return break_lane(l);
    memcpy(&e, (const char *)c + l->read_offset, sizeof e);
    if (!is_sound(&e, bytes))
        return break_lane(l);
    l->peek_time = e.time;
    l->peek_flags = e.flags;
    l->peeked = true;
    return true;
}

bool drain_fill(struct drain_lane *l)
{
    l->at = l->end = NULL;
    l->peeked = false;
    struct chunk *c = NULL;
    uint32_t next = 0, bytes;
    while (!l->broken && (bytes = unread(l, &c, &next)) > 0) {
        if (!l->window && !(l->window = window_take(l->drain->windows)))
            return peek(l, c, bytes);
        bool events = copy_out(l, c, bytes, l->window->bytes);
        if (next && !l->broken)
            leave_chunk(l, next);
        if (events)
            return true;
    }
    drain_release_window(l);
    return false;
}

bool drain_take(struct drain_lane *l)
{
    struct chunk *c = NULL;
    uint32_t next = 0, bytes;
    l->peeked = false;
    l->at = l->end = NULL;
    while (!l->broken && (bytes = unread(l, &c, &next)) > 0) {
        struct event e;
        if (bytes < sizeof e)
            return break_lane(l);
        memcpy(&e, (const char *)c + l->read_offset, sizeof e);
        if (!is_sound(&e, bytes))
            return break_lane(l);
        if (copy_out(l, c, e.size, l->drain->scratch.bytes))
            return true;
    }
    return false;
}

/* --- losses --- */

/* How much of `missing` a counter of the producer explains that was not told before. */
static uint64_t explained(uint64_t counter, uint64_t *told, uint64_t missing)
{
    uint64_t news = counter - *told;
    if (counter < *told || !news)
        return 0;
    uint64_t n = news < missing ? news : missing;
    *told += n;
    return n;
}

static bool is_absurd(const struct drain_lane *l, uint64_t attempts)
{
    return attempts > l->accounted && attempts - l->accounted >= ABSURD_EVENTS;
}

uint64_t drain_explained(struct drain_lane *l, uint64_t missing, enum loss *reason)
{
    const struct lane *s = l->shared;
    if (is_absurd(l, load_relaxed(&s->sequence))) {
        l->uncountable = true;
        l->accounted += missing;
        *reason = LOSS_DAMAGED;
        return missing;
    }
    uint64_t n = explained(load_relaxed(&s->lost_full), &l->full_told, missing);
    *reason = LOSS_FULL;
    if (!n) {
        n = explained(load_relaxed(&s->lost_nested), &l->nested_told, missing);
        *reason = LOSS_NESTED;
    }
    l->accounted += n;
    return n;
}

uint64_t drain_lost(struct drain_lane *l, uint64_t missing, enum loss *reason)
{
    uint64_t n = drain_explained(l, missing, reason);
    if (n)
        return n;
    n = missing;
    *reason = LOSS_UNFINISHED;
    if (l->broken)
        *reason = LOSS_DAMAGED;
    else if (l->stage == STAGE_DEAD && l->at == l->end && !l->peeked) {
        /* at a death at most one was under way; between events stand those that a handler's longjmp
         * left */
        if (missing > 1)
            n = missing - 1;
        if (missing > 1 || !load_relaxed(&l->shared->busy))
            *reason = LOSS_DAMAGED;
    }
    l->accounted += n;
    return n;
}

uint64_t drain_missing(const struct drain_lane *l)
{
    uint64_t attempts = load_relaxed(&l->shared->sequence);
    if (attempts <= l->accounted)
        return 0;
    if (is_absurd(l, attempts))
        return !l->uncountable;
    return attempts - l->accounted;
}

/* --- totals, the end of a lane --- */

void drain_totals(const struct drain_lane *l, struct lane_totals *t)
{
    const struct lane *s = l->shared;
    t->allocated = load_relaxed(&s->allocated);
    t->freed = load_relaxed(&s->freed);
    t->allocations = load_relaxed(&s->allocations);
    t->lock = load_relaxed(&s->lock);
    t->disk = load_relaxed(&s->disk);
    t->sleep = load_relaxed(&s->sleep);
}

void drain_ended(const struct drain *d, uint32_t process_index, struct lane_totals *t)
{
    const struct process_slot *p = &d->view.process[process_index];
    const struct ended_lanes *e = &p->ended[load_acquire(&p->ended_valid) & 1];
    *t = (struct lane_totals){e->allocated, e->freed, e->allocations, e->lock, e->disk, e->sleep};
}

static void add_to_process(const struct drain_lane *l)
{
    struct process_slot *p = &l->drain->view.process[l->process_index];
    if (load_relaxed(&p->serial) != l->process_serial)
        return;
    uint32_t valid = load_relaxed(&p->ended_valid) & 1;
    struct ended_lanes sum = p->ended[valid];
    if (sum.lanes && sum.lane_serial == l->serial)
        return; /* our predecessor did, and died then */
    struct lane_totals t;
    drain_totals(l, &t);
    sum.lane_serial = l->serial;
    sum.lanes++;
    sum.allocated += t.allocated;
    sum.freed += t.freed;
    sum.allocations += t.allocations;
    sum.lock += t.lock;
    sum.disk += t.disk;
    sum.sleep += t.sleep;
    p->ended[valid ^ 1] = sum;
    store_release(&p->ended_valid, valid ^ 1);
}

static void add_to_arena(const struct drain_lane *l)
{
    struct drain *d = l->drain;
    struct arena *a = d->view.arena;
    uint32_t valid = load_relaxed(&a->accounted_valid) & 1;
    if (a->accounted[valid].lane_serial == l->serial)
        return;
    d->accounted_freed += l->accounted;
    a->accounted[valid ^ 1] = (struct accounted){l->serial, d->accounted_freed};
    store_release(&a->accounted_valid, valid ^ 1);
}

void drain_free(struct drain_lane *l)
{
    struct drain *d = l->drain;
    struct lane *s = l->shared;
    l->gone = l->accounted - l->drained;
    if (l->read_chunk && !l->broken)
        leave_chunk(l, 0);
    else
        store_position(l);
    if (load_relaxed(&s->chunks_taken) != load_relaxed(&s->chunks_freed))
        d->leaking = true;
    add_to_arena(l);
    add_to_process(l);
    drain_forget(l);
    store_release(&s->state, (uint32_t)LANE_FREE);
    arena_push_lane(&d->view, l->index);
}
