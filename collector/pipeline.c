/*
 * pipeline.c - connection → protocol → span → activity → rollup, wired together.
 *
 * Context: C
 */
#include "collector/pipeline.h"

#include <stdlib.h>
#include <string.h>

#include "collector/activity.h"
#include "collector/connection.h"
#include "collector/heap.h"
#include "collector/image.h"
#include "collector/span.h"

#define SECOND UINT64_C(1000000000)
#define STEP (SECOND / 4)   /* between two looks at what has become final */
#define IN_FLIGHT_MAX 1024u /* named */

struct pipeline {
    struct rollup *rollup;
    struct spans *spans;
    struct activity *activity;
    struct connections *connections;
    struct heap *heap;
    uint64_t stepped_ns, ticked_ns, now_ns;
    /* requests that a signal's death cut off, and with them those that go on */
    struct in_flight in_flight[IN_FLIGHT_MAX];
    struct span *killed; /* copies, [IN_FLIGHT_MAX] */
    uint32_t killed_count;
    bool started;
};

static void on_killed(void *to, const struct exchange *);

struct pipeline *pipeline_new(const struct options *o, const struct feedback *feedback, struct rollup *rollup)
{
    struct pipeline *p = calloc(1, sizeof *p);
    if (!p)
        return NULL;
    p->rollup = rollup;
    p->killed = calloc(IN_FLIGHT_MAX, sizeof *p->killed);
    p->spans = spans_new((uint32_t)o->open_spans, rollup_span, rollup);
    if (p->spans)
        p->activity = activity_new(p->spans, o->waits);
    if (p->activity)
        p->connections = connections_new(o, protocols, feedback, p->spans, p->activity);
    if (p->connections)
        p->heap = heap_new(o, rollup);
    if (!p->killed || !p->heap) {
        pipeline_free(p);
        return NULL;
    }
    p->connections->sampled = heap_event;
    p->connections->sampled_to = p->heap;
    activity_lists(p->activity, &(struct sample_lists){heap_join, heap_belong, p->heap});
    spans_leave_by(p->spans, heap_leaves, p->heap);
    p->connections->killed = on_killed;
    p->connections->killed_to = p;
    return p;
}

void pipeline_free(struct pipeline *p)
{
    if (!p)
        return;
    connections_free(p->connections);
    heap_free(p->heap);
    activity_free(p->activity);
    spans_free(p->spans);
    free(p->killed);
    free(p);
}

/* --- requests in flight ------------------------------------------------------------------------------------------------- */

static int32_t pid_of(const struct pipeline *p, uint32_t process)
{
    const struct image *i = image_find(p->connections->images, process);
    return i ? i->pid : 0;
}

static struct in_flight describe(const struct pipeline *p, const struct exchange *e, uint64_t now_ns)
{
    struct in_flight f = {.span = e->span.id,
                          .pid = pid_of(p, e->span.process),
                          .tid = (int32_t)e->span.tid,
                          .process = e->span.process,
                          .start_ns = e->span.start_ns,
                          .age_ns = now_ns > e->span.start_ns ? now_ns - e->span.start_ns : 0,
                          .of = &e->span};
    const struct thread *t = activity_in_lane(p->activity, e->lane);
    if (t && (t->number == e->span.thread || t->ended == e->span.thread)) {
        f.tid = t->tid;
        f.in_call = t->in_call;
    }
    return f;
}

static void on_killed(void *to, const struct exchange *e)
{
    struct pipeline *p = to;
    if (p->killed_count == IN_FLIGHT_MAX)
        return;
    struct in_flight *f = &p->in_flight[p->killed_count];
    *f = describe(p, e, e->span.end_ns ? e->span.end_ns : p->connections->now_ns);
    p->killed[p->killed_count] = e->span;
    f->of = &p->killed[p->killed_count++];
}

/* What a death cut off stays in the list; what goes on comes behind it. */
static void tell_in_flight(struct pipeline *p)
{
    uint32_t count = p->killed_count;
    for (uint32_t i = spans_oldest(p->spans); i && count < IN_FLIGHT_MAX; i = spans_at(p->spans, i)->newer) {
        const struct exchange *e = spans_at(p->spans, i);
        if (e->state & HEAD_SEEN && !(e->state & TIME_OVER))
            p->in_flight[count++] = describe(p, e, p->now_ns);
    }
    rollup_in_flight(p->rollup, p->in_flight, count);
}

/* --- sums ---------------------------------------------------------------------------------------------------------------- */

static uint64_t greater(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

struct census {
    struct pipeline *p;
    struct cost beyond; /* what lane headers told that no event has shown yet */
};

static void count_image(void *to, struct image *image)
{
    struct census *s = to;
    struct cost charged = activity_charged(s->p->activity, image), *told = &image->told;
    struct totals total = {.allocated = greater(told->allocated, charged.allocated),
                           .freed = greater(told->freed, charged.freed),
                           .allocations = greater(told->allocations, charged.allocations),
                           .lock_ns = greater(told->lock_ns, charged.lock_ns),
                           .disk_ns = greater(told->disk_ns, charged.disk_ns),
                           .sleep_ns = greater(told->sleep_ns, charged.sleep_ns),
                           .cpu_ns = greater(told->cpu_ns, charged.cpu_ns)};
    struct cost beyond = {.allocated = total.allocated - charged.allocated,
                          .freed = total.freed - charged.freed,
                          .allocations = total.allocations - charged.allocations,
                          .lock_ns = total.lock_ns - charged.lock_ns,
                          .disk_ns = total.disk_ns - charged.disk_ns,
                          .sleep_ns = total.sleep_ns - charged.sleep_ns,
                          .cpu_ns = total.cpu_ns - charged.cpu_ns};
    cost_add(&s->beyond, &beyond);
    if (image->end != IMAGE_LIVES || !image->pid)
        return;
    struct fact f = {.kind = FACT_PROCESS_TOTAL,
                     .pid = image->pid,
                     .exit_code = -1,
                     .signal = -1,
                     .total = total,
                     .flags = heap_flags(s->p->heap, image->number)};
    struct item item = {.kind = ITEM_FACT, .process = image->number, .time_ns = s->p->now_ns, .fact = &f};
    rollup_fact(s->p->rollup, &item);
}

/*
 * Flow as of now: what is in progress counts as outside, and processes are told with at least what events have shown,
 * so that the sums hold at every moment.
 */
static struct flow flow_now(struct pipeline *p)
{
    struct census s = {.p = p};
    const struct charged *charged = spans_charged(p->spans);
    struct flow f = p->connections->flow;
    image_each(p->connections->images, count_image, &s);
    f.outside = activity_outside(p->activity);
    f.unseen_cpu_ns = activity_unseen_cpu(p->activity) + s.beyond.cpu_ns;
    cost_add(&f.outside, &s.beyond);
    f.outside_in = f.bytes_in - charged->bytes[IN];
    f.outside_out = f.bytes_out - charged->bytes[OUT];
    f.bound_spans = charged->bound_spans;
    struct heap_counts counts = heap_counts(p->heap);
    f.bound_samples = counts.forgotten + counts.other;
    f.bound_held = counts.let_go;
    return f;
}

static void tick_rollup(struct pipeline *p, bool last)
{
    tell_in_flight(p);
    struct unread rows[sizeof p->connections->unread / sizeof p->connections->unread[0]];
    size_t count = 0;
    for (uint32_t i = 0; i < p->connections->unread_rows; i++)
        if (p->connections->unread[i].connections)
            rows[count++] = p->connections->unread[i];
    rollup_unread(p->rollup, rows, count);
    struct flow f = flow_now(p);
    rollup_tick(p->rollup, p->now_ns, &f, last);
    p->ticked_ns = p->now_ns;
}

/* --- items --------------------------------------------------------------------------------------------------------------- */

static void on_tick(struct pipeline *p, uint64_t time_ns)
{
    if (time_ns > p->now_ns)
        p->now_ns = time_ns;
    if (time_ns >= p->stepped_ns + STEP) {
        p->stepped_ns = time_ns;
        connection_tick(p->connections, time_ns);
        heap_tick(p->heap, time_ns);
    }
    if (p->now_ns / SECOND != p->ticked_ns / SECOND) /* on whole seconds, where intervals end */
        tick_rollup(p, false);
}

/* With at least the CPU that its events showed. */
static void tell_end(struct pipeline *p, const struct item *item)
{
    const struct image *image = image_find(p->connections->images, item->process);
    struct fact f = *item->fact;
    struct item told = *item;
    if (image && image->told.cpu_ns > f.cpu_ns)
        f.cpu_ns = image->told.cpu_ns;
    told.fact = &f;
    rollup_fact(p->rollup, &told);
}

static void on_fact(struct pipeline *p, const struct item *item)
{
    connection_fact(p->connections, item);
    if (item->fact->kind == FACT_PROCESS || item->fact->kind == FACT_PROCESS_TOTAL ||
        item->fact->kind == FACT_PROCESS_END)
        heap_fact(p->heap, item);
    switch (item->fact->kind) {
    case FACT_PROCESS_END:
        tell_end(p, item);
        break;
    case FACT_PROCESS:
    case FACT_REAPED:
    case FACT_STREAM:
    case FACT_COMMAND_END:
        rollup_fact(p->rollup, item);
        break;
    default: /* PROCESS_TOTAL goes on with the next tick, together with the sums */
        break;
    }
}

static void start(struct pipeline *p, uint64_t time_ns)
{
    p->started = true;
    p->now_ns = p->stepped_ns = p->ticked_ns = time_ns;
    spans_start(p->spans, time_ns);
}

void pipeline_resume_process(struct pipeline *p, uint32_t process, const struct totals *charged)
{
    struct image *image = image_make(p->connections->images, process);
    if (image)
        activity_resume(image, charged);
}

void pipeline_item(struct pipeline *p, const struct item *item)
{
    if (!p->started && item->time_ns)
        start(p, item->time_ns);
    switch (item->kind) {
    case ITEM_EVENT:
        connection_event(p->connections, item);
        break;
    case ITEM_FACT:
        on_fact(p, item);
        break;
    case ITEM_GAP:
        connection_gap(p->connections, item);
        heap_gap(p->heap, item);
        break;
    case ITEM_TICK:
        on_tick(p, item->time_ns);
        break;
    }
}

void pipeline_end(struct pipeline *p, uint64_t time_ns)
{
    if (time_ns > p->now_ns)
        p->now_ns = time_ns;
    connection_finish(p->connections, p->now_ns);
    heap_finish(p->heap);
    tick_rollup(p, true);
}
