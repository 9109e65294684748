/*
 * live_traps.c - what programs do to themselves: lock all memory, write a title over their environment, change limits,
 * close what they do not know, switch stacks, accept from a listener that they inherited.
 */
#include "tests/live.h"

#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <ucontext.h>

extern char **environ;

static void exchange(int pair[2], const char *text)
{
    char back[64] = "";
    size_t n = strlen(text);
    CHECK(write(pair[0], text, n) == (ssize_t)n);
    CHECK(read(pair[1], back, sizeof back) == (ssize_t)n && !memcmp(back, text, n));
}

static void reap(pid_t child)
{
    int status = -1;
    CHECK(child > 0 && waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* With all memory locked and a limit that has room for the arena: everything goes on, and new memory too. */
static void locked_memory(void)
{
    int pair[2];
    tcp_pair(pair);
    pid_t child = fork();
    if (!child) {
        if (mlockall(MCL_CURRENT | MCL_FUTURE))
            _exit(errno == EPERM || errno == ENOMEM ? 0 : 1); /* not allowed here, with or without us */
        char *block = malloc(300000);
        memset(block, 1, 300000);
        exchange(pair, "locked");
        free(block);
        _exit(0);
    }
    reap(child);
    close(pair[0]), close(pair[1]);
}

/* As nginx and PostgreSQL do: the title goes where arguments and environment were; the environment moves. */
static void title(char **argv)
{
    int pair[2], i;
    tcp_pair(pair);
    pid_t child = fork();
    if (!child) {
        char *end = argv[0] + strlen(argv[0]) + 1;
        for (i = 1; argv[i]; i++)
            if (argv[i] == end)
                end = argv[i] + strlen(argv[i]) + 1;
        char **moved = calloc(1000, sizeof *moved);
        for (i = 0; environ[i] && i < 998; i++) {
            if (environ[i] == end)
                end = environ[i] + strlen(environ[i]) + 1;
            moved[i] = strdup(environ[i]);
        }
        environ = moved;
        memset(argv[0], 'T', (size_t)(end - argv[0]) - 1);
        exchange(pair, "a new title");
        pid_t grandchild = fork();
        if (!grandchild) {
            exchange(pair, "below a new title");
            execl("/bin/sh", "sh", "-c", "test -n \"$PATH\"", (char *)NULL);
            _exit(1);
        }
        reap(grandchild);
        clearenv();
        exchange(pair, "no environment at all");
        _exit(0);
    }
    reap(child);
    close(pair[0]), close(pair[1]);
}

static void limits(void)
{
    struct rlimit before, set, now;
    for (int what = 0; what < RLIM_NLIMITS; what++) {
        CHECK(getrlimit(what, &before) == 0);
        set = before;
        if (what == RLIMIT_NOFILE)
            set.rlim_cur = 64;
        KEEPS(setrlimit(what, &set), 0);
        CHECK(getrlimit(what, &now) == 0 && now.rlim_cur == set.rlim_cur && now.rlim_max == set.rlim_max);
        KEEPS(setrlimit(what, &before), 0);
    }
    int dumpable = prctl(PR_GET_DUMPABLE), name = prctl(PR_SET_NAME, "traps");
    CHECK(dumpable == 1 && name == 0 && prctl(PR_GET_SECCOMP) == 0);
}

/* A stack of the program's own, left in the middle of its traffic and taken up by another thread. */
static ucontext_t home, fibre;
static int fibre_pair[2], steps;

static void fibre_body(void)
{
    for (;;) {
        exchange(fibre_pair, "from a fibre");
        steps++;
        swapcontext(&fibre, &home);
        free(malloc(1000));
    }
}

static void *go_on(void *unused)
{
    for (int i = 0; i < 50; i++)
        CHECK(swapcontext(&home, &fibre) == 0);
    return unused;
}

static void fibres(void)
{
    static char stack[65536];
    pthread_t t;
    tcp_pair(fibre_pair);
    CHECK(getcontext(&fibre) == 0);
    fibre.uc_stack.ss_sp = stack;
    fibre.uc_stack.ss_size = sizeof stack;
    fibre.uc_link = &home;
    makecontext(&fibre, fibre_body, 0);
    go_on(NULL);
    CHECK(pthread_create(&t, NULL, go_on, NULL) == 0 && pthread_join(t, NULL) == 0);
    CHECK(steps == 100);
    close(fibre_pair[0]), close(fibre_pair[1]);
}

/* A new image that knows only the number of a listening socket. */
static int inherited(int listener)
{
    char c[16] = "";
    int fd = accept(listener, NULL, NULL);
    CHECK(fd >= 0 && read(fd, c, sizeof c) == 5 && write(fd, "there", 5) == 5 && close(fd) == 0);
    return 0;
}

static void inherit(const char *self)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof at;
    char number[16], c[16];
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(bind(listener, (struct sockaddr *)&at, sizeof at) == 0 && listen(listener, 4) == 0);
    CHECK(getsockname(listener, (struct sockaddr *)&at, &length) == 0);
    pid_t child = fork();
    if (!child) {
        snprintf(number, sizeof number, "%d", listener);
        execl(self, self, "inherited", number, (char *)NULL);
        _exit(1);
    }
    close(listener);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(connect(fd, (struct sockaddr *)&at, sizeof at) == 0);
    CHECK(write(fd, "hello", 5) == 5 && read(fd, c, sizeof c) == 5 && !memcmp(c, "there", 5));
    reap(child);
    close(fd);
}

int main(int argc, char **argv)
{
    if (argc == 3)
        return inherited(atoi(argv[2]));
    alarm(60);
    inherit("/proc/self/exe");
    locked_memory();
    limits();
    fibres();
    title(argv);
    puts("nothing was in the way");
    return 0;
}
