/*
 * live_io_processes.c - the same connection in several processes: fork, _Fork, raw clone, vfork whose child closes
 * descriptors in its parent's memory, exec with inherited sockets.
 */
#include "tests/live.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>

extern char **environ;

static void reap(pid_t child)
{
    int status = -1;
    CHECK(child > 0 && waitpid(child, &status, 0) == child);
    CHECK(status == 0);
}

static void serve_one(int fd)
{
    char c[16];
    if (read(fd, c, sizeof c) != 5 || write(fd, "world", 5) != 5)
        _exit(1);
    _exit(0);
}

static void by_child(pid_t (*begin)(void))
{
    int pair[2];
    char c[16];
    tcp_pair(pair);
    pid_t child = begin();
    if (!child)
        serve_one(pair[1]);
    CHECK(close(pair[1]) == 0);
    CHECK(write(pair[0], "hello", 5) == 5 && read(pair[0], c, sizeof c) == 5 && !memcmp(c, "world", 5));
    CHECK(read(pair[0], c, 1) == 0);
    reap(child);
    close(pair[0]);
}

static pid_t raw_clone(void)
{
    return (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
}

/* The child shares our memory: what it closes is closed in it alone. */
static void with_vfork(void)
{
    int pair[2];
    char c[16];
    tcp_pair(pair);
    pid_t child = vfork();
    if (!child) {
        close(pair[0]);
        close(pair[1]);
        dup2(2, pair[0]);
        execl("/bin/true", "true", (char *)NULL);
        _exit(1);
    }
    reap(child);
    CHECK(write(pair[0], "still", 5) == 5 && read(pair[1], c, sizeof c) == 5);
    posix_spawn_file_actions_t actions;
    char *const argv[] = {"true", NULL};
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addclose(&actions, pair[0]);
    posix_spawn_file_actions_adddup2(&actions, 2, pair[1]);
    CHECK(posix_spawn(&child, "/bin/true", &actions, NULL, argv, environ) == 0);
    posix_spawn_file_actions_destroy(&actions);
    reap(child);
    CHECK(write(pair[0], "there", 5) == 5 && read(pair[1], c, sizeof c) == 5);
    close(pair[0]), close(pair[1]);
}

/* As inetd does: the connection is 0 and 1 of another program. */
static void inherited(void)
{
    int pair[2];
    char c[16] = "";
    tcp_pair(pair);
    pid_t child = fork();
    if (!child) {
        dup2(pair[1], 0);
        dup2(pair[1], 1);
        close(pair[0]), close(pair[1]);
        execl("/bin/cat", "cat", (char *)NULL);
        _exit(1);
    }
    CHECK(close(pair[1]) == 0);
    CHECK(write(pair[0], "echo", 4) == 4 && read(pair[0], c, sizeof c) == 4 && !memcmp(c, "echo", 4));
    CHECK(shutdown(pair[0], SHUT_WR) == 0 && read(pair[0], c, 1) == 0);
    reap(child);
    close(pair[0]);
}

int main(void)
{
    by_child(fork);
    by_child(_Fork);
    by_child(raw_clone);
    with_vfork();
    inherited();
    puts("processes as documented");
    return 0;
}
