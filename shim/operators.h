/*
 * operators.h - C++ operator new and delete as the linker names them.
 *
 * An allocator library (jemalloc, tcmalloc, mimalloc) brings its own, which reach its heap without
 * passing through malloc; libstdc++'s own call malloc and free. So they are exported, counted where
 * they come from the object that malloc comes from, and where they do not, withdrawn from our
 * symbol table before the program runs: a C++ plug-in that is loaded later then finds the
 * definition that it would have found without us.
 *
 * nothrow: const std::nothrow_t &; alignment: std::align_val_t.
 */
#ifndef SONDE_OPERATORS_H
#define SONDE_OPERATORS_H

#include <stddef.h>

void *_Znwm(size_t size);
void *_Znam(size_t size);
void *_ZnwmRKSt9nothrow_t(size_t size, const void *nothrow);
void *_ZnamRKSt9nothrow_t(size_t size, const void *nothrow);
void *_ZnwmSt11align_val_t(size_t size, size_t alignment);
void *_ZnamSt11align_val_t(size_t size, size_t alignment);
void *_ZnwmSt11align_val_tRKSt9nothrow_t(size_t size, size_t alignment, const void *nothrow);
void *_ZnamSt11align_val_tRKSt9nothrow_t(size_t size, size_t alignment, const void *nothrow);
void _ZdlPv(void *block);
void _ZdaPv(void *block);
void _ZdlPvm(void *block, size_t size);
void _ZdaPvm(void *block, size_t size);
void _ZdlPvRKSt9nothrow_t(void *block, const void *nothrow);
void _ZdaPvRKSt9nothrow_t(void *block, const void *nothrow);
void _ZdlPvSt11align_val_t(void *block, size_t alignment);
void _ZdaPvSt11align_val_t(void *block, size_t alignment);
void _ZdlPvmSt11align_val_t(void *block, size_t size, size_t alignment);
void _ZdaPvmSt11align_val_t(void *block, size_t size, size_t alignment);
void _ZdlPvSt11align_val_tRKSt9nothrow_t(void *block, size_t alignment, const void *nothrow);
void _ZdaPvSt11align_val_tRKSt9nothrow_t(void *block, size_t alignment, const void *nothrow);

/* Takes the names above out of our own symbol table. Context I. Failure: they stay, and forward. */
void operators_withdraw(void);

#endif
