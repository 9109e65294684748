/*
 * store_rows.c - each kind of row into its table, of the file or of memory, by prepared statements.
 *
 * In:      store.c                              Out: SQLite
 * Context: sink thread
 * Failure: SQLite's code, for store.c to judge; a row that is not whole is none.
 */
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "collector/address.h"
#include "collector/sink/store_inside.h"
#include "wire/arena.h"

static const char *const statements[STATEMENTS] = {
    [PUT_RUN] = "INSERT OR REPLACE INTO %s.run VALUES(1,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
    [PUT_PROCESS] = "INSERT OR REPLACE INTO %s.process VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
    [DELETE_PROCESS] = "DELETE FROM %s.process WHERE process = ?",
    [FIND_PROCESS] = "SELECT process FROM %s.process WHERE pid = ? AND abs(start_ns - ?) < 1000000 "
                     "AND merged = 1",
    [FIND_ENDPOINT] = "SELECT endpoint FROM %s.endpoint WHERE service = ? AND protocol = ? AND "
                      "side = ? AND name = ?",
    [PUT_ENDPOINT] = "INSERT OR REPLACE INTO %s.endpoint VALUES(?,?,?,?,?,?)",
    [PUT_INTERVAL] =
        "INSERT OR REPLACE INTO %s.interval VALUES(?,0,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
    [PUT_LOSS] = "INSERT OR REPLACE INTO %s.loss VALUES(?,?,?,?)",
    [PUT_TOTAL] =
        "INSERT OR REPLACE INTO %s.total "
        "VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
    [PUT_STATUS] = "INSERT OR REPLACE INTO %s.status VALUES(?,?,?,?)",
    [PUT_SPAN] =
        "INSERT INTO %s.span "
        "VALUES(NULL,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
    [CLEAR_IN_FLIGHT] = "DELETE FROM %s.in_flight",
    [PUT_IN_FLIGHT] = "INSERT OR REPLACE INTO %s.in_flight VALUES(?,?,?,?,?,?,?)",
    [PUT_UNREAD] = "INSERT OR REPLACE INTO %s.unread VALUES(?,?,?,?,?,?)",
    [PUT_STACK] = "INSERT OR REPLACE INTO %s.stack VALUES(?,?,?)",
    [PUT_SITE] = "INSERT OR REPLACE INTO %s.site VALUES(?,?,?,?,?,?,?,?,?,?,?,?)",
    [PUT_SITE_LIVE] = "INSERT OR REPLACE INTO %s.site_live VALUES(?,?,?,?,?,?)",
    [PUT_SHED] = "INSERT OR REPLACE INTO %s.shed VALUES(?,?)",
    [PUT_DOCUMENTS] = "INSERT OR REPLACE INTO %s.documents VALUES(?,?,?,?,?,?,?,?,?,?,?)",
};

struct binder store_to(struct store *s, enum statement which)
{
    sqlite3_stmt **st = &s->st[s->target][which];
    if (!*st)
        *st = store_prepare(s->db, schema_names[s->target], statements[which]);
    return (struct binder){*st, 0, NULL};
}

int store_done(struct store *s, struct binder *b)
{
    return b->st ? store_finish(b->st) : sqlite3_extended_errcode(s->db);
}

void store_forget_statements(struct store *s, int schema)
{
    memset(&s->span_bound, 0, sizeof s->span_bound);
    for (int i = 0; i < STATEMENTS; i++) {
        sqlite3_finalize(s->st[schema][i]);
        s->st[schema][i] = NULL;
    }
}

static uint32_t *map_at(struct map *m, uint32_t number)
{
    if (number >= m->room) {
        if (number >= 1u << 24)
            return NULL;
        uint32_t room = m->room ? m->room : 64;
        while (room <= number)
            room *= 2;
        uint32_t *bigger = realloc(m->to, room * sizeof *bigger);
        if (!bigger)
            return NULL;
        memset(bigger + m->room, 0, (room - m->room) * sizeof *bigger);
        m->to = bigger;
        m->room = room;
    }
    return &m->to[number];
}

static uint32_t mapped(struct map *m, uint32_t number)
{
    return number < m->room && m->to[number] ? m->to[number] : number;
}

/* --- one function a kind of row; each returns SQLITE_OK or SQLite's code --- */

static char *copy_text(const char *text, size_t len)
{
    char *copy = malloc(len + 1);
    if (copy) {
        memcpy(copy, text, len);
        copy[len] = 0;
    }
    return copy;
}

static void replace_text(char **old, const char *text, size_t len)
{
    char *copy = copy_text(text, len);
    if (copy) {
        free(*old);
        *old = copy;
    }
}

int store_put_run(struct store *s)
{
    const struct run *r = &s->run;
    struct binder b = store_to(s, PUT_RUN);
    if (!b.st)
        return store_done(s, &b);
    bind_text(&b, r->id, strlen(r->id));
    sqlite3_bind_text(b.st, ++b.n, r->command, -1, SQLITE_TRANSIENT);
    sqlite3_bind_text(b.st, ++b.n, r->settings, -1, SQLITE_TRANSIENT);
    sqlite3_bind_text(b.st, ++b.n, r->host, -1, SQLITE_TRANSIENT);
    bind_text(&b, SONDE_VERSION, strlen(SONDE_VERSION));
    bind_unless(&b, (uint64_t)r->pid, 0);
    bind_unless(&b, r->start_ns, 0);
    bind_unless(&b, r->end_ns, 0);
    bind_unless(&b, (uint64_t)(int64_t)r->exit_code, UINT64_MAX);
    bind_unless(&b, (uint64_t)(int64_t)r->signal, UINT64_MAX);
    bind_u64(&b, (uint64_t)r->clean);
    bind_unless(&b, r->as_of_ns, 0);
    bind_u64(&b, r->lives);
    bind_unless(&b, (uint64_t)r->supervisor, 0);
    bind_unless(&b, r->supervisor_start, 0);
    return store_done(s, &b);
}

static int apply_run(struct store *s, const struct row_run *r)
{
    const char *tail = (const char *)(r + 1);
    s->run.start_ns =
        s->run.start_ns && s->run.start_ns < r->start_ns ? s->run.start_ns : r->start_ns;
    snprintf(s->run.id, sizeof s->run.id, "%.32s", r->id);
    s->run.pid = r->pid;
    replace_text(&s->run.command, tail, r->command_len);
    replace_text(&s->run.settings, tail + r->command_len, r->settings_len);
    replace_text(&s->run.host, tail + r->command_len + r->settings_len, r->host_len);
    return SQLITE_OK; /* written by the commit */
}

static int apply_run_end(struct store *s, const struct row_run_end *r)
{
    s->run.end_ns = r->end_ns;
    s->run.exit_code = r->exit_code;
    s->run.signal = r->signal;
    s->run.clean = r->clean;
    return SQLITE_OK;
}

/* An earlier collector may have given another process this number, and this process another number.
 */
static uint32_t process_number(struct store *s, const struct row_process *r)
{
    uint32_t *at = map_at(&s->process, r->process);
    if (!at)
        return 0;
    uint32_t number = *at;
    if (number)
        return number;
    if (s->resume.lives && s->attached && r->merged == 1) {
        sqlite3_stmt *find = store_prepare(s->db, "disk", statements[FIND_PROCESS]);
        if (find) {
            sqlite3_bind_int(find, 1, r->pid);
            sqlite3_bind_int64(find, 2, (sqlite3_int64)r->start_ns);
            if (sqlite3_step(find) == SQLITE_ROW)
                number = (uint32_t)sqlite3_column_int64(find, 0);
        }
        sqlite3_finalize(find);
    }
    if (!number)
        number = r->process > s->resume.last_process ? r->process : s->process.last + 1;
    if (number > s->process.last)
        s->process.last = number;
    return *at = number;
}

static int apply_process(struct store *s, const struct row_process *r)
{
    uint32_t number = process_number(s, r);
    if (!number)
        return SQLITE_OK;
    if (r->merged == 0 && s->target == TO_DISK) {
        struct binder b = store_to(s, DELETE_PROCESS);
        if (b.st)
            bind_u64(&b, number);
        return store_done(s, &b);
    } /* in memory the row stays as a mark that hides the file's */
    struct binder b = store_to(s, PUT_PROCESS);
    if (!b.st)
        return store_done(s, &b);
    const char *tail = (const char *)(r + 1);
    bind_u64(&b, number);
    bind_u64(&b, (uint64_t)r->pid);
    bind_u64(&b, (uint64_t)r->parent);
    bind_text(&b, tail, r->executable_len);
    bind_text(&b, tail + r->executable_len, r->service_len);
    bind_u64(&b, r->start_ns);
    bind_unless(&b, r->ended ? r->end_ns : 0, 0);
    bind_unless(&b, (uint64_t)(int64_t)r->exit_code, UINT64_MAX);
    bind_unless(&b, (uint64_t)(int64_t)r->signal, UINT64_MAX);
    bind_u64(&b, r->allocated);
    bind_u64(&b, r->freed);
    bind_u64(&b, r->allocations);
    bind_unless(&b, r->cpu_ns, 0);
    bind_u64(&b, r->merged);
    bind_u64(&b, r->heap_tail_unknown);
    bind_u64(&b, r->flags);
    return store_done(s, &b);
}

static uint32_t find_endpoint(struct store *s, enum statement which, const struct row_endpoint *r,
                              const char *side)
{
    sqlite3_stmt *find = store_prepare(s->db, "disk", statements[which]);
    uint32_t number = 0;
    if (find) {
        struct binder b = {find, 0, NULL};
        const char *tail = (const char *)(r + 1);
        bind_text(&b, tail, r->service_len);
        bind_text(&b, r->protocol, strnlen(r->protocol, sizeof r->protocol));
        bind_text(&b, side, strlen(side));
        bind_text(&b, tail + r->service_len, r->name_len);
        if (sqlite3_step(find) == SQLITE_ROW)
            number = (uint32_t)sqlite3_column_int64(find, 0);
    }
    sqlite3_finalize(find);
    return number;
}

static int apply_endpoint(struct store *s, const struct row_endpoint *r)
{
    const char *side = r->side == SIDE_CLIENT ? "client" : "server", *tail = (const char *)(r + 1);
    uint32_t *at = map_at(&s->endpoint, r->endpoint);
    if (!at)
        return SQLITE_OK;
    if (!*at && s->resume.lives && s->attached)
        *at = find_endpoint(s, FIND_ENDPOINT, r, side);
    if (!*at)
        *at = r->endpoint > s->endpoint.last ? r->endpoint : s->endpoint.last + 1;
    if (*at > s->endpoint.last)
        s->endpoint.last = *at;
    struct binder b = store_to(s, PUT_ENDPOINT);
    if (!b.st)
        return store_done(s, &b);
    bind_u64(&b, *at);
    bind_text(&b, tail, r->service_len);
    bind_text(&b, r->protocol, strnlen(r->protocol, sizeof r->protocol));
    bind_text(&b, side, strlen(side));
    bind_text(&b, tail + r->service_len, r->name_len);
    bind_unless(&b, r->merged_into ? mapped(&s->endpoint, r->merged_into) : 0, 0);
    return store_done(s, &b);
}

/* A collector that took over but begins again at 1 must not write over its predecessor's intervals.
 */
static uint32_t interval_number(struct store *s, uint32_t interval)
{
    if (!s->interval_seen) {
        s->interval_seen = true;
        s->interval_base = interval <= s->resume.last_interval ? s->resume.last_interval : 0;
    }
    uint32_t number = s->interval_base + interval;
    if (number > s->last_interval)
        s->last_interval = number;
    return number;
}

static int put_loss(struct store *s, uint32_t interval, const char *stage, const char *reason,
                    uint64_t count)
{
    if (count == 0)
        return SQLITE_OK;
    struct binder b = store_to(s, PUT_LOSS);
    if (!b.st)
        return store_done(s, &b);
    bind_u64(&b, interval);
    bind_text(&b, stage, strlen(stage));
    bind_text(&b, reason, strlen(reason));
    bind_u64(&b, count);
    return store_done(s, &b);
}

static int apply_interval(struct store *s, const struct row_interval *r)
{
    uint32_t number = interval_number(s, r->interval);
    const struct flow *f = &r->flow;
    struct binder b = store_to(s, PUT_INTERVAL);
    if (!b.st)
        return store_done(s, &b);
    const uint64_t values[] = {r->closed,        r->start_ns,
                               r->end_ns,        r->written,
                               r->drained,       r->late,
                               f->accepted,      f->opened,
                               f->inherited,     f->bytes_in,
                               f->bytes_out,     f->outside_in,
                               f->outside_out,   f->outside.allocated,
                               f->outside.freed, f->outside.allocations,
                               f->outside.cpu_ns, f->unseen_cpu_ns};
    bind_u64(&b, number);
    for (size_t i = 0; i < sizeof values / sizeof *values; i++)
        bind_u64(&b, values[i]);
    int rc = store_done(s, &b);
    for (int i = 0; i < LOSS_COUNT && rc == SQLITE_OK; i++)
        rc = put_loss(s, number, "recorder", loss_names[i], r->lost[i]);
    if (rc == SQLITE_OK)
        rc = put_loss(s, number, "bound", "connections", f->bound_connections);
    if (rc == SQLITE_OK)
        rc = put_loss(s, number, "bound", "parsers", f->bound_parsers);
    if (rc == SQLITE_OK)
        rc = put_loss(s, number, "bound", "spans", f->bound_spans);
    if (rc == SQLITE_OK)
        rc = put_loss(s, number, "bound", "uncounted", r->uncounted_spans);
    if (rc == SQLITE_OK)
        rc = put_loss(s, number, "sites", "samples", f->bound_samples);
    if (rc == SQLITE_OK)
        rc = put_loss(s, number, "sites", "held", f->bound_held);
    if (rc == SQLITE_OK)
        rc = put_loss(s, number, "shed", "queue full", r->shed_spans);
    return rc;
}

const char *const store_class_names[8] = {"none", "1xx", "2xx", "3xx",
                                           "4xx",  "5xx", "ok",  "error"};

static void bind_if(struct binder *b, bool known, uint64_t v)
{
    bind_unless(b, known ? v : UINT64_MAX, UINT64_MAX);
}

static void bind_costs(struct binder *b, const struct cost *c, bool cpu, bool waits)
{
    bind_if(b, cpu, c->cpu_ns);
    bind_if(b, waits, c->lock_ns);
    bind_if(b, waits, c->disk_ns);
    bind_if(b, waits, c->sleep_ns);
}

/* Where the time of requests that lasted `duration_ns` in all went, and what nobody saw of it. */
static void bind_wall(struct binder *b, const struct wall *w, uint64_t downstream_ns,
                      uint64_t duration_ns, bool cpu, bool waits)
{
    bind_if(b, cpu, w->cpu_ns);
    bind_if(b, waits, w->lock_ns);
    bind_if(b, waits, w->disk_ns);
    bind_if(b, waits, w->sleep_ns);
    bind_if(b, cpu && waits, w->runqueue_ns);
    bind_if(b, cpu || waits, wall_unknown(w, downstream_ns, duration_ns));
}

static int apply_total(struct store *s, const struct row_total *r)
{
    struct binder b = store_to(s, PUT_TOTAL);
    if (!b.st)
        return store_done(s, &b);
    const uint8_t *tail = (const uint8_t *)(r + 1);
    const char *class = store_class_names[r->class & 7];
    bind_u64(&b, interval_number(s, r->interval));
    bind_u64(&b, mapped(&s->endpoint, r->endpoint));
    bind_text(&b, class, strlen(class));
    const uint64_t *from = &r->count, *end = &r->first_p999;
    for (; from <= end; from++) /* the counters stand in the table's order, see the assert below */
        bind_u64(&b, *from);
    bind_u64(&b, r->cost.allocated);
    bind_u64(&b, r->cost.freed);
    bind_u64(&b, r->cost.allocations);
    bind_unless(&b, r->retained, UINT64_MAX);
    bind_unless(&b, r->retained == UINT64_MAX ? UINT64_MAX : r->retained_samples, UINT64_MAX);
    bind_costs(&b, &r->cost, r->cpu_count > 0, r->waits_count > 0);
    bind_if(&b, r->waits_count || r->downstream_ns, r->downstream_ns);
    bind_wall(&b, &r->wall, r->downstream_ns, r->latency_sum, r->cpu_count > 0, r->waits_count > 0);
    bind_u64(&b, r->cpu_count);
    bind_u64(&b, r->waits_count);
    const uint16_t lens[] = {r->latency_len, r->first_len, r->heap_len, r->cpu_len};
    for (size_t i = 0; i < sizeof lens / sizeof *lens; tail += lens[i++])
        bind_blob(&b, tail, lens[i]);
    return store_done(s, &b);
}
_Static_assert(offsetof(struct row_total, first_p999) - offsetof(struct row_total, count) == 25 * 8,
               "26 counters in the order of the table `total`");

static int apply_status(struct store *s, const struct row_status *r)
{
    struct binder b = store_to(s, PUT_STATUS);
    if (!b.st)
        return store_done(s, &b);
    bind_u64(&b, interval_number(s, r->interval));
    bind_u64(&b, mapped(&s->endpoint, r->endpoint));
    bind_u64(&b, r->status);
    bind_u64(&b, r->count);
    return store_done(s, &b);
}

static void bind_address(struct binder *b, const uint8_t *address, size_t len, char text[ADDRESS_TEXT])
{
    sa_family_t family = AF_UNSPEC;
    if (len >= sizeof family)
        memcpy(&family, address, sizeof family);
    if (family == AF_INET || family == AF_INET6)
        bind_text_here(b, text, address_text(address, len, text));
    else
        bind_null(b);
}

static void bind_some_text(struct binder *b, const char *text, size_t len)
{
    if (len)
        bind_text_here(b, text, len);
    else
        bind_null(b);
}

static int apply_span(struct store *s, const struct row_span *r)
{
    static const char why_names[][8] = {"sample", "error", "slow"};
    const char *tail = (const char *)(r + 1), *why = why_names[r->why <= WHY_SLOW ? r->why : 0];
    static const uint8_t no_trace[16];
    char peer[ADDRESS_TEXT];
    struct binder b = store_to(s, PUT_SPAN);
    if (!b.st)
        return store_done(s, &b);
    b.bound = &s->span_bound; /* most of a request's values are those of the one before */
    bind_u64(&b, mapped(&s->endpoint, r->endpoint));
    bind_u64(&b, mapped(&s->process, r->process));
    bind_u64(&b, (uint64_t)r->pid);
    bind_u64(&b, (uint64_t)r->tid);
    if (memcmp(r->trace, no_trace, sizeof no_trace) != 0)
        bind_blob_here(&b, r->trace, sizeof r->trace);
    else
        bind_null(&b);
    bind_u64(&b, r->id);
    bind_unless(&b, r->parent, 0);
    bind_u64(&b, r->start_ns);
    bind_unless(&b, r->duration_ns, UINT64_MAX);
    bind_unless(&b, r->queue_ns, UINT64_MAX);
    bind_unless(&b, r->receive_ns, UINT64_MAX);
    bind_unless(&b, r->work_ns, UINT64_MAX);
    bind_unless(&b, r->first_byte_ns, UINT64_MAX);
    bind_unless(&b, r->send_ns, UINT64_MAX);
    bind_unless(&b, r->downstream_ns, 0);
    bind_unless(&b, r->status, 0);
    bind_some_text(&b, tail + r->target_len, r->error_len);
    bind_u64(&b, r->error);
    bind_u64(&b, r->answered);
    bind_text_here(&b, r->verb, r->verb_len < sizeof r->verb ? r->verb_len : sizeof r->verb);
    bind_text_here(&b, tail, r->target_len);
    bind_address(&b, r->peer, r->peer_length, peer);
    const uint64_t values[] = {r->bytes_in,       r->bytes_out,  r->body_in,         r->body_out,
                               r->cost.allocated, r->cost.freed, r->cost.allocations};
    for (size_t i = 0; i < sizeof values / sizeof *values; i++)
        bind_u64(&b, values[i]);
    bind_unless(&b, r->retained, UINT64_MAX);
    bind_costs(&b, &r->cost, r->cpu_known, r->waits_known);
    bind_wall(&b, &r->wall, r->downstream_ns, r->duration_ns, r->cpu_known, r->waits_known);
    bind_u64(&b, r->shared);
    bind_u64(&b, r->inferred);
    bind_text_here(&b, why, strlen(why));
    sqlite3_bind_double(b.st, ++b.n, r->rate);
    return store_done(s, &b);
}

static const char *call_name(uint32_t call)
{
    static const char *const names[CALL_COUNT] = {
        [CALL_READ] = "read",           [CALL_WRITE] = "write",
        [CALL_ACCEPT] = "accept",       [CALL_CONNECT] = "connect",
        [CALL_POLL] = "poll",           [CALL_EPOLL_WAIT] = "epoll_wait",
        [CALL_SELECT] = "select",       [CALL_SENDFILE] = "sendfile",
        [CALL_SPLICE] = "splice",       [CALL_CLOSE] = "close",
        [CALL_FSYNC] = "fsync",         [CALL_LOCK] = "lock",
        [CALL_CONDITION] = "condition", [CALL_SEMAPHORE] = "semaphore",
        [CALL_FUTEX] = "futex",         [CALL_SLEEP] = "sleep",
        [CALL_WAITPID] = "waitpid"};
    return call < CALL_COUNT ? names[call] : NULL;
}

static int apply_in_flight(struct store *s, const struct row_in_flight *r)
{
    struct binder b = store_to(s, PUT_IN_FLIGHT);
    if (!b.st)
        return store_done(s, &b);
    const char *call = call_name(r->in_call);
    bind_u64(&b, r->span);
    bind_u64(&b, (uint64_t)r->pid);
    bind_u64(&b, (uint64_t)r->tid);
    bind_text(&b, (const char *)(r + 1), r->name_len);
    bind_u64(&b, r->start_ns);
    bind_u64(&b, r->age_ns);
    sqlite3_bind_text(b.st, ++b.n, call, -1, SQLITE_STATIC);
    return store_done(s, &b);
}

static int apply_unread(struct store *s, const struct row_unread *r)
{
    struct binder b = store_to(s, PUT_UNREAD);
    if (!b.st)
        return store_done(s, &b);
    const char *reason = r->reason < UNREAD_COUNT ? unread_names[r->reason] : "unknown";
    bind_u64(&b, s->run.lives);
    bind_text(&b, (const char *)(r + 1), r->address_len);
    bind_text(&b, reason, strlen(reason));
    bind_u64(&b, r->connections);
    bind_u64(&b, r->bytes_in);
    bind_u64(&b, r->bytes_out);
    return store_done(s, &b);
}

static int apply_stack(struct store *s, const struct row_stack *r)
{
    static const char *const ends[] = {"whole", "cut", "unknown", "unsafe"};
    const char *end = ends[r->end <= STACK_UNSAFE ? r->end : STACK_UNKNOWN];
    struct binder b = store_to(s, PUT_STACK);
    if (!b.st)
        return store_done(s, &b);
    bind_u64(&b, r->stack);
    bind_text(&b, (const char *)(r + 1), r->text_len);
    bind_text(&b, end, strlen(end));
    return store_done(s, &b);
}

static int apply_site(struct store *s, const struct row_site *r)
{
    const char *kind = r->kind == SITE_LOCKWAIT ? "lockwait" : "allocated";
    struct binder b = store_to(s, PUT_SITE);
    if (!b.st)
        return store_done(s, &b);
    bind_u64(&b, r->endpoint ? mapped(&s->endpoint, r->endpoint) : 0);
    bind_u64(&b, r->stack);
    bind_text(&b, kind, strlen(kind));
    const uint64_t values[] = {r->samples, r->amount, r->live_samples, r->live_bytes};
    for (size_t i = 0; i < sizeof values / sizeof *values; i++)
        bind_u64(&b, values[i]);
    bind_unless(&b, r->oldest_ns, 0);
    bind_u64(&b, r->retained_samples);
    bind_u64(&b, r->retained_bytes);
    bind_u64(&b, r->ended_samples);
    bind_u64(&b, r->ended_bytes);
    return store_done(s, &b);
}

static int apply_site_live(struct store *s, const struct row_site_live *r)
{
    struct binder b = store_to(s, PUT_SITE_LIVE);
    if (!b.st)
        return store_done(s, &b);
    bind_u64(&b, interval_number(s, r->interval));
    bind_u64(&b, r->endpoint ? mapped(&s->endpoint, r->endpoint) : 0);
    bind_u64(&b, r->stack);
    bind_u64(&b, r->requests);
    bind_u64(&b, r->live_samples);
    bind_u64(&b, r->live_bytes);
    return store_done(s, &b);
}

static int apply_clear(struct store *s)
{
    struct binder b = store_to(s, CLEAR_IN_FLIGHT);
    return store_done(s, &b);
}

int store_apply(struct store *s, const struct row *row)
{
    const void *body = row + 1;
    switch (row->kind) {
    case ROW_RUN:
        return apply_run(s, body);
    case ROW_RUN_END:
        return apply_run_end(s, body);
    case ROW_PROCESS:
        return apply_process(s, body);
    case ROW_ENDPOINT:
        return apply_endpoint(s, body);
    case ROW_INTERVAL:
        return apply_interval(s, body);
    case ROW_TOTAL:
        return apply_total(s, body);
    case ROW_STATUS:
        return apply_status(s, body);
    case ROW_SPAN:
        return apply_span(s, body);
    case ROW_IN_FLIGHT_CLEAR:
        return apply_clear(s);
    case ROW_IN_FLIGHT:
        return apply_in_flight(s, body);
    case ROW_UNREAD:
        return apply_unread(s, body);
    case ROW_STACK:
        return apply_stack(s, body);
    case ROW_SITE:
        return apply_site(s, body);
    case ROW_SITE_LIVE:
        return apply_site_live(s, body);
    default:
        return SQLITE_OK;
    }
}
