/*
 * test_usage.c - the heap totals in the lanes against the books that the live programs keep
 * themselves.
 *
 * Each case makes an arena, runs a program under libsonde.so and reads the lanes after its death:
 * no collector between.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "wire/arena.h"
#include "wire/clock.h"

#define TOKEN "00112233445566778899aabbccddee"
#define ROWS_MAX 256

struct totals {
    uint64_t allocated, freed, allocations;
};

struct run {
    struct arena_view view;
    int fd, status;
    pid_t pid;
    unsigned rows; /* "id allocated freed allocations" lines that the program printed */
    struct {
        int id;
        struct totals own;
    } row[ROWS_MAX];
    char last_line[64];
    uint32_t features; /* enum arena_feature; 0: heap and data */
    bool starve;       /* no lane is left until the program says that it waits */
    int to;            /* its stdin */
};

static const char *build(void)
{
    const char *b = getenv("BUILD");
    return b ? b : "build";
}

static void child(const struct run *r, const char *after, char *const argv[], int in, int out)
{
    char library[512], arena[128], program[512];
    snprintf(library, sizeof library, "%s/libsonde.so%s%s", build(), *after ? ":" : "", after);
    snprintf(arena, sizeof arena, "%d:%d:%s", (int)getppid(), r->fd, TOKEN);
    snprintf(program, sizeof program, "%s/tests/%s", build(), argv[0]);
    setenv("LD_PRELOAD", library, 1);
    setenv(SONDE_ENV_ARENA, arena, 1);
    dup2(in, STDIN_FILENO);
    dup2(out, STDOUT_FILENO);
    alarm(120);
    execv(program, argv);
    _exit(127);
}

static void take_lanes_away(struct run *r)
{
    while (arena_pop_lane(&r->view) >= 0)
        ;
}

static void give_lanes(struct run *r)
{
    for (uint32_t i = 0; i < 8; i++)
        arena_push_lane(&r->view, i);
    assert_int_equal(write(r->to, "x", 1), 1);
}

static void read_rows(struct run *r, FILE *from)
{
    char line[256];
    while (fgets(line, sizeof line, from)) {
        unsigned long long a, f, n;
        int id;
        line[strcspn(line, "\n")] = 0;
        if (r->rows < ROWS_MAX && sscanf(line, "%d %llu %llu %llu", &id, &a, &f, &n) == 4) {
            r->row[r->rows].id = id;
            r->row[r->rows++].own = (struct totals){a, f, n};
        } else if (r->starve && !strcmp(line, "waiting")) {
            give_lanes(r);
        } else {
            snprintf(r->last_line, sizeof r->last_line, "%.60s", line);
        }
    }
}

/*
 * `after`: what stands behind our library in LD_PRELOAD. r->starve and r->features are the
 * caller's.
 */
static void run(struct run *r, const char *after, char *const argv[])
{
    int ends[2], in[2];
    bool starve = r->starve;
    uint32_t features = r->features ? r->features : (uint32_t)(FEATURE_HEAP | FEATURE_DATA);
    memset(r, 0, sizeof *r);
    r->starve = starve;
    r->fd = arena_create(ARENA_MIN_BYTES, TOKEN, &r->view);
    assert_true(r->fd >= 0);
    clock_calibrate(r->view.arena);
    r->view.arena->features = features;
    if (starve)
        take_lanes_away(r);
    assert_int_equal(pipe(ends) | pipe(in), 0);
    r->to = in[1];
    r->pid = fork();
    assert_true(r->pid >= 0);
    if (!r->pid)
        child(r, after, argv, in[0], ends[1]);
    close(ends[1]);
    close(in[0]);
    FILE *from = fdopen(ends[0], "r");
    read_rows(r, from);
    fclose(from);
    close(in[1]);
    assert_int_equal(waitpid(r->pid, &r->status, 0), r->pid);
    assert_int_equal(r->status, 0);
    assert_string_equal(r->last_line, "ok");
}

static void done(struct run *r)
{
    arena_detach(&r->view);
    close(r->fd);
}

static const struct process_slot *process_of(const struct run *r, int pid)
{
    for (uint32_t i = 0; i < r->view.arena->s_processes_high; i++)
        if (r->view.process[i].pid == pid)
            return &r->view.process[i];
    fail_msg("no process %d", pid);
    return NULL;
}

static const struct lane *lane_of(const struct run *r, int tid)
{
    for (uint32_t i = 0; i < r->view.arena->s_lanes_high; i++)
        if (r->view.lane[i].tid == tid)
            return &r->view.lane[i];
    fail_msg("no lane of thread %d", tid);
    return NULL;
}

static struct totals totals_of(const struct run *r, const struct process_slot *p)
{
    struct totals t = {p->s_allocated, p->s_freed, p->s_allocations};
    for (uint32_t i = 0; i < r->view.arena->s_lanes_high; i++) {
        const struct lane *l = &r->view.lane[i];
        if (l->process_serial != p->serial)
            continue;
        t.allocated += l->allocated;
        t.freed += l->freed;
        t.allocations += l->allocations;
    }
    return t;
}

static void assert_totals(struct totals seen, struct totals own)
{
    assert_int_equal(seen.allocations, own.allocations);
    assert_int_equal(seen.allocated, own.allocated);
    assert_int_equal(seen.freed, own.freed);
}

/*
 * An allocator that cannot tell sizes is not asked for them: libc's malloc_usable_size would take
 * its blocks for libc's.
 */
static void test_without_sizes_only_allocations_count(void **state)
{
    (void)state;
    char *argv[] = {"live_process_vfork", NULL};
    char after[512];
    struct run *r = calloc(1, sizeof *r);
    snprintf(after, sizeof after, "%s/tests/partial_malloc.so", build());
    run(r, after, argv);
    const struct process_slot *p = process_of(r, r->pid);
    struct totals t = totals_of(r, p);
    assert_int_equal(p->flags, PROCESS_NO_SIZES);
    assert_true(t.allocations > 0); /* popen's, at least */
    assert_int_equal(t.allocated | t.freed, 0);
    done(r);
    free(r);
}

static void test_own_malloc_of_the_program_is_left_alone(void **state)
{
    (void)state;
    char *argv[] = {"live_heap_own", NULL};
    struct run *r = calloc(1, sizeof *r);
    run(r, "", argv);
    const struct process_slot *p = process_of(r, r->pid);
    struct totals t = totals_of(r, p);
    assert_int_equal(p->flags, PROCESS_OWN_MALLOC);
    assert_int_equal(t.allocated | t.freed | t.allocations, 0);
    done(r);
    free(r);
}

static void test_memory_heap_off_counts_nothing(void **state)
{
    (void)state;
    char *argv[] = {"live_heap_churn", "-v", "20", NULL};
    struct run *r = calloc(1, sizeof *r);
    r->features = FEATURE_DATA;
    run(r, "", argv);
    struct totals t = totals_of(r, process_of(r, r->pid));
    assert_int_equal(t.allocated | t.freed | t.allocations, 0);
    done(r);
    free(r);
}

static struct totals difference(struct totals a, struct totals b)
{
    return (struct totals){a.allocated - b.allocated, a.freed - b.freed,
                           a.allocations - b.allocations};
}

static void threads_are_exact(const char *after)
{
    char *argv[] = {"live_heap_threads", "-v", "6", "20000", NULL};
    struct run *r = calloc(1, sizeof *r);
    run(r, after, argv);
    assert_int_equal(r->rows, 7);
    for (unsigned i = 0; i < r->rows; i++) {
        const struct lane *l = lane_of(r, r->row[i].id);
        assert_totals((struct totals){l->allocated, l->freed, l->allocations}, r->row[i].own);
    }
    done(r);
    free(r);
}

static void test_lanes_of_threads_hold_what_they_did(void **state)
{
    (void)state;
    threads_are_exact("");
}

static void test_lanes_of_threads_hold_what_they_did_on_jemalloc(void **state)
{
    (void)state;
    threads_are_exact("libjemalloc.so.2");
}

static void test_lanes_of_threads_hold_what_they_did_on_tcmalloc(void **state)
{
    (void)state;
    threads_are_exact("libtcmalloc_minimal.so.4");
}

static void test_lanes_of_threads_hold_what_they_did_on_mimalloc(void **state)
{
    (void)state;
    threads_are_exact("libmimalloc.so.2.0");
}

static void children_begin_at_zero(const char *after, char *raw)
{
    char *argv[] = {"live_heap_fork", "-v", "30", raw, NULL};
    struct run *r = calloc(1, sizeof *r);
    run(r, after, argv);
    assert_int_equal(r->rows, 30);
    for (unsigned i = 0; i < r->rows; i++) {
        const struct process_slot *p = process_of(r, r->row[i].id);
        assert_true(p->flags & PROCESS_FORKED);
        assert_totals(totals_of(r, p), r->row[i].own);
    }
    done(r);
    free(r);
}

static void test_forked_children_begin_at_zero(void **state)
{
    (void)state;
    children_begin_at_zero("", NULL);
}

static void test_forked_children_begin_at_zero_on_jemalloc(void **state)
{
    (void)state;
    children_begin_at_zero("libjemalloc.so.2", NULL);
}

/* Not even fork is ours: the child's first call may be any. */
static void test_raw_forked_children_begin_at_zero(void **state)
{
    (void)state;
    children_begin_at_zero("", "raw");
    children_begin_at_zero("libjemalloc.so.2", "raw");
    children_begin_at_zero("libtcmalloc_minimal.so.4", "raw");
}

static void one_thread_is_exact(char *program, const char *after)
{
    char *argv[] = {program, "-v", NULL};
    struct run *r = calloc(1, sizeof *r);
    run(r, after, argv);
    assert_int_equal(r->rows, 1);
    const struct lane *l = lane_of(r, r->row[0].id);
    assert_totals((struct totals){l->allocated, l->freed, l->allocations}, r->row[0].own);
    done(r);
    free(r);
}

static void test_signal_handlers_allocate(void **state)
{
    (void)state;
    one_thread_is_exact("live_heap_signal", "");
}

static void test_operators_of_libstdcxx_count_once(void **state)
{
    (void)state;
    one_thread_is_exact("live_heap_operators", "");
}

static void test_operators_of_jemalloc_count_once(void **state)
{
    (void)state;
    one_thread_is_exact("live_heap_operators", "libjemalloc.so.2");
}

static void test_operators_of_tcmalloc_count_once(void **state)
{
    (void)state;
    one_thread_is_exact("live_heap_operators", "libtcmalloc_minimal.so.4");
}

static void test_operators_of_mimalloc_count_once(void **state)
{
    (void)state;
    one_thread_is_exact("live_heap_operators", "libmimalloc.so.2.0");
}

/* All but the main thread, and what threads without a lane left with the process. */
static struct totals workers_of(const struct run *r)
{
    struct totals all = totals_of(r, process_of(r, r->pid));
    const struct lane *l = lane_of(r, r->pid);
    return (struct totals){all.allocated - l->allocated, all.freed - l->freed,
                           all.allocations - l->allocations};
}

/* What was counted before the process was attached is the same in both runs. */
static void churn_is_exact(const char *after, char *many, uint32_t lanes)
{
    char *few_argv[] = {"live_heap_churn", "-v", "20", NULL},
         *many_argv[] = {"live_heap_churn", "-v", many, NULL};
    struct run *few = calloc(1, sizeof *few), *lot = calloc(1, sizeof *lot);
    run(few, after, few_argv);
    run(lot, after, many_argv);
    assert_int_equal(lot->view.arena->s_lanes_high, lanes);
    assert_totals(difference(workers_of(lot), workers_of(few)),
                  difference(lot->row[0].own, few->row[0].own));
    done(few);
    done(lot);
    free(few);
    free(lot);
}

static void test_5000_threads_are_exact(void **state)
{
    (void)state;
    churn_is_exact("", "5000", 5001);
}

static void test_threads_beyond_the_last_lane_count_for_their_process(void **state)
{
    (void)state;
    churn_is_exact("", "9000", ARENA_LANES);
}

static void test_threads_beyond_the_last_lane_count_for_their_process_on_jemalloc(void **state)
{
    (void)state;
    churn_is_exact("libjemalloc.so.2", "9000", ARENA_LANES);
}

/* What main itself does is the same in both runs. */
static void late_lane_is_exact(const char *after)
{
    char *few_argv[] = {"live_heap_late_lane", "-v", "0", NULL},
         *many_argv[] = {"live_heap_late_lane", "-v", "1000", NULL};
    struct run *few = calloc(1, sizeof *few), *lot = calloc(1, sizeof *lot);
    few->starve = lot->starve = true;
    run(few, after, few_argv);
    run(lot, after, many_argv);
    const struct process_slot *p = process_of(lot, lot->pid);
    assert_true(p->s_allocations > 2000 &&
                p->s_allocations < 4000); /* the first half; the second is a lane's */
    assert_totals(difference(totals_of(lot, p), totals_of(few, process_of(few, few->pid))),
                  difference(lot->row[0].own, few->row[0].own));
    done(few);
    done(lot);
    free(few);
    free(lot);
}

static void test_a_lane_that_comes_late_counts_what_comes_then(void **state)
{
    (void)state;
    late_lane_is_exact("");
    late_lane_is_exact("libjemalloc.so.2");
    late_lane_is_exact("libtcmalloc_minimal.so.4");
}

int main(void)
{
    if (getenv("SANITIZED")) { /* by the Makefile: those programs run under the recorder, not in here */
        puts("not under a sanitizer: it runs other programs under the recorder, which no sanitizer can be linked into");
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lanes_of_threads_hold_what_they_did),
        cmocka_unit_test(test_lanes_of_threads_hold_what_they_did_on_jemalloc),
        cmocka_unit_test(test_lanes_of_threads_hold_what_they_did_on_tcmalloc),
        cmocka_unit_test(test_lanes_of_threads_hold_what_they_did_on_mimalloc),
        cmocka_unit_test(test_forked_children_begin_at_zero),
        cmocka_unit_test(test_forked_children_begin_at_zero_on_jemalloc),
        cmocka_unit_test(test_raw_forked_children_begin_at_zero),
        cmocka_unit_test(test_a_lane_that_comes_late_counts_what_comes_then),
        cmocka_unit_test(test_without_sizes_only_allocations_count),
        cmocka_unit_test(test_own_malloc_of_the_program_is_left_alone),
        cmocka_unit_test(test_memory_heap_off_counts_nothing),
        cmocka_unit_test(test_signal_handlers_allocate),
        cmocka_unit_test(test_operators_of_libstdcxx_count_once),
        cmocka_unit_test(test_operators_of_jemalloc_count_once),
        cmocka_unit_test(test_operators_of_tcmalloc_count_once),
        cmocka_unit_test(test_operators_of_mimalloc_count_once),
        cmocka_unit_test(test_5000_threads_are_exact),
        cmocka_unit_test(test_threads_beyond_the_last_lane_count_for_their_process),
        cmocka_unit_test(test_threads_beyond_the_last_lane_count_for_their_process_on_jemalloc),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
