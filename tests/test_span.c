/*
 * test_span.c - requests: when they count, what their times are, which bytes are theirs.
 */
#include "tests/story.h"

static int begin(void **state)
{
    story_begin(state);
    accepts(a, 1);
    return 0;
}

static void test_pipelined_requests_get_their_answers_in_order(void **state)
{
    (void)state;
    reads(a, 1, GET("/1") GET("/2"));
    reads(a, 1, GET("/3"));
    writes(a, 1, "HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\nHTTP/1.1 404 Not");
    writes(a, 1, " Found\r\nContent-Length: 0\r\n\r\n");
    writes(a, 1, "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n");
    finish();
    assert_int_equal(scene.spans, 3);
    assert_int_equal(span_named("/1")->status, 201);
    assert_int_equal(span_named("/2")->status, 404);
    assert_int_equal(span_named("/3")->status, 503);
    assert_true(span_named("/3")->error);
    assert_false(span_named("/2")->error);
    assert_int_equal(span_named("/2")->end_ns - span_named("/2")->start_ns, 3000);
    assert_int_equal(span_named("/2")->first_byte_ns, 2000);
}

static void test_an_interim_answer_is_counted_and_is_not_the_answer(void **state)
{
    (void)state;
    reads(a, 1, "POST /up HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n");
    writes(a, 1, "HTTP/1.1 100 Continue\r\n\r\n");
    reads(a, 1, "abc");
    writes(a, 1, ANSWER);
    finish();
    const struct span *s = span_named("/up");
    assert_int_equal(s->status, 200);
    assert_int_equal(s->first_byte_ns, 3000);
    assert_int_equal(s->bytes[OUT], strlen("HTTP/1.1 100 Continue\r\n\r\n" ANSWER));
    assert_int_equal(s->body[IN], 3);
    assert_int_equal(scene.flow.outside_out, 0);
}

static void test_an_early_answer_ends_the_time_not_the_bytes(void **state)
{
    (void)state;
    reads(a, 1, "POST /up HTTP/1.1\r\nContent-Length: 10\r\n\r\nab");
    writes(a, 1, ANSWER);
    reads(a, 1, "cdefghij");
    reads(a, 1, GET("/next"));
    writes(a, 1, ANSWER);
    finish();
    const struct span *s = span_named("/up");
    assert_int_equal(s->end_ns - s->start_ns, 1000);
    assert_int_equal(s->body[IN], 10);
    assert_int_equal(scene.flow.outside_in, 0);
    assert_int_equal(scene.spans, 2);
}

static void test_a_request_without_an_answer_is_unobserved(void **state)
{
    (void)state;
    reads(a, 1, GET("/x"));
    closes(a, 1);
    finish();
    assert_int_equal(scene.spans, 1);
    assert_false(scene.span[0].answered);
    assert_int_equal(scene.span[0].status, 0);
    assert_false(scene.span[0].error);
    assert_int_equal(scene.span[0].first_byte_ns, 0);
    assert_int_equal(scene.span[0].end_ns - scene.span[0].start_ns, 1000);
    assert_int_equal(scene.span[0].bytes[IN], strlen(GET("/x")));
}

static void test_a_piece_of_a_request_does_not_count(void **state)
{
    (void)state;
    reads(a, 1, "GET /x HTTP/1.1\r\nHo");
    allocates(a, 10);
    closes(a, 1);
    finish();
    assert_int_equal(scene.spans, 0);
    assert_int_equal(scene.flow.outside_in, strlen("GET /x HTTP/1.1\r\nHo"));
    assert_int_equal(scene.flow.outside.allocated, 10);
}

static void test_a_request_whose_body_is_cut_off_counts_with_what_came(void **state)
{
    (void)state;
    reads(a, 1, "POST /up HTTP/1.1\r\nContent-Length: 1000\r\n\r\nabc");
    reads_end(a, 1);
    closes(a, 1);
    finish();
    assert_int_equal(scene.spans, 1);
    assert_false(scene.span[0].answered);
    assert_int_equal(scene.span[0].body[IN], 3);
    assert_int_equal(scene.flow.outside_in, 0);
}

static void test_an_answer_that_is_cut_off_keeps_its_status_and_says_so(void **state)
{
    (void)state;
    reads(a, 1, GET("/x"));
    writes(a, 1, ANSWER_HEAD("1000") "abc");
    sends_file(a, 1, 500);
    uint64_t last = scene.now - 1000;
    pass_time(50000);
    closes(a, 1);
    finish();
    const struct span *s = &scene.span[0];
    assert_int_equal(scene.spans, 1);
    assert_true(s->answered);
    assert_int_equal(s->status, 200);
    assert_true(s->inferred & INFERRED_END);
    assert_int_equal(s->body[OUT], 503);
    assert_int_equal(s->end_ns, last);
    assert_int_equal(scene.flow.outside_out, 0);
}

static void test_an_answer_up_to_the_close_ends_with_its_last_byte(void **state)
{
    (void)state;
    reads(a, 1, "GET /x HTTP/1.0\r\n\r\n");
    writes(a, 1, "HTTP/1.0 200 OK\r\n\r\nabc");
    writes(a, 1, "def");
    uint64_t last = scene.now - 1000;
    pass_time(1000000);
    closes(a, 1);
    finish();
    assert_int_equal(scene.span[0].end_ns, last);
    assert_int_equal(scene.span[0].body[OUT], 6);
    assert_int_equal(scene.span[0].inferred, 0);
}

static void test_a_client_reads_such_an_answer_up_to_the_end(void **state)
{
    (void)state;
    connects(a, 2, 0);
    writes(a, 2, "GET /x HTTP/1.0\r\n\r\n");
    reads(a, 2, "HTTP/1.0 200 OK\r\n\r\nabc");
    pass_time(9000);
    reads_end(a, 2);
    uint64_t last = scene.now - 1000;
    closes(a, 2);
    finish();
    assert_int_equal(scene.span[0].end_ns, last);
    assert_true(scene.span[0].answered);
}

static void test_an_answer_nobody_asked_for_is_outside(void **state)
{
    (void)state;
    reads(a, 1, GET("/x"));
    writes(a, 1, ANSWER);
    writes(a, 1, "HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    closes(a, 1);
    finish();
    assert_int_equal(scene.spans, 1);
    assert_int_equal(scene.span[0].status, 200);
    assert_int_equal(scene.flow.outside_out,
                     strlen("HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"));
}

static void test_an_answer_to_a_piece_of_a_request_is_outside(void **state)
{
    (void)state;
    reads(a, 1, "GET /x HTTP/1.1\r\nHo");
    writes(a, 1, "HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    closes(a, 1);
    finish();
    assert_int_equal(scene.spans, 0);
}

static void test_requests_cut_off_by_a_signal_are_in_flight(void **state)
{
    (void)state;
    accepts(a, 2);
    reads(a, 2, GET("/done"));
    writes(a, 2, ANSWER);
    reads(a, 2, GET("/slow"));
    accepts(a, 3);
    reads(a, 3, "GET /pie");
    reads(a, 1, GET("/other"));
    pass_time(5 * MS);
    thread_ends_in(a, CALL_FSYNC);
    process_is_killed(1);
    scene_end();
    assert_int_equal(scene.spans, 1);
    assert_int_equal(scene.in_flights, 2);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(scene.in_flight[i].pid, 100);
        assert_int_equal(scene.in_flight[i].tid, 1001);
        assert_int_equal(scene.in_flight[i].in_call, CALL_FSYNC);
        assert_true(scene.in_flight[i].age_ns >= 5 * MS);
    }
    assert_int_equal(scene.flow.outside_in, strlen(GET("/slow") "GET /pie" GET("/other")));
}

static void test_how_a_process_died_may_be_told_later(void **state)
{
    (void)state;
    process_begins(2, 200, 1);
    process_begins(3, 300, 1);
    struct actor *killed = thread_in(3, 2), *left = thread_in(4, 3);
    accepts(killed, 2);
    accepts(left, 3);
    reads(killed, 2, GET("/killed"));
    reads(left, 3, GET("/left"));
    process_ends_by(2, -1, -1, false);
    process_ends_by(3, -1, -1, false);
    assert_int_equal(scene.spans, 0);
    struct fact f = {.kind = FACT_REAPED, .pid = 200, .exit_code = -1, .signal = 9};
    play_fact(&f, NULL, 1);
    struct fact g = {.kind = FACT_REAPED, .pid = 300, .exit_code = 0, .signal = 0};
    play_fact(&g, NULL, 1);
    finish();
    assert_int_equal(scene.spans, 1);
    assert_non_null(span_named("/left"));
    assert_int_equal(scene.in_flights, 1);
    assert_string_equal(scene.in_flight_target[0], "/killed");
}

static void test_a_death_nobody_explains_is_a_killing_unless_exit_was_called(void **state)
{
    (void)state;
    process_begins(2, 200, 1);
    process_begins(3, 300, 1);
    struct actor *killed = thread_in(3, 2), *left = thread_in(4, 3);
    accepts(killed, 2);
    accepts(left, 3);
    reads(killed, 2, GET("/killed"));
    reads(left, 3, GET("/left"));
    simple(left, EVENT_EXIT, 0, 0);
    process_ends_by(2, -1, -1, false);
    process_ends_by(3, -1, -1, false);
    idles(4);
    assert_int_equal(scene.in_flights, 1);
    assert_int_equal(scene.spans, 1);
    finish();
    assert_int_equal(scene.in_flights, 1);
}

static void test_what_goes_on_at_the_end_is_in_flight(void **state)
{
    (void)state;
    reads(a, 1, GET("/slow"));
    pass_time(7 * MS);
    struct fact f = {.kind = FACT_THREAD_CALL, .in_call = CALL_POLL, .tid = 1001};
    play_fact(&f, a, 1);
    struct fact g = {.kind = FACT_PROCESS_TOTAL, .total = totals_of(1)};
    play_fact(&g, NULL, 1);
    scene_end();
    assert_int_equal(scene.spans, 0);
    assert_int_equal(scene.in_flights, 1);
    assert_int_equal(scene.in_flight[0].in_call, CALL_POLL);
    assert_true(scene.in_flight[0].age_ns >= 7 * MS);
}

static void test_a_trace_id_is_taken_along(void **state)
{
    (void)state;
    reads(a, 1,
          "GET /x HTTP/1.1\r\ntraceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n\r\n");
    writes(a, 1, ANSWER);
    finish();
    static const uint8_t id[16] = {0x0a, 0xf7, 0x65, 0x19, 0x16, 0xcd, 0x43, 0xdd,
                                   0x84, 0x48, 0xeb, 0x21, 0x1c, 0x80, 0x31, 0x9c};
    assert_true(scene.span[0].traced);
    assert_memory_equal(scene.span[0].trace, id, 16);
}

static void test_ends_are_named_by_their_addresses(void **state)
{
    (void)state;
    listens(a, 50, 80);
    accepts_from(a, 2, 50);
    reads(a, 2, GET("/x"));
    writes(a, 2, ANSWER);
    finish();
    struct sockaddr_in peer, local;
    memcpy(&peer, scene.span[0].peer, sizeof peer);
    memcpy(&local, scene.span[0].local, sizeof local);
    assert_int_equal(ntohs(peer.sin_port), 40000);
    assert_int_equal(ntohs(local.sin_port), 80);
    assert_int_equal(scene.span[0].connection, 2);
}

static void test_ids_are_never_given_twice(void **state)
{
    (void)state;
    for (int i = 0; i < 100; i++) {
        reads(a, 1, GET("/x"));
        writes(a, 1, ANSWER);
    }
    finish();
    for (int i = 1; i < 100; i++)
        assert_true(scene.span[i].id > scene.span[i - 1].id);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, story_end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_pipelined_requests_get_their_answers_in_order),
        TEST(test_an_interim_answer_is_counted_and_is_not_the_answer),
        TEST(test_an_early_answer_ends_the_time_not_the_bytes),
        TEST(test_a_request_without_an_answer_is_unobserved),
        TEST(test_a_piece_of_a_request_does_not_count),
        TEST(test_a_request_whose_body_is_cut_off_counts_with_what_came),
        TEST(test_an_answer_that_is_cut_off_keeps_its_status_and_says_so),
        TEST(test_an_answer_up_to_the_close_ends_with_its_last_byte),
        TEST(test_a_client_reads_such_an_answer_up_to_the_end),
        TEST(test_an_answer_nobody_asked_for_is_outside),
        TEST(test_an_answer_to_a_piece_of_a_request_is_outside),
        TEST(test_requests_cut_off_by_a_signal_are_in_flight),
        TEST(test_how_a_process_died_may_be_told_later),
        TEST(test_a_death_nobody_explains_is_a_killing_unless_exit_was_called),
        TEST(test_what_goes_on_at_the_end_is_in_flight),
        TEST(test_a_trace_id_is_taken_along),
        TEST(test_ends_are_named_by_their_addresses),
        TEST(test_ids_are_never_given_twice),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
