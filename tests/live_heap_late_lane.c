/*
 * live_heap_late_lane.c - a thread that allocates, waits for a byte on stdin (or its end), and
 * allocates again.
 *
 * test_usage lets it begin when no lane is left, and has some before it goes on. Usage:
 * live_heap_late_lane [-v] [count]: with -v the pid and the totals of that thread.
 */
#include <malloc.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static uint64_t allocated, freed, allocations;

static void some(unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        void *p = malloc(i % 700), *q;
        size_t small = malloc_usable_size(p);
        q = realloc(p, 3000);
        allocated += small + malloc_usable_size(q);
        freed += small;
        allocations += 2;
        if (i % 5 == 0)
            continue; /* stays */
        freed += malloc_usable_size(q);
        free(q);
    }
}

static void *work(void *count)
{
    char c;
    some(*(unsigned *)count);
    if (write(STDOUT_FILENO, "waiting\n", 8) < 0 || read(STDIN_FILENO, &c, 1) < 0)
        return NULL;
    some(*(unsigned *)count);
    free(NULL);
    return NULL;
}

int main(int argc, char **argv)
{
    pthread_t worker;
    bool verbose = argc > 1 && !strcmp(argv[1], "-v");
    unsigned count = argc > 1 + verbose ? (unsigned)atoi(argv[1 + verbose]) : 100;
    if (pthread_create(&worker, NULL, work, &count))
        return 1;
    pthread_join(worker, NULL);
    if (verbose)
        printf("%d %llu %llu %llu\n", (int)getpid(), (unsigned long long)allocated,
               (unsigned long long)freed, (unsigned long long)allocations);
    puts("ok");
    return 0;
}
