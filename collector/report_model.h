/*
 * report_model.h - the report as plain memory: what report_load fills and report_json and
 * report_text show.
 *
 * In:      report_load.c                        Out: report_json.c, report_text.c
 * Owns:    nothing; all memory hangs on struct report and goes with report_free.
 * Units: bytes, ns, times since the epoch. A number that may be unknown says so: UNKNOWN.
 */
#ifndef SONDE_REPORT_MODEL_H
#define SONDE_REPORT_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "collector/growth.h"
#include "collector/order.h"
#include "collector/sink/sink.h"
#include "collector/span.h"

#define UNKNOWN UINT64_MAX

enum report_verdict { REPORT_COMPLETE, REPORT_PARTIAL, REPORT_LOSSY };
extern const char *const report_verdicts[3]; /* "complete", "partial", "lossy" */

struct report_latency { /* count 0: the rest is unknown */
    uint64_t count, sum, mean, min, p50, p90, p99, p999, max;
};

struct report_status {
    uint32_t status; /* 0: an error of a protocol without numbers */
    uint64_t count;
};

/* Where the time of an endpoint's requests went, sums; UNKNOWN where it was not measured. */
struct report_measured {
    uint64_t cpu_ns, lock_ns, disk_ns, sleep_ns, runqueue_ns, downstream_ns;
    uint64_t cpu_count, waits_count; /* requests of which it was */
    uint64_t retained_samples;
    struct report_latency heap, cpu; /* bytes, ns each request; count 0: unknown */
};

struct report_endpoint {
    const char *service, *protocol, *name;
    enum side side;
    uint64_t count, errors, unobserved, inferred, shared;
    uint64_t bytes_in, bytes_out, body_in, body_out;
    struct report_latency latency, first;
    bool heap_known;
    uint64_t allocated, freed, allocations;
    uint64_t retained, cpu_ns, lock_ns, disk_ns, sleep_ns, downstream_ns; /* UNKNOWN */
    const struct report_status *status;
    int statuses;
    uint32_t key; /* by which sites name it */
    struct report_measured measured;
    struct growth growth; /* of all that its sites keep; only when the history was asked for */
};

/* What sampled stacks told of one place in the code for one endpoint, since the run began. Estimates. */
struct report_site {
    uint32_t key;                  /* of its endpoint, 0: of no request */
    const char *service, *endpoint; /* NULL: of no request */
    const char *frames;            /* innermost first, " < " between */
    bool lockwait;                 /* amount: ns waited for a lock; else bytes allocated, and: */
    uint64_t samples, amount;
    uint64_t live_samples, live_bytes, oldest_ns; /* oldest 0: none */
    uint64_t ended_samples, ended_bytes;          /* never freed: lived when their process ended */
    uint64_t retained_samples, retained_bytes;    /* lived memory.retained_s past the end of their request */
    /* Sites of one endpoint whose innermost frames are the same stand side by side and are one place: callers change while
     * a just-in-time compiler is at work. The first of them tells of all. */
    bool follows;                  /* it is not the first */
    int place_sites;
    const char *place_frames;      /* of the one that keeps most */
    uint64_t place_samples, place_bytes; /* that live, or lived when their process ended */
    struct growth growth;          /* of the place; only when the history was asked for */
};

struct report_process {
    int32_t pid, parent;
    const char *executable, *service;
    uint64_t start_ns, end_ns; /* end 0: lives */
    int32_t exit_code, signal; /* -1 unknown */
    uint64_t allocated, freed, allocations, cpu_ns;
    uint64_t merged;
    bool heap_tail_unknown;
    uint32_t flags; /* enum process_flag */
};

bool report_lost_frees(const struct report_process *); /* what seems to live in it may not */

struct report_unread {
    const char *address, *reason;
    uint64_t connections, bytes_in, bytes_out;
};

struct report_in_flight {
    int32_t pid, tid;
    const char *endpoint, *call; /* call NULL: in none */
    uint64_t start_ns, age_ns;
};

struct report_span { /* of the slowest */
    uint64_t start_ns, duration_ns;
    const char *service, *endpoint, *target, *error; /* target, error NULL: not kept */
    enum side side;
    uint32_t status; /* 0: unobserved or none */
    bool failed, answered;
    uint64_t queue_ns, receive_ns, work_ns, first_ns, send_ns, downstream_ns; /* UNKNOWN */
    uint64_t cpu_ns, lock_ns, disk_ns, sleep_ns, runqueue_ns; /* within its duration, UNKNOWN */
};

struct report_error {                      /* failed requests of one endpoint and status */
    const char *service, *endpoint, *text; /* text: first word of the answer, NULL none */
    uint32_t status;
    uint64_t count, first_ns, last_ns; /* 0: of none a sample was kept */
};

struct report_loss { /* other than lost events */
    const char *reason;
    uint64_t count;
};

struct report_output {
    const char *name;
    struct documents documents;
    uint64_t dropped_collector; /* were queued when the collector was killed */
};

struct report_block;

struct report {
    struct report_block *blocks; /* all strings and arrays */
    enum report_verdict verdict;
    bool running, abandoned; /* abandoned: no end was written and nobody writes any more */
    uint64_t as_of_ns, from_ns, to_ns;
    bool cut; /* --since: not the whole run */
    /* run */
    const char *command, *host, *version, *id; /* command: JSON array; NULL unknown */
    uint64_t start_ns, end_ns, duration_ns;
    int32_t exit_code, signal;
    uint32_t lives;
    bool heap_counted; /* memory.heap was on */
    uint64_t arena_bytes;
    bool stacks_sampled, cpu_wanted, waits_wanted; /* memory.stacks, time.cpu, time.waits were on */
    uint64_t sample_bytes, lock_sample_ns, retained_s; /* settings */
    /* lists */
    struct report_endpoint *endpoint;
    struct report_process *process;
    struct report_unread *unread;
    struct report_in_flight *in_flight;
    struct report_span *slowest;
    struct report_error *error;
    struct report_loss *bound, *shed;
    struct report_output *output;
    struct report_site *site;
    int endpoints, processes, unreads, in_flights, slowests, errors, bounds, sheds, outputs, sites;
    int top; /* as asked, 0: as many as are useful */
    bool sites_known; /* the store has them */
    bool history_known; /* and what lived of them over time */
    int moments;        /* of it */
    struct growth outside_growth; /* of what belongs to no request */
    /* sums */
    struct {
        uint64_t accepted, opened, inherited, bytes_in, bytes_out;
    } connections;
    struct {
        uint64_t bytes_in, bytes_out, allocated, freed, allocations, cpu_ns; /* cpu_ns UNKNOWN */
        uint64_t unseen_cpu_ns; /* of it, what no event showed */
    } outside;
    struct {
        uint64_t written, drained, late, lost[LOSS_COUNT], lost_sum;
        uint64_t first_lost_ns, last_lost_ns; /* the intervals in which events were lost, 0 none */
    } events;
    uint64_t requests, failed; /* over all endpoints */
};

#endif
