/*
 * drain.h - lanes of one arena → checked copies of their events.
 *
 * In:      an arena's pages (wire/arena.h), which any watched process may scribble over
 * Out:     order.c (events, lane by lane), watch.c (totals of lanes)
 * Owns:    its private picture of each lane; in the pages the collector's line of the lanes.
 * Context: C. No system call, no clock: a memory image is enough, a fuzzer's too.
 * Failure: a lane whose pages make no sense is broken: nothing more is read from it, all that its
 *          thread attempts counts as damaged. The other lanes go on.
 *
 * What is committed in a chunk is copied whole into the lane's window, then checked, then used;
 * from then on nobody reads those pages again. The positions in the lane's header move with the
 * copy, before the chunk is given back, so that a successor goes on where this collector stopped.
 */
#ifndef SONDE_DRAIN_H
#define SONDE_DRAIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "collector/order.h"
#include "wire/arena.h"
#include "wire/atomics.h"

#define DRAIN_WINDOWS 1024 /* 8 KiB each; lanes beyond go event by event */

/* Buffers for windows; one pool for all arenas. Zeroed memory is an empty pool. */
struct window {
    struct window *next;
    _Alignas(64) uint8_t bytes[CHUNK_BYTES];
};
struct window_pool {
    struct window *free;
    uint32_t made;
};
void window_pool_fini(struct window_pool *);

enum lane_stage {
    STAGE_NONE, /* not claimed, or not seen yet */
    STAGE_LIVE,
    STAGE_DEAD /* its thread is proven dead: what it left is drained, then the header is freed */
};

/* A lane's own counters; in ticks where struct lane has ticks. */
struct lane_totals {
    uint64_t allocated, freed, allocations, lock, disk, sleep;
};

struct drain;

struct drain_lane {
    /* merge */
    const uint8_t *at, *end; /* unread part of the window; equal: empty */
    uint64_t key;            /* ns: of the next event; before it is known, of the last one */
    struct drain *drain;
    struct lane *shared;
    uint32_t number;          /* item.lane */
    uint32_t thread, process; /* item.thread, item.process */
    uint8_t stage;            /* enum lane_stage */
    bool queued;              /* stands in the merge */
    bool broken, recalled, resumed;
    bool uncountable; /* its count of attempts is garbage: one loss was told for it */
    bool peeked; /* an event is there, but no window was left: `peek_time`, `peek_flags` are its */
    uint8_t peek_flags;
    uint64_t peek_time;
    struct totals total;     /* at the last event that was handed on */
    uint64_t cpu_at_ns;      /* up to when total.cpu_ns is known; before the first anchor: the lane's beginning */
    uint64_t cpu_base_ns;    /* what the thread's clock showed when total.cpu_ns was 0, once cpu_based */
    bool cpu_known, cpu_based; /* known: as of the last event that was handed on */
    bool ready;                /* between that one and the one before it never gave its processor up itself */
    uint64_t waits;            /* event_block.waits as last read, 0 not known */
    struct lane_totals seen; /* and the ticks behind its lock, disk and sleep */
    uint64_t total_told;     /* accounted + 1 when the totals of a silent thread were told */
    /* reading */
    struct window *window;
    uint32_t read_chunk, read_offset;
    uint32_t index, serial;
    uint64_t drained,
        gone; /* copied; known lost between them. Their sum's low half: the last sequence copied */
    uint64_t accounted; /* handed on, or told as lost: its low half + 1 is the sequence that comes
                           next */
    uint64_t full_told, nested_told; /* losses told with that reason */
    /* identity */
    uint32_t process_index, process_serial;
    int32_t tid;
    uint32_t next_of_process, previous_of_process; /* index + 1 */
    uint64_t start_ns, death_ns;
    /* idleness, holding */
    uint64_t quiet_since_ns; /* 0: something came since the last look */
    uint64_t quiet_drained;  /* `drained` at that time */
    uint64_t held_for;       /* the reserved_at for which the merge waited long enough */
    uint64_t call_told;      /* the call_since that was told */
    bool asked;              /* recall = 1 stands since the last sweep */
};

struct drain {
    struct arena_view view;
    bool tsc;                 /* times are TSC cycles, else ns of CLOCK_MONOTONIC */
    uint64_t mark;            /* set in connection ids of this arena; 0 for the main one */
    struct drain_lane *lanes; /* [view.lanes] */
    uint32_t *process_lanes;  /* [view.processes]: index + 1 of the first lane, 0 none */
    struct window_pool *windows;
    struct window scratch; /* of a lane that got no window */
    uint32_t live;         /* lanes in use */
    uint32_t high;         /* lanes ever in use stand below */
    uint64_t broken_lanes; /* ever */
    uint64_t
        accounted_freed; /* events of lanes already freed, this collector's and its predecessors' */
    bool leaking;        /* chunks may stand with nobody: sweep */
};

/* The pages must be an arena that arena_attach took. 0 or -ENOMEM. `mark`: 0, or
 * DRAIN_MARK(ordinal). */
int drain_init(struct drain *, const struct arena_view *, uint64_t mark, struct window_pool *);
void drain_fini(struct drain *);

/*
 * Connection ids over arenas: the main arena's stand as they are; a count never reaches 2^28, so
 * bit 31 says "of a fallback arena", whose ordinal takes the high 12 bits of the serial: such an
 * arena is one small family of processes.
 */
#define DRAIN_ORDINALS 4096u
#define DRAIN_MARK(ordinal) (UINT64_C(1) << 31 | (uint64_t)((ordinal) & (DRAIN_ORDINALS - 1)) << 52)
#define DRAIN_MARKED(id) ((id) >> 31 & 1)
#define DRAIN_ORDINAL(id) ((uint32_t)((id) >> 52))
#define DRAIN_BARE(id) ((id) & ~(UINT64_C(1) << 31 | UINT64_C(0xfff) << 52))
static inline uint64_t drain_id(const struct drain *d, uint64_t id)
{
    return !id || !d->mark ? id & ~(UINT64_C(1) << 31) : DRAIN_BARE(id) | d->mark;
}

/* Lanes beyond this index were never used. */
uint32_t drain_high(struct drain *);

/* Takes up a lane that was claimed since the last look: identity, position. false: it is not there.
 */
bool drain_begin(struct drain *, uint32_t index);

/* A lane that never made an event may have been given back by its own thread: then it is ours no
 * more. */
bool drain_is_gone(const struct drain_lane *);
void drain_forget(struct drain_lane *);

/* Did the thread attempt anything that was not copied yet? One load. */
static inline bool drain_has_news(const struct drain_lane *l)
{
    return load_relaxed(&l->shared->sequence) != l->drained + l->gone || l->recalled;
}

/*
 * Something is committed: makes at < end, or, when no window is left, peeked. The former window is
 * lost. Of a peeked lane drain_take then copies that one event, into a place that the next
 * drain_take of this arena overwrites.
 */
bool drain_fill(struct drain_lane *);
bool drain_take(struct drain_lane *);
/* The window is empty and its buffer is not needed. */
void drain_release_window(struct drain_lane *);

/* The next part of `missing` events with one reason: counts it as told, returns how many. */
uint64_t drain_lost(struct drain_lane *, uint64_t missing, enum loss *reason);
/* The same, but only what the producer's own counters explain; 0: nothing more. */
uint64_t drain_explained(struct drain_lane *, uint64_t missing, enum loss *reason);
/* After the last event of a dead lane (or of one that we leave): attempts that never came. */
uint64_t drain_missing(const struct drain_lane *);
/* What the lane's header says now, whatever was drained. */
void drain_totals(const struct drain_lane *, struct lane_totals *);

/* Adds a dead, drained lane to what its process had, gives its chunks and its header back. */
void drain_free(struct drain_lane *);
/* What lanes already freed had counted. */
void drain_ended(const struct drain *, uint32_t process_index, struct lane_totals *);

/*
 * Once a second, more often when the pool runs low: asks lanes that were silent for `quiet_ns` (as
 * far as these calls saw) for their chunks, takes those that the last call asked for. Returns how
 * many were asked or taken.
 * `barrier` makes every watched thread's earlier stores visible (membarrier); false: it could not.
 */
uint32_t drain_recall(struct drain *, uint64_t now_ns, uint64_t quiet_ns,
                      bool (*barrier)(void *to), void *to);

/*
 * Finds chunks that nobody holds any more (their thread died between taking and linking one) and
 * frees them; `barrier` as above. Returns how many. O(chunks): at a take-over, when the pool runs
 * low, when a death left some.
 */
uint32_t drain_sweep(struct drain *, bool (*barrier)(void *to), void *to);

/* Free chunks by the arena's own count, which is approximate: 0…view.chunks. */
uint32_t drain_free_chunks(const struct drain *);

#endif
