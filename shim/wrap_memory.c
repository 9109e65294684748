/*
 * wrap_memory.c - the malloc family: each call goes to the real function unchanged, then two adds.
 *
 * In:      the program, its libraries, ld.so.    Out: usage.h.
 * Owns:    nothing.
 * Context: S; also before any constructor, after all destructors, with the loader's lock held.
 * Failure: see usage.h.
 *
 * Allocations are counted after the call; what is freed is measured and counted before it, as the
 * block may be another thread's at once. Pointers pass unchanged, no block has a header of ours.
 * realloc counts as an allocation of the new size and a free of the old one.
 */
#define _GNU_SOURCE
#include <malloc.h>
#include <stdlib.h>

#include "shim/real.h"
#include "shim/usage.h"

EXPORTED void *malloc(size_t size)
{
    if (__builtin_expect(usage.mode == USAGE_SIZED, 0))
        return usage_took_sized(real.malloc(size), size);
    return usage_took(real.malloc(size));
}

EXPORTED void *calloc(size_t count, size_t size)
{
    void *block = real.calloc(count, size);
    return usage.mode == USAGE_SIZED ? usage_took_sized(block, count * size) : usage_took(block);
}

/* Apart, so that the ways below save no register. */
static __attribute__((noinline)) void free_measured(void *block)
{
    usage_gave(usage_size(block));
    real.free(block);
}

static __attribute__((noinline)) void free_otherwise(void *block)
{
    sampled_check(block);
    if (usage.mode == USAGE_MALLCTL)
        usage_gave_counted(block);
    else
        usage_gave(usage_size(block));
    real.free(block);
}

EXPORTED void free(void *block)
{
    struct lane *l = usage_lane();
    size_t bytes;
    if (__builtin_expect(!l || !block || sampled_maybe(block), 0)) {
        free_otherwise(block);
    } else if (__builtin_expect(usage.mode == USAGE_GLIBC, 1) && usage_glibc_size(block, &bytes)) {
        add_own(&l->freed, bytes);
        real.free(block);
    } else if (self.jemalloc_freed) {
        usage_gave_counted(NULL);
        real.free(block);
    } else {
        free_measured(block);
    }
}

EXPORTED void *realloc(void *block, size_t size)
{
    uint64_t sample = sampled_forget(block);
    size_t old = usage_size(block);
    void *new = real.realloc(block, size);
    bool done = new || (block && !size); /* size 0: glibc and most others free the block and return NULL */
    if (done)
        usage_gave(old);
    if (__builtin_expect(sample, 0))
        sampled_moved(block, sample, done);
    if (usage.mode == USAGE_MALLCTL)
        usage_gave_counted(NULL);
    return usage_took(new);
}

/* glibc's calls realloc, by the symbol that is ours; mimalloc's does not. */
EXPORTED void *reallocarray(void *block, size_t count, size_t size)
{
    if (!usage_extra(EXTRA_REALLOCARRAY))
        return real.reallocarray(block, count, size);
    uint64_t sample = sampled_forget(block);
    size_t old = usage_size(block);
    uint64_t mark = usage_taken_mark();
    void *new = real.reallocarray(block, count, size);
    if (__builtin_expect(sample, 0))
        sampled_moved(block, sample, new != NULL);
    if (new &&mark == usage_taken_mark()) {
        usage_gave(old);
        usage_took(new);
    }
    return new;
}

EXPORTED void *memalign(size_t alignment, size_t size)
{
    void *block = real.memalign(alignment, size);
    return usage_extra(EXTRA_MEMALIGN) ? usage_took(block) : block;
}

EXPORTED void *aligned_alloc(size_t alignment, size_t size)
{
    void *block = real.aligned_alloc(alignment, size);
    return usage_extra(EXTRA_ALIGNED_ALLOC) ? usage_took(block) : block;
}

EXPORTED int posix_memalign(void **block, size_t alignment, size_t size)
{
    int error = real.posix_memalign(block, alignment, size);
    if (!error && usage_extra(EXTRA_POSIX_MEMALIGN))
        usage_took(*block);
    return error;
}

EXPORTED void *valloc(size_t size)
{
    void *block = real.valloc(size);
    return usage_extra(EXTRA_VALLOC) ? usage_took(block) : block;
}

EXPORTED void *pvalloc(size_t size)
{
    void *block = real.pvalloc(size);
    return usage_extra(EXTRA_PVALLOC) ? usage_took(block) : block;
}
