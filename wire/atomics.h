/*
 * atomics.h - the few memory operations that the shared pages need, the order in each name.
 *
 * Only this file knows memory orders. Plain counters that one thread writes and another process reads are bumped by
 * one instruction, so that an interrupting signal handler never sees half an add; gcc makes three of a volatile add.
 */
#ifndef SONDE_ATOMICS_H
#define SONDE_ATOMICS_H

#include <stdbool.h>
#include <stdint.h>

#define load_relaxed(p) __atomic_load_n((p), __ATOMIC_RELAXED)
#define load_acquire(p) __atomic_load_n((p), __ATOMIC_ACQUIRE)
#define store_relaxed(p, v) __atomic_store_n((p), (v), __ATOMIC_RELAXED)
#define store_release(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)
#define fetch_add_relaxed(p, v) __atomic_fetch_add((p), (v), __ATOMIC_RELAXED)
#define cas_acq_rel(p, expected, desired)                                                                              \
    __atomic_compare_exchange_n((p), (expected), (desired), false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)
/* Two sides that each set a flag and then look at the other's: with these four in one total order one of them sees it. */
#define load_total_order(p) __atomic_load_n((p), __ATOMIC_SEQ_CST)
#define store_total_order(p, v) __atomic_store_n((p), (v), __ATOMIC_SEQ_CST)
#define compiler_barrier() __asm__ __volatile__("" ::: "memory")
#if defined(__SANITIZE_THREAD__) && defined(__x86_64__)
/* gcc's thread sanitizer knows no fences and says so; the processor's own do the same, unseen by it */
#define fence_acquire() compiler_barrier()
#define fence_total() __asm__ __volatile__("mfence" ::: "memory")
#else
#define fence_acquire() __atomic_thread_fence(__ATOMIC_ACQUIRE)
#define fence_total() __atomic_thread_fence(__ATOMIC_SEQ_CST)
#endif

/* Adds in one instruction without a lock: only the owning thread writes; atomic against its own signal handlers. */
static inline void add_own(uint64_t *at, uint64_t value)
{
#if defined(__x86_64__)
    __asm__ __volatile__("addq %1, %0" : "+m"(*at) : "er"(value) : "cc");
#else
    store_relaxed(at, load_relaxed(at) + value);
#endif
}

/* The same, and what stood there before: a handler that interrupts gets a number of its own. */
static inline uint64_t fetch_add_own(uint64_t *at, uint64_t value)
{
#if defined(__x86_64__)
    __asm__ __volatile__("xaddq %0, %1" : "+r"(value), "+m"(*at) : : "cc");
    return value;
#else
    uint64_t old = load_relaxed(at);
    store_relaxed(at, old + value);
    return old;
#endif
}

#endif
