/*
 * bench_protocol.c - what parsing costs: ns per call of feed, all messages told, by kind of input.
 *
 * Prints `name n ns/op`. An op is what one event brings: a read with one request, a write with one
 * answer, or a pipeline of 16 (then per command). Input and state are warm.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "collector/protocol/protocol.h"

static volatile uint64_t told;

static void count(void *to, const struct message *m)
{
    (void)to;
    told += m->wire_bytes;
}

static double now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

struct exchange {
    const char *name, *request, *response;
    unsigned times; /* repeated in one call */
    bool redis;
};

static char *repeat(const char *text, unsigned times, size_t *len)
{
    const size_t n = strlen(text);
    char *all = malloc(n * times + 1);
    if (!all)
        exit(1);
    for (unsigned i = 0; i < times; i++)
        memcpy(all + i * n, text, n);
    *len = n * times;
    return all;
}

/* The quickest of several rounds, for each direction. */
static void measure(const struct exchange *x, const struct protocol *p)
{
    enum { ROUNDS = 15, CALLS = 20000 };
    static uint64_t state[PROTOCOL_STATE_MAX / 8];
    double best[2] = {1e18, 1e18};
    size_t len[2];
    char *bytes[2] = {repeat(x->request, x->times, &len[0]),
                      repeat(x->response, x->times, &len[1])};
    const unsigned calls = CALLS / x->times;
    p->reset(state, SIDE_SERVER);
    for (int round = 0; round < ROUNDS; round++) {
        double took[2] = {0, 0};
        /* both directions alternate, as they do in life; each is timed in runs of 1 exchange */
        const double start = now_ns();
        for (unsigned i = 0; i < calls; i++) {
            p->feed(state, IN, (const uint8_t *)bytes[0], len[0], count, NULL);
            p->feed(state, OUT, (const uint8_t *)bytes[1], len[1], count, NULL);
        }
        took[0] = now_ns() - start;
        const double again = now_ns();
        for (unsigned i = 0; i < calls; i++)
            p->feed(state, IN, (const uint8_t *)bytes[0], len[0], count, NULL);
        took[1] = now_ns() - again;
        for (unsigned i = 0; i < calls; i++)
            p->feed(state, OUT, (const uint8_t *)bytes[1], len[1], count, NULL);
        for (int k = 0; k < 2; k++)
            best[k] = took[k] < best[k] ? took[k] : best[k];
    }
    const double ops = (double)calls * x->times;
    printf("%-28s %8u %8.1f ns/op  (request %.1f, answer %.1f)\n", x->name, calls * x->times,
           best[0] / ops, best[1] / ops, (best[0] - best[1]) / ops);
    free(bytes[0]);
    free(bytes[1]);
}

#define NGINX_HEAD                                                                                 \
    "HTTP/1.1 200 OK\r\nServer: nginx/1.22.1\r\nDate: Sat, 22 Nov 2025 17:00:00 "                  \
    "GMT\r\nContent-Type: text/html\r\n"                                                           \
    "Content-Length: 4\r\nLast-Modified: Sat, 22 Nov 2025 16:00:00 GMT\r\nConnection: "            \
    "keep-alive\r\n"                                                                               \
    "ETag: \"6921e3a0-4\"\r\nAccept-Ranges: bytes\r\n\r\nbody"

static const struct exchange exchanges[] = {
    {"http wrk/nginx", "GET /index.html HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n", NGINX_HEAD, 1,
     false},
    {"http browser",
     "GET /users/1234/orders?page=2&sort=date HTTP/1.1\r\nHost: shop.example.org\r\nUser-Agent: "
     "Mozilla/5.0 (X11; Linux "
     "x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\nAccept: "
     "text/html,application/xhtml+xml,application/xml;q=0.9,"
     "*/*;q=0.8\r\nAccept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br, "
     "zstd\r\nConnection: "
     "keep-alive\r\nCookie: session=0123456789abcdef0123456789abcdef; "
     "theme=dark\r\nUpgrade-Insecure-Requests: 1\r\n"
     "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n\r\n",
     NGINX_HEAD, 1, false},
    {"http pipelined x16", "GET /index.html HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n", NGINX_HEAD,
     16, false},
    {"redis GET", "*2\r\n$3\r\nGET\r\n$16\r\nkey:000000012345\r\n", "$3\r\nxxx\r\n", 1, true},
    {"redis GET x16", "*2\r\n$3\r\nGET\r\n$16\r\nkey:000000012345\r\n", "$3\r\nxxx\r\n", 16, true},
    {"redis SET x16", "*3\r\n$3\r\nSET\r\n$16\r\nkey:000000012345\r\n$3\r\nxxx\r\n", "+OK\r\n", 16,
     true},
    {"redis PING inline x16", "PING\r\n", "+PONG\r\n", 16, true},
    {"redis MGET 10", "*3\r\n$4\r\nMGET\r\n$1\r\na\r\n$1\r\nb\r\n",
     "*10\r\n$3\r\nabc\r\n$3\r\nabc\r\n$3\r\nabc\r\n$3\r\nabc\r\n$3\r\nabc\r\n$3\r\nabc\r\n$"
     "3\r\nabc\r\n$3\r\nabc\r\n"
     "$3\r\nabc\r\n$3\r\nabc\r\n",
     1, true},
};

int main(void)
{
    for (size_t i = 0; i < sizeof exchanges / sizeof exchanges[0]; i++)
        measure(&exchanges[i], exchanges[i].redis ? &protocol_redis : &protocol_http1);
    return 0;
}
