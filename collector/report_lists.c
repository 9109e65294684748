/*
 * report_lists.c - the lists of a report: processes, what was not read, requests in flight, the
 * slowest, errors, documents.
 *
 * In:      report_load.c                        Out: struct report
 * Context: as report_loader.h
 */
#include <stdio.h>

#include "collector/report_loader.h"

void load_processes(struct loader *l)
{
    struct report *r = l->r;
    r->process = load_room(l, "SELECT count(*) FROM r_process", sizeof *r->process, 1 << 20);
    sqlite3_stmt *st = load_ask(
        l,
        "SELECT pid, parent, executable, service, start_ns, end_ns, exit_code, signal, allocated,"
        " freed, allocations, cpu_ns, merged, heap_tail_unknown, flags FROM r_process"
        " WHERE merged > 0 ORDER BY start_ns, executable, pid");
    while (load_next(l, st) && r->processes < 1 << 20) {
        struct report_process *p = &r->process[r->processes++];
        p->pid = sqlite3_column_int(st, 0);
        p->parent = sqlite3_column_int(st, 1);
        p->executable = load_text(l, st, 2);
        p->service = load_text(l, st, 3);
        p->start_ns = load_u64(st, 4);
        p->end_ns = load_u64(st, 5);
        p->exit_code = (int32_t)load_or(st, 6, UNKNOWN);
        p->signal = (int32_t)load_or(st, 7, UNKNOWN);
        p->allocated = load_u64(st, 8);
        p->freed = load_u64(st, 9);
        p->allocations = load_u64(st, 10);
        p->cpu_ns = load_or(st, 11, UNKNOWN);
        p->merged = load_u64(st, 12);
        p->heap_tail_unknown = sqlite3_column_int(st, 13) != 0;
        p->flags = (uint32_t)load_u64(st, 14);
    }
    sqlite3_finalize(st);
}

void load_unread(struct loader *l)
{
    struct report *r = l->r;
    r->unread = load_room(l, "SELECT count(*) FROM r_unread", sizeof *r->unread, 1 << 20);
    sqlite3_stmt *st = load_ask(
        l, "SELECT address, reason, sum(connections), sum(bytes_in), sum(bytes_out) FROM r_unread"
           " GROUP BY address, reason ORDER BY 3 DESC, address, reason");
    while (load_next(l, st) && r->unreads < 1 << 20) {
        struct report_unread *u = &r->unread[r->unreads++];
        u->address = load_text(l, st, 0);
        u->reason = load_text(l, st, 1);
        u->connections = load_u64(st, 2);
        u->bytes_in = load_u64(st, 3);
        u->bytes_out = load_u64(st, 4);
    }
    sqlite3_finalize(st);
}

void load_in_flight(struct loader *l)
{
    struct report *r = l->r;
    r->in_flight = load_room(l, "SELECT count(*) FROM r_in_flight", sizeof *r->in_flight, 1 << 20);
    sqlite3_stmt *st =
        load_ask(l, "SELECT pid, tid, endpoint, start_ns, age_ns, call FROM r_in_flight"
                    " ORDER BY start_ns, endpoint, span");
    while (load_next(l, st) && r->in_flights < 1 << 20) {
        struct report_in_flight *f = &r->in_flight[r->in_flights++];
        f->pid = sqlite3_column_int(st, 0);
        f->tid = sqlite3_column_int(st, 1);
        f->endpoint = load_text(l, st, 2);
        f->start_ns = load_u64(st, 3);
        f->age_ns = load_u64(st, 4);
        f->call = load_text(l, st, 5);
    }
    sqlite3_finalize(st);
}

static sqlite3_stmt *ask_slowest(struct loader *l)
{
    static const char *const columns[] = {"wall_cpu_ns", "wall_lock_ns", "wall_disk_ns", "wall_sleep_ns", "runqueue_ns"};
    char sql[1024];
    int n = snprintf(sql, sizeof sql,
                     "SELECT s.endpoint, s.start_ns, s.duration_ns, s.verb || ' ' || s.target, s.status, s.error,"
                     " s.failed, s.answered, s.queue_ns, s.receive_ns, s.work_ns, s.first_ns, s.send_ns, s.downstream_ns");
    for (size_t i = 0; i < sizeof columns / sizeof *columns; i++)
        n += snprintf(sql + n, sizeof sql - (size_t)n, ", %s", load_column(l, "span", columns[i]));
    snprintf(sql + n, sizeof sql - (size_t)n,
             " FROM r_span s WHERE s.duration_ns IS NOT NULL AND s.start_ns >= ?"
             " ORDER BY s.duration_ns DESC, s.start_ns LIMIT ?");
    return load_ask(l, sql);
}

void load_slowest(struct loader *l)
{
    struct report *r = l->r;
    int most = l->query->slowest;
    if (most <= 0)
        return;
    r->slowest = report_keep(r, (size_t)most * sizeof *r->slowest);
    sqlite3_stmt *st = ask_slowest(l);
    if (st) {
        sqlite3_bind_int64(st, 1, l->query->since_ns ? (sqlite3_int64)l->r->from_ns : 0);
        sqlite3_bind_int(st, 2, most);
    }
    while (r->slowest && load_next(l, st) && r->slowests < most) {
        uint32_t place = *load_root(l, load_u64(st, 0));
        struct report_span *s = &r->slowest[r->slowests];
        if (!place)
            continue;
        r->slowests++;
        s->endpoint = r->endpoint[place - 1].name;
        s->service = r->endpoint[place - 1].service;
        s->side = r->endpoint[place - 1].side;
        s->start_ns = load_u64(st, 1);
        s->duration_ns = load_u64(st, 2);
        s->target = load_text(l, st, 3);
        s->status = (uint32_t)load_u64(st, 4);
        s->error = load_text(l, st, 5);
        s->failed = sqlite3_column_int(st, 6) != 0;
        s->answered = sqlite3_column_int(st, 7) != 0;
        uint64_t *const phase[] = {&s->queue_ns, &s->receive_ns, &s->work_ns,
                                   &s->first_ns, &s->send_ns,    &s->downstream_ns,
                                   &s->cpu_ns,   &s->lock_ns,    &s->disk_ns,
                                   &s->sleep_ns, &s->runqueue_ns};
        for (int i = 0; i < 11; i++)
            *phase[i] = load_or(st, 8 + i, UNKNOWN);
    }
    sqlite3_finalize(st);
}

void load_documents(struct loader *l)
{
    struct report *r = l->r;
    r->output = load_room(l, "SELECT count(*) FROM r_documents", sizeof *r->output, 64);
    sqlite3_stmt *st = load_ask(
        l,
        "SELECT output, carried, accepted, acknowledged, duplicates, dead, queued, dropped_memory,"
        " dropped_exit, dropped_refused FROM r_documents ORDER BY output");
    while (load_next(l, st) && r->outputs < 64) {
        struct report_output *o = &r->output[r->outputs++];
        struct documents *d = &o->documents;
        uint64_t *const to[] = {&d->carried,        &d->accepted,     &d->acknowledged,
                                &d->duplicates,     &d->dead,         &d->queued,
                                &d->dropped_memory, &d->dropped_exit, &d->dropped_refused};
        o->name = load_text(l, st, 0);
        for (int i = 0; i < 9; i++)
            *to[i] = load_u64(st, 1 + i);
    }
    sqlite3_finalize(st);
}

/* Failed requests: how many stands in the totals; when and with which answer is known of those that
 * were sampled. */
void load_errors(struct loader *l)
{
    struct report *r = l->r;
    r->error = load_room(
        l,
        "SELECT count(*) FROM (SELECT 1 FROM r_span WHERE failed GROUP BY endpoint, status, error)",
        sizeof *r->error, 256);
    sqlite3_stmt *st = load_ask(
        l, "SELECT endpoint, status, error, sum(1 / max(rate, 1e-9)), min(start_ns), max(start_ns)"
           " FROM r_span WHERE failed AND start_ns >= ? GROUP BY endpoint, status, error"
           " ORDER BY 4 DESC, 1, 2, 3");
    if (st)
        sqlite3_bind_int64(st, 1, l->query->since_ns ? (sqlite3_int64)l->r->from_ns : 0);
    while (r->error && load_next(l, st) && r->errors < 256) {
        uint32_t place = *load_root(l, load_u64(st, 0));
        if (!place)
            continue;
        struct report_error *e = &r->error[r->errors++];
        e->service = r->endpoint[place - 1].service;
        e->endpoint = r->endpoint[place - 1].name;
        e->status = (uint32_t)load_u64(st, 1);
        e->text = load_text(l, st, 2);
        e->count = (uint64_t)(sqlite3_column_double(st, 3) + 0.5);
        e->first_ns = load_u64(st, 4);
        e->last_ns = load_u64(st, 5);
    }
    sqlite3_finalize(st);
}
