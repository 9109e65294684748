/*
 * symbols_operators.h - part of the list in symbols.h: C++ operator new and delete, see operators.h. When no library
 * defines one (it was withdrawn too late, and libstdc++ is private to a plug-in): what libstdc++ does, short of throwing.
 */
/* clang-format off */

#define NEW (long)(uintptr_t)real.malloc((size_t)a)
#define NEW_ALIGNED (long)(uintptr_t)real.memalign((size_t)b, (size_t)a)
#define DELETE (real.free((void *)a), 0)

HAND(operators, void *, _Znwm, (size_t size), (size), may, NEW)
HAND(operators, void *, _Znam, (size_t size), (size), may, NEW)
HAND(operators, void *, _ZnwmRKSt9nothrow_t, (size_t size, const void *nothrow), (size, nothrow), may, NEW)
HAND(operators, void *, _ZnamRKSt9nothrow_t, (size_t size, const void *nothrow), (size, nothrow), may, NEW)
HAND(operators, void *, _ZnwmSt11align_val_t, (size_t size, size_t alignment), (size, alignment), may, NEW_ALIGNED)
HAND(operators, void *, _ZnamSt11align_val_t, (size_t size, size_t alignment), (size, alignment), may, NEW_ALIGNED)
HAND(operators, void *, _ZnwmSt11align_val_tRKSt9nothrow_t, (size_t size, size_t alignment, const void *nothrow), (size, alignment, nothrow), may, NEW_ALIGNED)
HAND(operators, void *, _ZnamSt11align_val_tRKSt9nothrow_t, (size_t size, size_t alignment, const void *nothrow), (size, alignment, nothrow), may, NEW_ALIGNED)
HAND(operators, void, _ZdlPv, (void *block), (block), may, DELETE)
HAND(operators, void, _ZdaPv, (void *block), (block), may, DELETE)
HAND(operators, void, _ZdlPvm, (void *block, size_t size), (block, size), may, DELETE)
HAND(operators, void, _ZdaPvm, (void *block, size_t size), (block, size), may, DELETE)
HAND(operators, void, _ZdlPvRKSt9nothrow_t, (void *block, const void *nothrow), (block, nothrow), may, DELETE)
HAND(operators, void, _ZdaPvRKSt9nothrow_t, (void *block, const void *nothrow), (block, nothrow), may, DELETE)
HAND(operators, void, _ZdlPvSt11align_val_t, (void *block, size_t alignment), (block, alignment), may, DELETE)
HAND(operators, void, _ZdaPvSt11align_val_t, (void *block, size_t alignment), (block, alignment), may, DELETE)
HAND(operators, void, _ZdlPvmSt11align_val_t, (void *block, size_t size, size_t alignment), (block, size, alignment), may, DELETE)
HAND(operators, void, _ZdaPvmSt11align_val_t, (void *block, size_t size, size_t alignment), (block, size, alignment), may, DELETE)
HAND(operators, void, _ZdlPvSt11align_val_tRKSt9nothrow_t, (void *block, size_t alignment, const void *nothrow), (block, alignment, nothrow), may, DELETE)
HAND(operators, void, _ZdaPvSt11align_val_tRKSt9nothrow_t, (void *block, size_t alignment, const void *nothrow), (block, alignment, nothrow), may, DELETE)
