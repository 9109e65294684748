/* test_settings.c - configuration: keys, lines of faults, URLs, round trip. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "collector/settings.h"

struct faults {
    int count;
    char where[8][256], what[8][512];
};

static void note(void *to, const char *where, const char *what)
{
    struct faults *f = to;
    if (f->count < 8) {
        snprintf(f->where[f->count], sizeof f->where[0], "%s", where);
        snprintf(f->what[f->count], sizeof f->what[0], "%s", what);
    }
    f->count++;
}

static int parse(struct settings *s, struct faults *f, const char *text)
{
    memset(f, 0, sizeof *f);
    settings_init(s);
    return settings_parse(s, text, strlen(text), "sonde.json", note, f);
}

static void test_nested_and_flat_keys_mean_the_same(void **state)
{
    (void)state;
    struct settings s;
    struct faults f;
    assert_int_equal(parse(&s, &f, "{\"sampling\": {\"spans_per_second\": 5}, \"arena.bytes\": \"64M\","
                                    "\"store\": {\"bytes\": \"2M\"}}"), 0);
    assert_int_equal(s.options.spans_per_second, 5);
    assert_int_equal(s.options.store_bytes, 2 << 20);
    assert_null(s.store);
    assert_int_equal(s.options.arena_bytes, 64 << 20);
    settings_fini(&s);
}

static void test_misspelt_key_is_named_with_line_and_suggestion(void **state)
{
    (void)state;
    struct settings s;
    struct faults f;
    assert_int_equal(parse(&s, &f, "{\n \"name\": \"x\",\n \"sampling\": {\n  \"spans_per_secnd\": 5\n }\n}"), 1);
    assert_string_equal(f.where[0], "sonde.json:4");
    assert_non_null(strstr(f.what[0], "did you mean \"sampling.spans_per_second\""));
    settings_fini(&s);
}

static void test_each_fault_is_reported_with_its_own_line(void **state)
{
    (void)state;
    struct settings s;
    struct faults f;
    assert_int_equal(parse(&s, &f, "{\n\"storr\": 1,\n\"arena.bytes\": \"much\",\n\"interval.s\": 0\n}"), 3);
    assert_string_equal(f.where[0], "sonde.json:2");
    assert_non_null(strstr(f.what[0], "\"store\""));
    assert_string_equal(f.where[1], "sonde.json:3");
    assert_string_equal(f.where[2], "sonde.json:4");
    assert_non_null(strstr(f.what[2], "from 1 to 3600"));
    settings_fini(&s);
}

static void test_broken_json_names_the_line(void **state)
{
    (void)state;
    struct settings s;
    struct faults f;
    assert_int_equal(parse(&s, &f, "{\n\"name\": \"x\"\n\"store\": \"y\"\n}"), 1);
    assert_string_equal(f.where[0], "sonde.json:3");
    settings_fini(&s);
    assert_int_equal(parse(&s, &f, "[1]"), 1);
    settings_fini(&s);
    assert_int_equal(parse(&s, &f, "{} x"), 1);
    settings_fini(&s);
}

static void test_url_with_password_is_refused(void **state)
{
    (void)state;
    struct settings s;
    struct faults f = {0};
    settings_init(&s);
    assert_int_equal(settings_output(&s, "https://elastic:pw@host:9200", note, &f), 1);
    assert_non_null(strstr(f.what[0], "SONDE_PASSWORD"));
    assert_null(strstr(f.what[0], "pw"));
    assert_int_equal(s.outputs, 0);
    settings_fini(&s);
}

static void test_urls_that_are_none_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"host:9200", "ftp://host", "http://", "http://host:0", "http://host:99999",
                                      "http://host:92x0", "http://a:9200,b:9200", ""};
    static const char *const good[] = {"http://host", "https://host:9200/", "http://[::1]:9200",
                                       "http://a:9200,https://b:9201"};
    struct settings s;
    settings_init(&s);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(settings_output(&s, bad[i], NULL, NULL), 1);
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        assert_int_equal(settings_output(&s, good[i], NULL, NULL), 0);
    assert_int_equal(s.outputs, 4);
    settings_fini(&s);
}

static void test_secrets_in_the_file_are_refused(void **state)
{
    (void)state;
    struct settings s;
    struct faults f;
    assert_int_equal(parse(&s, &f, "{\"output\": {\"url\": \"http://h:9200\",\n \"password\": \"x\"}}"), 1);
    assert_non_null(strstr(f.what[0], "password_file"));
    assert_string_equal(f.where[0], "sonde.json:2");
    settings_fini(&s);
}

static void test_json_round_trip_keeps_everything(void **state)
{
    (void)state;
    struct settings a, b;
    struct faults f;
    parse(&a, &f, "{\"name\": \"shop\", \"store.bytes\": 1073741824, \"memory.heap\": false, \"command\": [\"a\", \"b c\"],"
                  "\"output\": [{\"url\": \"http://h:9200\", \"ca_file\": \"/ca\", \"namespace\": \"prod\"}]}");
    char *text = settings_json(&a);
    assert_int_equal(parse(&b, &f, text), 0);
    assert_memory_equal(&a.options, &b.options, sizeof a.options);
    assert_string_equal(b.service, "shop");
    assert_string_equal(b.command[1], "b c");
    assert_null(b.command[2]);
    assert_string_equal(b.output[0].namespace, "prod");
    free(text);
    settings_fini(&a);
    settings_fini(&b);
}

static void test_set_takes_units_and_refuses_what_is_no_number(void **state)
{
    (void)state;
    struct settings s;
    struct faults f = {0};
    settings_init(&s);
    assert_int_equal(settings_set(&s, "store.bytes=2G", note, &f), 0);
    assert_int_equal(s.options.store_bytes, UINT64_C(2) << 30);
    assert_int_equal(settings_set(&s, "store.bytes=-1", note, &f), 1);
    assert_int_equal(settings_set(&s, "store.bytes", note, &f), 1);
    assert_int_equal(settings_set(&s, "capture.data=off", note, &f), 0);
    assert_int_equal(s.options.capture, 0);
    assert_int_equal(settings_set(&s, "arena.bytes=99999999999G", note, &f), 1);
    settings_fini(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nested_and_flat_keys_mean_the_same),
        cmocka_unit_test(test_misspelt_key_is_named_with_line_and_suggestion),
        cmocka_unit_test(test_each_fault_is_reported_with_its_own_line),
        cmocka_unit_test(test_broken_json_names_the_line),
        cmocka_unit_test(test_url_with_password_is_refused),
        cmocka_unit_test(test_urls_that_are_none_are_refused),
        cmocka_unit_test(test_secrets_in_the_file_are_refused),
        cmocka_unit_test(test_json_round_trip_keeps_everything),
        cmocka_unit_test(test_set_takes_units_and_refuses_what_is_no_number),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
