/*
 * report_loader.h - a report that is being loaded: the connection, what is asked for, and small
 * ways to read rows.
 *
 * In:      report_load.c, report_endpoints.c, report_lists.c      Out: SQLite
 * Context: I, or the collector's last words
 * Failure: the first fault stands in `rc`; all that follows then does nothing.
 */
#ifndef SONDE_REPORT_LOADER_H
#define SONDE_REPORT_LOADER_H

#include "collector/report.h"
#include "collector/report_model.h"
#include "collector/sink/store_tables.h"

struct loader {
    sqlite3 *db;
    struct report *r;
    const struct report_query *query;
    uint64_t first_interval; /* intervals from here on count */
    uint32_t *root;          /* endpoint number → place in r->endpoint + 1 */
    uint32_t roots;
    int rc;
};

/* Memory that goes with the report; NULL: none. */
void *report_keep(struct report *, size_t bytes);
const char *load_text(struct loader *, sqlite3_stmt *, int column);
uint64_t load_u64(sqlite3_stmt *, int column);
uint64_t load_or(sqlite3_stmt *, int column, uint64_t unknown);
sqlite3_stmt *load_ask(struct loader *, const char *sql);
bool load_next(struct loader *, sqlite3_stmt *); /* steps; false: no more rows, or a fault */
/* Room for as many rows as `count_sql` tells, at most `most`. */
void *load_room(struct loader *, const char *count_sql, size_t size, int most);
uint32_t *load_root(struct loader *, uint64_t endpoint); /* place in r->endpoint + 1, 0: none */

/* A table's own name, or NULL: this store has none. A column's, or "NULL" for SQL: the table has none. */
const char *load_table(struct loader *, const char *table);
const char *load_column(struct loader *, const char *table, const char *column);

/* report_waits.c */
void load_measured(struct loader *);
/* report_sites.c */
void load_sites(struct loader *);
/* report_endpoints.c */
void load_endpoints(struct loader *);
void load_totals(struct loader *);
struct sketch;
void load_spread(struct report_latency *to, const struct sketch *from); /* an empty one leaves it */
void load_statuses(struct loader *);
/* report_lists.c */
void load_processes(struct loader *);
void load_unread(struct loader *);
void load_in_flight(struct loader *);
void load_slowest(struct loader *);
void load_errors(struct loader *);
void load_documents(struct loader *);
/* report_load.c: what follows from the rest, again when more is known (a file's lock) */
void report_judge(struct report *);

#endif
