/*
 * bench_pipeline.c - ns an event from the ordered stream to the finished span: connection, parser, span, costs.
 *
 * What lies before (drain, merge) and behind (rollup) is not in it: the rollup's functions are counters here. The best
 * of several rounds counts, as other load on the machine only adds.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "collector/pipeline.h"
#include "collector/sites.h"
#include "wire/clock.h"

static uint64_t spans;

void rollup_span(void *rollup, const struct span *s)
{
    (void)rollup;
    spans += s->id != 0;
}
void rollup_fact(struct rollup *r, const struct item *i)
{
    (void)r, (void)i;
}
void rollup_tick(struct rollup *r, uint64_t t, const struct flow *f, bool last)
{
    (void)r, (void)t, (void)f, (void)last;
}
void rollup_in_flight(struct rollup *r, const struct in_flight *l, size_t n)
{
    (void)r, (void)l, (void)n;
}
void rollup_unread(struct rollup *r, const struct unread *l, size_t n)
{
    (void)r, (void)l, (void)n;
}

#define TAPE_START UINT64_C(1700000000000000000)

struct rollup_place rollup_place(struct rollup *r, const struct span *s)
{
    (void)r, (void)s;
    return (struct rollup_place){0};
}
void rollup_retained(struct rollup *r, uint32_t endpoint, unsigned class, uint64_t bytes, uint64_t samples)
{
    (void)r, (void)endpoint, (void)class, (void)bytes, (void)samples;
}
void rollup_offer(struct rollup *r, const struct span *s)
{
    (void)r, (void)s;
}
struct sites *rollup_sites(struct rollup *r)
{
    (void)r;
    static struct sites *sites;
    return sites ? sites : (sites = sites_new());
}

#define ITEMS 400000u
#define ROUNDS 7

struct tape { /* items as order.c would give them */
    struct item *item;
    struct event *event;
    uint32_t used;
    uint64_t time_ns, allocated[1024], freed[1024], offset[131072][2];
};
static struct tape tape;

static void put(uint8_t type, uint32_t lane, uint32_t connection, const char *data, size_t len, uint64_t bytes,
                uint8_t flags)
{
    struct event *e = &tape.event[tape.used];
    struct item *i = &tape.item[tape.used++];
    int way = type == EVENT_OUT;
    tape.time_ns += 300;
    *e = (struct event){.size = (uint16_t)(sizeof *e + (len + 7) / 8 * 8),
                        .type = type,
                        .flags = flags,
                        .descriptor = 7,
                        .connection = connection ? (uint64_t)(lane + 1) << 32 | connection : 0,
                        .result = (int32_t)bytes,
                        .head = (uint16_t)len};
    if (type == EVENT_IN || type == EVENT_OUT) {
        e->offset = tape.offset[connection][way];
        tape.offset[connection][way] += bytes;
    }
    *i = (struct item){.kind = ITEM_EVENT,
                       .lane = lane,
                       .thread = lane + 1,
                       .process = 1 + lane % 4,
                       .time_ns = tape.time_ns,
                       .entry_ns = tape.time_ns - 100,
                       .cpu_known = true,
                       .ready_ns = flags & EVENT_WAITED ? tape.time_ns - 200 : 0,
                       .total = {.allocated = tape.allocated[lane], .freed = tape.freed[lane],
                                 .allocations = tape.allocated[lane] / 1000, .cpu_ns = (tape.time_ns - TAPE_START) / 2},
                       .event = e,
                       .data = (const uint8_t *)data,
                       .data_len = (uint32_t)len};
}

#define REQUEST                                                                                                        \
    "GET /users/12345/orders?page=2 HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: Mozilla/5.0 (X11; Linux)\r\n"         \
    "Accept: */*\r\nConnection: keep-alive\r\n\r\n"
#define ANSWER                                                                                                         \
    "HTTP/1.1 200 OK\r\nServer: nginx/1.22.1\r\nDate: Sat, 31 Jan 2026 12:00:00 GMT\r\nContent-Type: text/html\r\n"     \
    "Content-Length: 1500\r\nLast-Modified: Sat, 31 Jan 2026 11:00:00 GMT\r\nConnection: keep-alive\r\n"                \
    "ETag: \"697de0c0-5dc\"\r\nAccept-Ranges: bytes\r\n\r\n"

/* nginx with a small file: read, writev of the head, sendfile of the body, wait. */
static void http_request(uint32_t lane, uint32_t connection)
{
    tape.allocated[lane] += 1032;
    put(EVENT_IN, lane, connection, REQUEST, strlen(REQUEST), strlen(REQUEST), EVENT_WAITED);
    tape.allocated[lane] += 8208;
    put(EVENT_OUT, lane, connection, ANSWER, strlen(ANSWER), strlen(ANSWER), 0);
    put(EVENT_OUT, lane, connection, NULL, 0, 1500, 0);
    tape.freed[lane] += 9240;
    put(EVENT_TURN, lane, 0, NULL, 0, 0, 0);
}

static void http(uint32_t lanes, uint32_t connections)
{
    for (uint32_t n = 0; tape.used + 4 <= ITEMS; n++) {
        uint32_t connection = n * 7919 % connections + 1;
        http_request(connection % lanes, connection);
    }
}

static void http_1_lane_16(void)
{
    http(1, 16);
}
static void http_4_lanes_64(void)
{
    http(4, 64);
}
static void http_16_lanes_1000(void)
{
    http(16, 1000);
}
static void http_16_lanes_10000(void)
{
    http(16, 10000);
}

/* A connection for each request. */
static void http_close(void)
{
    for (uint32_t n = 1; tape.used + 6 <= ITEMS; n++) {
        put(EVENT_ACCEPT, n % 4, n, NULL, 0, 7, EVENT_WAITED);
        http_request(n % 4, n);
        put(EVENT_CLOSE, n % 4, n, NULL, 0, 0, 0);
    }
}

#define COMMAND "*3\r\n$3\r\nSET\r\n$16\r\nkey:000000000001\r\n$3\r\nxxx\r\n"
static char commands[16 * sizeof COMMAND], replies[16 * 6];

/* redis -P: `depth` commands in one read, their replies in one write. */
static void redis(unsigned depth)
{
    size_t in = depth * strlen(COMMAND), out = depth * 5;
    for (unsigned i = 0; i < 16; i++) {
        memcpy(commands + i * strlen(COMMAND), COMMAND, strlen(COMMAND));
        memcpy(replies + (size_t)i * 5, "+OK\r\n", 5);
    }
    for (uint32_t n = 0; tape.used + 2 <= ITEMS; n++) {
        tape.allocated[0] += 100;
        tape.freed[0] += 90;
        put(EVENT_IN, 0, n % 50 + 1, commands, in, in, EVENT_WAITED);
        put(EVENT_OUT, 0, n % 50 + 1, replies, out, out, 0);
    }
}
static void redis_alone(void)
{
    redis(1);
}
static void redis_16(void)
{
    redis(16);
}

static void run(const char *name, void (*make)(void))
{
    struct options o;
    uint64_t best = UINT64_MAX, made = 0;
    options_init(&o);
    memset(tape.allocated, 0, sizeof tape.allocated);
    memset(tape.freed, 0, sizeof tape.freed);
    memset(tape.offset, 0, sizeof tape.offset);
    tape.used = 0;
    tape.time_ns = TAPE_START;
    make();
    for (int round = 0; round < ROUNDS; round++) {
        struct pipeline *p = pipeline_new(&o, NULL, NULL);
        if (!p)
            exit(1);
        spans = 0;
        uint64_t before = clock_monotonic_ns();
        for (uint32_t i = 0; i < tape.used; i++) {
            pipeline_item(p, &tape.item[i]);
            if (i % 100000 == 99999) {
                struct item tick = {.kind = ITEM_TICK, .time_ns = tape.item[i].time_ns};
                pipeline_item(p, &tick);
            }
        }
        uint64_t took = clock_monotonic_ns() - before;
        if (took < best)
            best = took;
        made = spans;
        pipeline_free(p);
    }
    printf("pipeline_%s %u %.1f ns/op", name, tape.used, (double)best / tape.used);
    printf(" (%lu spans, %.0f ns each)\n", (unsigned long)made, made ? (double)best / (double)made : 0.0);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*make)(void);
    } all[] = {{"http_1_lane_16_connections", http_1_lane_16},
               {"http_4_lanes_64_connections", http_4_lanes_64},
               {"http_16_lanes_1000_connections", http_16_lanes_1000},
               {"http_16_lanes_10000_connections", http_16_lanes_10000},
               {"http_connection_each", http_close},
               {"redis_alone", redis_alone},
               {"redis_pipeline_of_16", redis_16}};
    tape.item = calloc(ITEMS, sizeof *tape.item);
    tape.event = calloc(ITEMS, sizeof *tape.event);
    if (!tape.item || !tape.event)
        return 1;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (argc < 2 || !strcmp(argv[1], all[i].name))
            run(all[i].name, all[i].make);
    free(tape.item);
    free(tape.event);
    return 0;
}
