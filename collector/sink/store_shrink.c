/*
 * store_shrink.c - older intervals become longer ones: 10 s → 5 min → the whole run. Nothing that a
 * sum or a percentile over the run needs is lost; only when things happened gets coarser.
 *
 * In:      store.c (the size bound)             Out: SQLite
 * Context: sink thread
 * Failure: SQLite's code; the transaction is rolled back and the finer intervals stay.
 */
#include <stdlib.h>
#include <string.h>

#include "collector/sink/rows.h"
#include "collector/sink/store_tables.h"
#include "collector/sketch.h"

#define BUCKET_NS (UINT64_C(300) * 1000000000)
#define COUNTERS 44 /* columns of `total` between class and the sketches */

/* Columns of `total`, counted from `count`, that do not simply add up. */
enum {
    LATENCY_MIN = 10,
    LATENCY_MAX = 11,
    LATENCY_P50 = 12,
    FIRST_MIN = 19,
    FIRST_MAX = 20,
    FIRST_P50 = 21
};
enum { LATENCY, FIRST, HEAP, CPU, SKETCHES }; /* in the table's order */
enum { PERCENTILES = 5 };
static const double percentile[PERCENTILES] = {0.5, 0.9, 0.95, 0.99, 0.999};

struct merged { /* one endpoint and class over several intervals */
    struct merged *next;
    uint32_t endpoint;
    char class[8];
    int64_t counter[COUNTERS];
    bool known[COUNTERS];
    size_t sketch_len[SKETCHES];
    uint8_t sketch[]; /* one behind the other */
};

struct work { /* the one that is being added up */
    struct sketch_pool *pool;
    struct sketch sketch[SKETCHES];
    struct merged *done;
    uint32_t endpoint;
    char class[8];
    bool any;
    int64_t counter[COUNTERS];
    bool known[COUNTERS];
};

static bool is_min(int column)
{
    return column == LATENCY_MIN || column == FIRST_MIN;
}

static bool is_max(int column)
{
    return column == LATENCY_MAX || column == FIRST_MAX;
}

static void add_counters(struct work *w, sqlite3_stmt *st)
{
    for (int i = 0; i < COUNTERS; i++) {
        if (sqlite3_column_type(st, 2 + i) == SQLITE_NULL)
            continue;
        int64_t v = sqlite3_column_int64(st, 2 + i);
        /* a minimum over nothing is no minimum: the first-byte ones count only where something was
         * counted */
        bool empty =
            i >= FIRST_MIN && i <= FIRST_MAX && sqlite3_column_int64(st, 2 + FIRST_MIN - 2) == 0;
        if (empty)
            continue;
        if (!w->known[i] || (is_min(i) && v < w->counter[i]) || (is_max(i) && v > w->counter[i]))
            w->counter[i] = v;
        else if (!is_min(i) && !is_max(i))
            w->counter[i] += v;
        w->known[i] = true;
    }
}

static int finish_one(struct work *w)
{
    if (!w->any)
        return SQLITE_OK;
    struct merged *m = malloc(sizeof *m + SKETCHES * SKETCH_ENCODED_MAX);
    if (!m)
        return SQLITE_NOMEM;
    m->endpoint = w->endpoint;
    memcpy(m->class, w->class, sizeof m->class);
    for (int i = 0; i < PERCENTILES; i++) {
        w->counter[LATENCY_P50 + i] = (int64_t)sketch_quantile(&w->sketch[LATENCY], percentile[i]);
        w->counter[FIRST_P50 + i] = (int64_t)sketch_quantile(&w->sketch[FIRST], percentile[i]);
        w->known[LATENCY_P50 + i] = w->known[FIRST_P50 + i] = true;
    }
    for (int i = FIRST_MIN; i <= FIRST_MAX; i++)
        w->known[i] = true; /* 0 where nothing had a first byte, as the recorder writes it */
    memcpy(m->counter, w->counter, sizeof m->counter);
    memcpy(m->known, w->known, sizeof m->known);
    size_t used = 0;
    for (int i = 0; i < SKETCHES; used += m->sketch_len[i++]) {
        m->sketch_len[i] = sketch_encode(&w->sketch[i], m->sketch + used, SKETCH_ENCODED_MAX);
        sketch_clear(&w->sketch[i], w->pool);
    }
    struct merged *smaller = realloc(m, sizeof *m + used);
    m = smaller ? smaller : m;
    m->next = w->done;
    w->done = m;
    memset(w->counter, 0, sizeof w->counter);
    memset(w->known, 0, sizeof w->known);
    w->any = false;
    return SQLITE_OK;
}

static int add_row(struct work *w, sqlite3_stmt *st)
{
    uint32_t endpoint = (uint32_t)sqlite3_column_int64(st, 0);
    const char *class = (const char *)sqlite3_column_text(st, 1);
    int rc = SQLITE_OK;
    if (w->any && (endpoint != w->endpoint || !class || strcmp(class, w->class) != 0))
        rc = finish_one(w);
    w->any = true;
    w->endpoint = endpoint;
    memset(w->class, 0, sizeof w->class);
    memcpy(w->class, class ? class : "", strnlen(class ? class : "", sizeof w->class - 1));
    add_counters(w, st);
    /* a damaged sketch costs its percentiles, the sums stay */
    for (int i = 0; i < SKETCHES; i++)
        (void)sketch_decode_into(&w->sketch[i], w->pool,
                                 sqlite3_column_blob(st, 2 + COUNTERS + i),
                                 (size_t)sqlite3_column_bytes(st, 2 + COUNTERS + i));
    return rc;
}

static int with_range(sqlite3 *db, const char *schema, const char *sql, uint64_t first,
                      uint64_t last, int level)
{
    sqlite3_stmt *st = store_prepare(db, schema, sql);
    if (!st)
        return sqlite3_extended_errcode(db);
    int wanted = sqlite3_bind_parameter_count(st);
    sqlite3_bind_int64(st, 1, (sqlite3_int64)first);
    sqlite3_bind_int64(st, 2, (sqlite3_int64)last);
    if (wanted > 2)
        sqlite3_bind_int(st, 3, level);
    int rc = store_finish(st);
    sqlite3_finalize(st);
    return rc;
}

static int read_totals(sqlite3 *db, const char *schema, struct work *w, uint64_t first,
                       uint64_t last)
{
    sqlite3_stmt *st = store_prepare(db, schema,
                                     "SELECT endpoint, class, count, errors, unobserved, inferred, "
                                     "shared, bytes_in, bytes_out, body_in, body_out,"
                                     " latency_sum, latency_min, latency_max, latency_p50, "
                                     "latency_p90, latency_p95, latency_p99, latency_p999,"
                                     " first_count, first_sum, first_min, first_max, first_p50, "
                                     "first_p90, first_p95, first_p99, first_p999,"
                                     " allocated, freed, allocations, retained, retained_samples, cpu_ns, lock_ns, "
                                     "disk_ns, sleep_ns, downstream_ns, wall_cpu_ns, wall_lock_ns, wall_disk_ns, "
                                     "wall_sleep_ns, runqueue_ns, unknown_ns, cpu_count, waits_count,"
                                     " latency, first, heap, cpu FROM %s.total WHERE interval BETWEEN ? AND ? "
                                     "ORDER BY endpoint, class, interval");
    if (!st)
        return sqlite3_extended_errcode(db);
    sqlite3_bind_int64(st, 1, (sqlite3_int64)first);
    sqlite3_bind_int64(st, 2, (sqlite3_int64)last);
    int rc, fault = SQLITE_OK;
    while ((rc = sqlite3_step(st)) == SQLITE_ROW && fault == SQLITE_OK)
        fault = add_row(w, st);
    sqlite3_finalize(st);
    if (rc != SQLITE_DONE)
        return fault != SQLITE_OK ? fault : rc;
    return fault == SQLITE_OK ? finish_one(w) : fault;
}

static int write_totals(sqlite3 *db, const char *schema, const struct work *w, uint64_t interval)
{
    sqlite3_stmt *st = store_prepare(db, schema,
                                     "INSERT INTO %s.total "
                                     "VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,"
                                     "?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)");
    if (!st)
        return sqlite3_extended_errcode(db);
    int rc = SQLITE_OK;
    for (const struct merged *m = w->done; m && rc == SQLITE_OK; m = m->next) {
        struct binder b = {st, 0, NULL};
        bind_u64(&b, interval);
        bind_u64(&b, m->endpoint);
        bind_text(&b, m->class, strlen(m->class));
        for (int i = 0; i < COUNTERS; i++) {
            if (m->known[i])
                bind_u64(&b, (uint64_t)m->counter[i]);
            else
                sqlite3_bind_null(st, ++b.n);
        }
        const uint8_t *sketch = m->sketch;
        for (int i = 0; i < SKETCHES; sketch += m->sketch_len[i++])
            bind_blob(&b, sketch, m->sketch_len[i]);
        rc = store_finish(st);
    }
    sqlite3_finalize(st);
    return rc;
}

/* All rows of intervals first..last become rows of interval `first`. */
static int merge_range(sqlite3 *db, const char *schema, int level, uint64_t first, uint64_t last)
{
    static const char *const steps[] = {
        "DELETE FROM %s.total WHERE interval BETWEEN ? AND ?",
        "INSERT OR REPLACE INTO %s.status SELECT ?1, endpoint, status, sum(count) FROM %s.status"
        " WHERE interval BETWEEN ?1 AND ?2 GROUP BY endpoint, status",
        "DELETE FROM %s.status WHERE interval > ? AND interval <= ?",
        "INSERT OR REPLACE INTO %s.loss SELECT ?1, stage, reason, sum(count) FROM %s.loss"
        " WHERE interval BETWEEN ?1 AND ?2 GROUP BY stage, reason",
        "DELETE FROM %s.loss WHERE interval > ? AND interval <= ?",
        /* what lived at the end of the last one */
        "DELETE FROM %s.site_live WHERE interval >= ? AND interval < ?",
        "UPDATE %s.site_live SET interval = ?1 WHERE interval = ?2",
        "INSERT OR REPLACE INTO %s.interval SELECT ?1, ?3, 1, min(start_ns), max(end_ns), "
        "sum(written), sum(drained),"
        " sum(late), sum(accepted), sum(opened), sum(inherited), sum(bytes_in), sum(bytes_out), "
        "sum(outside_in),"
        " sum(outside_out), sum(outside_allocated), sum(outside_freed), sum(outside_allocations), "
        "sum(outside_cpu_ns), sum(unseen_cpu_ns)"
        " FROM %s.interval WHERE interval BETWEEN ?1 AND ?2",
        "DELETE FROM %s.interval WHERE interval > ? AND interval <= ?",
    };
    struct work w = {
        .pool = sketch_pool_new((size_t)SKETCHES * SKETCH_OCTAVES * sizeof(struct sketch_page) * 2)};
    if (!w.pool)
        return SQLITE_NOMEM;
    for (int i = 0; i < SKETCHES; i++)
        sketch_init(&w.sketch[i]);
    int rc = read_totals(db, schema, &w, first, last);
    for (size_t i = 0; i < sizeof steps / sizeof *steps && rc == SQLITE_OK; i++)
        rc = with_range(db, schema, steps[i], first, last, level);
    if (rc == SQLITE_OK)
        rc = write_totals(db, schema, &w, first);
    while (w.done) {
        struct merged *m = w.done;
        w.done = m->next;
        free(m);
    }
    for (int i = 0; i < SKETCHES; i++)
        sketch_clear(&w.sketch[i], w.pool);
    sketch_pool_free(w.pool);
    return rc;
}

struct range {
    uint64_t first, last;
    int count;
};

/* The oldest run of neighbours that belong together. */
static struct range next_range(sqlite3 *db, const char *schema, int level, uint64_t floor,
                               uint64_t ceiling)
{
    struct range r = {0, 0, 0};
    uint64_t bucket = 0;
    sqlite3_stmt *st =
        store_prepare(db, schema,
                      "SELECT interval, start_ns, level FROM %s.interval WHERE interval > ? AND"
                      " interval < ? AND closed = 1 ORDER BY interval");
    if (!st)
        return r;
    sqlite3_bind_int64(st, 1, (sqlite3_int64)floor);
    sqlite3_bind_int64(st, 2, (sqlite3_int64)ceiling);
    while (sqlite3_step(st) == SQLITE_ROW) {
        uint64_t interval = (uint64_t)sqlite3_column_int64(st, 0);
        uint64_t at = (uint64_t)sqlite3_column_int64(st, 1) / BUCKET_NS;
        bool fits = level == 2 || sqlite3_column_int(st, 2) == 0;
        if (r.count && (!fits || (level == 1 && at != bucket))) {
            if (r.count > 1)
                break;
            r.count = 0; /* alone in its bucket: nothing to merge */
        }
        if (!fits)
            continue;
        if (r.count++ == 0) {
            r.first = interval;
            bucket = at;
        }
        r.last = interval;
    }
    sqlite3_finalize(st);
    return r;
}

int store_roll(sqlite3 *db, const char *schema, int level, uint64_t floor, uint64_t ceiling,
               int *merged)
{
    *merged = 0;
    struct range r = next_range(db, schema, level, floor, ceiling);
    if (r.count < 2)
        return SQLITE_OK;
    int rc = store_run_sql(db, schema, "BEGIN");
    if (rc == SQLITE_OK)
        rc = merge_range(db, schema, level, r.first, r.last);
    if (rc == SQLITE_OK)
        rc = store_run_sql(db, schema, "COMMIT");
    if (rc == SQLITE_OK)
        *merged = r.count - 1;
    else if (!sqlite3_get_autocommit(db))
        store_run_sql(db, schema, "ROLLBACK");
    return rc;
}
