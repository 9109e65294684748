/*
 * report_sites.c - the places in the code that allocate, keep and wait, and how what they keep developed.
 *
 * In:      report_load.c                        Out: struct report
 * Context: as report_loader.h
 * A store without these tables, or without the history, is read all the same: the report says that it is not known.
 */
#include <stdlib.h>
#include <string.h>

#include "collector/report_loader.h"

#define SITES_MOST (1 << 20)
#define CELLS_MOST (1 << 24) /* moments times endpoints, moments times sites */

struct stacks { /* texts by number, and one number for all that read alike */
    uint64_t *number;
    const char **frames;
    int count;
};

struct history { /* moments: intervals that were closed */
    uint64_t *interval, *rows;
    uint64_t *requests; /* [moment][place], up to then */
    int moments, places;
};

static int by_number(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static int find(const uint64_t *sorted, int count, uint64_t value)
{
    const uint64_t *at = count ? bsearch(&value, sorted, (size_t)count, sizeof *sorted, by_number) : NULL;
    return at ? (int)(at - sorted) : -1;
}

/* A stack that does not reach its thread's first function says so where that would stand. */
static struct stacks load_stacks(struct loader *l)
{
    struct stacks s = {.count = 0};
    s.number = load_room(l, "SELECT count(*) FROM r_stack", sizeof *s.number, SITES_MOST);
    s.frames = load_room(l, "SELECT count(*) FROM r_stack", sizeof *s.frames, SITES_MOST);
    sqlite3_stmt *st = load_ask(l, "SELECT stack, frames || CASE end WHEN 'cut' THEN ' < [cut]' WHEN 'unknown' THEN"
                                   " ' < [no unwind table]' WHEN 'unsafe' THEN ' < [not walked on]' ELSE '' END"
                                   " FROM r_stack ORDER BY stack");
    while (s.number && s.frames && s.count < SITES_MOST && load_next(l, st)) {
        s.number[s.count] = load_u64(st, 0);
        s.frames[s.count++] = load_text(l, st, 1);
    }
    sqlite3_finalize(st);
    return s;
}

static int compare_frames(const char *a, const char *b)
{
    return a == b ? 0 : strcmp(a ? a : "", b ? b : "");
}

/* Of one endpoint and kind together, then by stack. */
static int by_site(const void *a, const void *b)
{
    const struct report_site *x = a, *y = b;
    if (x->key != y->key)
        return x->key < y->key ? -1 : 1;
    if (x->lockwait != y->lockwait)
        return x->lockwait ? 1 : -1;
    return compare_frames(x->frames, y->frames);
}

static void add_site(struct report_site *to, const struct report_site *from)
{
    to->samples += from->samples;
    to->amount += from->amount;
    to->live_samples += from->live_samples;
    to->live_bytes += from->live_bytes;
    to->ended_samples += from->ended_samples;
    to->ended_bytes += from->ended_bytes;
    to->retained_samples += from->retained_samples;
    to->retained_bytes += from->retained_bytes;
    if (from->oldest_ns && (!to->oldest_ns || from->oldest_ns < to->oldest_ns))
        to->oldest_ns = from->oldest_ns;
}

/* Sites of merged endpoints, and stacks that read alike, become one. */
static void join_alike(struct report *r)
{
    int kept = 0;
    if (r->sites)
        qsort(r->site, (size_t)r->sites, sizeof *r->site, by_site);
    for (int i = 0; i < r->sites; i++)
        if (kept && by_site(&r->site[kept - 1], &r->site[i]) == 0)
            add_site(&r->site[kept - 1], &r->site[i]);
        else
            r->site[kept++] = r->site[i];
    r->sites = kept;
}

#define PLACE_FRAMES 5 /* innermost ones by which a place is known */

static size_t place_length(const char *frames)
{
    const char *at = frames ? frames : "";
    for (int i = 0; i < PLACE_FRAMES; i++) {
        const char *next = strstr(at, " < ");
        if (!next)
            return frames ? strlen(frames) : 0;
        at = next + 3;
    }
    return (size_t)(at - frames) - 3;
}

static bool same_place(const struct report_site *a, const struct report_site *b)
{
    size_t n = place_length(a->frames);
    return a->key == b->key && a->lockwait == b->lockwait && n == place_length(b->frames) &&
           (n == 0 || memcmp(a->frames, b->frames, n) == 0);
}

/* Sorted by their text, those of one place stand side by side. */
static void find_places(struct report *r)
{
    struct report_site *first = NULL;
    uint64_t most = 0;
    for (int i = 0; i < r->sites; i++) {
        struct report_site *s = &r->site[i];
        uint64_t kept = s->live_bytes + s->ended_bytes;
        s->follows = first && same_place(first, s);
        if (!s->follows) {
            first = s;
            first->place_frames = s->frames;
            most = kept;
        } else if (kept > most) {
            first->place_frames = s->frames;
            most = kept;
        }
        first->place_sites++;
        first->place_samples += s->live_samples + s->ended_samples;
        first->place_bytes += kept;
    }
}

static void load_rows(struct loader *l, const struct stacks *stacks)
{
    struct report *r = l->r;
    r->site = load_room(l, "SELECT count(*) FROM r_site", sizeof *r->site, SITES_MOST);
    sqlite3_stmt *st =
        load_ask(l, "SELECT endpoint, stack, kind, samples, amount, live_samples, live_bytes, oldest_ns,"
                    " retained_samples, retained_bytes, ended_samples, ended_bytes FROM r_site");
    while (r->site && r->sites < SITES_MOST && load_next(l, st)) {
        struct report_site *s = &r->site[r->sites];
        uint64_t *const to[] = {&s->samples,          &s->amount,         &s->live_samples,  &s->live_bytes, &s->oldest_ns,
                                &s->retained_samples, &s->retained_bytes, &s->ended_samples, &s->ended_bytes};
        const char *kind = (const char *)sqlite3_column_text(st, 2);
        int stack = find(stacks->number, stacks->count, load_u64(st, 1));
        *s = (struct report_site){.key = *load_root(l, load_u64(st, 0)), .frames = stack < 0 ? NULL : stacks->frames[stack]};
        s->lockwait = kind && strcmp(kind, "lockwait") == 0;
        for (int i = 0; i < (int)(sizeof to / sizeof *to); i++)
            *to[i] = load_u64(st, 3 + i);
        if (s->key) {
            s->service = r->endpoint[s->key - 1].service;
            s->endpoint = r->endpoint[s->key - 1].name;
        }
        r->sites++;
    }
    sqlite3_finalize(st);
}

/* --- how it developed --- */

static struct history load_moments(struct loader *l)
{
    struct history h = {.places = l->r->endpoints};
    h.interval = load_room(l, "SELECT count(*) FROM r_interval WHERE closed", sizeof *h.interval, SITES_MOST);
    sqlite3_stmt *st = load_ask(l, "SELECT interval FROM r_interval WHERE closed ORDER BY interval");
    while (h.interval && h.moments < SITES_MOST && load_next(l, st))
        h.interval[h.moments++] = load_u64(st, 0);
    sqlite3_finalize(st);
    size_t cells = (size_t)h.moments * (size_t)(h.places + 1);
    h.requests = cells <= CELLS_MOST ? report_keep(l->r, cells * sizeof *h.requests) : NULL;
    h.rows = report_keep(l->r, (size_t)h.moments * sizeof *h.rows);
    if (!h.requests || !h.rows)
        h.moments = 0;
    return h;
}

/* Requests up to each moment; place 0 has those of all endpoints. */
static void load_requests(struct loader *l, struct history *h)
{
    size_t row = (size_t)h->places + 1;
    sqlite3_stmt *st = load_ask(l, "SELECT interval, endpoint, sum(count) FROM r_total GROUP BY interval, endpoint");
    while (load_next(l, st)) {
        int m = find(h->interval, h->moments, load_u64(st, 0));
        uint32_t key = *load_root(l, load_u64(st, 1));
        if (m < 0)
            continue;
        h->requests[(size_t)m * row] += load_u64(st, 2);
        if (key)
            h->requests[(size_t)m * row + key] += load_u64(st, 2);
    }
    sqlite3_finalize(st);
    for (int m = 1; m < h->moments; m++)
        for (size_t p = 0; p < row; p++)
            h->requests[(size_t)m * row + p] += h->requests[(size_t)(m - 1) * row + p];
}

/* The end of a run tears pools down: its last interval says nothing of growth when less lives in it. */
static struct growth judge(const struct report *r, const struct history *h, uint32_t key, struct growth_point *p)
{
    size_t row = (size_t)h->places + 1;
    int n = h->moments;
    for (int m = 0; m < n; m++)
        p[m].requests = h->requests[(size_t)m * row + key];
    if (r->end_ns && n > GROWTH_POINTS && p[n - 1].live_samples < p[n - 2].live_samples)
        n--;
    int first = 0; /* from the first request of this endpoint on */
    while (first < n - 1 && p[first + 1].requests == 0)
        first++;
    return growth_of(p + first, n - first);
}

#define LIVE_ROWS_MOST 256 /* the store keeps the largest sites of an interval: with so many, others are not known */

static void fill_gaps(const struct history *h, struct growth_point *p, const bool *told)
{
    for (int m = 1; m < h->moments; m++)
        if (!told[m] && h->rows[m] >= LIVE_ROWS_MOST)
            p[m] = p[m - 1];
}

static struct report_site *site_at(struct report *r, uint32_t key, const char *frames)
{
    struct report_site wanted = {.key = key, .frames = frames};
    return r->sites ? bsearch(&wanted, r->site, (size_t)r->sites, sizeof wanted, by_site) : NULL;
}

/* Each place by the sum of its sites. */
static void judge_places(struct report *r, const struct history *h, struct growth_point *all)
{
    size_t n = (size_t)h->moments;
    for (int i = 0; i < r->sites; i += r->site[i].place_sites) {
        struct growth_point *sum = all + (size_t)i * n;
        for (int k = 1; k < r->site[i].place_sites; k++)
            for (size_t m = 0; m < n; m++) {
                sum[m].live_samples += sum[(size_t)k * n + m].live_samples;
                sum[m].live_bytes += sum[(size_t)k * n + m].live_bytes;
            }
        r->site[i].growth = judge(r, h, r->site[i].key, sum);
        for (int k = 1; k < r->site[i].place_sites; k++)
            r->site[i + k].growth = r->site[i].growth;
    }
}

/* One site's or endpoint's points, filled from all rows, judged one after the other: rows come sorted by neither. */
static void load_live(struct loader *l, const struct stacks *stacks, struct history *h)
{
    struct report *r = l->r;
    size_t n = (size_t)h->moments, sites = (size_t)r->sites, places = (size_t)h->places + 1;
    if (n == 0 || (sites + places) * n > CELLS_MOST)
        return;
    struct growth_point *all = calloc((sites + places) * n, sizeof *all);
    bool *told = calloc(sites * n + 1, sizeof *told);
    sqlite3_stmt *st = load_ask(l, "SELECT interval, endpoint, stack, live_samples, live_bytes FROM r_site_live");
    while (all && told && load_next(l, st)) {
        int m = find(h->interval, h->moments, load_u64(st, 0)), stack = find(stacks->number, stacks->count, load_u64(st, 2));
        uint32_t key = *load_root(l, load_u64(st, 1));
        struct report_site *s = stack < 0 || m < 0 ? NULL : site_at(r, key, stacks->frames[stack]);
        if (!s)
            continue;
        size_t at = (size_t)(s - r->site) * n + (size_t)m;
        struct growth_point *to[] = {&all[at], &all[(sites + key) * n + (size_t)m]};
        for (int i = 0; i < 2; i++) {
            to[i]->live_samples += load_u64(st, 3);
            to[i]->live_bytes += load_u64(st, 4);
        }
        told[at] = true;
        h->rows[m]++;
    }
    sqlite3_finalize(st);
    for (size_t i = 0; all && told && i < sites; i++)
        fill_gaps(h, all + i * n, told + i * n);
    if (all && told)
        judge_places(r, h, all);
    for (size_t p = 0; all && p < places; p++)
        *(p ? &r->endpoint[p - 1].growth : &r->outside_growth) = judge(r, h, (uint32_t)p, all + (sites + p) * n);
    r->history_known = all && told && l->rc == SQLITE_OK;
    r->moments = h->moments;
    free(all);
    free(told);
}

void load_sites(struct loader *l)
{
    if ((!l->query->sites && !l->query->history) || l->rc != SQLITE_OK || !load_table(l, "site") || !load_table(l, "stack"))
        return;
    struct stacks stacks = load_stacks(l);
    load_rows(l, &stacks);
    join_alike(l->r);
    find_places(l->r);
    l->r->sites_known = l->rc == SQLITE_OK;
    if (!l->query->history || !load_table(l, "site_live"))
        return;
    struct history h = load_moments(l);
    if (h.moments)
        load_requests(l, &h);
    load_live(l, &stacks, &h);
}
