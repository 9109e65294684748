/*
 * live_stack_chain.c - allocates under callers that are known exactly, and with -v prints who they were:
 *
 *     chain BYTES INNERMOST CALLER...
 *
 * BYTES: usable size of the block, another one in each chain. INNERMOST: where the function begins that called malloc;
 * the other addresses are return addresses. live_stacks.sh compares them with the stacks that were recorded.
 */
#include <alloca.h>
#include <dlfcn.h>
#include <inttypes.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "live.h"

#if defined(__clang__)
#define APART __attribute__((noinline))
#else
#define APART __attribute__((noinline, noclone))
#endif
#define MOST 8

static uint64_t expected[MOST];
static unsigned callers;
static bool verbose;

#define NOTE_CALLER() (expected[callers++] = (uint64_t)__builtin_return_address(0))

static void show(size_t bytes, const void *innermost)
{
    if (!verbose)
        return;
    printf("chain %zu %" PRIx64, bytes, (uint64_t)innermost);
    for (unsigned i = 0; i < callers; i++)
        printf(" %" PRIx64, expected[i]);
    puts("");
}

/* How many bytes: a number of its own for each chain. */
static size_t next_size(void)
{
    static size_t size = 30000; /* no allocator has two of them in one class */
    return size += size / 3;
}

APART static void *inner(void *unused)
{
    (void)unused;
    callers = 0;
    NOTE_CALLER();
    void *block = malloc(next_size());
    CHECK(block != NULL);
    return block;
}

static void take(void *(*f)(void *), const void *innermost)
{
    void *block = f(NULL);
    show(malloc_usable_size(block), innermost);
    free(block);
}

APART static void *plain(void *argument)
{
    void *volatile block = inner(argument);
    NOTE_CALLER();
    return block;
}

APART static void *with_alloca(void *argument)
{
    size_t n = (size_t)(argument ? 64 : 5000);
    char *volatile room = alloca(n);
    room[0] = 1;
    void *volatile block = plain(argument);
    NOTE_CALLER();
    return room[0] ? block : NULL;
}

typedef double wide __attribute__((vector_size(64), aligned(64)));
static void *with_alignment_inner(void *argument, volatile wide *w)
{
    (*w)[0] = 1;
    return with_alloca(argument);
}

APART static void *with_alignment(void *argument)
{
    volatile wide room = {0};
    void *volatile block = with_alignment_inner(argument, &room);
    NOTE_CALLER();
    return block;
}

APART static void *with_large_frame(void *argument)
{
    volatile char room[100000];
    room[5] = 1;
    void *volatile block = with_alignment(argument);
    NOTE_CALLER();
    return room[5] ? block : NULL;
}

APART static void *calloc_inner(void *unused)
{
    (void)unused;
    callers = 0;
    NOTE_CALLER();
    void *volatile block = calloc(1, next_size());
    return block;
}

APART static void *realloc_inner(void *unused)
{
    (void)unused;
    callers = 0;
    NOTE_CALLER();
    void *volatile block = realloc(malloc(10), next_size());
    return block;
}

APART static void *memalign_inner(void *unused)
{
    (void)unused;
    callers = 0;
    NOTE_CALLER();
    void *block = NULL;
    CHECK(posix_memalign(&block, 64, next_size()) == 0);
    return block;
}

/* A function that some engine made: frame pointer, no tables. */
APART static void *from_made_code(void *argument)
{
    static const uint8_t code[] = {0x55, 0x48, 0x89, 0xe5, 0x31, 0xff, 0xff, 0xd6, 0x5d, 0xc3};
    (void)argument;
#if defined(__x86_64__)
    uint8_t *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(page != MAP_FAILED);
    memcpy(page, code, sizeof code);
    CHECK(mprotect(page, 4096, PROT_READ | PROT_EXEC) == 0);
    void *(*volatile f)(void *, void *(*)(void *)) = (void *(*)(void *, void *(*)(void *)))(void *)page;
    void *block = f(NULL, plain);
    return block;
#else
    (void)code;
    return inner(NULL);
#endif
}

APART static void *from_plugin(void *argument)
{
    char path[512];
    (void)argument;
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 32);
    CHECK(n > 0);
    path[n] = 0;
    strcpy(strrchr(path, '/'), "/stack_plugin_a.so");
    void *library = dlopen(path, RTLD_NOW);
    CHECK(library != NULL);
    void *(*calls)(void *(*)(void *), void *) = (void *(*)(void *(*)(void *), void *))dlsym(library, "plugin_calls");
    return calls(plain, NULL);
}

static void *in_thread(void *unused)
{
    take(plain, (const void *)inner);
    return unused;
}

int main(int argc, char **argv)
{
    pthread_t thread;
    verbose = argc > 1 && !strcmp(argv[1], "-v");
    take(plain, (const void *)inner);
    take(with_alloca, (const void *)inner);
    take(with_alignment, (const void *)inner);
    take(with_large_frame, (const void *)inner);
    take(calloc_inner, (const void *)calloc_inner);
    take(realloc_inner, (const void *)realloc_inner);
    take(memalign_inner, (const void *)memalign_inner);
    take(from_made_code, (const void *)inner);
    take(from_plugin, (const void *)inner);
    CHECK(pthread_create(&thread, NULL, in_thread, NULL) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    return 0;
}
