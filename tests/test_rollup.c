/*
 * test_rollup.c - spans and facts in, rows out: every span is in exactly one total, sums hold at
 * every commit, closed totals survive a queue that is full, nothing unsafe is named.
 *
 * The sink of these tests keeps rows as the store does: a later row replaces an earlier one of the
 * same key.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "collector/rollup.h"
#include "collector/sink/queue.h"
#include "collector/sketch.h"
#include "wire/arena.h"

#define SECOND UINT64_C(1000000000)
#define T0 (UINT64_C(1700000000) * SECOND) /* a multiple of 10 s */
#define MOST 16384

struct kept_total {
    struct row_total row;
    uint8_t sketches[3 * SKETCH_ENCODED_MAX];
};

static struct {
    struct kept_total *total[MOST];
    struct row_status status[MOST];
    struct row_interval interval[MOST];
    struct row_process process[MOST];
    char executable[MOST][64], service[MOST][64];
    struct row_endpoint endpoint[MOST];
    char endpoint_service[MOST][64], name[MOST][256];
    struct row_span span[MOST];
    char target[MOST][256], error_text[MOST][32];
    struct row_in_flight flying[MOST];
    char flying_name[MOST][64];
    struct row_unread unread[MOST];
    char address[MOST][64];
    uint32_t totals, statuses, intervals, processes, endpoints, spans, flyings, unreads, commits;
    uint64_t rows, last_sequence;
} sink;

static struct queue *queue;
static struct rollup *rollup;
static struct options options;
static struct flow flow;
static uint64_t ids;

static const struct protocol http = {.name = "http"}, redis = {.name = "redis"};

/* ---- the sink ---- */

#define FIND(list, count, match)                                                                   \
    ({                                                                                             \
        uint32_t at_ = 0;                                                                          \
        while (at_ < (count) && !(list[at_] match))                                                \
            at_++;                                                                                 \
        at_;                                                                                       \
    })

static void take_endpoint(const struct row_endpoint *r)
{
    const char *tail = (const char *)(r + 1);
    uint32_t i = FIND(sink.endpoint, sink.endpoints, .endpoint == r->endpoint);
    sink.endpoints += i == sink.endpoints;
    sink.endpoint[i] = *r;
    snprintf(sink.endpoint_service[i], 64, "%.*s", r->service_len, tail);
    snprintf(sink.name[i], 256, "%.*s", r->name_len, tail + r->service_len);
}

static void take_total(const struct row *row, const struct row_total *r)
{
    assert_true(FIND(sink.endpoint, sink.endpoints, .endpoint == r->endpoint) < sink.endpoints);
    assert_true(FIND(sink.interval, sink.intervals, .interval == r->interval) < sink.intervals);
    uint32_t i = 0;
    while (i < sink.totals &&
           (sink.total[i]->row.interval != r->interval ||
            sink.total[i]->row.endpoint != r->endpoint || sink.total[i]->row.class != r->class))
        i++;
    if (i == sink.totals)
        sink.total[sink.totals++] = calloc(1, sizeof(struct kept_total));
    assert_true(!sink.total[i]->row.closed || r->closed);
    sink.total[i]->row = *r;
    size_t len = (size_t)r->latency_len + r->first_len + r->heap_len;
    assert_in_range(row->bytes, sizeof *row + sizeof *r + len, sizeof *row + sizeof *r + len + 7);
    memcpy(sink.total[i]->sketches, r + 1, len);
}

static void take_status(const struct row_status *r)
{
    uint32_t i = 0;
    while (i < sink.statuses &&
           (sink.status[i].interval != r->interval || sink.status[i].endpoint != r->endpoint ||
            sink.status[i].status != r->status))
        i++;
    sink.statuses += i == sink.statuses;
    sink.status[i] = *r;
}

static void take_span(const struct row_span *r)
{
    const char *tail = (const char *)(r + 1);
    assert_true(FIND(sink.endpoint, sink.endpoints, .endpoint == r->endpoint) < sink.endpoints);
    assert_true(sink.spans < MOST);
    snprintf(sink.target[sink.spans], 256, "%.*s", r->target_len, tail);
    snprintf(sink.error_text[sink.spans], 32, "%.*s", r->error_len, tail + r->target_len);
    sink.span[sink.spans++] = *r;
}

static void take_process(const struct row_process *r)
{
    const char *tail = (const char *)(r + 1);
    uint32_t i = FIND(sink.process, sink.processes, .process == r->process);
    sink.processes += i == sink.processes;
    sink.process[i] = *r;
    snprintf(sink.executable[i], 64, "%.*s", r->executable_len, tail);
    snprintf(sink.service[i], 64, "%.*s", r->service_len, tail + r->executable_len);
}

static void take_unread(const struct row_unread *r)
{
    char text[64];
    snprintf(text, sizeof text, "%.*s", r->address_len, (const char *)(r + 1));
    uint32_t i = 0;
    while (i < sink.unreads &&
           (strcmp(sink.address[i], text) || sink.unread[i].reason != r->reason))
        i++;
    sink.unreads += i == sink.unreads;
    sink.unread[i] = *r;
    strcpy(sink.address[i], text);
}

static void take(const struct row *row)
{
    const void *body = row + 1;
    const struct row_interval *interval = body;
    const struct row_in_flight *flying = body;
    assert_true(row->sequence > sink.last_sequence);
    sink.last_sequence = row->sequence;
    sink.rows++;
    switch (row->kind) {
    case ROW_ENDPOINT:
        take_endpoint(body);
        break;
    case ROW_INTERVAL: {
        uint32_t i = FIND(sink.interval, sink.intervals, .interval == interval->interval);
        sink.intervals += i == sink.intervals;
        sink.interval[i] = *interval;
        break;
    }
    case ROW_TOTAL:
        take_total(row, body);
        break;
    case ROW_STATUS:
        take_status(body);
        break;
    case ROW_SPAN:
        take_span(body);
        break;
    case ROW_PROCESS:
        take_process(body);
        break;
    case ROW_IN_FLIGHT_CLEAR:
        sink.flyings = 0;
        break;
    case ROW_IN_FLIGHT:
        snprintf(sink.flying_name[sink.flyings], 64, "%.*s", flying->name_len,
                 (const char *)(flying + 1));
        sink.flying[sink.flyings++] = *flying;
        break;
    case ROW_UNREAD:
        take_unread(body);
        break;
    case ROW_COMMIT:
        sink.commits++;
        break;
    default:
        fail_msg("row of kind %d", row->kind);
    }
}

static void drain(void)
{
    bool ended;
    for (const struct row *row; (row = queue_peek(queue, 0, &ended)); queue_drop(queue))
        take(row);
}

/* ---- the pipeline ---- */

static void begin(size_t queue_bytes, const char *service)
{
    for (uint32_t i = 0; i < sink.totals; i++)
        free(sink.total[i]);
    memset(&sink, 0, sizeof sink);
    memset(&flow, 0, sizeof flow);
    ids = 0;
    queue = queue_new(queue_bytes, SHED);
    rollup = rollup_new(&options, queue, service);
    assert_non_null(rollup);
}

static void end(void)
{
    rollup_free(rollup);
    queue_free(queue);
}

static void tick(uint64_t second, bool last)
{
    rollup_tick(rollup, T0 + second * SECOND, &flow, last);
}

static void fact(uint32_t process, uint64_t time_ns, struct fact f)
{
    struct item item = {.kind = ITEM_FACT, .process = process, .time_ns = time_ns, .fact = &f};
    rollup_fact(rollup, &item);
}

static void process_begins_as(uint32_t process, int32_t pid, const char *executable, const char *name)
{
    struct fact f = {.kind = FACT_PROCESS, .pid = pid, .parent = 1, .exit_code = -1, .signal = -1};
    snprintf(f.executable, sizeof f.executable, "%s", executable);
    snprintf(f.name, sizeof f.name, "%s", name);
    fact(process, T0, f);
}

static void process_begins(uint32_t process, int32_t pid, const char *executable)
{
    process_begins_as(process, pid, executable, "");
}

static struct span span_of(const char *verb, const char *target, uint32_t status)
{
    struct span s = {.id = ++ids,
                     .protocol = &http,
                     .process = 1,
                     .tid = 7,
                     .status = status,
                     .answered = status != 0,
                     .start_ns = T0 + 1000,
                     .end_ns = T0 + 1000 + 100000,
                     .first_byte_ns = 90000,
                     .bytes = {100, 2000},
                     .body = {10, 1800},
                     .retained = UINT64_MAX,
                     .cost = {.allocated = 4096, .freed = 4000, .allocations = 3}};
    s.verb_len = (uint8_t)strlen(verb);
    memcpy(s.verb, verb, s.verb_len);
    s.target_len = (uint16_t)(strlen(target) < SPAN_TARGET ? strlen(target) : SPAN_TARGET);
    memcpy(s.target, target, s.target_len);
    return s;
}

static void send_span(const struct span *s)
{
    rollup_span(rollup, s);
    flow.bytes_in += s->bytes[IN];
    flow.bytes_out += s->bytes[OUT];
}

static void serve(const char *verb, const char *target, uint32_t status)
{
    struct span s = span_of(verb, target, status);
    send_span(&s);
}

/* ---- what the rows say ---- */

static const char *name_of(uint32_t endpoint)
{
    uint32_t i;
    do {
        i = FIND(sink.endpoint, sink.endpoints, .endpoint == endpoint);
        assert_true(i < sink.endpoints);
        endpoint = sink.endpoint[i].merged_into;
    } while (endpoint);
    return sink.name[i];
}

static struct row_total sum_of(const char *name)
{
    struct row_total sum = {0};
    for (uint32_t i = 0; i < sink.totals; i++) {
        const struct row_total *t = &sink.total[i]->row;
        if (name && strcmp(name_of(t->endpoint), name))
            continue;
        sum.count += t->count;
        sum.errors += t->errors;
        sum.unobserved += t->unobserved;
        sum.inferred += t->inferred;
        sum.shared += t->shared;
        sum.bytes_in += t->bytes_in;
        sum.bytes_out += t->bytes_out;
        sum.latency_sum += t->latency_sum;
        sum.first_count += t->first_count;
        assert_true(t->retained == UINT64_MAX); /* not measured: never a number */
        sum.cost.allocated += t->cost.allocated;
    }
    return sum;
}

static uint64_t count_of(const char *name)
{
    return sum_of(name).count;
}

static uint64_t status_of(const char *name, uint32_t status)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < sink.statuses; i++)
        if (sink.status[i].status == status && !strcmp(name_of(sink.status[i].endpoint), name))
            sum += sink.status[i].count;
    return sum;
}

static struct flow flow_of_all(void)
{
    struct flow sum = {0};
    for (uint32_t i = 0; i < sink.intervals; i++) {
        sum.bytes_in += sink.interval[i].flow.bytes_in;
        sum.bytes_out += sink.interval[i].flow.bytes_out;
        sum.outside_in += sink.interval[i].flow.outside_in;
        sum.accepted += sink.interval[i].flow.accepted;
    }
    return sum;
}

/* How many values stand in the buckets of all latency sketches. */
static uint64_t in_latency_sketches(void)
{
    uint64_t sum = 0;
    struct sketch_pool *pool = sketch_pool_new(64 << 20);
    struct sketch all;
    sketch_init(&all);
    for (uint32_t i = 0; i < sink.totals; i++)
        assert_int_equal(
            sketch_decode_into(&all, pool, sink.total[i]->sketches, sink.total[i]->row.latency_len),
            0);
    for (int i = 0; i < SKETCH_OCTAVES; i++)
        for (int j = 0; all.page[i] && j < 64; j++)
            sum += all.page[i]->bucket[j];
    sketch_pool_free(pool);
    return sum;
}

/* ---- tests ---- */

static void test_every_span_is_counted_in_its_endpoint_and_class(void **state)
{
    (void)state;
    begin(1 << 20, "shop");
    process_begins(1, 42, "/usr/sbin/nginx");
    for (int i = 0; i < 10; i++)
        serve("GET", i % 2 ? "/users/7" : "/users/8?x=1", 200);
    serve("GET", "/users/9", 304);
    serve("GET", "/users/9", 500);
    serve("POST", "/orders", 404);
    struct span s = span_of("GET", "/users/10", 0);
    s.inferred = INFERRED_COST;
    s.shared = 3;
    send_span(&s);
    tick(1, false);
    drain();
    assert_int_equal(sink.commits, 1);
    struct row_total sum = sum_of("GET /users/{id}");
    assert_int_equal(sum.count, 13);
    assert_int_equal(sum.errors, 1);
    assert_int_equal(sum.unobserved, 1);
    assert_int_equal(sum.inferred, 1);
    assert_int_equal(sum.shared, 1);
    assert_int_equal(sum.bytes_in, 1300);
    assert_int_equal(sum.bytes_out, 26000);
    assert_int_equal(sum.latency_sum, 12 * 100000); /* the unanswered one has no time */
    assert_int_equal(sum.first_count, 12);
    assert_int_equal(count_of("{unmatched}"), 1);
    assert_int_equal(status_of("GET /users/{id}", 200), 10);
    assert_int_equal(status_of("GET /users/{id}", 304), 1);
    assert_int_equal(status_of("{unmatched}", 404), 1);
    for (uint32_t i = 0; i < sink.totals; i++) {
        const struct row_total *t = &sink.total[i]->row;
        static const uint8_t classes[] = {2, 3, 5, CLASS_NONE, 4};
        assert_non_null(memchr(classes, t->class, sizeof classes));
        if (t->class == 2) {
            assert_int_equal(t->count, 10);
            assert_int_equal(t->latency_p50, 100000);
            assert_int_equal(t->first_max, 90000);
        }
    }
    assert_string_equal(sink.endpoint_service[0], "shop");
    assert_string_equal(sink.endpoint[0].protocol, "http");
    end();
}

static void test_sketches_in_rows_are_those_of_the_spans(void **state)
{
    (void)state;
    begin(1 << 20, "s");
    for (uint64_t i = 1; i <= 100; i++) {
        struct span s = span_of("GET", "/", 200);
        s.end_ns = s.start_ns + i * 1000000;
        s.first_byte_ns = i * 1000;
        s.cost.allocated = i;
        send_span(&s);
    }
    tick(1, false);
    drain();
    assert_int_equal(sink.totals, 1);
    const struct row_total *t = &sink.total[0]->row;
    struct sketch_pool *pool = sketch_pool_new(1 << 20);
    struct sketch s[3];
    const uint8_t *at = sink.total[0]->sketches;
    const size_t len[3] = {t->latency_len, t->first_len, t->heap_len};
    for (int i = 0; i < 3; i++) {
        sketch_init(&s[i]);
        assert_int_equal(sketch_decode_into(&s[i], pool, at, len[i]), 0);
        assert_int_equal(s[i].count, 100);
        at += len[i];
    }
    assert_int_equal(s[0].max, 100000000);
    assert_int_equal(s[1].max, 100000);
    assert_int_equal(s[2].sum, 5050);
    assert_int_equal(sketch_quantile(&s[0], 0.5), t->latency_p50);
    assert_int_equal(sketch_quantile(&s[0], 0.999), t->latency_p999);
    assert_int_equal(sketch_quantile(&s[1], 0.9), t->first_p90);
    assert_in_range(t->latency_p50, 49600000, 50400000);
    for (int i = 0; i < 3; i++)
        sketch_clear(&s[i], pool);
    sketch_pool_free(pool);
    end();
}

static void test_errors_are_judged_by_side_and_protocol(void **state)
{
    (void)state;
    begin(1 << 20, "s");
    serve("GET", "/a", 200);
    struct span s = span_of("GET", "/a", 404);
    s.side = SIDE_CLIENT;
    send_span(&s);
    s = span_of("GET", "", 0);
    s.protocol = &redis;
    s.answered = true;
    send_span(&s);
    s.error = true;
    s.error_len = 9;
    memcpy(s.error_text, "WRONGTYPE", 9);
    send_span(&s);
    s = span_of("GET", "/a", 503);
    send_span(&s);
    tick(1, true);
    drain();
    assert_int_equal(sum_of("GET").errors, 1);
    assert_int_equal(sum_of("GET").count, 2);
    assert_int_equal(status_of("GET", 0), 1);
    assert_int_equal(sum_of("GET /a").count, 3); /* two endpoints: one each side */
    assert_int_equal(sum_of("GET /a").errors, 2);
    uint32_t failed = 0;
    for (uint32_t i = 0; i < sink.spans; i++)
        failed += sink.span[i].error && sink.span[i].why == WHY_ERROR;
    assert_int_equal(failed, 3);
    end();
}

static void test_intervals_close_at_their_boundary_and_tile_the_run(void **state)
{
    (void)state;
    begin(1 << 20, "s");
    process_begins(1, 42, "/bin/x");
    uint64_t sent = 0;
    for (uint64_t second = 1; second <= 35; second++) {
        for (int i = 0; i < 3; i++, sent++)
            serve("GET", "/", 200);
        flow.accepted++;
        flow.bytes_in += 7; /* of no request */
        flow.outside_in += 7;
        tick(second, second == 35);
        drain();
        /* at every commit */
        struct flow all = flow_of_all();
        assert_int_equal(count_of(NULL), sent);
        assert_int_equal(all.accepted, second);
        assert_int_equal(all.bytes_in, sum_of(NULL).bytes_in + all.outside_in);
        assert_int_equal(all.bytes_out, sum_of(NULL).bytes_out);
    }
    assert_int_equal(sink.intervals, 4);
    for (uint32_t i = 0; i < 4; i++) {
        assert_int_equal(sink.interval[i].interval, i + 1);
        assert_true(sink.interval[i].closed);
        assert_int_equal(sink.interval[i].start_ns, T0 + i * 10 * SECOND);
        assert_int_equal(sink.interval[i].end_ns,
                         i < 3 ? T0 + (i + 1) * 10 * SECOND : T0 + 35 * SECOND);
    }
    for (uint32_t i = 0; i < sink.totals; i++)
        assert_true(sink.total[i]->row.closed);
    end();
}

static void test_the_first_intervals_of_a_run_are_short(void **state)
{
    (void)state;
    options.first_interval_s = 2;
    begin(1 << 20, "s");
    for (uint64_t second = 1; second <= 52; second++) {
        serve("GET", "/", 200);
        tick(second, second == 52);
        drain();
    }
    assert_int_equal(sink.intervals, 16 + 3); /* the first request came a moment after T0 */
    for (uint32_t i = 1; i < sink.intervals; i++) {
        uint64_t second = i <= 16 ? i * 2 : (i - 13) * 10;
        assert_int_equal(sink.interval[i].start_ns, T0 + second * SECOND);
    }
    assert_int_equal(count_of(NULL), 52);
    end();
}

static void test_an_idle_run_writes_only_commits(void **state)
{
    (void)state;
    begin(1 << 20, "s");
    serve("GET", "/", 200);
    tick(1, false);
    tick(11, false);
    drain();
    uint64_t before = sink.rows;
    for (uint64_t second = 12; second < 112; second++)
        tick(second, false);
    drain();
    assert_int_equal(sink.rows - before, 100);
    assert_int_equal(sink.intervals, 1);
    serve("GET", "/", 200);
    tick(112, true);
    drain();
    assert_int_equal(sink.intervals, 2);
    assert_int_equal(sink.interval[1].interval, 2);
    assert_true(sink.interval[1].start_ns >= T0 + 110 * SECOND);
    end();
}

static void test_stream_counts_are_of_the_interval_alone_and_go_on_after_a_take_over(void **state)
{
    (void)state;
    begin(1 << 20, "s");
    rollup_resume(rollup, &(struct rollup_resume){.last_interval = 7,
                                                  .last_endpoint = 30,
                                                  .written = 1000,
                                                  .drained = 990,
                                                  .lost = {[LOSS_FULL] = 10}});
    fact(0, T0 + 1,
         (struct fact){
             .kind = FACT_STREAM, .written = 1100, .drained = 1085, .lost = {[LOSS_FULL] = 15}});
    serve("GET", "/", 200);
    tick(10, false);
    fact(0, T0 + 11 * SECOND,
         (struct fact){.kind = FACT_STREAM,
                       .written = 1200,
                       .drained = 1185,
                       .late = 2,
                       .lost = {[LOSS_FULL] = 15}});
    tick(11, false);
    drain();
    assert_int_equal(sink.intervals, 2);
    assert_int_equal(sink.interval[0].interval, 8);
    assert_int_equal(sink.interval[0].written, 100);
    assert_int_equal(sink.interval[0].drained, 95);
    assert_int_equal(sink.interval[0].lost[LOSS_FULL], 5);
    assert_int_equal(sink.interval[1].interval, 9);
    assert_int_equal(sink.interval[1].written, 100);
    assert_int_equal(sink.interval[1].late, 2);
    assert_int_equal(sink.interval[1].lost[LOSS_FULL], 0);
    assert_true(sink.endpoint[0].endpoint > 30);
    end();
}

/* The sink stands still for minutes: totals wait, merged, and all come in the end. */
static void test_closed_totals_survive_a_full_queue(void **state)
{
    (void)state;
    options.spans_per_second = 100;
    begin(1, "s");
    uint64_t sent = 0, errors = 0;
    for (uint64_t second = 1; second <= 300; second++) {
        for (int i = 0; i < 40; i++, sent++) {
            char target[64];
            snprintf(target, sizeof target, "/part%c/%c/x", 'a' + i % 20, 'a' + (int)second % 26);
            struct span s = span_of("GET", target, i % 9 ? 200 : 500);
            s.end_ns = s.start_ns + second * 1000 * (uint64_t)(i + 1);
            errors += i % 9 == 0;
            send_span(&s);
        }
        flow.accepted++;
        fact(0, T0 + second * SECOND,
             (struct fact){.kind = FACT_STREAM, .written = second * 100, .drained = second * 100});
        tick(second, false);
        if (second % 97 == 0) /* a few rows now and then */
            for (int i = 0; i < 3; i++) {
                bool ended;
                const struct row *row = queue_peek(queue, 0, &ended);
                if (row)
                    take(row);
                queue_drop(queue);
            }
    }
    for (uint64_t second = 301; second < 1000 && count_of(NULL) < sent; second++) {
        drain();
        tick(second, false);
    }
    tick(1000, true);
    drain();
    assert_int_equal(count_of(NULL), sent);
    assert_int_equal(sum_of(NULL).errors, errors);
    assert_int_equal(sum_of(NULL).cost.allocated, 4096 * sent);
    assert_int_equal(in_latency_sketches(), sent);
    struct flow all = flow_of_all();
    assert_int_equal(all.accepted, 300);
    assert_int_equal(all.bytes_in, sum_of(NULL).bytes_in);
    uint64_t written = 0, shed = 0, lost_before = 0;
    for (uint32_t i = 0; i < sink.intervals; i++) {
        written += sink.interval[i].written;
        shed += sink.interval[i].shed_spans;
        assert_true(sink.interval[i].closed);
        assert_int_equal(sink.interval[i].uncounted_spans, 0);
    }
    assert_int_equal(written, 30000);
    assert_true(sink.intervals < 12); /* 30 were opened; those that waited became one */
    for (uint32_t i = 0; i < sink.spans; i++)
        lost_before += sink.span[i].lost_before;
    assert_true(shed > 0);
    assert_true(lost_before <= shed);
    end();
}

/* Outputs get every request, the store so many a second: what either holds stands for all. */
static void test_the_store_has_a_sample_of_its_own_where_outputs_get_all(void **state)
{
    (void)state;
    options.spans_per_second = 100000;
    options.store_spans_per_second = 10;
    begin(4 << 20, "s");
    uint64_t slowest = 0;
    for (int i = 0; i < 500; i++) {
        struct span s = span_of("GET", i % 100 ? "/often" : "/rare", i == 250 ? 500 : 200);
        s.end_ns = s.start_ns + 1000 + (uint64_t)(i * 7919 % 500) * 1000;
        if (s.end_ns - s.start_ns > slowest)
            slowest = s.end_ns - s.start_ns;
        send_span(&s);
    }
    tick(1, true);
    drain();
    uint32_t rows[3] = {0}, failed[3] = {0};
    double behind[3] = {0};
    bool has_slowest = false;
    for (uint32_t i = 0; i < sink.spans; i++) {
        const struct row_span *s = &sink.span[i];
        assert_in_range(s->meant_for, FOR_OUTPUTS, FOR_STORE);
        rows[s->meant_for]++;
        failed[s->meant_for] += s->error;
        behind[s->meant_for] += 1 / s->rate;
        has_slowest |= s->meant_for == FOR_STORE && s->duration_ns == slowest;
    }
    assert_int_equal(rows[FOR_OUTPUTS], 500);
    assert_in_range(rows[FOR_STORE], 11, 10 + 1 + 2 * 4); /* ordinary, failed, slowest of two endpoints */
    assert_true(behind[FOR_OUTPUTS] == 500);
    assert_true(behind[FOR_STORE] > 499.999 && behind[FOR_STORE] < 500.001);
    assert_int_equal(failed[FOR_OUTPUTS], 1);
    assert_int_equal(failed[FOR_STORE], 1);
    assert_true(has_slowest);
    end();
    options.store_spans_per_second = 100000; /* as many: one sample for both */
    begin(4 << 20, "s");
    for (int i = 0; i < 20; i++) {
        struct span s = span_of("GET", "/", 200);
        send_span(&s);
    }
    tick(1, true);
    drain();
    assert_int_equal(sink.spans, 20);
    for (uint32_t i = 0; i < sink.spans; i++)
        assert_int_equal(sink.span[i].meant_for, FOR_ALL);
    end();
}

/* 2000 endpoints of all latencies: more sketch pages than there are, so intervals close early; all
 * is counted. */
static void test_short_sketch_pages_close_the_interval_early(void **state)
{
    (void)state;
    options.routes = 3000;
    options.spans_per_second = options.slowest = 0;
    begin(64 << 20, "s");
    uint64_t sent = 0;
    for (int round = 0; round < 30; round++)
        for (int i = 0; i < 1200; i++, sent++) {
            char target[64];
            snprintf(target, sizeof target, "/a%c%c/b%c/c", 'a' + i % 40 / 26, 'a' + i % 40 % 26,
                     'a' + i / 40 % 26);
            struct span s = span_of(i / 40 / 26 ? "PUT" : "GET", target, 200);
            s.end_ns = s.start_ns + (UINT64_C(1) << (round % 30 + 6));
            s.first_byte_ns = UINT64_C(1) << (round % 30);
            s.cost.allocated = UINT64_C(1) << (round % 30);
            send_span(&s);
        }
    tick(1, true);
    drain();
    assert_int_equal(count_of(NULL), sent);
    assert_true(sink.intervals > 1);
    assert_int_equal(in_latency_sketches(), sent); /* no page was missing */
    end();
}

static void test_late_merges_are_told_and_old_rows_add_up(void **state)
{
    (void)state;
    options.routes = 5000;
    begin(1 << 22, "s");
    char target[64];
    uint64_t sent = 0;
    for (int i = 0; i < 52;
         i++) /* each folder collapses, then all of them into one, whose files collapse again */
        for (int j = 0; j < 30; j++, sent++) {
            snprintf(target, sizeof target, "/u%c%c/w%c%c/end", 'a' + i / 26, 'a' + i % 26,
                     'a' + i / 26, 'a' + (i + j) % 26);
            serve("GET", target, 200);
            if (j == 0)
                tick((uint64_t)i / 2, false);
        }
    tick(40, true);
    drain();
    assert_int_equal(count_of("GET /{name}/{name}/end"), sent);
    for (uint32_t i = 0; i < sink.endpoints; i++) {
        uint32_t into = sink.endpoint[i].merged_into;
        if (!into) {
            assert_string_equal(sink.name[i], "GET /{name}/{name}/end");
            continue;
        }
        uint32_t j = FIND(sink.endpoint, sink.endpoints, .endpoint == into);
        assert_true(j < sink.endpoints);
        assert_int_equal(sink.endpoint[j].merged_into, 0); /* nobody has to follow a chain */
    }
    end();
}

static void test_spans_are_redacted_and_their_phases_told(void **state)
{
    (void)state;
    begin(1 << 20, "s");
    process_begins(1, 42, "/bin/x");
    struct span s = span_of("GET", "http://joe:pw@h/reset/AKIAIOSFODNN7EXAMPLE?token=hunter2", 200);
    s.ready_ns = s.start_ns - 500;
    s.first_in_ns = s.start_ns;
    s.last_in_ns = s.start_ns + 10;
    s.first_out_ns = s.start_ns + 30;
    s.last_out_ns = s.end_ns;
    s.peer_length = sizeof(struct sockaddr_in);
    send_span(&s);
    struct span c = span_of("hunter2", "/x", 0);
    c.error = true;
    c.error_len = 11;
    memcpy(c.error_text, "ERR hunter2", 11);
    c.side = SIDE_CLIENT;
    c.first_byte_ns = 0;
    send_span(&c);
    tick(1, true);
    drain();
    assert_int_equal(sink.spans, 2);
    uint32_t i = sink.span[0].id == s.id ? 0 : 1;
    assert_string_equal(sink.target[i], "http://h/reset/{masked}");
    assert_int_equal(sink.span[i].queue_ns, 500);
    assert_int_equal(sink.span[i].receive_ns, 10);
    assert_int_equal(sink.span[i].work_ns, 20);
    assert_int_equal(sink.span[i].send_ns, 100000 - 30);
    assert_int_equal(sink.span[i].duration_ns, 100000);
    assert_int_equal(sink.span[i].first_byte_ns, 90000);
    assert_int_equal(sink.span[i].pid, 42);
    assert_int_equal(sink.span[i].tid, 7);
    assert_int_equal(sink.span[i].peer_length, sizeof(struct sockaddr_in));
    assert_memory_equal(sink.span[i].verb, "GET", 4);
    assert_string_equal(name_of(sink.span[i].endpoint), "GET /reset/{id}");
    i = 1 - i;
    assert_memory_equal(sink.span[i].verb, "{other}", 8);
    assert_string_equal(sink.error_text[i], "ERR");
    assert_int_equal(sink.span[i].queue_ns, UINT64_MAX);
    assert_int_equal(sink.span[i].work_ns, UINT64_MAX);
    assert_int_equal(sink.span[i].first_byte_ns, UINT64_MAX);
    end();
}

static void test_paths_and_queries_by_setting(void **state)
{
    (void)state;
    options.queries = 1;
    begin(1 << 20, "s");
    serve("GET", "/a?b=1&password=x", 200);
    tick(1, true);
    drain();
    assert_string_equal(sink.target[0], "/a?b=1&password={masked}");
    end();
    options.paths = 0;
    begin(1 << 20, "s");
    serve("GET", "/a?b=1", 200);
    tick(1, true);
    drain();
    assert_string_equal(sink.target[0], "");
    end();
}

static const struct row_process *process_row(uint32_t process)
{
    uint32_t i = FIND(sink.process, sink.processes, .process == process);
    return i < sink.processes ? &sink.process[i] : NULL;
}

static void test_services_are_named_after_the_command_or_the_executable(void **state)
{
    (void)state;
    begin(1 << 20, "shop");
    process_begins(1, 42, "/bin/sh");         /* CMD's pid ... */
    process_begins(2, 42, "/usr/sbin/nginx"); /* ... becomes nginx by exec */
    process_begins(3, 43, "/usr/sbin/nginx"); /* its worker */
    process_begins(4, 44, "/usr/bin/redis-server");
    for (uint32_t p = 1; p <= 5; p++) {
        struct span s = span_of("GET", "/", 200);
        s.process = p;
        send_span(&s);
    }
    tick(1, true);
    drain();
    assert_int_equal(sink.endpoints, 2);
    uint32_t i = strcmp(sink.endpoint_service[0], "shop") ? 1 : 0;
    assert_string_equal(sink.endpoint_service[i], "shop");
    assert_string_equal(sink.endpoint_service[1 - i], "redis-server");
    for (uint32_t p = 0; p < sink.processes; p++)
        assert_string_equal(sink.service[p],
                            sink.process[p].process == 4 ? "redis-server" : "shop");
    end();
    begin(1 << 20, NULL);
    process_begins(1, 42, "/usr/sbin/nginx");
    serve("GET", "/", 200);
    tick(1, true);
    drain();
    assert_string_equal(sink.endpoint_service[0], "nginx");
    end();
}

static void test_a_link_names_the_service_and_the_option_every_name_of_the_file(void **state)
{
    static const char *const option[] = {NULL, "shop"};
    (void)state;
    for (int named = 0; named < 2; named++) {
        begin(1 << 20, option[named]);
        process_begins_as(1, 42, "/usr/bin/redis-check-rdb", "redis-server");
        process_begins_as(2, 43, "/usr/bin/redis-check-rdb", "redis-sentinel");
        process_begins(3, 44, "/usr/bin/redis-check-rdb");
        process_begins_as(4, 45, "/bin/busybox", "ls");
        tick(1, true);
        drain();
        static const char *const want[] = {"redis-server", "redis-sentinel", "redis-check-rdb", "ls"};
        assert_int_equal(sink.processes, 4);
        for (uint32_t p = 0; p < sink.processes; p++) {
            uint32_t number = sink.process[p].process;
            assert_string_equal(sink.service[p], named && number < 4 ? "shop" : want[number - 1]);
            assert_string_equal(sink.executable[p], number < 4 ? "/usr/bin/redis-check-rdb" : "/bin/busybox");
        }
        end();
    }
}

static void test_processes_end_with_their_totals_and_status(void **state)
{
    (void)state;
    begin(1 << 20, "s");
    process_begins(1, 42, "/bin/x");
    process_begins(2, 43, "/bin/x");
    process_begins(3, 44, "/bin/y");
    fact(2, T0 + 5,
         (struct fact){.kind = FACT_PROCESS_TOTAL,
                       .total = {.allocated = 10, .freed = 20, .allocations = 2}});
    tick(1, false);
    drain();
    assert_int_equal(process_row(2)->allocated, 10);
    assert_false(process_row(2)->ended);
    uint64_t before = sink.rows;
    tick(2, false);
    drain();
    assert_int_equal(sink.rows, before + 1); /* nothing changed */
    fact(2, T0 + 9,
         (struct fact){.kind = FACT_PROCESS_END,
                       .exit_code = -1,
                       .signal = -1,
                       .cpu_ns = 77,
                       .heap_tail_unknown = true,
                       .total = {.allocated = 11, .freed = 22, .allocations = 3}});
    fact(3, T0 + 9,
         (struct fact){.kind = FACT_PROCESS_END, .exit_code = -1, .signal = -1, .replaced = true});
    process_begins(4, 44, "/bin/z");
    fact(0, T0 + 10, (struct fact){.kind = FACT_REAPED, .pid = 43, .exit_code = 3, .signal = -1});
    fact(0, T0 + 10, (struct fact){.kind = FACT_REAPED, .pid = 44, .exit_code = -1, .signal = 9});
    fact(0, T0 + 10, (struct fact){.kind = FACT_COMMAND_END, .exit_code = 0, .signal = -1});
    tick(3, true);
    drain();
    assert_true(process_row(2)->ended);
    assert_int_equal(process_row(2)->freed, 22);
    assert_int_equal(process_row(2)->cpu_ns, 77);
    assert_int_equal(process_row(2)->exit_code, 3);
    assert_int_equal(process_row(2)->end_ns, T0 + 9);
    assert_int_equal(process_row(2)->heap_tail_unknown, 1);
    assert_int_equal(process_row(3)->signal, -1); /* the image was replaced, not killed */
    assert_int_equal(process_row(4)->signal, 9);
    assert_int_equal(process_row(1)->exit_code, 0);
    end();
}

static void test_of_ended_processes_a_thousand_are_kept_and_sums_hold(void **state)
{
    (void)state;
    begin(1 << 22, "s");
    process_begins(1, 1, "/bin/master");
    uint64_t made = 0;
    for (uint32_t p = 2; p < 3002; p++, made++) {
        process_begins(p, (int32_t)p, p % 2 ? "/bin/odd" : "/bin/even");
        fact(p, T0 + p,
             (struct fact){.kind = FACT_PROCESS_END,
                           .exit_code = 0,
                           .signal = -1,
                           .total = {.allocated = p, .freed = 1, .allocations = 1}});
        if (p % 100 == 0) {
            tick(p / 100, false);
            drain();
        }
    }
    struct span late = span_of("GET", "/late", 200);
    late.process = 1500; /* summed long ago, its last request ends now */
    rollup_span(rollup, &late);
    tick(40, true);
    drain();
    assert_int_equal(sink.endpoints, 1);
    assert_string_equal(sink.endpoint_service[0], "even");
    uint64_t rows = 0, merged = 0, allocated = 0, of_live = 0;
    for (uint32_t i = 0; i < sink.processes; i++) {
        const struct row_process *r = &sink.process[i];
        rows += r->merged > 0;
        of_live += r->merged == 1;
        merged += r->merged;
        allocated += r->merged ? r->allocated : 0;
    }
    assert_int_equal(merged, made + 1);
    assert_int_equal(allocated, (uint64_t)(2 + 3001) * 3000 / 2);
    assert_int_equal(of_live, 1001);
    assert_int_equal(rows, 1003);
    end();
}

static void test_in_flight_and_unread_lists(void **state)
{
    (void)state;
    begin(1 << 20, "s");
    process_begins(1, 42, "/bin/x");
    struct span one = span_of("GET", "/slow/12?x", 0), two = span_of("GET", "", 0);
    two.protocol = &redis;
    struct in_flight list[] = {
        {.span = 1, .pid = 42, .tid = 43, .age_ns = 5, .in_call = CALL_POLL, .of = &one},
        {.span = 2, .pid = 42, .of = &two}};
    struct sockaddr_in v4 = {
        .sin_family = AF_INET, .sin_port = htons(443), .sin_addr.s_addr = htonl(0x7f000001)};
    struct sockaddr_in6 v6 = {
        .sin6_family = AF_INET6, .sin6_port = htons(80), .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    struct unread unread[4] = {
        {.reason = UNREAD_TLS, .connections = 3, .bytes_in = 10, .address_length = sizeof v4},
        {.reason = UNREAD_TLS, .connections = 1, .bytes_in = 5, .address_length = sizeof v4},
        {.reason = UNREAD_UNKNOWN, .connections = 1, .address_length = sizeof v6},
        {.reason = UNREAD_UNKNOWN, .connections = 2, .address_length = 0}};
    memcpy(unread[0].address, &v4, sizeof v4);
    memcpy(unread[1].address, &v4, sizeof v4);
    memcpy(unread[2].address, &v6, sizeof v6);
    rollup_in_flight(rollup, list, 2);
    rollup_unread(rollup, unread, 4);
    tick(1, false);
    drain();
    assert_int_equal(sink.flyings, 2);
    assert_string_equal(sink.flying_name[0], "GET /slow/{id}");
    assert_int_equal(sink.flying[0].in_call, CALL_POLL);
    assert_string_equal(sink.flying_name[1], "GET");
    assert_int_equal(sink.endpoints, 0); /* naming makes none */
    assert_int_equal(sink.unreads, 3);
    assert_string_equal(sink.address[0], "127.0.0.1:443");
    assert_int_equal(sink.unread[0].connections, 4);
    assert_int_equal(sink.unread[0].bytes_in, 15);
    assert_string_equal(sink.address[1], "[::1]:80");
    assert_string_equal(sink.address[2], "unknown");
    uint64_t before = sink.rows;
    rollup_in_flight(rollup, NULL, 0);
    rollup_unread(rollup, unread, 4);
    tick(2, false);
    drain();
    assert_int_equal(sink.flyings, 0);
    assert_int_equal(sink.rows, before + 2); /* the list was cleared, once */
    rollup_in_flight(rollup, NULL, 0);
    tick(3, false);
    drain();
    assert_int_equal(sink.rows, before + 3);
    end();
}

/* Two runs over the same spans give the same rows: nothing below reads clock or chance. */
static void test_the_same_spans_give_the_same_rows(void **state)
{
    (void)state;
    uint64_t hash[2];
    for (int run = 0; run < 2; run++) {
        begin(1 << 22, "s");
        unsigned chance = 5;
        hash[run] = 0;
        for (uint64_t second = 1; second <= 30; second++) {
            for (int i = 0; i < 300; i++) {
                char target[64];
                chance = chance * 1103515245 + 12345;
                snprintf(target, sizeof target, "/%c%c/%u", 'a' + chance / 65536 % 26,
                         'a' + chance / 1048576 % 4, chance % 1000);
                struct span s = span_of("GET", target, chance / 65536 % 10 ? 200 : 500);
                s.end_ns += chance % 1000000;
                send_span(&s);
            }
            tick(second, second == 30);
            bool ended;
            for (const struct row *row; (row = queue_peek(queue, 0, &ended)); queue_drop(queue))
                for (size_t i = 0; i < row->bytes / 8; i++)
                    hash[run] = (hash[run] ^ ((const uint64_t *)(const void *)row)[i]) *
                                UINT64_C(0x9e3779b97f4a7c15);
        }
        end();
    }
    assert_int_equal(hash[0], hash[1]);
}

static int defaults(void **state)
{
    (void)state;
    options_init(&options);
    options.first_interval_s = options.interval_s;
    return 0;
}

#define TEST(f) cmocka_unit_test_setup(f, defaults)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_every_span_is_counted_in_its_endpoint_and_class),
        TEST(test_sketches_in_rows_are_those_of_the_spans),
        TEST(test_errors_are_judged_by_side_and_protocol),
        TEST(test_intervals_close_at_their_boundary_and_tile_the_run),
        TEST(test_the_first_intervals_of_a_run_are_short),
        TEST(test_an_idle_run_writes_only_commits),
        TEST(test_stream_counts_are_of_the_interval_alone_and_go_on_after_a_take_over),
        TEST(test_closed_totals_survive_a_full_queue),
        TEST(test_the_store_has_a_sample_of_its_own_where_outputs_get_all),
        TEST(test_short_sketch_pages_close_the_interval_early),
        TEST(test_late_merges_are_told_and_old_rows_add_up),
        TEST(test_spans_are_redacted_and_their_phases_told),
        TEST(test_paths_and_queries_by_setting),
        TEST(test_services_are_named_after_the_command_or_the_executable),
        TEST(test_a_link_names_the_service_and_the_option_every_name_of_the_file),
        TEST(test_processes_end_with_their_totals_and_status),
        TEST(test_of_ended_processes_a_thousand_are_kept_and_sums_hold),
        TEST(test_in_flight_and_unread_lists),
        TEST(test_the_same_spans_give_the_same_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
