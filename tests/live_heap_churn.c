/*
 * live_heap_churn.c - 5000 short threads, a few at once, each with a few allocations: more threads
 * than there are lanes in the long run, ended ones' lanes must serve again or the process's own
 * totals take over.
 *
 * With -v prints the process's pid and the totals of all these threads.
 */
#include <malloc.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define AT_ONCE 20

struct book {
    uint64_t allocated, freed, allocations;
};

static void *work(void *argument)
{
    struct book *b = argument;
    for (size_t i = 1; i <= 5; i++) {
        void *p = malloc(i * 111);
        b->allocated += malloc_usable_size(p);
        b->allocations++;
        if (i == 3)
            continue; /* stays */
        b->freed += malloc_usable_size(p);
        free(p);
    }
    free(NULL);
    return NULL;
}

int main(int argc, char **argv)
{
    bool verbose = argc > 1 && !strcmp(argv[1], "-v"), failed = false;
    unsigned threads = argc > 1 + verbose ? (unsigned)atoi(argv[1 + verbose]) : 5000;
    struct book sum = {0, 0, 0};
    for (unsigned n = 0; n < threads && !failed; n += AT_ONCE) {
        struct book books[AT_ONCE];
        pthread_t id[AT_ONCE];
        memset(books, 0, sizeof books);
        for (unsigned i = 0; i < AT_ONCE; i++)
            failed |= pthread_create(&id[i], NULL, work, &books[i]) != 0;
        for (unsigned i = 0; i < AT_ONCE && !failed; i++) {
            pthread_join(id[i], NULL);
            sum.allocated += books[i].allocated;
            sum.freed += books[i].freed;
            sum.allocations += books[i].allocations;
        }
    }
    if (verbose)
        printf("%d %llu %llu %llu\n", (int)getpid(), (unsigned long long)sum.allocated,
               (unsigned long long)sum.freed, (unsigned long long)sum.allocations);
    puts(failed ? "failed" : "ok");
    return failed;
}
