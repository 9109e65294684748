/*
 * report_json.c - the report as one JSON object, INTERFACE "sonde report --json"; docs/report.md
 * explains each key.
 *
 * In:      struct report                        Out: FILE
 * Context: P but for the FILE. Integers are written as they are: cJSON's doubles end at 2^53.
 * Failure: -EIO when the FILE failed.
 */
#include <cjson/cJSON.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "collector/json_text.h"
#include "collector/report.h"
#include "collector/report_model.h"
#include "collector/sketch.h"
#include "wire/arena.h"

struct out {
    FILE *f;
    bool comma; /* before the next key or element */
};

static void separate(struct out *o)
{
    if (o->comma)
        fputs(",", o->f);
    o->comma = true;
}

static void key(struct out *o, const char *name)
{
    separate(o);
    json_put_text(o->f, name);
    fputc(':', o->f);
}

static void open_at(struct out *o, const char *name, char bracket)
{
    if (name)
        key(o, name);
    else
        separate(o);
    fputc(bracket, o->f);
    o->comma = false;
}

static void shut(struct out *o, char bracket)
{
    fputc(bracket, o->f);
    o->comma = true;
}

static void text_at(struct out *o, const char *name, const char *text)
{
    if (name)
        key(o, name);
    else
        separate(o);
    if (text)
        json_put_text(o->f, text);
    else
        fputs("null", o->f);
}

static void number_at(struct out *o, const char *name, uint64_t n)
{
    key(o, name);
    if (n == UNKNOWN)
        fputs("null", o->f);
    else
        fprintf(o->f, "%" PRIu64, n);
}

static void signed_at(struct out *o, const char *name, int64_t n)
{
    key(o, name);
    fprintf(o->f, "%" PRId64, n);
}

static void status_at(struct out *o, const char *name, int32_t n) /* -1 unknown */
{
    key(o, name);
    if (n < 0)
        fputs("null", o->f);
    else
        fprintf(o->f, "%" PRId32, n);
}

static void bool_at(struct out *o, const char *name, bool yes)
{
    key(o, name);
    fputs(yes ? "true" : "false", o->f);
}

static void time_at(struct out *o, const char *name, uint64_t ns)
{
    char text[64];
    struct tm t;
    time_t s = (time_t)(ns / 1000000000);
    key(o, name);
    if (ns == 0 || !gmtime_r(&s, &t)) {
        fputs("null", o->f);
        return;
    }
    strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &t);
    fprintf(o->f, "\"%s.%03uZ\"", text, (unsigned)(ns / 1000000 % 1000));
}

/* --- the parts, in the order of INTERFACE --- */

static void put_run(struct out *o, const struct report *r)
{
    open_at(o, "run", '{');
    key(o, "command");
    cJSON *command = r->command ? cJSON_Parse(r->command) : NULL;
    char *words = cJSON_IsArray(command) ? cJSON_PrintUnformatted(command) : NULL;
    fputs(words ? words : "null", o->f);
    free(words);
    cJSON_Delete(command);
    text_at(o, "id", r->id);
    text_at(o, "host", r->host);
    text_at(o, "sonde", r->version);
    time_at(o, "start", r->start_ns);
    time_at(o, "end", r->end_ns);
    number_at(o, "duration_ns", r->duration_ns);
    status_at(o, "exit_code", r->exit_code);
    status_at(o, "signal", r->signal);
    bool_at(o, "running", r->running);
    bool_at(o, "abandoned", r->abandoned);
    number_at(o, "collectors", r->lives);
    shut(o, '}');
}

static void put_latency(struct out *o, const char *name, const struct report_latency *t)
{
    bool known = t->count > 0;
    open_at(o, name, '{');
    number_at(o, "sum", known ? t->sum : UNKNOWN);
    number_at(o, "mean", known ? t->mean : UNKNOWN);
    number_at(o, "p50", known ? t->p50 : UNKNOWN);
    number_at(o, "p90", known ? t->p90 : UNKNOWN);
    number_at(o, "p99", known ? t->p99 : UNKNOWN);
    number_at(o, "p999", known ? t->p999 : UNKNOWN);
    number_at(o, "max", known ? t->max : UNKNOWN);
    shut(o, '}');
}

static void put_statuses(struct out *o, const struct report_endpoint *e)
{
    open_at(o, "status", '{');
    for (int i = 0; i < e->statuses; i++) {
        char name[16];
        snprintf(name, sizeof name, "%" PRIu32, e->status[i].status);
        number_at(o, e->status[i].status ? name : "error", e->status[i].count);
    }
    shut(o, '}');
}

/* Where a duration went: these, the CPU within it, and what is left. */
static void put_waits(struct out *o, const struct report_measured *m, uint64_t duration_ns)
{
    const uint64_t part[] = {m->cpu_ns, m->lock_ns, m->disk_ns, m->downstream_ns, m->sleep_ns, m->runqueue_ns};
    uint64_t known = 0;
    if (m->lock_ns == UNKNOWN) {
        number_at(o, "waits_ns", UNKNOWN);
        return;
    }
    for (size_t i = 0; i < sizeof part / sizeof *part; i++)
        known += part[i] == UNKNOWN ? 0 : part[i];
    open_at(o, "waits_ns", '{');
    number_at(o, "lock", m->lock_ns);
    number_at(o, "disk", m->disk_ns);
    number_at(o, "downstream", m->downstream_ns);
    number_at(o, "sleep", m->sleep_ns);
    number_at(o, "runqueue", m->runqueue_ns);
    number_at(o, "unknown", duration_ns > known ? duration_ns - known : 0);
    shut(o, '}');
}

/* n samples tell a sum to about 1/sqrt(n); of none there is no fraction: retained_most tells how much it may be. */
static void put_error(struct out *o, uint64_t samples)
{
    key(o, "retained_error");
    if (samples && samples != UNKNOWN)
        fprintf(o->f, "%.4f", 1 / sqrt((double)samples));
    else
        fputs("null", o->f);
}

/*
 * What is kept is at most that much, in 19 of 20 cases: the upper bound of a Poisson count of n (Wilson and Hilferty's) in
 * samples of n's mean size; none means less than three mean distances between samples.
 */
static uint64_t retained_most(const struct report *r, const struct report_endpoint *e)
{
    uint64_t n = e->measured.retained_samples;
    if (e->retained == UNKNOWN || n == UNKNOWN || (!n && !r->sample_bytes))
        return UNKNOWN;
    double m = (double)n + 1, bound = m * pow(1 - 1 / (9 * m) + 1.645 / (3 * sqrt(m)), 3);
    return (uint64_t)((n ? (double)e->retained / (double)n : (double)r->sample_bytes) * (n ? bound : 3));
}

static void put_heap(struct out *o, const struct report *r, const struct report_endpoint *e)
{
    const struct report_latency *each = &e->measured.heap;
    bool known = e->heap_known && each->count;
    uint64_t samples = e->retained == UNKNOWN ? UNKNOWN : e->measured.retained_samples;
    open_at(o, "heap", '{');
    number_at(o, "allocated_bytes", e->heap_known ? e->allocated : UNKNOWN);
    number_at(o, "freed_bytes", e->heap_known ? e->freed : UNKNOWN);
    number_at(o, "allocations", e->heap_known ? e->allocations : UNKNOWN);
    number_at(o, "retained_bytes", e->retained);
    number_at(o, "retained_samples", samples);
    put_error(o, samples);
    number_at(o, "retained_most", retained_most(r, e));
    number_at(o, "allocated_p50", known ? each->p50 : UNKNOWN);
    number_at(o, "allocated_p99", known ? each->p99 : UNKNOWN);
    number_at(o, "allocated_max", known ? each->max : UNKNOWN);
    shut(o, '}');
}

static void put_endpoint(struct out *o, const struct report *r, const struct report_endpoint *e)
{
    open_at(o, NULL, '{');
    text_at(o, "service", e->service);
    text_at(o, "protocol", e->protocol);
    text_at(o, "side", e->side == SIDE_CLIENT ? "client" : "server");
    text_at(o, "endpoint", e->name);
    number_at(o, "count", e->count);
    number_at(o, "errors", e->errors);
    put_statuses(o, e);
    number_at(o, "unobserved", e->unobserved);
    number_at(o, "inferred", e->inferred);
    number_at(o, "shared", e->shared);
    number_at(o, "bytes_in", e->bytes_in);
    number_at(o, "bytes_out", e->bytes_out);
    number_at(o, "body_in", e->body_in);
    number_at(o, "body_out", e->body_out);
    put_latency(o, "latency_ns", &e->latency);
    put_latency(o, "first_byte_ns", &e->first);
    put_heap(o, r, e);
    number_at(o, "cpu_ns", e->cpu_ns);
    number_at(o, "cpu_wall_ns", e->measured.cpu_ns);
    put_waits(o, &e->measured, e->latency.sum);
    shut(o, '}');
}

static void put_endpoints(struct out *o, const struct report *r)
{
    int shown = r->top > 0 && r->top < r->endpoints ? r->top : r->endpoints;
    open_at(o, "endpoints", '[');
    for (int i = 0; i < shown; i++)
        put_endpoint(o, r, &r->endpoint[i]);
    shut(o, ']');
    number_at(o, "endpoints_left_out", (uint64_t)(r->endpoints - shown));
}

/* CPU is charged to requests or not known to be nobody's. */
static bool cpu_is_charged(const struct report *r)
{
    for (int i = 0; i < r->endpoints; i++)
        if (r->endpoint[i].cpu_ns != UNKNOWN)
            return true;
    return false;
}

#define SITES_SHOWN 100 /* of each kind */

static const char *const growth_words[] = {[GROWTH_UNKNOWN] = "unknown",
                                           [GROWTH_NONE] = "no",
                                           [GROWTH_STOPPED] = "stopped",
                                           [GROWTH_LIKELY] = "likely",
                                           [GROWTH_SURE] = "sure"};

/* A list, the innermost first. */
static void put_frames(struct out *o, const char *frames)
{
    char *copy = strdup(frames ? frames : "");
    open_at(o, "stack", '[');
    for (char *at = copy, *next; at && *at; at = next) {
        next = strstr(at, " < ");
        if (next) {
            *next = 0;
            next += 3;
        }
        text_at(o, NULL, at);
    }
    shut(o, ']');
    free(copy);
}

static void put_site(struct out *o, const struct report *r, const struct report_site *s)
{
    open_at(o, NULL, '{');
    text_at(o, "kind", s->lockwait ? "lockwait" : "allocated");
    text_at(o, "service", s->service);
    text_at(o, "endpoint", s->endpoint);
    put_frames(o, s->frames);
    number_at(o, "samples", s->samples);
    number_at(o, s->lockwait ? "waited_ns" : "allocated_bytes", s->amount);
    if (!s->lockwait) {
        number_at(o, "live_samples", s->live_samples);
        number_at(o, "live_bytes", s->live_bytes);
        time_at(o, "oldest", s->oldest_ns);
        number_at(o, "ended_samples", s->ended_samples);
        number_at(o, "ended_bytes", s->ended_bytes);
        number_at(o, "retained_samples", s->retained_samples);
        number_at(o, "retained_bytes", s->retained_bytes);
        put_error(o, s->retained_samples);
        text_at(o, "grows", r->history_known ? growth_words[s->growth.verdict] : NULL);
    }
    shut(o, '}');
}

static uint64_t site_kept(const struct report_site *s)
{
    return s->live_bytes + s->ended_bytes;
}

/* What keeps most first, then what allocates most, then what waits most. */
static int by_weight(const void *a, const void *b)
{
    const struct report_site *x = *(const struct report_site *const *)a, *y = *(const struct report_site *const *)b;
    if (x->lockwait != y->lockwait)
        return x->lockwait ? 1 : -1;
    if (site_kept(x) != site_kept(y))
        return site_kept(x) > site_kept(y) ? -1 : 1;
    if (x->amount != y->amount)
        return x->amount > y->amount ? -1 : 1;
    return x < y ? -1 : x > y;
}

static void put_sites(struct out *o, const struct report *r)
{
    const struct report_site **list = calloc((size_t)r->sites + 1, sizeof(void *));
    int shown[2] = {0, 0};
    if (!r->sites_known || !list) {
        text_at(o, "sites", NULL);
        free(list);
        return;
    }
    for (int i = 0; i < r->sites; i++)
        list[i] = &r->site[i];
    qsort(list, (size_t)r->sites, sizeof(void *), by_weight);
    open_at(o, "sites", '[');
    for (int i = 0; i < r->sites; i++)
        if (shown[list[i]->lockwait]++ < SITES_SHOWN)
            put_site(o, r, list[i]);
    shut(o, ']');
    free(list);
}

static void put_flow(struct out *o, const struct report *r)
{
    open_at(o, "outside", '{');
    number_at(o, "bytes_in", r->outside.bytes_in);
    number_at(o, "bytes_out", r->outside.bytes_out);
    number_at(o, "allocated_bytes", r->heap_counted ? r->outside.allocated : UNKNOWN);
    number_at(o, "freed_bytes", r->heap_counted ? r->outside.freed : UNKNOWN);
    number_at(o, "allocations", r->heap_counted ? r->outside.allocations : UNKNOWN);
    number_at(o, "cpu_ns", cpu_is_charged(r) ? r->outside.cpu_ns : UNKNOWN);
    number_at(o, "cpu_unseen_ns", cpu_is_charged(r) ? r->outside.unseen_cpu_ns : UNKNOWN);
    shut(o, '}');
    open_at(o, "connections", '{');
    number_at(o, "accepted", r->connections.accepted);
    number_at(o, "opened", r->connections.opened);
    number_at(o, "inherited", r->connections.inherited);
    number_at(o, "bytes_in", r->connections.bytes_in);
    number_at(o, "bytes_out", r->connections.bytes_out);
    shut(o, '}');
}

static void put_unread(struct out *o, const struct report *r)
{
    open_at(o, "unread", '[');
    for (int i = 0; i < r->unreads; i++) {
        const struct report_unread *u = &r->unread[i];
        open_at(o, NULL, '{');
        text_at(o, "address", u->address);
        text_at(o, "reason", u->reason);
        number_at(o, "connections", u->connections);
        number_at(o, "bytes_in", u->bytes_in);
        number_at(o, "bytes_out", u->bytes_out);
        shut(o, '}');
    }
    shut(o, ']');
}

static void put_process(struct out *o, const struct report *r, const struct report_process *p)
{
    bool heap = r->heap_counted && !(p->flags & PROCESS_OWN_MALLOC);
    open_at(o, NULL, '{');
    signed_at(o, "pid", p->pid);
    signed_at(o, "parent", p->parent);
    text_at(o, "executable", p->executable);
    text_at(o, "service", p->service);
    time_at(o, "start", p->start_ns);
    time_at(o, "end", p->end_ns);
    status_at(o, "exit_code", p->exit_code);
    status_at(o, "signal", p->signal);
    number_at(o, "allocated_bytes", heap ? p->allocated : UNKNOWN);
    number_at(o, "freed_bytes", heap && !(p->flags & PROCESS_NO_SIZES) ? p->freed : UNKNOWN);
    number_at(o, "allocations", heap ? p->allocations : UNKNOWN);
    number_at(o, "cpu_ns", p->cpu_ns);
    number_at(o, "merged", p->merged);
    if (p->heap_tail_unknown)
        text_at(o, "heap_tail", "unknown");
    if (report_lost_frees(p))
        text_at(o, "frees", "some lost");
    shut(o, '}');
}

static void put_moment(struct out *o, const struct report *r)
{
    open_at(o, "processes", '[');
    for (int i = 0; i < r->processes; i++)
        put_process(o, r, &r->process[i]);
    shut(o, ']');
    open_at(o, "in_flight", '[');
    for (int i = 0; i < r->in_flights; i++) {
        const struct report_in_flight *f = &r->in_flight[i];
        open_at(o, NULL, '{');
        signed_at(o, "pid", f->pid);
        signed_at(o, "tid", f->tid);
        text_at(o, "endpoint", f->endpoint);
        time_at(o, "start", f->start_ns);
        number_at(o, "age_ns", f->age_ns);
        text_at(o, "call", f->call);
        shut(o, '}');
    }
    shut(o, ']');
}

static void put_slowest(struct out *o, const struct report *r)
{
    open_at(o, "slowest", '[');
    for (int i = 0; i < r->slowests; i++) {
        const struct report_span *s = &r->slowest[i];
        open_at(o, NULL, '{');
        time_at(o, "start", s->start_ns);
        text_at(o, "service", s->service);
        text_at(o, "side", s->side == SIDE_CLIENT ? "client" : "server");
        text_at(o, "endpoint", s->endpoint);
        text_at(o, "request", s->target);
        number_at(o, "status", s->status ? s->status : UNKNOWN);
        text_at(o, "error", s->error);
        number_at(o, "duration_ns", s->duration_ns);
        open_at(o, "phases_ns", '{');
        number_at(o, "queue", s->queue_ns);
        number_at(o, "receive", s->receive_ns);
        number_at(o, "work", s->work_ns);
        number_at(o, "downstream", s->downstream_ns);
        number_at(o, "first_byte", s->first_ns);
        number_at(o, "send", s->send_ns);
        shut(o, '}');
        struct report_measured measured = {.cpu_ns = s->cpu_ns,
                                           .lock_ns = s->lock_ns,
                                           .disk_ns = s->disk_ns,
                                           .sleep_ns = s->sleep_ns,
                                           .runqueue_ns = s->runqueue_ns,
                                           .downstream_ns = s->lock_ns == UNKNOWN       ? UNKNOWN
                                                            : s->downstream_ns == UNKNOWN ? 0
                                                                                        : s->downstream_ns};
        number_at(o, "cpu_wall_ns", s->cpu_ns);
        put_waits(o, &measured, s->duration_ns);
        shut(o, '}');
    }
    shut(o, ']');
}

static void put_events(struct out *o, const struct report *r)
{
    open_at(o, "events", '{');
    number_at(o, "written", r->events.written);
    number_at(o, "drained", r->events.drained);
    number_at(o, "late", r->events.late);
    open_at(o, "lost", '{');
    for (int i = 0; i < LOSS_COUNT; i++)
        if (r->events.lost[i])
            number_at(o, loss_names[i], r->events.lost[i]);
    shut(o, '}');
    shut(o, '}');
    open_at(o, "bounds", '{');
    for (int i = 0; i < r->bounds; i++)
        number_at(o, r->bound[i].reason, r->bound[i].count);
    shut(o, '}');
    open_at(o, "spans_shed", '{');
    for (int i = 0; i < r->sheds; i++)
        number_at(o, r->shed[i].reason, r->shed[i].count);
    shut(o, '}');
}

static void put_counts(struct out *o, const struct documents *d, uint64_t dropped_collector)
{
    number_at(o, "carried", d->carried);
    number_at(o, "accepted", d->accepted);
    number_at(o, "acknowledged", d->acknowledged);
    number_at(o, "duplicates", d->duplicates);
    number_at(o, "dead", d->dead);
    open_at(o, "dropped", '{');
    if (d->dropped_memory)
        number_at(o, "memory", d->dropped_memory);
    if (d->dropped_exit)
        number_at(o, "exit", d->dropped_exit);
    if (d->dropped_refused)
        number_at(o, "refused", d->dropped_refused);
    if (dropped_collector)
        number_at(o, "collector", dropped_collector);
    shut(o, '}');
    number_at(o, "queued", d->queued);
}

static void put_documents(struct out *o, const struct report *r)
{
    struct documents sum = {0};
    uint64_t collector = 0;
    for (int i = 0; i < r->outputs; i++) {
        const struct documents *d = &r->output[i].documents;
        sum.carried += d->carried;
        sum.accepted += d->accepted;
        sum.acknowledged += d->acknowledged;
        sum.duplicates += d->duplicates;
        sum.dead += d->dead;
        sum.queued += d->queued;
        sum.dropped_memory += d->dropped_memory;
        sum.dropped_exit += d->dropped_exit;
        sum.dropped_refused += d->dropped_refused;
        collector += r->output[i].dropped_collector;
    }
    open_at(o, "documents", '{');
    put_counts(o, &sum, collector);
    shut(o, '}');
    open_at(o, "outputs", '[');
    for (int i = 0; i < r->outputs; i++) {
        open_at(o, NULL, '{');
        text_at(o, "url", r->output[i].name);
        put_counts(o, &r->output[i].documents, r->output[i].dropped_collector);
        shut(o, '}');
    }
    shut(o, ']');
}

int report_json(const struct report *r, FILE *f)
{
    struct out o = {f, false};
    open_at(&o, NULL, '{');
    number_at(&o, "version", 1);
    text_at(&o, "verdict", report_verdicts[r->verdict]);
    time_at(&o, "as_of", r->as_of_ns);
    time_at(&o, "from", r->from_ns);
    time_at(&o, "to", r->to_ns);
    key(&o, "sketch_error");
    fprintf(f, "%.4f", SKETCH_ERROR);
    put_run(&o, r);
    put_endpoints(&o, r);
    put_flow(&o, r);
    put_unread(&o, r);
    put_moment(&o, r);
    put_slowest(&o, r);
    put_sites(&o, r);
    put_events(&o, r);
    put_documents(&o, r);
    put_sites(&o, r);
    fputs("}\n", f);
    return fflush(f) == 0 && !ferror(f) ? 0 : -EIO;
}
