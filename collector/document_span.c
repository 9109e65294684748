/*
 * document_span.c - a request's document.
 *
 * In:      sink/elasticsearch.c                Out: bytes of NDJSON
 * Context: P
 */
#include "collector/document_inside.h"

#include <stdlib.h>

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
    const struct names *n = document_names(w, s->endpoint);
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
