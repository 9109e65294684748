/*
 * bench_record.c - what one wrapped call adds: our part around a call that does nothing.
 *
 * The recorder's modules are linked in, the real functions replaced by ones that return at once; the bare loop over the
 * same functions is subtracted. `warm`: the same few chunks are written again and again. `pool`: events go through
 * 600 KiB before they are drained, as in a server at full load that is drained each 10 ms.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shim/descriptor.h"
#include "shim/lifecycle.h"
#include "shim/real.h"
#include "tests/shim_doubles.h"
#include "wire/clock.h"

#define FD 100
#define ROUNDS 200

static char data[1 << 16];
static size_t size;
static struct arena_view view;

static __attribute__((noinline)) ssize_t fake_recv(int fd, void *buffer, size_t n, int flags)
{
    __asm__ __volatile__("" ::"r"(fd), "r"(buffer), "r"(flags) : "memory");
    return (ssize_t)n;
}

static __attribute__((noinline)) ssize_t fake_send(int fd, const void *buffer, size_t n, int flags)
{
    __asm__ __volatile__("" ::"r"(fd), "r"(buffer), "r"(flags) : "memory");
    return (ssize_t)n;
}

static __attribute__((noinline)) int fake_wait(int fd, struct epoll_event *events, int count, int limit_ms)
{
    __asm__ __volatile__("" ::"r"(fd), "r"(events), "r"(count), "r"(limit_ms) : "memory");
    return 0;
}

/* What the collector does, without looking: all full chunks of the lane are free again. */
static void drain(void)
{
    struct lane *l = self.lane;
    if (!l->read_chunk)
        l->read_chunk = l->first;
    while (l->read_chunk && view.chunk[l->read_chunk - 1].next) {
        uint32_t old = l->read_chunk - 1;
        l->read_chunk = view.chunk[old].next;
        l->chunks_freed++;
        arena_push_chunk(&view, old);
    }
}

static void bare_recv(void)
{
    real.recv(FD, data, size, 0);
}

static void our_recv(void)
{
    on_recv(FD, data, size, 0);
}

static void bare_send(void)
{
    real.send(FD, data, size, 0);
}

static void our_send(void)
{
    on_send(FD, data, size, 0);
}

static void other_recv(void)
{
    on_recv(FD + 1, data, size, 0);
}

static void bare_wait(void)
{
    real.epoll_wait(5, NULL, 0, 0);
}

static void our_wait(void)
{
    on_epoll_wait(5, NULL, 0, 0);
}

static void our_turn(void)
{
    add_own(&self.lane->allocations, 1);
    on_epoll_wait(5, NULL, 0, 0);
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Median of many rounds of `calls`; the pool is drained between rounds, outside of the time. */
static double time_of(void (*call)(void), int calls)
{
    static double ns[ROUNDS];
    for (int r = 0; r < ROUNDS; r++) {
        uint64_t begin = clock_monotonic_ns();
        for (int i = 0; i < calls; i++)
            call();
        ns[r] = (double)(clock_monotonic_ns() - begin - 23) / calls;
        drain();
    }
    qsort(ns, ROUNDS, sizeof *ns, ascending);
    return ns[ROUNDS / 2];
}

static void line(const char *name, const char *how, size_t bytes, int calls, double bare, double ours)
{
    printf("%-10s %-4s %5zu B captured %9d n %7.1f ns/op added (bare %.1f)\n", name, how, bytes, calls * ROUNDS,
           ours - bare, bare);
}

static void transfer(size_t bytes)
{
    size = bytes;
    int event = (int)(64 + bytes), pool = 600000 / event, warm = 8128 / event * 4;
    double recv_bare = time_of(bare_recv, 2000), send_bare = time_of(bare_send, 2000);
    line("recv", "warm", bytes, warm, recv_bare, time_of(our_recv, warm));
    line("recv", "pool", bytes, pool, recv_bare, time_of(our_recv, pool));
    line("send", "pool", bytes <= 1280 ? bytes : 1280, pool, send_bare, time_of(our_send, pool));
}

int main(void)
{
    int fd = arena_create(ARENA_DEFAULT_BYTES, "bench", &view);
    if (fd < 0)
        return 1;
    clock_calibrate(view.arena);
    char place[64];
    snprintf(place, sizeof place, "%d:%d:bench", (int)getpid(), fd);
    if (!lifecycle_attach(place) || !lane_here())
        return 1;
    real.recv = fake_recv;
    real.send = fake_send;
    real.epoll_wait = fake_wait;
    memset(data, 'x', sizeof data);
    slot_set(descriptor_make(FD), slot_word(KIND_CONNECTION, connection_id_next(self.lane)));
    descriptor_reset(FD + 1, KIND_OTHER);
    static const size_t sizes[] = {64, 128, 256, 1024, 4096};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        transfer(sizes[i]);
    line("other", "warm", 0, 2000, time_of(bare_recv, 2000), time_of(other_recv, 2000));
    line("epoll_wait", "warm", 0, 2000, time_of(bare_wait, 2000), time_of(our_wait, 2000));
    line("turn", "pool", 0, 4000, time_of(bare_wait, 2000), time_of(our_turn, 4000));
    store_relaxed(&view.arena->off, 1u);
    line("off", "warm", 0, 2000, time_of(bare_recv, 2000), time_of(our_recv, 2000));
    printf("events %lu, lost %lu\n", (unsigned long)self.lane->sequence, (unsigned long)self.lane->lost_full);
    return 0;
}
