/*
 * report_slowest.c - the slowest sampled requests, each as a bar of its phases.
 *
 * In:      struct report                        Out: FILE
 * Context: P but for the FILE and the local time zone
 * What the work consisted of stands within it, in a fixed order: not as it happened.
 */
#include <string.h>

#include "collector/report_page.h"

static uint64_t known(uint64_t v)
{
    return v == UNKNOWN ? 0 : v;
}

enum phase { QUEUE, RECEIVE, CPU, LOCK, DISK, SLEEP, RUNQUEUE, UNSEEN, WORK, DOWNSTREAM, SEND, PHASES };

static const struct {
    char letter;
    const char *what, *colour;
} phases[PHASES] = {
    [QUEUE] = {'q', "ready, not read", "\033[33m"},  [RECEIVE] = {'r', "receive", "\033[36m"},
    [CPU] = {'c', "cpu", "\033[32m"},                [LOCK] = {'l', "lock", "\033[31m"},
    [DISK] = {'k', "disk", "\033[35m"},              [SLEEP] = {'z', "sleep", "\033[90m"},
    [RUNQUEUE] = {'u', "run queue", "\033[33m"},     [UNSEEN] = {'?', "unknown", "\033[90m"},
    [WORK] = {'w', "work", "\033[32m"},              [DOWNSTREAM] = {'d', "downstream", "\033[34m"},
    [SEND] = {'s', "send", "\033[36m"},
};

/* What is known of the work is shown in its place; it is measured over the whole request, so no more than the work. */
static void split_work(uint64_t ns[PHASES], const struct report_span *s)
{
    const uint64_t part[] = {s->cpu_ns, s->lock_ns, s->disk_ns, s->sleep_ns, s->runqueue_ns};
    uint64_t sum = 0, work = ns[WORK];
    bool measured = s->cpu_ns != UNKNOWN || s->lock_ns != UNKNOWN || !s->answered;
    for (int i = 0; i < 5; i++)
        sum += known(part[i]);
    if (!measured || work == 0)
        return;
    double scale = sum > work ? (double)work / (double)sum : 1;
    ns[WORK] = 0;
    ns[UNSEEN] = work;
    for (int i = 0; i < 5; i++) {
        ns[CPU + i] = (uint64_t)((double)known(part[i]) * scale);
        ns[UNSEEN] -= ns[CPU + i] < ns[UNSEEN] ? ns[CPU + i] : ns[UNSEEN];
    }
}

/* Of a request without an answer the work has no end; what it did until it was given up is known all the same. */
static uint64_t work_of(const struct report_span *s)
{
    uint64_t others = known(s->receive_ns) + known(s->send_ns);
    if (s->answered)
        return known(s->work_ns);
    return s->duration_ns > others ? s->duration_ns - others : 0;
}

static void phases_of(uint64_t ns[PHASES], const struct report_span *s)
{
    uint64_t work = work_of(s), down = known(s->downstream_ns);
    memset(ns, 0, PHASES * sizeof *ns);
    ns[DOWNSTREAM] = down < work ? down : work;
    ns[QUEUE] = known(s->queue_ns);
    ns[RECEIVE] = known(s->receive_ns);
    ns[SEND] = known(s->send_ns);
    ns[WORK] = work - ns[DOWNSTREAM];
    if (ns[QUEUE] + ns[RECEIVE] + ns[SEND] + work == 0)
        ns[UNSEEN] = s->duration_ns; /* nothing is known of its phases */
    else
        split_work(ns, s);
}

/* One letter a unit of time; a phase's letters end where its end in time falls, so that errors do
 * not add up. */
static void put_bar(struct page *p, const uint64_t ns[PHASES], double unit)
{
    uint64_t total = 0;
    int letters = 0;
    fputc('|', p->f);
    for (int i = 0; i < PHASES; i++) {
        total += ns[i];
        int end = (int)((double)total / unit + 0.5);
        if (end <= letters)
            continue;
        page_paint(p, phases[i].colour);
        for (; letters < end; letters++)
            fputc(phases[i].letter, p->f);
        page_paint(p, PAGE_PLAIN);
    }
    fputs("|\n", p->f);
}

/* Only of letters that one of the bars may have. */
static void put_legend(struct page *p, const bool used[PHASES], double unit, bool cut)
{
    struct text t = {.used = 0};
    if (cut)
        fputs("  cut: no answer; its connection or process ended first\n", p->f);
    int width = 0;
    for (int i = 0; i < PHASES; i++) {
        char one[64];
        if (!used[i])
            continue;
        snprintf(one, sizeof one, "  %c %s", phases[i].letter, phases[i].what);
        width += page_width(one);
        if (width > p->columns) {
            text_add(&t, "\n");
            width = page_width(one);
        }
        text_add(&t, "%s", one);
    }
    char scale[80];
    snprintf(scale, sizeof scale, "   1 letter = %s", cell_time((uint64_t)unit, p->style->utf8).s);
    fprintf(p->f, "%s%s%s\n", t.s, width + page_width(scale) > p->columns ? "\n" : "",
            width + page_width(scale) > p->columns ? scale + 1 : scale);
}

void report_slowest_text(const struct report *r, const struct report_style *style, FILE *f)
{
    struct page p = page_begin(r, style, f);
    char name[512];
    int longest = 0;
    uint64_t most = 1;
    bool cut = false;
    bool used[PHASES] = {[QUEUE] = true, [RECEIVE] = true, [DOWNSTREAM] = true, [SEND] = true};
    if (r->slowests == 0) {
        page_say(&p, "SLOWEST", "no sampled request in this store%s",
                 r->cut ? " in the time asked for" : "");
        return;
    }
    for (int i = 0; i < r->slowests; i++) {
        const struct report_span *s = &r->slowest[i];
        page_clean(name, sizeof name, s->target && s->target[1] ? s->target : s->endpoint,
                   style->utf8);
        longest = page_width(name) > longest ? page_width(name) : longest;
        uint64_t all = s->duration_ns + known(s->queue_ns);
        most = all > most ? all : most;
    }
    int name_width = longest < p.columns * 2 / 5 ? longest : p.columns * 2 / 5;
    int bar = p.columns - 13 - name_width - 5 - 8 - 3;
    double unit = (double)most / (bar > 4 ? bar : 4);
    for (int i = 0; i < r->slowests; i++) {
        const struct report_span *s = &r->slowest[i];
        char status[16];
        page_clean(name, sizeof name, s->target && s->target[1] ? s->target : s->endpoint,
                   style->utf8);
        if (s->status)
            snprintf(status, sizeof status, "%u", s->status);
        else
            snprintf(status, sizeof status, "%s", !s->answered ? "cut" : s->failed ? "err" : "ok");
        cut = cut || !strcmp(status, "cut");
        fprintf(f, "%s ", cell_clock(s->start_ns, true).s);
        page_name(f, name, name_width);
        if (s->failed)
            page_paint(&p, PAGE_RED);
        fprintf(f, "%5s", status);
        if (s->failed)
            page_paint(&p, PAGE_PLAIN);
        page_right(f, cell_time(s->duration_ns, style->utf8).s, 8);
        fputc(' ', f);
        uint64_t ns[PHASES];
        phases_of(ns, s);
        for (int k = 0; k < PHASES; k++)
            used[k] = used[k] || ns[k];
        put_bar(&p, ns, unit);
    }
    put_legend(&p, used, unit, cut);
    fflush(f);
}
