/*
 * report_slowest.c - the slowest sampled requests, each as a bar of its phases.
 *
 * In:      struct report                        Out: FILE
 * Context: P but for the FILE and the local time zone
 */
#include "collector/report_page.h"

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
    struct page p = page_begin(r, style, f);
    char name[512];
    int longest = 0;
    uint64_t most = 1;
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
        char status[16] = "-";
        page_clean(name, sizeof name, s->target && s->target[1] ? s->target : s->endpoint,
                   style->utf8);
        if (s->status)
            snprintf(status, sizeof status, "%u", s->status);
        else if (s->answered)
            snprintf(status, sizeof status, "%s", s->failed ? "err" : "ok");
        fprintf(f, "%s ", cell_clock(s->start_ns, true).s);
        page_name(f, name, name_width);
        if (s->failed)
            page_paint(&p, PAGE_RED);
        fprintf(f, "%5s", status);
        if (s->failed)
            page_paint(&p, PAGE_PLAIN);
        page_right(f, cell_time(s->duration_ns, style->utf8).s, 8);
        fputc(' ', f);
        put_bar(f, s, unit);
    }
    fprintf(f, "  q ready, not read  r receive  w work  d downstream  s send   1 letter = %s\n",
            cell_time((uint64_t)unit, style->utf8).s);
    fflush(f);
}
