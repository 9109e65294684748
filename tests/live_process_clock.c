/*
 * live_process_clock.c - processes that may no longer read the time stamp counter, or make system
 * calls, live on.
 *
 * PR_SET_TSC makes rdtsc a SIGSEGV; seccomp's mode 1 does that too and kills for everything but
 * read, write and exit; a filter may kill for whatever it does not list. Each child does what it
 * did before, on a connection and on the heap.
 */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* Both ends of a TCP connection to ourselves. */
static bool connect_to_self(int ends[2])
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof at;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(listener, (struct sockaddr *)&at, length) || listen(listener, 1) ||
        getsockname(listener, (struct sockaddr *)&at, &length))
        return false;
    ends[0] = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(ends[0], (struct sockaddr *)&at, length))
        return false;
    ends[1] = accept(listener, NULL, NULL);
    close(listener);
    return ends[1] >= 0;
}

static bool talk(const int ends[2])
{
    char text[64] = "";
    for (int i = 0; i < 100; i++) {
        void *p = malloc((size_t)i * 3 + 1);
        if (!p || write(ends[0], "over to you", 12) != 12 ||
            read(ends[1], text, sizeof text) != 12 || strcmp(text, "over to you") != 0)
            return false;
        free(p);
    }
    return true;
}

static bool no_tsc(void)
{
    return !prctl(PR_SET_TSC, PR_TSC_SIGSEGV, 0, 0, 0);
}

static bool no_tsc_by_number(void)
{
    return !syscall(SYS_prctl, PR_SET_TSC, PR_TSC_SIGSEGV, 0, 0, 0);
}

static bool strict(void)
{
    return !prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT, 0, 0, 0);
}

static bool strict_by_number(void)
{
    return !syscall(SYS_seccomp, SECCOMP_SET_MODE_STRICT, 0, NULL);
}

/* read, write, exit_group; everything else kills */
static bool filtered(void)
{
#define ALLOW(number)                                                                              \
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)
    struct sock_filter rules[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        ALLOW(SYS_read),
        ALLOW(SYS_write),
        ALLOW(SYS_exit),
        ALLOW(SYS_exit_group),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS)};
    struct sock_fprog program = {sizeof rules / sizeof *rules, rules};
    return !prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) &&
           !prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

/* With a filter there is no way to mode 1: it fails, and nothing is forbidden. */
static bool strict_in_vain(void)
{
    struct sock_filter rules[] = {BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
    struct sock_fprog program = {1, rules};
    return !prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) && !prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) &&
           prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT, 0, 0, 0) < 0 && errno == EINVAL &&
           syscall(SYS_seccomp, SECCOMP_SET_MODE_STRICT, 0, NULL) < 0;
}

static int one(bool (*restrict_ourselves)(void))
{
    int ends[2], status = -1;
    if (!connect_to_self(ends))
        return -1;
    pid_t pid = fork();
    if (!pid) {
        /* the heap is warm: afterwards it may not grow */
        for (int i = 0; i < 100; i++)
            free(malloc((size_t)i * 3 + 1));
        bool right = talk(ends) && restrict_ourselves() && talk(ends);
        syscall(SYS_exit, right ? 11 : 12);
    }
    close(ends[0]);
    close(ends[1]);
    waitpid(pid, &status, 0);
    return status;
}

int main(void)
{
    printf("%x\n", (unsigned)one(no_tsc));
    printf("%x\n", (unsigned)one(no_tsc_by_number));
    printf("%x\n", (unsigned)one(strict));
    printf("%x\n", (unsigned)one(strict_by_number));
    printf("%x\n", (unsigned)one(filtered));
    printf("%x\n", (unsigned)one(strict_in_vain));
    errno = 0;
    int refused = prctl(-1, 0, 0, 0, 0);
    printf("%d %d\n", refused, errno == EINVAL);
    return 0;
}
