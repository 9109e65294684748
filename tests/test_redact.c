/*
 * test_redact.c - what of targets and error texts is kept: documents of (input, output), and that
 * no secret survives any way of writing it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "collector/redact.h"

struct expectation {
    const char *target, *without, *with; /* queries; NULL: the same */
};

static const struct expectation targets[] = {
    {"/", "/", NULL},
    {"/users/71", "/users/71", NULL},
    {"/users/71?tab=2&sort=up", "/users/71", "/users/71?tab=2&sort=up"},
    {"/a#fragment", "/a", NULL},
    {"/a?x=1#frag?y", "/a", "/a?x=1"},
    {"/reset/AKIAIOSFODNN7EXAMPLE", "/reset/{masked}", NULL},
    {"/reset/AKIAIOSFODNN7EXAMPLE/x", "/reset/{masked}/x", NULL},
    {"/reset/%41KIAIOSFODNN7EXAMPLE", "/reset/{masked}", NULL},
    {"/reset/%2541KIAIOSFODNN7EXAMPLE", "/reset/{masked}", NULL},
    {"/static/app.0123456789abcdef0123.css", "/static/{masked}.css", NULL},
    {"/o/550e8400-e29b-41d4-a716-446655440000", "/o/{masked}", NULL},
    {"/getUserAccountInformation", "/getUserAccountInformation", NULL},
    {"/terms-and-conditions-of-use", "/terms-and-conditions-of-use", NULL},
    {"/QwErTyUiOpAsDfGhJkLz", "/{masked}", NULL},
    {"/abcdefghijklmnopqrstuvwxyzabcdefgh", "/{masked}", NULL},
    {"/12345678901234567890123", "/12345678901234567890123", NULL},
    {"/u/joe@example.com", "/u/{masked}", NULL},
    {"/u/joe%40example.com/x", "/u/{masked}/x", NULL},
    {"/npm/react@18.2.0", "/npm/react@18.2.0", NULL},
    {"/proxy/http://joe:pw@host/x", "/proxy/http://{masked}/x", NULL},
    {"http://joe:pw@example.com:80/a/b", "http://example.com:80/a/b", NULL},
    {"http://joe:p@w@example.com/a", "http://example.com/a", NULL},
    {"http://joe:pw@example.com", "http://example.com", NULL},
    {"http://joe:pw@example.com?token=x", "http://example.com",
     "http://example.com?token={masked}"},
    {"example.com:443", "example.com:443", NULL},
    {"joe:pw@a-very-long-host-name-7.example.com:443", "a-very-long-host-name-7.example.com:443",
     NULL},
    {"*", "*", NULL},
    {"/a b\x01\x7f\xff", "/a%20b%01%7F%FF", NULL},
    {"/a;jsessionid=1234/b;v=1", "/a/b", "/a;jsessionid={masked}/b;v=1"},
    {"/?token=abc", "/", "/?token={masked}"},
    {"/?access_token=abc&x=1", "/", "/?access_token={masked}&x=1"},
    {"/?API-KEY=abc", "/", "/?API-KEY={masked}"},
    {"/?t%6fken=abc", "/", "/?t%6fken={masked}"},
    {"/?Password=a;b=1", "/", "/?Password={masked};b=1"},
    {"/?code=4/P7q&state=xy", "/", "/?code={masked}&state={masked}"},
    {"/?signature=a&X-Amz-Signature=b", "/", "/?signature={masked}&X-Amz-Signature={masked}"},
    {"/?session=a&auth=b&secret=c", "/", "/?session={masked}&auth={masked}&secret={masked}"},
    {"/?q=AKIAIOSFODNN7EXAMPLE", "/", "/?q={masked}"},
    {"/?AKIAIOSFODNN7EXAMPLE", "/", "/?{masked}"},
    {"/?to=joe@example.com", "/", "/?to={masked}"},
    {"/?next=http%3A%2F%2Fjoe:pw@host%2F", "/", "/?next={masked}"},
    {"/?&&=&a", "/", "/?&&=&a"},
    {"", "", NULL},
    {"?", "", "?"},
};

static void expect_redacted(const char *target, size_t len, bool queries, const char *expected)
{
    char out[REDACTED_MAX + 1];
    char *exact = malloc(len + 1); /* so that a sanitizer sees reading beyond it */
    memcpy(exact, target, len);
    char *tight = realloc(exact, len ? len : 1);
    size_t n = redact_target(tight, len, false, queries, out, REDACTED_MAX);
    out[n] = 0;
    free(tight);
    assert_string_equal(out, expected);
}

static void test_targets_are_kept_as_the_documents_say(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof targets / sizeof *targets; i++) {
        const struct expectation *e = &targets[i];
        expect_redacted(e->target, strlen(e->target), false, e->without);
        expect_redacted(e->target, strlen(e->target), true, e->with ? e->with : e->without);
    }
}

static void test_a_cut_target_loses_its_last_part(void **state)
{
    (void)state;
    static const char *const cases[][3] = {
        {"/a/AKIAIOSFODN", "/a/{cut}", "/a/{cut}"},
        {"/a/b?x=1&token=AKIA", "/a/b", "/a/b?x=1&{cut}"},
        {"/a/b#x", "/a/b", "/a/b"},
        {"http://joe:pw@exam", "http://exam{cut}", "http://exam{cut}"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int queries = 0; queries < 2; queries++) {
            char out[REDACTED_MAX + 1];
            size_t n =
                redact_target(cases[i][0], strlen(cases[i][0]), true, queries, out, REDACTED_MAX);
            out[n] = 0;
            assert_string_equal(out, cases[i][1 + queries]);
        }
}

static void test_what_does_not_fit_is_cut(void **state)
{
    (void)state;
    char target[600], out[80];
    memset(target, 'a', sizeof target);
    for (size_t i = 0; i < sizeof target; i += 10)
        target[i] = '/';
    size_t n = redact_target(target, sizeof target, false, false, out, 64);
    assert_in_range(n, 40, 64);
    assert_memory_equal(out, "/aaaaaaaaa/", 11);
    assert_memory_equal(out + n - 5, REDACT_CUT, 5);
    memset(target + 1, '\xff', sizeof target - 1);
    n = redact_target(target, sizeof target, false, true, out, 64);
    assert_in_range(n, 1, 64);
}

/* A token in every place, each of its letters encoded or not: no six of its letters come out, in
 * either order of masks. */
static void test_no_way_of_writing_a_token_lets_it_through(void **state)
{
    (void)state;
    static const char token[] = "s3cr3tT0kenWithManyLetters42";
    static const char *const places[] = {"/a/%s",
                                         "/a/%s/b",
                                         "/%s;v=1/x",
                                         "http://u:%s@host/x",
                                         "http://%s@host/",
                                         "/a;session=%s",
                                         "/?x=%s",
                                         "/?token=%s&y",
                                         "/?%s",
                                         "/?%s=1",
                                         "/a?x=1;y=%s",
                                         "//%s//",
                                         "/http://joe:%s@h/",
                                         "%s",
                                         "x/%s"};
    unsigned chance = 7;
    for (size_t p = 0; p < sizeof places / sizeof *places; p++)
        for (int round = 0; round < 200; round++) {
            char written[128], target[256], out[REDACTED_MAX + 1], decoded[REDACTED_MAX + 1];
            size_t n = 0;
            for (size_t i = 0; token[i]; i++) {
                chance = chance * 1103515245 + 12345;
                bool encode = round && (chance >> 16) % 4 == 0;
                n += (size_t)snprintf(written + n, sizeof written - n, encode ? "%%%02x" : "%c",
                                      token[i]);
            }
            const char *mark = strstr(places[p], "%s");
            snprintf(target, sizeof target, "%.*s%s%s", (int)(mark - places[p]), places[p], written,
                     mark + 2);
            size_t len = redact_target(target, strlen(target), false, round % 2, out, REDACTED_MAX);
            decoded[redact_decode(out, len, decoded)] = 0;
            for (size_t i = 0; i + 6 < sizeof token; i++) {
                char piece[7] = {0};
                memcpy(piece, token + i, 6);
                if (strstr(decoded, piece))
                    fail_msg("%s came out as %.*s", target, (int)len, out);
            }
        }
}

static void test_output_is_printable_for_any_bytes(void **state)
{
    (void)state;
    unsigned chance = 3;
    for (int round = 0; round < 20000; round++) {
        char target[300], out[REDACTED_MAX];
        static const char often[] = "/?&=;%@:#.a1";
        chance = chance * 1103515245 + 12345;
        size_t len = (chance >> 16) % sizeof target;
        for (size_t i = 0; i < len; i++) {
            chance = chance * 1103515245 + 12345;
            target[i] = chance & 0x10000 ? often[(chance >> 20) % 12] : (char)(chance >> 22);
        }
        size_t n = redact_target(target, len, round & 1, round & 2, out, sizeof out);
        assert_true(n <= sizeof out);
        for (size_t i = 0; i < n; i++)
            assert_in_range(out[i], 0x21, 0x7e);
    }
}

static void test_only_the_first_word_of_an_error_is_kept(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"WRONGTYPE Operation against a key", "WRONGTYPE"},
        {"ERR unknown command 'hunter2'", "ERR"},
        {"ERR", "ERR"},
        {"MOVED 3999 10.0.0.1:6381", "MOVED"},
        {"", ""},
        {" x", ""},
        {"a\x01z", "a"},
        {"AKIAIOSFODNN7EXAMPLE is no key", "{masked}"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char out[32];
        size_t n = redact_word(cases[i][0], strlen(cases[i][0]), out, sizeof out);
        assert_int_equal(n, strlen(cases[i][1]));
        assert_memory_equal(out, cases[i][1], n);
    }
    char out[4];
    assert_int_equal(redact_word("WRONGTYPE", 9, out, sizeof out), 4);
}

static void test_secrets_in_a_command_line_are_masked(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"redis-server", "redis-server"},
        {"--requirepass", "--requirepass"},
        {"hunter2", "{masked}"},
        {"--port", "--port"},
        {"7000", "7000"},
        {"--password=hunter2", "--password={masked}"},
        {"--password-file=/etc/x", "--password-file=/etc/x"},
        {"--token-path", "--token-path"},
        {"/etc/y", "/etc/y"},
        {"--masterauth", "--masterauth"},
        {"--save", "--save"},
        {"", ""},
        {"DB_PASSWORD=hunter2", "DB_PASSWORD={masked}"},
        {"-Djavax.net.ssl.keyStorePassword=hunter2", "-Djavax.net.ssl.keyStorePassword={masked}"},
        {"-H", "-H"},
        {"Authorization: Bearer hunter2", "Authorization: {masked}"},
        {"-H", "-H"},
        {"Accept: text/html", "Accept: text/html"},
        {"-u", "-u"},
        {"joe:hunter2", "joe:{masked}"},
        {"-u", "-u"},
        {"nobody", "nobody"},
        {"postgres://joe:hunter2@db/x", "postgres://{masked}@db/x"},
        {"http://db/x@y", "http://db/x@y"},
        {"--auth", "--auth"},
        {"hunter2", "{masked}"},
        {"hunter3", "hunter3"},
        {"--notify-keyspace-events", "--notify-keyspace-events"},
        {"Ex", "Ex"},
        {"--secret=", "--secret="},
    };
    enum { N = sizeof cases / sizeof *cases };
    char *words[N + 1] = {0};
    for (size_t i = 0; i < N; i++)
        words[i] = strdup(cases[i][0]);
    redact_command(words);
    for (size_t i = 0; i < N; i++) {
        assert_string_equal(words[i], cases[i][1]);
        free(words[i]);
    }
    redact_command(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_targets_are_kept_as_the_documents_say),
        cmocka_unit_test(test_a_cut_target_loses_its_last_part),
        cmocka_unit_test(test_what_does_not_fit_is_cut),
        cmocka_unit_test(test_no_way_of_writing_a_token_lets_it_through),
        cmocka_unit_test(test_output_is_printable_for_any_bytes),
        cmocka_unit_test(test_only_the_first_word_of_an_error_is_kept),
        cmocka_unit_test(test_secrets_in_a_command_line_are_masked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
