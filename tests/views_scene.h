/*
 * views_scene.h - a run with sampled stacks, CPU and waits, told in few words: for tests of the views.
 *
 * Context: tests only; one pool for all sketches, made by the test.
 */
#ifndef SONDE_TESTS_VIEWS_SCENE_H
#define SONDE_TESTS_VIEWS_SCENE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "collector/report.h"
#include "collector/report_model.h"
#include "collector/sink/store.h"
#include "tests/golden.h"
#include "tests/rows_make.h"

static struct sketch_pool *pool;

/* --- a run, told in few words --- */

#define INTERVALS 12
#define SAMPLE 524288

static const char *scene_path = "none"; /* samples of requests are kept in files only */

static inline struct store *begin_with(const char *settings)
{
    struct store *s = store_open(scene_path, "00c0ffee", 0, NULL, NULL);
    assert_non_null(s);
    store_push(s, make_run("00c0ffee", AT, "[\"./shop\"]", settings));
    struct row_process p = {.process = 1,
                            .pid = 4711,
                            .merged = 1,
                            .exit_code = 0,
                            .signal = -1,
                            .ended = 1,
                            .start_ns = AT,
                            .end_ns = AT + INTERVALS * 10 * SECOND,
                            .allocated = 1,
                            .cpu_ns = 9500 * MS};
    store_push(s, make_process(&p, "/srv/shop", "shop"));
    return s;
}

static inline struct store *begin(void)
{
    return begin_with("{\"memory.sample_bytes\":524288}");
}

struct traffic {
    const char *name;
    uint64_t count;              /* in each interval */
    uint64_t latency, heap;      /* each */
    int64_t kept;                /* each */
    struct wall wall;            /* each */
    uint64_t downstream, cpu, measured; /* each; requests measured in each interval */
};

static uint64_t scene_retained = UINT64_MAX; /* samples retained in each interval, of each endpoint; not known */

static inline void requests(struct store *s, uint32_t endpoint, const struct traffic *t)
{
    struct sketch latency, heap, cpu;
    uint8_t bytes[SKETCH_ENCODED_MAX];
    store_push(s, make_endpoint(endpoint, "shop", "http", SIDE_SERVER, t->name, 0));
    for (uint32_t i = 1; i <= INTERVALS; i++) {
        sketch_init(&latency);
        sketch_init(&heap);
        sketch_init(&cpu);
        for (uint64_t k = 0; k < t->count; k++) {
            sketch_add(&latency, pool, t->latency);
            sketch_add(&heap, pool, k % 50 ? t->heap : t->heap * 3 / 2);
            if (k < t->measured)
                sketch_add(&cpu, pool, k % 50 ? t->cpu : t->cpu * 2);
        }
        struct row_total row = {.interval = i,
                                .endpoint = endpoint,
                                .class = 2,
                                .start_ns = AT + (i - 1) * 10 * SECOND,
                                .end_ns = AT + i * 10 * SECOND,
                                .count = t->count,
                                .retained = scene_retained == UINT64_MAX ? UINT64_MAX : scene_retained * SAMPLE,
                                .retained_samples = scene_retained == UINT64_MAX ? 0 : scene_retained,
                                .bytes_in = t->count,
                                .bytes_out = t->count,
                                .cost = {.allocated = t->count * t->heap,
                                         .freed = t->count * (uint64_t)((int64_t)t->heap - t->kept),
                                         .allocations = t->count,
                                         .cpu_ns = t->measured * t->cpu,
                                         .lock_ns = t->measured * t->wall.lock_ns},
                                .wall = {t->measured * t->wall.cpu_ns, t->measured * t->wall.lock_ns,
                                         t->measured * t->wall.disk_ns, t->measured * t->wall.sleep_ns,
                                         t->measured * t->wall.runqueue_ns},
                                .cpu_count = t->measured,
                                .waits_count = t->measured,
                                .downstream_ns = t->count * t->downstream};
        make_total(&row, &latency, &latency);
        struct row_total *made = (struct row_total *)(void *)made_row.body;
        made_row.row.bytes = (uint16_t)(sizeof(struct row) + sizeof row + made->latency_len + made->first_len); /* no padding */
        made->heap_len = make_tail(bytes, sketch_encode(&heap, bytes, sizeof bytes));
        made->cpu_len = make_tail(bytes, sketch_encode(&cpu, bytes, sizeof bytes));
        store_push(s, make_end());
        sketch_clear(&latency, pool);
        sketch_clear(&heap, pool);
        sketch_clear(&cpu, pool);
    }
}

static inline void stack_to(struct store *s, uint32_t number, const char *frames, enum event_stack_end end)
{
    struct row_stack *r = make_begin(ROW_STACK, sizeof *r);
    r->stack = number;
    r->end = (uint8_t)end;
    r->text_len = make_tail(frames, strlen(frames));
    store_push(s, make_end());
}

static inline void stack(struct store *s, uint32_t number, const char *frames)
{
    stack_to(s, number, frames, STACK_WHOLE);
}

static inline void lives(struct store *s, uint32_t interval, uint32_t endpoint, uint32_t number, unsigned samples)
{
    struct row_site_live *r = make_begin(ROW_SITE_LIVE, sizeof *r);
    *r = (struct row_site_live){
        .interval = interval, .endpoint = endpoint, .stack = number, .live_samples = samples, .live_bytes = samples * (uint64_t)SAMPLE};
    store_push(s, make_end());
}

/* `live`: samples that live at the end of each interval; NULL: none ever. */
static inline void site(struct store *s, uint32_t endpoint, uint32_t number, enum site_kind kind, unsigned samples, const unsigned *live)
{
    unsigned last = live ? live[INTERVALS - 1] : 0;
    uint64_t each = kind == SITE_ALLOCATED ? SAMPLE : MS;
    struct row_site *r = make_begin(ROW_SITE, sizeof *r);
    *r = (struct row_site){.endpoint = endpoint,
                           .stack = number,
                           .kind = (uint8_t)kind,
                           .samples = samples,
                           .amount = samples * each,
                           .live_samples = last - last / 3, /* the others lived when their process ended */
                           .live_bytes = (last - last / 3) * each,
                           .ended_samples = last / 3,
                           .ended_bytes = last / 3 * each,
                           .oldest_ns = last ? AT + 9 * SECOND : 0,
                           .retained_samples = last,
                           .retained_bytes = last * each};
    store_push(s, make_end());
    for (uint32_t i = 0; live && i < INTERVALS; i++)
        if (live[i])
            lives(s, i + 1, endpoint, number, live[i]);
}

static inline void end(struct store *s)
{
    for (uint32_t i = 1; i <= INTERVALS; i++) {
        struct row_interval row = {.interval = i,
                                   .closed = 1,
                                   .start_ns = AT + (i - 1) * 10 * SECOND,
                                   .end_ns = AT + i * 10 * SECOND,
                                   .written = 500,
                                   .drained = 500,
                                   .flow = {.outside = {.allocated = 900000, .freed = 20000, .cpu_ns = 11 * MS}, .unseen_cpu_ns = 5 * MS}};
        store_push(s, make_interval(&row));
    }
    store_push(s, make_run_end(AT + INTERVALS * 10 * SECOND, 0, -1));
    store_push(s, make_commit(AT + INTERVALS * 10 * SECOND));
}

static const unsigned growing[INTERVALS] = {5, 12, 17, 24, 29, 35, 42, 48, 53, 60, 66, 71};
static const unsigned filled[INTERVALS] = {14, 25, 31, 33, 32, 34, 33, 34, 33, 32, 33, 34};
static const unsigned few[INTERVALS] = {0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4};

static inline struct store *shop(void)
{
    struct store *s = begin();
    requests(s, 1, &(struct traffic){"POST /orders", 100, 41 * MS, 41000, 31000,
                                     {1200 * US, 9 * MS, 300 * US, 0, 210 * US}, 28 * MS, 1300 * US, 100});
    requests(s, 2, &(struct traffic){"GET /users/{id}", 1500, 118 * US, 4200, 0,
                                     {96 * US, 0, 0, 0, 3 * US}, 0, 101 * US, 1490});
    requests(s, 3, &(struct traffic){"GET /static/*.css", 700, 64 * US, 2100, -12, {0}, 0, 0, 0});
    stack(s, 1, "malloc < order_new < orders_body < handler < main");
    stack(s, 2, "malloc < cache_put (inlined) < users_get < handler < main");
    stack(s, 3, "operator new(unsigned long) < std::__cxx11::basic_string<char, std::char_traits<char>, "
                "std::allocator<char> >::_M_create(unsigned long&, unsigned long) < render < handler < main");
    stack(s, 4, "pthread_mutex_lock < stock_reserve < orders_body < handler < main");
    stack(s, 5, "libfoo.so.1+0x12af < [jit] < main");
    site(s, 1, 1, SITE_ALLOCATED, 90, growing);
    site(s, 2, 2, SITE_ALLOCATED, 80, filled);
    site(s, 2, 3, SITE_ALLOCATED, 140, NULL);
    site(s, 1, 3, SITE_ALLOCATED, 30, NULL);
    site(s, 0, 5, SITE_ALLOCATED, 6, few);
    site(s, 1, 4, SITE_LOCKWAIT, 400, NULL);
    return s;
}

static inline struct report *load(struct store *s, const struct report_query *q)
{
    struct report *r = NULL;
    assert_int_equal(report_load(store_connection(s), q, &r), 0);
    return r;
}

static const struct report_query everything = {.sites = true, .history = true};

#endif
