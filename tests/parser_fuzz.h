/*
 * parser_fuzz.h - differential fuzzing of a parser: cut anyhow, from the other side, with its state
 * given back when idle, it must tell the same.
 *
 * An input is one byte for the side, then bytes as they pass; 0xFF begins an instruction: `i`, `o`
 * what follows is IN, OUT; `s` N skip N bytes (N * 997 above 199); `e` the direction ends; 0xFF the
 * byte itself. It begins with IN.
 *
 * `--write-seeds=DIR` writes the cases of tests/cases/PROTOCOL as inputs and ends.
 */
#ifndef SONDE_PARSER_FUZZ_H
#define SONDE_PARSER_FUZZ_H

#include "tests/parser_cases.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { FUZZ_STEPS = 256 };

struct fuzz_input {
    enum side side;
    struct step steps[FUZZ_STEPS];
    size_t count;
    uint8_t bytes[65536];
    size_t used;
};

static inline struct step *fuzz_step(struct fuzz_input *in, enum step_kind kind, enum way way)
{
    struct step *s = &in->steps[in->count];
    if (in->count == FUZZ_STEPS)
        return NULL;
    in->count++;
    *s = (struct step){.kind = kind, .way = way, .bytes = in->bytes + in->used};
    return s;
}

static inline void fuzz_decode(struct fuzz_input *in, const uint8_t *p, size_t size)
{
    enum way way = IN;
    struct step *feed = NULL;
    in->count = in->used = 0;
    in->side = p[0] & 1 ? SIDE_CLIENT : SIDE_SERVER;
    for (size_t i = 1; i < size && in->used < sizeof in->bytes; i++) {
        uint8_t c = p[i];
        const uint8_t op = c == 0xFF && i + 1 < size ? p[++i] : 0;
        struct step *other = NULL;
        if (op == 'i' || op == 'o') {
            way = op == 'i' ? IN : OUT;
        } else if (op == 'e') {
            other = fuzz_step(in, STEP_END, way);
        } else if (op == 's' && i + 1 < size) {
            c = p[++i];
            other = fuzz_step(in, STEP_SKIP, way);
            if (other)
                other->len = c < 200 ? c : (c - 199U) * 997U;
        } else {
            if (!feed && !(feed = fuzz_step(in, STEP_FEED, way)))
                return;
            in->bytes[in->used++] = c;
            feed->len++;
            continue;
        }
        feed = NULL;
    }
}

enum fuzz_cut { CUT_NONE, CUT_BYTES, CUT_RANDOM };

struct fuzz_outcome {
    size_t from[FUZZ_STEPS + 1];
    enum verdict verdicts[FUZZ_STEPS];
};

static inline uint32_t fuzz_random(uint32_t *x)
{
    *x ^= *x << 13;
    *x ^= *x >> 17;
    return *x ^= *x << 5;
}

static inline void fuzz_run(const struct fuzz_input *in, struct run *r, enum fuzz_cut cut,
                            struct fuzz_outcome *o)
{
    uint32_t seed = (uint32_t)in->used * 2654435761U + 1;
    for (size_t i = 0; i < in->used; i++)
        seed = seed * 31 + in->bytes[i];
    seed |= 1;
    r->side = in->side;
    run_begin(r);
    for (size_t i = 0; i < in->count; i++) {
        uint64_t done = 0;
        const uint64_t len = in->steps[i].len;
        o->from[i] = r->count;
        do {
            uint64_t n = len - done;
            if (n > 1 && cut == CUT_BYTES && in->steps[i].kind == STEP_FEED)
                n = 1;
            else if (n > 1 && cut != CUT_NONE)
                n = 1 + fuzz_random(&seed) % (fuzz_random(&seed) % 4 ? n : n < 20 ? n : 20);
            o->verdicts[i] = run_piece(r, &in->steps[i], done, n);
            done += n;
        } while (done < len);
    }
    o->from[in->count] = r->count;
    run_finish(r);
}

static inline void fuzz_fail(const char *what, const struct run *a, const struct run *b)
{
    char line[1024];
    fprintf(stderr, "FINDING: %s\n", what);
    for (const struct run *r = a; r; r = r == a ? b : NULL) {
        fprintf(stderr, "%s:\n", r == a ? "whole" : "cut");
        for (size_t i = 0; i < r->count; i++) {
            told_line(&r->told[i], line, sizeof line);
            fprintf(stderr, "  %s %s\n", r->told[i].way == IN ? "in " : "out", line);
        }
    }
    abort();
}

static inline void fuzz_parser(const struct protocol *protocol, const uint8_t *data, size_t size)
{
    static struct fuzz_input in;
    static struct run runs[5];
    struct fuzz_outcome want, got;
    if (size < 2)
        return;
    fuzz_decode(&in, data, size);
    for (int i = 0; i < 5; i++) {
        struct run *r = &runs[i];
        r->protocol = protocol;
        r->mirrored = i == 3;
        r->dropping = i == 4;
        fuzz_run(&in, r,
                 i == 0   ? CUT_NONE
                 : i == 1 ? CUT_BYTES
                          : CUT_RANDOM,
                 i == 0 ? &want : &got);
        if (r->fault)
            fuzz_fail(r->fault, r, NULL);
        if (i == 0)
            continue;
        if (r->count != runs[0].count)
            fuzz_fail("number of messages", &runs[0], r);
        for (size_t k = 0; k < in.count; k++)
            if (want.verdicts[k] != got.verdicts[k] || want.from[k] != got.from[k])
                fuzz_fail("verdict or step", &runs[0], r);
        for (size_t k = 0; k < r->count; k++)
            if (!same_told(&runs[0].told[k], &r->told[k], r->mirrored))
                fuzz_fail("a message", &runs[0], r);
    }
}

/* Detection must neither read outside nor change its mind as bytes arrive. */
static inline void fuzz_detect(const struct protocol *protocol, const uint8_t *data, size_t size)
{
    if (size > 200)
        size = 200;
    for (int i = 0; i < 4; i++) {
        enum verdict before = MORE;
        for (size_t n = 0; n <= size; n++) {
            const enum verdict v = protocol->detect(
                i & 1 ? IN : OUT, i & 2 ? SIDE_CLIENT : SIDE_SERVER, at_the_edge(data, n), n, 0);
            if (v != before && before != MORE)
                fuzz_fail("detection changes its mind", NULL, NULL);
            before = v;
        }
    }
}

static inline void write_seed(const struct parser_case *c, const char *path)
{
    FILE *f = fopen(path, "w");
    enum way way = IN;
    if (!f)
        exit(1);
    fputc(c->side == SIDE_CLIENT, f);
    for (size_t i = 0; i < c->count; i++) {
        const struct step *s = &c->steps[i];
        if (s->way != way || s->kind == STEP_FEED)
            fprintf(f, "\xff%c", s->way == IN ? 'i' : 'o');
        way = s->way;
        if (s->kind == STEP_END)
            fputs("\xff"
                  "e",
                  f);
        else if (s->kind == STEP_SKIP)
            fprintf(f, "\xffs%c",
                    (int)(s->len < 200        ? s->len
                          : s->len / 997 < 56 ? 199 + s->len / 997
                                              : 255));
        else
            for (size_t k = 0; k < s->len; k++)
                fprintf(f, s->bytes[k] == 0xFF ? "\xff%c" : "%c", s->bytes[k]);
    }
    fclose(f);
}

static inline void fuzz_initialize(int argc, char **argv, const struct protocol *protocol,
                                   const char *folder)
{
    struct dirent **found = NULL;
    char path[512];
    if (argc < 2 || strncmp(argv[1], "--write-seeds=", 14) != 0)
        return;
    const int n = scandir(folder, &found, is_case, alphasort);
    for (int i = 0; i < n; i++) {
        snprintf(path, sizeof path, "%s/%.200s", folder, found[i]->d_name);
        struct parser_case *c = case_read(protocol, path);
        snprintf(path, sizeof path, "%.200s/%.200s", argv[1] + 14, found[i]->d_name);
        write_seed(c, path);
        case_free(c);
        free(found[i]);
    }
    free(found);
    exit(n > 0 ? 0 : 1);
}

#endif
