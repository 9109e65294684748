/*
 * live_seccomp_all.c - threads that allocate and wait for each other's lock while another one sets a filter for all of
 * them, which kills at any call but their own few: no call of the recorder may come after it. Exit 4.
 */
#include "tests/live.h"

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>

#define THREADS 3

static const unsigned allowed[] = {SYS_read,   SYS_write,    SYS_recvfrom, SYS_sendto,  SYS_futex,   SYS_exit_group,
                                   SYS_brk,    SYS_mmap,     SYS_munmap,   SYS_mprotect, SYS_madvise, SYS_pread64};
#define ALLOWED (sizeof allowed / sizeof *allowed)

static pthread_mutex_t shared = PTHREAD_MUTEX_INITIALIZER, never = PTHREAD_MUTEX_INITIALIZER;
static int pair[2], file;
static volatile int done;

static void work(void)
{
    for (int i = 0; i < 3000; i++) {
        char byte = 'a';
        pthread_mutex_lock(&shared);
        char *block = malloc((size_t)(3000 + i % 7 * 4000));
        memset(block, 1, 10);
        free(block);
        pthread_mutex_unlock(&shared);
        CHECK(write(pair[0], &byte, 1) == 1);
        CHECK(recv(pair[1], &byte, 1, 0) == 1);
        CHECK(pread(file, &byte, 1, 0) == 1);
    }
}

static void *worker(void *unused)
{
    work();
    __sync_fetch_and_add(&done, 1);
    pthread_mutex_lock(&never); /* a thread's end makes other calls */
    return unused;
}

static void forbid(void)
{
    struct sock_filter f[2 * ALLOWED + 2];
    unsigned short n = 0;
    f[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    for (size_t i = 0; i < ALLOWED; i++) {
        f[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, allowed[i], 0, 1);
        f[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    }
    f[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
    struct sock_fprog program = {n, f};
    CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    CHECK(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program) == 0);
}

int main(void)
{
    pthread_t thread[THREADS];
    struct timespec moment = {0, 20000000};
    tcp_pair(pair);
    file = open("/etc/passwd", O_RDONLY);
    pthread_mutex_lock(&never);
    pthread_mutex_lock(&shared);
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_create(&thread[i], NULL, worker, NULL) == 0);
    nanosleep(&moment, NULL);
    pthread_mutex_unlock(&shared); /* they are under way when the filter comes */
    for (volatile int i = 0; i < 30000; i++)
        ;
    forbid();
    work();
    while (done < THREADS)
        ;
    _exit(4);
}
