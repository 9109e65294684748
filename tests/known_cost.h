/*
 * known_cost.h - the routes of live_known_cost.c: each costs a known or self-measured amount, and keeps the books.
 *
 * Waits are measured around the call that waits, by CLOCK_MONOTONIC; CPU by the caller, by CLOCK_THREAD_CPUTIME_ID. Only
 * what a route says here touches the heap.
 */
#ifndef SONDE_TESTS_KNOWN_COST_H
#define SONDE_TESTS_KNOWN_COST_H

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { LEAK_EVERY = 4, LEAK_BYTES = 100000, FILE_BYTES = 1 << 20 };

struct route {
    const char *path;
    void (*work)(struct route *, void **late);
    uint64_t requests, allocated, freed, allocations, cpu, lock, sleep, disk, downstream, leaked, hidden;
};

static const char *scratch_file; /* NULL: /disk and /sync do nothing */
static in_port_t backend_port;

static uint64_t now_ns(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void add(uint64_t *to, uint64_t n)
{
    __atomic_fetch_add(to, n, __ATOMIC_RELAXED);
}

static void *take(struct route *r, void *p)
{
    add(&r->allocated, malloc_usable_size(p));
    add(&r->allocations, 1);
    return p;
}

static void give(struct route *r, void *p)
{
    add(&r->freed, malloc_usable_size(p));
    free(p);
}

static void work_none(struct route *r, void **late)
{
    (void)r;
    (void)late;
}

static void work_small(struct route *r, void **late)
{
    (void)late;
    void *p[3];
    for (int i = 0; i < 3; i++)
        p[i] = take(r, malloc(1000));
    for (int i = 0; i < 3; i++)
        give(r, p[i]);
}

static void work_large(struct route *r, void **late)
{
    (void)late;
    give(r, take(r, malloc(200000)));
}

/* never gives back anything */
static void *kept;
static void work_keep(struct route *r, void **late)
{
    (void)late;
    void **p = take(r, malloc(5000));
    add(&r->leaked, malloc_usable_size(p));
    *p = __atomic_exchange_n(&kept, (void *)p, __ATOMIC_RELAXED);
}

static void work_grow(struct route *r, void **late)
{
    (void)late;
    void *p = take(r, calloc(10, 100));
    size_t old = malloc_usable_size(p);
    p = take(r, realloc(p, 4000));
    add(&r->freed, old);
    give(r, p);
}

/* freed after the answer's last byte, as nginx frees its pool */
static void work_late(struct route *r, void **late)
{
    *late = take(r, malloc(3000));
}

/* every fourth request never gives back what it took */
static void work_leak(struct route *r, void **late)
{
    (void)late;
    void *p = take(r, malloc(LEAK_BYTES));
    if (__atomic_load_n(&r->requests, __ATOMIC_RELAXED) % LEAK_EVERY) {
        give(r, p);
        return;
    }
    memset(p, 1, 64);
    add(&r->leaked, malloc_usable_size(p));
}

static void burn(uint64_t ns)
{
    uint64_t until = now_ns(CLOCK_THREAD_CPUTIME_ID) + ns;
    while (now_ns(CLOCK_THREAD_CPUTIME_ID) < until)
        ;
}

static void work_burn(struct route *r, void **late)
{
    (void)r;
    (void)late;
    burn(1000000);
}

static void work_warm(struct route *r, void **late)
{
    (void)r;
    (void)late;
    burn(30000);
}

/* A lock that somebody else holds two thirds of the time. */
static pthread_mutex_t wanted = PTHREAD_MUTEX_INITIALIZER;
static pthread_rwlock_t wanted_too = PTHREAD_RWLOCK_INITIALIZER;
static void *holder(void *unused)
{
    const struct timespec hold = {0, 400000}, free_time = {0, 200000};
    for (;;) {
        pthread_mutex_lock(&wanted);
        pthread_rwlock_wrlock(&wanted_too);
        nanosleep(&hold, NULL);
        pthread_rwlock_unlock(&wanted_too);
        pthread_mutex_unlock(&wanted);
        nanosleep(&free_time, NULL);
    }
    return unused;
}

static void work_lock(struct route *r, void **late)
{
    (void)late;
    uint64_t begin = now_ns(CLOCK_MONOTONIC);
    pthread_mutex_lock(&wanted);
    add(&r->lock, now_ns(CLOCK_MONOTONIC) - begin);
    pthread_mutex_unlock(&wanted);
    begin = now_ns(CLOCK_MONOTONIC);
    pthread_rwlock_rdlock(&wanted_too);
    add(&r->lock, now_ns(CLOCK_MONOTONIC) - begin);
    pthread_rwlock_unlock(&wanted_too);
}

static void work_sleep(struct route *r, void **late)
{
    (void)late;
    const struct timespec t = {0, 700000};
    uint64_t begin = now_ns(CLOCK_MONOTONIC);
    nanosleep(&t, NULL);
    usleep(300);
    add(&r->sleep, now_ns(CLOCK_MONOTONIC) - begin);
}

/* The file from the disk (as far as the system lets go of its pages), or from the page cache. */
static void read_file(struct route *r, int drop)
{
    static __thread char buffer[65536];
    int fd = scratch_file ? open(scratch_file, O_RDONLY) : -1;
    if (fd < 0)
        return;
    if (drop)
        posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    uint64_t begin = now_ns(CLOCK_MONOTONIC);
    while (read(fd, buffer, sizeof buffer) > 0)
        ;
    add(&r->disk, now_ns(CLOCK_MONOTONIC) - begin);
    close(fd);
}

static void work_disk(struct route *r, void **late)
{
    (void)late;
    read_file(r, 1);
}

static void work_cached(struct route *r, void **late)
{
    (void)late;
    read_file(r, 0);
}

static void work_sync(struct route *r, void **late)
{
    (void)late;
    static char page[4096];
    char name[256];
    int fd = -1;
    if (scratch_file && snprintf(name, sizeof name, "%s.sync", scratch_file) < (int)sizeof name)
        fd = open(name, O_WRONLY | O_CREAT, 0600);
    if (fd < 0)
        return;
    uint64_t begin = now_ns(CLOCK_MONOTONIC);
    if (pwrite(fd, page, sizeof page, 0) < 0 || fdatasync(fd) < 0)
        perror("sync");
    add(&r->disk, now_ns(CLOCK_MONOTONIC) - begin);
    close(fd);
}

/* Asks the slow backend, on a connection for each question. */
static void work_backend(struct route *r, void **late)
{
    (void)late;
    static const char ask[] = "GET /slow HTTP/1.1\r\nHost: b\r\nConnection: close\r\n\r\n";
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = backend_port};
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    char answer[512];
    uint64_t begin = now_ns(CLOCK_MONOTONIC);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (!connect(fd, (struct sockaddr *)&at, sizeof at) && write(fd, ask, sizeof ask - 1) > 0)
        while (read(fd, answer, sizeof answer) > 0)
            ;
    add(&r->downstream, now_ns(CLOCK_MONOTONIC) - begin);
    close(fd);
}

static void backend(int listener, pid_t parent)
{
    static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nslow\n";
    const struct timespec t = {0, 1500000};
    char ask[512];
    signal(SIGTERM, SIG_DFL);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    while (getppid() == parent) {
        int fd = accept(listener, NULL, NULL);
        if (fd < 0)
            continue;
        if (read(fd, ask, sizeof ask) > 0) {
            nanosleep(&t, NULL);
            if (write(fd, answer, sizeof answer - 1) < 0)
                perror("backend");
        }
        close(fd);
    }
    _exit(0);
}

/* Work that a helper thread does, which never touches the connection: nobody can tell whose it is. */
static sem_t job, job_done;
static pthread_mutex_t one_job = PTHREAD_MUTEX_INITIALIZER;
static struct route *job_route;

static void *helper(void *unused)
{
    for (;;) {
        while (sem_wait(&job))
            ;
        void *p = malloc(50000);
        add(&job_route->hidden, malloc_usable_size(p));
        burn(200000);
        free(p);
        sem_post(&job_done);
    }
    return unused;
}

static void work_hidden(struct route *r, void **late)
{
    (void)late;
    uint64_t begin = now_ns(CLOCK_MONOTONIC);
    pthread_mutex_lock(&one_job);
    job_route = r;
    sem_post(&job);
    while (sem_wait(&job_done))
        ;
    pthread_mutex_unlock(&one_job);
    add(&r->lock, now_ns(CLOCK_MONOTONIC) - begin);
}

#define ROUTE(path, work) {path, work, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
static struct route routes[] = {
    ROUTE("/none", work_none),   ROUTE("/small", work_small),   ROUTE("/large", work_large), ROUTE("/keep", work_keep),
    ROUTE("/grow", work_grow),   ROUTE("/late", work_late),     ROUTE("/leak", work_leak),   ROUTE("/burn", work_burn),
    ROUTE("/warm", work_warm),   ROUTE("/lock", work_lock),     ROUTE("/sleep", work_sleep), ROUTE("/disk", work_disk),
    ROUTE("/cached", work_cached), ROUTE("/sync", work_sync),   ROUTE("/backend", work_backend),
    ROUTE("/hidden", work_hidden),
};
enum { ROUTES = sizeof routes / sizeof *routes };

#endif
