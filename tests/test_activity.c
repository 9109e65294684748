/*
 * test_activity.c - whose cost is it: the six rules, each as a story of threads.
 */
#include "tests/story.h"

static void costs(const char *target, uint64_t allocated, uint64_t freed)
{
    const struct span *s = span_named(target);
    assert_int_equal(s->cost.allocated, allocated);
    assert_int_equal(s->cost.freed, freed);
}

static void outside(uint64_t allocated, uint64_t freed)
{
    assert_int_equal(scene.flow.outside.allocated, allocated);
    assert_int_equal(scene.flow.outside.freed, freed);
}

/* Rule 1, 2 */

static void test_an_interval_goes_to_the_request_current_at_its_start(void **state)
{
    (void)state;
    accepts(a, 1);
    accepts(a, 2);
    reads(a, 1, GET("/one"));
    allocates(a, 100);
    reads(a, 2, GET("/two"));
    allocates(a, 20);
    writes(a, 2, ANSWER);
    waits(a);
    allocates(a, 3);
    writes(a, 1, ANSWER);
    finish();
    costs("/one", 103, 0);
    costs("/two", 20, 0);
    outside(0, 0);
}

static void test_a_wait_ends_the_claim(void **state)
{
    (void)state;
    accepts(a, 1);
    accepts(a, 2);
    reads(a, 1, GET("/one"));
    allocates(a, 100);
    waits(a);
    allocates(a, 20);
    reads(a, 2, GET("/two"));
    writes(a, 2, ANSWER);
    writes(a, 1, ANSWER);
    finish();
    costs("/one", 100, 0);
    costs("/two", 20, 0);
}

static void test_a_wait_without_an_event_of_its_own_ends_the_claim_too(void **state)
{
    (void)state;
    accepts(a, 1);
    accepts(a, 2);
    reads(a, 1, GET("/one"));
    waits_quietly(a);
    allocates(a, 20);
    reads(a, 2, GET("/two"));
    writes(a, 2, ANSWER);
    writes(a, 1, ANSWER);
    finish();
    costs("/one", 0, 0);
    costs("/two", 20, 0);
}

static void test_end_of_stream_ends_the_claim(void **state)
{
    (void)state;
    accepts(a, 1);
    accepts(a, 2);
    reads(a, 1, GET("/one"));
    allocates(a, 100);
    reads_end(a, 1);
    allocates(a, 20);
    reads(a, 2, GET("/two"));
    writes(a, 2, ANSWER);
    writes(a, 1, ANSWER);
    finish();
    costs("/one", 100, 0);
    costs("/two", 20, 0);
}

/* Rule 3 */

static void test_work_after_the_answer_is_its_own(void **state)
{
    (void)state;
    accepts(a, 1);
    reads(a, 1, GET("/one"));
    writes(a, 1, ANSWER);
    allocates(a, 30); /* a log line */
    frees(a, 70);
    waits(a);
    finish();
    costs("/one", 30, 70);
    outside(0, 0);
}

static void test_a_span_is_handed_on_once_and_when_its_cost_has_ended(void **state)
{
    (void)state;
    accepts(a, 1);
    reads(a, 1, GET("/one"));
    writes(a, 1, ANSWER);
    assert_int_equal(scene.spans, 0);
    reads(a, 1, GET("/two"));
    assert_int_equal(scene.spans, 1);
    writes(a, 1, ANSWER);
    waits(a);
    assert_int_equal(scene.spans, 1);
    idles(2); /* a second is the longest */
    assert_int_equal(scene.spans, 2);
    finish();
    assert_int_equal(scene.spans, 2);
}

static void test_another_connection_ends_the_cost(void **state)
{
    (void)state;
    accepts(a, 1);
    accepts(a, 2);
    reads(a, 2, GET("/two"));
    reads(a, 1, GET("/one"));
    writes(a, 1, ANSWER);
    allocates(a, 7);
    writes(a, 2, ANSWER_HEAD("1"));
    assert_int_equal(scene.spans, 1);
    allocates(a, 5);
    writes(a, 2, "x");
    finish();
    costs("/one", 7, 0);
    costs("/two", 5, 0);
}

/* Rule 4 */

static void test_in_the_gap_frees_go_back_and_allocations_on(void **state)
{
    (void)state;
    accepts(a, 1);
    reads(a, 1, GET("/one"));
    allocates(a, 1000);
    writes(a, 1, ANSWER);
    frees(a, 1000); /* no wait between: a thread that blocks in read */
    allocates(a, 200);
    reads(a, 1, GET("/two"));
    writes(a, 1, ANSWER);
    finish();
    costs("/one", 1000, 1000);
    costs("/two", 200, 0);
}

static void test_the_gap_goes_on_across_waits(void **state)
{
    (void)state;
    accepts(a, 1);
    reads(a, 1, GET("/one"));
    writes(a, 1, ANSWER);
    waits(a);
    frees(a, 40);
    allocates(a, 2);
    waits(a);
    frees(a, 50);
    allocates(a, 3);
    reads(a, 1, GET("/two"));
    writes(a, 1, ANSWER);
    finish();
    costs("/one", 0, 90);
    costs("/two", 5, 0);
}

static void test_with_nothing_finished_before_all_goes_to_the_next(void **state)
{
    (void)state;
    accepts(b, 1);
    frees(a, 15); /* a thread made for this connection */
    allocates(a, 500);
    reads(a, 1, GET("/one"));
    writes(a, 1, ANSWER);
    finish();
    costs("/one", 500, 15);
    outside(0, 0);
}

static void test_with_nothing_after_it_goes_outside(void **state)
{
    (void)state;
    accepts(a, 1);
    reads(a, 1, GET("/one"));
    writes(a, 1, ANSWER);
    waits(a);
    allocates(a, 9);
    simple(a, EVENT_EXIT, 0, 0);
    finish();
    costs("/one", 0, 0);
    outside(9, 0);
}

static void test_what_a_dying_thread_frees_after_the_close_is_outside(void **state)
{
    (void)state;
    accepts(b, 1);
    allocates(a, 64);
    reads(a, 1, GET("/one"));
    writes(a, 1, ANSWER);
    frees(a, 60);
    closes(a, 1);
    frees(a, 4);
    thread_ends(a);
    finish();
    costs("/one", 64, 60);
    outside(0, 4);
}

static void test_what_a_close_frees_belongs_to_the_finished_request_when_another_comes(void **state)
{
    (void)state;
    accepts(a, 1);
    reads(a, 1, GET("/one"));
    writes(a, 1, ANSWER);
    closes(a, 1);
    frees(a, 64);
    allocates(a, 3);
    waits(a);
    frees(a, 6);
    accepts(a, 2);
    reads(a, 2, GET("/two"));
    writes(a, 2, ANSWER);
    finish();
    costs("/one", 0, 70);
    costs("/two", 3, 0);
}

static void test_a_thread_without_events_is_charged_by_its_totals(void **state)
{
    (void)state;
    accepts(a, 1);
    reads(a, 1, GET("/one"));
    writes(a, 1, ANSWER);
    frees(a, 64); /* it blocks in read */
    allocates(a, 5);
    struct fact f = {.kind = FACT_THREAD_TOTAL, .total = a->total};
    play_fact(&f, a, 1);
    idles(2);
    assert_int_equal(scene.spans, 1);
    allocates(a, 2);
    reads(a, 1, GET("/two"));
    writes(a, 1, ANSWER);
    closes(a, 1);
    finish();
    costs("/one", 0, 64);
    costs("/two", 7, 0);
}

static void test_start_up_is_no_requests(void **state)
{
    (void)state;
    allocates(a, 50000000);
    listens(a, 9, 80);
    allocates(a, 1000);
    waits(a);
    allocates(a, 32);
    accepts_from(a, 1, 9);
    allocates(a, 16);
    waits(a);
    allocates(a, 8);
    reads(a, 1, GET("/one"));
    writes(a, 1, ANSWER);
    finish();
    costs("/one", 56, 0);
    outside(50001000, 0);
}

static void test_an_accept_ends_the_claim(void **state)
{
    (void)state;
    allocates(a, 7000); /* start-up: accept is the first wait of all */
    accepts(a, 1);
    allocates(a, 1);
    reads(a, 1, GET("/one"));
    writes(a, 1, ANSWER);
    allocates(a, 20);
    accepts(a, 2); /* one after the other, without threads */
    frees(a, 300);
    allocates(a, 4000);
    reads(a, 2, GET("/two"));
    writes(a, 2, ANSWER);
    finish();
    costs("/one", 21, 300);
    costs("/two", 4000, 0);
    outside(7000, 0);
}

static void test_another_collectors_counts_are_the_base(void **state)
{
    (void)state;
    struct totals committed = {.allocated = 1000, .freed = 500, .allocations = 10};
    a->total = (struct totals){.allocated = 700, .freed = 200, .allocations = 6};
    scene.ended[1] = (struct totals){.allocated = 350, .freed = 320, .allocations = 5}; /* 50 of it uncommitted */
    pipeline_resume_process(scene.pipeline, 1, &committed);
    struct fact f = {.kind = FACT_THREAD_BASE, .total = a->total};
    play_fact(&f, a, 1);
    scene.base = committed;
    accepts(a, 1);
    reads(a, 1, GET("/one"));
    allocates(a, 30);
    idles(2);
    writes(a, 1, ANSWER);
    check_sums();
    finish();
    costs("/one", 30, 0);
    outside(50, 20);
}

static void test_work_between_waits_of_an_idle_server_is_no_requests(void **state)
{
    (void)state;
    accepts(a, 1);
    reads(a, 1, GET("/one"));
    writes(a, 1, ANSWER);
    waits(a);
    idles(2);
    for (int i = 0; i < 100; i++) {
        idles(1);
        allocates(a, 1000); /* a timer */
        frees(a, 1000);
        waits(a);
    }
    allocates(a, 3);
    reads(a, 1, GET("/two"));
    writes(a, 1, ANSWER);
    finish();
    costs("/one", 0, 0);
    costs("/two", 3, 0);
    outside(100000, 100000);
}

/* Rule 5 */

static void test_a_pipeline_in_one_read_shares_its_costs(void **state)
{
    (void)state;
    accepts(a, 1);
    allocates(a, 4);
    reads(a, 1, GET("/1") GET("/2") GET("/3"));
    allocates(a, 100);
    writes(a, 1, ANSWER ANSWER ANSWER);
    frees(a, 11);
    waits(a);
    finish();
    assert_int_equal(scene.spans, 3);
    costs("/1", 2 + 34, 5);
    costs("/2", 1 + 33, 3);
    costs("/3", 1 + 33, 3);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(scene.span[i].shared, 3);
        assert_int_equal(scene.span[i].inferred, INFERRED_COST);
    }
    outside(0, 0);
}

static void test_a_pipeline_answered_one_by_one_is_divided_among_those_still_open(void **state)
{
    (void)state;
    accepts(a, 1);
    reads(a, 1, GET("/1") GET("/2"));
    allocates(a, 101);
    writes(a, 1, ANSWER);
    allocates(a, 7);
    writes(a, 1, ANSWER);
    finish();
    costs("/1", 51, 0);
    costs("/2", 57, 0);
}

static void test_the_piece_of_a_next_request_shares_nothing(void **state)
{
    (void)state;
    accepts(a, 1);
    reads(a, 1, GET("/1") "GET /2 HT");
    allocates(a, 100);
    writes(a, 1, ANSWER);
    allocates(a, 10);
    waits(a);
    reads(a, 1, "TP/1.1\r\n\r\n");
    allocates(a, 1);
    writes(a, 1, ANSWER);
    finish();
    costs("/1", 110, 0);
    costs("/2", 1, 0);
    assert_int_equal(span_named("/1")->shared, 0);
}

static void test_an_alone_request_is_not_marked(void **state)
{
    (void)state;
    accepts(a, 1);
    reads(a, 1, GET("/1"));
    writes(a, 1, ANSWER);
    finish();
    assert_int_equal(scene.span[0].shared, 0);
    assert_int_equal(scene.span[0].inferred, 0);
}

/* Rule 6 */

static void test_another_thread_takes_the_request_along(void **state)
{
    (void)state;
    accepts(a, 1);
    reads(a, 1, GET("/one"));
    allocates(a, 10); /* the job that it queues */
    waits(a);
    allocates(b, 200);
    writes(b, 1, ANSWER);
    frees(b, 210);
    waits(b);
    finish();
    costs("/one", 210, 210);
    assert_int_equal(span_named("/one")->thread, 2);
    outside(0, 0);
}

static void test_a_reader_that_goes_on_at_once_keeps_its_share(void **state)
{
    (void)state;
    accepts(a, 1);
    accepts(a, 2);
    reads(a, 1, GET("/one"));
    allocates(a, 10);
    allocates(b, 200);
    writes(b, 1, ANSWER); /* whether this comes before or after the reader's next event */
    waits(b);
    reads(a, 2, GET("/two"));
    allocates(a, 20);
    waits(a);
    writes(b, 2, ANSWER);
    waits(b);
    finish();
    costs("/one", 210, 0);
    costs("/two", 20, 0);
}

static void test_a_worker_prepares_for_the_request_that_it_takes_over(void **state)
{
    (void)state;
    accepts(a, 1);
    accepts(a, 2);
    reads(a, 1, GET("/one"));
    reads(a, 2, GET("/two"));
    waits(a);
    allocates(b, 100);
    writes(b, 1, ANSWER);
    frees(b, 100); /* waits for a condition that nobody wraps */
    allocates(b, 7);
    writes(b, 2, ANSWER);
    frees(b, 7);
    waits(b);
    finish();
    costs("/one", 100, 100);
    costs("/two", 7, 7);
}

static void test_threads_that_touch_no_connection_are_outside(void **state)
{
    (void)state;
    accepts(a, 1);
    reads(a, 1, GET("/one"));
    allocates(b, 5000);
    waits(b);
    frees(b, 100);
    waits(b);
    writes(a, 1, ANSWER);
    finish();
    costs("/one", 0, 0);
    outside(5000, 100);
}

static void test_a_connection_that_is_not_read_is_outside(void **state)
{
    (void)state;
    accepts(a, 1);
    accepts(a, 2);
    reads(a, 1, GET("/one"));
    writes(a, 1, ANSWER);
    allocates(a, 1);
    moves(a, EVENT_IN, 2, "\x16\x03\x01\x00\x05\x01hello", 11, 11, 0);
    allocates(a, 50);
    writes(a, 2, "secret");
    allocates(a, 500);
    waits(a);
    finish();
    costs("/one", 1, 0);
    outside(550, 0);
}

static void test_pieces_of_a_first_line_are_paid_by_their_request(void **state)
{
    (void)state;
    accepts(a, 1);
    allocates(a, 1);
    reads(a, 1, "G");
    allocates(a, 10);
    waits(a);
    reads(a, 1, "E");
    allocates(a, 100);
    reads(a, 1, "T /one HTTP/1.0\r\n\r\n");
    allocates(a, 1000);
    writes(a, 1, ANSWER);
    finish();
    costs("/one", 1111, 0);
}

/* Both sides */

static void test_a_client_request_in_a_servers_turn_has_it_as_parent(void **state)
{
    (void)state;
    accepts(a, 1);
    reads(a, 1, GET("/one"));
    connects(a, 2, 0);
    allocates(a, 10);
    writes(a, 2, GET("/up"));
    allocates(a, 100);
    pass_time(9000);
    reads(a, 2, ANSWER);
    allocates(a, 1000);
    writes(a, 1, ANSWER);
    waits(a);
    finish();
    const struct span *up = span_named("/up"), *one = span_named("/one");
    assert_int_equal(up->side, SIDE_CLIENT);
    assert_int_equal(up->parent, one->id);
    assert_int_equal(up->cost.allocated, 100);
    assert_int_equal(one->cost.allocated, 1010); /* with the answer in hand the thread goes on with it */
    assert_int_equal(one->downstream_ns, 1000 + up->end_ns - up->last_out_ns); /* connect, and the wait for the answer */
    assert_true(one->downstream_ns < one->end_ns - one->start_ns);
}

static void test_a_connection_opened_for_a_request_keeps_its_parent_over_a_wait(void **state)
{
    (void)state;
    accepts(a, 1);
    accepts(a, 3);
    reads(a, 1, GET("/one"));
    connects(a, 2, -115);
    waits_quietly(a);
    reads(a, 3, GET("/three"));
    waits_quietly(a);
    writes(a, 2, GET("/up"));
    waits_quietly(a);
    reads(a, 2, ANSWER);
    writes(a, 1, ANSWER);
    waits_quietly(a);
    writes(a, 2, GET("/again")); /* for whom, nobody can tell */
    finish();
    assert_int_equal(span_named("/up")->parent, span_named("/one")->id);
    assert_int_equal(span_named("/again")->parent, 0);
}

static void test_a_call_that_is_closed_leaves_its_thread_with_the_caller(void **state)
{
    (void)state;
    for (int by_end = 0; by_end < 2; by_end++) { /* the answer's length is told, or the end tells it */
        uint64_t server = 1 + 4 * (uint64_t)by_end, up = server + 1, other = server + 2;
        accepts(a, server);
        reads(a, server, by_end ? GET("/two") : GET("/one"));
        connects(a, up, 0);
        writes(a, up, GET("/up"));
        pass_time(9000);
        reads(a, up, by_end ? "HTTP/1.1 200 OK\r\n\r\nok" : ANSWER);
        reads_end(a, up);
        closes(a, up);
        allocates(a, 500);
        connects(a, other, 0);
        writes(a, other, GET("/other"));
        reads(a, other, ANSWER);
        writes(a, server, ANSWER);
        waits(a);
    }
    finish();
    costs("/one", 500, 0);
    costs("/two", 500, 0);
}

/* An unparsed one too; but an end on a connection of somebody else's leaves the request. */
static void test_an_end_ends_the_claim_unless_it_is_its_own_call(void **state)
{
    (void)state;
    accepts(a, 1);
    accepts(a, 4);
    connects(a, 2, 0);
    connects(a, 3, 0);
    reads(a, 1, GET("/one"));
    writes(a, 2, "\1\2\3\4");
    reads(a, 2, "\4\3\2\1");
    reads_end(a, 2);
    allocates(a, 500);
    reads_end(a, 3);
    allocates(a, 7);
    reads(a, 4, GET("/four"));
    writes(a, 4, ANSWER);
    writes(a, 1, ANSWER);
    waits(a);
    finish();
    costs("/one", 500, 0);
    costs("/four", 7, 0);
}

static void test_what_comes_before_a_calls_first_write_is_the_callers(void **state)
{
    (void)state;
    accepts(a, 1);
    reads(a, 1, GET("/one"));
    connects(a, 2, -115);
    waits_quietly(a);
    allocates(a, 40);
    writes(a, 2, GET("/up"));
    allocates(a, 3);
    reads(a, 2, ANSWER);
    writes(a, 1, ANSWER);
    waits(a);
    finish();
    costs("/one", 40, 0);
    costs("/up", 3, 0);
}

/* A loop that has read another request meanwhile, in the same turn. */
static void test_a_connections_first_call_is_its_openers(void **state)
{
    (void)state;
    accepts(a, 1);
    accepts(a, 3);
    reads(a, 1, GET("/one"));
    connects(a, 2, -115);
    waits_quietly(a);
    reads(a, 3, GET("/three"));
    writes(a, 2, GET("/up"));
    reads(a, 2, ANSWER);
    writes(a, 1, ANSWER);
    writes(a, 3, ANSWER);
    waits(a);
    finish();
    assert_int_equal(span_named("/up")->parent, span_named("/one")->id);
    assert_int_equal(span_named("/three")->downstream_ns, 0);
}

/* asyncio reads all that is there, then works on it: of whom the time was, nobody can tell. */
static void test_work_between_ones_question_and_anothers_answer_is_in_doubt(void **state)
{
    (void)state;
    for (uint64_t c = 1; c < 4; c++)
        accepts(a, c);
    reads(a, 1, GET("/one"));
    reads(a, 2, GET("/two"));
    computes(a, 5000000);
    writes(a, 1, ANSWER);
    computes(a, 2000);
    writes(a, 2, ANSWER);
    waits(a);
    reads(a, 1, GET("/four"));
    reads(a, 2, GET("/five"));
    waits_quietly(a); /* asyncio's turn */
    writes(a, 1, ANSWER);
    computes(a, 5000000);
    writes(a, 2, ANSWER);
    waits(a);
    reads(a, 3, GET("/three"));
    computes(a, 5000000);
    writes(a, 3, ANSWER);
    waits(a);
    finish();
    assert_true(span_named("/one")->inferred & INFERRED_COST);
    assert_true(span_named("/two")->inferred & INFERRED_COST);
    assert_true(span_named("/four")->inferred & INFERRED_COST);
    assert_true(span_named("/five")->inferred & INFERRED_COST);
    assert_int_equal(span_named("/three")->inferred, 0);
}

static void test_parallel_client_requests_count_their_time_once(void **state)
{
    (void)state;
    accepts(a, 1);
    connects(a, 2, 0);
    connects(a, 3, 0);
    reads(a, 1, GET("/one"));
    writes(a, 2, GET("/u2"));
    writes(a, 3, GET("/u3"));
    pass_time(10000);
    reads(a, 2, ANSWER);
    reads(a, 3, ANSWER);
    writes(a, 1, ANSWER);
    finish();
    assert_int_equal(span_named("/one")->downstream_ns, span_named("/u3")->end_ns - span_named("/u2")->last_out_ns);
}

static void test_no_parent_is_guessed_after_a_wait(void **state)
{
    (void)state;
    accepts(a, 1);
    connects(a, 2, 0);
    reads(a, 1, GET("/one"));
    waits(a);
    writes(a, 2, GET("/up"));
    reads(a, 2, ANSWER);
    writes(a, 1, ANSWER);
    finish();
    assert_int_equal(span_named("/up")->parent, 0);
}

/* Loss and death */

static void test_a_lost_event_loses_no_bytes_and_marks_the_request(void **state)
{
    (void)state;
    accepts(a, 1);
    reads(a, 1, GET("/one"));
    allocates(a, 100);
    loses(a, EVENT_OUT, 1, 10);
    allocates(a, 20);
    closes(a, 1);
    finish();
    costs("/one", 120, 0);
    assert_true(span_named("/one")->inferred & INFERRED_LOSS);
}

static void test_a_lane_used_again_begins_another_thread(void **state)
{
    (void)state;
    accepts(a, 1);
    reads(a, 1, GET("/one"));
    allocates(a, 100);
    writes(a, 1, ANSWER);
    add_totals(&scene.ended[1], &a->total);
    a->thread = 40;
    a->total = (struct totals){0};
    accepts(b, 2);
    allocates(a, 30);
    reads(a, 2, GET("/two"));
    writes(a, 2, ANSWER);
    waits(a);
    finish();
    costs("/one", 100, 0);
    costs("/two", 30, 0);
}

static void test_bytes_behind_the_last_event_are_outside(void **state)
{
    (void)state;
    accepts(a, 1);
    reads(a, 1, GET("/one"));
    writes(a, 1, ANSWER);
    a->total.allocated += 100;
    b->total.allocated += 1000; /* never made an event */
    process_is_killed(1);
    scene_end();
    costs("/one", 0, 0);
    outside(1100, 0);
}

static void test_the_sums_hold_while_requests_are_in_progress(void **state)
{
    (void)state;
    accepts(a, 1);
    accepts(a, 2);
    reads(a, 1, GET("/one"));
    allocates(a, 100);
    waits(a);
    reads(a, 2, GET("/two"));
    allocates(a, 10);
    writes(a, 2, ANSWER);
    allocates(a, 1);
    idles(2);
    check_sums();
    struct fact f = {.kind = FACT_PROCESS_TOTAL, .total = totals_of(1)};
    play_fact(&f, NULL, 1);
    idles(2);
    check_sums();
    assert_int_equal(scene.flow.outside.allocated, 101);
    assert_int_equal(scene.flow.outside_in, strlen(GET("/one")));
    assert_int_equal(scene.in_flights, 1);
    assert_string_equal(scene.in_flight_target[0], "/one");
    finish();
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, story_begin, story_end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_an_interval_goes_to_the_request_current_at_its_start),
        TEST(test_a_wait_ends_the_claim),
        TEST(test_a_wait_without_an_event_of_its_own_ends_the_claim_too),
        TEST(test_end_of_stream_ends_the_claim),
        TEST(test_work_after_the_answer_is_its_own),
        TEST(test_a_span_is_handed_on_once_and_when_its_cost_has_ended),
        TEST(test_another_connection_ends_the_cost),
        TEST(test_in_the_gap_frees_go_back_and_allocations_on),
        TEST(test_the_gap_goes_on_across_waits),
        TEST(test_with_nothing_finished_before_all_goes_to_the_next),
        TEST(test_with_nothing_after_it_goes_outside),
        TEST(test_what_a_dying_thread_frees_after_the_close_is_outside),
        TEST(test_what_a_close_frees_belongs_to_the_finished_request_when_another_comes),
        TEST(test_a_thread_without_events_is_charged_by_its_totals),
        TEST(test_start_up_is_no_requests),
        TEST(test_an_accept_ends_the_claim),
        TEST(test_another_collectors_counts_are_the_base),
        TEST(test_work_between_waits_of_an_idle_server_is_no_requests),
        TEST(test_a_pipeline_in_one_read_shares_its_costs),
        TEST(test_a_pipeline_answered_one_by_one_is_divided_among_those_still_open),
        TEST(test_the_piece_of_a_next_request_shares_nothing),
        TEST(test_an_alone_request_is_not_marked),
        TEST(test_another_thread_takes_the_request_along),
        TEST(test_a_reader_that_goes_on_at_once_keeps_its_share),
        TEST(test_a_worker_prepares_for_the_request_that_it_takes_over),
        TEST(test_threads_that_touch_no_connection_are_outside),
        TEST(test_a_connection_that_is_not_read_is_outside),
        TEST(test_pieces_of_a_first_line_are_paid_by_their_request),
        TEST(test_a_client_request_in_a_servers_turn_has_it_as_parent),
        TEST(test_a_connection_opened_for_a_request_keeps_its_parent_over_a_wait),
        TEST(test_a_call_that_is_closed_leaves_its_thread_with_the_caller),
        TEST(test_an_end_ends_the_claim_unless_it_is_its_own_call),
        TEST(test_what_comes_before_a_calls_first_write_is_the_callers),
        TEST(test_a_connections_first_call_is_its_openers),
        TEST(test_work_between_ones_question_and_anothers_answer_is_in_doubt),
        TEST(test_parallel_client_requests_count_their_time_once),
        TEST(test_no_parent_is_guessed_after_a_wait),
        TEST(test_a_lost_event_loses_no_bytes_and_marks_the_request),
        TEST(test_a_lane_used_again_begins_another_thread),
        TEST(test_bytes_behind_the_last_event_are_outside),
        TEST(test_the_sums_hold_while_requests_are_in_progress),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    /* every allocation and free again an event of its own: samples divide no interval */
    scene.sampling = true;
    return failed + cmocka_run_group_tests_name("sampled", tests, NULL, NULL);
}
