/*
 * store.c - rows into SQLite: one transaction a second, in the file while it can be written, else
 * in memory.
 *
 * In:      sinks.c                              Out: SQLite, store_rows.c, store_shrink.c
 * Owns:    one connection: `main` is memory, `disk` the attached file; the lock on the file.
 * Context: sink thread
 *
 * Why a failed commit loses nothing but spans: rows of totals are kept in `pending` until the
 * transaction that holds them is on disk. When it fails they are applied to memory instead, and go
 * on there; what memory holds replaces what the file has of the same key, in the report
 * (report_load.c) and when the file is back (`recover`).
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "collector/sink/store_inside.h"
#include "wire/clock.h"

#define PENDING_MAX (UINT64_C(8) << 20)
#define MEMORY_MAX (UINT64_C(8) << 20) /* database in memory, before its intervals are merged */
#define SPAN_BYTES 300                 /* a row of `span`, about */
#define TRY_WAIT_MS 200                /* for a lock, in a try to write again that others follow */

uint64_t store_retry_ns = UINT64_C(2) * 1000000000;

void store_tell(struct store *s, const char *format, ...)
{
    char line[PATH_MAX + 256];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    if (s->say)
        s->say(s->say_to, line);
}

/* --- transactions, and what happens when the file fails --- */

static bool remember(struct store *s, const struct row *row)
{
    if (s->pending_used + row->bytes > s->pending_room) {
        size_t room = s->pending_room ? s->pending_room * 2 : 65536;
        uint8_t *bigger = realloc(s->pending, room);
        if (!bigger)
            return false;
        s->pending = bigger;
        s->pending_room = room;
    }
    memcpy(s->pending + s->pending_used, row, row->bytes);
    s->pending_used += row->bytes;
    return true;
}

static int begin(struct store *s)
{
    int rc = SQLITE_OK;
    if (!s->open)
        rc = store_run_sql(s->db, "main", "BEGIN");
    s->open = rc == SQLITE_OK;
    return rc;
}

static void roll_back(struct store *s)
{
    if (!sqlite3_get_autocommit(s->db))
        store_run_sql(s->db, "main", "ROLLBACK");
    s->open = false;
}

/* From here on totals go to memory, with those that the failed transaction held. */
static void leave_disk(struct store *s, int code, const char *why)
{
    roll_back(s);
    s->fault = code;
    s->why = why;
    s->target = TO_MEMORY;
    s->memory_floor = s->last_interval;
    s->retry_ns = clock_monotonic_ns() + store_retry_ns;
    store_count_shed(s, why, s->pending_spans);
    s->pending_spans = 0;
    store_tell(
        s,
        "store %s: %s; totals are kept in memory, sampled requests are dropped until it can be "
        "written again",
        s->path, why);
    begin(s);
    for (size_t at = 0; at < s->pending_used;) {
        const struct row *row = (const struct row *)(s->pending + at);
        store_apply(s, row);
        at += row->bytes;
    }
    s->pending_used = 0;
}

static const char *const state_tables[] = {"run",    "process", "endpoint", "interval",
                                           "loss",   "total",   "status",   "in_flight",
                                           "unread", "shed",    "documents"};

static int for_tables(struct store *s, const char *format)
{
    int rc = SQLITE_OK;
    for (size_t i = 0; i < sizeof state_tables / sizeof *state_tables && rc == SQLITE_OK; i++) {
        char sql[160];
        const char *t = state_tables[i];
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        snprintf(sql, sizeof sql, format, t, t);
#pragma GCC diagnostic pop
        rc = store_run_sql(s->db, "main", sql);
    }
    return rc;
}

/* Moves what memory holds to the file, in one transaction. SQLITE_OK: the file is the target again.
 */
static int recover(struct store *s)
{
    int rc = store_run_sql(s->db, "main", "BEGIN");
    if (rc == SQLITE_OK)
        rc = store_run_sql(s->db, "disk", "DELETE FROM %s.in_flight");
    if (rc == SQLITE_OK)
        rc = for_tables(s, "INSERT OR REPLACE INTO disk.%s SELECT * FROM main.%s");
    if (rc == SQLITE_OK)
        rc = store_run_sql(s->db, "disk", "DELETE FROM %s.process WHERE merged = 0");
    if (rc == SQLITE_OK)
        rc = for_tables(s, "DELETE FROM main.%s");
    if (rc == SQLITE_OK)
        rc = store_run_sql(s->db, "main", "COMMIT");
    if (rc != SQLITE_OK)
        roll_back(s);
    return rc;
}

/* --- size --- */

static uint64_t file_bytes(const char *path, const char *tail)
{
    char name[PATH_MAX + 16];
    struct stat st;
    snprintf(name, sizeof name, "%s%s", path, tail);
    return stat(name, &st) == 0 ? (uint64_t)st.st_size : 0;
}

static uint64_t used_bytes(struct store *s, const char *schema)
{
    uint64_t pages = store_ask(s->db, schema, "PRAGMA %s.page_count");
    return (pages - store_ask(s->db, schema, "PRAGMA %s.freelist_count")) * 4096;
}

/* Oldest spans first, a sixteenth at a time, as long as more than `least` are there. True: some
 * went. */
static bool shed_spans(struct store *s, uint64_t least)
{
    uint64_t first = store_ask(s->db, "disk", "SELECT min(span) FROM %s.span");
    uint64_t last = store_ask(s->db, "disk", "SELECT max(span) FROM %s.span");
    if (!last || last - first < least)
        return false;
    char sql[96];
    uint64_t before = (uint64_t)sqlite3_total_changes64(s->db), some = (last - first) / 16;
    snprintf(sql, sizeof sql, "DELETE FROM %%s.span WHERE span <= %llu",
             (unsigned long long)(first + (some < 256 ? 256 : some)));
    if (store_run_sql(s->db, "disk", sql) != SQLITE_OK)
        return false;
    store_count_shed(s, "size", (uint64_t)sqlite3_total_changes64(s->db) - before);
    return true;
}

static bool shrink(struct store *s, const char *schema, uint32_t floor)
{
    uint64_t newest = store_ask(s->db, schema, "SELECT max(interval) FROM %s.interval");
    uint64_t middle =
        store_ask(s->db, schema, "SELECT (min(interval) + max(interval)) / 2 FROM %s.interval");
    int merged = 0;
    store_roll(s->db, schema, 1, floor, newest, &merged);
    if (merged == 0)
        store_roll(s->db, schema, 2, floor, middle, &merged);
    if (merged == 0)
        store_roll(s->db, schema, 2, floor, newest, &merged);
    return merged > 0;
}

static void keep_memory_bound(struct store *s)
{
    if (used_bytes(s, "main") > MEMORY_MAX)
        shrink(s, "main", s->attached ? s->memory_floor : 0);
}

static void keep_disk_bound(struct store *s)
{
    uint64_t room = s->max_bytes / 4 * 3, quarter = room / 4 / SPAN_BYTES;
    /* a quarter of the room stays with the spans: totals of old intervals do not push out what
     * happened just now */
    for (int i = 0; i < 64 && used_bytes(s, "disk") > room; i++)
        if (!shed_spans(s, quarter) && !shrink(s, "disk", 0) && !shed_spans(s, 0))
            break;
    uint64_t log = file_bytes(s->path, "-wal");
    if (log <= s->max_bytes / 8 || file_bytes(s->path, "") + log <= s->max_bytes / 8 * 7)
        return;
    int rc = sqlite3_wal_checkpoint_v2(s->db, "disk", SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
    if (rc != SQLITE_OK &&
        file_bytes(s->path, "") + file_bytes(s->path, "-wal") > s->max_bytes / 8 * 7)
        leave_disk(s, SQLITE_BUSY, "held by a reader");
}

static void return_to_disk(struct store *s)
{
    store_forget_statements(s, SCHEMA_DISK);
    if (s->attached && !store_keep_linked(s))
        return;
    if (!s->attached) { /* one that is attached stays: the report reads it, however ill the disk */
        if (store_attach(s) != SQLITE_OK)
            return;
        if (!store_belongs(s)) { /* another run has taken the place meanwhile */
            store_detach(s);
            return;
        }
    }
    if (file_bytes(s->path, "-wal") > s->max_bytes / 8 &&
        sqlite3_wal_checkpoint_v2(s->db, "disk", SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL) !=
            SQLITE_OK)
        return;
    if (recover(s) != SQLITE_OK)
        return;
    s->target = TO_DISK;
    s->fault = 0;
    store_tell(s, "store %s: written again", s->path);
}

/* Back to the file as soon as it can be written again. Whoever holds it may hold it for hours: a try
 * waits briefly, and the next is counted from its end, or the thread would do nothing but wait. */
static void try_again(struct store *s)
{
    if (s->none || s->target == TO_DISK || clock_monotonic_ns() < s->retry_ns)
        return;
    bool last = s->retry_ns == 0;
    sqlite3_busy_timeout(s->db, last ? STORE_WAIT_MS : TRY_WAIT_MS);
    return_to_disk(s);
    sqlite3_busy_timeout(s->db, STORE_WAIT_MS);
    s->retry_ns = clock_monotonic_ns() + store_retry_ns;
}

/* --- pushing --- */

static int write_commit(struct store *s)
{
    int rc = begin(s);
    if (rc == SQLITE_OK)
        rc = store_put_run(s);
    if (rc == SQLITE_OK)
        rc = store_put_ledgers(s);
    if (rc == SQLITE_OK)
        rc = store_run_sql(s->db, "main", "COMMIT");
    s->open = !sqlite3_get_autocommit(s->db);
    return rc;
}

void store_commit(struct store *s)
{
    int rc = write_commit(s);
    if (rc != SQLITE_OK && s->target == TO_DISK) {
        leave_disk(s, rc, store_fault_word(rc));
        write_commit(s);
    }
    s->pending_used = 0;
    s->pending_spans = s->span_bytes = 0;
    if (s->target == TO_DISK && !store_keep_linked(s))
        leave_disk(s, SQLITE_CANTOPEN, "removed");
    else if (s->target == TO_DISK)
        keep_disk_bound(s);
    else
        keep_memory_bound(s);
    try_again(s);
}

static void push_span(struct store *s, const struct row *row)
{
    if (s->none)
        return;
    if (s->target == TO_MEMORY) {
        store_count_shed(s, s->why, 1);
        return;
    }
    s->pending_spans++;
    int rc = begin(s);
    if (rc == SQLITE_OK)
        rc = store_apply(s, row);
    if (rc != SQLITE_OK)
        leave_disk(s, rc, store_fault_word(rc));
    s->span_bytes += row->bytes;
    if (s->span_bytes > s->max_bytes / 16)
        store_commit(s);
}

void store_push(struct store *s, const struct row *row)
{
    if (!store_row_is_whole(row))
        return;
    if (row->kind == ROW_SPAN) {
        push_span(s, row);
        return;
    }
    if (row->kind == ROW_COMMIT) {
        s->run.as_of_ns = ((const struct row_commit *)(row + 1))->time_ns;
        store_commit(s);
        return;
    }
    bool kept = s->target == TO_MEMORY || remember(s, row);
    int rc = begin(s);
    if (rc == SQLITE_OK)
        rc = store_apply(s, row);
    if (rc != SQLITE_OK && s->target == TO_DISK) {
        leave_disk(s, rc, store_fault_word(rc));
        if (!kept)
            store_apply(s, row);
    }
    if (s->pending_used > PENDING_MAX)
        store_commit(s);
}
