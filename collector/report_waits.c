/*
 * report_waits.c - where the time of requests went: their CPU, their waits, the spread of their heap.
 *
 * In:      report_load.c                        Out: struct report
 * Context: as report_loader.h
 * Columns that a store does not have are not measured: UNKNOWN, never 0.
 */
#include <stdlib.h>

#include "collector/report_loader.h"
#include "collector/sketch.h"

struct spread { /* of one endpoint */
    struct sketch heap, cpu;
};

static void add_known(uint64_t *sum, sqlite3_stmt *st, int column)
{
    if (sqlite3_column_type(st, column) != SQLITE_NULL)
        *sum = (*sum == UNKNOWN ? 0 : *sum) + load_u64(st, column);
}

static void add_row(struct report_measured *m, struct spread *k, struct sketch_pool *pool, sqlite3_stmt *st)
{
    uint64_t *const known[] = {&m->cpu_ns,        &m->lock_ns,   &m->disk_ns,     &m->sleep_ns,        &m->runqueue_ns,
                               &m->downstream_ns, &m->cpu_count, &m->waits_count, &m->retained_samples};
    for (int i = 0; i < (int)(sizeof known / sizeof *known); i++)
        add_known(known[i], st, 1 + i);
    struct sketch *const sketch[] = {&k->heap, &k->cpu};
    for (int i = 0; i < 2; i++)
        if (sqlite3_column_bytes(st, 10 + i) > 0) /* a damaged sketch costs its percentiles only */
            (void)sketch_decode_into(sketch[i], pool, sqlite3_column_blob(st, 10 + i),
                                     (size_t)sqlite3_column_bytes(st, 10 + i));
}

static sqlite3_stmt *ask_totals(struct loader *l)
{
    static const char *const columns[] = {"wall_cpu_ns", "wall_lock_ns", "wall_disk_ns", "wall_sleep_ns", "runqueue_ns",
                                          "downstream_ns", "cpu_count", "waits_count", "retained_samples", "heap", "cpu"};
    char sql[1024];
    int n = snprintf(sql, sizeof sql, "SELECT endpoint");
    for (size_t i = 0; i < sizeof columns / sizeof *columns; i++)
        n += snprintf(sql + n, sizeof sql - (size_t)n, ", %s", load_column(l, "total", columns[i]));
    snprintf(sql + n, sizeof sql - (size_t)n, " FROM r_total WHERE interval >= ?");
    sqlite3_stmt *st = load_ask(l, sql);
    if (st)
        sqlite3_bind_int64(st, 1, (sqlite3_int64)l->first_interval);
    return st;
}

void load_measured(struct loader *l)
{
    struct report *r = l->r;
    size_t n = (size_t)(r->endpoints ? r->endpoints : 1);
    struct spread *k = calloc(n, sizeof *k);
    struct sketch_pool *pool = sketch_pool_new(n * 2 * SKETCH_OCTAVES * sizeof(struct sketch_page) * 2);
    if (!k || !pool)
        l->rc = SQLITE_NOMEM;
    for (int i = 0; k && i < r->endpoints && l->rc == SQLITE_OK; i++) {
        r->endpoint[i].measured = (struct report_measured){UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN,
                                                           UNKNOWN, {0},     {0}};
        sketch_init(&k[i].heap);
        sketch_init(&k[i].cpu);
    }
    sqlite3_stmt *st = ask_totals(l);
    while (load_next(l, st)) {
        uint32_t place = *load_root(l, load_u64(st, 0));
        if (place)
            add_row(&r->endpoint[place - 1].measured, &k[place - 1], pool, st);
    }
    sqlite3_finalize(st);
    for (int i = 0; k && i < r->endpoints && l->rc == SQLITE_OK; i++) {
        load_spread(&r->endpoint[i].measured.heap, &k[i].heap);
        load_spread(&r->endpoint[i].measured.cpu, &k[i].cpu);
        sketch_clear(&k[i].heap, pool);
        sketch_clear(&k[i].cpu, pool);
    }
    if (pool)
        sketch_pool_free(pool);
    free(k);
}
