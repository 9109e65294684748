/*
 * test_order.c - the merge: one stream by time over lanes and arenas, whoever was late says so.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <sys/wait.h>

#include "tests/stream.h"

static void put(struct stream *s, struct writer *w, uint64_t time, int32_t result)
{
    struct event e = stream_event(s, result);
    e.time = time;
    assert_true(lanes_event(w, &e, NULL));
}

static uint64_t random_next(uint64_t *x)
{
    *x ^= *x << 13, *x ^= *x >> 7, *x ^= *x << 17;
    return *x;
}

/* --- order --- */

static void test_events_of_many_lanes_leave_by_time(void **state)
{
    (void)state;
    struct stream s;
    static struct writer w[300];
    uint64_t x = 99, time;
    stream_open(&s, NULL);
    for (int i = 0; i < 300; i++)
        assert_true(lanes_claim(&w[i], &s.v, s.p, i + 1));
    time = s.now;
    for (int i = 0; i < 20000; i++)
        put(&s, &w[random_next(&x) % 300], time += 1 + random_next(&x) % 50, i);
    s.now = time;
    stream_all(&s);
    assert_int_equal(s.count, 20000);
    for (int i = 0; i < 20000; i++) {
        assert_int_equal(s.kept[i].event.result, i);
        assert_false(s.kept[i].item.late);
    }
    assert_int_equal(s.counts.late, 0);
    stream_close(&s);
}

static void test_nothing_younger_than_the_watermark_leaves(void **state)
{
    (void)state;
    struct stream s;
    struct writer w;
    stream_open(&s, NULL);
    assert_true(lanes_claim(&w, &s.v, s.p, 1));
    uint64_t at = s.now;
    put(&s, &w, at, 1);
    assert_int_equal(stream_round(&s, 19 * MS), 0);
    assert_false(order_is_drained(s.o));
    assert_int_equal(stream_round(&s, 1 * MS), 1);
    assert_true(order_is_drained(s.o));
    stream_close(&s);
}

/* A process may not read its clock: its events leave as fast as others, in their order. */
static void test_a_lane_without_a_clock_does_not_wait_for_each_event(void **state)
{
    (void)state;
    struct stream s;
    struct writer mute, other;
    stream_open(&s, NULL);
    assert_true(lanes_claim(&mute, &s.v, s.p, 1) && lanes_claim(&other, &s.v, s.p, 2));
    put(&s, &other, s.now, 0);
    stream_round(&s, 50 * MS);
    for (int i = 1; i <= 1000; i++) {
        struct event e = stream_event(&s, i);
        e.time = 0;
        e.flags = EVENT_NO_CLOCK;
        assert_true(lanes_event(&mute, &e, NULL));
    }
    stream_all(&s);
    assert_int_equal(s.count, 1001);
    for (size_t i = 1; i < s.count; i++) {
        assert_int_equal(s.kept[i].event.result, i);
        assert_true(s.kept[i].item.time_ns >= s.kept[i - 1].item.time_ns);
        assert_true(s.kept[i].item.time_ns <= s.now);
    }
    assert_int_equal(s.counts.late, 0);
    stream_close(&s);
}

/* Many events without a time neither hold up those of others nor put them out of order. */
static void test_a_lane_without_a_clock_delays_no_other(void **state)
{
    (void)state;
    struct stream s;
    struct writer mute, other;
    stream_open(&s, NULL);
    assert_true(lanes_claim(&mute, &s.v, s.p, 1) && lanes_claim(&other, &s.v, s.p, 2));
    stream_round(&s, 50 * MS);
    size_t timed = 0;
    for (int round = 0; round < 200; round++) {
        uint64_t at = s.now;
        for (int i = 0; i < 50; i++) {
            struct event e = stream_event(&s, i);
            e.time = 0;
            e.flags = EVENT_NO_CLOCK;
            assert_true(lanes_event(&mute, &e, NULL));
        }
        put(&s, &other, at, 1000 + round);
        stream_round(&s, 5 * MS);
        size_t seen = 0;
        for (size_t i = 0; i < s.count; i++)
            if (s.kept[i].event.result >= 1000)
                assert_int_equal(s.kept[i].event.result, 1000 + seen++);
        assert_true(seen + 5 > (size_t)round); /* 20 ms, four rounds, behind */
        timed = seen;
    }
    stream_all(&s);
    assert_true(timed >= 195);
    assert_int_equal(s.counts.late, 0);
    assert_int_equal(s.counts.drained, 200 * 51);
    for (size_t i = 1; i < s.count; i++)
        assert_true(s.kept[i].item.time_ns >= s.kept[i - 1].item.time_ns);
    stream_close(&s);
}

/* Lanes that are read at different moments, each with its own delay below the watermark. */
static void test_delays_below_the_watermark_make_nothing_late(void **state)
{
    (void)state;
    struct stream s;
    struct writer w[8];
    uint64_t x = 7;
    stream_open(&s, NULL);
    for (int i = 0; i < 8; i++)
        assert_true(lanes_claim(&w[i], &s.v, s.p, i + 1));
    for (int round = 0; round < 500; round++) {
        for (int i = 0; i < 8; i++)
            put(&s, &w[i], s.now - (uint64_t)i * 2 * MS - random_next(&x) % MS, round);
        stream_round(&s, 3 * MS);
    }
    stream_all(&s);
    assert_int_equal(s.count, 4000);
    assert_int_equal(s.counts.late, 0);
    for (size_t i = 1; i < s.count; i++)
        assert_true(s.kept[i].item.time_ns >= s.kept[i - 1].item.time_ns);
    stream_close(&s);
}

static void test_a_late_event_is_used_and_counted(void **state)
{
    (void)state;
    struct stream s;
    struct writer a, b;
    stream_open(&s, NULL);
    assert_true(lanes_claim(&a, &s.v, s.p, 1) && lanes_claim(&b, &s.v, s.p, 2));
    uint64_t at = s.now;
    put(&s, &a, at, 1);
    stream_all(&s);
    put(&s, &b, at - 5 * MS, 2);
    put(&s, &b, s.now, 3);
    stream_all(&s);
    assert_int_equal(s.count, 3);
    assert_true(s.kept[1].item.late);
    assert_int_equal(s.kept[1].item.time_ns, at - 5 * MS);
    assert_false(s.kept[2].item.late);
    assert_int_equal(s.counts.late, 1);
    assert_int_equal(s.counts.drained, 3);
    stream_close(&s);
}

/* A thread was seen between reserve and commit: its event is not late though it takes long. */
static void test_the_merge_waits_for_an_event_under_way(void **state)
{
    (void)state;
    struct stream s;
    struct writer slow, quick;
    stream_open(&s, NULL);
    assert_true(lanes_claim(&slow, &s.v, s.p, 1) && lanes_claim(&quick, &s.v, s.p, 2));
    uint64_t at = s.now;
    struct event e = stream_event(&s, 1);
    assert_non_null(lanes_reserve(&slow, &e, NULL, NULL));
    for (int i = 0; i < 20; i++) {
        put(&s, &quick, s.now + 1, 100 + i);
        stream_round(&s, 40 * MS);
    }
    assert_int_equal(s.count, 0);
    lanes_commit(&slow);
    stream_all(&s);
    assert_int_equal(s.count, 21);
    assert_int_equal(s.kept[0].item.time_ns, at);
    assert_int_equal(s.counts.late, 0);
    stream_close(&s);
}

/* But not for ever: it may be stopped there, and then the pool would run full. */
static void test_a_stopped_thread_holds_the_merge_a_second_at_most(void **state)
{
    (void)state;
    struct stream s;
    struct writer slow, quick;
    stream_open(&s, NULL);
    assert_true(lanes_claim(&slow, &s.v, s.p, 1) && lanes_claim(&quick, &s.v, s.p, 2));
    struct event e = stream_event(&s, 1);
    assert_non_null(lanes_reserve(&slow, &e, NULL, NULL));
    put(&s, &quick, s.now + 1, 2);
    for (int i = 0; i < 11; i++)
        stream_round(&s, 100 * MS);
    assert_int_equal(s.count, 1);
    /* the same stop is not waited for again */
    put(&s, &quick, s.now, 3);
    stream_all(&s);
    assert_int_equal(s.count, 2);
    lanes_commit(&slow);
    stream_all(&s);
    assert_int_equal(s.count, 3);
    assert_true(s.kept[2].item.late);
    stream_close(&s);
}

static void test_a_dead_thread_holds_nothing(void **state)
{
    (void)state;
    struct stream s;
    struct writer dead, quick;
    stream_open(&s, NULL);
    assert_true(lanes_claim(&dead, &s.v, s.p, 1) && lanes_claim(&quick, &s.v, s.p, 2));
    struct event e = stream_event(&s, 1);
    put(&s, &dead, s.now, 0);
    stream_round(&s, 1);
    assert_non_null(lanes_reserve(&dead, &e, NULL, NULL));
    put(&s, &quick, s.now + 1, 2);
    order_lane_dead(s.o, stream_lane(&s, &dead), s.now);
    stream_all(&s);
    assert_int_equal(stream_count(&s, ITEM_EVENT), 2);
    assert_int_equal(s.counts.lost[LOSS_UNFINISHED], 1);
    stream_close(&s);
}

/* The end of a thread is told after what other threads did before it. */
static void test_an_end_stands_at_its_time(void **state)
{
    (void)state;
    struct stream s;
    struct writer ends, stays;
    stream_open(&s, NULL);
    assert_true(lanes_claim(&ends, &s.v, s.p, 1) && lanes_claim(&stays, &s.v, s.p, 2));
    put(&s, &ends, s.now, 1);
    stream_round(&s, 0);
    put(&s, &stays, s.now + 4 * MS, 2);
    stream_round(&s, 5 * MS);
    order_lane_dead(s.o, stream_lane(&s, &ends), s.now);
    put(&s, &stays, s.now + 2 * MS, 3);
    stream_round(&s, 5 * MS);
    stream_all(&s);
    assert_int_equal(s.count, 4);
    assert_int_equal(s.kept[1].event.result, 2);
    assert_int_equal(s.kept[2].fact.kind, FACT_THREAD_END);
    assert_int_equal(s.kept[3].event.result, 3);
    stream_close(&s);
}

/* --- ticks, facts, numbers --- */

static void test_ticks_keep_their_word(void **state)
{
    (void)state;
    struct stream s;
    struct writer w;
    uint64_t x = 3, tick = 0, ticks = 0, events = 0;
    stream_open(&s, NULL);
    assert_true(lanes_claim(&w, &s.v, s.p, 1));
    struct source from = order_source(s.o);
    for (int round = 0; round < 2000; round++) {
        if (random_next(&x) % 3)
            put(&s, &w, s.now - random_next(&x) % (2 * MS), round);
        s.now += random_next(&x) % (30 * MS);
        struct instant now = {s.now, s.now};
        order_round(s.o, &now);
        struct item item;
        bool told = false;
        while (from.next(from.self, &item) == 1) {
            if (item.kind == ITEM_TICK) {
                assert_true(item.time_ns > tick);
                tick = item.time_ns;
                ticks++;
                /* the counts that were told last are of all that came before */
                if (told)
                    order_counts(s.o, &s.counts);
            }
            if (item.kind == ITEM_FACT && item.fact->kind == FACT_STREAM) {
                told = true;
                assert_int_equal(item.fact->drained, events);
            }
            if (item.kind == ITEM_EVENT) {
                events++;
                assert_true(item.late || item.time_ns >= tick);
            }
        }
        assert_true(s.now - tick <= 20 * MS + 30 * MS + 20 * MS || !tick);
    }
    assert_true(ticks > 500);
    stream_close(&s);
}

static void test_facts_leave_before_the_next_event(void **state)
{
    (void)state;
    struct stream s;
    struct writer w;
    stream_open(&s, NULL);
    assert_true(lanes_claim(&w, &s.v, s.p, 1));
    put(&s, &w, s.now, 1);
    stream_round(&s, 0);
    struct item item = {.process = 9, .time_ns = s.now};
    struct fact fact;
    memset(&fact, 0, sizeof fact);
    fact.kind = FACT_ADDRESS;
    for (int i = 0; i < 500; i++) {
        fact.pid = i;
        order_fact(s.o, &item, &fact);
    }
    stream_round(&s, 30 * MS);
    assert_int_equal(s.count, 501);
    for (int i = 0; i < 500; i++) {
        assert_int_equal(s.kept[i].fact.pid, i);
        assert_int_equal(s.kept[i].item.process, 9);
    }
    assert_int_equal(s.kept[500].item.kind, ITEM_EVENT);
    stream_close(&s);
}

static void test_lane_numbers_stay_small_and_threads_are_never_the_same(void **state)
{
    (void)state;
    struct stream s;
    uint32_t thread = 0, lane = UINT32_MAX;
    stream_open(&s, NULL);
    for (int i = 0; i < 1000; i++) {
        struct writer w;
        assert_true(lanes_claim(&w, &s.v, s.p, i + 1));
        put(&s, &w, s.now, i);
        stream_all(&s);
        order_lane_dead(s.o, stream_lane(&s, &w), s.now);
        stream_all(&s);
    }
    for (size_t i = 0; i < s.count; i++) {
        if (s.kept[i].item.kind != ITEM_EVENT)
            continue;
        assert_int_equal(s.kept[i].item.thread, ++thread);
        assert_true(lane == UINT32_MAX || lane == s.kept[i].item.lane);
        lane = s.kept[i].item.lane;
    }
    stream_close(&s);
}

static uint32_t begun, ended;

static uint32_t count_begin(void *to, struct drain_lane *l)
{
    (void)to;
    begun++;
    return 40 + l->process_index;
}

static void count_end(void *to, struct drain_lane *l)
{
    (void)to;
    assert_int_equal(l->stage, STAGE_DEAD);
    ended++;
}

static int32_t reaped_pid, reaped_status;

static void note_reaped(void *to, const struct item *item, int32_t pid, int32_t status)
{
    (void)to;
    assert_int_equal(item->event->type, EVENT_REAPED);
    reaped_pid = pid;
    reaped_status = status;
}

static void test_hooks_frame_a_lane_and_hear_of_the_reaped(void **state)
{
    (void)state;
    struct stream s;
    struct writer w;
    struct order_hooks hooks = {count_begin, count_end, note_reaped, NULL};
    stream_open(&s, &hooks);
    assert_true(lanes_claim(&w, &s.v, s.p, 1));
    struct event_argument a = {4711};
    struct event e = stream_event(&s, 9 << 8);
    e.type = EVENT_REAPED;
    e.head = sizeof a;
    assert_true(lanes_event(&w, &e, &a));
    stream_all(&s);
    assert_int_equal(begun, 1);
    assert_int_equal(s.kept[0].item.process, 40);
    assert_int_equal(reaped_pid, 4711);
    assert_int_equal(reaped_status, 9 << 8);
    order_lane_dead(s.o, stream_lane(&s, &w), s.now);
    stream_all(&s);
    assert_int_equal(ended, 1);
    stream_close(&s);
}

/* --- several arenas --- */

static void test_ids_are_unique_over_arenas(void **state)
{
    (void)state;
    struct stream s;
    struct writer main, own[3];
    struct arena_view v[3];
    stream_open(&s, NULL);
    assert_true(lanes_claim(&main, &s.v, s.p, 1));
    put(&s, &main, s.now, 0);
    for (int i = 0; i < 3; i++) {
        v[i] = stream_arena(ARENA_MIN_BYTES);
        assert_int_equal(order_attach(s.o, &v[i]), i + 1);
        assert_true(lanes_claim(&own[i], &v[i], lanes_process(&v[i], 5), 5));
        struct event_address a = {.listener = 6};
        struct event e = stream_event(&s, i + 1);
        e.type = EVENT_ACCEPT;
        e.head = sizeof a;
        assert_true(lanes_event(&own[i], &e, &a));
    }
    stream_all(&s);
    assert_int_equal(s.count, 4);
    for (int i = 0; i < 4; i++) {
        uint64_t id = s.kept[i].event.connection, bare;
        int from = s.kept[i].event.result;
        for (int j = 0; j < i; j++)
            assert_int_not_equal(id, s.kept[j].event.connection);
        assert_ptr_equal(order_arena_of(s.o, id, &bare), order_arena(s.o, from));
        assert_int_equal(bare, 5);
        if (from) {
            struct event_address a;
            memcpy(&a, s.kept[i].data, sizeof a);
            assert_ptr_equal(order_arena_of(s.o, a.listener, &bare), order_arena(s.o, from));
            assert_int_equal(bare, 6);
        } else
            assert_int_equal(id, 5);
    }
    /* one goes, another takes its place: its ids are others */
    uint64_t old = 0, bare;
    for (int i = 0; i < 4; i++)
        if (s.kept[i].event.result == 2)
            old = s.kept[i].event.connection;
    order_lane_dead(s.o, &order_arena(s.o, 2)->lanes[0], s.now);
    stream_all(&s);
    order_detach(s.o, 2);
    assert_null(order_arena_of(s.o, old, &bare));
    assert_int_equal(order_attach(s.o, &v[1]), 2);
    assert_null(order_arena_of(s.o, old, &bare));
    stream_close(&s);
    for (int i = 0; i < 3; i++)
        munmap(v[i].arena, v[i].bytes);
}

static void test_losses_without_a_lane_are_counted_over_arenas(void **state)
{
    (void)state;
    struct stream s;
    stream_open(&s, NULL);
    struct arena_view v = stream_arena(ARENA_MIN_BYTES);
    int own = order_attach(s.o, &v);
    s.v.arena->s_no_lane = 5;
    v.arena->s_no_lane = 7;
    stream_all(&s);
    assert_int_equal(s.counts.lost[LOSS_NO_LANE], 12);
    assert_int_equal(s.counts.written, 12);
    order_detach(s.o, own);
    s.v.arena->s_no_lane = 6;
    stream_all(&s);
    assert_int_equal(s.counts.lost[LOSS_NO_LANE], 13);
    assert_int_equal(s.counts.written, 13);
    stream_close(&s);
    munmap(v.arena, v.bytes);
}

static void test_attaching_too_many_is_refused(void **state)
{
    (void)state;
    struct stream s;
    struct arena_view v[ORDER_ARENAS];
    stream_open(&s, NULL);
    for (int i = 1; i < ORDER_ARENAS; i++) {
        v[i] = stream_arena(ARENA_MIN_BYTES);
        assert_int_equal(order_attach(s.o, &v[i]), i);
    }
    assert_true(order_attach(s.o, &v[1]) < 0);
    stream_all(&s);
    stream_close(&s);
    for (int i = 1; i < ORDER_ARENAS; i++)
        munmap(v[i].arena, v[i].bytes);
}

/* --- the end --- */

static void test_the_last_round_gives_all_and_names_the_calls(void **state)
{
    (void)state;
    struct stream s;
    struct writer a, b;
    stream_open(&s, NULL);
    assert_true(lanes_claim(&a, &s.v, s.p, 1));
    assert_true(lanes_claim(&b, &s.v, s.p, 2));
    put(&s, &a, s.now, 1);
    lanes_nested(&a);
    b.l->call = CALL_ACCEPT;
    b.l->call_since = s.now - 3;
    struct instant now = {s.now, s.now};
    order_finish(s.o, &now);
    stream_take(&s);
    assert_int_equal(stream_count(&s, ITEM_EVENT), 1);
    assert_int_equal(stream_count(&s, ITEM_GAP), 1);
    const struct fact *f = stream_fact(&s, FACT_THREAD_CALL);
    assert_non_null(f);
    assert_int_equal(f->in_call, CALL_ACCEPT);
    assert_int_equal(f->call_since_ns, s.now - 3);
    assert_int_equal(s.counts.written, 2);
    assert_int_equal(s.counts.drained, 1);
    stream_close(&s);
}

/* --- the clock --- */

static void test_the_line_bends_without_a_step(void **state)
{
    (void)state;
    struct arena a = {.clock = CLOCK_KIND_TSC,
                      .ticks_per_second = 2600000000,
                      .anchor_ticks = 1000000,
                      .anchor_monotonic_ns = 5000000000,
                      .anchor_realtime_ns = UINT64_C(1700000000000000000)};
    struct timeline t;
    timeline_init(&t, &a);
    /* the machine's clock is 40 ppm off what the calibration said */
    double rate = 2.6 * (1 + 40e-6);
    uint64_t last = 0;
    for (uint64_t ms = 0; ms < 600000; ms += 7) {
        struct instant now = {1000000 + (uint64_t)((double)ms * 1e6 * rate), 5000000000 + ms * MS};
        timeline_adjust(&t, &now);
        for (uint64_t back = 30000000; back <= 30000000; back -= 10000000) {
            uint64_t ns = timeline_from_tsc(&t, now.tsc - (now.tsc > back ? back : 0));
            if (!back) {
                assert_true(ns >= last);
                last = ns;
            }
        }
        int64_t off = (int64_t)(timeline_from_tsc(&t, now.tsc) -
                                timeline_from_monotonic(&t, now.monotonic_ns));
        if (ms > 30000)
            assert_in_range(off + 20000, 0, 40000);
    }
    /* unbroken at the bend */
    uint64_t at = timeline_from_tsc(&t, t.bend), before = timeline_from_tsc(&t, t.bend - 1);
    assert_true(at >= before && at - before <= 1);
}

static void test_a_clock_of_nanoseconds_needs_no_line(void **state)
{
    (void)state;
    struct arena a = {.clock = CLOCK_KIND_MONOTONIC,
                      .ticks_per_second = 1000000000,
                      .anchor_ticks = 77,
                      .anchor_monotonic_ns = 77,
                      .anchor_realtime_ns = 1000077};
    struct timeline t;
    timeline_init(&t, &a);
    struct instant now = {0, 99999999999};
    timeline_adjust(&t, &now);
    assert_int_equal(timeline_from_monotonic(&t, 100), 1000100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_events_of_many_lanes_leave_by_time),
        cmocka_unit_test(test_nothing_younger_than_the_watermark_leaves),
        cmocka_unit_test(test_a_lane_without_a_clock_does_not_wait_for_each_event),
        cmocka_unit_test(test_a_lane_without_a_clock_delays_no_other),
        cmocka_unit_test(test_delays_below_the_watermark_make_nothing_late),
        cmocka_unit_test(test_a_late_event_is_used_and_counted),
        cmocka_unit_test(test_the_merge_waits_for_an_event_under_way),
        cmocka_unit_test(test_a_stopped_thread_holds_the_merge_a_second_at_most),
        cmocka_unit_test(test_a_dead_thread_holds_nothing),
        cmocka_unit_test(test_an_end_stands_at_its_time),
        cmocka_unit_test(test_ticks_keep_their_word),
        cmocka_unit_test(test_facts_leave_before_the_next_event),
        cmocka_unit_test(test_lane_numbers_stay_small_and_threads_are_never_the_same),
        cmocka_unit_test(test_hooks_frame_a_lane_and_hear_of_the_reaped),
        cmocka_unit_test(test_ids_are_unique_over_arenas),
        cmocka_unit_test(test_losses_without_a_lane_are_counted_over_arenas),
        cmocka_unit_test(test_attaching_too_many_is_refused),
        cmocka_unit_test(test_the_last_round_gives_all_and_names_the_calls),
        cmocka_unit_test(test_the_line_bends_without_a_step),
        cmocka_unit_test(test_a_clock_of_nanoseconds_needs_no_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
