/*
 * test_sinks.c - the sink thread: all rows of the queue are stored, a dead destination holds
 * nothing up, the end comes in time.
 */
#include <errno.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "collector/report.h"
#include "collector/report_model.h"
#include "collector/sink/sinks.h"
#include "tests/folder.h"
#include "tests/rows_make.h"
#include "wire/clock.h"

static struct sketch_pool *pool;

static void no_fault(void *to, const char *where, const char *what)
{
    (void)to;
    fail_msg("%s: %s", where, what);
}

static void settings_for(struct settings *s, const char *store, const char *url)
{
    char path[PATH_MAX];
    settings_init(s);
    snprintf(path, sizeof path, "%s/%s", folder, store);
    s->store = strdup(strcmp(store, "none") ? path : "none");
    s->token = strdup("00c0ffee");
    if (url)
        assert_int_equal(settings_output(s, url, no_fault, NULL), 0);
}

static void send_row(struct queue *q, const struct row *row)
{
    struct row *to = queue_reserve(q, (enum row_kind)row->kind, row->bytes);
    assert_non_null(to);
    memcpy(to + 1, row + 1, row->bytes - sizeof *row);
    queue_publish(q, to);
}

/* A run of `intervals`, each with one request and one span. */
static void send_run(struct queue *q, uint32_t intervals)
{
    struct sketch latency;
    struct row_process p = {
        .process = 1, .pid = 1, .merged = 1, .start_ns = AT, .exit_code = -1, .signal = -1};
    send_row(q, make_run("00c0ffee", AT, "[\"x\"]", "{}"));
    send_row(q, make_process(&p, "/x", "x"));
    send_row(q, make_endpoint(1, "x", "http", SIDE_SERVER, "GET /a", 0));
    for (uint32_t i = 1; i <= intervals; i++) {
        struct row_interval interval = {.interval = i,
                                        .closed = 1,
                                        .start_ns = AT + i * SECOND,
                                        .end_ns = AT + (i + 1) * SECOND,
                                        .written = 5,
                                        .drained = 5};
        struct row_total t = {.interval = i, .endpoint = 1, .class = 2, .count = 1};
        struct row_span s = {.id = i,
                             .endpoint = 1,
                             .process = 1,
                             .start_ns = AT + i * SECOND,
                             .duration_ns = MS,
                             .rate = 1};
        sketch_init(&latency);
        sketch_add(&latency, pool, MS);
        send_row(q, make_total(&t, &latency, &latency));
        send_row(q, make_interval(&interval));
        send_row(q, make_span(&s, "GET", "/a", ""));
        send_row(q, make_commit(AT + (i + 1) * SECOND));
        sketch_clear(&latency, pool);
    }
    send_row(q, make_run_end(AT + intervals * SECOND, 0, -1));
    queue_end(q);
}

static struct report *finish(struct sinks *sinks, uint64_t allowed_ns)
{
    struct report *r = NULL;
    assert_int_equal(sinks_finish(sinks, clock_monotonic_ns() + allowed_ns), 0);
    assert_int_equal(sinks_report(sinks, NULL, &r), 0);
    return r;
}

static void test_every_row_of_the_queue_is_stored(void **state)
{
    (void)state;
    struct settings s;
    char message[256];
    settings_for(&s, "a.db", NULL);
    struct queue *q = queue_new(1 << 16, WAIT);
    struct sinks *sinks = sinks_start(&s, q, NULL, NULL);
    assert_non_null(sinks);
    struct store_resume resume;
    sinks_resume(sinks, &resume);
    assert_int_equal(resume.lives, 0);
    assert_string_equal(sinks_store_path(sinks), s.store);
    send_run(q, 300);
    struct report *r = finish(sinks, SECOND);
    assert_int_equal(r->requests, 300);
    assert_int_equal(r->end_ns, AT + 300 * SECOND);
    assert_true(report_is_complete(r));
    report_free(r);
    assert_int_equal(sinks_close(sinks), 0);
    assert_int_equal(
        report_read(s.store, &(struct report_query){.slowest = 1000}, &r, message, sizeof message),
        0);
    assert_int_equal(r->requests, 300);
    assert_int_equal(r->slowests, 300);
    assert_int_equal(r->outputs, 0);
    report_free(r);
    queue_free(q);
    settings_fini(&s);
}

static void test_a_dead_destination_holds_nothing_up(void **state)
{
    (void)state;
    struct settings s;
    settings_for(&s, "a.db", "http://127.0.0.1:9");
    struct queue *q = queue_new(1 << 16, WAIT);
    struct sinks *sinks = sinks_start(&s, q, NULL, NULL);
    assert_non_null(sinks);
    send_run(q, 50);
    struct report *r = finish(sinks, SECOND / 4);
    assert_int_equal(r->requests, 50);
    assert_int_equal(r->outputs, 1);
    assert_string_equal(r->output[0].name, "http://127.0.0.1:9");
    const struct documents *d = &r->output[0].documents;
    assert_true(d->accepted > 0);
    assert_int_equal(d->acknowledged, 0);
    assert_int_equal(d->queued, 0);
    assert_int_equal(d->dropped_exit, d->accepted);
    assert_int_equal(d->carried + d->accepted, d->acknowledged + d->duplicates + d->dead +
                                                   d->dropped_memory + d->dropped_exit +
                                                   d->dropped_refused + d->queued);
    report_free(r);
    assert_int_equal(sinks_close(sinks), 0);
    queue_free(q);
    settings_fini(&s);
}

static void test_without_a_store_the_summary_is_there_all_the_same(void **state)
{
    (void)state;
    struct settings s;
    settings_for(&s, "none", NULL);
    struct queue *q = queue_new(1 << 16, WAIT);
    struct sinks *sinks = sinks_start(&s, q, NULL, NULL);
    send_run(q, 10);
    struct report *r = finish(sinks, SECOND);
    assert_int_equal(r->requests, 10);
    assert_string_equal(sinks_store_path(sinks), "none");
    report_free(r);
    assert_int_equal(sinks_close(sinks), 0);
    queue_free(q);
    settings_fini(&s);
}

/* Said by the sink thread when its file was removed: here it stays for `hang_ns`, asleep or at work. */
static uint64_t hang_ns;
static bool asleep;

static void hang(void *to, const char *line)
{
    (void)to, (void)line;
    uint64_t until = clock_monotonic_ns() + hang_ns;
    while (clock_monotonic_ns() < until)
        if (asleep)
            usleep(1000 * 100);
}

static int finish_of_a_thread_that_hangs(const char *store)
{
    struct settings s;
    settings_for(&s, store, NULL);
    struct queue *q = queue_new(1 << 16, WAIT);
    struct sinks *sinks = sinks_start(&s, q, hang, NULL);
    assert_non_null(sinks);
    assert_int_equal(unlink(s.store), 0);
    send_run(q, 3);
    sinks_patience_ns = SECOND / 2;
    int rc = sinks_finish(sinks, clock_monotonic_ns());
    if (rc) {
        sinks_patience_ns = 60 * SECOND;
        assert_int_equal(sinks_finish(sinks, clock_monotonic_ns()), 0);
    }
    assert_int_equal(sinks_close(sinks), 0);
    queue_free(q);
    settings_fini(&s);
    return rc;
}

static void test_a_thread_without_cpu_is_told_from_a_disk_that_hangs(void **state)
{
    (void)state;
    asleep = true;
    hang_ns = 2 * SECOND;
    assert_int_equal(finish_of_a_thread_that_hangs("a.db"), -ETIMEDOUT);
    asleep = false;
    hang_ns = SECOND; /* two of four patiences */
    assert_int_equal(finish_of_a_thread_that_hangs("b.db"), 0);
    hang_ns = 4 * SECOND;
    assert_int_equal(finish_of_a_thread_that_hangs("c.db"), -EBUSY);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, make_folder, remove_folder)
        TEST(test_every_row_of_the_queue_is_stored),
        TEST(test_a_dead_destination_holds_nothing_up),
        TEST(test_without_a_store_the_summary_is_there_all_the_same),
        TEST(test_a_thread_without_cpu_is_told_from_a_disk_that_hangs),
    };
    pool = sketch_pool_new(1 << 20);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
