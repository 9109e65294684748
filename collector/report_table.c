/*
 * report_table.c - the tables: what the requests of each endpoint took in time, and in bytes and
 * memory.
 *
 * In:      report_text.c                        Out: FILE
 * Context: P but for the FILE
 * Columns have ranks: a narrow page leaves out the last ones, a wide one gains some.
 */
#include <string.h>

#include "collector/report_page.h"

#define NAME_MIN 24 /* of an endpoint's name */
#define SHOWN 20    /* endpoints, unless asked otherwise */

/* --- tables --- */

static struct cell show_count(const struct page *p, const struct report_endpoint *e)
{
    (void)p;
    return cell_count(e->count);
}
static struct cell show_rate(const struct page *p, const struct report_endpoint *e)
{
    return cell_rate(e->count, p->r->to_ns > p->r->from_ns ? p->r->to_ns - p->r->from_ns : 0);
}
#define SHOW_TIME(name, which, field)                                                              \
    static struct cell show_##name(const struct page *p, const struct report_endpoint *e)          \
    {                                                                                              \
        return cell_time(e->which.count ? e->which.field : UNKNOWN, p->style->utf8);               \
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
    return known && e->count ? cell_each(sum / (double)e->count) : (struct cell){"-"};
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
    return v < 999.5 ? cell_digits(v, "") : cell_count((uint64_t)v);
}
static struct cell show_all_in(const struct page *p, const struct report_endpoint *e)
{
    (void)p;
    return cell_bytes(e->bytes_in);
}
static struct cell show_all_out(const struct page *p, const struct report_endpoint *e)
{
    (void)p;
    return cell_bytes(e->bytes_out);
}
static struct cell show_errors(const struct page *p, const struct report_endpoint *e)
{
    (void)p;
    struct cell c;
    if (e->errors)
        snprintf(c.s, sizeof c.s, "%.16s %.8s", cell_count(e->errors).s,
                 cell_percent(e->errors, e->count).s);
    else
        snprintf(c.s, sizeof c.s, "0");
    return c;
}
static struct cell show_cpu(const struct page *p, const struct report_endpoint *e)
{
    return cell_time(e->cpu_ns == UNKNOWN || !e->count ? UNKNOWN : e->cpu_ns / e->count,
                     p->style->utf8);
}
static bool has_cpu(const struct report *r)
{
    for (int i = 0; i < r->endpoints; i++)
        if (r->endpoint[i].cpu_ns != UNKNOWN)
            return true;
    return false;
}

static const struct page_column time_columns[] = {
    {"count", 9, 1, show_count, NULL}, {"req/s", 7, 5, show_rate, NULL},
    {"mean", 8, 9, show_mean, NULL},   {"p50", 8, 2, show_p50, NULL},
    {"p90", 8, 6, show_p90, NULL},     {"p99", 8, 3, show_p99, NULL},
    {"p99.9", 8, 8, show_p999, NULL},  {"max", 8, 4, show_max, NULL},
    {"first", 8, 7, show_first, NULL}, {NULL, 0, 0, NULL, NULL},
};
static const struct page_column each_columns[] = {
    {"in", 9, 2, show_in, NULL},          {"out", 9, 1, show_out, NULL},
    {"heap", 9, 3, show_heap, NULL},      {"kept", 9, 5, show_kept, NULL},
    {"cpu", 8, 6, show_cpu, has_cpu},     {"allocs", 8, 8, show_allocations, NULL},
    {"in, all", 9, 9, show_all_in, NULL}, {"out, all", 9, 7, show_all_out, NULL},
    {"errors", 11, 4, show_errors, NULL}, {NULL, 0, 0, NULL, NULL},
};

#define COLUMNS_MAX 10
#define BASE_RANKS 7 /* what 80 columns hold */

struct table {
    const struct page_column *columns;
    const char *word; /* NULL: the summary's */
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
    page_name(f, text, width);
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
            page_clean(text, sizeof text, p->r->endpoint[i].name, p->style->utf8);
            if (page_width(text) <= width)
                continue;
            shorten(a, sizeof a, text, width);
            for (int k = 0; k < shown && k < 64 && !alike; k++) {
                if (k == i || !same_group(&p->r->endpoint[i], &p->r->endpoint[k]))
                    continue;
                page_clean(text, sizeof text, p->r->endpoint[k].name, p->style->utf8);
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
        page_clean(name, sizeof name, p->r->endpoint[i].name, p->style->utf8);
        longest = page_width(name) > longest ? page_width(name) : longest;
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
    page_clean(service, sizeof service, group->service, p->style->utf8);
    page_clean(protocol, sizeof protocol, group->protocol, p->style->utf8);
    bool calls = group->side == SIDE_CLIENT;
    if (t->word)
        snprintf(text, sizeof text, "%s%s%s %s", t->word, service, calls ? " ->" : "", protocol);
    else if (t->columns == time_columns)
        snprintf(text, sizeof text, "TIME  %s%s %s", service, calls ? " ->" : "", protocol);
    else
        snprintf(text, sizeof text, "EACH %s", calls ? "CALL" : "REQUEST");
    page_paint(p, PAGE_BOLD);
    page_name(p->f, text, t->name_width);
    for (int c = 0; t->columns[c].title; c++)
        if (t->shown[c])
            page_right(p->f, t->columns[c].title, t->columns[c].width);
    page_paint(p, PAGE_PLAIN);
    fputc('\n', p->f);
}

static void put_table_row(struct page *p, const struct table *t, const struct report_endpoint *e)
{
    char name[512];
    page_clean(name, sizeof name, e->name, p->style->utf8);
    page_name(p->f, name, t->name_width);
    for (int c = 0; t->columns[c].title; c++) {
        if (!t->shown[c])
            continue;
        bool alarming = t->columns[c].value == show_errors && e->errors;
        if (alarming)
            page_paint(p, PAGE_RED);
        page_right(p->f, t->columns[c].value(p, e).s, t->columns[c].width);
        if (alarming)
            page_paint(p, PAGE_PLAIN);
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
    struct text head = {.used = 0}, t = {.used = 0};
    text_add(&head, "+ %d more endpoint%s:", r->endpoints - shown, page_plural((uint64_t)(r->endpoints - shown)));
    text_add(&t, "%s request%s, max %s, %s error%s; all: --top %d", cell_grouped(count).s, page_plural(count),
             cell_time(slowest, p->style->utf8).s, cell_grouped(errors).s, page_plural(errors), r->endpoints);
    if (page_width(head.s) + 1 + page_width(t.s) <= p->columns) {
        fprintf(p->f, "%s %s\n", head.s, t.s);
        return;
    }
    fprintf(p->f, "%s\n", head.s);
    page_label(p, "");
    page_wrap(p, t.s);
}

static bool is_first_of_group(const struct report *r, int i)
{
    for (int k = 0; k < i; k++)
        if (same_group(&r->endpoint[k], &r->endpoint[i]))
            return false;
    return true;
}

void page_put_view(struct page *p, const struct page_column *columns, const char *word,
                   const struct report_endpoint *last)
{
    struct table t = {.columns = columns, .word = word};
    int shown = shown_endpoints(p->r);
    fit(&t, p, telling_width(p, shown));
    for (int i = 0; i < shown; i++)
        if (is_first_of_group(p->r, i))
            put_group(p, &t, i, shown);
    if (last)
        put_table_row(p, &t, last);
    put_rest(p, shown);
}

void page_put_endpoints(struct page *p)
{
    struct table times = {.columns = time_columns}, each_request = {.columns = each_columns};
    int shown = shown_endpoints(p->r), least = telling_width(p, shown), groups = 0;
    fit(&times, p, least);
    fit(&each_request, p, least);
    if (times.name_width > each_request.name_width) /* a name looks the same in both */
        times.name_width = each_request.name_width;
    each_request.name_width = times.name_width;
    for (int i = 0; i < shown; i++) {
        if (!is_first_of_group(p->r, i))
            continue;
        if (groups++)
            fputc('\n', p->f);
        put_group(p, &times, i, shown);
        put_group(p, &each_request, i, shown);
    }
    put_rest(p, shown);
}
