/*
 * bench_waits.c - what measuring waits adds to calls that mostly do not wait: locks that are free, what the page cache
 * serves, sleeps of nothing; and to threads that hand over to each other all the time. Bare against watched.
 */
#include "bench/slices.h"

#include <pthread.h>
#include <semaphore.h>
#include <sys/syscall.h>
#include <time.h>

enum { MUTEX, RECURSIVE, RWLOCK_READ, RWLOCK_WRITE, SEMAPHORE, READ, PREAD, OPEN, SLEEP, PING_PONG, CONTENDED, KINDS };
static const struct {
    const char *name;
    int rounds;
} kinds[KINDS] = {{"mutex lock + unlock, free", 200000},
                  {"recursive mutex, held by itself", 200000},
                  {"rwlock rdlock + unlock, free", 100000},
                  {"rwlock wrlock + unlock, free", 100000},
                  {"sem_wait + sem_post, free", 100000},
                  {"read of 4 KiB, cached", 5000},
                  {"pread of 4 KiB, cached", 5000},
                  {"open + close of a file", 2000},
                  {"nanosleep of 0", 200},
                  {"condition, there and back", 500},
                  {"mutex, two threads at once", 5000}};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER, recursive = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;
static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
static sem_t semaphore;
static int file = -1, turn;
static char data[4096];

static void prepare(void)
{
    char path[] = "/var/tmp/sonde-bench-XXXXXX";
    file = mkstemp(path);
    if (file < 0 || write(file, data, sizeof data) != sizeof data || close(file))
        exit(1);
    file = open(path, O_RDWR); /* by a call that is seen: mkstemp's own is libc's */
    unlink(path);
    sem_init(&semaphore, 0, 1);
    pthread_mutex_lock(&recursive);
}

static void hand_over(int own, int rounds)
{
    pthread_mutex_lock(&mutex);
    for (int i = 0; i < rounds; i++) {
        while (turn != own)
            pthread_cond_wait(&condition, &mutex);
        turn = !own;
        pthread_cond_signal(&condition);
    }
    pthread_mutex_unlock(&mutex);
}

static void fight(int rounds)
{
    for (int i = 0; i < rounds; i++) {
        pthread_mutex_lock(&mutex);
        data[0]++;
        pthread_mutex_unlock(&mutex);
    }
}

struct partner {
    int kind, rounds;
};

static void *partner(void *to)
{
    const struct partner *p = to;
    if (p->kind == PING_PONG)
        hand_over(1, p->rounds);
    else
        fight(p->rounds);
    return NULL;
}

static void together(int kind, int rounds)
{
    pthread_t t;
    struct partner p = {kind, rounds};
    turn = 0;
    if (pthread_create(&t, NULL, partner, &p))
        exit(1);
    if (kind == PING_PONG)
        hand_over(0, rounds);
    else
        fight(rounds);
    pthread_join(t, NULL);
}

static void one_file_call(int kind)
{
    ssize_t n = 0;
    if (kind == READ) {
        syscall(SYS_lseek, file, 0, SEEK_SET);
        n = read(file, data, sizeof data);
    } else
        n = pread(file, data, sizeof data, 0);
    if (n != sizeof data)
        exit(1);
}

static void one(int kind)
{
    static const struct timespec none;
    switch (kind) {
    case MUTEX:
        pthread_mutex_lock(&mutex);
        pthread_mutex_unlock(&mutex);
        break;
    case RECURSIVE:
        pthread_mutex_lock(&recursive);
        pthread_mutex_unlock(&recursive);
        break;
    case RWLOCK_READ:
        pthread_rwlock_rdlock(&rwlock);
        pthread_rwlock_unlock(&rwlock);
        break;
    case RWLOCK_WRITE:
        pthread_rwlock_wrlock(&rwlock);
        pthread_rwlock_unlock(&rwlock);
        break;
    case SEMAPHORE:
        sem_wait(&semaphore);
        sem_post(&semaphore);
        break;
    case OPEN:
        close(open("/etc/passwd", O_RDONLY));
        break;
    case SLEEP:
        nanosleep(&none, NULL);
        break;
    default:
        one_file_call(kind);
    }
}

static void work(int kind, int rounds)
{
    if (kind == PING_PONG || kind == CONTENDED) {
        together(kind, rounds);
        return;
    }
    for (int i = 0; i < rounds; i++)
        one(kind);
}

int main(int argc, char **argv)
{
    if (argc > 1 && !strcmp(argv[1], "--worker")) {
        prepare();
        return slices_work(work);
    }
    struct slices s;
    if (slices_init(&s, "waits"))
        return 1;
    s.view.arena->features |= FEATURE_WAITS | FEATURE_CPU;
    struct worker bare = slices_start(&s, false, ""), watched = slices_start(&s, true, "");
    for (int kind = 0; kind < KINDS; kind++) {
        struct comparison c = slices_compare(&s, &bare, &watched, kind, kinds[kind].rounds, kind < SLEEP ? 200 : 50);
        slices_line(&s, "waits", kinds[kind].name, &c);
    }
    slices_stop(&bare);
    slices_stop(&watched);
    slices_fini(&s);
    return 0;
}
