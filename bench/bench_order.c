/*
 * bench_order.c - ns an event for checked copy and merge, over lanes that are filled beforehand:
 * reader alone, and with what a consumer at least touches.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "collector/order.h"
#include "collector/timeline.h"
#include "tests/lanes.h"
#include "wire/clock.h"

#define ARENA_BYTES (UINT64_C(256) << 20)

static struct writer writers[1024];
static uint8_t payload[2048];

/* Fills lanes in turn until the pool is nearly used; returns how many events. */
static uint64_t fill(int lanes, uint64_t *tick, uint32_t bytes)
{
    uint64_t n = 0,
             until = (uint64_t)writers[0].v->chunks * 3 / 5 * (CHUNK_BYTES / (64 + bytes + 8));
    uint32_t seed = 1;
    for (; n < until; n++) {
        seed = seed * 1664525 + 1013904223;
        struct event e = {.type = n & 1 ? EVENT_OUT : EVENT_IN,
                          .descriptor = 5,
                          .connection = 77,
                          .time = ++*tick * 100,
                          .result = (int32_t)bytes,
                          .duration = 500,
                          .head = (uint16_t)bytes};
        if (!lanes_event(&writers[(seed >> 16) % (uint32_t)lanes], &e, payload))
            break;
    }
    return n;
}

static uint64_t drain_all(struct order *o, uint64_t ticks, uint64_t *sum)
{
    struct source s = order_source(o);
    struct instant now = {ticks, ticks};
    struct item item;
    uint64_t n = 0;
    order_round(o, &now);
    while (s.next(s.self, &item) == 1)
        if (item.kind == ITEM_EVENT) {
            *sum +=
                item.event->connection + item.total.allocated + (item.data_len ? item.data[0] : 0);
            n++;
        }
    return n;
}

static void run(int lanes, uint32_t bytes)
{
    void *at = mmap(NULL, ARENA_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    struct arena_view v;
    if (at == MAP_FAILED || arena_format(at, ARENA_BYTES, "bench", &v))
        exit(1);
    v.arena->clock = CLOCK_KIND_MONOTONIC;
    v.arena->lane_chunks = v.chunks;
    struct process_slot *p = lanes_process(&v, 1);
    for (int i = 0; i < lanes; i++)
        lanes_claim(&writers[i], &v, p, i + 1);
    struct order *o = order_new(20000000, NULL);
    if (!o || order_attach(o, &v) < 0)
        exit(1);
    uint64_t tick = 0, events = 0, ns = 0, sum = 0;
    for (int i = 0; i < 8; i++) {
        uint64_t made = fill(lanes, &tick, bytes);
        uint64_t before = clock_monotonic_ns();
        uint64_t got = drain_all(o, tick * 100 + 30000000, &sum);
        if (got != made) {
            fprintf(stderr, "made %lu, got %lu\n", (unsigned long)made, (unsigned long)got);
            exit(1);
        }
        if (i) { /* the first one pays for pages */
            ns += clock_monotonic_ns() - before;
            events += got;
        }
        tick += 300000;
    }
    printf("order_%d_lanes_%u_bytes %lu %.1f ns/op\n", lanes, bytes, (unsigned long)events,
           (double)ns / (double)events);
    if (sum == 42)
        puts("");
    order_free(o);
    munmap(at, ARENA_BYTES);
}

int main(void)
{
    static const int lanes[] = {1, 4, 16, 64, 512};
    static const uint32_t bytes[] = {0, 128, 512};
    for (size_t i = 0; i < sizeof lanes / sizeof *lanes; i++)
        for (size_t j = 0; j < sizeof bytes / sizeof *bytes; j++)
            run(lanes[i], bytes[j]);
    return 0;
}
