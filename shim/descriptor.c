/*
 * descriptor.c - the descriptor table: two levels, any number, grown by mmap.
 *
 * In:      wrap_*.c, lifecycle.c.                Out: nothing.
 * Owns:    the leaves; the first stands in .bss, so that most programs never make another.
 * Context: S
 * Sharing: a slot is written by the thread that does the call; words are atomic, a leaf is published by CAS.
 * Failure: no memory for a leaf: those descriptors stay unknown.
 */
#define _GNU_SOURCE
#include "shim/descriptor.h"

#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "wire/raw.h"

#define NEAR_LEAVES 1024u                                      /* numbers below 2^20, the kernel's default limit */
#define FAR_LEAVES ((1u << (31 - LEAF_BITS)) - NEAR_LEAVES) /* the rest, if somebody raised it */
#define FAR_BYTES (FAR_LEAVES * sizeof(void *))
#define SETTLE_MOST 65536u

struct slot descriptor_first[LEAF_SLOTS];
static struct slot *near_leaf[NEAR_LEAVES];
static struct slot **far_leaf; /* NULL until such a number is seen */

static void *map_zeroed(unsigned long bytes)
{
    long at = raw6(SYS_mmap, 0, (long)bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return raw_failed(at) ? NULL : (void *)at; // NOLINT(performance-no-int-to-ptr): an address from the kernel
}

/* Where the pointer to this number's leaf stands, NULL: not made. */
static struct slot **place_of(unsigned fd)
{
    unsigned leaf = fd >> LEAF_BITS;
    if (leaf < NEAR_LEAVES)
        return &near_leaf[leaf];
    struct slot **far = load_acquire(&far_leaf);
    return far && leaf - NEAR_LEAVES < FAR_LEAVES ? &far[leaf - NEAR_LEAVES] : NULL;
}

struct slot *descriptor_find_high(unsigned fd)
{
    struct slot **place = fd <= INT32_MAX ? place_of(fd) : NULL;
    struct slot *leaf = place ? load_acquire(place) : NULL;
    return leaf ? &leaf[fd & (LEAF_SLOTS - 1)] : NULL;
}

static void make_far(void)
{
    struct slot **none = NULL, **far = map_zeroed(FAR_BYTES);
    if (far && !cas_acq_rel(&far_leaf, &none, far))
        raw2(SYS_munmap, (long)far, (long)FAR_BYTES);
}

struct slot *descriptor_make(int fd)
{
    struct slot *s = descriptor_find(fd);
    if (s || fd < 0)
        return s;
    if ((unsigned)fd >> LEAF_BITS >= NEAR_LEAVES && !load_acquire(&far_leaf))
        make_far();
    struct slot **place = place_of((unsigned)fd), *none = NULL;
    struct slot *leaf = place ? map_zeroed(sizeof(struct slot) * LEAF_SLOTS) : NULL;
    if (leaf && !cas_acq_rel(place, &none, leaf))
        raw2(SYS_munmap, (long)leaf, (long)(sizeof(struct slot) * LEAF_SLOTS));
    return descriptor_find(fd);
}

void descriptor_reset(int fd, enum kind kind)
{
    struct slot *s = kind == KIND_UNKNOWN ? descriptor_find(fd) : descriptor_make(fd);
    if (s)
        slot_set(s, (uint64_t)kind);
}

void descriptor_each(unsigned first, unsigned last, void (*visit)(int fd, struct slot *, void *to), void *to)
{
    if (last > INT32_MAX)
        last = INT32_MAX;
    for (unsigned leaf = first >> LEAF_BITS; leaf <= last >> LEAF_BITS; leaf++) {
        if (leaf >= NEAR_LEAVES && !load_acquire(&far_leaf))
            return;
        unsigned begin = leaf << LEAF_BITS;
        struct slot *s = descriptor_find((int)begin);
        for (unsigned i = 0; s && i < LEAF_SLOTS; i++)
            if (begin + i >= first && begin + i <= last && load_relaxed(&s[i].word))
                visit((int)(begin + i), &s[i], to);
    }
}

void descriptor_init(void)
{
    for (int fd = 0; fd < 3; fd++) {
        struct stat s = {.st_mode = 0};
        if (!raw2(SYS_fstat, fd, (long)&s) && !S_ISSOCK(s.st_mode))
            slot_set(&descriptor_first[fd], S_ISREG(s.st_mode) || S_ISBLK(s.st_mode) ? KIND_FILE : KIND_OTHER);
    }
}

void descriptor_settle(void)
{
    struct rlimit limit = {0, 0};
    if (raw4(SYS_prlimit64, 0, RLIMIT_NOFILE, 0, (long)&limit))
        return;
    unsigned most = limit.rlim_cur < SETTLE_MOST ? (unsigned)limit.rlim_cur : SETTLE_MOST;
    for (unsigned fd = LEAF_SLOTS; fd < most; fd += LEAF_SLOTS)
        descriptor_make((int)fd);
}
