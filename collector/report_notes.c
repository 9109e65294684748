/*
 * report_notes.c - what needs a look and what is missing: errors, crashes, requests in flight,
 * traffic that was not read, lost events, and what to do about each.
 *
 * In:      report_text.c                        Out: FILE
 * Context: P but for the FILE
 */
#include <inttypes.h>
#include <signal.h>
#include <string.h>

#include "collector/report_page.h"
#include "wire/arena.h"

#define UNREAD_SHOWN 8
#define LIST_SHOWN 5 /* errors, requests in flight, crashes */

/* --- what needs a look --- */

static uint64_t exact_count(const struct report *r, const struct report_error *error)
{
    for (int i = 0; i < r->endpoints && error->status; i++) {
        const struct report_endpoint *e = &r->endpoint[i];
        if (strcmp(e->name, error->endpoint) != 0 || strcmp(e->service, error->service) != 0)
            continue;
        for (int s = 0; s < e->statuses; s++)
            if (e->status[s].status == error->status)
                return e->status[s].count;
    }
    return error->count;
}

static void put_sampled_error(struct page *p, const struct report_error *e, uint64_t count,
                              bool first)
{
    char name[128], text[40];
    struct text t = {.used = 0};
    page_clean(name, sizeof name, e->endpoint, p->style->utf8);
    text_add(&t, "%s", name);
    if (e->status)
        text_add(&t, " %u", (unsigned)e->status);
    if (e->text && *e->text) {
        page_clean(text, sizeof text, e->text, p->style->utf8);
        text_add(&t, " %s", text);
    }
    text_add(&t, " x %s", cell_grouped(count).s);
    if (e->first_ns / 1000000000 == e->last_ns / 1000000000)
        text_add(&t, ", at %s", cell_clock(e->first_ns, false).s);
    else
        text_add(&t, ", first %s, last %s", cell_clock(e->first_ns, false).s,
                 cell_clock(e->last_ns, false).s);
    page_say(p, first ? "ERRORS" : "", "%s", t.s);
}

static bool was_sampled(const struct report *r, const struct report_endpoint *e)
{
    for (int i = 0; i < r->errors; i++)
        if (strcmp(e->name, r->error[i].endpoint) == 0 &&
            strcmp(e->service, r->error[i].service) == 0)
            return true;
    return false;
}

/* When and with which answer is known where samples were kept; of the others, how many. */
void page_put_errors(struct page *p)
{
    const struct report *r = p->r;
    int shown = 0;
    uint64_t told = 0;
    char name[128];
    for (int i = 0; i < r->errors && shown < LIST_SHOWN; i++) {
        uint64_t count = exact_count(r, &r->error[i]);
        put_sampled_error(p, &r->error[i], count, shown++ == 0);
        told += count;
    }
    for (int i = 0; i < r->endpoints && shown < LIST_SHOWN; i++) {
        const struct report_endpoint *e = &r->endpoint[i];
        if (e->errors == 0 || was_sampled(r, e))
            continue;
        page_clean(name, sizeof name, e->name, p->style->utf8);
        struct text t = {.used = 0};
        for (int k = 0; k < e->statuses; k++)
            if (e->status[k].status >= (e->side == SIDE_CLIENT ? 400 : 500))
                text_add(&t, "%s %u x %s", t.used ? "," : "", (unsigned)e->status[k].status,
                         cell_grouped(e->status[k].count).s);
        if (t.used == 0)
            text_add(&t, " x %s", cell_grouped(e->errors).s);
        page_say(p, shown++ ? "" : "ERRORS", "%s%s", name, t.s);
        told += e->errors;
    }
    if (told < r->failed)
        page_say(p, "", "and %s more", cell_grouped(r->failed - told).s);
}

void page_put_crashes(struct page *p)
{
    static const int bad[] = {SIGSEGV, SIGABRT, SIGBUS, SIGILL, SIGFPE, SIGSYS, SIGKILL};
    const struct report *r = p->r;
    int shown = 0;
    for (int i = 0; i < r->processes && shown < LIST_SHOWN; i++) {
        const struct report_process *o = &r->process[i];
        bool crashed = false;
        for (size_t b = 0; b < sizeof bad / sizeof *bad; b++)
            crashed = crashed || o->signal == bad[b];
        if (!crashed)
            continue;
        char name[64];
        page_clean(name, sizeof name, page_program(o), p->style->utf8);
        page_say(p, shown++ ? "" : "KILLED", "%s, pid %d, by %s at %s", name, o->pid,
                 page_signal(o->signal), cell_clock(o->end_ns, false).s);
    }
}

static struct cell thread_cell(const struct report_in_flight *f)
{
    struct cell c;
    if (f->tid == f->pid)
        snprintf(c.s, sizeof c.s, "pid %d", f->pid);
    else
        snprintf(c.s, sizeof c.s, "pid %d/%d", f->pid, f->tid);
    return c;
}

void page_put_in_flight(struct page *p)
{
    const struct report *r = p->r;
    int shown = r->in_flights < LIST_SHOWN ? r->in_flights : LIST_SHOWN, names = 0, threads = 0;
    char name[256], call[24];
    for (int i = 0; i < shown; i++) {
        page_clean(name, sizeof name, r->in_flight[i].endpoint, p->style->utf8);
        names = page_width(name) > names ? page_width(name) : names;
        int width = page_width(thread_cell(&r->in_flight[i]).s);
        threads = width > threads ? width : threads;
    }
    int room = p->columns - PAGE_LABEL - 8 - 2 - 14 - threads;
    names = names < room ? names : room > 12 ? room : 12;
    for (int i = 0; i < shown; i++) {
        const struct report_in_flight *f = &r->in_flight[i];
        page_clean(name, sizeof name, f->endpoint, p->style->utf8);
        snprintf(call, sizeof call, f->call ? "in %.16s" : "%s", f->call ? f->call : "");
        page_label(p, i ? "" : "IN FLIGHT");
        page_name(p->f, name, names);
        page_right(p->f, cell_time(f->age_ns, p->style->utf8).s, 8);
        fprintf(p->f, "  %-13s %s\n", call, thread_cell(f).s);
    }
    if (r->in_flights > shown)
        page_say(p, "", "and %d more: sonde report --json | jq .in_flight", r->in_flights - shown);
}

/* --- what is missing --- */

void page_put_unread(struct page *p)
{
    const struct report *r = p->r;
    const char *known = r->unreads > 1 ? "" : ": times and bytes only";
    for (int i = 0; i < r->unreads && i < UNREAD_SHOWN; i++) {
        const struct report_unread *u = &r->unread[i];
        char address[128];
        page_clean(address, sizeof address, u->address, p->style->utf8);
        page_say(p, i ? "" : "NOT READ", "%s %s, %s connection%s, %s%s", address,
                 page_unread_reason(u->reason), cell_count(u->connections).s,
                 page_plural(u->connections), cell_bytes(u->bytes_in + u->bytes_out).s, known);
    }
    if (r->unreads > UNREAD_SHOWN)
        page_say(p, "", "and %d more", r->unreads - UNREAD_SHOWN);
    if (r->unreads > 1)
        page_say(p, "", "of all these only times and bytes are known");
}

void page_put_lost(struct page *p)
{
    static const char *const remedy[LOSS_COUNT] = {
        [LOSS_FULL] = "shared memory full",
        [LOSS_NO_LANE] = "more threads at once than sonde has places for",
        [LOSS_NESTED] = "in signal handlers that interrupted the recorder",
        [LOSS_UNFINISHED] = "threads ended in the middle of an event",
        [LOSS_COLLECTOR] =
            "the collector was killed and started anew; look for what killed it (memory limit?)",
        [LOSS_DAMAGED] = "shared memory was overwritten, by a stray pointer of the server perhaps",
    };
    const struct report *r = p->r;
    int shown = 0;
    for (int i = 0; i < LOSS_COUNT; i++) {
        struct text t = {.used = 0};
        if (!r->events.lost[i])
            continue;
        text_add(&t, "%s %s: %s", cell_grouped(r->events.lost[i]).s, loss_names[i], remedy[i]);
        if (i == LOSS_FULL) {
            text_add(&t, " between %s and %s; ", cell_clock(r->events.first_lost_ns, false).s,
                     cell_clock(r->events.last_lost_ns, false).s);
            if (r->arena_bytes)
                text_add(&t, "raise arena.bytes (%" PRIu64 " MiB)", r->arena_bytes >> 20);
            else
                text_add(&t, "raise it: --set arena.bytes=128M");
        }
        page_say(p, shown++ ? "" : "LOST", "%s", t.s);
    }
    for (int i = 0; i < r->bounds; i++) {
        const char *what = r->bound[i].reason;
        const char *key = strcmp(what, "connections") == 0 ? "connections.limit"
                          : strcmp(what, "spans") == 0     ? "spans.open_limit"
                                                           : NULL;
        struct cell count = cell_grouped(r->bound[i].count);
        if (strcmp(what, "uncounted") == 0)
            page_say(p, i ? "" : "LIMITED",
                     "%s requests are in no total: the collector had no memory", count.s);
        else
            page_say(p, i ? "" : "LIMITED", "%s %s were not followed%s%s", count.s, what,
                     key ? ": raise " : "", key ? key : "");
    }
}

bool report_lost_frees(const struct report_process *p)
{
    return p->flags & PROCESS_LOST_FREES || (p->end_ns && p->flags & PROCESS_OWES_FREES);
}

void page_put_lost_frees(struct page *p)
{
    const char *lost = NULL;
    for (int i = 0; i < p->r->processes && p->r->stacks_sampled; i++)
        lost = report_lost_frees(&p->r->process[i]) ? page_program(&p->r->process[i]) : lost;
    if (!lost)
        return;
    char name[64];
    page_clean(name, sizeof name, lost, p->style->utf8);
    page_say(p, "UNSURE", "%s: the arena was full, and not all of its freed blocks could be told: some that are shown as kept may be free",
             name);
}

void page_put_heap_notes(struct page *p)
{
    const struct report *r = p->r;
    const char *own = NULL, *sizes = NULL, *tail = NULL;
    for (int i = 0; i < r->processes && r->heap_counted; i++) {
        const struct report_process *o = &r->process[i];
        own = o->flags & PROCESS_OWN_MALLOC ? page_program(o) : own;
        sizes = o->flags & PROCESS_NO_SIZES ? page_program(o) : sizes;
        tail = o->heap_tail_unknown ? page_program(o) : tail;
    }
    char name[64];
    if (own) {
        page_clean(name, sizeof name, own, p->style->utf8);
        page_say(p, "HEAP",
                 "%s brings its own malloc inside its executable: its allocations cannot be seen",
                 name);
    }
    if (sizes) {
        page_clean(name, sizeof name, sizes, p->style->utf8);
        page_say(p, "HEAP", "%s mixes allocators: freed bytes are unknown", name);
    }
    if (tail) {
        page_clean(name, sizeof name, tail, p->style->utf8);
        page_say(p, "HEAP", "%s: bytes allocated after a thread's last call are unknown", name);
    }
}

/* Nothing was counted: why that may be, and what to try. */
void page_put_nothing(struct page *p)
{
    const struct report *r = p->r;
    uint64_t connections =
        r->connections.accepted + r->connections.opened + r->connections.inherited;
    if (r->requests)
        return;
    if (r->processes == 0)
        page_say(p, "WHY",
                 "No process could be watched. Statically linked programs, Go, setuid programs and "
                 "another libc are"
                 " out of reach; `sonde check CMD` tells which it is.");
    else if (r->cut)
        page_say(
            p, "WHY",
            "No request ended in the time asked for. Without --last or --since the whole run is "
            "shown.");
    else if (connections == 0)
        page_say(
            p, "WHY",
            "No process accepted or opened a stream connection (pipes, datagrams and files are "
            "none). Did"
            " anybody send a request%s? Does the program keep its sockets in a child that sonde "
            "cannot watch?"
            " `sonde check CMD` tells.",
            r->running ? " yet" : "");
    else if (r->connections.bytes_in + r->connections.bytes_out == 0)
        page_say(p, "WHY", "Connections were made, but not one byte went over them.");
    else if (r->unreads)
        page_say(
            p, "WHY",
            "What went over the connections could not be read as requests: sonde reads HTTP/1 and "
            "Redis.");
    else if (r->in_flights)
        page_say(p, "WHY", "Requests have begun, but none has ended yet.");
    else
        page_say(
            p, "WHY",
            "Bytes went over the connections, but no request was complete before its connection or "
            "process"
            " ended.");
}
