/*
 * test_cpu.c - CPU anchors in events: at a thread's first event, after each switch, never in between; none once a
 * seccomp filter stands.
 */
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "shim/cpu.h"
#include "shim/lifecycle.h"
#include "shim/real.h"
#include "tests/shim_doubles.h"

static struct arena_view view;

static uint64_t own_clock(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * UINT64_C(1000000000) + (uint64_t)t.tv_nsec;
}

/* Makes an event; its block, NULL: none. */
static const struct event_block *event_block(void)
{
    struct lane *l = lane_here();
    struct observation o = {.type = EVENT_TURN, .descriptor = -1, .time = ticks_now()};
    record_event(l, &o);
    const struct chunk *c = &view.chunk[l->chunk - 1];
    const struct event *e = NULL, *next;
    for (uint32_t at = CHUNK_HEADER; at < c->committed; at += next->size)
        e = next = (const void *)((const char *)c + at);
    assert_non_null(e);
    return e->flags & EVENT_HAS_BLOCK ? (const struct event_block *)(e + 1) : NULL;
}

/* What the clock in a new event says, 0: none. */
static uint64_t event_clock(void)
{
    const struct event_block *b = event_block();
    return b ? b->cpu_ns : 0;
}

static void nap(void)
{
    struct timespec t = {0, 2000000};
    nanosleep(&t, NULL);
}

/* The machine may switch us at any moment: one of a few tries is undisturbed. */
static bool stays_silent(void)
{
    for (int i = 0; i < 100; i++) {
        event_clock();
        if (!event_clock() && !event_clock())
            return true;
    }
    return false;
}

static void test_clock_is_read_after_a_switch_only(void **state)
{
    (void)state;
    assert_true(stays_silent());
    nap();
    uint64_t before = own_clock(), got = event_clock(), after = own_clock();
    assert_true(before <= got && got <= after);
    assert_true(stays_silent());
}

static void *other_thread(void *to)
{
    uint64_t before = own_clock(), got = event_clock();
    *(bool *)to = before <= got && got <= own_clock();
    return NULL;
}

static void test_each_thread_begins_with_its_own(void **state)
{
    (void)state;
    pthread_t t;
    bool right = false;
    pthread_create(&t, NULL, other_thread, &right);
    pthread_join(t, NULL);
    assert_true(right);
}

static void test_lost_event_leaves_the_clock_to_the_next(void **state)
{
    (void)state;
    struct lane *l = lane_here();
    nap();
    uint32_t most = view.arena->lane_chunks, write = l->write;
    view.arena->lane_chunks = 0;
    l->write = CHUNK_BYTES;
    struct observation o = {.type = EVENT_TURN, .descriptor = -1, .time = ticks_now()};
    uint64_t full = l->lost_full;
    record_event(l, &o);
    assert_int_equal(l->lost_full, full + 1);
    view.arena->lane_chunks = most;
    l->write = write;
    assert_true(event_clock() != 0);
}

static void test_mark_tells_a_wait_and_keeps_the_note(void **state)
{
    (void)state;
    assert_true(stays_silent());
    bool stayed = false;
    for (int i = 0; i < 100 && !stayed; i++) {
        cpu_mark_begin();
        stayed = cpu_was_switched() == CPU_STAYED;
    }
    assert_true(stayed);
    nap();
    cpu_mark_begin(); /* sets it anew: the events must still learn of the nap */
    assert_true(event_clock() != 0);
    cpu_mark_begin();
    nap();
    assert_int_equal(cpu_was_switched(), CPU_SWITCHED);
}

/* Another's turn on our processor is no wait; a nap is. */
static void test_wait_is_told_from_anothers_turn(void **state)
{
    (void)state;
    cpu_set_t before, one;
    sched_getaffinity(0, sizeof before, &before);
    CPU_ZERO(&one);
    CPU_SET((unsigned)sched_getcpu(), &one);
    assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
    pid_t busy = fork();
    if (!busy)
        for (;;)
            ;
    bool turned = false;
    for (int i = 0; i < 100000 && !turned; i++) {
        cpu_wait_begin();
        sched_yield();
        turned = cpu_was_switched() == CPU_SWITCHED;
        assert_int_equal(cpu_wait_end(), CPU_STAYED);
    }
    assert_true(turned);
    cpu_wait_begin();
    nap();
    assert_int_equal(cpu_wait_end(), CPU_SWITCHED);
    event_clock();
    cpu_wait_begin(); /* the nap was before */
    assert_int_equal(cpu_wait_end(), CPU_STAYED);
    kill(busy, SIGKILL);
    waitpid(busy, NULL, 0);
    sched_setaffinity(0, sizeof before, &before);
}

static uint64_t waits_told(void)
{
    const struct event_block *b = event_block();
    assert_non_null(b);
    assert_true(b->cpu_ns);
    assert_true(b->waits);
    return b->waits;
}

/* A wait that is in the totals leaves the count as it was, one that is not raises it: no run queue then (collector/wall.h). */
static void test_count_tells_of_waits_that_are_not_timed_only(void **state)
{
    (void)state;
    nap();
    uint64_t before = waits_told();
    for (int i = 0; i < 3; i++) {
        cpu_timed_begin();
        nap();
        cpu_timed_end();
    }
    assert_int_equal(waits_told(), before);
    nap();
    cpu_timed_begin();
    nap();
    cpu_timed_end();
    assert_int_equal(waits_told(), before + 1);
}

static void test_child_of_fork_begins_anew(void **state)
{
    (void)state;
    event_clock();
    pid_t child = fork();
    if (!child) {
        uint64_t before = own_clock(), got = event_clock();
        _exit(before <= got && got <= own_clock() ? 0 : 1);
    }
    int status;
    waitpid(child, &status, 0);
    assert_int_equal(status, 0);
}

static void test_filter_ends_it(void **state)
{
    (void)state;
    event_clock();
    pid_t child = fork();
    if (!child) {
        event_clock();
        cpu_shut();
        nap();
        bool told = event_clock() == UINT64_MAX;
        nap();
        bool silent = !event_clock();
        bool flagged = view.process[shim.process].flags & PROCESS_NO_CPU;
        cpu_mark_begin();
        nap();
        bool seen = cpu_was_switched() == CPU_SWITCHED;
        _exit(told && silent && flagged && seen ? 0 : told | silent << 1 | flagged << 2 | seen << 3);
    }
    int status;
    waitpid(child, &status, 0);
    assert_int_equal(status, 0);
}

static int attach(void **state)
{
    (void)state;
    char place[128];
    int fd = arena_create(ARENA_DEFAULT_BYTES, "cpu", &view);
    if (fd < 0)
        return -1;
    view.arena->features |= FEATURE_CPU | FEATURE_WAITS;
    view.arena->clock = CLOCK_KIND_MONOTONIC;
    snprintf(place, sizeof place, "%d:%d:cpu", getpid(), fd);
    real_resolve();
    if (!lifecycle_attach(place) || !lane_here())
        return -1;
    view = shim.view;
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_clock_is_read_after_a_switch_only),
        cmocka_unit_test(test_each_thread_begins_with_its_own),
        cmocka_unit_test(test_lost_event_leaves_the_clock_to_the_next),
        cmocka_unit_test(test_mark_tells_a_wait_and_keeps_the_note),
        cmocka_unit_test(test_wait_is_told_from_anothers_turn),
        cmocka_unit_test(test_count_tells_of_waits_that_are_not_timed_only),
        cmocka_unit_test(test_child_of_fork_begins_anew),
        cmocka_unit_test(test_filter_ends_it),
    };
    return cmocka_run_group_tests(tests, attach, NULL);
}
