/*
 * parser_test.h - runs parser cases (parser_cases.h): whole, byte by byte, cut at every place of
 * every step, at every pair of places of short steps, from the other side, and with its state given
 * back whenever it is idle; and to its end, where all bytes must add up.
 */
#ifndef SONDE_PARSER_TEST_H
#define SONDE_PARSER_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#undef skip /* the name of a call of struct protocol */
#include "tests/parser_cases.h"

enum { PAIRS_UP_TO = 130, EACH_UP_TO = 3000 };

/* Where steps begin in the list of what was told, and what the parser said at their end. */
struct outcome {
    size_t from[CASE_STEPS + 1];
    enum verdict verdicts[CASE_STEPS];
};

/* Cuts one step into pieces that end at cuts[], all others whole; every byte by itself when `each`.
 */
struct cutting {
    size_t step;
    uint64_t cuts[2];
    bool each;
};

static void run_case(const struct parser_case *c, struct run *r, struct cutting cut,
                     struct outcome *to)
{
    run_begin(r);
    for (size_t i = 0; i < c->count; i++) {
        const struct step *s = &c->steps[i];
        to->from[i] = r->count;
        const uint64_t piece = cut.each ? (s->kind == STEP_FEED ? 1 : s->len / 3 + 1) : UINT64_MAX;
        uint64_t done = 0;
        do {
            uint64_t n = s->len - done < piece ? s->len - done : piece;
            for (int k = 0; k < 2 && i == cut.step && !cut.each; k++)
                if (cut.cuts[k] > done && cut.cuts[k] - done < n)
                    n = cut.cuts[k] - done;
            to->verdicts[i] = run_piece(r, s, done, n);
            done += n;
        } while (done < s->len);
    }
    to->from[c->count] = r->count;
    run_finish(r);
}

static void fail_case(const struct parser_case *c, const struct run *r, const char *what,
                      struct cutting cut)
{
    char line[1024];
    for (size_t i = 0; i < r->count; i++) {
        told_line(&r->told[i], line, sizeof line);
        print_message("    %s %s\n", r->told[i].way == IN ? "in " : "out", line);
    }
    if (cut.each)
        fail_msg("%s: %s (each byte by itself%s)", c->path, what,
                 r->mirrored ? ", other side" : "");
    fail_msg("%s: %s (step %zu cut at %llu and %llu%s)", c->path, what, cut.step + 1,
             (unsigned long long)cut.cuts[0], (unsigned long long)cut.cuts[1],
             r->mirrored ? ", other side" : "");
}

/* Runs it cut somehow; all must be as it was whole. */
static void run_like(const struct parser_case *c, const struct run *whole,
                     const struct outcome *want, struct run *r, struct cutting cut)
{
    struct outcome got;
    run_case(c, r, cut, &got);
    if (r->fault)
        fail_case(c, r, r->fault, cut);
    for (size_t i = 0; i < c->count; i++)
        if (got.verdicts[i] != want->verdicts[i] || got.from[i + 1] != want->from[i + 1])
            fail_case(c, r, "the cut changes verdict or number of messages", cut);
    for (size_t i = 0; i < r->count && i < want->from[c->count]; i++)
        if (!same_told(&whole->told[i], &r->told[i], r->mirrored))
            fail_case(c, r, "the cut changes a message", cut);
}

static void run_cuts(const struct parser_case *c, const struct run *whole,
                     const struct outcome *want, struct run *r)
{
    const struct cutting none = {.step = CASE_STEPS};
    run_like(c, whole, want, r, none);
    run_like(c, whole, want, r, (struct cutting){.each = true});
    for (size_t i = 0; i < c->count; i++) {
        const uint64_t len = c->steps[i].len;
        uint64_t by = 1;
        if (c->steps[i].kind == STEP_SKIP && len > 8)
            by = len / 7;
        for (uint64_t a = 1; a < len; a += by) {
            if (len > EACH_UP_TO && a == EACH_UP_TO / 2 && by == 1)
                a = len - EACH_UP_TO / 2; /* a long one is cut in its beginning and its end */
            run_like(c, whole, want, r, (struct cutting){.step = i, .cuts = {a, 0}});
            for (uint64_t b = a + 1; b < len && len <= PAIRS_UP_TO; b++)
                run_like(c, whole, want, r, (struct cutting){.step = i, .cuts = {a, b}});
        }
    }
}

static void step_lines(const struct run *r, const struct outcome *o, size_t step, char **lines)
{
    char line[1024];
    *lines = append(NULL, "");
    for (size_t i = o->from[step]; i < o->from[step + 1]; i++) {
        told_line(&r->told[i], line, sizeof line);
        *lines = append(append(*lines, line), "\n");
    }
    if (o->verdicts[step] != OK) {
        snprintf(line, sizeof line, "= %s\n", verdict_name(o->verdicts[step]));
        *lines = append(*lines, line);
    }
}

/* No beginning of a direction may be taken for another protocol. */
static void check_detection(const struct parser_case *c)
{
    bool seen[2] = {false, false};
    for (size_t i = 0; i < c->count; i++) {
        const struct step *s = &c->steps[i];
        for (int k = 0; protocols[k] && s->kind == STEP_FEED && !seen[s->way]; k++) {
            for (uint64_t n = 1; n <= s->len && n <= EACH_UP_TO && protocols[k] != c->protocol; n++)
                if (protocols[k]->detect(s->way, c->side, at_the_edge(s->bytes, n), n, 0) == OK)
                    fail_msg("%s: step %zu is taken for %s", c->path, i + 1, protocols[k]->name);
        }
        seen[s->way] = true;
    }
}

static void test_case(void **state)
{
    struct parser_case *c =
        case_read(((struct parser_case *)*state)->protocol, ((struct parser_case *)*state)->path);
    struct run whole = {.protocol = c->protocol, .side = c->side};
    struct run other = {.protocol = c->protocol, .side = c->side};
    struct run third = {.protocol = c->protocol, .side = c->side, .mirrored = true};
    const struct cutting none = {.step = CASE_STEPS};
    struct outcome want;
    run_case(c, &whole, none, &want);
    for (size_t i = 0; i < c->count; i++) {
        char *lines;
        step_lines(&whole, &want, i, &lines);
        if (strcmp(lines, c->expected[i]) != 0)
            fail_msg("%s: step %zu: %s\nexpected:\n%stold:\n%s", c->path, i + 1, c->source[i],
                     c->expected[i], lines);
        free(lines);
    }
    if (whole.fault)
        fail_case(c, &whole, whole.fault, none);
    check_detection(c);
    run_cuts(c, &whole, &want, &other);
    run_like(c, &whole, &want, &third, none);
    run_like(c, &whole, &want, &third, (struct cutting){.each = true});
    third.mirrored = false;
    third.dropping = true;
    run_like(c, &whole, &want, &third, none);
    run_like(c, &whole, &want, &third, (struct cutting){.each = true});
    free(whole.told);
    free(other.told);
    free(third.told);
    case_free(c);
}

/* The document with what the parser tells now: to write a new case, then read it with care. */
static int print_case(const struct protocol *protocol, const char *path)
{
    struct parser_case *c = case_read(protocol, path);
    struct run r = {.protocol = protocol, .side = c->side};
    struct outcome o;
    run_case(c, &r, (struct cutting){.step = CASE_STEPS}, &o);
    fputs(c->remarks ? c->remarks : "", stdout);
    for (size_t i = 0; i < c->count; i++) {
        char *lines;
        printf("%s\n", c->source[i]);
        step_lines(&r, &o, i, &lines);
        for (char *line = strtok(lines, "\n"); line; line = strtok(NULL, "\n"))
            printf("    %s\n", line);
        free(lines);
    }
    if (r.fault)
        fprintf(stderr, "%s: %s\n", path, r.fault);
    free(r.told);
    case_free(c);
    return r.fault != NULL;
}

/* Bytes of a direction, and which protocol they are (NULL: none that is read). */
struct sample {
    enum way way;
    enum side side;
    uint16_t port;
    const char *text;
    size_t len;
    const char *name;
};
#define SAMPLE(way, side, port, text, name)                                                        \
    {                                                                                              \
        way, side, port, text, sizeof(text) - 1, name                                              \
    }

/* By all of it exactly `name` is certain; by any part of it, nobody else was, nor had `name` given
 * up. */
static void check_sample(const struct sample *s)
{
    for (int k = 0; protocols[k]; k++) {
        const bool is_mine = s->name && strcmp(protocols[k]->name, s->name) == 0;
        enum verdict v = MORE;
        for (size_t n = 0; n <= s->len; n++) {
            const enum verdict before = v;
            v = protocols[k]->detect(s->way, s->side, at_the_edge((const uint8_t *)s->text, n), n,
                                     s->port);
            if ((before != MORE && v != before) || (is_mine ? v == NOT_MINE : v == OK))
                fail_msg("%s says %s after %zu bytes of %s", protocols[k]->name, verdict_name(v), n,
                         s->text);
        }
        if (is_mine && v != OK)
            fail_msg("%s is not sure of %s", s->name, s->text);
    }
}

/* Runs `own` tests and every case of `folder` as one group; `--print FILE` prints a case as it
 * comes out. */
static int run_parser_tests(int argc, char **argv, const struct protocol *protocol,
                            const char *folder, const struct CMUnitTest *own, size_t own_count)
{
    if (argc == 3 && strcmp(argv[1], "--print") == 0)
        return print_case(protocol, argv[2]);
    struct dirent **found = NULL;
    const int n = scandir(folder, &found, is_case, alphasort);
    if (n <= 0) {
        fprintf(stderr, "no cases in %s\n", folder);
        return 1;
    }
    struct parser_case *cases = calloc((size_t)n, sizeof *cases);
    struct CMUnitTest *tests = calloc(own_count + (size_t)n, sizeof *tests);
    if (!cases || !tests)
        return 1;
    memcpy(tests, own, own_count * sizeof *own);
    for (int i = 0; i < n; i++) {
        snprintf(cases[i].path, sizeof cases[i].path, "%s/%.200s", folder, found[i]->d_name);
        cases[i].protocol = protocol;
        tests[own_count + (size_t)i] = (struct CMUnitTest){
            .name = cases[i].path, .test_func = test_case, .initial_state = &cases[i]};
        free(found[i]);
    }
    free(found);
    const int failed = _cmocka_run_group_tests(folder, tests, own_count + (size_t)n, NULL, NULL);
    free(tests);
    free(cases);
    return failed;
}

#endif
