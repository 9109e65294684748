/*
 * test_heap.c - sampled blocks: what they stand for, whose they are, which live, what a request retained, the bounds.
 */
#include <math.h>
#include "tests/story.h"
#include "collector/heap.h"

static int begin(void **state)
{
    options_init(&scene.options);
    scene.options.sample_bytes = 0; /* a sample stands for itself */
    return story_begin(state);
}

/* A request for `target` in which blocks first … first + blocks - 1 of 1000 bytes are sampled. */
static void asks(const char *target, uint64_t first, int blocks)
{
    char text[128];
    snprintf(text, sizeof text, "GET %s HTTP/1.1\r\nHost: a\r\n\r\n", target);
    reads(a, 1, text);
    for (int i = 0; i < blocks; i++)
        samples(a, first + (uint64_t)i, 1000, 0x1234);
    writes(a, 1, ANSWER);
}

static const struct row_site *site_of(uint32_t endpoint)
{
    for (uint32_t i = 1; i <= SITES_MOST && sites_at(scene.sites, i)->row.stack; i++)
        if (sites_at(scene.sites, i)->row.endpoint == endpoint)
            return &sites_at(scene.sites, i)->row;
    fail_msg("no site of %u", endpoint);
    return NULL;
}

/* --- weights ------------------------------------------------------------------------------------------------------------ */

static uint64_t chance;

static double uniform(void)
{
    chance ^= chance << 13;
    chance ^= chance >> 7;
    chance ^= chance << 17;
    return ((double)(chance >> 11) + 0.5) / 9007199254740992.0;
}

/* The recorder's way: gaps of exponential length between sampled bytes. */
static void test_weights_add_up_to_what_was_allocated(void **state)
{
    (void)state;
    static const uint64_t sizes[] = {16, 600, 5000, 40000, 1000000};
    const uint64_t mean = 5000;
    chance = 88172645463325252u;
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        double left = -log(uniform()) * (double)mean, told = 0;
        uint64_t blocks = 400000000 / sizes[s] < 2000000 ? 400000000 / sizes[s] : 2000000, hits = 0;
        for (uint64_t i = 0; i < blocks; i++) {
            left -= (double)sizes[s];
            if (left > 0)
                continue;
            hits++;
            told += (double)heap_weight(sizes[s], mean);
            left = -log(uniform()) * (double)mean; /* memoryless: from the block's end on */
        }
        double real = (double)blocks * (double)sizes[s], off = fabs(told - real) / real;
        assert_true(off < 5 / sqrt((double)hits) + 0.0005);
    }
}

static void test_a_large_block_stands_for_itself_a_small_one_for_the_mean(void **state)
{
    (void)state;
    assert_int_equal(heap_weight(100 << 20, 512 << 10), 100 << 20);
    uint64_t small = heap_weight(1, 512 << 10);
    assert_true(small >= 512 << 10 && small <= (512 << 10) + 1);
    assert_true(heap_weight(0, 1024) > 0);
    assert_true(heap_weight(UINT64_MAX, 1024) > 0);
}

/* --- retained ----------------------------------------------------------------------------------------------------------- */

static void test_what_lives_on_after_its_request_is_retained(void **state)
{
    (void)state;
    accepts(a, 1);
    asks("/leak", 1, 3);
    frees_sampled(a, 2);
    waits(a);
    idles(3);
    assert_int_equal(scene.retained['l'], 0);
    assert_int_equal(scene.offered, 0); /* held back until it is known */
    assert_int_equal(scene.spans, 1);   /* but counted */
    idles(4);
    assert_int_equal(scene.retained['l'], 2000);
    assert_int_equal(scene.retained_samples['l'], 2);
    assert_int_equal(scene.offered, 1);
    assert_int_equal(span_named("/leak")->retained, 2000);
    frees_sampled(a, 1); /* later: retained all the same, but not live */
    finish();
    assert_int_equal(scene.retained['l'], 2000);
    assert_int_equal(site_of('l')->samples, 3);
    assert_int_equal(site_of('l')->amount, 3000);
    assert_int_equal(site_of('l')->retained_bytes, 2000);
    assert_int_equal(site_of('l')->live_samples, 0);
    assert_int_equal(site_of('l')->ended_samples, 1); /* block 3: never freed */
}

static void test_what_is_freed_meanwhile_is_not_retained(void **state)
{
    (void)state;
    accepts(a, 1);
    asks("/cache", 1, 2);
    waits(a);
    idles(2);
    frees_sampled(a, 1);
    frees_sampled(a, 2);
    idles(5);
    assert_int_equal(scene.offered, 1);
    assert_int_equal(scene.retained['c'], 0);
    assert_int_equal(span_named("/cache")->retained, 0);
    finish();
}

static void test_without_live_samples_nothing_waits(void **state)
{
    (void)state;
    accepts(a, 1);
    reads(a, 1, GET("/none"));
    samples(a, 1, 1000, 0x1234);
    frees_sampled(a, 1);
    writes(a, 1, ANSWER);
    asks("/other", 0, 0);
    waits(a);
    idles(2);
    assert_int_equal(span_named("/none")->retained, 0);
    assert_int_equal(span_named("/other")->retained, 0);
    assert_int_equal(scene.offered, 0);
    finish();
    assert_int_equal(site_of('n')->samples, 1);
    assert_int_equal(site_of('n')->live_samples, 0);
}

static void test_at_the_end_what_lives_is_retained(void **state)
{
    (void)state;
    accepts(a, 1);
    asks("/leak", 1, 2);
    finish(); /* no time to wait */
    assert_int_equal(scene.retained['l'], 2000);
    assert_int_equal(scene.offered, 1);
    assert_int_equal(site_of('l')->ended_bytes, 2000);
}

static void test_a_request_cut_off_by_a_signal_leaves_its_blocks_outside(void **state)
{
    (void)state;
    accepts(a, 1);
    reads(a, 1, GET("/killed"));
    samples(a, 1, 1000, 0x1234);
    process_is_killed(1);
    scene_end();
    assert_int_equal(site_of(0)->samples, 1);
    assert_int_equal(site_of(0)->ended_samples, 1);
    assert_int_equal(scene.retained['k'], 0);
}

static void test_without_stacks_retained_is_unknown(void **state)
{
    (void)state;
    scene_close();
    options_init(&scene.options);
    scene.options.stacks = 0;
    scene_open();
    process_begins(1, 100, 0);
    a = thread_in(1, 1);
    accepts(a, 1);
    asks("/x", 0, 0);
    finish();
    assert_true(span_named("/x")->retained == UINT64_MAX);
}

static void test_a_process_whose_stacks_are_not_walked_is_unknown(void **state)
{
    (void)state;
    b = thread_in(2, 2);
    struct fact f = {.kind = FACT_PROCESS, .pid = 200, .flags = PROCESS_NO_STACKS, .exit_code = -1, .signal = -1};
    play_fact(&f, NULL, 2);
    accepts(b, 2);
    reads(b, 2, GET("/x"));
    writes(b, 2, ANSWER);
    process_exits(2);
    finish();
    assert_true(span_named("/x")->retained == UINT64_MAX);
}

/* --- order, processes --------------------------------------------------------------------------------------------------- */

static void test_a_free_may_come_before_its_allocation(void **state)
{
    (void)state;
    accepts(a, 1);
    reads(a, 1, GET("/x"));
    frees_sampled(a, 1);
    scene.late = true;
    samples(a, 1, 1000, 0x1234);
    samples(a, 2, 1000, 0x1234);
    writes(a, 1, ANSWER);
    waits(a);
    idles(7);
    assert_int_equal(site_of('x')->samples, 2);
    assert_int_equal(site_of('x')->live_samples, 1);
    assert_int_equal(scene.retained['x'], 1000);
    finish();
}

static void test_a_childs_serials_are_its_own(void **state)
{
    (void)state;
    b = thread_in(2, 2);
    accepts(a, 1);
    asks("/x", 1, 1);
    process_begins(2, 200, 1);
    frees_sampled(b, 1); /* its copy, not the parent's */
    waits(a);
    idles(7);
    assert_int_equal(site_of('x')->live_samples, 1);
    process_exits(2);
    finish();
}

static void test_a_block_told_twice_counts_once(void **state)
{
    (void)state;
    accepts(a, 1);
    reads(a, 1, GET("/x"));
    samples(a, 1, 1000, 0x1234);
    samples(a, 1, 1000, 0x1234);
    writes(a, 1, ANSWER);
    finish();
    assert_int_equal(site_of('x')->samples, 1);
}

static void test_the_oldest_block_of_a_site_is_told(void **state)
{
    (void)state;
    accepts(a, 1);
    asks("/x", 1, 1);
    uint64_t first = scene.now;
    idles(1);
    asks("/x", 2, 1);
    waits(a);
    idles(1);
    assert_true(site_of('x')->oldest_ns < first);
    frees_sampled(a, 1);
    idles(2);
    assert_true(site_of('x')->oldest_ns > first);
    finish();
}

/* A wait for a lock of 1000 ns. */
static void locks(struct actor *at)
{
    struct event_sample data = {.amount = 1000};
    struct event e = {.type = EVENT_LOCKED, .descriptor = -1, .head = sizeof data};
    play(at, &e, &data, sizeof data);
}

static void test_waits_for_locks_have_sites_without_live_ones(void **state)
{
    (void)state;
    accepts(a, 1);
    reads(a, 1, GET("/x"));
    locks(a);
    writes(a, 1, ANSWER);
    finish();
    const struct row_site *s = site_of('x');
    assert_int_equal(s->kind, SITE_LOCKWAIT);
    assert_int_equal(s->samples, 1);
    assert_int_equal(s->amount, heap_weight(1000, scene.options.lock_sample_ns));
    assert_int_equal(s->live_samples, 0);
    assert_int_equal(s->ended_samples, 0);
}

/* --- damage, bounds ----------------------------------------------------------------------------------------------------- */

static void damaged(enum event_type type, const void *data, size_t len)
{
    struct event e = {.type = (uint8_t)type, .descriptor = -1, .head = (uint16_t)len};
    play(a, &e, data, len);
}

static void test_damaged_events_are_none(void **state)
{
    (void)state;
    struct event_sample none = {.serial = 1}, many = {.serial = 2, .amount = 1, .frames = 65},
                        cut = {.serial = 3, .amount = 1, .frames = 2};
    struct event_object backward = {.start = 2, .end = 1}, long_path = {.start = 1, .end = 2, .path_len = 50};
    accepts(a, 1);
    reads(a, 1, GET("/x"));
    damaged(EVENT_ALLOCATED, &none, sizeof none);
    damaged(EVENT_ALLOCATED, &many, sizeof many);
    damaged(EVENT_ALLOCATED, &cut, sizeof cut);
    damaged(EVENT_ALLOCATED, &cut, 5);
    damaged(EVENT_FREED, &cut, 3);
    damaged(EVENT_OBJECT, &backward, sizeof backward);
    damaged(EVENT_OBJECT, &long_path, sizeof long_path);
    damaged(EVENT_OBJECT, &long_path, 7);
    writes(a, 1, ANSWER);
    finish();
    assert_int_equal(sites_at(scene.sites, 1)->row.stack, 0);
}

static void test_more_blocks_than_the_bound_forget_the_oldest(void **state)
{
    (void)state;
    for (uint64_t serial = 1; serial <= HEAP_BLOCKS + 100; serial++)
        samples(a, serial, 1000, 0x1234);
    idles(1); /* no request: outside, once the thread says so */
    waits(a);
    idles(3);
    waits(a);
    for (uint64_t serial = HEAP_BLOCKS + 101; serial <= HEAP_BLOCKS + 200; serial++)
        samples(a, serial, 1000, 0x1234);
    thread_ends(a);
    a = thread_in(1, 1);
    assert_int_equal(site_of(0)->live_samples, HEAP_BLOCKS);
    finish();
    assert_int_equal(scene.flow.bound_samples, 200);
    assert_int_equal(site_of(0)->ended_samples, HEAP_BLOCKS);
    assert_int_equal(site_of(0)->live_samples, 0);
}

static void test_more_held_requests_than_the_bound_go_without_their_number(void **state)
{
    (void)state;
    accepts(a, 1);
    for (uint64_t i = 0; i < HEAP_HELD + 10; i++)
        asks("/x", i + 1, 1);
    waits(a);
    idles(2);
    assert_int_equal(scene.offered, 10);
    assert_true(scene.span[0].retained == UINT64_MAX);
    idles(8);
    assert_int_equal(scene.offered, HEAP_HELD + 10);
    assert_int_equal(scene.span[11].retained, 1000);
    assert_int_equal(scene.retained['x'], (HEAP_HELD + 10) * 1000);
    finish();
    assert_int_equal(scene.flow.bound_held, 10);
}

static void test_more_stacks_than_the_bound_count_as_other(void **state)
{
    (void)state;
    accepts(a, 1);
    reads(a, 1, GET("/x"));
    for (uint64_t i = 0; i < SITES_STACKS + 50; i++)
        samples(a, i + 1, 1000, 0x1000 + i);
    writes(a, 1, ANSWER);
    finish();
    uint64_t all = 0, other = 0;
    for (uint32_t i = 1; i <= SITES_MOST && sites_at(scene.sites, i)->row.stack; i++) {
        const struct row_site *s = &sites_at(scene.sites, i)->row;
        all += s->samples;
        other += s->stack == 1 ? s->samples : 0;
    }
    assert_int_equal(all, SITES_STACKS + 50);
    assert_int_equal(other, 51);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, story_end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_weights_add_up_to_what_was_allocated),
        cmocka_unit_test(test_a_large_block_stands_for_itself_a_small_one_for_the_mean),
        TEST(test_what_lives_on_after_its_request_is_retained),
        TEST(test_what_is_freed_meanwhile_is_not_retained),
        TEST(test_without_live_samples_nothing_waits),
        TEST(test_at_the_end_what_lives_is_retained),
        TEST(test_a_request_cut_off_by_a_signal_leaves_its_blocks_outside),
        TEST(test_without_stacks_retained_is_unknown),
        TEST(test_a_process_whose_stacks_are_not_walked_is_unknown),
        TEST(test_a_free_may_come_before_its_allocation),
        TEST(test_a_childs_serials_are_its_own),
        TEST(test_a_block_told_twice_counts_once),
        TEST(test_the_oldest_block_of_a_site_is_told),
        TEST(test_waits_for_locks_have_sites_without_live_ones),
        TEST(test_damaged_events_are_none),
        TEST(test_more_blocks_than_the_bound_forget_the_oldest),
        TEST(test_more_held_requests_than_the_bound_go_without_their_number),
        TEST(test_more_stacks_than_the_bound_count_as_other),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
