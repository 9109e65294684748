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
#include "collector/document_inside.h"

#include <errno.h>
#include <stdlib.h>

#define ENDPOINTS_MAX (1u << 22)

const char *const stream_names[STREAM_COUNT] = {"logs-sonde.span", "metrics-sonde.endpoint",
                                                "metrics-sonde.process", "metrics-sonde.collector"};

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
const struct names *document_names(const struct document_writer *w, uint32_t endpoint)
{
    for (int hops = 0; hops < 8 && endpoint < w->names_room && w->names[endpoint]; hops++) {
        if (!w->names[endpoint]->merged_into)
            return w->names[endpoint];
        endpoint = w->names[endpoint]->merged_into;
    }
    return &unknown_names;
}

/* Its own, whatever it was merged into since. */
uint64_t document_key(const struct document_writer *w, uint32_t endpoint)
{
    bool known = endpoint < w->names_room && w->names[endpoint];
    return known ? w->names[endpoint]->key & (UINT64_MAX >> 4) : endpoint;
}
