/*
 * test_sketch.c - the sketch against exact quantiles of the same values, merging as addition, and
 * its bytes: whole, cut, damaged.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "collector/sketch.h"

#define CLAMP ((UINT64_C(1) << 42) - 1)

static struct sketch_pool *pool;
static uint64_t seed = 1;

static uint64_t chance(void)
{
    seed += UINT64_C(0x9e3779b97f4a7c15);
    uint64_t z = seed;
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static double unit(void)
{
    return (double)(chance() >> 11) / 9007199254740992.0;
}

/* Shapes of latencies and sizes that servers show, and worse. */
static uint64_t draw(int shape)
{
    switch (shape) {
    case 0: /* all orders of magnitude alike */
        return chance() >> (22 + chance() % 42);
    case 1: /* exponential, 100 us mean */
        return (uint64_t)(-log(1 - unit()) * 1e5);
    case 2: /* two humps: cached and not */
        return unit() < 0.9 ? 60000 + chance() % 5000 : 40000000 + chance() % 900000;
    case 3: /* heavy tail */
        return (uint64_t)fmin(1000 / pow(1 - unit(), 2), 4e12);
    case 4: /* small integers */
        return chance() % 130;
    case 5: /* edges of octaves */
        return (UINT64_C(1) << (chance() % 42)) + chance() % 3 - 1;
    default: /* constant */
        return 123456789;
    }
}
#define SHAPES 7

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static void expect_quantiles(const struct sketch *s, const uint64_t *sorted, size_t n)
{
    static const double qs[] = {0,   0.001, 0.01, 0.1,   0.25,   0.5, 0.75,
                                0.9, 0.95,  0.99, 0.999, 0.9999, 1};
    for (size_t i = 0; i < sizeof qs / sizeof *qs; i++) {
        double rank = ceil(qs[i] * (double)n);
        uint64_t exact = sorted[rank < 1 ? 0 : (size_t)rank - 1];
        double got = (double)sketch_quantile(s, qs[i]);
        if (exact < 64)
            assert_int_equal((uint64_t)got, exact);
        assert_true(fabs(got - (double)exact) <= SKETCH_ERROR * (double)exact);
    }
}

static void test_quantiles_are_within_the_stated_error_of_the_exact_ones(void **state)
{
    (void)state;
    enum { MOST = 20000 };
    uint64_t *values = malloc(MOST * sizeof *values);
    for (int round = 0; round < 20 * SHAPES; round++) {
        size_t n = round < 2 * SHAPES ? 1 + (size_t)round : 1 + chance() % MOST;
        struct sketch s;
        sketch_init(&s);
        uint64_t sum = 0;
        for (size_t i = 0; i < n; i++) {
            values[i] = draw(round % SHAPES);
            sum += values[i];
            sketch_add(&s, pool, values[i]);
        }
        qsort(values, n, sizeof *values, by_value);
        assert_int_equal(s.count, n);
        assert_int_equal(s.sum, sum);
        assert_int_equal(s.min, values[0]);
        assert_int_equal(s.max, values[n - 1]);
        expect_quantiles(&s, values, n);
        sketch_clear(&s, pool);
    }
    free(values);
}

static void test_every_bucket_holds_its_own_values_only(void **state)
{
    (void)state;
    /* both edges of each bucket: the told value may be off by half its width, never more */
    for (unsigned e = 0; e < 42; e++)
        for (uint64_t b = 0; b < 64; b++)
            for (int edge = 0; edge < 2; edge++) {
                uint64_t width = e < 6 ? 1 : UINT64_C(1) << (e - 6);
                uint64_t value = (e < 6 ? b : (64 + b) * width) + (edge ? width - 1 : 0);
                struct sketch s;
                sketch_init(&s);
                sketch_add(&s, pool, 0); /* so that min and max do not help */
                sketch_add(&s, pool, value);
                sketch_add(&s, pool, CLAMP);
                uint64_t told = sketch_quantile(&s, 0.5);
                assert_true(told >= value ? told - value <= width / 2 : value - told <= width / 2);
                sketch_clear(&s, pool);
            }
}

static bool same(const struct sketch *a, const struct sketch *b)
{
    if (a->count != b->count || a->sum != b->sum || a->min != b->min || a->max != b->max)
        return false;
    static const struct sketch_page none;
    for (int i = 0; i < SKETCH_OCTAVES; i++)
        if (memcmp(a->page[i] ? a->page[i] : &none, b->page[i] ? b->page[i] : &none, sizeof none))
            return false;
    return true;
}

static void test_merging_is_addition_in_any_order(void **state)
{
    (void)state;
    for (int shape = 0; shape < SHAPES; shape++) {
        struct sketch part[3], all, forward, backward, bytes;
        sketch_init(&all);
        sketch_init(&forward);
        sketch_init(&backward);
        sketch_init(&bytes);
        for (int i = 0; i < 3; i++)
            sketch_init(&part[i]);
        for (int i = 0; i < 3000; i++) {
            uint64_t value = draw(shape);
            sketch_add(&part[chance() % 2], pool, value); /* the third stays empty */
            sketch_add(&all, pool, value);
        }
        for (int i = 0; i < 3; i++) {
            uint8_t buffer[SKETCH_ENCODED_MAX];
            sketch_merge(&forward, pool, &part[i]);
            sketch_merge(&backward, pool, &part[2 - i]);
            size_t len = sketch_encode(&part[i], buffer, sizeof buffer);
            assert_int_equal(sketch_decode_into(&bytes, pool, buffer, len), 0);
        }
        assert_true(same(&all, &forward));
        assert_true(same(&all, &backward));
        assert_true(same(&all, &bytes));
        for (int i = 0; i < 3; i++)
            sketch_clear(&part[i], pool);
        sketch_clear(&all, pool);
        sketch_clear(&forward, pool);
        sketch_clear(&backward, pool);
        sketch_clear(&bytes, pool);
    }
}

static void test_empty_sketch_has_no_quantiles_and_no_bytes(void **state)
{
    (void)state;
    struct sketch s;
    uint8_t buffer[16];
    sketch_init(&s);
    assert_int_equal(sketch_quantile(&s, 0.5), 0);
    assert_int_equal(sketch_encode(&s, buffer, sizeof buffer), 0);
    assert_int_equal(sketch_decode_into(&s, pool, buffer, 0), 0);
    assert_int_equal(s.count, 0);
}

static void test_values_beyond_the_clamp_keep_exact_sum_and_max(void **state)
{
    (void)state;
    struct sketch s;
    sketch_init(&s);
    sketch_add(&s, pool, UINT64_C(1) << 50);
    sketch_add(&s, pool, UINT64_C(1) << 51);
    assert_int_equal(s.sum, UINT64_C(3) << 50);
    assert_int_equal(sketch_quantile(&s, 1), UINT64_C(1) << 51);
    assert_int_equal(sketch_quantile(&s, 0.5), UINT64_C(1) << 50); /* not below min */
    sketch_clear(&s, pool);
}

static void test_full_buckets_stay_full(void **state)
{
    (void)state;
    struct sketch s, t;
    sketch_init(&s);
    sketch_init(&t);
    sketch_add(&s, pool, 5);
    s.page[0]->bucket[5] = UINT32_MAX;
    sketch_add(&s, pool, 5);
    assert_int_equal(s.page[0]->bucket[5], UINT32_MAX);
    assert_int_equal(s.count, 2);
    sketch_merge(&t, pool, &s);
    sketch_merge(&t, pool, &s);
    assert_int_equal(t.page[0]->bucket[5], UINT32_MAX);
    sketch_clear(&s, pool);
    sketch_clear(&t, pool);
}

static void test_without_pages_the_exact_fields_go_on(void **state)
{
    (void)state;
    struct sketch_pool *small = sketch_pool_new(2 * sizeof(struct sketch_page));
    struct sketch s;
    uint8_t buffer[SKETCH_ENCODED_MAX];
    sketch_init(&s);
    for (int i = 0; i < 20; i++)
        sketch_add(&s, small, UINT64_C(100) << i);
    assert_true(sketch_pool_tight(small));
    assert_int_equal(s.count, 20);
    assert_int_equal(s.max, UINT64_C(100) << 19);
    assert_in_range(sketch_quantile(&s, 0.5), 100, 200);
    size_t len = sketch_encode(&s, buffer, sizeof buffer);
    struct sketch t;
    sketch_init(&t);
    assert_int_equal(sketch_decode_into(&t, pool, buffer, len), 0);
    assert_true(same(&s, &t));
    sketch_clear(&t, pool);
    sketch_clear(&s, small);
    assert_int_equal(sketch_pool_free_pages(small), 2);
    assert_false(sketch_pool_tight(small));
    sketch_pool_free(small);
}

static void test_pages_come_back_clean(void **state)
{
    (void)state;
    struct sketch_pool *one = sketch_pool_new(sizeof(struct sketch_page));
    struct sketch s;
    sketch_init(&s);
    sketch_add(&s, one, 7);
    sketch_clear(&s, one);
    sketch_add(&s, one, 9);
    assert_int_equal(s.page[0]->bucket[7], 0);
    assert_int_equal(s.page[0]->bucket[9], 1);
    sketch_clear(&s, one);
    sketch_pool_free(one);
}

static void test_typical_encodings_are_small_and_the_worst_fits(void **state)
{
    (void)state;
    uint8_t buffer[SKETCH_ENCODED_MAX];
    struct sketch s;
    sketch_init(&s);
    sketch_add(&s, pool, 118000);
    assert_in_range(sketch_encode(&s, buffer, sizeof buffer), 1, 16);
    for (int i = 0; i < 100000; i++)
        sketch_add(&s, pool, draw(1));
    assert_in_range(sketch_encode(&s, buffer, sizeof buffer), 200, 2048);
    sketch_clear(&s, pool);
    /* every bucket full: precision must give way, seldom values first */
    for (unsigned e = 0; e < 42; e++)
        for (unsigned b = 0; b < 64; b++) {
            uint64_t value = e < 6 ? b : (UINT64_C(64) + b) << (e - 6);
            sketch_add(&s, pool, value);
            if (value)
                s.page[e < 6 ? 0 : e - 5]->bucket[b] = 5000000 + (e == 20) * 1000000000;
        }
    s.count = UINT64_C(64) * 5000000 * 42 + UINT64_C(64) * 1000000000;
    uint64_t before = sketch_quantile(&s, 0.5);
    size_t len = sketch_encode(&s, buffer, sizeof buffer);
    assert_in_range(len, 1000, sizeof buffer);
    assert_int_equal(sketch_encode(&s, buffer, 1000), 0); /* less room: not at all */
    struct sketch t;
    sketch_init(&t);
    len = sketch_encode(&s, buffer, sizeof buffer);
    assert_int_equal(sketch_decode_into(&t, pool, buffer, len), 0);
    assert_int_equal(t.count, s.count);
    assert_int_equal(sketch_quantile(&t, 0.5),
                     before); /* where most values are, nothing was lost */
    sketch_clear(&s, pool);
    sketch_clear(&t, pool);
}

static void expect_damaged(const uint8_t *bytes, size_t len)
{
    struct sketch s, before;
    sketch_init(&s);
    sketch_init(&before);
    sketch_add(&s, pool, 1000);
    sketch_add(&before, pool, 1000);
    uint8_t *exact = malloc(len); /* so that a sanitizer sees reading beyond it */
    memcpy(exact, bytes, len);
    assert_int_equal(sketch_decode_into(&s, pool, exact, len), -EPROTO);
    free(exact);
    assert_true(same(&s, &before));
    sketch_clear(&s, pool);
    sketch_clear(&before, pool);
}

#define DAMAGED(...)                                                                               \
    expect_damaged((const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))

static void test_damaged_bytes_change_nothing(void **state)
{
    (void)state;
    DAMAGED(1);                            /* cut in the head */
    DAMAGED(1, 5, 5);                      /* also */
    DAMAGED(0, 0, 0, 0);                   /* empty ones have no bytes */
    DAMAGED(1, 5, 6, 5, 3, 5);             /* min above max */
    DAMAGED(1, 5, 5, 5, 3);                /* the gap is missing */
    DAMAGED(1, 5, 5, 5, 3, 0);             /* a gap of none */
    DAMAGED(1, 5, 5, 5, 0);                /* a bucket of none */
    DAMAGED(1, 5, 5, 5, 5, 5);             /* more in buckets than there are */
    DAMAGED(2, 5, 5, 5, 3, 0xc0, 0x12);    /* index 2368 */
    DAMAGED(2, 5, 5, 5, 3, 0xbf, 0x12, 2); /* index 2367, then one more */
    DAMAGED(0x81, 0, 5, 5, 5);             /* a varint longer than it need be */
    DAMAGED(1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 5, 5); /* above 64 bits */
    /* a count that would run over when added */
    DAMAGED(0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 5, 5, 5);
}

static int set_up(void **state)
{
    (void)state;
    pool = sketch_pool_new(1 << 20);
    return pool ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    int leaked = sketch_pool_free_pages(pool) != (1 << 20) / sizeof(struct sketch_page);
    sketch_pool_free(pool);
    return leaked;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_quantiles_are_within_the_stated_error_of_the_exact_ones),
        cmocka_unit_test(test_every_bucket_holds_its_own_values_only),
        cmocka_unit_test(test_merging_is_addition_in_any_order),
        cmocka_unit_test(test_empty_sketch_has_no_quantiles_and_no_bytes),
        cmocka_unit_test(test_values_beyond_the_clamp_keep_exact_sum_and_max),
        cmocka_unit_test(test_full_buckets_stay_full),
        cmocka_unit_test(test_without_pages_the_exact_fields_go_on),
        cmocka_unit_test(test_pages_come_back_clean),
        cmocka_unit_test(test_typical_encodings_are_small_and_the_worst_fits),
        cmocka_unit_test(test_damaged_bytes_change_nothing),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
