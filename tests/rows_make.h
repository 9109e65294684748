/*
 * rows_make.h - rows as the pipeline's thread would send them, for tests of the store, the report
 * and the outputs.
 *
 * Context: tests only. Each function gives a row in one buffer that the next call uses again.
 */
#ifndef SONDE_TESTS_ROWS_MAKE_H
#define SONDE_TESTS_ROWS_MAKE_H

#include <string.h>
#include "collector/sink/rows.h"
#include "collector/sketch.h"

#define AT UINT64_C(1769860800000000000) /* 2026-01-31 12:00:00 UTC */
#define SECOND UINT64_C(1000000000)
#define MS UINT64_C(1000000)
#define US UINT64_C(1000)

struct made {
    struct row row;
    uint8_t body[ROW_MAX_BYTES];
};

static struct made made_row;
static uint64_t made_rows;

static void *make_begin(enum row_kind kind, size_t fixed)
{
    memset(&made_row, 0, sizeof made_row);
    made_row.row.kind = (uint16_t)kind;
    made_row.row.sequence = ++made_rows;
    made_row.row.bytes = (uint16_t)(sizeof(struct row) + fixed);
    return made_row.body;
}

static uint16_t make_tail(const void *bytes, size_t len)
{
    memcpy((uint8_t *)&made_row + made_row.row.bytes, bytes, len);
    made_row.row.bytes = (uint16_t)(made_row.row.bytes + len);
    return (uint16_t)len;
}

static const struct row *make_end(void)
{
    made_row.row.bytes = (uint16_t)((made_row.row.bytes + 7) & ~7u);
    return &made_row.row;
}

static inline const struct row *make_run(const char *id, uint64_t start_ns, const char *command,
                                         const char *settings)
{
    struct row_run *r = make_begin(ROW_RUN, sizeof *r);
    r->start_ns = start_ns;
    r->pid = 4700;
    memcpy(r->id, id, strnlen(id, sizeof r->id));
    r->command_len = make_tail(command, strlen(command));
    r->settings_len = make_tail(settings, strlen(settings));
    r->host_len = make_tail("balloon", 7);
    return make_end();
}

static inline const struct row *make_run_end(uint64_t end_ns, int exit_code, int signal_number)
{
    struct row_run_end *r = make_begin(ROW_RUN_END, sizeof *r);
    r->end_ns = end_ns;
    r->exit_code = exit_code;
    r->signal = signal_number;
    r->clean = 1;
    return make_end();
}

static inline const struct row *make_process(const struct row_process *p, const char *executable,
                                             const char *service)
{
    struct row_process *r = make_begin(ROW_PROCESS, sizeof *r);
    *r = *p;
    r->executable_len = make_tail(executable, strlen(executable));
    r->service_len = make_tail(service, strlen(service));
    return make_end();
}

static inline const struct row *make_endpoint(uint32_t endpoint, const char *service,
                                              const char *protocol, enum side side,
                                              const char *name, uint32_t merged_into)
{
    struct row_endpoint *r = make_begin(ROW_ENDPOINT, sizeof *r);
    r->endpoint = endpoint;
    r->merged_into = merged_into;
    r->side = (uint8_t)side;
    memcpy(r->protocol, protocol, strnlen(protocol, sizeof r->protocol));
    r->service_len = make_tail(service, strlen(service));
    r->name_len = make_tail(name, strlen(name));
    return make_end();
}

static inline const struct row *make_interval(const struct row_interval *i)
{
    struct row_interval *r = make_begin(ROW_INTERVAL, sizeof *r);
    *r = *i;
    return make_end();
}

/* Percentile fields, counts and sums of times come from the sketches. */
static inline const struct row *make_total(const struct row_total *t, const struct sketch *latency,
                                           const struct sketch *first)
{
    uint8_t bytes[SKETCH_ENCODED_MAX];
    struct row_total *r = make_begin(ROW_TOTAL, sizeof *r);
    *r = *t;
    r->latency_sum = latency->sum;
    r->latency_min = latency->min;
    r->latency_max = latency->max;
    r->latency_p50 = sketch_quantile(latency, 0.5);
    r->latency_p90 = sketch_quantile(latency, 0.9);
    r->latency_p95 = sketch_quantile(latency, 0.95);
    r->latency_p99 = sketch_quantile(latency, 0.99);
    r->latency_p999 = sketch_quantile(latency, 0.999);
    r->first_count = first->count;
    r->first_sum = first->sum;
    r->first_min = first->min;
    r->first_max = first->max;
    r->first_p50 = sketch_quantile(first, 0.5);
    r->first_p90 = sketch_quantile(first, 0.9);
    r->first_p95 = sketch_quantile(first, 0.95);
    r->first_p99 = sketch_quantile(first, 0.99);
    r->first_p999 = sketch_quantile(first, 0.999);
    size_t n = sketch_encode(latency, bytes, sizeof bytes);
    r->latency_len = make_tail(bytes, n);
    n = sketch_encode(first, bytes, sizeof bytes);
    r->first_len = make_tail(bytes, n);
    return make_end();
}

static inline const struct row *make_status(uint32_t interval, uint32_t endpoint, uint32_t status,
                                            uint64_t count)
{
    struct row_status *r = make_begin(ROW_STATUS, sizeof *r);
    *r = (struct row_status){
        .interval = interval, .endpoint = endpoint, .status = status, .count = count};
    return make_end();
}

static inline const struct row *make_span(const struct row_span *s, const char *verb,
                                          const char *target, const char *error)
{
    struct row_span *r = make_begin(ROW_SPAN, sizeof *r);
    *r = *s;
    r->verb_len = (uint8_t)(strlen(verb) < sizeof r->verb ? strlen(verb) : sizeof r->verb);
    memcpy(r->verb, verb, r->verb_len);
    r->target_len = make_tail(target, strlen(target));
    r->error_len = make_tail(error, strlen(error));
    return make_end();
}

static inline const struct row *make_in_flight(const struct row_in_flight *f, const char *name)
{
    struct row_in_flight *r = make_begin(ROW_IN_FLIGHT, sizeof *r);
    *r = *f;
    r->name_len = make_tail(name, strlen(name));
    return make_end();
}

static inline const struct row *make_in_flight_clear(void)
{
    make_begin(ROW_IN_FLIGHT_CLEAR, 0);
    return make_end();
}

static inline const struct row *make_unread(const char *address, enum unread_reason reason,
                                            uint64_t connections, uint64_t in, uint64_t out)
{
    struct row_unread *r = make_begin(ROW_UNREAD, sizeof *r);
    r->connections = connections;
    r->bytes_in = in;
    r->bytes_out = out;
    r->reason = reason;
    r->address_len = make_tail(address, strlen(address));
    return make_end();
}

static inline const struct row *make_commit(uint64_t time_ns)
{
    struct row_commit *r = make_begin(ROW_COMMIT, sizeof *r);
    r->time_ns = time_ns;
    return make_end();
}

#endif
