/*
 * live_known_cost.c - a small HTTP server whose requests cost known amounts: heap, CPU, waits (routes: known_cost.h).
 *
 * usage: live_known_cost SHAPE PORT [FILE]   SHAPE: threads (one per connection), loop (epoll), pool (acceptor + workers)
 *        FILE: of 1 MiB, read by /disk and /cached
 *
 * At SIGTERM it prints, per route: name, requests, bytes allocated, bytes freed, allocations (by malloc_usable_size, as the
 * report counts them), ns of CPU, lock, sleep, disk, downstream, bytes leaked, bytes that a helper thread allocated.
 * The last line is the CPU of all its threads and of the backend, by the system's own count.
 */
#include "tests/known_cost.h"

#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/wait.h>

enum { CONNECTIONS = 1024, BUFFER = 8192 };

struct connection {
    int fd;
    uint64_t cpu; /* of reads for the request that is not whole yet */
    size_t have;
    char in[BUFFER];
};
static struct connection *connections[CONNECTIONS * 4];

/*
 * CPU is a request's from where the thread stopped working for another one: the call that waits for it and reads it is
 * its own, as is what a request is charged with.
 */
static __thread uint64_t cpu_mark;

static uint64_t cpu_since(void)
{
    uint64_t now = now_ns(CLOCK_THREAD_CPUTIME_ID), spent = now - cpu_mark;
    cpu_mark = now;
    return spent;
}

static void serve(struct connection *c, const char *target)
{
    static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n";
    for (struct route *r = routes; r < routes + ROUTES; r++) {
        size_t n = strlen(r->path);
        if (strncmp(target, r->path, n) || target[n] != ' ')
            continue;
        void *late = NULL;
        add(&r->requests, 1);
        r->work(r, &late);
        if (write(c->fd, answer, sizeof answer - 1) < 0)
            return;
        if (late)
            give(r, late);
        add(&r->cpu, c->cpu + cpu_since());
        c->cpu = 0;
        return;
    }
}

/* One read, and all requests that it completed; false: the connection ends. */
static int step(struct connection *c)
{
    ssize_t n = read(c->fd, c->in + c->have, sizeof c->in - 1 - c->have);
    if (n <= 0)
        return n < 0 && (errno == EAGAIN || errno == EINTR);
    c->cpu += cpu_since();
    c->have += (size_t)n;
    c->in[c->have] = 0;
    char *at = c->in, *end;
    while ((end = strstr(at, "\r\n\r\n"))) {
        if (!strncmp(at, "GET ", 4))
            serve(c, at + 4);
        at = end + 4;
    }
    c->have -= (size_t)(at - c->in);
    memmove(c->in, at, c->have);
    return 1;
}

static struct connection *connection_of(int fd)
{
    struct connection *c = connections[fd];
    c->fd = fd;
    c->have = 0;
    c->cpu = 0;
    return c;
}

static void *connection_thread(void *arg)
{
    struct connection *c = arg;
    while (step(c))
        ;
    close(c->fd);
    return NULL;
}

static void run_threads(int listener)
{
    for (;;) {
        pthread_t t;
        int fd = accept(listener, NULL, NULL);
        if (fd >= 0 && !pthread_create(&t, NULL, connection_thread, connection_of(fd)))
            pthread_detach(t);
    }
}

static void run_loop(int listener)
{
    int epoll = epoll_create1(0);
    struct epoll_event e = {.events = EPOLLIN, .data.fd = listener};
    cpu_since(); /* start-up is nobody's */
    epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &e);
    for (;;) {
        struct epoll_event ready[64];
        int n = epoll_wait(epoll, ready, 64, -1);
        for (int i = 0; i < n; i++) {
            int fd = ready[i].data.fd;
            if (fd != listener) {
                if (!step(connections[fd]))
                    close(fd);
                continue;
            }
            fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
            if (fd < 0)
                continue;
            connection_of(fd);
            e.data.fd = fd;
            epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &e);
        }
    }
}

/* The acceptor waits for readable connections and hands each to a worker, which reads, works, answers and gives it back. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t more = PTHREAD_COND_INITIALIZER;
static int waiting[CONNECTIONS], first, last, pool_epoll;

static void *worker(void *arg)
{
    (void)arg;
    for (;;) {
        pthread_mutex_lock(&lock);
        while (first == last)
            pthread_cond_wait(&more, &lock);
        int fd = waiting[first++ % CONNECTIONS];
        pthread_mutex_unlock(&lock);
        if (step(connections[fd])) {
            struct epoll_event e = {.events = EPOLLIN | EPOLLONESHOT, .data.fd = fd};
            epoll_ctl(pool_epoll, EPOLL_CTL_MOD, fd, &e);
        } else
            close(fd);
    }
    return NULL;
}

static void run_pool(int listener)
{
    pool_epoll = epoll_create1(0);
    struct epoll_event e = {.events = EPOLLIN, .data.fd = listener};
    epoll_ctl(pool_epoll, EPOLL_CTL_ADD, listener, &e);
    for (int i = 0; i < 4; i++) {
        pthread_t t;
        pthread_create(&t, NULL, worker, NULL);
    }
    for (;;) {
        struct epoll_event ready[64];
        int n = epoll_wait(pool_epoll, ready, 64, -1);
        for (int i = 0; i < n; i++) {
            int fd = ready[i].data.fd;
            if (fd == listener) {
                fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
                if (fd < 0)
                    continue;
                connection_of(fd);
                struct epoll_event add = {.events = EPOLLIN | EPOLLONESHOT, .data.fd = fd};
                epoll_ctl(pool_epoll, EPOLL_CTL_ADD, fd, &add);
                continue;
            }
            pthread_mutex_lock(&lock);
            waiting[last++ % CONNECTIONS] = fd;
            pthread_cond_signal(&more);
            pthread_mutex_unlock(&lock);
        }
    }
}

static pid_t backend_pid;

static void finish(int signal)
{
    (void)signal;
    char line[512];
    for (const struct route *r = routes; r < routes + ROUTES; r++) {
        const uint64_t told[] = {r->requests, r->allocated, r->freed,      r->allocations, r->cpu,   r->lock,
                                 r->sleep,    r->disk,      r->downstream, r->leaked,      r->hidden};
        int n = snprintf(line, sizeof line, "%s", r->path);
        for (size_t i = 0; i < sizeof told / sizeof *told; i++)
            n += snprintf(line + n, sizeof line - (size_t)n, " %lu", (unsigned long)told[i]);
        line[n++] = '\n';
        if (write(1, line, (size_t)n) < 0)
            break;
    }
    kill(backend_pid, SIGKILL);
    waitpid(backend_pid, NULL, 0);
    struct rusage of_backend;
    getrusage(RUSAGE_CHILDREN, &of_backend);
    uint64_t us = (uint64_t)(of_backend.ru_utime.tv_sec + of_backend.ru_stime.tv_sec) * 1000000 +
                  (uint64_t)(of_backend.ru_utime.tv_usec + of_backend.ru_stime.tv_usec);
    int n = snprintf(line, sizeof line, "cpu %lu\n", (unsigned long)(now_ns(CLOCK_PROCESS_CPUTIME_ID) + us * 1000));
    _exit(write(1, line, (size_t)n) < 0);
}

static int listen_at(in_port_t port, in_port_t *bound)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = port};
    socklen_t length = sizeof at;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int one = 1, listener = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&at, sizeof at) || listen(listener, 512) ||
        getsockname(listener, (struct sockaddr *)&at, &length)) {
        perror("bind");
        exit(1);
    }
    *bound = at.sin_port;
    return listener;
}

static void begin_helpers(void)
{
    pthread_t t;
    int listener = listen_at(0, &backend_port);
    pid_t self = getpid();
    backend_pid = fork();
    if (!backend_pid)
        backend(listener, self);
    close(listener);
    sem_init(&job, 0, 0);
    sem_init(&job_done, 0, 0);
    pthread_create(&t, NULL, holder, NULL);
    pthread_create(&t, NULL, helper, NULL);
}

int main(int argc, char **argv)
{
    if (argc < 3)
        return 0; /* the runner starts every live program once without arguments */
    begin_helpers();
    in_port_t port;
    int listener = listen_at(htons((uint16_t)atoi(argv[2])), &port);
    scratch_file = argv[3];
    for (size_t i = 0; i < sizeof connections / sizeof *connections; i++)
        connections[i] = malloc(sizeof **connections);
    signal(SIGTERM, finish);
    signal(SIGPIPE, SIG_IGN);
    if (!strcmp(argv[1], "threads"))
        run_threads(listener);
    else if (!strcmp(argv[1], "loop"))
        run_loop(listener);
    else
        run_pool(listener);
    return 0;
}
