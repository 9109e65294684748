/*
 * report_endpoints.c - endpoints and their totals: sums over intervals, sketches merged, merged
 * endpoints as one.
 *
 * In:      report_load.c                        Out: struct report
 * Context: as report_loader.h
 */
#include <stdlib.h>
#include <string.h>

#include "collector/report_loader.h"
#include "collector/sketch.h"

struct sketches {
    struct sketch *latency, *first; /* by place in r->endpoint */
    struct sketch_pool *pool;
};

uint32_t *load_root(struct loader *l, uint64_t endpoint)
{
    static uint32_t none;
    none = 0;
    return endpoint < l->roots ? &l->root[endpoint] : &none;
}

/* Endpoints that were merged into others later add up there. */
static void follow_merges(struct loader *l)
{
    sqlite3_stmt *st =
        load_ask(l, "SELECT endpoint, merged_into FROM r_endpoint WHERE merged_into IS NOT NULL");
    uint32_t *into = calloc(l->roots ? l->roots : 1, sizeof *into);
    if (!into)
        l->rc = SQLITE_NOMEM;
    while (into && load_next(l, st))
        if (load_u64(st, 0) < l->roots && load_u64(st, 1) < l->roots)
            into[load_u64(st, 0)] = (uint32_t)load_u64(st, 1);
    for (uint32_t e = 0; into && e < l->roots; e++) {
        uint32_t at = e;
        for (int hops = 0; into[at] && hops < 64; hops++)
            at = into[at];
        if (at != e && l->root[at])
            l->root[e] = l->root[at];
    }
    free(into);
    sqlite3_finalize(st);
}

void load_endpoints(struct loader *l)
{
    struct report *r = l->r;
    r->endpoint = load_room(l, "SELECT count(*) FROM r_endpoint", sizeof *r->endpoint, 1 << 20);
    sqlite3_stmt *st = load_ask(l, "SELECT coalesce(max(endpoint), 0) FROM r_endpoint");
    uint64_t last = load_next(l, st) ? load_u64(st, 0) : 0;
    sqlite3_finalize(st);
    l->roots = last < 1u << 24 ? (uint32_t)last + 1 : 0;
    l->root = report_keep(r, l->roots * sizeof *l->root);
    if (!l->root)
        l->rc = SQLITE_NOMEM;
    st = load_ask(l, "SELECT endpoint, coalesce(service, '-'), coalesce(protocol, '-'), side,"
                     " coalesce(name, '-') FROM r_endpoint ORDER BY endpoint");
    while (load_next(l, st) && r->endpoints < 1 << 20) {
        struct report_endpoint *e = &r->endpoint[r->endpoints++];
        e->service = load_text(l, st, 1);
        e->protocol = load_text(l, st, 2);
        const unsigned char *side = sqlite3_column_text(st, 3);
        e->side = side && side[0] == 'c' ? SIDE_CLIENT : SIDE_SERVER;
        e->name = load_text(l, st, 4);
        e->retained = e->cpu_ns = e->lock_ns = e->disk_ns = e->sleep_ns = e->downstream_ns =
            UNKNOWN;
        e->key = (uint32_t)r->endpoints;
        *load_root(l, load_u64(st, 0)) = e->key;
    }
    sqlite3_finalize(st);
    follow_merges(l);
}

static void add_known(uint64_t *sum, sqlite3_stmt *st, int column)
{
    if (sqlite3_column_type(st, column) != SQLITE_NULL)
        *sum = (*sum == UNKNOWN ? 0 : *sum) + load_u64(st, column);
}

static void add_total(struct loader *l, struct sketches *k, sqlite3_stmt *st, uint32_t place)
{
    struct report_endpoint *e = &l->r->endpoint[place];
    uint64_t *const plain[] = {&e->count,    &e->errors,    &e->unobserved, &e->inferred,
                               &e->shared,   &e->bytes_in,  &e->bytes_out,  &e->body_in,
                               &e->body_out, &e->allocated, &e->freed,      &e->allocations};
    uint64_t *const known[] = {&e->retained, &e->cpu_ns,   &e->lock_ns,
                               &e->disk_ns,  &e->sleep_ns, &e->downstream_ns};
    for (int i = 0; i < 12; i++)
        *plain[i] += load_u64(st, 1 + i);
    for (int i = 0; i < 6; i++)
        add_known(known[i], st, 13 + i);
    /* a damaged sketch costs its percentiles only */
    (void)sketch_decode_into(&k->latency[place], k->pool, sqlite3_column_blob(st, 19),
                             (size_t)sqlite3_column_bytes(st, 19));
    (void)sketch_decode_into(&k->first[place], k->pool, sqlite3_column_blob(st, 20),
                             (size_t)sqlite3_column_bytes(st, 20));
}

void load_spread(struct report_latency *to, const struct sketch *from)
{
    to->count = from->count;
    if (!from->count)
        return;
    to->sum = from->sum;
    to->mean = from->sum / from->count;
    to->min = from->min;
    to->max = from->max;
    to->p50 = sketch_quantile(from, 0.5);
    to->p90 = sketch_quantile(from, 0.9);
    to->p99 = sketch_quantile(from, 0.99);
    to->p999 = sketch_quantile(from, 0.999);
}

void load_totals(struct loader *l)
{
    struct report *r = l->r;
    size_t n = (size_t)(r->endpoints ? r->endpoints : 1);
    struct sketches k = {0};
    k.latency = calloc(n, sizeof *k.latency);
    k.first = calloc(n, sizeof *k.first);
    k.pool = sketch_pool_new(n * 2 * SKETCH_OCTAVES * sizeof(struct sketch_page) * 2);
    if (!k.latency || !k.first || !k.pool)
        l->rc = SQLITE_NOMEM;
    for (int i = 0; i < r->endpoints && l->rc == SQLITE_OK; i++) {
        sketch_init(&k.latency[i]);
        sketch_init(&k.first[i]);
    }
    sqlite3_stmt *st = load_ask(
        l, "SELECT endpoint, count, errors, unobserved, inferred, shared, bytes_in, bytes_out, "
           "body_in,"
           " body_out, allocated, freed, allocations, retained, cpu_ns, lock_ns, disk_ns, sleep_ns,"
           " downstream_ns, latency, first FROM r_total WHERE interval >= ?");
    if (st)
        sqlite3_bind_int64(st, 1, (sqlite3_int64)l->first_interval);
    while (load_next(l, st)) {
        uint32_t place = *load_root(l, load_u64(st, 0));
        if (place)
            add_total(l, &k, st, place - 1);
    }
    sqlite3_finalize(st);
    for (int i = 0; k.latency && k.first && i < r->endpoints && l->rc == SQLITE_OK; i++) {
        load_spread(&r->endpoint[i].latency, &k.latency[i]);
        load_spread(&r->endpoint[i].first, &k.first[i]);
        sketch_clear(&k.latency[i], k.pool);
        sketch_clear(&k.first[i], k.pool);
    }
    if (k.pool)
        sketch_pool_free(k.pool);
    free(k.latency);
    free(k.first);
}

struct tally { /* one endpoint and status */
    uint32_t place;
    struct report_status status;
};

static int by_place_and_status(const void *a, const void *b)
{
    const struct tally *x = a, *y = b;
    if (x->place != y->place)
        return x->place < y->place ? -1 : 1;
    return x->status.status < y->status.status ? -1 : x->status.status > y->status.status;
}

void load_statuses(struct loader *l)
{
    const char *counted = "SELECT count(*) FROM (SELECT 1 FROM r_status GROUP BY endpoint, status)";
    struct tally *all = load_room(l, counted, sizeof *all, 1 << 22);
    struct report_status *list = load_room(l, counted, sizeof *list, 1 << 22);
    int n = 0, kept = 0;
    sqlite3_stmt *st =
        load_ask(l, "SELECT endpoint, status, sum(count) FROM r_status WHERE interval >= "
                    "? GROUP BY endpoint, status");
    if (st)
        sqlite3_bind_int64(st, 1, (sqlite3_int64)l->first_interval);
    while (all && list && n < 1 << 22 && load_next(l, st)) {
        uint32_t place = *load_root(l, load_u64(st, 0));
        if (place && load_u64(st, 2))
            all[n++] = (struct tally){place - 1, {(uint32_t)load_u64(st, 1), load_u64(st, 2)}};
    }
    sqlite3_finalize(st);
    if (n)
        qsort(all, (size_t)n, sizeof *all, by_place_and_status);
    for (int i = 0; i < n; i++) {
        struct report_endpoint *e = &l->r->endpoint[all[i].place];
        bool same = kept && i && all[i].place == all[i - 1].place &&
                    list[kept - 1].status == all[i].status.status;
        if (same) { /* of an endpoint that was merged into this one */
            list[kept - 1].count += all[i].status.count;
            continue;
        }
        list[kept] = all[i].status;
        if (e->statuses++ == 0)
            e->status = &list[kept];
        kept++;
    }
}
