/*
 * live_waits.c - waits of known length, one kind a run: what the recorder adds to the thread's totals is checked by
 * live_waits.sh, that each call does what it does without it here.
 *
 *     live_waits [KIND]    without one: all, one after the other
 */
#include "tests/live.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <threads.h>
#include <time.h>

#define HELD_MS 30

static struct timespec later_by(clockid_t clock, long ms)
{
    struct timespec t;
    clock_gettime(clock, &t);
    t.tv_nsec += ms * 1000000;
    t.tv_sec += t.tv_nsec / 1000000000;
    t.tv_nsec %= 1000000000;
    return t;
}

static void pause_ms(long ms) /* by system call: not measured, so that only the main thread's waits are */
{
    struct timespec t = {ms / 1000, ms % 1000 * 1000000};
    syscall(SYS_nanosleep, &t, NULL);
}

/* The main thread's wait has begun: it sleeps in the kernel, and is no longer on its way there. */
static void until_main_waits(void)
{
    char path[64], line[256];
    snprintf(path, sizeof path, "/proc/self/task/%d/stat", (int)getpid());
    for (;;) {
        int fd = open(path, O_RDONLY);
        ssize_t n = read(fd, line, sizeof line - 1);
        close(fd);
        CHECK(n > 0);
        line[n] = 0;
        const char *state = strrchr(line, ')');
        if (state && state[2] == 'S')
            return;
        sched_yield();
    }
}

static void hold(void)
{
    until_main_waits();
    pause_ms(HELD_MS);
}

/* --- a second thread that holds what the main one wants -------------------------------------------------------- */

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
static pthread_barrier_t barrier;
static sem_t semaphore;
static mtx_t c11_mutex;
static cnd_t c11_condition;
static uint32_t word;
static volatile int ready;

static void *hold_mutex(void *m)
{
    CHECK(!pthread_mutex_lock(m));
    ready = 1;
    hold();
    CHECK(!pthread_mutex_unlock(m));
    return NULL;
}

static void *hold_to_write(void *unused)
{
    (void)unused;
    CHECK(!pthread_rwlock_wrlock(&rwlock));
    ready = 1;
    hold();
    CHECK(!pthread_rwlock_unlock(&rwlock));
    return NULL;
}

static void *hold_to_read(void *unused)
{
    (void)unused;
    CHECK(!pthread_rwlock_rdlock(&rwlock));
    ready = 1;
    hold();
    CHECK(!pthread_rwlock_unlock(&rwlock));
    return NULL;
}

static void *wake_all(void *unused)
{
    ready = 1;
    hold();
    CHECK(!pthread_mutex_lock(&mutex));
    __atomic_store_n(&word, 1, __ATOMIC_RELEASE);
    CHECK(!pthread_cond_broadcast(&condition));
    CHECK(!pthread_mutex_unlock(&mutex));
    CHECK(mtx_lock(&c11_mutex) == thrd_success);
    CHECK(cnd_broadcast(&c11_condition) == thrd_success);
    CHECK(mtx_unlock(&c11_mutex) == thrd_success);
    CHECK(!sem_post(&semaphore));
    syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    return unused;
}

static void *meet(void *unused)
{
    ready = 1;
    hold();
    pthread_barrier_wait(&barrier);
    return unused;
}

static pthread_t second(void *(*body)(void *), void *argument)
{
    pthread_t t;
    ready = 0;
    __atomic_store_n(&word, 0, __ATOMIC_RELEASE);
    CHECK(!pthread_create(&t, NULL, body, argument));
    while (!ready)
        sched_yield();
    return t;
}

static void end(pthread_t t)
{
    pause_ms(2 * HELD_MS); /* so that joining is no wait */
    CHECK(!pthread_join(t, NULL));
}

/* --- the kinds -------------------------------------------------------------------------------------------------- */

static void wait_mutex(void)
{
    pthread_t t = second(hold_mutex, &mutex);
    KEEPS(pthread_mutex_lock(&mutex), 0);
    CHECK(!pthread_mutex_unlock(&mutex));
    end(t);
}

static void wait_mutex_timed(void)
{
    pthread_t t = second(hold_mutex, &mutex);
    struct timespec soon = later_by(CLOCK_REALTIME, 5), long_time = later_by(CLOCK_MONOTONIC, 5000);
    KEEPS(pthread_mutex_timedlock(&mutex, &soon), ETIMEDOUT);
    KEEPS(pthread_mutex_clocklock(&mutex, CLOCK_MONOTONIC, &long_time), 0);
    CHECK(!pthread_mutex_unlock(&mutex));
    end(t);
}

/* Many short waits, of about half a millisecond each. */
static void *hold_often(void *unused)
{
    for (ready = 1; ready < 400; ready++) {
        CHECK(!pthread_mutex_lock(&mutex));
        struct timespec t = {0, 400000};
        syscall(SYS_nanosleep, &t, NULL);
        CHECK(!pthread_mutex_unlock(&mutex));
        t.tv_nsec = 100000; /* the main thread's turn */
        syscall(SYS_nanosleep, &t, NULL);
    }
    return unused;
}

static void wait_often(void)
{
    pthread_t t = second(hold_often, NULL);
    while (ready < 400) {
        CHECK(!pthread_mutex_lock(&mutex));
        CHECK(!pthread_mutex_unlock(&mutex));
        struct timespec nap = {0, 50000};
        syscall(SYS_nanosleep, &nap, NULL);
    }
    end(t);
}

/* Kinds of mutexes: what each call answers, held by this thread or not. */
static void check_kind(int kind, int robust, int shared, int protocol)
{
    pthread_mutexattr_t a;
    pthread_mutex_t *m = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(!pthread_mutexattr_init(&a));
    CHECK(!pthread_mutexattr_settype(&a, kind));
    CHECK(!pthread_mutexattr_setrobust(&a, robust));
    CHECK(!pthread_mutexattr_setpshared(&a, shared));
    CHECK(!pthread_mutexattr_setprotocol(&a, protocol));
    CHECK(!pthread_mutex_init(m, &a));
    KEEPS(pthread_mutex_lock(m), 0);
    if (kind == PTHREAD_MUTEX_RECURSIVE) {
        KEEPS(pthread_mutex_lock(m), 0);
        CHECK(!pthread_mutex_unlock(m));
    }
    if (kind == PTHREAD_MUTEX_ERRORCHECK)
        KEEPS(pthread_mutex_lock(m), EDEADLK);
    CHECK(!pthread_mutex_unlock(m));
    pthread_t t = second(hold_mutex, m);
    struct timespec soon = later_by(CLOCK_REALTIME, 5);
    KEEPS(pthread_mutex_timedlock(m, &soon), ETIMEDOUT);
    KEEPS(pthread_mutex_lock(m), 0);
    CHECK(!pthread_mutex_unlock(m));
    end(t);
    CHECK(!pthread_mutex_destroy(m));
    munmap(m, 4096);
}

static void *die_holding(void *m)
{
    CHECK(!pthread_mutex_lock(m));
    return NULL;
}

static void check_owner_died(void)
{
    pthread_mutexattr_t a;
    static pthread_mutex_t m;
    pthread_t t;
    CHECK(!pthread_mutexattr_init(&a) && !pthread_mutexattr_setrobust(&a, PTHREAD_MUTEX_ROBUST));
    CHECK(!pthread_mutex_init(&m, &a));
    CHECK(!pthread_create(&t, NULL, die_holding, &m) && !pthread_join(t, NULL));
    KEEPS(pthread_mutex_lock(&m), EOWNERDEAD);
    CHECK(!pthread_mutex_consistent(&m) && !pthread_mutex_unlock(&m));
    CHECK(!pthread_create(&t, NULL, die_holding, &m) && !pthread_join(t, NULL));
    KEEPS(pthread_mutex_lock(&m), EOWNERDEAD);
    CHECK(!pthread_mutex_unlock(&m));
    KEEPS(pthread_mutex_lock(&m), ENOTRECOVERABLE);
}

static void wait_kinds(void)
{
    static const int kinds[] = {PTHREAD_MUTEX_NORMAL, PTHREAD_MUTEX_RECURSIVE, PTHREAD_MUTEX_ERRORCHECK,
                                PTHREAD_MUTEX_ADAPTIVE_NP};
    for (unsigned i = 0; i < sizeof kinds / sizeof *kinds; i++)
        for (int how = 0; how < 5; how++)
            check_kind(kinds[i], how & 1 ? PTHREAD_MUTEX_ROBUST : PTHREAD_MUTEX_STALLED,
                       how & 2 ? PTHREAD_PROCESS_SHARED : PTHREAD_PROCESS_PRIVATE,
                       how & 4 ? PTHREAD_PRIO_INHERIT : PTHREAD_PRIO_NONE);
    check_owner_died();
}

static void wait_c11(void)
{
    pthread_t t = second(hold_mutex, &c11_mutex);
    CHECK(mtx_lock(&c11_mutex) == thrd_success);
    CHECK(mtx_unlock(&c11_mutex) == thrd_success);
    end(t);
}

static void wait_rwlock_read(void)
{
    pthread_t t = second(hold_to_write, NULL);
    KEEPS(pthread_rwlock_rdlock(&rwlock), 0);
    CHECK(!pthread_rwlock_unlock(&rwlock));
    end(t);
}

static void wait_rwlock_write(void)
{
    pthread_t t = second(hold_to_read, NULL);
    struct timespec soon = later_by(CLOCK_REALTIME, 2);
    KEEPS(pthread_rwlock_timedwrlock(&rwlock, &soon), ETIMEDOUT);
    KEEPS(pthread_rwlock_wrlock(&rwlock), 0);
    KEEPS(pthread_rwlock_wrlock(&rwlock), EDEADLK);
    CHECK(!pthread_rwlock_unlock(&rwlock));
    end(t);
}

/* Readers do not hold up readers. */
static void wait_rwlock_shared(void)
{
    pthread_t t = second(hold_to_read, NULL);
    KEEPS(pthread_rwlock_rdlock(&rwlock), 0);
    CHECK(!pthread_rwlock_unlock(&rwlock));
    end(t);
}

static void wait_condition(void)
{
    pthread_t t = second(wake_all, NULL);
    CHECK(!pthread_mutex_lock(&mutex));
    while (!word)
        KEEPS(pthread_cond_wait(&condition, &mutex), 0);
    CHECK(!pthread_mutex_unlock(&mutex));
    end(t);
}

static void wait_condition_timed(void)
{
    struct timespec a = later_by(CLOCK_REALTIME, HELD_MS / 2), b;
    CHECK(!pthread_mutex_lock(&mutex));
    KEEPS(pthread_cond_timedwait(&condition, &mutex, &a), ETIMEDOUT);
    b = later_by(CLOCK_MONOTONIC, HELD_MS / 2 + 1);
    KEEPS(pthread_cond_clockwait(&condition, &mutex, CLOCK_MONOTONIC, &b), ETIMEDOUT);
    b.tv_nsec = -1;
    KEEPS(pthread_cond_clockwait(&condition, &mutex, CLOCK_MONOTONIC, &b), EINVAL);
    CHECK(!pthread_mutex_unlock(&mutex));
}

static void wait_c11_condition(void)
{
    pthread_t t = second(wake_all, NULL);
    CHECK(mtx_lock(&c11_mutex) == thrd_success);
    CHECK(cnd_wait(&c11_condition, &c11_mutex) == thrd_success);
    CHECK(mtx_unlock(&c11_mutex) == thrd_success);
    end(t);
}

static void wait_semaphore(void)
{
    pthread_t t = second(wake_all, NULL);
    KEEPS(sem_wait(&semaphore), 0);
    end(t);
}

static void wait_semaphore_timed(void)
{
    struct timespec soon = later_by(CLOCK_REALTIME, HELD_MS);
    FAILS(sem_timedwait(&semaphore, &soon), ETIMEDOUT);
    CHECK(!sem_post(&semaphore));
    KEEPS(sem_timedwait(&semaphore, &soon), 0);
    soon.tv_nsec = -1;
    FAILS(sem_timedwait(&semaphore, &soon), EINVAL);
}

static void wait_futex(void)
{
    FAILS(syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, word + 1, NULL, NULL, 0), EAGAIN);
    FAILS(syscall(SYS_futex, (void *)8, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0), EFAULT);
    KEEPS(syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0), 0);
    pthread_t t = second(wake_all, NULL);
    syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
    end(t);
}

static void wait_barrier(void)
{
    CHECK(!pthread_barrier_init(&barrier, NULL, 2));
    pthread_t t = second(meet, NULL);
    int r = pthread_barrier_wait(&barrier);
    CHECK(r == 0 || r == PTHREAD_BARRIER_SERIAL_THREAD);
    end(t);
}

static void wait_join(void)
{
    pthread_t t = second(hold_mutex, &mutex);
    struct timespec soon = later_by(CLOCK_REALTIME, 1);
    KEEPS(pthread_timedjoin_np(t, NULL, &soon), ETIMEDOUT);
    KEEPS(pthread_join(t, NULL), 0);
}

static void wait_sleep(void)
{
    struct timespec ms10 = {0, 10000000}, bad = {0, -1}, until;
    KEEPS(usleep(10000), 0);
    KEEPS(nanosleep(&ms10, NULL), 0);
    FAILS(nanosleep(&bad, NULL), EINVAL);
    FAILS(nanosleep((void *)8, NULL), EFAULT);
    until = later_by(CLOCK_MONOTONIC, 10);
    KEEPS(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL), 0);
    KEEPS(clock_nanosleep(CLOCK_MONOTONIC, 0, &bad, NULL), EINVAL);
    CHECK(thrd_sleep(&ms10, NULL) == 0);
    KEEPS(poll(NULL, 0, 10), 0);
    struct timeval tv = {0, 10000};
    KEEPS(select(0, NULL, NULL, NULL, &tv), 0);
    KEEPS(sleep(0), 0);
}

/* Children that stand in their parent's memory: what they wait is nobody's. */
static void wait_vfork(void)
{
    static pthread_mutex_t held = PTHREAD_MUTEX_INITIALIZER;
    CHECK(!pthread_mutex_lock(&held));
    for (int i = 0; i < 10; i++) {
        pid_t child = vfork();
        if (!child) {
            struct timespec t = {0, 1000000};
            nanosleep(&t, NULL);
            t = later_by(CLOCK_REALTIME, 1);
            int error = pthread_mutex_timedlock(&held, &t);
            int failed = sem_timedwait(&semaphore, &t);
            _exit(error == ETIMEDOUT && failed ? 5 : 1);
        }
        int status;
        CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 5);
    }
    CHECK(!pthread_mutex_unlock(&held));
}

static const struct {
    const char *name;
    void (*run)(void);
} kinds[] = {{"mutex", wait_mutex},
             {"mutex_timed", wait_mutex_timed},
             {"often", wait_often},
             {"kinds", wait_kinds},
             {"c11", wait_c11},
             {"rwlock_read", wait_rwlock_read},
             {"rwlock_write", wait_rwlock_write},
             {"rwlock_shared", wait_rwlock_shared},
             {"condition", wait_condition},
             {"condition_timed", wait_condition_timed},
             {"c11_condition", wait_c11_condition},
             {"semaphore", wait_semaphore},
             {"semaphore_timed", wait_semaphore_timed},
             {"futex", wait_futex},
             {"barrier", wait_barrier},
             {"join", wait_join},
             {"sleep", wait_sleep},
             {"vfork", wait_vfork}};

int main(int argc, char **argv)
{
    CHECK(mtx_init(&c11_mutex, mtx_plain) == thrd_success && cnd_init(&c11_condition) == thrd_success);
    CHECK(!sem_init(&semaphore, 0, 0));
    for (unsigned i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (argc < 2 || !strcmp(argv[1], kinds[i].name)) {
            kinds[i].run();
            while (!sem_trywait(&semaphore))
                ;
            printf("%s\n", kinds[i].name);
        }
    return 0;
}
