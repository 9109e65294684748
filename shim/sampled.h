/*
 * sampled.h - which allocations have their stack taken, and which blocks of those are alive.
 *
 * In:      usage.h, usage.c, wrap_memory.c, wrap_operators.c.      Out: stack.h, record.h.
 * Owns:    the pages behind the epoch word (lifecycle.c makes them): a filter and a table of sampled blocks. They are
 *          WIPEONFORK: a child begins with none.
 * Context: S. No lock, no system call but what a stack needs.
 * Sharing: a block is entered by the thread that got it and taken out by the one that frees it: never two at once for one
 *          address. Places are claimed by CAS.
 * Failure: no place: the sample has serial 0 and is not followed.
 *
 * The sampled bytes of a thread are a Poisson process over lane.allocated: gaps are exponential with mean
 * memory.sample_bytes, and the block in which a gap ends is sampled.
 */
#ifndef SONDE_SAMPLED_H
#define SONDE_SAMPLED_H

#include <stdbool.h>
#include <stdint.h>

#include "shim/owed.h"
#include "shim/record.h"

/*
 * | epoch, how many are owed, 1 page | filter: a count for each 1 KiB of addresses, folded | keys: buckets of 8 addresses |
 * their serials | freed and not told yet (owed.h) |
 * A count that reached 255 stays: its addresses are always looked up.
 */
#define SAMPLED_FILTER 4096u
#define SAMPLED_COUNTS 32768u
#define SAMPLED_PLACES 32768u
#define SAMPLED_KEYS (SAMPLED_FILTER + SAMPLED_COUNTS)
#define SAMPLED_SERIALS (SAMPLED_KEYS + 8u * SAMPLED_PLACES)
#define SAMPLED_OWED (SAMPLED_SERIALS + 8u * SAMPLED_PLACES)
#define SAMPLED_END ((long)(SAMPLED_OWED + OWED_BYTES))

static inline uint8_t *sampled_count(const void *block)
{
    return (uint8_t *)shim.epoch + SAMPLED_FILTER + ((uintptr_t)block >> 10 & (SAMPLED_COUNTS - 1));
}

/* False: surely no sampled block. Only where this process is attached. */
static inline bool sampled_maybe(const void *block)
{
    return *sampled_count(block);
}

/* Out of line. */
void *sampled_took(void *block); /* an allocation reached self.sample_at: returns the block */
void sampled_gave(void *block);  /* before a block that sampled_maybe() is freed */
uint64_t sampled_forget_slow(void *block);

/* Before a block is freed, by whatever function. */
static inline void sampled_check(void *block)
{
    if (__builtin_expect(block && shim.epoch && sampled_maybe(block), 0))
        sampled_gave(block);
}

/* Before a block is resized: its serial, 0: none. Then sampled_moved() says whether it was. */
static inline uint64_t sampled_forget(void *block)
{
    return __builtin_expect(block && shim.epoch && sampled_maybe(block), 0) ? sampled_forget_slow(block) : 0;
}
void sampled_moved(void *block, uint64_t serial, bool done);

/* P: bytes until the next sample, from 64 random bits: exponential, at least 1. */
uint64_t sampled_gap(uint64_t random, uint64_t mean);

#endif
