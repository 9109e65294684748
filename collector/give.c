/*
 * give.c - what items say that are no events: facts, gaps, ticks, the ends of threads.
 *
 * In:      order.c (when), watch.c (facts of its own)        Out: struct item
 * Owns:    the queue of facts.
 * Context: C
 */
#include "collector/order_inner.h"

#include <stdlib.h>
#include <string.h>

#include "wire/atomics.h"

#define TICK_NS (20 * NS_PER_MS)
#define SILENT_NS (250 * NS_PER_MS)
#define SILENT_MOST 512 /* facts at once */

const char *const loss_names[LOSS_COUNT] = {"full",       "no_lane",   "nested",
                                            "unfinished", "collector", "damaged"};

const char *fact_name(enum fact_kind kind)
{
    static const char *const names[] = {
        [FACT_PROCESS] = "process",
        [FACT_PROCESS_TOTAL] = "process_total",
        [FACT_PROCESS_END] = "process_end",
        [FACT_REAPED] = "reaped",
        [FACT_THREAD_END] = "thread_end",
        [FACT_THREAD_CALL] = "thread_call",
        [FACT_ADDRESS] = "address",
        [FACT_DESCRIPTOR] = "descriptor",
        [FACT_STREAM] = "stream",
        [FACT_COMMAND_END] = "command_end",
        [FACT_THREAD_TOTAL] = "thread_total",
        [FACT_THREAD_BASE] = "thread_base",
    };
    return (size_t)kind < sizeof names / sizeof *names && names[kind] ? names[kind] : "?";
}

/* --- facts of others --- */

void order_fact(struct order *o, const struct item *item, const struct fact *fact)
{
    if (o->fact_count == o->fact_room) {
        uint32_t room = o->fact_room ? 2 * o->fact_room : 64;
        struct queued_fact *larger = malloc(room * sizeof *larger);
        if (!larger)
            return;
        for (uint32_t i = 0; i < o->fact_count; i++)
            larger[i] = o->facts[(o->fact_head + i) & (o->fact_room - 1)];
        free(o->facts);
        o->facts = larger;
        o->fact_head = 0;
        o->fact_room = room;
    }
    struct queued_fact *q = &o->facts[(o->fact_head + o->fact_count++) & (o->fact_room - 1)];
    q->item = *item;
    q->item.kind = ITEM_FACT;
    q->fact = *fact;
}

int give_queued_fact(struct order *o, struct item *out)
{
    o->given_fact = o->facts[o->fact_head];
    o->fact_head = (o->fact_head + 1) & (o->fact_room - 1);
    o->fact_count--;
    *out = o->given_fact.item;
    out->fact = &o->given_fact.fact;
    return 1;
}

/* --- lanes --- */

static void item_of_lane(const struct drain_lane *l, enum item_kind kind, uint64_t time_ns,
                         struct item *out)
{
    *out = (struct item){.kind = kind,
                         .lane = l->number,
                         .thread = l->thread,
                         .process = l->process,
                         .tid = l->tid,
                         .time_ns = time_ns,
                         .total = l->total};
}

static struct fact *fact_of_lane(struct order *o, const struct drain_lane *l, enum fact_kind kind,
                                 struct item *out)
{
    item_of_lane(l, ITEM_FACT, l->key, out);
    struct fact *f = &o->given_fact.fact;
    memset(f, 0, sizeof *f);
    f->kind = kind;
    f->pid = load_relaxed(&l->drain->view.process[l->process_index].pid);
    f->tid = l->tid;
    f->exit_code = f->signal = -1;
    f->total = l->total;
    out->fact = f;
    return f;
}

/* Ticks that a total grew by, as ns; a total that seems to shrink stands still. */
static inline void grow(const struct order *o, const struct drain_lane *l, uint64_t *seen,
                        uint64_t ticks, uint64_t *ns)
{
    if (ticks <= *seen)
        return;
    *ns += length_ns(o, l->drain, ticks - *seen);
    *seen = ticks;
}

void give_waits(const struct order *o, struct drain_lane *l, uint64_t lock, uint64_t disk,
                uint64_t asleep)
{
    grow(o, l, &l->seen.lock, lock, &l->total.lock_ns);
    grow(o, l, &l->seen.disk, disk, &l->total.disk_ns);
    grow(o, l, &l->seen.sleep, asleep, &l->total.sleep_ns);
}

/*
 * A reading, `clock_ns`: the total never runs backwards, never faster than time. A main thread's clock goes on over
 * exec, and over a collector's death: what it showed beyond our own time with it is not ours to tell.
 */
static void anchor_cpu(struct drain_lane *l, uint64_t clock_ns)
{
    uint64_t elapsed = l->key > l->cpu_at_ns ? l->key - l->cpu_at_ns : 0, *total = &l->total.cpu_ns;
    if (!l->cpu_based)
        l->cpu_base_ns = clock_ns > elapsed ? clock_ns - elapsed : 0;
    l->cpu_based = true;
    uint64_t own = clock_ns > l->cpu_base_ns ? clock_ns - l->cpu_base_ns : 0;
    if (own > *total)
        *total = own - *total < elapsed ? own : *total + elapsed;
    if (l->key > l->cpu_at_ns)
        l->cpu_at_ns = l->key;
    l->cpu_known = true;
}

void give_cpu(struct drain_lane *l, const struct event *e)
{
    const struct event_block *b = (const struct event_block *)(const void *)(e + 1);
    uint64_t clock_ns = e->flags & EVENT_HAS_BLOCK ? b->cpu_ns : 0;
    if (e->flags & EVENT_NO_CLOCK || clock_ns == UINT64_MAX) {
        l->cpu_known = false; /* from here on nobody knows when, or how much */
    } else if (clock_ns) {
        l->ready = l->cpu_known && b->waits && b->waits == l->waits;
        l->waits = b->waits;
        anchor_cpu(l, clock_ns);
    } else if (l->cpu_known && l->key > l->cpu_at_ns) {
        l->total.cpu_ns += l->key - l->cpu_at_ns;
        l->cpu_at_ns = l->key;
    }
}

/* The totals of a lane whose events are all handed on, as its header has them now. */
static void read_totals(const struct order *o, struct drain_lane *l)
{
    struct lane_totals n;
    drain_totals(l, &n);
    l->total.allocated = n.allocated;
    l->total.freed = n.freed;
    l->total.allocations = n.allocations;
    give_waits(o, l, n.lock, n.disk, n.sleep);
}

void give_gap(struct order *o, struct drain_lane *l, uint64_t n, enum loss reason, struct item *out)
{
    l->cpu_known = false; /* the lost one may have told of a switch */
    item_of_lane(l, ITEM_GAP, l->key, out);
    out->missing = n;
    out->loss = reason;
    o->counts.lost[reason] += n;
    o->counts.written += n;
}

void give_base(struct order *o, struct drain_lane *l, struct item *out)
{
    l->resumed = false;
    l->cpu_known = l->cpu_based = false;
    l->cpu_at_ns = l->key;
    read_totals(o, l);
    if (l->at < l->end) {
        const struct event *e = event_at(l);
        l->total.allocated -= (uint32_t)((uint32_t)l->total.allocated - e->allocated);
        l->total.freed -= (uint32_t)((uint32_t)l->total.freed - e->freed);
        l->total.allocations -= (uint32_t)((uint32_t)l->total.allocations - e->allocations);
    }
    fact_of_lane(o, l, FACT_THREAD_BASE, out);
}

static void note_call(const struct order *o, const struct drain_lane *l, struct fact *f)
{
    const struct lane *s = l->shared;
    f->in_call = load_relaxed(&s->call);
    if (f->in_call >= CALL_COUNT)
        f->in_call = CALL_NONE;
    f->call_since_ns =
        f->in_call ? order_ticks_to_ns(o, l->drain, load_relaxed(&s->call_since)) : 0;
    f->connection = f->in_call ? drain_id(l->drain, load_relaxed(&s->call_connection)) : 0;
}

void give_thread(struct order *o, struct drain_lane *l, struct item *out)
{
    bool ended = l->stage == STAGE_DEAD;
    if (ended)
        read_totals(o, l);
    note_call(o, l, fact_of_lane(o, l, ended ? FACT_THREAD_END : FACT_THREAD_CALL, out));
}

/*
 * An event's totals are read after its attempt was counted: when no attempt is visible after we
 * read the totals, every later event has totals as large.
 */
static bool tell_silent(struct order *o, struct drain_lane *l)
{
    struct lane_totals n;
    if (l->stage != STAGE_LIVE || l->queued || l->broken || l->resumed ||
        l->total_told == l->accounted + 1 || o->now < l->key + SILENT_NS)
        return false;
    drain_totals(l, &n);
    fence_acquire();
    if (drain_has_news(l) || (n.allocated == l->total.allocated && n.freed == l->total.freed &&
                              n.allocations == l->total.allocations))
        return false;
    l->total_told = l->accounted + 1;
    l->total.allocated = n.allocated;
    l->total.freed = n.freed;
    l->total.allocations = n.allocations;
    give_waits(o, l, n.lock, n.disk, n.sleep);
    struct item item;
    struct fact *f = fact_of_lane(o, l, FACT_THREAD_TOTAL, &item);
    item.time_ns = o->now;
    order_fact(o, &item, f);
    return true;
}

void order_silent_threads(struct order *o)
{
    uint32_t told = 0;
    for (int i = 0; i < ORDER_ARENAS; i++) {
        struct drain *d = o->arena[i];
        uint32_t high = d ? drain_high(d) : 0;
        for (uint32_t j = 0; j < high && told < SILENT_MOST; j++)
            told += tell_silent(o, &d->lanes[j]);
    }
}

/* --- the stream itself --- */

void order_counts(struct order *o, struct order_counts *out)
{
    *out = o->counts;
}

void give_reaped(struct order *o, const struct item *item)
{
    if (item->data_len < sizeof(struct event_argument) || !o->hooks.reaped)
        return;
    struct event_argument a;
    memcpy(&a, item->data, sizeof a);
    o->hooks.reaped(o->hooks.to, item, (int32_t)a.argument, item->event->result);
}

int give_tick(struct order *o, struct item *out)
{
    if (o->ticked)
        return 0;
    uint64_t mark = o->finishing || o->watermark > o->now ? o->now : o->watermark;
    if (mark < o->last)
        mark = o->last;
    *out = (struct item){.kind = ITEM_TICK, .time_ns = mark};
    if (memcmp(&o->told, &o->counts, sizeof o->told) != 0 &&
        (o->finishing || mark >= o->last_tick + TICK_NS)) {
        struct fact *f = &o->given_fact.fact;
        memset(f, 0, sizeof *f);
        f->kind = FACT_STREAM;
        f->exit_code = f->signal = -1;
        f->written = o->counts.written;
        f->drained = o->counts.drained;
        f->late = o->counts.late;
        memcpy(f->lost, o->counts.lost, sizeof f->lost);
        o->told = o->counts;
        out->kind = ITEM_FACT;
        out->fact = f;
        return 1;
    }
    o->ticked = true;
    if (!o->finishing && mark < o->last_tick + TICK_NS)
        return 0;
    o->last_tick = mark;
    o->last = mark;
    return 1;
}
