/*
 * rollup.c - where a finished span goes: into its endpoint's totals, perhaps into the sample; and
 * the rows of each second.
 *
 * In:      pipeline.c        Out: endpoint.h, interval.h, sample.h, process.h, sink/queue.h
 * Owns:    those four, lists of what is in flight and unread.
 * Context: C
 * Failure: a full queue: spans are shed and counted, all else comes with the next tick.
 *
 * Order within a tick: closed intervals, what changed of the open one, processes, lists, spans,
 * COMMIT. So a reader of one transaction sees sums that agree, and when room is short totals come
 * before samples.
 */
#include "collector/rollup.h"

#include <stdlib.h>
#include <string.h>
#include "collector/address.h"
#include "collector/endpoint.h"
#include "collector/interval.h"
#include "collector/process.h"
#include "collector/route.h"
#include "collector/sample.h"
#include "collector/sink/queue.h"
#include "collector/sites.h"

#define SECOND UINT64_C(1000000000)
#define PATIENCE_MS 5000 /* at the end, when there is no next tick */
#define FIRST_NS (30 * SECOND) /* so long the intervals are short */
#define IN_FLIGHT_FEW 64 /* lists up to this length are told each second, */
#define IN_FLIGHT_TICKS                                                                            \
    10 /* longer ones, whose rows cost more than they tell, only now and then                      \
        */

struct flying {
    struct row_in_flight row;
    char name[ROUTE_NAME_MAX];
};

struct unread_row {
    struct row_unread row;
    bool changed;
    char address[ADDRESS_TEXT];
};

struct rollup {
    struct queue *queue;
    struct processes *processes;
    struct endpoints *endpoints;
    struct intervals *intervals;
    struct sample *sample, *stored; /* stored: the store's own, when it is to hold less than the outputs get */
    struct sites *sites;
    uint64_t requests;
    uint64_t interval_ns, first_ns, short_until_ns, boundary_ns, now_ns; /* first_ns: length of the run's first ones */
    struct flow flow, flow_base; /* as last told; when the open interval began */
    struct stream_counts stream, stream_told, stream_base;
    uint64_t shed_in_a_row, shed; /* spans: since the last one that was sent; since the last tick */
    struct flying *flying;
    size_t flying_count, flying_room;
    bool flying_changed, flying_told; /* told: the sink has a list that is not empty */
    unsigned ticks;
    struct unread *unread_seen;
    size_t unread_seen_count;
    struct unread_row *unread;
    size_t unread_count, unread_room;
};

/* ---- spans ---- */

static void push_span(struct rollup *r, struct row_span *span, const char *tail, size_t tail_len)
{
    struct row *row = NULL;
    if (endpoints_tell(r->endpoints, endpoints_by_number(r->endpoints, span->endpoint), r->queue))
        row = queue_reserve(r->queue, ROW_SPAN, sizeof *row + sizeof *span + tail_len);
    bool counted = span->meant_for != FOR_STORE; /* its table has no lost_before */
    if (!row) {
        r->shed_in_a_row += counted;
        r->shed++;
        return;
    }
    span->lost_before = r->shed_in_a_row;
    span->sequence_in_run = row->sequence;
    if (counted)
        r->shed_in_a_row = 0;
    memcpy(row + 1, span, sizeof *span);
    memcpy((char *)(row + 1) + sizeof *span, tail, tail_len);
    queue_publish(r->queue, row);
}

/* Three sample_emit_fns. */
static void emit(void *to, struct row_span *span, const char *tail, size_t tail_len)
{
    push_span(to, span, tail, tail_len);
}

static void emit_to_outputs(void *to, struct row_span *span, const char *tail, size_t tail_len)
{
    span->meant_for = FOR_OUTPUTS;
    push_span(to, span, tail, tail_len);
}

static void emit_to_store(void *to, struct row_span *span, const char *tail, size_t tail_len)
{
    span->meant_for = FOR_STORE;
    push_span(to, span, tail, tail_len);
}

static void offer(struct rollup *r, const struct span *s, const struct endpoint *endpoint, int32_t pid)
{
    sample_offer(r->sample, s, endpoint, pid);
    if (r->stored)
        sample_offer(r->stored, s, endpoint, pid);
}

static void second_is_over(struct rollup *r)
{
    sample_second(r->sample);
    if (r->stored)
        sample_second(r->stored);
}

static void interval_is_over(struct rollup *r)
{
    sample_interval(r->sample);
    if (r->stored)
        sample_interval(r->stored);
}

/* Short intervals at first: a run of seconds has a history too (does memory grow?). */
static uint64_t next_boundary(const struct rollup *r, uint64_t time_ns)
{
    uint64_t length = time_ns < r->short_until_ns ? r->first_ns : r->interval_ns;
    return (time_ns / length + 1) * length;
}

static void start(struct rollup *r, uint64_t time_ns)
{
    if (r->boundary_ns || !time_ns)
        return;
    intervals_start(r->intervals, time_ns);
    r->short_until_ns = time_ns + FIRST_NS;
    r->boundary_ns = next_boundary(r, time_ns);
}

/* Flow is known only at ticks: what moved since the last one counts for the next interval. */
static void close_interval(struct rollup *r, uint64_t time_ns)
{
    uint32_t number = intervals_open(r->intervals);
    if (intervals_close(r->intervals, time_ns))
        sites_push_live(r->sites, r->endpoints, r->queue, number, r->requests);
    r->flow_base = r->flow;
    r->stream_base = r->stream_told;
    r->boundary_ns = next_boundary(r, time_ns);
}

void rollup_span(void *rollup, const struct span *s)
{
    struct rollup *r = rollup;
    start(r, s->start_ns);
    struct process_view process = processes_see(r->processes, s->process);
    struct endpoint *endpoint = endpoints_find(r->endpoints, s, process.service);
    intervals_count(r->intervals, endpoint, s);
    endpoint->requests++;
    r->requests++;
    if (!s->samples)
        offer(r, s, endpoint, process.pid);
    if (s->end_ns > r->now_ns)
        r->now_ns = s->end_ns;
    if (__builtin_expect(intervals_tight(r->intervals), 0)) {
        close_interval(r, r->now_ns);
        intervals_push(r->intervals, r->queue, r->now_ns);
        interval_is_over(r);
    }
}

struct rollup_place rollup_place(struct rollup *r, const struct span *s)
{
    struct endpoint *e = endpoints_find(r->endpoints, s, processes_see(r->processes, s->process).service);
    return (struct rollup_place){e->number, (uint8_t)intervals_class(e, s)};
}

void rollup_retained(struct rollup *r, uint32_t endpoint, unsigned class, uint64_t bytes, uint64_t samples)
{
    intervals_retained(r->intervals, endpoints_by_number(r->endpoints, endpoint), class, bytes, samples);
}

void rollup_offer(struct rollup *r, const struct span *s)
{
    struct process_view process = processes_see(r->processes, s->process);
    offer(r, s, endpoints_find(r->endpoints, s, process.service), process.pid);
}

struct sites *rollup_sites(struct rollup *r)
{
    return r->sites;
}

/* ---- facts ---- */

static struct stream_counts stream_of(const struct fact *f)
{
    struct stream_counts c = {.written = f->written, .drained = f->drained, .late = f->late};
    memcpy(c.lost, f->lost, sizeof c.lost);
    return c;
}

void rollup_fact(struct rollup *r, const struct item *item)
{
    start(r, item->time_ns);
    if (item->fact->kind == FACT_STREAM)
        r->stream = stream_of(item->fact);
    else
        processes_fact(r->processes, item);
}

/* ---- lists ---- */

static bool make_flying_room(struct rollup *r, size_t count)
{
    if (count <= r->flying_room)
        return true;
    struct flying *more = realloc(r->flying, count * sizeof *more);
    if (!more)
        return false;
    r->flying = more;
    r->flying_room = count;
    return true;
}

void rollup_in_flight(struct rollup *r, const struct in_flight *list, size_t count)
{
    if (!make_flying_room(r, count))
        count = r->flying_room;
    for (size_t i = 0; i < count; i++) {
        struct flying *f = &r->flying[i];
        f->row = (struct row_in_flight){
            .span = list[i].span,
            .pid = list[i].pid,
            .tid = list[i].tid,
            .start_ns = list[i].start_ns,
            .age_ns = list[i].age_ns,
            .in_call = list[i].in_call,
            .name_len = (uint16_t)endpoints_name(r->endpoints, list[i].of, f->name),
        };
    }
    r->flying_count = count;
    r->flying_changed = count || r->flying_told;
}

static bool push_flying(struct rollup *r)
{
    struct row *row = queue_reserve(r->queue, ROW_IN_FLIGHT_CLEAR, sizeof *row);
    if (!row)
        return false;
    queue_publish(r->queue, row);
    for (size_t i = 0; i < r->flying_count; i++) {
        const struct flying *f = &r->flying[i];
        row = queue_reserve(r->queue, ROW_IN_FLIGHT, sizeof *row + sizeof f->row + f->row.name_len);
        if (!row)
            return false;
        memcpy(row + 1, &f->row, sizeof f->row);
        memcpy((char *)(row + 1) + sizeof f->row, f->name, f->row.name_len);
        queue_publish(r->queue, row);
    }
    r->flying_changed = false;
    r->flying_told = r->flying_count > 0;
    return true;
}

static void push_in_flight(struct rollup *r, bool last)
{
    bool few = r->flying_count <= IN_FLIGHT_FEW;
    if (r->flying_changed && (few || last || r->ticks % IN_FLIGHT_TICKS == 0))
        push_flying(r);
}

static struct unread_row *unread_row(struct rollup *r, const char *address, size_t len,
                                     uint32_t reason)
{
    for (size_t i = 0; i < r->unread_count; i++)
        if (r->unread[i].row.reason == reason && r->unread[i].row.address_len == len &&
            !memcmp(r->unread[i].address, address, len))
            return &r->unread[i];
    if (r->unread_count == r->unread_room) {
        size_t room = r->unread_room ? 2 * r->unread_room : 16;
        struct unread_row *more = realloc(r->unread, room * sizeof *more);
        if (!more)
            return NULL;
        r->unread = more;
        r->unread_room = room;
    }
    struct unread_row *u = &r->unread[r->unread_count++];
    *u = (struct unread_row){.row = {.reason = reason, .address_len = (uint16_t)len}};
    memcpy(u->address, address, len);
    return u;
}

static bool is_same_unread(const struct rollup *r, const struct unread *list, size_t count)
{
    return count == r->unread_seen_count &&
           (!count || !memcmp(r->unread_seen, list, count * sizeof *list));
}

/* Several entries may have one text: they are told as one row. */
void rollup_unread(struct rollup *r, const struct unread *list, size_t count)
{
    if (is_same_unread(r, list, count))
        return;
    struct unread *seen = realloc(r->unread_seen, count * sizeof *seen + 1);
    if (!seen)
        return;
    r->unread_seen = seen;
    r->unread_seen_count = count;
    if (count)
        memcpy(seen, list, count * sizeof *seen);
    for (size_t i = 0; i < r->unread_count; i++) {
        struct row_unread *row = &r->unread[i].row;
        row->connections = row->bytes_in = row->bytes_out = 0;
        r->unread[i].changed = true;
    }
    for (size_t i = 0; i < count; i++) {
        char text[ADDRESS_TEXT];
        size_t len = address_text(list[i].address, list[i].address_length, text);
        struct unread_row *u = unread_row(r, text, len, list[i].reason);
        if (!u)
            continue;
        u->row.connections += list[i].connections;
        u->row.bytes_in += list[i].bytes_in;
        u->row.bytes_out += list[i].bytes_out;
        u->changed = true;
    }
}

static bool push_unread(struct rollup *r)
{
    for (size_t i = 0; i < r->unread_count; i++) {
        struct unread_row *u = &r->unread[i];
        if (!u->changed)
            continue;
        struct row *row =
            queue_reserve(r->queue, ROW_UNREAD, sizeof *row + sizeof u->row + u->row.address_len);
        if (!row)
            return false;
        memcpy(row + 1, &u->row, sizeof u->row);
        memcpy((char *)(row + 1) + sizeof u->row, u->address, u->row.address_len);
        queue_publish(r->queue, row);
        u->changed = false;
    }
    return true;
}

/* ---- ticks ---- */

/* All fields are 64-bit counters; some may shrink, so differences are of two's complement. */
static void subtract(void *of, const void *base, size_t bytes)
{
    uint64_t *a = of;
    const uint64_t *b = base;
    for (size_t i = 0; i < bytes / sizeof *a; i++)
        a[i] -= b[i];
}

static void take_flow(struct rollup *r, const struct flow *flow)
{
    struct flow moved = *flow;
    struct stream_counts counted = r->stream;
    subtract(&moved, &r->flow_base, sizeof moved);
    subtract(&counted, &r->stream_base, sizeof counted);
    intervals_flow(r->intervals, &moved, &counted);
    intervals_shed(r->intervals, r->shed);
    r->flow = *flow;
    r->stream_told = r->stream;
    r->shed = 0;
}

static void push_commit(struct rollup *r, uint64_t time_ns)
{
    struct row *row = queue_reserve(r->queue, ROW_COMMIT, sizeof *row + sizeof(struct row_commit));
    if (!row)
        return;
    *(struct row_commit *)(void *)(row + 1) = (struct row_commit){time_ns};
    queue_publish(r->queue, row);
}

void rollup_tick(struct rollup *r, uint64_t time_ns, const struct flow *flow, bool last)
{
    start(r, time_ns);
    if (time_ns > r->now_ns)
        r->now_ns = time_ns;
    bool due = last || r->now_ns >= r->boundary_ns;
    if (last)
        queue_patience(r->queue, PATIENCE_MS);
    take_flow(r, flow);
    if (due)
        close_interval(r, r->now_ns);
    endpoints_push_merges(r->endpoints, r->queue);
    intervals_push(r->intervals, r->queue, r->now_ns);
    processes_push(r->processes, r->queue);
    sites_push(r->sites, r->endpoints, r->queue, last);
    push_in_flight(r, last);
    push_unread(r);
    second_is_over(r);
    if (due)
        interval_is_over(r);
    push_commit(r, r->now_ns);
    r->ticks++;
}

/* ---- life ---- */

void rollup_resume(struct rollup *r, const struct rollup_resume *before)
{
    struct stream_counts told = {
        .written = before->written, .drained = before->drained, .late = before->late};
    memcpy(told.lost, before->lost, sizeof told.lost);
    r->stream = r->stream_told = r->stream_base = told;
    intervals_number_from(r->intervals, before->last_interval + 1);
    endpoints_number_from(r->endpoints, before->last_endpoint + 1);
    sites_number_from(r->sites, before->last_stack + 1);
}

/* Two, when outputs get more than the store shall hold: each has its own exact rates. */
static bool make_samples(struct rollup *r, const struct options *o)
{
    bool two = o->store_spans_per_second < o->spans_per_second;
    struct options stored = *o;
    stored.spans_per_second = o->store_spans_per_second;
    r->sample = sample_new(o, two ? emit_to_outputs : emit, r);
    r->stored = two ? sample_new(&stored, emit_to_store, r) : NULL;
    return r->sample && (r->stored || !two);
}

struct rollup *rollup_new(const struct options *o, struct queue *queue,
                          const char *service_of_command)
{
    struct rollup *r = calloc(1, sizeof *r);
    if (!r)
        return NULL;
    r->queue = queue;
    r->interval_ns = o->interval_s * SECOND;
    r->first_ns = o->first_interval_s < o->interval_s ? o->first_interval_s * SECOND : r->interval_ns;
    r->processes = processes_new(service_of_command);
    r->endpoints = r->processes ? endpoints_new(o, r->processes) : NULL;
    r->intervals = r->endpoints ? intervals_new(r->endpoints, o->heap) : NULL;
    r->sites = sites_new();
    if (r->intervals && r->sites && make_samples(r, o))
        return r;
    rollup_free(r);
    return NULL;
}

void rollup_free(struct rollup *r)
{
    if (!r)
        return;
    sites_free(r->sites);
    sample_free(r->stored);
    sample_free(r->sample);
    intervals_free(r->intervals);
    endpoints_free(r->endpoints);
    processes_free(r->processes);
    free(r->flying);
    free(r->unread_seen);
    free(r->unread);
    free(r);
}
