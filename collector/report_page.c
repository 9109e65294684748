/*
 * report_page.c - words and numbers as a page shows them: safe for a terminal, three digits and a
 * unit, lines that end before the last column.
 *
 * In:      report_text.c, report_table.c, report_notes.c, report_slowest.c      Out: FILE
 * Context: P but for the FILE and the local time zone
 */
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "collector/report_page.h"

/* --- text --- */

int page_width(const char *s)
{
    int n = 0;
    for (; *s; s++)
        n += ((unsigned char)*s & 0xc0) != 0x80;
    return n;
}

/* What goes to a terminal: no control characters, no bytes that it does not know. Returns how much
 * of `s` fitted. */
void page_clean(char *to, size_t room, const char *s, bool utf8)
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

const char *page_skip(const char *s, int n)
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
void page_name(FILE *f, const char *text, int width)
{
    int have = page_width(text);
    if (have <= width) {
        fprintf(f, "%s%*s", text, width - have, "");
        return;
    }
    int tail = (width - 2) / 2, head = width - 2 - tail;
    const char *cut = page_skip(text, head);
    fprintf(f, "%.*s..%s", (int)(cut - text), text, page_skip(text, have - tail));
}

void page_right(FILE *f, const char *text, int width)
{
    fprintf(f, "%*s%s", width - page_width(text) > 0 ? width - page_width(text) : 0, "", text);
}

/* --- numbers --- */

/* Three digits and a unit: 6.03k, 41.0, 123M. */
struct cell cell_digits(double v, const char *unit)
{
    struct cell c;
    int decimals = v < 9.995 ? 2 : v < 99.95 ? 1 : 0;
    snprintf(c.s, sizeof c.s, "%.*f%s", decimals, v, unit);
    return c;
}

struct cell cell_count(uint64_t n)
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
    return cell_digits(v, unit[u]);
}

/* 2 412 388: for the one number that people compare with their log. */
struct cell cell_grouped(uint64_t n)
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

struct cell cell_rate(uint64_t n, uint64_t ns)
{
    if (ns == 0)
        return (struct cell){"-"};
    double v = (double)n * 1e9 / (double)ns;
    if (v > 0 && v < 0.005)
        return (struct cell){"<0.01"};
    if (v < 999.5)
        return cell_digits(v, "");
    return v < 999.5e3 ? cell_digits(v / 1000, "k") : cell_count((uint64_t)v);
}

struct cell cell_each(double v)
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

struct cell cell_bytes(uint64_t bytes)
{
    if (bytes == UNKNOWN)
        return (struct cell){"-"};
    return cell_each((double)bytes);
}

struct cell cell_time(uint64_t ns, bool utf8)
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
        return cell_digits(v / 1e3, utf8 ? "\xc2\xb5s" : "us");
    if (v < 999.5e6)
        return cell_digits(v / 1e6, "ms");
    if (v < 99.95e9)
        return cell_digits(v / 1e9, "s");
    uint64_t s = (ns + 500000000) / 1000000000;
    if (s < 3600)
        snprintf(c.s, sizeof c.s, "%um%02us", (unsigned)(s / 60), (unsigned)(s % 60));
    else if (s < 86400)
        snprintf(c.s, sizeof c.s, "%uh%02um", (unsigned)(s / 3600), (unsigned)(s / 60 % 60));
    else
        snprintf(c.s, sizeof c.s, "%ud%02uh", (unsigned)(s / 86400), (unsigned)(s / 3600 % 24));
    return c;
}

struct cell cell_percent(uint64_t part, uint64_t of)
{
    struct cell c;
    double p = of ? 100.0 * (double)part / (double)of : 0;
    if (part == 0 || of == 0)
        return (struct cell){"0%"};
    if (part == of)
        return (struct cell){"100%"};
    if (p < 0.01)
        return (struct cell){"<0.01%"};
    if (p >= 99.95)
        return (struct cell){">99.9%"};
    snprintf(c.s, sizeof c.s, "%.*f%%", p < 0.995 ? 2 : p < 9.95 || p >= 99.5 ? 1 : 0, p);
    return c;
}

struct cell cell_clock(uint64_t ns, bool with_ms)
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

void page_paint(struct page *p, const char *escape)
{
    if (p->style->colour)
        fputs(escape, p->f);
}

/* A section's first word; "" continues the one before. */
void page_label(struct page *p, const char *word)
{
    page_paint(p, PAGE_BOLD);
    fprintf(p->f, "%-*s", PAGE_LABEL, word);
    page_paint(p, PAGE_PLAIN);
}

/* Prints words, breaking lines between them before the last column; later lines start below the
 * first. */
void page_wrap(struct page *p, const char *text)
{
    int at = PAGE_LABEL;
    while (*text) {
        size_t len = strcspn(text, " ");
        int width = 0;
        for (size_t i = 0; i < len; i++)
            width += ((unsigned char)text[i] & 0xc0) != 0x80;
        if (at > PAGE_LABEL && at + 1 + width > p->columns) {
            fprintf(p->f, "\n%*s", PAGE_LABEL, "");
            at = PAGE_LABEL;
        } else if (at > PAGE_LABEL) {
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

void page_say(struct page *p, const char *word, const char *format, ...)
{
    char text[4096];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    page_label(p, word);
    page_wrap(p, text);
}

void text_add(struct text *t, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int n = vsnprintf(t->s + t->used, sizeof t->s - t->used, format, arguments);
    va_end(arguments);
    if (n > 0)
        t->used = t->used + (size_t)n < sizeof t->s ? t->used + (size_t)n : sizeof t->s - 1;
}

const char *page_basename(const char *path)
{
    const char *slash = path ? strrchr(path, '/') : NULL;
    return slash ? slash + 1 : path ? path : "-";
}

const char *page_program(const struct report_process *o)
{
    return o->service && *o->service ? o->service : page_basename(o->executable);
}

const char *page_signal(int number)
{
    static char other[24];
    const char *name = sigabbrev_np(number);
    if (name)
        snprintf(other, sizeof other, "SIG%s", name);
    else
        snprintf(other, sizeof other, "signal %d", number);
    return other;
}

const char *page_plural(uint64_t n)
{
    return n == 1 ? "" : "s";
}

const char *page_unread_reason(const char *reason)
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

struct page page_begin(const struct report *r, const struct report_style *style, FILE *f)
{
    int columns = style->columns > 0 ? style->columns : 80;
    return (struct page){f, r, style, columns < 40 ? 40 : columns};
}
