/*
 * report_memory.c - `sonde report --memory`: what requests allocate and keep, and where in the code.
 *
 * In:      struct report                        Out: FILE
 * Context: P but for the FILE
 * Sums are exact (each thread's own counters); places come from samples, with their error.
 */
#include "collector/report_page.h"

static bool is_outside(const struct report_endpoint *e)
{
    return e->key == 0;
}

static struct cell show_count(const struct page *p, const struct report_endpoint *e)
{
    (void)p;
    return cell_count(is_outside(e) ? UNKNOWN : e->count);
}
static struct cell show_each(const struct page *p, const struct report_endpoint *e)
{
    (void)p;
    return e->heap_known && e->count ? cell_each((double)e->allocated / (double)e->count) : (struct cell){"-"};
}
static struct cell show_p99(const struct page *p, const struct report_endpoint *e)
{
    (void)p;
    return cell_bytes(e->heap_known && e->measured.heap.count ? e->measured.heap.p99 : UNKNOWN);
}
static struct cell show_kept_each(const struct page *p, const struct report_endpoint *e)
{
    (void)p;
    if (!e->heap_known || !e->count)
        return (struct cell){"-"};
    return cell_each(((double)e->allocated - (double)e->freed) / (double)e->count);
}
static struct cell show_kept(const struct page *p, const struct report_endpoint *e)
{
    (void)p;
    return e->heap_known ? cell_each((double)e->allocated - (double)e->freed) : (struct cell){"-"};
}
static struct cell show_all(const struct page *p, const struct report_endpoint *e)
{
    (void)p;
    return cell_bytes(e->heap_known ? e->allocated : UNKNOWN);
}
static struct cell show_retained(const struct page *p, const struct report_endpoint *e)
{
    (void)p;
    return cell_bytes(is_outside(e) ? UNKNOWN : e->retained);
}
static struct cell show_max(const struct page *p, const struct report_endpoint *e)
{
    (void)p;
    return cell_bytes(e->heap_known && e->measured.heap.count ? e->measured.heap.max : UNKNOWN);
}
static struct cell show_grows(const struct page *p, const struct report_endpoint *e)
{
    static const char *const words[] = {
        [GROWTH_UNKNOWN] = "-", [GROWTH_NONE] = "no", [GROWTH_STOPPED] = "stopped", [GROWTH_LIKELY] = "likely", [GROWTH_SURE] = "yes"};
    struct cell c = {"-"};
    if (p->r->history_known && p->r->stacks_sampled)
        snprintf(c.s, sizeof c.s, "%s", words[e->growth.verdict]);
    return c;
}

static const struct page_column columns[] = {
    {"requests", 10, 1, show_count, NULL},  {"each", 9, 2, show_each, NULL},
    {"p99", 9, 4, show_p99, NULL},          {"kept each", 10, 3, show_kept_each, NULL},
    {"kept", 9, 5, show_kept, NULL},        {"grows", 9, 6, show_grows, NULL},
    {"max", 9, 9, show_max, NULL},          {"retained", 9, 8, show_retained, NULL},
    {"allocated", 10, 10, show_all, NULL},  {NULL, 0, 0, NULL, NULL},
};

static uint64_t kept(const struct report_site *s)
{
    return s->live_bytes + s->ended_bytes;
}
static uint64_t kept_samples(const struct report_site *s)
{
    return s->live_samples + s->ended_samples;
}
static uint64_t allocated(const struct report_site *s)
{
    return s->amount;
}
static uint64_t allocated_samples(const struct report_site *s)
{
    return s->samples;
}

struct sums {
    uint64_t allocated, freed, charged;
};

static struct sums sum_up(const struct report *r)
{
    struct sums s = {.allocated = r->outside.allocated, .freed = r->outside.freed};
    for (int i = 0; i < r->endpoints; i++) {
        s.charged += r->endpoint[i].allocated;
        s.freed += r->endpoint[i].freed;
    }
    s.allocated += s.charged;
    return s;
}

void page_put_memory(struct page *p)
{
    const struct report *r = p->r;
    struct report_endpoint outside = {.name = "outside requests",
                                      .heap_known = r->heap_counted,
                                      .allocated = r->outside.allocated,
                                      .freed = r->outside.freed,
                                      .growth = r->outside_growth};
    struct sums s = sum_up(r);
    if (!r->heap_counted) {
        page_say(p, "HEAP", "not known: memory.heap was off");
        return;
    }
    page_put_view(p, columns, "HEAP  ", &outside);
    page_say(p, "CHARGED", "%s of %s allocated (%s) belong to requests; kept: allocated and not freed by the same requests",
             cell_bytes(s.charged).s, cell_bytes(s.allocated).s, cell_percent(s.charged, s.allocated).s);
    page_put_lost_frees(p);
    page_put_places(p, &(struct page_places){"KEPT AT", "kept", kept, kept_samples, true, false,
                                             s.allocated > s.freed ? s.allocated - s.freed : 0});
    page_put_places(p, &(struct page_places){"ALLOCATED", "bytes", allocated, allocated_samples, false, false, s.allocated});
}
