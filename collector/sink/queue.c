/*
 * queue.c - the ring behind queue.h: rows of varying size, filled in place, handed over by one
 * store.
 *
 * In:      rollup.c, main.c (pipeline thread)      Out: the sink thread
 * Owns:    the ring.
 * Context: C, two threads.
 * Sharing: s_head is written by the producer (release) and read by the consumer (acquire), s_tail the reverse; each
 *          keeps its last look at the other's in its own line. Positions run freely. A sleeper sets its word, looks once
 *          more, and waits on the word; who moves a position looks at the word after it, all in one total order.
 * Failure: see queue.h.
 *
 * A row never wraps: a filler stands where one did not fit before the end of the ring.
 */
#include "collector/sink/queue.h"

#include <errno.h>
#include <linux/futex.h>
#include <stdalign.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include "wire/atomics.h"

#define KIND_FILLER UINT16_MAX
#define LEAST_BYTES (2 * ROW_MAX_BYTES)

struct queue {
    uint8_t *ring;
    uint64_t size; /* a power of two */
    int patience_ms;
    /* producer's */
    alignas(64) uint64_t head; /* all before it is published */
    uint64_t start;            /* of the reserved row */
    uint64_t tail_seen;
    uint64_t sequence; /* of the next row */
    uint32_t reserved_bytes;
    alignas(64) uint64_t s_head;
    uint32_t s_ended;
    uint32_t s_producer_sleeps;
    /* consumer's */
    alignas(64) uint64_t tail;
    uint64_t head_seen;
    uint64_t tail_told; /* where the tail was when a sleeping producer was last looked for */
    alignas(64) uint64_t s_tail;
    uint32_t s_abandoned;
    uint32_t s_consumer_sleeps;
};

static void futex_wait(uint32_t *word, const struct timespec *timeout)
{
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, 1, timeout, NULL, 0);
}

static void wake(uint32_t *word)
{
    if (!load_total_order(word))
        return;
    store_relaxed(word, 0);
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * UINT64_C(1000000000) + (uint64_t)t.tv_nsec;
}

static struct timespec span_of(uint64_t ns)
{
    return (struct timespec){(time_t)(ns / UINT64_C(1000000000)),
                             (long)(ns % UINT64_C(1000000000))};
}

struct queue *queue_new(size_t bytes, enum when_full when)
{
    uint64_t size = LEAST_BYTES;
    while (size < bytes && size < UINT64_C(1) << 40)
        size <<= 1;
    struct queue *q = aligned_alloc(64, sizeof *q);
    if (!q)
        return NULL;
    *q = (struct queue){.size = size, .sequence = 1, .patience_ms = when == WAIT ? -1 : 0};
    q->ring = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (q->ring == MAP_FAILED) {
        free(q);
        return NULL;
    }
    return q;
}

void queue_free(struct queue *q)
{
    if (!q)
        return;
    munmap(q->ring, q->size);
    free(q);
}

void queue_number_from(struct queue *q, uint64_t sequence)
{
    q->sequence = sequence;
}

void queue_patience(struct queue *q, int ms)
{
    if (q->patience_ms >= 0)
        q->patience_ms = ms;
}

/* ---- producer ---- */

static bool fits(const struct queue *q, uint64_t need)
{
    return q->size - (q->head - q->tail_seen) >= need;
}

/* Sleeps until the consumer has made room; false: it abandoned the queue, or made no headway for
 * the patience. */
static bool wait_for_room(struct queue *q, uint64_t need)
{
    struct timespec patience =
        span_of((uint64_t)(q->patience_ms > 0 ? q->patience_ms : 0) * 1000000);
    uint64_t since = now_ns(), seen = q->tail_seen;
    for (;;) {
        wake(&q->s_consumer_sleeps);
        store_total_order(&q->s_producer_sleeps, 1);
        q->tail_seen = load_total_order(&q->s_tail);
        bool abandoned = load_total_order(&q->s_abandoned);
        if (!abandoned && !fits(q, need))
            futex_wait(&q->s_producer_sleeps, q->patience_ms < 0 ? NULL : &patience);
        store_relaxed(&q->s_producer_sleeps, 0);
        q->tail_seen = load_acquire(&q->s_tail);
        if (abandoned || load_acquire(&q->s_abandoned))
            return false;
        if (fits(q, need))
            return true;
        uint64_t now = now_ns();
        if (seen != q->tail_seen) {
            seen = q->tail_seen;
            since = now;
        } else if (q->patience_ms >= 0 && now - since >= (uint64_t)q->patience_ms * 1000000) {
            q->patience_ms = 0;
            return false;
        }
    }
}

static bool make_room(struct queue *q, uint64_t need)
{
    if (fits(q, need))
        return true;
    q->tail_seen = load_acquire(&q->s_tail);
    if (fits(q, need))
        return true;
    return q->patience_ms != 0 && wait_for_room(q, need);
}

struct row *queue_reserve(struct queue *q, enum row_kind kind, size_t bytes)
{
    uint64_t need = (bytes + 7) & ~(uint64_t)7;
    if (need < sizeof(struct row) || bytes > ROW_MAX_BYTES || load_relaxed(&q->s_abandoned))
        return NULL;
    uint64_t at = q->head & (q->size - 1);
    uint64_t skip = q->size - at < need ? q->size - at : 0;
    uint64_t kept = kind == ROW_SPAN && q->patience_ms == 0 ? q->size / 4 : 0;
    if (!make_room(q, skip + need + kept))
        return NULL;
    if (skip) /* the last 8 bytes of the ring hold no whole header, but its first fields */
        ((struct row *)(void *)(q->ring + at))->kind = KIND_FILLER;
    q->start = q->head + skip;
    q->reserved_bytes = (uint32_t)need;
    struct row *row = (void *)(q->ring + (q->start & (q->size - 1)));
    row->kind = (uint16_t)kind;
    row->bytes = (uint16_t)need;
    row->pad = 0;
    row->sequence = q->sequence;
    return row;
}

void queue_publish(struct queue *q, struct row *row)
{
    uint32_t bytes = (row->bytes + 7u) & ~7u;
    if (bytes > q->reserved_bytes)
        bytes = q->reserved_bytes;
    row->bytes = (uint16_t)bytes;
    bool urgent = row->kind == ROW_COMMIT || row->kind == ROW_RUN_END;
    q->sequence++;
    q->head = q->start + bytes;
    if (!urgent && q->head - q->tail_seen >= q->size / 4) {
        q->tail_seen = load_acquire(&q->s_tail);
        urgent = q->head - q->tail_seen >= q->size / 4;
    }
    if (!urgent) {
        store_release(&q->s_head, q->head);
        return;
    }
    store_total_order(&q->s_head, q->head);
    wake(&q->s_consumer_sleeps);
}

void queue_end(struct queue *q)
{
    store_total_order(&q->s_ended, 1);
    wake(&q->s_consumer_sleeps);
}

/* ---- consumer ---- */

/* The row at the tail, after any filler; NULL when nothing is published. */
static const struct row *oldest(struct queue *q)
{
    for (;;) {
        if (q->tail == q->head_seen) {
            q->head_seen = load_total_order(&q->s_head);
            if (q->tail == q->head_seen)
                return NULL;
        }
        uint64_t at = q->tail & (q->size - 1);
        const struct row *row = (const void *)(q->ring + at);
        if (row->kind != KIND_FILLER)
            return row;
        q->tail += q->size - at;
        store_release(&q->s_tail, q->tail);
    }
}

static void tell_producer(struct queue *q)
{
    if (q->tail_told == q->tail)
        return;
    q->tail_told = q->tail;
    store_total_order(&q->s_tail, q->tail);
    wake(&q->s_producer_sleeps);
}

/* Sleeps until woken or `deadline` (0: none); false when it has passed. */
static bool sleep_until(struct queue *q, uint64_t deadline)
{
    uint64_t now = deadline ? now_ns() : 0;
    if (deadline && now >= deadline)
        return false;
    struct timespec left = span_of(deadline - now);
    store_total_order(&q->s_consumer_sleeps, 1);
    if (load_total_order(&q->s_head) == q->tail && !load_total_order(&q->s_ended))
        futex_wait(&q->s_consumer_sleeps, deadline ? &left : NULL);
    store_relaxed(&q->s_consumer_sleeps, 0);
    return true;
}

const struct row *queue_peek(struct queue *q, int timeout_ms, bool *ended)
{
    uint64_t deadline = timeout_ms > 0 ? now_ns() + (uint64_t)timeout_ms * 1000000 : 0;
    *ended = false;
    for (;;) {
        bool last =
            load_total_order(&q->s_ended); /* before the look at the rows: none comes after it */
        const struct row *row = oldest(q);
        if (row)
            return row;
        tell_producer(q);
        *ended = last;
        if (last || timeout_ms == 0 || !sleep_until(q, deadline))
            return NULL;
    }
}

void queue_drop(struct queue *q)
{
    const struct row *row = oldest(q);
    if (!row)
        return;
    q->tail += row->bytes;
    if (q->tail - q->tail_told >= q->size / 4)
        tell_producer(q);
    else
        store_release(&q->s_tail, q->tail);
}

void queue_abandon(struct queue *q)
{
    store_total_order(&q->s_abandoned, 1);
    wake(&q->s_producer_sleeps);
}

size_t queue_used(const struct queue *q)
{
    uint64_t tail = load_acquire(&q->s_tail);
    return load_acquire(&q->s_head) - tail;
}

size_t queue_room(const struct queue *q)
{
    return q->size;
}
