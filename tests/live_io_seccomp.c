/*
 * live_io_seccomp.c - programs that gave up system calls: nothing may be added to what they still do. Under a filter
 * that kills for everything but the calls below, and under mode 1, where the time stamp counter is gone as well.
 */
#include "tests/live.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>

static void exchange(int pair[2], int times)
{
    char c[300] = "";
    for (int i = 0; i < times; i++)
        if (write(pair[0], c, sizeof c) != sizeof c || read(pair[1], c, sizeof c) <= 0)
            syscall(SYS_exit, 2);
}

static void filtered(int pair[2], int use_prctl)
{
#define ALLOW(number) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        ALLOW(SYS_read), ALLOW(SYS_write), ALLOW(SYS_writev), ALLOW(SYS_sendto), ALLOW(SYS_recvfrom), ALLOW(SYS_poll),
        ALLOW(SYS_close), ALLOW(SYS_dup), ALLOW(SYS_exit), ALLOW(SYS_rt_sigreturn),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
    };
    struct sock_fprog program = {sizeof code / sizeof *code, code};
    CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    if (use_prctl)
        CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
    else
        CHECK(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) == 0);
    exchange(pair, 100);
    char c[4] = "";
    struct iovec v = {c, 4};
    struct pollfd p = {pair[1], POLLIN, 0};
    if (writev(pair[0], &v, 1) != 4 || poll(&p, 1, 1000) != 1 || recv(pair[1], c, 4, 0) != 4 ||
        send(pair[0], c, 4, 0) != 4)
        syscall(SYS_exit, 3);
    int copy = dup(pair[1]);
    if (copy < 0 || read(copy, c, 4) != 4 || close(copy) || close(pair[0]))
        syscall(SYS_exit, 4);
    syscall(SYS_exit, 0);
}

static void mode_one(int pair[2], int use_prctl)
{
    if (use_prctl)
        CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT) == 0);
    else
        CHECK(syscall(SYS_seccomp, SECCOMP_SET_MODE_STRICT, 0, NULL) == 0);
    exchange(pair, 100);
    syscall(SYS_exit, 0);
}

static void no_counter(int pair[2], int unused)
{
    (void)unused;
    CHECK(prctl(PR_SET_TSC, PR_TSC_SIGSEGV, 0, 0, 0) == 0);
    exchange(pair, 100);
    _exit(0);
}

static void run(void (*body)(int pair[2], int how), int how, int settled)
{
    int pair[2], status;
    tcp_pair(pair);
    if (settled)
        exchange(pair, 1);
    fflush(stdout);
    pid_t child = fork();
    if (!child)
        body(pair, how);
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    close(pair[0]), close(pair[1]);
}

int main(void)
{
    for (int settled = 0; settled < 2; settled++)
        for (int use_prctl = 0; use_prctl < 2; use_prctl++) {
            run(filtered, use_prctl, settled);
            run(mode_one, use_prctl, settled);
            run(no_counter, 0, settled);
        }
    puts("no system call was added");
    return 0;
}
