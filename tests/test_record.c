/*
 * test_record.c - the recorder's modules, linked without their exported names: events and what they hold, loss, nesting,
 * recall, death, fork, descriptors. The real calls are ours to fake.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "shim/descriptor.h"
#include "shim/lifecycle.h"
#include "shim/real.h"
#include "shim/watch.h"
#include "tests/sanitizer.h"
#include "tests/shim_doubles.h"
#include "wire/clock.h"

#define FD 500
#define MOST 65536

static struct arena_view view;
static uint8_t data[1 << 19];
static ssize_t answer;
static int answer_errno;

/* --- reading what was written ------------------------------------------------------------------------------------ */

static struct event last[MOST]; /* of the last drain */
static uint8_t *last_data[MOST];
static unsigned got, holes;

static void take(const char *at)
{
    static uint8_t kept[16 << 20];
    static size_t used;
    struct event e;
    memcpy(&e, at, sizeof e);
    assert_true(e.size >= 64 && e.size % 8 == 0);
    if (!e.type) {
        holes++;
        return;
    }
    size_t fixed = 64 + (e.flags & EVENT_HAS_BLOCK ? sizeof(struct event_block) : 0), n = e.size - 64;
    assert_true(e.size >= fixed + e.head + e.tail);
    if (used + n > sizeof kept)
        used = 0;
    memcpy(kept + used, at + 64, n);
    assert_true(got < MOST);
    last_data[got] = kept + used;
    last[got++] = e;
    used += n;
}

/* All of this thread's events since the last time; frees chunks as the collector does. */
static unsigned drain(void)
{
    struct lane *l = self.lane;
    got = holes = 0;
    if (!l->read_chunk && load_acquire(&l->recall) == 2)
        return 0; /* `first` is still the chunk that was taken */
    if (!l->read_chunk) {
        l->read_chunk = load_acquire(&l->first);
        l->read_offset = CHUNK_HEADER;
    }
    while (l->read_chunk && got < MOST - 1000) {
        struct chunk *c = &view.chunk[l->read_chunk - 1];
        uint32_t next = load_acquire(&c->next), end = load_acquire(&c->committed);
        while (l->read_offset < end) {
            const char *at = (const char *)c + l->read_offset;
            take(at);
            l->read_offset += *(const uint16_t *)(const void *)at;
        }
        if (!next)
            break;
        arena_push_chunk(&view, l->read_chunk - 1);
        l->chunks_freed++;
        l->read_chunk = next;
        l->read_offset = CHUNK_HEADER;
    }
    return got;
}

/* --- fakes --------------------------------------------------------------------------------------------------------- */

static ssize_t reply(void)
{
    if (answer < 0)
        errno = answer_errno;
    return answer;
}

static ssize_t fake_recv(int fd, void *buffer, size_t size, int flags)
{
    (void)fd, (void)buffer, (void)size, (void)flags;
    return reply();
}

static ssize_t fake_send(int fd, const void *buffer, size_t size, int flags)
{
    (void)fd, (void)buffer, (void)size, (void)flags;
    return reply();
}

static ssize_t fake_writev(int fd, const struct iovec *v, int count)
{
    (void)fd, (void)v, (void)count;
    return reply();
}

static int fake_close(int fd)
{
    (void)fd;
    return (int)answer;
}

static int fake_dup(int fd)
{
    (void)fd;
    return (int)answer;
}

static int fake_dup2(int fd, int to)
{
    (void)fd, (void)to;
    return (int)answer;
}

static int fake_wait(int fd, struct epoll_event *events, int count, int limit_ms)
{
    (void)fd, (void)events, (void)count, (void)limit_ms;
    return 0;
}

static int fake_socket(int domain, int type, int protocol)
{
    (void)domain, (void)type, (void)protocol;
    return (int)answer;
}

static int fake_accept(int fd, struct sockaddr *address, socklen_t *length)
{
    (void)fd;
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(77)};
    if (address && length) {
        memcpy(address, &in, *length < sizeof in ? *length : sizeof in);
        *length = sizeof in;
    }
    return (int)answer;
}

static uint64_t connect_slot(int fd)
{
    uint64_t id = connection_id_next(lane_here());
    slot_set(descriptor_make(fd), slot_word(KIND_CONNECTION, id));
    return id;
}

static ssize_t receive(ssize_t result, size_t size)
{
    answer = result;
    return on_recv(FD, data, size, 0);
}

static ssize_t transmit(ssize_t result)
{
    answer = result;
    return on_send(FD, data, sizeof data, 0);
}

static int fresh(void **state)
{
    uint64_t *id = malloc(sizeof *id);
    drain();
    *id = connect_slot(FD);
    self.wait_return = 0;
    *state = id;
    return 0;
}

static int done(void **state)
{
    free(*state);
    return 0;
}

/* --- what an event holds ------------------------------------------------------------------------------------------- */

static void test_receive_becomes_event(void **state)
{
    uint64_t id = *(uint64_t *)*state, before = clock_now(view.arena->clock);
    add_own(&self.lane->allocated, 100);
    add_own(&self.lane->freed, 30);
    add_own(&self.lane->allocations, 2);
    errno = 4711;
    assert_int_equal(receive(300, 1000), 300);
    assert_int_equal(receive(5, 1000), 5);
    assert_int_equal(errno, 4711);
    assert_int_equal(drain(), 2);
    const struct event *e = &last[0];
    assert_int_equal(e->type, EVENT_IN);
    assert_int_equal(e->flags, 0);
    assert_int_equal(e->descriptor, FD);
    assert_int_equal(e->connection, id);
    assert_int_equal(e->offset, 0);
    assert_int_equal(e->result, 300);
    assert_int_equal(e->head, 300);
    assert_int_equal(e->tail, 0);
    assert_memory_equal(last_data[0], data, 300);
    assert_true(e->time >= before && e->time <= clock_now(view.arena->clock));
    assert_true(e->duration < e->time - before);
    assert_int_equal(e->ready, 0);
    assert_int_equal(e->allocated, (uint32_t)self.lane->allocated);
    assert_int_equal(e->freed, (uint32_t)self.lane->freed);
    assert_int_equal(e->allocations, (uint32_t)self.lane->allocations);
    assert_int_equal(last[1].sequence, e->sequence + 1);
    assert_int_equal(last[1].offset, 300);
    assert_int_equal(self.lane->sequence, last[1].sequence);
    assert_int_equal(self.lane->busy, 0);
    assert_int_equal(self.lane->call, CALL_NONE);
}

static void test_directions_have_their_own_offsets(void **state)
{
    (void)state;
    receive(10, 10);
    transmit(100);
    receive(1, 10);
    transmit(3);
    assert_int_equal(drain(), 4);
    assert_int_equal(last[2].offset, 10);
    assert_int_equal(last[3].offset, 100);
}

static void test_default_capture_bounds(void **state)
{
    (void)state;
    static const struct {
        bool out;
        uint32_t bytes, head, tail;
    } row[] = {{false, 4096, 4096, 0},   {false, 4097, 4096, 1},  {false, 4352, 4096, 256}, {false, 100000, 4096, 256},
               {true, 1024, 1024, 0},    {true, 1100, 1024, 76},  {true, 1280, 1024, 256},  {true, 70000, 1024, 256},
               {true, 1, 1, 0},          {false, 1, 1, 0}};
    for (unsigned i = 0; i < sizeof row / sizeof *row; i++) {
        if (row[i].out)
            transmit(row[i].bytes);
        else
            receive(row[i].bytes, sizeof data);
        assert_int_equal(drain(), 1);
        assert_int_equal(last[0].head, row[i].head);
        assert_int_equal(last[0].tail, row[i].tail);
        assert_memory_equal(last_data[0], data, row[i].head);
        assert_memory_equal(last_data[0] + row[i].head, data + row[i].bytes - row[i].tail, row[i].tail);
    }
}

static void test_vectors_are_captured_across_their_parts(void **state)
{
    (void)state;
    real.writev = fake_writev;
    struct iovec v[] = {{data, 10}, {NULL, 0}, {data + 10, 1000}, {data + 1010, 190}, {data + 1200, 50000}};
    for (ssize_t n = 1; n < 2400; n += 7) {
        answer = n;
        assert_int_equal(on_writev(FD, v, 5), n);
        assert_int_equal(drain(), 1);
        assert_int_equal(last[0].head, n < 1024 ? n : 1024);
        assert_memory_equal(last_data[0], data, last[0].head);
        assert_memory_equal(last_data[0] + last[0].head, data + n - last[0].tail, last[0].tail);
    }
}

static void test_plans(void **state)
{
    uint64_t id = *(uint64_t *)*state;
    arena_plan_set(&view, id, PLAN_COUNT);
    receive(100, 100);
    assert_int_equal(drain(), 1);
    assert_int_equal(last[0].head, 0);
    arena_plan_set(&view, id, PLAN_HEAD_TAIL);
    transmit(9000);
    assert_int_equal(drain(), 1);
    assert_int_equal(last[0].head, 4096);
    assert_int_equal(last[0].tail, 256);
    arena_plan_set(&view, id, PLAN_IGNORE);
    receive(100, 100);
    assert_int_equal(drain(), 0);
    assert_int_equal(slot_kind(descriptor_find(FD)->word), KIND_OPENED);
}

static void test_full_plan_captures_all_in_parts(void **state)
{
    uint64_t id = *(uint64_t *)*state;
    arena_plan_set(&view, id, PLAN_FULL);
    receive(7, 7);
    receive(50000, sizeof data);
    unsigned n = drain();
    uint64_t at = 7;
    assert_int_equal(last[0].result, 7);
    for (unsigned i = 1; i < n; i++) {
        assert_int_equal(last[i].type, i == 1 ? EVENT_IN : EVENT_MORE);
        assert_int_equal(last[i].connection, id);
        assert_int_equal(last[i].offset, at);
        assert_int_equal(last[i].sequence, last[0].sequence + i);
        assert_memory_equal(last_data[i], data + at - 7, last[i].head);
        at += last[i].head;
    }
    assert_int_equal(at, 50007);
    receive(sizeof data, sizeof data);
    n = drain();
    assert_int_equal(last[0].result, sizeof data);
    uint64_t captured = 0;
    for (unsigned i = 0; i < n; i++)
        captured += last[i].head;
    assert_int_equal(captured, 256 << 10);
}

static void test_failures_and_ends(void **state)
{
    (void)state;
    static const int silent[] = {EAGAIN, EINTR, EBADF};
    for (unsigned i = 0; i < 3; i++) {
        answer_errno = silent[i];
        assert_int_equal(receive(-1, 10), -1);
        assert_int_equal(errno, silent[i]);
        assert_int_equal(drain(), 0);
    }
    answer_errno = ECONNRESET;
    receive(-1, 10);
    transmit(-1);
    assert_int_equal(drain(), 2);
    assert_int_equal(last[0].result, -ECONNRESET);
    assert_int_equal(last[1].type, EVENT_OUT);
    assert_int_equal(last[1].head, 0);
    receive(0, 10);
    assert_int_equal(drain(), 1);
    assert_int_equal(last[0].result, 0);
    receive(0, 0);
    transmit(0);
    assert_int_equal(drain(), 0);
}

static void test_peeks_are_no_traffic_and_truncation_shows_nothing(void **state)
{
    (void)state;
    answer = 50;
    on_recv(FD, data, 100, MSG_PEEK);
    assert_int_equal(drain(), 0);
    answer = 5000;
    assert_int_equal(on_recv(FD, NULL, 5000, MSG_TRUNC), 5000);
    assert_int_equal(drain(), 1);
    assert_int_equal(last[0].result, 5000);
    assert_int_equal(last[0].head, 0);
}

static void test_long_times_change_unit(void **state)
{
    (void)state;
    struct observation o = {.type = EVENT_IN, .connection = 5, .entry = 1000, .time = 1000 + (UINT64_C(5) << 32)};
    self.wait_return = 500;
    record_event(self.lane, &o);
    o.entry = o.time - 77;
    record_event(self.lane, &o);
    assert_int_equal(drain(), 2);
    assert_int_equal(last[0].flags, EVENT_LONG | EVENT_WAITED);
    assert_int_equal(last[0].duration, UINT64_C(5) << 22);
    assert_int_equal(last[1].flags, 0);
    assert_int_equal(last[1].duration, 77);
}

static void test_block_comes_with_far_moves(void **state)
{
    (void)state;
    receive(1, 1);
    add_own(&self.lane->allocated, (UINT64_C(1) << 31) - 1);
    receive(1, 1);
    add_own(&self.lane->freed, UINT64_C(3) << 31);
    receive(1, 1);
    add_own(&self.lane->disk, 5);
    receive(1, 1);
    receive(1, 1);
    assert_int_equal(drain(), 5);
    assert_int_equal(last[0].flags & EVENT_HAS_BLOCK, 0);
    assert_int_equal(last[1].flags & EVENT_HAS_BLOCK, 0);
    assert_int_equal(last[2].flags & EVENT_HAS_BLOCK, EVENT_HAS_BLOCK);
    assert_int_equal(last[3].flags & EVENT_HAS_BLOCK, EVENT_HAS_BLOCK);
    assert_int_equal(last[4].flags & EVENT_HAS_BLOCK, 0);
    struct event_block b;
    memcpy(&b, last_data[3], sizeof b);
    assert_int_equal(b.allocated, self.lane->allocated);
    assert_int_equal(b.freed, self.lane->freed);
    assert_int_equal(b.disk, self.lane->disk);
}

static void test_turn_only_when_totals_moved(void **state)
{
    (void)state;
    real.epoll_wait = fake_wait;
    receive(1, 1);
    on_epoll_wait(3, NULL, 0, 0);
    assert_int_equal(drain(), 1);
    receive(1, 1);
    assert_int_equal(drain(), 1);
    assert_int_equal(last[0].flags, EVENT_WAITED);
    assert_true(last[0].ready > 0);
    add_own(&self.lane->freed, 8);
    on_epoll_wait(3, NULL, 0, 0);
    receive(1, 1);
    receive(1, 1);
    assert_int_equal(drain(), 3);
    assert_int_equal(last[0].type, EVENT_TURN);
    assert_int_equal(last[0].result, CALL_EPOLL_WAIT);
    assert_int_equal(last[0].descriptor, -1);
    assert_int_equal(last[0].freed, (uint32_t)self.lane->freed);
    assert_int_equal(last[1].flags, EVENT_WAITED);
    assert_int_equal(last[2].flags, 0);
}

static ssize_t look_at_mark(int fd, void *buffer, size_t size, int flags)
{
    (void)fd, (void)buffer, (void)size, (void)flags;
    assert_int_equal(self.lane->call, CALL_READ);
    assert_int_equal(self.lane->call_connection, slot_id(descriptor_find(FD)->word));
    assert_true(self.lane->call_since > 0);
    return 1;
}

static void test_call_in_progress_is_marked(void **state)
{
    (void)state;
    real.recv = look_at_mark;
    ssize_t result = on_recv(FD, data, 10, 0);
    real.recv = fake_recv;
    assert_int_equal(result, 1); /* it looked */
    assert_int_equal(self.lane->call, CALL_NONE);
}

static ssize_t interrupted_by_a_poll(int fd, void *buffer, size_t size, int flags)
{
    uint64_t since = self.lane->call_since;
    on_poll(NULL, 0, 0);
    assert_true(self.lane->call_since == since);
    return look_at_mark(fd, buffer, size, flags);
}

static void test_a_handlers_call_gives_the_mark_back(void **state)
{
    (void)state;
    real.recv = interrupted_by_a_poll;
    ssize_t result = on_recv(FD, data, 10, 0);
    real.recv = fake_recv;
    assert_int_equal(result, 1); /* it looked */
    assert_int_equal(self.lane->call, CALL_NONE);
}

static sigjmp_buf way_out;
static ssize_t leave_by_jump(int fd, void *buffer, size_t size, int flags)
{
    (void)fd, (void)buffer, (void)size, (void)flags;
    siglongjmp(way_out, 1);
}

static void test_a_mark_left_behind_ends_with_the_next_call(void **state)
{
    (void)state;
    real.recv = leave_by_jump;
    for (int i = 0; i < 2; i++) {
        if (!sigsetjmp(way_out, 0))
            on_recv(FD, data, 10, 0);
        assert_int_equal(self.lane->call, CALL_READ);
        real.recv = fake_recv;
        on_recv(FD, data, 10, 0);
        assert_int_equal(self.lane->call, CALL_NONE);
        real.recv = leave_by_jump;
    }
    real.recv = fake_recv;
}

static void test_switched_off_forwards(void **state)
{
    (void)state;
    view.arena->off = 1;
    assert_int_equal(receive(10, 10), 10);
    answer = 0;
    on_close(FD);
    view.arena->off = 0;
    assert_int_equal(drain(), 0);
    assert_int_equal(descriptor_find(FD)->word, 0);
}

static void test_no_clock_says_so(void **state)
{
    (void)state;
    uint32_t kind = shim.clock;
    shim.clock = 0;
    receive(10, 10);
    shim.clock = kind;
    assert_int_equal(drain(), 1);
    assert_int_equal(last[0].flags, EVENT_NO_CLOCK);
    assert_int_equal(last[0].time, 0);
    assert_int_equal(last[0].duration, 0);
}

/* --- loss ---------------------------------------------------------------------------------------------------------- */

static void test_full_lane_drops_newest_and_counts(void **state)
{
    (void)state;
    uint64_t lost = self.lane->lost_full, first = self.lane->sequence;
    uint32_t bound = view.arena->lane_chunks;
    view.arena->lane_chunks = 4;
    for (int i = 0; i < 400; i++)
        receive(100, 100);
    unsigned n = drain();
    view.arena->lane_chunks = bound;
    assert_int_equal(n + (self.lane->lost_full - lost), 400);
    assert_true(self.lane->lost_full > lost);
    assert_int_equal(last[n - 1].sequence, (uint32_t)(first + n));
    receive(100, 100);
    assert_int_equal(drain(), 1);
    assert_int_equal(last[0].sequence, (uint32_t)(first + 401));
    assert_int_equal(last[0].offset, 40000);
}

static void *record_on_other_thread(void *unused)
{
    (void)unused;
    receive(100, 100);
    receive(100, 100);
    return self.lane;
}

static void test_thread_without_lane_is_counted(void **state)
{
    (void)state;
    static int32_t taken[ARENA_LANES];
    unsigned n = 0;
    while ((taken[n] = arena_pop_lane(&view)) >= 0)
        n++;
    uint64_t before = view.arena->s_no_lane;
    pthread_t t;
    void *lane;
    assert_int_equal(pthread_create(&t, NULL, record_on_other_thread, NULL), 0);
    pthread_join(t, &lane);
    assert_null(lane);
    assert_int_equal(view.arena->s_no_lane - before, 2);
    assert_int_equal(view.process[shim.process].s_lost_no_lane, 2);
    while (n)
        arena_push_lane(&view, (uint32_t)taken[--n]);
    assert_int_equal(pthread_create(&t, NULL, record_on_other_thread, NULL), 0);
    pthread_join(t, &lane);
    assert_non_null(lane);
    assert_int_equal(((struct lane *)lane)->sequence, 2);
    assert_int_not_equal(((struct lane *)lane)->serial, self.lane->serial);
}

static void test_nested_event_is_dropped_and_counted(void **state)
{
    (void)state;
    uint64_t nested = self.lane->lost_nested, sequence = self.lane->sequence;
    self.lane->busy = (uint64_t)(uintptr_t)__builtin_frame_address(0); /* as if we were a handler above that frame */
    self.lane->reserved_at = clock_now(view.arena->clock);
    receive(10, 10);
    assert_int_equal(self.lane->lost_nested, nested + 1);
    assert_int_equal(self.lane->sequence, sequence + 1);
    self.lane->busy = 0;
    receive(10, 10);
    assert_int_equal(drain(), 1);
    assert_int_equal(last[0].sequence, sequence + 2);
}

static __attribute__((noinline)) void deep(int levels)
{
    char room[256];
    __asm__ __volatile__("" ::"r"(room) : "memory");
    if (levels)
        deep(levels - 1);
    else
        self.lane->busy = (uint64_t)(uintptr_t)__builtin_frame_address(0);
    __asm__ __volatile__("" ::"r"(room) : "memory");
}

static void test_mark_of_a_gone_frame_is_known_by_the_stack(void **state)
{
    (void)state;
    uint64_t nested = self.lane->lost_nested;
    deep(20);
    self.lane->reserved_at = clock_now(view.arena->clock);
    receive(10, 10);
    assert_int_equal(self.lane->lost_nested, nested);
    assert_int_equal(self.lane->busy, 0);
    assert_int_equal(drain(), 1);
}

static void test_old_mark_is_nobodys(void **state)
{
    (void)state;
    uint64_t nested = self.lane->lost_nested;
    self.lane->busy = UINT64_MAX;
    self.lane->reserved_at = clock_now(view.arena->clock) - 2 * view.arena->ticks_per_second;
    receive(10, 10);
    assert_int_equal(self.lane->lost_nested, nested);
    assert_int_equal(drain(), 1);
}

static sigjmp_buf back;
static void jump_back(int signal)
{
    siglongjmp(back, signal);
}

/* The copy faults in the middle of an event: reserved, not committed. */
static void fault_inside_event(void)
{
    uint8_t *bad = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    answer = 100;
    on_recv(FD, bad, 100, 0);
}

static void test_siglongjmp_out_of_an_event_leaves_a_hole(void **state)
{
    (void)state;
    struct sigaction old, jump = {.sa_handler = jump_back};
    sigaction(SIGSEGV, &jump, &old);
    uint64_t sequence = self.lane->sequence;
    if (!sigsetjmp(back, 1))
        fault_inside_event();
    sigaction(SIGSEGV, &old, NULL);
    assert_true(self.lane->busy != 0);
    assert_int_equal(drain(), 0);
    receive(10, 10);
    receive(10, 10);
    assert_int_equal(drain(), 2);
    assert_int_equal(holes, 1);
    assert_int_equal(last[0].sequence, sequence + 2);
    assert_int_equal(self.lane->busy, 0);
}

/* A handler that records while this thread is inside an event: its own events are lost, ours is not. */
static volatile sig_atomic_t handled;
static void record_in_handler(int signal, siginfo_t *info, void *context)
{
    (void)signal, (void)context;
    handled++;
    receive(10, 10);
    mprotect(info->si_addr, 4096, PROT_READ);
}

static void test_handler_inside_event_is_nested(void **state)
{
    (void)state;
    uint8_t *bad = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct sigaction old, record = {.sa_sigaction = record_in_handler, .sa_flags = SA_SIGINFO};
    uint64_t nested = self.lane->lost_nested, sequence = self.lane->sequence;
    sigaction(SIGSEGV, &record, &old);
    answer = 100;
    on_recv(FD, bad, 100, 0);
    sigaction(SIGSEGV, &old, NULL);
    assert_true(handled > 0);
    assert_int_equal(self.lane->lost_nested, nested + 1);
    assert_int_equal(self.lane->sequence, sequence + 2);
    assert_int_equal(drain(), 1);
    assert_int_equal(last[0].sequence, sequence + 1);
    munmap(bad, 4096);
}

/* A handler forks inside an event: the child comes back into it, with the parent's lane in its hands. */
static struct lane *lane_at_fork;
static void fork_in_handler(int signal, siginfo_t *info, void *context)
{
    (void)signal, (void)context;
    lane_at_fork = self.lane;
    mprotect(info->si_addr, 4096, PROT_READ);
    pid_t child = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
    if (!child)
        return;
    int status;
    waitpid(child, &status, 0);
    handled = status == 0 && self.lane->busy && load_acquire(&view.chunk[self.lane->chunk - 1].committed) < self.lane->write;
}

static void test_fork_inside_event_leaves_it_to_the_parent(void **state)
{
    (void)state;
    pid_t parent = getpid();
    uint8_t *bad = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct sigaction old, forking = {.sa_sigaction = fork_in_handler, .sa_flags = SA_SIGINFO};
    handled = 0;
    receive(1, 1);
    sigaction(SIGSEGV, &forking, &old);
    answer = 100;
    on_recv(FD, bad, 100, 0);
    if (syscall(SYS_getpid) != parent) {
        receive(1, 1);
        _exit(self.lane == lane_at_fork);
    }
    sigaction(SIGSEGV, &old, NULL);
    assert_int_equal(handled, 1);
    receive(1, 1);
    assert_int_equal(drain(), 3);
    assert_int_equal(last[2].sequence, last[0].sequence + 2);
    munmap(bad, 4096);
}

struct on_low_stack {
    uint8_t *bad;
    uint64_t sequence;
};

static void *receive_on_low_stack(void *of)
{
    struct on_low_stack *o = of;
    stack_t above = {.ss_sp = (char *)of + 4096, .ss_size = 65536}, old;
    sigaltstack(&above, &old);
    receive(1, 1);
    drain();
    o->sequence = self.lane->sequence;
    answer = 100;
    on_recv(FD, o->bad, 100, 0);
    sigaltstack(&old, NULL);
    receive(1, 1);
    drain();
    return NULL;
}

static void test_handler_on_a_higher_stack_spoils_nothing(void **state)
{
    (void)state;
    const size_t room = 4 << 20; /* a sanitizer puts more into a stack than the thread does */
    char *memory = mmap(NULL, room + (1 << 20), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct on_low_stack *o = (struct on_low_stack *)(void *)(memory + room);
    o->bad = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct sigaction old, record = {.sa_sigaction = record_in_handler, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    sigaction(SIGSEGV, &record, &old);
    pthread_attr_t low;
    pthread_attr_init(&low);
    pthread_attr_setstack(&low, memory, room);
    pthread_t t;
    assert_int_equal(pthread_create(&t, &low, receive_on_low_stack, o), 0);
    pthread_join(t, NULL);
    sigaction(SIGSEGV, &old, NULL);
    pthread_attr_destroy(&low);
    assert_int_equal(got, 3); /* the one that was taken for a hole meanwhile, the handler's, the one after */
    for (unsigned i = 0; i < got; i++)
        assert_int_equal(last[i].sequence, o->sequence + 1 + i);
    assert_int_equal(last[0].head, 100);
    munmap(o->bad, 4096);
    munmap(memory, room + (1 << 20));
}

/* --- death --------------------------------------------------------------------------------------------------------- */

static void die(int signal)
{
    (void)signal;
    syscall(SYS_kill, syscall(SYS_getpid), SIGKILL);
}

static void test_killed_inside_event_leaves_lane_readable(void **state)
{
    (void)state;
    pid_t child = fork();
    if (!child) {
        signal(SIGSEGV, die);
        lane_here();
        connect_slot(FD);
        for (int i = 0; i < 300; i++)
            receive(100, 100);
        fault_inside_event();
        _exit(0);
    }
    int status;
    waitpid(child, &status, 0);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    struct lane *l = NULL;
    for (uint32_t i = 0; i < view.arena->s_lanes_high; i++)
        if (view.lane[i].tid == child)
            l = &view.lane[i];
    assert_non_null(l);
    assert_true(l->busy != 0);
    assert_int_equal(l->sequence, 301);
    assert_int_equal(l->call, CALL_NONE);
    struct lane *mine = self.lane;
    self.lane = l;
    unsigned n = drain();
    self.lane = mine;
    assert_int_equal(n, 300);
    for (unsigned i = 0; i < n; i++)
        assert_int_equal(last[i].sequence, i + 1);
}

/* --- fork ---------------------------------------------------------------------------------------------------------- */

struct told {
    uint32_t serial, parent_serial, flags, lane_serial;
    int32_t pid, parent, tid, real_pid;
    uint64_t allocated, sequence, id, offset;
};

static void tell(int pipe_end)
{
    answer = 10;
    on_recv(FD, data, 10, 0);
    const struct process_slot *p = &view.process[shim.process];
    struct told t = {p->serial,         p->parent_serial, p->flags,
                     self.lane->serial, p->pid,           p->parent,
                     self.lane->tid,    (int32_t)syscall(SYS_getpid), self.lane->allocated,
                     self.lane->sequence, connection_id_next(self.lane), descriptor_find(FD)->in};
    if (write(pipe_end, &t, sizeof t) != sizeof t)
        _exit(1);
    _exit(0);
}

static void expect_own_identity(pid_t child, int pipe_end)
{
    struct told t;
    int status;
    assert_int_equal(read(pipe_end, &t, sizeof t), sizeof t);
    waitpid(child, &status, 0);
    assert_int_equal(status, 0);
    assert_int_equal(t.pid, child);
    assert_int_equal(t.real_pid, child);
    assert_int_equal(t.tid, child);
    assert_int_equal(t.parent, getpid());
    assert_int_equal(t.parent_serial, shim.serial);
    assert_int_equal(t.flags & PROCESS_FORKED, PROCESS_FORKED);
    assert_true(t.serial > shim.serial);
    assert_int_not_equal(t.lane_serial, self.lane->serial);
    assert_int_equal(t.allocated, 0);
    assert_int_equal(t.sequence, 1);
    assert_int_equal(t.id >> 32, t.lane_serial);
    assert_int_equal(t.offset, 17);
}

static void test_child_of_fork_begins_anew(void **state)
{
    (void)state;
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    add_own(&self.lane->allocated, 1000);
    receive(7, 7);
    uint64_t sequence = self.lane->sequence;
    pid_t child = fork();
    if (!child)
        tell(ends[1]);
    expect_own_identity(child, ends[0]);
    child = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0); /* libc does not know: its notion of our tid is stale */
    if (!child)
        tell(ends[1]);
    expect_own_identity(child, ends[0]);
    assert_int_equal(self.lane->sequence, sequence);
    close(ends[0]);
    close(ends[1]);
}

/* --- recall -------------------------------------------------------------------------------------------------------- */

static void test_recall_refused_by_a_busy_producer(void **state)
{
    (void)state;
    receive(10, 10);
    uint32_t chunk = self.lane->chunk;
    self.lane->recall = 1;
    receive(10, 10);
    assert_int_equal(self.lane->recall, 0);
    assert_int_equal(self.lane->chunk, chunk);
    assert_int_equal(drain(), 2);
}

/* The collector's side: true when the idle chunk was taken back. */
static bool recall(struct lane *l)
{
    uint32_t asked = 1;
    store_relaxed(&l->recall, 1u);
    assert_int_equal(syscall(SYS_membarrier, 8 /* MEMBARRIER_CMD_PRIVATE_EXPEDITED */, 0, 0), 0);
    if (load_relaxed(&l->busy) || !cas_acq_rel(&l->recall, &asked, 2)) {
        asked = 1;
        cas_acq_rel(&l->recall, &asked, 0);
        return false;
    }
    return true;
}

static void test_recalled_chunk_is_replaced(void **state)
{
    (void)state;
    receive(10, 10);
    drain();
    struct lane *l = self.lane;
    assert_true(recall(l));
    arena_push_chunk(&view, l->read_chunk - 1);
    l->chunks_freed++;
    l->read_chunk = 0;
    store_relaxed(&l->first, 0u);
    int32_t other = arena_pop_chunk(&view); /* somebody else has it now */
    receive(10, 10);
    assert_int_equal(l->recall, 0);
    assert_int_not_equal(l->chunk, other + 1);
    assert_int_equal(l->first, l->chunk);
    receive(10, 10);
    assert_int_equal(drain(), 2);
    arena_push_chunk(&view, (uint32_t)other);
}

/* --- recall and drain against a producer that never stops ------------------------------------------------------------ */

#define STRESS_EVENTS 300000u
static _Atomic uint32_t producer_done;

static void *produce(void *unused)
{
    (void)unused;
    uint64_t id = connection_id_next(lane_here());
    struct iovec v = {data, 100};
    for (uint32_t i = 0; i < STRESS_EVENTS; i++) {
        struct observation o = {
            .type = EVENT_IN, .connection = id, .offset = i, .result = 100, .data = &v, .data_count = 1, .data_bytes = 100};
        record_event(self.lane, &o);
        if (i % 500 == 499) {
            struct timespec pause = {0, (long)(i % 7) * 10000};
            nanosleep(&pause, NULL);
        }
    }
    producer_done = 1;
    return self.lane;
}

static struct lane *find_lane_after(uint32_t serial)
{
    for (uint32_t i = 0; i < load_acquire(&view.arena->s_lanes_high); i++)
        if (load_acquire(&view.lane[i].state) == LANE_LIVE && view.lane[i].serial > serial)
            return &view.lane[i];
    return NULL;
}

static void test_drain_and_recall_lose_nothing_unseen(void **state)
{
    (void)state;
    uint32_t serial = view.arena->s_lane_serial;
    pthread_t t;
    producer_done = 0;
    assert_int_equal(pthread_create(&t, NULL, produce, NULL), 0);
    struct lane *l = NULL, *mine = self.lane;
    while (!l)
        l = find_lane_after(serial);
    uint64_t drained = 0, expected = 0, recalls = 0;
    for (bool end = false; !end;) {
        bool done = producer_done;
        self.lane = l;
        unsigned n = drain();
        self.lane = mine;
        end = done && !n; /* one look takes MOST at most */
        for (unsigned i = 0; i < n; i++) {
            assert_true(last[i].sequence > expected);
            expected = last[i].sequence;
            assert_int_equal(last[i].offset, expected - 1);
            assert_int_equal(last[i].head, 100);
            drained++;
        }
        if (end || n || !l->read_chunk || !recall(l))
            continue;
        /* what was written between our last look and the recall is still to be read */
        self.lane = l;
        n = drain();
        self.lane = mine;
        for (unsigned i = 0; i < n; i++, drained++)
            expected = last[i].sequence;
        assert_int_equal(view.chunk[l->read_chunk - 1].next, 0);
        uint32_t chunk = l->read_chunk - 1;
        l->read_chunk = 0;
        l->chunks_freed++;
        arena_push_chunk(&view, chunk);
        while (load_acquire(&l->recall) == 2 && !producer_done)
            sched_yield();
        recalls++;
    }
    pthread_join(t, NULL);
    assert_int_equal(l->sequence, STRESS_EVENTS);
    assert_int_equal(drained + l->lost_full, STRESS_EVENTS);
    assert_int_equal(l->lost_nested, 0);
    print_message("drained %lu, full %lu, recalls %lu\n", (unsigned long)drained, (unsigned long)l->lost_full,
                  (unsigned long)recalls);
}

/* --- descriptors ----------------------------------------------------------------------------------------------------- */

static void test_slot_word_keeps_id(void **state)
{
    (void)state;
    uint64_t id = UINT64_C(0xfedcba98) << 32 | 0xfffffff;
    assert_int_equal(slot_id(slot_word(KIND_UNSURE, id)), id);
    assert_int_equal(slot_kind(slot_word(KIND_UNSURE, id)), KIND_UNSURE);
    assert_int_equal(slot_id(slot_word(KIND_LISTENER, id) | SLOT_SHARED), id);
}

static void test_any_number_has_a_slot(void **state)
{
    (void)state;
    static const int number[] = {0, 1023, 1024, 70000, 1048575, 1048576, 5000000, INT32_MAX};
    for (unsigned i = 0; i < sizeof number / sizeof *number; i++) {
        struct slot *s = descriptor_make(number[i]);
        assert_non_null(s);
        slot_set(s, slot_word(KIND_CONNECTION, UINT64_C(1) << 32 | i));
    }
    for (unsigned i = 0; i < sizeof number / sizeof *number; i++) {
        assert_int_equal(slot_id(descriptor_find(number[i])->word), UINT64_C(1) << 32 | i);
        slot_set(descriptor_find(number[i]), 0);
    }
    assert_null(descriptor_find(-1));
    assert_null(descriptor_make(-1));
    assert_null(descriptor_find(900000));
}

static void test_unknown_descriptor_gets_an_unsure_id_once(void **state)
{
    (void)state;
    slot_set(descriptor_find(FD), 0);
    answer_errno = ENOTCONN;
    receive(-1, 10);
    receive(0, 10);
    assert_int_equal(drain(), 0);
    receive(10, 10);
    receive(10, 10);
    assert_int_equal(drain(), 2);
    assert_int_equal(last[0].flags, EVENT_FIRST | EVENT_UNSURE);
    assert_int_equal(last[1].flags, EVENT_UNSURE);
    assert_int_equal(last[0].connection, last[1].connection);
    assert_int_equal(last[1].offset, 10);
}

static uint64_t new_id;
static ssize_t reused_meanwhile(int fd, void *buffer, size_t size, int flags)
{
    (void)buffer, (void)flags;
    answer = 0;
    on_close(fd);
    new_id = connect_slot(fd);
    return (ssize_t)size;
}

static void test_close_during_receive_keeps_the_first_connection(void **state)
{
    uint64_t id = *(uint64_t *)*state;
    real.recv = reused_meanwhile;
    on_recv(FD, data, 10, 0);
    real.recv = fake_recv;
    receive(5, 5);
    assert_int_equal(drain(), 3);
    assert_int_equal(last[0].type, EVENT_CLOSE);
    assert_int_equal(last[0].connection, id);
    assert_int_equal(last[1].connection, id);
    assert_int_equal(last[1].flags, EVENT_OFFSET_UNKNOWN);
    assert_int_equal(last[2].connection, new_id);
    assert_int_equal(last[2].offset, 0);
    assert_int_equal(last[2].flags, 0);
}

static void test_duplicates_share_the_connection(void **state)
{
    uint64_t id = *(uint64_t *)*state;
    receive(5, 5);
    answer = FD + 1;
    on_dup(FD);
    uint64_t other = connect_slot(FD + 2);
    answer = FD + 2;
    on_dup2(FD, FD + 2);
    answer = 3;
    on_send(FD + 1, data, 3, 0);
    receive(5, 5);
    answer = 0;
    on_close(FD);
    on_close(FD + 1);
    on_close(FD + 2);
    assert_int_equal(drain(), 9);
    static const uint8_t types[] = {EVENT_IN,  EVENT_DUP,   EVENT_CLOSE, EVENT_DUP,  EVENT_OUT,
                                    EVENT_IN, EVENT_CLOSE, EVENT_CLOSE, EVENT_CLOSE};
    for (unsigned i = 0; i < 9; i++) {
        assert_int_equal(last[i].type, types[i]);
        assert_int_equal(last[i].connection, i == 2 ? other : id);
    }
    assert_int_equal(last[1].result, FD + 1);
    assert_int_equal(last[4].flags, EVENT_OFFSET_UNKNOWN);
    assert_int_equal(last[5].flags, EVENT_OFFSET_UNKNOWN);
}

static void test_accept_without_address_still_tells_the_peer(void **state)
{
    (void)state;
    real.accept = fake_accept;
    answer = FD + 9;
    slot_set(descriptor_make(FD + 8), slot_word(KIND_LISTENER, 0));
    assert_int_equal(on_accept(FD + 8, NULL, NULL), FD + 9);
    struct sockaddr_in in;
    socklen_t length = sizeof in;
    on_accept(FD + 8, (struct sockaddr *)&in, &length);
    length = 4; /* a short buffer: only these bytes are known */
    on_accept(FD + 8, (struct sockaddr *)&in, &length);
    answer = -1;
    on_accept(FD + 8, NULL, NULL);
    assert_int_equal(drain(), 3);
    static const uint16_t known[] = {16, 16, 4};
    for (unsigned i = 0; i < 3; i++) {
        struct event_address a;
        memcpy(&a, last_data[i], sizeof a);
        assert_int_equal(last[i].type, EVENT_ACCEPT);
        assert_int_equal(last[i].result, FD + 9);
        assert_int_equal(a.argument, FD + 8);
        assert_int_equal(a.family, AF_INET);
        assert_int_equal(a.length, known[i]);
    }
    assert_int_not_equal(last[0].connection, last[1].connection);
}

static void test_new_descriptors_forget_the_old(void **state)
{
    (void)state;
    real.socket = fake_socket;
    answer = FD;
    on_socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    assert_int_equal(descriptor_find(FD)->word, KIND_SOCKET);
    connect_slot(FD);
    on_socket(AF_INET, SOCK_DGRAM, 0);
    assert_int_equal(descriptor_find(FD)->word, KIND_OTHER);
    receive(10, 10);
    assert_int_equal(drain(), 0);
}

static int passed[3] = {FD + 20, 70123, FD + 21};
static ssize_t fake_recvmsg(int fd, struct msghdr *m, int flags)
{
    (void)fd, (void)flags;
    struct cmsghdr *c = CMSG_FIRSTHDR(m);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof passed);
    memcpy(CMSG_DATA(c), passed, sizeof passed);
    m->msg_controllen = CMSG_SPACE(sizeof passed);
    return 1;
}

static void test_passed_descriptors_are_unknown(void **state)
{
    (void)state;
    real.recvmsg = fake_recvmsg;
    for (unsigned i = 0; i < 3; i++)
        connect_slot(passed[i]);
    char control[128] = {0}, byte;
    struct iovec v = {&byte, 1};
    struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    on_recvmsg(FD, &m, 0);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(descriptor_find(passed[i])->word, 0);
    assert_int_equal(drain(), 1);
}

/* --- the real functions ----------------------------------------------------------------------------------------------- */

static void test_real_functions_are_libcs(void **state)
{
    (void)state;
    uintptr_t object = 0, other = 1;
    /* functions that no sanitizer has too */
    assert_ptr_equal(real_find("lcong48", &object), (void *)lcong48);
    assert_non_null(real_find("l64a", &other));
    assert_int_equal(object, other);
    assert_null(real_find("no_such_function_anywhere", &object));
    assert_int_equal(object, 0);
}

/* libc has two of each: the old one would misread the program's conditions. */
static void test_of_two_versions_the_default_is_taken(void **state)
{
    (void)state;
    if (THREAD_SANITIZER) {
        print_message("not under the thread sanitizer: its own conditions stand before libc's\n");
        skip();
    }
    static const char *const names[] = {"pthread_cond_wait", "pthread_cond_timedwait"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        void *at = real_find(names[i], NULL);
        assert_ptr_equal(at, dlsym(RTLD_DEFAULT, names[i]));
#if defined(__x86_64__)
        assert_ptr_equal(at, dlvsym(RTLD_DEFAULT, names[i], "GLIBC_2.3.2"));
        assert_ptr_not_equal(at, dlvsym(RTLD_DEFAULT, names[i], "GLIBC_2.2.5"));
#endif
    }
}

static int begin(void **unused)
{
    (void)unused;
    int fd = arena_create(ARENA_MIN_BYTES, "test", &view);
    if (fd < 0)
        return fd;
    clock_calibrate(view.arena);
    char place[64];
    snprintf(place, sizeof place, "%d:%d:test", (int)getpid(), fd);
    if (!lifecycle_attach(place) || !lane_here())
        return -1;
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)(i * 31 + (i >> 8));
    if (syscall(SYS_membarrier, 16 /* MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED */, 0, 0))
        return -1;
    real.recv = fake_recv;
    real.send = fake_send;
    real.close = fake_close;
    real.dup = fake_dup;
    real.dup2 = fake_dup2;
    return 0;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fresh, done)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_receive_becomes_event),
        TEST(test_directions_have_their_own_offsets),
        TEST(test_default_capture_bounds),
        TEST(test_vectors_are_captured_across_their_parts),
        TEST(test_plans),
        TEST(test_full_plan_captures_all_in_parts),
        TEST(test_failures_and_ends),
        TEST(test_peeks_are_no_traffic_and_truncation_shows_nothing),
        TEST(test_long_times_change_unit),
        TEST(test_block_comes_with_far_moves),
        TEST(test_turn_only_when_totals_moved),
        TEST(test_call_in_progress_is_marked),
        TEST(test_a_handlers_call_gives_the_mark_back),
        TEST(test_a_mark_left_behind_ends_with_the_next_call),
        TEST(test_a_handlers_call_gives_the_mark_back),
        TEST(test_a_mark_left_behind_ends_with_the_next_call),
        TEST(test_switched_off_forwards),
        TEST(test_no_clock_says_so),
        TEST(test_full_lane_drops_newest_and_counts),
        TEST(test_thread_without_lane_is_counted),
        TEST(test_nested_event_is_dropped_and_counted),
        TEST(test_mark_of_a_gone_frame_is_known_by_the_stack),
        TEST(test_old_mark_is_nobodys),
        TEST(test_siglongjmp_out_of_an_event_leaves_a_hole),
        TEST(test_handler_inside_event_is_nested),
        TEST(test_handler_on_a_higher_stack_spoils_nothing),
        TEST(test_fork_inside_event_leaves_it_to_the_parent),
        TEST(test_killed_inside_event_leaves_lane_readable),
        TEST(test_child_of_fork_begins_anew),
        TEST(test_recall_refused_by_a_busy_producer),
        TEST(test_recalled_chunk_is_replaced),
        TEST(test_drain_and_recall_lose_nothing_unseen),
        TEST(test_slot_word_keeps_id),
        TEST(test_any_number_has_a_slot),
        TEST(test_unknown_descriptor_gets_an_unsure_id_once),
        TEST(test_close_during_receive_keeps_the_first_connection),
        TEST(test_duplicates_share_the_connection),
        TEST(test_accept_without_address_still_tells_the_peer),
        TEST(test_new_descriptors_forget_the_old),
        TEST(test_passed_descriptors_are_unknown),
        TEST(test_real_functions_are_libcs),
        TEST(test_of_two_versions_the_default_is_taken),
    };
    return cmocka_run_group_tests(tests, begin, NULL);
}
