/*
 * store_again.c - what an earlier collector of this run had stored and perhaps not delivered: its totals as rows again.
 *
 * In:      sinks.c, once, at a take-over        Out: SQLite (reading), rows for the outputs
 * Context: sink thread
 * Failure: what cannot be read is not told; the store has it all the same.
 *
 * Numbers of endpoints are the store's: the rows that name them come first. Sketches are left out, no output wants them.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "collector/sink/store_inside.h"

struct again {
    union {
        struct row row;
        uint8_t bytes[ROW_MAX_BYTES];
    };
};

static void *start_row(struct again *a, enum row_kind kind, size_t bytes)
{
    memset(a, 0, sizeof a->row + bytes);
    a->row.kind = (uint16_t)kind;
    a->row.bytes = (uint16_t)(sizeof a->row + ((bytes + 7) & ~(size_t)7));
    return &a->row + 1;
}

static size_t text_length(sqlite3_stmt *st, int column)
{
    size_t len = (size_t)sqlite3_column_bytes(st, column);
    return len < ROW_MAX_BYTES / 4 ? len : ROW_MAX_BYTES / 4;
}

static void copy_column(void *to, sqlite3_stmt *st, int column, size_t len)
{
    const unsigned char *text = sqlite3_column_text(st, column);
    if (text)
        memcpy(to, text, len);
}

static void endpoint_row(struct again *a, sqlite3_stmt *st)
{
    size_t service_len = text_length(st, 1), protocol_len = text_length(st, 2), name_len = text_length(st, 4);
    struct row_endpoint *e = start_row(a, ROW_ENDPOINT, sizeof *e + service_len + name_len);
    const char *side = (const char *)sqlite3_column_text(st, 3);
    e->endpoint = (uint32_t)sqlite3_column_int64(st, 0);
    e->side = side && !strcmp(side, "client") ? SIDE_CLIENT : SIDE_SERVER;
    e->merged_into = (uint32_t)sqlite3_column_int64(st, 5);
    e->service_len = (uint16_t)service_len;
    e->name_len = (uint16_t)name_len;
    copy_column(e->protocol, st, 2, protocol_len < sizeof e->protocol ? protocol_len : sizeof e->protocol);
    copy_column(e + 1, st, 1, service_len);
    copy_column((char *)(e + 1) + service_len, st, 4, name_len);
}

/* Column of `total` → where it stands in the row. What is NULL there was 0. */
static const struct {
    const char *name;
    size_t at;
} columns[] = {
#define COLUMN(name, field) {name, offsetof(struct row_total, field)}
    COLUMN("count", count),
    COLUMN("errors", errors),
    COLUMN("unobserved", unobserved),
    COLUMN("inferred", inferred),
    COLUMN("shared", shared),
    COLUMN("bytes_in", bytes_in),
    COLUMN("bytes_out", bytes_out),
    COLUMN("body_in", body_in),
    COLUMN("body_out", body_out),
    COLUMN("latency_sum", latency_sum),
    COLUMN("latency_min", latency_min),
    COLUMN("latency_max", latency_max),
    COLUMN("latency_p50", latency_p50),
    COLUMN("latency_p90", latency_p90),
    COLUMN("latency_p95", latency_p95),
    COLUMN("latency_p99", latency_p99),
    COLUMN("latency_p999", latency_p999),
    COLUMN("first_count", first_count),
    COLUMN("first_sum", first_sum),
    COLUMN("first_min", first_min),
    COLUMN("first_max", first_max),
    COLUMN("first_p50", first_p50),
    COLUMN("first_p90", first_p90),
    COLUMN("first_p95", first_p95),
    COLUMN("first_p99", first_p99),
    COLUMN("first_p999", first_p999),
    COLUMN("allocated", cost.allocated),
    COLUMN("freed", cost.freed),
    COLUMN("allocations", cost.allocations),
    COLUMN("cpu_ns", cost.cpu_ns),
    COLUMN("lock_ns", cost.lock_ns),
    COLUMN("disk_ns", cost.disk_ns),
    COLUMN("sleep_ns", cost.sleep_ns),
    COLUMN("downstream_ns", downstream_ns),
    COLUMN("wall_cpu_ns", wall.cpu_ns),
    COLUMN("wall_lock_ns", wall.lock_ns),
    COLUMN("wall_disk_ns", wall.disk_ns),
    COLUMN("wall_sleep_ns", wall.sleep_ns),
    COLUMN("runqueue_ns", wall.runqueue_ns),
    COLUMN("cpu_count", cpu_count),
    COLUMN("waits_count", waits_count),
    COLUMN("retained_samples", retained_samples),
};

static uint8_t class_of(sqlite3_stmt *st, int column)
{
    const char *text = (const char *)sqlite3_column_text(st, column);
    for (uint8_t i = 0; text && i < 8; i++)
        if (!strcmp(text, store_class_names[i]))
            return i;
    return CLASS_NONE;
}

static void total_row(struct again *a, sqlite3_stmt *st)
{
    struct row_total *t = start_row(a, ROW_TOTAL, sizeof *t);
    t->closed = 1;
    t->retained = UINT64_MAX;
    for (int i = 0; i < sqlite3_column_count(st); i++) {
        const char *name = sqlite3_column_name(st, i);
        uint64_t value = (uint64_t)sqlite3_column_int64(st, i);
        for (size_t c = 0; c < sizeof columns / sizeof *columns; c++)
            if (!strcmp(name, columns[c].name))
                memcpy((char *)t + columns[c].at, &value, sizeof value);
        if (!strcmp(name, "interval"))
            t->interval = (uint32_t)value;
        else if (!strcmp(name, "endpoint"))
            t->endpoint = (uint32_t)value;
        else if (!strcmp(name, "class"))
            t->class = class_of(st, i);
        else if (!strcmp(name, "i_start_ns"))
            t->start_ns = value;
        else if (!strcmp(name, "i_end_ns"))
            t->end_ns = value;
        else if (!strcmp(name, "retained") && sqlite3_column_type(st, i) != SQLITE_NULL)
            t->retained = value;
    }
}

static void tell_each(struct again *a, sqlite3_stmt *st, void (*make)(struct again *, sqlite3_stmt *),
                      void (*each)(void *to, const struct row *), void *to)
{
    while (st && sqlite3_step(st) == SQLITE_ROW) {
        make(a, st);
        each(to, &a->row);
    }
    sqlite3_finalize(st);
}

void store_resume_totals(struct store *s, uint64_t after, void (*each)(void *to, const struct row *), void *to)
{
    if (!s->attached || !s->resume.lives || after >= s->resume.last_interval)
        return;
    struct again *a = malloc(sizeof *a);
    if (!a)
        return;
    tell_each(a,
              store_prepare(s->db, "disk",
                            "SELECT endpoint, service, protocol, side, name, coalesce(merged_into, 0)"
                            " FROM %s.endpoint ORDER BY merged_into IS NOT NULL, endpoint"),
              endpoint_row, each, to);
    char sql[256];
    snprintf(sql, sizeof sql,
             "SELECT t.*, i.start_ns AS i_start_ns, i.end_ns AS i_end_ns FROM %%s.total t JOIN %%s.interval i"
             " ON i.interval = t.interval WHERE i.level = 0 AND i.interval > %llu AND i.interval <= %lu"
             " ORDER BY t.interval",
             (unsigned long long)after, (unsigned long)s->resume.last_interval);
    tell_each(a, store_prepare(s->db, "disk", sql), total_row, each, to);
    free(a);
}
