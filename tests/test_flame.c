/*
 * test_flame.c - flame graphs and leaks over a store made from rows.
 *
 * Pages stand in tests/cases/views/NAME.txt; SONDE_GOLDEN=write makes them anew (then read them: they are the product).
 */
#include <errno.h>
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
#include <sqlite3.h>

#include "collector/flame.h"
#include "tests/views_scene.h"

static const char *const hostile = "</script><script>alert(1)</script> < a;b \"c\" \\ & 'd'\n\033[1m < \xff\xfe < main";

__attribute__((noinline)) static char *flame(const struct report *r, enum flame_by by, const char *route, enum flame_format format)
{
    struct flame f;
    const char *nearest;
    char *text = NULL;
    size_t len;
    assert_int_equal(flame_build(&f, r, by, route, &nearest), 0);
    FILE *to = open_memstream(&text, &len);
    assert_int_equal(flame_put(&f, format, to), 0);
    fclose(to);
    flame_free(&f);
    return text;
}

static void test_collapsed(void **state)
{
    (void)state;
    struct store *s = shop();
    end(s);
    struct report *r = load(s, &everything);
    char *text = flame(r, FLAME_ALLOCATED, NULL, FLAME_COLLAPSED);
    same_as_golden("views", "flame_allocated", text);
    free(text);
    text = flame(r, FLAME_RETAINED, "/orders", FLAME_COLLAPSED);
    assert_string_equal(text, "POST /orders;main;handler;orders_body;order_new;malloc 37224448\n"); /* 71 samples */
    free(text);
    text = flame(r, FLAME_LIVE, "outside", FLAME_COLLAPSED);
    assert_string_equal(text, "outside requests;main;[jit];libfoo.so.1+0x12af 2097152\n");
    free(text);
    text = flame(r, FLAME_LOCKWAIT, "POST *", FLAME_COLLAPSED);
    assert_string_equal(text, "POST /orders;main;handler;orders_body;stock_reserve;pthread_mutex_lock 400000000\n");
    free(text);
    text = flame(r, FLAME_LOCKWAIT, "GET /users/{id}", FLAME_COLLAPSED);
    assert_string_equal(text, "");
    free(text);
    report_free(r);
    store_close(s);
}

/* What of a stack is not known stands at its root, so that such stacks stand together. */
static void test_stacks_that_are_not_whole_say_so(void **state)
{
    (void)state;
    struct store *s = begin();
    requests(s, 1, &(struct traffic){"GET /", 5, MS, 4100, 0, {0}, 0, 0, 0});
    stack_to(s, 1, "malloc < f", STACK_CUT);
    stack_to(s, 2, "malloc < g", STACK_UNKNOWN);
    stack_to(s, 3, "malloc < h", STACK_UNSAFE);
    for (uint32_t i = 1; i <= 3; i++)
        site(s, 1, i, SITE_ALLOCATED, 1, NULL);
    end(s);
    struct report *r = load(s, &everything);
    char *text = flame(r, FLAME_ALLOCATED, NULL, FLAME_COLLAPSED);
    assert_non_null(strstr(text, "GET /;[cut];f;malloc 524288\n"));
    assert_non_null(strstr(text, "GET /;[no unwind table];g;malloc 524288\n"));
    assert_non_null(strstr(text, "GET /;[not walked on];h;malloc 524288\n"));
    free(text);
    report_free(r);
    store_close(s);
}

static void test_unknown_route_names_the_nearest(void **state)
{
    (void)state;
    struct store *s = shop();
    end(s);
    struct report *r = load(s, &everything);
    static const char *const asked[][2] = {
        {"GET /user/{id}", "GET /users/{id}"}, {"/ordes", "POST /orders"}, {"GET /static/a.css", "GET /static/*.css"}};
    for (size_t i = 0; i < 3; i++) {
        struct flame f;
        const char *nearest = NULL;
        assert_int_equal(flame_build(&f, r, FLAME_ALLOCATED, asked[i][0], &nearest), -ENOENT);
        assert_string_equal(nearest, asked[i][1]);
        flame_free(&f);
    }
    report_free(r);
    store_close(s);
}

/* As https://www.speedscope.app/file-format-schema.json wants a file with one sampled profile. */
static void check_speedscope(const char *text, double weight)
{
    cJSON *j = cJSON_Parse(text);
    assert_non_null(j);
    assert_string_equal(cJSON_GetStringValue(cJSON_GetObjectItem(j, "$schema")),
                        "https://www.speedscope.app/file-format-schema.json");
    const cJSON *frames = cJSON_GetObjectItem(cJSON_GetObjectItem(j, "shared"), "frames"), *item, *index;
    assert_true(cJSON_IsArray(frames));
    cJSON_ArrayForEach(item, frames) assert_true(cJSON_IsString(cJSON_GetObjectItem(item, "name")));
    const cJSON *profiles = cJSON_GetObjectItem(j, "profiles"), *p = cJSON_GetArrayItem(profiles, 0);
    assert_int_equal(cJSON_GetArraySize(profiles), 1);
    assert_string_equal(cJSON_GetStringValue(cJSON_GetObjectItem(p, "type")), "sampled");
    assert_true(cJSON_IsString(cJSON_GetObjectItem(p, "name")));
    assert_string_equal(cJSON_GetStringValue(cJSON_GetObjectItem(p, "unit")), "bytes");
    const cJSON *samples = cJSON_GetObjectItem(p, "samples"), *weights = cJSON_GetObjectItem(p, "weights");
    assert_int_equal(cJSON_GetArraySize(samples), cJSON_GetArraySize(weights));
    double sum = 0;
    cJSON_ArrayForEach(item, weights) sum += item->valuedouble;
    cJSON_ArrayForEach(item, samples) cJSON_ArrayForEach(index, item) assert_true(
        index->valueint >= 0 && index->valueint < cJSON_GetArraySize(frames));
    assert_int_equal(sum, weight);
    assert_int_equal(cJSON_GetObjectItem(p, "startValue")->valuedouble, 0);
    assert_int_equal(cJSON_GetObjectItem(p, "endValue")->valuedouble, weight);
    cJSON_Delete(j);
}

static void test_speedscope(void **state)
{
    (void)state;
    struct store *s = shop();
    stack(s, 9, hostile);
    site(s, 1, 9, SITE_ALLOCATED, 3, NULL);
    end(s);
    struct report *r = load(s, &everything);
    char *text = flame(r, FLAME_ALLOCATED, NULL, FLAME_SPEEDSCOPE);
    check_speedscope(text, (90 + 80 + 140 + 30 + 6 + 3) * (double)SAMPLE);
    free(text);
    report_free(r);
    store_close(s);
}

static int count_of(const char *text, const char *word)
{
    int n = 0;
    for (const char *at = text; (at = strstr(at, word)); at += strlen(word))
        n++;
    return n;
}

static void test_html_stands_alone_and_names_are_data(void **state)
{
    (void)state;
    struct store *s = shop();
    requests(s, 4, &(struct traffic){"GET /<img src=x onerror=alert(1)>&\"'", 5, MS, 4100, 0, {0}, 0, 0, 0});
    stack(s, 9, hostile);
    site(s, 4, 9, SITE_ALLOCATED, 3, NULL);
    end(s);
    struct report *r = load(s, &everything);
    char *text = flame(r, FLAME_ALLOCATED, "GET /<img src=x onerror=alert(1)>&\"'", FLAME_HTML);
    assert_int_equal(count_of(text, "<script"), 2);
    assert_int_equal(count_of(text, "</script>"), 2);
    assert_int_equal(count_of(text, "<img"), 0);
    assert_int_equal(count_of(text, "http://") + count_of(text, "https://"), 0);
    assert_int_equal(count_of(text, "src="), count_of(text, "src=x"));
    assert_int_equal(count_of(text, "@TITLE@") + count_of(text, "@DATA@") + count_of(text, "@SUMMARY@"), 0);
    char *data = strstr(text, "id=\"data\">"), *stop = data ? strstr(data, "</script>") : NULL;
    assert_non_null(stop);
    *stop = 0;
    cJSON *j = cJSON_Parse(data + strlen("id=\"data\">"));
    assert_non_null(j);
    int numbers = cJSON_GetArraySize(cJSON_GetObjectItem(j, "node"));
    assert_int_equal(numbers, 5 * (1 + 1 + 4)); /* the root, the route, four frames */
    cJSON_Delete(j);
    free(text);
    report_free(r);
    store_close(s);
}

/* 5000 stacks of 30 frames: every byte of them in the tree, once. */
static void test_many_stacks(void **state)
{
    (void)state;
    struct store *s = begin();
    char frames[2048];
    requests(s, 1, &(struct traffic){"GET /", 5, MS, 4100, 0, {0}, 0, 0, 0});
    srand(3);
    for (uint32_t i = 1; i <= 5000; i++) {
        int used = 0;
        for (int k = 0; k < 30; k++)
            used += snprintf(frames + used, sizeof frames - (size_t)used, "%sf%d", k ? " < " : "", rand() % (k < 10 ? 400 : 3));
        stack(s, i, frames);
        site(s, 1, i, SITE_ALLOCATED, 1 + i % 3, NULL);
    }
    end(s);
    struct report *r = load(s, &everything);
    struct flame f;
    assert_int_equal(flame_build(&f, r, FLAME_ALLOCATED, NULL, NULL), 0);
    uint64_t self = 0, expected = 0;
    for (uint32_t i = 1; i <= 5000; i++)
        expected += (1 + i % 3) * (uint64_t)SAMPLE;
    for (uint32_t i = 0; i < f.nodes; i++) {
        uint64_t children = 0;
        for (uint32_t c = f.node[i].child; c; c = f.node[c].sibling)
            children += f.node[c].all;
        assert_int_equal(f.node[i].all, f.node[i].self + children);
        self += f.node[i].self;
    }
    assert_int_equal(self, expected);
    assert_int_equal(f.node[0].all, expected);
    flame_free(&f);
    char *text = flame(r, FLAME_ALLOCATED, NULL, FLAME_HTML);
    assert_true(strlen(text) < 6 << 20);
    free(text);
    report_free(r);
    store_close(s);
}

/* --- leaks --- */

static void expect_leaks(struct store *s, const char *name)
{
    struct report *r = load(s, &everything);
    struct report_style style = {.columns = 80};
    char *text = NULL;
    size_t len;
    FILE *f = open_memstream(&text, &len);
    report_leaks_text(r, &style, f);
    fclose(f);
    same_as_golden("views", name, text);
    assert_true(longest_line(text) <= 80);
    assert_null(strstr(text, " \n"));
    free(text);
    report_free(r);
    store_close(s);
}

static void test_leaks(void **state)
{
    (void)state;
    struct store *s = shop();
    end(s);
    expect_leaks(s, "leaks");
}

static void test_no_leaks_says_what_was_looked_at(void **state)
{
    (void)state;
    struct store *s = begin();
    requests(s, 2, &(struct traffic){"GET /users/{id}", 1500, 118 * US, 4200, 0, {0}, 0, 0, 0});
    stack(s, 2, "malloc < cache_put (inlined) < users_get < handler < main");
    site(s, 2, 2, SITE_ALLOCATED, 80, filled);
    end(s);
    expect_leaks(s, "leaks_none");

    s = begin_with("{\"memory.stacks\":false}");
    requests(s, 2, &(struct traffic){"GET /users/{id}", 1500, 118 * US, 4200, 0, {0}, 0, 0, 0});
    end(s);
    expect_leaks(s, "leaks_not_known");
}

static void test_leaks_as_json(void **state)
{
    (void)state;
    struct store *s = shop();
    end(s);
    struct report *r = load(s, &everything);
    char *text = NULL;
    size_t len;
    FILE *f = open_memstream(&text, &len);
    assert_int_equal(report_leaks_json(r, f), 0);
    fclose(f);
    cJSON *j = cJSON_Parse(text);
    assert_non_null(j);
    const cJSON *leaks = cJSON_GetObjectItem(j, "leaks"), *first = cJSON_GetArrayItem(leaks, 0);
    assert_int_equal(cJSON_GetArraySize(leaks), 2);
    assert_string_equal(cJSON_GetStringValue(cJSON_GetObjectItem(first, "verdict")), "sure");
    assert_string_equal(cJSON_GetStringValue(cJSON_GetObjectItem(first, "endpoint")), "POST /orders");
    assert_string_equal(cJSON_GetStringValue(cJSON_GetArrayItem(cJSON_GetObjectItem(first, "stack"), 1)), "order_new");
    double each = cJSON_GetObjectItem(first, "bytes_per_request")->valuedouble;
    assert_true(each > 28e3 && each < 34e3);
    assert_string_equal(cJSON_GetStringValue(cJSON_GetObjectItem(cJSON_GetArrayItem(leaks, 1), "verdict")), "too few samples");
    assert_true(cJSON_IsNull(cJSON_GetObjectItem(cJSON_GetArrayItem(leaks, 1), "endpoint")));
    cJSON_Delete(j);
    free(text);
    report_free(r);
    store_close(s);
}

/* Whatever stands in the tables, all views come to an end and write what they should. */
static void test_a_store_that_somebody_edited_is_shown_all_the_same(void **state)
{
    (void)state;
    static const char *const edits[] = {
        "UPDATE stack SET frames = NULL",
        "UPDATE stack SET frames = ' < ' || frames || ' < '",
        "UPDATE stack SET frames = ''",
        "UPDATE stack SET frames = ' <  < (((<<<>>) operator< operator<<(operator()'",
        "UPDATE stack SET frames = printf('%.40000c', 'x')",
        "UPDATE OR IGNORE stack SET stack = stack + 1000",
        "UPDATE site SET samples = -1, amount = -5, live_bytes = -1, live_samples = -9, oldest_ns = -3",
        "UPDATE OR IGNORE site SET kind = x'00ff'",
        "UPDATE OR IGNORE site SET endpoint = 77",
        "UPDATE OR IGNORE site_live SET interval = interval * 1000000000000",
        "UPDATE site_live SET live_samples = -live_samples",
        "UPDATE site_live SET live_samples = 9e18, live_bytes = 0",
        "UPDATE interval SET closed = 0",
        "DELETE FROM interval",
        "UPDATE total SET count = -count, latency_sum = NULL, heap = x'ff', cpu = x'0102'",
        "UPDATE total SET wall_cpu_ns = 9e18, waits_count = -1",
        "UPDATE endpoint SET merged_into = CASE endpoint WHEN 1 THEN 2 ELSE 1 END",
        "UPDATE run SET settings = '{\"memory.sample_bytes\":0,\"waits.sample_ns\":0}'",
        "DELETE FROM total",
    };
    struct report_style style = {.columns = 80};
    for (size_t i = 0; i < sizeof edits / sizeof *edits; i++) {
        struct store *s = shop();
        end(s);
        assert_int_equal(sqlite3_exec(store_connection(s), edits[i], NULL, NULL, NULL), SQLITE_OK);
        struct report *r = load(s, &everything);
        char *text = NULL;
        size_t len;
        FILE *f = open_memstream(&text, &len);
        report_views_text(r, &style, REPORT_MEMORY | REPORT_CPU | REPORT_WAITS, f);
        report_leaks_text(r, &style, f);
        fflush(f);
        if (longest_line(text) > 80)
            fail_msg("%s:\n%s", edits[i], text);
        report_leaks_json(r, f);
        assert_int_equal(report_json(r, f), 0);
        fclose(f);
        free(text);
        for (int by = FLAME_ALLOCATED; by <= FLAME_LOCKWAIT; by++)
            for (int format = FLAME_COLLAPSED; format <= FLAME_HTML; format++)
                free(flame(r, (enum flame_by)by, NULL, (enum flame_format)format));
        report_free(r);
        store_close(s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_collapsed),
        cmocka_unit_test(test_stacks_that_are_not_whole_say_so),
        cmocka_unit_test(test_unknown_route_names_the_nearest),
        cmocka_unit_test(test_speedscope),
        cmocka_unit_test(test_html_stands_alone_and_names_are_data),
        cmocka_unit_test(test_many_stacks),
        cmocka_unit_test(test_leaks),
        cmocka_unit_test(test_no_leaks_says_what_was_looked_at),
        cmocka_unit_test(test_leaks_as_json),
        cmocka_unit_test(test_a_store_that_somebody_edited_is_shown_all_the_same),
    };
    setenv("TZ", "UTC", 1);
    tzset();
    pool = sketch_pool_new(4 << 20);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
