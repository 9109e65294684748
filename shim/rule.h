/*
 * rule.h - how to step from one return address to the caller's: learned once from the unwind tables, then a look-up.
 *
 * In:      stack.c, wrap_process.c (dlclose).       Out: libunwind, by dlopen; record.h for EVENT_OBJECT.
 * Owns:    the table of rules, the interpreter's lock and stack.
 * Context: S
 * Sharing: rules are read without a lock and written by whoever holds the try-lock. An entry is {address, rule}: the
 *          writer stores 0, the rule, the address; a reader takes the rule only when the address stood there before and after.
 * Failure: RULE_NONE, nothing is kept: ask again another time.
 */
#ifndef SONDE_RULE_H
#define SONDE_RULE_H

#include <stdbool.h>
#include <stdint.h>

#include "shim/record.h"

/* CFA: the stack pointer as the caller has it back after the return; the return address stands right below. */
enum rule_kind {
    RULE_NONE,    /* not known */
    RULE_RSP,     /* CFA = rsp + offset */
    RULE_RBP,     /* CFA = rbp + offset */
    RULE_ALIGNED, /* CFA = *(rbp + offset), rbp at *rbp: a function that aligns its stack */
    RULE_FRAME,   /* no tables: a frame pointer, if what it points to looks like one */
    RULE_LAST,    /* the thread's first function */
    RULE_STOP,    /* a signal's frame, or no return address at all: go no further */
    RULE_UNKNOWN  /* tables that say something else */
};

/*
 * kind 0..2 | rbp is saved 3 | CFA offset / 8, signed, 4..23 | where rbp is saved, from the CFA, / 8, 24..39 |
 * generation 40..55
 */
typedef uint64_t rule_t;

static inline enum rule_kind rule_kind(rule_t r)
{
    return (enum rule_kind)(r & 7);
}

static inline bool rule_saves_rbp(rule_t r)
{
    return r >> 3 & 1;
}

static inline int64_t rule_offset(rule_t r)
{
    return (int64_t)(r << 40) >> 44 << 3;
}

static inline int64_t rule_rbp(rule_t r)
{
    return (int64_t)(r << 24) >> 48 << 3;
}

/* Context P. RULE_UNKNOWN where the numbers do not fit. */
rule_t rule_make(enum rule_kind kind, int64_t offset, bool saves_rbp, int64_t rbp);

struct rule_entry {
    uint64_t address;
    rule_t rule;
};
#define RULES 16384u /* 256 KiB, touched as it fills */
#define RULE_PROBES 8u

struct rules {
    struct rule_entry *entry; /* NULL: stacks are not walked here */
    uint32_t generation;      /* rules learned under another one are forgotten */
    uint32_t lock;
    uint32_t unloading; /* threads inside dlclose: objects may go away under us */
    uint32_t no_calls;  /* see stack_no_calls */
    uint32_t walking;   /* threads inside stack_walk; more after one left it by longjmp */
    uint32_t state;     /* enum rule_state */
    const void *starter; /* `self` of the thread that is in rule_start */
};
enum rule_state { RULES_PENDING, RULES_READY, RULES_MISSING, RULES_OFF }; /* pending: our constructor has not run yet */
extern struct rules rules __attribute__((visibility("hidden")));

static inline bool rule_pending(void)
{
    return load_relaxed(&rules.state) == RULES_PENDING;
}

static inline bool rule_ready(void)
{
    return load_relaxed(&rules.state) == RULES_READY;
}

static inline bool rule_is_starting(void)
{
    return __builtin_expect(rules.starter == &self, 0);
}

static inline uint32_t rule_slot(uint64_t address)
{
    return (uint32_t)(address * UINT64_C(0x9e3779b97f4a7c15) >> 50);
}
_Static_assert(RULES == 1u << 14, "rule_slot gives 14 bits");

/*
 * In no object, can be read, but no call stands before it: what an interpreter pushed before a jump (HotSpot's), or no
 * return address at all. What comes after it tells: see stack.c.
 */
#define RULE_ODD ((rule_t)RULE_FRAME | 1u << 3)

static inline bool rule_is_odd(rule_t r)
{
    return rule_kind(r) == RULE_FRAME && rule_saves_rbp(r);
}

/* What is known about this return address; RULE_NONE: nothing yet. */
static inline rule_t rule_known(uint64_t address)
{
    uint32_t slot = rule_slot(address);
    for (uint32_t i = 0; i < RULE_PROBES; i++) {
        struct rule_entry *e = &rules.entry[(slot + i) & (RULES - 1)];
        uint64_t at = load_acquire(&e->address);
        if (at != address)
            continue;
        rule_t r = load_acquire(&e->rule);
        if (load_relaxed(&e->address) == address &&
            (uint16_t)(r >> 40) == (uint16_t)load_relaxed(&rules.generation))
            return r;
        return RULE_NONE;
    }
    return RULE_NONE;
}

/* Out of line: reads the unwind tables. RULE_NONE: not now. Keeps errno. */
rule_t rule_learn(uint64_t address);

/* True: rules can be learned. Context I, see stack_start. */
bool rule_start(void);

/* Around dlclose: what was known may be wrong afterwards. */
void rule_unload_begin(void);
void rule_unload_end(void);

/* Can these bytes be read? Asked of the kernel, without side effect: about 0.1 µs. */
bool rule_readable(uint64_t address);

#endif
