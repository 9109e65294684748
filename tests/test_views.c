/*
 * test_views.c - the views over a store: memory, CPU, waits, slowest requests, leaks, flame graphs; made from rows.
 *
 * Pages stand in tests/cases/views/NAME.txt; SONDE_GOLDEN=write makes them anew (then read them: they are the product).
 */
#include <limits.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cjson/cJSON.h>
#include <cmocka.h>

#include "collector/growth.h"
#include "collector/report.h"
#include "collector/report_model.h"
#include "collector/sink/store.h"
#include "tests/rows_make.h"

static struct sketch_pool *pool;

/* --- a run, told in few words --- */

#define INTERVALS 12

static struct store *begin_with(const char *settings)
{
    struct store *s = store_open("none", "00c0ffee", 0, NULL, NULL);
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

static struct store *begin(void)
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

static void requests(struct store *s, uint32_t endpoint, const struct traffic *t)
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
                                .retained = UINT64_MAX,
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

static void stack(struct store *s, uint32_t number, const char *frames)
{
    struct row_stack *r = make_begin(ROW_STACK, sizeof *r);
    r->stack = number;
    r->text_len = make_tail(frames, strlen(frames));
    store_push(s, make_end());
}

#define SAMPLE 524288

static void lives(struct store *s, uint32_t interval, uint32_t endpoint, uint32_t number, unsigned samples)
{
    struct row_site_live *r = make_begin(ROW_SITE_LIVE, sizeof *r);
    *r = (struct row_site_live){
        .interval = interval, .endpoint = endpoint, .stack = number, .live_samples = samples, .live_bytes = samples * (uint64_t)SAMPLE};
    store_push(s, make_end());
}

/* `live`: samples that live at the end of each interval; NULL: none ever. */
static void site(struct store *s, uint32_t endpoint, uint32_t number, enum site_kind kind, unsigned samples, const unsigned *live)
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

static void end(struct store *s)
{
    for (uint32_t i = 1; i <= INTERVALS; i++) {
        struct row_interval row = {.interval = i,
                                   .closed = 1,
                                   .start_ns = AT + (i - 1) * 10 * SECOND,
                                   .end_ns = AT + i * 10 * SECOND,
                                   .written = 500,
                                   .drained = 500,
                                   .flow = {.outside = {.allocated = 900000, .freed = 20000, .cpu_ns = 11 * MS}}};
        store_push(s, make_interval(&row));
    }
    store_push(s, make_run_end(AT + INTERVALS * 10 * SECOND, 0, -1));
    store_push(s, make_commit(AT + INTERVALS * 10 * SECOND));
}

static const unsigned growing[INTERVALS] = {5, 12, 17, 24, 29, 35, 42, 48, 53, 60, 66, 71};
static const unsigned filled[INTERVALS] = {14, 25, 31, 33, 32, 34, 33, 34, 33, 32, 33, 34};
static const unsigned few[INTERVALS] = {0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4};

static struct store *shop(void)
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

static struct report *load(struct store *s, const struct report_query *q)
{
    struct report *r = NULL;
    assert_int_equal(report_load(store_connection(s), q, &r), 0);
    return r;
}

static const struct report_query everything = {.sites = true, .history = true};

/* --- pages --- */

static char *read_whole(const char *path)
{
    FILE *f = fopen(path, "r");
    if (!f)
        return NULL;
    char *text = calloc(1, 65536);
    size_t n = fread(text, 1, 65535, f);
    text[n] = 0;
    fclose(f);
    return text;
}

static int longest_line(const char *text)
{
    int longest = 0, width = 0;
    for (; *text; text++) {
        if (*text == '\n')
            width = 0;
        else if (((unsigned char)*text & 0xc0) != 0x80)
            width++;
        longest = width > longest ? width : longest;
    }
    return longest;
}

static void same_as_golden(const char *name, const char *text)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "tests/cases/views/%s.txt", name);
    if (getenv("SONDE_GOLDEN")) {
        FILE *f = fopen(path, "w");
        assert_non_null(f);
        fputs(text, f);
        fclose(f);
        return;
    }
    char *golden = read_whole(path);
    if (!golden)
        fail_msg("%s is missing", path);
    if (strcmp(golden, text) != 0)
        fail_msg("%s differs; now it is:\n%s", path, text);
    free(golden);
}

__attribute__((noinline)) static char *view(const struct report *r, unsigned views, const struct report_style *style)
{
    char *text = NULL;
    size_t len;
    FILE *f = open_memstream(&text, &len);
    report_views_text(r, style, views, f);
    fclose(f);
    return text;
}

static void expect_view(struct store *s, unsigned views, const char *name, int columns, bool utf8)
{
    struct report *r = load(s, &everything);
    struct report_style style = {.columns = columns, .utf8 = utf8, .store = "./sonde.db"};
    char *text = view(r, views, &style);
    same_as_golden(name, text);
    assert_true(longest_line(text) <= columns);
    assert_null(strstr(text, " \n"));
    assert_null(strchr(text, '\033'));
    free(text);
    report_free(r);
    store_close(s);
}

static void test_memory(void **state)
{
    (void)state;
    struct store *s = shop();
    end(s);
    expect_view(s, REPORT_MEMORY, "memory", 80, false);
    s = shop();
    end(s);
    expect_view(s, REPORT_MEMORY, "memory_wide", 120, true);
}

static void test_cpu(void **state)
{
    (void)state;
    struct store *s = shop();
    end(s);
    expect_view(s, REPORT_CPU, "cpu", 80, false);
}

static void test_waits(void **state)
{
    (void)state;
    struct store *s = shop();
    end(s);
    expect_view(s, REPORT_WAITS, "waits", 80, false);
}

static void test_few_samples_name_the_setting(void **state)
{
    (void)state;
    struct store *s = begin();
    requests(s, 1, &(struct traffic){"GET /", 10, MS, 41000, 31000, {0}, 0, 0, 0});
    stack(s, 1, "malloc < main");
    site(s, 1, 1, SITE_ALLOCATED, 9, few);
    end(s);
    expect_view(s, REPORT_MEMORY, "memory_few", 80, false);
}

/* A store of a run without stacks, CPU and waits: no number is made up. */
static void test_what_was_not_measured_is_not_known(void **state)
{
    (void)state;
    struct store *s = begin_with("{\"memory.stacks\":false,\"time.cpu\":false,\"time.waits\":false}");
    requests(s, 1, &(struct traffic){"GET /", 10, MS, 41000, 0, {0}, 0, 0, 0});
    end(s);
    expect_view(s, REPORT_MEMORY | REPORT_CPU | REPORT_WAITS, "nothing_measured", 80, false);
}

/* The sum of a row's cells is its first one, to the last digit. */
static void test_waits_add_up(void **state)
{
    (void)state;
    srand(7);
    for (int round = 0; round < 60; round++) {
        struct store *s = begin();
        uint64_t scale = round % 3 ? (round % 3 == 1 ? 1000 : 1000000) : 10;
#define SOME ((uint64_t)rand() % 97 * scale / 3)
        struct traffic t = {"GET /", 7, 0, 10, 0, {SOME, SOME, SOME, SOME, SOME}, SOME, 1, 7};
        t.latency = t.wall.cpu_ns + t.wall.lock_ns + t.wall.disk_ns + t.wall.sleep_ns + t.wall.runqueue_ns + t.downstream + SOME + 1;
            requests(s, 1, &t);
        end(s);
        struct report *r = load(s, &everything);
        struct report_style style = {.columns = 80};
        char *text = view(r, REPORT_WAITS, &style);
        const char *row = strstr(text, "\nGET /");
        assert_non_null(row);
        double wall, sum = 0;
        int used = 0;
        assert_int_equal(sscanf(text + (row - text) + 6, "%lf%n", &wall, &used), 1);
        size_t at = (size_t)(row - text) + 6 + (size_t)used;
        at += strcspn(text + at, " ");
        for (int i = 0; i < 7; i++) {
            char *after;
            sum += strtod(text + at, &after);
            assert_true(after > text + at);
            at = (size_t)(after - text);
        }
        if (fabs(sum - wall) > 1e-6)
            fail_msg("%f is not %f:\n%s", sum, wall, text);
        free(text);
        report_free(r);
        store_close(s);
    }
}

static void test_hostile_names_do_not_reach_the_terminal(void **state)
{
    (void)state;
    struct store *s = begin();
    requests(s, 1, &(struct traffic){"GET /\033[2J", 10, MS, 4100, 0, {0}, 0, 0, 0});
    stack(s, 1, "\033]0;x\007 < a\xc2\x9b" "31m < b\n\nc");
    site(s, 1, 1, SITE_ALLOCATED, 900, growing);
    end(s);
    struct report *r = load(s, &everything);
    struct report_style style = {.columns = 80, .utf8 = true};
    char *text = view(r, REPORT_MEMORY, &style);
    for (const char *at = text; *at; at++)
        assert_true((unsigned char)*at >= 0x20 || *at == '\n');
    assert_null(strstr(text, "\xc2\x9b"));
    free(text);
    report_free(r);
    store_close(s);
}

/* --- does it grow --- */

static struct growth growth_with(const unsigned *live, int n, uint64_t requests_each)
{
    struct growth_point p[64];
    for (int i = 0; i < n; i++)
        p[i] = (struct growth_point){(uint64_t)(i + 1) * requests_each, live[i], (uint64_t)live[i] * SAMPLE};
    return growth_of(p, n);
}

static void test_growth_of_a_leak_is_sure(void **state)
{
    (void)state;
    struct growth g = growth_with(growing, INTERVALS, 100);
    assert_int_equal(g.verdict, GROWTH_SURE);
    assert_true(g.bytes_each > 28e3 && g.bytes_each < 34e3); /* 6 samples of 512 KiB in 100 requests */
    assert_true(g.error > 0.05 && g.error < 0.3);
}

static void test_growth_of_a_cache_that_is_full_is_none(void **state)
{
    (void)state;
    enum growth_verdict v = growth_with(filled, INTERVALS, 100).verdict;
    assert_true(v == GROWTH_STOPPED || v == GROWTH_NONE);
}

static void test_growth_of_few_samples_is_not_known(void **state)
{
    (void)state;
    assert_int_equal(growth_with(few, INTERVALS, 100).verdict, GROWTH_UNKNOWN);
    assert_int_equal(growth_with(growing, 4, 100).verdict, GROWTH_UNKNOWN);
    assert_int_equal(growth_with(growing, INTERVALS, 0).verdict, GROWTH_UNKNOWN);
    unsigned none[INTERVALS] = {0};
    assert_int_equal(growth_with(none, INTERVALS, 100).verdict, GROWTH_NONE);
}

static unsigned poisson(double mean)
{
    double limit = exp(-mean), product = 1;
    unsigned n = 0;
    for (;; n++) {
        product *= (rand() + 1.0) / (RAND_MAX + 2.0);
        if (product <= limit)
            return n;
    }
}

/* Of steady memory hardly any may be called a leak, of leaks with 30 samples and more nearly none be missed. */
static void test_growth_is_seldom_wrong(void **state)
{
    (void)state;
    int false_sure = 0, false_likely = 0, missed = 0, rounds = 400, stopped_wrong = 0;
    srand(11);
    for (int round = 0; round < rounds; round++) {
        unsigned steady[24], leak[24], cache[24], walk[24], sum = 0;
        int level = 40;
        for (int i = 0; i < 24; i++) {
            steady[i] = poisson(60);
            sum += poisson(1.5);
            leak[i] = sum + poisson(8);
            cache[i] = poisson(50 * (1 - exp(-i / 4.0)));
            level += (int)poisson(4) - (int)poisson(level / 10.0); /* slow churn about a level */
            walk[i] = (unsigned)(level > 0 ? level : 0);
        }
        enum growth_verdict a = growth_with(steady, 24, 1000).verdict, b = growth_with(leak, 24, 1000).verdict,
                            c = growth_with(cache, 24, 1000).verdict, d = growth_with(walk, 24, 1000).verdict;
        false_sure += (a == GROWTH_SURE) + (d == GROWTH_SURE);
        false_likely += (a == GROWTH_LIKELY) + (d == GROWTH_LIKELY);
        missed += b != GROWTH_SURE && b != GROWTH_LIKELY;
        stopped_wrong += c == GROWTH_SURE;
    }
    print_message("steady called sure %d, likely %d of %d; leaks missed %d, caches called sure %d of %d\n", false_sure,
                  false_likely, 2 * rounds, missed, stopped_wrong, rounds);
    assert_true(false_sure <= 2 * rounds / 100);
    assert_true(false_likely <= 2 * rounds / 20);
    assert_true(missed <= rounds / 50);
    assert_true(stopped_wrong <= rounds / 50);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_memory),
        cmocka_unit_test(test_cpu),
        cmocka_unit_test(test_waits),
        cmocka_unit_test(test_few_samples_name_the_setting),
        cmocka_unit_test(test_what_was_not_measured_is_not_known),
        cmocka_unit_test(test_waits_add_up),
        cmocka_unit_test(test_hostile_names_do_not_reach_the_terminal),
        cmocka_unit_test(test_growth_of_a_leak_is_sure),
        cmocka_unit_test(test_growth_of_a_cache_that_is_full_is_none),
        cmocka_unit_test(test_growth_of_few_samples_is_not_known),
        cmocka_unit_test(test_growth_is_seldom_wrong),
    };
    setenv("TZ", "UTC", 1);
    tzset();
    pool = sketch_pool_new(4 << 20);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
