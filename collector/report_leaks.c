/*
 * report_leaks.c - `sonde leaks`: places whose live bytes grow with the requests, and how sure that is.
 *
 * In:      struct report (sites with growth)     Out: FILE
 * Context: P but for the FILE
 * When nothing is found it says what was looked at: an empty page proves nothing.
 */
#include <cjson/cJSON.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "collector/report_page.h"

#define SHOWN 10
#define TOO_FEW_SHOWN 3
#define RIGHT 40 /* columns of numbers */

struct looked { /* at what does not grow */
    int places, stopped;
    uint64_t samples, bytes;
    const struct report_site *largest;
};

static uint64_t kept(const struct report_site *s)
{
    return s->place_bytes;
}
static uint64_t kept_samples(const struct report_site *s)
{
    return s->place_samples;
}

/* 3 sure, 2 likely, 1 it may be: too few samples; 0 no. */
static int rank_of(const struct report_site *s)
{
    switch (s->growth.verdict) {
    case GROWTH_SURE:
        return 3;
    case GROWTH_LIKELY:
        return 2;
    case GROWTH_UNKNOWN:
        return s->growth.samples >= 3 && s->growth.points >= GROWTH_POINTS && s->growth.error > 0 && s->growth.error < 0.75;
    default:
        return 0;
    }
}

static double grown_bytes(const struct report_site *s)
{
    return s->growth.bytes_each * (double)s->growth.requests;
}

static int by_rank(const void *a, const void *b)
{
    const struct report_site *x = *(const struct report_site *const *)a, *y = *(const struct report_site *const *)b;
    int rx = rank_of(x), ry = rank_of(y);
    double gx = grown_bytes(x), gy = grown_bytes(y);
    return rx != ry ? ry - rx : gx > gy ? -1 : gx < gy;
}

/* Those that grow, the surest first. `list` has room for all sites. */
static int find_leaks(const struct report *r, const struct report_site **list, struct looked *no)
{
    int n = 0;
    for (int i = 0; i < r->sites; i++) {
        const struct report_site *s = &r->site[i];
        if (s->lockwait || s->follows)
            continue;
        if (rank_of(s)) {
            list[n++] = s;
        } else if (kept_samples(s)) {
            no->places++;
            no->stopped += s->growth.verdict == GROWTH_STOPPED;
            no->samples += kept_samples(s);
            no->bytes += kept(s);
            if (!no->largest || kept(s) > kept(no->largest))
                no->largest = s;
        }
    }
    qsort(list, (size_t)n, sizeof(void *), by_rank);
    return n;
}

static const char *endpoint_of(const struct report_site *s)
{
    return s->endpoint ? s->endpoint : "outside requests";
}

static void put_leak(struct page *p, const struct report_site *s)
{
    static const char *const words[] = {"", "TOO FEW", "LIKELY", "SURE"};
    static const char *const colour[] = {"", PAGE_PLAIN, "\033[1;33m", "\033[1;31m"};
    int rank = rank_of(s);
    char name[512], error[32] = "-";
    page_clean(name, sizeof name, endpoint_of(s), p->style->utf8);
    page_paint(p, colour[rank]);
    fprintf(p->f, "%-*s", PAGE_LABEL, words[rank]);
    page_paint(p, PAGE_PLAIN);
    page_name(p->f, name, p->columns - PAGE_LABEL - RIGHT);
    if (s->growth.error > 0 && s->growth.error < 9.99)
        snprintf(error, sizeof error, "%s%.0f%%", p->style->utf8 ? "\xc2\xb1" : "+-", 100 * s->growth.error);
    page_right(p->f, s->growth.bytes_each > 0 ? cell_each(s->growth.bytes_each).s : "-", 13);
    page_right(p->f, error, 9);
    page_right(p->f, cell_bytes(kept(s)).s, 9);
    page_right(p->f, cell_count(kept_samples(s)).s, 9);
    fputc('\n', p->f);
    page_put_stack(p, s->place_frames);
    if (s->growth.slowing)
        page_say(p, "", "it grows ever less: perhaps a cache that still fills");
}

static void put_head(struct page *p)
{
    page_paint(p, PAGE_BOLD);
    page_name(p->f, "GROWS", p->columns - RIGHT);
    page_right(p->f, "each request", 13);
    page_right(p->f, "error", 9);
    page_right(p->f, "kept", 9);
    page_right(p->f, "samples", 9);
    page_paint(p, PAGE_PLAIN);
    fputc('\n', p->f);
}

static void put_no(struct page *p, const struct looked *no, int leaks)
{
    const struct report *r = p->r;
    struct text t = {.used = 0};
    char name[256];
    if (!no->places) {
        page_say(p, leaks ? "ELSE" : "NO LEAK", "%s; over %d moments and %s requests",
                 leaks ? "nothing else keeps memory" : "no sampled block was kept at any place", r->moments, cell_grouped(r->requests).s);
        return;
    }
    page_clean(name, sizeof name, endpoint_of(no->largest), p->style->utf8);
    text_add(&t, "%d %splace%s keep%s %s (%s sample%s) and do%s not grow over %d moments and %s requests", no->places, leaks ? "other " : "",
             page_plural((uint64_t)no->places), no->places == 1 ? "s" : "", cell_bytes(no->bytes).s, cell_grouped(no->samples).s,
             page_plural(no->samples), no->places == 1 ? "es" : "", r->moments, cell_grouped(r->requests).s);
    if (no->stopped)
        text_add(&t, "; %d of them did and stopped, as a cache does that is full", no->stopped);
    text_add(&t, "; the largest, of %s, %s:", name, cell_bytes(kept(no->largest)).s);
    page_say(p, leaks ? "ELSE" : "NO LEAK", "%s", t.s);
    fprintf(p->f, "%*s", PAGE_LABEL, "");
    page_put_frames(p, no->largest->place_frames, p->columns - PAGE_LABEL, false);
    fputc('\n', p->f);
}

/* What keeps us from telling more. True: nothing can be told at all. */
static bool put_obstacles(struct page *p)
{
    const struct report *r = p->r;
    if (!r->stacks_sampled || !r->sites_known || !r->history_known) {
        page_say(p, "NOT KNOWN", !r->stacks_sampled ? "memory.stacks was off" : "this store has no sampled stacks");
        return true;
    }
    if (r->moments >= GROWTH_POINTS && r->requests)
        return false;
    page_say(p, "NOT KNOWN", "%d moment%s and %s requests; growth can be told from %d moments on: let it run longer (in its first half minute "
             "one is a second long)",
             r->moments, page_plural((uint64_t)r->moments), cell_grouped(r->requests).s, GROWTH_POINTS);
    return true;
}

static void put_remedy(struct page *p, const struct report_site *const *list, int leaks)
{
    uint64_t fewest = UNKNOWN;
    for (int i = 0; i < leaks; i++)
        if (rank_of(list[i]) == 1 && kept_samples(list[i]) < fewest)
            fewest = kept_samples(list[i]);
    if (fewest != UNKNOWN)
        page_say(p, "FINER", "to know of those with too few samples: sonde run --set memory.sample_bytes=%" PRIu64 " (it was %" PRIu64 ")",
                 page_finer(p->r->sample_bytes, UNKNOWN, fewest, 1024), p->r->sample_bytes);
}

void report_leaks_text(const struct report *r, const struct report_style *style, FILE *f)
{
    struct page p = page_begin(r, style, f);
    struct looked no = {.places = 0};
    page_put_head(&p);
    if (put_obstacles(&p))
        return;
    const struct report_site **list = calloc((size_t)r->sites + 1, sizeof(void *));
    int leaks = list ? find_leaks(r, list, &no) : 0, told = 0, few = 0, left = 0;
    for (int i = 0; i < leaks; i++) {
        bool is_few = rank_of(list[i]) == 1;
        if (is_few ? few >= TOO_FEW_SHOWN : told >= (r->top > 0 ? r->top : SHOWN)) {
            left++;
            continue;
        }
        if (i == 0)
            put_head(&p);
        put_leak(&p, list[i]);
        *(is_few ? &few : &told) += 1;
    }
    if (left)
        fprintf(f, "%*s+ %d more: --top %d, --json\n", PAGE_LABEL, "", left, leaks);
    put_remedy(&p, list, leaks);
    page_put_lost_frees(&p);
    put_no(&p, &no, leaks);
    free(list);
    fflush(f);
}

/* --- JSON --- */

static bool is_unsure(const struct report *r)
{
    for (int i = 0; i < r->processes; i++)
        if (report_lost_frees(&r->process[i]))
            return true;
    return false;
}

static void add_number(cJSON *to, const char *key, double v, bool known)
{
    if (known)
        cJSON_AddNumberToObject(to, key, v);
    else
        cJSON_AddNullToObject(to, key);
}

static cJSON *frames_json(const char *frames) /* the innermost first */
{
    cJSON *list = cJSON_CreateArray();
    char *copy = strdup(frames ? frames : "");
    for (char *at = copy, *next; at && *at; at = next) {
        next = strstr(at, " < ");
        if (next) {
            *next = 0;
            next += 3;
        }
        cJSON_AddItemToArray(list, cJSON_CreateString(at));
    }
    free(copy);
    return list;
}

static cJSON *leak_json(const struct report_site *s)
{
    static const char *const words[] = {"", "too few samples", "likely", "sure"};
    cJSON *leak = cJSON_CreateObject();
    cJSON_AddStringToObject(leak, "verdict", words[rank_of(s)]);
    cJSON_AddItemToObject(leak, "service", s->service ? cJSON_CreateString(s->service) : cJSON_CreateNull());
    cJSON_AddItemToObject(leak, "endpoint", s->endpoint ? cJSON_CreateString(s->endpoint) : cJSON_CreateNull());
    add_number(leak, "bytes_per_request", floor(s->growth.bytes_each + 0.5), s->growth.bytes_each > 0);
    add_number(leak, "error", floor(s->growth.error * 1000 + 0.5) / 1000, s->growth.error > 0);
    add_number(leak, "grown_bytes", floor(grown_bytes(s) + 0.5), true);
    add_number(leak, "kept_bytes", (double)kept(s), true);
    add_number(leak, "samples", (double)kept_samples(s), true);
    add_number(leak, "requests", (double)s->growth.requests, true);
    add_number(leak, "moments", s->growth.points, true);
    cJSON_AddBoolToObject(leak, "slowing", s->growth.slowing);
    cJSON_AddItemToObject(leak, "stack", frames_json(s->place_frames));
    return leak;
}

int report_leaks_json(const struct report *r, FILE *f)
{
    struct looked no = {.places = 0};
    const struct report_site **list = calloc((size_t)r->sites + 1, sizeof(void *));
    cJSON *all = cJSON_CreateObject(), *leaks = cJSON_AddArrayToObject(all, "leaks");
    bool known = r->stacks_sampled && r->sites_known && r->history_known && r->moments >= GROWTH_POINTS && r->requests;
    int n = list && known ? find_leaks(r, list, &no) : 0;
    for (int i = 0; i < n && (r->top <= 0 || i < r->top); i++)
        cJSON_AddItemToArray(leaks, leak_json(list[i]));
    cJSON_AddNumberToObject(all, "version", 1);
    cJSON_AddBoolToObject(all, "known", known);
    cJSON_AddBoolToObject(all, "frees_lost", is_unsure(r));
    add_number(all, "sample_bytes", (double)r->sample_bytes, r->stacks_sampled);
    add_number(all, "moments", r->moments, r->history_known);
    add_number(all, "requests", (double)r->requests, true);
    cJSON *steady = cJSON_AddObjectToObject(all, "steady");
    add_number(steady, "places", no.places, known);
    add_number(steady, "stopped", no.stopped, known);
    add_number(steady, "kept_bytes", (double)no.bytes, known);
    add_number(steady, "samples", (double)no.samples, known);
    char *text = cJSON_PrintUnformatted(all);
    if (text)
        fprintf(f, "%s\n", text);
    cJSON_Delete(all);
    free(list);
    free(text);
    return text && fflush(f) == 0 && !ferror(f) ? 0 : -EIO;
}
