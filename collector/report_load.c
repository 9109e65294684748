/*
 * report_load.c - the store's tables → struct report: sums over intervals, merged sketches, what is
 * missing.
 *
 * In:      a connection (the store's own, or a file opened read-only)        Out: report_json.c,
 * report_text.c Context: I, or the collector's last words Failure: -errno and nothing else; a
 * damaged sketch costs its percentiles only.
 *
 * The collector's own connection has the file as `disk` and, when the file could not be written,
 * newer rows in `main`. Views r_* show both as one, a row of `main` hiding the file's with the same
 * key; all below reads only those views.
 */
#include <cjson/cJSON.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "collector/report.h"
#include "collector/report_model.h"
#include "collector/sink/store.h"
#include "collector/sink/store_tables.h"
#include "collector/sketch.h"
#include "wire/arena.h"

const char *const report_verdicts[3] = {"complete", "partial", "lossy"};

/* --- memory --- */

struct report_block {
    struct report_block *next;
    uint64_t bytes[];
};

static void *keep(struct report *r, size_t bytes)
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

struct loader {
    sqlite3 *db;
    struct report *r;
    const struct report_query *query;
    uint64_t first_interval; /* intervals from here on count */
    uint32_t *root;          /* endpoint number → place in r->endpoint + 1 */
    uint32_t roots;
    struct sketch *latency, *first; /* by place in r->endpoint */
    struct sketch_pool *pool;
    int rc;
};

static const char *keep_text(struct loader *l, sqlite3_stmt *st, int column)
{
    const unsigned char *text = sqlite3_column_text(st, column);
    if (!text)
        return NULL;
    size_t len = (size_t)sqlite3_column_bytes(st, column);
    char *copy = keep(l->r, len);
    if (copy)
        memcpy(copy, text, len);
    else
        l->rc = SQLITE_NOMEM;
    return copy;
}

static uint64_t number(sqlite3_stmt *st, int column)
{
    return (uint64_t)sqlite3_column_int64(st, column);
}

static uint64_t number_or(sqlite3_stmt *st, int column, uint64_t unknown)
{
    return sqlite3_column_type(st, column) == SQLITE_NULL ? unknown : number(st, column);
}

static sqlite3_stmt *ask(struct loader *l, const char *sql)
{
    sqlite3_stmt *st = NULL;
    if (l->rc == SQLITE_OK)
        l->rc = sqlite3_prepare_v2(l->db, sql, -1, &st, NULL);
    return l->rc == SQLITE_OK ? st : NULL;
}

static bool next(struct loader *l, sqlite3_stmt *st)
{
    if (!st || l->rc != SQLITE_OK)
        return false;
    int rc = sqlite3_step(st);
    if (rc != SQLITE_ROW && rc != SQLITE_DONE)
        l->rc = rc;
    return rc == SQLITE_ROW;
}

/* Room for as many rows as the query will give. */
static void *room_for(struct loader *l, const char *count_sql, size_t size, int most)
{
    sqlite3_stmt *st = ask(l, count_sql);
    int rows = next(l, st) ? sqlite3_column_int(st, 0) : 0;
    sqlite3_finalize(st);
    void *list = keep(l->r, (size_t)(rows < most ? rows : most) * size);
    if (!list)
        l->rc = SQLITE_NOMEM;
    return list;
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
    sqlite3_stmt *st = ask(l, "SELECT command, host, version, start_ns, end_ns, exit_code, signal, "
                              "clean, as_of_ns, lives,"
                              " settings, id FROM r_run WHERE start_ns IS NOT NULL");
    bool found = next(l, st);
    if (found) {
        r->command = keep_text(l, st, 0);
        r->host = keep_text(l, st, 1);
        r->version = keep_text(l, st, 2);
        r->start_ns = number(st, 3);
        r->end_ns = number(st, 4);
        r->exit_code = (int32_t)number_or(st, 5, UNKNOWN);
        r->signal = (int32_t)number_or(st, 6, UNKNOWN);
        r->as_of_ns = number_or(st, 8, r->start_ns);
        r->lives = (uint32_t)number(st, 9);
        cJSON *settings = cJSON_Parse((const char *)sqlite3_column_text(st, 10));
        r->heap_counted = setting(settings, "memory.heap", 1) != 0;
        r->arena_bytes = setting(settings, "arena.bytes", 0);
        cJSON_Delete(settings);
        r->id = keep_text(l, st, 11);
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
    sqlite3_stmt *st = ask(
        l, "SELECT interval, start_ns FROM r_interval WHERE end_ns > ? ORDER BY interval LIMIT 1");
    if (st)
        sqlite3_bind_int64(st, 1, (sqlite3_int64)l->query->since_ns);
    l->first_interval = UINT32_MAX;
    r->from_ns = l->query->since_ns < end ? l->query->since_ns : end;
    if (next(l, st)) {
        l->first_interval = number(st, 0);
        r->from_ns = number(st, 1) > r->start_ns ? number(st, 1) : r->start_ns;
    }
    r->cut = true;
    sqlite3_finalize(st);
}

static void load_intervals(struct loader *l)
{
    struct report *r = l->r;
    sqlite3_stmt *st = ask(
        l, "SELECT sum(written), sum(drained), sum(late), sum(accepted), sum(opened), "
           "sum(inherited), sum(bytes_in),"
           " sum(bytes_out), sum(outside_in), sum(outside_out), sum(outside_allocated), "
           "sum(outside_freed),"
           " sum(outside_allocations), sum(outside_cpu_ns) FROM r_interval WHERE interval >= ?");
    if (st)
        sqlite3_bind_int64(st, 1, (sqlite3_int64)l->first_interval);
    if (next(l, st)) {
        uint64_t *const to[] = {
            &r->events.written,       &r->events.drained,        &r->events.late,
            &r->connections.accepted, &r->connections.opened,    &r->connections.inherited,
            &r->connections.bytes_in, &r->connections.bytes_out, &r->outside.bytes_in,
            &r->outside.bytes_out,    &r->outside.allocated,     &r->outside.freed,
            &r->outside.allocations,  &r->outside.cpu_ns};
        for (int i = 0; i < (int)(sizeof to / sizeof *to); i++)
            *to[i] = number(st, i);
    }
    if (r->outside.cpu_ns == 0)
        r->outside.cpu_ns = UNKNOWN;
    sqlite3_finalize(st);
}

static void add_named(struct loader *l, struct report_loss **list, int *count, sqlite3_stmt *st)
{
    struct report_loss *bigger = keep(l->r, (size_t)(*count + 1) * sizeof *bigger);
    if (!bigger) {
        l->rc = SQLITE_NOMEM;
        return;
    }
    if (*count)
        memcpy(bigger, *list, (size_t)*count * sizeof *bigger);
    bigger[*count] = (struct report_loss){keep_text(l, st, 0), number(st, 1)};
    *list = bigger;
    ++*count;
}

static void load_losses(struct loader *l)
{
    struct report *r = l->r;
    sqlite3_stmt *st = ask(
        l, "SELECT reason, sum(count), stage FROM r_loss WHERE interval >= ? GROUP BY stage, reason"
           " HAVING sum(count) > 0");
    if (st)
        sqlite3_bind_int64(st, 1, (sqlite3_int64)l->first_interval);
    while (next(l, st)) {
        const char *reason = (const char *)sqlite3_column_text(st, 0);
        int known = LOSS_COUNT;
        if (strcmp((const char *)sqlite3_column_text(st, 2), "recorder") == 0)
            for (known = 0; known < LOSS_COUNT && strcmp(loss_names[known], reason) != 0; known++)
                ;
        if (known < LOSS_COUNT) {
            r->events.lost[known] += number(st, 1);
            r->events.lost_sum += number(st, 1);
        } else {
            add_named(l, &r->bound, &r->bounds, st);
        }
    }
    sqlite3_finalize(st);
    st = ask(
        l, "SELECT min(start_ns), max(end_ns) FROM r_interval WHERE interval >= ?1 AND interval IN"
           " (SELECT interval FROM r_loss WHERE stage = 'recorder' AND count > 0)");
    if (st)
        sqlite3_bind_int64(st, 1, (sqlite3_int64)l->first_interval);
    if (next(l, st)) {
        r->events.first_lost_ns = number(st, 0);
        r->events.last_lost_ns = number(st, 1);
    }
    sqlite3_finalize(st);
    st = ask(l, "SELECT reason, count FROM r_shed WHERE count > 0 ORDER BY count DESC, reason");
    while (next(l, st))
        add_named(l, &r->shed, &r->sheds, st);
    sqlite3_finalize(st);
}

/* --- endpoints --- */

static uint32_t *root_of(struct loader *l, uint64_t endpoint)
{
    static uint32_t none;
    none = 0;
    return endpoint < l->roots ? &l->root[endpoint] : &none;
}

/* Endpoints that were merged into others later add up there. */
static void follow_merges(struct loader *l)
{
    sqlite3_stmt *st =
        ask(l, "SELECT endpoint, merged_into FROM r_endpoint WHERE merged_into IS NOT NULL");
    uint32_t *into = calloc(l->roots ? l->roots : 1, sizeof *into);
    if (!into)
        l->rc = SQLITE_NOMEM;
    while (into && next(l, st))
        if (number(st, 0) < l->roots && number(st, 1) < l->roots)
            into[number(st, 0)] = (uint32_t)number(st, 1);
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

static void load_endpoints(struct loader *l)
{
    struct report *r = l->r;
    r->endpoint = room_for(l, "SELECT count(*) FROM r_endpoint", sizeof *r->endpoint, 1 << 20);
    sqlite3_stmt *st = ask(l, "SELECT coalesce(max(endpoint), 0) FROM r_endpoint");
    uint64_t last = next(l, st) ? number(st, 0) : 0;
    sqlite3_finalize(st);
    l->roots = last < 1u << 24 ? (uint32_t)last + 1 : 0;
    l->root = keep(r, l->roots * sizeof *l->root);
    if (!l->root)
        l->rc = SQLITE_NOMEM;
    st = ask(l, "SELECT endpoint, service, protocol, side, name FROM r_endpoint ORDER BY endpoint");
    while (next(l, st) && r->endpoints < 1 << 20) {
        struct report_endpoint *e = &r->endpoint[r->endpoints++];
        e->service = keep_text(l, st, 1);
        e->protocol = keep_text(l, st, 2);
        const unsigned char *side = sqlite3_column_text(st, 3);
        e->side = side && side[0] == 'c' ? SIDE_CLIENT : SIDE_SERVER;
        e->name = keep_text(l, st, 4);
        e->retained = e->cpu_ns = e->lock_ns = e->disk_ns = e->sleep_ns = e->downstream_ns =
            UNKNOWN;
        *root_of(l, number(st, 0)) = (uint32_t)r->endpoints;
    }
    sqlite3_finalize(st);
    follow_merges(l);
}

static void add_known(uint64_t *sum, sqlite3_stmt *st, int column)
{
    if (sqlite3_column_type(st, column) != SQLITE_NULL)
        *sum = (*sum == UNKNOWN ? 0 : *sum) + number(st, column);
}

static void add_total(struct loader *l, sqlite3_stmt *st, uint32_t place)
{
    struct report_endpoint *e = &l->r->endpoint[place];
    uint64_t *const plain[] = {&e->count,    &e->errors,    &e->unobserved, &e->inferred,
                               &e->shared,   &e->bytes_in,  &e->bytes_out,  &e->body_in,
                               &e->body_out, &e->allocated, &e->freed,      &e->allocations};
    uint64_t *const known[] = {&e->retained, &e->cpu_ns,   &e->lock_ns,
                               &e->disk_ns,  &e->sleep_ns, &e->downstream_ns};
    for (int i = 0; i < 12; i++)
        *plain[i] += number(st, 1 + i);
    for (int i = 0; i < 6; i++)
        add_known(known[i], st, 13 + i);
    /* a damaged sketch costs its percentiles only */
    (void)sketch_decode_into(&l->latency[place], l->pool, sqlite3_column_blob(st, 19),
                             (size_t)sqlite3_column_bytes(st, 19));
    (void)sketch_decode_into(&l->first[place], l->pool, sqlite3_column_blob(st, 20),
                             (size_t)sqlite3_column_bytes(st, 20));
}

static void summarise(struct report_latency *to, const struct sketch *from)
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

static void load_totals(struct loader *l)
{
    struct report *r = l->r;
    size_t n = (size_t)(r->endpoints ? r->endpoints : 1);
    l->latency = calloc(n, sizeof *l->latency);
    l->first = calloc(n, sizeof *l->first);
    l->pool = sketch_pool_new(n * 2 * SKETCH_OCTAVES * sizeof(struct sketch_page) * 2);
    if (!l->latency || !l->first || !l->pool)
        l->rc = SQLITE_NOMEM;
    for (int i = 0; i < r->endpoints && l->rc == SQLITE_OK; i++) {
        sketch_init(&l->latency[i]);
        sketch_init(&l->first[i]);
    }
    sqlite3_stmt *st = ask(
        l, "SELECT endpoint, count, errors, unobserved, inferred, shared, bytes_in, bytes_out, "
           "body_in,"
           " body_out, allocated, freed, allocations, retained, cpu_ns, lock_ns, disk_ns, sleep_ns,"
           " downstream_ns, latency, first FROM r_total WHERE interval >= ?");
    if (st)
        sqlite3_bind_int64(st, 1, (sqlite3_int64)l->first_interval);
    while (next(l, st)) {
        uint32_t place = *root_of(l, number(st, 0));
        if (place)
            add_total(l, st, place - 1);
    }
    sqlite3_finalize(st);
    for (int i = 0; i < r->endpoints && l->rc == SQLITE_OK; i++) {
        summarise(&r->endpoint[i].latency, &l->latency[i]);
        summarise(&r->endpoint[i].first, &l->first[i]);
        sketch_clear(&l->latency[i], l->pool);
        sketch_clear(&l->first[i], l->pool);
    }
    if (l->pool)
        sketch_pool_free(l->pool);
    free(l->latency);
    free(l->first);
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

static void load_statuses(struct loader *l)
{
    const char *counted = "SELECT count(*) FROM (SELECT 1 FROM r_status GROUP BY endpoint, status)";
    struct tally *all = room_for(l, counted, sizeof *all, 1 << 22);
    struct report_status *list = room_for(l, counted, sizeof *list, 1 << 22);
    int n = 0, kept = 0;
    sqlite3_stmt *st = ask(l, "SELECT endpoint, status, sum(count) FROM r_status WHERE interval >= "
                              "? GROUP BY endpoint, status");
    if (st)
        sqlite3_bind_int64(st, 1, (sqlite3_int64)l->first_interval);
    while (all && list && n < 1 << 22 && next(l, st)) {
        uint32_t place = *root_of(l, number(st, 0));
        if (place && number(st, 2))
            all[n++] = (struct tally){place - 1, {(uint32_t)number(st, 1), number(st, 2)}};
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

/* --- lists --- */

static void load_processes(struct loader *l)
{
    struct report *r = l->r;
    r->process = room_for(l, "SELECT count(*) FROM r_process", sizeof *r->process, 1 << 20);
    sqlite3_stmt *st = ask(
        l,
        "SELECT pid, parent, executable, service, start_ns, end_ns, exit_code, signal, allocated,"
        " freed, allocations, cpu_ns, merged, heap_tail_unknown, flags FROM r_process"
        " WHERE merged > 0 ORDER BY start_ns, executable, pid");
    while (next(l, st) && r->processes < 1 << 20) {
        struct report_process *p = &r->process[r->processes++];
        p->pid = sqlite3_column_int(st, 0);
        p->parent = sqlite3_column_int(st, 1);
        p->executable = keep_text(l, st, 2);
        p->service = keep_text(l, st, 3);
        p->start_ns = number(st, 4);
        p->end_ns = number(st, 5);
        p->exit_code = (int32_t)number_or(st, 6, UNKNOWN);
        p->signal = (int32_t)number_or(st, 7, UNKNOWN);
        p->allocated = number(st, 8);
        p->freed = number(st, 9);
        p->allocations = number(st, 10);
        p->cpu_ns = number_or(st, 11, UNKNOWN);
        p->merged = number(st, 12);
        p->heap_tail_unknown = sqlite3_column_int(st, 13) != 0;
        p->flags = (uint32_t)number(st, 14);
    }
    sqlite3_finalize(st);
}

static void load_unread(struct loader *l)
{
    struct report *r = l->r;
    r->unread = room_for(l, "SELECT count(*) FROM r_unread", sizeof *r->unread, 1 << 20);
    sqlite3_stmt *st = ask(
        l, "SELECT address, reason, sum(connections), sum(bytes_in), sum(bytes_out) FROM r_unread"
           " GROUP BY address, reason ORDER BY 3 DESC, address, reason");
    while (next(l, st) && r->unreads < 1 << 20) {
        struct report_unread *u = &r->unread[r->unreads++];
        u->address = keep_text(l, st, 0);
        u->reason = keep_text(l, st, 1);
        u->connections = number(st, 2);
        u->bytes_in = number(st, 3);
        u->bytes_out = number(st, 4);
    }
    sqlite3_finalize(st);
}

static void load_in_flight(struct loader *l)
{
    struct report *r = l->r;
    r->in_flight = room_for(l, "SELECT count(*) FROM r_in_flight", sizeof *r->in_flight, 1 << 20);
    sqlite3_stmt *st = ask(l, "SELECT pid, tid, endpoint, start_ns, age_ns, call FROM r_in_flight"
                              " ORDER BY start_ns, endpoint, span");
    while (next(l, st) && r->in_flights < 1 << 20) {
        struct report_in_flight *f = &r->in_flight[r->in_flights++];
        f->pid = sqlite3_column_int(st, 0);
        f->tid = sqlite3_column_int(st, 1);
        f->endpoint = keep_text(l, st, 2);
        f->start_ns = number(st, 3);
        f->age_ns = number(st, 4);
        f->call = keep_text(l, st, 5);
    }
    sqlite3_finalize(st);
}

static void load_slowest(struct loader *l)
{
    struct report *r = l->r;
    int most = l->query->slowest;
    if (most <= 0)
        return;
    r->slowest = keep(r, (size_t)most * sizeof *r->slowest);
    sqlite3_stmt *st =
        ask(l, "SELECT s.endpoint, s.start_ns, s.duration_ns, s.verb || ' ' || s.target, s.status, "
               "s.error,"
               " s.failed, s.answered, s.queue_ns, s.receive_ns, s.work_ns, s.first_ns, s.send_ns,"
               " s.downstream_ns FROM r_span s WHERE s.duration_ns IS NOT NULL AND s.start_ns >= ?"
               " ORDER BY s.duration_ns DESC, s.start_ns LIMIT ?");
    if (st) {
        sqlite3_bind_int64(st, 1, l->query->since_ns ? (sqlite3_int64)l->r->from_ns : 0);
        sqlite3_bind_int(st, 2, most);
    }
    while (r->slowest && next(l, st) && r->slowests < most) {
        uint32_t place = *root_of(l, number(st, 0));
        struct report_span *s = &r->slowest[r->slowests];
        if (!place)
            continue;
        r->slowests++;
        s->endpoint = r->endpoint[place - 1].name;
        s->service = r->endpoint[place - 1].service;
        s->side = r->endpoint[place - 1].side;
        s->start_ns = number(st, 1);
        s->duration_ns = number(st, 2);
        s->target = keep_text(l, st, 3);
        s->status = (uint32_t)number(st, 4);
        s->error = keep_text(l, st, 5);
        s->failed = sqlite3_column_int(st, 6) != 0;
        s->answered = sqlite3_column_int(st, 7) != 0;
        uint64_t *const phase[] = {&s->queue_ns, &s->receive_ns, &s->work_ns,
                                   &s->first_ns, &s->send_ns,    &s->downstream_ns};
        for (int i = 0; i < 6; i++)
            *phase[i] = number_or(st, 8 + i, UNKNOWN);
    }
    sqlite3_finalize(st);
}

static void load_documents(struct loader *l)
{
    struct report *r = l->r;
    r->output = room_for(l, "SELECT count(*) FROM r_documents", sizeof *r->output, 64);
    sqlite3_stmt *st = ask(
        l,
        "SELECT output, carried, accepted, acknowledged, duplicates, dead, queued, dropped_memory,"
        " dropped_exit, dropped_refused FROM r_documents ORDER BY output");
    while (next(l, st) && r->outputs < 64) {
        struct report_output *o = &r->output[r->outputs++];
        struct documents *d = &o->documents;
        uint64_t *const to[] = {&d->carried,        &d->accepted,     &d->acknowledged,
                                &d->duplicates,     &d->dead,         &d->queued,
                                &d->dropped_memory, &d->dropped_exit, &d->dropped_refused};
        o->name = keep_text(l, st, 0);
        for (int i = 0; i < 9; i++)
            *to[i] = number(st, 1 + i);
    }
    sqlite3_finalize(st);
}

/* Failed requests: how many stands in the totals; when and with which answer is known of those that
 * were sampled. */
static void load_errors(struct loader *l)
{
    struct report *r = l->r;
    r->error = room_for(
        l,
        "SELECT count(*) FROM (SELECT 1 FROM r_span WHERE failed GROUP BY endpoint, status, error)",
        sizeof *r->error, 256);
    sqlite3_stmt *st = ask(
        l, "SELECT endpoint, status, error, sum(1 / max(rate, 1e-9)), min(start_ns), max(start_ns)"
           " FROM r_span WHERE failed AND start_ns >= ? GROUP BY endpoint, status, error"
           " ORDER BY 4 DESC, 1, 2, 3");
    if (st)
        sqlite3_bind_int64(st, 1, l->query->since_ns ? (sqlite3_int64)l->r->from_ns : 0);
    while (r->error && next(l, st) && r->errors < 256) {
        uint32_t place = *root_of(l, number(st, 0));
        if (!place)
            continue;
        struct report_error *e = &r->error[r->errors++];
        e->service = r->endpoint[place - 1].service;
        e->endpoint = r->endpoint[place - 1].name;
        e->status = (uint32_t)number(st, 1);
        e->text = keep_text(l, st, 2);
        e->count = (uint64_t)(sqlite3_column_double(st, 3) + 0.5);
        e->first_ns = number(st, 4);
        e->last_ns = number(st, 5);
    }
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

static void judge(struct report *r)
{

    if (r->events.lost_sum)
        r->verdict = REPORT_LOSSY;
    else if (r->unreads || r->bounds || r->abandoned || r->processes == 0)
        r->verdict = REPORT_PARTIAL;
    else
        r->verdict = REPORT_COMPLETE;
}

static void bury_documents(struct report *r)
{
    for (int i = 0; i < r->outputs && r->abandoned;
         i++) { /* what waited in memory died with the collector */
        r->output[i].dropped_collector += r->output[i].documents.queued;
        r->output[i].documents.queued = 0;
    }
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
    if (l->rc == SQLITE_OK)
        load_totals(l);
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
    judge(r);
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

/* --- from a file --- */

static int explain(const char *path, int rc, char *message, size_t room)
{
    switch (rc) {
    case -ENOENT:
        snprintf(message, room,
                 "no store at %s: name it (sonde report FILE), or make one with `sonde run CMD...`",
                 path);
        break;
    case -ENODATA:
        snprintf(
            message, room,
            "%s holds no run yet: its command has not started, or ended before it did anything",
            path);
        break;
    case -EUCLEAN:
        snprintf(
            message, room,
            "%s is damaged or not a store of sonde; `sqlite3 %s .recover` may save what is in it",
            path, path);
        break;
    case -EAGAIN:
        snprintf(message, room, "%s is locked by another program for too long; try again", path);
        break;
    case -EISDIR:
        snprintf(message, room, "%s is a folder; name the store in it", path);
        break;
    default:
        snprintf(message, room, "cannot read %s: %s", path, strerror(-rc));
    }
    return rc;
}

static int look(const char *path)
{
    struct stat st;
    if (stat(path, &st) != 0)
        return -errno;
    if (S_ISDIR(st.st_mode))
        return -EISDIR;
    if (access(path, R_OK) != 0)
        return -errno;
    enum file_kind kind = store_file_kind(path);
    return kind == FILE_OURS ? 0 : kind == FILE_EMPTY ? -ENODATA : -EUCLEAN;
}

static int open_and_load(const char *name, int flags, const struct report_query *query,
                         struct report **out)
{
    sqlite3 *db;
    int rc = sqlite3_open_v2(name, &db, flags, NULL) == SQLITE_OK ? 0 : -EACCES;
    if (rc == 0) {
        sqlite3_busy_timeout(db, 5000);
        rc = store_ask(db, "main", "PRAGMA %s.user_version") > STORE_VERSION
                 ? -EPROTONOSUPPORT
                 : report_load(db, query, out);
    }
    sqlite3_close(db);
    return rc;
}

int report_read(const char *path, const struct report_query *query, struct report **out,
                char *message, size_t room)
{
    *out = NULL;
    int rc = look(path);
    if (rc != 0)
        return explain(path, rc, message, room);
    bool live = store_is_live(path);
    rc = open_and_load(path, SQLITE_OPEN_READONLY, query, out);
    if (rc == -EACCES ||
        rc == -EUCLEAN) { /* a folder that cannot be written, with no log left to read */
        char log[PATH_MAX], uri[PATH_MAX + 32];
        snprintf(log, sizeof log, "%s-wal", path);
        char *quoted = sqlite3_mprintf("file:%s?immutable=1", path);
        snprintf(uri, sizeof uri, "%s", quoted ? quoted : "");
        sqlite3_free(quoted);
        if (access(log, F_OK) != 0 && !strpbrk(path, "?#%"))
            rc = open_and_load(uri, SQLITE_OPEN_READONLY | SQLITE_OPEN_URI, query, out);
    }
    if (rc != 0)
        return explain(path, rc, message, room);
    if (live) { /* also seen from another pid namespace */
        (*out)->running = (*out)->end_ns == 0;
        (*out)->abandoned = false;
    }
    judge(*out);
    bury_documents(*out);
    return 0;
}
