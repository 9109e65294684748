/*
 * document.c - rows become documents: an append writer, because a JSON library would cost ten times
 * the rest.
 *
 * In:      sink/elasticsearch.c                Out: bytes of NDJSON
 * Owns:    names of endpoints, escaped once.
 * Context: P
 * Failure: none; see document.h. Whoever calls has DOCUMENT_MAX bytes of room, so nothing is
 * checked on the way: every text is cut to a known length before it is escaped.
 */
#include "collector/document.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define ENDPOINTS_MAX (1u << 22)
#define NAME_MAX_BYTES                                                                             \
    1024u /* of an endpoint or a target; six times as much when all of it needs escapes */
#define SHORT_MAX_BYTES 255u /* of service, host, executable, error text */
#define RUN_CHARS 16

const char *const stream_names[STREAM_COUNT] = {"logs-sonde.span", "metrics-sonde.endpoint",
                                                "metrics-sonde.process", "metrics-sonde.collector"};

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

static char *put_bytes(char *p, const char *from, size_t len)
{
    memcpy(p, from, len);
    return p + len;
}

static const char pairs[] =
    "00010203040506070809101112131415161718192021222324252627282930313233343536373839"
    "40414243444546474849505152535455565758596061626364656667686970717273747576777879"
    "8081828384858687888990919293949596979899";

static char *put_number(char *p, uint64_t n)
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

static char *put_signed(char *p, int64_t n)
{
    if (n < 0) {
        *p++ = '-';
        return put_number(p, 0 - (uint64_t)n);
    }
    return put_number(p, (uint64_t)n);
}

static char *put_hex(char *p, uint64_t n, int digits)
{
    for (int i = digits - 1; i >= 0; i--, n >>= 4)
        p[i] = "0123456789abcdef"[n & 15];
    return p + digits;
}

/* 0: stands for itself; 1: needs an escape; 2: starts a longer UTF-8 sequence, or is none */
static const uint8_t letter_class[256] = {
    [0 ... 0x1f] = 1,
    ['"'] = 1,
    ['\\'] = 1,
    [0x80 ... 0xff] = 2,
};

/* Length of the valid UTF-8 sequence at s, 0: none. */
static size_t sequence_length(const uint8_t *s, size_t len)
{
    uint8_t low = 0x80, high = 0xbf;
    size_t n = s[0] >= 0xf0 ? 4 : s[0] >= 0xe0 ? 3 : 2;
    if (s[0] < 0xc2 || s[0] > 0xf4 || len < n)
        return 0;
    if (s[0] == 0xe0)
        low = 0xa0;
    else if (s[0] == 0xed)
        high = 0x9f;
    else if (s[0] == 0xf0)
        low = 0x90;
    else if (s[0] == 0xf4)
        high = 0x8f;
    if (s[1] < low || s[1] > high)
        return 0;
    for (size_t i = 2; i < n; i++)
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    return n;
}

char *document_escape(char *to, const char *text, size_t len)
{
    const uint8_t *s = (const uint8_t *)text, *end = s + len;
    while (s < end) {
        switch (letter_class[*s]) {
        case 0:
            *to++ = (char)*s++;
            break;
        case 1:
            if (*s >= 0x20) {
                *to++ = '\\';
                *to++ = (char)*s++;
            } else {
                to = put_hex(PUT(to, "\\u00"), *s++, 2);
            }
            break;
        default: {
            size_t n = sequence_length(s, (size_t)(end - s));
            to = n ? put_bytes(to, (const char *)s, n) : PUT(to, "\xef\xbf\xbd");
            s += n ? n : 1;
        }
        }
    }
    return to;
}

static char *put_text(char *p, const char *text, size_t len, size_t most)
{
    *p++ = '"';
    p = document_escape(p, text, len < most ? len : most);
    *p++ = '"';
    return p;
}

static char *put_time(struct document_writer *w, char *p, uint64_t ns)
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

static char *put_octets(char *p, const uint8_t *a)
{
    for (int i = 0; i < 4; i++) {
        if (i)
            *p++ = '.';
        p = put_number(p, a[i]);
    }
    return p;
}

/* All groups in full: every parser takes them, and the server stores addresses in its own form. */
static char *put_groups(char *p, const uint8_t *a)
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
static char *put_end(char *p, const char *name, const uint8_t *address, uint8_t length,
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

static char *put_action(const struct document_writer *w, char *p, enum stream stream)
{
    return put_bytes(p, w->action[stream], w->action_len[stream]);
}

static char *put_sequence_id(const struct document_writer *w, char *p, uint64_t sequence)
{
    p = put_hex(p, w->incarnation, 12);
    p = put_hex(p, sequence, 12);
    return PUT(p, "\"}}\n{\"@timestamp\":");
}

/* `retained`: UINT64_MAX: not known, not told; `samples` that tell it, 0: not told */
static char *put_heap(char *p, const struct cost *c, uint64_t retained, uint64_t samples)
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
static char *put_times(char *p, uint64_t cpu_ns, const struct wall *w, uint64_t downstream_ns, uint64_t unknown_ns)
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

/* --- names ----------------------------------------------------------------------------------- */

#define HASH_START UINT64_C(0xcbf29ce484222325)

static uint64_t hash_more(uint64_t h, const char *text, size_t len)
{
    for (; len; len--, text++)
        h = (h ^ (uint8_t)*text) * UINT64_C(0x100000001b3);
    return h;
}

static uint64_t hash_of(const char *text)
{
    return hash_more(HASH_START, text, strlen(text));
}

static uint64_t key_of(const struct row_endpoint *e, const char *service, const char *name)
{
    const char side = (char)e->side;
    uint64_t h = hash_more(HASH_START, service, e->service_len);
    h = hash_more(h, &side, 1);
    h = hash_more(h, e->protocol, strnlen(e->protocol, sizeof e->protocol));
    return hash_more(hash_more(h, &side, 1), name, e->name_len);
}

struct document_writer *document_writer_new(const char *run_id, const char *namespace,
                                            uint64_t incarnation)
{
    struct document_writer *w = calloc(1, sizeof *w);
    if (!w)
        return NULL;
    if (strlen(run_id) >= RUN_CHARS && strspn(run_id, "0123456789abcdefABCDEF") >= RUN_CHARS)
        memcpy(w->run, run_id, RUN_CHARS);
    else
        put_hex(w->run, hash_of(run_id), RUN_CHARS);
    w->incarnation = incarnation;
    w->salt = hash_of(run_id) ^ incarnation << 20;
    for (int i = 0; i < STREAM_COUNT; i++) {
        int n = snprintf(w->action[i], sizeof w->action[i],
                         "{\"create\":{\"_index\":\"%s-%s\",\"_id\":\"%s", stream_names[i],
                         namespace, w->run);
        if (n < 0 || (size_t)n >= sizeof w->action[i]) {
            free(w);
            return NULL;
        }
        w->action_len[i] = (uint32_t)n;
    }
    return w;
}

void document_writer_free(struct document_writer *w)
{
    if (!w)
        return;
    for (uint32_t i = 0; i < w->names_room; i++)
        free(w->names[i]);
    free(w->names);
    free(w);
}

void document_run(struct document_writer *w, const struct row *row)
{
    const struct row_run *r = (const void *)(row + 1);
    const char *host = (const char *)(r + 1) + r->command_len + r->settings_len;
    char *p = w->host;
    if (r->host_len) {
        p = put_text(PUT(p, "\"host\":{\"name\":"), host, r->host_len, SHORT_MAX_BYTES);
        p = PUT(p, "},");
    }
    w->host_len = (uint32_t)(p - w->host);
}

/* "network":{…},"http":{"request":{"method":…},"route":…}, of a name like "GET /users/{id}" */
static char *put_request_names(char *p, const struct row_endpoint *e, const char *name)
{
    p = put_text(PUT(p, "\"network\":{\"protocol\":"), e->protocol,
                 strnlen(e->protocol, sizeof e->protocol), 16);
    p = PUT(p, "},");
    size_t len = e->name_len < NAME_MAX_BYTES ? e->name_len : NAME_MAX_BYTES;
    const char *space = memchr(name, ' ', len);
    if (strncmp(e->protocol, "http", 4) != 0 || !space)
        return p;
    p = put_text(PUT(p, "\"http\":{\"request\":{\"method\":"), name, (size_t)(space - name), 32);
    p = put_text(PUT(p, "},\"route\":"), space + 1, (size_t)(name + len - space - 1),
                 NAME_MAX_BYTES);
    return PUT(p, "},");
}

static int names_reserve(struct document_writer *w, uint32_t endpoint)
{
    uint32_t room = w->names_room ? w->names_room : 256;
    if (endpoint >= ENDPOINTS_MAX)
        return -ENOMEM;
    while (room <= endpoint)
        room *= 2;
    if (room == w->names_room)
        return 0;
    struct names **more = realloc(w->names, room * sizeof(void *));
    if (!more)
        return -ENOMEM;
    memset(more + w->names_room, 0, (room - w->names_room) * sizeof(void *));
    w->names = more;
    w->names_room = room;
    return 0;
}

int document_endpoint(struct document_writer *w, const struct row *row)
{
    const struct row_endpoint *e = (const void *)(row + 1);
    const char *service = (const char *)(e + 1), *name = service + e->service_len;
    char text[DOCUMENT_MAX], *p = text;
    if (names_reserve(w, e->endpoint))
        return -ENOMEM;
    p = put_text(PUT(p, "\"service\":{\"name\":"), service, e->service_len, SHORT_MAX_BYTES);
    p = PUT(p, "},");
    size_t service_len = (size_t)(p - text);
    p = put_text(PUT(p, "\"endpoint\":"), name, e->name_len, NAME_MAX_BYTES);
    size_t endpoint_len = (size_t)(p - text) - service_len;
    p = put_request_names(p, e, name);
    size_t len = (size_t)(p - text);
    struct names *n = malloc(sizeof *n + len);
    if (!n)
        return -ENOMEM;
    n->key = key_of(e, service, name);
    n->merged_into = e->merged_into;
    n->side = e->side;
    n->service_len = (uint16_t)service_len;
    n->endpoint_len = (uint16_t)endpoint_len;
    n->request_len = (uint16_t)(len - service_len - endpoint_len);
    memcpy(n->text, text, len);
    free(w->names[e->endpoint]);
    w->names[e->endpoint] = n;
    return 0;
}

static const struct names unknown_names = {.endpoint_len = 22,
                                           .text = "\"endpoint\":\"{unknown}\""};

/* The endpoint's names, or those of the one that it was merged into; a stranger's are {unknown}, so
 * that it counts. */
static const struct names *names_of(const struct document_writer *w, uint32_t endpoint)
{
    for (int hops = 0; hops < 8 && endpoint < w->names_room && w->names[endpoint]; hops++) {
        if (!w->names[endpoint]->merged_into)
            return w->names[endpoint];
        endpoint = w->names[endpoint]->merged_into;
    }
    return &unknown_names;
}

/* Its own, whatever it was merged into since. */
static uint64_t own_key(const struct document_writer *w, uint32_t endpoint)
{
    bool known = endpoint < w->names_room && w->names[endpoint];
    return known ? w->names[endpoint]->key & (UINT64_MAX >> 4) : endpoint;
}

/* --- documents ------------------------------------------------------------------------------- */

/* A span that belongs to no trace and has no kin has no need of ids: its document has one. */
static char *put_trace(const struct document_writer *w, char *p, const struct row_span *s)
{
    static const uint8_t none[16];
    bool calls = s->side == SIDE_SERVER && s->downstream_ns && s->downstream_ns != UINT64_MAX;
    bool lone = !s->parent && !calls;
    if (lone && !memcmp(s->trace, none, sizeof none))
        return p;
    p = PUT(p, "\"trace\":{\"id\":\"");
    if (memcmp(s->trace, none, sizeof none) != 0) {
        for (int i = 0; i < 16; i++)
            p = put_hex(p, s->trace[i], 2);
    } else { /* ours: the run and the first span of the chain, as far as we see it */
        p = put_hex(p, w->salt * UINT64_C(0x9e3779b97f4a7c15), 16);
        p = put_hex(p, (s->parent ? s->parent : s->id) ^ w->salt, 16);
    }
    p = PUT(p, "\"},\"span\":{\"id\":\"");
    p = put_hex(p, s->id ^ w->salt, 16);
    p = PUT(p, "\"},");
    if (s->parent) {
        p = put_hex(PUT(p, "\"parent\":{\"id\":\""), s->parent ^ w->salt, 16);
        p = PUT(p, "\"},");
    }
    return p;
}

static char *put_body(char *p, uint64_t body)
{
    if (body && body != UINT64_MAX) {
        p = put_number(PUT(p, ",\"body\":{\"bytes\":"), body);
        *p++ = '}';
    }
    return p;
}

static char *put_http(char *p, const struct row_span *s, const char *target)
{
    int request = s->side == SIDE_SERVER; /* a server reads requests, a client writes them */
    uint64_t sent = request ? s->bytes_in : s->bytes_out,
             got = request ? s->bytes_out : s->bytes_in;
    p = put_text(PUT(p, "\"http\":{\"request\":{\"method\":"), s->verb, s->verb_len,
                 sizeof s->verb);
    p = put_number(PUT(p, ",\"bytes\":"), sent);
    p = put_body(p, request ? s->body_in : s->body_out);
    p = PUT(p, "},\"response\":{");
    if (s->status)
        p = PUT(put_number(PUT(p, "\"status_code\":"), s->status), ",");
    p = put_number(PUT(p, "\"bytes\":"), got);
    p = put_body(p, request ? s->body_out : s->body_in);
    p = PUT(p, "}},");
    if (!s->target_len)
        return p;
    const char *query = memchr(target, '?', s->target_len);
    size_t path = query ? (size_t)(query - target) : s->target_len;
    p = put_text(PUT(p, "\"url\":{\"path\":"), target, path, NAME_MAX_BYTES);
    if (query)
        p = put_text(PUT(p, ",\"query\":"), query + 1, s->target_len - path - 1, NAME_MAX_BYTES);
    return PUT(p, "},");
}

static char *put_database(char *p, const struct row_span *s, const char *target, const char *error)
{
    p = put_text(PUT(p, "\"db\":{\"system\":{\"name\":"), s->protocol,
                 strnlen(s->protocol, sizeof s->protocol), 16);
    p = put_text(PUT(p, "},\"operation\":{\"name\":"), s->verb, s->verb_len, sizeof s->verb);
    *p++ = '}';
    if (s->target_len)
        p = PUT(put_text(PUT(p, ",\"query\":{\"text\":"), target, s->target_len, NAME_MAX_BYTES),
                "}");
    if (s->error_len)
        p = PUT(put_text(PUT(p, ",\"response\":{\"status_code\":"), error, s->error_len,
                         SHORT_MAX_BYTES),
                "}");
    return PUT(p, "},");
}

static char *put_rate(struct document_writer *w, char *p, double rate)
{
    if (rate == 1)
        return p;
    if (rate != w->rate) {
        int n = snprintf(w->rate_text, sizeof w->rate_text, "%.15g", rate);
        if (strtod(w->rate_text, NULL) != rate)
            n = snprintf(w->rate_text, sizeof w->rate_text, "%.17g", rate);
        w->rate_len = (uint32_t)n;
        w->rate = rate;
    }
    return put_bytes(PUT(p, ",\"sample_rate\":"), w->rate_text, w->rate_len);
}

static char *put_inferred(char *p, uint32_t inferred)
{
    static const char *const words[] = {"start", "end", "boundary", "cost", "parent", "loss"};
    if (!inferred)
        return p;
    p = PUT(p, ",\"inferred\":[");
    for (unsigned i = 0; i < sizeof words / sizeof *words; i++)
        if (inferred >> i & 1) {
            p = put_text(p, words[i], strlen(words[i]), 16);
            *p++ = ',';
        }
    if (p[-1] == ',')
        p--;
    *p++ = ']';
    return p;
}

static char *put_flow(char *p, uint64_t in, uint64_t out)
{
    p = put_number(PUT(p, ",\"bytes\":{\"in\":"), in);
    p = put_number(PUT(p, ",\"out\":"), out);
    return PUT(p, "}");
}

/* A phase of 0 ns is left out: most requests come in one read and leave in one write. */
static char *put_phases(char *p, const struct row_span *s)
{
#define PUT_PHASE(name, n)                                                                         \
    if ((n) != UINT64_MAX) {                                                                       \
        p = put_number(PUT(p, ",\"" name "\":{\"ns\":"), (n));                                     \
        *p++ = '}';                                                                                \
    }
    PUT_PHASE("queue", s->queue_ns)
    if (s->receive_ns)
        PUT_PHASE("receive", s->receive_ns)
    if (s->work_ns && s->work_ns != s->first_byte_ns)
        PUT_PHASE("work", s->work_ns)
    PUT_PHASE("first_byte", s->first_byte_ns)
    if (s->send_ns)
        PUT_PHASE("send", s->send_ns)
    return p;
}

static char *put_ours(struct document_writer *w, char *p, const struct row_span *s,
                      const struct names *n)
{
    static const char *const reasons[] = {NULL, ",\"sampled_as\":\"error\"",
                                          ",\"sampled_as\":\"slow\""};
    p = s->side == SIDE_SERVER ? PUT(p, "\"sonde\":{\"side\":\"server\",")
                               : PUT(p, "\"sonde\":{\"side\":\"client\",");
    p = put_bytes(p, n->text + n->service_len, n->endpoint_len);
    p = put_phases(p, s);
    if (strncmp(s->protocol, "http", 4) != 0)
        p = put_flow(p, s->bytes_in, s->bytes_out);
    p = put_heap(p, &s->cost, s->retained ? s->retained : UINT64_MAX, 0);
    p = put_times(p, s->cost.cpu_ns, &s->wall, s->downstream_ns,
                  s->cpu_known && s->waits_known ? wall_unknown(&s->wall, s->downstream_ns, s->duration_ns) : 0);
    p = put_rate(w, p, s->rate);
    if (s->why == WHY_ERROR || s->why == WHY_SLOW)
        p = put_bytes(p, reasons[s->why], strlen(reasons[s->why]));
    p = PUT_SOME(p, ",\"shared\":", (uint64_t)s->shared);
    p = PUT_SOME(p, ",\"lost_before\":", s->lost_before);
    p = put_inferred(p, s->inferred);
    return PUT(p, "}}\n");
}

size_t document_span(struct document_writer *w, const struct row *row, char *to)
{
    const struct row_span *s = (const void *)(row + 1);
    const char *target = (const char *)(s + 1), *error = target + s->target_len;
    const struct names *n = names_of(w, s->endpoint);
    bool http = !strncmp(s->protocol, "http", 4);
    char *p = put_action(w, to, STREAM_SPAN);
    p = put_sequence_id(w, p, row->sequence);
    p = put_time(w, p, s->start_ns);
    p = PUT(p, ",\"event\":{");
    if (s->duration_ns != UINT64_MAX)
        p = PUT(put_number(PUT(p, "\"duration\":"), s->duration_ns), ",");
    p = s->error      ? PUT(p, "\"outcome\":\"failure\"},")
        : s->answered ? PUT(p, "\"outcome\":\"success\"},")
                      : PUT(p, "\"outcome\":\"unknown\"},");
    p = put_bytes(p, n->text, n->service_len);
    p = put_bytes(p, w->host, w->host_len);
    p = put_trace(w, p, s);
    if (s->side == SIDE_SERVER) {
        p = put_end(p, "\"client\":{", s->peer, s->peer_length, false);
    } else {
        p = put_end(p, "\"server\":{", s->peer, s->peer_length, true);
    }
    p = http ? put_http(p, s, target) : put_database(p, s, target, error);
    if (http && s->error_len)
        p = PUT(put_text(PUT(p, "\"error\":{\"type\":"), error, s->error_len, SHORT_MAX_BYTES),
                "},");
    p = put_signed(PUT(p, "\"process\":{\"pid\":"), s->pid);
    if (s->tid != s->pid && s->tid > 0)
        p = PUT(put_signed(PUT(p, ",\"thread\":{\"id\":"), s->tid), "}");
    p = PUT(p, "},");
    p = put_ours(w, p, s, n);
    return (size_t)(p - to);
}

static const char *class_name(unsigned class)
{
    static const char *const words[] = {"none", "1xx", "2xx", "3xx", "4xx", "5xx", "ok", "error"};
    return words[class < sizeof words / sizeof *words ? class : 0];
}

static char *put_quantiles(char *p, const uint64_t *sum_min_max_quantiles)
{
    static const char *const words[] = {"\"sum\":",  ",\"min\":", ",\"max\":", ",\"p50\":",
                                        ",\"p90\":", ",\"p95\":", ",\"p99\":", ",\"p999\":"};
    for (int i = 0; i < 8; i++)
        p = put_number(put_bytes(p, words[i], strlen(words[i])), sum_min_max_quantiles[i]);
    return p;
}

static char *put_counts(char *p, const struct row_total *t)
{
    p = put_number(PUT(p, ",\"requests\":{\"count\":"), t->count);
    p = put_number(PUT(p, ",\"errors\":"), t->errors);
    p = PUT_SOME(p, ",\"unobserved\":", t->unobserved);
    p = PUT_SOME(p, ",\"inferred\":", t->inferred);
    p = PUT_SOME(p, ",\"shared\":", t->shared);
    *p++ = '}';
    if (t->count) { /* else only what earlier requests retained */
        p = put_quantiles(PUT(p, ",\"latency\":{"), &t->latency_sum);
        *p++ = '}';
    }
    if (t->first_count) {
        p = put_number(PUT(p, ",\"first_byte\":{\"count\":"), t->first_count);
        p = put_quantiles(PUT(p, ","), &t->first_sum);
        *p++ = '}';
    }
    p = put_flow(p, t->bytes_in, t->bytes_out);
    p = put_number(PUT(p, ",\"body\":{\"in\":"), t->body_in);
    p = put_number(PUT(p, ",\"out\":"), t->body_out);
    return PUT(p, "}");
}

static char *put_interval(struct document_writer *w, char *p, const char *dataset, uint64_t start,
                          uint64_t end)
{
    p = put_time(w, p, start);
    p = put_text(PUT(p, ",\"event\":{\"dataset\":"), dataset, strlen(dataset), 32);
    p = put_time(w, PUT(p, ",\"start\":"), start);
    p = put_time(w, PUT(p, ",\"end\":"), end);
    return PUT(p, "},");
}

size_t document_total(struct document_writer *w, const struct row *row, char *to)
{
    const struct row_total *t = (const void *)(row + 1);
    const struct names *n = names_of(w, t->endpoint);
    char *p = put_action(w, to, STREAM_ENDPOINT);
    p = put_hex(p, t->interval, 8);
    p = put_hex(p, own_key(w, t->endpoint), 15);
    p = put_hex(p, t->class, 1);
    p = put_interval(w, PUT(p, "\"}}\n{\"@timestamp\":"), "sonde.endpoint", t->start_ns, t->end_ns);
    p = put_bytes(p, n->text, n->service_len);
    p = put_bytes(p, w->host, w->host_len);
    p = put_bytes(p, n->text + n->service_len + n->endpoint_len, n->request_len);
    p = put_text(PUT(p, "\"sonde\":{\"run\":"), w->run, RUN_CHARS, RUN_CHARS);
    p = n->side == SIDE_SERVER ? PUT(p, ",\"side\":\"server\",") : PUT(p, ",\"side\":\"client\",");
    p = put_bytes(p, n->text + n->service_len, n->endpoint_len);
    p = put_text(PUT(p, ",\"class\":"), class_name(t->class), strlen(class_name(t->class)), 8);
    p = put_counts(p, t);
    p = put_heap(p, &t->cost, t->retained, t->retained_samples);
    p = put_times(p, t->cost.cpu_ns, &t->wall, t->downstream_ns,
                  t->cpu_count && t->waits_count ? wall_unknown(&t->wall, t->downstream_ns, t->latency_sum) : 0);
    p = PUT(p, "}}\n");
    return (size_t)(p - to);
}

size_t document_process(struct document_writer *w, const struct row *row, uint64_t time_ns,
                        char *to)
{
    const struct row_process *r = (const void *)(row + 1);
    const char *executable = (const char *)(r + 1), *service = executable + r->executable_len;
    size_t len = r->executable_len < NAME_MAX_BYTES ? r->executable_len : NAME_MAX_BYTES;
    const char *slash = len ? memrchr(executable, '/', len) : NULL,
               *name = slash ? slash + 1 : executable;
    const struct cost heap = {
        .allocated = r->allocated, .freed = r->freed, .allocations = r->allocations};
    char *p = put_action(w, to, STREAM_PROCESS);
    p = put_sequence_id(w, p, row->sequence);
    p = put_time(w, p, time_ns);
    p = PUT(p, ",\"event\":{\"dataset\":\"sonde.process\"},\"service\":{\"name\":");
    p = PUT(put_text(p, service, r->service_len, SHORT_MAX_BYTES), "},");
    p = put_bytes(p, w->host, w->host_len);
    p = put_signed(PUT(p, "\"process\":{\"pid\":"), r->pid);
    p = PUT(put_signed(PUT(p, ",\"parent\":{\"pid\":"), r->parent), "}");
    p = put_text(PUT(p, ",\"name\":"), name, (size_t)(executable + len - name), SHORT_MAX_BYTES);
    p = put_text(PUT(p, ",\"executable\":"), executable, len, NAME_MAX_BYTES);
    p = put_time(w, PUT(p, ",\"start\":"), r->start_ns);
    if (r->ended)
        p = put_time(w, PUT(p, ",\"end\":"), r->end_ns);
    if (r->exit_code >= 0)
        p = put_signed(PUT(p, ",\"exit_code\":"), r->exit_code);
    p = put_text(PUT(p, "},\"sonde\":{\"run\":"), w->run, RUN_CHARS, RUN_CHARS);
    if (r->signal > 0)
        p = put_signed(PUT(p, ",\"signal\":"), r->signal);
    if (r->merged > 1)
        p = put_number(PUT(p, ",\"merged\":"), r->merged);
    p = put_heap(p, &heap, UINT64_MAX, 0);
    if (r->cpu_ns)
        p = PUT(put_number(PUT(p, ",\"cpu\":{\"ns\":"), r->cpu_ns), "}");
    p = PUT(p, "}}\n");
    return (size_t)(p - to);
}

static char *put_events(char *p, const struct row_interval *i)
{
    p = put_number(PUT(p, ",\"events\":{\"written\":"), i->written);
    p = put_number(PUT(p, ",\"drained\":"), i->drained);
    p = put_number(PUT(p, ",\"late\":"), i->late);
    p = PUT(p, ",\"lost\":{");
    for (int k = 0; k < LOSS_COUNT; k++) {
        p = put_text(k ? PUT(p, ",") : p, loss_names[k], strlen(loss_names[k]), 16);
        p = put_number(PUT(p, ":"), i->lost[k]);
    }
    p = put_number(PUT(p, "}},\"connections\":{\"accepted\":"), i->flow.accepted);
    p = put_number(PUT(p, ",\"opened\":"), i->flow.opened);
    p = put_number(PUT(p, ",\"inherited\":"), i->flow.inherited);
    p = put_number(PUT(p, "},\"bytes\":{\"in\":"), i->flow.bytes_in);
    p = put_number(PUT(p, ",\"out\":"), i->flow.bytes_out);
    return PUT(p, "}");
}

static char *put_ledger(char *p, const struct documents *d)
{
    p = put_number(PUT(p, ",\"documents\":{\"carried\":"), d->carried);
    p = put_number(PUT(p, ",\"accepted\":"), d->accepted);
    p = put_number(PUT(p, ",\"acknowledged\":"), d->acknowledged);
    p = put_number(PUT(p, ",\"duplicates\":"), d->duplicates);
    p = put_number(PUT(p, ",\"dead\":"), d->dead);
    p = put_number(PUT(p, ",\"queued\":"), d->queued);
    p = put_number(PUT(p, ",\"dropped\":{\"memory\":"), d->dropped_memory);
    p = put_number(PUT(p, ",\"exit\":"), d->dropped_exit);
    p = put_number(PUT(p, ",\"refused\":"), d->dropped_refused);
    return PUT(p, "}}");
}

size_t document_health(struct document_writer *w, const struct document_health *h, char *to)
{
    char *p = put_action(w, to, STREAM_COLLECTOR);
    p = put_sequence_id(w, p, h->number);
    p = h->interval
            ? put_interval(w, p, "sonde.collector", h->interval->start_ns, h->interval->end_ns)
            : PUT(put_time(w, p, h->time_ns),
                  ",\"event\":{\"dataset\":\"sonde.collector\",\"action\":\"check\"},");
    p = put_bytes(p, w->host, w->host_len);
    p = put_text(PUT(p, "\"sonde\":{\"run\":"), w->run, RUN_CHARS, RUN_CHARS);
    if (h->interval) {
        p = put_events(p, h->interval);
        uint64_t lag = h->time_ns > h->interval->end_ns ? h->time_ns - h->interval->end_ns : 0;
        p = PUT(put_number(PUT(p, ",\"lag\":{\"ns\":"), lag), "}");
    }
    p = put_ledger(p, &h->documents);
    p = put_number(PUT(p, ",\"queue\":{\"bytes\":"), h->queued_bytes);
    p = put_number(PUT(p, "},\"collector\":{\"memory\":{\"bytes\":"), h->resident_bytes);
    p = PUT(p, "}}}}\n");
    return (size_t)(p - to);
}
