/*
 * rule.c - learns rules: the object at an address, its unwind tables, libunwind as their interpreter.
 *
 * In:      see rule.h.                           Out: libunwind-x86_64.so.8, loaded in our constructor.
 * Context: S. rule_start is I.
 * Sharing: everything but the look-up runs under `rules.lock`, which nobody waits for, with all signals blocked, on a
 *          stack of our own: 16 KiB threads and signal stacks are too small for libunwind.
 * Failure: see rule.h. A child forked while another thread was inside finds the lock taken for ever: it keeps the
 *          rules that it has.
 *
 * libunwind never sees our stack. It steps once, from made-up registers: the stack pointer, the frame pointer and a
 * word read from the stack are numbers that can be told apart, so where it looked for the return address and for the
 * saved frame pointer tells the rule. What it reads besides must lie in the readable segments of the object that the
 * address is in. That object is found by _dl_find_object, which takes no lock; dl_iterate_phdr would wait for a thread
 * that runs a constructor inside dlopen.
 */
#define _GNU_SOURCE
#include "shim/rule.h"

#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <link.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>

#include "shim/real.h"
#include "shim/record.h"
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

#include <libunwind.h>

#define LIBRARY "libunwind-x86_64.so.8"
#define SEGMENTS 8u
#define PATH_MOST 4096u
#define STACK_BYTES (64u << 10)
#define ANNOUNCED 1024u

/* --- the object at an address --- */

struct found { /* glibc's struct dl_find_object, since 2.35 */
    unsigned long long flags;
    void *start, *end;
    struct link_map *map;
    void *eh_frame;
    unsigned long long reserved[7];
};

struct object {
    struct found at;
    unsigned segments;
    struct {
        uint64_t from, to;
    } segment[SEGMENTS]; /* readable, whole pages */
    uint64_t start, end; /* of all segments */
    uint64_t note, note_bytes;
};

static struct {
    int (*find_object)(void *, struct found *);
    unw_addr_space_t (*create)(unw_accessors_t *, int);
    int (*policy)(unw_addr_space_t, unw_caching_policy_t);
    int (*init)(unw_cursor_t *, unw_addr_space_t, void *);
    int (*step)(unw_cursor_t *);
    int (*reg)(unw_cursor_t *, int, unw_word_t *);
    int (*place)(unw_cursor_t *, int, unw_save_loc_t *);
    int (*search)(unw_addr_space_t, unw_word_t, unw_dyn_info_t *, unw_proc_info_t *, int, void *);
    unw_addr_space_t space;
} unwind;

/* What one learning needs, at the low end of its stack. */
struct lesson {
    uint64_t address;
    rule_t rule;
    struct object object;
    bool in_object, has_table;
    uint64_t announced[ANNOUNCED]; /* start of an object + generation */
    uint64_t note[(sizeof(struct event_object) + PATH_MOST) / 8]; /* struct event_object, path */
};
static struct lesson *lesson;
static char *stack_top;

static bool object_reads(const struct object *o, uint64_t from, uint64_t bytes)
{
    for (unsigned i = 0; i < o->segments; i++)
        if (from >= o->segment[i].from && from < o->segment[i].to)
            return bytes <= o->segment[i].to - from;
    return false;
}

static void add_segment(struct object *o, uint64_t bias, const ElfW(Phdr) *p)
{
    uint64_t from = (bias + p->p_vaddr) & ~UINT64_C(4095), end = bias + p->p_vaddr + p->p_memsz;
    if (from < o->start)
        o->start = from;
    if (end > o->end)
        o->end = end;
    if (!(p->p_flags & PF_R) || o->segments == SEGMENTS)
        return;
    o->segment[o->segments].from = from;
    o->segment[o->segments++].to = (bias + p->p_vaddr + p->p_filesz + 4095) & ~UINT64_C(4095);
}

/* Behind an ELF header, in its first page. */
static const ElfW(Phdr) *headers_at(uint64_t at, unsigned *count)
{
    const ElfW(Ehdr) *e = (const ElfW(Ehdr) *)at; // NOLINT(performance-no-int-to-ptr)
    if (!at || at & 4095 || !rule_readable(at) || memcmp(e->e_ident, ELFMAG, SELFMAG) != 0 ||
        e->e_phentsize != sizeof(ElfW(Phdr)) || e->e_phoff > 4096 ||
        e->e_phoff + e->e_phnum * sizeof(ElfW(Phdr)) > 4096)
        return NULL;
    *count = e->e_phnum;
    return (const ElfW(Phdr) *)(const void *)((const char *)e + e->e_phoff);
}

/* The executable's are told by the kernel. An object with holes is found in parts, of which not each has the header. */
static const ElfW(Phdr) *headers_of(const struct object *o, unsigned *count)
{
    if (!o->at.map->l_prev) {
        *count = (unsigned)getauxval(AT_PHNUM);
        return (const ElfW(Phdr) *)getauxval(AT_PHDR); // NOLINT(performance-no-int-to-ptr)
    }
    const ElfW(Phdr) *p = headers_at((uint64_t)o->at.start, count);
    return p ? p : headers_at(o->at.map->l_addr, count);
}

/* None: nothing of it is read. */
static void object_segments(struct object *o)
{
    unsigned count = 0;
    uint64_t bias = o->at.map->l_addr;
    const ElfW(Phdr) *p = headers_of(o, &count);
    o->segments = 0;
    o->note = o->note_bytes = o->end = 0;
    o->start = UINT64_MAX;
    for (unsigned i = 0; p && i < count; i++) {
        if (p[i].p_type == PT_LOAD)
            add_segment(o, bias, &p[i]);
        if (p[i].p_type == PT_NOTE && p[i].p_align == 4) {
            o->note = bias + p[i].p_vaddr;
            o->note_bytes = p[i].p_filesz;
        }
    }
}

static bool object_at(struct object *o, uint64_t address)
{
    if (unwind.find_object((void *)(address - 1), &o->at) || !o->at.map) // NOLINT(performance-no-int-to-ptr)
        return false;
    object_segments(o);
    return true;
}

/* --- what libunwind may see --- */

#define MADE_UP_RSP UINT64_C(0x1000000000000000) /* addresses that no machine has */
#define MADE_UP_RBP UINT64_C(0x2000000000000000)
#define MADE_UP_WORD UINT64_C(0x3000000000000000)
#define MADE_UP_RANGE (UINT64_C(1) << 24)

static bool is_near(uint64_t address, uint64_t made_up)
{
    return address - made_up + MADE_UP_RANGE < 2 * MADE_UP_RANGE;
}

/* eh_frame_hdr with a sorted table of 32-bit offsets, as every linker writes it. */
static bool table_of(const struct object *o, unw_dyn_info_t *d)
{
    uint64_t at = (uint64_t)o->at.eh_frame;
    if (!at || !object_reads(o, at, 16))
        return false;
    const uint8_t *h = o->at.eh_frame;
    unsigned pointer = (h[1] & 7) == 3 ? 4 : 8; /* bytes of the pointer to eh_frame */
    if (h[0] != 1 || h[1] == 0xff || h[2] != 3 || h[3] != 0x3b)
        return false;
    uint32_t count;
    memcpy(&count, h + 4 + pointer, sizeof count);
    uint64_t table = at + 8 + pointer;
    if (!count || !object_reads(o, table, (uint64_t)count * 8))
        return false;
    memset(d, 0, sizeof *d);
    d->format = UNW_INFO_FORMAT_REMOTE_TABLE;
    d->start_ip = o->start;
    d->end_ip = o->end;
    d->u.rti.segbase = at;
    d->u.rti.table_data = table;
    d->u.rti.table_len = (uint64_t)count * 8 / sizeof(unw_word_t);
    return true;
}

static int find_proc_info(unw_addr_space_t space, unw_word_t ip, unw_proc_info_t *p, int need, void *user)
{
    struct lesson *l = user;
    unw_dyn_info_t d;
    if (!table_of(&l->object, &d))
        return -UNW_ENOINFO;
    int error = unwind.search(space, ip, &d, p, need, user);
    l->has_table |= !error;
    return error;
}

static void put_unwind_info(unw_addr_space_t space, unw_proc_info_t *p, void *user)
{
    (void)space, (void)p, (void)user;
}

static int no_dynamic_info(unw_addr_space_t space, unw_word_t *at, void *user)
{
    (void)space, (void)at, (void)user;
    return -UNW_ENOINFO;
}

static int access_mem(unw_addr_space_t space, unw_word_t at, unw_word_t *value, int write, void *user)
{
    const struct lesson *l = user;
    (void)space;
    if (write || load_relaxed(&rules.unloading))
        return -UNW_EINVAL;
    if (is_near(at, MADE_UP_RSP) || is_near(at, MADE_UP_RBP) || is_near(at, MADE_UP_WORD)) {
        *value = MADE_UP_WORD;
        return 0;
    }
    if (!object_reads(&l->object, at, sizeof *value))
        return -UNW_EINVAL;
    memcpy(value, (const void *)at, sizeof *value); // NOLINT(performance-no-int-to-ptr)
    return 0;
}

static int access_reg(unw_addr_space_t space, unw_regnum_t reg, unw_word_t *value, int write, void *user)
{
    const struct lesson *l = user;
    (void)space;
    if (write)
        return -UNW_EREADONLYREG;
    switch (reg) {
    case UNW_X86_64_RIP: *value = l->address - 1; return 0; /* inside the call, not behind it */
    case UNW_X86_64_RSP: *value = MADE_UP_RSP; return 0;
    case UNW_X86_64_RBP: *value = MADE_UP_RBP; return 0;
    default: return -UNW_EBADREG;
    }
}

static int access_fpreg(unw_addr_space_t space, unw_regnum_t reg, unw_fpreg_t *value, int write, void *user)
{
    (void)space, (void)reg, (void)value, (void)write, (void)user;
    return -UNW_EBADREG;
}

static unw_accessors_t accessors = {.find_proc_info = find_proc_info,
                                    .put_unwind_info = put_unwind_info,
                                    .get_dyn_info_list_addr = no_dynamic_info,
                                    .access_mem = access_mem,
                                    .access_reg = access_reg,
                                    .access_fpreg = access_fpreg};

/* --- one step, from which the rule is read --- */

static rule_t rule_of(uint64_t cfa, const unw_save_loc_t *ip, const unw_save_loc_t *rbp)
{
    if (ip->type != UNW_SLT_MEMORY || ip->u.addr != cfa - 8)
        return RULE_UNKNOWN;
    bool saved = rbp->type == UNW_SLT_MEMORY;
    if (!saved && (rbp->type != UNW_SLT_REG || rbp->u.regnum != UNW_X86_64_RBP))
        return RULE_UNKNOWN;
    int64_t where = saved ? (int64_t)(rbp->u.addr - cfa) : 0;
    if (is_near(cfa, MADE_UP_RSP))
        return rule_make(RULE_RSP, (int64_t)(cfa - MADE_UP_RSP), saved, where);
    if (is_near(cfa, MADE_UP_RBP))
        return rule_make(RULE_RBP, (int64_t)(cfa - MADE_UP_RBP), saved, where);
    /* gcc's functions that align their stack keep the CFA right below the frame pointer */
    if (cfa == MADE_UP_WORD && saved && rbp->u.addr == MADE_UP_RBP)
        return rule_make(RULE_ALIGNED, -8, true, 0);
    return RULE_UNKNOWN;
}

static rule_t ask_tables(struct lesson *l)
{
    unw_cursor_t c;
    unw_word_t cfa = 0;
    unw_save_loc_t ip = {0}, rbp = {0};
    l->has_table = false;
    if (unwind.init(&c, unwind.space, l))
        return RULE_UNKNOWN;
    int rc = unwind.step(&c);
    if (!l->has_table)
        return RULE_FRAME;
    if (unwind.place(&c, UNW_X86_64_RIP, &ip))
        return RULE_UNKNOWN;
    if (rc == 0 && ip.type == UNW_SLT_NONE)
        return RULE_LAST;
    if (rc <= 0 || unwind.reg(&c, UNW_X86_64_RSP, &cfa) || unwind.place(&c, UNW_X86_64_RBP, &rbp))
        return RULE_UNKNOWN;
    return rule_of(cfa, &ip, &rbp);
}

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
    rule_t rule = l->in_object ? ask_tables(l) : RULE_FRAME;
    return rule == RULE_LAST || follows_call(code) ? rule : RULE_STOP;
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

static void find_build_id(const struct object *o, struct event_object *n)
{
    uint64_t at = o->note, end = o->note + o->note_bytes;
    if (!object_reads(o, at, o->note_bytes))
        return;
    while (at + 12 <= end) {
        uint32_t head[3]; /* bytes of name, of content, type */
        memcpy(head, (const void *)at, sizeof head); // NOLINT(performance-no-int-to-ptr)
        uint64_t content = at + 12 + ((head[0] + 3ull) & ~3ull);
        if (content + head[1] > end)
            return;
        if (head[2] == NT_GNU_BUILD_ID && head[0] == 4 && head[1] <= sizeof n->build_id) {
            memcpy(n->build_id, (const void *)content, head[1]); // NOLINT(performance-no-int-to-ptr)
            n->build_id_len = (uint16_t)head[1];
            return;
        }
        at = content + ((head[1] + 3ull) & ~3ull);
    }
}

static size_t fill_note(struct lesson *l)
{
    struct event_object *n = (struct event_object *)(void *)l->note;
    const char *name = l->object.at.map->l_name ? l->object.at.map->l_name : "";
    size_t bytes = strlen(name);
    if (bytes > PATH_MOST)
        bytes = PATH_MOST;
    *n = (struct event_object){.start = l->object.start,
                               .end = l->object.end,
                               .bias = l->object.at.map->l_addr,
                               .path_len = (uint16_t)bytes};
    memcpy(n->path, name, bytes);
    find_build_id(&l->object, n);
    return sizeof *n + bytes;
}
_Static_assert(sizeof(struct event) + sizeof(struct event_block) + sizeof(struct event_object) + PATH_MOST <=
                   EVENT_MAX_SIZE, "an object fits in an event");

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
    record_note(lane, &o, l->note, fill_note(l));
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

static bool load_library(void)
{
    void *(*open)(const char *, int) = (void *(*)(const char *, int))real_find("dlopen", NULL);
    void *(*find)(void *, const char *) = (void *(*)(void *, const char *))real_find("dlsym", NULL);
    char *(*error)(void) = (char *(*)(void))real_find("dlerror", NULL);
    if (!open || !find || !error)
        return false;
    void *library = open(LIBRARY, RTLD_NOW | RTLD_LOCAL);
    const struct {
        const char *name;
        void **at;
    } wanted[] = {{"_Ux86_64_create_addr_space", (void **)(void *)&unwind.create},
                  {"_Ux86_64_set_caching_policy", (void **)(void *)&unwind.policy},
                  {"_Ux86_64_init_remote", (void **)(void *)&unwind.init},
                  {"_Ux86_64_step", (void **)(void *)&unwind.step},
                  {"_Ux86_64_get_reg", (void **)(void *)&unwind.reg},
                  {"_Ux86_64_get_save_loc", (void **)(void *)&unwind.place},
                  {"_Ux86_64_dwarf_search_unwind_table", (void **)(void *)&unwind.search}};
    bool all = library != NULL;
    for (size_t i = 0; all && i < sizeof wanted / sizeof *wanted; i++)
        all = (*wanted[i].at = find(library, wanted[i].name)) != NULL;
    if (!all)
        error(); /* told: the program's own dlerror() finds nothing */
    return all;
}

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
    unwind.find_object = (int (*)(void *, struct found *))real_find("_dl_find_object", NULL);
    if (!unwind.find_object || !load_library())
        return false;
    rules.starter = &self;
    unwind.space = unwind.create(&accessors, 0);
    bool able = unwind.space && !unwind.policy(unwind.space, UNW_CACHE_NONE);
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
