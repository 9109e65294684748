/*
 * rollup.h - totals of every span, samples of some, as rows for the sinks.
 *
 * In:      pipeline.c (finished spans, facts, flow counters, ticks)
 * Out:     sink/queue.h (flat rows, see sink/rows.h)
 * Owns:    endpoints (method + route template, sketches per interval and class), samplers, process rows.
 * Context: C, pipeline thread only. Reads no clock: time comes with ticks.
 *
 * Totals are cumulative per interval and pushed as whole rows each second for what changed, so that a row shed by a
 * full queue is mended by the next; rows of a closed interval are kept until they are in the queue.
 */
#ifndef SONDE_ROLLUP_H
#define SONDE_ROLLUP_H

#include "collector/span.h"
#include "wire/options.h"

struct queue;
struct sites;
struct rollup;

struct rollup *rollup_new(const struct options *, struct queue *, const char *service_of_command);
void rollup_free(struct rollup *);
/*
 * A collector before this one had the run: numbers go on after its own, and the counts of FACT_STREAM, which are the
 * run's, are told only as far as they exceed what it had committed. Before the first item.
 */
struct rollup_resume {
    uint32_t last_interval, last_endpoint, last_stack;
    uint64_t written, drained, late, lost[LOSS_COUNT];
};
void rollup_resume(struct rollup *, const struct rollup_resume *);

void rollup_span(void *rollup, const struct span *); /* a span_fn; with samples it is not offered for sampling yet */
/* For heap.c: where a span counts; what it retained, found later; the span itself for sampling, once it says so. */
struct rollup_place {
    uint32_t endpoint;
    uint8_t class;
};
struct rollup_place rollup_place(struct rollup *, const struct span *);
void rollup_retained(struct rollup *, uint32_t endpoint, unsigned class, uint64_t bytes, uint64_t samples);
void rollup_offer(struct rollup *, const struct span *);
struct sites *rollup_sites(struct rollup *);
/* PROCESS, PROCESS_TOTAL, PROCESS_END, REAPED, STREAM, COMMAND_END; `item` gives process number and time */
void rollup_fact(struct rollup *, const struct item *);
/* At most once a second of stream time, and at the end with last = true: closes intervals, pushes what changed, COMMIT. */
/* flow.outside* may shrink from one tick to the next: what is in progress counts there. Subtract as signed. */
void rollup_tick(struct rollup *, uint64_t time_ns, const struct flow *, bool last);
/* Before the tick that should show them: the requests in flight now (replaces the earlier list), what is unread. */
void rollup_in_flight(struct rollup *, const struct in_flight *, size_t count);
void rollup_unread(struct rollup *, const struct unread *, size_t count);

#endif
