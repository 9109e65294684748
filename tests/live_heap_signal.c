/*
 * live_heap_signal.c - allocations in a signal handler, on an alternative stack, while the thread
 * is in other calls.
 *
 * The thread itself does not allocate meanwhile (that would be undefined without a recorder too):
 * it writes and reads. With -v prints tid and totals as live_heap_threads does: of the handler's
 * blocks, freed later by main.
 */
#include <errno.h>
#include <malloc.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>
#include <pthread.h>

#define BLOCKS 300

static void *blocks[BLOCKS];
static volatile sig_atomic_t count;
static uint64_t allocated, freed, allocations;
static long worker_tid;
static bool failed;

static void on_alarm(int number)
{
    (void)number;
    int saved = errno;
    if (count < BLOCKS) {
        void *p = malloc(100 + (size_t)count * 3), *q = realloc(malloc(40), 4000);
        failed |= !p || !q;
        allocated += malloc_usable_size(p) + malloc_usable_size(q);
        allocations += 3;
        freed += malloc_usable_size(q);
        free(q);
        blocks[count] = p;
        count = count + 1;
    }
    errno = saved;
}

/* malloc(40) within the handler: allocated and freed by the realloc. */
static void account_for_the_small_ones(void)
{
    void *p = malloc(40);
    size_t small = malloc_usable_size(p);
    free(p);
    allocated += (uint64_t)BLOCKS * small;
    freed += (uint64_t)BLOCKS * small;
}

static void *work(void *unused)
{
    static char stack[65536];
    stack_t alternative = {.ss_sp = stack, .ss_size = sizeof stack};
    struct sigaction act = {.sa_handler = on_alarm, .sa_flags = SA_ONSTACK | SA_RESTART};
    int ends[2];
    char c;
    (void)unused;
    worker_tid = syscall(SYS_gettid);
    failed |= sigaltstack(&alternative, NULL) || socketpair(AF_UNIX, SOCK_STREAM, 0, ends);
    sigaction(SIGUSR1, &act, NULL);
    while (count < BLOCKS && !failed)
        failed |= send(ends[0], "x", 1, 0) != 1 || recv(ends[1], &c, 1, 0) != 1;
    for (int i = 0; i < BLOCKS; i++) {
        freed += malloc_usable_size(blocks[i]);
        free(blocks[i]);
    }
    free(NULL);
    return NULL;
}

int main(int argc, char **argv)
{
    pthread_t worker;
    bool verbose = argc > 1 && !strcmp(argv[1], "-v");
    account_for_the_small_ones();
    signal(SIGUSR1, SIG_IGN);
    if (pthread_create(&worker, NULL, work, NULL))
        return 1;
    for (int i = 0; count < BLOCKS && i < 100000; i++) {
        pthread_kill(worker, SIGUSR1);
        usleep(50);
    }
    pthread_join(worker, NULL);
    if (verbose)
        printf("%ld %llu %llu %llu\n", worker_tid, (unsigned long long)allocated,
               (unsigned long long)freed, (unsigned long long)allocations);
    puts(failed || count != BLOCKS ? "failed" : "ok");
    return failed || count != BLOCKS;
}
