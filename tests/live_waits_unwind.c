/*
 * live_waits_unwind.c - waits that do not return: cancelled, left by siglongjmp, interrupted by a handler that waits
 * itself or forks. Clean-up handlers run, the answers are the system's, and later waits are what they are.
 *
 * Under the recorder live_waits_unwind.sh looks at the totals; the last wait's length stands for "not wrong later".
 */
#include "tests/live.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
static sem_t semaphore;
static int cleaned, started;

static void clean(void *held)
{
    cleaned++;
    if (held)
        CHECK(!pthread_mutex_unlock(held));
}

static void *in_condition(void *unused)
{
    CHECK(!pthread_mutex_lock(&mutex));
    pthread_cleanup_push(clean, &mutex);
    __atomic_store_n(&started, 1, __ATOMIC_RELEASE);
    for (;;)
        pthread_cond_wait(&condition, &mutex);
    pthread_cleanup_pop(1);
    return unused;
}

static void *in_semaphore(void *unused)
{
    pthread_cleanup_push(clean, NULL);
    __atomic_store_n(&started, 1, __ATOMIC_RELEASE);
    for (;;)
        sem_wait(&semaphore);
    pthread_cleanup_pop(1);
    return unused;
}

static void *in_sleep(void *unused)
{
    struct timespec t = {3600, 0};
    pthread_cleanup_push(clean, NULL);
    __atomic_store_n(&started, 1, __ATOMIC_RELEASE);
    nanosleep(&t, NULL);
    pthread_cleanup_pop(1);
    return unused;
}

static void *forever(void *unused)
{
    for (;;)
        pause();
    return unused;
}

static void *in_join(void *other)
{
    pthread_cleanup_push(clean, NULL);
    __atomic_store_n(&started, 1, __ATOMIC_RELEASE);
    pthread_join(*(pthread_t *)other, NULL);
    pthread_cleanup_pop(1);
    return NULL;
}

static void *in_read(void *end)
{
    char c;
    pthread_cleanup_push(clean, NULL);
    __atomic_store_n(&started, 1, __ATOMIC_RELEASE);
    read(*(int *)end, &c, 1);
    pthread_cleanup_pop(1);
    return NULL;
}

static void cancel_in(void *(*body)(void *), void *argument)
{
    pthread_t t;
    void *result;
    int before = cleaned;
    started = 0;
    CHECK(!pthread_create(&t, NULL, body, argument));
    while (!__atomic_load_n(&started, __ATOMIC_ACQUIRE))
        sched_yield();
    poll(NULL, 0, 5);
    CHECK(!pthread_cancel(t));
    CHECK(!pthread_join(t, &result));
    CHECK(result == PTHREAD_CANCELED && cleaned == before + 1);
}

static void check_cancel(void)
{
    pthread_t endless;
    CHECK(!pthread_create(&endless, NULL, forever, NULL));
    int ends[2];
    CHECK(!pipe(ends));
    for (int i = 0; i < 5; i++) {
        cancel_in(in_condition, NULL);
        cancel_in(in_semaphore, NULL);
        cancel_in(in_sleep, NULL);
        cancel_in(in_join, &endless);
        cancel_in(in_read, &ends[0]);
    }
    CHECK(!pthread_cancel(endless) && !pthread_join(endless, NULL));
    close(ends[0]), close(ends[1]);
}

/* --- handlers ---------------------------------------------------------------------------------------------------- */

static sigjmp_buf away;
static volatile int what;
static volatile pid_t child;
enum { INTERRUPT, JUMP, WAIT_TOO, FORK };

/* Again and again: a machine that is full may be late for the wait that the first one is meant for. */
static void alarm_each(long us)
{
    struct itimerval t = {{0, us}, {0, us}};
    CHECK(!setitimer(ITIMER_REAL, &t, NULL));
}

static void handler(int number)
{
    (void)number;
    int saved = errno, status;
    if (what == JUMP)
        siglongjmp(away, 1);
    if (what == WAIT_TOO) {
        struct timespec t = {0, 1000000};
        nanosleep(&t, NULL);
        poll(NULL, 0, 0);
        waitpid(-1, &status, WNOHANG);
    }
    if (what == FORK) {
        what = INTERRUPT;
        child = fork();
        if (!child)
            alarm_each(10000);
    }
    errno = saved;
}

static void alarm_for(int how)
{
    what = how;
    child = -1;
    alarm_each(10000);
}

static void check_interrupts(void)
{
    struct timespec second = {1, 0}, left = {9, 9};
    alarm_for(INTERRUPT);
    FAILS(nanosleep(&second, &left), EINTR);
    CHECK(left.tv_sec == 0 && left.tv_nsec > 0 && left.tv_nsec < 1000000000);
    alarm_for(WAIT_TOO);
    FAILS(sem_wait(&semaphore), EINTR);
    CHECK(clock_nanosleep(CLOCK_MONOTONIC, 0, &second, &left) == EINTR);
    alarm_for(INTERRUPT);
    CHECK(sleep(5) >= 4);
    alarm_each(0);
}

static void check_jumps(void)
{
    for (int i = 0; i < 3; i++) {
        if (!sigsetjmp(away, 1)) {
            alarm_for(JUMP);
            sem_wait(&semaphore);
        }
        alarm_each(0);
        if (!sigsetjmp(away, 1)) {
            alarm_for(JUMP);
            sleep(3600);
        }
        alarm_each(0);
    }
}

/* The child comes back into a wait that its parent began: it is no wait of its own. */
static void check_fork(void)
{
    alarm_for(FORK);
    FAILS(sem_wait(&semaphore), EINTR);
    alarm_each(0);
    if (!child) {
        struct timespec ms = {0, 1000000};
        nanosleep(&ms, NULL);
        _exit(7);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 7);
}

static void *sleep_little(void *unused)
{
    struct timespec ms20 = {0, 20000000};
    KEEPS(nanosleep(&ms20, NULL), 0);
    CHECK(!pthread_mutex_lock(&mutex) && !pthread_mutex_unlock(&mutex));
    return unused;
}

int main(void)
{
    CHECK(!sem_init(&semaphore, 0, 0));
    struct sigaction a = {.sa_handler = handler};
    CHECK(!sigaction(SIGALRM, &a, NULL));
    check_interrupts();
    check_jumps();
    check_fork();
    check_cancel();
    pthread_t t;
    CHECK(!pthread_create(&t, NULL, sleep_little, NULL) && !pthread_join(t, NULL));
    puts("nothing was skipped");
    return 0;
}
