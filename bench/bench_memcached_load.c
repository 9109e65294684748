/*
 * bench_memcached_load.c - keep-alive load on memcached's text protocol: PORT CONNECTIONS SECONDS.
 *
 * Prints: requests, requests/s, p50 us, p99 us. Every tenth request is a set, the others get what was set.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BUCKETS 100000

static uint32_t histogram[BUCKETS]; /* by microsecond */

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

struct client {
    int fd;
    uint64_t sent, n;
    size_t got;
    char answer[512];
};

static void ask(struct client *c)
{
    static const char get[] = "get key\r\n";
    static const char set[] = "set key 0 0 64\r\n0123456789012345678901234567890123456789012345678901234567890123\r\n";
    int first = c->n % 10 == 0;
    c->n++;
    c->got = 0;
    c->sent = now_ns();
    if (write(c->fd, first ? set : get, first ? sizeof set - 1 : sizeof get - 1) < 0)
        exit(1);
}

static int answered(const struct client *c)
{
    return (c->got >= 5 && !memcmp(c->answer + c->got - 5, "END\r\n", 5)) ||
           (c->got == 8 && !memcmp(c->answer, "STORED\r\n", 8));
}

static uint64_t quantile(uint64_t count, double q)
{
    uint64_t seen = 0;
    for (int i = 0; i < BUCKETS; i++) {
        seen += histogram[i];
        if ((double)seen >= (double)count * q)
            return (uint64_t)i;
    }
    return BUCKETS;
}

int main(int argc, char **argv)
{
    if (argc != 4)
        return 2;
    int n = atoi(argv[2]), epoll = epoll_create1(0);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[1]))};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    struct client *clients = calloc((size_t)n, sizeof *clients);
    for (int i = 0; i < n; i++) {
        int one = 1;
        clients[i].fd = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(clients[i].fd, (struct sockaddr *)&to, sizeof to))
            return 1;
        setsockopt(clients[i].fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        struct epoll_event e = {.events = EPOLLIN, .data.ptr = &clients[i]};
        epoll_ctl(epoll, EPOLL_CTL_ADD, clients[i].fd, &e);
        ask(&clients[i]);
    }
    uint64_t begin = now_ns(), end = begin + (uint64_t)(atof(argv[3]) * 1e9), count = 0, now = begin;
    while (now < end) {
        struct epoll_event events[64];
        int ready = epoll_wait(epoll, events, 64, 1000);
        for (int i = 0; i < ready; i++) {
            struct client *c = events[i].data.ptr;
            ssize_t got = read(c->fd, c->answer + c->got, sizeof c->answer - c->got);
            if (got <= 0)
                return 1;
            c->got += (size_t)got;
            if (!answered(c))
                continue;
            now = now_ns();
            uint64_t us = (now - c->sent) / 1000;
            histogram[us < BUCKETS ? us : BUCKETS - 1]++;
            count++;
            ask(c);
        }
    }
    printf("%llu %.1f %llu %llu\n", (unsigned long long)count, (double)count * 1e9 / (double)(now - begin),
           (unsigned long long)quantile(count, 0.5), (unsigned long long)quantile(count, 0.99));
    free(clients);
    return 0;
}
