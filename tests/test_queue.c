/*
 * test_queue.c - rows come out as they went in: in order, whole, at the ring's end too, between two
 * threads, and a full queue sheds or waits as it was told.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>
#include "collector/sink/queue.h"

/* A row whose body can be checked from its sequence alone. */
static bool push(struct queue *q, enum row_kind kind, size_t bytes)
{
    struct row *row = queue_reserve(q, kind, bytes);
    if (!row)
        return false;
    memset(row + 1, (int)(row->sequence & 255), row->bytes - sizeof *row);
    queue_publish(q, row);
    return true;
}

static size_t wrong_bytes(const struct row *row)
{
    const uint8_t *body = (const uint8_t *)(row + 1);
    size_t wrong = 0;
    for (size_t i = 0; i < row->bytes - sizeof *row; i++)
        wrong += body[i] != (row->sequence & 255);
    return wrong;
}

static size_t size_of(uint64_t n)
{
    return sizeof(struct row) + (n * 7919) % 3000;
}

static void test_rows_keep_order_and_content_over_many_turns_of_the_ring(void **state)
{
    (void)state;
    struct queue *q = queue_new(32768, SHED);
    uint64_t in = 0, out = 0;
    bool ended;
    for (int round = 0; round < 5000; round++) {
        for (int i = 0; i < 1 + round % 9 && push(q, ROW_TOTAL, size_of(in + 1)); i++)
            in++;
        for (int i = 0; i < 1 + round % 7; i++) {
            const struct row *row = queue_peek(q, 0, &ended);
            assert_false(ended);
            if (!row)
                break;
            assert_int_equal(row->sequence, ++out);
            assert_int_equal(row->kind, ROW_TOTAL);
            assert_int_equal(row->bytes, (size_of(out) + 7) / 8 * 8);
            assert_int_equal(wrong_bytes(row), 0);
            queue_drop(q);
        }
    }
    assert_true(out > 10000);
    while (queue_peek(q, 0, &ended)) {
        out++;
        queue_drop(q);
    }
    assert_int_equal(out, in);
    assert_int_equal(queue_used(q), 0);
    queue_free(q);
}

static void test_full_queue_sheds_and_loses_nothing_it_took(void **state)
{
    (void)state;
    struct queue *q = queue_new(1 << 16, SHED);
    uint64_t in = 0, out = 0;
    bool ended;
    while (push(q, ROW_TOTAL, 1000))
        in++;
    assert_true(in >= 60 && in <= 65);
    assert_false(push(q, ROW_TOTAL, 1000));
    assert_true(push(q, ROW_TOTAL, 16)); /* the smaller one still fits */
    in++;
    for (const struct row *row; (row = queue_peek(q, 0, &ended)); queue_drop(q))
        assert_int_equal(row->sequence, ++out);
    assert_int_equal(in, out);
    assert_true(push(q, ROW_TOTAL, 1000));
    queue_free(q);
}

static void test_spans_leave_the_last_quarter_to_totals(void **state)
{
    (void)state;
    struct queue *q = queue_new(1 << 16, SHED);
    while (push(q, ROW_SPAN, 512))
        ;
    assert_in_range(queue_used(q), (1 << 16) * 3 / 4 - 512, (1 << 16) * 3 / 4);
    int totals = 0;
    while (push(q, ROW_TOTAL, 512))
        totals++;
    assert_in_range(totals, 31, 33);
    queue_free(q);
}

static void test_sizes_are_checked_and_a_row_may_shrink(void **state)
{
    (void)state;
    struct queue *q = queue_new(1, SHED);
    bool ended;
    assert_null(queue_reserve(q, ROW_TOTAL, ROW_MAX_BYTES + 1));
    assert_null(queue_reserve(q, ROW_TOTAL, 8));
    assert_non_null(queue_reserve(q, ROW_TOTAL, ROW_MAX_BYTES)); /* forgotten */
    struct row *row = queue_reserve(q, ROW_TOTAL, ROW_MAX_BYTES);
    row->bytes = 21;
    queue_publish(q, row);
    assert_int_equal(queue_used(q), 24);
    const struct row *seen = queue_peek(q, 0, &ended);
    assert_int_equal(seen->bytes, 24);
    assert_int_equal(seen->sequence, 1);
    queue_drop(q);
    queue_drop(q); /* of nothing: harmless */
    assert_null(queue_peek(q, 0, &ended));
    queue_number_from(q, 1000);
    push(q, ROW_TOTAL, 16);
    assert_int_equal(queue_peek(q, 0, &ended)->sequence, 1000);
    queue_free(q);
}

static void test_end_is_told_only_when_empty(void **state)
{
    (void)state;
    struct queue *q = queue_new(1 << 16, SHED);
    bool ended;
    push(q, ROW_COMMIT, 24);
    queue_end(q);
    assert_non_null(queue_peek(q, 0, &ended));
    assert_false(ended);
    queue_drop(q);
    assert_null(queue_peek(q, -1, &ended));
    assert_true(ended);
    queue_free(q);
}

static void test_peek_gives_up_after_its_timeout(void **state)
{
    (void)state;
    struct queue *q = queue_new(1 << 16, SHED);
    bool ended;
    assert_null(queue_peek(q, 20, &ended));
    assert_false(ended);
    queue_free(q);
}

struct reader {
    struct queue *queue;
    uint64_t rows, wrong, out_of_order, commits;
    int pause_every;
};

static void *read_all(void *arg)
{
    struct reader *r = arg;
    bool ended = false;
    for (;;) {
        const struct row *row = queue_peek(r->queue, -1, &ended);
        if (!row && ended)
            return NULL;
        if (!row)
            continue;
        r->rows++;
        r->out_of_order += row->sequence != r->rows;
        r->wrong += wrong_bytes(row);
        r->commits += row->kind == ROW_COMMIT;
        if (r->pause_every && r->rows % (uint64_t)r->pause_every == 0)
            usleep(1000);
        queue_drop(r->queue);
    }
}

/* Both ends sleep again and again; a lost wake-up would hang here (the runner has a limit). */
static void stress(int pause_every, int commit_every, uint64_t rows)
{
    struct reader reader = {.queue = queue_new(1 << 15, WAIT), .pause_every = pause_every};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, read_all, &reader), 0);
    uint64_t commits = 0;
    for (uint64_t i = 1; i <= rows; i++) {
        bool commit = i % (uint64_t)commit_every == 0;
        assert_true(push(reader.queue, commit ? ROW_COMMIT : ROW_SPAN, commit ? 24 : size_of(i)));
        commits += commit;
        if (commit && i % 5000 == 0)
            usleep(500); /* lets the consumer fall asleep */
    }
    queue_end(reader.queue);
    pthread_join(thread, NULL);
    assert_int_equal(reader.rows, rows);
    assert_int_equal(reader.wrong, 0);
    assert_int_equal(reader.out_of_order, 0);
    assert_int_equal(reader.commits, commits);
    queue_free(reader.queue);
}

static void test_two_threads_waiting_for_room(void **state)
{
    (void)state;
    stress(500, 100, 100000);
}

static void test_two_threads_waiting_for_rows(void **state)
{
    (void)state;
    stress(0, 10, 100000);
}

static void *abandon_soon(void *queue)
{
    usleep(20000);
    queue_abandon(queue);
    return NULL;
}

static void test_abandoned_queue_frees_a_waiting_producer(void **state)
{
    (void)state;
    struct queue *q = queue_new(1, WAIT);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, abandon_soon, q), 0);
    while (push(q, ROW_TOTAL, 4096))
        ;
    pthread_join(thread, NULL);
    assert_false(push(q, ROW_TOTAL, 16));
    queue_free(q);
}

static void test_patience_ends_when_the_consumer_makes_no_headway(void **state)
{
    (void)state;
    struct queue *q = queue_new(1, SHED);
    queue_patience(q, 20);
    int rows = 0;
    while (push(q, ROW_TOTAL, 4096))
        rows++;
    assert_int_equal(rows, 8);
    queue_free(q);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows_keep_order_and_content_over_many_turns_of_the_ring),
        cmocka_unit_test(test_full_queue_sheds_and_loses_nothing_it_took),
        cmocka_unit_test(test_spans_leave_the_last_quarter_to_totals),
        cmocka_unit_test(test_sizes_are_checked_and_a_row_may_shrink),
        cmocka_unit_test(test_end_is_told_only_when_empty),
        cmocka_unit_test(test_peek_gives_up_after_its_timeout),
        cmocka_unit_test(test_two_threads_waiting_for_room),
        cmocka_unit_test(test_two_threads_waiting_for_rows),
        cmocka_unit_test(test_abandoned_queue_frees_a_waiting_producer),
        cmocka_unit_test(test_patience_ends_when_the_consumer_makes_no_headway),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
