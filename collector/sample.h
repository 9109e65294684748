/*
 * sample.h - which spans are kept whole, and how many stand behind each: no sorting, no randomness,
 * exact rates.
 *
 * In:      rollup.c (every finished span)      Out: emit, for the ones that are kept
 * Owns:    spans that wait for the end of their second or interval, already redacted.
 * Context: C
 *
 * Every span is in one population. Its rows' 1/rate add up to it exactly:
 *   ERROR   failed spans: the first so many a second, then shares (as below) of the rest of that
 * second SLOW    the slowest of an endpoint and interval that did not fail, each for itself SAMPLE
 * all others of a second. Each endpoint keeps those with the smallest hashes of their ids; when the
 * second's allowance is used, the endpoint that keeps most gives its largest up, so that a rare one
 * is never starved. Its rate is kept / offered. An allowance above 1024 passes what exceeds that at
 * once, each for itself; so a very large one keeps everything and holds nothing. An allowance of 0
 * keeps none of that population.
 *
 * Bounds: 1024 held spans each of errors and ordinary ones, plus one for each of at most 1024
 * endpoints a second (the others share one), 2048 slow ones.
 */
#ifndef SONDE_SAMPLE_H
#define SONDE_SAMPLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "collector/redact.h"
#include "collector/sink/rows.h"

struct options;
struct endpoint;
struct sample;

#define SAMPLE_TAIL_MAX (REDACTED_MAX + 32) /* target + error text */

/* A span that is kept; lost_before and sequence_in_run are left to the callee. */
typedef void (*sample_emit_fn)(void *to, struct row_span *, const char *tail, size_t tail_len);

struct sample *sample_new(const struct options *, sample_emit_fn, void *to);
void sample_free(struct sample *);
void sample_offer(struct sample *, const struct span *, const struct endpoint *, int32_t pid);
void sample_second(struct sample *);   /* the second is over: its errors and ordinary spans leave */
void sample_interval(struct sample *); /* the interval is over: its slow ones leave */

#endif
