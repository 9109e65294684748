/*
 * test_sample.c - whatever comes, the rows of each population stand for exactly its spans: the sum
 * of 1/rate is the count. And: everything below the allowance is kept, rare endpoints are never
 * starved, the slowest are the slowest.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "collector/endpoint.h"
#include "collector/sample.h"
#include "wire/options.h"

#define ENDPOINTS 3000
#define SPANS 400000

static const struct protocol http = {.name = "http"};
static struct endpoint endpoint[ENDPOINTS];
static struct options options;
static struct sample *sample;

/* What came out, of the second or interval in hand. */
static struct {
    double behind[3];                  /* sum of 1/rate, by enum why */
    double behind_endpoint[ENDPOINTS]; /* of WHY_SAMPLE */
    uint32_t rows[3], of_endpoint[ENDPOINTS];
    uint64_t slow[ENDPOINTS][64];
    uint32_t slow_count[ENDPOINTS];
} out;
static uint8_t came[SPANS]; /* by id: how often */
static uint64_t ids;
static unsigned chance = 1;

static unsigned draw(void)
{
    chance = chance * 1103515245 + 12345;
    return chance >> 8;
}

static void on_emit(void *to, struct row_span *row, const char *tail, size_t tail_len)
{
    (void)to;
    assert_in_range(row->why, WHY_SAMPLE, WHY_SLOW);
    assert_true(row->rate > 0 && row->rate <= 1);
    assert_int_equal(row->error, row->why == WHY_ERROR);
    assert_int_equal(tail_len, row->target_len + row->error_len);
    assert_memory_equal(tail, "/x", 2);
    assert_int_equal(++came[row->id], 1);
    out.behind[row->why] += 1 / row->rate;
    out.rows[row->why]++;
    out.of_endpoint[row->endpoint]++;
    if (row->why == WHY_SAMPLE)
        out.behind_endpoint[row->endpoint] += 1 / row->rate;
    if (row->why == WHY_SLOW) {
        assert_true(row->rate == 1);
        if (out.slow_count[row->endpoint] < 64)
            out.slow[row->endpoint][out.slow_count[row->endpoint]++] = row->duration_ns;
    }
}

static void begin(uint64_t spans, uint64_t errors, uint64_t slowest)
{
    options_init(&options);
    options.spans_per_second = spans;
    options.errors_per_second = errors;
    options.slowest = slowest;
    memset(&out, 0, sizeof out);
    memset(came, 0, sizeof came);
    ids = 0;
    for (uint32_t i = 0; i < ENDPOINTS; i++)
        endpoint[i] =
            (struct endpoint){.number = i, .protocol = &http, .http = true, .verb = "GET"};
    sample = sample_new(&options, on_emit, NULL);
    assert_non_null(sample);
}

static void offer_id(uint64_t id, uint32_t of, uint64_t duration, bool error)
{
    struct span s = {.id = id,
                     .protocol = &http,
                     .answered = true,
                     .status = error ? 500 : 200,
                     .start_ns = 1000,
                     .end_ns = 1000 + duration,
                     .target_len = 2,
                     .target = "/x",
                     .verb_len = 3,
                     .verb = "GET"};
    assert_true(id < SPANS);
    sample_offer(sample, &s, &endpoint[of], 1);
}

static void offer(uint32_t of, uint64_t duration, bool error)
{
    offer_id(ids++, of, duration, error);
}

static void expect_behind(double got, double expected)
{
    assert_true(fabs(got - expected) <= 1e-9 * expected + 1e-9);
}

/* Any mix of endpoints, errors, durations, allowances: over whole intervals the sums are exact. */
static void test_rows_stand_for_exactly_the_spans_of_their_population(void **state)
{
    (void)state;
    static const uint64_t allowances[] = {1, 2, 7, 100, 1024, 1025, 1500, 5000, 100000000};
    for (size_t a = 0; a < sizeof allowances / sizeof *allowances; a++)
        for (int shape = 0; shape < 6; shape++) {
            begin(allowances[a], allowances[(a + (size_t)shape) % 9],
                  (uint64_t[]){0, 1, 4, 64, 4, 4}[shape]);
            uint32_t endpoints = (uint32_t[]){1, 3, 40, 200, 1500, ENDPOINTS}[shape];
            double errors = 0, others = 0;
            for (int second = 0; second < 20; second++) {
                unsigned n = draw() % 600;
                for (unsigned i = 0; i < n; i++) {
                    uint32_t of = draw() % 3 ? draw() % endpoints : 0; /* one takes most */
                    bool error = draw() % 10 == 0;
                    offer(of, shape % 2 ? ids * 1000 : draw() % 1000000, error);
                    errors += error;
                    others += !error;
                }
                sample_second(sample);
                expect_behind(out.behind[WHY_ERROR], errors);
                if (second % 10 == 9) {
                    sample_interval(sample);
                    expect_behind(out.behind[WHY_SAMPLE] + out.behind[WHY_SLOW], others);
                }
            }
            sample_free(sample);
        }
}

static void test_all_within_the_allowance_is_kept_at_rate_one(void **state)
{
    (void)state;
    begin(1000, 1000, 4);
    for (int second = 0; second < 10; second++) {
        for (unsigned i = 0; i < 900; i++) {
            offer(i % 7, draw(), false);
            offer(i % 5, draw(), true);
        }
        sample_second(sample);
    }
    sample_interval(sample);
    assert_int_equal(out.rows[WHY_ERROR], 9000);
    assert_int_equal(out.rows[WHY_SLOW], 28);
    assert_int_equal(out.rows[WHY_SAMPLE], 9000 - 28);
    sample_free(sample);
}

static void test_a_large_allowance_passes_spans_at_once_and_holds_none(void **state)
{
    (void)state;
    begin(1000000, 1000000, 4);
    for (uint32_t i = 0; i < 50000; i++) {
        offer(i % 9, draw(), i % 2);
        assert_int_equal(came[i], 1);
    }
    sample_second(sample);
    sample_interval(sample);
    assert_int_equal(out.rows[WHY_SAMPLE] + out.rows[WHY_ERROR], 50000);
    sample_free(sample);
}

static void test_rare_endpoints_are_not_starved_and_the_allowance_is_used(void **state)
{
    (void)state;
    begin(100, 0, 0);
    for (uint32_t i = 0; i < 20000; i++)
        offer(i < 19000 ? 0 : 1 + i % 10, 5, false); /* a flood, then ten rare ones, 100 each */
    for (uint32_t i = 0; i < 3; i++)
        offer(20, 5, false); /* three of the rarest */
    sample_second(sample);
    assert_int_equal(out.rows[WHY_SAMPLE], 100);
    assert_int_equal(out.of_endpoint[20], 3);
    for (uint32_t e = 0; e <= 10; e++) {
        assert_in_range(out.of_endpoint[e], 8, 10);
        expect_behind(out.behind_endpoint[e], e ? 100 : 19000);
    }
    sample_free(sample);
}

static void test_more_endpoints_than_the_allowance_keep_one_each(void **state)
{
    (void)state;
    begin(10, 0, 0);
    for (int round = 0; round < 20; round++)
        for (uint32_t e = 0; e < 300; e++)
            offer(e, 5, false);
    sample_second(sample);
    for (uint32_t e = 0; e < 300; e++) {
        assert_int_equal(out.of_endpoint[e], 1);
        expect_behind(out.behind_endpoint[e], 20);
    }
    sample_free(sample);
}

static void test_an_outage_is_not_a_flood(void **state)
{
    (void)state;
    begin(100, 1000, 4);
    for (uint32_t i = 0; i < 50000; i++)
        offer(i % 3, draw(), true);
    sample_second(sample);
    assert_int_equal(out.rows[WHY_ERROR], 1000);
    expect_behind(out.behind[WHY_ERROR], 50000);
    sample_free(sample);
}

static int descending(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x > y ? -1 : x < y;
}

static void test_the_slowest_are_the_slowest_of_each_endpoint(void **state)
{
    (void)state;
    begin(50, 10, 4);
    for (int interval = 0; interval < 3; interval++) {
        static uint64_t all[5][4000];
        uint32_t count[5] = {0};
        memset(&out, 0, sizeof out);
        for (int second = 0; second < 10; second++) {
            for (int i = 0; i < 300; i++) {
                uint32_t of = draw() % 5;
                all[of][count[of]] =
                    (uint64_t)draw() << 8 | of; /* no two are equal in length by chance often */
                offer(of, all[of][count[of]++], false);
            }
            sample_second(sample);
        }
        sample_interval(sample);
        for (uint32_t e = 0; e < 5; e++) {
            qsort(all[e], count[e], sizeof all[e][0], descending);
            qsort(out.slow[e], out.slow_count[e], sizeof out.slow[e][0], descending);
            assert_int_equal(out.slow_count[e], 4);
            assert_memory_equal(out.slow[e], all[e], 4 * sizeof all[e][0]);
        }
    }
    sample_free(sample);
}

/* The hashes decide: of a thousand spans in a second each is kept about as often, wherever in the
 * second it stands. */
static void test_no_part_of_a_second_is_preferred(void **state)
{
    (void)state;
    begin(100, 0, 0);
    uint32_t kept[4] = {0};
    for (uint64_t second = 0; second < 300; second++) {
        for (uint32_t i = 0; i < 1000; i++)
            offer(0, 5, false);
        sample_second(sample);
    }
    for (uint64_t id = 0; id < 300000; id++)
        kept[id % 1000 / 250] += came[id];
    for (int quarter = 0; quarter < 4; quarter++)
        assert_in_range(kept[quarter], 7100, 7900); /* 7500 expected, deviation 82 */
    sample_free(sample);
}

/* What an endpoint keeps of m in a crowd is what it would keep of m alone, in any order: those of
 * the smallest hashes. */
static void test_a_share_keeps_the_same_whoever_else_comes_and_in_whatever_order(void **state)
{
    (void)state;
    enum { CROWD = 12, MOST = 6000 };
    static uint8_t kept[MOST], of[MOST];
    for (int round = 0; round < 60; round++) {
        uint32_t m[CROWD] = {0}, n = round < 10 ? MOST : 100 + draw() % 300;
        begin(round < 10 ? 100 + draw() % 500 : 20 + draw() % 80, 0, 0);
        for (uint32_t i = 0; i < n; i++) { /* by turns a flood of one and some of all */
            of[i] = (uint8_t)(i * 12 / n % 2 ? i * 6 / n : draw() % CROWD);
            offer_id(i, of[i], 5, false);
        }
        sample_second(sample);
        sample_free(sample);
        memcpy(kept, came, n);
        for (uint32_t i = 0; i < n; i++)
            m[of[i]] += kept[i];
        for (uint32_t e = 0; e < CROWD; e++) {
            begin(m[e], 0, 0);
            for (uint32_t i = n; i-- > 0;)
                if (of[i] == e)
                    offer_id(i, e, 5, false);
            sample_second(sample);
            sample_free(sample);
            for (uint32_t i = 0; i < n; i++)
                if (of[i] == e)
                    assert_int_equal(came[i], kept[i]);
        }
    }
}

static void test_zero_keeps_none(void **state)
{
    (void)state;
    begin(0, 0, 0);
    for (int i = 0; i < 100; i++)
        offer(0, 5, i % 2);
    sample_second(sample);
    sample_interval(sample);
    assert_int_equal(out.rows[WHY_SAMPLE] + out.rows[WHY_ERROR] + out.rows[WHY_SLOW], 0);
    sample_free(sample);
}

static void test_what_is_held_is_freed_with_the_sample(void **state)
{
    (void)state;
    begin(1000, 1000, 4);
    for (uint32_t i = 0; i < 900; i++)
        offer(i % 30, draw(), i % 3 == 0);
    sample_free(sample); /* the leak checker looks on */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows_stand_for_exactly_the_spans_of_their_population),
        cmocka_unit_test(test_all_within_the_allowance_is_kept_at_rate_one),
        cmocka_unit_test(test_a_large_allowance_passes_spans_at_once_and_holds_none),
        cmocka_unit_test(test_rare_endpoints_are_not_starved_and_the_allowance_is_used),
        cmocka_unit_test(test_more_endpoints_than_the_allowance_keep_one_each),
        cmocka_unit_test(test_an_outage_is_not_a_flood),
        cmocka_unit_test(test_the_slowest_are_the_slowest_of_each_endpoint),
        cmocka_unit_test(test_no_part_of_a_second_is_preferred),
        cmocka_unit_test(test_a_share_keeps_the_same_whoever_else_comes_and_in_whatever_order),
        cmocka_unit_test(test_zero_keeps_none),
        cmocka_unit_test(test_what_is_held_is_freed_with_the_sample),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
