/*
 * stack.c - steps from frame to frame by known rules, and reads only what the kernel says can be read.
 *
 * In:      see stack.h.                          Out: rule.h.
 * Context: S. No lock is waited for, nothing allocates, no function of the loader or of libc is called.
 * Failure: see stack.h.
 *
 * The window: our own frame's page can be read, for we run on it. Each further page upwards is asked for before its
 * first word is read, one after the other, so that a walk never jumps over a gap: what lies beyond a guard page is
 * another stack. Nothing is remembered for the next walk: a coroutine's stack may be unmapped meanwhile. Addresses
 * only grow, so a walk ends; tables that lie lead to a wrong frame at worst.
 */
#define _GNU_SOURCE
#include "shim/stack.h"

#include <errno.h>

#include "shim/record.h"
#include "shim/rule.h"
#include "shim/usage.h"

#define PAGE UINT64_C(4096)
#define PAGES_MOST 256u /* 1 MiB, about 30 µs */

struct walk {
    uint64_t rip, rsp, rbp;
    uint64_t low, high; /* proven readable */
    unsigned pages;     /* asked for */
};

static bool prove(struct walk *w, uint64_t to)
{
    if (to - w->high > PAGES_MOST * PAGE || load_relaxed(&rules.no_calls))
        return false;
    while (w->high < to) {
        if (w->pages++ >= PAGES_MOST || !rule_readable(w->high))
            return false;
        w->high += PAGE;
    }
    return true;
}

static inline bool read_word(struct walk *w, uint64_t at, uint64_t *value)
{
    if (at < w->low || at & 7)
        return false;
    if (__builtin_expect(at >= w->high, 0) && !prove(w, at + 8))
        return false;
    *value = *(const uint64_t *)at; // NOLINT(performance-no-int-to-ptr): in the window
    return true;
}

static bool take_frame(struct walk *w, uint64_t cfa, bool saved, int64_t rbp_at)
{
    uint64_t rip, rbp = w->rbp;
    if (cfa <= w->rsp || !read_word(w, cfa - 8, &rip))
        return false;
    if (saved && (rbp_at >= 0 || cfa + (uint64_t)rbp_at < w->rsp || !read_word(w, cfa + (uint64_t)rbp_at, &rbp)))
        return false;
    w->rip = rip;
    w->rbp = rbp;
    w->rsp = cfa;
    return true;
}

/* One frame up. False: reading on would not be safe. */
static inline bool step(struct walk *w, rule_t rule)
{
    uint64_t cfa;
    switch (rule_kind(rule)) {
    case RULE_RSP:
        return take_frame(w, w->rsp + (uint64_t)rule_offset(rule), rule_saves_rbp(rule), rule_rbp(rule));
    case RULE_RBP:
        return take_frame(w, w->rbp + (uint64_t)rule_offset(rule), rule_saves_rbp(rule), rule_rbp(rule));
    case RULE_ALIGNED:
        return w->rbp >= w->rsp && read_word(w, w->rbp + (uint64_t)rule_offset(rule), &cfa) && cfa > w->rbp &&
               take_frame(w, cfa, true, (int64_t)(w->rbp - cfa));
    case RULE_FRAME:
        return w->rbp >= w->rsp && take_frame(w, w->rbp + 16, true, -16);
    default:
        return false;
    }
}

static inline rule_t rule_at(uint64_t address)
{
    rule_t r = rule_known(address);
    return __builtin_expect(r != RULE_NONE, 1) ? r : rule_learn(address);
}

extern const char own_start[] __asm__("__ehdr_start") __attribute__((visibility("hidden")));
extern const char own_end[] __asm__("_end") __attribute__((visibility("hidden")));

static inline bool is_own(uint64_t address)
{
    return address - (uint64_t)own_start < (uint64_t)own_end - (uint64_t)own_start;
}

/* `sure`: how many frames are none of a chain of odd ones, whose callers have not shown yet that it was one. */
static enum event_stack_end walk_on(struct walk *w, uint64_t *frames, unsigned most, unsigned *count, unsigned *sure)
{
    for (;;) {
        if (!w->rip)
            return STACK_WHOLE;
        rule_t rule = rule_at(w->rip);
        enum rule_kind kind = rule_kind(rule);
        if (kind == RULE_STOP)
            return STACK_UNSAFE;
        if (!rule_is_odd(rule))
            *sure = kind == RULE_NONE ? *sure : most;
        else if (*sure > *count)
            *sure = *count;
        if (!is_own(w->rip)) {
            if (*count == most)
                return STACK_CUT;
            frames[(*count)++] = w->rip;
        }
        if (kind == RULE_LAST)
            return STACK_WHOLE;
        if (kind == RULE_NONE || kind == RULE_UNKNOWN)
            return STACK_UNKNOWN;
        if (!step(w, rule))
            return kind == RULE_FRAME ? STACK_UNKNOWN : STACK_UNSAFE;
    }
}

static enum event_stack_end walk(struct walk *w, uint64_t *frames, unsigned most, unsigned *count)
{
    unsigned sure = most;
    enum event_stack_end end = walk_on(w, frames, most, count, &sure);
    if (*count <= sure)
        return end;
    *count = sure;
    return STACK_UNSAFE;
}

__attribute__((noinline)) unsigned stack_walk(uint64_t *frames, unsigned most, enum event_stack_end *end)
{
    unsigned count = 0;
    *end = STACK_UNKNOWN;
#if defined(__x86_64__)
    if (!rules.entry)
        return 0;
    const uint64_t *here = __builtin_frame_address(0);
    struct walk w = {.rip = here[1], .rbp = here[0], .rsp = (uint64_t)here + 16};
    w.low = (uint64_t)here;
    w.high = (w.low + 16 + PAGE - 1) & ~(PAGE - 1);
    __atomic_fetch_add(&rules.walking, 1, __ATOMIC_SEQ_CST);
    *end = walk(&w, frames, most, &count);
    __atomic_fetch_sub(&rules.walking, 1, __ATOMIC_SEQ_CST);
#else
    (void)frames, (void)most, (void)walk;
#endif
    return count;
}

void stack_start(void)
{
    bool wanted = shim.attached && (shim.view.arena->features & FEATURE_STACKS || shim.view.arena->lock_sample_ns);
    int saved = errno;
    uint32_t mode = usage.mode;
    usage.mode = USAGE_NONE; /* what the loader allocates for us is not the program's */
    bool done = wanted && rule_start();
    usage.mode = mode;
    errno = saved;
    store_relaxed(&rules.state, (uint32_t)(done ? RULES_READY : wanted ? RULES_MISSING : RULES_OFF));
    if (wanted)
        stack_attached(&shim.view.process[shim.process]);
}

void stack_attached(struct process_slot *slot)
{
    store_relaxed(&rules.walking, 0); /* our parent's other threads walk on there */
    if (load_relaxed(&rules.state) == RULES_MISSING)
        __atomic_fetch_or(&slot->flags, PROCESS_NO_STACKS, __ATOMIC_RELAXED);
}

#define PATIENCE 1000 /* times 20 us: a walk that was left by longjmp never ends */

/* A filter for all threads would kill one that is between two calls: first let each walk end that may not know yet. */
void stack_no_calls(void)
{
    if (load_relaxed(&rules.no_calls))
        return;
    store_total_order(&rules.no_calls, 1);
    uint64_t start = ticks_now();
    for (uint32_t i = 0; load_total_order(&rules.walking); i++) {
        if (shim.clock ? ticks_now() - start > PATIENCE * shim.long_ticks : i > 1u << 20)
            return;
#if defined(__x86_64__)
        __builtin_ia32_pause();
#endif
    }
}
