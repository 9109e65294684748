/*
 * stall.h - time in which a thread waited, added to its lane's totals: lock, disk, sleep.
 *
 * In:      wrap_lock.c, wrap_sleep.c, wrap_io.c, wrap_file.c, wrap_wait.c.    Out: record.c, cpu.h.
 * Owns:    the lane's `lock`, `disk`, `sleep`; the thread's countdown to its next sample.
 * Context: S
 * Sharing: the own lane only.
 * Failure: the wait is not counted. It is not either when the call is left by longjmp or cancellation.
 *
 *     struct stall s;
 *     stall_begin(&s, CALL_LOCK);
 *     int result = real.pthread_mutex_lock(m);
 *     stall_locked(&s);
 *
 * A call counts only when the thread was switched off during it: what it spent on the processor, spinning or copying
 * from the page cache, is CPU time. Where a switch cannot be told (cpu.h), locks and sleeps count whole, and calls on
 * files that took 20 us.
 *
 * Nothing is held between the two, errno is never written.
 */
#ifndef SONDE_STALL_H
#define SONDE_STALL_H

#include "shim/cpu.h"
#include "shim/descriptor.h"
#include "shim/record.h"

struct stall {
    struct lane *lane; /* NULL: not measured */
    uint64_t since;    /* ticks */
    struct call_mark before;
};

/* What may be measured here: by the run's features, its clock and libc. Context I. */
void stall_attach(void);

/* The clock is gone, or is back (lifecycle_no_clock): without one, no wait is measured. */
void stall_clock_changed(void);

/* A wait that does not end what the thread works for. */
void stall_begin(struct stall *, enum call);
void stall_locked(const struct stall *); /* sampled with its stack, see event_sample */
void stall_joined(const struct stall *); /* lock too, never sampled: a main thread waits for its workers for ever */
void stall_slept(const struct stall *);
/* Disk: another thread's turn on the processor meanwhile is no wait of this one (cpu_wait_begin). */
void stall_disk_begin(struct stall *, enum call);
void stall_read(const struct stall *); /* the descriptor is surely a file's */

/* A signal handler may have forked: then the child comes back here, and the lane is its parent's. */
static inline bool stall_is_ours(const struct stall *s)
{
    return s->lane && self.lane == s->lane && self.epoch == load_relaxed(shim.epoch);
}

/* The same for a call on a descriptor that may be a file's: sockets, pipes and the like are not measured. */
void stall_file_slow(const struct stall *, int fd);
static inline void stall_file_begin(struct stall *s, int fd, enum call call)
{
    const struct slot *slot = descriptor_find(fd);
    if (slot && slot_kind(load_relaxed(&slot->word)) >= KIND_OPENED)
        stall_disk_begin(s, call);
    else
        s->lane = NULL;
}
static inline void stall_file_end(const struct stall *s, int fd)
{
    if (!stall_is_ours(s))
        return;
    call_leave(s->lane, &s->before);
    if (__builtin_expect(cpu_was_switched() != CPU_STAYED, 0))
        stall_file_slow(s, fd);
}

/*
 * A call that is marked and timed by others: sendfile to a socket that never makes it wait, so that what it waits for is
 * the file. Before its event, which then tells of it.
 */
static inline void stall_borrow(struct stall *s, struct lane *l, uint64_t since)
{
    s->lane = shim.waits ? l : NULL;
    s->since = since;
    if (s->lane)
        cpu_wait_begin();
}
void stall_borrowed_slow(const struct stall *);
static inline void stall_borrowed(const struct stall *s)
{
    if (stall_is_ours(s) && __builtin_expect(cpu_was_switched() != CPU_STAYED, 0))
        stall_borrowed_slow(s);
}

/* Without a mark, for calls that are made often and hardly ever wait; `fd` is what they opened. */
static inline void stall_open_begin(struct stall *s)
{
    s->lane = shim.waits && recording() ? lane_here() : NULL;
    if (s->lane) {
        s->since = ticks_now();
        cpu_wait_begin();
    }
}
static inline void stall_open_end(const struct stall *s, int fd)
{
    if (stall_is_ours(s) && __builtin_expect(cpu_was_switched() != CPU_STAYED, 0))
        stall_file_slow(s, fd);
}

/* A wait for work: it ends what the thread works for, as poll does, and counts as lock. */
void stall_turn_begin(struct stall *, enum call);
void stall_turn_end(const struct stall *);

#endif
