/*
 * record.h - the thread's side of its lane: who am I, may I record, one event from a call's facts.
 *
 * In:      wrap_*.c                      Out: wire/arena.h's lanes and chunks
 * Owns:    the thread-local block below; the process's mapping of the arena.
 * Context: S
 * Sharing: a lane is written by its own thread only; `shim` is written at start and after fork, by one thread.
 * Failure: an event that finds no lane, chunk or arena is counted as lost (lane.lost_*, arena.s_no_lane) and dropped.
 */
#ifndef SONDE_RECORD_H
#define SONDE_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "wire/arena.h"
#include "wire/atomics.h"
#include "wire/clock.h"
#include "wire/event.h"

/* Plain words, initial-exec. Zero is "knows nothing yet", right for threads that begin before our constructor. */
struct thread_local_block {
    struct lane *lane;   /* NULL: none claimed, or none to be had */
    uint64_t epoch;      /* of the process when `lane` was taken; compared with *shim.epoch (WIPEONFORK) before each use */
    uint64_t wait_return; /* ticks when this thread's last wait returned; 0: none since the last event */
    uint64_t last_allocated, last_freed, last_allocations; /* totals at the last event: did any move by 2^31, or at all */
    uint64_t last_waits;  /* lock + disk + sleep at the last event */
    uint64_t id_serial;   /* high half of the ids given here: the lane's serial, or another of its series; 0 none yet */
    uint64_t connections; /* ids given under it */
    uint32_t in_vfork;    /* 1: this is a vfork child in our parent's memory: forward only */
    uint64_t *jemalloc_allocated, *jemalloc_freed; /* thread.allocatedp/deallocatedp, NULL: count ourselves */
    uint64_t jemalloc_allocated_base, jemalloc_freed_base; /* where they stood when the lane was taken */
    uint64_t sample_at; /* lane.allocated at which the next stack is sampled; 0: not drawn yet, see sampled.h */
    uint64_t random;    /* state of the generator that draws it */
    uint64_t turn_waits;  /* of `lock` since the last event: waits for work, which are no reason to tell of the next one */
    uint64_t lock_left;   /* ticks of waiting for locks until the next sample; 0: not drawn yet */
    uintptr_t call_place; /* stack address of the mark of the call that it is in, see call_enter */
    uint32_t cpu; /* enum cpu_knowledge: is the CPU clock of this thread's last event known? */
    uint32_t waits_known; /* `waits` was read and no switch seen since */
    uint64_t waits;       /* times that the thread gave its processor up itself */
    uint64_t waits_timed; /* of them, in waits that are in the totals */
};
enum cpu_knowledge { CPU_UNREAD, CPU_READ, CPU_UNREADABLE };
extern __thread struct thread_local_block self __attribute__((tls_model("initial-exec"), visibility("hidden")));

struct shim_state {
    struct arena_view view;
    uint64_t *epoch;     /* one word at the start of WIPEONFORK pages: 0 in a child that has not attached yet; sampled.h has the rest */
    uint32_t process;    /* index of our slot */
    uint32_t serial;     /* and its serial */
    uint32_t clock;      /* enum clock_kind; 0: may not read it (EVENT_NO_CLOCK) */
    bool attached;
    uint64_t stale_ticks; /* a `busy` that stands for longer is nobody's; 0: unknown rate */
    bool waits;           /* lock, disk and sleep are measured */
    bool locks_known;     /* libc's locks have the layout that wrap_lock.c reads */
    bool shut;            /* a seccomp filter may forbid any system call of ours */
    uint64_t long_ticks;  /* 20 us */
    uint64_t lock_sample_ticks; /* mean wait between sampled stacks; 0: none */
};
extern struct shim_state shim __attribute__((visibility("hidden")));

/*
 * The lane of this thread, or NULL: not attached, switched off, vfork child, no lane left. One compare and two loads
 * when all is as before; else lifecycle.c re-attaches after fork or claims a lane. Keeps errno.
 */
struct lane *lane_slow(void);
static inline struct lane *lane_here(void)
{
    if (__builtin_expect(self.lane && shim.epoch && self.epoch == *shim.epoch && !self.in_vfork, 1))
        return self.lane;
    return lane_slow();
}

/* Off: the kill switch, or no arena. Read by every wrapper that would make an event. */
static inline bool recording(void)
{
    return shim.attached && !load_relaxed(&shim.view.arena->off) && !self.in_vfork;
}

static inline uint64_t ticks_now(void)
{
    return shim.clock ? clock_now(shim.clock) : 0;
}

/* Where the allocator counts bytes itself, its counters are copied into the lane before they are looked at. */
static inline void totals_refresh(struct lane *l)
{
    if (__builtin_expect(self.jemalloc_allocated != NULL, 0)) {
        store_relaxed(&l->allocated, *self.jemalloc_allocated - self.jemalloc_allocated_base);
        store_relaxed(&l->freed, *self.jemalloc_freed - self.jemalloc_freed_base);
    }
}

/* What a wrapper knows of a call that returned. Unset fields are zero. */
struct observation {
    uint8_t type, flags; /* enum event_type, event_flag */
    int32_t descriptor;
    uint64_t connection, offset;
    uint64_t entry, time; /* ticks */
    int64_t result;
    const struct iovec *data; /* bytes to capture from, NULL none; only after success */
    int data_count;
    uint64_t data_bytes;      /* how many of them the result vouches for */
    uint32_t plan;            /* enum plan */
};

/* Writes one event into the lane (may be NULL: counted). Keeps errno. Never fails visibly. */
void record_event(struct lane *, const struct observation *);

/* After an event that found room: the frees that found none (owed.h). */
void record_owed(struct lane *, uint64_t time);

/* A small event whose payload is `bytes` at `data` (addresses, arguments). */
void record_note(struct lane *, const struct observation *, const void *data, size_t bytes);

static inline void prefetch_for_write(const void *at)
{
#if defined(__x86_64__)
    __asm__ __volatile__("prefetchw %0" : : "m"(*(const char *)at)); /* gcc's builtin would fetch it shared */
#else
    __builtin_prefetch(at, 1);
#endif
}

/*
 * Before a call whose event is likely: its lines come while the kernel works. The collector's core has read the chunk's
 * lines last, and a connection's plan stands anywhere in 256 KiB; waiting for them after the call cost more than all else.
 */
static inline void record_prepare(const struct lane *l, uint64_t connection)
{
    uint32_t chunk = l ? load_relaxed(&l->chunk) : 0;
    if (chunk && chunk <= shim.view.chunks) {
        const char *at = (const char *)&shim.view.chunk[chunk - 1] + load_relaxed(&l->write);
        prefetch_for_write(&shim.view.chunk[chunk - 1]);
        prefetch_for_write(at);
        prefetch_for_write(at + 64);
        prefetch_for_write(at + 128);
        prefetch_for_write(at + 192);
    }
    if (connection)
        __builtin_prefetch(&shim.view.plan[arena_plan_hash(connection) & (ARENA_PLANS - 1)]);
}

/*
 * Around a call that may block: what the thread is in, for in-flight reports. `call_enter` returns the entry ticks.
 * A signal handler's calls give back the mark of the call that they interrupt: `before` keeps it on the stack. These two
 * never guard anything: a longjmp past call_leave leaves a stale mark. The next call knows it by the stack, as its own
 * `before` stands at or above the place of the one that was left; deeper down it takes the mark for an interrupted one.
 */
struct call_mark {
    uint32_t call; /* CALL_NONE: nothing to give back, the rest is unset */
    uint64_t since, connection;
    uintptr_t place;
};

static __attribute__((noinline, unused)) void call_interrupt(const struct lane *l, struct call_mark *before)
{
    before->since = load_relaxed(&l->call_since);
    before->connection = load_relaxed(&l->call_connection);
    before->place = self.call_place;
    if ((uintptr_t)before >= before->place)
        before->call = CALL_NONE;
}

static inline uint64_t call_enter(struct lane *l, struct call_mark *before, enum call call, uint64_t connection)
{
    uint64_t now = ticks_now();
    before->call = CALL_NONE;
    if (l) {
        before->call = load_relaxed(&l->call);
        if (__builtin_expect(before->call, 0))
            call_interrupt(l, before);
        self.call_place = (uintptr_t)before;
        store_relaxed(&l->call_since, now);
        store_relaxed(&l->call_connection, connection);
        store_relaxed(&l->call, (uint32_t)call);
    }
    return now;
}

static inline void call_leave(struct lane *l, const struct call_mark *before)
{
    if (!l)
        return;
    if (__builtin_expect(before->call, 0)) {
        self.call_place = before->place;
        store_relaxed(&l->call_since, before->since);
        store_relaxed(&l->call_connection, before->connection);
    }
    store_relaxed(&l->call, before->call);
}

/*
 * Waits: `wait_begin` records EVENT_TURN when a total moved since the last event and marks the call; `wait_end` notes
 * when it returned. Both take NULL, and forward silently when switched off.
 */
void wait_begin(struct lane *, struct call_mark *before, enum call);
void wait_end(struct lane *, const struct call_mark *before);

/* The next connection id: unique in the arena, also for a thread without a lane. */
uint64_t connection_id_next(const struct lane *);

#endif
