/*
 * scene.h - processes, threads and connections played to the pipeline as items; what leaves it is kept for the test.
 *
 * The scene stands in for what lies before the pipeline (order.h) and behind it (rollup.h): it gives each event its
 * offset and the thread's running totals as the recorder would, and takes spans, sums and lists as the rollup would.
 */
#ifndef SONDE_TESTS_SCENE_H
#define SONDE_TESTS_SCENE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "collector/pipeline.h"
#include "collector/sites.h"
#include "wire/arena.h"

#define SCENE_START UINT64_C(1700000000000000000)
#define MS UINT64_C(1000000)
#define SCENE_THREADS 64
#define SCENE_CONNECTIONS 4096
#define SCENE_SPANS 65536

struct actor { /* a thread */
    uint32_t lane, thread, process, sequence;
    int32_t tid;
    struct totals total;
    bool waited;
};
struct wire { /* a connection as its process sees it */
    uint64_t id, offset[2];
};
struct scene {
    struct options options;
    struct pipeline *pipeline;
    uint64_t now;
    struct actor actor[SCENE_THREADS];
    struct totals ended[SCENE_THREADS]; /* by process: totals of its threads that ended */
    struct wire wire[SCENE_CONNECTIONS];
    int wires;
    uint8_t flags; /* for the next event only */
    bool late;
    bool measured;   /* CPU clocks are read; each call takes 1000 ns of CPU */
    bool unmeasured; /* but not known now */
    bool ready;      /* threads never give their processor up */
    uint64_t blocked_ns; /* by the next event's call */
    struct span *span;
    int spans;
    struct flow flow;
    struct in_flight in_flight[64];
    char in_flight_target[64][64];
    int in_flights;
    struct unread unread[64];
    int unreads;
    struct totals told[SCENE_THREADS]; /* by process, as the rollup was told */
    int ticks;
    struct totals base; /* that another collector had counted */
    uint64_t planned[64];
    uint32_t plan[64];
    int plans;
    uint64_t asked_address[64], asked_descriptor[64];
    int addresses, descriptors;
    bool sampling; /* every allocation is sampled: an event of its own */
    uint64_t serial;
    struct sites *sites;
    uint64_t retained[256], retained_samples[256]; /* by the target's first letter */
    int offered;
};

static struct scene scene;

/* --- behind the pipeline ------------------------------------------------------------------------------------------------ */

void rollup_span(void *rollup, const struct span *s)
{
    (void)rollup;
    if (scene.spans < SCENE_SPANS)
        scene.span[scene.spans] = *s;
    scene.spans++;
}

struct rollup_place rollup_place(struct rollup *r, const struct span *s)
{
    (void)r;
    return (struct rollup_place){.endpoint = s->target_len ? (uint32_t)(uint8_t)s->target[1] : 1, .class = 2};
}

void rollup_retained(struct rollup *r, uint32_t endpoint, unsigned class, uint64_t bytes, uint64_t samples)
{
    (void)r, (void)class;
    scene.retained[endpoint % 256] += bytes;
    scene.retained_samples[endpoint % 256] += samples;
}

void rollup_offer(struct rollup *r, const struct span *s)
{
    (void)r;
    for (int i = 0; i < scene.spans && i < SCENE_SPANS; i++)
        if (scene.span[i].id == s->id)
            scene.span[i].retained = s->retained;
    scene.offered++;
}

struct sites *rollup_sites(struct rollup *r)
{
    (void)r;
    if (!scene.sites)
        scene.sites = sites_new();
    return scene.sites;
}

void rollup_fact(struct rollup *r, const struct item *item)
{
    (void)r;
    if (item->fact->kind == FACT_PROCESS_TOTAL || item->fact->kind == FACT_PROCESS_END)
        scene.told[item->process] = item->fact->total;
}

void rollup_tick(struct rollup *r, uint64_t time_ns, const struct flow *flow, bool last)
{
    (void)r;
    (void)time_ns;
    (void)last;
    scene.flow = *flow;
    scene.ticks++;
}

void rollup_in_flight(struct rollup *r, const struct in_flight *list, size_t count)
{
    (void)r;
    scene.in_flights = (int)count;
    for (size_t i = 0; i < count && i < 64; i++) {
        scene.in_flight[i] = list[i];
        snprintf(scene.in_flight_target[i], 64, "%.*s", (int)list[i].of->target_len, list[i].of->target);
    }
}

void rollup_unread(struct rollup *r, const struct unread *list, size_t count)
{
    (void)r;
    scene.unreads = (int)count;
    for (size_t i = 0; i < count && i < 64; i++)
        scene.unread[i] = list[i];
}

static inline void note_plan(void *to, uint64_t connection, uint32_t plan)
{
    (void)to;
    scene.planned[scene.plans % 64] = connection;
    scene.plan[scene.plans++ % 64] = plan;
}

static inline void note_address(void *to, uint32_t process, int32_t descriptor, uint64_t connection)
{
    (void)to, (void)process, (void)descriptor;
    scene.asked_address[scene.addresses++ % 64] = connection;
}

static inline void note_descriptor(void *to, uint32_t process, int32_t descriptor, uint64_t connection)
{
    (void)to, (void)process, (void)descriptor;
    scene.asked_descriptor[scene.descriptors++ % 64] = connection;
}

static inline uint32_t plan_of(uint64_t connection)
{
    uint32_t plan = PLAN_DEFAULT;
    for (int i = 0; i < scene.plans && i < 64; i++)
        if (scene.planned[i] == connection)
            plan = scene.plan[i];
    return plan;
}

/* --- before the pipeline ------------------------------------------------------------------------------------------------ */

static inline void scene_open(void)
{
    struct feedback feedback = {note_plan, note_address, note_descriptor, NULL};
    struct span *room = scene.span ? scene.span : malloc(SCENE_SPANS * sizeof *room);
    struct options options = scene.options;
    bool sampling = scene.sampling;
    memset(&scene, 0, sizeof scene);
    scene.span = room;
    scene.options = options;
    scene.sampling = sampling;
    if (!options.connections)
        options_init(&scene.options);
    if (sampling)
        scene.options.sample_bytes = 0; /* a sample stands for itself */
    scene.now = SCENE_START;
    scene.pipeline = pipeline_new(&scene.options, &feedback, NULL);
    assert_non_null(scene.pipeline);
    memset(&feedback, 0, sizeof feedback); /* the caller's; it was copied */
}

static inline void pass_time(uint64_t ns)
{
    scene.now += ns;
}

/* A thread of a process; numbers are the test's own, from 1. */
static inline struct actor *thread_in(uint32_t number, uint32_t process)
{
    struct actor *a = &scene.actor[number];
    a->lane = number;
    a->thread = number;
    a->process = process;
    a->tid = (int32_t)(1000 + number);
    return a;
}

static inline struct wire *wire_of(uint64_t id)
{
    for (int i = 0; i < scene.wires; i++)
        if (scene.wire[i].id == id)
            return &scene.wire[i];
    assert_true(scene.wires < SCENE_CONNECTIONS);
    scene.wire[scene.wires] = (struct wire){.id = id};
    return &scene.wire[scene.wires++];
}

static inline void play(struct actor *a, struct event *e, const void *data, size_t len)
{
    e->flags |= scene.flags | (a->waited ? EVENT_WAITED : 0);
    e->sequence = ++a->sequence;
    uint64_t lasted = 1000 + scene.blocked_ns;
    if (scene.measured)
        a->total.cpu_ns += 1000; /* a call's own */
    struct item item = {.kind = ITEM_EVENT,
                        .lane = a->lane,
                        .thread = a->thread,
                        .process = a->process,
                        .tid = a->tid,
                        .time_ns = scene.now,
                        .entry_ns = scene.now - lasted,
                        .cpu_known = scene.measured && !scene.unmeasured,
                        .ready = scene.ready,
                        .ready_ns = a->waited ? scene.now - 2000 : 0,
                        .late = scene.late,
                        .total = a->total,
                        .event = e,
                        .data = data,
                        .data_len = (uint32_t)len};
    scene.flags = 0;
    scene.late = false;
    scene.blocked_ns = 0;
    a->waited = false;
    pipeline_item(scene.pipeline, &item);
    pass_time(1000);
}

/* The thread runs, or waits, for so long. */
static inline void computes(struct actor *a, uint64_t ns)
{
    a->total.cpu_ns += ns;
    pass_time(ns);
}

static inline void is_locked_out(struct actor *a, uint64_t ns)
{
    a->total.lock_ns += ns;
    pass_time(ns);
}

static inline void reads_disk(struct actor *a, uint64_t ns)
{
    a->total.disk_ns += ns;
    pass_time(ns);
}

static inline void sleeps(struct actor *a, uint64_t ns)
{
    a->total.sleep_ns += ns;
    pass_time(ns);
}

/* The next event's call waits so long in the kernel. */
static inline void blocks(uint64_t ns)
{
    pass_time(ns);
    scene.blocked_ns = ns;
}

/* A block of `bytes` is sampled at one address of code. */
static inline void samples(struct actor *a, uint64_t serial, uint64_t bytes, uint64_t at)
{
    struct event_sample head = {.serial = serial, .amount = bytes, .frames = 1};
    uint64_t data[sizeof head / 8 + 1];
    struct event e = {.type = EVENT_ALLOCATED, .descriptor = -1, .head = sizeof data};
    memcpy(data, &head, sizeof head);
    data[sizeof head / 8] = at;
    play(a, &e, data, sizeof data);
}

static inline void frees_sampled(struct actor *a, uint64_t serial)
{
    struct event_argument data = {.argument = (int64_t)serial};
    struct event e = {.type = EVENT_FREED, .descriptor = -1, .head = sizeof data};
    play(a, &e, &data, sizeof data);
}

static inline void allocates(struct actor *a, uint64_t bytes)
{
    a->total.allocated += bytes;
    a->total.allocations++;
    if (scene.sampling && bytes) {
        scene.serial++;
        samples(a, scene.serial, bytes, 0x1000 + scene.serial);
    }
}

static inline void frees(struct actor *a, uint64_t bytes)
{
    a->total.freed += bytes;
    if (scene.sampling)
        frees_sampled(a, scene.serial);
}

static inline void simple(struct actor *a, enum event_type type, uint64_t connection, int32_t result)
{
    struct event e = {.type = (uint8_t)type, .descriptor = -1, .connection = connection, .result = result};
    play(a, &e, NULL, 0);
}

/* The thread waits: TURN when its totals moved, as the recorder does it. */
static inline void waits(struct actor *a)
{
    simple(a, EVENT_TURN, 0, CALL_EPOLL_WAIT);
    a->waited = true;
}

static inline void waits_quietly(struct actor *a)
{
    a->waited = true;
}

struct note {
    uint8_t at[sizeof(struct event_address) + sizeof(struct sockaddr_in)];
};

static inline struct note address_note(uint64_t listener, uint16_t port)
{
    struct note n;
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct event_address head = {.listener = listener, .argument = 3, .length = sizeof in, .family = AF_INET};
    in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    memcpy(n.at, &head, sizeof head);
    memcpy(n.at + sizeof head, &in, sizeof in);
    return n;
}

static inline void addressed(struct actor *a, enum event_type type, uint64_t connection, int32_t result, uint64_t listener,
                      uint16_t port)
{
    struct note n = address_note(listener, port);
    struct event e = {.type = (uint8_t)type,
                      .descriptor = 7,
                      .connection = connection,
                      .result = result,
                      .head = (uint16_t)sizeof n};
    play(a, &e, &n, sizeof n);
}

static inline void listens(struct actor *a, uint64_t listener, uint16_t port)
{
    addressed(a, EVENT_BIND, listener, 0, 0, port);
    simple(a, EVENT_LISTEN, listener, 0);
}

static inline void accepts(struct actor *a, uint64_t connection)
{
    addressed(a, EVENT_ACCEPT, connection, 7, 0, 40000);
}

static inline void accepts_from(struct actor *a, uint64_t connection, uint64_t listener)
{
    addressed(a, EVENT_ACCEPT, connection, 7, listener, 40000);
}

static inline void connects(struct actor *a, uint64_t connection, int32_t result)
{
    addressed(a, EVENT_CONNECT, connection, result, 0, 8080);
}

/* A call of `bytes` of which the first `head` and the last `tail` were captured. */
static inline void moves(struct actor *a, enum event_type type, uint64_t connection, const void *data, uint64_t bytes,
                  size_t head, size_t tail)
{
    struct wire *w = wire_of(connection);
    int way = type == EVENT_IN ? IN : OUT;
    struct event e = {.type = (uint8_t)type,
                      .descriptor = 7,
                      .connection = connection,
                      .offset = w->offset[way],
                      .result = (int32_t)bytes,
                      .head = (uint16_t)head,
                      .tail = (uint16_t)tail};
    uint8_t *captured = malloc(head + tail + 1);
    if (head + tail)
        memcpy(captured, data, head);
    if (tail)
        memcpy(captured + head, (const uint8_t *)data + bytes - tail, tail);
    w->offset[way] += bytes;
    play(a, &e, captured, head + tail);
    free(captured);
}

static inline void reads(struct actor *a, uint64_t connection, const char *text)
{
    moves(a, EVENT_IN, connection, text, strlen(text), strlen(text), 0);
}

static inline void writes(struct actor *a, uint64_t connection, const char *text)
{
    moves(a, EVENT_OUT, connection, text, strlen(text), strlen(text), 0);
}

static inline void sends_file(struct actor *a, uint64_t connection, uint64_t bytes)
{
    moves(a, EVENT_OUT, connection, "", bytes, 0, 0);
}

/* Bytes moved, but the event is lost; the gap is told. */
static inline void loses(struct actor *a, enum event_type type, uint64_t connection, uint64_t bytes)
{
    wire_of(connection)->offset[type == EVENT_IN ? IN : OUT] += bytes;
    struct item item = {.kind = ITEM_GAP,
                        .lane = a->lane,
                        .thread = a->thread,
                        .process = a->process,
                        .time_ns = scene.now,
                        .missing = 1,
                        .loss = LOSS_FULL};
    pipeline_item(scene.pipeline, &item);
}

static inline void reads_end(struct actor *a, uint64_t connection)
{
    simple(a, EVENT_IN, connection, 0);
}

static inline void closes(struct actor *a, uint64_t connection)
{
    simple(a, EVENT_CLOSE, connection, 0);
}

static inline void shuts_down(struct actor *a, uint64_t connection, int how)
{
    struct event_argument how_far = {.argument = how};
    struct event e = {.type = EVENT_SHUTDOWN, .connection = connection, .head = sizeof how_far};
    play(a, &e, &how_far, sizeof how_far);
}

static inline void play_fact(struct fact *f, const struct actor *a, uint32_t process)
{
    struct item item = {.kind = ITEM_FACT,
                        .lane = a ? a->lane : 0,
                        .thread = a ? a->thread : 0,
                        .process = process,
                        .time_ns = scene.now,
                        .fact = f};
    pipeline_item(scene.pipeline, &item);
}

static inline void process_begins(uint32_t process, int32_t pid, uint32_t parent)
{
    struct fact f = {.kind = FACT_PROCESS, .pid = pid, .parent_process = parent, .exit_code = -1, .signal = -1};
    play_fact(&f, NULL, process);
}

static inline void add_totals(struct totals *to, const struct totals *from)
{
    to->allocated += from->allocated;
    to->freed += from->freed;
    to->allocations += from->allocations;
    to->cpu_ns += from->cpu_ns;
    to->lock_ns += from->lock_ns;
    to->disk_ns += from->disk_ns;
    to->sleep_ns += from->sleep_ns;
}

static inline struct totals totals_of(uint32_t process)
{
    struct totals sum = scene.ended[process];
    for (int i = 0; i < SCENE_THREADS; i++)
        if (scene.actor[i].thread && scene.actor[i].process == process)
            add_totals(&sum, &scene.actor[i].total);
    return sum;
}

static inline void thread_ends_in(struct actor *a, enum call call)
{
    struct fact f = {.kind = FACT_THREAD_END, .tid = a->tid, .in_call = call, .total = a->total};
    play_fact(&f, a, a->process);
    add_totals(&scene.ended[a->process], &a->total);
    a->total = (struct totals){0};
    a->thread = 0;
}

static inline void thread_ends(struct actor *a)
{
    thread_ends_in(a, CALL_NONE);
}

static inline void process_ends_by(uint32_t process, int32_t exit_code, int32_t signal, bool replaced)
{
    struct fact f = {.kind = FACT_PROCESS_END,
                     .exit_code = exit_code,
                     .signal = signal,
                     .replaced = replaced,
                     .total = totals_of(process)};
    play_fact(&f, NULL, process);
    for (int i = 0; i < SCENE_THREADS; i++)
        if (scene.actor[i].thread && scene.actor[i].process == process)
            scene.actor[i].thread = 0;
}

static inline void process_exits(uint32_t process)
{
    process_ends_by(process, 0, 0, false);
}

static inline void process_is_killed(uint32_t process)
{
    process_ends_by(process, -1, 9, false);
}

static inline void tick(void)
{
    struct item item = {.kind = ITEM_TICK, .time_ns = scene.now};
    pipeline_item(scene.pipeline, &item);
}

/* Seconds go by without events. */
static inline void idles(int seconds)
{
    for (int i = 0; i < seconds * 10; i++) {
        pass_time(100 * MS);
        tick();
    }
}

/* --- the three sums (docs/report.md) ----------------------------------------------------------------------------------------- */

static inline void check_sums(void)
{
    uint64_t in = scene.flow.outside_in, out = scene.flow.outside_out;
    struct totals heap = {.allocated = scene.flow.outside.allocated,
                          .freed = scene.flow.outside.freed,
                          .allocations = scene.flow.outside.allocations,
                          .cpu_ns = scene.flow.outside.cpu_ns,
                          .lock_ns = scene.flow.outside.lock_ns,
                          .disk_ns = scene.flow.outside.disk_ns,
                          .sleep_ns = scene.flow.outside.sleep_ns};
    struct totals processes = {0};
    for (int i = 0; i < scene.spans && i < SCENE_SPANS; i++) {
        const struct span *s = &scene.span[i];
        in += s->bytes[IN];
        out += s->bytes[OUT];
        heap.allocated += s->cost.allocated;
        heap.freed += s->cost.freed;
        heap.allocations += s->cost.allocations;
        heap.cpu_ns += s->cost.cpu_ns;
        heap.lock_ns += s->cost.lock_ns;
        heap.disk_ns += s->cost.disk_ns;
        heap.sleep_ns += s->cost.sleep_ns;
        assert_true(s->end_ns >= s->start_ns);
        assert_true(wall_sum(&s->wall) + s->downstream_ns <= s->end_ns - s->start_ns);
        assert_true(s->wall.cpu_ns <= s->cost.cpu_ns);
    }
    for (int i = 0; i < SCENE_THREADS; i++)
        add_totals(&processes, &scene.told[i]);
    processes.allocated -= scene.base.allocated;
    processes.freed -= scene.base.freed;
    processes.allocations -= scene.base.allocations;
    assert_int_equal(in, scene.flow.bytes_in);
    assert_int_equal(out, scene.flow.bytes_out);
    assert_int_equal(heap.allocated, processes.allocated);
    assert_int_equal(heap.freed, processes.freed);
    assert_int_equal(heap.allocations, processes.allocations);
    assert_int_equal(heap.cpu_ns, processes.cpu_ns);
    assert_int_equal(heap.lock_ns, processes.lock_ns);
    assert_int_equal(heap.disk_ns, processes.disk_ns);
    assert_int_equal(heap.sleep_ns, processes.sleep_ns);
    assert_true(scene.flow.outside_in <= scene.flow.bytes_in);
    assert_true(scene.flow.outside_out <= scene.flow.bytes_out);
}

/* Every allocation was sampled: each must have gone where its bytes went. */
static inline void check_samples(void)
{
    uint64_t of[256] = {0}, sampled[256] = {0};
    bool shared[256] = {false};
    for (int i = 0; i < scene.spans; i++) {
        uint32_t endpoint = rollup_place(NULL, &scene.span[i]).endpoint % 256;
        of[endpoint] += scene.span[i].cost.allocated;
        shared[endpoint] |= scene.span[i].shared != 0; /* a block is one request's, its bytes are divided */
    }
    for (uint32_t i = 1; sites_at(scene.sites, i)->row.stack; i++)
        sampled[sites_at(scene.sites, i)->row.endpoint % 256] += sites_at(scene.sites, i)->row.amount;
    for (int e = 1; e < 256; e++)
        if (!shared[e])
            assert_int_equal(of[e], sampled[e]);
}

/* The stream ends: in-flight requests are named, the sums are checked. */
static inline void scene_end(void)
{
    pipeline_end(scene.pipeline, scene.now);
    check_sums();
    if (scene.sampling)
        check_samples();
}

static inline void scene_close(void)
{
    pipeline_free(scene.pipeline);
    scene.pipeline = NULL;
    sites_free(scene.sites);
    scene.sites = NULL;
    memset(&scene.options, 0, sizeof scene.options);
}

static inline const struct span *span_named(const char *target)
{
    for (int i = 0; i < scene.spans; i++)
        if (scene.span[i].target_len == strlen(target) && !memcmp(scene.span[i].target, target, strlen(target)))
            return &scene.span[i];
    fail_msg("no span %s", target);
    return NULL;
}

#define GET(target) "GET " target " HTTP/1.1\r\nHost: a\r\n\r\n"
#define ANSWER "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
#define ANSWER_HEAD(length) "HTTP/1.1 200 OK\r\nContent-Length: " length "\r\n\r\n"

#endif
