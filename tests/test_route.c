/*
 * test_route.c - which endpoint a request counts for: documents of (requests, names), bounds, late
 * merges, the cache.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "collector/route.h"
#include "collector/verb.h"

#define MOST 4096

/* What the endpoints above would be: names, merges, and a count each, as rollup keeps them. */
static struct {
    char *name[MOST];
    uint32_t merged_into[MOST];
    uint64_t count[MOST];
    uint32_t made, most;
} seen;
static struct route_cache *cache;
static struct routes *table;

static uint32_t on_create(void *to, const char *name, size_t len, const char *verb)
{
    (void)to;
    (void)verb;
    if (seen.made + 1 >= seen.most)
        return 0;
    seen.name[++seen.made] = strndup(name, len);
    return seen.made;
}

static void on_merge(void *to, uint32_t from, uint32_t into)
{
    (void)to;
    assert_int_not_equal(from, into);
    assert_int_equal(seen.merged_into[from], 0);
    seen.merged_into[from] = into;
}

static void start(enum route_style style, size_t limit)
{
    for (uint32_t i = 0; i < MOST; i++)
        free(seen.name[i]);
    routes_free(table);
    route_cache_free(cache);
    memset(&seen, 0, sizeof seen);
    seen.most = MOST;
    cache = route_cache_new();
    table = routes_new(style, limit, cache, &(struct route_events){on_create, on_merge, NULL});
    assert_non_null(table);
}

static int finish(void **state)
{
    (void)state;
    start(ROUTE_HTTP, 1);
    routes_free(table);
    route_cache_free(cache);
    table = NULL;
    cache = NULL;
    return 0;
}

static struct route_request request(const char *verb, const char *target, bool missing)
{
    return (struct route_request){.verb = verb,
                                  .verb_len = strlen(verb),
                                  .target = target,
                                  .target_len = strlen(target),
                                  .missing = missing};
}

static uint32_t ask(const char *verb, const char *target, bool missing)
{
    struct route_request q = request(verb, target, missing);
    uint32_t endpoint = routes_find(table, &q);
    assert_in_range(endpoint, 1, seen.made);
    seen.count[endpoint]++;
    return endpoint;
}

static const char *name_of(const char *verb, const char *target)
{
    return seen.name[ask(verb, target, false)];
}

static uint32_t final(uint32_t endpoint)
{
    while (seen.merged_into[endpoint])
        endpoint = seen.merged_into[endpoint];
    return endpoint;
}

/* All that counts for the endpoint of this name, merged ones included. */
static uint64_t count_of(const char *name)
{
    uint64_t sum = 0;
    for (uint32_t i = 1; i <= seen.made; i++)
        if (!strcmp(seen.name[final(i)], name))
            sum += seen.count[i];
    return sum;
}

struct expectation {
    const char *target, *name;
};

static const struct expectation paths[] = {
    {"/", "GET /"},
    {"/users", "GET /users"},
    {"/users/", "GET /users/"},
    {"/users/71", "GET /users/{id}"},
    {"/users/71/orders/9", "GET /users/{id}/orders/{id}"},
    {"/users/71?tab=2", "GET /users/{id}"},
    {"/?token=abc", "GET /"},
    {"/users#top", "GET /users"},
    {"/v1/items", "GET /v1/items"},
    {"/2.0/items", "GET /2.0/items"},
    {"/1.2.3/items", "GET /{id}/items"},
    {"/-12.5,8", "GET /{id}"},
    {"/o/550e8400-e29b-41d4-a716-446655440000", "GET /o/{id}"},
    {"/o/550E8400-E29B-41D4-A716-446655440000/x", "GET /o/{id}/x"},
    {"/commit/a1b2c3d", "GET /commit/{id}"},
    {"/commit/da39a3ee5e6b4b0d3255bfef95601890afd80709", "GET /commit/{id}"},
    {"/cafe", "GET /cafe"},
    {"/decade", "GET /decade"},
    {"/days/2024-01-31", "GET /days/{date}"},
    {"/days/2024-01", "GET /days/{date}"},
    {"/days/2024-01-31T12:00:00Z", "GET /days/{date}"},
    {"/days/2024-13-31", "GET /days/{id}"},
    {"/2024/01/31/title", "GET /{id}/{id}/{id}/title"},
    {"/reset/eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc_DEF123", "GET /reset/{id}"},
    {"/reset/AKIAIOSFODNN7EXAMPLE", "GET /reset/{id}"},
    {"/getUserAccountInformation", "GET /getUserAccountInformation"},
    {"/terms-and-conditions-of-use", "GET /terms-and-conditions-of-use"},
    {"/u/joe@example.com/x", "GET /u/{id}/x"},
    {"/u/joe%40example.com", "GET /u/{id}"},
    {"/@vue/reactivity", "GET /@vue/reactivity"},
    {"/static/app.9f3c2a.css", "GET /static/*.css"},
    {"/static/index-BNqSdX8k.js", "GET /static/*.js"},
    {"/static/site.css", "GET /static/site.css"},
    {"/static/jquery-3.6.0.min.js", "GET /static/jquery-3.6.0.min.js"},
    {"/img/1234.png", "GET /img/*.png"},
    {"/img/IMG_20240131.jpg", "GET /img/*.jpg"},
    {"/reports/2024-01-31.pdf", "GET /reports/*.pdf"},
    {"/index.html", "GET /index.html"},
    {"/a//b", "GET /a/b"},
    {"//a/b", "GET /a/b"},
    {"/a/./b", "GET /a/b"},
    {"/a/c/../b", "GET /a/b"},
    {"/../../etc", "GET /etc"},
    {"/a/..", "GET /"},
    {"/a/.", "GET /a/"},
    {"/%2e%2e/%61", "GET /a"},
    {"/%7Ejoe", "GET /~joe"},
    {"/caf%c3%a9", "GET /caf%C3%A9"},
    {"/caf\xc3\xa9", "GET /caf%C3%A9"},
    {"/a%2fb", "GET /a%2Fb"},
    {"/a%00\x01", "GET /a%00%01"},
    {"/a%zz", "GET /a%25zz"},
    {"/{id}", "GET /%7Bid%7D"},
    {"/*", "GET /%2A"},
    {"/a;jsessionid=1A2B/b", "GET /a/b"},
    {"http://example.com", "GET /"},
    {"http://example.com/users/7?x=/", "GET /users/{id}"},
    {"https://joe:secret@example.com:8443/a", "GET /a"},
    {"http://example.com?x", "GET /"},
    {"/abcdefghijklmnopqrstuvwxyz-abcdefghijklmnopqrstuvwxyz", "GET /{name}"},
    {"/a/b/c/d/e/f/g/h/i/j/k/l", "GET /a/b/c/d/e/f/g/h/i/j/k/l"},
    {"/a/b/c/d/e/f/g/h/i/j/k/l/m", "GET /a/b/c/d/e/f/g/h/i/j/k/{rest}"},
    {"/a/b/c/d/e/f/g/h/i/j/k/n/m", "GET /a/b/c/d/e/f/g/h/i/j/k/{rest}"},
    {"", "{other}"},
    {"nonsense", "{other}"},
    {"*", "GET *"},
};

static void test_paths_have_the_names_that_the_documents_say(void **state)
{
    (void)state;
    for (int again = 0; again < 2; again++) /* then from the cache */
        for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
            if (!again && i == 0)
                start(ROUTE_HTTP, 200);
            assert_string_equal(name_of("GET", paths[i].target), paths[i].name);
        }
}

static void test_names_foretold_are_the_names_given(void **state)
{
    (void)state;
    start(ROUTE_HTTP, 200);
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        char told[ROUTE_NAME_MAX], alone[ROUTE_NAME_MAX];
        struct route_request q = request("GET", paths[i].target, false);
        size_t len = routes_name(table, ROUTE_HTTP, &q, told);
        assert_int_equal(len, strlen(paths[i].name));
        assert_memory_equal(told, paths[i].name, len);
        assert_int_equal(routes_name(NULL, ROUTE_HTTP, &q, alone), len);
        assert_memory_equal(alone, told, len);
        if (i % 2)
            ask("GET", paths[i].target, false);
    }
}

static void test_methods_are_bounded(void **state)
{
    (void)state;
    start(ROUTE_HTTP, 200);
    assert_string_equal(name_of("POST", "/a"), "POST /a");
    assert_string_equal(name_of("PROPFIND", "/a"), "PROPFIND /a");
    assert_string_equal(name_of("get", "/a"), "{other} /a");
    assert_string_equal(name_of("XYZZY", "/a"), "{other} /a");
    assert_string_equal(name_of("OPTIONS", "*"), "OPTIONS *");
    assert_string_equal(name_of("CONNECT", "example.com:443"), "CONNECT {authority}");
    assert_string_equal(name_of("CONNECT", "joe:pw@10.0.0.1:8080"), "CONNECT {authority}");
    assert_string_equal(name_of("GET", "example.com:443"), "{other}");
}

static void test_cut_targets_end_in_rest(void **state)
{
    (void)state;
    start(ROUTE_HTTP, 200);
    struct route_request q = request("GET", "/a/b/c12", false);
    q.cut = true;
    assert_string_equal(seen.name[routes_find(table, &q)], "GET /a/b/{rest}");
    assert_string_equal(name_of("GET", "/a/b/c12"),
                        "GET /a/b/c12"); /* the cache knows them apart */
    q = request("GET", "/a/b?c", false);
    q.cut = true;
    assert_string_equal(seen.name[routes_find(table, &q)], "GET /a/b");
}

static void test_missing_pages_make_no_routes(void **state)
{
    (void)state;
    start(ROUTE_HTTP, 200);
    for (int i = 0; i < 1000; i++) {
        char target[64];
        snprintf(target, sizeof target, "/wp-admin/x%d.php", i);
        assert_string_equal(seen.name[ask("GET", target, true)], "{unmatched}");
    }
    assert_int_equal(routes_live(table), 0);
    assert_string_equal(seen.name[ask("GET", "/users/7", true)], "{unmatched}");
    assert_string_equal(name_of("GET", "/users/8"), "GET /users/{id}");
    assert_string_equal(seen.name[ask("GET", "/users/7", true)],
                        "GET /users/{id}"); /* not from the cache */
    assert_string_equal(seen.name[ask("DELETE", "/users/7", true)], "{unmatched}");
    assert_string_equal(seen.name[ask("GET", "junk", true)], "{unmatched}");
    assert_int_equal(count_of("{unmatched}"), 1003);
}

static void test_the_fifty_first_literal_collapses_a_node_and_old_counts_add_up(void **state)
{
    (void)state;
    start(ROUTE_HTTP, 200);
    char target[64];
    uint64_t asked = 0;
    for (int i = 0; i < 50; i++) {
        snprintf(target, sizeof target, "/users/u%c%c", 'a' + i / 26, 'a' + i % 26);
        ask("GET", target, false);
        strcat(target, "/orders");
        ask("POST", target, false);
        asked++;
    }
    ask("GET", "/users/12", false);
    assert_int_equal(routes_live(table), 101);
    assert_int_equal(count_of("GET /users/{name}"), 0);
    ask("GET", "/users/zz", false);
    assert_int_equal(routes_live(table), 3);
    assert_int_equal(count_of("GET /users/{name}"), asked + 1);
    assert_int_equal(count_of("POST /users/{name}/orders"), asked);
    assert_int_equal(count_of("GET /users/{id}"), 1);
    assert_string_equal(name_of("GET", "/users/uaa"), "GET /users/{name}"); /* a cached one too */
    assert_string_equal(name_of("GET", "/users/"), "GET /users/");
    assert_string_equal(name_of("GET", "/users/13"), "GET /users/{id}");
}

static void test_files_of_a_collapsed_folder_keep_their_endings(void **state)
{
    (void)state;
    start(ROUTE_HTTP, 200);
    char target[64];
    for (int i = 0; i < 60; i++) {
        snprintf(target, sizeof target, "/docs/page%c%c.%s", 'a' + i / 26, 'a' + i % 26,
                 i % 2 ? "html" : "css");
        ask("GET", target, false);
    }
    ask("GET", "/docs/word", false);
    assert_int_equal(count_of("GET /docs/*.html"), 30);
    assert_int_equal(count_of("GET /docs/*.css"), 30);
    assert_int_equal(count_of("GET /docs/{name}"), 1);
    for (int i = 0; i < 100; i++) {
        snprintf(target, sizeof target, "/docs/1234.x%d", i);
        ask("GET", target, false);
    }
    assert_int_equal(routes_live(table), 17); /* 16 endings and {name} */
}

static void test_collapses_inside_what_moves(void **state)
{
    (void)state;
    /* 50 users with 30 different words each below: all under one {name}, which then has too many
     * itself */
    start(ROUTE_HTTP, 100000);
    char target[64];
    uint64_t asked = 0;
    for (int i = 0; i < 50; i++)
        for (int j = 0; j < 30; j++) {
            snprintf(target, sizeof target, "/u%c%c/w%c%c/end", 'a' + i / 26, 'a' + i % 26,
                     'a' + i / 26, 'a' + (i + j) % 26);
            ask("GET", target, false);
            asked++;
        }
    ask("GET", "/another/word/end", false);
    assert_int_equal(count_of("GET /{name}/{name}/end"), asked + 1);
    assert_int_equal(routes_live(table), 1);
}

static void test_above_the_limit_all_is_other(void **state)
{
    (void)state;
    start(ROUTE_HTTP, 10);
    char target[64];
    for (int i = 0; i < 40; i++) {
        snprintf(target, sizeof target, "/r%c%c", 'a' + i / 26, 'a' + i % 26);
        ask("GET", target, false);
    }
    assert_int_equal(routes_live(table), 10);
    assert_int_equal(count_of("{other}"), 30);
    assert_string_equal(name_of("GET", "/raa"), "GET /raa");
    assert_string_equal(name_of("GET", "/r1b"), "{other}");
}

static void test_no_more_numbers_means_other(void **state)
{
    (void)state;
    start(ROUTE_HTTP, 200);
    seen.most = 5; /* numbers 1 to 4 */
    ask("GET", "/a", false);
    ask("GET", "/b", false);
    seen.most = 3;
    struct route_request q = request("GET", "/c", false);
    assert_int_equal(routes_find(table, &q), 0);
    seen.most = MOST;
    assert_string_equal(name_of("GET", "/c"), "{other}");
    assert_string_equal(name_of("GET", "/a"), "GET /a");
}

/* Whatever is asked, in whatever order: names stay bounded, counts add up, and no name is given
 * twice. */
static void test_any_traffic_stays_bounded_and_adds_up(void **state)
{
    (void)state;
    unsigned chance = 1;
    for (int round = 0; round < 20; round++) {
        size_t limit = round % 2 ? 200 : 20;
        start(ROUTE_HTTP, limit);
        uint64_t asked = 0, counted = 0;
        for (int i = 0; i < 20000; i++) {
            char target[256];
            size_t n = 0;
            chance = chance * 1103515245 + 12345;
            unsigned depth = 1 + (chance >> 16) % 5;
            for (unsigned d = 0; d < depth; d++) {
                chance = chance * 1103515245 + 12345;
                unsigned word = (chance >> 16) % (round < 10 ? 60 : 400);
                n += (size_t)snprintf(target + n, sizeof target - n,
                                      (chance >> 28) % 3 ? "/w%c%c%c" : "/%d%d%d", 'a' + word % 26,
                                      'a' + word / 26 % 26, 'a' + word / 676);
            }
            ask("GET", target, (chance >> 24) % 7 == 0);
            asked++;
            assert_true(routes_live(table) <= limit + 60);
        }
        for (uint32_t i = 1; i <= seen.made; i++) {
            counted += seen.count[i];
            for (uint32_t j = 1; j < i && !seen.merged_into[i]; j++)
                assert_true(seen.merged_into[j] || strcmp(seen.name[i], seen.name[j]));
        }
        assert_int_equal(asked, counted);
        assert_true(seen.made <= 8 * limit + 256 + limit);
    }
}

static void test_redis_commands_are_those_that_exist(void **state)
{
    (void)state;
    start(ROUTE_REDIS, 1); /* no limit: there are only so many */
    assert_string_equal(name_of("GET", ""), "GET");
    assert_string_equal(name_of("ZADD", ""), "ZADD");
    assert_string_equal(name_of("ZADD", ""), "ZADD");
    assert_string_equal(name_of("CONFIG GET", ""), "CONFIG");
    assert_string_equal(name_of("CLIENT|LIST", ""), "CLIENT");
    assert_string_equal(name_of("JSON.SET", ""), "JSON.SET");
    assert_string_equal(name_of("hgetall", ""), "HGETALL");
    assert_string_equal(name_of("HUNTER2", ""), "{other}");
    assert_string_equal(name_of("", ""), "{other}");
    assert_int_equal(seen.made, 7);
}

static void test_words_of_other_protocols_are_limited(void **state)
{
    (void)state;
    start(ROUTE_COMMAND, 3);
    assert_string_equal(name_of("get", ""), "get");
    assert_string_equal(name_of("set x", ""), "set");
    assert_string_equal(name_of("\x01\x02", ""), "{other}");
    assert_string_equal(name_of("AKIAIOSFODNN7EXAMPLE", ""), "{masked}");
    assert_string_equal(name_of("incr", ""), "{other}");
    assert_string_equal(name_of("set", ""), "set");
}

static void test_every_verb_is_found(void **state)
{
    (void)state;
    static const char *const some[] = {"ACL",         "APPEND",     "GET", "FT._LIST",
                                       "ZUNIONSTORE", "XREADGROUP", "VADD"};
    for (size_t i = 0; i < sizeof some / sizeof *some; i++)
        assert_string_equal(verb_redis(some[i], strlen(some[i])), some[i]);
    static const char *const methods[] = {"ACL",      "GET",   "VERSION-CONTROL",
                                          "M-SEARCH", "PATCH", "DELETE"};
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++)
        assert_string_equal(verb_http(methods[i], strlen(methods[i])), methods[i]);
    assert_string_equal(verb_http("GE", 2), "{other}");
    assert_string_equal(verb_http("GETGETGETGETGETGETGETGETGETGETGETGET", 36), "{other}");
}

static void test_tables_do_not_share_routes_though_they_share_the_cache(void **state)
{
    (void)state;
    start(ROUTE_HTTP, 200);
    struct routes *second =
        routes_new(ROUTE_HTTP, 200, cache, &(struct route_events){on_create, on_merge, NULL});
    struct route_request q = request("GET", "/a", false);
    uint32_t one = routes_find(table, &q), two = routes_find(second, &q);
    assert_int_not_equal(one, two);
    assert_int_equal(routes_find(table, &q), one);
    assert_int_equal(routes_find(second, &q), two);
    routes_free(second);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_paths_have_the_names_that_the_documents_say),
        cmocka_unit_test(test_names_foretold_are_the_names_given),
        cmocka_unit_test(test_methods_are_bounded),
        cmocka_unit_test(test_cut_targets_end_in_rest),
        cmocka_unit_test(test_missing_pages_make_no_routes),
        cmocka_unit_test(test_the_fifty_first_literal_collapses_a_node_and_old_counts_add_up),
        cmocka_unit_test(test_files_of_a_collapsed_folder_keep_their_endings),
        cmocka_unit_test(test_collapses_inside_what_moves),
        cmocka_unit_test(test_above_the_limit_all_is_other),
        cmocka_unit_test(test_no_more_numbers_means_other),
        cmocka_unit_test(test_any_traffic_stays_bounded_and_adds_up),
        cmocka_unit_test(test_redis_commands_are_those_that_exist),
        cmocka_unit_test(test_words_of_other_protocols_are_limited),
        cmocka_unit_test(test_every_verb_is_found),
        cmocka_unit_test(test_tables_do_not_share_routes_though_they_share_the_cache),
    };
    return cmocka_run_group_tests(tests, NULL, finish);
}
