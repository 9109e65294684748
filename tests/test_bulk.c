/*
 * test_bulk.c - what answers to _bulk mean: tests/cases/bulk has what real servers said, word for
 * word.
 *
 * A case: lines of "word value" (status, outcome; fates, limit, words, aside where they matter), an
 * empty line, the answer's body. Besides the answers themselves every cut of them is read: a cut
 * answer must never count as whole.
 */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "collector/sink/bulk.h"

#define CASES "tests/cases/bulk"

static const char *const fate_words[] = {"done", "duplicate", "retry", "retry_a_few",
                                         "hold", "setup",     "dead"};
static const char *const outcome_words[] = {"items", "halve", "smaller",
                                            "hold",  "setup", "back_off"};

struct sample {
    char text[16384];
    unsigned status;
    char outcome[32], fates[256], limit[8], words[400];
    unsigned aside;
    bool has_words;
    const char *body;
    size_t len;
};

/* The text at the end of a page whose next one cannot be read. */
static const char *at_the_edge(const char *text, size_t len)
{
    static char *page;
    const size_t room = 65536;
    if (!page) {
        page = mmap(NULL, room + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        assert_true(page != MAP_FAILED);
        assert_int_equal(mprotect(page + room, 4096, PROT_NONE), 0);
    }
    assert_true(len <= room);
    memcpy(page + room - len, text, len);
    return page + room - len;
}

static void read_case(const char *name, struct sample *s)
{
    char path[300], *line;
    snprintf(path, sizeof path, CASES "/%s", name);
    memset(s, 0, sizeof *s);
    FILE *f = fopen(path, "re");
    assert_non_null(f);
    size_t len = fread(s->text, 1, sizeof s->text - 1, f);
    fclose(f);
    assert_true(len > 0 && len < sizeof s->text - 1);
    char *empty = strstr(s->text, "\n\n");
    assert_non_null(empty);
    s->body = empty + 2;
    s->len = strlen(s->body);
    if (s->len && s->body[s->len - 1] == '\n')
        s->len--;
    *empty = 0;
    for (char *rest = s->text; (line = strsep(&rest, "\n"));) {
        sscanf(line, "status %u", &s->status);
        sscanf(line, "outcome %31s", s->outcome);
        sscanf(line, "fates %255[^\n]", s->fates);
        sscanf(line, "limit %7s", s->limit);
        sscanf(line, "aside %u", &s->aside);
        if (!strncmp(line, "words ", 6)) {
            s->has_words = true;
            snprintf(s->words, sizeof s->words, "%s", line + 6);
        }
    }
}

struct seen {
    char fates[256], words[400];
    unsigned aside, next;
};

static void see(void *to, uint32_t position, const struct bulk_item *item)
{
    struct seen *seen = to;
    enum fate fate = bulk_fate(item);
    assert_int_equal(position, seen->next++);
    size_t used = strlen(seen->fates);
    snprintf(seen->fates + used, sizeof seen->fates - used, "%s%s", used ? " " : "",
             fate_words[fate]);
    if (fate != FATE_DONE)
        bulk_reason(item, seen->words, sizeof seen->words);
    seen->aside += item->failure_store;
}

static void expect_items(const char *name, const struct sample *s)
{
    struct bulk_answer answer;
    struct seen seen = {.next = 0};
    assert_int_equal(bulk_read(at_the_edge(s->body, s->len), s->len, &answer, see, &seen), 0);
    assert_int_equal(answer.items, seen.next);
    if (strcmp(seen.fates, s->fates) != 0 || (s->has_words && strcmp(seen.words, s->words) != 0))
        fail_msg("%s: fates %s, words %s", name, seen.fates, seen.words);
    assert_int_equal(seen.aside, s->aside);
    for (size_t cut = 0; cut < s->len; cut++)
        assert_int_not_equal(bulk_read(at_the_edge(s->body, cut), cut, &answer, NULL, NULL), 0);
}

static void expect_error(const char *name, const struct sample *s)
{
    struct bulk_item error;
    char words[400];
    bulk_read_error(at_the_edge(s->body, s->len), s->len, &error);
    bulk_reason(&error, words, sizeof words);
    if (s->has_words && strcmp(words, s->words) != 0)
        fail_msg("%s: words %s", name, words);
    if (*s->limit)
        assert_int_equal(bulk_pressure_limit(&error, 100000) != 0, !strcmp(s->limit, "yes"));
    assert_true(bulk_pressure_limit(&error, 100000) < 100000);
    for (size_t cut = 0; cut < s->len; cut++)
        bulk_read_error(at_the_edge(s->body, cut), cut, &error);
}

static void test_real_answers_mean_what_the_tables_say(void **state)
{
    (void)state;
    struct dirent **names;
    int count = scandir(CASES, &names, NULL, alphasort), seen = 0;
    assert_true(count > 0);
    for (int i = 0; i < count; i++) {
        struct sample s;
        if (strstr(names[i]->d_name, ".case")) {
            read_case(names[i]->d_name, &s);
            assert_string_equal(outcome_words[bulk_outcome(s.status)], s.outcome);
            if (!strcmp(s.outcome, "items"))
                expect_items(names[i]->d_name, &s);
            else
                expect_error(names[i]->d_name, &s);
            seen++;
        }
        free(names[i]);
    }
    free(names);
    assert_true(seen >= 40);
}

#define MANY 40

struct told {
    unsigned status[MANY];
    uint32_t count;
};

static void note_status(void *to, uint32_t position, const struct bulk_item *item)
{
    struct told *told = to;
    assert_int_equal(position, told->count);
    assert_true(position < MANY);
    told->status[told->count++] = item->status;
}

/* Items of the same bytes are not read twice: each must be told all the same, and none beside its place. */
static void test_every_item_of_a_uniform_answer_is_told_by_its_place(void **state)
{
    (void)state;
    static const char *const between[] = {",", ", ", "\n,"};
    for (size_t b = 0; b < sizeof between / sizeof *between; b++) {
        char text[4096];
        size_t len = (size_t)snprintf(text, sizeof text, "{\"errors\":false,\"items\":[");
        for (unsigned i = 0; i < MANY; i++)
            len += (size_t)snprintf(text + len, sizeof text - len, "%s{\"create\":{\"status\":%u}}", i ? between[b] : "",
                                    i == 17 ? 429 : i == 18 ? 2011 : i > 30 ? 409 : 201);
        len += (size_t)snprintf(text + len, sizeof text - len, "]}");
        struct bulk_answer answer;
        struct told told = {.count = 0};
        assert_int_equal(bulk_read(at_the_edge(text, len), len, &answer, note_status, &told), 0);
        assert_int_equal(answer.items, MANY);
        assert_int_equal(told.count, MANY);
        for (unsigned i = 0; i < MANY; i++)
            assert_int_equal(told.status[i], i == 17 ? 429 : i == 18 ? 2011 : i > 30 ? 409 : 201);
        for (size_t cut = 0; cut < len; cut++)
            assert_int_not_equal(bulk_read(at_the_edge(text, cut), cut, &answer, NULL, NULL), 0);
    }
}

static void test_answers_that_are_no_answers_are_refused(void **state)
{
    (void)state;
    static const char *const texts[] = {"",
                                        " ",
                                        "null",
                                        "[]",
                                        "{",
                                        "{\"items\":[{\"create\":{\"status\":201}}]",
                                        "{\"items\":[{\"create\":{\"status\":201}},]}",
                                        "{\"items\":[{\"create\":{\"status\":201}}]} x",
                                        "{\"items\":[201]}",
                                        "{\"items\":{\"create\":{\"status\":201}}}",
                                        "{\"items\":[{}]}",
                                        "{\"items\":[{\"create\":201}]}",
                                        "{\"errors\"}",
                                        "<html></html>"};
    struct bulk_answer answer;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        if (!bulk_read(texts[i], strlen(texts[i]), &answer, NULL, NULL))
            fail_msg("taken for an answer: %s", texts[i]);
}

static void test_an_answer_without_items_has_none(void **state)
{
    (void)state;
    struct bulk_answer answer;
    assert_int_equal(bulk_read("{}", 2, &answer, NULL, NULL), 0);
    assert_int_equal(answer.items, 0);
    assert_int_equal(bulk_read("{\"errors\":false,\"took\":7}", 25, &answer, NULL, NULL), 0);
    assert_int_equal(answer.items, 0);
    assert_int_equal(answer.took_ms, 7);
}

static void test_deep_nesting_is_refused_without_harm(void **state)
{
    (void)state;
    enum { DEEP = 60000 };
    static char text[DEEP + 16] = "{\"x\":";
    struct bulk_answer answer;
    memset(text + 5, '[', DEEP);
    assert_int_not_equal(bulk_read(text, 5 + DEEP, &answer, NULL, NULL), 0);
}

static void see_no_secret(void *to, uint32_t position, const struct bulk_item *item)
{
    char words[400];
    bulk_reason(item, words, sizeof words);
    if (strstr(words, "hunter2"))
        fail_msg("item %u: %s", position, words);
    ++*(unsigned *)to;
}

static void test_reasons_never_show_what_a_document_held(void **state)
{
    (void)state;
    static const char answer[] =
        "{\"items\":[{\"create\":{\"status\":400,\"error\":{\"type\":\"document_parsing_"
        "exception\",\"reason\":"
        "\"[1:9] failed to parse field [url.path] of type [long] in document with id 'x'. Preview "
        "of field's value: "
        "'hunter2'\"}}},{\"create\":{\"status\":503,\"error\":{\"type\":\"unavailable_shards_"
        "exception\",\"reason\":"
        "\"[x][0] primary shard is not active Timeout: [1m], request: [source[{hunter2}]]\"}}},"
        "{\"create\":{\"status\":400,\"error\":{\"type\":\"x\",\"reason\":\"failed to parse field "
        "[hunter2\"}}}]}";
    unsigned seen = 0;
    struct bulk_answer out;
    assert_int_equal(bulk_read(answer, sizeof answer - 1, &out, see_no_secret, &seen), 0);
    assert_int_equal(seen, 3);
    static const char whole[] = "{\"error\":{\"type\":\"mapper_parsing_exception\",\"reason\":"
                                "\"failed to parse hunter2\"}}";
    struct bulk_item item;
    assert_true(bulk_read_error(whole, sizeof whole - 1, &item));
    see_no_secret(&seen, 0, &item);
}

static void test_reasons_fit_and_have_no_control_characters(void **state)
{
    (void)state;
    char reason[600], words[40];
    memset(reason, 'a', sizeof reason);
    reason[3] = '\n';
    reason[4] = 27;
    struct bulk_item item = {.type = {"validation_exception", 20},
                             .reason = {reason, sizeof reason}};
    bulk_reason(&item, words, sizeof words);
    assert_int_equal(strlen(words), sizeof words - 1);
    assert_null(strpbrk(words, "\n\033"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_real_answers_mean_what_the_tables_say),
        cmocka_unit_test(test_every_item_of_a_uniform_answer_is_told_by_its_place),
        cmocka_unit_test(test_answers_that_are_no_answers_are_refused),
        cmocka_unit_test(test_an_answer_without_items_has_none),
        cmocka_unit_test(test_deep_nesting_is_refused_without_harm),
        cmocka_unit_test(test_reasons_never_show_what_a_document_held),
        cmocka_unit_test(test_reasons_fit_and_have_no_control_characters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
