/*
 * options.h - every setting: its key in the configuration file and in --set, its default, its bounds, its help.
 *
 * One table, so that `--set`, the file, `sonde check`, the man page and the docs can never disagree.
 */
#ifndef SONDE_OPTIONS_H
#define SONDE_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

/* OPTION(field, "key", default, min, max, "help"): unsigned integers; SWITCH: booleans; both 64 bits wide in the struct */
#define OPTIONS(OPTION, SWITCH)                                                                                        \
    OPTION(arena_bytes, "arena.bytes", 0, UINT64_C(8) << 20, UINT64_C(4) << 30,                                        \
           "shared memory between server and collector; 0: min(32 MiB, memory limit / 16)")                           \
    OPTION(store_bytes, "store.bytes", UINT64_C(256) << 20, UINT64_C(1) << 20, UINT64_C(1) << 50,                      \
           "largest size of the store, write-ahead log included")                                                      \
    OPTION(interval_s, "interval.s", 10, 1, 3600, "length of the intervals whose totals are kept")                     \
    OPTION(first_interval_s, "interval.first_s", 1, 1, 3600, "length of the intervals of a run's first 30 s")          \
    OPTION(spans_per_second, "sampling.spans_per_second", 100, 0, 100000000,                                           \
           "ordinary spans kept each second (errors and the slowest are kept besides)")                                \
    OPTION(store_spans_per_second, "store.spans_per_second", 1000, 0, 100000000,                                       \
           "of these in the store where there is an output, which gets all")                                           \
    OPTION(errors_per_second, "sampling.errors_per_second", 1000, 0, 100000000, "failed spans kept each second")       \
    OPTION(slowest, "sampling.slowest", 4, 0, 64, "slowest spans kept per endpoint and interval")                      \
    OPTION(exit_flush_s, "exit.flush_s", 2, 0, 3600, "how long to deliver after the last process has ended")           \
    OPTION(routes, "routes.limit", 200, 1, 100000, "routes a service before the rest becomes {other}")                 \
    OPTION(connections, "connections.limit", 131072, 64, 4194304, "connections followed at once")                      \
    OPTION(open_spans, "spans.open_limit", 32768, 64, 4194304, "requests in progress followed at once")                \
    OPTION(sample_bytes, "memory.sample_bytes", 524288, 1024, UINT64_C(1) << 40, "mean bytes between sampled stacks")  \
    OPTION(retained_s, "memory.retained_s", 5, 1, 86400,                                                               \
           "a sampled block that lives so long after its request is retained by it")                                   \
    OPTION(lock_sample_ns, "waits.sample_ns", 1000000, 1000, UINT64_C(1) << 40,                                        \
           "mean time of waiting for locks between sampled stacks, ns")                                                \
    OPTION(watermark_ms, "order.watermark_ms", 20, 1, 1000, "how long the merge waits for late events")               \
    OPTION(bulk_bytes, "output.bulk_bytes", UINT64_C(2) << 20, 65536, UINT64_C(64) << 20, "bytes in one _bulk body before compression") \
    OPTION(bulk_wait_ms, "output.wait_ms", 1000, 10, 60000, "longest wait before a batch that is not full is sent")    \
    OPTION(output_memory, "output.memory_bytes", UINT64_C(16) << 20, UINT64_C(1) << 20, UINT64_C(1) << 40,             \
           "documents held in memory while a destination is slow; beyond that they are dropped and counted")           \
    SWITCH(heap, "memory.heap", true, "count the bytes that each request allocates and frees")                         \
    SWITCH(stacks, "memory.stacks", true, "sample the stacks that allocate, follow those blocks until they are freed")  \
    SWITCH(cpu, "time.cpu", true, "read the CPU time of threads and charge it to requests")                            \
    SWITCH(waits, "time.waits", true, "time waits for locks, disk and sleep and charge them to requests")              \
    SWITCH(capture, "capture.data", true, "look at the bytes of connections (off: times and counts only)")             \
    SWITCH(queries, "store.queries", false, "keep query strings of URLs (they often hold secrets)")                    \
    SWITCH(paths, "store.paths", true, "keep the paths of sampled requests, with long opaque parts masked")

struct options {
#define OPTION_FIELD(field, key, def, min, max, help) uint64_t field;
#define SWITCH_FIELD(field, key, def, help) uint64_t field;
    OPTIONS(OPTION_FIELD, SWITCH_FIELD)
#undef OPTION_FIELD
#undef SWITCH_FIELD
};

struct option_row {
    const char *key, *help;
    uint64_t initial, min, max;
    bool is_switch;
    uint32_t offset; /* of the field in struct options */
};
extern const struct option_row option_rows[]; /* key NULL at the end */

void options_init(struct options *);

/*
 * Sets one key from text: integers with an optional k, M, G (powers of 1024) suffix, true/false/on/off/1/0. 0, -ENOENT
 * (no such key; `nearest` then names the closest one), -EINVAL (no number), -ERANGE. P.
 */
int options_set(struct options *, const char *key, const char *value, const char **nearest);

#endif
