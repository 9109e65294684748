/*
 * order.c - see order.h: the merge of all lanes by time.
 *
 * In:      drain.c (windows of checked events), watch.c (facts, deaths), main.c (rounds)
 * Out:     struct source; give.c says the items that are no events
 * Owns:    arenas' drains, the heap of lanes by the time of their next event, the counts.
 * Context: C. Reads no clock itself: a round brings the moment along.
 *
 * The heap holds one entry per lane that has something to give: its next event, or at the end its
 * death. An entry's key is ns since the epoch; a lane gives its events in its own order whatever
 * their times say.
 */
#include "collector/order_inner.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "wire/atomics.h"

#define HOLD_NS NS_PER_S /* a thread stopped between reserve and commit holds no longer */
#define FUTURE_NS (100 * NS_PER_MS) /* no clock of one machine runs ahead by this */
#define BROKEN_NS NS_PER_S          /* how often the losses of broken lanes are told */

/* --- life --- */

struct order *order_new(uint64_t watermark_ns, const struct order_hooks *hooks)
{
    struct order *o = calloc(1, sizeof *o);
    if (!o)
        return NULL;
    o->free_numbers = malloc(ITEM_LANES_MAX * sizeof *o->free_numbers);
    if (!o->free_numbers) {
        free(o);
        return NULL;
    }
    o->lag = watermark_ns;
    if (hooks)
        o->hooks = *hooks;
    return o;
}

static void close_arena(struct order *o, int i)
{
    drain_fini(o->arena[i]);
    free(o->arena[i]);
    o->arena[i] = NULL;
}

void order_free(struct order *o)
{
    if (!o)
        return;
    for (int i = 0; i < ORDER_ARENAS; i++)
        if (o->arena[i])
            close_arena(o, i);
    window_pool_fini(&o->windows);
    free(o->heap);
    free(o->facts);
    free(o->free_numbers);
    free(o);
}

static int free_place(const struct order *o)
{
    for (int i = 0; i < ORDER_ARENAS; i++)
        if (!o->arena[i])
            return i;
    return -ENOSPC;
}

int order_attach(struct order *o, const struct arena_view *v)
{
    int place = free_place(o);
    if (place < 0)
        return place;
    struct drain *d = aligned_alloc(64, (sizeof *d + 63) & ~(size_t)63);
    struct entry *heap = realloc(o->heap, (o->capacity + v->lanes) * sizeof *heap);
    if (heap)
        o->heap = heap;
    uint32_t ordinal = o->ordinals % DRAIN_ORDINALS;
    if (!d || !heap || drain_init(d, v, o->ordinals ? DRAIN_MARK(ordinal) : 0, &o->windows)) {
        free(d);
        return -ENOMEM;
    }
    o->capacity += v->lanes;
    if (!o->ordinals)
        timeline_init(&o->line, v->arena);
    o->ordinals++;
    o->arena[place] = d;
    o->ordinal[place] = ordinal;
    return place;
}

void order_detach(struct order *o, int arena)
{
    struct drain *d = o->arena[arena];
    struct drain *first = o->arena[0];
    o->no_lane_detached += load_relaxed(&d->view.arena->s_no_lane);
    if (first && first != d) {
        /* what a successor compares with the store; by no lane, so without its serial */
        struct arena *a = first->view.arena;
        uint32_t valid = load_relaxed(&a->accounted_valid) & 1;
        first->accounted_freed += d->accounted_freed;
        a->accounted[valid ^ 1] =
            (struct accounted){a->accounted[valid].lane_serial, first->accounted_freed};
        store_release(&a->accounted_valid, valid ^ 1);
    }
    o->capacity -= d->view.lanes;
    close_arena(o, arena);
}

struct drain *order_arena(struct order *o, int arena)
{
    return o->arena[arena];
}

struct drain *order_arena_of(struct order *o, uint64_t connection, uint64_t *bare)
{
    *bare = connection;
    if (!DRAIN_MARKED(connection))
        return o->arena[0];
    *bare = DRAIN_BARE(connection);
    for (int i = 1; i < ORDER_ARENAS; i++)
        if (o->arena[i] && o->ordinal[i] == DRAIN_ORDINAL(connection))
            return o->arena[i];
    return NULL;
}

/* --- times --- */

uint64_t order_ticks_to_ns(const struct order *o, const struct drain *d, uint64_t ticks)
{
    return ticks ? moment_ns(o, d, ticks) : 0;
}

uint64_t order_duration_to_ns(const struct order *o, const struct drain *d, uint64_t ticks)
{
    return length_ns(o, d, ticks);
}

uint64_t order_now(const struct order *o)
{
    return o->now;
}

uint64_t order_watermark(const struct order *o)
{
    return o->watermark;
}

uint64_t order_rounds(const struct order *o)
{
    return o->rounds;
}

/*
 * When the lane's next event happened. A process without a clock: at the watermark, so that it may
 * leave at once: were it now, each event of that lane would wait for the one before it. Times that
 * no clock can have told (far ahead, or a second before the lane's own last one) come from a
 * scribbler: now, or the last one's.
 */
static inline uint64_t key_of(const struct order *o, const struct drain_lane *l, uint64_t time,
                              uint8_t flags)
{
    if (unlikely(flags & EVENT_NO_CLOCK)) {
        uint64_t ripe = o->watermark ? o->watermark : o->now;
        return ripe > l->key ? ripe : l->key;
    }
    uint64_t t = moment_ns(o, l->drain, time);
    if (unlikely(t > o->now + FUTURE_NS))
        return o->now;
    if (unlikely(t + NS_PER_S < l->key))
        return l->key;
    return t;
}

/* --- the heap --- */

static void sift_down(struct entry *h, uint32_t n, struct entry e)
{
    uint32_t at = 0, child;
    while ((child = 2 * at + 1) < n) {
        child += child + 1 < n && h[child + 1].key < h[child].key;
        if (e.key <= h[child].key)
            break;
        h[at] = h[child];
        at = child;
    }
    h[at] = e;
}

static void heap_push(struct order *o, struct drain_lane *l)
{
    uint32_t at = o->entries++;
    while (at && o->heap[(at - 1) / 2].key > l->key) {
        o->heap[at] = o->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    o->heap[at] = (struct entry){l->key, l};
    l->queued = true;
}

static void heap_pop(struct order *o)
{
    o->heap[0].lane->queued = false;
    o->entries--;
    if (o->entries)
        sift_down(o->heap, o->entries, o->heap[o->entries]);
}

static inline void heap_replace(struct order *o, struct drain_lane *l)
{
    sift_down(o->heap, o->entries, (struct entry){l->key, l});
}

/* --- lanes --- */

/* Steps over holes to the next event, copies more when the window is empty. true: l->key is its
 * time. */
static inline bool find_next(struct order *o, struct drain_lane *l)
{
    for (;;) {
        while (l->at < l->end) {
            const struct event *e = event_at(l);
            if (likely(e->type != EVENT_NONE)) {
                l->key = key_of(o, l, e->time, e->flags);
                __builtin_prefetch(l->at + e->size);
                return true;
            }
            l->at += e->size;
        }
        if (!drain_fill(l))
            return false;
        if (l->peeked) {
            l->key = key_of(o, l, l->peek_time, l->peek_flags);
            return true;
        }
    }
}

/* What a lane without events still has to say: losses of a broken one, its end. */
static bool has_last_words(const struct order *o, const struct drain_lane *l)
{
    return l->stage == STAGE_DEAD || o->finishing ||
           (l->broken && o->now >= o->broken_told + BROKEN_NS && drain_missing(l));
}

static void queue_lane(struct order *o, struct drain_lane *l)
{
    if (find_next(o, l)) {
        heap_push(o, l);
        return;
    }
    if (!has_last_words(o, l))
        return;
    uint64_t at = l->stage == STAGE_DEAD ? l->death_ns : o->now;
    if (l->key < at)
        l->key = at;
    heap_push(o, l);
}

/* The lane at the top has given something: on to its next, or off the heap. */
static inline void step(struct order *o, struct drain_lane *l)
{
    if (l->at < l->end)
        l->at += event_at(l)->size;
    if (likely(find_next(o, l))) {
        heap_replace(o, l);
        return;
    }
    if (has_last_words(o, l)) {
        uint64_t at = l->stage == STAGE_DEAD ? l->death_ns : o->now;
        if (l->key < at)
            l->key = at;
        heap_replace(o, l);
        return;
    }
    heap_pop(o);
}

static uint32_t take_number(struct order *o)
{
    if (o->free_count)
        return o->free_numbers[--o->free_count];
    return o->numbers_high++;
}

static void begin_lane(struct order *o, struct drain *d, uint32_t index)
{
    if (!o->free_count && o->numbers_high >= ITEM_LANES_MAX)
        return; /* its events wait; its own chunks fill up, its drops are counted */
    if (!drain_begin(d, index))
        return;
    struct drain_lane *l = &d->lanes[index];
    l->number = take_number(o);
    l->thread = ++o->threads;
    uint64_t start = order_ticks_to_ns(o, d, load_relaxed(&l->shared->start));
    l->start_ns = start && start <= o->now ? start : o->now;
    l->key = l->cpu_at_ns = l->start_ns;
    if (o->hooks.lane_begin)
        l->process = o->hooks.lane_begin(o->hooks.to, l);
}

static void forget_lane(struct order *o, struct drain_lane *l)
{
    o->free_numbers[o->free_count++] = l->number;
    drain_forget(l);
}

void order_lane_dead(struct order *o, struct drain_lane *l, uint64_t death_ns)
{
    if (l->stage != STAGE_LIVE)
        return;
    l->stage = STAGE_DEAD;
    l->death_ns = death_ns < o->now ? death_ns : o->now;
}

/* --- rounds --- */

/* A thread between reserve and commit: nothing newer than its event may leave, unless it is stopped
 * there. */
static uint64_t held(struct order *o, struct drain_lane *l, uint64_t mark, bool tight)
{
    uint64_t since = load_relaxed(&l->shared->reserved_at);
    if (!since || since == l->held_for)
        return mark;
    uint64_t t = moment_ns(o, l->drain, since);
    if (t >= mark)
        return mark;
    if (tight || t + HOLD_NS < o->now) {
        l->held_for = since;
        return mark;
    }
    return t;
}

static uint64_t look_at_lanes(struct order *o, struct drain *d, uint64_t mark)
{
    uint32_t high = drain_high(d);
    bool tight = drain_free_chunks(d) < d->view.chunks / 2;
    for (uint32_t i = 0; i < high; i++) {
        struct drain_lane *l = &d->lanes[i];
        if (l->stage == STAGE_NONE) {
            if (load_relaxed(&d->view.lane[i].state) != LANE_FREE)
                begin_lane(o, d, i);
            if (l->stage == STAGE_NONE)
                continue;
        }
        if (l->stage == STAGE_LIVE && !o->finishing) {
            if (load_acquire(&l->shared->busy))
                mark = held(o, l, mark, tight);
            if (!l->queued && !drain_has_news(l) && !l->broken) {
                if (!l->accounted && drain_is_gone(l))
                    forget_lane(o, l);
                continue;
            }
        }
        if (!l->queued)
            queue_lane(o, l);
    }
    return mark;
}

static void count_no_lane(struct order *o)
{
    uint64_t n = o->no_lane_detached;
    for (int i = 0; i < ORDER_ARENAS; i++)
        if (o->arena[i])
            n += load_relaxed(&o->arena[i]->view.arena->s_no_lane);
    if (n <= o->counts.lost[LOSS_NO_LANE])
        return;
    o->counts.written += n - o->counts.lost[LOSS_NO_LANE];
    o->counts.lost[LOSS_NO_LANE] = n;
}

static void look_around(struct order *o, const struct instant *now, uint64_t mark)
{
    for (int i = 0; i < ORDER_ARENAS; i++)
        if (o->arena[i])
            mark = look_at_lanes(o, o->arena[i], mark);
    if (o->now >= o->broken_told + BROKEN_NS)
        o->broken_told = o->now;
    if (mark > o->watermark)
        o->watermark = mark;
    count_no_lane(o);
    for (int i = 0; i < ORDER_ARENAS; i++)
        if (o->arena[i])
            store_relaxed(&o->arena[i]->view.arena->collector_beat,
                          o->arena[i]->tsc ? now->tsc : now->monotonic_ns);
    o->rounds++;
    o->ticked = false;
}

void order_round(struct order *o, const struct instant *now)
{
    timeline_adjust(&o->line, now);
    uint64_t t = timeline_from_monotonic(&o->line, now->monotonic_ns);
    if (t > o->now)
        o->now = t;
    look_around(o, now, o->now > o->lag ? o->now - o->lag : 0);
}

void order_finish(struct order *o, const struct instant *now)
{
    uint64_t t = timeline_from_monotonic(&o->line, now->monotonic_ns);
    if (t > o->now)
        o->now = t;
    o->finishing = true;
    look_around(o, now, o->now);
}

bool order_is_drained(const struct order *o)
{
    return !o->entries && !o->behind && !o->fact_count;
}

uint64_t order_given(const struct order *o)
{
    return o->given;
}

/* --- counts --- */

void order_resume(struct order *o, const struct order_counts *committed)
{
    uint64_t positions = 0, counted = committed->written - committed->lost[LOSS_NO_LANE];
    /* the earlier collector numbered as many threads at most as lanes were claimed */
    for (int i = 0; i < ORDER_ARENAS; i++)
        if (o->arena[i])
            o->threads += load_relaxed(&o->arena[i]->view.arena->s_lane_serial);
    for (int i = 0; i < ORDER_ARENAS; i++) {
        struct drain *d = o->arena[i];
        if (!d)
            continue;
        positions += d->accounted_freed;
        uint32_t high = drain_high(d);
        for (uint32_t j = 0; j < high; j++) {
            if (d->lanes[j].stage == STAGE_NONE)
                begin_lane(o, d, j);
            if (d->lanes[j].stage != STAGE_NONE)
                positions += d->lanes[j].accounted;
        }
    }
    o->counts = *committed;
    if (positions > counted) {
        o->counts.lost[LOSS_COLLECTOR] += positions - counted;
        o->counts.written += positions - counted;
    }
}

/* --- items --- */

/* The lane at the top has no events. false: it had nothing to say, and is off the heap. */
static bool give_last_words(struct order *o, struct drain_lane *l, struct item *out)
{
    if (l->resumed) {
        give_base(o, l, out);
        return true;
    }
    enum loss reason;
    uint64_t missing = drain_missing(l), n = 0;
    if (missing)
        n = l->stage == STAGE_DEAD || l->broken ? drain_lost(l, missing, &reason)
                                                : drain_explained(l, missing, &reason);
    if (n) {
        give_gap(o, l, n, reason, out);
        return true;
    }
    heap_pop(o);
    if (l->stage == STAGE_LIVE && !(o->finishing && load_relaxed(&l->shared->call)))
        return false;
    give_thread(o, l, out);
    if (l->stage == STAGE_LIVE)
        return true;
    if (o->hooks.lane_end)
        o->hooks.lane_end(o->hooks.to, l);
    uint32_t number = l->number;
    if (drain_is_gone(l))
        drain_forget(l);
    else
        drain_free(l);
    o->free_numbers[o->free_count++] = number;
    return true;
}

static inline void widen(const struct order *o, struct drain_lane *l, const struct event *e)
{
    struct totals *t = &l->total;
    if (unlikely(e->flags & EVENT_HAS_BLOCK)) {
        const struct event_block *b = (const struct event_block *)(const void *)(e + 1);
        t->allocated = b->allocated;
        t->freed = b->freed;
        t->allocations = b->allocations;
        give_waits(o, l, b->lock, b->disk, b->sleep);
        return;
    }
    t->allocated += (uint32_t)(e->allocated - (uint32_t)t->allocated);
    t->freed += (uint32_t)(e->freed - (uint32_t)t->freed);
    t->allocations += (uint32_t)(e->allocations - (uint32_t)t->allocations);
}

/*
 * The thread's CPU clock at its event: without a clock reading it ran on since the event before, whose clock is known.
 */
static inline void run_cpu(struct drain_lane *l, const struct event *e)
{
    l->ready = true;
    if (unlikely(e->flags & (EVENT_HAS_BLOCK | EVENT_NO_CLOCK))) {
        give_cpu(l, e);
    } else if (likely(l->cpu_known) && l->key > l->cpu_at_ns) {
        l->total.cpu_ns += l->key - l->cpu_at_ns;
        l->cpu_at_ns = l->key;
    }
}

/* Below nobody knows ticks. The copy in the lane's window is ours to write. */
static void wait_in_ns(const struct order *o, struct drain_lane *l, const struct event *e)
{
    struct event_sample s;
    size_t at = sizeof *e + (e->flags & EVENT_HAS_BLOCK ? sizeof(struct event_block) : 0);
    if (e->head < sizeof s)
        return;
    memcpy(&s, l->at + at, sizeof s);
    s.amount = length_ns(o, l->drain, s.amount);
    memcpy((uint8_t *)(uintptr_t)(l->at + at), &s, sizeof s);
}

static inline void give_event(struct order *o, struct drain_lane *l, struct item *out)
{
    const struct event *e = event_at(l);
    uint32_t unit = e->flags & EVENT_LONG ? 10 : 0;
    uint64_t lasted = length_ns(o, l->drain, (uint64_t)e->duration << unit);
    widen(o, l, e);
    run_cpu(l, e);
    if (unlikely(e->type == EVENT_LOCKED))
        wait_in_ns(o, l, e);
    out->kind = ITEM_EVENT;
    out->lane = l->number;
    out->thread = l->thread;
    out->process = l->process;
    out->tid = l->tid;
    out->time_ns = l->key;
    out->entry_ns = l->key > lasted ? l->key - lasted : 0;
    out->ready_ns = 0;
    if (e->flags & EVENT_WAITED)
        out->ready_ns = out->entry_ns - length_ns(o, l->drain, (uint64_t)e->ready << unit);
    out->late = l->key < o->last;
    out->cpu_known = l->cpu_known;
    out->ready = l->ready && l->cpu_known;
    out->missing = 0;
    out->loss = LOSS_FULL;
    out->total = l->total;
    out->event = e;
    out->data = l->at + sizeof *e + (e->flags & EVENT_HAS_BLOCK ? sizeof(struct event_block) : 0);
    out->data_len = (uint32_t)e->head + e->tail;
    out->fact = NULL;
    l->accounted++;
    o->given++;
    o->counts.written++;
    o->counts.drained++;
    if (unlikely(out->late))
        o->counts.late++;
    else
        o->last = l->key;
}

static int order_next(void *self, struct item *out)
{
    struct order *o = self;
    if (likely(o->behind)) {
        step(o, o->behind);
        o->behind = NULL;
    }
    for (;;) {
        if (unlikely(o->fact_count))
            return give_queued_fact(o, out);
        if (unlikely(!o->entries || o->heap[0].key > o->watermark))
            return give_tick(o, out);
        struct drain_lane *l = o->heap[0].lane;
        if (unlikely(l->peeked) && !drain_take(l)) {
            step(o, l);
            continue;
        }
        if (unlikely(l->at == l->end)) {
            if (give_last_words(o, l, out))
                return 1;
            continue;
        }
        const struct event *e = event_at(l);
        if (unlikely(l->resumed)) {
            give_base(o, l, out);
            return 1;
        }
        uint32_t missing = e->sequence - (uint32_t)l->accounted - 1;
        if (unlikely(missing)) {
            enum loss reason;
            uint64_t n = drain_lost(l, missing, &reason);
            give_gap(o, l, n, reason, out);
            return 1;
        }
        give_event(o, l, out);
        o->behind = l;
        if (unlikely(e->type == EVENT_REAPED))
            give_reaped(o, out);
        return 1;
    }
}

struct source order_source(struct order *o)
{
    return (struct source){order_next, o};
}
