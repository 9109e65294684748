/*
 * heap.h - sampled blocks and waits: whose they are, which of them live, what a request retained.
 *
 * In:      connection.c (ALLOCATED, FREED, LOCKED, OBJECT), activity.c (owners), span.c (requests that end), facts
 * Out:     sites.h (per endpoint and stack), rollup.h (retained)
 * Owns:    blocks by process and serial, requests that wait for memory.retained_s to pass.
 * Context: C
 *
 * One of about `mean` bytes is hit, so a block of a bytes stands for a / (1 - exp(-a / mean)): the sum of these is right
 * on average, whatever the sizes. n samples tell it to about 1/sqrt(n).
 *
 *   ALLOCATED → waits on its thread (activity.h's lists) → its request's, or outside: counted at its site
 *   request ends → booked at its endpoint's sites; what lives of it is looked at again memory.retained_s after its end
 *   FREED → off its site's live ones; not retained if that was before the second look
 *   process ends → its blocks were never freed: `ended` at their sites, retained
 *
 * Bounds: 65 536 blocks, then the oldest is forgotten; 4096 requests that are held back from sampling, then the oldest
 * goes without its own number (its endpoint's is right all the same); both are counted.
 */
#ifndef SONDE_HEAP_H
#define SONDE_HEAP_H

#include "collector/activity.h"
#include "collector/rollup.h"
#include "wire/options.h"

#define HEAP_BLOCKS 65536u
#define HEAP_HELD 4096u

struct heap;
struct heap *heap_new(const struct options *, struct rollup *); /* NULL: no memory */
void heap_free(struct heap *);

/* What a sample of this amount stands for, mean > 0. P. */
uint64_t heap_weight(uint64_t amount, uint64_t mean);

/* An event of sampled stacks. The list that waits for its owner, 0: none. */
uint32_t heap_event(void *heap, const struct item *, const struct thread *);
/* sample_lists of activity.h */
uint32_t heap_join(void *heap, uint32_t list, uint32_t more);
void heap_belong(void *heap, uint32_t list, struct exchange *, bool shared);
/* spans_samples of span.h: it leaves now; sets samples and retained. Not `counted`: what it had is outside's. */
void heap_leaves(void *heap, struct span *, bool counted);

void heap_fact(struct heap *, const struct item *); /* PROCESS, PROCESS_TOTAL, PROCESS_END; after connection_fact */
uint32_t heap_flags(const struct heap *, uint32_t process); /* PROCESS_LOST_FREES, by now */
void heap_gap(struct heap *, const struct item *);  /* frees may be among what is missing: what lives then is a guess */
void heap_tick(struct heap *, uint64_t time_ns);
void heap_finish(struct heap *); /* all that is open has ended: what lives is retained */

struct heap_counts {
    uint64_t forgotten; /* blocks, at the bound */
    uint64_t other;     /* samples that the bounds of sites sent to {other} */
    uint64_t let_go;    /* requests that were not held back any longer */
};
struct heap_counts heap_counts(const struct heap *);

#endif
