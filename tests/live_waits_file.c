/*
 * live_waits_file.c - calls on files that wait for the disk, and calls that do not or are no files; what the recorder
 * adds is checked by live_waits_file.sh. The time of all calls goes to stderr, in ns.
 *
 *     live_waits_file [KIND [FOLDER]]    without one: all; FOLDER: where a real disk is, default /var/tmp
 */
#include "tests/live.h"

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>

#define BLOCK 65536
#define BLOCKS 64

static char path[256];
static char *block; /* aligned, for O_DIRECT */
static int fd = -1;

static long long now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000ll + t.tv_nsec;
}


/* Every other block: what is read ahead is not what comes next. */
static void read_all(void)
{
    for (int i = 0; i < BLOCKS; i += 2) {
        CHECK(lseek(fd, (off_t)i * BLOCK, SEEK_SET) == (off_t)i * BLOCK);
        KEEPS(read(fd, block, BLOCK), BLOCK);
    }
}

static void run_dropped(void)
{
    syscall(SYS_fsync, fd); /* so that the reads alone are measured */
    CHECK(!posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED));
    read_all();
}

static void run_positioned(void)
{
    syscall(SYS_fsync, fd);
    CHECK(!posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED));
    struct iovec v = {block, BLOCK};
    for (int i = 0; i < BLOCKS; i += 2)
        if (i & 2)
            KEEPS(pread(fd, block, BLOCK, (off_t)i * BLOCK), BLOCK);
        else
            KEEPS(preadv(fd, &v, 1, (off_t)i * BLOCK), BLOCK);
    char *volatile nowhere = (char *)8;
    FAILS(pread(fd, nowhere, BLOCK, 0), EFAULT);
    FAILS(pread(-1, block, BLOCK, 0), EBADF);
}

static void run_cached(void)
{
    CHECK(!posix_fadvise(fd, 0, 0, POSIX_FADV_WILLNEED));
    for (int i = 0; i < 10; i++) {
        CHECK(lseek(fd, 0, SEEK_SET) == 0);
        KEEPS(read(fd, block, 4096), 4096);
        KEEPS(pread(fd, block, 4096, 4096), 4096);
    }
}

static void run_sync(void)
{
    for (int i = 0; i < 4; i++) {
        KEEPS(pwrite(fd, block, BLOCK, 0), BLOCK);
        KEEPS(fdatasync(fd), 0);
        KEEPS(pwrite(fd, block, BLOCK, BLOCK), BLOCK);
        KEEPS(fsync(fd), 0);
    }
    KEEPS(fallocate(fd, 0, 0, BLOCK), 0);
    KEEPS(posix_fallocate(fd, 0, BLOCK), 0);
    KEEPS(posix_fallocate(-1, 0, BLOCK), EBADF);
    FAILS(fsync(-1), EBADF);
    FAILS(msync((void *)4096, 1, MS_SYNC), ENOMEM);
}

static void run_direct(void)
{
    int direct = open(path, O_RDONLY | O_DIRECT);
    if (direct < 0 && errno == EINVAL)
        return;
    CHECK(direct >= 0);
    for (int i = 0; i < BLOCKS; i++)
        CHECK(read(direct, block, BLOCK) == BLOCK);
    CHECK(!close(direct));
}

static void send_all(bool nonblocking)
{
    int pair[2];
    tcp_pair(pair);
    if (nonblocking)
        CHECK(!fcntl(pair[0], F_SETFL, O_NONBLOCK));
    syscall(SYS_fsync, fd);
    CHECK(!posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED));
    for (int i = 0; i < BLOCKS; i += 2) {
        off_t at = (off_t)i * BLOCK;
        ssize_t sent = sendfile(pair[0], fd, &at, BLOCK);
        CHECK(sent > 0);
        for (ssize_t n; sent; sent -= n)
            CHECK((n = recv(pair[1], block, BLOCK, 0)) > 0);
    }
    close(pair[0]), close(pair[1]);
}

static void run_sendfile(void)
{
    send_all(true);
}

/* It may wait for the socket as well: nobody can tell. */
static void run_sendfile_blocking(void)
{
    send_all(false);
}

static void *write_later(void *to)
{
    struct timespec t = {0, 30000000};
    syscall(SYS_nanosleep, &t, NULL);
    CHECK(write(*(int *)to, "x", 1) == 1);
    return NULL;
}

static void read_late(int from, int to)
{
    pthread_t t;
    CHECK(!pthread_create(&t, NULL, write_later, &to));
    KEEPS(read(from, block, 1), 1);
    struct timespec nap = {0, 20000000};
    syscall(SYS_nanosleep, &nap, NULL);
    CHECK(!pthread_join(t, NULL));
}

static void run_pipe(void)
{
    int ends[2];
    CHECK(!pipe(ends));
    read_late(ends[0], ends[1]);
    close(ends[0]), close(ends[1]);
}

/* Opened by a path like a file, and it waits: it is asked what it is. */
static void run_fifo(void)
{
    char name[300];
    snprintf(name, sizeof name, "%s.fifo", path);
    CHECK(!mkfifo(name, 0600));
    int both = open(name, O_RDWR);
    CHECK(both >= 0);
    read_late(both, both);
    read_late(both, both);
    close(both);
    CHECK(!unlink(name));
}

/* A filter that kills for everything but reading: the question would be deadly, and is not asked. */
static void run_filtered(void)
{
#define ALLOW(number) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        ALLOW(SYS_read), ALLOW(SYS_write), ALLOW(SYS_lseek), ALLOW(SYS_exit_group), ALLOW(SYS_unlink),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
    };
    struct sock_fprog program = {sizeof code / sizeof *code, code};
    syscall(SYS_fsync, fd);
    CHECK(!posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED));
    fd = open(path, O_RDONLY); /* one that was never asked */
    CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
    read_all();
    unlink(path);
    if (write(1, "filtered\n", 9) != 9)
        _exit(2);
    _exit(0);
}

static const struct {
    const char *name;
    void (*run)(void);
} kinds[] = {{"dropped", run_dropped}, {"positioned", run_positioned}, {"cached", run_cached},
             {"sync", run_sync},       {"direct", run_direct},         {"pipe", run_pipe},
             {"sendfile", run_sendfile}, {"sendfile_blocking", run_sendfile_blocking},
             {"fifo", run_fifo},       {"filtered", run_filtered}};

int main(int argc, char **argv)
{
    snprintf(path, sizeof path, "%s/sonde-waits-%d", argc > 2 ? argv[2] : "/var/tmp", (int)getpid());
    CHECK(!posix_memalign((void **)&block, 4096, BLOCK));
    memset(block, 'x', BLOCK);
    long long start = now();
    int plain = open(path, O_RDWR | O_CREAT | O_EXCL, 0600);
    CHECK(plain >= 0);
    for (int i = 0; i < BLOCKS; i++)
        CHECK(syscall(SYS_write, plain, block, BLOCK) == BLOCK);
    fd = plain;
    for (unsigned i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (argc < 2 || !strcmp(argv[1], kinds[i].name)) {
            kinds[i].run();
            fprintf(stderr, "%s %lld\n", kinds[i].name, now() - start);
            puts(kinds[i].name);
            fflush(stdout);
        }
    unlink(path);
    return 0;
}
