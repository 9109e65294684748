/*
 * test_sites.c - rows of stacks and sites: what is named was told before, bounds of a second and of an interval, files
 * of processes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "collector/objects.h"
#include "collector/sink/queue.h"
#include "collector/sites.h"

static struct sites *sites;
static struct queue *queue;
static uint32_t told_sites, told_live, told_frames, told_objects;
static struct row_site site_row[SITES_MOST];
static struct row_site_live live_row[1024];
static struct row_object object_row[16];

static int begin(void **state)
{
    (void)state;
    sites = sites_new();
    queue = queue_new(16 << 20, SHED);
    assert_non_null(sites);
    assert_non_null(queue);
    return 0;
}

static int end(void **state)
{
    (void)state;
    sites_free(sites);
    queue_free(queue);
    return 0;
}

static void drain(void)
{
    const struct row *row;
    bool ended;
    told_sites = told_live = told_frames = told_objects = 0;
    while ((row = queue_peek(queue, 0, &ended))) {
        if (row->kind == ROW_SITE)
            memcpy(&site_row[told_sites++], row + 1, sizeof *site_row);
        if (row->kind == ROW_SITE_LIVE)
            memcpy(&live_row[told_live++], row + 1, sizeof *live_row);
        if (row->kind == ROW_OBJECT)
            memcpy(&object_row[told_objects++], row + 1, sizeof *object_row);
        told_frames += row->kind == ROW_FRAMES;
        queue_drop(queue);
    }
}

/* A sample of `bytes` at a stack of one frame, for no request. */
static uint32_t sampled(uint64_t address, uint64_t bytes)
{
    struct frame f = {.address = address};
    uint32_t i = sites_find(sites, 0, sites_stack(sites, &f, 1, 0), SITE_ALLOCATED);
    struct site *s = sites_at(sites, i);
    s->row.samples++;
    s->row.amount += bytes;
    s->row.live_samples++;
    s->row.live_bytes += bytes;
    sites_change(sites, i);
    return i;
}

static void test_a_site_is_told_once_for_what_changed(void **state)
{
    (void)state;
    sampled(1, 10);
    sampled(1, 10);
    sampled(2, 5);
    assert_true(sites_push(sites, NULL, queue, false));
    drain();
    assert_int_equal(told_frames, 2);
    assert_int_equal(told_sites, 2);
    assert_int_equal(site_row[0].samples, 2);
    assert_int_equal(site_row[0].amount, 20);
    assert_true(sites_push(sites, NULL, queue, false));
    drain();
    assert_int_equal(told_sites, 0);
    sampled(2, 5);
    sites_push(sites, NULL, queue, false);
    drain();
    assert_int_equal(told_sites, 1);
    assert_int_equal(told_frames, 0); /* known by its number */
}

static void test_a_second_has_a_bound_and_all_get_their_turn(void **state)
{
    (void)state;
    for (uint64_t i = 1; i <= 2000; i++)
        sampled(i, 1);
    sites_push(sites, NULL, queue, false);
    drain();
    assert_int_equal(told_sites, 1024);
    for (uint64_t i = 1; i <= 1024; i++)
        sampled(i, 1); /* these wait behind those that were not told yet */
    sites_push(sites, NULL, queue, false);
    drain();
    assert_int_equal(told_sites, 1024);
    assert_int_equal(site_row[0].stack, 2 + 1024);
    sites_push(sites, NULL, queue, true);
    drain();
    assert_int_equal(told_sites, 2000 - 1024);
}

static void test_a_full_queue_loses_no_site(void **state)
{
    (void)state;
    queue_free(queue);
    queue = queue_new(1, SHED);
    for (uint64_t i = 1; i <= 1000; i++)
        sampled(i, 1);
    uint32_t told = 0;
    bool seen[2000] = {false};
    for (int turns = 0; turns < 1000 && told < 1000; turns++) {
        sites_push(sites, NULL, queue, true);
        drain();
        for (uint32_t i = 0; i < told_sites; i++) {
            assert_false(seen[site_row[i].stack]); /* each once, or some would be missing behind the count */
            seen[site_row[i].stack] = true;
        }
        told += told_sites;
    }
    assert_int_equal(told, 1000);
}

static void test_an_interval_tells_the_largest_that_live(void **state)
{
    (void)state;
    for (uint64_t i = 1; i <= 1000; i++)
        sampled(i, i);
    sites_push_live(sites, NULL, queue, 7, 42);
    drain();
    assert_int_equal(told_live, SITES_LIVE_MOST);
    assert_int_equal(told_frames, SITES_LIVE_MOST); /* named before */
    assert_int_equal(live_row[0].live_bytes, 1000);
    assert_int_equal(live_row[0].interval, 7);
    assert_int_equal(live_row[0].requests, 42);
    assert_int_equal(live_row[255].live_bytes, 745);
}

static void test_what_lives_no_more_is_told_once(void **state)
{
    (void)state;
    struct site *s = sites_at(sites, sampled(1, 10));
    sites_push_live(sites, NULL, queue, 1, 1);
    s->row.live_samples = s->row.live_bytes = 0;
    s->interval_samples = 1; /* its process ended */
    s->interval_bytes = 10;
    sites_push_live(sites, NULL, queue, 2, 1);
    sites_push_live(sites, NULL, queue, 3, 1);
    sites_push_live(sites, NULL, queue, 4, 1);
    drain();
    assert_int_equal(told_live, 3);
    assert_int_equal(live_row[1].live_bytes, 10);
    assert_int_equal(live_row[2].live_bytes, 0);
    assert_int_equal(live_row[2].interval, 3);
}

static void test_numbers_go_on_after_another_collectors(void **state)
{
    (void)state;
    sites_number_from(sites, 101);
    sampled(1, 1);
    sites_push(sites, NULL, queue, false);
    drain();
    assert_int_equal(site_row[0].stack, 102);
}

/* --- files -------------------------------------------------------------------------------------------------------------- */

static void tell(uint32_t process, uint64_t start, uint64_t end, uint64_t bias, const char *path)
{
    struct told_object t = {.start = start, .end = end, .bias = bias, .path = path, .path_len = (uint16_t)strlen(path)};
    objects_told(sites_objects(sites), process, &t);
}

static struct frame at(uint32_t process, uint64_t address)
{
    return objects_find(sites_objects(sites), process, address);
}

static void test_addresses_become_those_of_their_file(void **state)
{
    (void)state;
    struct objects *o = sites_objects(sites);
    objects_begin(o, 1, 0, 100, "/bin/a");
    tell(1, 0x1000, 0x2000, 0x1000, "");
    tell(1, 0x5000, 0x6000, 0x4000, "/lib/x.so");
    assert_int_equal(at(1, 0x1500).address, 0x500);
    assert_int_equal(at(1, 0x2000).address, 0x1000); /* returns to the end: the call is inside */
    assert_int_equal(at(1, 0x5001).address, 0x1001);
    assert_int_equal(at(1, 0x1500).object, at(1, 0x1501).object);
    assert_true(at(1, 0x1500).object != at(1, 0x5500).object);
    assert_int_equal(at(1, 0x3000).address, 0x3000); /* in no file */
    assert_int_equal(at(1, 0x3000).object, at(1, 0x9000).object);
    objects_tell(o, at(1, 0x1500).object, queue);
    objects_tell(o, at(1, 0x3000).object, queue);
    objects_tell(o, at(1, 0x3000).object, queue);
    drain();
    assert_int_equal(told_objects, 2);
    assert_int_equal(object_row[0].path_len, 6); /* the executable's */
    assert_true(object_row[1].jit && object_row[1].pid == 100);
}

static void test_the_same_file_is_one_over_processes(void **state)
{
    (void)state;
    objects_begin(sites_objects(sites), 1, 0, 100, "/bin/a");
    objects_begin(sites_objects(sites), 2, 0, 200, "/bin/b");
    tell(1, 0x1000, 0x2000, 0x1000, "/lib/x.so");
    tell(2, 0x71000, 0x72000, 0x71000, "/lib/x.so");
    assert_int_equal(at(1, 0x1500).object, at(2, 0x71500).object);
    assert_int_equal(at(1, 0x1500).address, at(2, 0x71500).address);
}

static void test_a_forked_child_has_its_parents_files_and_then_its_own(void **state)
{
    (void)state;
    struct objects *o = sites_objects(sites);
    objects_begin(o, 1, 0, 100, "/bin/a");
    tell(1, 0x1000, 0x2000, 0x1000, "/lib/x.so");
    objects_begin(o, 2, 1, 200, "/bin/a");
    assert_int_equal(at(2, 0x1500).object, at(1, 0x1500).object);
    tell(2, 0x1000, 0x2000, 0x1000, "/lib/y.so"); /* mapped in place of the other, there alone */
    assert_true(at(2, 0x1500).object != at(1, 0x1500).object);
    objects_end(o, 1);
    assert_int_equal(at(2, 0x1500).address, 0x500);
    objects_begin(o, 3, 0, 300, "/bin/a"); /* executed: begins with none */
    assert_int_equal(at(3, 0x1500).address, 0x1500);
}

/* A fact of a process overtakes events by the watermark of their order. */
static void test_a_child_that_began_first_has_what_its_parent_tells_until_its_first_stack(void **state)
{
    (void)state;
    struct objects *o = sites_objects(sites);
    objects_begin(o, 1, 0, 100, "/bin/a");
    objects_begin(o, 2, 1, 200, "/bin/a");
    objects_begin(o, 3, 2, 300, "/bin/a");
    tell(1, 0x1000, 0x2000, 0x1000, "/lib/x.so");
    uint32_t x = at(1, 0x1500).object;
    objects_end(o, 1); /* a daemon's parents: kept for their heirs */
    objects_end(o, 2);
    assert_int_equal(at(3, 0x1500).object, x);
    assert_int_equal(at(3, 0x1500).address, 0x500);
    tell(3, 0x3000, 0x4000, 0x3000, "/lib/y.so");
    assert_int_equal(at(3, 0x3500).address, 0x500);
    objects_end(o, 3);
    assert_int_equal(at(3, 0x1500).address, 0x1500); /* nobody's any more */
}

static void test_a_process_that_begins_as_the_child_of_its_own_child_has_no_parent(void **state)
{
    (void)state;
    struct objects *o = sites_objects(sites);
    objects_begin(o, 1, 0, 100, "/bin/a");
    objects_begin(o, 2, 1, 200, "/bin/a");
    objects_begin(o, 3, 2, 300, "/bin/a");
    objects_end(o, 1);
    objects_begin(o, 1, 3, 100, "/bin/a"); /* only a broken recording says so */
    tell(1, 0x1000, 0x2000, 0x1000, "/lib/x.so");
    assert_int_equal(at(1, 0x1500).address, 0x500);
    assert_int_equal(at(3, 0x1500).address, 0x500);
}

static void test_a_file_mapped_over_others_takes_their_place(void **state)
{
    (void)state;
    objects_begin(sites_objects(sites), 1, 0, 100, "/bin/a");
    for (uint64_t i = 0; i < 100; i++)
        tell(1, 0x10000 + i * 0x1000, 0x10800 + i * 0x1000, 0x10000 + i * 0x1000, "/lib/x.so");
    tell(1, 0x20000, 0x30000, 0x20000, "/lib/y.so");
    assert_int_equal(at(1, 0x1f400).address, 0x400);
    assert_int_equal(at(1, 0x2f400).address, 0xf400);
    assert_int_equal(at(1, 0x30400).address, 0x400);
    assert_int_equal(at(1, 0x30400).object, at(1, 0x1f400).object);
    assert_true(at(1, 0x20001).object != at(1, 0x1f400).object);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_site_is_told_once_for_what_changed),
        TEST(test_a_second_has_a_bound_and_all_get_their_turn),
        TEST(test_a_full_queue_loses_no_site),
        TEST(test_an_interval_tells_the_largest_that_live),
        TEST(test_what_lives_no_more_is_told_once),
        TEST(test_numbers_go_on_after_another_collectors),
        TEST(test_addresses_become_those_of_their_file),
        TEST(test_the_same_file_is_one_over_processes),
        TEST(test_a_forked_child_has_its_parents_files_and_then_its_own),
        TEST(test_a_child_that_began_first_has_what_its_parent_tells_until_its_first_stack),
        TEST(test_a_process_that_begins_as_the_child_of_its_own_child_has_no_parent),
        TEST(test_a_file_mapped_over_others_takes_their_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
