/*
 * wrap_operators.c - C++ operator new and delete where the allocator brings its own; see
 * operators.h.
 *
 * In:      C++ code.                             Out: usage.h.
 * Context: S. bad_alloc passes through our frames, and so does a new_handler that leaves by
 *          longjmp.
 *
 * The real operator may end in a wrapped malloc or free after all (jemalloc's delete jumps to
 * free): then that one has counted, which the marks tell.
 */
#define _GNU_SOURCE
#include "shim/operators.h"
#include "shim/real.h"
#include "shim/usage.h"

/* The rows of the table once more: names only. */
#define HAND(group, type, name, parameters, arguments, need, fallback) #name,
static const char *const names[] = {
#include "shim/symbols_operators.h"
};
#undef HAND

void operators_withdraw(void)
{
    real_withdraw(names, sizeof names / sizeof *names);
}

#define COUNT_NEW(call)                                                                            \
    if (!usage_extra(EXTRA_OPERATORS))                                                             \
        return call;                                                                               \
    uint64_t mark = usage_taken_mark();                                                            \
    void *block = call;                                                                            \
    if (mark == usage_taken_mark())                                                                \
        usage_took(block);                                                                         \
    return block

/* Its bytes, to be counted after the call unless another one did; 0: counted already, or never. */
static inline size_t measured(void *block)
{
    if (!usage_extra(EXTRA_OPERATORS))
        return 0;
    sampled_check(block);
    if (usage.mode != USAGE_MALLCTL)
        return usage_size(block);
    usage_gave_counted(block);
    return 0;
}

#define COUNT_DELETE(call)                                                                         \
    size_t bytes = measured(block);                                                                \
    uint64_t mark = usage_given_mark();                                                            \
    call;                                                                                          \
    if (bytes && mark == usage_given_mark()) {                                                     \
        usage_gave(bytes);                                                                         \
    }

EXPORTED void *_Znwm(size_t size)
{
    COUNT_NEW(real._Znwm(size));
}

EXPORTED void *_Znam(size_t size)
{
    COUNT_NEW(real._Znam(size));
}

EXPORTED void *_ZnwmRKSt9nothrow_t(size_t size, const void *nothrow)
{
    COUNT_NEW(real._ZnwmRKSt9nothrow_t(size, nothrow));
}

EXPORTED void *_ZnamRKSt9nothrow_t(size_t size, const void *nothrow)
{
    COUNT_NEW(real._ZnamRKSt9nothrow_t(size, nothrow));
}

EXPORTED void *_ZnwmSt11align_val_t(size_t size, size_t alignment)
{
    COUNT_NEW(real._ZnwmSt11align_val_t(size, alignment));
}

EXPORTED void *_ZnamSt11align_val_t(size_t size, size_t alignment)
{
    COUNT_NEW(real._ZnamSt11align_val_t(size, alignment));
}

EXPORTED void *_ZnwmSt11align_val_tRKSt9nothrow_t(size_t size, size_t alignment,
                                                  const void *nothrow)
{
    COUNT_NEW(real._ZnwmSt11align_val_tRKSt9nothrow_t(size, alignment, nothrow));
}

EXPORTED void *_ZnamSt11align_val_tRKSt9nothrow_t(size_t size, size_t alignment,
                                                  const void *nothrow)
{
    COUNT_NEW(real._ZnamSt11align_val_tRKSt9nothrow_t(size, alignment, nothrow));
}

EXPORTED void _ZdlPv(void *block)
{
    COUNT_DELETE(real._ZdlPv(block));
}

EXPORTED void _ZdaPv(void *block)
{
    COUNT_DELETE(real._ZdaPv(block));
}

EXPORTED void _ZdlPvm(void *block, size_t size)
{
    COUNT_DELETE(real._ZdlPvm(block, size));
}

EXPORTED void _ZdaPvm(void *block, size_t size)
{
    COUNT_DELETE(real._ZdaPvm(block, size));
}

EXPORTED void _ZdlPvRKSt9nothrow_t(void *block, const void *nothrow)
{
    COUNT_DELETE(real._ZdlPvRKSt9nothrow_t(block, nothrow));
}

EXPORTED void _ZdaPvRKSt9nothrow_t(void *block, const void *nothrow)
{
    COUNT_DELETE(real._ZdaPvRKSt9nothrow_t(block, nothrow));
}

EXPORTED void _ZdlPvSt11align_val_t(void *block, size_t alignment)
{
    COUNT_DELETE(real._ZdlPvSt11align_val_t(block, alignment));
}

EXPORTED void _ZdaPvSt11align_val_t(void *block, size_t alignment)
{
    COUNT_DELETE(real._ZdaPvSt11align_val_t(block, alignment));
}

EXPORTED void _ZdlPvmSt11align_val_t(void *block, size_t size, size_t alignment)
{
    COUNT_DELETE(real._ZdlPvmSt11align_val_t(block, size, alignment));
}

EXPORTED void _ZdaPvmSt11align_val_t(void *block, size_t size, size_t alignment)
{
    COUNT_DELETE(real._ZdaPvmSt11align_val_t(block, size, alignment));
}

EXPORTED void _ZdlPvSt11align_val_tRKSt9nothrow_t(void *block, size_t alignment,
                                                  const void *nothrow)
{
    COUNT_DELETE(real._ZdlPvSt11align_val_tRKSt9nothrow_t(block, alignment, nothrow));
}

EXPORTED void _ZdaPvSt11align_val_tRKSt9nothrow_t(void *block, size_t alignment,
                                                  const void *nothrow)
{
    COUNT_DELETE(real._ZdaPvSt11align_val_tRKSt9nothrow_t(block, alignment, nothrow));
}
