/*
 * interval.c - adding spans up; closing intervals, merging those that wait.
 *
 * In:      rollup.c        Out: sketch.h, interval_rows.c
 * Owns:    intervals, tallies, totals, the pool of sketch pages (8 MiB).
 * Context: C
 * Failure: no memory for a total: its spans are told as uncounted; no sketch page: exact fields
 * only.
 */
#include "collector/interval_inside.h"

#include <stdlib.h>
#include <string.h>
#include "collector/sink/rows.h"

#define POOL_BYTES (8u << 20)
#define WAITING_MOST 4u
#define STATUS_MOST 600u /* distinct ones of an endpoint and interval; more count as the first */

/* ---- adding ---- */

static struct total *new_total(void)
{
    struct total *t = calloc(1, sizeof *t);
    if (!t)
        return NULL;
    sketch_init(&t->latency);
    sketch_init(&t->first);
    sketch_init(&t->heap);
    sketch_init(&t->cpu);
    return t;
}

static struct tally *new_tally(struct interval *in, struct endpoint *endpoint)
{
    struct tally *t = calloc(1, sizeof *t);
    if (!t)
        return NULL;
    t->endpoint = endpoint;
    t->next = in->tallies;
    in->tallies = t;
    return t;
}

static unsigned class_of(const struct span *s, bool error)
{
    if (!s->answered)
        return CLASS_NONE;
    if (s->status >= 100 && s->status < 600)
        return s->status / 100;
    return error ? CLASS_ERROR : CLASS_OK;
}

static void add_span(struct intervals *v, struct total *t, const struct span *s, bool error)
{
    t->count++;
    t->errors += error;
    t->unobserved += !s->answered;
    t->inferred += s->inferred != 0;
    t->shared += s->shared != 0;
    for (int way = IN; way <= OUT; way++) {
        t->bytes[way] += s->bytes[way];
        t->body[way] += s->body[way];
    }
    cost_add(&t->cost, &s->cost);
    t->cpu_count += s->cpu_known;
    t->stacks_count += s->retained != UINT64_MAX || s->samples;
    t->waits_count += s->waits_known;
    if (s->cpu_known)
        sketch_add(&t->cpu, v->pool, s->cost.cpu_ns);
    if (v->heap)
        sketch_add(&t->heap, v->pool, s->cost.allocated);
    /* an unanswered request has no time (its connection's end is not an answer) */
    if (!s->answered || !s->start_ns || s->end_ns < s->start_ns)
        return;
    wall_add(&t->wall, &s->wall);
    t->downstream_ns += s->downstream_ns;
    sketch_add(&t->latency, v->pool, s->end_ns - s->start_ns);
    if (s->first_byte_ns)
        sketch_add(&t->first, v->pool, s->first_byte_ns);
}

static void mark(struct interval *in, struct tally *t)
{
    if (t->changed)
        return;
    t->changed = true;
    t->next_changed = in->changed_tallies;
    in->changed_tallies = t;
}

/* The place of a status; the first one's when there is no memory for more. */
static struct status *status_of(struct tally *t, uint32_t status)
{
    if (t->last_status < t->statuses && t->status[t->last_status].status == status)
        return &t->status[t->last_status];
    for (uint16_t i = 0; i < t->statuses; i++)
        if (t->status[i].status == status)
            return &t->status[t->last_status = i];
    if (t->statuses == t->statuses_room && t->statuses < STATUS_MOST) {
        uint16_t room = t->statuses_room ? 2 * t->statuses_room : 4;
        struct status *more = realloc(t->status, room * sizeof *more);
        if (more) {
            t->status = more;
            t->statuses_room = room;
        }
    }
    if (t->statuses == t->statuses_room)
        return t->status;
    t->status[t->statuses] = (struct status){.status = status};
    return &t->status[t->last_status = t->statuses++];
}

static void count_status(struct tally *t, const struct span *s, bool error)
{
    bool has_one = s->status >= 100 && s->status < 600;
    if (!s->answered || (!has_one && !error))
        return;
    struct status *place = status_of(t, has_one ? s->status : 0);
    if (!place)
        return;
    place->count++;
    place->changed = true;
}

static struct tally *tally_of(struct intervals *v, struct endpoint *endpoint)
{
    if (!endpoint->open)
        endpoint->open = new_tally(v->open, endpoint);
    return endpoint->open;
}

static struct total *total_of(struct tally *t, unsigned class)
{
    if (t && !t->total[class])
        t->total[class] = new_total();
    return t ? t->total[class] : NULL;
}

void intervals_count(struct intervals *v, struct endpoint *endpoint, const struct span *s)
{
    bool error = endpoint_failed(endpoint, s);
    struct tally *t = tally_of(v, endpoint);
    struct total *total = total_of(t, class_of(s, error));
    if (!total) {
        v->open->uncounted++;
        v->open->changed = true;
        return;
    }
    add_span(v, total, s, error);
    total->changed = true;
    count_status(t, s, error);
    mark(v->open, t);
}

/* Of requests that ended before: their totals were counted then. */
void intervals_retained(struct intervals *v, struct endpoint *endpoint, unsigned class, uint64_t bytes,
                        uint64_t samples)
{
    struct tally *t = tally_of(v, endpoint);
    struct total *total = total_of(t, class);
    if (!total)
        return;
    total->stacks_count++;
    total->retained += bytes;
    total->retained_samples += samples;
    total->changed = true;
    mark(v->open, t);
}

unsigned intervals_class(const struct endpoint *endpoint, const struct span *s)
{
    return class_of(s, endpoint_failed(endpoint, s));
}

uint32_t intervals_open(const struct intervals *v)
{
    return v->open->number;
}

static bool is_same_flow(const struct interval *in, const struct flow *flow,
                         const struct stream_counts *stream)
{
    return !memcmp(&in->flow, flow, sizeof *flow) && !memcmp(&in->stream, stream, sizeof *stream);
}

void intervals_flow(struct intervals *v, const struct flow *flow,
                    const struct stream_counts *stream)
{
    struct interval *in = v->open;
    if (is_same_flow(in, flow, stream))
        return;
    in->flow = *flow;
    in->stream = *stream;
    in->changed = true;
}

void intervals_shed(struct intervals *v, uint64_t spans)
{
    v->open->shed += spans;
    v->open->changed |= spans > 0;
}

void intervals_start(struct intervals *v, uint64_t now_ns)
{
    if (!v->open->start_ns)
        v->open->start_ns = now_ns;
}

bool intervals_tight(const struct intervals *v)
{
    return sketch_pool_tight(v->pool) && !v->waiting;
}

/* ---- closing ---- */

static struct interval *new_interval(uint32_t number, uint64_t start_ns)
{
    struct interval *in = calloc(1, sizeof *in);
    if (!in)
        return NULL;
    in->number = number;
    in->start_ns = start_ns;
    return in;
}

static void free_total(struct intervals *v, struct total *t)
{
    if (!t)
        return;
    sketch_clear(&t->latency, v->pool);
    sketch_clear(&t->first, v->pool);
    sketch_clear(&t->heap, v->pool);
    sketch_clear(&t->cpu, v->pool);
    free(t);
}

static void free_tally(struct intervals *v, struct tally *t)
{
    for (unsigned class = 0; class < CLASSES; class ++)
        free_total(v, t->total[class]);
    free(t->status);
    free(t);
}

void interval_free(struct intervals *v, struct interval *in)
{
    for (struct tally *t = in->tallies, *next; t; t = next) {
        next = t->next;
        free_tally(v, t);
    }
    free(in);
}

static void merge_totals(struct intervals *v, struct total *into, const struct total *from)
{
    into->count += from->count;
    into->errors += from->errors;
    into->unobserved += from->unobserved;
    into->inferred += from->inferred;
    into->shared += from->shared;
    for (int way = IN; way <= OUT; way++) {
        into->bytes[way] += from->bytes[way];
        into->body[way] += from->body[way];
    }
    cost_add(&into->cost, &from->cost);
    wall_add(&into->wall, &from->wall);
    into->cpu_count += from->cpu_count;
    into->stacks_count += from->stacks_count;
    into->retained += from->retained;
    into->retained_samples += from->retained_samples;
    into->waits_count += from->waits_count;
    into->downstream_ns += from->downstream_ns;
    sketch_merge(&into->latency, v->pool, &from->latency);
    sketch_merge(&into->first, v->pool, &from->first);
    sketch_merge(&into->heap, v->pool, &from->heap);
    sketch_merge(&into->cpu, v->pool, &from->cpu);
}

static void merge_tally(struct intervals *v, struct tally *into, struct tally *from)
{
    for (unsigned class = 0; class < CLASSES; class ++) {
        if (!into->total[class]) {
            into->total[class] = from->total[class];
            from->total[class] = NULL;
        } else if (from->total[class]) {
            merge_totals(v, into->total[class], from->total[class]);
        }
    }
    for (uint16_t i = 0; i < from->statuses; i++) {
        struct status *place = status_of(into, from->status[i].status);
        if (!place)
            continue;
        place->count += from->status[i].count;
        place->changed = true;
    }
    free_tally(v, from);
}

/* Every field of both is a 64-bit counter. */
static void add_counters(void *into, const void *from, size_t bytes)
{
    uint64_t *a = into;
    const uint64_t *b = from;
    for (size_t i = 0; i < bytes / sizeof *a; i++)
        a[i] += b[i];
}
_Static_assert(sizeof(struct flow) % 8 == 0 && sizeof(struct stream_counts) % 8 == 0,
               "64-bit counters");

static void merge_intervals(struct intervals *v, struct interval *into, struct interval *from)
{
    for (struct tally *t = into->tallies; t; t = t->next)
        t->endpoint->waiting = t;
    for (struct tally *t = from->tallies, *next; t; t = next) {
        next = t->next;
        if (t->endpoint->waiting) {
            merge_tally(v, t->endpoint->waiting, t);
        } else {
            t->next = into->tallies;
            into->tallies = t;
            t->changed = false;
            mark(into, t);
        }
    }
    for (struct tally *t = into->tallies; t; t = t->next)
        t->endpoint->waiting = NULL;
    from->tallies = NULL;
    add_counters(&into->flow, &from->flow, sizeof from->flow);
    add_counters(&into->stream, &from->stream, sizeof from->stream);
    into->shed += from->shed;
    into->uncounted += from->uncounted;
    into->end_ns = from->end_ns;
    interval_free(v, from);
}

static void wait_in_line(struct intervals *v, struct interval *in)
{
    struct interval **at = &v->waiting, *last = NULL;
    for (; *at; at = &(*at)->next)
        last = *at;
    if (v->waiting_count >= WAITING_MOST && last && !last->sent && !in->sent) {
        merge_intervals(v, last, in);
        return;
    }
    *at = in;
    v->waiting_count++;
}

bool intervals_close(struct intervals *v, uint64_t end_ns)
{
    struct interval *in = v->open, *next;
    if (!in->tallies && !in->changed && !in->sent) {
        in->start_ns = end_ns;
        return false;
    }
    next = new_interval(v->next_number, end_ns);
    if (!next)
        return false; /* it goes on, until there is memory */
    v->next_number++;
    v->open = next;
    in->end_ns = end_ns;
    in->closed = in->changed = true;
    for (struct tally *t = in->tallies; t; t = t->next) {
        t->endpoint->open = NULL;
        for (unsigned class = 0; class < CLASSES; class ++)
            if (t->total[class])
                t->total[class]->changed = true;
        mark(in, t);
    }
    wait_in_line(v, in);
    return true;
}

/* ---- life ---- */

struct intervals *intervals_new(struct endpoints *endpoints, bool heap)
{
    struct intervals *v = calloc(1, sizeof *v);
    if (!v)
        return NULL;
    v->endpoints = endpoints;
    v->heap = heap;
    v->next_number = 2;
    v->pool = sketch_pool_new(POOL_BYTES);
    v->open = new_interval(1, 0);
    if (!v->pool || !v->open) {
        intervals_free(v);
        return NULL;
    }
    return v;
}

void intervals_number_from(struct intervals *v, uint32_t first)
{
    v->open->number = first;
    v->next_number = first + 1;
}

void intervals_free(struct intervals *v)
{
    if (!v)
        return;
    for (struct interval *in = v->waiting, *next; in; in = next) {
        next = in->next;
        interval_free(v, in);
    }
    if (v->open)
        interval_free(v, v->open);
    sketch_pool_free(v->pool);
    free(v);
}
