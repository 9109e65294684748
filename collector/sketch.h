/*
 * sketch.h - a mergeable histogram of durations and sizes: log-linear, 64 buckets an octave, error <= 0.79 %.
 *
 * Context: P, but sketch_add takes pages of one octave (256 B) from a pool that the caller owns.
 * Values are clamped at 2^42 - 1; exact count, sum, min and max stand beside the buckets.
 */
#ifndef SONDE_SKETCH_H
#define SONDE_SKETCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SKETCH_OCTAVES 37 /* values below 64 exactly in the first page, then one page an octave up to 2^42 */
#define SKETCH_ERROR 0.0079

struct sketch_page {
    uint32_t bucket[64];
};
struct sketch_pool; /* bounded; pages are given back when their interval is closed */
struct sketch_pool *sketch_pool_new(size_t max_bytes);
void sketch_pool_free(struct sketch_pool *);
bool sketch_pool_tight(const struct sketch_pool *); /* below an eighth: close the interval early */

struct sketch {
    uint64_t count, sum, min, max;
    struct sketch_page *page[SKETCH_OCTAVES];
};

void sketch_init(struct sketch *);
void sketch_clear(struct sketch *, struct sketch_pool *); /* gives the pages back */
void sketch_add(struct sketch *, struct sketch_pool *, uint64_t value); /* no page left: exact fields only */
void sketch_merge(struct sketch *into, struct sketch_pool *, const struct sketch *from);
uint64_t sketch_quantile(const struct sketch *, double q); /* 0 when empty; within [min, max] */
/* Varint (gap, count) pairs, after count, sum, min, max. Bytes used, or 0: no room (SKETCH_ENCODED_MAX always has). */
size_t sketch_encode(const struct sketch *, uint8_t *to, size_t room);
/* Adds what was encoded; -EPROTO for damaged input, which is checked before any of it is used. */
int sketch_decode_into(struct sketch *, struct sketch_pool *, const uint8_t *from, size_t len);
#define SKETCH_ENCODED_MAX 4096 /* encode merges neighbouring sparse buckets' counts only if it must; see sketch.c */

#endif
