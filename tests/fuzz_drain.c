/*
 * fuzz_drain.c - an arena's pages mutated while they are drained: nothing outside them is touched,
 * every round ends, and what is counted as written is drained or lost.
 *
 * Input: a program of small steps, each a byte of operation and its operands.
 */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "collector/drain.h"
#include "collector/order.h"
#include "collector/timeline.h"
#include "tests/lanes.h"

#define LANES 6
#define START UINT64_C(1000000000000)
#define MOST_STEPS 400

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct arena_view view;
static struct writer writers[LANES];
static uint64_t now;

/* The base image, once; each run works on private pages over it. */
static void make_base(void)
{
    int fd = memfd_create("base", MFD_CLOEXEC);
    if (fd < 0 || ftruncate(fd, (off_t)ARENA_MIN_BYTES))
        abort();
    void *at = mmap(NULL, ARENA_MIN_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    struct arena_view v;
    if (at == MAP_FAILED || arena_format(at, ARENA_MIN_BYTES, "fuzz", &v))
        abort();
    v.arena->clock = CLOCK_KIND_MONOTONIC;
    v.arena->ticks_per_second = 1000000000;
    v.arena->anchor_ticks = v.arena->anchor_monotonic_ns = v.arena->anchor_realtime_ns = START;
    struct process_slot *p = lanes_process(&v, 1000);
    uint8_t bytes[300];
    memset(bytes, 'x', sizeof bytes);
    for (int i = 0; i < LANES; i++) {
        struct writer w;
        if (!lanes_claim(&w, &v, p, 1000 + i))
            abort();
        for (int j = 0; j < 12 * i; j++) {
            struct event e = {.type = EVENT_IN,
                              .time = START + (uint64_t)j * 1000,
                              .result = j,
                              .head = (uint16_t)(j * 17 % 300)};
            lanes_event(&w, &e, bytes);
        }
        writers[i].l = w.l;
    }
    void *mine = mmap(NULL, ARENA_MIN_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    if (mine == MAP_FAILED || arena_attach(mine, ARENA_MIN_BYTES, &view))
        abort();
    view.lanes = 64; /* a smaller picture is a faster one */
    view.processes = 16;
    view.chunks = 96;
    for (int i = 0; i < LANES; i++)
        writers[i] = (struct writer){&view, &view.lane[writers[i].l - v.lane]};
    munmap(at, ARENA_MIN_BYTES);
    close(fd);
}

static struct order *open_order(void)
{
    struct order *o = order_new(20000000, NULL);
    if (!o || order_attach(o, &view) < 0)
        abort();
    return o;
}

static bool fence(void *to)
{
    (void)to;
    return true;
}

static void take(struct order *o, bool finish)
{
    struct instant i = {now, now};
    struct item item;
    struct source s = order_source(o);
    volatile uint8_t sink = 0;
    if (finish)
        order_finish(o, &i);
    else
        order_round(o, &i);
    for (uint64_t n = 0; s.next(s.self, &item) == 1; n++) {
        assert(n < 400000);
        if (item.kind != ITEM_EVENT)
            continue;
        assert(item.event->type < EVENT_TYPE_COUNT && item.event->type != EVENT_NONE);
        assert(item.data_len == (uint32_t)item.event->head + item.event->tail &&
               item.data_len <= CHUNK_BYTES);
        for (uint32_t j = 0; j < item.data_len; j += 64)
            sink = (uint8_t)(sink + item.data[j]);
        if (item.data_len)
            sink = (uint8_t)(sink + item.data[item.data_len - 1]);
    }
    struct order_counts c;
    order_counts(o, &c);
    uint64_t sum = c.drained;
    for (int j = 0; j < LOSS_COUNT; j++)
        sum += c.lost[j];
    assert(sum == c.written);
}

static uint64_t eat(const uint8_t **at, const uint8_t *end, unsigned bytes)
{
    uint64_t n = 0;
    for (; bytes && *at < end; bytes--)
        n = n << 8 | *(*at)++;
    return n;
}

/* Where it hurts: lane headers, the chunks in use, stacks and counters; the rest of the pages now
 * and then. */
static void poke(const uint8_t **at, const uint8_t *end)
{
    uint64_t how = eat(at, end, 1), where = eat(at, end, 3), value = eat(at, end, how >> 6 ? 1 : 8);
    uint64_t base, span;
    switch (how & 3) {
    case 0:
        base = (uint64_t)((char *)view.lane - (char *)view.arena),
        span = LANES * sizeof(struct lane);
        break;
    case 1:
        base = (uint64_t)((char *)view.chunk - (char *)view.arena), span = 12 * CHUNK_BYTES;
        break;
    case 2:
        base = 0, span = 4096 + sizeof(struct process_slot);
        break;
    default:
        base = 0, span = view.bytes;
        break;
    }
    size_t width = (size_t)1 << (how >> 2 & 3);
    uint64_t place = base + where % span;
    if (how & 32 && width > 1)
        place &= ~(uint64_t)(width - 1);
    if (place + width <= view.bytes)
        memcpy((char *)view.arena + place, &value, width);
}

/* A thread that goes on writing, as long as its header lets it. */
static void write_one(struct writer *w, uint64_t n)
{
    struct lane *l = w->l;
    if (l->chunk > view.chunks || l->write > CHUNK_BYTES || l->write < CHUNK_HEADER ||
        l->write % 8) /* as the recorder would never */
        return;
    uint8_t bytes[256] = {0};
    struct event e = {.type = (uint8_t)(1 + n % (EVENT_TYPE_COUNT - 1)),
                      .time = now,
                      .result = (int32_t)n,
                      .head = (uint16_t)(n % 256)};
    lanes_event(w, &e, bytes);
}

static void step(struct order **o, const uint8_t **at, const uint8_t *end)
{
    uint64_t op = eat(at, end, 1);
    struct drain *d = order_arena(*o, 0);
    switch (op % 10) {
    case 0:
        now += 1000000 * (1 + op / 10);
        take(*o, false);
        break;
    case 1:
        write_one(&writers[op / 10 % LANES], eat(at, end, 2));
        break;
    case 2:
        order_lane_dead(*o, &d->lanes[op / 10 % LANES], now);
        break;
    case 3:
        now += 1000000000;
        drain_recall(d, now, 1000000000, fence, NULL);
        break;
    case 4:
        drain_sweep(d, fence, NULL);
        break;
    case 5:
        order_free(*o);
        *o = open_order();
        break;
    case 6:
        d->windows->made = op / 10 % 2 ? DRAIN_WINDOWS : 0;
        break;
    default:
        poke(at, end);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *at = data, *end = data + size;
    if (!view.arena)
        make_base();
    now = START + 1000000000;
    struct order *o = open_order();
    for (int i = 0; i < MOST_STEPS && at < end; i++)
        step(&o, &at, end);
    for (int i = 0; i < 3; i++) {
        now += 1100000000;
        take(o, false);
    }
    struct drain *d = order_arena(o, 0);
    for (uint32_t i = 0; i < view.lanes; i++)
        order_lane_dead(o, &d->lanes[i], now);
    take(o, true);
    order_free(o);
    madvise(view.arena, view.bytes, MADV_DONTNEED);
    return 0;
}
