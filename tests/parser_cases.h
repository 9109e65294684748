/*
 * parser_cases.h - parser cases as documents: steps, and the messages each must give, however it is
 * cut.
 *
 * A case is a file tests/cases/PROTOCOL/NAME.case:
 *
 *   # what it shows
 *   side server
 *   in "GET / HTTP/1.1\r\n" "X: y\r\n"*10 "\r\n"      bytes, as in C (\r \n \t \0 \\ \" \xHH); *
 * repeats request-begin @0                              what the step tells, in order
 * (parser_run.h, told_line) request-head @78 "GET" "/" request-end @78 wire=78 body=0 out "HTTP/1.1
 * 200 OK\r\n"
 *   + "Content-Length: 5000\r\n\r\n"                  goes on with the bytes of the step before
 *       response-begin @0
 *       response-head @41 200
 *       = more                                        the verdict, when it is not ok
 *   out skip 4990
 *   out "0123456789"
 *       response-end @5041 200 wire=5041 body=5000
 *   in end
 *
 * Offsets count from the direction's first byte. How a case is run: parser_test.h.
 */
#ifndef SONDE_PARSER_CASES_H
#define SONDE_PARSER_CASES_H

#include <dirent.h>
#include "tests/parser_run.h"

enum { CASE_STEPS = 400 };

struct parser_case {
    char path[256];
    const struct protocol *protocol;
    enum side side;
    struct step steps[CASE_STEPS];
    char *source[CASE_STEPS];   /* the step as it was written, for --print */
    char *expected[CASE_STEPS]; /* lines of one step */
    char *remarks;              /* what stands before the first step */
    size_t count;
};

/* --- reading a document ------------------------------------------------------------------- */

static inline void case_fault(const struct parser_case *c, int line, const char *what)
{
    fprintf(stderr, "%s:%d: %s\n", c->path, line, what);
    exit(1);
}

static inline char *append(char *text, const char *more)
{
    const size_t old = text ? strlen(text) : 0;
    text = realloc(text, old + strlen(more) + 1);
    if (!text)
        abort();
    strcpy(text + old, more);
    return text;
}

static inline int hex_digit(char c)
{
    const char *at = c ? strchr("0123456789abcdef", c | 0x20) : NULL;
    return at ? (int)(at - "0123456789abcdef") : -1;
}

/* One "quoted" string at *p, unescaped into `to`; its length. */
static inline size_t unquote(struct parser_case *c, int line, const char **p, uint8_t *to)
{
    size_t n = 0;
    for ((*p)++; **p != '"'; (*p)++) {
        if (!**p)
            case_fault(c, line, "string without end");
        if (**p != '\\') {
            to[n++] = (uint8_t) * *p;
            continue;
        }
        const char *at = strchr("rnt0\\\"x", *++*p);
        if (!**p || !at)
            case_fault(c, line, "unknown escape");
        if (**p == 'x') {
            if (hex_digit((*p)[1]) < 0 || hex_digit((*p)[2]) < 0)
                case_fault(c, line, "\\x needs two digits");
            to[n++] = (uint8_t)(hex_digit((*p)[1]) << 4 | hex_digit((*p)[2]));
            *p += 2;
        } else {
            to[n++] = (uint8_t) "\r\n\t\0\\\""[at - "rnt0\\\"x"];
        }
    }
    (*p)++;
    return n;
}

/* Strings with repetition, added to a step. */
static inline void read_bytes(struct parser_case *c, int line, const char *p, struct step *s)
{
    uint8_t *part = malloc(strlen(p) + 1);
    while (part && *(p += strspn(p, " \t"))) {
        if (*p != '"')
            case_fault(c, line, "a \"string\" was expected");
        const size_t n = unquote(c, line, &p, part);
        unsigned long times = 1;
        if (*p == '*')
            times = strtoul(p + 1, (char **)&p, 10);
        s->bytes = realloc(s->bytes, s->len + n * times + 1);
        if (!s->bytes)
            abort();
        for (; times > 0; times--, s->len += n)
            memcpy(s->bytes + s->len, part, n);
    }
    free(part);
}

static inline void read_step(struct parser_case *c, int line, const char *p)
{
    if (c->count == CASE_STEPS)
        case_fault(c, line, "too many steps");
    struct step *s = &c->steps[c->count];
    c->source[c->count] = append(NULL, p);
    c->expected[c->count] = append(NULL, "");
    c->count++;
    s->way = p[0] == 'i' ? IN : OUT;
    p += s->way == IN ? 3 : 4;
    p += strspn(p, " ");
    if (strncmp(p, "skip ", 5) == 0) {
        s->kind = STEP_SKIP;
        s->len = strtoull(p + 5, NULL, 10);
    } else if (strcmp(p, "end") == 0) {
        s->kind = STEP_END;
    } else {
        s->kind = STEP_FEED;
        read_bytes(c, line, p, s);
    }
}

static inline void read_line(struct parser_case *c, int line, char *p)
{
    p[strcspn(p, "\n")] = 0;
    if (c->count == 0 && (*p == '#' || !*p || strncmp(p, "side ", 5) == 0)) {
        c->remarks = append(append(c->remarks, p), "\n");
        if (*p == 's')
            c->side = strcmp(p + 5, "client") == 0 ? SIDE_CLIENT : SIDE_SERVER;
    } else if (strncmp(p, "in ", 3) == 0 || strncmp(p, "out ", 4) == 0) {
        read_step(c, line, p);
    } else if (*p == '+' && c->count && c->steps[c->count - 1].kind == STEP_FEED) {
        read_bytes(c, line, p + 1, &c->steps[c->count - 1]);
        c->source[c->count - 1] = append(append(c->source[c->count - 1], "\n"), p);
    } else if (*p == ' ' && c->count) {
        p += strspn(p, " ");
        c->expected[c->count - 1] = append(append(c->expected[c->count - 1], p), "\n");
    } else if (*p && *p != '#') {
        case_fault(c, line, "not understood");
    }
}

static inline struct parser_case *case_read(const struct protocol *protocol, const char *path)
{
    struct parser_case *c = calloc(1, sizeof *c);
    FILE *file = fopen(path, "r");
    char *text = NULL;
    size_t room = 0;
    if (!c || !file) {
        perror(path);
        exit(1);
    }
    snprintf(c->path, sizeof c->path, "%s", path);
    c->protocol = protocol;
    for (int line = 1; getline(&text, &room, file) >= 0; line++)
        read_line(c, line, text);
    free(text);
    fclose(file);
    if (c->count == 0)
        case_fault(c, 1, "no step in it");
    return c;
}

static inline void case_free(struct parser_case *c)
{
    for (size_t i = 0; i < c->count; i++) {
        free(c->steps[i].bytes);
        free(c->source[i]);
        free(c->expected[i]);
    }
    free(c->remarks);
    free(c);
}

static inline int is_case(const struct dirent *e)
{
    const size_t n = strlen(e->d_name);
    return n > 5 && strcmp(e->d_name + n - 5, ".case") == 0;
}

#endif
