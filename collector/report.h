/*
 * report.h - the report: loaded from a store's database, shown as text or JSON (docs/report.md "sonde
 * report --json").
 *
 * In:      sink/store.c's tables, through SQLite      Out: cli/report.c, the collector's last words
 * Only report_load knows SQLite; what it fills is plain memory.
 */
#ifndef SONDE_REPORT_H
#define SONDE_REPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct sqlite3;
struct report; /* fields in collector/report_model.h */

struct report_query {
    uint64_t since_ns; /* 0: the whole run */
    const char *sort;  /* "count", "time", "p99", "errors", "heap", "out", "kept", "cpu"; NULL count */
    int top;           /* endpoints shown, 0: as many as are useful (text 20, JSON all) */
    int slowest;       /* spans shown */
    bool sites;        /* the places in the code that stacks were sampled of */
    bool history;      /* and whether what lives of them grows */
};
struct report_style {
    int columns;
    bool colour, utf8;
    const char *store; /* path to show, NULL none */
};

/* 0, -ENODATA: no run in it, -EUCLEAN: damaged or no store of ours, -EAGAIN: busy too long. *out is
 * for report_free. */
int report_load(struct sqlite3 *, const struct report_query *, struct report **out);
/* As above from a file, read-only, in one short transaction. `message`: what is wrong and what to
 * do. -ENOENT: no file. */
int report_read(const char *path, const struct report_query *, struct report **out, char *message,
                size_t);
void report_free(struct report *);
int report_json(const struct report *, FILE *);
void report_text(const struct report *, const struct report_style *, FILE *); /* the summary */
void report_slowest_text(const struct report *, const struct report_style *,
                         FILE *); /* --slowest */
/* --memory, --cpu, --waits: one below the other */
enum report_view { REPORT_MEMORY = 1 << 0, REPORT_CPU = 1 << 1, REPORT_WAITS = 1 << 2 };
void report_views_text(const struct report *, const struct report_style *, unsigned views, FILE *);
/* `sonde leaks`; the query must have asked for sites and history */
void report_leaks_text(const struct report *, const struct report_style *, FILE *);
int report_leaks_json(const struct report *, FILE *);
bool report_is_complete(const struct report *);
uint64_t report_as_of(const struct report *); /* the last moment that it knows of, ns */

#endif
