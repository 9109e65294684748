/*
 * test_connection.c - connections: what counts as one, whose bytes are in what order, who reads them, when they end.
 */
#include <errno.h>
#include "tests/story.h"

static void answers(struct actor *t, uint64_t connection, const char *request)
{
    reads(t, connection, request);
    writes(t, connection, ANSWER);
}

/* --- what is a connection ---------------------------------------------------------------------------------------------- */

static void test_accepted_opened_and_inherited_are_counted(void **state)
{
    (void)state;
    accepts(a, 1);
    connects(a, 2, 0);
    scene.flags = EVENT_FIRST; /* recv on a passed socket */
    reads(a, 3, GET("/passed"));
    writes(a, 3, ANSWER);
    finish();
    assert_int_equal(scene.flow.accepted, 1);
    assert_int_equal(scene.flow.opened, 1);
    assert_int_equal(scene.flow.inherited, 1);
    assert_int_equal(scene.spans, 1);
    assert_int_equal(scene.span[0].side, SIDE_SERVER);
}

static void test_a_failed_connect_is_no_connection(void **state)
{
    (void)state;
    connects(a, 2, -ECONNREFUSED);
    closes(a, 2);
    connects(a, 3, -EINPROGRESS);
    closes(a, 3);
    connects(a, 4, -EINPROGRESS);
    simple(a, EVENT_IN, 4, -ECONNREFUSED);
    closes(a, 4);
    finish();
    assert_int_equal(scene.flow.opened, 0);
}

static void test_a_connect_under_way_counts_when_it_is_used(void **state)
{
    (void)state;
    connects(a, 2, -EINPROGRESS);
    writes(a, 2, GET("/x"));
    reads(a, 2, ANSWER);
    connects(a, 3, -EINPROGRESS);
    connects(a, 3, 0);
    connects(a, 4, -EINPROGRESS);
    connects(a, 4, -EISCONN);
    finish();
    assert_int_equal(scene.flow.opened, 3);
    assert_int_equal(scene.spans, 1);
    assert_int_equal(scene.span[0].side, SIDE_CLIENT);
}

static void test_an_unsure_descriptor_counts_nothing_until_it_is_a_stream(void **state)
{
    (void)state;
    scene.flags = EVENT_FIRST | EVENT_UNSURE;
    reads(a, 5, GET("/stdin"));
    scene.flags = EVENT_UNSURE;
    writes(a, 5, ANSWER);
    assert_int_equal(scene.descriptors, 1);
    assert_int_equal(scene.asked_descriptor[0], 5);
    idles(2);
    assert_int_equal(scene.flow.bytes_in, 0);
    assert_int_equal(scene.flow.inherited, 0);
    struct fact f = {.kind = FACT_DESCRIPTOR, .connection = 5, .is_known = true, .is_stream = true};
    play_fact(&f, NULL, 1);
    scene.flags = EVENT_UNSURE;
    reads(a, 5, GET("/more"));
    scene.flags = EVENT_UNSURE;
    writes(a, 5, ANSWER);
    finish();
    assert_int_equal(scene.flow.inherited, 1);
    assert_int_equal(scene.flow.bytes_in, strlen(GET("/stdin")) + strlen(GET("/more")));
    assert_int_equal(scene.spans, 2);
    assert_int_equal(span_named("/stdin")->end_ns - span_named("/stdin")->start_ns, 1000);
}

static void test_a_descriptor_that_is_no_stream_is_ignored(void **state)
{
    (void)state;
    accepts(a, 1);
    reads(a, 1, GET("/one"));
    allocates(a, 10);
    scene.flags = EVENT_FIRST | EVENT_UNSURE;
    writes(a, 5, "a log line\n");
    allocates(a, 100);
    struct fact f = {.kind = FACT_DESCRIPTOR, .connection = 5, .is_known = true, .is_stream = false};
    play_fact(&f, NULL, 1);
    scene.flags = EVENT_UNSURE;
    writes(a, 5, "another\n");
    allocates(a, 1000);
    writes(a, 1, ANSWER);
    finish();
    assert_int_equal(plan_of(5), PLAN_IGNORE);
    assert_int_equal(scene.flow.inherited, 0);
    assert_int_equal(scene.flow.bytes_out, strlen(ANSWER));
    assert_int_equal(span_named("/one")->cost.allocated, 1110); /* a log line ends no claim */
    assert_int_equal(scene.descriptors, 1);
}

static void test_a_socket_call_settles_an_unsure_descriptor(void **state)
{
    (void)state;
    scene.flags = EVENT_FIRST | EVENT_UNSURE;
    reads(a, 5, GET("/x"));
    writes(a, 5, ANSWER); /* send: no doubt any more */
    finish();
    assert_int_equal(scene.flow.inherited, 1);
    assert_int_equal(scene.spans, 1);
}

static void test_more_bytes_than_can_be_held_are_counted_all_the_same(void **state)
{
    (void)state;
    static char body[4000];
    memset(body, 'x', sizeof body);
    uint64_t sum = 0;
    for (int i = 0; i < 10; i++) {
        scene.flags = EVENT_UNSURE;
        moves(a, EVENT_IN, 5, body, sizeof body, sizeof body, 0);
        sum += sizeof body;
    }
    struct fact f = {.kind = FACT_DESCRIPTOR, .connection = 5, .is_known = true, .is_stream = true};
    play_fact(&f, NULL, 1);
    finish();
    assert_int_equal(scene.flow.bytes_in, sum);
    assert_int_equal(scene.unreads, 1);
}

static void test_a_late_accept_makes_up_for_its_bytes(void **state)
{
    (void)state;
    reads(a, 1, GET("/x"));
    scene.late = true;
    accepts(b, 1);
    writes(a, 1, ANSWER);
    finish();
    assert_int_equal(scene.flow.accepted, 1);
    assert_int_equal(scene.flow.inherited, 0);
    assert_int_equal(scene.spans, 1);
}

/* --- bytes ---------------------------------------------------------------------------------------------------------------- */

static void test_requests_are_found_byte_by_byte(void **state)
{
    (void)state;
    char one[2] = {0};
    accepts(a, 1);
    for (const char *p = GET("/slow"); *p; p++) {
        one[0] = *p;
        reads(a, 1, one);
    }
    for (const char *p = ANSWER; *p; p++) {
        one[0] = *p;
        writes(a, 1, one);
    }
    answers(a, 1, GET("/next"));
    finish();
    assert_int_equal(scene.spans, 2);
    assert_int_equal(scene.flow.outside_in, 0);
    assert_int_equal(scene.flow.outside_out, 0);
    const struct span *s = span_named("/slow");
    assert_int_equal(s->first_byte_ns, 1000 * strlen(GET("/slow")));
    assert_int_equal(s->end_ns - s->start_ns, 1000 * (strlen(GET("/slow")) + strlen(ANSWER) - 1));
}

static void test_a_body_that_was_not_captured_is_counted(void **state)
{
    (void)state;
    accepts(a, 1);
    reads(a, 1, GET("/file"));
    writes(a, 1, ANSWER_HEAD("1000000"));
    sends_file(a, 1, 600000);
    sends_file(a, 1, 400000);
    answers(a, 1, GET("/next"));
    finish();
    assert_int_equal(scene.spans, 2);
    assert_int_equal(span_named("/file")->bytes[OUT], 1000000 + strlen(ANSWER_HEAD("1000000")));
    assert_int_equal(span_named("/file")->body[OUT], 1000000);
    assert_int_equal(span_named("/file")->inferred, 0);
    assert_int_equal(scene.plans, 0);
}

static void test_head_and_tail_with_a_hole_between(void **state)
{
    (void)state;
    char answer[6000];
    memset(answer, 'x', sizeof answer);
    memcpy(answer, ANSWER_HEAD("5000"), strlen(ANSWER_HEAD("5000")));
    size_t first = strlen(ANSWER_HEAD("5000")) + 5000;
    memcpy(answer + first, ANSWER, strlen(ANSWER));
    accepts(a, 1);
    reads(a, 1, GET("/1") GET("/2"));
    moves(a, EVENT_OUT, 1, answer, first + strlen(ANSWER), 1024, 256);
    finish();
    assert_int_equal(scene.spans, 2);
    assert_int_equal(span_named("/1")->bytes[OUT], first);
    assert_int_equal(span_named("/2")->bytes[OUT], strlen(ANSWER));
    assert_int_equal(span_named("/2")->status, 200);
    assert_int_equal(span_named("/1")->inferred, INFERRED_COST);
}

static void test_boundaries_in_a_hole_raise_the_plan_for_it_and_its_successors(void **state)
{
    (void)state;
    char answers_[4096] = "", requests[2048] = "";
    for (int i = 0; i < 20; i++) {
        strcat(requests, GET("/p"));
        strcat(answers_, "HTTP/1.1 200 OK\r\nX: 0123456789012345678901234567890123456789\r\nContent-Length: 2\r\n\r\nok");
    }
    listens(a, 50, 80);
    accepts_from(a, 1, 50);
    accepts_from(a, 2, 50);
    reads(a, 1, requests);
    moves(a, EVENT_OUT, 1, answers_, strlen(answers_), 1024, 256);
    assert_int_equal(plan_of(1), PLAN_FULL);
    assert_int_equal(plan_of(2), PLAN_DEFAULT);
    accepts_from(a, 3, 50);
    assert_int_equal(plan_of(3), PLAN_FULL);
    answers(a, 1, GET("/last"));
    closes(a, 1);
    finish();
    assert_int_equal(scene.spans, 21);
}

static void test_parts_of_a_full_capture_are_put_together(void **state)
{
    (void)state;
    static char answer[20000];
    memset(answer, 'x', sizeof answer);
    memcpy(answer, ANSWER_HEAD("12000"), strlen(ANSWER_HEAD("12000")));
    size_t first = strlen(ANSWER_HEAD("12000")) + 12000, all = first + strlen(ANSWER);
    memcpy(answer + first, ANSWER, strlen(ANSWER));
    accepts(a, 1);
    reads(a, 1, GET("/1") GET("/2"));
    uint64_t when = scene.now;
    moves(a, EVENT_OUT, 1, answer, all, 4096, 0);
    for (size_t at = 4096; at < all; at += 4096) {
        size_t n = all - at < 4096 ? all - at : 4096;
        struct event e = {.type = EVENT_MORE, .connection = 1, .offset = at, .result = (int32_t)n, .head = (uint16_t)n};
        play(a, &e, answer + at, n);
    }
    allocates(a, 10);
    waits(a);
    finish();
    assert_int_equal(scene.spans, 2);
    assert_int_equal(span_named("/1")->bytes[OUT], first);
    assert_int_equal(span_named("/2")->bytes[OUT], strlen(ANSWER));
    assert_int_equal(span_named("/2")->end_ns, when);
    assert_int_equal(span_named("/1")->cost.allocated, 5);
    assert_int_equal(scene.plans, 0);
}

static void test_parts_that_do_not_come_are_a_hole(void **state)
{
    (void)state;
    static char answer[9000];
    memset(answer, 'x', sizeof answer);
    memcpy(answer, ANSWER_HEAD("8000"), strlen(ANSWER_HEAD("8000")));
    accepts(a, 1);
    reads(a, 1, GET("/1"));
    moves(a, EVENT_OUT, 1, answer, strlen(ANSWER_HEAD("8000")) + 8000, 4096, 0);
    answers(b, 1, GET("/2")); /* of another thread: the stream's own next bytes close the hole */
    reads(a, 1, GET("/3"));
    moves(a, EVENT_OUT, 1, answer, strlen(ANSWER_HEAD("8000")) + 8000, 4096, 0);
    idles(3);
    assert_int_equal(scene.spans, 3);
    finish();
    assert_int_equal(scene.spans, 3);
    assert_int_equal(scene.flow.outside_out, 0);
}

static void test_missing_bytes_are_counted_by_the_next_offset(void **state)
{
    (void)state;
    accepts(a, 1);
    answers(a, 1, GET("/1"));
    waits(a);
    idles(2);
    loses(a, EVENT_IN, 1, strlen(GET("/2")));
    loses(a, EVENT_OUT, 1, strlen(ANSWER));
    answers(a, 1, GET("/3"));
    answers(a, 1, GET("/4"));
    closes(a, 1);
    finish();
    assert_int_equal(scene.flow.bytes_in, 4 * strlen(GET("/1")));
    assert_int_equal(scene.flow.bytes_out, 4 * strlen(ANSWER));
    assert_true(span_named("/3")->inferred & INFERRED_LOSS);
    assert_int_equal(span_named("/4")->status, 200);
    assert_int_equal(span_named("/1")->inferred, 0);
}

static void test_a_late_event_of_bytes_that_were_missed_counts_once(void **state)
{
    (void)state;
    accepts(a, 1);
    struct event e = {.type = EVENT_IN, .connection = 1, .result = 10, .head = 10};
    reads(a, 1, GET("/1"));
    writes(a, 1, ANSWER);
    wire_of(1)->offset[IN] += 10;
    reads(a, 1, GET("/2"));
    writes(a, 1, ANSWER);
    e.offset = strlen(GET("/1"));
    scene.late = true;
    play(b, &e, "0123456789", 10);
    finish();
    assert_int_equal(scene.flow.bytes_in, 2 * strlen(GET("/1")) + 10);
}

static void test_unknown_offsets_are_taken_by_time(void **state)
{
    (void)state;
    accepts(a, 1);
    for (int i = 0; i < 3; i++) {
        scene.flags = EVENT_OFFSET_UNKNOWN;
        wire_of(1)->offset[IN] = 12345;
        reads(a, 1, GET("/x"));
        scene.flags = EVENT_OFFSET_UNKNOWN;
        writes(a, 1, ANSWER);
    }
    finish();
    assert_int_equal(scene.spans, 3);
    assert_int_equal(scene.flow.bytes_in, 3 * strlen(GET("/x")));
}

/* --- who reads it ---------------------------------------------------------------------------------------------------------- */

static void test_tls_is_listed_by_its_listener(void **state)
{
    (void)state;
    listens(a, 50, 443);
    accepts_from(a, 1, 50);
    accepts_from(a, 2, 50);
    moves(a, EVENT_IN, 1, "\x16\x03\x01\x02\x00\x01secret", 12, 12, 0);
    writes(a, 1, "hello");
    moves(a, EVENT_IN, 2, "\x16\x03", 2, 2, 0);
    moves(a, EVENT_IN, 2, "\x01\x02\x00\x01secret", 10, 10, 0);
    finish();
    assert_int_equal(scene.unreads, 1);
    assert_int_equal(scene.unread[0].reason, UNREAD_TLS);
    assert_int_equal(scene.unread[0].connections, 2);
    assert_int_equal(scene.unread[0].bytes_in, 24);
    assert_int_equal(scene.unread[0].bytes_out, 5);
    struct sockaddr_in at;
    memcpy(&at, scene.unread[0].address, sizeof at);
    assert_int_equal(ntohs(at.sin_port), 443);
    assert_int_equal(plan_of(1), PLAN_COUNT);
}

static void test_unknown_protocols_are_listed_by_their_peer(void **state)
{
    (void)state;
    connects(a, 1, 0);
    reads(a, 1, "220 mail.example ESMTP\r\n");
    writes(a, 1, "EHLO me\r\n");
    finish();
    assert_int_equal(scene.unreads, 1);
    assert_int_equal(scene.unread[0].reason, UNREAD_UNKNOWN);
    struct sockaddr_in at;
    memcpy(&at, scene.unread[0].address, sizeof at);
    assert_int_equal(ntohs(at.sin_port), 8080);
    assert_int_equal(scene.unread[0].bytes_in + scene.unread[0].bytes_out, 33);
}

static void test_what_looks_like_a_protocol_at_first_is_unknown_in_the_end(void **state)
{
    (void)state;
    accepts(a, 1);
    for (int i = 0; i < 100; i++) { /* memcached */
        reads(a, 1, "get foo\r\n");
        writes(a, 1, "END\r\n");
        reads(a, 1, "set foo 0 0 3\r\nabc\r\n");
        writes(a, 1, "STORED\r\n");
    }
    closes(a, 1);
    finish();
    assert_int_equal(scene.spans, 0);
    assert_int_equal(scene.unreads, 1);
    assert_int_equal(scene.unread[0].reason, UNREAD_UNKNOWN);
    assert_int_equal(scene.unread[0].bytes_in, scene.flow.bytes_in);
    assert_int_equal(scene.unread[0].bytes_out, scene.flow.bytes_out);
}

static void test_a_connection_without_bytes_is_not_unread(void **state)
{
    (void)state;
    accepts(a, 1);
    closes(a, 1);
    accepts(a, 2);
    reads_end(a, 2);
    closes(a, 2);
    finish();
    assert_int_equal(scene.unreads, 0);
    assert_int_equal(scene.flow.accepted, 2);
}

static void test_an_inherited_connection_is_a_client_when_it_asks(void **state)
{
    (void)state;
    scene.flags = EVENT_FIRST;
    writes(a, 3, GET("/asked"));
    reads(a, 3, ANSWER);
    finish();
    assert_int_equal(scene.span[0].side, SIDE_CLIENT);
}

static void test_a_connection_joined_under_way_is_read_from_its_next_request(void **state)
{
    (void)state;
    wire_of(1)->offset[IN] = 5000;
    wire_of(1)->offset[OUT] = 90000;
    answers(a, 1, GET("/first"));
    answers(a, 1, GET("/second"));
    finish();
    assert_int_equal(scene.spans, 2);
    assert_int_equal(scene.flow.bytes_in, strlen(GET("/first")) + strlen(GET("/second")));
    assert_int_equal(span_named("/second")->status, 200);
    assert_int_equal(scene.unreads, 0);
}

static void test_a_connection_joined_inside_a_message_is_listed_until_its_next_one(void **state)
{
    (void)state;
    wire_of(1)->offset[IN] = 5000;
    reads(a, 1, "half of a body");
    writes(a, 1, ANSWER);
    answers(a, 1, GET("/x"));
    finish();
    assert_int_equal(scene.spans, 1);
    assert_int_equal(scene.unreads, 1);
    assert_int_equal(scene.unread[0].reason, UNREAD_LATE_ATTACH);
    assert_int_equal(scene.unread[0].bytes_in, 14);
}

static void test_bytes_that_were_never_captured_are_listed(void **state)
{
    (void)state;
    accepts(a, 1);
    moves(a, EVENT_IN, 1, "", 100, 0, 0);
    moves(a, EVENT_OUT, 1, "", 200, 0, 0);
    finish();
    assert_int_equal(scene.unreads, 1);
    assert_int_equal(scene.unread[0].reason, UNREAD_CAPTURE);
    assert_int_equal(scene.unread[0].bytes_in, 100);
    assert_int_equal(scene.unread[0].bytes_out, 200);
    assert_int_equal(scene.flow.outside_out, 200);
}

static void test_requests_may_hide_in_a_hole_of_their_direction(void **state)
{
    (void)state;
    char requests[2048] = "";
    for (int i = 0; i < 40; i++)
        strcat(requests, GET("/p"));
    size_t all = strlen(requests);
    accepts(a, 1);
    moves(a, EVENT_IN, 1, requests, all, 256, 64);
    writes(a, 1, ANSWER);
    closes(a, 1);
    finish();
    assert_true(scene.spans < 40);
    assert_int_equal(scene.unreads, 1);
    assert_int_equal(scene.unread[0].reason, UNREAD_CAPTURE);
    assert_int_equal(scene.unread[0].connections, 1);
    assert_int_equal(scene.unread[0].bytes_in, all - 256 - 64);
    assert_int_equal(scene.unread[0].bytes_out, 0);
}

static void test_a_hole_in_a_body_hides_nothing(void **state)
{
    (void)state;
    char request[5100] = "POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 5000\r\n\r\n";
    size_t head = strlen(request);
    memset(request + head, 'x', 5000);
    accepts(a, 1);
    moves(a, EVENT_IN, 1, request, head + 5000, head, 64);
    writes(a, 1, ANSWER);
    closes(a, 1);
    finish();
    assert_int_equal(scene.spans, 1);
    assert_int_equal(scene.unreads, 0);
}

static void test_after_an_upgrade_bytes_are_counted_only(void **state)
{
    (void)state;
    accepts(a, 1);
    reads(a, 1, "GET /ws HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    writes(a, 1, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    reads(a, 1, "frame");
    writes(a, 1, "GET / HTTP/1.1\r\n\r\n");
    finish();
    assert_int_equal(scene.spans, 1);
    assert_true(scene.span[0].upgraded);
    assert_int_equal(scene.span[0].status, 101);
    assert_int_equal(scene.flow.outside_in, 5);
    assert_int_equal(scene.flow.outside_out, 18);
    assert_int_equal(plan_of(1), PLAN_COUNT);
}

static void test_an_address_that_comes_later_names_what_is_unread(void **state)
{
    (void)state;
    scene.flags = EVENT_FIRST;
    reads(a, 3, "\x01\x02\x03\x04");
    struct fact f = {.kind = FACT_ADDRESS, .connection = 3, .local_length = sizeof(struct sockaddr_in)};
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(99)};
    memcpy(f.local, &at, sizeof at);
    play_fact(&f, NULL, 1);
    reads(a, 3, "\x05");
    finish();
    assert_int_equal(scene.addresses, 1);
    assert_int_equal(scene.unreads, 1);
    assert_int_equal(scene.unread[0].bytes_in, 5);
    memcpy(&at, scene.unread[0].address, sizeof at);
    assert_int_equal(ntohs(at.sin_port), 99);
}

/* --- when it ends ------------------------------------------------------------------------------------------------------------ */

#define CLOSE_DELIMITED "HTTP/1.0 200 OK\r\n\r\n"

static void test_a_duplicate_keeps_it_open(void **state)
{
    (void)state;
    accepts(a, 1);
    reads(a, 1, "GET /x HTTP/1.0\r\n\r\n");
    simple(a, EVENT_DUP, 1, 8);
    closes(a, 1);
    writes(a, 1, CLOSE_DELIMITED "more");
    assert_int_equal(scene.spans, 0);
    closes(a, 1);
    waits(a);
    idles(2);
    assert_int_equal(scene.spans, 1);
    finish();
    assert_int_equal(scene.span[0].body[OUT], 4);
    assert_true(scene.span[0].answered);
    assert_int_equal(scene.flow.accepted, 1);
    assert_int_equal(scene.flow.inherited, 0);
}

static void test_a_forked_child_goes_on_with_what_its_parent_closed(void **state)
{
    (void)state;
    accepts(a, 1);
    simple(a, EVENT_FORK, 0, 200);
    closes(a, 1);
    process_begins(2, 200, 1);
    struct actor *child = thread_in(3, 2);
    reads(child, 1, GET("/child"));
    writes(child, 1, ANSWER);
    reads(child, 1, "GET /last HTTP/1.0\r\n\r\n");
    writes(child, 1, CLOSE_DELIMITED "x");
    process_exits(2);
    idles(1);
    assert_int_equal(scene.spans, 2);
    finish();
    assert_int_equal(scene.flow.accepted, 1);
    assert_int_equal(scene.flow.inherited, 0);
    assert_int_equal(span_named("/child")->process, 2);
    assert_true(span_named("/last")->answered);
    assert_int_equal(scene.flow.outside_in, 0);
}

static void test_a_child_that_is_seen_before_its_parent_closes(void **state)
{
    (void)state;
    accepts(a, 1);
    simple(a, EVENT_FORK, 0, 200);
    process_begins(2, 200, 1);
    struct actor *child = thread_in(3, 2);
    reads(child, 1, GET("/1"));
    closes(a, 1);
    writes(child, 1, ANSWER);
    closes(child, 1);
    waits(child);
    idles(2);
    assert_int_equal(scene.spans, 1);
    process_exits(2);
    finish();
    assert_true(scene.span[0].answered);
}

static void test_a_connection_nobody_uses_any_more_ends_with_the_child(void **state)
{
    (void)state;
    accepts(a, 1);
    reads(a, 1, "GET /x HTTP/1.0\r\n\r\n");
    simple(a, EVENT_FORK, 0, 200); /* a snapshot */
    process_begins(2, 200, 1);
    writes(a, 1, CLOSE_DELIMITED "x");
    uint64_t last = scene.now - 1000;
    closes(a, 1);
    waits(a);
    idles(3);
    process_exits(2);
    idles(2);
    assert_int_equal(scene.spans, 1);
    finish();
    assert_int_equal(scene.span[0].end_ns, last);
}

static void test_a_child_that_executes_something_else_holds_nothing(void **state)
{
    (void)state;
    accepts(a, 1);
    reads(a, 1, "GET /cgi HTTP/1.0\r\n\r\n");
    simple(a, EVENT_FORK, 0, 200);
    process_begins(2, 200, 1);
    process_ends_by(2, -1, -1, true);
    process_begins(3, 200, 0);
    writes(a, 1, CLOSE_DELIMITED "x");
    closes(a, 1);
    waits(a);
    idles(2);
    assert_int_equal(scene.spans, 1);
    process_exits(3);
    finish();
}

static void test_shutdown_ends_an_answer(void **state)
{
    (void)state;
    accepts(a, 1);
    reads(a, 1, "GET /x HTTP/1.0\r\n\r\n");
    simple(a, EVENT_FORK, 0, 200);
    writes(a, 1, CLOSE_DELIMITED "x");
    shuts_down(a, 1, 1);
    waits(a);
    idles(2);
    assert_int_equal(scene.spans, 1);
    finish();
}

static void test_a_close_by_a_process_that_never_used_it_ends_nothing(void **state)
{
    (void)state;
    accepts(a, 1);
    reads(a, 1, GET("/x"));
    process_begins(2, 200, 1);
    struct actor *child = thread_in(3, 2);
    closes(child, 1);
    writes(a, 1, ANSWER);
    process_exits(2);
    finish();
    assert_int_equal(scene.spans, 1);
    assert_true(scene.span[0].answered);
}

static void test_two_processes_on_one_socket_count_each_call_once(void **state)
{
    (void)state;
    accepts(a, 1);
    process_begins(2, 200, 1);
    struct actor *child = thread_in(3, 2);
    struct wire *w = wire_of(1);
    for (int i = 0; i < 3; i++) {
        w->offset[IN] = w->offset[OUT] = (uint64_t)i * 40; /* each has its own count */
        answers(a, 1, GET("/parent"));
        w->offset[IN] = w->offset[OUT] = (uint64_t)i * 41;
        answers(child, 1, GET("/child"));
    }
    process_exits(2);
    finish();
    assert_int_equal(scene.spans, 6);
    assert_int_equal(scene.flow.bytes_in, 3 * (strlen(GET("/parent")) + strlen(GET("/child"))));
}

static void test_the_death_of_a_process_ends_its_connections(void **state)
{
    (void)state;
    process_begins(2, 200, 0);
    struct actor *other = thread_in(3, 2);
    accepts(other, 1);
    reads(other, 1, GET("/x"));
    accepts(a, 2);
    reads(a, 2, GET("/y"));
    process_exits(2);
    idles(2);
    assert_int_equal(scene.spans, 1);
    assert_false(scene.span[0].answered);
    assert_int_equal(scene.span[0].status, 0);
    assert_false(scene.span[0].error);
    writes(a, 2, ANSWER);
    finish();
    assert_int_equal(scene.spans, 2);
}

static void test_a_thousand_connections_come_and_go(void **state)
{
    (void)state;
    for (uint64_t i = 1; i <= 20000; i++) {
        accepts(a, i << 20 | i);
        scene.wires = 0;
        answers(a, i << 20 | i, GET("/x"));
        closes(a, i << 20 | i);
        if (i % 100 == 0)
            tick();
    }
    finish();
    assert_int_equal(scene.spans, 20000);
    assert_int_equal(scene.flow.accepted, 20000);
    assert_int_equal(scene.flow.bound_connections, 0);
}

/* --- bounds --------------------------------------------------------------------------------------------------------------------- */

static void test_beyond_the_bound_the_longest_idle_makes_room(void **state)
{
    (void)state;
    scene_close();
    options_init(&scene.options);
    scene.options.connections = 64;
    story_begin(NULL);
    for (uint64_t i = 1; i <= 200; i++) {
        accepts(a, i);
        answers(a, i, GET("/x"));
    }
    for (uint64_t i = 1; i <= 200; i++)
        answers(a, i, GET("/again"));
    finish();
    assert_int_equal(scene.flow.accepted, 200);
    assert_int_equal(scene.flow.inherited, 0);
    assert_true(scene.flow.bound_connections >= 136);
    assert_int_equal(scene.flow.bytes_in, 200 * (strlen(GET("/x")) + strlen(GET("/again"))));
    assert_int_equal(scene.spans, 400);
}

static void test_beyond_the_bound_of_requests_the_oldest_ends_unfinished(void **state)
{
    (void)state;
    scene_close();
    options_init(&scene.options);
    scene.options.open_spans = 64;
    story_begin(NULL);
    for (uint64_t i = 1; i <= 100; i++) {
        char request[64];
        snprintf(request, sizeof request, "GET /%d HTTP/1.1\r\n\r\n", (int)i);
        accepts(a, i);
        reads(a, i, request);
    }
    for (uint64_t i = 1; i <= 100; i++) {
        writes(a, i, ANSWER);
        answers(a, i, GET("/again"));
    }
    finish();
    assert_int_equal(scene.spans, 200);
    assert_int_equal(scene.flow.bound_spans, 37); /* 36 of 100, and one for the first /again */
    assert_false(span_named("/1")->answered);
    assert_true(span_named("/38")->answered);
    int again = 0;
    for (int i = 0; i < scene.spans; i++)
        again += scene.span[i].target_len == 6 && scene.span[i].status == 200;
    assert_int_equal(again, 100);
}

static void test_idle_connections_hold_no_parser_state(void **state)
{
    (void)state;
    for (uint64_t i = 1; i <= 20000; i++) {
        accepts(a, i);
        scene.wires = 0;
        answers(a, i, GET("/x"));
        if (i % 1000 == 0)
            idles(2);
    }
    for (uint64_t i = 1; i <= 20000; i++) {
        scene.wires = 0;
        wire_of(i)->offset[IN] = strlen(GET("/x"));
        wire_of(i)->offset[OUT] = strlen(ANSWER);
        answers(a, i, GET("/y"));
        if (i % 1000 == 0)
            idles(2);
    }
    finish();
    assert_int_equal(scene.flow.bound_parsers, 0);
    assert_int_equal(scene.spans, 40000);
    assert_int_equal(scene.flow.outside_in, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, story_begin, story_end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_accepted_opened_and_inherited_are_counted),
        TEST(test_a_failed_connect_is_no_connection),
        TEST(test_a_connect_under_way_counts_when_it_is_used),
        TEST(test_an_unsure_descriptor_counts_nothing_until_it_is_a_stream),
        TEST(test_a_descriptor_that_is_no_stream_is_ignored),
        TEST(test_a_socket_call_settles_an_unsure_descriptor),
        TEST(test_more_bytes_than_can_be_held_are_counted_all_the_same),
        TEST(test_a_late_accept_makes_up_for_its_bytes),
        TEST(test_requests_are_found_byte_by_byte),
        TEST(test_a_body_that_was_not_captured_is_counted),
        TEST(test_head_and_tail_with_a_hole_between),
        TEST(test_boundaries_in_a_hole_raise_the_plan_for_it_and_its_successors),
        TEST(test_parts_of_a_full_capture_are_put_together),
        TEST(test_parts_that_do_not_come_are_a_hole),
        TEST(test_missing_bytes_are_counted_by_the_next_offset),
        TEST(test_a_late_event_of_bytes_that_were_missed_counts_once),
        TEST(test_unknown_offsets_are_taken_by_time),
        TEST(test_tls_is_listed_by_its_listener),
        TEST(test_unknown_protocols_are_listed_by_their_peer),
        TEST(test_what_looks_like_a_protocol_at_first_is_unknown_in_the_end),
        TEST(test_a_connection_without_bytes_is_not_unread),
        TEST(test_an_inherited_connection_is_a_client_when_it_asks),
        TEST(test_a_connection_joined_under_way_is_read_from_its_next_request),
        TEST(test_a_connection_joined_inside_a_message_is_listed_until_its_next_one),
        TEST(test_bytes_that_were_never_captured_are_listed),
        TEST(test_requests_may_hide_in_a_hole_of_their_direction),
        TEST(test_a_hole_in_a_body_hides_nothing),
        TEST(test_after_an_upgrade_bytes_are_counted_only),
        TEST(test_an_address_that_comes_later_names_what_is_unread),
        TEST(test_a_duplicate_keeps_it_open),
        TEST(test_a_forked_child_goes_on_with_what_its_parent_closed),
        TEST(test_a_child_that_is_seen_before_its_parent_closes),
        TEST(test_a_connection_nobody_uses_any_more_ends_with_the_child),
        TEST(test_a_child_that_executes_something_else_holds_nothing),
        TEST(test_shutdown_ends_an_answer),
        TEST(test_a_close_by_a_process_that_never_used_it_ends_nothing),
        TEST(test_two_processes_on_one_socket_count_each_call_once),
        TEST(test_the_death_of_a_process_ends_its_connections),
        TEST(test_a_thousand_connections_come_and_go),
        TEST(test_beyond_the_bound_the_longest_idle_makes_room),
        TEST(test_beyond_the_bound_of_requests_the_oldest_ends_unfinished),
        TEST(test_idle_connections_hold_no_parser_state),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
