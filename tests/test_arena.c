/* test_arena.c - making, opening and checking arenas; the free stacks under threads, processes and damage; the clock. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "wire/arena.h"
#include "wire/atomics.h"
#include "wire/clock.h"

static struct arena_view make(uint64_t bytes, int *fd)
{
    struct arena_view v;
    *fd = arena_create(bytes, "abc", &v);
    assert_true(*fd >= 0);
    return v;
}

static void drop(struct arena_view *v, int fd)
{
    arena_detach(v);
    close(fd);
}

static void test_create_lays_out_everything_inside(void **unused)
{
    (void)unused;
    int fd;
    struct arena_view v = make(ARENA_MIN_BYTES, &fd);
    assert_int_equal(v.bytes, ARENA_MIN_BYTES);
    assert_true(v.chunks > 400);
    assert_true((char *)(v.chunk + v.chunks) <= (char *)v.arena + v.bytes);
    assert_true((char *)(v.lane + v.lanes) <= (char *)v.chunk);
    assert_int_equal((uintptr_t)v.lane % 64, 0);
    assert_int_equal((uintptr_t)v.chunk % 64, 0);
    assert_true(v.arena->lane_chunks < v.chunks && v.arena->lane_chunks >= v.chunks / 2);
    assert_string_equal(v.arena->token, "abc");
    drop(&v, fd);
}

static void test_create_is_sealed_and_reserved(void **unused)
{
    (void)unused;
    int fd;
    struct arena_view v = make(ARENA_MIN_BYTES, &fd);
    assert_int_equal(ftruncate(fd, 4096), -1);
    assert_int_equal(errno, EPERM);
    assert_int_equal(ftruncate(fd, (off_t)ARENA_MIN_BYTES * 2), -1);
    assert_int_equal(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    drop(&v, fd);
}

static void test_create_heeds_the_limit_of_file_sizes(void **unused)
{
    (void)unused;
    struct rlimit old, small;
    struct arena_view v;
    getrlimit(RLIMIT_FSIZE, &old);
    small = old;
    small.rlim_cur = 1 << 20;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    assert_int_equal(arena_create(ARENA_MIN_BYTES, "x", &v), -EFBIG); /* and no SIGXFSZ */
    setrlimit(RLIMIT_FSIZE, &old);
}

static void test_format_refuses_small_memory(void **unused)
{
    (void)unused;
    static char page[4096];
    struct arena_view v;
    assert_int_equal(arena_format(page, sizeof page, "x", &v), -EINVAL);
    assert_int_equal(arena_attach(page, sizeof page, &v), -EINVAL);
}

static void test_open_sees_what_create_made(void **unused)
{
    (void)unused;
    int fd;
    struct arena_view v = make(ARENA_MIN_BYTES, &fd), again;
    v.arena->sample_bytes = 77;
    assert_int_equal(arena_open(fd, &again), 0);
    assert_int_equal(again.arena->sample_bytes, 77);
    assert_int_equal(again.chunks, v.chunks);
    arena_detach(&again);
    drop(&v, fd);
}

static void test_open_checks_header(void **unused)
{
    (void)unused;
    int fd;
    struct arena_view v = make(ARENA_MIN_BYTES, &fd), again;
    v.arena->chunks++;
    assert_int_equal(arena_open(fd, &again), -EINVAL);
    v.arena->chunks--;
    v.arena->arena_bytes *= 2;
    assert_int_equal(arena_open(fd, &again), -EINVAL);
    v.arena->arena_bytes /= 2;
    v.arena->lanes = 1u << 30;
    assert_int_equal(arena_open(fd, &again), -EINVAL);
    v.arena->lanes = ARENA_LANES;
    v.arena->magic ^= 1;
    assert_int_equal(arena_open(fd, &again), -EINVAL);
    drop(&v, fd);
    int null = open("/dev/null", O_RDWR);
    assert_true(arena_open(null, &again) < 0);
    close(null);
}

static void test_other_major_is_refused_and_counted(void **unused)
{
    (void)unused;
    int fd;
    struct arena_view v = make(ARENA_MIN_BYTES, &fd), again;
    v.arena->minor++;
    assert_int_equal(arena_open(fd, &again), 0);
    arena_detach(&again);
    v.arena->major++;
    assert_int_equal(arena_open(fd, &again), -EPROTONOSUPPORT);
    arena_refuse(fd);
    assert_int_equal(v.arena->s_refused, 1);
    drop(&v, fd);
}

static void test_create_touches_few_pages(void **unused)
{
    (void)unused;
    int fd;
    struct arena_view v = make(ARENA_DEFAULT_BYTES, &fd);
    /* the pages are reserved, but nobody wrote to them: this process's own count of them must stay small */
    FILE *f = fopen("/proc/self/smaps", "r");
    char line[256];
    unsigned long begin, end, rss = 0;
    bool ours = false;
    while (fgets(line, sizeof line, f)) {
        if (sscanf(line, "%lx-%lx ", &begin, &end) == 2)
            ours = begin <= (uintptr_t)v.arena && (uintptr_t)v.arena < end;
        else if (ours)
            sscanf(line, "Rss: %lu kB", &rss);
    }
    fclose(f);
    assert_true(rss <= 256);
    drop(&v, fd);
}

static void test_chunks_come_back_last_in_first_out(void **unused)
{
    (void)unused;
    int fd;
    struct arena_view v = make(ARENA_MIN_BYTES, &fd);
    int32_t a = arena_pop_chunk(&v), b = arena_pop_chunk(&v);
    assert_int_not_equal(a, b);
    assert_int_equal(v.arena->s_free_count, v.chunks - 2);
    arena_push_chunk(&v, (uint32_t)a);
    arena_push_chunk(&v, (uint32_t)b);
    assert_int_equal(arena_pop_chunk(&v), b);
    assert_int_equal(arena_pop_chunk(&v), a);
    drop(&v, fd);
}

static void test_pool_gives_each_once_then_says_empty(void **unused)
{
    (void)unused;
    int fd;
    struct arena_view v = make(ARENA_MIN_BYTES, &fd);
    char *seen = calloc(v.chunks, 1);
    for (uint32_t i = 0; i < v.chunks; i++) {
        int32_t c = arena_pop_chunk(&v);
        assert_true(c >= 0 && (uint32_t)c < v.chunks && !seen[c]);
        seen[c] = 1;
    }
    assert_int_equal(arena_pop_chunk(&v), -1);
    assert_int_equal(v.arena->s_free_count, 0);
    arena_push_chunk(&v, 3);
    assert_int_equal(arena_pop_chunk(&v), 3);
    assert_int_equal(arena_pop_chunk(&v), -1);
    for (uint32_t i = 0; i < v.lanes; i++)
        assert_true(arena_pop_lane(&v) >= 0);
    assert_int_equal(arena_pop_lane(&v), -1);
    for (uint32_t i = 0; i < v.processes; i++)
        assert_true(arena_pop_process(&v) >= 0);
    assert_int_equal(arena_pop_process(&v), -1);
    free(seen);
    drop(&v, fd);
}

static void test_damaged_stack_reads_as_empty(void **unused)
{
    (void)unused;
    int fd;
    struct arena_view v = make(ARENA_MIN_BYTES, &fd);
    while (arena_pop_chunk(&v) >= 0)
        ;
    v.arena->s_free_chunks = v.chunks + 1;
    assert_int_equal(arena_pop_chunk(&v), -1);
    v.arena->s_free_chunks = UINT64_MAX;
    assert_int_equal(arena_pop_chunk(&v), -1);
    v.arena->s_chunks_high = UINT32_MAX;
    v.arena->s_free_chunks = 0;
    assert_int_equal(arena_pop_chunk(&v), -1);
    arena_push_chunk(&v, v.chunks); /* out of bounds: ignored */
    assert_int_equal(arena_pop_chunk(&v), -1);
    drop(&v, fd);
}

/* --- stress: whoever holds a chunk writes its name into it; two holders would see each other ---------------------- */

#define STEPS 4000000
#define FEW 10 /* chunks that go round: the fewer, the sooner a stale head looks right */

static void juggle(const struct arena_view *v, uint32_t name)
{
    int32_t held[8];
    unsigned count = 0, random = name * 2654435761u;
    for (int i = 0; i < STEPS; i++) {
        random = random * 1103515245u + 12345u;
        if (count < 8 && random >> 16 & 1) {
            int32_t c = arena_pop_chunk(v);
            if (c < 0)
                continue;
            uint32_t *owner = &v->chunk[c].lane;
            if (__atomic_exchange_n(owner, name, __ATOMIC_ACQ_REL))
                fetch_add_relaxed(&v->arena->s_no_lane, 1);
            held[count++] = c;
        } else if (count) {
            int32_t c = held[--count];
            if (__atomic_exchange_n(&v->chunk[c].lane, 0, __ATOMIC_ACQ_REL) != name)
                fetch_add_relaxed(&v->arena->s_no_lane, 1);
            arena_push_chunk(v, (uint32_t)c);
        }
    }
    while (count) {
        int32_t c = held[--count];
        store_release(&v->chunk[c].lane, 0u);
        arena_push_chunk(v, (uint32_t)c);
    }
}

struct juggler {
    struct arena_view view;
    uint32_t name;
};

static void *juggle_thread(void *of)
{
    struct juggler *j = of;
    juggle(&j->view, j->name);
    return NULL;
}

static void leave_few(const struct arena_view *v)
{
    for (uint32_t i = FEW; i < v->chunks; i++)
        assert_true(arena_pop_chunk(v) >= 0);
    assert_int_equal(v->arena->s_free_count, FEW);
}

static void expect_few_free(const struct arena_view *v)
{
    assert_int_equal(v->arena->s_no_lane, 0);
    assert_int_equal(v->arena->s_free_count, FEW);
    uint32_t n = 0;
    while (arena_pop_chunk(v) >= 0)
        n++;
    assert_int_equal(n, FEW);
}

static void test_stack_under_threads(void **unused)
{
    (void)unused;
    int fd;
    struct arena_view v = make(ARENA_MIN_BYTES, &fd);
    leave_few(&v);
    struct juggler j[4];
    pthread_t t[4];
    for (unsigned i = 0; i < 4; i++) {
        j[i] = (struct juggler){v, i + 1};
        assert_int_equal(pthread_create(&t[i], NULL, juggle_thread, &j[i]), 0);
    }
    for (unsigned i = 0; i < 4; i++)
        pthread_join(t[i], NULL);
    expect_few_free(&v);
    drop(&v, fd);
}

static void test_stack_under_processes(void **unused)
{
    (void)unused;
    int fd;
    struct arena_view v = make(ARENA_MIN_BYTES, &fd);
    leave_few(&v);
    pid_t child[3];
    for (uint32_t i = 0; i < 3; i++) {
        child[i] = fork();
        if (!child[i]) {
            juggle(&v, i + 1);
            _exit(0);
        }
    }
    juggle(&v, 9);
    for (unsigned i = 0; i < 3; i++) {
        int status = -1;
        assert_int_equal(waitpid(child[i], &status, 0), child[i]);
        assert_int_equal(status, 0);
    }
    expect_few_free(&v);
    drop(&v, fd);
}

/* --- plans, clock ------------------------------------------------------------------------------------------------ */

static void test_plan_belongs_to_its_connection(void **unused)
{
    (void)unused;
    int fd;
    struct arena_view v = make(ARENA_MIN_BYTES, &fd);
    uint64_t id = UINT64_C(7) << 32 | 12;
    assert_int_equal(arena_plan_get(&v, id), PLAN_DEFAULT);
    arena_plan_set(&v, id, PLAN_FULL);
    assert_int_equal(arena_plan_get(&v, id), PLAN_FULL);
    unsigned mistaken = 0;
    for (uint64_t other = 1; other < 2000000; other++)
        mistaken += other != id && arena_plan_get(&v, other) == PLAN_FULL;
    assert_int_equal(mistaken, 0);
    arena_plan_set(&v, id, PLAN_DEFAULT);
    assert_int_equal(arena_plan_get(&v, id), PLAN_DEFAULT);
    drop(&v, fd);
}

static void test_clock_rate_is_the_machines(void **unused)
{
    (void)unused;
    int fd;
    struct arena_view v = make(ARENA_MIN_BYTES, &fd);
    clock_calibrate(v.arena);
    assert_true(v.arena->clock == CLOCK_KIND_TSC || v.arena->clock == CLOCK_KIND_MONOTONIC);
    uint64_t refined = clock_refine(v.arena), rate = v.arena->ticks_per_second;
    uint64_t difference = refined > rate ? refined - rate : rate - refined;
    assert_true(difference < rate / 1000); /* of one machine's clock, measured twice */
    struct clock_scale s;
    clock_scale_init(&s, v.arena);
    assert_int_equal(clock_to_realtime(&s, v.arena->anchor_ticks), v.arena->anchor_realtime_ns);
    uint64_t second = clock_to_realtime(&s, v.arena->anchor_ticks + rate) - v.arena->anchor_realtime_ns;
    assert_true(second > 999999990 && second <= 1000000000);
    uint64_t before = v.arena->anchor_realtime_ns - clock_to_realtime(&s, v.arena->anchor_ticks - rate);
    assert_int_equal(before, second);
    drop(&v, fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_create_lays_out_everything_inside),
        cmocka_unit_test(test_create_is_sealed_and_reserved),
        cmocka_unit_test(test_create_heeds_the_limit_of_file_sizes),
        cmocka_unit_test(test_format_refuses_small_memory),
        cmocka_unit_test(test_open_sees_what_create_made),
        cmocka_unit_test(test_open_checks_header),
        cmocka_unit_test(test_other_major_is_refused_and_counted),
        cmocka_unit_test(test_create_touches_few_pages),
        cmocka_unit_test(test_chunks_come_back_last_in_first_out),
        cmocka_unit_test(test_pool_gives_each_once_then_says_empty),
        cmocka_unit_test(test_damaged_stack_reads_as_empty),
        cmocka_unit_test(test_stack_under_threads),
        cmocka_unit_test(test_stack_under_processes),
        cmocka_unit_test(test_plan_belongs_to_its_connection),
        cmocka_unit_test(test_clock_rate_is_the_machines),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
