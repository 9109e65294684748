/*
 * live_heap_fork.c - forks while other threads allocate; each child allocates, frees some of its
 * parent's blocks, and keeps its own books, which begin at zero.
 *
 * Prints "ok". With -v also, per child, its pid and what it allocated, freed and how many
 * allocations it made.
 * Usage: live_heap_fork [-v] [children [raw]]: raw forks past the handlers of pthread_atfork, when
 * no other thread allocates.
 */
#include <malloc.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define INHERITED 16

struct book {
    int pid;
    bool failed;
    uint64_t allocated, freed, allocations;
};

static int stop;

static void *churn(void *unused)
{
    (void)unused;
    for (unsigned i = 0; !__atomic_load_n(&stop, __ATOMIC_RELAXED); i++)
        free(realloc(malloc(i % 3000 + 1), i % 5000 + 1));
    return NULL;
}

static void take(struct book *b, void *p)
{
    b->failed |= !p;
    b->allocated += p ? malloc_usable_size(p) : 0;
    b->allocations += p != NULL;
}

static void drop(struct book *b, void *p)
{
    b->freed += malloc_usable_size(p);
    free(p);
}

static void in_child(void **inherited, int pipe_out, unsigned number)
{
    struct book b = {.pid = getpid()};
    for (unsigned i = 0; i < 100 + number; i++) {
        void *p = calloc(1, 100 + i * 7);
        take(&b, p);
        if (i % 4)
            drop(&b, p);
    }
    for (unsigned i = 0; i < INHERITED; i++)
        drop(&b, inherited[i]);
    b.failed |= write(pipe_out, &b, sizeof b) < 0;
    _exit(0);
}

static pid_t (*fork_by)(void) = fork;

static bool one_child(void **inherited, unsigned number, struct book *told)
{
    int ends[2], status;
    if (pipe(ends))
        return false;
    pid_t pid = fork_by();
    if (!pid)
        in_child(inherited, ends[1], number);
    close(ends[1]);
    bool right = pid > 0 && read(ends[0], told, sizeof *told) == sizeof *told && told->pid == pid &&
                 !told->failed;
    close(ends[0]);
    return pid > 0 && waitpid(pid, &status, 0) == pid && status == 0 && right;
}

int main(int argc, char **argv)
{
    bool verbose = argc > 1 && !strcmp(argv[1], "-v"), right = true;
    unsigned children = argc > 1 + verbose ? (unsigned)atoi(argv[1 + verbose]) : 40;
    struct book *books = calloc(children, sizeof *books);
    void *inherited[INHERITED];
    pthread_t threads[3];

    for (unsigned i = 0; i < INHERITED; i++)
        inherited[i] = malloc(64 * (i + 1));
    bool raw = argc > 2 + verbose;
    if (raw)
        fork_by = _Fork;
    for (int i = 0; i < 3 && !raw; i++)
        right &= !pthread_create(&threads[i], NULL, churn, NULL);
    for (unsigned i = 0; i < children && right; i++)
        right &= one_child(inherited, i, &books[i]);
    __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
    for (int i = 0; i < 3 && !raw; i++)
        pthread_join(threads[i], NULL);
    for (unsigned i = 0; i < children && verbose; i++)
        printf("%d %llu %llu %llu\n", books[i].pid, (unsigned long long)books[i].allocated,
               (unsigned long long)books[i].freed, (unsigned long long)books[i].allocations);
    puts(right ? "ok" : "failed");
    return !right;
}
