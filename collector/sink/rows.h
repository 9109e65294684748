/*
 * rows.h - what travels from the pipeline's thread to the sink thread: flat rows of fixed shapes with a tail of bytes.
 *
 * In:      rollup.c, main.c                Out: sink/store.c, sink/elasticsearch.c
 * A row is struct row, then the kind's struct, then its variable parts in the order named. No pointers. Units: bytes,
 * ns; times since the epoch. Totals are of one interval, cumulative within it: a later row replaces an earlier one.
 */
#ifndef SONDE_ROWS_H
#define SONDE_ROWS_H

#include <stdint.h>
#include "collector/order.h"
#include "collector/span.h"

#define ROW_MAX_BYTES 16384

enum row_kind {
    ROW_RUN,       /* struct row_run + command (JSON array) + settings (JSON object) + host name */
    ROW_RUN_END,   /* struct row_run_end */
    ROW_PROCESS,   /* struct row_process + executable + service; the same process number replaces */
    ROW_ENDPOINT,  /* struct row_endpoint + service + name; sent before the first row that names it */
    ROW_INTERVAL,  /* struct row_interval */
    ROW_TOTAL,     /* struct row_total + sketches: latency, first byte, heap, CPU */
    ROW_STATUS,    /* struct row_status */
    ROW_SPAN,      /* struct row_span + target (redacted) + error text */
    ROW_IN_FLIGHT_CLEAR,
    ROW_IN_FLIGHT, /* struct row_in_flight + endpoint name */
    ROW_UNREAD,    /* struct row_unread + address text */
    ROW_STACK,     /* struct row_stack + its frames as text; sent before the first row that names it */
    ROW_SITE,      /* struct row_site; the same endpoint, stack, kind replaces */
    ROW_SITE_LIVE, /* struct row_site_live; once an interval, when it is closed */
    ROW_OBJECT,    /* struct row_object + path; sent before the first row that names it. Of symbol.c alone, */
    ROW_FRAMES,    /* struct row_frames + its frames: the sink thread makes a ROW_STACK of it for all others */
    ROW_COMMIT     /* struct row_commit: ends a transaction */
};

struct row {
    uint16_t kind;  /* enum row_kind */
    uint16_t bytes; /* of all of it, multiple of 8 */
    uint32_t pad;
    uint64_t sequence; /* counts rows of the run, from 1: time-ordered part of a document's _id */
};

struct row_run {
    uint64_t start_ns;
    char id[32]; /* hex, NUL-padded: the arena's token */
    int32_t pid;
    uint16_t command_len, settings_len, host_len, pad;
};
struct row_run_end {
    uint64_t end_ns;
    int32_t exit_code, signal; /* -1 unknown */
    int32_t clean;             /* 1: the last process ended and all was drained */
    int32_t pad;
};
struct row_process {
    uint32_t process; /* number in the run, from 1 */
    int32_t pid, parent;
    int32_t exit_code, signal; /* -1 unknown */
    uint32_t merged;           /* how many processes this row sums; 1; 0: forget this row, another one sums it now */
    uint32_t ended, heap_tail_unknown;
    uint64_t start_ns, end_ns;
    uint64_t allocated, freed, allocations, cpu_ns;
    uint16_t executable_len, service_len;
    uint32_t flags; /* enum process_flag */
};
struct row_endpoint {
    uint32_t endpoint; /* number in the run, from 1 */
    uint32_t merged_into; /* 0: itself */
    uint8_t side, pad[7];
    char protocol[16];
    uint16_t service_len, name_len;
    uint32_t pad2;
};
struct row_interval {
    uint32_t interval; /* number in the run, from 1, never used again after a collector's death */
    uint32_t closed;
    uint64_t start_ns, end_ns;
    struct flow flow;  /* of this interval alone */
    uint64_t written, drained, late, lost[LOSS_COUNT]; /* of this interval alone */
    uint64_t shed_spans;      /* ROW_SPANs for which the queue had no room, of this interval alone */
    uint64_t uncounted_spans; /* in no total for lack of memory, of this interval alone */
};
/* class: the status class for HTTP (1..5), CLASS_OK, CLASS_ERROR for others, CLASS_NONE without an answer */
enum { CLASS_NONE = 0, CLASS_OK = 6, CLASS_ERROR = 7 };
struct row_total {
    uint32_t interval, endpoint;
    uint8_t class, closed, pad[6];
    uint64_t start_ns, end_ns; /* the interval's */
    uint64_t count, errors, unobserved, inferred, shared;
    uint64_t bytes_in, bytes_out, body_in, body_out;
    uint64_t latency_sum, latency_min, latency_max, latency_p50, latency_p90, latency_p95, latency_p99, latency_p999;
    uint64_t first_count, first_sum, first_min, first_max, first_p50, first_p90, first_p95, first_p99, first_p999;
    struct cost cost;
    struct wall wall;
    uint64_t cpu_count, waits_count; /* spans whose CPU, whose waits were measured */
    uint64_t downstream_ns;
    uint64_t retained, retained_samples; /* found in this interval, of requests that may have ended in earlier ones;
                                            UINT64_MAX: stacks are not sampled */
    uint16_t latency_len, first_len, heap_len, cpu_len;
};
struct row_status {
    uint32_t interval, endpoint, status, pad; /* status 0: by error text class "error" */
    uint64_t count;
};
enum why { WHY_SAMPLE, WHY_ERROR, WHY_SLOW };
enum span_for { FOR_ALL, FOR_OUTPUTS, FOR_STORE };
struct row_span {
    uint64_t id, parent, sequence_in_run;
    uint8_t trace[16];
    uint32_t endpoint, process;
    int32_t pid, tid;
    uint64_t start_ns, duration_ns, queue_ns, receive_ns, work_ns, first_byte_ns, send_ns; /* UINT64_MAX unknown */
    uint64_t bytes_in, bytes_out, body_in, body_out;
    struct cost cost;
    struct wall wall;
    uint64_t downstream_ns;
    uint64_t retained; /* UINT64_MAX unknown */
    double rate; /* 1/rate spans stand behind this one */
    uint64_t lost_before; /* spans shed since the last one that was sent */
    uint32_t status, inferred;
    uint16_t shared;
    uint8_t cpu_known, waits_known, meant_for, pad0[5]; /* meant_for: enum span_for */
    uint8_t side, why, answered, error, traced, peer_length;
    uint8_t peer[28], local[28];
    uint8_t local_length, verb_len;
    uint16_t target_len, error_len, pad;
    char protocol[16], verb[32];
};
struct row_in_flight {
    uint64_t span;
    int32_t pid, tid;
    uint64_t start_ns, age_ns;
    uint32_t in_call;
    uint16_t name_len, pad;
};
struct row_unread {
    uint64_t connections, bytes_in, bytes_out;
    uint32_t reason; /* enum unread_reason */
    uint16_t address_len, pad;
};
/*
 * A stack, innermost frame first, frames separated by " < " (no frame holds that). A frame is what the collector made of
 * an address: "function" with " (inlined)" where it is, "object+0x1234" without symbols, "[jit]" or "[jit] name".
 */
struct row_stack {
    uint32_t stack; /* number in the run, from 1 */
    uint16_t text_len;
    uint8_t end, pad; /* enum event_stack_end */
};
enum site_kind { SITE_ALLOCATED, SITE_LOCKWAIT };
/* What was sampled at one stack for one endpoint since the run began. Estimates, re-weighted; `samples` tell how sure. */
struct row_site {
    uint32_t endpoint; /* 0: of no request */
    uint32_t stack;
    uint8_t kind, pad[7];
    uint64_t samples, amount;      /* bytes allocated; ns waited */
    uint64_t live_samples, live_bytes, oldest_ns; /* of them not freed now; when the oldest was allocated, since the epoch, 0 none */
    uint64_t retained_samples, retained_bytes;    /* lived memory.retained_s past the end of their request */
    uint64_t ended_samples, ended_bytes;          /* never freed: live when their process ended; not in live_* */
};
/* Growth: what lives of a site when an interval is closed, or lived when its process ended in this interval. */
struct row_site_live {
    uint32_t interval, endpoint, stack, pad;
    uint64_t requests; /* of the endpoint since this collector began; of endpoint 0: of all */
    uint64_t live_samples, live_bytes;
};
/* What frames lie in, over all processes that map the same file. */
struct row_object {
    uint32_t object; /* number in the run, from 1 */
    int32_t pid;     /* of a process that has it */
    uint8_t build_id[20];
    uint16_t build_id_len;
    uint16_t path_len;
    uint8_t jit, pad[3]; /* no file: code that the process `pid` made; addresses are as in its memory */
};
struct frame {
    uint32_t object; /* 0: in none that is known */
    uint32_t pad;
    uint64_t address; /* as the file's symbol table counts; a return address: the call is before it */
};
struct row_frames {
    uint32_t stack;
    uint16_t frames;
    uint8_t end, pad;
};
struct row_commit {
    uint64_t time_ns;
};

#endif
