/*
 * report_load.c - the store's tables → struct report: sums over intervals, merged sketches, what is
 * missing.
 *
 * In:      a connection: the store's own, or a file opened read-only      Out: struct report
 * Context: I, or the collector's last words
 * Failure: -errno and nothing else; a damaged sketch costs its percentiles only.
 *
 * The collector's own connection has the file as `disk` and, when the file could not be written,
 * newer rows in `main`. Views r_* show both as one, a row of `main` hiding the file's with the same
 * key; all below reads only those views.
 */
#include <cjson/cJSON.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "collector/report_loader.h"
#include "wire/arena.h"

const char *const report_verdicts[3] = {"complete", "partial", "lossy"};

/* --- memory --- */

struct report_block {
    struct report_block *next;
    uint64_t bytes[];
};

void *report_keep(struct report *r, size_t bytes)
{
    struct report_block *b = calloc(1, sizeof *b + bytes + 1);
    if (!b)
        return NULL;
    b->next = r->blocks;
    r->blocks = b;
    return b->bytes;
}

void report_free(struct report *r)
{
    if (!r)
        return;
    while (r->blocks) {
        struct report_block *b = r->blocks;
        r->blocks = b->next;
        free(b);
    }
    free(r);
}

/* --- reading --- */

const char *load_text(struct loader *l, sqlite3_stmt *st, int column)
{
    const unsigned char *text = sqlite3_column_text(st, column);
    if (!text)
        return NULL;
    size_t len = (size_t)sqlite3_column_bytes(st, column);
    char *copy = report_keep(l->r, len);
    if (copy)
        memcpy(copy, text, len);
    else
        l->rc = SQLITE_NOMEM;
    return copy;
}

uint64_t load_u64(sqlite3_stmt *st, int column)
{
    return (uint64_t)sqlite3_column_int64(st, column);
}

uint64_t load_or(sqlite3_stmt *st, int column, uint64_t unknown)
{
    return sqlite3_column_type(st, column) == SQLITE_NULL ? unknown : load_u64(st, column);
}

sqlite3_stmt *load_ask(struct loader *l, const char *sql)
{
    sqlite3_stmt *st = NULL;
    if (l->rc == SQLITE_OK)
        l->rc = sqlite3_prepare_v2(l->db, sql, -1, &st, NULL);
    return l->rc == SQLITE_OK ? st : NULL;
}

bool load_next(struct loader *l, sqlite3_stmt *st)
{
    if (!st || l->rc != SQLITE_OK)
        return false;
    int rc = sqlite3_step(st);
    if (rc != SQLITE_ROW && rc != SQLITE_DONE)
        l->rc = rc;
    return rc == SQLITE_ROW;
}

/* Room for as many rows as the query will give. */
void *load_room(struct loader *l, const char *count_sql, size_t size, int most)
{
    sqlite3_stmt *st = load_ask(l, count_sql);
    int rows = load_next(l, st) ? sqlite3_column_int(st, 0) : 0;
    sqlite3_finalize(st);
    void *list = report_keep(l->r, (size_t)(rows < most ? rows : most) * size);
    if (!list)
        l->rc = SQLITE_NOMEM;
    return list;
}

/* By trying: a view of a table that is not there can be made, not asked. */
static bool can_ask(struct loader *l, const char *sql)
{
    sqlite3_stmt *st = NULL;
    bool can = l->rc == SQLITE_OK && sqlite3_prepare_v2(l->db, sql, -1, &st, NULL) == SQLITE_OK;
    sqlite3_finalize(st);
    return can;
}

const char *load_table(struct loader *l, const char *table)
{
    char sql[96];
    snprintf(sql, sizeof sql, "SELECT 1 FROM r_%s", table);
    return can_ask(l, sql) ? table : NULL;
}

const char *load_column(struct loader *l, const char *table, const char *column)
{
    char sql[128];
    snprintf(sql, sizeof sql, "SELECT %s FROM r_%s", column, table);
    return can_ask(l, sql) ? column : "NULL";
}

struct view {
    const char *table, *key; /* key: columns by which a row of memory hides one of the file, NULL:
                                the whole table */
};
static const struct view views[] = {
    {"run", "run"},
    {"process", "process"},
    {"endpoint", "endpoint"},
    {"interval", "interval"},
    {"loss", "interval,stage,reason"},
    {"total", "interval,endpoint,class"},
    {"status", "interval,endpoint,status"},
    {"span", NULL},
    {"in_flight", NULL},
    {"unread", "life,address,reason"},
    {"shed", "reason"},
    {"documents", "output"},
    {"stack", "stack"},
    {"site", "endpoint,stack,kind"},
    {"site_live", "interval,endpoint,stack"},
};

static void drop_views(sqlite3 *db)
{
    for (size_t i = 0; i < sizeof views / sizeof *views; i++) {
        char *sql = sqlite3_mprintf("DROP VIEW IF EXISTS temp.r_%s", views[i].table);
        if (sql)
            sqlite3_exec(db, sql, NULL, NULL, NULL);
        sqlite3_free(sql);
    }
}

static char *view_sql(const struct view *v, bool both)
{
    if (!both)
        return sqlite3_mprintf("CREATE TEMP VIEW r_%s AS SELECT * FROM main.%s", v->table,
                               v->table);
    if (strcmp(v->table, "in_flight") ==
        0) /* a list of one moment: of memory's moment if it has one */
        return sqlite3_mprintf(
            "CREATE TEMP VIEW r_in_flight AS SELECT * FROM main.in_flight UNION ALL"
            " SELECT * FROM disk.in_flight WHERE NOT EXISTS(SELECT 1 FROM main.run)");
    if (!v->key)
        return sqlite3_mprintf("CREATE TEMP VIEW r_%s AS SELECT * FROM disk.%s", v->table,
                               v->table);
    return sqlite3_mprintf(
        "CREATE TEMP VIEW r_%s AS SELECT * FROM main.%s UNION ALL SELECT * FROM disk.%s"
        " WHERE (%s) NOT IN (SELECT %s FROM main.%s)",
        v->table, v->table, v->table, v->key, v->key, v->table);
}

static bool has_disk(sqlite3 *db)
{
    return sqlite3_db_filename(db, "disk") != NULL;
}

static void make_views(struct loader *l)
{
    bool both = has_disk(l->db);
    sqlite3_exec(l->db, "PRAGMA temp_store=MEMORY", NULL, NULL, NULL);
    drop_views(l->db);
    for (size_t i = 0; i < sizeof views / sizeof *views && l->rc == SQLITE_OK; i++) {
        char *sql = view_sql(&views[i], both);
        l->rc = sql ? sqlite3_exec(l->db, sql, NULL, NULL, NULL) : SQLITE_NOMEM;
        sqlite3_free(sql);
    }
}

/* --- the run --- */

static uint64_t setting(const cJSON *settings, const char *key, uint64_t unknown)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(settings, key);
    if (cJSON_IsBool(item))
        return cJSON_IsTrue(item);
    return cJSON_IsNumber(item) ? (uint64_t)item->valuedouble : unknown;
}

static bool load_run(struct loader *l)
{
    struct report *r = l->r;
    sqlite3_stmt *st =
        load_ask(l, "SELECT command, host, version, start_ns, end_ns, exit_code, signal, "
                    "clean, as_of_ns, lives,"
                    " settings, id FROM r_run WHERE start_ns IS NOT NULL");
    bool found = load_next(l, st);
    if (found) {
        r->command = load_text(l, st, 0);
        r->host = load_text(l, st, 1);
        r->version = load_text(l, st, 2);
        r->start_ns = load_u64(st, 3);
        r->end_ns = load_u64(st, 4);
        r->exit_code = (int32_t)load_or(st, 5, UNKNOWN);
        r->signal = (int32_t)load_or(st, 6, UNKNOWN);
        r->as_of_ns = load_or(st, 8, r->start_ns);
        r->lives = (uint32_t)load_u64(st, 9);
        cJSON *settings = cJSON_Parse((const char *)sqlite3_column_text(st, 10));
        r->heap_counted = setting(settings, "memory.heap", 1) != 0;
        r->arena_bytes = setting(settings, "arena.bytes", 0);
        r->stacks_sampled = setting(settings, "memory.stacks", 1) != 0;
        r->cpu_wanted = setting(settings, "time.cpu", 1) != 0;
        r->waits_wanted = setting(settings, "time.waits", 1) != 0;
        r->sample_bytes = setting(settings, "memory.sample_bytes", 524288);
        r->retained_s = setting(settings, "memory.retained_s", 5);
        r->lock_sample_ns = setting(settings, "waits.sample_ns", 1000000);
        cJSON_Delete(settings);
        r->id = load_text(l, st, 11);
    }
    sqlite3_finalize(st);
    if (r->end_ns && r->as_of_ns < r->end_ns)
        r->as_of_ns = r->end_ns;
    return found;
}

static void load_span_of_time(struct loader *l)
{
    struct report *r = l->r;
    uint64_t end = r->end_ns ? r->end_ns : r->as_of_ns;
    r->from_ns = r->start_ns;
    r->to_ns = end;
    r->duration_ns = end > r->start_ns ? end - r->start_ns : 0;
    if (l->query->since_ns <= r->start_ns)
        return;
    sqlite3_stmt *st = load_ask(
        l, "SELECT interval, start_ns FROM r_interval WHERE end_ns > ? ORDER BY interval LIMIT 1");
    if (st)
        sqlite3_bind_int64(st, 1, (sqlite3_int64)l->query->since_ns);
    l->first_interval = UINT32_MAX;
    r->from_ns = l->query->since_ns < end ? l->query->since_ns : end;
    if (load_next(l, st)) {
        l->first_interval = load_u64(st, 0);
        r->from_ns = load_u64(st, 1) > r->start_ns ? load_u64(st, 1) : r->start_ns;
    }
    r->cut = true;
    sqlite3_finalize(st);
}

static void load_intervals(struct loader *l)
{
    struct report *r = l->r;
    sqlite3_stmt *st = load_ask(
        l, "SELECT sum(written), sum(drained), sum(late), sum(accepted), sum(opened), "
           "sum(inherited), sum(bytes_in),"
           " sum(bytes_out), sum(outside_in), sum(outside_out), sum(outside_allocated), "
           "sum(outside_freed),"
           " sum(outside_allocations), sum(outside_cpu_ns), sum(unseen_cpu_ns) FROM r_interval WHERE interval >= ?");
    if (st)
        sqlite3_bind_int64(st, 1, (sqlite3_int64)l->first_interval);
    if (load_next(l, st)) {
        uint64_t *const to[] = {
            &r->events.written,       &r->events.drained,        &r->events.late,
            &r->connections.accepted, &r->connections.opened,    &r->connections.inherited,
            &r->connections.bytes_in, &r->connections.bytes_out, &r->outside.bytes_in,
            &r->outside.bytes_out,    &r->outside.allocated,     &r->outside.freed,
            &r->outside.allocations,  &r->outside.cpu_ns, &r->outside.unseen_cpu_ns};
        for (int i = 0; i < (int)(sizeof to / sizeof *to); i++)
            *to[i] = load_u64(st, i);
    }
    if (r->outside.cpu_ns == 0)
        r->outside.cpu_ns = UNKNOWN;
    sqlite3_finalize(st);
}

static void add_named(struct loader *l, struct report_loss **list, int *count, sqlite3_stmt *st)
{
    struct report_loss *bigger = report_keep(l->r, (size_t)(*count + 1) * sizeof *bigger);
    if (!bigger) {
        l->rc = SQLITE_NOMEM;
        return;
    }
    if (*count)
        memcpy(bigger, *list, (size_t)*count * sizeof *bigger);
    bigger[*count] = (struct report_loss){load_text(l, st, 0), load_u64(st, 1)};
    *list = bigger;
    ++*count;
}

static void load_losses(struct loader *l)
{
    struct report *r = l->r;
    sqlite3_stmt *st = load_ask(
        l, "SELECT reason, sum(count), stage FROM r_loss WHERE interval >= ? AND stage <> 'sites' GROUP BY stage, reason"
           " HAVING sum(count) > 0");
    if (st)
        sqlite3_bind_int64(st, 1, (sqlite3_int64)l->first_interval);
    while (load_next(l, st)) {
        const char *reason = (const char *)sqlite3_column_text(st, 0);
        int known = LOSS_COUNT;
        if (strcmp((const char *)sqlite3_column_text(st, 2), "recorder") == 0)
            for (known = 0; known < LOSS_COUNT && strcmp(loss_names[known], reason) != 0; known++)
                ;
        if (strcmp((const char *)sqlite3_column_text(st, 2), "shed") == 0) {
            add_named(l, &r->shed, &r->sheds, st);
        } else if (known < LOSS_COUNT) {
            r->events.lost[known] += load_u64(st, 1);
            r->events.lost_sum += load_u64(st, 1);
        } else {
            add_named(l, &r->bound, &r->bounds, st);
        }
    }
    sqlite3_finalize(st);
    st = load_ask(
        l, "SELECT min(start_ns), max(end_ns) FROM r_interval WHERE interval >= ?1 AND interval IN"
           " (SELECT interval FROM r_loss WHERE stage = 'recorder' AND count > 0)");
    if (st)
        sqlite3_bind_int64(st, 1, (sqlite3_int64)l->first_interval);
    if (load_next(l, st)) {
        r->events.first_lost_ns = load_u64(st, 0);
        r->events.last_lost_ns = load_u64(st, 1);
    }
    sqlite3_finalize(st);
    st =
        load_ask(l, "SELECT reason, count FROM r_shed WHERE count > 0 ORDER BY count DESC, reason");
    while (load_next(l, st))
        add_named(l, &r->shed, &r->sheds, st);
    sqlite3_finalize(st);
}

/* --- what follows from it --- */

/* Unknown where every process of the service defines malloc itself. */
static bool heap_is_known(const struct report *r, const char *service)
{
    bool seen = false;
    for (int i = 0; i < r->processes; i++) {
        const struct report_process *p = &r->process[i];
        if (!p->service || !service || strcmp(p->service, service) != 0)
            continue;
        if (!(p->flags & PROCESS_OWN_MALLOC))
            return true;
        seen = true;
    }
    return !seen;
}

static uint64_t sort_value(const struct report_endpoint *e, const char *sort)
{
    if (strcmp(sort, "time") == 0)
        return e->latency.sum;
    if (strcmp(sort, "p99") == 0)
        return e->latency.p99;
    if (strcmp(sort, "errors") == 0)
        return e->errors;
    if (strcmp(sort, "heap") == 0)
        return e->allocated;
    if (strcmp(sort, "out") == 0)
        return e->bytes_out;
    if (strcmp(sort, "cpu") == 0)
        return e->cpu_ns == UNKNOWN ? 0 : e->cpu_ns;
    if (strcmp(sort, "kept") == 0)
        return e->allocated > e->freed ? e->allocated - e->freed : 0;
    return e->count;
}

static int compare_text(const char *a, const char *b)
{
    return strcmp(a ? a : "", b ? b : "");
}

static int by_wish(const void *a, const void *b, void *sort)
{
    const struct report_endpoint *x = a, *y = b;
    uint64_t vx = sort_value(x, sort), vy = sort_value(y, sort);
    if (vx == vy) {
        vx = x->count;
        vy = y->count;
    }
    if (vx != vy)
        return vx > vy ? -1 : 1;
    int names = compare_text(x->name, y->name);
    if (!names)
        names = compare_text(x->service, y->service);
    if (!names)
        names = compare_text(x->protocol, y->protocol);
    return names ? names : (int)x->side - (int)y->side;
}

/* Those that were merged away, and those without requests in the time asked for, go. */
static void sort_endpoints(struct report *r, const char *sort)
{
    int n = 0;
    for (int i = 0; i < r->endpoints; i++) {
        struct report_endpoint *e = &r->endpoint[i];
        if (e->count == 0)
            continue;
        e->heap_known = r->heap_counted && heap_is_known(r, e->service);
        r->requests += e->count;
        r->failed += e->errors;
        r->endpoint[n++] = *e;
    }
    r->endpoints = n;
    if (n)
        qsort_r(r->endpoint, (size_t)n, sizeof *r->endpoint, by_wish,
                (void *)(uintptr_t)(sort ? sort : "count"));
}

void report_judge(struct report *r)
{

    if (r->events.lost_sum)
        r->verdict = REPORT_LOSSY;
    else if (r->unreads || r->bounds || r->abandoned || r->processes == 0)
        r->verdict = REPORT_PARTIAL;
    else
        r->verdict = REPORT_COMPLETE;
}

static int to_errno(const struct loader *l)
{
    switch (l->rc & 0xff) {
    case SQLITE_OK:
        return 0;
    case SQLITE_NOMEM:
        return -ENOMEM;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return -EAGAIN;
    case SQLITE_CANTOPEN:
    case SQLITE_PERM:
        return -EACCES;
    default:
        return -EUCLEAN;
    }
}

static bool load_all(struct loader *l)
{
    if (!load_run(l))
        return false;
    load_span_of_time(l);
    load_intervals(l);
    load_losses(l);
    load_endpoints(l);
    if (l->rc == SQLITE_OK) {
        load_totals(l);
        load_measured(l);
    }
    load_sites(l);
    load_statuses(l);
    load_processes(l);
    load_unread(l);
    load_in_flight(l);
    load_slowest(l);
    load_errors(l);
    load_documents(l);
    return true;
}

int report_load(sqlite3 *db, const struct report_query *query, struct report **out)
{
    static const struct report_query whole;
    struct report *r = calloc(1, sizeof *r);
    struct loader l = {.db = db, .r = r, .query = query ? query : &whole};
    *out = NULL;
    if (!r)
        return -ENOMEM;
    r->exit_code = r->signal = -1;
    r->top = l.query->top;
    make_views(&l);
    if (l.rc == SQLITE_OK)
        l.rc = sqlite3_exec(db, "BEGIN", NULL, NULL, NULL);
    bool found = l.rc == SQLITE_OK && load_all(&l);
    if (!sqlite3_get_autocommit(db))
        sqlite3_exec(db, "COMMIT", NULL, NULL, NULL);
    drop_views(db);
    int rc = to_errno(&l);
    if (rc == 0 && !found)
        rc = -ENODATA;
    if (rc != 0) {
        report_free(r);
        return rc;
    }
    r->running = r->end_ns == 0 && store_supervised(db, has_disk(db) ? "disk" : "main");
    r->abandoned = r->end_ns == 0 && !r->running;
    sort_endpoints(r, l.query->sort);
    report_judge(r);
    *out = r;
    return 0;
}

bool report_is_complete(const struct report *r)
{
    return r->verdict == REPORT_COMPLETE;
}

uint64_t report_as_of(const struct report *r)
{
    return r->as_of_ns;
}
