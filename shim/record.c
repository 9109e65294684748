/*
 * record.c - one event: reserve, fill, commit; and what stands between: recall, chunk change, nesting.
 *
 * In:      wrap_*.c.                       Out: the thread's lane and its chunks.
 * Owns:    the producer's line of the lane, its current chunk.
 * Context: S
 * Sharing: own lane only. With the collector: chunk.committed, chunk.next, lane.first (release), lane.recall (CAS).
 * Failure: the event is dropped, lane.sequence has counted it, lane.lost_full or lost_nested says why.
 *
 * No system call, no lock, no libc function but memcpy (and the vDSO clock). A signal handler may interrupt anywhere:
 *   - `busy` is up: its events are dropped as nested;
 *   - it leaves by siglongjmp: `busy` stays up. The next event knows it by the stack: our frame stands above the one
 *     that set it, so that frame is gone; or by time, a second later. The hole it reserved is published with the next one, as EVENT_NONE.
 *   - on an alternative stack above the thread's own a live frame looks gone, and its event a hole. That event goes on
 *     in its place when the handler returns, sees that `busy` is no longer its own, and commits nothing: it is lost only
 *     if the collector came by meanwhile.
 */
#define _GNU_SOURCE
#include "shim/record.h"

#include <string.h>

#include "shim/cpu.h"
#include "shim/owed.h"

#define HEAD_IN 4096u
#define HEAD_OUT 1024u
#define TAIL 256u
#define FULL_BYTES (256u << 10)
#define PART_BYTES 4096u /* captured bytes in one event of PLAN_FULL: two fill a chunk */

__thread struct thread_local_block self __attribute__((tls_model("initial-exec")));

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

/* --- busy ------------------------------------------------------------------------------------------------------- */

/* The frame that raised `busy` is gone. What it reserved lies below `write`, and becomes visible with the next commit. */
static __attribute__((noinline)) bool is_stale(const struct lane *l, uint64_t busy, uint64_t here, uint64_t now)
{
    return here >= busy || (now && shim.stale_ticks && now - load_relaxed(&l->reserved_at) > shim.stale_ticks);
}

/* The collector asked for our idle chunk: it took it (2), or we are faster (1). */
static __attribute__((noinline)) void answer_recall(struct lane *l)
{
    uint32_t asked = 1;
    if (cas_acq_rel(&l->recall, &asked, 0))
        return;
    if (asked == 2)
        store_relaxed(&l->chunk, 0);
}

static inline bool enter(struct lane *l, uint64_t here, uint64_t now)
{
    uint64_t busy = load_relaxed(&l->busy);
    if (unlikely(busy) && !is_stale(l, busy, here, now)) {
        add_own(&l->sequence, 1);
        add_own(&l->lost_nested, 1);
        return false;
    }
    store_relaxed(&l->reserved_at, now);
    compiler_barrier();
    store_relaxed(&l->busy, here);
    compiler_barrier(); /* the processor's fence is the collector's membarrier */
    if (unlikely(load_relaxed(&l->recall)))
        answer_recall(l);
    return true;
}

/*
 * No: a handler took our frame for gone; or a handler forked, and we are the child that came back into an event of its
 * parent, whose lane and chunk are shared memory.
 */
static inline bool still_ours(const struct lane *l, uint64_t here)
{
    return load_relaxed(&l->busy) == here && self.lane == l && self.epoch == load_relaxed(shim.epoch);
}

static inline void leave(struct lane *l, uint64_t here)
{
    compiler_barrier();
    if (likely(still_ours(l, here)))
        store_relaxed(&l->busy, 0);
}

/* --- chunks ----------------------------------------------------------------------------------------------------- */

static inline struct chunk *chunk_at(uint32_t number)
{
    return number && number <= shim.view.chunks ? &shim.view.chunk[number - 1] : NULL;
}

/* A fresh chunk becomes the one that is written. The old one's `next` is the collector's way to it. */
static __attribute__((noinline)) struct chunk *next_chunk(struct lane *l)
{
    uint32_t held = load_relaxed(&l->chunks_taken) - load_relaxed(&l->chunks_freed);
    if ((int32_t)held > 0 && held >= load_relaxed(&shim.view.arena->lane_chunks))
        return NULL;
    int32_t index = arena_pop_chunk(&shim.view);
    if (index < 0)
        return NULL;
    struct chunk *new = &shim.view.chunk[index], *old = chunk_at(load_relaxed(&l->chunk));
    uint32_t number = (uint32_t)index + 1;
    store_relaxed(&new->committed, CHUNK_HEADER);
    store_relaxed(&new->next, 0);
    store_relaxed(&new->lane_serial, l->serial);
    store_relaxed(&new->lane, (uint32_t)(l - shim.view.lane) + 1);
    store_relaxed(&l->chunks_taken, load_relaxed(&l->chunks_taken) + 1);
    store_relaxed(&l->chunk, number);
    store_relaxed(&l->write, CHUNK_HEADER);
    store_release(old ? &old->next : &l->first, number);
    if (!old && load_relaxed(&l->recall) == 2)
        store_release(&l->recall, 0);
    return new;
}

/* Room for one event in the current chunk or a new one; its header says how long the hole is if we never come back. */
static inline struct event *reserve(struct lane *l, uint32_t size, struct chunk **chunk)
{
    struct chunk *c = chunk_at(load_relaxed(&l->chunk));
    uint32_t at = load_relaxed(&l->write);
    if (unlikely(!c || at + size > CHUNK_BYTES)) {
        c = next_chunk(l);
        if (!c)
            return NULL;
        at = CHUNK_HEADER;
    }
    struct event *e = (struct event *)(void *)((char *)c + at);
    e->size = (uint16_t)size;
    e->type = EVENT_NONE;
    compiler_barrier();
    store_relaxed(&l->write, at + size);
    *chunk = c;
    return e;
}

/* --- one event -------------------------------------------------------------------------------------------------- */

struct part { /* what of the call's data goes into this event */
    uint32_t head, tail;
    uint64_t head_from, tail_from;
};

static void copy_parts(uint8_t *to, const struct iovec *v, int count, uint64_t from, uint64_t bytes)
{
    for (int i = 0; i < count && bytes; i++) {
        uint64_t n = v[i].iov_len;
        if (from >= n) {
            from -= n;
            continue;
        }
        n = n - from < bytes ? n - from : bytes;
        memcpy(to, (const char *)v[i].iov_base + from, n);
        to += n;
        bytes -= n;
        from = 0;
    }
}

static inline void copy_data(uint8_t *to, const struct observation *o, const struct part *p)
{
    if (likely(o->data_count == 1)) {
        memcpy(to, (const char *)o->data->iov_base + p->head_from, p->head);
        if (p->tail)
            memcpy(to + p->head, (const char *)o->data->iov_base + p->tail_from, p->tail);
        return;
    }
    copy_parts(to, o->data, o->data_count, p->head_from, p->head);
    copy_parts(to + p->head, o->data, o->data_count, p->tail_from, p->tail);
}

static inline bool moved_far(const struct lane *l)
{
    return ((l->allocated - self.last_allocated) | (l->freed - self.last_freed) |
            (l->allocations - self.last_allocations)) >> 31 ||
           l->lock + l->disk + l->sleep != self.last_waits;
}

static void fill_block(struct event_block *b, const struct lane *l, uint64_t cpu_ns)
{
    *b = (struct event_block){.allocated = l->allocated,
                              .freed = l->freed,
                              .allocations = l->allocations,
                              .lock = l->lock,
                              .disk = l->disk,
                              .sleep = l->sleep,
                              .cpu_ns = cpu_ns,
                              .waits = cpu_ns && self.waits_known ? self.waits - self.waits_timed + 1 : 0};
}

static inline uint32_t squeeze(uint64_t ticks)
{
    return ticks > UINT32_MAX ? UINT32_MAX : (uint32_t)ticks;
}

/* Times: how long the call took, and how long the thread had been awake before it. */
static inline uint32_t fill_times(struct event *e, const struct observation *o)
{
    uint32_t flags = 0;
    uint64_t duration = o->entry && o->time > o->entry ? o->time - o->entry : 0, ready = 0;
    if (self.wait_return) {
        flags |= EVENT_WAITED;
        uint64_t entry = o->entry ? o->entry : o->time;
        ready = entry > self.wait_return ? entry - self.wait_return : 1;
    }
    if (unlikely((duration | ready) >> 32)) {
        flags |= EVENT_LONG;
        duration >>= 10;
        ready >>= 10;
    }
    if (unlikely(!o->time))
        flags |= EVENT_NO_CLOCK;
    e->time = o->time;
    e->duration = squeeze(duration);
    e->ready = squeeze(ready);
    return flags;
}

static inline void note_totals(const struct lane *l)
{
    self.last_allocated = l->allocated;
    self.last_freed = l->freed;
    self.last_allocations = l->allocations;
    self.last_waits = l->lock + l->disk + l->sleep;
    self.turn_waits = 0;
    self.wait_return = 0;
}

/* Everything from reserve to commit; the caller has raised `busy`. */
static inline void write_event(struct lane *l, const struct observation *o, const struct part *p, uint64_t here)
{
    uint64_t sequence = fetch_add_own(&l->sequence, 1) + 1;
    totals_refresh(l);
    uint64_t cpu_ns = unlikely(cpu_wants_reading()) ? cpu_read() : 0;
    bool block = moved_far(l) || cpu_ns;
    uint32_t fixed = (uint32_t)sizeof(struct event) + (block ? (uint32_t)sizeof(struct event_block) : 0);
    uint32_t size = (fixed + p->head + p->tail + 7) & ~7u;
    struct chunk *c = NULL;
    struct event *e = reserve(l, size, &c);
    if (unlikely(!e)) {
        add_own(&l->lost_full, 1);
        return;
    }
    uint32_t flags = o->flags | fill_times(e, o) | (block ? EVENT_HAS_BLOCK : 0);
    e->descriptor = o->descriptor;
    e->connection = o->connection;
    e->offset = o->offset;
    e->result = (int32_t)o->result;
    e->sequence = (uint32_t)sequence;
    e->allocated = (uint32_t)l->allocated;
    e->freed = (uint32_t)l->freed;
    e->allocations = (uint32_t)l->allocations;
    e->head = (uint16_t)p->head;
    e->tail = (uint16_t)p->tail;
    if (unlikely(block))
        fill_block((struct event_block *)(e + 1), l, cpu_ns);
    if (p->head)
        copy_data((uint8_t *)e + fixed, o, p);
    e->flags = (uint8_t)flags;
    e->type = o->type;
    compiler_barrier();
    if (unlikely(!still_ours(l, here)))
        return;
    store_release(&c->committed, load_relaxed(&l->write));
    if (unlikely(cpu_ns))
        self.cpu = cpu_ns == UINT64_MAX ? CPU_UNREADABLE : CPU_READ; /* a lost event leaves it to the next */
    note_totals(l);
}

/* How much of the call's data its plan wants. */
static inline struct part part_of(const struct observation *o)
{
    struct part p = {0, 0, 0, 0};
    if (!o->data || !(shim.view.arena->features & FEATURE_DATA))
        return p;
    uint64_t most;
    switch (o->plan) {
    case PLAN_DEFAULT: most = o->type == EVENT_IN ? HEAD_IN : HEAD_OUT; break;
    case PLAN_HEAD_TAIL: most = HEAD_IN; break;
    case PLAN_FULL: most = PART_BYTES; break;
    default: return p;
    }
    if (likely(o->data_bytes <= most)) {
        p.head = (uint32_t)o->data_bytes;
        return p;
    }
    p.head = (uint32_t)most;
    if (o->plan != PLAN_FULL) {
        p.tail = (uint32_t)(o->data_bytes - most < TAIL ? o->data_bytes - most : TAIL);
        p.tail_from = o->data_bytes - p.tail;
    }
    return p;
}

static void lose_without_lane(void)
{
    if (!shim.attached)
        return;
    fetch_add_relaxed(&shim.view.process[shim.process].s_lost_no_lane, 1);
    fetch_add_relaxed(&shim.view.arena->s_no_lane, 1);
}

/* PLAN_FULL: the rest of the data, in events of their own. */
static __attribute__((noinline)) void write_more(struct lane *l, const struct observation *o, uint64_t here)
{
    uint64_t end = o->data_bytes < FULL_BYTES ? o->data_bytes : FULL_BYTES;
    struct observation more = *o;
    more.type = EVENT_MORE;
    more.entry = 0;
    for (uint64_t at = PART_BYTES; at < end; at += PART_BYTES) {
        struct part p = {.head = (uint32_t)(end - at < PART_BYTES ? end - at : PART_BYTES), .head_from = at};
        more.offset = o->offset + at;
        more.result = (int64_t)p.head;
        write_event(l, &more, &p, here);
    }
}

__attribute__((noinline)) void record_owed(struct lane *l, uint64_t time)
{
    uint64_t serial;
    while ((serial = owed_take())) {
        uint64_t lost = l->lost_full + l->lost_nested;
        struct event_argument a = {.argument = (int64_t)serial};
        struct observation o = {.type = EVENT_FREED, .descriptor = -1, .time = time};
        record_note(l, &o, &a, sizeof a);
        if (lost == l->lost_full + l->lost_nested)
            continue;
        owed_put(serial);
        return;
    }
}

void record_event(struct lane *l, const struct observation *o)
{
    if (unlikely(!l)) {
        lose_without_lane();
        return;
    }
    uint64_t here = (uint64_t)(uintptr_t)__builtin_frame_address(0);
    if (!enter(l, here, o->time))
        return;
    struct part p = part_of(o);
    write_event(l, o, &p, here);
    if (unlikely(o->plan == PLAN_FULL && o->data_bytes > p.head && p.head))
        write_more(l, o, here);
    leave(l, here);
    if (unlikely(load_relaxed(owed_count())) && o->type != EVENT_TURN)
        record_owed(l, o->time);
}

void record_note(struct lane *l, const struct observation *o, const void *data, size_t bytes)
{
    if (unlikely(!l)) {
        lose_without_lane();
        return;
    }
    uint64_t here = (uint64_t)(uintptr_t)__builtin_frame_address(0);
    if (!enter(l, here, o->time))
        return;
    struct iovec v = {(void *)data, bytes};
    struct observation with = *o;
    with.data = &v;
    with.data_count = 1;
    with.data_bytes = bytes;
    struct part p = {.head = (uint32_t)bytes};
    write_event(l, &with, &p, here);
    leave(l, here);
}

/* --- waits ------------------------------------------------------------------------------------------------------ */

static inline bool totals_moved(const struct lane *l)
{
    return ((l->allocated ^ self.last_allocated) | (l->freed ^ self.last_freed) |
            (l->allocations ^ self.last_allocations) |
            ((l->lock + l->disk + l->sleep - self.turn_waits) ^ self.last_waits)) != 0;
}

void wait_begin(struct lane *l, struct call_mark *before, enum call call)
{
    before->call = CALL_NONE;
    if (!l || !recording())
        return;
    totals_refresh(l);
    uint64_t now = call_enter(l, before, call, 0);
    if (!totals_moved(l))
        return;
    struct observation o = {.type = EVENT_TURN, .descriptor = -1, .time = now, .result = (int64_t)call};
    record_event(l, &o);
}

void wait_end(struct lane *l, const struct call_mark *before)
{
    if (!l)
        return;
    call_leave(l, before);
    uint64_t now = ticks_now();
    self.wait_return = now ? now : 1;
}

/* --- ids -------------------------------------------------------------------------------------------------------- */

#define IDS_PER_SERIAL (UINT32_C(1) << 28) /* the descriptor table packs an id in 60 bits */

uint64_t connection_id_next(const struct lane *l)
{
    if (!self.id_serial || self.connections + 1 >= IDS_PER_SERIAL) {
        uint32_t serial = l && !self.connections ? l->serial : 0;
        while (!serial)
            serial = __atomic_add_fetch(&shim.view.arena->s_lane_serial, 1, __ATOMIC_RELAXED);
        self.id_serial = serial;
        self.connections = 0;
    }
    return self.id_serial << 32 | (fetch_add_own(&self.connections, 1) + 1);
}
