/* test_recording.c - what is written comes back; damage is named and costs only what stands behind it. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "collector/recording.h"

#define ITEMS 5000

static char path[64];

static int setup(void **state)
{
    (void)state;
    snprintf(path, sizeof path, "/tmp/sonde-recording-%d", getpid());
    unlink(path);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    unlink(path);
    return 0;
}

/* Item number n: everything in it follows from n. */
static void make(unsigned n, struct item *item, struct event *event, struct fact *fact, uint8_t *data)
{
    memset(item, 0, sizeof *item);
    memset(event, 0, sizeof *event);
    memset(fact, 0, sizeof *fact);
    item->kind = n % 10 == 3 ? ITEM_FACT : n % 10 == 5 ? ITEM_GAP : n % 10 == 7 ? ITEM_TICK : ITEM_EVENT;
    item->lane = n % 17;
    item->thread = n;
    item->tid = (int32_t)n + 7;
    item->process = n % 5 + 1;
    item->time_ns = 1000000 + n;
    item->late = n % 11 == 0;
    item->missing = n % 10 == 5 ? n : 0;
    item->loss = n % LOSS_COUNT;
    item->total.allocated = n * 100;
    if (item->kind == ITEM_EVENT) {
        event->type = EVENT_IN;
        event->connection = n;
        event->head = (uint16_t)(n % 300);
        item->event = event;
        item->data = data;
        item->data_len = n % 300;
        for (unsigned i = 0; i < item->data_len; i++)
            data[i] = (uint8_t)(n + i);
    } else if (item->kind == ITEM_FACT) {
        fact->kind = FACT_PROCESS;
        fact->pid = (int32_t)n;
        snprintf(fact->executable, sizeof fact->executable, "/bin/program-%u", n);
        item->fact = fact;
    }
}

/* Items first to last - 1; without `close` as after a kill: what stood in memory is gone. */
static void write_some(unsigned first, unsigned last, const char *run, bool whole)
{
    struct recording_writer *w;
    struct item item;
    struct event event;
    struct fact fact;
    uint8_t data[512];
    assert_int_equal(recording_create(path, run, 77, "{\"name\":\"x\"}", &w), 0);
    for (unsigned n = first; n < last; n++) {
        make(n, &item, &event, &fact, data);
        assert_int_equal(recording_write(w, &item), 0);
    }
    if (whole)
        assert_int_equal(recording_close(w), 0);
    else
        free(w); /* its descriptor is the test's loss */
}

static void write_items(unsigned count)
{
    write_some(0, count, "0123456789abcdef", true);
}

/* Reads until the end; how many items came, each compared with what was written. */
static unsigned read_items(int *end, char *fault, size_t fault_bytes)
{
    struct recording_reader *r;
    struct item got, want;
    struct event event;
    struct fact fact;
    uint8_t data[512];
    char why[256];
    unsigned n = 0;
    *fault = 0;
    *end = recording_open(path, &r, why, sizeof why);
    if (*end) {
        snprintf(fault, fault_bytes, "%s", why);
        return 0;
    }
    struct source source = recording_source(r);
    while ((*end = source.next(source.self, &got)) == 1) {
        make(n, &want, &event, &fact, data);
        assert_int_equal(got.kind, want.kind);
        assert_int_equal(got.lane, want.lane);
        assert_int_equal(got.thread, want.thread);
        assert_int_equal(got.tid, want.tid);
        assert_int_equal(got.time_ns, want.time_ns);
        assert_int_equal(got.late, want.late);
        assert_int_equal(got.missing, want.missing);
        assert_memory_equal(&got.total, &want.total, sizeof got.total);
        if (want.kind == ITEM_EVENT) {
            assert_memory_equal(got.event, &event, sizeof event);
            assert_int_equal(got.data_len, want.data_len);
            assert_memory_equal(got.data, data, want.data_len);
        } else if (want.kind == ITEM_FACT)
            assert_memory_equal(got.fact, &fact, sizeof fact);
        n++;
    }
    if (recording_fault(r))
        snprintf(fault, fault_bytes, "%s", recording_fault(r));
    recording_free(r);
    return n;
}

static void test_what_is_written_comes_back(void **state)
{
    (void)state;
    struct stat st;
    char fault[256];
    int end;
    write_items(ITEMS);
    assert_int_equal(read_items(&end, fault, sizeof fault), ITEMS);
    assert_int_equal(end, -ENODATA);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
}

static void test_a_file_cut_anywhere_gives_what_stands_before_the_cut(void **state)
{
    (void)state;
    struct stat st;
    char fault[256];
    int end;
    write_items(ITEMS);
    assert_int_equal(stat(path, &st), 0);
    unsigned last = ITEMS;
    for (off_t size = st.st_size - 1; size > 0; size = size * 9 / 10) {
        assert_int_equal(truncate(path, size), 0);
        unsigned n = read_items(&end, fault, sizeof fault);
        assert_true(n <= last);
        assert_true(end == -EBADMSG || end == -ENODATA);
        if (end == -EBADMSG)
            assert_non_null(strstr(fault, path));
        last = n;
    }
    assert_int_equal(last, 0);
}

static void test_flipped_bytes_are_found(void **state)
{
    (void)state;
    char fault[256];
    int end;
    struct stat st;
    write_items(ITEMS);
    assert_int_equal(stat(path, &st), 0);
    for (off_t at = 0; at < st.st_size; at += st.st_size / 61 + 1) {
        uint8_t byte;
        int fd = open(path, O_RDWR);
        assert_int_equal(pread(fd, &byte, 1, at), 1);
        byte ^= 0x55;
        assert_int_equal(pwrite(fd, &byte, 1, at), 1);
        unsigned n = read_items(&end, fault, sizeof fault);
        if (at >= (off_t)sizeof(struct recording_header)) {
            assert_int_equal(end, -EBADMSG);
            assert_true(n < ITEMS);
        }
        byte ^= 0x55;
        assert_int_equal(pwrite(fd, &byte, 1, at), 1);
        close(fd);
    }
}

static void test_other_files_are_neither_read_nor_overwritten(void **state)
{
    (void)state;
    struct recording_writer *w;
    char fault[256];
    int end;
    FILE *f = fopen(path, "w");
    fputs("dear diary, this is no recording\n", f);
    fclose(f);
    assert_int_equal(recording_create(path, "", 0, "{}", &w), -EEXIST);
    assert_int_equal(read_items(&end, fault, sizeof fault), 0);
    assert_int_equal(end, -EBADMSG);
    assert_non_null(strstr(fault, "no recording"));
    unlink(path);
    read_items(&end, fault, sizeof fault);
    assert_int_equal(end, -ENOENT);
}

static void test_a_full_disk_is_reported_and_stays_reported(void **state)
{
    (void)state;
    struct recording_writer *w;
    struct item item;
    struct event event;
    struct fact fact;
    uint8_t data[512];
    int rc = 0;
    assert_int_equal(recording_create("/dev/full", "", 0, "{}", &w), -EEXIST);
    assert_int_equal(recording_create(path, "", 0, "{}", &w), 0);
    int full = open("/dev/full", O_RDWR);
    /* the writer's descriptor is the one opened before ours */
    assert_true(dup2(full, full - 1) == full - 1);
    for (unsigned n = 0; n < 20000 && !rc; n++) {
        make(n, &item, &event, &fact, data);
        rc = recording_write(w, &item);
    }
    assert_int_equal(rc, -ENOSPC);
    assert_int_equal(recording_close(w), -ENOSPC);
    close(full);
}

static void test_a_writer_that_was_killed_leaves_whole_blocks(void **state)
{
    (void)state;
    char fault[256];
    int end;
    write_some(0, ITEMS, "run", false);
    unsigned n = read_items(&end, fault, sizeof fault);
    assert_true(n > ITEMS / 2 && n < ITEMS);
    assert_int_equal(end, -EBADMSG);
    assert_non_null(strstr(fault, "not complete"));
    /* its successor goes on behind them */
    write_some(n, ITEMS, "run", true);
    assert_int_equal(read_items(&end, fault, sizeof fault), ITEMS);
    assert_int_equal(end, -ENODATA);
    /* also when the last block was half written */
    struct stat st;
    write_some(0, ITEMS, "other", false);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(truncate(path, st.st_size - 1000), 0);
    n = read_items(&end, fault, sizeof fault);
    write_some(n, ITEMS, "other", true);
    assert_int_equal(read_items(&end, fault, sizeof fault), ITEMS);
    /* another run begins anew */
    write_some(0, 10, "third", true);
    assert_int_equal(read_items(&end, fault, sizeof fault), 10);
}

static void test_the_end_stays_the_end(void **state)
{
    (void)state;
    struct recording_reader *r;
    struct item item;
    char why[256];
    write_items(3);
    assert_int_equal(recording_open(path, &r, why, sizeof why), 0);
    struct source source = recording_source(r);
    for (int i = 0; i < 3; i++)
        assert_int_equal(source.next(source.self, &item), 1);
    for (int i = 0; i < 3; i++)
        assert_int_equal(source.next(source.self, &item), -ENODATA);
    recording_free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_what_is_written_comes_back, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_file_cut_anywhere_gives_what_stands_before_the_cut, setup, teardown),
        cmocka_unit_test_setup_teardown(test_flipped_bytes_are_found, setup, teardown),
        cmocka_unit_test_setup_teardown(test_other_files_are_neither_read_nor_overwritten, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_writer_that_was_killed_leaves_whole_blocks, setup, teardown),
        cmocka_unit_test_setup_teardown(test_the_end_stays_the_end, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_full_disk_is_reported_and_stays_reported, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
