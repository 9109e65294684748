/*
 * store.c - rows into SQLite: one transaction a second, in the file while it can be written, else
 * in memory.
 *
 * In:      sinks.c                              Out: SQLite, store_file.c (tables), store_shrink.c
 * (older intervals) Owns:    one connection: `main` is memory, `disk` the attached file; the lock
 * on the file. Context: sink thread
 *
 * Why a failed commit loses nothing but spans: rows of totals are kept in `pending` until the
 * transaction that holds them is on disk. When it fails they are applied to memory instead, and go
 * on there; what memory holds replaces what the file has of the same key, in the report
 * (report_load.c) and when the file is back (`recover`).
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "collector/sink/store.h"
#include "collector/sink/store_tables.h"
#include "wire/clock.h"

#define PENDING_MAX (UINT64_C(8) << 20)
#define MEMORY_MAX                                                                                 \
    (UINT64_C(8) << 20) /* of the database in memory, before its intervals are merged */
#define SPAN_BYTES 300  /* a row of `span`, about */
#define RETRY_NS (UINT64_C(2) * 1000000000)
#define OUTPUTS 16
#define REASONS 16

enum statement {
    PUT_RUN,
    PUT_PROCESS,
    DELETE_PROCESS,
    FIND_PROCESS,
    FIND_ENDPOINT,
    PUT_ENDPOINT,
    PUT_INTERVAL,
    PUT_LOSS,
    PUT_TOTAL,
    PUT_STATUS,
    PUT_SPAN,
    CLEAR_IN_FLIGHT,
    PUT_IN_FLIGHT,
    PUT_UNREAD,
    PUT_SHED,
    PUT_DOCUMENTS,
    STATEMENTS
};

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
        "INSERT OR REPLACE INTO %s.interval VALUES(?,0,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
    [PUT_LOSS] = "INSERT OR REPLACE INTO %s.loss VALUES(?,?,?,?)",
    [PUT_TOTAL] =
        "INSERT OR REPLACE INTO %s.total "
        "VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
    [PUT_STATUS] = "INSERT OR REPLACE INTO %s.status VALUES(?,?,?,?)",
    [PUT_SPAN] =
        "INSERT INTO %s.span "
        "VALUES(NULL,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
    [CLEAR_IN_FLIGHT] = "DELETE FROM %s.in_flight",
    [PUT_IN_FLIGHT] = "INSERT OR REPLACE INTO %s.in_flight VALUES(?,?,?,?,?,?,?)",
    [PUT_UNREAD] = "INSERT OR REPLACE INTO %s.unread VALUES(?,?,?,?,?,?)",
    [PUT_SHED] = "INSERT OR REPLACE INTO %s.shed VALUES(?,?)",
    [PUT_DOCUMENTS] = "INSERT OR REPLACE INTO %s.documents VALUES(?,?,?,?,?,?,?,?,?,?)",
};

/* Numbers as this collector's rows have them → as the store has them. 0: not seen yet. */
struct map {
    uint32_t *to, room, last;
};

struct run { /* the run's row, kept here because every commit writes it whole */
    char id[33], *command, *settings, *host;
    int32_t pid, exit_code, signal;
    uint64_t start_ns, end_ns, as_of_ns;
    uint32_t lives;
    int clean;
    int32_t supervisor;
    uint64_t supervisor_start;
};

struct store {
    sqlite3 *db;
    sqlite3_stmt *st[SCHEMAS][STATEMENTS];
    char path[PATH_MAX];
    char run_id[33];
    uint64_t max_bytes;
    store_say_fn say;
    void *say_to;
    int lock;            /* descriptor that holds the flock, -1 */
    bool none, attached; /* attached: the file can be read at least */
    enum { TO_MEMORY, TO_DISK } target;
    bool open;       /* a transaction is */
    int fault;       /* SQLite's code that sent us to memory */
    const char *why; /* the same in a word */
    uint64_t retry_ns;
    uint32_t memory_floor; /* intervals above it stand in memory alone */
    uint8_t *pending;
    size_t pending_used, pending_room;
    uint64_t span_bytes, pending_spans; /* in this transaction */
    struct run run;
    struct store_resume resume;
    struct map process, endpoint;
    uint32_t interval_base, last_interval;
    bool interval_seen;
    struct {
        const char *reason;
        uint64_t count;
    } shed[REASONS];
    struct {
        char *name;
        struct documents documents;
        bool changed;
    } output[OUTPUTS];
};

static void tell(struct store *s, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void tell(struct store *s, const char *format, ...)
{
    char line[PATH_MAX + 256];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    if (s->say)
        s->say(s->say_to, line);
}

static struct binder to(struct store *s, enum statement which)
{
    sqlite3_stmt **st = &s->st[s->target][which];
    if (!*st)
        *st = store_prepare(s->db, schema_names[s->target], statements[which]);
    return (struct binder){*st, 0};
}

static int done(struct store *s, struct binder *b)
{
    return b->st ? store_finish(b->st) : sqlite3_extended_errcode(s->db);
}

static void forget_statements(struct store *s, int schema)
{
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

static int put_run(struct store *s)
{
    const struct run *r = &s->run;
    struct binder b = to(s, PUT_RUN);
    if (!b.st)
        return done(s, &b);
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
    return done(s, &b);
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
    if (*at)
        return *at;
    uint32_t number = 0;
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
        struct binder b = to(s, DELETE_PROCESS);
        if (b.st)
            bind_u64(&b, number);
        return done(s, &b);
    } /* in memory the row stays as a mark that hides the file's */
    struct binder b = to(s, PUT_PROCESS);
    if (!b.st)
        return done(s, &b);
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
    return done(s, &b);
}

static uint32_t find_endpoint(struct store *s, enum statement which, const struct row_endpoint *r,
                              const char *side)
{
    sqlite3_stmt *find = store_prepare(s->db, "disk", statements[which]);
    uint32_t number = 0;
    if (find) {
        struct binder b = {find, 0};
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
    struct binder b = to(s, PUT_ENDPOINT);
    if (!b.st)
        return done(s, &b);
    bind_u64(&b, *at);
    bind_text(&b, tail, r->service_len);
    bind_text(&b, r->protocol, strnlen(r->protocol, sizeof r->protocol));
    bind_text(&b, side, strlen(side));
    bind_text(&b, tail + r->service_len, r->name_len);
    bind_unless(&b, r->merged_into ? mapped(&s->endpoint, r->merged_into) : 0, 0);
    return done(s, &b);
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
    struct binder b = to(s, PUT_LOSS);
    if (!b.st)
        return done(s, &b);
    bind_u64(&b, interval);
    bind_text(&b, stage, strlen(stage));
    bind_text(&b, reason, strlen(reason));
    bind_u64(&b, count);
    return done(s, &b);
}

static int apply_interval(struct store *s, const struct row_interval *r)
{
    uint32_t number = interval_number(s, r->interval);
    const struct flow *f = &r->flow;
    struct binder b = to(s, PUT_INTERVAL);
    if (!b.st)
        return done(s, &b);
    const uint64_t values[] = {r->closed,        r->start_ns,
                               r->end_ns,        r->written,
                               r->drained,       r->late,
                               f->accepted,      f->opened,
                               f->inherited,     f->bytes_in,
                               f->bytes_out,     f->outside_in,
                               f->outside_out,   f->outside.allocated,
                               f->outside.freed, f->outside.allocations,
                               f->outside.cpu_ns};
    bind_u64(&b, number);
    for (size_t i = 0; i < sizeof values / sizeof *values; i++)
        bind_u64(&b, values[i]);
    int rc = done(s, &b);
    for (int i = 0; i < LOSS_COUNT && rc == SQLITE_OK; i++)
        rc = put_loss(s, number, "recorder", loss_names[i], r->lost[i]);
    if (rc == SQLITE_OK)
        rc = put_loss(s, number, "bound", "connections", f->bound_connections);
    if (rc == SQLITE_OK)
        rc = put_loss(s, number, "bound", "parsers", f->bound_parsers);
    if (rc == SQLITE_OK)
        rc = put_loss(s, number, "bound", "spans", f->bound_spans);
    return rc;
}

static const char *const class_names[8] = {"none", "1xx", "2xx", "3xx",
                                           "4xx",  "5xx", "ok",  "error"};

static int apply_total(struct store *s, const struct row_total *r)
{
    struct binder b = to(s, PUT_TOTAL);
    if (!b.st)
        return done(s, &b);
    const uint8_t *tail = (const uint8_t *)(r + 1);
    const char *class = class_names[r->class & 7];
    bind_u64(&b, interval_number(s, r->interval));
    bind_u64(&b, mapped(&s->endpoint, r->endpoint));
    bind_text(&b, class, strlen(class));
    const uint64_t *from = &r->count, *end = &r->first_p999;
    for (; from <= end; from++) /* the counters stand in the table's order, see the assert below */
        bind_u64(&b, *from);
    bind_u64(&b, r->cost.allocated);
    bind_u64(&b, r->cost.freed);
    bind_u64(&b, r->cost.allocations);
    bind_unless(&b, r->retained, 0);
    bind_unless(&b, r->cost.cpu_ns, 0);
    bind_unless(&b, r->cost.lock_ns, 0);
    bind_unless(&b, r->cost.disk_ns, 0);
    bind_unless(&b, r->cost.sleep_ns, 0);
    bind_unless(&b, r->downstream_ns, 0);
    bind_blob(&b, tail, r->latency_len);
    bind_blob(&b, tail + r->latency_len, r->first_len);
    bind_blob(&b, tail + r->latency_len + r->first_len, r->heap_len);
    return done(s, &b);
}
_Static_assert(offsetof(struct row_total, first_p999) - offsetof(struct row_total, count) == 25 * 8,
               "26 counters in the order of the table `total`");

static int apply_status(struct store *s, const struct row_status *r)
{
    struct binder b = to(s, PUT_STATUS);
    if (!b.st)
        return done(s, &b);
    bind_u64(&b, interval_number(s, r->interval));
    bind_u64(&b, mapped(&s->endpoint, r->endpoint));
    bind_u64(&b, r->status);
    bind_u64(&b, r->count);
    return done(s, &b);
}

static size_t address_text(const uint8_t *address, size_t len, char *out, size_t room)
{
    char host[INET6_ADDRSTRLEN];
    struct sockaddr_in6 a; /* large enough for both, aligned */
    if (len > sizeof a || len < sizeof(struct sockaddr_in))
        return 0;
    memcpy(&a, address, len);
    const struct sockaddr_in *four = (const struct sockaddr_in *)&a;
    if (a.sin6_family == AF_INET6 && len >= sizeof a &&
        inet_ntop(AF_INET6, &a.sin6_addr, host, sizeof host))
        return (size_t)snprintf(out, room, "[%s]:%u", host, ntohs(a.sin6_port));
    if (four->sin_family == AF_INET && inet_ntop(AF_INET, &four->sin_addr, host, sizeof host))
        return (size_t)snprintf(out, room, "%s:%u", host, ntohs(four->sin_port));
    return 0;
}

static int apply_span(struct store *s, const struct row_span *r)
{
    static const char *const why_names[] = {"sample", "error", "slow"};
    const char *tail = (const char *)(r + 1), *why = why_names[r->why <= WHY_SLOW ? r->why : 0];
    static const uint8_t no_trace[16];
    char peer[64];
    struct binder b = to(s, PUT_SPAN);
    if (!b.st)
        return done(s, &b);
    bind_u64(&b, mapped(&s->endpoint, r->endpoint));
    bind_u64(&b, mapped(&s->process, r->process));
    bind_u64(&b, (uint64_t)r->pid);
    bind_u64(&b, (uint64_t)r->tid);
    if (memcmp(r->trace, no_trace, sizeof no_trace) != 0)
        bind_blob(&b, r->trace, sizeof r->trace);
    else
        b.n++;
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
    if (r->error_len)
        bind_text(&b, tail + r->target_len, r->error_len);
    else
        b.n++;
    bind_u64(&b, r->error);
    bind_u64(&b, r->answered);
    bind_text(&b, r->verb, r->verb_len < sizeof r->verb ? r->verb_len : sizeof r->verb);
    bind_text(&b, tail, r->target_len);
    size_t peer_len = address_text(r->peer, r->peer_length, peer, sizeof peer);
    if (peer_len)
        bind_text(&b, peer, peer_len);
    else
        b.n++;
    const uint64_t values[] = {r->bytes_in,       r->bytes_out,  r->body_in,         r->body_out,
                               r->cost.allocated, r->cost.freed, r->cost.allocations};
    for (size_t i = 0; i < sizeof values / sizeof *values; i++)
        bind_u64(&b, values[i]);
    bind_unless(&b, r->cost.cpu_ns, 0);
    bind_unless(&b, r->cost.lock_ns, 0);
    bind_unless(&b, r->cost.disk_ns, 0);
    bind_u64(&b, r->shared);
    bind_u64(&b, r->inferred);
    bind_text(&b, why, strlen(why));
    sqlite3_bind_double(b.st, ++b.n, r->rate);
    int rc = done(s, &b);
    sqlite3_clear_bindings(b.st);
    return rc;
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
    struct binder b = to(s, PUT_IN_FLIGHT);
    if (!b.st)
        return done(s, &b);
    const char *call = call_name(r->in_call);
    bind_u64(&b, r->span);
    bind_u64(&b, (uint64_t)r->pid);
    bind_u64(&b, (uint64_t)r->tid);
    bind_text(&b, (const char *)(r + 1), r->name_len);
    bind_u64(&b, r->start_ns);
    bind_u64(&b, r->age_ns);
    sqlite3_bind_text(b.st, ++b.n, call, -1, SQLITE_STATIC);
    return done(s, &b);
}

static int apply_unread(struct store *s, const struct row_unread *r)
{
    struct binder b = to(s, PUT_UNREAD);
    if (!b.st)
        return done(s, &b);
    const char *reason = r->reason < UNREAD_COUNT ? unread_names[r->reason] : "unknown";
    bind_u64(&b, s->run.lives);
    bind_text(&b, (const char *)(r + 1), r->address_len);
    bind_text(&b, reason, strlen(reason));
    bind_u64(&b, r->connections);
    bind_u64(&b, r->bytes_in);
    bind_u64(&b, r->bytes_out);
    return done(s, &b);
}

static int apply_clear(struct store *s)
{
    struct binder b = to(s, CLEAR_IN_FLIGHT);
    return done(s, &b);
}

static int apply(struct store *s, const struct row *row)
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
    default:
        return SQLITE_OK;
    }
}

static bool fits(size_t room, size_t fixed)
{
    return room >= fixed;
}

static bool fits_with(size_t room, size_t fixed, size_t variable)
{
    return room >= fixed && room - fixed >= variable;
}

/* Its fixed part and the lengths it names fit in it; a short row is no row. */
static bool is_whole(const struct row *row)
{
    const void *body = row + 1;
    size_t n = row->bytes < sizeof *row ? 0 : row->bytes - sizeof *row;
#define FIXED(type) fits(n, sizeof(struct type))
#define OF(type, field) (FIXED(type) ? (size_t)((const struct type *)body)->field : 0)
#define WHOLE(type, variable) fits_with(n, sizeof(struct type), (variable))
    switch (row->kind) {
    case ROW_RUN:
        return WHOLE(row_run,
                     OF(row_run, command_len) + OF(row_run, settings_len) + OF(row_run, host_len));
    case ROW_RUN_END:
        return FIXED(row_run_end);
    case ROW_PROCESS:
        return WHOLE(row_process, OF(row_process, executable_len) + OF(row_process, service_len));
    case ROW_ENDPOINT:
        return WHOLE(row_endpoint, OF(row_endpoint, service_len) + OF(row_endpoint, name_len));
    case ROW_INTERVAL:
        return FIXED(row_interval);
    case ROW_TOTAL:
        return WHOLE(row_total, OF(row_total, latency_len) + OF(row_total, first_len) +
                                    OF(row_total, heap_len));
    case ROW_STATUS:
        return FIXED(row_status);
    case ROW_SPAN:
        return WHOLE(row_span, OF(row_span, target_len) + OF(row_span, error_len));
    case ROW_IN_FLIGHT:
        return WHOLE(row_in_flight, OF(row_in_flight, name_len));
    case ROW_UNREAD:
        return WHOLE(row_unread, OF(row_unread, address_len));
    case ROW_COMMIT:
        return FIXED(row_commit);
    default:
        return row->kind == ROW_IN_FLIGHT_CLEAR;
    }
#undef OF
#undef WHOLE
#undef FIXED
}

/* --- transactions, and what happens when the file fails --- */

static bool remember(struct store *s, const struct row *row)
{
    if (s->pending_used + row->bytes > s->pending_room) {
        size_t room = s->pending_room ? s->pending_room * 2 : 65536;
        uint8_t *bigger = realloc(s->pending, room);
        if (!bigger)
            return false;
        s->pending = bigger;
        s->pending_room = room;
    }
    memcpy(s->pending + s->pending_used, row, row->bytes);
    s->pending_used += row->bytes;
    return true;
}

static int begin(struct store *s)
{
    int rc = SQLITE_OK;
    if (!s->open)
        rc = store_run_sql(s->db, "main", "BEGIN");
    s->open = rc == SQLITE_OK;
    return rc;
}

static void roll_back(struct store *s)
{
    if (!sqlite3_get_autocommit(s->db))
        store_run_sql(s->db, "main", "ROLLBACK");
    s->open = false;
}

static const char *word_for(int code)
{
    switch (code & 0xff) {
    case SQLITE_FULL:
        return "disk full";
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return "locked by another program";
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return "damaged";
    case SQLITE_READONLY:
    case SQLITE_PERM:
    case SQLITE_CANTOPEN:
        return "cannot be opened for writing";
    default:
        return "disk error";
    }
}

void store_count_shed(struct store *s, const char *reason, uint64_t spans)
{
    for (int i = 0; i < REASONS && spans; i++) {
        if (!s->shed[i].reason)
            s->shed[i].reason = reason;
        if (strcmp(s->shed[i].reason, reason) == 0) {
            s->shed[i].count += spans;
            return;
        }
    }
}

/* From here on totals go to memory, with those that the failed transaction held. */
static void leave_disk(struct store *s, int code, const char *why)
{
    roll_back(s);
    s->fault = code;
    s->why = why;
    s->target = TO_MEMORY;
    s->memory_floor = s->last_interval;
    s->retry_ns = clock_monotonic_ns() + RETRY_NS;
    store_count_shed(s, why, s->pending_spans);
    s->pending_spans = 0;
    tell(s,
         "store %s: %s; totals are kept in memory, sampled requests are dropped until it can be "
         "written again",
         s->path, why);
    begin(s);
    put_run(s);
    for (size_t at = 0; at < s->pending_used;) {
        const struct row *row = (const struct row *)(s->pending + at);
        apply(s, row);
        at += row->bytes;
    }
    s->pending_used = 0;
}

static const char *const state_tables[] = {"run",    "process", "endpoint", "interval",
                                           "loss",   "total",   "status",   "in_flight",
                                           "unread", "shed",    "documents"};

static int for_tables(struct store *s, const char *format)
{
    int rc = SQLITE_OK;
    for (size_t i = 0; i < sizeof state_tables / sizeof *state_tables && rc == SQLITE_OK; i++) {
        char sql[160];
        const char *t = state_tables[i];
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        snprintf(sql, sizeof sql, format, t, t);
#pragma GCC diagnostic pop
        rc = store_run_sql(s->db, "main", sql);
    }
    return rc;
}

/* Moves what memory holds to the file, in one transaction. SQLITE_OK: the file is the target again.
 */
static int recover(struct store *s)
{
    int rc = store_run_sql(s->db, "main", "BEGIN");
    if (rc == SQLITE_OK)
        rc = store_run_sql(s->db, "disk", "DELETE FROM %s.in_flight");
    if (rc == SQLITE_OK)
        rc = for_tables(s, "INSERT OR REPLACE INTO disk.%s SELECT * FROM main.%s");
    if (rc == SQLITE_OK)
        rc = store_run_sql(s->db, "disk", "DELETE FROM %s.process WHERE merged = 0");
    if (rc == SQLITE_OK)
        rc = for_tables(s, "DELETE FROM main.%s");
    if (rc == SQLITE_OK)
        rc = store_run_sql(s->db, "main", "COMMIT");
    if (rc != SQLITE_OK)
        roll_back(s);
    return rc;
}

/* --- the file --- */

static void detach(struct store *s)
{
    forget_statements(s, SCHEMA_DISK);
    if (s->attached)
        store_run_sql(s->db, "main", "DETACH disk");
    s->attached = false;
    if (s->lock >= 0)
        close(s->lock); /* only now: closing it earlier would drop SQLite's own locks on the file */
    s->lock = -1;
}

static void set_file_limits(struct store *s)
{
    uint64_t log = s->max_bytes / 16;
    log = log > UINT64_C(4) << 20 ? UINT64_C(4) << 20 : log;
    char sql[96];
    snprintf(sql, sizeof sql, "PRAGMA %%s.journal_size_limit=%llu", (unsigned long long)log);
    store_run_sql(s->db, "disk", sql);
    sqlite3_wal_autocheckpoint(s->db, (int)(log / 4096));
    store_run_sql(s->db, "disk", "PRAGMA %s.synchronous=NORMAL");
    store_run_sql(s->db, "disk", "PRAGMA %s.cache_size=-2048");
}

/* Opens the file at s->path, locks it, makes or checks its tables. SQLITE_OK or a code of SQLite.
 */
static int attach(struct store *s)
{
    int fd = open(s->path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return errno == ENOSPC || errno == EDQUOT ? SQLITE_FULL : SQLITE_CANTOPEN;
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        close(fd);
        return SQLITE_LOCKED;
    }
    s->lock = fd;
    enum file_kind kind = store_file_kind(s->path);
    if (kind == FILE_FOREIGN || kind == FILE_MISSING) {
        detach(s);
        return SQLITE_NOTADB;
    }
    sqlite3_stmt *st = store_prepare(s->db, "main", "ATTACH ? AS disk");
    sqlite3_bind_text(st, 1, s->path, -1, SQLITE_TRANSIENT);
    int rc = store_finish(st);
    sqlite3_finalize(st);
    s->attached = rc == SQLITE_OK;
    if (rc == SQLITE_OK && kind == FILE_EMPTY)
        rc = store_create(s->db, "disk");
    else if (rc == SQLITE_OK) {
        rc = store_run_sql(s->db, "disk", "PRAGMA %s.journal_mode=WAL");
        if (rc == SQLITE_OK &&
            store_ask(s->db, "disk", "SELECT count(*) FROM %s.sqlite_master") == 0)
            rc = SQLITE_CORRUPT;
    }
    if (rc == SQLITE_OK)
        set_file_limits(s);
    else
        detach(s);
    return rc;
}

static char *column_copy(sqlite3_stmt *st, int column)
{
    const char *text = (const char *)sqlite3_column_text(st, column);
    return text ? copy_text(text, (size_t)sqlite3_column_bytes(st, column)) : NULL;
}

static int32_t column_known(sqlite3_stmt *st, int column)
{
    return sqlite3_column_type(st, column) == SQLITE_NULL ? -1 : sqlite3_column_int(st, column);
}

/* Reads the file's run. False: it belongs to another run. */
static bool read_run(struct store *s)
{
    sqlite3_stmt *st = store_prepare(
        s->db, "disk",
        "SELECT coalesce(id, ''), command, settings, host, pid, start_ns, end_ns, exit_code,"
        " signal, clean, as_of_ns, lives, supervisor, supervisor_start FROM %s.run");
    bool ours = true;
    if (st && sqlite3_step(st) == SQLITE_ROW) {
        const char *id = (const char *)sqlite3_column_text(st, 0);
        ours = !id || !*id || strcmp(id, s->run_id) == 0;
        if (ours) {
            struct run *r = &s->run;
            r->command = column_copy(st, 1);
            r->settings = column_copy(st, 2);
            r->host = column_copy(st, 3);
            r->pid = sqlite3_column_int(st, 4);
            r->start_ns = (uint64_t)sqlite3_column_int64(st, 5);
            r->end_ns = (uint64_t)sqlite3_column_int64(st, 6);
            r->exit_code = column_known(st, 7);
            r->signal = column_known(st, 8);
            r->clean = sqlite3_column_int(st, 9);
            r->as_of_ns = (uint64_t)sqlite3_column_int64(st, 10);
            r->lives = (uint32_t)sqlite3_column_int(st, 11);
            r->supervisor = sqlite3_column_int(st, 12);
            r->supervisor_start = (uint64_t)sqlite3_column_int64(st, 13);
        }
    }
    sqlite3_finalize(st);
    return ours;
}

static void read_ledgers(struct store *s)
{
    static const char *const reasons[] = {"disk full",
                                          "locked by another program",
                                          "damaged",
                                          "disk error",
                                          "cannot be opened for writing",
                                          "held by a reader",
                                          "size",
                                          "queue"};
    for (size_t i = 0; i < sizeof reasons / sizeof *reasons; i++) {
        char sql[128];
        snprintf(sql, sizeof sql, "SELECT count FROM %%s.shed WHERE reason = '%s'", reasons[i]);
        store_count_shed(s, reasons[i], store_ask(s->db, "disk", sql));
    }
    sqlite3_stmt *st = store_prepare(s->db, "disk", "SELECT * FROM %s.documents");
    for (int i = 0; st && i < OUTPUTS && sqlite3_step(st) == SQLITE_ROW; i++) {
        struct documents *d = &s->output[i].documents;
        uint64_t *const to_field[] = {&d->carried,        &d->accepted,     &d->acknowledged,
                                      &d->duplicates,     &d->dead,         &d->queued,
                                      &d->dropped_memory, &d->dropped_exit, &d->dropped_refused};
        s->output[i].name = column_copy(st, 0);
        for (int f = 0; f < 9; f++)
            *to_field[f] = (uint64_t)sqlite3_column_int64(st, f + 1);
    }
    sqlite3_finalize(st);
}

/* What an earlier collector of this run left. */
static void take_over(struct store *s)
{
    struct store_resume *r = &s->resume;
    sqlite3 *db = s->db;
    r->lives = s->run.lives;
    r->run_start_ns = s->run.start_ns;
    r->as_of_ns = s->run.as_of_ns;
    r->last_interval = (uint32_t)store_ask(db, "disk", "SELECT max(interval) FROM %s.interval");
    r->last_process = (uint32_t)store_ask(db, "disk", "SELECT max(process) FROM %s.process");
    r->written = store_ask(db, "disk", "SELECT sum(written) FROM %s.interval");
    r->drained = store_ask(db, "disk", "SELECT sum(drained) FROM %s.interval");
    r->late = store_ask(db, "disk", "SELECT sum(late) FROM %s.interval");
    for (int i = 0; i < LOSS_COUNT; i++) {
        char sql[128];
        snprintf(sql, sizeof sql,
                 "SELECT sum(count) FROM %%s.loss WHERE stage = 'recorder' AND reason = '%s'",
                 loss_names[i]);
        r->lost[i] = store_ask(db, "disk", sql);
    }
    s->process.last = r->last_process;
    s->endpoint.last = (uint32_t)store_ask(db, "disk", "SELECT max(endpoint) FROM %s.endpoint");
    s->last_interval = r->last_interval;
    read_ledgers(s);
    /* an interval that the dead one left open will not be written again */
    store_run_sql(db, "disk", "UPDATE %s.interval SET closed = 1");
}

static void open_file(struct store *s)
{
    int rc = attach(s);
    bool other = rc == SQLITE_LOCKED || rc == SQLITE_NOTADB || (rc == SQLITE_OK && !read_run(s));
    if (other) { /* somebody was faster, or the file changed since it was chosen */
        char message[PATH_MAX + 256], path[PATH_MAX];
        detach(s);
        if (store_choose_path(s->path, path, sizeof path, message, sizeof message) >= 0) {
            tell(s, "%s", message);
            memcpy(s->path, path, sizeof path);
            rc = attach(s);
            if (rc == SQLITE_OK)
                read_run(s);
        }
    }
    if (rc != SQLITE_OK) {
        s->fault = rc;
        s->why = word_for(rc);
        s->retry_ns = clock_monotonic_ns() + RETRY_NS;
        tell(s, "store %s: %s; totals are kept in memory, sampled requests are dropped", s->path,
             s->why);
        return;
    }
    s->target = TO_DISK;
    if (s->run.lives)
        take_over(s);
}

struct store *store_open(const char *path, const char *run_id, uint64_t max_bytes, store_say_fn say,
                         void *say_to)
{
    struct store *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    s->say = say;
    s->say_to = say_to;
    s->lock = -1;
    s->max_bytes = max_bytes ? max_bytes : UINT64_C(256) << 20;
    s->run.exit_code = s->run.signal = -1;
    snprintf(s->run_id, sizeof s->run_id, "%s", run_id ? run_id : "");
    snprintf(s->path, sizeof s->path, "%s", path ? path : "none");
    s->none = strcmp(s->path, "none") == 0;
    if (sqlite3_open_v2(":memory:", &s->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, NULL) !=
            SQLITE_OK ||
        store_create(s->db, "main") != SQLITE_OK) {
        sqlite3_close(s->db);
        free(s);
        return NULL;
    }
    sqlite3_busy_timeout(s->db, 2000);
    if (!s->none)
        open_file(s);
    s->run.lives = s->resume.lives + 1;
    s->run.end_ns = 0; /* of a collector that thought it was the last */
    s->resume.first_sequence = (uint64_t)s->resume.lives << 40 | 1;
    memcpy(s->run.id, s->run_id, sizeof s->run.id);
    return s;
}

void store_resume(const struct store *s, struct store_resume *out)
{
    *out = s->resume;
}

void store_resume_processes(struct store *s, void (*each)(void *to, const struct store_process *),
                            void *to_whom)
{
    if (!s->attached)
        return;
    sqlite3_stmt *st = store_prepare(
        s->db, "disk",
        "SELECT process, pid, end_ns IS NOT NULL, start_ns, allocated, freed, allocations,"
        " coalesce(cpu_ns, 0) FROM %s.process WHERE merged = 1 ORDER BY process");
    while (st && sqlite3_step(st) == SQLITE_ROW) {
        struct store_process p = {.process = (uint32_t)sqlite3_column_int64(st, 0),
                                  .pid = sqlite3_column_int(st, 1),
                                  .ended = sqlite3_column_int(st, 2) != 0,
                                  .start_ns = (uint64_t)sqlite3_column_int64(st, 3),
                                  .allocated = (uint64_t)sqlite3_column_int64(st, 4),
                                  .freed = (uint64_t)sqlite3_column_int64(st, 5),
                                  .allocations = (uint64_t)sqlite3_column_int64(st, 6),
                                  .cpu_ns = (uint64_t)sqlite3_column_int64(st, 7)};
        each(to_whom, &p);
    }
    sqlite3_finalize(st);
}

/* --- size --- */

static uint64_t file_bytes(const char *path, const char *tail)
{
    char name[PATH_MAX + 16];
    struct stat st;
    snprintf(name, sizeof name, "%s%s", path, tail);
    return stat(name, &st) == 0 ? (uint64_t)st.st_size : 0;
}

static uint64_t used_bytes(struct store *s, const char *schema)
{
    uint64_t pages = store_ask(s->db, schema, "PRAGMA %s.page_count");
    return (pages - store_ask(s->db, schema, "PRAGMA %s.freelist_count")) * 4096;
}

/* Oldest spans first, a sixteenth at a time, as long as more than `least` are there. True: some
 * went. */
static bool shed_spans(struct store *s, uint64_t least)
{
    uint64_t first = store_ask(s->db, "disk", "SELECT min(span) FROM %s.span");
    uint64_t last = store_ask(s->db, "disk", "SELECT max(span) FROM %s.span");
    if (!last || last - first < least)
        return false;
    char sql[96];
    uint64_t before = (uint64_t)sqlite3_total_changes64(s->db), some = (last - first) / 16;
    snprintf(sql, sizeof sql, "DELETE FROM %%s.span WHERE span <= %llu",
             (unsigned long long)(first + (some < 256 ? 256 : some)));
    if (store_run_sql(s->db, "disk", sql) != SQLITE_OK)
        return false;
    store_count_shed(s, "size", (uint64_t)sqlite3_total_changes64(s->db) - before);
    return true;
}

static bool shrink(struct store *s, const char *schema, uint32_t floor)
{
    uint64_t newest = store_ask(s->db, schema, "SELECT max(interval) FROM %s.interval");
    uint64_t middle =
        store_ask(s->db, schema, "SELECT (min(interval) + max(interval)) / 2 FROM %s.interval");
    int merged = 0;
    store_roll(s->db, schema, 1, floor, newest, &merged);
    if (merged == 0)
        store_roll(s->db, schema, 2, floor, middle, &merged);
    if (merged == 0)
        store_roll(s->db, schema, 2, floor, newest, &merged);
    return merged > 0;
}

static void keep_memory_bound(struct store *s)
{
    if (used_bytes(s, "main") > MEMORY_MAX)
        shrink(s, "main", s->attached ? s->memory_floor : 0);
}

static void keep_disk_bound(struct store *s)
{
    uint64_t room = s->max_bytes / 4 * 3, quarter = room / 4 / SPAN_BYTES;
    /* a quarter of the room stays with the spans: totals of old intervals do not push out what
     * happened just now */
    for (int i = 0; i < 64 && used_bytes(s, "disk") > room; i++)
        if (!shed_spans(s, quarter) && !shrink(s, "disk", 0) && !shed_spans(s, 0))
            break;
    uint64_t log = file_bytes(s->path, "-wal");
    if (log <= s->max_bytes / 8 || file_bytes(s->path, "") + log <= s->max_bytes / 8 * 7)
        return;
    int rc = sqlite3_wal_checkpoint_v2(s->db, "disk", SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
    if (rc != SQLITE_OK &&
        file_bytes(s->path, "") + file_bytes(s->path, "-wal") > s->max_bytes / 8 * 7)
        leave_disk(s, SQLITE_BUSY, "held by a reader");
}

/* Back to the file as soon as it can be written again. */
static void try_again(struct store *s)
{
    uint64_t now = clock_monotonic_ns();
    if (s->none || s->target == TO_DISK || now < s->retry_ns)
        return;
    s->retry_ns = now + RETRY_NS;
    forget_statements(s, SCHEMA_DISK);
    if (!s->attached || (s->fault & 0xff) == SQLITE_IOERR) {
        detach(s);
        if (attach(s) != SQLITE_OK)
            return;
    }
    if (file_bytes(s->path, "-wal") > s->max_bytes / 8 &&
        sqlite3_wal_checkpoint_v2(s->db, "disk", SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL) !=
            SQLITE_OK)
        return;
    if (recover(s) != SQLITE_OK)
        return;
    s->target = TO_DISK;
    s->fault = 0;
    tell(s, "store %s: written again", s->path);
}

/* --- pushing --- */

static int put_ledgers(struct store *s)
{
    int rc = SQLITE_OK;
    for (int i = 0; i < REASONS && s->shed[i].reason && rc == SQLITE_OK; i++) {
        struct binder b = to(s, PUT_SHED);
        if (b.st) {
            bind_text(&b, s->shed[i].reason, strlen(s->shed[i].reason));
            bind_u64(&b, s->shed[i].count);
        }
        rc = done(s, &b);
    }
    for (int i = 0; i < OUTPUTS && s->output[i].name && rc == SQLITE_OK; i++) {
        const struct documents *d = &s->output[i].documents;
        const uint64_t values[] = {d->carried,        d->accepted,     d->acknowledged,
                                   d->duplicates,     d->dead,         d->queued,
                                   d->dropped_memory, d->dropped_exit, d->dropped_refused};
        struct binder b = to(s, PUT_DOCUMENTS);
        if (b.st) {
            bind_text(&b, s->output[i].name, strlen(s->output[i].name));
            for (size_t v = 0; v < sizeof values / sizeof *values; v++)
                bind_u64(&b, values[v]);
        }
        rc = done(s, &b);
    }
    return rc;
}

static int write_commit(struct store *s)
{
    int rc = begin(s);
    if (rc == SQLITE_OK)
        rc = put_run(s);
    if (rc == SQLITE_OK)
        rc = put_ledgers(s);
    if (rc == SQLITE_OK)
        rc = store_run_sql(s->db, "main", "COMMIT");
    s->open = !sqlite3_get_autocommit(s->db);
    return rc;
}

void store_commit(struct store *s)
{
    int rc = write_commit(s);
    if (rc != SQLITE_OK && s->target == TO_DISK) {
        leave_disk(s, rc, word_for(rc));
        write_commit(s);
    }
    s->pending_used = 0;
    s->pending_spans = s->span_bytes = 0;
    if (s->target == TO_DISK)
        keep_disk_bound(s);
    else
        keep_memory_bound(s);
    try_again(s);
}

static void push_span(struct store *s, const struct row *row)
{
    if (s->none)
        return;
    if (s->target == TO_MEMORY) {
        store_count_shed(s, s->why, 1);
        return;
    }
    s->pending_spans++;
    int rc = begin(s);
    if (rc == SQLITE_OK)
        rc = apply(s, row);
    if (rc != SQLITE_OK)
        leave_disk(s, rc, word_for(rc));
    s->span_bytes += row->bytes;
    if (s->span_bytes > s->max_bytes / 16)
        store_commit(s);
}

void store_push(struct store *s, const struct row *row)
{
    if (!is_whole(row))
        return;
    if (row->kind == ROW_SPAN) {
        push_span(s, row);
        return;
    }
    if (row->kind == ROW_COMMIT) {
        s->run.as_of_ns = ((const struct row_commit *)(row + 1))->time_ns;
        store_commit(s);
        return;
    }
    bool kept = s->target == TO_MEMORY || remember(s, row);
    int rc = begin(s);
    if (rc == SQLITE_OK)
        rc = apply(s, row);
    if (rc != SQLITE_OK && s->target == TO_DISK) {
        leave_disk(s, rc, word_for(rc));
        if (!kept)
            apply(s, row);
    }
    if (s->pending_used > PENDING_MAX)
        store_commit(s);
}

void store_documents(struct store *s, const char *output, const struct documents *d)
{
    for (int i = 0; i < OUTPUTS; i++) {
        if (!s->output[i].name)
            s->output[i].name = copy_text(output, strlen(output));
        if (s->output[i].name && strcmp(s->output[i].name, output) == 0) {
            s->output[i].documents = *d;
            return;
        }
    }
}

bool store_documents_before(const struct store *s, const char *output, struct documents *out)
{
    for (int i = 0; i < OUTPUTS && s->output[i].name; i++)
        if (strcmp(s->output[i].name, output) == 0) {
            *out = s->output[i].documents;
            return true;
        }
    return false;
}

const char *store_path(const struct store *s)
{
    return s->none || !s->attached ? "none" : s->path;
}

struct sqlite3 *store_connection(struct store *s)
{
    return s->db;
}

static int to_errno(int code)
{
    switch (code & 0xff) {
    case SQLITE_OK:
        return 0;
    case SQLITE_FULL:
        return -ENOSPC;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return -EBUSY;
    default:
        return -EIO;
    }
}

int store_close(struct store *s)
{
    if (!s)
        return 0;
    s->retry_ns = 0; /* a last try */
    store_commit(s);
    int rc = s->target == TO_DISK || s->none ? 0 : to_errno(s->fault ? s->fault : SQLITE_ERROR);
    forget_statements(s, SCHEMA_MEMORY);
    forget_statements(s, SCHEMA_DISK);
    if (s->attached && s->target == TO_DISK) {
        sqlite3_busy_timeout(s->db, 200);
        store_run_sql(s->db, "disk", "PRAGMA %s.incremental_vacuum(65536)");
        /* a reader keeps the log alive; the last to leave folds it in */
        store_run_sql(s->db, "disk", "PRAGMA %s.journal_mode=DELETE");
    }
    detach(s);
    sqlite3_close(s->db);
    for (int i = 0; i < OUTPUTS; i++)
        free(s->output[i].name);
    free(s->run.command);
    free(s->run.settings);
    free(s->run.host);
    free(s->process.to);
    free(s->endpoint.to);
    free(s->pending);
    free(s);
    return rc;
}
