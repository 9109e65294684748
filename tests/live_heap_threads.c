/*
 * live_heap_threads.c - N threads allocate and free by every function of the family and keep their
 * own books.
 *
 * Prints "ok" when the allocator behaved. With -v it also prints, per thread, the tid and what it
 * allocated, freed and how many allocations it made, by malloc_usable_size: test_usage compares
 * that with the lanes.
 * Usage: live_heap_threads [-v] [threads] [rounds]
 */
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define THREADS_MAX 64
#define KEPT 32 /* blocks a thread holds at once */

struct book {
    long tid;
    unsigned rounds;
    uint64_t allocated, freed, allocations;
    uint64_t random;
    bool failed;
    void **left; /* blocks that stay: for another thread, or a leak that must show */
};

static unsigned random_below(struct book *b, unsigned n)
{
    b->random = b->random * UINT64_C(6364136223846793005) + 1442695040888963407u;
    return (unsigned)(b->random >> 33) % n;
}

static void *took(struct book *b, void *p)
{
    if (!p) {
        b->failed = true;
        return NULL;
    }
    b->allocated += malloc_usable_size(p);
    b->allocations++;
    return p;
}

static void *take(struct book *b, unsigned how, size_t size)
{
    void *p = NULL;
    switch (how) {
    case 0:
        return took(b, malloc(size));
    case 1:
        p = took(b, calloc(size / 8 + 1, 8));
        for (size_t i = 0; p && i < size; i++)
            b->failed |= ((char *)p)[i] != 0;
        return p;
    case 2:
        return took(b, memalign(64, size));
    case 3:
        return took(b, aligned_alloc(128, (size + 127) & ~(size_t)127));
    case 4:
        b->failed |= posix_memalign(&p, 256, size) != 0;
        return took(b, p);
    case 5:
        return took(b, valloc(size));
    case 6:
        return took(b, realloc(NULL, size));
    default:
        return took(b, reallocarray(NULL, size, 2));
    }
}

static void drop(struct book *b, void *p)
{
    if (p)
        b->freed += malloc_usable_size(p);
    errno = 4242;
    free(p);
    b->failed |= errno != 4242;
}

static void *resize(struct book *b, void *p, size_t size)
{
    size_t old = malloc_usable_size(p);
    void *q = random_below(b, 2) ? realloc(p, size) : reallocarray(p, size, 1);
    if (q)
        b->freed += old;
    return took(b, q);
}

static void *work(void *argument)
{
    struct book *b = argument;
    void *kept[KEPT] = {0};
    b->tid = syscall(SYS_gettid);
    for (unsigned i = 0; i < b->rounds; i++) {
        unsigned at = random_below(b, KEPT);
        size_t size = 1 + random_below(b, i % 100 == 0 ? 300000 : 2000);
        if (kept[at] && random_below(b, 3) == 0) {
            kept[at] = resize(b, kept[at], size);
            continue;
        }
        drop(b, kept[at]);
        kept[at] = take(b, random_below(b, 8), size);
        if (kept[at])
            memset(kept[at], 0xa5, size);
    }
    for (unsigned i = 0; i < KEPT; i += 2)
        drop(b, kept[i]);
    for (unsigned i = 1; i < KEPT; i += 2)
        b->left[i] = kept[i];
    free(NULL); /* jemalloc's own counters are looked at in the call that follows */
    return NULL;
}

static void *left[THREADS_MAX * KEPT];

/* Frees what the others left, allocates nothing. */
static void *only_free(void *argument)
{
    struct book *b = argument;
    b->tid = syscall(SYS_gettid);
    for (unsigned i = 0; i < THREADS_MAX * KEPT; i += 3)
        drop(b, left[i]);
    free(NULL);
    return NULL;
}

/* What may fail must fail as ever, and count nothing. */
static bool refusals(void)
{
    volatile size_t huge = SIZE_MAX / 2;
    void *p = NULL;
    errno = 0;
    bool right = !malloc(huge) && errno == ENOMEM && !calloc(huge, 4) && !realloc(NULL, huge);
    right &= posix_memalign(&p, 3, 10) == EINVAL && !reallocarray(NULL, huge, 3) &&
             !aligned_alloc(64, huge);
    void *small = malloc(10);
    right &= small && !realloc(small, huge);
    free(small);
    free(NULL);
    return right;
}

int main(int argc, char **argv)
{
    static struct book books[THREADS_MAX + 1];
    pthread_t threads[THREADS_MAX];
    bool verbose = argc > 1 && !strcmp(argv[1], "-v");
    unsigned count = argc > 1 + verbose ? (unsigned)atoi(argv[1 + verbose]) : 8;
    unsigned rounds = argc > 2 + verbose ? (unsigned)atoi(argv[2 + verbose]) : 20000;
    bool failed = count > THREADS_MAX || !refusals();

    for (unsigned i = 0; i < count && !failed; i++) {
        books[i].rounds = rounds;
        books[i].random = i + 1;
        books[i].left = &left[i * KEPT];
        failed |= pthread_create(&threads[i], NULL, work, &books[i]) != 0;
    }
    for (unsigned i = 0; i < count && !failed; i++) {
        failed |= pthread_join(threads[i], NULL) != 0;
        failed |= books[i].failed;
    }
    failed |= pthread_create(&threads[0], NULL, only_free, &books[count]) ||
              pthread_join(threads[0], NULL);
    for (unsigned i = 0; i <= count && verbose; i++)
        printf("%ld %llu %llu %llu\n", books[i].tid, (unsigned long long)books[i].allocated,
               (unsigned long long)books[i].freed, (unsigned long long)books[i].allocations);
    puts(failed ? "failed" : "ok");
    return failed;
}
