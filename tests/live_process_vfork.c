/*
 * live_process_vfork.c - 200 children by vfork that close their parent's connection before exec;
 * the parent talks on.
 *
 * A vfork child lives in its parent's memory: what a recorder notes there would be wrong for the
 * parent. Also a vfork inside a vfork child, children that exec nothing, and posix_spawn, system
 * and popen, which make theirs inside libc.
 */
#include <netinet/in.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define ROUNDS 200

extern char **environ;

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

static bool status_is(pid_t pid, int wanted)
{
    int status = -1;
    return pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) &&
           WEXITSTATUS(status) == wanted;
}

static bool exec_after_close(const int ends[2])
{
    pid_t pid = vfork();
    if (!pid) {
        close(ends[0]);
        close(ends[1]);
        execl("/bin/sh", "sh", "-c", "exit 9", (char *)NULL);
        _exit(99);
    }
    return status_is(pid, 9);
}

static bool exit_after_close(const int ends[2])
{
    pid_t pid = vfork();
    if (!pid) {
        dup2(ends[0], ends[1]);
        close(ends[1]);
        _exit(17);
    }
    return status_is(pid, 17);
}

static bool nested(const int ends[2])
{
    pid_t pid = vfork();
    if (!pid) {
        pid_t inner = vfork();
        if (!inner) {
            close(ends[0]);
            _exit(3);
        }
        close(ends[1]); /* the inner one has ended: we are a vfork child still */
        int status;
        _exit(waitpid(inner, &status, 0) == inner && WEXITSTATUS(status) == 3 ? 5 : 6);
    }
    return status_is(pid, 5);
}

/* A vfork child that forks: that one has memory of its own. */
static bool fork_inside(const int ends[2])
{
    pid_t pid = vfork();
    if (!pid) {
        close(ends[0]);
        pid_t inner = fork();
        if (!inner)
            _exit(3);
        int status;
        _exit(waitpid(inner, &status, 0) == inner && WEXITSTATUS(status) == 3 ? 5 : 6);
    }
    return status_is(pid, 5);
}

static bool by_libc(void)
{
    char *argv[] = {"sh", "-c", "exit 12", NULL}, line[32] = "";
    pid_t pid;
    bool right = system("exit 7") == 7 << 8;
    FILE *p = popen("echo from the child", "r");
    right &= p && fgets(line, sizeof line, p) && !strcmp(line, "from the child\n");
    right &= p && pclose(p) == 0;
    p = popen("read x; test \"$x\" = y", "w");
    right &= p && fputs("y\n", p) >= 0 && pclose(p) == 0;
    right &= !posix_spawn(&pid, "/bin/sh", NULL, NULL, argv, environ) && status_is(pid, 12);
    return right;
}

int main(void)
{
    int ends[2];
    char c = 0;
    bool right = connect_to_self(ends);
    for (int i = 0; i < ROUNDS && right; i++) {
        right &= exec_after_close(ends);
        right &= i % 10 || (exit_after_close(ends) && nested(ends));
        right &= send(ends[0], &(char){(char)i}, 1, 0) == 1 && recv(ends[1], &c, 1, 0) == 1 &&
                 c == (char)i;
    }
    right &= fork_inside(ends) && by_libc();
    puts(right ? "ok" : "failed");
    return !right;
}
