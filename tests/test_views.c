/*
 * test_views.c - the views over a store: memory, CPU, waits, and whether memory grows; made from rows.
 *
 * Pages stand in tests/cases/views/NAME.txt; SONDE_GOLDEN=write makes them anew (then read them: they are the product).
 */
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
#include "tests/views_scene.h"

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
    same_as_golden("views", name, text);
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

/* Nothing sampled is not nothing kept: the most that it may be is told, and no fraction of 0. */
static void test_what_is_kept_has_a_bound(void **state)
{
    static const double want[] = {3 * SAMPLE, 12 * 1.63 * SAMPLE, 120 * 1.17 * SAMPLE};
    static const uint64_t samples[] = {0, 1, 10}; /* in each of 12 intervals */
    (void)state;
    for (int i = 0; i < 3; i++) {
        struct store *s = begin();
        scene_retained = samples[i];
        requests(s, 1, &(struct traffic){"GET /", 10, MS, 41000, 0, {0}, 0, 0, 0});
        scene_retained = UINT64_MAX;
        end(s);
        struct report *r = load(s, &everything);
        char *text = NULL;
        size_t len;
        FILE *f = open_memstream(&text, &len);
        assert_int_equal(report_json(r, f), 0);
        fclose(f);
        cJSON *j = cJSON_Parse(text), *heap = cJSON_GetObjectItem(cJSON_GetArrayItem(cJSON_GetObjectItem(j, "endpoints"), 0), "heap");
        double most = cJSON_GetNumberValue(cJSON_GetObjectItem(heap, "retained_most"));
        assert_true(fabs(most - want[i]) < want[i] / 100);
        assert_int_equal(cJSON_IsNull(cJSON_GetObjectItem(heap, "retained_error")), i == 0);
        cJSON_Delete(j);
        free(text);
        report_free(r);
        store_close(s);
    }
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

static void test_json_stays_one_object(void **state)
{
    (void)state;
    struct store *s = shop();
    end(s);
    for (int asked = 0; asked < 2; asked++) {
        struct report *r = load(s, asked ? &everything : NULL);
        char *text = NULL;
        size_t len;
        FILE *f = open_memstream(&text, &len);
        assert_int_equal(report_json(r, f), 0);
        fclose(f);
        const char *rest;
        cJSON *j = cJSON_ParseWithOpts(text, &rest, true);
        assert_non_null(j);
        const cJSON *sites = cJSON_GetObjectItem(j, "sites"), *first = cJSON_GetArrayItem(sites, 0);
        assert_int_equal(cJSON_GetArraySize(sites), asked ? 6 : 0);
        assert_true(asked || cJSON_IsNull(sites));
        if (asked) {
            assert_string_equal(cJSON_GetStringValue(cJSON_GetObjectItem(first, "endpoint")), "POST /orders");
            assert_int_equal(cJSON_GetObjectItem(first, "allocated_bytes")->valuedouble, 90 * SAMPLE);
            assert_string_equal(cJSON_GetStringValue(cJSON_GetObjectItem(first, "grows")), "sure");
            assert_string_equal(cJSON_GetStringValue(cJSON_GetArrayItem(cJSON_GetObjectItem(first, "stack"), 3)), "handler");
            assert_int_equal(cJSON_GetObjectItem(cJSON_GetArrayItem(sites, 5), "waited_ns")->valuedouble, 400 * MS);
        }
        cJSON_Delete(j);
        free(text);
        report_free(r);
    }
    store_close(s);
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

/* --- the slowest requests --- */

/* receive, work, downstream, send, then within the work: cpu, lock, disk, sleep, run queue */
static void slow_span(struct store *s, uint64_t at_ms, const uint64_t ms[9], bool measured, bool answered)
{
    static uint64_t id;
    uint64_t work = ms[1] + ms[2];
    struct row_span span = {.id = ++id,
                            .endpoint = 1,
                            .process = 1,
                            .start_ns = AT + at_ms * MS,
                            .duration_ns = (ms[0] + work + ms[3]) * MS,
                            .queue_ns = 9 * MS,
                            .receive_ns = ms[0] * MS,
                            .work_ns = answered ? work * MS : UINT64_MAX,
                            .send_ns = ms[3] * MS,
                            .downstream_ns = ms[2] * MS,
                            .wall = {ms[4] * MS, ms[5] * MS, ms[6] * MS, ms[7] * MS, ms[8] * MS},
                            .cpu_known = measured,
                            .waits_known = measured,
                            .retained = UINT64_MAX,
                            .rate = 1,
                            .status = answered ? 200 : 0,
                            .answered = answered,
                            .why = WHY_SLOW};
    store_push(s, make_span(&span, "POST", "/orders", ""));
}

static void test_slowest_shows_what_the_work_was(void **state)
{
    (void)state;
    static const uint64_t locked[9] = {10, 300, 90, 11, 40, 180, 20, 30, 20}, quick[9] = {10, 100, 0, 5, 60, 0, 0, 0, 30},
                          unmeasured[9] = {10, 200, 100, 5, 0, 0, 0, 0, 0}, several[9] = {0, 100, 0, 0, 150, 50, 0, 0, 0};
    char folder[] = "/tmp/sonde-views-XXXXXX", path[64], command[96];
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/s.db", folder);
    scene_path = path;
    struct store *s = shop();
    scene_path = "none";
    slow_span(s, 1000, locked, true, true);
    slow_span(s, 2000, quick, true, true);
    slow_span(s, 3000, unmeasured, false, true);
    slow_span(s, 4000, several, true, true); /* two threads worked for it: more than its time */
    slow_span(s, 5000, quick, true, false);
    slow_span(s, 6000, quick, false, false);
    end(s);
    struct report *r = load(s, &(struct report_query){.slowest = 6});
    struct report_style style = {.columns = 80};
    char *text = NULL;
    size_t len;
    FILE *f = open_memstream(&text, &len);
    report_slowest_text(r, &style, f);
    fclose(f);
    same_as_golden("views", "slowest", text);
    assert_true(longest_line(text) <= 80);
    assert_null(strchr(text, '\033'));
    free(text);
    report_free(r);
    store_close(s);
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    assert_int_equal(system(command), 0);
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
        cmocka_unit_test(test_json_stays_one_object),
        cmocka_unit_test(test_what_is_kept_has_a_bound),
        cmocka_unit_test(test_slowest_shows_what_the_work_was),
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
