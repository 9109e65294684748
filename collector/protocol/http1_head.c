/*
 * http1_head.c - header lines of HTTP/1.x, and what they say of the content.
 *
 * In:      http1.c, http1_first.c                Out: emit_fn
 * Context: P
 *
 * Lines that are whole in the input are not copied, and only those that may matter are looked at.
 * Of an incomplete line the first HTTP1_LINE bytes are kept, and lines are judged by those also
 * when they are whole.
 */
#include <strings.h>
#include "collector/protocol/http1.h"

/* Eight letters and hyphens in lower case (CR becomes a hyphen too; nobody minds). */
static uint64_t eight(const uint8_t *p)
{
    uint64_t v;
    memcpy(&v, p, 8);
    return v | 0x2020202020202020;
}

static bool begins(const uint8_t *line, const char *name)
{
    return eight(line) == eight((const uint8_t *)name);
}

/* Which field a line is of; *value is where its value begins. */
static enum http1_field field_of(const uint8_t *line, size_t len, size_t *value)
{
    enum http1_field field = FIELD_OTHER;
    size_t n = 0;
    if (len > 14 && begins(line, "content-") && begins(line + 6, "t-length"))
        field = FIELD_LENGTH, n = 14;
    else if (len > 17 && begins(line, "transfer") && begins(line + 9, "encoding") && line[8] == '-')
        field = FIELD_CODING, n = 17;
    else if (len > 11 && begins(line, "tracepar") && begins(line + 3, "ceparent"))
        field = FIELD_TRACE, n = 11;
    else
        return FIELD_OTHER;
    while (n < len && http1_is_space(line[n]))
        n++;
    *value = n + 1;
    return n < len && line[n] == ':' ? field : FIELD_OTHER;
}

/* "5", "5, 5"; every one must agree (RFC 9112 6.3). */
static void content_length(struct http1_flow *f, const uint8_t *p, const uint8_t *end)
{
    f->framing |= FRAMING_LENGTH_SEEN;
    while (p < end) {
        uint64_t value = 0;
        while (p < end && http1_is_space(*p))
            p++;
        if (p == end)
            return;
        const uint8_t *digits = p;
        for (; p < end && http1_is_digit(*p); p++)
            value = value * 10 + (uint64_t)(*p - '0');
        bool sane = p > digits && p - digits <= 18;
        while (p < end && http1_is_space(*p))
            p++;
        sane &= p == end || *p == ',';
        if (!sane || ((f->framing & FRAMING_LENGTH) && f->left != value)) {
            f->framing |= FRAMING_BAD;
            return;
        }
        f->left = value;
        f->framing |= FRAMING_LENGTH;
        p += p < end;
    }
}

/* The last coding decides; "identity" was none (RFC 2616). */
static void transfer_encoding(struct http1_flow *f, const uint8_t *p, const uint8_t *end)
{
    while (p < end) {
        if (http1_is_space(*p) || *p == ',') {
            p++;
            continue;
        }
        const uint8_t *word = p;
        while (p < end && !http1_is_space(*p) && *p != ',' && *p != ';')
            p++;
        const size_t len = (size_t)(p - word);
        while (p < end && *p != ',' && !http1_is_space(*p)) /* parameters */
            p++;
        if (len == 8 && strncasecmp((const char *)word, "identity", 8) == 0)
            continue;
        f->framing |= FRAMING_CODING;
        f->framing &= (uint8_t)~FRAMING_CHUNKED;
        if (len == 7 && strncasecmp((const char *)word, "chunked", 7) == 0)
            f->framing |= FRAMING_CHUNKED;
    }
}

static void traceparent(struct http1 *s, const uint8_t *p, const uint8_t *end)
{
    while (p < end && http1_is_space(*p))
        p++;
    while (p < end && http1_is_space(end[-1]))
        end--;
    if (s->trace_len > 0 || end - p > HTTP1_TRACE)
        return;
    memcpy(s->trace, p, (size_t)(end - p));
    s->trace_len = (uint8_t)(end - p);
}

/* One header line that may matter, by its first `len` bytes of `total`. */
static void field_line(struct http1_call *c, const uint8_t *line, size_t len, uint64_t total)
{
    struct http1_flow *f = c->flow;
    size_t value = 0;
    if (line[0] != ' ' && line[0] != '\t') { /* else it goes on with the field of the line before */
        f->field = field_of(line, len, &value);
    }
    if (f->field == FIELD_OTHER)
        return;
    if (f->field == FIELD_TRACE) {
        if (total <= HTTP1_LINE && c->role == REQUESTS)
            traceparent(c->http, line + value, line + len);
        return;
    }
    if (total > HTTP1_LINE)
        f->framing |= FRAMING_BAD;
    else if (f->field == FIELD_LENGTH)
        content_length(f, line + value, line + len);
    else
        transfer_encoding(f, line + value, line + len);
}

/* The header is complete; what content follows (RFC 9112 6.3). */
static void content(struct http1_call *c)
{
    struct http1_flow *f = c->flow;
    const unsigned length = f->framing & (FRAMING_LENGTH_SEEN | FRAMING_LENGTH);
    const bool bad = (f->framing & FRAMING_BAD) || length == FRAMING_LENGTH_SEEN;
    if (f->framing & FRAMING_CHUNKED) {
        f->phase = HTTP1_CHUNK_SIZE;
        f->left = f->digits = 0;
    } else if (bad || (f->framing & FRAMING_CODING)) {
        f->phase = HTTP1_TO_END;
        f->inferred |= bad || c->role == REQUESTS;
    } else if (length) {
        f->phase = HTTP1_COUNTED;
        if (f->left == 0)
            http1_message_ends(c);
    } else if (c->role == REQUESTS) {
        http1_message_ends(c);
    } else {
        f->phase = HTTP1_TO_END;
    }
}

/* After this answer the connection is no HTTP any more. */
static bool leaves_http(const struct http1 *s)
{
    return s->status == 101 || (http1_front_kind(s) == KIND_CONNECT && s->status / 100 == 2);
}

bool http1_has_no_content(const struct http1_call *c)
{
    const struct http1 *s = c->http;
    return leaves_http(s) || http1_front_kind(s) == KIND_HEAD || s->status == 204 ||
           s->status == 304;
}

static void response_head_ends(struct http1_call *c)
{
    struct http1 *s = c->http;
    struct http1_flow *f = c->flow;
    if (http1_is_interim(s->status)) {
        http1_tell_response(c, INTERIM);
        f->wire = f->left = 0;
        f->phase = HTTP1_START;
        f->inferred = false;
        s->status = 0;
        return;
    }
    http1_tell_response(c, RESPONSE_HEAD);
    const bool leaves = leaves_http(s);
    if (http1_has_no_content(c))
        http1_message_ends(c);
    else
        content(c);
    if (leaves)
        http1_upgrade(c);
}

static void head_ends(struct http1_call *c)
{
    c->flow->line_total = 0;
    if (c->role == RESPONSES) {
        response_head_ends(c);
        return;
    }
    if (c->untold && !c->flow->framing && http1_kind_of(c->verb) != KIND_CONNECT) {
        http1_tell_request(c);
        return;
    }
    http1_tell_request_head(c);
    if (http1_kind_of(c->verb) == KIND_CONNECT && http1_outstanding(c->http) > 0) {
        c->flow->phase = HTTP1_HOLD;
        http1_message_ends(c);
    } else {
        content(c);
    }
}

/* The rest of a header line whose beginning is kept; false: it does not end in this input. */
bool http1_finish_line(struct http1_call *c, const uint8_t *lf)
{
    struct http1_flow *f = c->flow;
    const size_t n = (size_t)((lf ? lf : c->end) - c->p);
    if (f->line_total < HTTP1_LINE)
        memcpy(f->line + f->line_total, c->p, http1_min(n, HTTP1_LINE - f->line_total));
    f->line_total += n;
    c->p += n;
    if (!lf)
        return false;
    c->p++;
    return true;
}

/* A line of the header, at its first byte: may it say anything that counts? */
static inline bool may_matter(const uint8_t *line, const uint8_t *end)
{
    size_t value;
    if (!(http1_class[*line] & HTTP1_FIELD_START))
        return false;
    return *line <= ' ' || end - line < 18 || field_of(line, (size_t)(end - line), &value);
}

#ifdef __SSE2__
static inline uint64_t line_ends_of_16(const uint8_t *p)
{
    const __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)p);
    return (unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(bytes, _mm_set1_epi8('\n')));
}

/* One bit for each LF among 64 bytes. */
static inline uint64_t line_ends(const uint8_t *p)
{
    return line_ends_of_16(p) | line_ends_of_16(p + 16) << 16 | line_ends_of_16(p + 32) << 32 |
           line_ends_of_16(p + 48) << 48;
}
#endif

/*
 * The first line from `p` on (a line start itself) that may matter: an empty line, a folded one,
 * one of enum http1_field; NULL: none that begins before `end`. Nothing before `floor` is read.
 */
static const uint8_t *next_line_that_matters(const uint8_t *floor, const uint8_t *p,
                                             const uint8_t *end)
{
    if (may_matter(p, end))
        return p;
#ifdef __SSE2__
    while (end - p > 1 && end - floor > 64) {
        const uint8_t *block = end - p > 64 ? p : end - 65; /* the last one reaches back */
        uint64_t hits = line_ends(block) >> (p - block) << (p - block);
        for (; hits; hits &= hits - 1) {
            const uint8_t *line = block + __builtin_ctzll(hits) + 1;
            if (may_matter(line, end))
                return line;
        }
        p = block + 64;
    }
#else
    (void)floor;
#endif
    while ((p = http1_find_lf(p, end - 1))) {
        if (may_matter(++p, end))
            return p;
    }
    return NULL;
}

/* The header ends, or goes on in the next call: its last, unfinished line begins where? */
static void keep_unfinished_line(struct http1_call *c, const uint8_t *last_end)
{
    const uint8_t *lf = memrchr(c->p, '\n', (size_t)(c->end - c->p));
    if (lf)
        c->p = lf + 1;
    if (c->p != last_end)
        c->flow->field = FIELD_OTHER;
    http1_finish_line(c, NULL);
}

/* Lines that are whole in the input. */
static void whole_lines(struct http1_call *c)
{
    struct http1_flow *f = c->flow;
    const uint8_t *last_end = c->p; /* behind the line of `field` */
    while (c->p < c->end) {
        const uint8_t *line = next_line_that_matters(c->start, c->p, c->end);
        const uint8_t *lf = line ? http1_find_lf(line, c->end) : NULL;
        if (!lf) {
            keep_unfinished_line(c, last_end);
            return;
        }
        const size_t n = (size_t)(lf - line);
        if (line != last_end)
            f->field = FIELD_OTHER;
        c->p = last_end = lf + 1;
        if (n <= 1 && (n == 0 || *line == '\r')) {
            head_ends(c);
            return;
        }
        field_line(c, line, http1_min(n, HTTP1_LINE), n);
    }
}

void http1_fields(struct http1_call *c)
{
    struct http1_flow *f = c->flow;
    if (f->line_total > 0) {
        if (!http1_finish_line(c, http1_find_lf(c->p, c->end)))
            return;
        const uint64_t total = f->line_total;
        f->line_total = 0;
        if (total == 1 && f->line[0] == '\r') {
            head_ends(c);
            return;
        }
        field_line(c, f->line, http1_min(HTTP1_LINE, total), total);
    }
    whole_lines(c);
}

/* A head goes on in the next call: its request line has to outlive this one. */
void http1_keep_head(struct http1_call *c)
{
    struct http1 *s = c->http;
    memmove(s->text, c->verb.at, c->verb.len);
    memmove(s->text + c->verb.len, c->target.at, c->target.len);
    s->verb_len = (uint8_t)c->verb.len;
    s->target_len = (uint16_t)c->target.len;
}

void http1_recall_head(struct http1_call *c)
{
    const struct http1 *s = c->http;
    http1_slice(&c->verb, s->text, s->verb_len);
    http1_slice(&c->target, s->text + s->verb_len, s->target_len);
}
