/*
 * live_process_exit.c - how children end, told by every function that waits: the same codes,
 * signals, handlers and output with and without a recorder.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static void at_exit_handler(void)
{
    printf("atexit ran\n");
}

static void at_quick_exit_handler(void)
{
    static const char text[] = "at_quick_exit ran\n";
    if (write(STDOUT_FILENO, text, sizeof text - 1) < 0)
        _exit(98);
}

static void end(int how)
{
    struct rlimit none = {0, 0};
    atexit(at_exit_handler);
    at_quick_exit(at_quick_exit_handler);
    switch (how) {
    case 0:
        exit(3);
    case 1:
        _exit(4);
    case 2:
        _Exit(5);
    case 3:
        quick_exit(6);
    case 4:
        exit(256 + 7); /* only the low byte is told */
    case 5:
        raise(SIGTERM);
        break;
    case 6:
        raise(SIGKILL);
        break;
    default:
        setrlimit(RLIMIT_CORE, &none);
        abort();
    }
}

static int wait_by(int how, pid_t pid, int *status)
{
    struct rusage usage;
    siginfo_t info;
    int told = 0;
    switch (how) {
    case 0:
        return wait(status);
    case 1:
        return waitpid(pid, status, 0);
    case 2:
        return wait3(status, 0, &usage);
    case 3:
        return wait4(pid, status, 0, &usage);
    case 4: /* looked at twice, reaped once */
        memset(&info, 0, sizeof info);
        if (waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT) || info.si_pid != pid)
            return -1;
        /* fallthrough */
    case 5:
        memset(&info, 0, sizeof info);
        if (waitid(P_PID, (id_t)pid, &info, WEXITED))
            return -1;
        *status = info.si_code * 1000 + info.si_status;
        return info.si_pid;
    case 6: /* nobody wants to know */
        *status = -1;
        return waitid(P_PID, (id_t)pid, NULL, WEXITED) ? -1 : pid;
    case 7:
        *status = -2;
        return wait(NULL);
    default: /* still running first, then the end */
        while ((told = waitpid(pid, status, WNOHANG)) == 0)
            usleep(1000);
        return told;
    }
}

static void stopped_and_continued(void)
{
    int status = 0;
    pid_t pid = fork();
    if (!pid) {
        raise(SIGSTOP);
        _exit(8);
    }
    printf("stop %d", waitpid(pid, &status, WUNTRACED) == pid && WIFSTOPPED(status));
    kill(pid, SIGCONT);
    printf(" continue %d", waitpid(pid, &status, WCONTINUED) == pid && WIFCONTINUED(status));
    printf(" end %d\n", waitpid(pid, &status, 0) == pid && WEXITSTATUS(status) == 8);
}

int main(void)
{
    for (int how = 0; how < 8; how++)
        for (int by = 0; by < 9; by++) {
            int status = 0;
            fflush(stdout);
            pid_t pid = fork();
            if (!pid)
                end(how);
            printf("%d %d: ", how, by);
            printf("%d ", wait_by(by, pid, &status) == pid);
            printf("%x\n", (unsigned)status);
        }
    fflush(stdout);
    stopped_and_continued();
    errno = 0;
    printf("nobody left: %d", wait(NULL));
    printf(" %d\n", errno == ECHILD);
    printf("unflushed, then main returns\n");
    return 33 - 33;
}
