/*
 * store_open.c - a store is opened, taken over from an earlier collector, closed to one file.
 *
 * In:      sinks.c, store.c (a lost file is opened again)        Out: SQLite, the file system
 * Context: I, sink thread
 * Failure: told to `say`; totals are kept in memory then, and the file is tried again.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "collector/sink/store_inside.h"
#include "wire/clock.h"

const char *store_fault_word(int code)
{
    switch (code & 0xff) {
    case SQLITE_FULL:
        return "disk full";
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return "locked by another program";
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return "damaged";
    case SQLITE_READONLY:
    case SQLITE_PERM:
    case SQLITE_CANTOPEN:
        return "cannot be opened for writing";
    default:
        return "disk error";
    }
}

static char *copy_text(const char *text, size_t len)
{
    char *copy = malloc(len + 1);
    if (copy) {
        memcpy(copy, text, len);
        copy[len] = 0;
    }
    return copy;
}

/* --- the file --- */

void store_detach(struct store *s)
{
    store_forget_statements(s, SCHEMA_DISK);
    if (s->attached)
        store_run_sql(s->db, "main", "DETACH disk");
    s->attached = false;
    if (s->lock >= 0)
        close(s->lock); /* only now: closing it earlier would drop SQLite's own locks on the file */
    s->lock = -1;
}

static void set_file_limits(struct store *s)
{
    uint64_t log = s->max_bytes / 16;
    log = log > UINT64_C(4) << 20 ? UINT64_C(4) << 20 : log;
    char sql[96];
    snprintf(sql, sizeof sql, "PRAGMA %%s.journal_size_limit=%llu", (unsigned long long)log);
    store_run_sql(s->db, "disk", sql);
    sqlite3_wal_autocheckpoint(s->db, (int)(log / 4096));
    store_run_sql(s->db, "disk", "PRAGMA %s.synchronous=NORMAL");
    store_run_sql(s->db, "disk", "PRAGMA %s.cache_size=-2048");
}

/* Opens the file at s->path, locks it, makes or checks its tables. SQLITE_OK or a code of SQLite.
 */
int store_attach(struct store *s)
{
    int fd = open(s->path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return errno == ENOSPC || errno == EDQUOT ? SQLITE_FULL : SQLITE_CANTOPEN;
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        close(fd);
        return SQLITE_LOCKED;
    }
    s->lock = fd;
    enum file_kind kind = store_file_kind(s->path);
    if (kind == FILE_FOREIGN || kind == FILE_MISSING) {
        store_detach(s);
        return SQLITE_NOTADB;
    }
    sqlite3_stmt *st = store_prepare(s->db, "main", "ATTACH ? AS disk");
    sqlite3_bind_text(st, 1, s->path, -1, SQLITE_TRANSIENT);
    int rc = store_finish(st);
    sqlite3_finalize(st);
    s->attached = rc == SQLITE_OK;
    if (rc == SQLITE_OK && kind == FILE_EMPTY)
        rc = store_create(s->db, "disk");
    else if (rc == SQLITE_OK) {
        rc = store_run_sql(s->db, "disk", "PRAGMA %s.journal_mode=WAL");
        if (rc == SQLITE_OK &&
            store_ask(s->db, "disk", "SELECT count(*) FROM %s.sqlite_master") == 0)
            rc = SQLITE_CORRUPT;
    }
    if (rc == SQLITE_OK)
        set_file_limits(s);
    else
        store_detach(s);
    return rc;
}

/* The file is this run's, or nobody's yet. */
bool store_belongs(struct store *s)
{
    sqlite3_stmt *st = store_prepare(s->db, "disk", "SELECT id FROM %s.run");
    bool ours = true;
    if (st && sqlite3_step(st) == SQLITE_ROW) {
        const char *id = (const char *)sqlite3_column_text(st, 0);
        ours = !id || !*id || strcmp(id, s->run_id) == 0;
    }
    sqlite3_finalize(st);
    return ours;
}

/*
 * Somebody removed the file while we write it: what it holds is still there as long as we have it
 * open, and goes into a new file of that name. Between transactions only. False: it could not be
 * written.
 */
bool store_keep_linked(struct store *s)
{
    struct stat st;
    if (s->lock < 0 || fstat(s->lock, &st) != 0 || st.st_nlink > 0)
        return true;
    int fd = open(s->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return false;
    close(fd);
    sqlite3_stmt *copy = store_prepare(s->db, "disk", "VACUUM %s INTO ?");
    sqlite3_bind_text(copy, 1, s->path, -1, SQLITE_TRANSIENT);
    int rc = copy ? store_finish(copy) : SQLITE_ERROR;
    sqlite3_finalize(copy);
    if (rc == SQLITE_OK) {
        store_detach(s);
        rc = store_attach(s);
    } else {
        unlink(s->path);
    }
    if (rc == SQLITE_OK)
        store_tell(s,
                   "store %s: it was removed while the run goes on; written again, nothing is lost",
                   s->path);
    return rc == SQLITE_OK;
}

static char *column_copy(sqlite3_stmt *st, int column)
{
    const char *text = (const char *)sqlite3_column_text(st, column);
    return text ? copy_text(text, (size_t)sqlite3_column_bytes(st, column)) : NULL;
}

static int32_t column_known(sqlite3_stmt *st, int column)
{
    return sqlite3_column_type(st, column) == SQLITE_NULL ? -1 : sqlite3_column_int(st, column);
}

static void read_run(struct store *s)
{
    sqlite3_stmt *st = store_prepare(
        s->db, "disk",
        "SELECT command, settings, host, pid, start_ns, end_ns, exit_code, signal, clean, as_of_ns,"
        " lives, supervisor, supervisor_start FROM %s.run");
    if (st && sqlite3_step(st) == SQLITE_ROW) {
        struct run *r = &s->run;
        r->command = column_copy(st, 0);
        r->settings = column_copy(st, 1);
        r->host = column_copy(st, 2);
        r->pid = sqlite3_column_int(st, 3);
        r->start_ns = (uint64_t)sqlite3_column_int64(st, 4);
        r->end_ns = (uint64_t)sqlite3_column_int64(st, 5);
        r->exit_code = column_known(st, 6);
        r->signal = column_known(st, 7);
        r->clean = sqlite3_column_int(st, 8);
        r->as_of_ns = (uint64_t)sqlite3_column_int64(st, 9);
        r->lives = (uint32_t)sqlite3_column_int(st, 10);
        r->supervisor = sqlite3_column_int(st, 11);
        r->supervisor_start = (uint64_t)sqlite3_column_int64(st, 12);
    }
    sqlite3_finalize(st);
}

static void read_ledgers(struct store *s)
{
    static const char *const reasons[] = {"disk full",
                                          "locked by another program",
                                          "damaged",
                                          "disk error",
                                          "cannot be opened for writing",
                                          "held by a reader",
                                          "size",
                                          "queue"};
    for (size_t i = 0; i < sizeof reasons / sizeof *reasons; i++) {
        char sql[128];
        snprintf(sql, sizeof sql, "SELECT count FROM %%s.shed WHERE reason = '%s'", reasons[i]);
        store_count_shed(s, reasons[i], store_ask(s->db, "disk", sql));
    }
    sqlite3_stmt *st = store_prepare(s->db, "disk", "SELECT * FROM %s.documents");
    for (int i = 0; st && i < OUTPUTS && sqlite3_step(st) == SQLITE_ROW; i++) {
        struct documents *d = &s->output[i].documents;
        uint64_t *const to_field[] = {&d->carried,        &d->accepted,     &d->acknowledged,
                                      &d->duplicates,     &d->dead,         &d->queued,
                                      &d->dropped_memory, &d->dropped_exit, &d->dropped_refused,
                                      &d->totals_through};
        s->output[i].name = column_copy(st, 0);
        for (int f = 0; f < 10; f++)
            *to_field[f] = (uint64_t)sqlite3_column_int64(st, f + 1);
    }
    sqlite3_finalize(st);
}

/* What an earlier collector of this run left. */
static void take_over(struct store *s)
{
    struct store_resume *r = &s->resume;
    sqlite3 *db = s->db;
    r->lives = s->run.lives;
    r->run_start_ns = s->run.start_ns;
    r->as_of_ns = s->run.as_of_ns;
    r->last_interval = (uint32_t)store_ask(db, "disk", "SELECT max(interval) FROM %s.interval");
    r->last_stack = (uint32_t)store_ask(db, "disk", "SELECT max(stack) FROM %s.stack");
    r->last_process = (uint32_t)store_ask(db, "disk", "SELECT max(process) FROM %s.process");
    r->written = store_ask(db, "disk", "SELECT sum(written) FROM %s.interval");
    r->drained = store_ask(db, "disk", "SELECT sum(drained) FROM %s.interval");
    r->late = store_ask(db, "disk", "SELECT sum(late) FROM %s.interval");
    for (int i = 0; i < LOSS_COUNT; i++) {
        char sql[128];
        snprintf(sql, sizeof sql,
                 "SELECT sum(count) FROM %%s.loss WHERE stage = 'recorder' AND reason = '%s'",
                 loss_names[i]);
        r->lost[i] = store_ask(db, "disk", sql);
    }
    s->process.last = r->last_process;
    s->endpoint.last = (uint32_t)store_ask(db, "disk", "SELECT max(endpoint) FROM %s.endpoint");
    s->last_interval = r->last_interval;
    read_ledgers(s);
    /* an interval that the dead one left open will not be written again */
    store_run_sql(db, "disk", "UPDATE %s.interval SET closed = 1");
}

static void open_file(struct store *s)
{
    int rc = store_attach(s);
    bool other =
        rc == SQLITE_LOCKED || rc == SQLITE_NOTADB || (rc == SQLITE_OK && !store_belongs(s));
    if (other) { /* somebody was faster, or the file changed since it was chosen */
        char message[PATH_MAX + 256], path[PATH_MAX];
        store_detach(s);
        if (store_choose_path(s->path, path, sizeof path, message, sizeof message) >= 0) {
            if (*message)
                store_tell(s, "%s", message);
            memcpy(s->path, path, sizeof path);
            rc = store_attach(s);
        }
    }
    if (rc != SQLITE_OK) {
        s->fault = rc;
        s->why = store_fault_word(rc);
        s->retry_ns = clock_monotonic_ns() + store_retry_ns;
        store_tell(s, "store %s: %s; totals are kept in memory, sampled requests are dropped",
                   s->path, s->why);
        return;
    }
    read_run(s);
    s->target = TO_DISK;
    if (s->run.lives)
        take_over(s);
}

/* One thread at a time has the connection: its mutex would cost a third of a row. */
static int open_memory(struct store *s)
{
    int rc = sqlite3_open_v2(":memory:", &s->db,
                             SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL);
    return rc == SQLITE_OK ? store_create(s->db, "main") : rc;
}

struct store *store_open(const char *path, const char *run_id, uint64_t max_bytes, store_say_fn say,
                         void *say_to)
{
    struct store *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    s->say = say;
    s->say_to = say_to;
    s->lock = -1;
    s->max_bytes = max_bytes ? max_bytes : UINT64_C(256) << 20;
    s->run.exit_code = s->run.signal = -1;
    snprintf(s->run_id, sizeof s->run_id, "%s", run_id ? run_id : "");
    snprintf(s->path, sizeof s->path, "%s", path ? path : "none");
    s->none = strcmp(s->path, "none") == 0;
    if (open_memory(s) != SQLITE_OK) {
        sqlite3_close(s->db);
        free(s);
        return NULL;
    }
    sqlite3_busy_timeout(s->db, STORE_WAIT_MS);
    if (!s->none)
        open_file(s);
    s->run.lives = s->resume.lives + 1;
    s->run.end_ns = 0; /* of a collector that thought it was the last */
    s->resume.first_sequence = (uint64_t)s->resume.lives << 40 | 1;
    memcpy(s->run.id, s->run_id, sizeof s->run.id);
    return s;
}

void store_resume(const struct store *s, struct store_resume *out)
{
    *out = s->resume;
}

void store_resume_processes(struct store *s, void (*each)(void *to, const struct store_process *),
                            void *to_whom)
{
    if (!s->attached)
        return;
    sqlite3_stmt *st = store_prepare(
        s->db, "disk",
        "SELECT process, pid, end_ns IS NOT NULL, start_ns, allocated, freed, allocations,"
        " coalesce(cpu_ns, 0) FROM %s.process WHERE merged = 1 ORDER BY process");
    while (st && sqlite3_step(st) == SQLITE_ROW) {
        struct store_process p = {.process = (uint32_t)sqlite3_column_int64(st, 0),
                                  .pid = sqlite3_column_int(st, 1),
                                  .ended = sqlite3_column_int(st, 2) != 0,
                                  .start_ns = (uint64_t)sqlite3_column_int64(st, 3),
                                  .allocated = (uint64_t)sqlite3_column_int64(st, 4),
                                  .freed = (uint64_t)sqlite3_column_int64(st, 5),
                                  .allocations = (uint64_t)sqlite3_column_int64(st, 6),
                                  .cpu_ns = (uint64_t)sqlite3_column_int64(st, 7)};
        each(to_whom, &p);
    }
    sqlite3_finalize(st);
}

const char *store_path(const struct store *s)
{
    return s->none || !s->attached ? "none" : s->path;
}

struct sqlite3 *store_connection(struct store *s)
{
    return s->db;
}

static int to_errno(int code)
{
    switch (code & 0xff) {
    case SQLITE_OK:
        return 0;
    case SQLITE_FULL:
        return -ENOSPC;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return -EBUSY;
    default:
        return -EIO;
    }
}

int store_close(struct store *s)
{
    if (!s)
        return 0;
    s->retry_ns = 0; /* a last try */
    store_commit(s);
    int rc = s->target == TO_DISK || s->none ? 0 : to_errno(s->fault ? s->fault : SQLITE_ERROR);
    store_forget_statements(s, SCHEMA_MEMORY);
    store_forget_statements(s, SCHEMA_DISK);
    if (s->attached && s->target == TO_DISK) {
        sqlite3_busy_timeout(s->db, 200);
        store_run_sql(s->db, "disk", "PRAGMA %s.incremental_vacuum(65536)");
        /* a reader keeps the log alive; the last to leave folds it in */
        store_run_sql(s->db, "disk", "PRAGMA %s.journal_mode=DELETE");
    }
    store_detach(s);
    sqlite3_close(s->db);
    for (int i = 0; i < OUTPUTS; i++)
        free(s->output[i].name);
    free(s->run.command);
    free(s->run.settings);
    free(s->run.host);
    free(s->process.to);
    free(s->endpoint.to);
    free(s->pending);
    free(s);
    return rc;
}
