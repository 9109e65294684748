/*
 * live_known_cost.c - a small HTTP server that allocates, frees and keeps a known number of bytes per route.
 *
 * usage: live_known_cost SHAPE PORT      SHAPE: threads (one per connection), loop (epoll), pool (acceptor + workers)
 *
 * At SIGTERM it prints, per route: name, requests, bytes allocated, bytes freed, allocations - by malloc_usable_size, as
 * the report counts them. Nothing else in it touches the heap while it serves.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CONNECTIONS = 1024, BUFFER = 8192 };

struct route {
    const char *path;
    void (*work)(struct route *, void **late);
    uint64_t requests, allocated, freed, allocations;
};

static void *take(struct route *r, void *p)
{
    __atomic_fetch_add(&r->allocated, malloc_usable_size(p), __ATOMIC_RELAXED);
    __atomic_fetch_add(&r->allocations, 1, __ATOMIC_RELAXED);
    return p;
}

static void give(struct route *r, void *p)
{
    __atomic_fetch_add(&r->freed, malloc_usable_size(p), __ATOMIC_RELAXED);
    free(p);
}

static void work_none(struct route *r, void **late)
{
    (void)r;
    (void)late;
}

static void work_small(struct route *r, void **late)
{
    (void)late;
    void *p[3];
    for (int i = 0; i < 3; i++)
        p[i] = take(r, malloc(1000));
    for (int i = 0; i < 3; i++)
        give(r, p[i]);
}

static void work_large(struct route *r, void **late)
{
    (void)late;
    give(r, take(r, malloc(200000)));
}

static void *kept;
static void work_keep(struct route *r, void **late)
{
    (void)late;
    void **p = take(r, malloc(5000));
    *p = __atomic_exchange_n(&kept, (void *)p, __ATOMIC_RELAXED);
}

static void work_grow(struct route *r, void **late)
{
    (void)late;
    void *p = take(r, calloc(10, 100));
    size_t old = malloc_usable_size(p);
    p = take(r, realloc(p, 4000));
    __atomic_fetch_add(&r->freed, old, __ATOMIC_RELAXED);
    give(r, p);
}

/* freed after the answer's last byte, as nginx frees its pool */
static void work_late(struct route *r, void **late)
{
    *late = take(r, malloc(3000));
}

static struct route routes[] = {{"/none", work_none, 0, 0, 0, 0}, {"/small", work_small, 0, 0, 0, 0},
                                {"/large", work_large, 0, 0, 0, 0}, {"/keep", work_keep, 0, 0, 0, 0},
                                {"/grow", work_grow, 0, 0, 0, 0},  {"/late", work_late, 0, 0, 0, 0}};

struct connection {
    int fd;
    size_t have;
    char in[BUFFER];
};
static struct connection *connections[CONNECTIONS * 4];

static void serve(struct connection *c, const char *target)
{
    static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n";
    for (size_t i = 0; i < sizeof routes / sizeof *routes; i++) {
        struct route *r = &routes[i];
        size_t n = strlen(r->path);
        if (strncmp(target, r->path, n) || target[n] != ' ')
            continue;
        void *late = NULL;
        __atomic_fetch_add(&r->requests, 1, __ATOMIC_RELAXED);
        r->work(r, &late);
        if (write(c->fd, answer, sizeof answer - 1) < 0)
            return;
        if (late)
            give(r, late);
        return;
    }
}

/* One read, and all requests that it completed; false: the connection ends. */
static int step(struct connection *c)
{
    ssize_t n = read(c->fd, c->in + c->have, sizeof c->in - 1 - c->have);
    if (n <= 0)
        return n < 0 && (errno == EAGAIN || errno == EINTR);
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

static void finish(int signal)
{
    (void)signal;
    char line[256];
    for (size_t i = 0; i < sizeof routes / sizeof *routes; i++) {
        const struct route *r = &routes[i];
        int n = snprintf(line, sizeof line, "%s %lu %lu %lu %lu\n", r->path, (unsigned long)r->requests,
                         (unsigned long)r->allocated, (unsigned long)r->freed, (unsigned long)r->allocations);
        if (write(1, line, (size_t)n) < 0)
            break;
    }
    _exit(0);
}

int main(int argc, char **argv)
{
    if (argc != 3)
        return 0; /* the runner starts every live program once without arguments */
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[2]))};
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int one = 1, listener = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&at, sizeof at) || listen(listener, 512)) {
        perror("bind");
        return 1;
    }
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
