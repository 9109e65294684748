/*
 * live_heap_operators.c - C++ operator new and delete in all their forms, by their link names.
 *
 * Usage: live_heap_operators [-v]: also tid and totals, as live_heap_threads. The block's size is
 * asked of malloc_usable_size, which is right where operators end in malloc or come from the
 * allocator itself.
 */
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

void *_Znwm(size_t);
void *_Znam(size_t);
void *_ZnwmRKSt9nothrow_t(size_t, const void *);
void *_ZnamRKSt9nothrow_t(size_t, const void *);
void *_ZnwmSt11align_val_t(size_t, size_t);
void *_ZnamSt11align_val_t(size_t, size_t);
void *_ZnwmSt11align_val_tRKSt9nothrow_t(size_t, size_t, const void *);
void *_ZnamSt11align_val_tRKSt9nothrow_t(size_t, size_t, const void *);
void _ZdlPv(void *);
void _ZdaPv(void *);
void _ZdlPvm(void *, size_t);
void _ZdaPvm(void *, size_t);
void _ZdlPvRKSt9nothrow_t(void *, const void *);
void _ZdaPvRKSt9nothrow_t(void *, const void *);
void _ZdlPvSt11align_val_t(void *, size_t);
void _ZdaPvSt11align_val_t(void *, size_t);
void _ZdlPvmSt11align_val_t(void *, size_t, size_t);
void _ZdaPvmSt11align_val_t(void *, size_t, size_t);
void _ZdlPvSt11align_val_tRKSt9nothrow_t(void *, size_t, const void *);
void _ZdaPvSt11align_val_tRKSt9nothrow_t(void *, size_t, const void *);
void (*_ZSt15set_new_handlerPFvvE(void (*)(void)))(void);

static const char nothrow[1];
static jmp_buf out_of_new;
static uint64_t allocated, freed, allocations;
static long worker_tid;
static bool failed;

static void *make(unsigned how, size_t size)
{
    switch (how) {
    case 0:
        return _Znwm(size);
    case 1:
        return _Znam(size);
    case 2:
        return _ZnwmRKSt9nothrow_t(size, nothrow);
    case 3:
        return _ZnamRKSt9nothrow_t(size, nothrow);
    case 4:
        return _ZnwmSt11align_val_t(size, 64);
    case 5:
        return _ZnamSt11align_val_t(size, 64);
    case 6:
        return _ZnwmSt11align_val_tRKSt9nothrow_t(size, 64, nothrow);
    default:
        return _ZnamSt11align_val_tRKSt9nothrow_t(size, 64, nothrow);
    }
}

static void drop_plain(unsigned how, void *p, size_t size)
{
    switch (how) {
    case 0:
        _ZdlPv(p);
        break;
    case 1:
        _ZdaPv(p);
        break;
    case 2:
        _ZdlPvm(p, size);
        break;
    case 3:
        _ZdaPvm(p, size);
        break;
    case 4:
        _ZdlPvRKSt9nothrow_t(p, nothrow);
        break;
    default:
        _ZdaPvRKSt9nothrow_t(p, nothrow);
    }
}

static void drop_aligned(unsigned how, void *p, size_t size)
{
    switch (how) {
    case 0:
        _ZdlPvSt11align_val_t(p, 64);
        break;
    case 1:
        _ZdaPvSt11align_val_t(p, 64);
        break;
    case 2:
        _ZdlPvmSt11align_val_t(p, size, 64);
        break;
    case 3:
        _ZdaPvmSt11align_val_t(p, size, 64);
        break;
    case 4:
        _ZdlPvSt11align_val_tRKSt9nothrow_t(p, 64, nothrow);
        break;
    default:
        _ZdaPvSt11align_val_tRKSt9nothrow_t(p, 64, nothrow);
    }
}

static void give_up(void)
{
    longjmp(out_of_new, 1);
}

static void refuse(void)
{
    _ZSt15set_new_handlerPFvvE(NULL);
}

/* A failing new asks its handler until there is none; one may also leave by a jump. */
static void out_of_memory(void)
{
    volatile size_t huge = SIZE_MAX / 4;
    _ZSt15set_new_handlerPFvvE(refuse);
    failed |= _ZnwmRKSt9nothrow_t(huge, nothrow) != NULL;
    _ZSt15set_new_handlerPFvvE(give_up);
    if (!setjmp(out_of_new)) {
        _Znwm(huge);
        failed = true;
    }
    _ZSt15set_new_handlerPFvvE(NULL);
}

static void *work(void *unused)
{
    (void)unused;
    worker_tid = syscall(SYS_gettid);
    for (unsigned i = 0; i < 4800; i++) {
        unsigned how = i % 8;
        size_t size = 16 + i % 1000;
        char *p = make(how, size);
        failed |= !p || (how >= 4 && (uintptr_t)p % 64);
        memset(p, 1, size);
        allocated += malloc_usable_size(p);
        allocations++;
        if (i % 100 == 50)
            continue; /* stays */
        freed += malloc_usable_size(p);
        (how < 4 ? drop_plain : drop_aligned)(i / 8 % 6, p, size);
    }
    _ZdlPv(NULL);
    return NULL;
}

int main(int argc, char **argv)
{
    pthread_t worker;
    bool verbose = argc > 1 && !strcmp(argv[1], "-v");
    if (pthread_create(&worker, NULL, work, NULL))
        return 1;
    pthread_join(worker, NULL);
    if (!verbose) /* mimalloc ends the program there */
        out_of_memory();
    if (verbose)
        printf("%ld %llu %llu %llu\n", worker_tid, (unsigned long long)allocated,
               (unsigned long long)freed, (unsigned long long)allocations);
    puts(failed ? "failed" : "ok");
    return failed;
}
