/*
 * usage.c - how block sizes are known here, and everything of usage.h that is no plain add.
 *
 * In:      see usage.h.                         Out: the same; real.c for the allocator's
 *          functions.
 * Owns:    `usage`.
 * Context: S; usage_attached and the first allocation of a process are I.
 * Sharing: `usage` is written when one thread runs; its mode later from CHECK to GLIBC or CALL,
 *          both right at any time, and to NONE.
 * Failure: see usage.h.
 */
#define _GNU_SOURCE
#include "shim/usage.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "shim/operators.h"
#include "shim/real.h"

struct usage usage = {.extras = ~0u}; /* until it is known: marks tell what another one counted */
__thread uint32_t usage_laneless __attribute__((tls_model("initial-exec")));

/* --- whose allocator is it --- */

static bool stands_in(const char *name, uintptr_t object)
{
    uintptr_t other;
    return real_find(name, &other) && other == object;
}

static uint32_t extras_of(uintptr_t object)
{
    static const struct {
        const char *name;
        uint32_t extra;
    } extras[] = {{"reallocarray", EXTRA_REALLOCARRAY},
                  {"memalign", EXTRA_MEMALIGN},
                  {"aligned_alloc", EXTRA_ALIGNED_ALLOC},
                  {"posix_memalign", EXTRA_POSIX_MEMALIGN},
                  {"valloc", EXTRA_VALLOC},
                  {"pvalloc", EXTRA_PVALLOC},
                  {"_Znwm", EXTRA_OPERATORS}};
    uint32_t own = 0;
    for (size_t i = 0; i < sizeof extras / sizeof *extras; i++)
        if (stands_in(extras[i].name, object))
            own |= extras[i].extra;
    return own;
}

/* jemalloc built with statistics keeps two counters a thread and tells where. */
static bool mallctl_pointer(const char *name, uint64_t **at)
{
    size_t bytes = sizeof *at;
    return !usage.mallctl(name, at, &bytes, NULL, 0) && bytes == sizeof *at && *at;
}

static bool mallctl_works(void)
{
    uint64_t *allocated, *freed;
    return mallctl_pointer("thread.allocatedp", &allocated) &&
           mallctl_pointer("thread.deallocatedp", &freed);
}

/* tcmalloc gives sampled blocks whole pages, which nallocx does not foresee. */
static bool is_sampling(void)
{
    static const char name[] = "TCMALLOC_SAMPLE_PARAMETER=";
    for (char **e = environ; e && *e; e++)
        if (!strncmp(*e, name, sizeof name - 1))
            return true;
    return false;
}

static uint32_t mode_of(uintptr_t object)
{
    bool whole =
        stands_in("free", object) && stands_in("realloc", object) && stands_in("calloc", object);
    usage.usable = (size_t(*)(void *))real_find("malloc_usable_size", NULL);
    if (!whole || !stands_in("malloc_usable_size", object))
        return USAGE_COUNT;
    if (stands_in("mallctl", object)) {
        usage.mallctl =
            (int (*)(const char *, void *, size_t *, void *, size_t))real_find("mallctl", NULL);
        if (mallctl_works())
            return USAGE_MALLCTL;
    }
    if (stands_in("gnu_get_libc_version", object))
        return USAGE_CHECK;
    usage.nallocx =
        stands_in("nallocx", object) ? (size_t(*)(size_t, int))real_find("nallocx", NULL) : NULL;
    return usage.nallocx && !is_sampling() ? USAGE_SIZED : USAGE_CALL;
}

/* What counts here, and the flags that say so. */
static uint32_t find_out(uint32_t *flags)
{
    uintptr_t object = 0;
    bool hidden = real_is_hidden(
        "malloc"); /* what reaches us then are leftovers, whose blocks are that malloc's */
    if (hidden || !real_find("malloc", &object)) {
        usage.extras = 0;
        *flags = hidden ? PROCESS_OWN_MALLOC : 0;
        return USAGE_NONE;
    }
    usage.extras = extras_of(object);
    uint32_t mode = mode_of(object);
    if (mode != USAGE_COUNT)
        usage.usable(
            NULL); /* tcmalloc's calls operator new, once: not when it is asked for that block */
    *flags = mode == USAGE_MALLCTL ? PROCESS_MALLCTL : mode == USAGE_COUNT ? PROCESS_NO_SIZES : 0;
    return mode;
}

static struct {
    uint32_t mode, flags;
} found; /* mode START: not asked yet */

/* Once, in the first allocation or when the process is attached. */
static void usage_start(void)
{
    real_resolve();
    usage.mode = USAGE_NONE; /* what the allocator allocates to answer us is not counted */
    found.mode = find_out(&found.flags);
    usage.mode = found.mode;
    if (!usage_extra(EXTRA_OPERATORS))
        operators_withdraw();
}

void usage_attached(struct process_slot *slot)
{
    int saved = errno;
    if (found.mode == USAGE_START)
        usage_start();
    if (usage.mode == USAGE_NONE)
        usage.mode = found.mode;
    if (slot)
        __atomic_fetch_or(&slot->flags, found.flags, __ATOMIC_RELAXED);
    if (!slot || !(shim.view.arena->features & FEATURE_HEAP))
        usage.mode = USAGE_NONE;
    errno = saved;
}

/* --- out of line --- */

/*
 * Is glibc's layout as we know it? Every block of a process's first ones says so, or we ask for
 * each from now on.
 */
static size_t checked_size(void *block)
{
    size_t told = usage.usable(block), read;
    if (usage_glibc_size(block, &read) && read != told)
        usage.mode = USAGE_CALL;
    else if (++usage.checks >= USAGE_CHECKS)
        usage.mode = USAGE_GLIBC;
    return told;
}

static inline bool is_asked(void)
{
    return usage.mode == USAGE_SIZED || usage.mode == USAGE_CALL;
}

size_t usage_size_slow(void *block)
{
    if (!block)
        return 0;
    if (__builtin_expect(is_asked(), 1))
        return usage.usable(block);
    int saved = errno;
    if (usage.mode == USAGE_START)
        usage_start();
    bool wanted = usage.mode == USAGE_CHECK || usage.mode == USAGE_GLIBC || is_asked() ||
                  (usage.mode == USAGE_MALLCTL && !lane_slow());
    size_t bytes = wanted ? usage.usable(block) : 0;
    errno = saved;
    return bytes;
}

/*
 * This thread's jemalloc counters, from the thread's start on. Only here, where the allocator is
 * surely not inside a call.
 */
static void bind_counters(void)
{
    uint64_t *freed;
    if (!self.jemalloc_allocated && mallctl_pointer("thread.deallocatedp", &freed)) {
        self.jemalloc_freed = freed;
        compiler_barrier(); /* totals_refresh, maybe in a signal handler, looks at
                               jemalloc_allocated first */
        mallctl_pointer("thread.allocatedp", &self.jemalloc_allocated);
    }
}

/*
 * No lane left: the process's shared totals, by atomic adds. Not attached (a moment at most): not
 * counted.
 */
static void took_laneless(void *block)
{
    if (!shim.attached)
        return;
    struct process_slot *slot = &shim.view.process[shim.process];
    usage_laneless++;
    if (usage.mode == USAGE_MALLCTL)
        bind_counters(); /* a lane that comes later must not count these bytes again */
    if (usage.mode != USAGE_COUNT)
        fetch_add_relaxed(&slot->s_allocated, usage.usable(block));
    fetch_add_relaxed(&slot->s_allocations, 1);
}

static void took_in_lane(struct lane *l, void *block, bool fresh)
{
    bool forked = fresh && self.jemalloc_allocated;
    if (usage.mode == USAGE_MALLCTL)
        bind_counters();
    else if (usage.mode != USAGE_COUNT)
        add_own(&l->allocated,
                usage.mode == USAGE_CHECK ? checked_size(block) : usage.usable(block));
    if (usage.mode == USAGE_MALLCTL && forked)
        self.jemalloc_allocated_base -=
            usage.usable(block); /* the lane was taken after this block was counted */
    add_own(&l->allocations, 1);
    totals_refresh(l);
    usage_sampled(l, block);
}

static __attribute__((noinline)) void took_otherwise(void *block)
{
    int saved = errno;
    if (usage.mode == USAGE_START)
        usage_start();
    bool fresh = !usage_lane();
    struct lane *l = fresh ? lane_slow() : self.lane;
    if (l && usage.mode != USAGE_NONE)
        took_in_lane(l, block, fresh);
    else if (usage.mode != USAGE_NONE)
        took_laneless(block);
    errno = saved;
}

void *usage_took_slow(void *block)
{
    struct lane *l = usage_lane();
    if (__builtin_expect(l && block && is_asked(), 1)) {
        add_own(&l->allocated, usage.usable(block));
        add_own(&l->allocations, 1);
        return usage_sampled(l, block);
    } else if (block && usage.mode != USAGE_NONE) {
        took_otherwise(block);
    }
    return block;
}

void *usage_took_sized(void *block, size_t size)
{
    struct lane *l = usage_lane();
    if (__builtin_expect(!l || !block, 0))
        return usage_took_slow(block);
    size_t bytes = usage.nallocx(size, 0);
    if (__builtin_expect(usage.checks < USAGE_CHECKS, 0)) {
        usage.checks++;
        size_t told = usage.usable(block);
        if (told != bytes)
            usage.mode = USAGE_CALL;
        bytes = told;
    }
    add_own(&l->allocated, bytes);
    add_own(&l->allocations, 1);
    return usage_sampled(l, block);
}

void usage_gave_slow(size_t bytes)
{
    int saved = errno;
    struct lane *l = usage.mode == USAGE_NONE ? NULL : lane_slow();
    if (l) {
        add_own(&l->freed, bytes);
    } else if (usage.mode != USAGE_NONE && shim.attached) {
        usage_laneless++;
        fetch_add_relaxed(&shim.view.process[shim.process].s_freed, bytes);
    }
    errno = saved;
}

/* A thread's first free, or one without a lane. */
void usage_gave_counted_slow(void *block)
{
    int saved = errno;
    struct lane *l = usage_lane() ? self.lane : lane_slow();
    if (l || shim.attached)
        bind_counters();
    if (l)
        usage_gave_counted(NULL);
    else if (shim.attached)
        usage_gave_slow(usage.usable(block));
    errno = saved;
}
