/*
 * bench_rollup.c - what a finished span costs from the pipeline to the queue, and its parts. Prints
 * "name n ns/op", the least of several rounds: what else runs here only adds.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "collector/redact.h"
#include "collector/rollup.h"
#include "collector/route.h"
#include "collector/sink/queue.h"
#include "collector/sketch.h"

#define SPANS                                                                                      \
    4096u /* in hand: as many as were in progress lately, so no more than a cache's worth */
#define ROUNDS 15
#define SECOND UINT64_C(1000000000)
#define T0 (UINT64_C(1700000000) * SECOND)

static const struct protocol http = {.name = "http"}, redis = {.name = "redis"};
static struct span span[SPANS];
static struct queue *queue;
static uint64_t drained;

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * SECOND + (uint64_t)t.tv_nsec;
}

static void drain(void)
{
    bool ended;
    for (const struct row *row; (row = queue_peek(queue, 0, &ended)); queue_drop(queue))
        drained += row->bytes;
}

static unsigned chance = 1;

static unsigned draw(void)
{
    chance = chance * 1103515245 + 12345;
    return chance >> 8;
}

/* Durations as a server's: most near 100 us, a tail. */
static uint64_t draw_duration(void)
{
    uint64_t d = 60000 + draw() % 80000;
    return draw() % 50 ? d : d * (1 + draw() % 300);
}

static void make_span(struct span *s, uint64_t id, const struct protocol *protocol,
                      const char *verb, const char *target)
{
    uint64_t duration = draw_duration();
    *s = (struct span){.id = id,
                       .protocol = protocol,
                       .process = 1 + draw() % 4,
                       .tid = 7,
                       .status = protocol == &http ? 200 : 0,
                       .answered = true,
                       .ready_ns = T0,
                       .first_in_ns = T0,
                       .last_in_ns = T0 + 10,
                       .first_out_ns = T0 + duration - 1000,
                       .last_out_ns = T0 + duration,
                       .start_ns = T0,
                       .end_ns = T0 + duration,
                       .first_byte_ns = duration - 1000,
                       .bytes = {120, 850},
                       .body = {0, 612},
                       .cost = {.allocated = 4096 + draw() % 64, .freed = 4096, .allocations = 3},
                       .peer_length = 16,
                       .local_length = 16};
    s->verb_len = (uint8_t)strlen(verb);
    memcpy(s->verb, verb, s->verb_len);
    s->target_len = (uint16_t)strlen(target);
    memcpy(s->target, target, s->target_len);
}

enum traffic { ONE_PAGE, TWENTY_PAGES, IDS, REDIS, MIXED };

static void make_spans(enum traffic traffic, uint64_t *next_id)
{
    static const char *const commands[] = {"GET", "SET", "HGETALL", "ZADD", "INCR", "EXPIRE"};
    for (uint32_t i = 0; i < SPANS; i++) {
        char target[64] = "/index.html";
        enum traffic kind = traffic != MIXED ? traffic : draw() % 4 ? TWENTY_PAGES : IDS;
        if (kind == TWENTY_PAGES)
            snprintf(target, sizeof target, "/section-%c/page-%c.html?ref=%u", 'a' + draw() % 4,
                     'a' + draw() % 5, draw() % 100);
        if (kind == IDS)
            snprintf(target, sizeof target, "/users/%u/orders", draw() % 10000000);
        if (kind == REDIS)
            make_span(&span[i], (*next_id)++, &redis, commands[draw() % 6], "");
        else
            make_span(&span[i], (*next_id)++, &http, "GET", target);
    }
}

static void begin_processes(struct rollup *r)
{
    for (uint32_t process = 1; process <= 4; process++) {
        struct fact f = {
            .kind = FACT_PROCESS, .pid = (int32_t)process, .executable = "/usr/sbin/nginx"};
        struct item item = {.kind = ITEM_FACT, .process = process, .time_ns = T0, .fact = &f};
        rollup_fact(r, &item);
    }
}

/* A second has `a_second` spans; its tick and the interval's close are part of what a span costs.
 */
static void bench_spans(const char *name, enum traffic traffic, uint64_t keep, uint32_t a_second)
{
    struct options o;
    options_init(&o);
    o.spans_per_second = keep;
    queue = queue_new(8 << 20, SHED);
    struct rollup *r = rollup_new(&o, queue, "nginx");
    struct flow flow = {0};
    uint64_t best = UINT64_MAX, id = 1, second = 0, done = 0;
    begin_processes(r);
    for (int round = 0; round < ROUNDS; round++) {
        uint64_t spent = 0;
        for (uint32_t n = 0; n < a_second; n += SPANS) {
            make_spans(traffic, &id);
            uint64_t from = now_ns();
            for (uint32_t i = 0; i < SPANS; i++)
                rollup_span(r, &span[i]);
            spent += now_ns() - from;
            drain();
            done += SPANS;
        }
        uint64_t from = now_ns();
        rollup_tick(r, T0 + ++second * SECOND, &flow, false);
        spent += now_ns() - from;
        drain();
        if (spent < best)
            best = spent;
    }
    uint32_t n = (a_second + SPANS - 1) / SPANS * SPANS;
    printf("%-44s %8llu %9.1f ns/op\n", name, (unsigned long long)done, (double)best / n);
    rollup_free(r);
    queue_free(queue);
}

static void bench_sketch(void)
{
    enum { N = 4096, TIMES = 50 };
    static uint64_t value[N];
    struct sketch_pool *pool = sketch_pool_new(1 << 20);
    struct sketch s;
    uint64_t best = UINT64_MAX;
    sketch_init(&s);
    for (int i = 0; i < N; i++)
        value[i] = draw_duration();
    for (int round = 0; round < ROUNDS; round++) {
        uint64_t from = now_ns();
        for (int k = 0; k < TIMES; k++)
            for (int i = 0; i < N; i++)
                sketch_add(&s, pool, value[i]);
        uint64_t spent = now_ns() - from;
        best = spent < best ? spent : best;
    }
    printf("%-44s %8u %9.1f ns/op\n", "sketch add", N * TIMES * ROUNDS, (double)best / (N * TIMES));
    sketch_clear(&s, pool);
    sketch_pool_free(pool);
}

static uint32_t on_create(void *to, const char *name, size_t len, const char *verb)
{
    (void)name;
    (void)len;
    (void)verb;
    return ++*(uint32_t *)to;
}

static void on_merge(void *to, uint32_t from, uint32_t into)
{
    (void)to;
    (void)from;
    (void)into;
}

static void bench_routes(const char *name, enum traffic traffic)
{
    uint32_t made = 0, sum = 0;
    uint64_t best = UINT64_MAX, id = 1;
    struct route_cache *cache = route_cache_new();
    struct routes *r =
        routes_new(ROUTE_HTTP, 200, cache, &(struct route_events){on_create, on_merge, &made});
    for (int round = 0; round < 10 * ROUNDS; round++) {
        make_spans(traffic, &id);
        uint64_t from = now_ns();
        for (uint32_t i = 0; i < SPANS; i++) {
            const struct span *s = &span[i];
            struct route_request q = {.verb = s->verb,
                                      .verb_len = s->verb_len,
                                      .target = s->target,
                                      .target_len = s->target_len};
            sum += routes_find(r, &q);
        }
        uint64_t spent = now_ns() - from;
        best = spent < best ? spent : best;
    }
    printf("%-44s %8u %9.1f ns/op\n", name, SPANS * 10 * ROUNDS, (double)best / SPANS);
    if (sum == 0)
        abort();
    routes_free(r);
    route_cache_free(cache);
}

static void bench_redact(void)
{
    char out[REDACTED_MAX];
    size_t sum = 0;
    uint64_t best = UINT64_MAX, id = 1;
    make_spans(MIXED, &id);
    for (int round = 0; round < 10 * ROUNDS; round++) {
        uint64_t from = now_ns();
        for (uint32_t i = 0; i < SPANS; i++)
            sum += redact_target(span[i].target, span[i].target_len, false, false, out, sizeof out);
        uint64_t spent = now_ns() - from;
        best = spent < best ? spent : best;
    }
    printf("%-44s %8u %9.1f ns/op\n", "redact a target", SPANS * 10 * ROUNDS, (double)best / SPANS);
    if (sum == 0)
        abort();
}

static void bench_queue(void)
{
    enum { N = 4000 };
    uint64_t best = UINT64_MAX;
    queue = queue_new(4 << 20, SHED);
    for (int round = 0; round < 10 * ROUNDS; round++) {
        uint64_t from = now_ns();
        for (int i = 0; i < N; i++) {
            struct row *row = queue_reserve(queue, ROW_TOTAL, 600);
            memset(row + 1, i, 584);
            queue_publish(queue, row);
        }
        drain();
        uint64_t spent = now_ns() - from;
        best = spent < best ? spent : best;
    }
    printf("%-44s %8u %9.1f ns/op\n", "a row of 600 bytes through the queue", N * 10 * ROUNDS,
           (double)best / N);
    queue_free(queue);
}

int main(void)
{
    bench_sketch();
    bench_routes("route: 20 pages, seen before", TWENTY_PAGES);
    bench_routes("route: /users/N/orders, never seen before", IDS);
    bench_redact();
    bench_queue();
    bench_spans("span: one page, 50 k/s", ONE_PAGE, 100, 50000);
    bench_spans("span: 20 pages, 50 k/s", TWENTY_PAGES, 100, 50000);
    bench_spans("span: every path new, 50 k/s", IDS, 100, 50000);
    bench_spans("span: pages and new paths 3:1, 50 k/s", MIXED, 100, 50000);
    bench_spans("span: redis, 6 commands, 500 k/s", REDIS, 100, 500000);
    bench_spans("span: all kept, 20 pages, 50 k/s", TWENTY_PAGES, 100000000, 50000);
    return drained == 0;
}
