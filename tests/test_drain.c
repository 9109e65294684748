/*
 * test_drain.c - one arena's lanes: whatever stands in the pages, what leaves is exact, checked and
 * counted.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/stream.h"

#define QUIET (1000 * MS)

static bool no_fence(void *to)
{
    ++*(int *)to;
    return true;
}

static uint64_t lost_of(const struct stream *s)
{
    uint64_t n = 0;
    for (int i = 0; i < LOSS_COUNT; i++)
        n += s->counts.lost[i];
    return n;
}

static void assert_sums(const struct stream *s)
{
    assert_int_equal(s->counts.written, s->counts.drained + lost_of(s));
}

/* Takes the free stack down to its last chunk and puts it back: how many chunks are free in truth.
 */
static uint32_t really_free(const struct arena_view *v)
{
    static int32_t taken[1 << 16];
    uint32_t n = 0;
    while (n < 1 << 16 && (taken[n] = arena_pop_chunk(v)) >= 0)
        n++;
    for (uint32_t i = 0; i < n; i++)
        arena_push_chunk(v, (uint32_t)taken[i]);
    return n;
}

static void kill_lane(struct stream *s, const struct writer *w)
{
    order_lane_dead(s->o, stream_lane(s, w), s->now);
}

/* --- content --- */

static void test_event_arrives_as_it_was_written(void **state)
{
    (void)state;
    struct stream s;
    struct writer w;
    stream_open(&s, NULL);
    assert_true(lanes_claim(&w, &s.v, s.p, 1000));
    struct event e = stream_event(&s, 11);
    e.head = 6;
    e.tail = 5;
    e.duration = 700;
    e.ready = 300;
    e.flags = EVENT_WAITED;
    w.l->allocated = 4096;
    w.l->allocations = 2;
    assert_true(lanes_event(&w, &e, "headertail."));
    stream_all(&s);
    assert_int_equal(s.count, 1);
    const struct kept *k = &s.kept[0];
    assert_int_equal(k->item.kind, ITEM_EVENT);
    assert_int_equal(k->event.result, 11);
    assert_int_equal(k->item.data_len, 11);
    assert_memory_equal(k->data, "headertail.", 11);
    assert_int_equal(k->item.time_ns, e.time);
    assert_int_equal(k->item.entry_ns, e.time - 700);
    assert_int_equal(k->item.ready_ns, e.time - 1000);
    assert_int_equal(k->item.total.allocated, 4096);
    assert_int_equal(k->item.total.allocations, 2);
    assert_int_equal(k->item.tid, 1000);
    assert_false(k->item.late);
    stream_close(&s);
}

static void test_long_durations_are_in_units_of_1024_ticks(void **state)
{
    (void)state;
    struct stream s;
    struct writer w;
    stream_open(&s, NULL);
    assert_true(lanes_claim(&w, &s.v, s.p, 1000));
    struct event e = stream_event(&s, 1);
    e.flags = EVENT_LONG | EVENT_WAITED;
    e.duration = 5000000;
    e.ready = 7;
    assert_true(lanes_event(&w, &e, NULL));
    stream_all(&s);
    assert_int_equal(s.kept[0].item.entry_ns, e.time - UINT64_C(5000000) * 1024);
    assert_int_equal(s.kept[0].item.ready_ns, e.time - UINT64_C(5000007) * 1024);
    stream_close(&s);
}

static void test_totals_widen_over_two_to_the_32(void **state)
{
    (void)state;
    struct stream s;
    struct writer w;
    stream_open(&s, NULL);
    assert_true(lanes_claim(&w, &s.v, s.p, 1000));
    for (int i = 1; i <= 9; i++) {
        w.l->allocated = (uint64_t)i * 2000000000;
        w.l->freed = (uint64_t)i * 1999999999;
        struct event e = stream_event(&s, i);
        assert_true(lanes_event(&w, &e, NULL));
    }
    /* a jump beyond 2^32 comes with a block */
    struct event_block b = {.allocated = UINT64_C(1) << 40,
                            .freed = 7,
                            .allocations = 3,
                            .lock = 50,
                            .disk = 60};
    w.l->allocated = b.allocated;
    w.l->freed = b.freed;
    w.l->allocations = b.allocations;
    struct event e = stream_event(&s, 10);
    e.head = 3;
    assert_non_null(lanes_reserve(&w, &e, &b, "abc"));
    lanes_commit(&w);
    w.l->allocated += 5;
    e.head = 0;
    assert_true(lanes_event(&w, &e, NULL));
    stream_all(&s);
    assert_int_equal(s.count, 11);
    for (int i = 1; i <= 9; i++) {
        assert_int_equal(s.kept[i - 1].item.total.allocated, (uint64_t)i * 2000000000);
        assert_int_equal(s.kept[i - 1].item.total.freed, (uint64_t)i * 1999999999);
    }
    assert_int_equal(s.kept[9].item.total.allocated, UINT64_C(1) << 40);
    assert_int_equal(s.kept[9].item.total.lock_ns, 50);
    assert_memory_equal(s.kept[9].data, "abc", 3);
    assert_int_equal(s.kept[10].item.total.allocated, (UINT64_C(1) << 40) + 5);
    assert_int_equal(s.kept[10].item.total.disk_ns, 60);
    stream_close(&s);
}

static void test_many_chunks_come_in_order_and_are_given_back(void **state)
{
    (void)state;
    struct stream s;
    struct writer w;
    stream_open(&s, NULL);
    uint32_t free_before = really_free(&s.v);
    assert_true(lanes_claim(&w, &s.v, s.p, 1000));
    static uint8_t data[8000];
    int made = 0;
    for (int round = 0; round < 50; round++) {
        for (int i = 0; i < 100; i++) {
            struct event e = stream_event(&s, made++);
            e.head = (uint16_t)((i * 1237) % 8000);
            assert_true(lanes_event(&w, &e, data));
        }
        stream_all(&s);
    }
    assert_int_equal(s.count, made);
    for (int i = 0; i < made; i++)
        assert_int_equal(s.kept[i].event.result, i);
    kill_lane(&s, &w);
    stream_all(&s);
    assert_non_null(stream_fact(&s, FACT_THREAD_END));
    assert_int_equal(really_free(&s.v), free_before);
    assert_int_equal(drain_free_chunks(order_arena(s.o, 0)), s.v.chunks);
    assert_int_equal(w.l->state, LANE_FREE);
    assert_sums(&s);
    stream_close(&s);
}

/* --- losses --- */

static void test_full_and_nested_are_told_where_they_happened(void **state)
{
    (void)state;
    struct stream s;
    struct writer w;
    stream_open(&s, NULL);
    s.v.arena->lane_chunks = 2;
    assert_true(lanes_claim(&w, &s.v, s.p, 1000));
    static uint8_t data[4000];
    int full = 0, kept = 0;
    for (int i = 0; i < 10; i++) {
        struct event e = stream_event(&s, i);
        e.head = 3900;
        if (lanes_event(&w, &e, data))
            kept++;
        else
            full++;
    }
    assert_int_equal(full, 6);
    lanes_nested(&w);
    lanes_nested(&w);
    stream_all(&s);
    assert_int_equal(s.count, 4);
    struct event e = stream_event(&s, 99);
    assert_true(lanes_event(&w, &e, NULL));
    stream_all(&s);
    assert_int_equal(s.count, 7);
    assert_int_equal(s.kept[4].item.kind, ITEM_GAP);
    assert_int_equal(s.kept[4].item.loss, LOSS_FULL);
    assert_int_equal(s.kept[4].item.missing, 6);
    assert_int_equal(s.kept[5].item.loss, LOSS_NESTED);
    assert_int_equal(s.kept[5].item.missing, 2);
    assert_int_equal(s.kept[6].event.result, 99);
    assert_sums(&s);
    assert_int_equal(s.counts.written, w.l->sequence);
    stream_close(&s);
}

static void test_killed_between_reserve_and_commit_is_one_unfinished(void **state)
{
    (void)state;
    struct stream s;
    struct writer w;
    stream_open(&s, NULL);
    assert_true(lanes_claim(&w, &s.v, s.p, 1000));
    struct event e = stream_event(&s, 1);
    assert_true(lanes_event(&w, &e, NULL));
    assert_non_null(lanes_reserve(&w, &e, NULL, NULL));
    w.l->call = CALL_WRITE;
    w.l->call_since = s.now - 5;
    w.l->call_connection = 5;
    kill_lane(&s, &w);
    stream_all(&s);
    kill_lane(&s, &w);
    stream_all(&s);
    assert_int_equal(s.count, 3);
    assert_int_equal(s.kept[0].item.kind, ITEM_EVENT);
    assert_int_equal(s.kept[1].item.loss, LOSS_UNFINISHED);
    assert_int_equal(s.kept[1].item.missing, 1);
    assert_int_equal(s.kept[2].fact.kind, FACT_THREAD_END);
    assert_int_equal(s.kept[2].fact.in_call, CALL_WRITE);
    assert_int_equal(s.kept[2].fact.connection, 5);
    assert_int_equal(s.kept[2].fact.call_since_ns, e.time - 5);
    assert_int_equal(s.counts.lost[LOSS_UNFINISHED], 1);
    assert_int_equal(s.counts.lost[LOSS_DAMAGED], 0);
    assert_sums(&s);
    stream_close(&s);
}

static void test_hole_of_an_abandoned_event_is_stepped_over(void **state)
{
    (void)state;
    struct stream s;
    struct writer w;
    stream_open(&s, NULL);
    assert_true(lanes_claim(&w, &s.v, s.p, 1000));
    struct event e = stream_event(&s, 1);
    assert_true(lanes_event(&w, &e, NULL));
    lanes_reserve(&w, &e, NULL, NULL)->type =
        EVENT_NONE; /* left by siglongjmp, published by the next */
    assert_true(lanes_event(&w, &e, NULL));
    stream_all(&s);
    assert_int_equal(s.count, 3);
    assert_int_equal(s.kept[1].item.kind, ITEM_GAP);
    assert_int_equal(s.kept[1].item.loss, LOSS_UNFINISHED);
    assert_int_equal(s.kept[2].item.kind, ITEM_EVENT);
    assert_sums(&s);
    stream_close(&s);
}

static void test_sequence_wraps(void **state)
{
    (void)state;
    struct stream s;
    struct writer w;
    stream_open(&s, NULL);
    assert_true(lanes_claim(&w, &s.v, s.p, 1000));
    w.l->sequence = w.l->drained = UINT64_C(0xfffffffd);
    for (int i = 0; i < 6; i++) {
        struct event e = stream_event(&s, i);
        assert_true(lanes_event(&w, &e, NULL));
        if (i == 2)
            lanes_nested(&w);
    }
    stream_all(&s);
    assert_int_equal(stream_count(&s, ITEM_EVENT), 6);
    assert_int_equal(stream_count(&s, ITEM_GAP), 1);
    assert_int_equal(s.counts.lost[LOSS_NESTED], 1);
    kill_lane(&s, &w);
    stream_all(&s);
    assert_int_equal(lost_of(&s), 1);
    assert_sums(&s);
    stream_close(&s);
}

/* --- damage --- */

static struct event *last_event(const struct stream *s, const struct writer *w, uint32_t size)
{
    struct chunk *c = &s->v.chunk[w->l->chunk - 1];
    return (struct event *)(void *)((char *)c + w->l->write - size);
}

static void damage_size(struct stream *s, struct writer *w)
{
    last_event(s, w, 64)->size = 3;
}
static void damage_type(struct stream *s, struct writer *w)
{
    last_event(s, w, 64)->type = 200;
}
static void damage_capture(struct stream *s, struct writer *w)
{
    last_event(s, w, 64)->head = 9;
}
static void damage_block(struct stream *s, struct writer *w)
{
    last_event(s, w, 64)->flags = EVENT_HAS_BLOCK;
}
static void damage_sequence(struct stream *s, struct writer *w)
{
    last_event(s, w, 64)->sequence = 1;
}
static void damage_sequence_ahead(struct stream *s, struct writer *w)
{
    last_event(s, w, 64)->sequence = 1000000;
}
static void damage_committed(struct stream *s, struct writer *w)
{
    s->v.chunk[w->l->chunk - 1].committed = CHUNK_BYTES + 8;
}
static void damage_committed_back(struct stream *s, struct writer *w)
{
    s->v.chunk[w->l->chunk - 1].committed = 0;
}
static void damage_next(struct stream *s, struct writer *w)
{
    s->v.chunk[w->l->chunk - 1].next = 0x7fffffff;
}
static void damage_next_foreign(struct stream *s, struct writer *w)
{
    s->v.chunk[w->l->chunk - 1].next = (uint32_t)arena_pop_chunk(&s->v) + 1;
}
static void damage_owner(struct stream *s, struct writer *w)
{
    s->v.chunk[w->l->chunk - 1].lane = 77;
}

static void test_a_broken_lane_is_left_and_counted_the_others_go_on(void **state)
{
    (void)state;
    void (*const damage[])(struct stream *, struct writer *) = {
        damage_size,         damage_type,      damage_capture,        damage_block,
        damage_sequence,     damage_committed, damage_committed_back, damage_next,
        damage_next_foreign, damage_owner,     damage_sequence_ahead};
    for (size_t i = 0; i < sizeof damage / sizeof *damage; i++) {
        struct stream s;
        struct writer bad, good;
        stream_open(&s, NULL);
        assert_true(lanes_claim(&bad, &s.v, s.p, 1000) && lanes_claim(&good, &s.v, s.p, 1001));
        struct event e = stream_event(&s, 1);
        for (int j = 0; j < 3; j++)
            assert_true(lanes_event(&bad, &e, NULL));
        stream_all(&s);
        assert_int_equal(s.count, 3);
        for (int j = 0; j < 3; j++) {
            e.time = s.now;
            assert_true(lanes_event(&bad, &e, NULL) && lanes_event(&good, &e, NULL));
        }
        damage[i](&s, &bad);
        stream_all(&s);
        assert_true(stream_lane(&s, &bad)->broken);
        assert_false(stream_lane(&s, &good)->broken);
        e.time = s.now;
        assert_true(lanes_event(&good, &e, NULL));
        for (int j = 0; j < 3; j++)
            stream_round(&s, 1100 * MS); /* told while the thread lives on */
        assert_true(s.counts.lost[LOSS_DAMAGED] >= 1);
        assert_sums(&s);
        kill_lane(&s, &bad);
        kill_lane(&s, &good);
        stream_all(&s);
        assert_int_equal(s.counts.written, 10);
        assert_int_equal(s.counts.lost[LOSS_DAMAGED], lost_of(&s));
        assert_sums(&s);
        stream_close(&s);
    }
}

static void test_circle_of_empty_chunks_ends(void **state)
{
    (void)state;
    struct stream s;
    struct writer w;
    stream_open(&s, NULL);
    assert_true(lanes_claim(&w, &s.v, s.p, 1000));
    struct chunk *a = lanes_next_chunk(&w), *b = lanes_next_chunk(&w);
    b->next = (uint32_t)(a - s.v.chunk) + 1;
    w.l->sequence = 9;
    stream_all(&s);
    assert_true(stream_lane(&s, &w)->broken);
    kill_lane(&s, &w);
    stream_all(&s);
    assert_int_equal(s.counts.lost[LOSS_DAMAGED], 9);
    stream_close(&s);
}

static void test_times_no_clock_can_have_told(void **state)
{
    (void)state;
    struct stream s;
    struct writer w;
    stream_open(&s, NULL);
    assert_true(lanes_claim(&w, &s.v, s.p, 1000));
    struct event e = stream_event(&s, 1);
    w.l->start = s.now - 1;
    e.time = UINT64_MAX;
    assert_true(lanes_event(&w, &e, NULL));
    e.time = 5;
    assert_true(lanes_event(&w, &e, NULL));
    e.time = 0;
    e.flags = EVENT_NO_CLOCK;
    assert_true(lanes_event(&w, &e, NULL));
    stream_all(&s);
    stream_all(&s); /* that one is of the moment it was read */
    assert_int_equal(s.count, 3);
    for (size_t i = 0; i < 3; i++)
        assert_in_range(s.kept[i].item.time_ns, STREAM_START, s.now);
    stream_close(&s);
}

/* --- chunks that come back --- */

static void test_idle_lane_gives_its_chunk_and_goes_on(void **state)
{
    (void)state;
    struct stream s;
    struct writer w;
    int fences = 0;
    stream_open(&s, NULL);
    uint32_t all = really_free(&s.v);
    struct drain *d = order_arena(s.o, 0);
    assert_true(lanes_claim(&w, &s.v, s.p, 1000));
    for (int cycle = 0; cycle < 5; cycle++) {
        struct event e = stream_event(&s, cycle);
        assert_true(lanes_event(&w, &e, NULL));
        stream_all(&s);
        assert_int_equal(really_free(&s.v), all - 1);
        for (int i = 0; i < 3; i++) {
            s.now += 1000 * MS;
            drain_recall(d, s.now, QUIET, no_fence, &fences);
        }
        assert_int_equal(fences, cycle + 1);
        stream_all(&s);
        assert_int_equal(w.l->recall, 2);
        assert_int_equal(really_free(&s.v), all);
    }
    assert_int_equal(s.count, 5);
    assert_int_equal(lost_of(&s), 0);
    stream_close(&s);
}

static void test_lane_that_works_between_two_looks_is_not_idle(void **state)
{
    (void)state;
    struct stream s;
    struct writer w;
    int fences = 0;
    stream_open(&s, NULL);
    struct drain *d = order_arena(s.o, 0);
    assert_true(lanes_claim(&w, &s.v, s.p, 1000));
    for (int i = 0; i < 10; i++) {
        struct event e = stream_event(&s, i);
        assert_true(lanes_event(&w, &e, NULL));
        stream_all(&s);
        assert_int_equal(drain_recall(d, s.now += 10 * MS, 20 * MS, no_fence, &fences), 0);
    }
    assert_int_equal(w.l->recall, 0);
    assert_int_equal(drain_recall(d, s.now += 10 * MS, 20 * MS, no_fence, &fences), 0);
    assert_int_equal(drain_recall(d, s.now += 10 * MS, 20 * MS, no_fence, &fences), 1);
    assert_int_equal(drain_recall(d, s.now += 10 * MS, 20 * MS, no_fence, &fences), 1);
    assert_int_equal(w.l->recall, 2);
    stream_close(&s);
}

static void test_lane_that_wakes_in_time_keeps_its_chunk(void **state)
{
    (void)state;
    struct stream s;
    struct writer w;
    int fences = 0;
    stream_open(&s, NULL);
    struct drain *d = order_arena(s.o, 0);
    assert_true(lanes_claim(&w, &s.v, s.p, 1000));
    struct event e = stream_event(&s, 1);
    assert_true(lanes_event(&w, &e, NULL));
    stream_all(&s);
    uint32_t chunk = w.l->chunk;
    drain_recall(d, s.now += 1000 * MS, QUIET, no_fence, &fences);
    drain_recall(d, s.now += 1000 * MS, QUIET, no_fence, &fences);
    assert_int_equal(w.l->recall, 1);
    e.time = s.now;
    assert_true(lanes_event(&w, &e, NULL));
    assert_int_equal(w.l->recall, 0);
    drain_recall(d, s.now += 1000 * MS, QUIET, no_fence, &fences);
    stream_all(&s);
    assert_int_equal(w.l->chunk, chunk);
    assert_int_equal(s.count, 2);
    /* busy when we look: not taken */
    drain_recall(d, s.now += 1000 * MS, QUIET, no_fence, &fences);
    drain_recall(d, s.now += 1000 * MS, QUIET, no_fence, &fences);
    assert_int_equal(w.l->recall, 1);
    w.l->busy = 1;
    drain_recall(d, s.now += 1000 * MS, QUIET, no_fence, &fences);
    assert_int_equal(w.l->recall, 1);
    stream_close(&s);
}

static void test_chunk_taken_and_never_linked_is_swept(void **state)
{
    (void)state;
    struct stream s;
    struct writer dead, alive;
    int fences = 0;
    stream_open(&s, NULL);
    uint32_t all = really_free(&s.v);
    struct drain *d = order_arena(s.o, 0);
    assert_true(lanes_claim(&dead, &s.v, s.p, 1000) && lanes_claim(&alive, &s.v, s.p, 1001));
    struct event e = stream_event(&s, 1);
    assert_true(lanes_event(&dead, &e, NULL) && lanes_event(&alive, &e, NULL));
    /* died after naming itself, before linking; another right after popping */
    struct chunk *c = &s.v.chunk[arena_pop_chunk(&s.v)];
    c->lane = (uint32_t)(dead.l - s.v.lane) + 1;
    c->lane_serial = dead.l->serial;
    dead.l->chunks_taken++;
    assert_true(arena_pop_chunk(&s.v) >= 0);
    stream_all(&s);
    kill_lane(&s, &dead);
    stream_all(&s);
    assert_true(d->leaking);
    alive.l->busy = 1; /* might be the one that popped */
    assert_int_equal(drain_sweep(d, no_fence, &fences), 1);
    alive.l->busy = 0;
    assert_int_equal(drain_sweep(d, no_fence, &fences), 1);
    assert_false(d->leaking);
    assert_int_equal(really_free(&s.v), all - 1);
    assert_int_equal(drain_sweep(d, no_fence, &fences), 0);
    e.time = s.now;
    assert_true(lanes_event(&alive, &e, NULL));
    stream_all(&s);
    assert_int_equal(stream_count(&s, ITEM_EVENT), 3);
    stream_close(&s);
}

static void test_lane_given_back_by_its_own_thread_is_forgotten(void **state)
{
    (void)state;
    struct stream s;
    struct writer w;
    stream_open(&s, NULL);
    assert_true(lanes_claim(&w, &s.v, s.p, 1000));
    stream_all(&s);
    assert_int_equal(order_arena(s.o, 0)->live, 1);
    w.l->state = LANE_FREE;
    arena_push_lane(&s.v, (uint32_t)(w.l - s.v.lane));
    stream_all(&s);
    assert_int_equal(order_arena(s.o, 0)->live, 0);
    assert_true(lanes_claim(&w, &s.v, s.p, 1001));
    struct event e = stream_event(&s, 1);
    assert_true(lanes_event(&w, &e, NULL));
    stream_all(&s);
    assert_int_equal(s.kept[0].item.tid, 1001);
    stream_close(&s);
}

/* --- many lanes --- */

static void test_lanes_churn(void **state)
{
    (void)state;
    struct stream s;
    stream_open(&s, NULL);
    uint32_t all = really_free(&s.v);
    static struct writer w[ARENA_LANES];
    uint64_t made = 0, allocated = 0;
    for (int round = 0; round < 6; round++) {
        uint32_t n = 0;
        while (lanes_claim(&w[n], &s.v, s.p, (int32_t)(n + 1))) {
            w[n].l->allocated = n;
            allocated += n;
            if (n % 37 == 0) {
                struct event e = stream_event(&s, (int32_t)n);
                assert_true(lanes_event(&w[n], &e, NULL));
                made++;
            }
            if (++n == ARENA_LANES)
                break;
        }
        assert_int_equal(n, ARENA_LANES);
        stream_all(&s);
        for (uint32_t i = 0; i < n; i++)
            kill_lane(&s, &w[i]);
        stream_all(&s);
        assert_int_equal(order_arena(s.o, 0)->live, 0);
    }
    assert_int_equal(stream_count(&s, ITEM_EVENT), made);
    assert_int_equal(really_free(&s.v), all);
    struct lane_totals t;
    drain_ended(order_arena(s.o, 0), (uint32_t)(s.p - s.v.process), &t);
    assert_int_equal(t.allocated, allocated);
    for (size_t i = 0; i < s.count; i++)
        assert_true(s.kept[i].item.lane < ARENA_LANES);
    assert_sums(&s);
    stream_close(&s);
}

/* More lanes with events than windows: the rest goes event by event, nothing differs. */
static void test_more_busy_lanes_than_windows(void **state)
{
    (void)state;
    struct stream s;
    struct window_pool *none;
    static struct writer w[DRAIN_WINDOWS];
    const uint32_t lanes = 400;
    stream_open(&s, NULL);
    none = order_arena(s.o, 0)->windows;
    none->made = DRAIN_WINDOWS - 10; /* ten are left */
    for (uint32_t i = 0; i < lanes; i++)
        assert_true(lanes_claim(&w[i], &s.v, s.p, (int32_t)i + 1));
    uint8_t data[32];
    for (uint32_t i = 0; i < 10 * lanes; i++) {
        struct event e = stream_event(&s, (int32_t)i);
        e.time += i;
        e.head = (uint16_t)(i % 32);
        memset(data, (int)i, sizeof data);
        if (i % 50 == 3)
            lanes_nested(&w[i % lanes]);
        assert_true(lanes_event(&w[i % lanes], &e, data));
    }
    stream_all(&s);
    int32_t next = 0;
    for (size_t i = 0; i < s.count; i++) {
        if (s.kept[i].item.kind != ITEM_EVENT)
            continue;
        assert_int_equal(s.kept[i].event.result, next);
        for (int j = 0; j < next % 32; j++)
            assert_int_equal(s.kept[i].data[j], (uint8_t)next);
        next++;
    }
    assert_int_equal(next, 10 * lanes);
    assert_int_equal(s.counts.late, 0);
    assert_sums(&s);
    stream_close(&s);
}

/* --- take-over --- */

static void take_over(struct stream *s, const struct order_counts *committed)
{
    order_free(s->o);
    s->o = order_new(20 * MS, NULL);
    assert_int_equal(order_attach(s->o, &s->v), 0);
    order_resume(s->o, committed);
}

static void test_successor_goes_on_where_the_old_one_stopped(void **state)
{
    (void)state;
    struct stream s;
    struct writer busy, ended, idle;
    stream_open(&s, NULL);
    assert_true(lanes_claim(&busy, &s.v, s.p, 1) && lanes_claim(&ended, &s.v, s.p, 2) &&
                lanes_claim(&idle, &s.v, s.p, 3));
    static uint8_t data[1000];
    int made = 0;
    for (int i = 0; i < 30; i++) {
        struct event e = stream_event(&s, made++);
        e.head = 1000;
        assert_true(lanes_event(&busy, &e, data) && lanes_event(&ended, &e, data));
        busy.l->allocated += 10;
    }
    stream_all(&s);
    assert_int_equal(s.count, 60);
    struct order_counts committed = s.counts; /* the store's last transaction */
    for (int i = 0; i < 5; i++) {
        struct event e = stream_event(&s, made++);
        assert_true(lanes_event(&busy, &e, data));
    }
    lanes_nested(&busy);
    kill_lane(&s, &ended);
    stream_all(&s);
    assert_int_equal(s.counts.drained, 65);
    stream_clear(&s);
    /* it dies; meanwhile */
    busy.l->allocated += 7;
    for (int i = 0; i < 3; i++) {
        struct event e = stream_event(&s, made++);
        assert_true(lanes_event(&busy, &e, data));
    }
    take_over(&s, &committed);
    stream_all(&s);
    assert_int_equal(stream_count(&s, ITEM_EVENT), 3);
    const struct fact *base = stream_fact(&s, FACT_THREAD_BASE);
    assert_non_null(base);
    assert_int_equal(base->total.allocated, 307);
    assert_int_equal(s.kept[0].item.kind, ITEM_FACT);
    assert_int_equal(s.counts.lost[LOSS_COLLECTOR], 5);
    assert_int_equal(s.counts.lost[LOSS_NESTED], 1);
    assert_int_equal(s.counts.drained, 63);
    assert_int_equal(s.counts.written, busy.l->sequence + 30);
    assert_sums(&s);
    stream_close(&s);
}

static void test_death_while_a_lane_is_freed_adds_it_once(void **state)
{
    (void)state;
    struct stream s;
    struct writer w;
    stream_open(&s, NULL);
    assert_true(lanes_claim(&w, &s.v, s.p, 1));
    w.l->allocated = 100;
    struct event e = stream_event(&s, 1);
    assert_true(lanes_event(&w, &e, NULL));
    stream_all(&s);
    kill_lane(&s, &w);
    stream_all(&s);
    struct order_counts committed = s.counts;
    /* as if it had died before the header was given back */
    w.l->state = LANE_LIVE;
    assert_int_equal(arena_pop_lane(&s.v), w.l - s.v.lane);
    take_over(&s, &committed);
    kill_lane(&s, &w);
    stream_all(&s);
    struct lane_totals t;
    drain_ended(order_arena(s.o, 0), (uint32_t)(s.p - s.v.process), &t);
    assert_int_equal(t.allocated, 100);
    assert_int_equal(order_arena(s.o, 0)->accounted_freed, 1);
    assert_sums(&s);
    stream_close(&s);
}

static void test_death_during_a_recall_loses_no_chunk(void **state)
{
    (void)state;
    struct stream s;
    struct writer w;
    stream_open(&s, NULL);
    uint32_t all = really_free(&s.v);
    assert_true(lanes_claim(&w, &s.v, s.p, 1));
    struct event e = stream_event(&s, 1);
    assert_true(lanes_event(&w, &e, NULL));
    stream_all(&s);
    w.l->recall = 2; /* taken, and then it died */
    take_over(&s, &s.counts);
    stream_all(&s);
    assert_int_equal(really_free(&s.v), all);
    e.time = s.now;
    assert_true(lanes_event(&w, &e, NULL));
    stream_all(&s);
    assert_int_equal(stream_count(&s, ITEM_EVENT), 2);
    assert_int_equal(lost_of(&s), 0);
    stream_close(&s);
}

/* --- others write meanwhile --- */

struct crowd {
    struct stream *s;
    struct writer w;
    _Atomic bool stop;
    uint64_t made, most; /* most: stops by itself, 0: never */
    uint32_t pause;
};

static void *write_on(void *to)
{
    struct crowd *c = to;
    uint8_t data[600];
    uint32_t seed = (uint32_t)c->w.l->tid * 7919;
    memset(data, (int)c->w.l->tid, sizeof data);
    while (!c->stop && (!c->most || c->made < c->most)) {
        seed = seed * 1664525 + 1013904223;
        struct event e = {.type = EVENT_IN,
                          .descriptor = 3,
                          .connection = (uint64_t)c->w.l->tid,
                          .time = STREAM_START + c->made,
                          .result = (int32_t)c->made,
                          .head = (uint16_t)((seed >> 16) % 600)};
        lanes_event(&c->w, &e, data);
        c->made++;
        if (c->pause && seed % 512 == 0) {
            struct timespec t = {0, (long)c->pause};
            nanosleep(&t, NULL);
        }
    }
    return NULL;
}

/* Real threads write while we read: exact, whatever the recall does. */
static void test_live_writers_are_drained_exactly(void **state)
{
    (void)state;
    struct stream s;
    struct crowd c[4];
    pthread_t t[4];
    int fences = 0, last = 0;
    stream_open(&s, NULL);
    for (int i = 0; i < 4; i++) {
        c[i] = (struct crowd){.s = &s, .pause = 100000, .most = 100000};
        assert_true(lanes_claim(&c[i].w, &s.v, s.p, i + 1));
        assert_int_equal(pthread_create(&t[i], NULL, write_on, &c[i]), 0);
    }
    uint64_t next[5] = {0}, missing[5] = {0}, events = 0;
    struct source from = order_source(s.o);
    for (int round = 0; !last || round < last; round++) {
        s.now += 400 * MS;
        struct instant m = {s.now, s.now};
        order_round(s.o, &m);
        drain_recall(order_arena(s.o, 0), s.now, QUIET, no_fence, &fences);
        bool all = round >= 2900; /* and on a busy machine each of them has had its turns */
        for (int i = 0; i < 4; i++)
            all &= next[i + 1] + missing[i + 1] >= 5000;
        if (!all)
            sched_yield();
        for (int i = 0; i < 4 && all && !last; i++) {
            c[i].stop = true;
            pthread_join(t[i], NULL);
            kill_lane(&s, &c[i].w);
        }
        if (all && !last)
            last = round + 100;
        struct item item;
        while (from.next(from.self, &item) == 1) {
            if (item.kind == ITEM_GAP)
                missing[item.tid] += item.missing;
            if (item.kind != ITEM_EVENT)
                continue;
            int tid = item.tid;
            assert_int_equal((uint32_t)item.event->result, (uint32_t)(next[tid] + missing[tid]));
            for (uint32_t i = 0; i < item.data_len; i++)
                if (item.data[i] != tid)
                    fail_msg("data of another event");
            next[tid]++;
            events++;
        }
    }
    order_counts(s.o, &s.counts);
    uint64_t made = 0;
    for (int i = 0; i < 4; i++) {
        made += c[i].made;
        assert_int_equal(c[i].made, next[i + 1] + missing[i + 1]);
    }
    assert_true(events > 0);
    assert_int_equal(s.counts.written, made);
    assert_int_equal(s.counts.lost[LOSS_FULL], lost_of(&s));
    assert_sums(&s);
    stream_close(&s);
}

static uint64_t random_next(uint64_t *seed)
{
    *seed ^= *seed << 13, *seed ^= *seed >> 7, *seed ^= *seed << 17;
    return *seed;
}

/* Mostly where it hurts: lanes, the first chunks, the stacks; the layout itself is never read again. */
static void scribble(const struct arena_view *v, uint64_t *seed)
{
    char *base = (char *)v->arena;
    for (int i = 0; i < 40; i++) {
        uint64_t n = random_next(seed);
        uint64_t places[] = {(uint64_t)((char *)v->lane - base) + n % (64 * sizeof(struct lane)),
                             (uint64_t)((char *)v->chunk - base) + n % (40 * CHUNK_BYTES),
                             512 + n % 512, n % v->bytes};
        uint64_t at = places[(n >> 40) % 4] & ~UINT64_C(7);
        uint64_t value = (n >> 50) % 3 ? (n >> 20) % 70 : n;
        if (at >= 512)
            memcpy(base + at, &value, 8);
    }
}

/* Writes as long as its lane looks like one. */
static void write_hurt(struct stream *s, struct writer *w, int32_t result)
{
    struct event e = stream_event(s, result);
    if (w->l->chunk <= s->v.chunks && w->l->write >= CHUNK_HEADER && w->l->write < CHUNK_BYTES && w->l->chunk)
        lanes_event(w, &e, NULL);
}

/* One round. Events of tid 2000 come in order, one after another; every byte of the others' data can be read. */
static void take_scribbled(struct stream *s, uint64_t *got, uint64_t *seed)
{
    struct source from = order_source(s->o);
    struct item item;
    uint64_t items = 0;
    s->now += 30 * MS;
    struct instant m = {s->now, s->now};
    order_round(s->o, &m);
    while (from.next(from.self, &item) == 1) {
        items++;
        if (item.kind != ITEM_EVENT)
            continue;
        if (item.tid == 2000)
            assert_int_equal(item.event->result, (*got)++);
        for (uint32_t i = 0; i < item.data_len; i++)
            *seed += item.data[i];
    }
    assert_true(items < 200000);
}

/* A neighbour writes garbage all over the pages. No crash, bounded rounds; an arena of its own
 * stays exact. */
static void test_scribbling_writer(void **state)
{
    (void)state;
    struct stream s;
    struct writer hurt[8], well;
    int fences = 0;
    stream_open(&s, NULL);
    struct arena_view other = stream_arena(ARENA_MIN_BYTES);
    assert_int_equal(order_attach(s.o, &other), 1);
    struct process_slot *p = lanes_process(&other, 2000);
    assert_true(lanes_claim(&well, &other, p, 2000));
    uint64_t seed = 88172645463325252, made = 0, got = 0;
    for (int i = 0; i < 8; i++)
        assert_true(lanes_claim(&hurt[i], &s.v, s.p, 1000 + i));
    for (int round = 0; round < 4000; round++) {
        for (int i = 0; i < 8; i++)
            write_hurt(&s, &hurt[i], round);
        struct event e = stream_event(&s, (int32_t)made++);
        assert_true(lanes_event(&well, &e, NULL));
        scribble(&s.v, &seed);
        take_scribbled(&s, &got, &seed);
        if (round % 50 == 0) {
            drain_recall(order_arena(s.o, 0), s.now, QUIET, no_fence, &fences);
            drain_sweep(order_arena(s.o, 0), no_fence, &fences);
        }
    }
    for (int i = 0; i < 3; i++)
        take_scribbled(&s, &got, &seed);
    assert_int_equal(got, made);
    stream_close(&s);
    munmap(other.arena, other.bytes);
}

/* A real process, killed at a random place between reserve and commit, many times. */
static void test_killed_writers_leave_at_most_one_unfinished(void **state)
{
    (void)state;
    struct stream s;
    stream_open(&s, NULL);
    uint32_t all = really_free(&s.v);
    uint64_t attempts = 0;
    int fences = 0;
    for (int i = 0; i < 40; i++) {
        struct writer w;
        assert_true(lanes_claim(&w, &s.v, s.p, 1000 + i));
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (!pid) {
            struct crowd c = {.w = w, .s = &s};
            write_on(&c);
            _exit(0);
        }
        struct timespec t = {0, 1000000 + i * 37000};
        nanosleep(&t, NULL);
        stream_round(&s, 30 * MS);
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        attempts += w.l->sequence;
        uint64_t unfinished = s.counts.lost[LOSS_UNFINISHED];
        stream_round(&s, 1);
        kill_lane(&s, &w);
        stream_all(&s);
        assert_true(s.counts.lost[LOSS_UNFINISHED] <= unfinished + 1);
        assert_int_equal(s.counts.lost[LOSS_DAMAGED], 0);
        assert_int_equal(s.counts.written, attempts);
        assert_sums(&s);
        stream_clear(&s);
    }
    drain_sweep(order_arena(s.o, 0), no_fence, &fences);
    assert_int_equal(really_free(&s.v), all);
    stream_close(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_event_arrives_as_it_was_written),
        cmocka_unit_test(test_long_durations_are_in_units_of_1024_ticks),
        cmocka_unit_test(test_totals_widen_over_two_to_the_32),
        cmocka_unit_test(test_many_chunks_come_in_order_and_are_given_back),
        cmocka_unit_test(test_full_and_nested_are_told_where_they_happened),
        cmocka_unit_test(test_killed_between_reserve_and_commit_is_one_unfinished),
        cmocka_unit_test(test_hole_of_an_abandoned_event_is_stepped_over),
        cmocka_unit_test(test_sequence_wraps),
        cmocka_unit_test(test_a_broken_lane_is_left_and_counted_the_others_go_on),
        cmocka_unit_test(test_circle_of_empty_chunks_ends),
        cmocka_unit_test(test_times_no_clock_can_have_told),
        cmocka_unit_test(test_idle_lane_gives_its_chunk_and_goes_on),
        cmocka_unit_test(test_lane_that_works_between_two_looks_is_not_idle),
        cmocka_unit_test(test_lane_that_wakes_in_time_keeps_its_chunk),
        cmocka_unit_test(test_chunk_taken_and_never_linked_is_swept),
        cmocka_unit_test(test_lane_given_back_by_its_own_thread_is_forgotten),
        cmocka_unit_test(test_lanes_churn),
        cmocka_unit_test(test_more_busy_lanes_than_windows),
        cmocka_unit_test(test_successor_goes_on_where_the_old_one_stopped),
        cmocka_unit_test(test_death_while_a_lane_is_freed_adds_it_once),
        cmocka_unit_test(test_death_during_a_recall_loses_no_chunk),
        cmocka_unit_test(test_live_writers_are_drained_exactly),
        cmocka_unit_test(test_scribbling_writer),
        cmocka_unit_test(test_killed_writers_leave_at_most_one_unfinished),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
