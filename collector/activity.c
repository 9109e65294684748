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

#include "collector/cost.h"
#include "collector/image.h"
#include "collector/wall.h"
#include "wire/arena.h"

#define FINAL_NS UINT64_C(1000000000) /* a finished span waits no longer for its costs */
#define DOUBT_NS UINT64_C(50000)      /* CPU that may be another's and is not marked */

struct activity {
    struct spans *spans;
    struct thread *thread; /* by lane */
    uint32_t lanes;        /* ever used */
    struct cost outside;
    uint64_t unseen_cpu_ns; /* of outside.cpu_ns: of images that ended, what no event showed */
    bool waits;             /* lock, disk and sleep are measured */
    struct sample_lists lists;
};

struct activity *activity_new(struct spans *spans, bool waits)
{
    struct activity *a = calloc(1, sizeof *a);
    if (!a)
        return NULL;
    a->spans = spans;
    a->waits = waits;
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

/*
 * Divided equally, the remainder to the first. Members that were given up meanwhile leave their share to outside. While
 * one is worked on the others wait for it, which is no wait of the thread: unknown.
 */
static void divide(struct activity *a, const struct group *g, const struct cost *c, const struct stretch *when)
{
    struct cost share = cost_share(c, g->count), part = cost_first_share(c, &share, g->count);
    struct stretch busy = *when;
    uint32_t index = g->exchange, n;
    busy.calm = busy.ready = busy.calls_out = false;
    for (n = 0; n < g->count && index; n++) {
        struct exchange *e = spans_at(a->spans, index);
        if (e->span.id < g->first_id || e->span.id > g->last_id)
            break;
        cost_add(&e->span.cost, &part);
        wall_charge(e, &busy, &part);
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

static inline void charge(struct activity *a, const struct group *g, const struct cost *c, const struct stretch *when)
{
    if (g->count > 1) {
        divide(a, g, c, when);
        return;
    }
    struct exchange *e = spans_at(a->spans, g->exchange);
    if (e->span.id != g->first_id) {
        cost_add(&a->outside, c);
        return;
    }
    cost_add(&e->span.cost, c);
    wall_charge(e, when, c);
}

/* --- waits: of whom it is not sure that they were a request's own --------------------------------------------------------- */

static inline bool has_waits(const struct cost *c)
{
    return (c->lock_ns | c->sleep_ns) != 0;
}

static void waits_outside(struct activity *a, struct cost *c)
{
    a->outside.lock_ns += c->lock_ns;
    a->outside.sleep_ns += c->sleep_ns;
    c->lock_ns = c->sleep_ns = 0;
}

/* The thread still works for its claim: it is not finished, and no other thread took it up. */
static bool goes_on(const struct activity *a, const struct thread *t)
{
    const struct exchange *e = spans_at(a->spans, t->exchange);
    return t->claim == CLAIM_SPANS && !t->over && e->span.id == t->first_id && e->lane == t->lane;
}

/* Is what the event touches the claim itself, a call of its own or the request whose call it was? */
static bool is_kin(const struct activity *a, const struct thread *t, const struct group *g, const struct dialogue *d)
{
    if (g->first_id <= t->last_id && g->last_id >= t->first_id)
        return true;
    if (t->count > 1 || g->count > 1)
        return t->dialogue == d;
    return spans_at(a->spans, g->exchange)->span.parent == t->first_id ||
           spans_at(a->spans, t->exchange)->span.parent == g->first_id;
}

/* --- samples: they go where the interval's cost goes -------------------------------------------------------------------- */

void activity_lists(struct activity *a, const struct sample_lists *lists)
{
    a->lists = *lists;
}

static inline void samples_belong(struct activity *a, const struct group *g, uint32_t *list)
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

/* What the event in hand tells of a measurement. */
static void note_measured(const struct activity *a, const struct thread *t, const struct group *g)
{
    uint32_t index = g->exchange;
    for (uint32_t n = 0; n < g->count; n++) {
        struct exchange *e = spans_at(a->spans, index);
        e->state |= t->measured;
        index = e->next;
    }
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

/* The one request that it works for has come as a whole: what the thread waits for is not its rest. */
static bool is_asked(const struct activity *a, const struct thread *t)
{
    const struct exchange *e = spans_at(a->spans, t->exchange);
    return !t->over && t->count == 1 && e->span.id == t->first_id && e->state & REQUEST_OVER;
}

/* --- events -------------------------------------------------------------------------------------------------------------- */

static void end_claim(struct activity *a, struct thread *t, uint64_t time_ns)
{
    if (t->claim == CLAIM_SPANS) {
        t->kept_until = time_ns + FINAL_NS;
        t->paused = is_asked(a, t) ? t->first_id : 0;
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
    t->kept_from_ns = 0;
    samples_outside(a, &t->samples_kept);
}

/* The interval in hand lies in a gap: its owner, if any, comes later (rule 4). */
static void keep(struct activity *a, struct thread *t)
{
    cost_add(&t->kept, &t->delta);
    if (!t->kept_from_ns)
        t->kept_from_ns = t->stretch.from_ns;
    samples_keep(a, t);
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

/*
 * A condition, semaphore or futex: a worker waits so for its next job, and a thread in the middle of its request for
 * an interpreter's lock. It is the latter when it has one whole request, unanswered, in a process whose threads never
 * took up each other's requests.
 */
static bool may_go_on(const struct activity *a, const struct thread *t)
{
    return goes_on(a, t) && is_asked(a, t) && t->image && !t->image->hands_over;
}

void activity_turn(struct activity *a, struct thread *t, const struct item *item)
{
    int32_t call = item->event->result;
    bool for_a_thread = call == CALL_CONDITION || call == CALL_SEMAPHORE || call == CALL_FUTEX;
    if (!for_a_thread || !may_go_on(a, t))
        activity_wait(a, t, item->time_ns);
}

/* The wait before this event was one of those: the time up to its end went to it and to work, not to a poll. */
static bool waited_for_a_thread(const struct thread *t, const struct item *item)
{
    uint64_t locked = cost_beyond(item->total.lock_ns, t->last.lock_ns);
    if (!locked)
        return false;
    uint64_t worked = cost_beyond(item->total.cpu_ns, t->last.cpu_ns);
    uint64_t until = cost_beyond(item->ready_ns, t->at_ns);
    return cost_beyond(until, locked) <= worked + locked / 8;
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
    struct cost more = cost_advance(&t->last, now);
    if (t->deferring) {
        resume_deferred(t);
        cost_add(&t->delta, &more);
    } else {
        t->delta = more;
    }
}

static inline void begin_stretch(const struct activity *a, struct thread *t, const struct item *item)
{
    bool known = item->cpu_known;
    if (!t->deferring) {
        t->stretch.from_ns = t->at_ns ? t->at_ns : item->time_ns;
        t->stretch.calm = a->waits && known && t->measured & CPU_SEEN;
        t->stretch.ready = true;
    }
    t->stretch.ready = t->stretch.ready && item->ready;
    t->stretch.to_ns = item->time_ns;
    t->stretch.entry_ns = item->entry_ns;
    t->stretch.calls_out = item->event->type == EVENT_CONNECT;
    t->measured = (known ? CPU_SEEN : CPU_MISSED) | (a->waits ? WAITS_SEEN : 0);
    if (item->time_ns > t->at_ns)
        t->at_ns = item->time_ns;
}

void activity_interval(struct activity *a, struct thread *t, const struct item *item)
{
    if (item->event->flags & EVENT_WAITED) {
        if (t->deferring) { /* a sample was the last event before that wait */
            resume_deferred(t);
            activity_stay(a, t);
        }
        if (!waited_for_a_thread(t, item) || !may_go_on(a, t))
            activity_wait(a, t, item->time_ns); /* nothing more was counted before it, or TURN told of it */
    }
    begin_stretch(a, t, item);
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
    static const struct stretch never;
    if (delta->freed) {
        struct cost frees = {.freed = delta->freed};
        charge(a, finished, &frees, &never);
    }
    struct cost rest = *delta;
    rest.freed = 0;
    cost_add(next, &rest);
}

/* The interval in hand to the requests that the thread worked for. */
static void charge_claim(struct activity *a, struct thread *t)
{
    struct group old = group_of_claim(t);
    charge(a, &old, &t->delta, &t->stretch);
    samples_belong(a, &old, &t->samples);
}

/* What an event touches, and what is its own of the time before it. */
struct touch {
    const struct dialogue *d;
    struct group group;
    bool any, fresh;
    struct cost next;
    struct stretch when; /* of `next` */
};

/*
 * The thread has a whole request, or has answered it, and answers another one that it read before: a loop that reads all there is and then
 * works on it (asyncio), or one that worked on the last and then sends what it owes (Redis). More than a little is marked.
 */
static void note_doubt(const struct activity *a, const struct thread *t, const struct touch *x)
{
    struct exchange *mine = spans_at(a->spans, t->exchange), *other = spans_at(a->spans, x->group.exchange);
    if (t->delta.cpu_ns < DOUBT_NS || !x->any || x->fresh || t->count > 1 || mine->span.id != t->first_id ||
        !(t->over || is_asked(a, t)) || is_kin(a, t, &x->group, x->d))
        return;
    if (mine->span.side != SIDE_SERVER || other->span.side != SIDE_SERVER || !(other->state & REQUEST_OVER))
        return;
    mine->span.inferred |= INFERRED_COST;
    other->span.inferred |= INFERRED_COST;
}

/* Charges the interval in hand to the claim; what is for what the event touches stands in `next`. */
static void settle_interval(struct activity *a, struct thread *t, struct touch *x)
{
    struct group old = group_of_claim(t);
    x->when = t->stretch;
    x->when.calm = false;
    x->when.from_ns = t->kept_from_ns ? t->kept_from_ns : t->stretch.from_ns;
    x->next = t->kept;
    t->kept = (struct cost){0};
    t->kept_from_ns = 0;
    switch ((enum claim)t->claim) {
    case CLAIM_NONE:
        cost_add(&x->next, &t->delta);
        samples_keep(a, t);
        break;
    case CLAIM_OUTSIDE:
        cost_add(&a->outside, &t->delta);
        samples_outside(a, &t->samples);
        break;
    case CLAIM_SPANS:
        if (t->over && x->any && x->fresh) {
            split(a, &old, &x->next, &t->delta);
            samples_keep(a, t);
        } else {
            if (has_waits(&t->delta) && !(goes_on(a, t) && (!x->any || is_kin(a, t, &x->group, x->d))))
                waits_outside(a, &t->delta);
            note_doubt(a, t, x);
            charge_claim(a, t);
        }
        break;
    case CLAIM_AFTER:
        cost_add(&x->next, &t->delta);
        samples_keep(a, t);
        if (x->any) {
            struct cost gap = x->next;
            x->next = (struct cost){0};
            split(a, &old, &x->next, &gap);
        }
        break;
    }
}

static void claim(const struct activity *a, struct thread *t, const struct group *g, struct dialogue *d)
{
    t->claim = CLAIM_SPANS;
    t->over = g->over;
    t->exchange = g->exchange;
    t->count = g->count;
    t->first_id = g->first_id;
    t->last_id = g->last_id;
    t->dialogue = d;
    t->paused = 0;
    serve(a, t, g);
}

/* A client's request whose answer is here: its thread goes on with the request that it was for. */
static bool return_to_caller(const struct activity *a, const struct group *g, struct group *caller)
{
    const struct exchange *e = spans_at(a->spans, g->exchange);
    if (!g->over || g->count > 1 || e->span.side != SIDE_CLIENT || !e->parent)
        return false;
    const struct exchange *p = spans_at(a->spans, e->parent);
    if (p->span.id != e->span.parent || p->state & TIME_OVER)
        return false;
    *caller = (struct group){.exchange = e->parent, .count = 1, .first_id = p->span.id, .last_id = p->span.id};
    return true;
}

/* The event in hand is the first write of a call whose caller is known: what comes before it is the caller's. */
static bool is_asked_by(const struct activity *a, const struct thread *t, const struct touch *x, struct group *caller)
{
    const struct exchange *e = spans_at(a->spans, x->group.exchange);
    if (x->group.count > 1 || e->span.side != SIDE_CLIENT || !e->parent || e->span.start_ns != t->stretch.entry_ns)
        return false;
    const struct exchange *p = spans_at(a->spans, e->parent);
    if (p->span.id != e->span.parent || p->state & TIME_OVER)
        return false;
    *caller = (struct group){.exchange = e->parent, .count = 1, .first_id = p->span.id, .last_id = p->span.id};
    return true;
}

/* From here on the thread works for these. */
static void take_over(struct activity *a, struct thread *t, const struct group *g, struct dialogue *d)
{
    struct group caller;
    bool returns = return_to_caller(a, g, &caller);
    hold(a, returns ? &caller : g);
    release(a, t);
    if (returns)
        claim(a, t, &caller, spans_at(a->spans, caller.exchange)->dialogue);
    else
        claim(a, t, g, d);
}

static void touch(struct activity *a, struct thread *t, struct touch *x, struct dialogue *d)
{
    uint64_t paused = t->paused;
    settle_interval(a, t, x);
    t->paused = 0;
    if (!x->any) {
        release(a, t);
        cost_add(&a->outside, &x->next);
        samples_outside(a, &t->samples_kept);
        t->claim = CLAIM_OUTSIDE;
        return;
    }
    bool resumed = paused && x->group.count == 1 && x->group.first_id == paused;
    if (has_waits(&x->next) && !resumed)
        waits_outside(a, &x->next); /* it idled, or waited for another request's sake */
    struct group whose = x->group;
    note_measured(a, t, &x->group);
    if (is_asked_by(a, t, x, &whose))
        note_measured(a, t, &whose);
    if (!cost_is_zero(&x->next))
        charge(a, &whose, &x->next, &x->when);
    samples_belong(a, &whose, &t->samples_kept);
    take_over(a, t, &x->group, d);
}

/* Neither before nor with this event it works for a request. */
static void stay_outside(struct activity *a, struct thread *t)
{
    cost_add(&a->outside, &t->delta);
    if (!cost_is_zero(&t->kept))
        drop_kept(a, t);
    samples_outside(a, &t->samples);
    t->kept_from_ns = 0;
    t->claim = CLAIM_OUTSIDE;
    t->paused = 0;
    t->dialogue = NULL;
}

void activity_touch(struct activity *a, struct thread *t, struct dialogue *d, bool fresh)
{
    struct touch x; /* `next` and `when` are touch's to fill */
    struct group *g = &x.group;
    x.any = d && group_of(a->spans, d, g);
    if (!x.any && t->claim <= CLAIM_OUTSIDE && !t->samples_kept) {
        stay_outside(a, t);
        return;
    }
    if (x.any && g->count == 1 && t->count == 1 && g->first_id == t->first_id && t->claim == CLAIM_SPANS && !t->over) {
        struct exchange *e = spans_at(a->spans, g->exchange);
        e->state |= t->measured;
        cost_add(&e->span.cost, &t->delta); /* the same request goes on: by far the most frequent */
        wall_charge(e, &t->stretch, &t->delta);
        samples_belong(a, g, &t->samples);
        if (g->over && d->side == SIDE_CLIENT) {
            take_over(a, t, g, d);
        } else {
            t->over = g->over;
            serve(a, t, g);
        }
        return;
    }
    x.d = d;
    x.fresh = fresh;
    touch(a, t, &x, d);
}

void activity_stay(struct activity *a, struct thread *t)
{
    switch ((enum claim)t->claim) {
    case CLAIM_NONE:
    case CLAIM_AFTER:
        keep(a, t);
        break;
    case CLAIM_OUTSIDE:
        cost_add(&a->outside, &t->delta);
        samples_outside(a, &t->samples);
        break;
    case CLAIM_SPANS:
        if (has_waits(&t->delta) && !goes_on(a, t))
            waits_outside(a, &t->delta);
        charge_claim(a, t);
        break;
    }
    t->delta = (struct cost){0};
}

void activity_hung_up(struct activity *a, struct thread *t, struct dialogue *d, uint64_t caller, uint64_t time_ns)
{
    struct group g, back;
    if (d->over_count && group_of(a->spans, d, &g) && return_to_caller(a, &g, &back)) {
        activity_touch(a, t, d, false); /* the end is the answer's end */
        return;
    }
    activity_stay(a, t);
    if (!caller || t->claim != CLAIM_SPANS || t->over || t->count > 1 || t->first_id != caller)
        end_claim(a, t, time_ns);
}

/* --- calls to what is not read --------------------------------------------------------------------------------------------- */

/* The request that a thread surely works for, 0: none. */
static uint32_t served(const struct activity *a, const struct thread *t)
{
    if (t->claim != CLAIM_SPANS || t->over || !t->serving)
        return 0;
    const struct exchange *e = spans_at(a->spans, t->serving_exchange);
    return e->span.id == t->serving && !(e->state & TIME_OVER) ? t->serving_exchange : 0;
}

/* The request for which bytes were written there last, while it lasts. */
static uint32_t caller(const struct activity *a, const struct outcall *c)
{
    const struct exchange *e = spans_at(a->spans, c->exchange);
    return c->id && !c->ambiguous && e->span.id == c->id && !(e->state & TIME_OVER) ? c->exchange : 0;
}

void activity_call_end(struct activity *a, struct outcall *c, uint64_t time_ns)
{
    if (c->open)
        span_call_end(a->spans, c->exchange, c->id, time_ns);
    c->open = false;
}

bool activity_call(struct activity *a, struct thread *t, struct outcall *c, enum way way, uint64_t time_ns)
{
    uint32_t from = way == OUT ? served(a, t) : 0, index = from ? from : caller(a, c);
    if (from && c->open && c->id != spans_at(a->spans, from)->span.id && caller(a, c))
        c->ambiguous = true; /* two requests at once: whose answer comes, nobody can tell */
    if (c->ambiguous)
        activity_call_end(a, c, time_ns);
    if (!index || c->ambiguous)
        return false;
    struct exchange *e = spans_at(a->spans, index);
    struct touch x = {.d = e->dialogue, .any = true};
    x.group = (struct group){.exchange = index, .count = 1, .first_id = e->span.id, .last_id = e->span.id};
    t->stretch.calls_out = way == IN;
    touch(a, t, &x, e->dialogue);
    if (way == IN) {
        activity_call_end(a, c, time_ns);
    } else if (!c->open || c->id != e->span.id) {
        activity_call_end(a, c, time_ns);
        c->id = e->span.id;
        c->exchange = index;
        c->open = true;
        span_call_begin(a->spans, index, time_ns);
    }
    return true;
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

/* No event ends it: when in it something happened is not known. */
static void end_stretch(struct thread *t)
{
    t->stretch = (struct stretch){.from_ns = t->at_ns, .to_ns = t->at_ns, .entry_ns = t->at_ns};
}

void activity_total(struct activity *a, struct thread *t, const struct totals *now)
{
    struct group old = group_of_claim(t);
    take_interval(t, now);
    end_stretch(t);
    if (t->claim == CLAIM_SPANS && t->over) {
        waits_outside(a, &t->delta);
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
        end_stretch(t);
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
    a->unseen_cpu_ns += unseen.cpu_ns;
    told.cpu_ns = image->charged.cpu_ns; /* /proc is asked once a second: events may have shown more */
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

uint64_t activity_unseen_cpu(const struct activity *a)
{
    return a->unseen_cpu_ns;
}

uint32_t activity_lanes(const struct activity *a)
{
    return a->lanes;
}
