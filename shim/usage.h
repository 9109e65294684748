/*
 * usage.h - what this thread allocated and freed: the running totals in its lane's header.
 *
 * In:      wrap_memory.c, wrap_operators.c, lifecycle.c.    Out: the lane's totals; the process's
 *          where a thread has no lane.
 * Owns:    how block sizes are known here (`usage.mode`).
 * Context: S. Nothing here takes a lock, allocates, asks the loader or makes a system call; every
 *          total is one plain add.
 * Sharing: a lane is its own thread's; `usage` is written by the first allocation of the process,
 *          again by attach.
 * Failure: a block whose size nobody can tell counts as an allocation without bytes.
 *
 * Bytes are usable sizes. Where they come from:
 *   GLIBC    the size word before the block, read here: asking malloc_usable_size costs 3 ns a pair
 *            more. The first CHECKS blocks are compared with malloc_usable_size (mode CHECK); one
 *            difference, and CALL it is.
 *   CALL     malloc_usable_size of the object that malloc comes from (tcmalloc, mimalloc, others).
 *   SIZED    the same, but malloc and calloc ask nallocx, which knows it from the wanted size
 *            (tcmalloc: 5 ns less a pair).
 *   MALLCTL  jemalloc counts bytes itself, per thread; its counters are copied into the lane by the
 *            calls that follow and by each event (totals_refresh in record.h): a thread's last free
 *            is seen at its next call, if any.
 *   COUNT    malloc, free, realloc, calloc and malloc_usable_size do not come from one object:
 *            allocations only.
 *   NONE     nothing is counted: no arena, or memory.heap is off.
 *
 * The kill switch does not stop these adds: a pause would leave `freed` and `allocated` apart for
 * ever, and the adds cannot fail, wait or be seen. What they sum up to reaches the collector with
 * the lane header, as `outside`. A vfork child counts into its parent's lane: it works on its
 * parent's heap while the parent stands still.
 */
#ifndef SONDE_USAGE_H
#define SONDE_USAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shim/record.h"
#include "shim/sampled.h"

enum usage_mode {
    USAGE_START,
    USAGE_CHECK,
    USAGE_GLIBC,
    USAGE_SIZED,
    USAGE_CALL,
    USAGE_MALLCTL,
    USAGE_COUNT,
    USAGE_NONE
};

/* Functions that an allocator may lack: those of another object are forwarded, never counted. */
enum usage_extra {
    EXTRA_REALLOCARRAY = 1 << 0,
    EXTRA_MEMALIGN = 1 << 1,
    EXTRA_ALIGNED_ALLOC = 1 << 2,
    EXTRA_POSIX_MEMALIGN = 1 << 3,
    EXTRA_VALLOC = 1 << 4,
    EXTRA_PVALLOC = 1 << 5,
    EXTRA_OPERATORS = 1 << 6 /* C++ new and delete */
};

struct usage {
    uint32_t mode;   /* enum usage_mode */
    uint32_t extras; /* enum usage_extra: what comes from the object that malloc comes from */
    uint32_t checks; /* blocks compared so far */
    size_t (*usable)(void *);
    size_t (*nallocx)(size_t, int);
    int (*mallctl)(const char *, void *, size_t *, void *, size_t);
};
extern struct usage usage __attribute__((visibility("hidden")));

/* What a thread without a lane counted: tells a wrapper whether one beneath it counted already. */
extern __thread uint32_t usage_laneless
    __attribute__((tls_model("initial-exec"), visibility("hidden")));

#define USAGE_CHECKS 64u

/*
 * Called by lifecycle.c when this process has a slot, also after fork; or when it will never have
 * one (NULL).
 */
void usage_attached(struct process_slot *);

/* Out of line: first calls, threads without a lane, allocators other than glibc's. Keep errno. */
void *usage_took_slow(void *block);
void usage_gave_slow(size_t bytes);
size_t usage_size_slow(void *block);
void usage_gave_counted_slow(void *block);
void *usage_took_sized(void *block, size_t size); /* mode SIZED: malloc(size) returned this */

static inline bool usage_extra(enum usage_extra which)
{
    return usage.extras & which;
}

/* The lane, when it is surely ours: plain loads. A vfork child's parent's lane too, see the top. */
static inline struct lane *usage_lane(void)
{
    struct lane *l = self.lane;
    return __builtin_expect(l && self.epoch == *shim.epoch, 1) ? l : NULL;
}

/*
 * The block's size where glibc keeps it: the word before it holds the chunk's bytes and three
 * flags. Blocks with a mapping of their own (false) have another overhead: they are asked for.
 */
static inline bool usage_glibc_size(const void *block, size_t *bytes)
{
    size_t word = ((const size_t *)block)[-1];
    *bytes = (word & ~(size_t)7) - sizeof word;
    return __builtin_expect(!(word & 2), 1);
}

/*
 * A block that is about to be freed or resized: its bytes, 0 where they are not needed. NULL is 0.
 */
static inline size_t usage_size(void *block)
{
    size_t bytes;
    if (__builtin_expect(usage.mode == USAGE_GLIBC && block, 1) && usage_glibc_size(block, &bytes))
        return bytes;
    return usage.mode == USAGE_MALLCTL && usage_lane() ? 0 : usage_size_slow(block);
}

/* The block was counted: is it one whose stack is wanted? One compare. Returns it. */
static inline void *usage_sampled(const struct lane *l, void *block)
{
    return __builtin_expect(l->allocated >= self.sample_at, 0) ? sampled_took(block) : block;
}

/*
 * An allocation returned this block (NULL: it failed, nothing is counted). Returns it, so that
 * callers end in a jump.
 */
static inline void *usage_took(void *block)
{
    struct lane *l = usage_lane();
    if (__builtin_expect(l && block, 1)) {
        if (usage.mode == USAGE_GLIBC) {
            size_t bytes;
            if (usage_glibc_size(block, &bytes)) {
                add_own(&l->allocated, bytes);
                add_own(&l->allocations, 1);
                return usage_sampled(l, block);
            }
        } else if (self.jemalloc_allocated) {
            store_relaxed(&l->allocated, *self.jemalloc_allocated - self.jemalloc_allocated_base);
            add_own(&l->allocations, 1);
            return usage_sampled(l, block);
        }
    }
    return usage_took_slow(block);
}

/* That many bytes are given back, as usage_size told. */
static inline void usage_gave(size_t bytes)
{
    if (!bytes)
        return;
    struct lane *l = usage_lane();
    if (__builtin_expect(l != NULL, 1))
        add_own(&l->freed, bytes);
    else
        usage_gave_slow(bytes);
}

/*
 * Mode MALLCTL: what this thread freed until now. Before a call that frees `block`, so that it can
 * end in a jump (1 ns); with NULL after one.
 */
static inline void usage_gave_counted(void *block)
{
    struct lane *l = usage_lane();
    if (__builtin_expect(l && self.jemalloc_freed, 1))
        store_relaxed(&l->freed, *self.jemalloc_freed - self.jemalloc_freed_base);
    else if (block)
        usage_gave_counted_slow(block);
}

/*
 * For functions that may or may not end in another wrapped one (libstdc++'s operator new calls
 * malloc, jemalloc's operator delete calls free, glibc's reallocarray calls realloc): the marks
 * differ when that one has counted.
 */
static inline uint64_t usage_taken_mark(void)
{
    struct lane *l = usage_lane();
    return (l ? l->allocations : 0) + usage_laneless;
}

static inline uint64_t usage_given_mark(void)
{
    struct lane *l = usage_lane();
    return (l ? l->freed : 0) + usage_laneless;
}

#endif
