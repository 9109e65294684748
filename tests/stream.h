/*
 * stream.h - for tests: an arena in memory, an order over it, and what leaves it, kept for looking
 * at.
 */
#ifndef SONDE_TEST_STREAM_H
#define SONDE_TEST_STREAM_H

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "collector/drain.h"
#include "collector/order.h"
#include "collector/timeline.h"
#include "tests/lanes.h"

#define STREAM_START UINT64_C(1000000000000) /* the arena's anchor: ticks are ns */
#define MS UINT64_C(1000000)

struct kept {
    struct item item;
    struct event event;
    struct fact fact;
    uint8_t data[64];
};

struct stream {
    struct arena_view v;
    struct order *o;
    struct process_slot *p;
    uint64_t now;
    struct kept *kept;
    size_t count, room;
    struct order_counts counts;
};

static inline struct arena_view stream_arena(uint64_t bytes)
{
    struct arena_view v;
    void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED || arena_format(at, bytes, "test", &v))
        abort();
    v.arena->clock = CLOCK_KIND_MONOTONIC;
    v.arena->ticks_per_second = 1000000000;
    v.arena->anchor_ticks = v.arena->anchor_monotonic_ns = v.arena->anchor_realtime_ns =
        STREAM_START;
    return v;
}

static inline void stream_open(struct stream *s, const struct order_hooks *hooks)
{
    memset(s, 0, sizeof *s);
    s->v = stream_arena(ARENA_MIN_BYTES);
    s->o = order_new(20 * MS, hooks);
    if (!s->o || order_attach(s->o, &s->v) != 0)
        abort();
    s->p = lanes_process(&s->v, 1000);
    s->now = STREAM_START + 1000 * MS;
}

static inline void stream_clear(struct stream *s)
{
    s->count = 0;
}

static inline void stream_close(struct stream *s)
{
    order_free(s->o);
    munmap(s->v.arena, s->v.bytes);
    free(s->kept);
}

/* Takes what the round gives out; ticks and counts are not kept. */
static inline size_t stream_take(struct stream *s)
{
    struct source from = order_source(s->o);
    struct item item;
    size_t before = s->count;
    while (from.next(from.self, &item) == 1) {
        if (item.kind == ITEM_TICK || (item.kind == ITEM_FACT && item.fact->kind == FACT_STREAM))
            continue;
        if (s->count == s->room) {
            s->room = s->room ? 2 * s->room : 1024;
            s->kept = realloc(s->kept, s->room * sizeof *s->kept);
            if (!s->kept)
                abort();
        }
        struct kept *k = &s->kept[s->count++];
        memset(k, 0, sizeof *k);
        k->item = item;
        if (item.event)
            k->event = *item.event;
        if (item.fact)
            k->fact = *item.fact;
        if (item.data_len)
            memcpy(k->data, item.data,
                   item.data_len < sizeof k->data ? item.data_len : sizeof k->data);
    }
    order_counts(s->o, &s->counts);
    return s->count - before;
}

static inline size_t stream_round(struct stream *s, uint64_t later_ns)
{
    s->now += later_ns;
    struct instant m = {s->now, s->now};
    order_round(s->o, &m);
    return stream_take(s);
}

/* Everything that stands in the lanes now. */
static inline size_t stream_all(struct stream *s)
{
    return stream_round(s, 0) + stream_round(s, 21 * MS);
}

static inline struct drain_lane *stream_lane(struct stream *s, const struct writer *w)
{
    return &order_arena(s->o, 0)->lanes[w->l - s->v.lane];
}

static inline struct event stream_event(const struct stream *s, int32_t result)
{
    return (struct event){
        .type = EVENT_OUT, .descriptor = 3, .connection = 5, .time = s->now, .result = result};
}

static inline size_t stream_count(const struct stream *s, enum item_kind kind)
{
    size_t n = 0;
    for (size_t i = 0; i < s->count; i++)
        n += s->kept[i].item.kind == kind;
    return n;
}

static inline const struct fact *stream_fact(const struct stream *s, enum fact_kind kind)
{
    for (size_t i = 0; i < s->count; i++)
        if (s->kept[i].item.kind == ITEM_FACT && s->kept[i].fact.kind == kind)
            return &s->kept[i].fact;
    return NULL;
}

#endif
