/*
 * activity.c - whose cost is it: the six rules of docs/attribution.md.
 *
 * An interval lies between two events of a thread. What it cost is known at its end (the totals are differences), whose
 * it is was decided at its beginning (the claim), except for what is kept for the next request.
 *
 * Context: C
 * Failure: what cannot be given to a span any more goes to outside.
 */
#include "collector/activity.h"

#include <stdlib.h>
#include <string.h>

#include "collector/image.h"

#define FINAL_NS UINT64_C(1000000000) /* a finished span waits no longer for its costs */

struct activity {
    struct spans *spans;
    struct thread *thread; /* by lane */
    uint32_t lanes;        /* ever used */
    struct cost outside;
    struct sample_lists lists;
};

struct activity *activity_new(struct spans *spans)
{
    struct activity *a = calloc(1, sizeof *a);
    if (!a)
        return NULL;
    a->spans = spans;
    a->thread = calloc(ITEM_LANES_MAX, sizeof *a->thread);
    if (!a->thread) {
        free(a);
        return NULL;
    }
    return a;
}

void activity_free(struct activity *a)
{
    if (!a)
        return;
    free(a->thread);
    free(a);
}

/* --- costs ----------------------------------------------------------------------------------------------------------- */

static struct cost cost_of(const struct totals *t)
{
    return (struct cost){.allocated = t->allocated,
                         .freed = t->freed,
                         .allocations = t->allocations,
                         .cpu_ns = t->cpu_ns,
                         .lock_ns = t->lock_ns,
                         .disk_ns = t->disk_ns,
                         .sleep_ns = t->sleep_ns};
}

static void cost_subtract(struct cost *from, const struct cost *c)
{
    from->allocated -= c->allocated;
    from->freed -= c->freed;
    from->allocations -= c->allocations;
    from->cpu_ns -= c->cpu_ns;
    from->lock_ns -= c->lock_ns;
    from->disk_ns -= c->disk_ns;
    from->sleep_ns -= c->sleep_ns;
}

static bool cost_is_zero(const struct cost *c)
{
    return !(c->allocated | c->freed | c->allocations | c->cpu_ns | c->lock_ns | c->disk_ns | c->sleep_ns);
}

/* What a running total grew by; one that went back (a late item) has been counted. */
static inline uint64_t grown(uint64_t *last, uint64_t now)
{
    if (now <= *last)
        return 0;
    uint64_t d = now - *last;
    *last = now;
    return d;
}

static struct cost advance(struct totals *last, const struct totals *now)
{
    return (struct cost){.allocated = grown(&last->allocated, now->allocated),
                         .freed = grown(&last->freed, now->freed),
                         .allocations = grown(&last->allocations, now->allocations),
                         .cpu_ns = grown(&last->cpu_ns, now->cpu_ns),
                         .lock_ns = grown(&last->lock_ns, now->lock_ns),
                         .disk_ns = grown(&last->disk_ns, now->disk_ns),
                         .sleep_ns = grown(&last->sleep_ns, now->sleep_ns)};
}

static uint64_t above(uint64_t a, uint64_t b)
{
    return a > b ? a - b : 0;
}

static struct cost cost_above(const struct cost *a, const struct cost *b)
{
    return (struct cost){.allocated = above(a->allocated, b->allocated),
                         .freed = above(a->freed, b->freed),
                         .allocations = above(a->allocations, b->allocations),
                         .cpu_ns = above(a->cpu_ns, b->cpu_ns),
                         .lock_ns = above(a->lock_ns, b->lock_ns),
                         .disk_ns = above(a->disk_ns, b->disk_ns),
                         .sleep_ns = above(a->sleep_ns, b->sleep_ns)};
}

static struct cost cost_share(const struct cost *c, uint32_t parts)
{
    return (struct cost){.allocated = c->allocated / parts,
                         .freed = c->freed / parts,
                         .allocations = c->allocations / parts,
                         .cpu_ns = c->cpu_ns / parts,
                         .lock_ns = c->lock_ns / parts,
                         .disk_ns = c->disk_ns / parts,
                         .sleep_ns = c->sleep_ns / parts};
}

static struct cost cost_first_share(const struct cost *c, uint32_t parts)
{
    return (struct cost){.allocated = c->allocated / parts + c->allocated % parts,
                         .freed = c->freed / parts + c->freed % parts,
                         .allocations = c->allocations / parts + c->allocations % parts,
                         .cpu_ns = c->cpu_ns / parts + c->cpu_ns % parts,
                         .lock_ns = c->lock_ns / parts + c->lock_ns % parts,
                         .disk_ns = c->disk_ns / parts + c->disk_ns % parts,
                         .sleep_ns = c->sleep_ns / parts + c->sleep_ns % parts};
}

/* --- groups: the requests that an interval is shared by (rule 5) -------------------------------------------------------- */

struct group {
    uint32_t exchange, count;
    uint64_t first_id, last_id;
    bool over; /* their time was over with the event in hand */
};

static struct group group_of_claim(const struct thread *t)
{
    return (struct group){.exchange = t->exchange, .count = t->count, .first_id = t->first_id, .last_id = t->last_id};
}

/* Divided equally, the remainder to the first. Members that were given up meanwhile leave their share to outside. */
static void divide(struct activity *a, const struct group *g, const struct cost *c)
{
    struct cost share = cost_share(c, g->count), part = cost_first_share(c, g->count);
    uint32_t index = g->exchange, n;
    for (n = 0; n < g->count && index; n++) {
        struct exchange *e = spans_at(a->spans, index);
        if (e->span.id < g->first_id || e->span.id > g->last_id)
            break;
        cost_add(&e->span.cost, &part);
        part = share;
        e->span.inferred |= INFERRED_COST;
        if (e->span.shared < g->count)
            e->span.shared = (uint16_t)(g->count < UINT16_MAX ? g->count : UINT16_MAX);
        index = e->next;
    }
    for (; n < g->count; n++) {
        cost_add(&a->outside, &part);
        part = share;
    }
}

static void charge(struct activity *a, const struct group *g, const struct cost *c)
{
    if (g->count > 1) {
        divide(a, g, c);
        return;
    }
    struct exchange *e = spans_at(a->spans, g->exchange);
    cost_add(e->span.id == g->first_id ? &e->span.cost : &a->outside, c);
}

/* --- samples: they go where the interval's cost goes -------------------------------------------------------------------- */

void activity_lists(struct activity *a, const struct sample_lists *lists)
{
    a->lists = *lists;
}

static void samples_belong(struct activity *a, const struct group *g, uint32_t *list)
{
    if (!*list)
        return;
    struct exchange *e = spans_at(a->spans, g->exchange);
    a->lists.belong(a->lists.to, *list, e->span.id == g->first_id ? e : NULL, g->count > 1);
    *list = 0;
}

static void samples_outside(struct activity *a, uint32_t *list)
{
    if (*list)
        a->lists.belong(a->lists.to, *list, NULL, false);
    *list = 0;
}

static void samples_keep(struct activity *a, struct thread *t)
{
    if (t->samples)
        t->samples_kept = t->samples_kept ? a->lists.join(a->lists.to, t->samples, t->samples_kept) : t->samples;
    t->samples = 0;
}

/* The requests whose the next interval is, as the event in hand leaves them (rules 1, 5). */
static bool group_of(const struct spans *s, const struct dialogue *d, struct group *g)
{
    uint32_t index = d->pending;
    if (!index && d->last && !(spans_at(s, d->last)->state & TIME_OVER))
        index = d->last; /* answered before it was read to its end */
    if (index && d->over_count && !(spans_at(s, index)->state & HEAD_SEEN))
        index = 0; /* of the next one only a piece is here */
    g->over = !index;
    if (!index) {
        if (!d->over_count)
            return false;
        index = d->over_first;
    }
    struct exchange *e = spans_at(s, index);
    g->exchange = index;
    g->first_id = g->last_id = e->span.id;
    g->count = 1;
    for (index = e->next; index; index = e->next) {
        e = spans_at(s, index);
        if (g->over ? e->span.id > d->over_last_id : !(e->state & HEAD_SEEN))
            break;
        g->last_id = e->span.id;
        g->count++;
    }
    return true;
}

/* --- claims -------------------------------------------------------------------------------------------------------------- */

static void release(struct activity *a, struct thread *t)
{
    uint32_t index = t->exchange;
    for (uint32_t n = 0; n < t->count && index; n++) {
        struct exchange *e = spans_at(a->spans, index);
        if (e->span.id < t->first_id || e->span.id > t->last_id)
            break;
        index = e->next;
        span_unclaim(a->spans, e);
    }
    t->count = 0;
    t->claim = CLAIM_NONE;
    t->dialogue = NULL;
}

static void hold(const struct activity *a, const struct group *g)
{
    uint32_t index = g->exchange;
    for (uint32_t n = 0; n < g->count; n++) {
        struct exchange *e = spans_at(a->spans, index);
        e->claims++;
        index = e->next;
    }
}

static bool all_over(const struct activity *a, const struct thread *t)
{
    uint32_t index = t->exchange;
    for (uint32_t n = 0; n < t->count && index; n++) {
        const struct exchange *e = spans_at(a->spans, index);
        if (e->span.id < t->first_id || e->span.id > t->last_id)
            break;
        if (!(e->state & TIME_OVER))
            return false;
        index = e->next;
    }
    return true;
}

/* For whom the thread works from here on, for the parents of its client spans. */
static void serve(const struct activity *a, struct thread *t, const struct group *g)
{
    const struct exchange *e = spans_at(a->spans, g->exchange);
    t->serving = 0;
    if (g->count > 1)
        return;
    if (e->span.side == SIDE_CLIENT) {
        t->serving = e->span.parent;
        t->serving_exchange = e->parent;
    } else if (!g->over) {
        t->serving = e->span.id;
        t->serving_exchange = g->exchange;
    }
}

/* --- events -------------------------------------------------------------------------------------------------------------- */

static void end_claim(struct activity *a, struct thread *t, uint64_t time_ns)
{
    if (t->claim == CLAIM_SPANS) {
        t->kept_until = time_ns + FINAL_NS;
        if (all_over(a, t))
            t->claim = CLAIM_AFTER;
        else
            release(a, t);
    } else if (t->claim == CLAIM_OUTSIDE) {
        t->claim = CLAIM_NONE;
    }
}

static void drop_kept(struct activity *a, struct thread *t)
{
    cost_add(&a->outside, &t->kept);
    t->kept = (struct cost){0};
    samples_outside(a, &t->samples_kept);
}

void activity_wait(struct activity *a, struct thread *t, uint64_t time_ns)
{
    end_claim(a, t, time_ns);
    t->serving = 0;
    if (t->claim == CLAIM_NONE && time_ns > t->kept_until) {
        drop_kept(a, t);
        t->kept_until = time_ns;
    }
}

void activity_part(struct activity *a, struct thread *t, uint64_t time_ns)
{
    end_claim(a, t, time_ns);
}

void activity_expect(struct activity *a, struct thread *t, uint64_t time_ns)
{
    if (!t->kept_until)
        drop_kept(a, t); /* start-up; accept may be the first wait of all */
    end_claim(a, t, time_ns);
    t->kept_until = time_ns + FINAL_NS;
}

static void resume_deferred(struct thread *t)
{
    t->delta = t->deferred;
    t->deferred = (struct cost){0};
    t->deferring = false;
}

/* What it cost up to now since the last event that was charged. */
static void take_interval(struct thread *t, const struct totals *now)
{
    struct cost more = advance(&t->last, now);
    if (t->deferring) {
        resume_deferred(t);
        cost_add(&t->delta, &more);
    } else {
        t->delta = more;
    }
}

void activity_interval(struct activity *a, struct thread *t, const struct item *item)
{
    if (item->event->flags & EVENT_WAITED) {
        if (t->deferring) { /* a sample was the last event before that wait */
            resume_deferred(t);
            activity_stay(a, t);
        }
        activity_wait(a, t, item->time_ns); /* nothing more was counted before it, or TURN told of it */
    }
    take_interval(t, &item->total);
}

void activity_sample(struct activity *a, struct thread *t, uint32_t list)
{
    t->deferred = t->delta;
    t->deferring = true;
    t->delta = (struct cost){0};
    if (list)
        t->samples = t->samples ? a->lists.join(a->lists.to, list, t->samples) : list;
}

/* Frees go to the requests that are finished, the rest to `next` (rule 4). */
static void split(struct activity *a, const struct group *finished, struct cost *next, const struct cost *delta)
{
    if (delta->freed) {
        struct cost frees = {.freed = delta->freed};
        charge(a, finished, &frees);
    }
    struct cost rest = *delta;
    rest.freed = 0;
    cost_add(next, &rest);
}

/*
 * Charges the interval in hand to the claim, and returns what is for what the event touches: `any` request at all, a
 * `fresh` one.
 */
static struct cost settle_interval(struct activity *a, struct thread *t, bool any, bool fresh)
{
    struct cost next = t->kept;
    struct group old = group_of_claim(t);
    t->kept = (struct cost){0};
    switch ((enum claim)t->claim) {
    case CLAIM_NONE:
        cost_add(&next, &t->delta);
        samples_keep(a, t);
        break;
    case CLAIM_OUTSIDE:
        cost_add(&a->outside, &t->delta);
        samples_outside(a, &t->samples);
        break;
    case CLAIM_SPANS:
        if (t->over && any && fresh) {
            split(a, &old, &next, &t->delta);
            samples_keep(a, t);
        } else {
            charge(a, &old, &t->delta);
            samples_belong(a, &old, &t->samples);
        }
        break;
    case CLAIM_AFTER:
        cost_add(&next, &t->delta);
        samples_keep(a, t);
        if (any) {
            struct cost gap = next;
            next = (struct cost){0};
            split(a, &old, &next, &gap);
        }
        break;
    }
    return next;
}

void activity_touch(struct activity *a, struct thread *t, struct dialogue *d, bool fresh)
{
    struct group g;
    bool any = d && group_of(a->spans, d, &g);
    if (any && g.count == 1 && t->count == 1 && g.first_id == t->first_id && t->claim == CLAIM_SPANS && !t->over) {
        charge(a, &g, &t->delta); /* the same request goes on: by far the most frequent */
        samples_belong(a, &g, &t->samples);
        t->over = g.over;
        serve(a, t, &g);
        return;
    }
    struct cost next = settle_interval(a, t, any, fresh);
    if (any)
        hold(a, &g);
    release(a, t);
    if (!any) {
        cost_add(&a->outside, &next);
        samples_outside(a, &t->samples_kept);
        t->claim = CLAIM_OUTSIDE;
        return;
    }
    if (!cost_is_zero(&next))
        charge(a, &g, &next);
    samples_belong(a, &g, &t->samples_kept);
    t->claim = CLAIM_SPANS;
    t->over = g.over;
    t->exchange = g.exchange;
    t->count = g.count;
    t->first_id = g.first_id;
    t->last_id = g.last_id;
    t->dialogue = d;
    serve(a, t, &g);
}

void activity_stay(struct activity *a, struct thread *t)
{
    struct group old = group_of_claim(t);
    switch ((enum claim)t->claim) {
    case CLAIM_NONE:
    case CLAIM_AFTER:
        cost_add(&t->kept, &t->delta);
        samples_keep(a, t);
        break;
    case CLAIM_OUTSIDE:
        cost_add(&a->outside, &t->delta);
        samples_outside(a, &t->samples);
        break;
    case CLAIM_SPANS:
        charge(a, &old, &t->delta);
        samples_belong(a, &old, &t->samples);
        break;
    }
    t->delta = (struct cost){0};
}

void activity_undecided(struct activity *a, struct thread *t, uint64_t time_ns)
{
    activity_stay(a, t);
    end_claim(a, t, time_ns);
    t->kept_until = time_ns + FINAL_NS;
}

/* --- threads ------------------------------------------------------------------------------------------------------------- */

struct thread *activity_in_lane(struct activity *a, uint32_t lane)
{
    return lane < ITEM_LANES_MAX ? &a->thread[lane] : NULL;
}

struct thread *activity_find(struct activity *a, uint32_t lane, uint32_t number)
{
    struct thread *t = activity_in_lane(a, lane);
    return t && number && t->number == number ? t : NULL;
}

static struct thread *begin_thread(struct activity *a, struct thread *t, const struct item *item, struct image *image)
{
    if (t->number)
        activity_thread_end(a, t, NULL);
    memset(t, 0, sizeof *t);
    t->number = item->thread;
    t->lane = item->lane;
    t->tid = item->tid;
    t->image = image;
    if (item->lane >= a->lanes)
        a->lanes = item->lane + 1;
    if (image) {
        t->next = image->threads;
        if (t->next)
            a->thread[t->next - 1].previous = item->lane + 1;
        image->threads = item->lane + 1;
    }
    return t;
}

struct thread *activity_thread(struct activity *a, const struct item *item, struct image *image)
{
    struct thread *t = activity_in_lane(a, item->lane);
    if (!t || !item->thread)
        return NULL;
    return t->number == item->thread ? t : begin_thread(a, t, item, image);
}

void activity_total(struct activity *a, struct thread *t, const struct totals *now)
{
    struct group old = group_of_claim(t);
    take_interval(t, now);
    if (t->claim == CLAIM_SPANS && t->over) {
        split(a, &old, &t->kept, &t->delta);
        samples_keep(a, t);
        t->claim = CLAIM_AFTER;
        t->delta = (struct cost){0};
    } else {
        activity_stay(a, t);
    }
}

/* Sums wrap: what is taken away here comes back with the thread's own total. */
void activity_base(struct thread *t, const struct totals *base)
{
    struct cost c = cost_of(base);
    t->last = *base;
    if (t->image)
        cost_subtract(&t->image->charged, &c);
}

void activity_resume(struct image *image, const struct totals *charged)
{
    struct cost c = cost_of(charged);
    cost_add(&image->charged, &c);
    image->told = c;
}

void activity_thread_end(struct activity *a, struct thread *t, const struct totals *final)
{
    if (final || t->deferring) {
        take_interval(t, final ? final : &t->last);
        activity_stay(a, t);
    }
    cost_add(&a->outside, &t->kept);
    samples_outside(a, &t->samples_kept);
    release(a, t);
    if (t->image) {
        struct cost c = cost_of(&t->last);
        cost_add(&t->image->charged, &c);
        if (t->previous)
            a->thread[t->previous - 1].next = t->next;
        else
            t->image->threads = t->next;
        if (t->next)
            a->thread[t->next - 1].previous = t->previous;
    }
    t->ended = t->number;
    t->number = 0;
}

void activity_told(struct image *image, const struct totals *total)
{
    image->told = cost_of(total);
}

void activity_image_end(struct activity *a, struct image *image, const struct totals *final)
{
    while (image->threads)
        activity_thread_end(a, &a->thread[image->threads - 1], NULL);
    struct cost told = cost_of(final), unseen = cost_above(&told, &image->charged);
    cost_add(&a->outside, &unseen);
    cost_add(&image->charged, &unseen);
    image->told = told;
}

/* --- time ---------------------------------------------------------------------------------------------------------------- */

static bool is_final(const struct activity *a, const struct thread *t, uint64_t time_ns)
{
    const struct exchange *e = spans_at(a->spans, t->exchange);
    if (e->span.id != t->first_id)
        return true;
    return e->state & TIME_OVER && e->span.end_ns + FINAL_NS <= time_ns && all_over(a, t);
}

void activity_sweep(struct activity *a, uint64_t time_ns)
{
    for (uint32_t i = 0; i < a->lanes; i++) {
        struct thread *t = &a->thread[i];
        if (!t->number || t->claim < CLAIM_SPANS || !is_final(a, t, time_ns))
            continue;
        release(a, t);
        a->outside.freed += t->kept.freed; /* nothing came after it in time */
        t->kept.freed = 0;
    }
}

/* --- sums ---------------------------------------------------------------------------------------------------------------- */

struct cost activity_outside(const struct activity *a)
{
    struct cost sum = a->outside;
    cost_add(&sum, &spans_charged(a->spans)->uncounted);
    for (uint32_t i = 0; i < a->lanes; i++)
        if (a->thread[i].number) {
            cost_add(&sum, &a->thread[i].kept);
            cost_add(&sum, &a->thread[i].deferred);
        }
    for (uint32_t i = spans_oldest(a->spans); i; i = spans_at(a->spans, i)->newer)
        cost_add(&sum, &spans_at(a->spans, i)->span.cost);
    return sum;
}

struct cost activity_charged(const struct activity *a, const struct image *image)
{
    struct cost sum = image->charged;
    for (uint32_t i = image->threads; i; i = a->thread[i - 1].next) {
        struct cost c = cost_of(&a->thread[i - 1].last);
        cost_add(&sum, &c);
    }
    return sum;
}

uint32_t activity_lanes(const struct activity *a)
{
    return a->lanes;
}
