/*
 * interval_rows.c - sums of intervals into rows: what changed since it was last told, closed intervals first.
 *
 * In:      rollup.c (intervals_push)        Out: sink/queue.h
 * Owns:    nothing; interval.c does.
 * Context: C
 * Failure: a full queue: what is not told yet keeps its mark and comes with the next call.
 */
#include <string.h>

#include "collector/interval_inside.h"
#include "collector/sink/queue.h"

static bool push_interval(struct interval *in, struct queue *q)
{
    if (!in->changed)
        return true;
    struct row *row = queue_reserve(q, ROW_INTERVAL, sizeof *row + sizeof(struct row_interval));
    if (!row)
        return false;
    struct row_interval *r = (void *)(row + 1);
    *r = (struct row_interval){
        .interval = in->number,
        .closed = in->closed,
        .start_ns = in->start_ns,
        .end_ns = in->end_ns,
        .flow = in->flow,
        .written = in->stream.written,
        .drained = in->stream.drained,
        .late = in->stream.late,
        .shed_spans = in->shed,
        .uncounted_spans = in->uncounted,
    };
    memcpy(r->lost, in->stream.lost, sizeof r->lost);
    queue_publish(q, row);
    in->changed = false;
    return in->sent = true;
}

static const double told[] = {0.5, 0.9, 0.95, 0.99, 0.999};
#define TOLD (sizeof told / sizeof *told)

static void fill_latency(struct row_total *r, const struct sketch *s)
{
    uint64_t at[TOLD];
    sketch_quantiles(s, told, at, TOLD);
    r->latency_sum = s->sum;
    r->latency_min = s->count ? s->min : 0;
    r->latency_max = s->max;
    r->latency_p50 = at[0];
    r->latency_p90 = at[1];
    r->latency_p95 = at[2];
    r->latency_p99 = at[3];
    r->latency_p999 = at[4];
}

static void fill_first(struct row_total *r, const struct sketch *s)
{
    uint64_t at[TOLD];
    sketch_quantiles(s, told, at, TOLD);
    r->first_count = s->count;
    r->first_sum = s->sum;
    r->first_min = s->count ? s->min : 0;
    r->first_max = s->max;
    r->first_p50 = at[0];
    r->first_p90 = at[1];
    r->first_p95 = at[2];
    r->first_p99 = at[3];
    r->first_p999 = at[4];
}

/* Three of the largest fit in a row; should there ever be a fourth that does not, it is left out. */
static uint16_t put_sketch(const struct sketch *s, uint8_t **tail, const uint8_t *end)
{
    size_t room = (size_t)(end - *tail);
    size_t len = sketch_encode(s, *tail, room < SKETCH_ENCODED_MAX ? room : SKETCH_ENCODED_MAX);
    *tail += len;
    return (uint16_t)len;
}
_Static_assert(sizeof(struct row) + sizeof(struct row_total) + 3 * SKETCH_ENCODED_MAX <=
                   ROW_MAX_BYTES,
               "three sketches fit in a row");

static bool push_total(const struct interval *in, const struct tally *t, unsigned class,
                       struct queue *q)
{
    const struct total *from = t->total[class];
    struct row *row = queue_reserve(q, ROW_TOTAL, ROW_MAX_BYTES);
    if (!row)
        return false;
    struct row_total *r = (void *)(row + 1);
    *r = (struct row_total){
        .interval = in->number,
        .endpoint = t->endpoint->number,
        .class = (uint8_t) class,
        .closed = in->closed,
        .start_ns = in->start_ns,
        .end_ns = in->end_ns,
        .count = from->count,
        .errors = from->errors,
        .unobserved = from->unobserved,
        .inferred = from->inferred,
        .shared = from->shared,
        .bytes_in = from->bytes[IN],
        .bytes_out = from->bytes[OUT],
        .body_in = from->body[IN],
        .body_out = from->body[OUT],
        .cost = from->cost,
        .wall = from->wall,
        .cpu_count = from->cpu_count,
        .waits_count = from->waits_count,
        .downstream_ns = from->downstream_ns,
        .retained = from->stacks_count ? from->retained : UINT64_MAX,
        .retained_samples = from->retained_samples,
    };
    fill_latency(r, &from->latency);
    fill_first(r, &from->first);
    uint8_t *tail = (uint8_t *)(r + 1), *end = (uint8_t *)row + ROW_MAX_BYTES;
    r->latency_len = put_sketch(&from->latency, &tail, end);
    r->first_len = put_sketch(&from->first, &tail, end);
    r->heap_len = put_sketch(&from->heap, &tail, end);
    r->cpu_len = put_sketch(&from->cpu, &tail, end);
    row->bytes = (uint16_t)(tail - (uint8_t *)row);
    queue_publish(q, row);
    return true;
}

static bool push_status(const struct interval *in, const struct tally *t, const struct status *s,
                        struct queue *q)
{
    struct row *row = queue_reserve(q, ROW_STATUS, sizeof *row + sizeof(struct row_status));
    if (!row)
        return false;
    *(struct row_status *)(void *)(row + 1) = (struct row_status){.interval = in->number,
                                                                  .endpoint = t->endpoint->number,
                                                                  .status = s->status,
                                                                  .count = s->count};
    queue_publish(q, row);
    return true;
}

static bool push_tally(struct intervals *v, struct interval *in, struct tally *t, struct queue *q)
{
    if (!endpoints_tell(v->endpoints, t->endpoint, q))
        return false;
    for (unsigned class = 0; class < CLASSES; class ++) {
        if (!t->total[class] || !t->total[class]->changed)
            continue;
        if (!push_total(in, t, class, q))
            return false;
        t->total[class]->changed = false;
        in->sent = true;
    }
    for (uint16_t i = 0; i < t->statuses; i++) {
        if (!t->status[i].changed)
            continue;
        if (!push_status(in, t, &t->status[i], q))
            return false;
        t->status[i].changed = false;
        in->sent = true;
    }
    return true;
}

static bool push_changes(struct intervals *v, struct interval *in, struct queue *q)
{
    in->changed |= in->changed_tallies != NULL;
    if (!push_interval(in, q))
        return false;
    while (in->changed_tallies) {
        struct tally *t = in->changed_tallies;
        if (!push_tally(v, in, t, q))
            return false;
        in->changed_tallies = t->next_changed;
        t->changed = false;
    }
    return true;
}

bool intervals_push(struct intervals *v, struct queue *q, uint64_t now_ns)
{
    while (v->waiting) {
        struct interval *in = v->waiting;
        if (!push_changes(v, in, q))
            return false;
        v->waiting = in->next;
        v->waiting_count--;
        interval_free(v, in);
    }
    v->open->end_ns = now_ns;
    return push_changes(v, v->open, q);
}
