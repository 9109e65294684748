/*
 * sketch.h - a mergeable histogram of durations and sizes: log-linear, 64 buckets an octave, error
 * <= 0.79 %.
 *
 * Context: P, but sketch_add takes pages of one octave (256 B) from a pool that the caller owns.
 * Values are clamped at 2^42 - 1; exact count, sum, min and max stand beside the buckets.
 */
#ifndef SONDE_SKETCH_H
#define SONDE_SKETCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* values below 64 exactly in the first page, then one page an octave up to 2^42 */
#define SKETCH_OCTAVES 37
#define SKETCH_ERROR 0.0079

struct sketch_page {
    uint32_t bucket[64];
};
struct sketch_pool; /* bounded; pages are given back when their interval is closed */
struct sketch_pool *sketch_pool_new(size_t max_bytes);
void sketch_pool_free(struct sketch_pool *);
bool sketch_pool_tight(const struct sketch_pool *); /* below an eighth: close the interval early */
size_t sketch_pool_free_pages(const struct sketch_pool *);

/* A bucket stays at 2^32 - 1 (so many of one run in 1.6 % of values); the exact fields go on. */
struct sketch {
    uint64_t count, sum, min, max;
    struct sketch_page *page[SKETCH_OCTAVES];
};

void sketch_init(struct sketch *);
void sketch_clear(struct sketch *, struct sketch_pool *); /* gives the pages back */
#define SKETCH_CLAMP ((UINT64_C(1) << 42) - 1)
void sketch_take_page(struct sketch *, struct sketch_pool *, unsigned octave); /* if there is one */

/* No page left: exact fields only. */
static inline void sketch_add(struct sketch *s, struct sketch_pool *pool, uint64_t value)
{
    s->count++;
    s->sum += value;
    if (value < s->min)
        s->min = value;
    if (value > s->max)
        s->max = value;
    if (__builtin_expect(value > SKETCH_CLAMP, 0))
        value = SKETCH_CLAMP;
    unsigned octave = value < 64 ? 0 : 58 - (unsigned)__builtin_clzll(value);
    if (__builtin_expect(!s->page[octave], 0)) {
        sketch_take_page(s, pool, octave);
        if (!s->page[octave])
            return;
    }
    uint32_t *bucket = &s->page[octave]->bucket[(value >> (octave ? octave - 1 : 0)) & 63];
    if (__builtin_expect(++*bucket == 0, 0))
        *bucket = UINT32_MAX;
}

void sketch_merge(struct sketch *into, struct sketch_pool *, const struct sketch *from);
/*
 * The value at rank ceil(q * count), counted from 1; 0 when empty; within [min, max]; q <= 0 is
 * min, q >= 1 is max. Values above the clamp are told as the clamp (or max).
 */
uint64_t sketch_quantile(const struct sketch *, double q);
/* The same for `n` ascending ones in one pass. */
void sketch_quantiles(const struct sketch *, const double *q, uint64_t *out, size_t n);
/*
 * Varints: count, sum, min, max, then for each bucket in use its count << 1, plus 1 when buckets
 * were passed over since the one before it, whose number follows. Bytes used, 0 for an empty sketch
 * or when there is no room (SKETCH_ENCODED_MAX always has).
 */
size_t sketch_encode(const struct sketch *, uint8_t *to, size_t room);
/* Adds what was encoded, nothing at all being an empty sketch; -EPROTO for damaged input, which is
 * checked before any of it is used. */
int sketch_decode_into(struct sketch *, struct sketch_pool *, const uint8_t *from, size_t len);
/* Encode merges neighbouring sparse buckets' counts only if it must; see sketch.c. */
#define SKETCH_ENCODED_MAX 4096

#endif
