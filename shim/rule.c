/*
 * rule.c - learns rules: is it a return address at all, what do the tables say; keeps them, tells of their objects.
 *
 * In:      see rule.h.                           Out: rule_object.h, rule_tables.h.
 * Context: S. rule_start is I.
 * Sharing: everything but the look-up runs under `rules.lock`, which nobody waits for, with all signals blocked, on a
 *          stack of our own: 16 KiB threads and signal stacks are too small for libunwind.
 * Failure: see rule.h. A child forked while another thread was inside finds the lock taken for ever: it keeps the
 *          rules that it has.
 */
#define _GNU_SOURCE
#include "shim/rule.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "shim/real.h"
#include "shim/record.h"
#include "shim/rule_object.h"
#include "shim/rule_tables.h"
#include "wire/raw.h"

struct rules rules;

#define HOW_NONE 99 /* no operation of rt_sigprocmask */

bool rule_readable(uint64_t address)
{
    return raw4(SYS_rt_sigprocmask, HOW_NONE, (long)address, 0, 8) == -EINVAL;
}

static bool fits(int64_t n, unsigned bits)
{
    int64_t most = INT64_C(1) << (bits - 1);
    return !(n & 7) && n / 8 >= -most && n / 8 < most;
}

rule_t rule_make(enum rule_kind kind, int64_t offset, bool saves_rbp, int64_t rbp)
{
    if (!fits(offset, 20) || !fits(rbp, 16))
        return RULE_UNKNOWN;
    return (rule_t)kind | (rule_t)saves_rbp << 3 | ((rule_t)offset >> 3 & 0xfffff) << 4 |
           ((rule_t)rbp >> 3 & 0xffff) << 24;
}

#if defined(__x86_64__) && defined(__GLIBC__)

#define STACK_BYTES (64u << 10)
#define ANNOUNCED 1024u

/* What one learning needs, at the low end of its stack. */
struct lesson {
    uint64_t address;
    rule_t rule;
    struct object object;
    bool in_object;
    uint64_t announced[ANNOUNCED]; /* start of an object + generation */
    uint64_t note[(sizeof(struct event_object) + OBJECT_PATH_MOST) / 8]; /* struct event_object, path */
};
static struct lesson *lesson;
static char *stack_top;

/* --- is it a return address at all --- */

static bool lesson_reads(const struct lesson *l, uint64_t from, uint64_t bytes)
{
    if (l->in_object)
        return object_reads(&l->object, from, bytes);
    return rule_readable(from) && rule_readable(from + bytes - 8);
}

/* The bytes before it: E8 and FF /2 in its lengths. Others may look like one, too. */
static bool follows_call(const uint8_t *b)
{
    static const struct {
        uint8_t back, mask, value;
    } forms[] = {{2, 0xf8, 0xd0}, {2, 0xf8, 0x10}, {3, 0xf8, 0x50}, {3, 0xff, 0x14},
                 {4, 0xff, 0x54}, {6, 0xf8, 0x90}, {6, 0xff, 0x15}, {7, 0xff, 0x94}, {7, 0xff, 0x14}};
    if (b[-5] == 0xe8)
        return true;
    for (unsigned i = 0; i < sizeof forms / sizeof *forms; i++)
        if (b[-forms[i].back] == 0xff && (b[1 - forms[i].back] & forms[i].mask) == forms[i].value)
            return true;
    return false;
}

/* mov $15, %rax; syscall: where a signal handler returns to */
static bool is_signal_return(const uint8_t *b)
{
    static const uint8_t code[] = {0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0, 0x0f, 0x05};
    return !memcmp(b, code, sizeof code);
}

static rule_t rule_for(struct lesson *l)
{
    if (l->address < 65536 || l->address >> 47)
        return RULE_STOP;
    const uint8_t *code = (const uint8_t *)l->address; // NOLINT(performance-no-int-to-ptr)
    l->in_object = object_at(&l->object, l->address);
    if (l->in_object && (!l->object.segments || l->object.end <= l->object.start))
        return RULE_UNKNOWN;
    if (!lesson_reads(l, l->address - 8, 8))
        return RULE_STOP;
    if (lesson_reads(l, l->address, 16) && is_signal_return(code))
        return RULE_STOP;
    rule_t rule = l->in_object ? tables_ask(&l->object, l->address) : RULE_FRAME;
    if (rule == RULE_LAST || follows_call(code))
        return rule;
    return l->in_object ? RULE_STOP : RULE_ODD;
}

static void learn(void *at)
{
    struct lesson *l = at;
    l->rule = rule_for(l);
}

/* stack_switch.S: f(argument) with the stack pointer at `top` */
void stack_switch(void (*f)(void *), void *argument, void *top) __attribute__((visibility("hidden")));

/* --- keep it, tell of its object --- */

static struct rule_entry *entry_for(uint64_t address)
{
    uint32_t slot = rule_slot(address);
    struct rule_entry *victim = NULL;
    for (uint32_t i = 0; i < RULE_PROBES; i++) {
        struct rule_entry *e = &rules.entry[(slot + i) & (RULES - 1)];
        if (e->address == address)
            return e;
        if (!victim && (!e->address || (uint16_t)(e->rule >> 40) != (uint16_t)rules.generation))
            victim = e;
    }
    return victim ? victim : &rules.entry[(slot + (address >> 4) % RULE_PROBES) & (RULES - 1)];
}

static void keep(uint64_t address, rule_t rule, uint32_t generation)
{
    struct rule_entry *e = entry_for(address);
    store_release(&e->address, (uint64_t)0);
    store_release(&e->rule, rule | (rule_t)(uint16_t)generation << 40);
    store_release(&e->address, address);
}

extern const char own_start[] __asm__("__ehdr_start") __attribute__((visibility("hidden")));

/* Once an object and generation; again when the event was dropped. */
static void announce(struct lesson *l, uint32_t generation)
{
    uint64_t start = l->object.start, key = start + (uint16_t)generation % 4096u;
    uint64_t *mark = &l->announced[(start >> 12) * UINT64_C(0x9e3779b97f4a7c15) >> 54];
    struct lane *lane = recording() ? lane_here() : NULL;
    if (*mark == key || !lane || start == (uint64_t)own_start)
        return;
    uint64_t lost = lane->lost_full + lane->lost_nested, waited = self.wait_return;
    struct observation o = {.type = EVENT_OBJECT, .descriptor = -1, .time = ticks_now()};
    self.wait_return = 0; /* the next call's */
    record_note(lane, &o, l->note, object_note(&l->object, (struct event_object *)(void *)l->note));
    self.wait_return = waited;
    if (lost == lane->lost_full + lane->lost_nested)
        *mark = key;
}

/* --- under the lock --- */

static rule_t learn_locked(uint64_t address)
{
    uint32_t generation = load_acquire(&rules.generation);
    lesson->address = address;
    stack_switch(learn, lesson, stack_top);
    rule_t rule = lesson->rule;
    bool stands = !load_relaxed(&rules.unloading) && generation == load_relaxed(&rules.generation);
    if (stands)
        keep(address, rule, generation);
    if (stands && lesson->in_object && rule_kind(rule) != RULE_STOP)
        announce(lesson, generation);
    return rule;
}

/* Signals wait from before the lock is taken until it is free: a handler that jumps away would leave it taken. */
rule_t rule_learn(uint64_t address)
{
    if (load_relaxed(&rules.no_calls) || load_relaxed(&rules.unloading) || self.in_vfork || !lesson ||
        load_relaxed(&rules.lock))
        return RULE_NONE;
    int saved = errno;
    uint64_t all = ~UINT64_C(0), before = 0;
    uint32_t none = 0;
    rule_t rule = RULE_NONE;
    raw4(SYS_rt_sigprocmask, SIG_SETMASK, (long)&all, (long)&before, 8);
    if (cas_acq_rel(&rules.lock, &none, 1)) {
        rule = learn_locked(address);
        store_release(&rules.lock, 0);
    }
    raw4(SYS_rt_sigprocmask, SIG_SETMASK, (long)&before, 0, 8);
    errno = saved;
    return rule;
}

/* --- start --- */

static bool make_room(void)
{
    size_t table = RULES * sizeof(struct rule_entry), own = (sizeof(struct lesson) + 4095) & ~4095ul;
    long at = raw6(SYS_mmap, 0, (long)(table + own + 4096 + STACK_BYTES), PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (raw_failed(at))
        return false;
    char *base = (char *)at; // NOLINT(performance-no-int-to-ptr): an address from the kernel
    uint64_t guard = (uint64_t)(base + table + own);
    raw3(SYS_mprotect, (long)guard, 4096, PROT_NONE);
    /* a kernel that is none (an emulator's) may look at the operation first, and call everything readable */
    if (rule_readable(guard) || !rule_readable(guard - 8) || !rule_readable(guard + 4096)) {
        raw2(SYS_munmap, at, (long)(table + own + 4096 + STACK_BYTES));
        return false;
    }
    lesson = (struct lesson *)(void *)(base + table);
    stack_top = base + table + own + 4096 + STACK_BYTES;
    rules.entry = (struct rule_entry *)(void *)base;
    return true;
}

/*
 * Valgrind complains on stderr of each question that rule_readable() asks, and of the other stack. Its own sign, from
 * valgrind.h: the rotations and the exchange do nothing on a processor, valgrind answers 1 to request 0x1001 in rdx.
 */
static bool is_under_valgrind(void)
{
    volatile uint64_t request[6] = {0x1001, 0, 0, 0, 0, 0};
    uint64_t answer = 0;
    __asm__ volatile("rolq $3, %%rdi; rolq $13, %%rdi; rolq $61, %%rdi; rolq $51, %%rdi; xchgq %%rbx, %%rbx"
                     : "+d"(answer)
                     : "a"(request)
                     : "cc", "memory");
    return answer;
}

bool rule_start(void)
{
    if (is_under_valgrind())
        return false;
    if (!object_start() || !tables_load())
        return false;
    rules.starter = &self;
    bool able = tables_init();
    rules.starter = NULL;
    if (!able || !make_room())
        return false;
    rules.generation = 1;
    rule_learn((uint64_t)__builtin_return_address(0)); /* what libunwind sets up at its first step */
    return true;
}

#else

rule_t rule_learn(uint64_t address)
{
    (void)address;
    return RULE_NONE;
}

bool rule_start(void)
{
    return false;
}

#endif

/* --- objects that go away --- */

void rule_unload_begin(void)
{
    fetch_add_relaxed(&rules.unloading, 1);
}

/* Beyond 16 bits an old rule could pass for a new one: forget all at once. */
void rule_unload_end(void)
{
    uint32_t generation = __atomic_add_fetch(&rules.generation, 1, __ATOMIC_ACQ_REL);
    if (!(uint16_t)generation && rules.entry && !load_relaxed(&rules.no_calls))
        raw3(SYS_madvise, (long)rules.entry, (long)(RULES * sizeof(struct rule_entry)), MADV_DONTNEED);
    __atomic_fetch_sub(&rules.unloading, 1, __ATOMIC_RELEASE);
}
