/*
 * report_file.c - a report from a file, opened read-only; what is wrong with it, in words that name
 * the remedy.
 *
 * In:      cli/report.c                         Out: report_load.c
 * Context: I
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "collector/report_loader.h"
#include "collector/sink/store.h"

/* Of the store's own words: which version it has, and who wrote it. */
static void explain_version(const char *path, char *message, size_t room)
{
    sqlite3 *db;
    char by[64] = "another version of sonde";
    uint64_t version = 0;
    if (sqlite3_open_v2(path, &db, SQLITE_OPEN_READONLY, NULL) == SQLITE_OK) {
        sqlite3_stmt *st = store_prepare(db, "main", "SELECT version FROM %s.run");
        version = store_ask(db, "main", "PRAGMA %s.user_version");
        if (st && sqlite3_step(st) == SQLITE_ROW && sqlite3_column_text(st, 0))
            snprintf(by, sizeof by, "sonde %.40s", (const char *)sqlite3_column_text(st, 0));
        sqlite3_finalize(st);
    }
    sqlite3_close(db);
    snprintf(message, room,
             "%s has tables of version %llu, by %s; this sonde reads version %d: read it with that one, or with "
             "`sqlite3 %s 'SELECT * FROM requests'`",
             path, (unsigned long long)version, by, STORE_VERSION, path);
}

static int explain(const char *path, int rc, char *message, size_t room)
{
    switch (rc) {
    case -ENOENT:
        snprintf(message, room,
                 "no store at %s: name the one you mean, or make one with `sonde run CMD...`",
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
    case -EPROTONOSUPPORT:
        explain_version(path, message, room);
        break;
    case -EISDIR:
        snprintf(message, room, "%s is a folder; name the store in it", path);
        break;
    case -EACCES:
    case -EPERM:
        snprintf(message, room, "cannot read %s: %s; a store is its user's alone (mode 0600): become that user, or root", path,
                 strerror(-rc));
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

static void bury_documents(struct report *r)
{
    for (int i = 0; i < r->outputs && r->abandoned;
         i++) { /* what waited in memory died with the collector */
        r->output[i].dropped_collector += r->output[i].documents.queued;
        r->output[i].documents.queued = 0;
    }
}

static int open_and_load(const char *name, int flags, const struct report_query *query,
                         struct report **out)
{
    sqlite3 *db;
    int rc = sqlite3_open_v2(name, &db, flags, NULL) == SQLITE_OK ? 0 : -EACCES;
    if (rc == 0) {
        sqlite3_busy_timeout(db, 5000);
        rc = store_ask(db, "main", "PRAGMA %s.user_version") != STORE_VERSION
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
    report_judge(*out);
    bury_documents(*out);
    return 0;
}
