/*
 * rule_tables.c - see rule_tables.h.
 *
 * libunwind never sees our stack. It steps once, from made-up registers: the stack pointer, the frame pointer and a
 * word read from the stack are numbers that can be told apart, so where it looked for the return address and for the
 * saved frame pointer tells the rule. What it reads besides must lie in the readable segments of the object that the
 * address is in.
 */
#define _GNU_SOURCE
#include "shim/rule_tables.h"

#if defined(__x86_64__) && defined(__GLIBC__)

#include <dlfcn.h>
#include <libunwind.h>
#include <string.h>

#include "shim/real.h"

#define LIBRARY "libunwind-x86_64.so.8"

static struct {
    unw_addr_space_t (*create)(unw_accessors_t *, int);
    int (*policy)(unw_addr_space_t, unw_caching_policy_t);
    int (*init)(unw_cursor_t *, unw_addr_space_t, void *);
    int (*step)(unw_cursor_t *);
    int (*reg)(unw_cursor_t *, int, unw_word_t *);
    int (*place)(unw_cursor_t *, int, unw_save_loc_t *);
    int (*search)(unw_addr_space_t, unw_word_t, unw_dyn_info_t *, unw_proc_info_t *, int, void *);
    unw_addr_space_t space;
} unwind;

/* What one step is about; libunwind hands it to the functions below. */
struct question {
    const struct object *object;
    uint64_t address;
    bool has_table;
};

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
    struct question *q = user;
    unw_dyn_info_t d;
    if (!table_of(q->object, &d))
        return -UNW_ENOINFO;
    int error = unwind.search(space, ip, &d, p, need, user);
    q->has_table |= !error;
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
    const struct question *q = user;
    (void)space;
    if (write || load_relaxed(&rules.unloading))
        return -UNW_EINVAL;
    if (is_near(at, MADE_UP_RSP) || is_near(at, MADE_UP_RBP) || is_near(at, MADE_UP_WORD)) {
        *value = MADE_UP_WORD;
        return 0;
    }
    if (!object_reads(q->object, at, sizeof *value))
        return -UNW_EINVAL;
    memcpy(value, (const void *)at, sizeof *value); // NOLINT(performance-no-int-to-ptr)
    return 0;
}

static int access_reg(unw_addr_space_t space, unw_regnum_t reg, unw_word_t *value, int write, void *user)
{
    const struct question *q = user;
    (void)space;
    if (write)
        return -UNW_EREADONLYREG;
    switch (reg) {
    case UNW_X86_64_RIP: *value = q->address - 1; return 0; /* inside the call, not behind it */
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

rule_t tables_ask(const struct object *o, uint64_t address)
{
    struct question q = {o, address, false};
    unw_cursor_t c;
    unw_word_t cfa = 0;
    unw_save_loc_t ip = {0}, rbp = {0};
    if (unwind.init(&c, unwind.space, &q))
        return RULE_UNKNOWN;
    int rc = unwind.step(&c);
    if (!q.has_table)
        return RULE_FRAME;
    if (unwind.place(&c, UNW_X86_64_RIP, &ip))
        return RULE_UNKNOWN;
    if (rc == 0 && ip.type == UNW_SLT_NONE)
        return RULE_LAST;
    if (rc <= 0 || unwind.reg(&c, UNW_X86_64_RSP, &cfa) || unwind.place(&c, UNW_X86_64_RBP, &rbp))
        return RULE_UNKNOWN;
    return rule_of(cfa, &ip, &rbp);
}

/* --- start --- */

bool tables_load(void)
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

bool tables_init(void)
{
    unwind.space = unwind.create(&accessors, 0);
    return unwind.space && !unwind.policy(unwind.space, UNW_CACHE_NONE);
}

#endif
