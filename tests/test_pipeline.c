/*
 * test_pipeline.c - items in, spans and sums out: whole stories of servers.
 */
#include "tests/scene.h"

static void test_keep_alive_requests_are_counted_and_timed(void **state)
{
    (void)state;
    scene_open();
    process_begins(1, 100, 0);
    struct actor *a = thread_in(1, 1);
    listens(a, 50, 80);
    accepts_from(a, 77, 50);
    for (int i = 0; i < 3; i++) {
        waits(a);
        reads(a, 77, GET("/a"));
        writes(a, 77, ANSWER);
    }
    reads_end(a, 77);
    closes(a, 77);
    process_exits(1);
    scene_end();
    assert_int_equal(scene.spans, 3);
    const struct span *s = &scene.span[1];
    assert_int_equal(s->side, SIDE_SERVER);
    assert_int_equal(s->status, 200);
    assert_true(s->answered);
    assert_int_equal(s->inferred, 0);
    assert_int_equal(s->bytes[IN], strlen(GET("/a")));
    assert_int_equal(s->bytes[OUT], strlen(ANSWER));
    assert_int_equal(s->body[OUT], 2);
    assert_int_equal(s->end_ns - s->start_ns, 1000);
    assert_int_equal(s->first_byte_ns, 1000);
    assert_int_equal(s->start_ns - s->ready_ns, 2000);
    assert_int_equal(scene.flow.accepted, 1);
    assert_int_equal(scene.flow.outside_in, 0);
    assert_int_equal(scene.flow.outside_out, 0);
    assert_int_equal(scene.unreads, 0);
    assert_int_equal(scene.in_flights, 0);
    scene_close();
}

static void test_a_client_request_runs_from_the_first_write_to_the_last_read(void **state)
{
    (void)state;
    scene_open();
    process_begins(1, 100, 0);
    struct actor *a = thread_in(1, 1);
    connects(a, 9, 0);
    writes(a, 9, GET("/up"));
    pass_time(5000);
    reads(a, 9, ANSWER_HEAD("4"));
    pass_time(7000);
    reads(a, 9, "abcd");
    closes(a, 9);
    process_exits(1);
    scene_end();
    assert_int_equal(scene.spans, 1);
    const struct span *s = &scene.span[0];
    assert_int_equal(s->side, SIDE_CLIENT);
    assert_int_equal(s->first_byte_ns, 1000 + 1000 + 5000);
    assert_int_equal(s->end_ns - s->start_ns, 1000 + 1000 + 5000 + 1000 + 7000);
    assert_int_equal(s->bytes[OUT], strlen(GET("/up")));
    assert_int_equal(scene.flow.opened, 1);
    scene_close();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keep_alive_requests_are_counted_and_timed),
        cmocka_unit_test(test_a_client_request_runs_from_the_first_write_to_the_last_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
