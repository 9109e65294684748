/*
 * test_watch.c - real processes with lanes: who they are, what they used, how they end; nothing is
 * guessed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "collector/sockets.h"
#include "collector/timeline.h"
#include "collector/watch.h"
#include "tests/lanes.h"
#include "wire/clock.h"

#define KEPT 20000
#define TOKEN "0123456789abcdef0123456789abcde"

struct kept {
    struct item item;
    struct event event;
    struct fact fact;
};

struct run {
    struct arena_view v;
    int fd;
    struct watch *w;
    char directory[64];
    struct kept *kept;
    size_t count;
    uint32_t said;
    bool closing;
};

static void say(void *to, const char *line)
{
    struct run *r = to;
    r->said++;
    printf("# said: %s\n", line);
}

static struct instant instant_now(void)
{
    return (struct instant){clock_tsc(), clock_monotonic_ns()};
}

static void open_watch(struct run *r)
{
    struct instant now = instant_now();
    r->w = watch_new(20000000, say, r);
    assert_non_null(r->w);
    watch_place(r->w, r->directory);
    assert_int_equal(watch_open(r->w, r->fd, &now), 0);
}

static void open_run(struct run *r)
{
    memset(r, 0, sizeof *r);
    r->fd = arena_create(ARENA_MIN_BYTES, TOKEN, &r->v);
    assert_true(r->fd >= 0);
    clock_calibrate(r->v.arena);
    r->kept = malloc(KEPT * sizeof *r->kept);
    strcpy(r->directory, "/tmp/sonde-watch-XXXXXX");
    assert_non_null(mkdtemp(r->directory));
    open_watch(r);
}

static void close_run(struct run *r)
{
    watch_free(r->w);
    arena_detach(&r->v);
    close(r->fd);
    rmdir(r->directory);
    free(r->kept);
}

static void one_round(struct run *r, int ms)
{
    struct instant now = instant_now();
    watch_turn(r->w, &now, r->closing);
    order_round(watch_order(r->w), &now);
    struct source s = order_source(watch_order(r->w));
    struct item item;
    while (s.next(s.self, &item) == 1) {
        if (item.kind == ITEM_TICK || (item.kind == ITEM_FACT && item.fact->kind == FACT_STREAM))
            continue;
        if (r->count == KEPT)
            continue;
        struct kept *k = &r->kept[r->count++];
        k->item = item;
        if (item.event)
            k->event = *item.event;
        if (item.fact)
            k->fact = *item.fact;
    }
    watch_wait(r->w, -1, ms);
}

static const struct kept *fact_of(const struct run *r, enum fact_kind kind, uint32_t process)
{
    for (size_t i = r->count; i--;)
        if (r->kept[i].item.kind == ITEM_FACT && r->kept[i].fact.kind == kind &&
            (!process || r->kept[i].item.process == process))
            return &r->kept[i];
    return NULL;
}

static size_t count_of(const struct run *r, enum fact_kind kind)
{
    size_t n = 0;
    for (size_t i = 0; i < r->count; i++)
        n += r->kept[i].item.kind == ITEM_FACT && r->kept[i].fact.kind == kind;
    return n;
}

static size_t events_of(const struct run *r)
{
    size_t n = 0;
    for (size_t i = 0; i < r->count; i++)
        n += r->kept[i].item.kind == ITEM_EVENT;
    return n;
}

/* Rounds until so many facts of the kind have come; fails after ten seconds. */
static void await(struct run *r, enum fact_kind kind, size_t n)
{
    for (int i = 0; i < 2000 && count_of(r, kind) < n; i++)
        one_round(r, 5);
    assert_true(count_of(r, kind) >= n);
}

static void await_events(struct run *r, size_t n)
{
    for (int i = 0; i < 2000 && events_of(r) < n; i++)
        one_round(r, 5);
    assert_true(events_of(r) >= n);
}

/* --- children --- */

static uint64_t boot_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_BOOTTIME, &t);
    return (uint64_t)t.tv_sec * UINT64_C(1000000000) + (uint64_t)t.tv_nsec;
}

static struct process_slot *own_slot(const struct arena_view *v)
{
    struct process_slot *p = lanes_process(v, getpid());
    p->parent = getppid();
    p->uid = getuid();
    p->start = clock_now(v->arena->clock);
    p->start_boot = boot_ns();
    ssize_t n = readlink("/proc/self/exe", p->executable, sizeof p->executable - 1);
    p->executable[n > 0 ? n : 0] = 0;
    return p;
}

static void make_events(struct writer *w, int count)
{
    for (int i = 0; i < count; i++) {
        w->l->allocated += 100;
        w->l->freed += 40;
        w->l->allocations++;
        struct event e = {
            .type = EVENT_OUT, .descriptor = 4, .time = clock_now(w->v->arena->clock), .result = i};
        lanes_event(w, &e, NULL);
    }
}

/* A watched child that makes `count` events, then ends as told: 0 exits, else by that signal. */
static pid_t spawn(const struct arena_view *v, int count, int how)
{
    pid_t pid = fork();
    if (pid)
        return pid;
    struct writer w;
    struct process_slot *p = own_slot(v);
    lanes_claim(&w, v, p, getpid());
    make_events(&w, count);
    if (how)
        raise(how);
    _exit(0);
}

static void stay(void)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (;;)
        pause();
}

static pid_t spawn_staying(const struct arena_view *v, int count)
{
    pid_t pid = fork();
    if (pid)
        return pid;
    struct writer w;
    struct process_slot *p = own_slot(v);
    lanes_claim(&w, v, p, getpid());
    make_events(&w, count);
    stay();
    return 0;
}

/* --- processes --- */

static void test_a_process_is_told_from_begin_to_end(void **state)
{
    (void)state;
    struct run r;
    open_run(&r);
    pid_t pid = spawn_staying(&r.v, 10);
    await(&r, FACT_PROCESS, 1);
    const struct kept *k = fact_of(&r, FACT_PROCESS, 0);
    assert_int_equal(k->item.process, 1);
    assert_int_equal(k->fact.pid, pid);
    assert_int_equal(k->fact.parent, getpid());
    assert_int_equal(k->fact.executable[0], '/');
    await_events(&r, 10);
    await(&r, FACT_PROCESS_TOTAL, 1);
    assert_int_equal(fact_of(&r, FACT_PROCESS_TOTAL, 0)->fact.total.allocated, 1000);
    assert_int_equal(watch_live(r.w), 1);
    kill(pid, SIGKILL);
    await(&r, FACT_PROCESS_END, 1);
    waitpid(pid, NULL, 0);
    k = fact_of(&r, FACT_PROCESS_END, 0);
    assert_int_equal(k->fact.total.allocated, 1000);
    assert_int_equal(k->fact.total.freed, 400);
    assert_int_equal(k->fact.total.allocations, 10);
    assert_int_equal(k->fact.exit_code, -1);
    assert_false(k->fact.replaced);
    assert_true(k->fact.cpu_ns > 0);
    assert_int_equal(count_of(&r, FACT_THREAD_END), 1);
    assert_int_equal(watch_live(r.w), 0);
    assert_int_equal(r.v.process[0].state, PROCESS_FREE);
    /* the order of what left: process, events, the thread's end, its own */
    size_t begin = 0, last_event = 0, thread_end = 0, end = 0;
    for (size_t i = 0; i < r.count; i++) {
        if (r.kept[i].item.kind == ITEM_EVENT)
            last_event = i;
        else if (r.kept[i].fact.kind == FACT_PROCESS)
            begin = i;
        else if (r.kept[i].fact.kind == FACT_THREAD_END)
            thread_end = i;
        else if (r.kept[i].fact.kind == FACT_PROCESS_END)
            end = i;
    }
    assert_int_equal(begin, 0);
    assert_true(last_event < thread_end && thread_end < end);
    close_run(&r);
}

static void test_a_process_that_was_over_before_we_looked(void **state)
{
    (void)state;
    struct run r;
    open_run(&r);
    pid_t pid = spawn(&r.v, 7, 0);
    waitpid(pid, NULL, 0);
    r.closing = true; /* CMD has ended: no waiting for the next second */
    await(&r, FACT_PROCESS_END, 1);
    assert_int_equal(events_of(&r), 7);
    assert_int_equal(fact_of(&r, FACT_PROCESS_END, 0)->fact.total.allocated, 700);
    close_run(&r);
}

static void test_children_churn_and_sums_are_exact(void **state)
{
    (void)state;
    struct run r;
    open_run(&r);
    uint64_t allocated = 0, events = 0;
    for (int i = 0; i < 150; i++) {
        pid_t pid = spawn(&r.v, i % 9, i % 3 ? 0 : SIGKILL);
        events += (uint64_t)(i % 9);
        waitpid(pid, NULL, 0);
        if (i % 8 == 0)
            one_round(&r, 0);
    }
    r.closing = true;
    await(&r, FACT_PROCESS_END, 150);
    bool seen[151] = {false};
    for (size_t i = 0; i < r.count; i++)
        if (r.kept[i].item.kind == ITEM_FACT && r.kept[i].fact.kind == FACT_PROCESS_END) {
            allocated += r.kept[i].fact.total.allocated;
            uint32_t number = r.kept[i].item.process;
            assert_in_range(number, 1, 150);
            assert_false(seen[number]);
            seen[number] = true;
        }
    assert_int_equal(allocated, events * 100);
    assert_int_equal(events_of(&r), events);
    struct order_counts c;
    order_counts(watch_order(r.w), &c);
    assert_int_equal(c.written, events);
    assert_int_equal(c.drained, events);
    close_run(&r);
}

static void test_a_second_image_in_one_process_replaces_the_first(void **state)
{
    (void)state;
    struct run r;
    int pipes[2];
    open_run(&r);
    assert_int_equal(pipe(pipes), 0);
    pid_t pid = fork();
    if (!pid) {
        struct writer w;
        char c;
        lanes_claim(&w, &r.v, own_slot(&r.v), getpid());
        make_events(&w, 3);
        if (read(pipes[0], &c, 1) != 1)
            _exit(1);
        lanes_claim(&w, &r.v, own_slot(&r.v), getpid()); /* what the new image does */
        make_events(&w, 4);
        stay();
    }
    await_events(&r, 3);
    assert_int_equal(write(pipes[1], "x", 1), 1);
    await(&r, FACT_PROCESS_END, 1);
    const struct kept *k = fact_of(&r, FACT_PROCESS_END, 1);
    assert_true(k->fact.replaced);
    assert_int_equal(k->fact.total.allocated, 300);
    await_events(&r, 7);
    assert_int_equal(watch_live(r.w), 1);
    kill(pid, SIGTERM);
    await(&r, FACT_PROCESS_END, 2);
    waitpid(pid, NULL, 0);
    k = fact_of(&r, FACT_PROCESS_END, 2);
    assert_false(k->fact.replaced);
    assert_int_equal(k->fact.total.allocated, 400);
    close(pipes[0]);
    close(pipes[1]);
    close_run(&r);
}

static bool both_stand(const struct arena_view *v)
{
    return __atomic_load_n(&v->process[0].state, __ATOMIC_ACQUIRE) == PROCESS_LIVE &&
           __atomic_load_n(&v->process[1].state, __ATOMIC_ACQUIRE) == PROCESS_LIVE;
}

/* Two processes that stay; the one in the first slot says that the one in the second is its parent. */
static void open_child_before_parent(struct run *r, pid_t pid[2])
{
    open_run(r);
    for (int i = 0; i < 2; i++)
        pid[i] = spawn_staying(&r->v, 1);
    for (int i = 0; i < 2000 && !both_stand(&r->v); i++)
        usleep(1000);
    r->v.process[0].parent_serial = r->v.process[1].serial;
    r->v.arena->s_processes_high = 2;
}

static void close_both(struct run *r, const pid_t pid[2])
{
    for (int i = 0; i < 2; i++) {
        kill(pid[i], SIGKILL);
        waitpid(pid[i], NULL, 0);
    }
    close_run(r);
}

static void test_a_child_in_an_earlier_slot_is_told_after_its_parent(void **state)
{
    (void)state;
    struct run r;
    pid_t pid[2];
    open_child_before_parent(&r, pid);
    await(&r, FACT_PROCESS, 2);
    const struct kept *parent = fact_of(&r, FACT_PROCESS, 1), *child = fact_of(&r, FACT_PROCESS, 2);
    assert_int_equal(parent->fact.pid, r.v.process[1].pid);
    assert_int_equal(child->fact.pid, r.v.process[0].pid);
    assert_int_equal(child->fact.parent_process, 1);
    close_both(&r, pid);
}

static void test_each_is_told_once_in_pages_where_parents_make_a_ring(void **state)
{
    (void)state;
    struct run r;
    pid_t pid[2];
    open_child_before_parent(&r, pid);
    r.v.process[1].parent_serial = r.v.process[0].serial;
    await(&r, FACT_PROCESS, 2);
    assert_int_equal(count_of(&r, FACT_PROCESS), 2);
    close_both(&r, pid);
}

static void test_status_comes_from_the_parents_wait(void **state)
{
    (void)state;
    struct run r;
    open_run(&r);
    pid_t parent = fork();
    if (!parent) {
        struct writer w;
        lanes_claim(&w, &r.v, own_slot(&r.v), getpid());
        for (int i = 0; i < 2; i++) {
            pid_t child = fork();
            if (!child) {
                own_slot(&r.v);
                usleep(50000);
                if (i)
                    raise(SIGKILL);
                _exit(42);
            }
            int status;
            waitpid(child, &status, 0);
            struct event_argument a = {child};
            struct event e = {.type = EVENT_REAPED,
                              .descriptor = -1,
                              .time = clock_now(r.v.arena->clock),
                              .result = status,
                              .head = sizeof a};
            lanes_event(&w, &e, &a);
        }
        stay();
    }
    await(&r, FACT_REAPED, 2);
    uint32_t exited = 0, killed = 0;
    for (size_t i = 0; i < r.count; i++)
        if (r.kept[i].item.kind == ITEM_FACT && r.kept[i].fact.kind == FACT_REAPED) {
            if (r.kept[i].fact.exit_code == 42 && r.kept[i].fact.signal == -1)
                exited = r.kept[i].item.process;
            if (r.kept[i].fact.signal == SIGKILL && r.kept[i].fact.exit_code == -1)
                killed = r.kept[i].item.process;
        }
    assert_true(exited && killed && exited != killed);
    await(&r, FACT_PROCESS_END, 2);
    assert_non_null(fact_of(&r, FACT_PROCESS_END, exited));
    assert_non_null(fact_of(&r, FACT_PROCESS_END, killed));
    kill(parent, SIGKILL);
    await(&r, FACT_PROCESS_END, 3);
    waitpid(parent, NULL, 0);
    watch_command_end(r.w, parent, -1, SIGKILL, 0);
    await(&r, FACT_COMMAND_END, 1);
    assert_int_equal(fact_of(&r, FACT_COMMAND_END, 0)->item.process, 1);
    assert_int_equal(fact_of(&r, FACT_REAPED, 1)->fact.signal, SIGKILL);
    close_run(&r);
}

static void test_a_process_of_another_namespace_is_found(void **state)
{
    (void)state;
    struct run r;
    open_run(&r);
    int pipes[2];
    assert_int_equal(pipe(pipes), 0);
    pid_t outer = fork();
    if (!outer) {
        if (unshare(CLONE_NEWPID))
            _exit(77);
        pid_t inner = fork();
        if (!inner) {
            struct writer w;
            lanes_claim(&w, &r.v, own_slot(&r.v), getpid());
            make_events(&w, 5);
            if (write(pipes[1], "x", 1) != 1)
                _exit(1);
            stay();
        }
        waitpid(inner, NULL, 0);
        _exit(0);
    }
    char c;
    close(pipes[1]);
    if (read(pipes[0], &c, 1) != 1) {
        waitpid(outer, NULL, 0);
        close_run(&r);
        print_message("# no namespaces here\n");
        skip();
    }
    await_events(&r, 5);
    for (int i = 0; i < 300; i++)
        one_round(&r, 5); /* more than a second: it stays alive */
    assert_int_equal(count_of(&r, FACT_PROCESS_END), 0);
    assert_int_equal(count_of(&r, FACT_THREAD_END), 0);
    assert_int_equal(fact_of(&r, FACT_PROCESS, 0)->fact.pid, 1);
    /* ends when its parent has: then it is seen to end */
    kill(outer, SIGKILL);
    await(&r, FACT_PROCESS_END, 1);
    waitpid(outer, NULL, 0);
    close(pipes[0]);
    close_run(&r);
}

/* --- threads --- */

struct short_life {
    const struct arena_view *v;
    struct process_slot *p;
};

static void *live_shortly(void *to)
{
    struct short_life *s = to;
    struct writer w;
    lanes_claim(&w, s->v, s->p, (int32_t)syscall(SYS_gettid));
    make_events(&w, 2);
    w.l->allocated += 7; /* after its last event */
    return NULL;
}

static void test_ended_threads_give_their_lanes_and_keep_their_totals(void **state)
{
    (void)state;
    struct run r;
    open_run(&r);
    pid_t pid = fork();
    if (!pid) {
        struct short_life s = {&r.v, own_slot(&r.v)};
        struct writer w;
        lanes_claim(&w, &r.v, s.p, getpid());
        for (int i = 0; i < 50; i++) {
            pthread_t t;
            pthread_create(&t, NULL, live_shortly, &s);
            pthread_join(t, NULL);
        }
        stay();
    }
    await(&r, FACT_THREAD_END, 50);
    assert_int_equal(count_of(&r, FACT_THREAD_END), 50);
    for (int i = 0;
         i < 600 && (!fact_of(&r, FACT_PROCESS_TOTAL, 0) ||
                     fact_of(&r, FACT_PROCESS_TOTAL, 0)->fact.total.allocated != 50 * 207);
         i++)
        one_round(&r, 5);
    assert_int_equal(fact_of(&r, FACT_PROCESS_TOTAL, 0)->fact.total.allocated, 50 * 207);
    kill(pid, SIGKILL);
    await(&r, FACT_PROCESS_END, 1);
    waitpid(pid, NULL, 0);
    assert_int_equal(fact_of(&r, FACT_PROCESS_END, 0)->fact.total.allocated, 50 * 207);
    assert_int_equal(fact_of(&r, FACT_THREAD_END, 0)->fact.total.allocated, 0);
    close_run(&r);
}

static void test_a_second_lane_with_one_tid_proves_the_first_dead(void **state)
{
    (void)state;
    struct run r;
    open_run(&r);
    pid_t pid = fork();
    if (!pid) {
        struct writer a, b;
        struct process_slot *p = own_slot(&r.v);
        lanes_claim(&a, &r.v, p, getpid());
        lanes_claim(&b, &r.v, p, getpid());
        make_events(&a, 1);
        make_events(&b, 2);
        stay();
    }
    await(&r, FACT_THREAD_END, 1);
    assert_int_equal(fact_of(&r, FACT_THREAD_END, 0)->fact.total.allocated, 100);
    for (int i = 0; i < 250; i++)
        one_round(&r, 5);
    assert_int_equal(count_of(&r, FACT_THREAD_END), 1);
    kill(pid, SIGKILL);
    await(&r, FACT_PROCESS_END, 1);
    waitpid(pid, NULL, 0);
    close_run(&r);
}

static void test_silent_threads_and_long_calls_are_told(void **state)
{
    (void)state;
    struct run r;
    open_run(&r);
    pid_t pid = fork();
    if (!pid) {
        struct writer w;
        struct process_slot *p = own_slot(&r.v);
        lanes_claim(&w, &r.v, p, getpid());
        make_events(&w, 1);
        w.l->freed += 60;
        w.l->call = CALL_READ;
        w.l->call_since = clock_now(r.v.arena->clock);
        w.l->call_connection = 99;
        stay();
    }
    await(&r, FACT_THREAD_TOTAL, 1);
    assert_int_equal(fact_of(&r, FACT_THREAD_TOTAL, 0)->fact.total.freed, 100);
    await(&r, FACT_THREAD_CALL, 1);
    assert_int_equal(fact_of(&r, FACT_THREAD_CALL, 0)->fact.in_call, CALL_READ);
    assert_int_equal(fact_of(&r, FACT_THREAD_CALL, 0)->fact.connection, 99);
    for (int i = 0; i < 300; i++)
        one_round(&r, 5);
    assert_int_equal(count_of(&r, FACT_THREAD_TOTAL), 1);
    assert_int_equal(count_of(&r, FACT_THREAD_CALL), 1);
    kill(pid, SIGKILL);
    await(&r, FACT_THREAD_END, 1);
    assert_int_equal(fact_of(&r, FACT_THREAD_END, 0)->fact.in_call, CALL_READ);
    waitpid(pid, NULL, 0);
    close_run(&r);
}

/* --- take-over --- */

static void test_a_successor_has_the_same_processes_and_sums(void **state)
{
    (void)state;
    struct run r;
    open_run(&r);
    pid_t first = spawn_staying(&r.v, 5), gone = spawn(&r.v, 6, SIGKILL);
    waitpid(gone, NULL, 0);
    await(&r, FACT_PROCESS_END, 1);
    pid_t second = spawn_staying(&r.v, 8);
    await_events(&r, 19);
    struct order_counts committed;
    order_counts(watch_order(r.w), &committed);
    uint32_t number[2] = {0};
    for (size_t i = 0; i < r.count; i++)
        if (r.kept[i].item.kind == ITEM_FACT && r.kept[i].fact.kind == FACT_PROCESS)
            for (int j = 0; j < 2; j++)
                if (r.kept[i].fact.pid == (j ? second : first))
                    number[j] = r.kept[i].item.process;
    assert_false(watch_takes_over(r.w));
    watch_free(r.w);
    r.count = 0;
    open_watch(&r);
    assert_true(watch_takes_over(r.w));
    order_resume(watch_order(r.w), &committed);
    struct totals t = {.allocated = 123};
    watch_resume_process(r.w, number[0], first, &t, 0);
    watch_resume_process(r.w, 77, 4711, &t, 0);
    await(&r, FACT_PROCESS, 2);
    assert_int_equal(fact_of(&r, FACT_PROCESS, number[0])->fact.pid, first);
    assert_int_equal(fact_of(&r, FACT_PROCESS, number[1])->fact.pid, second);
    assert_int_equal(count_of(&r, FACT_PROCESS_END), 1); /* the one that is no more */
    assert_int_equal(fact_of(&r, FACT_PROCESS_END, 77)->fact.total.allocated, 123);
    kill(first, SIGKILL);
    kill(second, SIGKILL);
    await(&r, FACT_PROCESS_END, 3);
    waitpid(first, NULL, 0);
    waitpid(second, NULL, 0);
    assert_int_equal(fact_of(&r, FACT_PROCESS_END, number[0])->fact.total.allocated, 500);
    assert_int_equal(fact_of(&r, FACT_PROCESS_END, number[1])->fact.total.allocated, 800);
    struct order_counts c;
    order_counts(watch_order(r.w), &c);
    assert_int_equal(c.written, 19);
    assert_int_equal(c.drained, 19);
    close_run(&r);
}

/* --- arenas of their own --- */

static void arena_path(const struct run *r, char path[256], const char *token, unsigned uid,
                       int pid)
{
    snprintf(path, 256, "%s/sonde.%s.%u.%d", r->directory, token, uid, pid);
}

static int make_file(const char *path, mode_t mode, off_t bytes)
{
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL, 0600);
    assert_true(fd >= 0);
    assert_int_equal(fchmod(fd, mode), 0);
    assert_int_equal(ftruncate(fd, bytes), 0);
    return fd;
}

static void test_an_arena_that_a_process_made_for_itself_is_adopted(void **state)
{
    (void)state;
    struct run r;
    char path[256];
    open_run(&r);
    pid_t pid = fork();
    if (!pid) {
        arena_path(&r, path, TOKEN, getuid(), getpid());
        int fd = make_file(path, 0600, ARENA_MIN_BYTES);
        void *at = mmap(NULL, ARENA_MIN_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        struct arena_view v;
        ((struct arena *)at)->clock = clock_choose();
        if (at == MAP_FAILED || arena_format(at, ARENA_MIN_BYTES, TOKEN, &v))
            _exit(1);
        struct writer w;
        lanes_claim(&w, &v, own_slot(&v), getpid());
        for (int i = 0; i < 5; i++) {
            struct event e = {.type = EVENT_IN,
                              .connection = UINT64_C(1) << 32 | 7,
                              .time = clock_now(v.arena->clock)};
            w.l->allocated += 10;
            lanes_event(&w, &e, NULL);
        }
        stay();
    }
    await_events(&r, 5);
    arena_path(&r, path, TOKEN, getuid(), pid);
    assert_int_equal(access(path, F_OK), 0);
    uint64_t marked = 0;
    for (size_t i = 0; i < r.count; i++)
        if (r.kept[i].item.kind == ITEM_EVENT)
            marked = r.kept[i].event.connection;
    assert_int_not_equal(marked, UINT64_C(1) << 32 | 7);
    struct feedback f = watch_feedback(r.w);
    f.plan(f.to, marked, PLAN_COUNT);
    struct arena_view v;
    int fd = open(path, O_RDWR);
    assert_int_equal(arena_open(fd, &v), 0);
    close(fd);
    assert_int_equal(arena_plan_get(&v, UINT64_C(1) << 32 | 7), PLAN_COUNT);
    assert_int_equal(arena_plan_get(&r.v, UINT64_C(1) << 32 | 7), PLAN_DEFAULT);
    r.v.arena->off = 1; /* the kill switch reaches it, and lets it go on again */
    for (int i = 0; i < 3; i++)
        one_round(&r, 5);
    assert_int_equal(v.arena->off, 1);
    r.v.arena->off = 0;
    for (int i = 0; i < 3; i++)
        one_round(&r, 5);
    assert_int_equal(v.arena->off, 0);
    arena_detach(&v);
    kill(pid, SIGKILL);
    await(&r, FACT_PROCESS_END, 1);
    waitpid(pid, NULL, 0);
    assert_int_equal(fact_of(&r, FACT_PROCESS_END, 0)->fact.total.allocated, 50);
    for (int i = 0; i < 400 && !access(path, F_OK); i++)
        one_round(&r, 5);
    assert_int_not_equal(access(path, F_OK), 0); /* nobody needs it any more */
    struct order_counts c;
    order_counts(watch_order(r.w), &c);
    assert_int_equal(c.written, 5);
    close_run(&r);
}

static void test_files_that_are_no_arena_of_this_run_are_left_alone(void **state)
{
    (void)state;
    struct run r;
    char path[6][256];
    open_run(&r);
    arena_path(&r, path[0], TOKEN, getuid(), 1);
    close(make_file(path[0], 0644, ARENA_MIN_BYTES)); /* others may read it */
    arena_path(&r, path[1], TOKEN, getuid() + 1, 2);
    close(make_file(path[1], 0600, ARENA_MIN_BYTES)); /* not its owner's name */
    arena_path(&r, path[2], TOKEN, getuid(), 3);
    assert_int_equal(symlink("/etc/passwd", path[2]), 0);
    arena_path(&r, path[3], "ffff", getuid(), 4);
    close(make_file(path[3], 0600, ARENA_MIN_BYTES)); /* another run's */
    arena_path(&r, path[4], TOKEN, getuid(), 5);
    close(make_file(path[4], 0600, 100)); /* too small */
    arena_path(&r, path[5], TOKEN, getuid(), 6);
    close(make_file(path[5], 0600, ARENA_MIN_BYTES)); /* empty */
    for (int i = 0; i < 300; i++)
        one_round(&r, 5);
    assert_int_equal(r.count, 0);
    for (int i = 0; i < 6; i++)
        assert_int_equal(unlink(path[i]), 0);
    close_run(&r);
}

static void test_a_truncated_arena_is_no_fault_of_ours(void **state)
{
    (void)state;
    struct run r;
    char path[256];
    open_run(&r);
    pid_t pid = spawn_staying(&r.v, 3);
    arena_path(&r, path, TOKEN, getuid(), pid);
    int fd = make_file(path, 0600, ARENA_MIN_BYTES);
    void *at = mmap(NULL, ARENA_MIN_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    struct arena_view v;
    struct writer w;
    ((struct arena *)at)->clock = clock_choose();
    assert_int_equal(arena_format(at, ARENA_MIN_BYTES, TOKEN, &v), 0);
    struct process_slot *p = lanes_process(&v, pid + 100000);
    p->pid = pid;
    assert_true(lanes_claim(&w, &v, p, pid));
    make_events(&w, 4);
    await_events(&r, 7);
    assert_int_equal(ftruncate(fd, 0), 0);
    for (int i = 0; i < 300; i++)
        one_round(&r, 5);
    assert_int_equal(r.said, 1);
    kill(pid, SIGKILL);
    r.closing = true;
    await(&r, FACT_PROCESS_END, 2);
    waitpid(pid, NULL, 0);
    munmap(at, ARENA_MIN_BYTES);
    close(fd);
    unlink(path);
    close_run(&r);
}

/* --- questions --- */

static struct sockaddr_in loopback(void)
{
    return (struct sockaddr_in){.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
}

static const struct fact *ask(struct run *r, enum fact_kind kind, int descriptor)
{
    struct feedback f = watch_feedback(r->w);
    size_t before = count_of(r, kind);
    if (kind == FACT_ADDRESS)
        f.ask_address(f.to, 1, descriptor, 55);
    else
        f.ask_descriptor(f.to, 1, descriptor, 55);
    await(r, kind, before + 1);
    assert_int_equal(fact_of(r, kind, 0)->fact.connection, 55);
    return &fact_of(r, kind, 0)->fact;
}

static void test_descriptors_are_what_they_are(void **state)
{
    (void)state;
    struct run r;
    open_run(&r);
    struct sockaddr_in here = loopback();
    socklen_t length = sizeof here;
    int listener = socket(AF_INET, SOCK_STREAM, 0), client = socket(AF_INET, SOCK_STREAM, 0),
        pair[2], pipes[2];
    assert_int_equal(bind(listener, (struct sockaddr *)&here, length), 0);
    assert_int_equal(listen(listener, 4), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&here, &length), 0);
    assert_int_equal(connect(client, (struct sockaddr *)&here, length), 0);
    int server = accept(listener, NULL, NULL), udp = socket(AF_INET, SOCK_DGRAM, 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    assert_int_equal(pipe(pipes), 0);
    char path[108];
    snprintf(path, sizeof path, "%s/sock", r.directory);
    struct sockaddr_un u = {.sun_family = AF_UNIX};
    strcpy(u.sun_path, path);
    int named = socket(AF_UNIX, SOCK_STREAM, 0), caller = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(named, (struct sockaddr *)&u, sizeof u), 0);
    assert_int_equal(listen(named, 1), 0);
    assert_int_equal(connect(caller, (struct sockaddr *)&u, sizeof u), 0);
    int called = accept(named, NULL, NULL);
    pid_t pid = spawn_staying(&r.v, 1); /* inherits them all */
    await_events(&r, 1);
    assert_true(ask(&r, FACT_DESCRIPTOR, server)->is_stream);
    assert_true(ask(&r, FACT_DESCRIPTOR, client)->is_stream);
    assert_true(ask(&r, FACT_DESCRIPTOR, called)->is_stream);
    assert_false(ask(&r, FACT_DESCRIPTOR, pair[0])->is_stream);
    assert_false(ask(&r, FACT_DESCRIPTOR, udp)->is_stream);
    assert_false(ask(&r, FACT_DESCRIPTOR, pipes[0])->is_stream);
    assert_true(ask(&r, FACT_DESCRIPTOR, pipes[0])->is_known);
    assert_false(ask(&r, FACT_DESCRIPTOR, 999)->is_known);
    const struct fact *f = ask(&r, FACT_ADDRESS, server);
    struct sockaddr_in a;
    assert_int_equal(f->local_length, sizeof a);
    memcpy(&a, f->local, sizeof a);
    assert_int_equal(a.sin_port, here.sin_port);
    assert_int_equal(a.sin_addr.s_addr, here.sin_addr.s_addr);
    length = sizeof here;
    assert_int_equal(getsockname(client, (struct sockaddr *)&here, &length), 0);
    memcpy(&a, f->remote, sizeof a);
    assert_int_equal(a.sin_port, here.sin_port);
    f = ask(&r, FACT_ADDRESS, listener);
    assert_int_equal(f->local_length, sizeof a);
    assert_int_equal(f->remote_length, 0);
    f = ask(&r, FACT_ADDRESS, called);
    assert_memory_equal(((const struct sockaddr_un *)(const void *)f->local)->sun_path, path,
                        strlen(path));
    kill(pid, SIGKILL);
    await(&r, FACT_PROCESS_END, 1);
    waitpid(pid, NULL, 0);
    assert_false(ask(&r, FACT_DESCRIPTOR, server)->is_known);
    int all[] = {listener, client,   server, udp,    pair[0], pair[1],
                 pipes[0], pipes[1], named,  caller, called};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        close(all[i]);
    unlink(path);
    close_run(&r);
}

static void test_lines_of_the_socket_tables(void **state)
{
    (void)state;
    struct socket_question q[4] = {{.inode = 4242}, {.inode = 99}, {.inode = 5}, {.inode = 6}};
    const char *v4 = "   0: 0100007F:1F90 0200007F:C350 01 00000000:00000000 00:00000000 00000000  "
                     "   0        0 4242 1 0000 100 0\n";
    const char *v6 = "   1: 00000000000000000000000001000000:0050 "
                     "00000000000000000000000000000000:0000 0A 00000000:00000000 "
                     "00:00000000 00000000  33        0 99 1 00\n";
    assert_true(sockets_line(TABLE_TCP, v4, q, 4));
    struct sockaddr_in a;
    memcpy(&a, q[0].local, sizeof a);
    assert_int_equal(a.sin_addr.s_addr, htonl(INADDR_LOOPBACK));
    assert_int_equal(ntohs(a.sin_port), 8080);
    memcpy(&a, q[0].remote, sizeof a);
    assert_int_equal(ntohs(a.sin_port), 50000);
    assert_true(sockets_line(TABLE_TCP6, v6, q, 4));
    struct sockaddr_in6 b;
    memcpy(&b, q[1].local, sizeof b);
    assert_int_equal(ntohs(b.sin6_port), 80);
    assert_memory_equal(&b.sin6_addr, &in6addr_loopback, sizeof in6addr_loopback);
    assert_int_equal(q[1].remote_length, 0);
    assert_true(sockets_line(
        TABLE_UNIX, "ffff8881: 00000002 00000000 00010000 0001 01     5 @abstract\n", q, 4));
    assert_true(q[2].stream);
    assert_int_equal(q[2].local[2], 0);
    assert_true(
        sockets_line(TABLE_UNIX, "ffff8881: 00000003 00000000 00000000 0001 03     6\n", q, 4));
    assert_false(q[3].stream);
    assert_false(sockets_line(TABLE_TCP, "  sl  local_address rem_address   st tx_queue\n", q, 4));
    assert_false(sockets_line(TABLE_UNIX,
                              "Num       RefCount Protocol Flags    Type St Inode Path\n", q, 4));
    assert_false(sockets_line(TABLE_TCP, "", q, 4));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_process_is_told_from_begin_to_end),
        cmocka_unit_test(test_a_process_that_was_over_before_we_looked),
        cmocka_unit_test(test_children_churn_and_sums_are_exact),
        cmocka_unit_test(test_a_second_image_in_one_process_replaces_the_first),
        cmocka_unit_test(test_a_child_in_an_earlier_slot_is_told_after_its_parent),
        cmocka_unit_test(test_each_is_told_once_in_pages_where_parents_make_a_ring),
        cmocka_unit_test(test_status_comes_from_the_parents_wait),
        cmocka_unit_test(test_a_process_of_another_namespace_is_found),
        cmocka_unit_test(test_ended_threads_give_their_lanes_and_keep_their_totals),
        cmocka_unit_test(test_a_second_lane_with_one_tid_proves_the_first_dead),
        cmocka_unit_test(test_silent_threads_and_long_calls_are_told),
        cmocka_unit_test(test_a_successor_has_the_same_processes_and_sums),
        cmocka_unit_test(test_an_arena_that_a_process_made_for_itself_is_adopted),
        cmocka_unit_test(test_files_that_are_no_arena_of_this_run_are_left_alone),
        cmocka_unit_test(test_a_truncated_arena_is_no_fault_of_ours),
        cmocka_unit_test(test_descriptors_are_what_they_are),
        cmocka_unit_test(test_lines_of_the_socket_tables),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
