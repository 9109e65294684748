/*
 * document_inside.h - the writer, and the pieces of JSON that every document is made of.
 *
 *   document.c         names of endpoints, what every document carries
 *   document_span.c    a request's document
 *   document_total.c   totals of endpoints, processes, our own health
 *
 * Context: P
 * Whoever calls has DOCUMENT_MAX bytes of room, so nothing is checked on the way: every text is cut to a known length
 * before it is escaped.
 */
#ifndef SONDE_DOCUMENT_INSIDE_H
#define SONDE_DOCUMENT_INSIDE_H

#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "collector/document.h"

#define NAME_MAX_BYTES                                                                             \
    1024u /* of an endpoint or a target; six times as much when all of it needs escapes */
#define SHORT_MAX_BYTES 255u /* of service, host, executable, error text */
#define RUN_CHARS 16

struct names { /* of an endpoint */
    uint64_t key; /* of service, protocol, side and name: the same in every collector of a run */
    uint32_t merged_into;
    uint8_t side;
    uint16_t service_len, endpoint_len, request_len;
    char text[]; /* "service":{…}, then "endpoint":"…", then "network":{…},"http":{…}, */
};

struct document_writer {
    char run[RUN_CHARS + 1];
    uint64_t incarnation;
    uint64_t salt;                  /* makes span ids of this collector unlike those of others */
    char action[STREAM_COUNT][192]; /* up to the value of _id */
    uint32_t action_len[STREAM_COUNT];
    char host[SHORT_MAX_BYTES * 6 + 16];
    uint32_t host_len;
    struct names **names;
    uint32_t names_room;
    uint64_t second; /* whose text `clock` is */
    char clock[32];
    double rate;
    char rate_text[32];
    uint32_t rate_len;
};

/* --- pieces ---------------------------------------------------------------------------------- */

#define PUT(p, literal) ((char *)memcpy((p), (literal), sizeof(literal) - 1) + sizeof(literal) - 1)

static inline char *put_bytes(char *p, const char *from, size_t len)
{
    memcpy(p, from, len);
    return p + len;
}

static const char pairs[] =
    "00010203040506070809101112131415161718192021222324252627282930313233343536373839"
    "40414243444546474849505152535455565758596061626364656667686970717273747576777879"
    "8081828384858687888990919293949596979899";

static inline char *put_number(char *p, uint64_t n)
{
    char digits[20], *d = digits + sizeof digits;
    if (n > INT64_MAX)
        n = INT64_MAX; /* the largest a `long` field takes */
    while (n >= 100) {
        d -= 2;
        memcpy(d, pairs + n % 100 * 2, 2);
        n /= 100;
    }
    if (n >= 10) {
        d -= 2;
        memcpy(d, pairs + n * 2, 2);
    } else {
        *--d = (char)('0' + n);
    }
    return put_bytes(p, d, (size_t)(digits + sizeof digits - d));
}

static inline char *put_signed(char *p, int64_t n)
{
    if (n < 0) {
        *p++ = '-';
        return put_number(p, 0 - (uint64_t)n);
    }
    return put_number(p, (uint64_t)n);
}

static inline char *put_hex(char *p, uint64_t n, int digits)
{
    for (int i = digits - 1; i >= 0; i--, n >>= 4)
        p[i] = "0123456789abcdef"[n & 15];
    return p + digits;
}

static inline char *put_text(char *p, const char *text, size_t len, size_t most)
{
    *p++ = '"';
    p = document_escape(p, text, len < most ? len : most);
    *p++ = '"';
    return p;
}

static inline char *put_time(struct document_writer *w, char *p, uint64_t ns)
{
    uint64_t second = ns / UINT64_C(1000000000);
    if (second != w->second || !*w->clock) {
        struct tm tm;
        time_t t = (time_t)second;
        gmtime_r(&t, &tm);
        strftime(w->clock, sizeof w->clock, "\"%Y-%m-%dT%H:%M:%S.", &tm);
        w->second = second;
    }
    p = put_bytes(p, w->clock, 21);
    uint32_t rest = (uint32_t)(ns % UINT64_C(1000000000));
    for (int i = 7; i >= 1; i -= 2, rest /= 100)
        memcpy(p + i, pairs + rest % 100 * 2, 2);
    p[0] = (char)('0' + rest);
    return PUT(p + 9, "Z\"");
}

static inline char *put_octets(char *p, const uint8_t *a)
{
    for (int i = 0; i < 4; i++) {
        if (i)
            *p++ = '.';
        p = put_number(p, a[i]);
    }
    return p;
}

/* All groups in full: every parser takes them, and the server stores addresses in its own form. */
static inline char *put_groups(char *p, const uint8_t *a)
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    if (!memcmp(a, mapped, sizeof mapped))
        return put_octets(p, a + 12);
    for (int i = 0; i < 16; i += 2) {
        if (i)
            *p++ = ':';
        unsigned group = (unsigned)a[i] << 8 | a[i + 1];
        p = put_hex(p, group, group > 0xfff ? 4 : group > 0xff ? 3 : group > 0xf ? 2 : 1);
    }
    return p;
}

/* "NAME":{"ip":"…","port":n}, of a struct sockaddr; nothing when it is unknown */
static inline char *put_end(char *p, const char *name, const uint8_t *address, uint8_t length,
                     bool with_port)
{
    sa_family_t family = AF_UNSPEC;
    uint16_t port;
    if (length >= sizeof family)
        memcpy(&family, address, sizeof family);
    if (!(family == AF_INET && length >= sizeof(struct sockaddr_in)) &&
        !(family == AF_INET6 && length >= sizeof(struct sockaddr_in6)))
        return p;
    p = PUT(put_bytes(p, name, strlen(name)), "\"ip\":\"");
    p = family == AF_INET ? put_octets(p, address + offsetof(struct sockaddr_in, sin_addr))
                          : put_groups(p, address + offsetof(struct sockaddr_in6, sin6_addr));
    *p++ = '"';
    if (with_port) {
        memcpy(&port, address + 2, 2); /* both families have it there */
        p = put_number(PUT(p, ",\"port\":"), ntohs(port));
    }
    return PUT(p, "},");
}

/* ,"name":n when it is known */
#define PUT_KNOWN(p, name, n) ((n) == UINT64_MAX ? (p) : put_number(PUT(p, name), (n)))
/* the same when it is not 0 either */
#define PUT_SOME(p, name, n) ((n) ? PUT_KNOWN(p, name, n) : (p))

static inline char *put_action(const struct document_writer *w, char *p, enum stream stream)
{
    return put_bytes(p, w->action[stream], w->action_len[stream]);
}

static inline char *put_sequence_id(const struct document_writer *w, char *p, uint64_t sequence)
{
    p = put_hex(p, w->incarnation, 12);
    p = put_hex(p, sequence, 12);
    return PUT(p, "\"}}\n{\"@timestamp\":");
}

/* `retained`: UINT64_MAX: not known, not told; `samples` that tell it, 0: not told */
static inline char *put_heap(char *p, const struct cost *c, uint64_t retained, uint64_t samples)
{
    if (c->allocated || c->freed || c->allocations || samples) {
        p = put_number(PUT(p, ",\"memory\":{\"allocated\":{\"bytes\":"), c->allocated);
        p = put_number(PUT(p, "},\"freed\":{\"bytes\":"), c->freed);
        *p++ = '}';
        if (retained != UINT64_MAX) {
            p = put_signed(PUT(p, ",\"retained\":{\"bytes\":"), (int64_t)retained);
            p = PUT(PUT_SOME(p, ",\"samples\":", samples), "}");
        }
        p = put_number(PUT(p, ",\"allocations\":"), c->allocations);
        *p++ = '}';
    }
    return p;
}

/*
 * CPU: all that was charged. Waits: within the duration, which they make up together with the CPU in it, so that need
 * not be told.
 */
static inline char *put_times(char *p, uint64_t cpu_ns, const struct wall *w, uint64_t downstream_ns, uint64_t unknown_ns)
{
#define PUT_NS(name, n)                                                                            \
    if ((n) && (n) != UINT64_MAX) {                                                                \
        p = put_number(PUT(p, ",\"" name "\":{\"ns\":"), (n));                                     \
        *p++ = '}';                                                                                \
    }
    PUT_NS("cpu", cpu_ns)
    PUT_NS("lock", w->lock_ns)
    PUT_NS("disk", w->disk_ns)
    PUT_NS("sleep", w->sleep_ns)
    PUT_NS("downstream", downstream_ns)
    PUT_NS("runqueue", w->runqueue_ns)
    PUT_NS("unknown", unknown_ns)
    return p;
}

static inline char *put_flow(char *p, uint64_t in, uint64_t out)
{
    p = put_number(PUT(p, ",\"bytes\":{\"in\":"), in);
    p = put_number(PUT(p, ",\"out\":"), out);
    return PUT(p, "}");
}

/* The endpoint's names, or those of the one that it was merged into; a stranger's are {unknown}, so that it counts. */
const struct names *document_names(const struct document_writer *, uint32_t endpoint);
uint64_t document_key(const struct document_writer *, uint32_t endpoint);

#endif
