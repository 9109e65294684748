/*
 * interval.h - totals of every span: one tally an interval and endpoint, one total each class of
 * its statuses.
 *
 * In:      rollup.c                       Out: ROW_INTERVAL, ROW_TOTAL, ROW_STATUS
 * Owns:    intervals and what they hold, sketch pages.
 * Context: C
 *
 * One interval is open. A closed one waits until all its rows are in the queue; when four wait,
 * those of which no row was ever sent are merged, so that memory is bounded however long the sinks
 * stand still and nothing is lost but the boundary between them.
 */
#ifndef SONDE_INTERVAL_H
#define SONDE_INTERVAL_H

#include <stdbool.h>
#include <stdint.h>
#include "collector/endpoint.h"
#include "collector/span.h"

struct queue;
struct intervals;

struct stream_counts {
    uint64_t written, drained, late, lost[LOSS_COUNT];
};

struct intervals *intervals_new(struct endpoints *, bool heap);
void intervals_free(struct intervals *);
void intervals_number_from(struct intervals *, uint32_t first); /* before the first span */

void intervals_count(struct intervals *, struct endpoint *, const struct span *);
/* Found now of a request that was counted before, by its class then. */
void intervals_retained(struct intervals *, struct endpoint *, unsigned class, uint64_t bytes, uint64_t samples);
unsigned intervals_class(const struct endpoint *, const struct span *);
uint32_t intervals_open(const struct intervals *); /* number of the open one */
/* Sketch pages run short: close now. False while closed ones still wait to be sent. */
bool intervals_tight(const struct intervals *);

void intervals_start(struct intervals *, uint64_t now_ns); /* the first thing that happened */
/* What the flow counters moved by since the open one began. */
void intervals_flow(struct intervals *, const struct flow *, const struct stream_counts *);
void intervals_shed(struct intervals *,
                    uint64_t spans); /* ROW_SPANs for which the queue had no room */
/* Closes the open one if it has anything; the next one begins at `end_ns`. True: it had. */
bool intervals_close(struct intervals *, uint64_t end_ns);

/* Pushes what changed, closed ones first. False: no room, the rest comes with the next call. */
bool intervals_push(struct intervals *, struct queue *, uint64_t now_ns);

#endif
