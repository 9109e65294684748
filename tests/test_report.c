/*
 * test_report.c - what a person and a program are told of a run: golden pages, JSON, sums,
 * percentiles, verdicts.
 *
 * Pages stand in tests/cases/report/NAME.txt; SONDE_GOLDEN=write makes them anew (then read them:
 * they are the product).
 */
#include <errno.h>
#include <limits.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cjson/cJSON.h>
#include <cmocka.h>
#include <sqlite3.h>

#include "collector/report.h"
#include "collector/report_model.h"
#include "collector/sink/store.h"
#include "collector/sink/store_tables.h"
#include "tests/folder.h"
#include "tests/golden.h"
#include "tests/rows_make.h"
#include "wire/arena.h"

static struct sketch_pool *pool;

/* --- a run, told in few words --- */

struct scene {
    struct store *s;
    struct row_interval interval; /* collects the sums that belong to it */
    uint32_t endpoints, processes;
    uint64_t spans, allocated, freed, allocations;
};

static struct scene begin(const char *path, const char *command, const char *settings)
{
    struct scene c = {.s = store_open(path, "00c0ffee", 0, NULL, NULL)};
    assert_non_null(c.s);
    store_push(c.s, make_run("00c0ffee", AT, command, settings));
    c.interval = (struct row_interval){
        .interval = 1, .closed = 1, .start_ns = AT, .end_ns = AT + 300 * SECOND};
    return c;
}

static void process(struct scene *c, const char *executable, const char *service, int how_many,
                    int signal_number)
{
    for (int i = 0; i < how_many; i++) {
        struct row_process p = {.process = ++c->processes,
                                .pid = 4710 + (int)c->processes,
                                .parent = 4700,
                                .merged = 1,
                                .exit_code = signal_number ? -1 : 0,
                                .signal = signal_number ? signal_number : -1,
                                .ended = 1,
                                .start_ns = AT + c->processes * MS,
                                .end_ns = AT + 299 * SECOND};
        store_push(c->s, make_process(&p, executable, service));
    }
}

struct traffic {
    const char *name;
    uint64_t count, errors;
    uint32_t error_status;
    uint64_t p50, p99, max; /* ns */
    uint64_t in, out;       /* bytes each */
    int64_t heap, kept;     /* bytes each */
    enum side side;
};

/* 97 % at p50, 2 % at p99, and the slowest; of huge counts the shape only, scaled by the sums that
 * are told exactly. */
static void requests(struct scene *c, const char *service, const char *protocol,
                     const struct traffic *t)
{
    struct sketch latency, first, part;
    uint64_t left = t->count - t->errors;
    sketch_init(&latency);
    sketch_init(&first);
    sketch_init(&part);
    for (uint64_t i = 0; i < 10000 && i < t->count; i++) {
        uint64_t ns = i == 0 ? t->max : i % 40 == 1 ? t->p99 : t->p50 + i % 7 * t->p50 / 100;
        sketch_add(&latency, pool, ns);
        sketch_add(&first, pool, ns * 8 / 10);
    }
    store_push(c->s, make_endpoint(++c->endpoints, service, protocol, t->side, t->name, 0));
    struct row_total row = {.retained = UINT64_MAX,
                            .interval = 1,
                            .endpoint = c->endpoints,
                            .class = strcmp(protocol, "http") ? CLASS_OK : 2,
                            .start_ns = AT,
                            .end_ns = AT + 300 * SECOND,
                            .count = left,
                            .bytes_in = left * t->in,
                            .bytes_out = left * t->out,
                            .body_out = left * t->out * 8 / 10,
                            .cost = {.allocated = left * (uint64_t)t->heap,
                                     .freed = left * (uint64_t)(t->heap - t->kept),
                                     .allocations = left * 3}};
    store_push(c->s, make_total(&row, &latency, &first));
    if (t->errors) {
        row.class = strcmp(protocol, "http") ? CLASS_ERROR : 5;
        row.count = row.errors = t->errors;
        row.bytes_in = t->errors * t->in;
        row.bytes_out = t->errors * t->out;
        row.cost = (struct cost){.allocated = t->errors * (uint64_t)t->heap,
                                 .freed = t->errors * (uint64_t)(t->heap - t->kept),
                                 .allocations = t->errors * 3};
        store_push(c->s, make_total(&row, &part, &part));
        store_push(c->s, make_status(1, c->endpoints, t->error_status, t->errors));
    }
    if (strcmp(protocol, "http") == 0 && left)
        store_push(c->s, make_status(1, c->endpoints, t->side == SIDE_SERVER ? 200 : 201, left));
    c->interval.flow.bytes_in += t->count * t->in;
    c->interval.flow.bytes_out += t->count * t->out;
    c->allocated += t->count * (uint64_t)t->heap;
    c->freed += t->count * (uint64_t)(t->heap - t->kept);
    c->allocations += t->count * 3;
    sketch_clear(&latency, pool);
    sketch_clear(&first, pool);
}

static void slow_span(struct scene *c, uint32_t endpoint, uint64_t at_ms, const char *target,
                      uint32_t status, const uint64_t phase_ms[5], const char *error)
{
    uint64_t queue = phase_ms[0], receive = phase_ms[1], work = phase_ms[2] + phase_ms[3],
             send = phase_ms[4];
    struct row_span s = {.id = ++c->spans,
                         .endpoint = endpoint,
                         .process = 1,
                         .pid = 4711,
                         .tid = 4711,
                         .start_ns = AT + at_ms * MS,
                         .duration_ns = (receive + work + send) * MS,
                         .queue_ns = queue * MS,
                         .receive_ns = receive * MS,
                         .work_ns = work * MS,
                         .first_byte_ns = (receive + work) * MS,
                         .send_ns = send * MS,
                         .downstream_ns = phase_ms[3] * MS,
                         .rate = 1,
                         .status = status,
                         .error = status >= 500 || *error,
                         .answered = 1,
                         .why = WHY_SLOW};
    store_push(c->s, make_span(&s, target[1] == 'o' ? "POST" : "GET", target, error));
}

static void end(struct scene *c, int exit_code, int signal_number)
{
    if (c->processes) /* as heap_of_first has it */
        c->interval.flow.outside = (struct cost){
            .allocated = c->allocated / 50, .freed = c->allocated / 50, .allocations = 11};
    store_push(c->s, make_interval(&c->interval));
    if (exit_code >= 0 || signal_number >= 0)
        store_push(c->s, make_run_end(AT + 300 * SECOND, exit_code, signal_number));
    store_push(c->s, make_commit(AT + 300 * SECOND));
}

static void heap_of_first(struct scene *c, const char *executable, const char *service,
                          int signal_number)
{
    struct row_process p = {.process = 1,
                            .pid = 4711,
                            .parent = 4700,
                            .merged = 1,
                            .exit_code = signal_number ? -1 : 0,
                            .signal = signal_number ? signal_number : -1,
                            .ended = 1,
                            .start_ns = AT + MS,
                            .end_ns = AT + 299 * SECOND,
                            .allocated = c->allocated + c->allocated / 50,
                            .freed = c->freed + c->allocated / 50,
                            .allocations = c->allocations + 11};
    store_push(c->s, make_process(&p, executable, service));
}

static void events(struct scene *c, uint64_t written, uint64_t lost_full)
{
    c->interval.written = written;
    c->interval.drained = written - lost_full;
    c->interval.lost[LOSS_FULL] = lost_full;
}

static struct scene nginx_scene(const char *path)
{
    struct scene c = begin(path, "[\"nginx\",\"-g\",\"daemon off;\"]",
                           "{\"memory.heap\":true,\"arena.bytes\":33554432}");
    process(&c, "/usr/sbin/nginx", "nginx", 5, 0);
    requests(&c, "nginx", "http",
             &(struct traffic){"GET /users/{id}", 1809184, 0, 0, 118 * US, 310 * US, 48200 * US,
                               111, 1204, 4200, 0, SIDE_SERVER});
    requests(&c, "nginx", "http",
             &(struct traffic){"GET /static/*.css", 602000, 0, 0, 64 * US, 140 * US, 9100 * US, 108,
                               1600, 2100, 0, SIDE_SERVER});
    requests(&c, "nginx", "http",
             &(struct traffic){"POST /orders", 1204, 12, 502, 41 * MS, 181 * MS, 411 * MS, 412, 389,
                               41000, 31000, SIDE_SERVER});
    static const uint64_t a[5] = {0, 4, 12, 390, 5}, b[5] = {0, 5, 25, 150, 1},
                          q[5] = {30, 1, 17, 0, 0};
    slow_span(&c, 3, 191204, "/orders", 502, a, "");
    slow_span(&c, 3, 192204, "/orders", 502, b, "");
    slow_span(&c, 3, 100870, "/orders", 201, b, "");
    slow_span(&c, 1, 242118, "/users/71", 200, q, "");
    c.interval.flow.accepted = 64;
    events(&c, 7237164, 0);
    heap_of_first(&c, "/usr/sbin/nginx", "nginx", 0);
    return c;
}

/* --- pages --- */

static struct report *load(struct scene *c, const struct report_query *q)
{
    struct report *r = NULL;
    assert_int_equal(report_load(store_connection(c->s), q, &r), 0);
    return r;
}

static char *page(const struct report *r, const struct report_style *style, bool slowest)
{
    char *text = NULL;
    size_t len;
    FILE *f = open_memstream(&text, &len);
    if (slowest)
        report_slowest_text(r, style, f);
    else
        report_text(r, style, f);
    fclose(f);
    return text;
}

static void expect_page(struct scene *c, const char *name, int columns, bool utf8)
{
    struct report *r = load(c, NULL);
    struct report_style style = {.columns = columns, .utf8 = utf8, .store = "./sonde.db"};
    char *text = page(r, &style, false);
    same_as_golden("report", name, text);
    assert_true(longest_line(text) <= columns);
    assert_null(strstr(text, " \n"));
    free(text);
    report_free(r);
    store_close(c->s);
}

static void test_page_nginx(void **state)
{
    (void)state;
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/s.db", folder);
    struct scene c = nginx_scene(path);
    end(&c, 0, SIGTERM);
    expect_page(&c, "nginx", 80, false);
}

static void test_page_wide_and_utf8(void **state)
{
    (void)state;
    struct scene c = nginx_scene("none");
    requests(&c, "nginx", "http",
             &(struct traffic){"GET /api/v2/organisations/{id}/projects/{id}/members/überall", 88,
                               1, 500, 3 * MS, 9 * MS, 20 * MS, 311, 2204, 4200, -12, SIDE_SERVER});
    end(&c, 0, -1);
    expect_page(&c, "nginx_wide", 132, true);
}

static void test_page_narrow(void **state)
{
    (void)state;
    struct scene c = nginx_scene("none");
    end(&c, 0, -1);
    expect_page(&c, "nginx_narrow", 50, false);
}

/* What does not fit goes on the next line: the title's time, and the sum of those that are not shown. */
static void test_page_narrow_with_many_routes(void **state)
{
    (void)state;
    struct scene c = nginx_scene("none");
    for (char letter = 'a'; letter <= 'z'; letter++) {
        char name[16];
        snprintf(name, sizeof name, "GET /page-%c", letter);
        requests(&c, "nginx", "http",
                 &(struct traffic){name, 8, 0, 0, 3 * MS, 9 * MS, 20 * MS, 311, 2204, 4200, 0, SIDE_SERVER});
    }
    end(&c, 0, SIGTERM);
    expect_page(&c, "nginx_narrow_many", 42, false);
}

static void test_page_redis_with_losses(void **state)
{
    (void)state;
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/s.db", folder);
    struct scene c = begin(path, "[\"redis-server\",\"--save\",\"\",\"--port\",\"7001\"]",
                           "{\"arena.bytes\":33554432}");
    process(&c, "/usr/bin/redis-check-rdb", "redis-server", 1, 0);
    requests(&c, "redis-server", "redis",
             &(struct traffic){"SET", 8123456, 0, 0, 8 * US, 21 * US, 3100 * US, 51, 5, 96, 32,
                               SIDE_SERVER});
    requests(&c, "redis-server", "redis",
             &(struct traffic){"GET", 12000456, 0, 0, 6 * US, 18 * US, 2900 * US, 36, 18, 40, 0,
                               SIDE_SERVER});
    requests(&c, "redis-server", "redis",
             &(struct traffic){"INCR", 412, 400, 0, 6 * US, 18 * US, 29 * US, 36, 68, 40, -3,
                               SIDE_SERVER});
    for (int i = 0; i < 400; i++) {
        struct row_span s = {.id = (uint64_t)i,
                             .endpoint = 3,
                             .start_ns = AT + (uint64_t)i * SECOND / 10,
                             .duration_ns = 6 * US,
                             .error = 1,
                             .answered = 1,
                             .rate = 1,
                             .why = WHY_ERROR};
        store_push(c.s, make_span(&s, "INCR", "", "WRONGTYPE"));
    }
    c.interval.flow.accepted = 50;
    events(&c, 3912345678, 1842);
    c.interval.lost[LOSS_NESTED] = 3;
    c.interval.drained -= 3;
    heap_of_first(&c, "/usr/bin/redis-check-rdb", "redis-server", 0);
    end(&c, 0, -1);
    expect_page(&c, "redis_lossy", 80, false);
}

static void test_page_tls_not_read(void **state)
{
    (void)state;
    struct scene c = begin("none", "[\"/usr/sbin/nginx\"]", "{}");
    process(&c, "/usr/sbin/nginx", "nginx", 3, 0);
    requests(&c, "nginx", "http",
             &(struct traffic){"GET /", 48211, 0, 0, 118 * US, 310 * US, 48200 * US, 111, 1204,
                               4200, 0, SIDE_SERVER});
    store_push(c.s, make_unread("0.0.0.0:443", UNREAD_TLS, 120, 8000000, 80000000));
    store_push(c.s, make_unread("10.1.2.3:5432", UNREAD_UNKNOWN, 8, 120000, 480));
    c.interval.flow.accepted = 220;
    c.interval.flow.opened = 8;
    events(&c, 412000, 0);
    heap_of_first(&c, "/usr/sbin/nginx", "nginx", 0);
    end(&c, 0, -1);
    expect_page(&c, "tls_not_read", 80, false);
}

static void test_page_killed_server_names_what_was_in_flight(void **state)
{
    (void)state;
    struct scene c = begin("none", "[\"./shop\",\"--config\",\"a file with spaces.json\"]", "{}");
    process(&c, "/srv/shop", "shop", 1, SIGKILL);
    requests(&c, "shop", "http",
             &(struct traffic){"GET /fast", 950, 0, 0, 300 * US, 2 * MS, 8 * MS, 90, 200, 4200, 10,
                               SIDE_SERVER});
    static const char *const names[] = {
        "GET /slow", "GET /slow", "POST /checkout/{id}/payment-methods/confirm", "GET /a", "GET /b",
        "GET /c",    "GET /d"};
    store_push(c.s, make_in_flight_clear());
    for (int i = 0; i < 7; i++) {
        struct row_in_flight f = {.span = 900 + (uint64_t)i,
                                  .pid = 4711,
                                  .tid = 4712 + i,
                                  .start_ns = AT + 290 * SECOND + (uint64_t)i,
                                  .age_ns = (uint64_t)(10 - i) * 230 * MS,
                                  .in_call = i == 2 ? CALL_NONE : CALL_POLL};
        store_push(c.s, make_in_flight(&f, names[i]));
    }
    c.interval.flow.accepted = 12;
    events(&c, 9120, 0);
    heap_of_first(&c, "/srv/shop", "shop", SIGKILL);
    end(&c, -1, SIGKILL);
    expect_page(&c, "killed", 80, false);
}

static void test_pages_without_a_request(void **state)
{
    (void)state;
    struct scene c = begin("none", "[\"sleep\",\"300\"]", "{}");
    process(&c, "/bin/sleep", "sleep", 1, 0);
    events(&c, 2, 0);
    end(&c, 0, -1);
    expect_page(&c, "nothing_no_connection", 80, false);

    c = begin("none", "[\"./static-server\"]", "{}");
    end(&c, 0, -1);
    expect_page(&c, "nothing_no_process", 80, false);

    c = begin("none", "[\"mysqld\"]", "{}");
    process(&c, "/usr/sbin/mysqld", "mysqld", 1, 0);
    c.interval.flow = (struct flow){.accepted = 5,
                                    .bytes_in = 1000,
                                    .bytes_out = 3000,
                                    .outside_in = 1000,
                                    .outside_out = 3000};
    store_push(c.s, make_unread("127.0.0.1:3306", UNREAD_UNKNOWN, 5, 1000, 3000));
    events(&c, 52, 0);
    end(&c, 0, -1);
    expect_page(&c, "nothing_unknown_protocol", 80, false);
}

static void test_page_only_outbound(void **state)
{
    (void)state;
    struct scene c = begin("none", "[\"curl\",\"-s\",\"http://example.test/\"]", "{}");
    process(&c, "/usr/bin/curl", "curl", 1, 0);
    requests(&c, "curl", "http",
             &(struct traffic){"GET /", 1, 0, 0, 41 * MS, 41 * MS, 41 * MS, 1270, 79, 20480, 1024,
                               SIDE_CLIENT});
    c.interval.flow.opened = 1;
    events(&c, 7, 0);
    heap_of_first(&c, "/usr/bin/curl", "curl", 0);
    end(&c, 0, -1);
    expect_page(&c, "outbound", 80, false);
}

static void test_page_several_services_many_endpoints(void **state)
{
    (void)state;
    struct scene c = begin("none",
                           "[\"/opt/app/"
                           "start-everything.sh\",\"--environment=production\",\"--listen=0.0.0.0:"
                           "8080\",\"--workers=16\"]",
                           "{}");
    static const char *const things[] = {
        "users", "orders", "customers", "invoices-with-a-very-long-name", "products", "carts"};
    process(&c, "/usr/sbin/haproxy", "haproxy", 1, 0);
    process(&c, "/usr/bin/node", "node", 16, 0);
    process(&c, "/bin/sh", "sh", 2, 0);
    process(&c, "/usr/bin/logger", "logger", 1, 0);
    process(&c, "/usr/sbin/cron", "cron", 1, SIGSEGV);
    for (int i = 0; i < 30; i++) {
        char name[128];
        snprintf(name, sizeof name, "%s /api/v%d/%s/{id}%s", i % 3 ? "GET" : "DELETE", i % 2 + 1,
                 things[i % 6], i % 5 ? i % 4 ? "" : "/history" : "/attachments/{name}");
        name[strlen("GET /api/v") + (i % 3 ? 0 : 3)] = (char)('1' + i / 6); /* no two alike */
        requests(&c, "node", "http",
                 &(struct traffic){name, 40000 - (uint64_t)i * 1300, i == 4 ? 3 : 0, 500,
                                   (uint64_t)(200 + i * 40) * US, (uint64_t)(800 + i * 90) * US,
                                   (uint64_t)(30 + i) * MS, 300, 5000 + (uint64_t)i * 100, 60000,
                                   i % 4 == 0 ? 120 : 0, SIDE_SERVER});
    }
    requests(&c, "haproxy", "http",
             &(struct traffic){"GET /api/{rest}", 500000, 0, 0, 400 * US, 2 * MS, 90 * MS, 280,
                               5400, 0, 0, SIDE_SERVER});
    requests(&c, "haproxy", "http",
             &(struct traffic){"GET /api/{rest}", 500000, 3, 500, 300 * US, 2 * MS, 90 * MS, 5400,
                               310, 0, 0, SIDE_CLIENT});
    requests(&c, "node", "redis",
             &(struct traffic){"GET", 9000000000000, 0, 0, 300 * US, 2 * MS, 90 * MS, 280, 5400, 0,
                               0, SIDE_CLIENT});
    store_push(c.s, make_unread("127.0.0.1:5432", UNREAD_UNKNOWN, 16, 92000000, 12000000));
    c.interval.flow.accepted = 812345;
    c.interval.flow.opened = 4000;
    c.interval.flow.bound_connections = 1200;
    c.interval.flow.bound_spans = 12;
    c.interval.uncounted_spans = 7;
    c.interval.shed_spans = 99;
    events(&c, 123456789012, 0);
    store_count_shed(c.s, "disk full", 1234);
    store_count_shed(c.s, "size", 91234);
    store_documents(c.s, "https://es1:9200,https://es2:9200",
                    &(struct documents){.accepted = 120000,
                                        .acknowledged = 119000,
                                        .duplicates = 12,
                                        .dead = 3,
                                        .queued = 0,
                                        .dropped_exit = 985});
    heap_of_first(&c, "/usr/sbin/haproxy", "haproxy", 0);
    end(&c, 0, SIGINT);
    expect_page(&c, "several_services", 80, false);
}

static void test_page_hostile_text_does_not_reach_the_terminal(void **state)
{
    (void)state;
    struct scene c = begin("none", "[\"x\\u001b[31m\",\"'\"]", "{}");
    process(&c, "/tmp/a\033]0;b\007", "a\033[2J", 1, 0);
    requests(&c, "a\033[2J", "http",
             &(struct traffic){"GET /\r\n\033[1mbold\xc2\x9b"
                               "31m\xff",
                               1, 1, 500, MS, MS, MS, 10, 10, 0, 0, SIDE_SERVER});
    events(&c, 3, 0);
    end(&c, 0, -1);
    struct report *r = load(&c, &(struct report_query){.slowest = 3});
    struct report_style style = {.columns = 80, .utf8 = true};
    char *text = page(r, &style, false);
    for (const char *at = text; *at; at++)
        assert_true((unsigned char)*at >= 0x20 || *at == '\n');
    assert_null(strstr(text, "\xc2\x9b"));
    assert_non_null(strstr(text, "1 100%"));
    free(text);
    report_free(r);
    store_close(c.s);
}

static void test_page_slowest(void **state)
{
    (void)state;
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/s.db", folder);
    struct scene c = nginx_scene(path);
    end(&c, 0, -1);
    struct report *r = load(&c, &(struct report_query){.slowest = 3});
    struct report_style style = {.columns = 80};
    char *text = page(r, &style, true);
    same_as_golden("report", "slowest", text);
    assert_true(longest_line(text) <= 80);
    free(text);
    report_free(r);
    store_close(c.s);
}

static void test_colour_only_when_asked(void **state)
{
    (void)state;
    struct scene c = nginx_scene("none");
    end(&c, 0, -1);
    struct report *r = load(&c, NULL);
    struct report_style plain = {.columns = 80}, coloured = {.columns = 80, .colour = true};
    char *a = page(r, &plain, false), *b = page(r, &coloured, false);
    assert_null(strchr(a, '\033'));
    assert_non_null(strstr(b, "\033[1;32mCOMPLETE"));
    free(a);
    free(b);
    report_free(r);
    store_close(c.s);
}

/* --- numbers --- */

static cJSON *as_json(const struct report *r)
{
    char *text = NULL;
    size_t len;
    FILE *f = open_memstream(&text, &len);
    assert_int_equal(report_json(r, f), 0);
    fclose(f);
    cJSON *json = cJSON_Parse(text);
    if (!json)
        fail_msg("no JSON: %s", text);
    free(text);
    return json;
}

static double number(const cJSON *json, const char *path)
{
    char name[128];
    snprintf(name, sizeof name, "%s", path);
    for (char *at = strtok(name, "."); at; at = strtok(NULL, ".")) {
        json = *at >= '0' && *at <= '9' && cJSON_IsArray(json)
                   ? cJSON_GetArrayItem(json, atoi(at))
                   : cJSON_GetObjectItemCaseSensitive(json, at);
        if (!json)
            fail_msg("%s is missing", path);
    }
    return cJSON_IsNumber(json) ? json->valuedouble : cJSON_IsNull(json) ? -1 : -2;
}

static const char *words(const cJSON *json, const char *key)
{
    const char *s = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(json, key));
    return s ? s : "(none)";
}

static void test_json_holds_what_it_promises(void **state)
{
    (void)state;
    struct scene c = nginx_scene("none");
    store_push(c.s, make_unread("127.0.0.1:443", UNREAD_TLS, 2, 10, 20));
    store_documents(c.s, "http://a:9200",
                    &(struct documents){.carried = 5,
                                        .accepted = 10,
                                        .acknowledged = 9,
                                        .duplicates = 1,
                                        .dead = 1,
                                        .queued = 2,
                                        .dropped_memory = 2});
    end(&c, 0, SIGTERM);
    struct report *r = load(&c, NULL);
    cJSON *j = as_json(r);
    assert_string_equal(words(j, "verdict"), "partial");
    assert_string_equal(words(j, "as_of"), "2026-01-31T12:05:00.000Z");
    assert_int_equal(number(j, "version"), 1);
    assert_true(number(j, "sketch_error") <= 0.01);
    assert_string_equal(words(cJSON_GetObjectItem(j, "run"), "start"), "2026-01-31T12:00:00.000Z");
    assert_string_equal(
        cJSON_GetArrayItem(cJSON_GetObjectItem(cJSON_GetObjectItem(j, "run"), "command"), 2)
            ->valuestring,
        "daemon off;");
    assert_int_equal(number(j, "run.signal"), SIGTERM);
    assert_int_equal(number(j, "endpoints.0.count"), 1809184);
    assert_int_equal(number(j, "endpoints.2.errors"), 12);
    assert_int_equal(number(j, "endpoints.2.status.502"), 12);
    assert_int_equal(number(j, "endpoints.2.status.200"), 1192);
    assert_int_equal(number(j, "endpoints.0.cpu_ns"), -1);
    assert_int_equal(number(j, "endpoints.0.waits_ns"), -1);
    assert_int_equal(number(j, "endpoints.0.heap.retained_bytes"), -1);
    assert_int_equal(number(j, "endpoints.0.heap.retained_most"), -1);
    assert_int_equal(number(j, "outside.cpu_ns"), -1);
    /* the sums of docs/report.md */
    double in = number(j, "outside.bytes_in"), heap = number(j, "outside.allocated_bytes"),
           processes = 0;
    const cJSON *e;
    cJSON_ArrayForEach(e, cJSON_GetObjectItem(j, "endpoints"))
    {
        in += number(e, "bytes_in");
        heap += number(e, "heap.allocated_bytes");
    }
    cJSON_ArrayForEach(e, cJSON_GetObjectItem(j, "processes")) processes +=
        number(e, "allocated_bytes");
    assert_true(in == number(j, "connections.bytes_in"));
    assert_true(heap == processes);
    assert_int_equal(number(j, "events.written"), number(j, "events.drained"));
    assert_int_equal(number(j, "documents.carried") + number(j, "documents.accepted"),
                     number(j, "documents.acknowledged") + number(j, "documents.duplicates") +
                         number(j, "documents.dead") + number(j, "documents.dropped.memory") +
                         number(j, "documents.queued"));
    cJSON_Delete(j);
    report_free(r);
    store_close(c.s);
}

static void test_json_keeps_big_integers_and_odd_text(void **state)
{
    (void)state;
    struct scene c = begin("none", "not json", "neither");
    process(&c, "/bin/\"x\"\\", "s", 1, 0);
    requests(&c, "s", "http",
             &(struct traffic){"GET /\xff\xc0\x80\xed\xa0\x80 \"\\\n\xc3\xa4", 1, 0, 0, MS, MS, MS,
                               9007199254740993, 1, 0, 0, SIDE_SERVER});
    events(&c, 3, 0);
    end(&c, 0, -1);
    struct report *r = load(&c, NULL);
    char *text = NULL;
    size_t len;
    FILE *f = open_memstream(&text, &len);
    report_json(r, f);
    fclose(f);
    assert_non_null(strstr(text, "\"bytes_in\":9007199254740993"));
    assert_non_null(
        strstr(text, "GET /\\ufffd\\ufffd\\ufffd\\ufffd\\ufffd\\ufffd \\\"\\\\\\u000a\xc3\xa4"));
    assert_non_null(strstr(text, "\"command\":null"));
    f = popen("jq -e . >/dev/null", "w"); /* another reader's opinion */
    fputs(text, f);
    assert_int_equal(pclose(f), 0);
    free(text);
    report_free(r);
    store_close(c.s);
}

static void test_merged_endpoints_add_up(void **state)
{
    (void)state;
    struct scene c = begin("none", "[\"x\"]", "{}");
    process(&c, "/x", "x", 1, 0);
    requests(&c, "x", "http",
             &(struct traffic){"GET /a", 10, 2, 500, MS, MS, MS, 10, 20, 30, 0, SIDE_SERVER});
    requests(&c, "x", "http",
             &(struct traffic){"GET /b", 100, 1, 503, 4 * MS, 4 * MS, 4 * MS, 10, 20, 30, 0,
                               SIDE_SERVER});
    store_push(c.s, make_endpoint(3, "x", "http", SIDE_SERVER, "GET /{id}", 0));
    store_push(c.s, make_endpoint(1, "x", "http", SIDE_SERVER, "GET /a", 2));
    store_push(c.s, make_endpoint(2, "x", "http", SIDE_SERVER, "GET /b", 3));
    end(&c, 0, -1);
    struct report *r = load(&c, NULL);
    assert_int_equal(r->endpoints, 1);
    assert_string_equal(r->endpoint[0].name, "GET /{id}");
    assert_int_equal(r->endpoint[0].count, 110);
    assert_int_equal(r->endpoint[0].statuses, 3);
    assert_int_equal(r->endpoint[0].status[0].count, 8 + 99);
    assert_true(r->endpoint[0].latency.p50 > 3900 * US);
    assert_true(r->endpoint[0].latency.min == MS);
    report_free(r);
    store_close(c.s);
}

static struct store *ten_intervals(const char *path)
{
    struct store *s = store_open(path, "1", 0, NULL, NULL);
    store_push(s, make_run("1", AT, "[\"x\"]", "{}"));
    struct row_process p = {
        .process = 1, .pid = 1, .merged = 1, .start_ns = AT, .exit_code = -1, .signal = -1};
    store_push(s, make_process(&p, "/x", "x"));
    store_push(s, make_endpoint(1, "x", "http", SIDE_SERVER, "GET /a", 0));
    store_push(s, make_endpoint(2, "x", "http", SIDE_SERVER, "GET /b", 0));
    for (uint32_t i = 1; i <= 10; i++) {
        struct sketch latency;
        sketch_init(&latency);
        sketch_add(&latency, pool, i * MS);
        struct row_interval interval = {.interval = i,
                                        .closed = 1,
                                        .start_ns = AT + (i - 1) * 10 * SECOND,
                                        .end_ns = AT + i * 10 * SECOND,
                                        .written = 5,
                                        .drained = 5};
        struct row_total t = {.interval = i,
                              .endpoint = i <= 3 ? 1 : 2,
                              .class = 2,
                              .count = 1,
                              .latency_sum = i * MS,
                              .cpu_count = 1,
                              .waits_count = 1,
                              .wall = {.cpu_ns = 5, .lock_ns = i, .disk_ns = 2, .sleep_ns = 3, .runqueue_ns = 4},
                              .downstream_ns = 100,
                              .cost = {.allocated = 100 * i, .cpu_ns = 7}};
        store_push(s, make_total(&t, &latency, &latency));
        store_push(s, make_interval(&interval));
        sketch_clear(&latency, pool);
    }
    store_push(s, make_commit(AT + 100 * SECOND));
    return s;
}

static void test_where_time_went_outlives_the_merging_of_intervals(void **state)
{
    (void)state;
    struct store *s = ten_intervals("none");
    int merged = 0;
    assert_int_equal(store_roll(store_connection(s), "main", 2, 0, 11, &merged), SQLITE_OK);
    assert_int_equal(merged, 9);
    assert_int_equal(store_ask(store_connection(s), "main", "SELECT sum(unknown_ns) FROM %s.total"), 55 * MS - 10 * 114 - 55);
    assert_int_equal(store_ask(store_connection(s), "main", "SELECT sum(cpu_count) FROM %s.total"), 10);
    struct report *r;
    assert_int_equal(report_load(store_connection(s), NULL, &r), 0);
    assert_int_equal(r->endpoint[0].measured.cpu_ns, 35); /* 4 to 10 are one endpoint's */
    assert_int_equal(r->endpoint[0].measured.lock_ns, 49);
    assert_int_equal(r->endpoint[0].measured.runqueue_ns, 28);
    cJSON *j = as_json(r);
    int64_t sum = number(j, "endpoints.0.cpu_wall_ns");
    static const char *const waits[] = {"lock", "disk", "downstream", "sleep", "runqueue", "unknown"};
    for (size_t i = 0; i < 6; i++) {
        char path[64];
        snprintf(path, sizeof path, "endpoints.0.waits_ns.%s", waits[i]);
        sum += (int64_t)number(j, path);
    }
    assert_int_equal(sum, 49 * MS);
    assert_int_equal(sum, number(j, "endpoints.0.latency_ns.sum"));
    cJSON_Delete(j);
    report_free(r);
    store_close(s);
}

static void test_since_shows_whole_intervals_of_that_time(void **state)
{
    (void)state;
    struct store *s = ten_intervals("none");
    struct report *r;
    assert_int_equal(
        report_load(store_connection(s), &(struct report_query){.since_ns = AT + 75 * SECOND}, &r),
        0);
    assert_int_equal(r->requests, 3);
    assert_int_equal(r->endpoints, 1);
    assert_int_equal(r->events.written, 15);
    assert_int_equal(r->from_ns, AT + 70 * SECOND);
    assert_int_equal(r->to_ns, AT + 100 * SECOND);
    assert_int_equal(r->endpoint[0].latency.min, 8 * MS);
    assert_int_equal(r->endpoint[0].cpu_ns, 21);
    report_free(r);
    assert_int_equal(
        report_load(store_connection(s), &(struct report_query){.since_ns = AT + 500 * SECOND}, &r),
        0);
    assert_int_equal(r->requests, 0);
    report_free(r);
    assert_int_equal(report_load(store_connection(s), &(struct report_query){.sort = "p99"}, &r),
                     0);
    assert_string_equal(r->endpoint[0].name, "GET /b");
    assert_int_equal(r->endpoint[0].latency.p999, 10 * MS);
    assert_true(r->endpoint[0].latency.p50 >= 7 * MS * 99 / 100 &&
                r->endpoint[0].latency.p50 <= 7 * MS * 101 / 100);
    report_free(r);
    store_close(s);
}

static void test_verdicts(void **state)
{
    (void)state;
    struct {
        uint64_t lost, bound;
        bool unread, process, ended;
        enum report_verdict verdict;
    } cases[] = {
        {0, 0, false, true, true, REPORT_COMPLETE}, {1, 0, false, true, true, REPORT_LOSSY},
        {1, 0, true, true, true, REPORT_LOSSY},     {0, 0, true, true, true, REPORT_PARTIAL},
        {0, 1, false, true, true, REPORT_PARTIAL},  {0, 0, false, false, true, REPORT_PARTIAL},
        {0, 0, false, true, false, REPORT_PARTIAL}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct scene c = begin("none", "[\"x\"]", "{}");
        if (cases[i].process)
            process(&c, "/x", "x", 1, 0);
        if (cases[i].unread)
            store_push(c.s, make_unread("1.1.1.1:1", UNREAD_UNKNOWN, 1, 1, 1));
        events(&c, 100, cases[i].lost);
        c.interval.flow.bound_connections = cases[i].bound;
        end(&c, cases[i].ended ? 0 : -1, -1);
        struct report *r = load(&c, NULL);
        assert_int_equal(r->verdict, cases[i].verdict);
        assert_int_equal(report_is_complete(r), cases[i].verdict == REPORT_COMPLETE);
        assert_int_equal(r->events.written, r->events.drained + r->events.lost_sum);
        report_free(r);
        store_close(c.s);
    }
}

static void test_unknown_is_null(void **state)
{
    (void)state;
    struct scene c = begin("none", "[\"x\"]", "{\"memory.heap\":false}");
    process(&c, "/x", "x", 1, 0);
    requests(&c, "x", "http",
             &(struct traffic){"GET /a", 10, 0, 0, MS, MS, MS, 10, 20, 0, 0, SIDE_SERVER});
    end(&c, 0, -1);
    struct report *r = load(&c, NULL);
    cJSON *j = as_json(r);
    assert_int_equal(number(j, "endpoints.0.heap.allocated_bytes"), -1);
    assert_int_equal(number(j, "processes.0.allocated_bytes"), -1);
    assert_int_equal(number(j, "outside.freed_bytes"), -1);
    cJSON_Delete(j);
    report_free(r);
    store_close(c.s);

    c = begin("none", "[\"x\"]", "{}");
    struct row_process p = {.process = 1,
                            .pid = 1,
                            .merged = 1,
                            .flags = PROCESS_OWN_MALLOC,
                            .heap_tail_unknown = 1,
                            .exit_code = -1,
                            .signal = -1};
    store_push(c.s, make_process(&p, "/x", "x"));
    requests(&c, "x", "http",
             &(struct traffic){"GET /a", 10, 0, 0, MS, MS, MS, 10, 20, 0, 0, SIDE_SERVER});
    end(&c, 0, -1);
    r = load(&c, NULL);
    j = as_json(r);
    assert_int_equal(number(j, "endpoints.0.heap.allocated_bytes"), -1);
    assert_int_equal(number(j, "processes.0.allocated_bytes"), -1);
    assert_int_equal(number(j, "processes.0.exit_code"), -1);
    assert_string_equal(
        words(cJSON_GetArrayItem(cJSON_GetObjectItem(j, "processes"), 0), "heap_tail"), "unknown");
    cJSON_Delete(j);
    report_free(r);
    store_close(c.s);
}

/* --- files --- */

static int try_read(const char *name, char *message, size_t room)
{
    struct report *r = NULL;
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    int rc = report_read(path, NULL, &r, message, room);
    report_free(r);
    return rc;
}

static void write_bytes(const char *name, const char *bytes, size_t len, long at)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, at ? "r+" : "w");
    assert_non_null(f);
    fseek(f, at, SEEK_SET);
    fwrite(bytes, 1, len, f);
    fclose(f);
}

static void test_bad_files_are_told_apart(void **state)
{
    (void)state;
    char message[PATH_MAX + 256], path[PATH_MAX];
    assert_int_equal(try_read("none.db", message, sizeof message), -ENOENT);
    assert_non_null(strstr(message, "sonde run"));
    assert_int_equal(try_read(".", message, sizeof message), -EISDIR);
    write_bytes("text.db",
                "hello, this is a text file that is long enough to have a whole header in it, is "
                "it not? yes",
                90, 0);
    assert_int_equal(try_read("text.db", message, sizeof message), -EUCLEAN);
    assert_non_null(strstr(message, "not a store"));
    snprintf(path, sizeof path, "%s/a.db", folder);
    store_close(ten_intervals(path));
    assert_int_equal(try_read("a.db", message, sizeof message), 0);
    char noise[8192];
    memset(noise, 0x5a, sizeof noise);
    for (long at = 4096; at < 65536; at += 8192)
        write_bytes("a.db", noise, sizeof noise, at);
    assert_int_equal(try_read("a.db", message, sizeof message), -EUCLEAN);
    assert_non_null(strstr(message, "damaged"));
    /* reserved, its command never began */
    char chosen[PATH_MAX];
    snprintf(path, sizeof path, "%s/b.db", folder);
    assert_int_equal(store_choose_path(path, chosen, sizeof chosen, message, sizeof message), 0);
    assert_int_equal(try_read("b.db", message, sizeof message), -ENODATA);
}

static void test_a_store_that_somebody_edited_is_read_all_the_same(void **state)
{
    (void)state;
    static const char *const edits[] = {
        "UPDATE endpoint SET service = NULL",
        "UPDATE endpoint SET protocol = NULL, name = NULL, side = 7",
        "UPDATE endpoint SET merged_into = CASE endpoint WHEN 1 THEN 2 ELSE 1 END",
        "UPDATE endpoint SET merged_into = 4000000000",
        "UPDATE process SET executable = NULL, service = NULL",
        "UPDATE run SET command = '{\"a\":1}', settings = '[', host = NULL",
        "UPDATE run SET start_ns = 9e18, end_ns = 1",
        "UPDATE total SET latency = x'ff', first = x'00', count = -5",
        "UPDATE total SET endpoint = endpoint + 1000",
        "INSERT INTO in_flight VALUES(1, 2, 3, NULL, 4, 5, NULL)",
        "INSERT INTO unread VALUES(1, 'a', 'b', 1, 1, 1)",
        "INSERT INTO documents(output) VALUES('u')",
        "INSERT INTO loss VALUES(1, 'x', 'y', 4)",
        "INSERT INTO span(endpoint, duration_ns, start_ns, failed) VALUES(1, 1, 1, 1)",
        "DELETE FROM process",
        "DELETE FROM interval",
    };
    for (size_t i = 0; i < sizeof edits / sizeof *edits; i++) {
        char path[PATH_MAX], message[PATH_MAX + 256];
        sqlite3 *db;
        struct report *r;
        snprintf(path, sizeof path, "%s/%zu.db", folder, i);
        struct scene c = nginx_scene(path);
        end(&c, 0, -1);
        store_close(c.s);
        assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
        assert_int_equal(sqlite3_exec(db, edits[i], NULL, NULL, NULL), SQLITE_OK);
        sqlite3_close(db);
        assert_int_equal(
            report_read(path, &(struct report_query){.slowest = 3}, &r, message, sizeof message),
            0);
        struct report_style style = {.columns = 80};
        free(page(r, &style, false));
        free(page(r, &style, true));
        cJSON_Delete(as_json(r));
        report_free(r);
    }
}

static void test_a_store_of_another_version_says_how_to_read_it(void **state)
{
    (void)state;
    char path[PATH_MAX], message[2 * PATH_MAX + 256];
    sqlite3 *db;
    struct report *r;
    snprintf(path, sizeof path, "%s/a.db", folder);
    store_close(ten_intervals(path));
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "PRAGMA user_version = 1; UPDATE run SET version = '0.0.7'", NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
    assert_int_equal(report_read(path, NULL, &r, message, sizeof message), -EPROTONOSUPPORT);
    assert_non_null(strstr(message, "version 1, by sonde 0.0.7;"));
    assert_non_null(strstr(message, "a.db 'SELECT * FROM requests'"));
}

static void test_a_run_without_an_end_is_told(void **state)
{
    (void)state;
    char path[PATH_MAX], message[PATH_MAX + 256];
    struct report *r;
    snprintf(path, sizeof path, "%s/a.db", folder);
    store_close(ten_intervals(path)); /* nobody holds it, no end was written */
    assert_int_equal(report_read(path, NULL, &r, message, sizeof message), 0);
    assert_true(r->abandoned);
    assert_int_equal(r->verdict, REPORT_PARTIAL);
    struct report_style style = {.columns = 80};
    char *text = page(r, &style, false);
    assert_non_null(strstr(text, "broken off"));
    assert_non_null(strstr(text, "nothing is known after 12:01:40"));
    free(text);
    report_free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, make_folder, remove_folder)
        TEST(test_page_nginx),
        TEST(test_page_wide_and_utf8),
        TEST(test_page_narrow),
        TEST(test_page_narrow_with_many_routes),
        TEST(test_page_redis_with_losses),
        TEST(test_page_tls_not_read),
        TEST(test_page_killed_server_names_what_was_in_flight),
        TEST(test_pages_without_a_request),
        TEST(test_page_only_outbound),
        TEST(test_page_several_services_many_endpoints),
        TEST(test_page_hostile_text_does_not_reach_the_terminal),
        TEST(test_page_slowest),
        TEST(test_colour_only_when_asked),
        TEST(test_json_holds_what_it_promises),
        TEST(test_json_keeps_big_integers_and_odd_text),
        TEST(test_merged_endpoints_add_up),
        TEST(test_where_time_went_outlives_the_merging_of_intervals),
        TEST(test_since_shows_whole_intervals_of_that_time),
        TEST(test_verdicts),
        TEST(test_unknown_is_null),
        TEST(test_bad_files_are_told_apart),
        TEST(test_a_store_that_somebody_edited_is_read_all_the_same),
        TEST(test_a_store_of_another_version_says_how_to_read_it),
        TEST(test_a_run_without_an_end_is_told),
    };
    setenv("TZ", "UTC", 1);
    tzset();
    pool = sketch_pool_new(4 << 20);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
