/*
 * test_wall.c - CPU and waits of requests: whose they are, and where the time between first and last byte went.
 */
#include "tests/story.h"

#define US UINT64_C(1000)

static int begin(void **state)
{
    story_begin(state);
    scene.measured = true;
    return 0;
}

static const struct span *measured(const char *target)
{
    const struct span *s = span_named(target);
    assert_true(s->cpu_known);
    assert_true(s->waits_known);
    return s;
}

static uint64_t unknown_of(const struct span *s)
{
    return wall_unknown(&s->wall, s->downstream_ns, s->end_ns - s->start_ns);
}

/* CPU */

static void test_cpu_goes_by_the_rules_and_the_wall_has_what_lies_in_the_request(void **state)
{
    (void)state;
    accepts(a, 1);
    computes(a, 5 * US); /* before it: for the next */
    reads(a, 1, GET("/one"));
    computes(a, 50 * US);
    writes(a, 1, ANSWER);
    computes(a, 7 * US); /* behind it: its own */
    waits(a);
    computes(a, 3 * US); /* in the gap: the next one's */
    reads(a, 1, GET("/two"));
    writes(a, 1, ANSWER);
    waits(a);
    finish();
    const struct span *one = measured("/one"), *two = measured("/two");
    assert_int_equal(one->cost.cpu_ns, 5 * US + 1 * US + 50 * US + 1 * US + 7 * US + 1 * US);
    assert_int_equal(one->wall.cpu_ns, 51 * US);
    assert_int_equal(one->end_ns - one->start_ns, 51 * US);
    assert_int_equal(unknown_of(one), 0);
    assert_int_equal(two->cost.cpu_ns, 3 * US + 1 * US + 1 * US + 1 * US);
    assert_int_equal(two->wall.cpu_ns, 1 * US);
}

static void test_threads_that_touch_no_connection_are_outside(void **state)
{
    (void)state;
    accepts(a, 1);
    reads(a, 1, GET("/one"));
    computes(b, 90 * US);
    simple(b, EVENT_TURN, 0, CALL_SLEEP);
    writes(a, 1, ANSWER);
    waits(a);
    finish();
    assert_int_equal(measured("/one")->cost.cpu_ns, 3 * US);
    assert_true(scene.flow.outside.cpu_ns >= 91 * US);
}

static void test_cpu_that_was_not_known_is_told_as_such(void **state)
{
    (void)state;
    accepts(a, 1);
    reads(a, 1, GET("/one"));
    scene.unmeasured = true;
    a->total.cpu_ns -= 1000; /* as order.c leaves it where nobody knows */
    writes(a, 1, ANSWER);
    scene.unmeasured = false;
    computes(a, 20 * US);
    reads(a, 1, GET("/two"));
    writes(a, 1, ANSWER);
    waits(a);
    finish();
    assert_false(span_named("/one")->cpu_known);
    assert_true(span_named("/two")->cpu_known);
}

static void test_what_is_switched_off_is_not_known(void **state)
{
    (void)state;
    scene_close();
    options_init(&scene.options);
    scene.options.waits = 0;
    scene_open();
    a = thread_in(1, 1);
    accepts(a, 1);
    reads(a, 1, GET("/one"));
    pass_time(20 * US);
    writes(a, 1, ANSWER);
    process_exits(1);
    scene_end();
    assert_false(span_named("/one")->cpu_known);
    assert_false(span_named("/one")->waits_known);
    assert_int_equal(wall_sum(&span_named("/one")->wall), 0);
}

static void test_what_proc_alone_knows_is_outside_and_said_to_be_unseen(void **state)
{
    (void)state;
    accepts(a, 1);
    reads(a, 1, GET("/one"));
    writes(a, 1, ANSWER);
    waits(a);
    computes(b, 300 * US); /* it never makes an event */
    finish();
    assert_int_equal(scene.flow.unseen_cpu_ns, 300 * US);
    assert_true(scene.flow.outside.cpu_ns >= 300 * US);
}

/* Waits */

static void test_time_is_cpu_and_waits_and_nothing_else(void **state)
{
    (void)state;
    accepts(a, 1);
    reads(a, 1, GET("/one"));
    computes(a, 10 * US);
    is_locked_out(a, 20 * US);
    reads_disk(a, 30 * US);
    sleeps(a, 40 * US);
    writes(a, 1, ANSWER);
    waits(a);
    finish();
    const struct span *one = measured("/one");
    assert_int_equal(one->wall.cpu_ns, 11 * US);
    assert_int_equal(one->wall.lock_ns, 20 * US);
    assert_int_equal(one->wall.disk_ns, 30 * US);
    assert_int_equal(one->wall.sleep_ns, 40 * US);
    assert_int_equal(one->wall.runqueue_ns, 0);
    assert_int_equal(unknown_of(one), 0);
}

static void test_waits_never_exceed_the_interval(void **state)
{
    (void)state;
    accepts(a, 1);
    reads(a, 1, GET("/one"));
    computes(a, 10 * US);
    a->total.lock_ns += 500 * US; /* nonsense */
    writes(a, 1, ANSWER_HEAD("2"));
    blocks(300 * US);
    writes(a, 1, "ok");
    waits(a);
    finish();
    const struct span *one = measured("/one");
    assert_int_equal(one->wall.cpu_ns, 12 * US);
    assert_int_equal(one->wall.lock_ns, 0);
    assert_int_equal(unknown_of(one), 300 * US);
}

static void test_a_wait_that_nobody_timed_is_unknown(void **state)
{
    (void)state;
    accepts(a, 1);
    reads(a, 1, GET("/one"));
    computes(a, 10 * US);
    pass_time(70 * US); /* it read a pipe */
    writes(a, 1, ANSWER_HEAD("2"));
    blocks(400 * US); /* the client is slow: no wait of ours */
    writes(a, 1, "ok");
    waits(a);
    finish();
    const struct span *one = measured("/one");
    assert_int_equal(one->wall.runqueue_ns, 0);
    assert_int_equal(unknown_of(one), 470 * US);
}

static void test_who_never_gives_the_processor_up_stands_in_the_run_queue(void **state)
{
    (void)state;
    accepts(a, 1);
    reads(a, 1, GET("/one"));
    scene.ready = true;
    computes(a, 10 * US);
    pass_time(70 * US);
    writes(a, 1, ANSWER_HEAD("2"));
    blocks(400 * US); /* in a call, and no wait of its own */
    writes(a, 1, "ok");
    scene.ready = false;
    waits(a);
    finish();
    const struct span *one = measured("/one");
    assert_int_equal(unknown_of(one), 0);
    assert_int_equal(one->wall.runqueue_ns, one->end_ns - one->start_ns - one->wall.cpu_ns);
}

static void test_no_run_queue_is_concluded_over_a_poll(void **state)
{
    (void)state;
    accepts(a, 1);
    reads(a, 1, GET("/one"));
    waits_quietly(a);
    pass_time(70 * US);
    writes(a, 1, ANSWER);
    waits(a);
    finish();
    assert_int_equal(measured("/one")->wall.runqueue_ns, 0);
}

static void test_a_worker_that_idles_charges_nobody(void **state)
{
    (void)state;
    for (int turn = 0; turn < 2; turn++) { /* with an event of its own, and without */
        accepts(a, 1 + (uint64_t)turn);
        reads(a, 1 + (uint64_t)turn, GET("/one"));
        writes(a, 1 + (uint64_t)turn, ANSWER);
        if (turn)
            waits(a);
        is_locked_out(a, 5000 * US);
        sleeps(a, 3000 * US);
        reads(a, 1 + (uint64_t)turn, GET("/two"));
        computes(a, 10 * US);
        writes(a, 1 + (uint64_t)turn, ANSWER);
        waits(a);
    }
    finish();
    for (int i = 0; i < scene.spans; i++) {
        assert_int_equal(scene.span[i].cost.lock_ns, 0);
        assert_int_equal(scene.span[i].cost.sleep_ns, 0);
    }
    assert_int_equal(scene.flow.outside.lock_ns, 10000 * US);
}

static void test_a_wait_in_the_middle_of_a_request_is_its_own(void **state)
{
    (void)state;
    accepts(a, 1);
    reads(a, 1, GET("/one"));
    waits_quietly(a); /* for the interpreter's lock: a condition, which ends the claim */
    is_locked_out(a, 5000 * US);
    writes(a, 1, ANSWER);
    waits(a);
    finish();
    assert_int_equal(measured("/one")->wall.lock_ns, 5000 * US);
    assert_int_equal(scene.flow.outside.lock_ns, 0);
}

static void gil(uint64_t connection, uint64_t backend)
{
    reads(a, connection, connection == 1 ? GET("/one") : GET("/two"));
    computes(a, 10 * US);
    simple(a, EVENT_TURN, 0, CALL_CONDITION);
    a->waited = true;
    is_locked_out(a, 400 * US);
    computes(a, 20 * US);
    writes(a, backend, connection == 1 ? GET("/up") : GET("/down"));
    waits_quietly(a);
    is_locked_out(a, 300 * US);
    reads(a, backend, ANSWER);
    waits_quietly(a);
    is_locked_out(a, 200 * US);
    computes(a, 30 * US);
    writes(a, connection, ANSWER);
    waits(a);
}

static void test_waiting_for_an_interpreter_a_thread_still_works_for_its_request(void **state)
{
    (void)state;
    accepts(a, 1);
    connects(a, 2, 0);
    gil(1, 2);
    finish();
    const struct span *one = measured("/one");
    assert_int_equal(measured("/up")->parent, one->id);
    assert_int_equal(one->wall.lock_ns, 600 * US);
    assert_int_equal(measured("/up")->wall.lock_ns, 300 * US);
    assert_int_equal(one->wall.cpu_ns, 63 * US);
    assert_int_equal(unknown_of(one), 0);
}

static void test_where_threads_take_up_each_others_requests_it_may_work_for_any(void **state)
{
    (void)state;
    accepts(a, 3);
    reads(b, 3, GET("/three"));
    writes(a, 3, ANSWER);
    waits(a);
    accepts(a, 1);
    connects(a, 2, 0);
    gil(1, 2);
    finish();
    assert_int_equal(measured("/up")->parent, 0);
}

static void test_a_poll_ends_the_work_whatever_lock_comes_with_it(void **state)
{
    (void)state;
    accepts(a, 1);
    connects(a, 2, 0);
    reads(a, 1, GET("/one"));
    waits_quietly(a);
    pass_time(900 * US);
    is_locked_out(a, 10 * US);
    pass_time(2 * US);
    writes(a, 2, GET("/up"));
    reads(a, 2, ANSWER);
    writes(a, 1, ANSWER);
    waits(a);
    finish();
    assert_int_equal(measured("/up")->parent, 0);
}

static void test_idling_for_the_rest_of_a_request_is_no_lock(void **state)
{
    (void)state;
    accepts(a, 1);
    reads(a, 1, "GET /one HT");
    waits_quietly(a);
    is_locked_out(a, 5000 * US);
    reads(a, 1, "TP/1.1\r\nHost: a\r\n\r\n");
    writes(a, 1, ANSWER);
    waits(a);
    finish();
    assert_int_equal(measured("/one")->cost.lock_ns, 0);
}

static void test_idling_after_handing_a_request_over_is_nobodys(void **state)
{
    (void)state;
    accepts(a, 1);
    accepts(a, 2);
    computes(b, 10 * US);
    is_locked_out(b, 700 * US); /* it waits for work */
    reads(a, 1, GET("/one"));
    computes(b, 30 * US);
    writes(b, 1, ANSWER_HEAD("4"));
    is_locked_out(a, 900 * US);
    waits(a);
    reads(a, 2, GET("/two"));
    writes(b, 1, "done");
    writes(a, 2, ANSWER);
    waits(a);
    waits(b);
    finish();
    assert_int_equal(measured("/one")->cost.lock_ns, 0);
    assert_int_equal(measured("/two")->cost.lock_ns, 0);
    assert_true(measured("/one")->cost.cpu_ns >= 40 * US); /* what the worker did for it */
    assert_int_equal(scene.flow.outside.lock_ns, 1600 * US);
}

static void test_a_worker_that_leaves_a_request_for_another_idled(void **state)
{
    (void)state;
    accepts(a, 1);
    accepts(a, 2);
    reads(a, 1, GET("/one"));
    is_locked_out(a, 900 * US);
    reads(a, 2, GET("/two"));
    writes(a, 2, ANSWER);
    writes(a, 1, ANSWER);
    waits(a);
    finish();
    assert_int_equal(measured("/one")->cost.lock_ns, 0);
    assert_int_equal(measured("/two")->cost.lock_ns, 0);
}

static void test_a_pipeline_divides_cpu_and_waits(void **state)
{
    (void)state;
    accepts(a, 1);
    reads(a, 1, GET("/one") GET("/two"));
    computes(a, 100 * US);
    is_locked_out(a, 30 * US);
    pass_time(50 * US);
    writes(a, 1, ANSWER ANSWER);
    waits(a);
    finish();
    const struct span *one = measured("/one"), *two = measured("/two");
    assert_int_equal(one->wall.cpu_ns + two->wall.cpu_ns, 101 * US);
    assert_int_equal(one->wall.lock_ns, 15 * US);
    assert_int_equal(two->wall.lock_ns, 15 * US);
    assert_int_equal(one->wall.runqueue_ns, 0);
    assert_int_equal(unknown_of(one), one->end_ns - one->start_ns - wall_sum(&one->wall));
}

/* Calls */

static void test_a_call_is_downstream_and_what_follows_is_the_callers(void **state)
{
    (void)state;
    accepts(a, 1);
    connects(a, 2, 0);
    reads(a, 1, GET("/one"));
    computes(a, 10 * US);
    writes(a, 2, GET("/up"));
    blocks(300 * US);
    reads(a, 2, ANSWER);
    computes(a, 60 * US);
    writes(a, 1, ANSWER);
    waits(a);
    finish();
    const struct span *one = measured("/one"), *up = measured("/up");
    assert_int_equal(one->downstream_ns, 301 * US);
    assert_int_equal(one->wall.cpu_ns, 72 * US);
    assert_int_equal(one->wall.runqueue_ns, 0);
    assert_int_equal(unknown_of(one), 0);
    assert_int_equal(up->cost.cpu_ns, 1 * US);
    assert_int_equal(up->downstream_ns + up->wall.cpu_ns + unknown_of(up), up->end_ns - up->start_ns);
    assert_true(up->downstream_ns >= 300 * US);
}

static void test_work_while_a_call_is_under_way_is_no_waiting(void **state)
{
    (void)state;
    accepts(a, 1);
    connects(a, 2, 0);
    reads(a, 1, GET("/one"));
    writes(a, 2, GET("/up"));
    writes(a, 1, ANSWER_HEAD("4"));
    computes(a, 100 * US);
    writes(a, 1, "do");
    blocks(40 * US);
    reads(a, 2, ANSWER);
    blocks(200 * US); /* the client is slow */
    writes(a, 1, "ne");
    waits(a);
    finish();
    const struct span *one = measured("/one");
    assert_true(one->wall.cpu_ns >= 101 * US);
    assert_true(one->downstream_ns >= 40 * US && one->downstream_ns < 45 * US);
}

#define QUERY "\x01\x02\x03\x04 select"
#define ROWS "\x05\x06\x07\x08 rows"

static void test_a_call_that_no_parser_reads_belongs_to_its_request(void **state)
{
    (void)state;
    accepts(a, 1);
    connects(a, 2, 0);
    reads(a, 1, GET("/one"));
    computes(a, 10 * US);
    writes(a, 2, QUERY);
    blocks(300 * US);
    reads(a, 2, ROWS);
    computes(a, 60 * US);
    blocks(50 * US); /* more rows */
    reads(a, 2, ROWS);
    writes(a, 1, ANSWER);
    waits(a);
    finish();
    const struct span *one = measured("/one");
    assert_int_equal(one->wall.cpu_ns, 74 * US);
    assert_int_equal(one->downstream_ns, 350 * US);
    assert_int_equal(unknown_of(one), 0);
}

static void test_such_a_call_over_a_poll(void **state)
{
    (void)state;
    accepts(a, 1);
    connects(a, 2, 0);
    reads(a, 1, GET("/one"));
    writes(a, 2, QUERY);
    waits_quietly(a);
    pass_time(300 * US);
    reads(a, 2, ROWS);
    computes(a, 60 * US);
    writes(a, 1, ANSWER);
    waits(a);
    finish();
    const struct span *one = measured("/one");
    assert_int_equal(one->downstream_ns, 300 * US);
    assert_int_equal(one->wall.cpu_ns, 63 * US);
}

static void test_whose_answer_it_is_of_two_requests_nobody_guesses(void **state)
{
    (void)state;
    accepts(a, 1);
    accepts(a, 3);
    connects(a, 2, 0);
    reads(a, 1, GET("/one"));
    writes(a, 2, QUERY);
    reads(a, 3, GET("/three"));
    writes(a, 2, QUERY);
    waits(a);
    pass_time(300 * US);
    reads(a, 2, ROWS);
    computes(a, 60 * US);
    writes(a, 1, ANSWER);
    writes(a, 3, ANSWER);
    waits(a);
    finish();
    assert_true(measured("/one")->cost.cpu_ns < 10 * US);
    assert_true(measured("/three")->cost.cpu_ns < 10 * US);
    assert_true(scene.flow.outside.cpu_ns >= 60 * US);
}

static void test_an_opened_connection_of_nobody_stays_outside(void **state)
{
    (void)state;
    connects(b, 2, 0);
    computes(b, 10 * US);
    writes(b, 2, QUERY);
    computes(b, 50 * US);
    reads(b, 2, ROWS);
    waits(b);
    accepts(a, 1);
    reads(a, 1, GET("/one"));
    writes(a, 1, ANSWER);
    waits(a);
    finish();
    assert_int_equal(measured("/one")->cost.cpu_ns, 3 * US);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, story_end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_cpu_goes_by_the_rules_and_the_wall_has_what_lies_in_the_request),
        TEST(test_threads_that_touch_no_connection_are_outside),
        TEST(test_cpu_that_was_not_known_is_told_as_such),
        TEST(test_what_is_switched_off_is_not_known),
        TEST(test_what_proc_alone_knows_is_outside_and_said_to_be_unseen),
        TEST(test_time_is_cpu_and_waits_and_nothing_else),
        TEST(test_waits_never_exceed_the_interval),
        TEST(test_a_wait_that_nobody_timed_is_unknown),
        TEST(test_who_never_gives_the_processor_up_stands_in_the_run_queue),
        TEST(test_no_run_queue_is_concluded_over_a_poll),
        TEST(test_a_worker_that_idles_charges_nobody),
        TEST(test_a_wait_in_the_middle_of_a_request_is_its_own),
        TEST(test_waiting_for_an_interpreter_a_thread_still_works_for_its_request),
        TEST(test_where_threads_take_up_each_others_requests_it_may_work_for_any),
        TEST(test_a_poll_ends_the_work_whatever_lock_comes_with_it),
        TEST(test_idling_for_the_rest_of_a_request_is_no_lock),
        TEST(test_idling_after_handing_a_request_over_is_nobodys),
        TEST(test_a_worker_that_leaves_a_request_for_another_idled),
        TEST(test_a_pipeline_divides_cpu_and_waits),
        TEST(test_a_call_is_downstream_and_what_follows_is_the_callers),
        TEST(test_work_while_a_call_is_under_way_is_no_waiting),
        TEST(test_a_call_that_no_parser_reads_belongs_to_its_request),
        TEST(test_such_a_call_over_a_poll),
        TEST(test_whose_answer_it_is_of_two_requests_nobody_guesses),
        TEST(test_an_opened_connection_of_nobody_stays_outside),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
