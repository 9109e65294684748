/*
 * live_coroutines.c - coroutines on stacks of the program's own, by hand-made switches: they allocate, read and write, and
 * are taken up by another thread than the one that left them. A recorder must neither unwind nor remember past a switch.
 *
 * usage: live_coroutines          a self-test: prints what it did
 *        live_coroutines PORT     an HTTP server, a coroutine per connection, until SIGTERM
 */
#include "tests/live.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/mman.h>

enum { STACK = 32768, THREADS = 3, MOST = 1024 };

struct coroutine {
    void *sp; /* where it was left */
    void *stack;
    int fd, done;
    unsigned turns;
};

/* Saves the callee's registers on this stack, takes those of the other. No unwind table tells where that leads. */
void switch_stack(void **from, void *to);
__asm__(".text\n.globl switch_stack\n.type switch_stack,@function\nswitch_stack:\n"
        "push %rbp\npush %rbx\npush %r12\npush %r13\npush %r14\npush %r15\n"
        "mov %rsp,(%rdi)\nmov %rsi,%rsp\n"
        "pop %r15\npop %r14\npop %r13\npop %r12\npop %rbx\npop %rbp\nret\n.size switch_stack,.-switch_stack\n");

static __thread void *thread_sp;
static __thread struct coroutine *current;

static __attribute__((noinline)) struct coroutine *self(void) /* not cached over a switch: the thread may be another */
{
    struct coroutine *volatile *c = &current;
    return *c;
}

static __attribute__((noinline)) void **home(void)
{
    void **volatile sp = &thread_sp;
    return sp;
}

static void yield(void)
{
    switch_stack(&self()->sp, *home());
}

static void resume(struct coroutine *c)
{
    current = c;
    switch_stack(home(), c->sp);
    current = NULL;
}

static void (*body)(struct coroutine *);
static void begin(void)
{
    body(self());
    self()->done = 1;
    yield();
    __builtin_trap();
}

static void prepare(struct coroutine *c)
{
    if (!c->stack) {
        c->stack = mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
        CHECK(c->stack != MAP_FAILED && mprotect(c->stack, 4096, PROT_NONE) == 0);
    }
    uintptr_t *top = (uintptr_t *)((char *)c->stack + STACK) - 1;
    *--top = (uintptr_t)begin;
    memset(top - 6, 0, 6 * sizeof *top);
    c->sp = top - 6;
    c->done = 0;
}

/* --- self-test: as many turns, whoever takes them -------------------------------------------------------------- */

static int pair[2];
static __attribute__((noinline)) void *deep(unsigned depth, size_t bytes)
{
    char room[64];
    memset(room, (int)depth, sizeof room);
    void *p = depth ? deep(depth - 1, bytes) : malloc(bytes);
    return room[5] == (char)depth ? p : NULL;
}

static void turns(struct coroutine *c)
{
    char byte = 't';
    for (unsigned i = 0; i < 200; i++) {
        void *p = deep(i % 20, 1000 + 64 * i);
        CHECK(p);
        yield();
        p = realloc(p, 20000);
        if (i % 10 == 0)
            CHECK(write(pair[0], &byte, 1) == 1 && read(pair[1], &byte, 1) == 1);
        free(p);
        c->turns++;
    }
}

static struct coroutine all[64];
static int next;
static void *run_some(void *unused)
{
    for (int i; (i = __atomic_fetch_add(&next, 1, __ATOMIC_ACQ_REL)) < 64;)
        for (int n = 0; n < 40 && !all[i].done; n++)
            resume(&all[i]);
    return unused;
}

static int self_test(void)
{
    unsigned sum = 0;
    body = turns;
    tcp_pair(pair);
    for (int i = 0; i < 64; i++)
        prepare(&all[i]);
    for (int left = 1; left;) {
        pthread_t t[THREADS];
        next = left = 0;
        for (int i = 0; i < THREADS; i++)
            CHECK(pthread_create(&t[i], NULL, run_some, NULL) == 0);
        for (int i = 0; i < THREADS; i++)
            CHECK(pthread_join(t[i], NULL) == 0);
        for (int i = 0; i < 64; i++)
            left += !all[i].done;
    }
    for (int i = 0; i < 64; i++)
        sum += all[i].turns;
    printf("%u turns\n", sum);
    return 0;
}

/* --- server ---------------------------------------------------------------------------------------------------- */

static struct coroutine of[MOST];
static int epoll_fd;

static void serve(struct coroutine *c)
{
    static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n";
    char *in = malloc(4096);
    size_t have = 0;
    for (;;) {
        ssize_t n = read(c->fd, in + have, 4095 - have);
        if (n < 0 && errno == EAGAIN) {
            yield();
            continue;
        }
        if (n <= 0)
            break;
        have += (size_t)n;
        in[have] = 0;
        for (char *end; (end = strstr(in, "\r\n\r\n"));) {
            void *p = deep(c->turns++ % 30, 3000);
            if (write(c->fd, answer, sizeof answer - 1) < 0)
                break;
            free(p);
            have -= (size_t)(end + 4 - in);
            memmove(in, end + 4, have + 1);
        }
    }
    free(in);
}

static void rearm(int fd, int how)
{
    struct epoll_event e = {.events = EPOLLIN | EPOLLONESHOT, .data.fd = fd};
    epoll_ctl(epoll_fd, how, fd, &e);
}

static void *loop(void *listener)
{
    int l = *(int *)listener, fd;
    struct epoll_event e;
    for (;;) {
        if (epoll_wait(epoll_fd, &e, 1, -1) != 1)
            continue;
        if (e.data.fd == l) {
            fd = accept4(l, NULL, NULL, SOCK_NONBLOCK);
            rearm(l, EPOLL_CTL_MOD);
            if (fd < 0 || fd >= MOST)
                continue;
            of[fd].fd = fd;
            prepare(&of[fd]);
            rearm(fd, EPOLL_CTL_ADD);
            continue;
        }
        fd = e.data.fd;
        resume(&of[fd]);
        if (of[fd].done)
            close(fd);
        else
            rearm(fd, EPOLL_CTL_MOD);
    }
    return NULL;
}

static void leave(int signal)
{
    (void)signal;
    _exit(0);
}

int main(int argc, char **argv)
{
    signal(SIGPIPE, SIG_IGN);
    if (argc < 2)
        return self_test();
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[1]))};
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int one = 1, listener = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    CHECK(bind(listener, (struct sockaddr *)&at, sizeof at) == 0 && listen(listener, 128) == 0);
    CHECK(fcntl(listener, F_SETFL, O_NONBLOCK) == 0);
    signal(SIGTERM, leave);
    body = serve;
    epoll_fd = epoll_create1(0);
    rearm(listener, EPOLL_CTL_ADD);
    for (int i = 1; i < THREADS; i++) {
        pthread_t t;
        CHECK(pthread_create(&t, NULL, loop, &listener) == 0);
    }
    loop(&listener);
    return 0;
}
