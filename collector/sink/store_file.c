/*
 * store_file.c - the store as a file: its tables, where it may lie, which older one makes way, is
 * it being written.
 *
 * In:      cli (store_choose_path), store.c          Out: the file system, SQLite
 * Context: I; store_create also in the sink thread
 * Failure: told in one line that names the remedy; no file that is not ours is ever written to or
 * renamed.
 *
 * Order in store_choose_path: look (is it ours, is it live) → close it properly → rename → make the
 * new one and reserve it with our pid as supervisor, so that another `sonde run` started meanwhile
 * takes another name.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "collector/sink/store.h"
#include "collector/sink/store_tables.h"

/* docs/store.md explains every column; a change here raises STORE_VERSION and is told there. */
static const char *const tables[] = {
    "CREATE TABLE %s.run(run INTEGER PRIMARY KEY, id TEXT, command TEXT, settings TEXT, host TEXT, "
    "version TEXT,"
    " pid INTEGER, start_ns INTEGER, end_ns INTEGER, exit_code INTEGER, signal INTEGER, clean "
    "INTEGER NOT NULL DEFAULT 0,"
    " as_of_ns INTEGER, lives INTEGER NOT NULL DEFAULT 0, supervisor INTEGER, supervisor_start "
    "INTEGER)",
    "CREATE TABLE %s.process(process INTEGER PRIMARY KEY, pid INTEGER, parent INTEGER, executable "
    "TEXT, service TEXT,"
    " start_ns INTEGER, end_ns INTEGER, exit_code INTEGER, signal INTEGER, allocated INTEGER, "
    "freed INTEGER,"
    " allocations INTEGER, cpu_ns INTEGER, merged INTEGER, heap_tail_unknown INTEGER, flags "
    "INTEGER)",
    "CREATE TABLE %s.endpoint(endpoint INTEGER PRIMARY KEY, service TEXT, protocol TEXT, side "
    "TEXT, name TEXT,"
    " merged_into INTEGER, UNIQUE(service, protocol, side, name))",
    "CREATE TABLE %s.interval(interval INTEGER PRIMARY KEY, level INTEGER NOT NULL, closed INTEGER "
    "NOT NULL,"
    " start_ns INTEGER, end_ns INTEGER, written INTEGER, drained INTEGER, late INTEGER, accepted "
    "INTEGER,"
    " opened INTEGER, inherited INTEGER, bytes_in INTEGER, bytes_out INTEGER, outside_in INTEGER, "
    "outside_out INTEGER,"
    " outside_allocated INTEGER, outside_freed INTEGER, outside_allocations INTEGER, "
    "outside_cpu_ns INTEGER, unseen_cpu_ns INTEGER)",
    "CREATE TABLE %s.loss(interval INTEGER, stage TEXT, reason TEXT, count INTEGER,"
    " PRIMARY KEY(interval, stage, reason)) WITHOUT ROWID",
    "CREATE TABLE %s.total(interval INTEGER, endpoint INTEGER, class TEXT, count INTEGER, errors "
    "INTEGER,"
    " unobserved INTEGER, inferred INTEGER, shared INTEGER, bytes_in INTEGER, bytes_out INTEGER, "
    "body_in INTEGER,"
    " body_out INTEGER, latency_sum INTEGER, latency_min INTEGER, latency_max INTEGER, latency_p50 "
    "INTEGER,"
    " latency_p90 INTEGER, latency_p95 INTEGER, latency_p99 INTEGER, latency_p999 INTEGER, "
    "first_count INTEGER,"
    " first_sum INTEGER, first_min INTEGER, first_max INTEGER, first_p50 INTEGER, first_p90 "
    "INTEGER,"
    " first_p95 INTEGER, first_p99 INTEGER, first_p999 INTEGER, allocated INTEGER, freed INTEGER, "
    "allocations INTEGER,"
    " retained INTEGER, retained_samples INTEGER, cpu_ns INTEGER, lock_ns INTEGER, disk_ns INTEGER, sleep_ns INTEGER, "
    "downstream_ns INTEGER,"
    " wall_cpu_ns INTEGER, wall_lock_ns INTEGER, wall_disk_ns INTEGER, wall_sleep_ns INTEGER,"
    " runqueue_ns INTEGER, unknown_ns INTEGER, cpu_count INTEGER, waits_count INTEGER,"
    " latency BLOB NOT NULL, first BLOB NOT NULL, heap BLOB, cpu BLOB,"
    " PRIMARY KEY(interval, endpoint, class)) WITHOUT ROWID",
    "CREATE TABLE %s.status(interval INTEGER, endpoint INTEGER, status INTEGER, count INTEGER,"
    " PRIMARY KEY(interval, endpoint, status)) WITHOUT ROWID",
    "CREATE TABLE %s.span(span INTEGER PRIMARY KEY, endpoint INTEGER, process INTEGER, pid "
    "INTEGER, tid INTEGER,"
    " trace BLOB, id INTEGER, parent INTEGER, start_ns INTEGER, duration_ns INTEGER, queue_ns "
    "INTEGER,"
    " receive_ns INTEGER, work_ns INTEGER, first_ns INTEGER, send_ns INTEGER, downstream_ns "
    "INTEGER, status INTEGER,"
    " error TEXT, failed INTEGER, answered INTEGER, verb TEXT, target TEXT, peer TEXT, bytes_in "
    "INTEGER,"
    " bytes_out INTEGER, body_in INTEGER, body_out INTEGER, allocated INTEGER, freed INTEGER, "
    "allocations INTEGER,"
    " retained INTEGER, cpu_ns INTEGER, lock_ns INTEGER, disk_ns INTEGER, sleep_ns INTEGER, wall_cpu_ns "
    "INTEGER,"
    " wall_lock_ns INTEGER, wall_disk_ns INTEGER, wall_sleep_ns INTEGER, runqueue_ns INTEGER, "
    "unknown_ns INTEGER,"
    " shared INTEGER, inferred INTEGER, why TEXT, rate REAL)",
    "CREATE TABLE %s.in_flight(span INTEGER PRIMARY KEY, pid INTEGER, tid INTEGER, endpoint TEXT, "
    "start_ns INTEGER,"
    " age_ns INTEGER, call TEXT)",
    "CREATE TABLE %s.unread(life INTEGER, address TEXT, reason TEXT, connections INTEGER, bytes_in "
    "INTEGER,"
    " bytes_out INTEGER, PRIMARY KEY(life, address, reason)) WITHOUT ROWID",
    "CREATE TABLE %s.shed(reason TEXT PRIMARY KEY, count INTEGER) WITHOUT ROWID",
    "CREATE TABLE %s.documents(output TEXT PRIMARY KEY, carried INTEGER, accepted INTEGER, "
    "acknowledged INTEGER,"
    " duplicates INTEGER, dead INTEGER, queued INTEGER, dropped_memory INTEGER, dropped_exit "
    "INTEGER,"
    " dropped_refused INTEGER, totals_through INTEGER) WITHOUT ROWID",
    "CREATE TABLE %s.stack(stack INTEGER PRIMARY KEY, frames TEXT, end TEXT)",
    "CREATE TABLE %s.site(endpoint INTEGER, stack INTEGER, kind TEXT, samples INTEGER, amount "
    "INTEGER,"
    " live_samples INTEGER, live_bytes INTEGER, oldest_ns INTEGER, retained_samples INTEGER,"
    " retained_bytes INTEGER, ended_samples INTEGER, ended_bytes INTEGER,"
    " PRIMARY KEY(endpoint, stack, kind)) WITHOUT ROWID",
    "CREATE TABLE %s.site_live(interval INTEGER, endpoint INTEGER, stack INTEGER, requests "
    "INTEGER,"
    " live_samples INTEGER, live_bytes INTEGER, PRIMARY KEY(interval, endpoint, stack)) WITHOUT "
    "ROWID",
    "CREATE VIEW %s.requests AS SELECT e.service, e.protocol, e.side, m.name AS endpoint, "
    "sum(t.count) AS count,"
    " sum(t.errors) AS errors, sum(t.bytes_in) AS bytes_in, sum(t.bytes_out) AS bytes_out,"
    " sum(t.latency_sum) / sum(t.count) AS latency_mean_ns, max(t.latency_max) AS latency_max_ns,"
    " sum(t.allocated) AS allocated, sum(t.freed) AS freed"
    " FROM total t JOIN endpoint e ON e.endpoint = t.endpoint"
    " JOIN endpoint m ON m.endpoint = coalesce(e.merged_into, e.endpoint) GROUP BY m.endpoint "
    "ORDER BY count DESC",
};

const char *const schema_names[SCHEMAS] = {"main", "disk"};

sqlite3_stmt *store_prepare(sqlite3 *db, const char *schema, const char *sql)
{
    char text[4096], *to = text, *end = text + sizeof text - 1;
    size_t name = strlen(schema);
    while (*sql && to < end - name) {
        if (sql[0] == '%' && sql[1] == 's') {
            memcpy(to, schema, name);
            to += name;
            sql += 2;
        } else {
            *to++ = *sql++;
        }
    }
    *to = 0;
    sqlite3_stmt *st = NULL;
    if (*sql || sqlite3_prepare_v2(db, text, -1, &st, NULL) != SQLITE_OK)
        return NULL;
    return st;
}

int store_finish(sqlite3_stmt *st)
{
    int rc = sqlite3_step(st);
    sqlite3_reset(st);
    return rc == SQLITE_DONE || rc == SQLITE_ROW ? SQLITE_OK : rc;
}

int store_run_sql(sqlite3 *db, const char *schema, const char *sql)
{
    sqlite3_stmt *st = store_prepare(db, schema, sql);
    if (!st)
        return sqlite3_extended_errcode(db);
    int rc = store_finish(st);
    sqlite3_finalize(st);
    return rc;
}

uint64_t store_ask(sqlite3 *db, const char *schema, const char *sql)
{
    sqlite3_stmt *st = store_prepare(db, schema, sql);
    uint64_t value =
        st && sqlite3_step(st) == SQLITE_ROW ? (uint64_t)sqlite3_column_int64(st, 0) : 0;
    sqlite3_finalize(st);
    return value;
}

int store_create(sqlite3 *db, const char *schema)
{
    static const char *const pragmas[] = {
        "PRAGMA %s.page_size=4096",
        "PRAGMA %s.auto_vacuum=INCREMENTAL",
        "PRAGMA %s.journal_mode=WAL",
    };
    char text[96];
    for (size_t i = 0; i < sizeof pragmas / sizeof *pragmas; i++) {
        int rc = store_run_sql(db, schema, pragmas[i]);
        if (rc != SQLITE_OK)
            return rc;
    }
    int rc = store_run_sql(db, schema, "BEGIN IMMEDIATE");
    snprintf(text, sizeof text, "PRAGMA %%s.application_id=%d", STORE_APPLICATION_ID);
    if (rc == SQLITE_OK)
        rc = store_run_sql(db, schema, text);
    snprintf(text, sizeof text, "PRAGMA %%s.user_version=%d", STORE_VERSION);
    if (rc == SQLITE_OK)
        rc = store_run_sql(db, schema, text);
    for (size_t i = 0; i < sizeof tables / sizeof *tables && rc == SQLITE_OK; i++)
        rc = store_run_sql(db, schema, tables[i]);
    if (rc == SQLITE_OK)
        rc = store_run_sql(db, schema, "COMMIT");
    if (rc != SQLITE_OK)
        store_run_sql(db, schema, "ROLLBACK");
    return rc;
}

/* --- what lies there --- */

/* The header is read by hand: SQLite would take a WAL's part for a reason to write. */
enum file_kind store_file_kind(const char *path)
{
    unsigned char head[72];
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return errno == ENOENT ? FILE_MISSING : FILE_FOREIGN;
    struct stat st;
    ssize_t n = fstat(fd, &st) == 0 && S_ISREG(st.st_mode) ? pread(fd, head, sizeof head, 0) : -1;
    close(fd);
    if (n == 0)
        return FILE_EMPTY;
    if (n < (ssize_t)sizeof head || memcmp(head, "SQLite format 3", 16) != 0)
        return FILE_FOREIGN;
    uint32_t id =
        (uint32_t)head[68] << 24 | (uint32_t)head[69] << 16 | (uint32_t)head[70] << 8 | head[71];
    if (id == STORE_APPLICATION_ID)
        return FILE_OURS;
    /* a first commit that still stands in the write-ahead log alone */
    char log[PATH_MAX];
    return id == 0 && snprintf(log, sizeof log, "%s-wal", path) < (int)sizeof log &&
                   access(log, F_OK) == 0 && st.st_size <= 4096
               ? FILE_OURS
               : FILE_FOREIGN;
}

uint64_t store_process_start(int pid)
{
    char path[64], line[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    FILE *f = fopen(path, "re");
    if (!f)
        return 0;
    size_t n = fread(line, 1, sizeof line - 1, f);
    fclose(f);
    line[n] = 0;
    char *at = strrchr(line, ')'); /* the name before it may hold anything */
    unsigned long long start = 0;
    if (!at || at[1] == 0 || at[2] == 'Z' ||
        sscanf(at + 2,
               "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu",
               &start) != 1)
        return 0;
    return start;
}

bool store_supervised(sqlite3 *db, const char *schema)
{
    sqlite3_stmt *st = store_prepare(
        db, schema,
        "SELECT supervisor, supervisor_start FROM %s.run WHERE run = 1 AND end_ns IS NULL");
    bool yes = false;
    if (st && sqlite3_step(st) == SQLITE_ROW) {
        int pid = sqlite3_column_int(st, 0);
        uint64_t start = (uint64_t)sqlite3_column_int64(st, 1);
        yes = pid > 0 && start && store_process_start(pid) == start;
    }
    sqlite3_finalize(st);
    return yes;
}

static bool is_locked(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    bool locked = flock(fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK;
    close(fd); /* gives the lock back */
    return locked;
}

bool store_is_live(const char *path)
{
    if (store_file_kind(path) != FILE_OURS)
        return false;
    if (is_locked(path))
        return true;
    sqlite3 *db;
    bool live = sqlite3_open_v2(path, &db, SQLITE_OPEN_READONLY, NULL) == SQLITE_OK &&
                store_supervised(db, "main");
    sqlite3_close(db);
    return live;
}

/* --- an older store makes way --- */

/* Folds the write-ahead log in and lets go of the file. -EBUSY: somebody reads it now. */
static int settle(const char *path)
{
    sqlite3 *db;
    int rc = sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, NULL);
    if (rc == SQLITE_OK) {
        sqlite3_busy_timeout(db, 1000);
        rc = store_run_sql(db, "main", "PRAGMA %s.journal_mode=DELETE");
        if (rc == SQLITE_OK) { /* what a killed collector could not write */
            char log[PATH_MAX];
            if (snprintf(log, sizeof log, "%s-wal", path) < (int)sizeof log &&
                access(log, F_OK) == 0)
                rc = SQLITE_BUSY;
        }
    }
    sqlite3_close(db);
    return (rc & 0xff) == SQLITE_BUSY || (rc & 0xff) == SQLITE_LOCKED ? -EBUSY : 0;
}

static void move_with_log(const char *from, const char *to)
{
    static const char *const tail[] = {"-wal", "-shm", "-journal"};
    char a[PATH_MAX + 16], b[PATH_MAX + 16];
    for (size_t i = 0; i < sizeof tail / sizeof *tail;
         i++) { /* only a damaged store still has one */
        snprintf(a, sizeof a, "%s%s", from, tail[i]);
        snprintf(b, sizeof b, "%s%s", to, tail[i]);
        unlink(b);
        rename(a, b);
    }
    rename(from, to);
}

/* `path` → .old → .old.2 → .old.3; names that other people's files have are left out. */
static int keep_older(const char *path)
{
    char slot[3][PATH_MAX];
    int slots = 0;
    for (int i = 1; i <= 3; i++) {
        char name[PATH_MAX];
        int n = i == 1 ? snprintf(name, sizeof name, "%s.old", path)
                       : snprintf(name, sizeof name, "%s.old.%d", path, i);
        if (n >= (int)sizeof name)
            return -ENAMETOOLONG;
        enum file_kind kind = store_file_kind(name);
        if (kind == FILE_MISSING || (kind == FILE_OURS && !store_is_live(name)))
            memcpy(slot[slots++], name, sizeof name);
    }
    if (slots == 0)
        return -EEXIST;
    int gap = 0; /* the first free one: those behind it stay */
    while (gap < slots - 1 && access(slot[gap], F_OK) == 0)
        gap++;
    for (int i = gap; i > 0; i--)
        move_with_log(slot[i - 1], slot[i]);
    move_with_log(path, slot[0]);
    return access(path, F_OK) == 0 ? -EACCES : 0;
}

/* --- a place for the new one --- */

/* Makes the file with its tables and a run that only names its supervisor. 0 or -errno. */
static int reserve(const char *path)
{
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return -errno;
    int rc = fchmod(fd, 0600) == 0 ? 0 : -errno;
    close(fd);
    sqlite3 *db = NULL;
    if (rc == 0) {
        int code = sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, NULL);
        if (code == SQLITE_OK)
            code = store_create(db, "main");
        sqlite3_stmt *st = NULL;
        if (code == SQLITE_OK)
            st = store_prepare(
                db, "main",
                "INSERT INTO %s.run(run, supervisor, supervisor_start) VALUES(1, ?, ?)");
        if (st) {
            struct binder b = {st, 0, NULL};
            bind_u64(&b, (uint64_t)getpid());
            bind_u64(&b, store_process_start(getpid()));
            code = store_finish(st);
        }
        sqlite3_finalize(st);
        if (code != SQLITE_OK)
            rc = (code & 0xff) == SQLITE_FULL ? -ENOSPC : -EIO;
        sqlite3_close(db);
    }
    if (rc != 0) { /* nothing half made is left */
        char log[PATH_MAX + 16];
        snprintf(log, sizeof log, "%s-wal", path);
        unlink(log);
        snprintf(log, sizeof log, "%s-shm", path);
        unlink(log);
        unlink(path);
    }
    return rc;
}

/* As `path`, its name's end replaced: sonde-PID.db in the same folder. */
static int own_name(const char *path, char *out, size_t room)
{
    const char *slash = strrchr(path, '/');
    int folder = slash ? (int)(slash - path) + 1 : 0;
    return snprintf(out, room, "%.*ssonde-%d.db", folder, path, (int)getpid()) < (int)room
               ? 0
               : -ENAMETOOLONG;
}

struct choice {
    char *out, *message;
    size_t room, message_room;
};

/* Takes `path` if it is free or can be made free. 0; 1 another name in its folder; -errno. */
static int take(const struct choice *c, const char *path, bool foreign_is_fault)
{
    enum file_kind kind = store_file_kind(path);
    const char *why = NULL;
    if (kind == FILE_FOREIGN && (foreign_is_fault || access(path, F_OK) != 0))
        return access(path, F_OK) == 0 ? -EEXIST : -errno;
    if (kind == FILE_FOREIGN)
        why = "is not a store of sonde";
    else if (kind == FILE_OURS && store_is_live(path))
        why = "is being written by another run";
    else if (kind == FILE_OURS && settle(path) == -EBUSY)
        why = "is open in another program";
    else if (kind == FILE_OURS) {
        int rc = keep_older(path);
        if (rc == -EEXIST)
            why = "cannot be kept as .old: other files have that name";
        else if (rc != 0)
            return rc;
    }
    if (!why) {
        int rc = reserve(path);
        if (rc == 0)
            snprintf(c->out, c->room, "%s", path);
        return rc;
    }
    char own[PATH_MAX];
    int rc = own_name(path, own, sizeof own);
    if (rc == 0 && store_file_kind(own) == FILE_OURS && !store_is_live(own) && settle(own) == 0)
        rc = keep_older(own); /* the pid came round again */
    if (rc == 0 && store_file_kind(own) == FILE_FOREIGN)
        rc = -EEXIST;
    if (rc == 0)
        rc = reserve(own);
    if (rc != 0)
        return rc;
    snprintf(c->out, c->room, "%s", own);
    snprintf(c->message, c->message_room, "%s %s; this run is stored in %s", path, why, own);
    return 1;
}

/* /tmp/sonde-UID, which must be a folder that belongs to us alone. */
static bool own_temporary(char *out, size_t room)
{
    const char *base = getenv("TMPDIR");
    snprintf(out, room, "%s/sonde-%u", base && *base == '/' ? base : "/tmp", (unsigned)geteuid());
    struct stat st;
    if (mkdir(out, 0700) != 0 && errno != EEXIST)
        return false;
    return lstat(out, &st) == 0 && S_ISDIR(st.st_mode) && st.st_uid == geteuid() &&
           (st.st_mode & 022) == 0;
}

static const char *remedy(int error)
{
    switch (error) {
    case ENOENT:
        return "its folder does not exist; make it, or choose another with -o";
    case EACCES:
    case EPERM:
    case EROFS:
        return "the folder cannot be written; choose another with -o";
    case ENOSPC:
    case EDQUOT:
        return "no space is left there; choose another disk with -o";
    case EISDIR:
        return "it is a folder; name a file with -o";
    case ELOOP:
        return "it is a symbolic link; name the file itself with -o";
    default:
        return "choose another place with -o";
    }
}

static int refuse(const struct choice *c, const char *path, int rc)
{
    struct stat st;
    if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
        rc = -EISDIR;
    if (rc == -EEXIST)
        snprintf(c->message, c->message_room, "%s is no store of sonde and is left as it is; choose another name with -o", path);
    else
        snprintf(c->message, c->message_room, "cannot write the store %s: %s (%s)", path, strerror(-rc), remedy(-rc));
    return rc;
}

int store_choose_path(const char *wanted, char *out, size_t room, char *message,
                      size_t message_bytes)
{
    struct choice c = {out, message, room, message_bytes};
    snprintf(message, message_bytes, "%s", "");
    if (wanted && strcmp(wanted, "none") == 0)
        return snprintf(out, room, "none"), 0;
    if (wanted && *wanted) {
        int rc = take(&c, wanted, true);
        return rc < 0 ? refuse(&c, wanted, rc) : rc;
    }
    char folder[4][PATH_MAX / 2] = {"."};
    const char *state = getenv("STATE_DIRECTORY"), *home = getenv("XDG_STATE_HOME");
    if (state && *state == '/') /* systemd: several folders are separated by colons */
        snprintf(folder[1], sizeof folder[1], "%.*s", (int)strcspn(state, ":"), state);
    if (home && *home == '/')
        snprintf(folder[2], sizeof folder[2], "%s", home);
    int first = 0;
    for (int i = 0; i < 4; i++) {
        char path[PATH_MAX];
        if (i == 3 && !own_temporary(folder[3], sizeof folder[3]))
            break;
        if (folder[i][0] == 0)
            continue;
        if (snprintf(path, sizeof path, "%s/sonde.db", folder[i]) >= (int)sizeof path)
            continue;
        int rc = take(&c, path, false);
        if (rc == 0 && i > 0) {
            snprintf(message, message_bytes,
                     "cannot write in this folder (%s); this run is stored in %s", strerror(-first),
                     path);
            return 1;
        }
        if (rc >= 0)
            return rc;
        if (first == 0)
            first = rc;
    }
    return refuse(&c, "./sonde.db", first);
}
