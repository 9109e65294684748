/*
 * sketch.c - the histogram of sketch.h: adding, merging, quantiles, and its form as bytes.
 *
 * In:      interval.c (adds), store and report (merge, quantiles)      Out: -
 * Owns:    the pools.
 * Context: P
 * Failure: no page left: exact fields only, the buckets then hold fewer than `count`; quantiles are
 * of what they hold.
 *
 * Value v < 64 is bucket v of page 0. Else its octave is e = floor(log2 v), its page e - 5, its
 * bucket the 6 bits after the leading one: buckets of octave e are 2^(e-6) wide, told as their
 * middle, so off by at most 2^(e-7) / 2^e = 0.79 %.
 *
 * Encoding more than SKETCH_ENCODED_MAX takes well over a thousand buckets in use. Then pages are
 * made coarser, one halving of their buckets at a time, the page with the fewest values for each
 * byte it costs first: what is seldom loses precision before what is frequent. Real distributions
 * of one interval never come near.
 */
#include "collector/sketch.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define BUCKETS (SKETCH_OCTAVES * 64u)
#define SLAB_PAGES 256u
#define VARINT_MAX 10

/* ---- pool ---- */

union slot {
    struct sketch_page page;
    union slot *next_free;
};
struct slab {
    struct slab *next;
    union slot slot[SLAB_PAGES];
};
struct sketch_pool {
    struct slab *slabs;
    union slot *free;
    size_t unused; /* pages of the newest slab that were never given */
    size_t left;   /* pages that may still be given */
    size_t pages;
};

struct sketch_pool *sketch_pool_new(size_t max_bytes)
{
    struct sketch_pool *pool = calloc(1, sizeof *pool);
    if (pool)
        pool->pages = pool->left = max_bytes / sizeof(union slot);
    return pool;
}

void sketch_pool_free(struct sketch_pool *pool)
{
    if (!pool)
        return;
    for (struct slab *slab = pool->slabs, *next; slab; slab = next) {
        next = slab->next;
        free(slab);
    }
    free(pool);
}

bool sketch_pool_tight(const struct sketch_pool *pool)
{
    return pool->left * 8 < pool->pages;
}

size_t sketch_pool_free_pages(const struct sketch_pool *pool)
{
    return pool->left;
}

static union slot *take_slot(struct sketch_pool *pool)
{
    union slot *slot = pool->free;
    if (slot) {
        pool->free = slot->next_free;
        return slot;
    }
    if (!pool->unused) {
        struct slab *slab = malloc(sizeof *slab);
        if (!slab)
            return NULL;
        slab->next = pool->slabs;
        pool->slabs = slab;
        pool->unused = SLAB_PAGES;
    }
    return &pool->slabs->slot[--pool->unused];
}

static struct sketch_page *take_page(struct sketch *s, struct sketch_pool *pool, unsigned octave)
{
    union slot *slot = pool->left ? take_slot(pool) : NULL;
    if (!slot)
        return NULL;
    pool->left--;
    memset(&slot->page, 0, sizeof slot->page);
    return s->page[octave] = &slot->page;
}

static void give_page(struct sketch_pool *pool, struct sketch_page *page)
{
    union slot *slot = (union slot *)(void *)page;
    slot->next_free = pool->free;
    pool->free = slot;
    pool->left++;
}

/* ---- adding ---- */

void sketch_init(struct sketch *s)
{
    *s = (struct sketch){.min = UINT64_MAX};
}

void sketch_clear(struct sketch *s, struct sketch_pool *pool)
{
    for (unsigned i = 0; i < SKETCH_OCTAVES; i++)
        if (s->page[i])
            give_page(pool, s->page[i]);
    sketch_init(s);
}

void sketch_take_page(struct sketch *s, struct sketch_pool *pool, unsigned octave)
{
    take_page(s, pool, octave);
}

static void add_to_bucket(struct sketch *s, struct sketch_pool *pool, unsigned index,
                          uint32_t count)
{
    struct sketch_page *page = s->page[index / 64];
    if (!page && !(page = take_page(s, pool, index / 64)))
        return;
    uint32_t *bucket = &page->bucket[index % 64];
    *bucket = count > UINT32_MAX - *bucket ? UINT32_MAX : *bucket + count;
}

static void add_exact(struct sketch *s, uint64_t count, uint64_t sum, uint64_t min, uint64_t max)
{
    s->count += count;
    s->sum += sum;
    if (min < s->min)
        s->min = min;
    if (max > s->max)
        s->max = max;
}

void sketch_merge(struct sketch *into, struct sketch_pool *pool, const struct sketch *from)
{
    if (!from->count)
        return;
    add_exact(into, from->count, from->sum, from->min, from->max);
    for (unsigned i = 0; i < BUCKETS; i++) {
        const struct sketch_page *page = from->page[i / 64];
        if (!page)
            i |= 63;
        else if (page->bucket[i % 64])
            add_to_bucket(into, pool, i, page->bucket[i % 64]);
    }
}

/* ---- quantiles ---- */

/* The middle of a bucket; of page 0 the value itself. */
static uint64_t value_of(unsigned index)
{
    unsigned octave = index / 64;
    if (octave == 0)
        return index;
    uint64_t width = UINT64_C(1) << (octave - 1);
    return (64 + (uint64_t)(index % 64)) * width + width / 2;
}

static uint64_t held(const struct sketch *s)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < SKETCH_OCTAVES; i++)
        for (unsigned j = 0; s->page[i] && j < 64; j++)
            sum += s->page[i]->bucket[j];
    return sum;
}

static uint64_t rank_of(double q, uint64_t count)
{
    double rank = ceil(q * (double)count);
    if (rank >= (double)count)
        return count;
    return rank < 1 ? 1 : (uint64_t)rank;
}

static uint64_t within(const struct sketch *s, uint64_t value)
{
    return value < s->min ? s->min : value > s->max ? s->max : value;
}

void sketch_quantiles(const struct sketch *s, const double *q, uint64_t *out, size_t n)
{
    uint64_t count = held(s), seen = 0;
    size_t k = 0;
    for (; k < n && (!s->count || !(q[k] > 0)); k++)
        out[k] = s->count ? s->min : 0;
    for (unsigned i = 0; i < BUCKETS && k < n && q[k] < 1; i++) {
        const struct sketch_page *page = s->page[i / 64];
        if (!page) {
            i |= 63;
            continue;
        }
        if (!page->bucket[i % 64])
            continue;
        seen += page->bucket[i % 64];
        for (; k < n && q[k] < 1 && seen >= rank_of(q[k], count); k++)
            out[k] = within(s, value_of(i));
    }
    for (; k < n; k++)
        out[k] = s->max;
}

uint64_t sketch_quantile(const struct sketch *s, double q)
{
    uint64_t value;
    sketch_quantiles(s, &q, &value, 1);
    return value;
}

/* ---- as bytes ---- */

static size_t varint_size(uint64_t value)
{
    return 1 + (63 - (size_t)__builtin_clzll(value | 1)) / 7;
}

static uint8_t *put_varint(uint8_t *to, uint64_t value)
{
    for (; value >= 128; value >>= 7)
        *to++ = (uint8_t)(value | 128);
    *to++ = (uint8_t)value;
    return to;
}

/* Shortest form only; NULL: damaged. */
static const uint8_t *get_varint(const uint8_t *at, const uint8_t *end, uint64_t *out)
{
    uint64_t value = 0;
    for (unsigned shift = 0; at < end && shift < 70; shift += 7) {
        uint8_t byte = *at++;
        if (shift == 63 && byte > 1)
            return NULL;
        value |= (uint64_t)(byte & 127) << shift;
        if (byte < 128) {
            *out = value;
            return byte || !shift ? at : NULL;
        }
    }
    return NULL;
}

/* How coarse each page is written: 2^coarse neighbouring buckets as one. */
struct form {
    uint8_t coarse[SKETCH_OCTAVES];
};

static uint32_t coarse_bucket(const struct sketch_page *page, unsigned at, unsigned coarse)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < 1u << coarse; i++)
        sum += page->bucket[at + i];
    return sum > UINT32_MAX ? UINT32_MAX : (uint32_t)sum;
}

/* Calls `put` for each bucket in use with its gap to the one before; the sum of what it returns. */
static size_t each_bucket(const struct sketch *s, const struct form *form, unsigned first,
                          unsigned pages, uint8_t **to)
{
    size_t bytes = 0;
    unsigned next = first * 64;
    for (unsigned p = first; p < first + pages; p++) {
        unsigned step = 1u << form->coarse[p];
        for (unsigned i = 0; s->page[p] && i < 64; i += step) {
            uint32_t count = coarse_bucket(s->page[p], i, form->coarse[p]);
            if (!count)
                continue;
            unsigned index = p * 64 + i + step / 2; /* the middle one of those that it stands for */
            unsigned gap = index - next;
            uint64_t word = (uint64_t)count << 1 | (gap > 0);
            bytes += varint_size(word) + (gap ? varint_size(gap) : 0);
            next = index + 1;
            if (to)
                *to = put_varint(*to, word);
            if (to && gap)
                *to = put_varint(*to, gap);
        }
    }
    return bytes;
}

static uint64_t values_in(const struct sketch_page *page)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < 64; i++)
        sum += page->bucket[i];
    return sum;
}

/* The page that may best lose precision; SKETCH_OCTAVES: all are as coarse as can be. */
static unsigned least_missed(const struct sketch *s, const struct form *form)
{
    unsigned best = SKETCH_OCTAVES;
    double least = INFINITY;
    for (unsigned p = 0; p < SKETCH_OCTAVES; p++) {
        if (!s->page[p] || form->coarse[p] == 6)
            continue;
        size_t bytes = each_bucket(s, form, p, 1, NULL);
        double worth = (double)values_in(s->page[p]) / (double)(bytes + 1);
        if (bytes > 2 * VARINT_MAX && worth < least) {
            least = worth;
            best = p;
        }
    }
    return best;
}

static size_t head_size(const struct sketch *s)
{
    return varint_size(s->count) + varint_size(s->sum) + varint_size(s->min) + varint_size(s->max);
}

size_t sketch_encode(const struct sketch *s, uint8_t *to, size_t room)
{
    struct form form = {{0}};
    size_t head = head_size(s);
    size_t bytes = head + each_bucket(s, &form, 0, SKETCH_OCTAVES, NULL);
    if (!s->count || (bytes > room && room < SKETCH_ENCODED_MAX))
        return 0;
    while (bytes > room) {
        unsigned page = least_missed(s, &form);
        if (page == SKETCH_OCTAVES)
            return 0;
        form.coarse[page]++;
        bytes = head + each_bucket(s, &form, 0, SKETCH_OCTAVES, NULL);
    }
    to = put_varint(put_varint(put_varint(put_varint(to, s->count), s->sum), s->min), s->max);
    each_bucket(s, &form, 0, SKETCH_OCTAVES, &to);
    return bytes;
}

/* Reads all pairs; adds them when `into` is given. False: damaged. */
static bool read_pairs(const uint8_t *at, const uint8_t *end, uint64_t count, struct sketch *into,
                       struct sketch_pool *pool)
{
    uint64_t next = 0, seen = 0, gap, word;
    while (at < end) {
        if (!(at = get_varint(at, end, &word)))
            return false;
        gap = 0;
        if ((word & 1) && (!(at = get_varint(at, end, &gap)) || gap == 0))
            return false;
        uint64_t values = word >> 1;
        if (gap >= BUCKETS - next || values == 0 || values > UINT32_MAX)
            return false;
        seen += values;
        if (seen > count)
            return false;
        if (into)
            add_to_bucket(into, pool, (unsigned)(next + gap), (uint32_t)values);
        next += gap + 1;
    }
    return true;
}

int sketch_decode_into(struct sketch *s, struct sketch_pool *pool, const uint8_t *from, size_t len)
{
    const uint8_t *at = from, *end = from + len;
    uint64_t count, sum, min, max;
    if (len == 0)
        return 0;
    if (!(at = get_varint(at, end, &count)) || !(at = get_varint(at, end, &sum)) ||
        !(at = get_varint(at, end, &min)) || !(at = get_varint(at, end, &max)))
        return -EPROTO;
    if (count == 0 || min > max || s->count + count < count ||
        !read_pairs(at, end, count, NULL, NULL))
        return -EPROTO;
    add_exact(s, count, sum, min, max);
    read_pairs(at, end, count, s, pool);
    return 0;
}
