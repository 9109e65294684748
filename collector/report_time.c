/*
 * report_time.c - `sonde report --cpu` and `--waits`: whose CPU it was, and what each request's time was spent on.
 *
 * In:      struct report                        Out: FILE
 * Context: P but for the FILE
 * A row of waits adds up to the last digit: one unit a row, and what rounding leaves over goes where it came from.
 */
#include <inttypes.h>
#include <math.h>
#include <string.h>

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

/* --- CPU --- */

struct cpu_sums {
    uint64_t processes, charged, all; /* UNKNOWN: not measured; all: what shares are parts of */
};

static struct cpu_sums sum_cpu(const struct report *r)
{
    struct cpu_sums s = {UNKNOWN, UNKNOWN, 0};
    for (int i = 0; i < r->processes && !r->cut; i++)
        if (r->process[i].cpu_ns != UNKNOWN)
            s.processes = (s.processes == UNKNOWN ? 0 : s.processes) + r->process[i].cpu_ns;
    for (int i = 0; i < r->endpoints; i++)
        if (r->endpoint[i].cpu_ns != UNKNOWN)
            s.charged = (s.charged == UNKNOWN ? 0 : s.charged) + r->endpoint[i].cpu_ns;
    uint64_t known = (s.charged == UNKNOWN ? 0 : s.charged) + (r->outside.cpu_ns == UNKNOWN ? 0 : r->outside.cpu_ns);
    s.all = s.processes != UNKNOWN && s.processes > known ? s.processes : known;
    return s;
}

static struct cell show_cpu_each(const struct page *p, const struct report_endpoint *e)
{
    uint64_t n = e->measured.cpu_count; /* not of every request: threads may be without a clock */
    return cell_time(e->cpu_ns == UNKNOWN || n == UNKNOWN || !n ? UNKNOWN : e->cpu_ns / n, p->style->utf8);
}
static struct cell show_cpu_p99(const struct page *p, const struct report_endpoint *e)
{
    return cell_time(e->measured.cpu.count ? e->measured.cpu.p99 : UNKNOWN, p->style->utf8);
}
static struct cell show_cpu_max(const struct page *p, const struct report_endpoint *e)
{
    return cell_time(e->measured.cpu.count ? e->measured.cpu.max : UNKNOWN, p->style->utf8);
}
static struct cell show_wall_each(const struct page *p, const struct report_endpoint *e)
{
    return cell_time(e->latency.count ? e->latency.mean : UNKNOWN, p->style->utf8);
}
static struct cell show_share(const struct page *p, const struct report_endpoint *e)
{
    if (e->cpu_ns == UNKNOWN)
        return (struct cell){"-"};
    return cell_percent(e->cpu_ns, sum_cpu(p->r).all);
}
static struct cell show_cpu_all(const struct page *p, const struct report_endpoint *e)
{
    return cell_time(e->cpu_ns, p->style->utf8);
}
static bool has_cpu_spread(const struct report *r)
{
    for (int i = 0; i < r->endpoints; i++)
        if (r->endpoint[i].measured.cpu.count)
            return true;
    return false;
}

static const struct page_column cpu_columns[] = {
    {"requests", 10, 1, show_count, NULL},     {"time each", 10, 5, show_wall_each, NULL},
    {"cpu each", 10, 2, show_cpu_each, NULL},  {"p99", 8, 6, show_cpu_p99, has_cpu_spread},
    {"max", 8, 8, show_cpu_max, has_cpu_spread}, {"share", 8, 4, show_share, NULL},
    {"cpu, all", 10, 3, show_cpu_all, NULL},   {NULL, 0, 0, NULL, NULL},
};

void page_put_cpu(struct page *p)
{
    const struct report *r = p->r;
    bool utf8 = p->style->utf8;
    struct cpu_sums s = sum_cpu(r);
    struct report_endpoint outside = {.name = "outside requests", .cpu_ns = s.charged == UNKNOWN ? UNKNOWN : r->outside.cpu_ns};
    page_put_view(p, cpu_columns, "CPU   ", &outside);
    if (s.charged == UNKNOWN) {
        page_say(p, "CHARGED", "not known: the CPU of threads was not read%s%s%s", r->cpu_wanted ? "" : " (time.cpu was off)",
                 s.processes == UNKNOWN ? "" : "; the processes used ", s.processes == UNKNOWN ? "" : cell_time(s.processes, utf8).s);
        return;
    }
    uint64_t elsewhere = r->outside.cpu_ns == UNKNOWN ? 0 : r->outside.cpu_ns;
    struct text t = {.used = 0};
    text_add(&t, "%s to requests", cell_time(s.charged, utf8).s);
    if (s.processes != UNKNOWN)
        text_add(&t, ", %s of the processes' %s", cell_percent(s.charged < s.all ? s.charged : s.all, s.all).s,
                 cell_time(s.processes, utf8).s);
    text_add(&t, "; outside of them %s", cell_time(elsewhere, utf8).s);
    if (r->outside.unseen_cpu_ns && r->outside.unseen_cpu_ns <= elsewhere)
        text_add(&t, " (%s of it no event saw: threads without calls, start and end)", cell_time(r->outside.unseen_cpu_ns, utf8).s);
    if (s.processes != UNKNOWN && s.processes > s.charged + elsewhere)
        text_add(&t, ", of threads and times not seen %s", cell_time(s.processes - s.charged - elsewhere, utf8).s);
    else if (s.processes != UNKNOWN && s.charged + elsewhere > s.processes)
        text_add(&t, ", %s more than the processes' own clocks", cell_time(s.charged + elsewhere - s.processes, utf8).s);
    page_say(p, "CHARGED", "%s", t.s);
}

/* --- waits --- */

enum share { CPU, LOCK, DISK, DOWNSTREAM, SLEEP, RUNQUEUE, REST, PARTS };

struct split { /* a request's mean, in steps of the row's last digit */
    long long part[PARTS], wall;
    bool known[PARTS];
    int decimals;
    const char *unit;
};

/* Four digits of the whole; all parts have its unit and its last digit. */
static double choose_unit(struct split *row, double wall, bool utf8)
{
    static const struct {
        double ns;
        const char *ascii, *utf8;
    } units[] = {{1, "ns", "ns"}, {1e3, "us", "\xc2\xb5s"}, {1e6, "ms", "ms"}, {1e9, "s", "s"}};
    int u = wall < 999.95 ? 0 : wall < 999.95e3 ? 1 : wall < 999.95e6 ? 2 : 3;
    double v = wall / units[u].ns;
    row->unit = utf8 ? units[u].utf8 : units[u].ascii;
    row->decimals = u == 0 ? 0 : v < 9.9995 ? 3 : v < 99.995 ? 2 : v < 999.95 ? 1 : 0;
    return units[u].ns / pow(10, row->decimals);
}

/* Rounds so that the parts still add up: what is left over goes to those that lost the most. */
static void round_parts(struct split *row, const double *ns, double step)
{
    double lost[PARTS];
    long long left = row->wall;
    for (int i = 0; i < PARTS; i++) {
        row->part[i] = (long long)floor(ns[i] / step);
        lost[i] = ns[i] / step - (double)row->part[i];
        left -= row->part[i];
    }
    for (; left > 0; left--) {
        int most = REST;
        for (int i = 0; i < PARTS; i++)
            if (lost[i] > lost[most])
                most = i;
        row->part[most]++;
        lost[most] = -1;
    }
    row->part[REST] += left; /* less than nothing: only by a rounding of the whole */
}

static struct split row_of(const struct report_endpoint *e, bool utf8)
{
    const struct report_measured *m = &e->measured;
    const uint64_t sum[REST] = {m->cpu_ns, m->lock_ns, m->disk_ns, m->downstream_ns, m->sleep_ns, m->runqueue_ns};
    bool waits = m->waits_count != UNKNOWN && m->waits_count, cpu = m->cpu_count != UNKNOWN && m->cpu_count;
    struct split row = {.wall = -1};
    double ns[PARTS], n = (double)e->count;
    if (!e->latency.count || !e->count)
        return row;
    ns[REST] = (double)e->latency.sum / n;
    double step = choose_unit(&row, ns[REST], utf8);
    row.wall = llround(ns[REST] / step);
    for (int i = 0; i < REST; i++) {
        row.known[i] = sum[i] != UNKNOWN && (i == CPU ? cpu : i == DOWNSTREAM ? true : i == RUNQUEUE ? cpu && waits : waits);
        ns[i] = row.known[i] ? (double)sum[i] / n : 0;
        ns[REST] -= ns[i];
    }
    row.known[REST] = true;
    round_parts(&row, ns, step);
    return row;
}

static struct cell show_part(const struct page *p, const struct report_endpoint *e, enum share part)
{
    struct split row = row_of(e, p->style->utf8);
    struct cell c = {"-"};
    if (row.wall >= 0 && row.known[part])
        snprintf(c.s, sizeof c.s, "%.*f", row.part[part] ? row.decimals : 0, (double)row.part[part] / pow(10, row.decimals));
    if (strlen(c.s) > 7) /* of a damaged store */
        snprintf(c.s, sizeof c.s, "%.0e", (double)row.part[part] / pow(10, row.decimals));
    return c;
}
#define SHOW_PART(name, part)                                                                                          \
    static struct cell show_##name(const struct page *p, const struct report_endpoint *e)                              \
    {                                                                                                                  \
        return show_part(p, e, part);                                                                                  \
    }
SHOW_PART(cpu, CPU)
SHOW_PART(lock, LOCK)
SHOW_PART(disk, DISK)
SHOW_PART(downstream, DOWNSTREAM)
SHOW_PART(sleep, SLEEP)
SHOW_PART(runqueue, RUNQUEUE)
SHOW_PART(rest, REST)

static struct cell show_wall(const struct page *p, const struct report_endpoint *e)
{
    struct split row = row_of(e, p->style->utf8);
    struct cell c = {"-"};
    if (row.wall >= 0)
        snprintf(c.s, sizeof c.s, "%.*f%s", row.decimals, (double)row.wall / pow(10, row.decimals), row.unit);
    return c;
}

static const struct page_column wait_columns[] = {
    {"time", 8, 1, show_wall, NULL},       {"= cpu", 6, 2, show_cpu, NULL},
    {"+lock", 6, 3, show_lock, NULL},      {"+disk", 6, 4, show_disk, NULL},
    {"+down", 6, 5, show_downstream, NULL}, {"+sleep", 7, 6, show_sleep, NULL},
    {"+runq", 6, 7, show_runqueue, NULL},  {"+unknown", 9, 1, show_rest, NULL},
    {NULL, 0, 0, NULL, NULL},
};

static uint64_t waited(const struct report_site *s)
{
    return s->amount;
}
static uint64_t wait_samples(const struct report_site *s)
{
    return s->samples;
}

static void say_measured(struct page *p)
{
    uint64_t requests = 0, cpu = 0, waits = 0;
    for (int i = 0; i < p->r->endpoints; i++) {
        const struct report_measured *m = &p->r->endpoint[i].measured;
        requests += p->r->endpoint[i].count;
        cpu += m->cpu_count == UNKNOWN ? 0 : m->cpu_count;
        waits += m->waits_count == UNKNOWN ? 0 : m->waits_count;
    }
    page_say(p, "",
             "means of a request; down: in calls that it made, runq: no CPU to be had, unknown: neither CPU nor a wait "
             "that is seen%s",
             p->columns < 72 ? "; some columns need a wider terminal" : "");
    if (requests && !cpu && !waits)
        page_say(p, "MEASURED", "neither CPU nor waits%s",
                 p->r->cpu_wanted || p->r->waits_wanted ? "" : ": time.cpu and time.waits were off");
    else if (requests && (cpu < requests || waits < requests))
        page_say(p, "MEASURED", "CPU of %s, waits of %s of the requests; what was not is in unknown", cell_percent(cpu, requests).s,
                 cell_percent(waits, requests).s);
}

void page_put_waits(struct page *p)
{
    uint64_t waited_ns = UNKNOWN;
    page_put_view(p, wait_columns, "TIME  ", NULL);
    say_measured(p);
    for (int i = 0; i < p->r->endpoints; i++)
        if (p->r->endpoint[i].lock_ns != UNKNOWN)
            waited_ns = (waited_ns == UNKNOWN ? 0 : waited_ns) + p->r->endpoint[i].lock_ns;
    if (p->r->sites_known && waited_ns != UNKNOWN)
        page_put_places(p, &(struct page_places){"LOCKED AT", "waited", waited, wait_samples, false, true, waited_ns});
}

void report_views_text(const struct report *r, const struct report_style *style, unsigned views, FILE *f)
{
    struct page p = page_begin(r, style, f);
    page_put_head(&p);
    page_put_nothing(&p);
    if (r->endpoints && views & REPORT_CPU)
        page_put_cpu(&p);
    if (r->endpoints && views & REPORT_WAITS)
        page_put_waits(&p);
    if (views & REPORT_MEMORY)
        page_put_memory(&p);
    fflush(f);
}
