/*
 * test_order_cpu.c - the CPU clock of a thread at each of its events: read at some, running on at the others, unknown
 * where a switch may have been missed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/stream.h"

#define US UINT64_C(1000)

static struct stream s;
static struct writer w;
static uint64_t began;

static int begin(void **state)
{
    (void)state;
    stream_open(&s, NULL);
    began = s.now;
    if (!lanes_claim(&w, &s.v, s.p, 1000))
        return -1;
    w.l->start = began;
    return 0;
}

static int end(void **state)
{
    (void)state;
    stream_close(&s);
    return 0;
}

static uint64_t given_up; /* as a reading tells */

/* An event so long after the thread's beginning; `clock_ns`: what its CPU clock showed, 0: not read. */
static void at(uint64_t after_ns, uint64_t clock_ns, uint8_t flags)
{
    struct event_block b = {.cpu_ns = clock_ns, .waits = given_up};
    struct event e = stream_event(&s, 1);
    e.time = flags & EVENT_NO_CLOCK ? 0 : began + after_ns;
    e.flags = flags;
    assert_non_null(lanes_reserve(&w, &e, clock_ns || flags & EVENT_HAS_BLOCK ? &b : NULL, NULL));
    lanes_commit(&w);
    s.now = began + after_ns;
}

static void known(size_t i, uint64_t cpu_ns)
{
    assert_true(s.kept[i].item.cpu_known);
    assert_int_equal(s.kept[i].item.total.cpu_ns, cpu_ns);
}

static void unknown(size_t i, uint64_t since_ns)
{
    assert_false(s.kept[i].item.cpu_known);
    assert_int_equal(s.kept[i].item.total.cpu_ns, since_ns);
}

static void test_the_clock_runs_on_until_it_is_read_again(void **state)
{
    (void)state;
    at(100 * US, 40 * US, 0);
    at(110 * US, 0, 0);
    at(110 * US, 0, 0);
    at(130 * US, 0, EVENT_HAS_BLOCK); /* waits moved; it was not switched */
    at(900 * US, 65 * US, 0);         /* it was, after 5 us more */
    at(901 * US, 0, 0);
    stream_all(&s);
    known(0, 40 * US);
    known(1, 50 * US);
    known(2, 50 * US);
    known(3, 70 * US);
    known(4, 70 * US); /* read a little less than we had thought: it never runs backwards */
    known(5, 71 * US);
}

static void test_between_readings_with_one_count_of_waits_it_was_ready(void **state)
{
    (void)state;
    given_up = 7;
    at(100 * US, 40 * US, 0); /* nobody knows what was before */
    at(110 * US, 0, 0);
    at(200 * US, 60 * US, 0); /* another thread's turn */
    given_up = 8;
    at(300 * US, 70 * US, 0); /* it waited */
    at(310 * US, 0, 0);
    lanes_nested(&w); /* dropped: it might have told of a wait */
    at(400 * US, 90 * US, 0);
    given_up = 0;
    at(500 * US, 95 * US, 0); /* not read */
    at(600 * US, 99 * US, 0);
    stream_all(&s);
    const bool ready[] = {false, true, true, false, true, false, false, false, false};
    for (size_t i = 0; i < 9; i++)
        assert_int_equal(s.kept[i].item.ready, ready[i]);
}

static void test_without_a_reading_nothing_is_known(void **state)
{
    (void)state;
    at(100 * US, 0, 0);
    at(200 * US, 0, EVENT_HAS_BLOCK);
    at(300 * US, 50 * US, 0);
    at(400 * US, UINT64_MAX, 0); /* from here on it may not be read */
    at(500 * US, 0, 0);
    stream_all(&s);
    unknown(0, 0);
    unknown(1, 0);
    known(2, 50 * US);
    unknown(3, 50 * US);
    unknown(4, 50 * US);
}

static void test_after_a_loss_it_is_unknown_until_the_next_reading(void **state)
{
    (void)state;
    at(100 * US, 40 * US, 0);
    lanes_nested(&w); /* dropped: it might have told of a switch */
    at(300 * US, 0, 0);
    at(900 * US, 90 * US, 0);
    stream_all(&s);
    assert_int_equal(s.kept[1].item.kind, ITEM_GAP);
    known(0, 40 * US);
    unknown(2, 40 * US);
    known(3, 90 * US); /* nothing of it is lost for good */
}

static void test_an_event_without_a_time_leaves_it_unknown(void **state)
{
    (void)state;
    at(100 * US, 40 * US, 0);
    at(200 * US, 0, EVENT_NO_CLOCK);
    at(300 * US, 0, 0);
    at(400 * US, 95 * US, 0);
    stream_all(&s);
    known(0, 40 * US);
    unknown(1, 40 * US);
    unknown(2, 40 * US);
    known(3, 95 * US);
}

static void test_it_never_runs_faster_than_time(void **state)
{
    (void)state;
    at(100 * US, 10 * US, 0);
    at(150 * US, 90 * US, 0); /* a scribbler, or the clock of a hypervisor's mood */
    at(300 * US, 100 * US, 0);
    stream_all(&s);
    known(0, 10 * US);
    known(1, 60 * US);
    known(2, 100 * US);
}

static void test_what_an_earlier_image_used_is_not_its_own(void **state)
{
    (void)state;
    at(100 * US, 5000 * US, 0); /* exec: the clock went on */
    at(200 * US, 5030 * US, 0);
    stream_all(&s);
    known(0, 100 * US); /* at most all the time since it began */
    known(1, 130 * US);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_the_clock_runs_on_until_it_is_read_again),
        TEST(test_between_readings_with_one_count_of_waits_it_was_ready),
        TEST(test_without_a_reading_nothing_is_known),
        TEST(test_after_a_loss_it_is_unknown_until_the_next_reading),
        TEST(test_an_event_without_a_time_leaves_it_unknown),
        TEST(test_it_never_runs_faster_than_time),
        TEST(test_what_an_earlier_image_used_is_not_its_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
