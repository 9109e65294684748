/*
 * store_tables.h - what store.c, store_file.c and store_shrink.c share: the tables and a few ways
 * to SQLite.
 *
 * In:      those three                          Out: SQLite
 * Context: as store.h
 */
#ifndef SONDE_STORE_TABLES_H
#define SONDE_STORE_TABLES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sqlite3.h>

enum { SCHEMA_MEMORY, SCHEMA_DISK, SCHEMAS };
extern const char *const schema_names[SCHEMAS]; /* "main", "disk" */

/* A statement with `%s` wherever the schema's name stands; NULL: could not be prepared. */
sqlite3_stmt *store_prepare(sqlite3 *, const char *schema, const char *sql);
int store_run_sql(sqlite3 *, const char *schema, const char *sql); /* SQLITE_OK or SQLite's code */
uint64_t store_ask(sqlite3 *, const char *schema,
                   const char *sql); /* first column of the first row, 0 none */

/* What a statement has bound since it was prepared. Bindings outlive a reset, so the same value need not be bound again. */
struct bound {
    enum { BOUND_OTHER, BOUND_INTEGER, BOUND_NULL } kind[64];
    uint64_t value[64];
};

/* Values bound one after the other. */
struct binder {
    sqlite3_stmt *st;
    int n;
    struct bound *bound; /* NULL: all are bound each time */
};
static inline void bind_u64(struct binder *b, uint64_t v)
{
    int n = ++b->n;
    if (b->bound && b->bound->kind[n] == BOUND_INTEGER && b->bound->value[n] == v)
        return;
    sqlite3_bind_int64(b->st, n, (sqlite3_int64)v);
    if (b->bound) {
        b->bound->kind[n] = BOUND_INTEGER;
        b->bound->value[n] = v;
    }
}
static inline void bind_null(struct binder *b)
{
    int n = ++b->n;
    if (b->bound && b->bound->kind[n] == BOUND_NULL)
        return;
    sqlite3_bind_null(b->st, n);
    if (b->bound)
        b->bound->kind[n] = BOUND_NULL;
}
static inline void bind_unless(struct binder *b, uint64_t v, uint64_t unknown)
{
    if (v == unknown)
        bind_null(b);
    else
        bind_u64(b, v);
}
static inline void bind_text(struct binder *b, const char *text, size_t len)
{
    sqlite3_bind_text(b->st, ++b->n, text, (int)len, SQLITE_TRANSIENT);
}
static inline void bind_blob(struct binder *b, const void *bytes, size_t len)
{
    sqlite3_bind_blob(b->st, ++b->n, len ? bytes : "", (int)len, SQLITE_TRANSIENT);
}
/* The same for what stays where it is until the statement was stepped, without a copy. */
static inline void bind_text_here(struct binder *b, const char *text, size_t len)
{
    sqlite3_bind_text(b->st, ++b->n, text, (int)len, SQLITE_STATIC);
    if (b->bound)
        b->bound->kind[b->n] = BOUND_OTHER;
}
static inline void bind_blob_here(struct binder *b, const void *bytes, size_t len)
{
    sqlite3_bind_blob(b->st, ++b->n, bytes, (int)len, SQLITE_STATIC);
    if (b->bound)
        b->bound->kind[b->n] = BOUND_OTHER;
}
/* Steps once, resets; SQLITE_OK or the error. */
int store_finish(sqlite3_stmt *);

/* Sets the pragmas of a new file and makes the tables, for schema "main" or "disk". SQLITE_OK or
 * SQLite's code. */
int store_create(sqlite3 *, const char *schema);

enum file_kind { FILE_MISSING, FILE_EMPTY, FILE_OURS, FILE_FOREIGN };
enum file_kind store_file_kind(const char *path); /* -errno when it cannot be looked at */

/* Start time of a process in ticks of its /proc/PID/stat, 0: not there. Context: I, sink thread. */
uint64_t store_process_start(int pid);
/* Is the run of this store still going on? */
bool store_is_live(const char *path);
bool store_supervised(sqlite3 *, const char *schema);

/*
 * Merges intervals of `level` - 1 that are closed, above `floor` and below `ceiling` into ones of
 * `level` (1: five minutes, 2: all of them). In one transaction of its own. SQLITE_OK or SQLite's
 * code; *merged: how many went away.
 */
int store_roll(sqlite3 *, const char *schema, int level, uint64_t floor, uint64_t ceiling,
               int *merged);

#endif
