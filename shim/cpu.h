/*
 * cpu.h - the thread's CPU clock, read only when it can have stopped: has this thread been switched off the processor?
 *
 * In:      record.c, wrap_*.c (waits), lifecycle.c.    Out: the kernel's restartable-sequence area of the thread.
 * Owns:    `rseq_cs` of that area while no critical section of the program's own runs.
 * Context: S
 * Sharing: the area and `self` are the thread's own; `cpu` is written at start and before a seccomp filter is set.
 * Failure: no rseq (libc before 2.35, kernel before 4.18, switched off by a tunable): `cpu.how` is CPU_NONE, the
 *          process says PROCESS_NO_CPU, a switch is never told apart.
 *
 * The thread CPU clock is a system call of 0.2-0.4 us: too much for each event. While a thread stays on its processor
 * that clock and the arena's run alike, so it is read once, and again only after a switch. The kernel tells a switch for
 * nothing: whenever it takes a thread off the processor, moves it or delivers it a signal, it clears `rseq_cs` unless
 * the thread stands inside the critical section that the word names (Documentation/userspace-api/rseq.rst). We store
 * there the name of a section that nobody ever runs; if it is still there later, the thread has run all the time.
 *
 * A program with restartable sequences of its own stores its own names and clears them: that looks like a switch. We
 * never store while one of its sections runs: a signal aborts the section before the handler, where we might run.
 */
#ifndef SONDE_CPU_H
#define SONDE_CPU_H

#include <stdbool.h>
#include <stdint.h>

#include "shim/record.h"

enum cpu_how {
    CPU_NONE, /* not to be had, or not wanted */
    CPU_RSEQ,
    CPU_SHUT /* it was, until a seccomp filter that may forbid the clock: switches are still seen */
};

struct cpu_state {
    uint32_t how;          /* enum cpu_how */
    bool reads;            /* events carry the clock (FEATURE_CPU) */
    intptr_t area;         /* of the thread's struct rseq from its thread pointer */
};
extern struct cpu_state cpu __attribute__((visibility("hidden")));

/* The section that nobody runs: struct rseq_cs, as linux/rseq.h has it. */
struct cpu_section {
    uint32_t version, flags;
    uint64_t start, length, abort;
} __attribute__((aligned(32)));
extern const struct cpu_section cpu_section __attribute__((visibility("hidden")));

/* Finds out once whether it can be done here. Context I. */
void cpu_attach(uint32_t features);
/* It is wanted and cannot be had: what PROCESS_NO_CPU says. */
static inline bool cpu_is_missing(void)
{
    return shim.view.arena->features & FEATURE_CPU && cpu.how != CPU_RSEQ;
}

/* A seccomp filter is about to be set: no system call of ours from here on. */
void cpu_shut(void);

/*
 * Sets the mark, then reads: ns of this thread's CPU clock, or UINT64_MAX: it may not be read (any more). And counts
 * waits: between two readings that show the same count, all time off the processor was spent in the run queue.
 */
uint64_t cpu_read(void);

static inline uint64_t *cpu_word(void)
{
    /* struct rseq: cpu_id_start, cpu_id, then rseq_cs */
    return (uint64_t *)(void *)((char *)__builtin_thread_pointer() + cpu.area + 8);
}

static inline bool cpu_mark_stands(void)
{
    return __atomic_load_n(cpu_word(), __ATOMIC_RELAXED) == (uint64_t)(uintptr_t)&cpu_section;
}

static inline void cpu_set_mark(void)
{
    __atomic_store_n(cpu_word(), (uint64_t)(uintptr_t)&cpu_section, __ATOMIC_RELAXED);
    compiler_barrier();
}

/* Must the event in hand carry the clock? */
static inline bool cpu_wants_reading(void)
{
    return cpu.reads && self.cpu != CPU_UNREADABLE && (self.cpu == CPU_UNREAD || !cpu_mark_stands());
}

/*
 * Around a call that may wait: was the thread switched off during it? CPU_UNKNOWN where that cannot be told. A mark
 * that stood before stays for the events; one that was gone leaves a note for them.
 */
enum cpu_switched { CPU_STAYED, CPU_SWITCHED, CPU_UNKNOWN };

static inline void cpu_mark_begin(void)
{
    if (cpu.how == CPU_NONE || cpu_mark_stands())
        return;
    if (self.cpu == CPU_READ)
        self.cpu = CPU_UNREAD;
    self.waits_known = 0;
    cpu_set_mark();
}

static inline enum cpu_switched cpu_was_switched(void)
{
    if (cpu.how == CPU_NONE)
        return CPU_UNKNOWN;
    return cpu_mark_stands() ? CPU_STAYED : CPU_SWITCHED;
}

/*
 * Around a wait that is timed: the turns given up in it are known for what they are (event_block.waits). The second
 * after a switch that was such a wait.
 */
void cpu_count_waits(void);
void cpu_timed_end(void);

static inline void cpu_timed_begin(void)
{
    cpu_mark_begin();
    if (cpu.reads && cpu.how == CPU_RSEQ && !self.waits_known)
        cpu_count_waits();
}

/*
 * The same for calls that seldom wait, on files: there a switch is mostly another thread's turn on a busy machine, and
 * no wait of this one. The kernel counts the two apart (getrusage, 0.3 us); asked before the first such call after a
 * switch, and again when one was seen during the call. CPU_STAYED: it did not wait.
 */
enum cpu_switched cpu_has_waited(void);

static inline void cpu_wait_begin(void)
{
    cpu_mark_begin();
    if (cpu.how == CPU_RSEQ && !self.waits_known)
        cpu_count_waits();
}

static inline enum cpu_switched cpu_wait_end(void)
{
    enum cpu_switched switched = cpu_was_switched();
    return switched == CPU_SWITCHED ? cpu_has_waited() : switched;
}

#endif
