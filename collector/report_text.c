/*
 * report_text.c - the report as a person reads it: the verdict first, then what each request costs,
 * then what is missing and what to do about it.
 *
 * In:      struct report                        Out: FILE
 * Context: P but for the FILE, the local time zone and the store's size.
 * Rules: 80 columns unless told; SI units; `-` unknown; losses shown when 0 too; nothing is rounded
 * to 0 % or 100 %; nothing from the traffic reaches the terminal unchecked. Tables drop columns
 * when narrow and gain some when wide.
 */
#include <cjson/cJSON.h>
#include <inttypes.h>
#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "collector/report.h"
#include "collector/report_model.h"
#include "wire/arena.h"

#define LABEL 10    /* width of the first word of a section */
#define NAME_MIN 24 /* of an endpoint's name in a table */
#define SHOWN 20    /* endpoints, unless asked otherwise */
#define UNREAD_SHOWN 8
#define LIST_SHOWN 5 /* errors, requests in flight, crashes */

struct cell {
    char s[64];
};

struct page {
    FILE *f;
    const struct report *r;
    const struct report_style *style;
    int columns;
};

/* --- text --- */

static int width_of(const char *s)
{
    int n = 0;
    for (; *s; s++)
        n += ((unsigned char)*s & 0xc0) != 0x80;
    return n;
}

/* What goes to a terminal: no control characters, no bytes that it does not know. Returns how much
 * of `s` fitted. */
static void clean(char *to, size_t room, const char *s, bool utf8)
{
    size_t n = 0;
    for (s = s ? s : "-"; *s && n + 5 < room; s++) {
        unsigned char c = (unsigned char)*s;
        if (c < 0x20 || c == 0x7f || (c >= 0x80 && !utf8)) {
            if (c < 0x80 || c >= 0xc0)
                to[n++] = '?';
        } else if (c == 0xc2 && (unsigned char)s[1] >= 0x80 && (unsigned char)s[1] < 0xa0) {
            to[n++] = '?'; /* a control character of the upper half: some terminals obey it */
            s++;
        } else {
            to[n++] = (char)c;
        }
    }
    to[n] = 0;
}

static const char *skip_characters(const char *s, int n)
{
    while (n > 0 && *s) {
        s++;
        while (((unsigned char)*s & 0xc0) == 0x80)
            s++;
        n--;
    }
    return s;
}

/* Shortened in the middle, where names differ least. */
static void put_name(FILE *f, const char *text, int width)
{
    int have = width_of(text);
    if (have <= width) {
        fprintf(f, "%s%*s", text, width - have, "");
        return;
    }
    int tail = (width - 2) / 2, head = width - 2 - tail;
    const char *cut = skip_characters(text, head);
    fprintf(f, "%.*s..%s", (int)(cut - text), text, skip_characters(text, have - tail));
}

static void put_right(FILE *f, const char *text, int width)
{
    fprintf(f, "%*s%s", width - width_of(text) > 0 ? width - width_of(text) : 0, "", text);
}

/* --- numbers --- */

/* Three digits and a unit: 6.03k, 41.0, 123M. */
static struct cell three_digits(double v, const char *unit)
{
    struct cell c;
    int decimals = v < 9.995 ? 2 : v < 99.95 ? 1 : 0;
    snprintf(c.s, sizeof c.s, "%.*f%s", decimals, v, unit);
    return c;
}

static struct cell count_cell(uint64_t n)
{
    static const char *const unit[] = {"k", "M", "G", "T", "P", "E"};
    struct cell c;
    if (n == UNKNOWN)
        return (struct cell){"-"};
    if (n < 10000) {
        snprintf(c.s, sizeof c.s, "%" PRIu64, n);
        return c;
    }
    double v = (double)n / 1000;
    int u = 0;
    for (; v >= 999.5 && u < 5; u++)
        v /= 1000;
    return three_digits(v, unit[u]);
}

/* 2 412 388: for the one number that people compare with their log. */
static struct cell grouped(uint64_t n)
{
    char digits[24];
    struct cell c;
    int len = snprintf(digits, sizeof digits, "%" PRIu64, n), at = 0;
    for (int i = 0; i < len; i++) {
        if (i && len > 4 && (len - i) % 3 == 0)
            c.s[at++] = ' ';
        c.s[at++] = digits[i];
    }
    c.s[at] = 0;
    return c;
}

static struct cell rate_cell(uint64_t n, uint64_t ns)
{
    if (ns == 0)
        return (struct cell){"-"};
    double v = (double)n * 1e9 / (double)ns;
    if (v > 0 && v < 0.005)
        return (struct cell){"<0.01"};
    if (v < 999.5)
        return three_digits(v, "");
    return v < 999.5e3 ? three_digits(v / 1000, "k") : count_cell((uint64_t)v);
}

static struct cell bytes_cell(double v)
{
    static const char *const unit[] = {"B", "kB", "MB", "GB", "TB", "PB", "EB"};
    struct cell c;
    const char *sign = v < 0 ? "-" : "";
    v = fabs(v);
    int u = 0;
    for (; v >= 999.5 && u < 6; u++)
        v /= 1000;
    snprintf(c.s, sizeof c.s, "%s%.*f %s", v < 0.5 && u == 0 ? "" : sign, u && v < 9.95 ? 1 : 0, v,
             unit[u]);
    return c;
}

static struct cell sum_cell(uint64_t bytes)
{
    return bytes == UNKNOWN ? (struct cell){"-"} : bytes_cell((double)bytes);
}

static struct cell time_cell(uint64_t ns, bool utf8)
{
    struct cell c;
    if (ns == UNKNOWN)
        return (struct cell){"-"};
    if (ns < 1000) {
        snprintf(c.s, sizeof c.s, "%uns", (unsigned)ns);
        return c;
    }
    double v = (double)ns;
    if (v < 999.5e3)
        return three_digits(v / 1e3, utf8 ? "\xc2\xb5s" : "us");
    if (v < 999.5e6)
        return three_digits(v / 1e6, "ms");
    if (v < 99.95e9)
        return three_digits(v / 1e9, "s");
    uint64_t s = (ns + 500000000) / 1000000000;
    if (s < 3600)
        snprintf(c.s, sizeof c.s, "%um%02us", (unsigned)(s / 60), (unsigned)(s % 60));
    else if (s < 86400)
        snprintf(c.s, sizeof c.s, "%uh%02um", (unsigned)(s / 3600), (unsigned)(s / 60 % 60));
    else
        snprintf(c.s, sizeof c.s, "%ud%02uh", (unsigned)(s / 86400), (unsigned)(s / 3600 % 24));
    return c;
}

static struct cell percent_cell(uint64_t part, uint64_t of)
{
    struct cell c;
    double p = of ? 100.0 * (double)part / (double)of : 0;
    if (part == 0 || of == 0)
        return (struct cell){"0%"};
    if (part == of)
        return (struct cell){"100%"};
    if (p < 0.01)
        return (struct cell){"<0.01%"};
    if (p > 99.9 && p < 100)
        return (struct cell){">99.9%"};
    snprintf(c.s, sizeof c.s, "%.*f%%", p < 0.995 ? 2 : p < 9.95 ? 1 : 0, p);
    return c;
}

static struct cell clock_cell(uint64_t ns, bool with_ms)
{
    struct cell c = {"-"};
    struct tm t;
    time_t s = (time_t)(ns / 1000000000);
    if (ns && localtime_r(&s, &t)) {
        size_t n = strftime(c.s, sizeof c.s, "%H:%M:%S", &t);
        if (with_ms)
            snprintf(c.s + n, sizeof c.s - n, ".%03u", (unsigned)(ns / 1000000 % 1000));
    }
    return c;
}

/* --- sections --- */

static void paint(struct page *p, const char *escape)
{
    if (p->style->colour)
        fputs(escape, p->f);
}

#define BOLD "\033[1m"
#define RED "\033[31m"
#define PLAIN "\033[0m"

/* A section's first word; "" continues the one before. */
static void label(struct page *p, const char *word)
{
    paint(p, BOLD);
    fprintf(p->f, "%-*s", LABEL, word);
    paint(p, PLAIN);
}

/* Prints words, breaking lines between them before the last column; later lines start below the
 * first. */
static void wrap(struct page *p, const char *text)
{
    int at = LABEL;
    while (*text) {
        size_t len = strcspn(text, " ");
        int width = 0;
        for (size_t i = 0; i < len; i++)
            width += ((unsigned char)text[i] & 0xc0) != 0x80;
        if (at > LABEL && at + 1 + width > p->columns) {
            fprintf(p->f, "\n%*s", LABEL, "");
            at = LABEL;
        } else if (at > LABEL) {
            fputc(' ', p->f);
            at++;
        }
        fwrite(text, 1, len, p->f);
        at += width;
        text += len;
        text += *text == ' ';
    }
    fputc('\n', p->f);
}

static void say(struct page *p, const char *word, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static void say(struct page *p, const char *word, const char *format, ...)
{
    char text[4096];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    label(p, word);
    wrap(p, text);
}

struct text { /* a growing line */
    char s[2048];
    size_t used;
};

static void add(struct text *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void add(struct text *t, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int n = vsnprintf(t->s + t->used, sizeof t->s - t->used, format, arguments);
    va_end(arguments);
    if (n > 0)
        t->used = t->used + (size_t)n < sizeof t->s ? t->used + (size_t)n : sizeof t->s - 1;
}

static const char *basename_of(const char *path)
{
    const char *slash = path ? strrchr(path, '/') : NULL;
    return slash ? slash + 1 : path ? path : "-";
}

static const char *signal_name(int number)
{
    static char other[24];
    const char *name = sigabbrev_np(number);
    if (name)
        snprintf(other, sizeof other, "SIG%s", name);
    else
        snprintf(other, sizeof other, "signal %d", number);
    return other;
}

/* --- the head --- */

static void add_word(struct text *t, const char *word, bool utf8)
{
    char shown[256];
    clean(shown, sizeof shown, word, utf8);
    bool plain =
        *word &&
        strspn(word, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:=,@%+") ==
            strlen(word);
    if (plain)
        add(t, "%s", shown);
    else if (strchr(word, '\''))
        add(t, "\"%s\"", shown);
    else
        add(t, "'%s'", shown);
}

static void add_command(struct text *t, const struct report *r, bool utf8)
{
    cJSON *command = r->command ? cJSON_Parse(r->command) : NULL;
    const cJSON *word;
    int n = 0;
    cJSON_ArrayForEach(word, command)
    {
        if (!cJSON_IsString(word))
            continue;
        add(t, n++ ? " " : "");
        add_word(t, n == 1 ? basename_of(word->valuestring) : word->valuestring, utf8);
    }
    if (n == 0)
        add(t, "-");
    cJSON_Delete(command);
}

static void add_end(struct text *t, const struct report *r)
{
    if (r->running)
        add(t, "still running");
    else if (r->abandoned)
        add(t, "broken off");
    else if (r->signal > 0)
        add(t, "ended by %s", signal_name(r->signal));
    else if (r->exit_code >= 0)
        add(t, "exit %d", r->exit_code);
    else
        add(t, "ended");
}

static void put_title(struct page *p)
{
    const struct report *r = p->r;
    bool utf8 = p->style->utf8;
    struct text when = {.used = 0}, command = {.used = 0};
    add(&when, "   %s + %s", clock_cell(r->from_ns, false).s,
        time_cell(r->to_ns > r->from_ns ? r->to_ns - r->from_ns : 0, utf8).s);
    if (r->cut)
        add(&when, " of %s", time_cell(r->duration_ns, utf8).s);
    add(&when, "   ");
    add_end(&when, r);
    add_command(&command, r, utf8);
    int room = p->columns - 7 - width_of(when.s);
    paint(p, BOLD);
    fputs("sonde: ", p->f);
    if (width_of(command.s) <= room || room < 8)
        fputs(command.s, p->f);
    else
        fprintf(p->f, "%.*s...", (int)(skip_characters(command.s, room - 3) - command.s),
                command.s);
    paint(p, PLAIN);
    fprintf(p->f, "%s\n", when.s);
}

static const char *reason_text(const char *reason)
{
    if (reason && strcmp(reason, "tls") == 0)
        return "TLS";
    if (reason && strcmp(reason, "unknown") == 0)
        return "unknown protocol";
    if (reason && strcmp(reason, "late_attach") == 0)
        return "begun before sonde watched";
    if (reason && strcmp(reason, "capture") == 0)
        return "data not captured";
    return reason ? reason : "-";
}

static const char *plural(uint64_t n)
{
    return n == 1 ? "" : "s";
}

static void add_partial_reason(struct text *t, const struct report *r, bool utf8)
{
    char address[128];
    if (r->unreads) {
        clean(address, sizeof address, r->unread[0].address, utf8);
        add(t, "; NOT READ: %s %s", address, reason_text(r->unread[0].reason));
        if (r->unreads > 1)
            add(t, " and %d more", r->unreads - 1);
        add(t, " (see below)");
    } else if (r->abandoned) {
        add(t, "; nothing is known after %s", clock_cell(r->as_of_ns, false).s);
    } else if (r->bounds) {
        add(t, "; more at once than sonde's limits (see below)");
    } else if (r->processes == 0) {
        add(t, "; nothing of the command could be watched");
    }
}

static void put_verdict(struct page *p)
{
    static const char *const word[] = {"COMPLETE", "PARTIAL", "LOSSY"};
    static const char *const colour[] = {"\033[1;32m", "\033[1;33m", "\033[1;31m"};
    const struct report *r = p->r;
    struct text t = {.used = 0};
    add(&t, "%s request%s, ", grouped(r->requests).s, plural(r->requests));
    if (r->verdict == REPORT_LOSSY)
        add(&t, "%s of %s events lost (%s): counts are too low", count_cell(r->events.lost_sum).s,
            count_cell(r->events.written).s, percent_cell(r->events.lost_sum, r->events.written).s);
    else
        add(&t, "%s event%s, 0 lost", count_cell(r->events.written).s, plural(r->events.written));
    if (r->verdict == REPORT_COMPLETE)
        add(&t, ", nothing unread");
    else
        add_partial_reason(&t, r, p->style->utf8);
    paint(p, colour[r->verdict]);
    fprintf(p->f, "%-*s", LABEL, word[r->verdict]);
    paint(p, PLAIN);
    wrap(p, t.s);
}

/* nginx x 5, sh */
static void add_programs(struct text *t, const struct report *r, bool utf8)
{
    int shown = 0;
    uint64_t others = 0;
    for (int i = 0; i < r->processes; i++) {
        const char *name = basename_of(r->process[i].executable);
        uint64_t count = 0;
        bool known = false;
        for (int k = 0; k < r->processes; k++) {
            if (strcmp(basename_of(r->process[k].executable), name) != 0)
                continue;
            known = known || k < i;
            count += r->process[k].merged;
        }
        if (known)
            continue;
        if (shown++ >= 3) {
            others += count;
            continue;
        }
        char text[64];
        clean(text, sizeof text, name, utf8);
        add(t, count > 1 ? "%s%s x %s" : "%s%s", shown > 1 ? ", " : "", text, grouped(count).s);
    }
    if (others)
        add(t, ", %s more", grouped(others).s);
    if (!shown)
        add(t, "no process seen");
}

static void add_heap(struct text *t, const struct report *r)
{
    uint64_t all = 0, charged = 0;
    bool known = r->heap_counted;
    for (int i = 0; i < r->processes; i++)
        all += r->process[i].allocated;
    for (int i = 0; i < r->endpoints; i++)
        charged += r->endpoint[i].allocated;
    if (!known)
        add(t, ", heap not counted");
    else if (r->processes)
        add(t, ", heap %s", sum_cell(all).s);
    if (known && r->requests && all && !r->cut)
        add(t, " (%s)", percent_cell(charged < all ? charged : all, all).s);
}

static void put_flow(struct page *p)
{
    const struct report *r = p->r;
    struct text t = {.used = 0};
    uint64_t connections =
        r->connections.accepted + r->connections.opened + r->connections.inherited;
    add_programs(&t, r, p->style->utf8);
    add(&t, ", %s connection%s, in %s, out %s", count_cell(connections).s, plural(connections),
        sum_cell(r->connections.bytes_in).s, sum_cell(r->connections.bytes_out).s);
    add_heap(&t, r);
    label(p, "");
    wrap(p, t.s);
}

/* --- tables --- */

struct column {
    const char *title;
    int width, rank; /* rank: the lower, the earlier it gets its place */
    struct cell (*value)(const struct page *, const struct report_endpoint *);
    bool (*wanted)(const struct report *);
};

static struct cell show_count(const struct page *p, const struct report_endpoint *e)
{
    (void)p;
    return count_cell(e->count);
}
static struct cell show_rate(const struct page *p, const struct report_endpoint *e)
{
    return rate_cell(e->count, p->r->to_ns > p->r->from_ns ? p->r->to_ns - p->r->from_ns : 0);
}
#define SHOW_TIME(name, which, field)                                                              \
    static struct cell show_##name(const struct page *p, const struct report_endpoint *e)          \
    {                                                                                              \
        return time_cell(e->which.count ? e->which.field : UNKNOWN, p->style->utf8);               \
    }
SHOW_TIME(mean, latency, mean)
SHOW_TIME(p50, latency, p50)
SHOW_TIME(p90, latency, p90)
SHOW_TIME(p99, latency, p99)
SHOW_TIME(p999, latency, p999)
SHOW_TIME(max, latency, max)
SHOW_TIME(first, first, p50)

static struct cell each(const struct report_endpoint *e, double sum, bool known)
{
    return known && e->count ? bytes_cell(sum / (double)e->count) : (struct cell){"-"};
}
static struct cell show_in(const struct page *p, const struct report_endpoint *e)
{
    (void)p;
    return each(e, (double)e->bytes_in, true);
}
static struct cell show_out(const struct page *p, const struct report_endpoint *e)
{
    (void)p;
    return each(e, (double)e->bytes_out, true);
}
static struct cell show_heap(const struct page *p, const struct report_endpoint *e)
{
    (void)p;
    return each(e, (double)e->allocated, e->heap_known);
}
static struct cell show_kept(const struct page *p, const struct report_endpoint *e)
{
    (void)p;
    return each(e, (double)e->allocated - (double)e->freed, e->heap_known);
}
static struct cell show_allocations(const struct page *p, const struct report_endpoint *e)
{
    (void)p;
    if (!e->heap_known || !e->count)
        return (struct cell){"-"};
    double v = (double)e->allocations / (double)e->count;
    return v < 999.5 ? three_digits(v, "") : count_cell((uint64_t)v);
}
static struct cell show_all_in(const struct page *p, const struct report_endpoint *e)
{
    (void)p;
    return sum_cell(e->bytes_in);
}
static struct cell show_all_out(const struct page *p, const struct report_endpoint *e)
{
    (void)p;
    return sum_cell(e->bytes_out);
}
static struct cell show_errors(const struct page *p, const struct report_endpoint *e)
{
    (void)p;
    struct cell c;
    if (e->errors)
        snprintf(c.s, sizeof c.s, "%.16s %.8s", count_cell(e->errors).s,
                 percent_cell(e->errors, e->count).s);
    else
        snprintf(c.s, sizeof c.s, "0");
    return c;
}
static struct cell show_cpu(const struct page *p, const struct report_endpoint *e)
{
    return time_cell(e->cpu_ns == UNKNOWN || !e->count ? UNKNOWN : e->cpu_ns / e->count,
                     p->style->utf8);
}
static bool has_cpu(const struct report *r)
{
    for (int i = 0; i < r->endpoints; i++)
        if (r->endpoint[i].cpu_ns != UNKNOWN)
            return true;
    return false;
}

static const struct column time_columns[] = {
    {"count", 9, 1, show_count, NULL}, {"req/s", 7, 5, show_rate, NULL},
    {"mean", 8, 9, show_mean, NULL},   {"p50", 8, 2, show_p50, NULL},
    {"p90", 8, 6, show_p90, NULL},     {"p99", 8, 3, show_p99, NULL},
    {"p99.9", 8, 8, show_p999, NULL},  {"max", 8, 4, show_max, NULL},
    {"first", 8, 7, show_first, NULL}, {NULL, 0, 0, NULL, NULL},
};
static const struct column each_columns[] = {
    {"in", 9, 2, show_in, NULL},          {"out", 9, 1, show_out, NULL},
    {"heap", 9, 3, show_heap, NULL},      {"kept", 9, 5, show_kept, NULL},
    {"cpu", 8, 6, show_cpu, has_cpu},     {"allocs", 8, 8, show_allocations, NULL},
    {"in, all", 9, 9, show_all_in, NULL}, {"out, all", 9, 7, show_all_out, NULL},
    {"errors", 11, 4, show_errors, NULL}, {NULL, 0, 0, NULL, NULL},
};

#define COLUMNS_MAX 10
#define BASE_RANKS 7 /* what 80 columns hold */

struct table {
    const struct column *columns;
    bool shown[COLUMNS_MAX];
    int name_width;
};

static bool same_group(const struct report_endpoint *a, const struct report_endpoint *b)
{
    return a->side == b->side && strcmp(a->service, b->service) == 0 &&
           strcmp(a->protocol, b->protocol) == 0;
}

static int shown_endpoints(const struct report *r)
{
    int most = r->top > 0 ? r->top : SHOWN;
    return r->endpoints < most + (r->top > 0 ? 0 : 1) ? r->endpoints
                                                      : most; /* "+ 1 more" would take its line */
}

/* A name as put_name shows it. */
static void shorten(char *to, size_t room, const char *text, int width)
{
    FILE *f = fmemopen(to, room, "w");
    if (!f)
        return;
    put_name(f, text, width);
    fclose(f);
}

/* The least width at which no two names of a group look alike, within reason. */
static int telling_width(const struct page *p, int shown)
{
    int most = p->columns / 2;
    char a[512], b[512], text[512];
    for (int width = NAME_MIN; width < most; width += 4) {
        bool alike = false;
        for (int i = 0; i < shown && i < 64 && !alike; i++) {
            clean(text, sizeof text, p->r->endpoint[i].name, p->style->utf8);
            if (width_of(text) <= width)
                continue;
            shorten(a, sizeof a, text, width);
            for (int k = 0; k < shown && k < 64 && !alike; k++) {
                if (k == i || !same_group(&p->r->endpoint[i], &p->r->endpoint[k]))
                    continue;
                clean(text, sizeof text, p->r->endpoint[k].name, p->style->utf8);
                shorten(b, sizeof b, text, width);
                alike = strcmp(a, b) == 0;
            }
        }
        if (!alike)
            return width;
    }
    return NAME_MIN; /* nothing helps */
}

static int longest_name(const struct page *p, int shown)
{
    int longest = NAME_MIN;
    char name[512];
    for (int i = 0; i < shown; i++) {
        clean(name, sizeof name, p->r->endpoint[i].name, p->style->utf8);
        longest = width_of(name) > longest ? width_of(name) : longest;
    }
    return longest;
}

/* Gives columns of these ranks their place, in order, until one does not fit. True: all did. */
static bool add_columns(struct table *t, const struct page *p, int first, int last, int *used,
                        int name_width)
{
    for (int rank = first; rank <= last; rank++)
        for (int c = 0; t->columns[c].title; c++) {
            if (t->columns[c].rank != rank || (t->columns[c].wanted && !t->columns[c].wanted(p->r)))
                continue;
            if (*used + t->columns[c].width + name_width > p->columns)
                return false;
            t->shown[c] = true;
            *used += t->columns[c].width;
        }
    return true;
}

/* First the columns that everybody wants, then names in full, then the columns for wide terminals.
 */
static void fit(struct table *t, const struct page *p, int least)
{
    int used = 0, longest = longest_name(p, shown_endpoints(p->r));
    bool all = add_columns(t, p, 1, BASE_RANKS, &used, least);
    t->name_width = longest < p->columns - used ? longest : p->columns - used;
    if (all)
        add_columns(t, p, BASE_RANKS + 1, COLUMNS_MAX, &used, t->name_width);
}

static void put_table_head(struct page *p, const struct table *t,
                           const struct report_endpoint *group)
{
    char text[256], service[96], protocol[32];
    clean(service, sizeof service, group->service, p->style->utf8);
    clean(protocol, sizeof protocol, group->protocol, p->style->utf8);
    bool calls = group->side == SIDE_CLIENT;
    if (t->columns == time_columns)
        snprintf(text, sizeof text, "TIME  %s%s %s", service, calls ? " ->" : "", protocol);
    else
        snprintf(text, sizeof text, "EACH %s", calls ? "CALL" : "REQUEST");
    paint(p, BOLD);
    put_name(p->f, text, t->name_width);
    for (int c = 0; t->columns[c].title; c++)
        if (t->shown[c])
            put_right(p->f, t->columns[c].title, t->columns[c].width);
    paint(p, PLAIN);
    fputc('\n', p->f);
}

static void put_table_row(struct page *p, const struct table *t, const struct report_endpoint *e)
{
    char name[512];
    clean(name, sizeof name, e->name, p->style->utf8);
    put_name(p->f, name, t->name_width);
    for (int c = 0; t->columns[c].title; c++) {
        if (!t->shown[c])
            continue;
        bool alarming = t->columns[c].value == show_errors && e->errors;
        if (alarming)
            paint(p, RED);
        put_right(p->f, t->columns[c].value(p, e).s, t->columns[c].width);
        if (alarming)
            paint(p, PLAIN);
    }
    fputc('\n', p->f);
}

static void put_group(struct page *p, struct table *t, int from, int shown)
{
    const struct report *r = p->r;
    put_table_head(p, t, &r->endpoint[from]);
    for (int i = from; i < shown; i++)
        if (same_group(&r->endpoint[i], &r->endpoint[from]))
            put_table_row(p, t, &r->endpoint[i]);
}

static void put_rest(struct page *p, int shown)
{
    const struct report *r = p->r;
    uint64_t count = 0, errors = 0, slowest = 0;
    for (int i = shown; i < r->endpoints; i++) {
        count += r->endpoint[i].count;
        errors += r->endpoint[i].errors;
        if (r->endpoint[i].latency.max > slowest)
            slowest = r->endpoint[i].latency.max;
    }
    if (shown == r->endpoints)
        return;
    fprintf(p->f, "+ %d more endpoint%s: %s request%s, max %s, %s error%s; all: --top %d\n",
            r->endpoints - shown, plural((uint64_t)(r->endpoints - shown)), grouped(count).s,
            plural(count), time_cell(slowest, p->style->utf8).s, grouped(errors).s, plural(errors),
            r->endpoints);
}

static void put_endpoints(struct page *p)
{
    struct table times = {.columns = time_columns}, each_request = {.columns = each_columns};
    int shown = shown_endpoints(p->r), least = telling_width(p, shown), groups = 0;
    fit(&times, p, least);
    fit(&each_request, p, least);
    if (times.name_width > each_request.name_width) /* a name looks the same in both */
        times.name_width = each_request.name_width;
    each_request.name_width = times.name_width;
    for (int i = 0; i < shown; i++) {
        bool first = true;
        for (int k = 0; k < i && first; k++)
            first = !same_group(&p->r->endpoint[k], &p->r->endpoint[i]);
        if (!first)
            continue;
        if (groups++)
            fputc('\n', p->f);
        put_group(p, &times, i, shown);
        put_group(p, &each_request, i, shown);
    }
    put_rest(p, shown);
}

/* --- what needs a look --- */

static uint64_t exact_count(const struct report *r, const struct report_error *error)
{
    for (int i = 0; i < r->endpoints && error->status; i++) {
        const struct report_endpoint *e = &r->endpoint[i];
        if (strcmp(e->name, error->endpoint) != 0 || strcmp(e->service, error->service) != 0)
            continue;
        for (int s = 0; s < e->statuses; s++)
            if (e->status[s].status == error->status)
                return e->status[s].count;
    }
    return error->count;
}

static void put_sampled_error(struct page *p, const struct report_error *e, uint64_t count,
                              bool first)
{
    char name[128], text[40];
    struct text t = {.used = 0};
    clean(name, sizeof name, e->endpoint, p->style->utf8);
    add(&t, "%s", name);
    if (e->status)
        add(&t, " %u", (unsigned)e->status);
    if (e->text && *e->text) {
        clean(text, sizeof text, e->text, p->style->utf8);
        add(&t, " %s", text);
    }
    add(&t, " x %s", grouped(count).s);
    if (e->first_ns / 1000000000 == e->last_ns / 1000000000)
        add(&t, ", at %s", clock_cell(e->first_ns, false).s);
    else
        add(&t, ", first %s, last %s", clock_cell(e->first_ns, false).s,
            clock_cell(e->last_ns, false).s);
    say(p, first ? "ERRORS" : "", "%s", t.s);
}

static bool was_sampled(const struct report *r, const struct report_endpoint *e)
{
    for (int i = 0; i < r->errors; i++)
        if (strcmp(e->name, r->error[i].endpoint) == 0 &&
            strcmp(e->service, r->error[i].service) == 0)
            return true;
    return false;
}

/* When and with which answer is known where samples were kept; of the others, how many. */
static void put_errors(struct page *p)
{
    const struct report *r = p->r;
    int shown = 0;
    uint64_t told = 0;
    char name[128];
    for (int i = 0; i < r->errors && shown < LIST_SHOWN; i++) {
        uint64_t count = exact_count(r, &r->error[i]);
        put_sampled_error(p, &r->error[i], count, shown++ == 0);
        told += count;
    }
    for (int i = 0; i < r->endpoints && shown < LIST_SHOWN; i++) {
        const struct report_endpoint *e = &r->endpoint[i];
        if (e->errors == 0 || was_sampled(r, e))
            continue;
        clean(name, sizeof name, e->name, p->style->utf8);
        struct text t = {.used = 0};
        for (int k = 0; k < e->statuses; k++)
            if (e->status[k].status >= (e->side == SIDE_CLIENT ? 400 : 500))
                add(&t, "%s %u x %s", t.used ? "," : "", (unsigned)e->status[k].status,
                    grouped(e->status[k].count).s);
        if (t.used == 0)
            add(&t, " x %s", grouped(e->errors).s);
        say(p, shown++ ? "" : "ERRORS", "%s%s", name, t.s);
        told += e->errors;
    }
    if (told < r->failed)
        say(p, "", "and %s more", grouped(r->failed - told).s);
}

static void put_crashes(struct page *p)
{
    static const int bad[] = {SIGSEGV, SIGABRT, SIGBUS, SIGILL, SIGFPE, SIGSYS, SIGKILL};
    const struct report *r = p->r;
    int shown = 0;
    for (int i = 0; i < r->processes && shown < LIST_SHOWN; i++) {
        const struct report_process *o = &r->process[i];
        bool crashed = false;
        for (size_t b = 0; b < sizeof bad / sizeof *bad; b++)
            crashed = crashed || o->signal == bad[b];
        if (!crashed)
            continue;
        char name[64];
        clean(name, sizeof name, basename_of(o->executable), p->style->utf8);
        say(p, shown++ ? "" : "KILLED", "%s, pid %d, by %s at %s", name, o->pid,
            signal_name(o->signal), clock_cell(o->end_ns, false).s);
    }
}

static struct cell thread_cell(const struct report_in_flight *f)
{
    struct cell c;
    if (f->tid == f->pid)
        snprintf(c.s, sizeof c.s, "pid %d", f->pid);
    else
        snprintf(c.s, sizeof c.s, "pid %d/%d", f->pid, f->tid);
    return c;
}

static void put_in_flight(struct page *p)
{
    const struct report *r = p->r;
    int shown = r->in_flights < LIST_SHOWN ? r->in_flights : LIST_SHOWN, names = 0, threads = 0;
    char name[256], call[24];
    for (int i = 0; i < shown; i++) {
        clean(name, sizeof name, r->in_flight[i].endpoint, p->style->utf8);
        names = width_of(name) > names ? width_of(name) : names;
        int width = width_of(thread_cell(&r->in_flight[i]).s);
        threads = width > threads ? width : threads;
    }
    int room = p->columns - LABEL - 8 - 2 - 14 - threads;
    names = names < room ? names : room > 12 ? room : 12;
    for (int i = 0; i < shown; i++) {
        const struct report_in_flight *f = &r->in_flight[i];
        clean(name, sizeof name, f->endpoint, p->style->utf8);
        snprintf(call, sizeof call, f->call ? "in %.16s" : "%s", f->call ? f->call : "");
        label(p, i ? "" : "IN FLIGHT");
        put_name(p->f, name, names);
        put_right(p->f, time_cell(f->age_ns, p->style->utf8).s, 8);
        fprintf(p->f, "  %-13s %s\n", call, thread_cell(f).s);
    }
    if (r->in_flights > shown)
        say(p, "", "and %d more: sonde report --json | jq .in_flight", r->in_flights - shown);
}

/* --- what is missing --- */

static void put_unread(struct page *p)
{
    const struct report *r = p->r;
    const char *known = r->unreads > 1 ? "" : ": times and bytes only";
    for (int i = 0; i < r->unreads && i < UNREAD_SHOWN; i++) {
        const struct report_unread *u = &r->unread[i];
        char address[128];
        clean(address, sizeof address, u->address, p->style->utf8);
        say(p, i ? "" : "NOT READ", "%s %s, %s connection%s, %s%s", address, reason_text(u->reason),
            count_cell(u->connections).s, plural(u->connections),
            sum_cell(u->bytes_in + u->bytes_out).s, known);
    }
    if (r->unreads > UNREAD_SHOWN)
        say(p, "", "and %d more", r->unreads - UNREAD_SHOWN);
    if (r->unreads > 1)
        say(p, "", "of all these only times and bytes are known");
}

static void put_lost(struct page *p)
{
    static const char *const remedy[LOSS_COUNT] = {
        [LOSS_FULL] = "shared memory full",
        [LOSS_NO_LANE] = "more threads at once than sonde has places for",
        [LOSS_NESTED] = "in signal handlers that interrupted the recorder",
        [LOSS_UNFINISHED] = "threads ended in the middle of an event",
        [LOSS_COLLECTOR] =
            "the collector was killed and started anew; look for what killed it (memory limit?)",
        [LOSS_DAMAGED] = "shared memory was overwritten, by a stray pointer of the server perhaps",
    };
    const struct report *r = p->r;
    int shown = 0;
    for (int i = 0; i < LOSS_COUNT; i++) {
        struct text t = {.used = 0};
        if (!r->events.lost[i])
            continue;
        add(&t, "%s %s: %s", grouped(r->events.lost[i]).s, loss_names[i], remedy[i]);
        if (i == LOSS_FULL) {
            add(&t, " between %s and %s; ", clock_cell(r->events.first_lost_ns, false).s,
                clock_cell(r->events.last_lost_ns, false).s);
            if (r->arena_bytes)
                add(&t, "raise arena.bytes (%" PRIu64 " MiB)", r->arena_bytes >> 20);
            else
                add(&t, "raise it: --set arena.bytes=128M");
        }
        say(p, shown++ ? "" : "LOST", "%s", t.s);
    }
    for (int i = 0; i < r->bounds; i++) {
        const char *what = r->bound[i].reason;
        const char *key = strcmp(what, "connections") == 0 ? "connections.limit"
                          : strcmp(what, "spans") == 0     ? "spans.open_limit"
                                                           : NULL;
        say(p, i ? "" : "LIMITED", "%s %s were not followed%s%s", grouped(r->bound[i].count).s,
            what, key ? ": raise " : "", key ? key : "");
    }
}

static void put_heap_notes(struct page *p)
{
    const struct report *r = p->r;
    const char *own = NULL, *sizes = NULL, *tail = NULL;
    for (int i = 0; i < r->processes && r->heap_counted; i++) {
        const struct report_process *o = &r->process[i];
        own = o->flags & PROCESS_OWN_MALLOC ? basename_of(o->executable) : own;
        sizes = o->flags & PROCESS_NO_SIZES ? basename_of(o->executable) : sizes;
        tail = o->heap_tail_unknown ? basename_of(o->executable) : tail;
    }
    char name[64];
    if (own) {
        clean(name, sizeof name, own, p->style->utf8);
        say(p, "HEAP",
            "%s brings its own malloc inside its executable: its allocations cannot be seen", name);
    }
    if (sizes) {
        clean(name, sizeof name, sizes, p->style->utf8);
        say(p, "HEAP", "%s mixes allocators: freed bytes are unknown", name);
    }
    if (tail) {
        clean(name, sizeof name, tail, p->style->utf8);
        say(p, "HEAP", "%s: bytes allocated after a thread's last call are unknown", name);
    }
}

/* Nothing was counted: why that may be, and what to try. */
static void put_nothing(struct page *p)
{
    const struct report *r = p->r;
    uint64_t connections =
        r->connections.accepted + r->connections.opened + r->connections.inherited;
    if (r->requests)
        return;
    if (r->processes == 0)
        say(p, "WHY",
            "No process could be watched. Statically linked programs, Go, setuid programs and "
            "another libc are"
            " out of reach; `sonde check CMD` tells which it is.");
    else if (r->cut)
        say(p, "WHY",
            "No request ended in the time asked for. Without --last or --since the whole run is "
            "shown.");
    else if (connections == 0)
        say(p, "WHY",
            "No process accepted or opened a stream connection (pipes, datagrams and files are "
            "none). Did"
            " anybody send a request%s? Does the program keep its sockets in a child that sonde "
            "cannot watch?"
            " `sonde check CMD` tells.",
            r->running ? " yet" : "");
    else if (r->connections.bytes_in + r->connections.bytes_out == 0)
        say(p, "WHY", "Connections were made, but not one byte went over them.");
    else if (r->unreads)
        say(p, "WHY",
            "What went over the connections could not be read as requests: sonde reads HTTP/1 and "
            "Redis.");
    else if (r->in_flights)
        say(p, "WHY", "Requests have begun, but none has ended yet.");
    else
        say(p, "WHY",
            "Bytes went over the connections, but no request was complete before its connection or "
            "process"
            " ended.");
}

/* --- the foot --- */

static void put_outputs(struct page *p)
{
    for (int i = 0; i < p->r->outputs; i++) {
        const struct report_output *o = &p->r->output[i];
        const struct documents *d = &o->documents;
        uint64_t dropped =
            d->dropped_memory + d->dropped_exit + d->dropped_refused + o->dropped_collector;
        char name[200];
        struct text t = {.used = 0};
        clean(name, sizeof name, o->name, p->style->utf8);
        add(&t, "%s: %s document%s, %s acknowledged", name, grouped(d->carried + d->accepted).s,
            plural(d->carried + d->accepted), grouped(d->acknowledged + d->duplicates).s);
        if (d->dead)
            add(&t, ", %s refused as bad", grouped(d->dead).s);
        if (d->queued)
            add(&t, ", %s queued", grouped(d->queued).s);
        add(&t, ", %s dropped", grouped(dropped).s);
        if (d->dropped_exit)
            add(&t, " (%s not delivered in time: raise exit.flush_s)", grouped(d->dropped_exit).s);
        else if (d->dropped_memory)
            add(&t, " (%s while it was slow: raise output.memory_bytes)",
                grouped(d->dropped_memory).s);
        say(p, i ? "" : "SENT", "%s", t.s);
    }
}

static void put_store(struct page *p)
{
    const struct report *r = p->r;
    struct stat st;
    uint64_t by_size = 0;
    for (int i = 0, told = 0; i < r->sheds; i++) {
        if (strcmp(r->shed[i].reason, "size") == 0)
            by_size = r->shed[i].count;
        else
            say(p, told++ ? "" : "SAMPLES",
                "%s sampled request%s not kept: %s; the totals above count them",
                grouped(r->shed[i].count).s, plural(r->shed[i].count), r->shed[i].reason);
    }
    if (r->lives > 1)
        say(p, "NOTE",
            "the collector was started anew %u time%s; what was lost meanwhile is counted above",
            r->lives - 1, plural(r->lives - 1));
    if (!p->style->store)
        return;
    struct text t = {.used = 0};
    char path[1024];
    clean(path, sizeof path, p->style->store, p->style->utf8);
    add(&t, "%s", path);
    if (stat(p->style->store, &st) == 0)
        add(&t, " %s", sum_cell((uint64_t)st.st_size).s);
    if (by_size)
        add(&t, ", %s older samples let go (store.bytes)", count_cell(by_size).s);
    struct text next = {.used = 0};
    add(&next, "sonde report ");
    if (strcmp(p->style->store, "./sonde.db") != 0 && strcmp(p->style->store, "sonde.db") != 0)
        add(&next, "%s ", path);
    add(&next, r->requests ? "--slowest 5 | --json" : "--json");
    label(p, "STORE");
    if (LABEL + width_of(t.s) + 10 + width_of(next.s) <= p->columns) {
        fprintf(p->f, "%s    NEXT  %s\n", t.s, next.s);
        return;
    }
    wrap(p, t.s);
    label(p, "NEXT");
    wrap(p, next.s);
}

static struct page page_for(const struct report *r, const struct report_style *style, FILE *f)
{
    int columns = style->columns > 0 ? style->columns : 80;
    return (struct page){f, r, style, columns < 40 ? 40 : columns};
}

void report_text(const struct report *r, const struct report_style *style, FILE *f)
{
    struct page p = page_for(r, style, f);
    put_title(&p);
    put_verdict(&p);
    put_flow(&p);
    put_nothing(&p);
    put_endpoints(&p);
    put_errors(&p);
    put_crashes(&p);
    put_in_flight(&p);
    put_unread(&p);
    put_lost(&p);
    put_heap_notes(&p);
    put_outputs(&p);
    put_store(&p);
    fflush(f);
}

/* --- the slowest --- */

static uint64_t known(uint64_t v)
{
    return v == UNKNOWN ? 0 : v;
}

/* One letter a unit of time; a phase's letters end where its end in time falls, so that errors do
 * not add up. */
static void put_bar(FILE *f, const struct report_span *s, double unit)
{
    uint64_t work = known(s->work_ns), down = known(s->downstream_ns);
    down = down < work ? down : work;
    const struct {
        char letter;
        uint64_t ns;
    } phase[] = {{'q', known(s->queue_ns)},
                 {'r', known(s->receive_ns)},
                 {'w', work - down},
                 {'d', down},
                 {'s', known(s->send_ns)}};
    uint64_t total = 0;
    int letters = 0;
    fputc('|', f);
    for (size_t i = 0; i < sizeof phase / sizeof *phase; i++) {
        total += phase[i].ns;
        for (int end = (int)((double)total / unit + 0.5); letters < end; letters++)
            fputc(phase[i].letter, f);
    }
    if (total == 0) { /* nothing is known of its phases */
        for (int end = (int)((double)s->duration_ns / unit + 0.5); letters < end; letters++)
            fputc('?', f);
    }
    fputs("|\n", f);
}

void report_slowest_text(const struct report *r, const struct report_style *style, FILE *f)
{
    struct page p = page_for(r, style, f);
    char name[512];
    int longest = 0;
    uint64_t most = 1;
    if (r->slowests == 0) {
        say(&p, "SLOWEST", "no sampled request in this store%s",
            r->cut ? " in the time asked for" : "");
        return;
    }
    for (int i = 0; i < r->slowests; i++) {
        const struct report_span *s = &r->slowest[i];
        clean(name, sizeof name, s->target && s->target[1] ? s->target : s->endpoint, style->utf8);
        longest = width_of(name) > longest ? width_of(name) : longest;
        uint64_t all = s->duration_ns + known(s->queue_ns);
        most = all > most ? all : most;
    }
    int name_width = longest < p.columns * 2 / 5 ? longest : p.columns * 2 / 5;
    int bar = p.columns - 13 - name_width - 5 - 8 - 3;
    double unit = (double)most / (bar > 4 ? bar : 4);
    for (int i = 0; i < r->slowests; i++) {
        const struct report_span *s = &r->slowest[i];
        char status[16] = "-";
        clean(name, sizeof name, s->target && s->target[1] ? s->target : s->endpoint, style->utf8);
        if (s->status)
            snprintf(status, sizeof status, "%u", s->status);
        else if (s->answered)
            snprintf(status, sizeof status, "%s", s->failed ? "err" : "ok");
        fprintf(f, "%s ", clock_cell(s->start_ns, true).s);
        put_name(f, name, name_width);
        if (s->failed)
            paint(&p, RED);
        fprintf(f, "%5s", status);
        if (s->failed)
            paint(&p, PLAIN);
        put_right(f, time_cell(s->duration_ns, style->utf8).s, 8);
        fputc(' ', f);
        put_bar(f, s, unit);
    }
    fprintf(f, "  q ready, not read  r receive  w work  d downstream  s send   1 letter = %s\n",
            time_cell((uint64_t)unit, style->utf8).s);
    fflush(f);
}
