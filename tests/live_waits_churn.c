/*
 * live_waits_churn.c - everything at once for three seconds: locks of all kinds, sleeps, files, futexes, signals, forks and
 * cancelled threads, on stacks of the smallest size. What the locks protect stays whole, and nothing hangs.
 */
#include "tests/live.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#define THREADS 8
#define SECONDS 3

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t adaptive = PTHREAD_ADAPTIVE_MUTEX_INITIALIZER_NP;
static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
static sem_t semaphore;
static uint32_t word;
static uint64_t by_mutex, by_adaptive, by_rwlock, by_semaphore, by_futex; /* each protected by its lock */
static uint64_t done[5];
static int file, stop;

static void futex_lock(void)
{
    uint32_t was = 0;
    if (__atomic_compare_exchange_n(&word, &was, 1, 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
        return;
    while (__atomic_exchange_n(&word, 2, __ATOMIC_ACQUIRE))
        syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 2, NULL, NULL, 0);
}

static void futex_unlock(void)
{
    if (__atomic_exchange_n(&word, 0, __ATOMIC_RELEASE) == 2)
        syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

static void count(int which, uint64_t *at)
{
    uint64_t old = *(volatile uint64_t *)at;
    if (!(old & 63))
        sched_yield(); /* with the lock held: the others wait */
    *(volatile uint64_t *)at = old + 1;
    __atomic_fetch_add(&done[which], 1, __ATOMIC_RELAXED);
}

static void one(unsigned what)
{
    char c[64] = "";
    struct timespec little = {0, 50000}, soon;
    int error;
    switch (what % 9) {
    case 0:
        CHECK(!pthread_mutex_lock(&mutex));
        count(0, &by_mutex);
        pthread_cond_signal(&condition);
        CHECK(!pthread_mutex_unlock(&mutex));
        break;
    case 1:
        CHECK(!pthread_mutex_lock(&adaptive));
        count(1, &by_adaptive);
        CHECK(!pthread_mutex_unlock(&adaptive));
        break;
    case 2:
        CHECK(!pthread_rwlock_wrlock(&rwlock));
        count(2, &by_rwlock);
        CHECK(!pthread_rwlock_unlock(&rwlock));
        break;
    case 3:
        CHECK(!pthread_rwlock_rdlock(&rwlock));
        sched_yield();
        CHECK(!pthread_rwlock_unlock(&rwlock));
        break;
    case 4:
        while (sem_wait(&semaphore))
            CHECK(errno == EINTR);
        count(3, &by_semaphore);
        CHECK(!sem_post(&semaphore));
        break;
    case 5:
        futex_lock();
        count(4, &by_futex);
        futex_unlock();
        break;
    case 6:
        clock_gettime(CLOCK_REALTIME, &soon);
        soon.tv_nsec += 1000000;
        soon.tv_sec += soon.tv_nsec / 1000000000;
        soon.tv_nsec %= 1000000000;
        CHECK(!pthread_mutex_lock(&mutex));
        error = pthread_cond_timedwait(&condition, &mutex, &soon);
        CHECK(!error || error == ETIMEDOUT);
        CHECK(!pthread_mutex_unlock(&mutex));
        break;
    case 7:
        CHECK(pwrite(file, c, sizeof c, what % 64 * 64) == sizeof c && pread(file, c, sizeof c, 0) == sizeof c);
        CHECK(lseek(file, 0, SEEK_CUR) == 0 && read(-1, c, 1) == -1);
        break;
    default:
        nanosleep(&little, NULL);
        poll(NULL, 0, 0);
    }
}

static void *churn(void *seed)
{
    unsigned x = (unsigned)(uintptr_t)seed;
    while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
        x = x * 1664525 + 1013904223;
        one(x >> 16);
    }
    return NULL;
}

static void handler(int number)
{
    (void)number;
    int saved = errno;
    struct timespec t = {0, 1000};
    char c;
    nanosleep(&t, NULL);
    CHECK(pread(file, &c, 1, 0) == 1);
    errno = saved;
}

static void *cancelled(void *never)
{
    while (sem_wait(never))
        ;
    return NULL;
}

static void disturb(void)
{
    static sem_t never;
    pthread_t t;
    CHECK(!sem_init(&never, 0, 0));
    CHECK(!pthread_create(&t, NULL, cancelled, &never));
    pid_t child = fork();
    if (!child) {
        struct timespec ms = {0, 1000000};
        nanosleep(&ms, NULL);
        _exit(0);
    }
    CHECK(child > 0);
    int status;
    while (waitpid(child, &status, 0) != child)
        CHECK(errno == EINTR);
    CHECK(WIFEXITED(status) && !WEXITSTATUS(status));
    CHECK(!pthread_cancel(t) && !pthread_join(t, NULL));
}

int main(void)
{
    pthread_t t[THREADS];
    pthread_attr_t small;
    struct sigaction a = {.sa_handler = handler, .sa_flags = SA_RESTART};
    char path[] = "/tmp/sonde-churn-XXXXXX";
    CHECK(!sem_init(&semaphore, 0, 1) && !sigaction(SIGUSR1, &a, NULL));
    file = mkstemp(path);
    CHECK(file >= 0 && !unlink(path) && pwrite(file, "x", 1, 0) == 1);
    CHECK(!pthread_attr_init(&small) && !pthread_attr_setstacksize(&small, PTHREAD_STACK_MIN));
    for (uintptr_t i = 0; i < THREADS; i++)
        CHECK(!pthread_create(&t[i], i & 1 ? &small : NULL, churn, (void *)(i * 77 + 1)));
    time_t end = time(NULL) + SECONDS;
    for (unsigned i = 0; time(NULL) < end; i++) {
        pthread_kill(t[i % THREADS], SIGUSR1);
        if (i % 16 == 0)
            disturb();
        struct timespec ms = {0, 1000000};
        nanosleep(&ms, NULL);
    }
    __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
    for (int i = 0; i < THREADS; i++)
        CHECK(!pthread_join(t[i], NULL));
    CHECK(by_mutex == done[0] && by_adaptive == done[1] && by_rwlock == done[2] && by_semaphore == done[3] &&
          by_futex == done[4]);
    for (int i = 0; i < 5; i++)
        CHECK(done[i] > 10);
    puts("whole");
    return 0;
}
