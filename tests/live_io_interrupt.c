/*
 * live_io_interrupt.c - calls that do not return as usual: siglongjmp out of a read, a cancelled thread, handlers that
 * read and write, the smallest stacks.
 */
#include "tests/live.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/uio.h>

static sigjmp_buf back;
static void jump(int signal)
{
    siglongjmp(back, signal);
}

static void every(long us)
{
    struct itimerval t = {{0, us}, {0, us}};
    CHECK(setitimer(ITIMER_REAL, &t, NULL) == 0);
}

/* A blocked read left again and again; after it everything works as before. */
static void leave_a_read(void)
{
    int pair[2];
    char c;
    tcp_pair(pair);
    signal(SIGALRM, jump);
    for (volatile int i = 0; i < 20; i++)
        if (!sigsetjmp(back, 1)) {
            every(500);
            (void)!read(pair[0], &c, 1);
            CHECK(!"the read returned");
        }
    every(0);
    signal(SIGALRM, SIG_DFL);
    CHECK(write(pair[1], "x", 1) == 1 && read(pair[0], &c, 1) == 1 && c == 'x');
    close(pair[0]), close(pair[1]);
}

/* Any instruction of a call may be the one that a handler interrupts and leaves for good. */
static void leave_anywhere(void)
{
    int pair[2];
    char buffer[256] = "";
    tcp_pair(pair);
    CHECK(fcntl(pair[0], F_SETFL, O_NONBLOCK) == 0 && fcntl(pair[1], F_SETFL, O_NONBLOCK) == 0);
    signal(SIGALRM, jump);
    volatile int left = 0;
    if (sigsetjmp(back, 1))
        left++;
    every(left < 300 ? 100 : 0);
    while (left < 300) {
        (void)!write(pair[0], buffer, sizeof buffer);
        (void)!read(pair[1], buffer, sizeof buffer);
    }
    signal(SIGALRM, SIG_DFL);
    while (read(pair[1], buffer, sizeof buffer) > 0)
        ;
    CHECK(write(pair[0], "y", 1) == 1);
    struct pollfd p = {pair[1], POLLIN, 0};
    CHECK(poll(&p, 1, 5000) == 1 && read(pair[1], buffer, 1) == 1 && buffer[0] == 'y');
    close(pair[0]), close(pair[1]);
}

/* A handler that reads and writes while its thread does; on its own small stack. */
static int handler_pair[2];
static volatile sig_atomic_t handled;
static void write_and_read(int signal)
{
    (void)signal;
    int error = errno;
    char c = 'h', d = 0;
    if (write(handler_pair[0], &c, 1) == 1 && read(handler_pair[1], &d, 1) == 1 && d == 'h')
        handled++;
    errno = error;
}

static void handlers(void)
{
    int pair[2];
    char buffer[256] = "";
    tcp_pair(pair);
    tcp_pair(handler_pair);
    stack_t small = {.ss_sp = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
                     .ss_size = 8192};
    CHECK(sigaltstack(&small, NULL) == 0);
    struct sigaction a = {.sa_handler = write_and_read, .sa_flags = SA_ONSTACK | SA_RESTART};
    sigaction(SIGALRM, &a, NULL);
    every(150);
    for (long i = 0; handled < 500; i++) {
        ssize_t n = write(pair[0], buffer, sizeof buffer);
        CHECK(n == sizeof buffer);
        for (ssize_t got = 0; got < n;) {
            ssize_t more = read(pair[1], buffer, sizeof buffer);
            CHECK(more > 0);
            got += more;
        }
    }
    every(0);
    signal(SIGALRM, SIG_DFL);
    close(pair[0]), close(pair[1]), close(handler_pair[0]), close(handler_pair[1]);
}

/* A cancelled thread runs its clean-up handlers and destructors, wherever it was blocked. */
static int blocked_fd;
static volatile int cleaned, destroyed;
static pthread_key_t key;

static void clean(void *what)
{
    cleaned = *(int *)what;
    (void)!write(blocked_fd, "c", 0);
}

static void destroy(void *unused)
{
    (void)unused;
    destroyed = 1;
    char c;
    (void)!recv(blocked_fd, &c, 1, MSG_DONTWAIT); /* calls go on after our own clean-up, if there were any */
}

static void *block(void *of)
{
    int which = *(int *)of;
    char c;
    struct epoll_event e;
    struct pollfd p = {blocked_fd, POLLIN, 0};
    struct iovec v = {&c, 1};
    struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1};
    pthread_setspecific(key, of);
    pthread_cleanup_push(clean, of);
    switch (which) {
    case 1: (void)!read(blocked_fd, &c, 1); break;
    case 2: (void)!recv(blocked_fd, &c, 1, 0); break;
    case 3: (void)!readv(blocked_fd, &v, 1); break;
    case 4: (void)!recvmsg(blocked_fd, &m, 0); break;
    case 5: poll(&p, 1, -1); break;
    case 6: epoll_wait(epoll_create1(0), &e, 1, -1); break;
    case 7: accept(blocked_fd, NULL, NULL); break;
    default: (void)!recvfrom(blocked_fd, &c, 1, 0, NULL, NULL); break;
    }
    pthread_cleanup_pop(0);
    return NULL;
}

static void cancelled(void)
{
    int pair[2], listener = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(listen(listener, 1) == 0);
    tcp_pair(pair);
    CHECK(pthread_key_create(&key, destroy) == 0);
    for (int which = 1; which <= 8; which++) {
        pthread_t t;
        void *result;
        cleaned = destroyed = 0;
        blocked_fd = which == 7 ? listener : pair[0];
        CHECK(pthread_create(&t, NULL, block, &which) == 0);
        usleep(2000);
        CHECK(pthread_cancel(t) == 0 && pthread_join(t, &result) == 0);
        CHECK(result == PTHREAD_CANCELED);
        CHECK(cleaned == which);
        CHECK(destroyed == 1);
    }
    CHECK(write(pair[1], "x", 1) == 1 && read(pair[0], &(char){0}, 1) == 1);
    close(pair[0]), close(pair[1]), close(listener);
}

/* The smallest stack that a thread may have suffices for any of these calls. */
static void *small_stack(void *of)
{
    int *pair = of;
    char c = 's';
    CHECK(write(pair[0], &c, 1) == 1 && read(pair[1], &c, 1) == 1);
    struct iovec v = {&c, 1};
    struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1};
    CHECK(sendmsg(pair[0], &m, 0) == 1 && recvmsg(pair[1], &m, 0) == 1);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(listen(fd, 1) == 0 && fcntl(fd, F_SETFL, O_NONBLOCK) == 0);
    FAILS(accept(fd, NULL, NULL), EAGAIN);
    CHECK(close(fd) == 0);
    return of;
}

static void small_stacks(void)
{
    int pair[2];
    pthread_attr_t a;
    tcp_pair(pair);
    CHECK(pthread_attr_init(&a) == 0 && pthread_attr_setstacksize(&a, (size_t)sysconf(_SC_THREAD_STACK_MIN)) == 0);
    for (int i = 0; i < 20; i++) {
        pthread_t t;
        void *result = NULL;
        CHECK(pthread_create(&t, &a, small_stack, pair) == 0 && pthread_join(t, &result) == 0 && result == pair);
    }
    pthread_attr_destroy(&a);
    close(pair[0]), close(pair[1]);
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    leave_a_read();
    leave_anywhere();
    handlers();
    cancelled();
    small_stacks();
    puts("interruptions as documented");
    return 0;
}
