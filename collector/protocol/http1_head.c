/*
 * http1_head.c - request lines, status lines, header lines of HTTP/1.x.
 *
 * In:      http1.c                               Out: emit_fn
 * Context: P
 *
 * A head that is whole in the input is not copied. Of an incomplete one the request line's first
 * HTTP1_TEXT bytes and of the header line in hand the first HTTP1_LINE bytes are kept, and lines
 * are judged by those also when they are whole: so any cutting gives the same messages.
 */
#include <strings.h>
#include "collector/protocol/http1.h"

#define T HTTP1_TCHAR
#define F (HTTP1_TCHAR | HTTP1_FIELD_START)
const uint8_t http1_class[256] = {['!'] = T,
                                  ['#' ... '\''] = T,
                                  ['*' ... '+'] = T,
                                  ['-' ... '.'] = T,
                                  ['0' ... '9'] = T,
                                  ['A' ... 'B'] = T,
                                  ['C'] = F,
                                  ['D' ... 'S'] = T,
                                  ['T'] = F,
                                  ['U' ... 'Z'] = T,
                                  ['^' ... 'b'] = T,
                                  ['c'] = F,
                                  ['d' ... 's'] = T,
                                  ['t'] = F,
                                  ['u' ... 'z'] = T,
                                  ['|'] = T,
                                  ['~'] = T,
                                  [' '] = HTTP1_FIELD_START,
                                  ['\r'] = HTTP1_FIELD_START,
                                  ['\n'] = HTTP1_FIELD_START,
                                  ['\t'] = HTTP1_FIELD_START};
#undef T
#undef F

/* Not HTTP: the line in hand stands in error at its byte `n`, which is `q` in the input. */
static void nonsense(struct http1_call *c, const uint8_t *q, size_t n)
{
    struct http1_flow *f = c->flow;
    if (!f->shaky) {
        c->http->broken = true;
        c->p = c->end;
        return;
    }
    if (n > f->line_total) /* what LOST keeps of a line */
        memcpy((c->role == REQUESTS ? c->http->text : f->line) + f->line_total, c->p,
               n - f->line_total);
    c->p = q;
    f->line_total = n;
    f->phase = HTTP1_LOST;
    f->fragment = true;
    f->zero_line = f->in_chunks = f->in_head = false;
    if (c->role == RESPONSES) {
        c->http->answers_lost = true;
        return;
    }
    c->http->requests_lost = true;
    if (f->open) {
        f->inferred = true;
        http1_take_back_request(c->http);
    }
}

/* --- first lines -------------------------------------------------------------------------- */

void http1_request_begins(struct http1_call *c, uint64_t at)
{
    struct http1 *s = c->http;
    struct http1_flow *f = c->flow;
    const uint8_t answer_phase = s->flow[RESPONSES].phase;
    if (s->answers_lost && (answer_phase == HTTP1_START || answer_phase == HTTP1_LOST))
        http1_conclude_answers(c);
    if (s->requests_lost && !f->inferred && http1_outstanding(s) == 0 &&
        s->flow[RESPONSES].phase == HTTP1_START)
        s->requests_lost = false;
    s->asked++;
    s->trace_len = 0;
    f->open = true;
    f->phase = HTTP1_FIRST;
    f->line_total = 0;
    f->digits = 0;
    http1_tell(c, REQUEST_BEGIN, at);
}

bool http1_is_method(const uint8_t *word, size_t len)
{
    static const char *const known[] = {"GET",    "POST",      "PUT",     "HEAD",   "DELETE",
                                        "PATCH",  "OPTIONS",   "CONNECT", "TRACE",  "PROPFIND",
                                        "REPORT", "PROPPATCH", "MKCOL",   "COPY",   "MOVE",
                                        "LOCK",   "UNLOCK",    "PURGE",   "SEARCH", "MKCALENDAR"};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (strlen(known[i]) == len && memcmp(known[i], word, len) == 0)
            return true;
    return false;
}

/* Length of " HTTP/1.1" (any version) at the end of a line, 0: there is none. */
static size_t version_len(const uint8_t *tail, const uint8_t *end)
{
    if (end - tail < 9)
        return 0;
    const uint8_t *v = end - 9;
    return memcmp(v, " HTTP/", 6) == 0 && http1_is_digit(v[6]) && v[7] == '.' &&
                   http1_is_digit(v[8])
               ? 9
               : 0;
}

static enum http1_kind kind_of(struct slice verb)
{
    if (verb.len == 4 && memcmp(verb.at, "HEAD", 4) == 0)
        return KIND_HEAD;
    if (verb.len == 7 && memcmp(verb.at, "CONNECT", 7) == 0)
        return KIND_CONNECT;
    return KIND_PLAIN;
}

/* "GET /path" alone, which is answered with bare content (HTTP/0.9). */
static void old_request(struct http1_call *c)
{
    http1_newest_is(c->http, KIND_OLD);
    http1_tell_request_head(c);
    http1_message_ends(c);
    c->flow->phase = HTTP1_DEAF;
}

/*
 * A request line is complete: `line` has its first HTTP1_TEXT bytes, `tail` its last HTTP1_TAIL
 * ones (fewer if it is shorter), `total` counts it all but LF; `digits` is the length of its
 * method, 0 if that never ended. c->p stands behind the LF.
 */
void http1_request_line(struct http1_call *c, const uint8_t *line, const uint8_t *tail,
                        uint64_t total)
{
    struct http1_flow *f = c->flow;
    const bool whole = total <= HTTP1_TEXT;
    const uint8_t *end = tail + http1_min(HTTP1_TAIL, total);
    const uint8_t *const line_end = end;
    if (end > tail && end[-1] == '\r')
        end--;
    while (end - tail > 9 && end[-1] == ' ')
        end--;
    const size_t version = version_len(tail, end);
    total -= (uint64_t)(line_end - end) + version;
    const size_t verb = f->digits;
    if (verb == 0 || (version == 0 && !http1_is_method(line, verb))) {
        f->line_total = 0;
        nonsense(c, c->p, 0);
        return;
    }
    const size_t have = http1_min(HTTP1_TEXT, total);
    size_t from = verb;
    while (from < have && line[from] == ' ')
        from++;
    size_t len = have > from ? http1_min(TARGET_MAX, have - from) : 0;
    while (len > 0 && line[from + len - 1] == ' ')
        len--;
    http1_slice(&c->verb, line, verb);
    http1_slice(&c->target, line + from, len);
    f->phase = HTTP1_FIELDS;
    f->line_total = f->left = 0;
    f->framing = f->field = 0;
    if (version == 0 && whole && verb == 3 && memcmp(line, "GET", 3) == 0 &&
        !memchr(line + from, ' ', len))
        old_request(c);
    else
        http1_newest_is(c->http, kind_of(c->verb));
}

/* Follows the method; false: this is no request. */
static bool method(struct http1_call *c)
{
    struct http1_flow *f = c->flow;
    const uint8_t *q = c->p;
    for (uint64_t n = f->line_total; q < c->end; q++, n++) {
        if (*q == ' ') {
            f->digits = (uint8_t)n;
            return true;
        }
        if (n >= VERB_MAX || !http1_is_tchar(*q)) {
            nonsense(c, q, n);
            return false;
        }
    }
    return true;
}

/* Keeps the next `n` bytes of an unfinished request line: its beginning and its last bytes. */
static void keep_request_line(struct http1 *s, struct http1_flow *f, const uint8_t *p, size_t n)
{
    if (f->line_total < HTTP1_TEXT)
        memcpy(s->text + f->line_total, p, http1_min(n, HTTP1_TEXT - f->line_total));
    if (n >= HTTP1_TAIL) {
        memcpy(s->tail, p + n - HTTP1_TAIL, HTTP1_TAIL);
    } else {
        size_t old = http1_min(HTTP1_TAIL, f->line_total);
        const size_t gone = old + n > HTTP1_TAIL ? old + n - HTTP1_TAIL : 0;
        old -= gone;
        memmove(s->tail, s->tail + gone, old);
        memcpy(s->tail + old, p, n);
    }
    f->line_total += n;
}

void http1_request_first(struct http1_call *c)
{
    struct http1 *s = c->http;
    struct http1_flow *f = c->flow;
    if (f->digits == 0 && !method(c))
        return;
    const uint8_t *lf = http1_find_lf(c->p, c->end);
    const size_t n = (size_t)((lf ? lf : c->end) - c->p);
    if (lf && f->line_total == 0) {
        const uint8_t *line = c->p;
        c->p = lf + 1;
        http1_request_line(c, line, lf - http1_min(HTTP1_TAIL, n), n);
    } else {
        keep_request_line(s, f, c->p, n);
        c->p += n;
        if (!lf)
            return;
        c->p++;
        http1_request_line(c, s->text, s->tail, f->line_total);
    }
    if (f->phase == HTTP1_FIELDS && c->p < c->end)
        http1_fields(c);
}

/* Status of "HTTP/1.1 200", -1: this is no status line. */
int http1_status(const uint8_t *line, size_t len)
{
    if (len < 12 || memcmp(line, "HTTP/", 5) != 0 || !http1_is_digit(line[5]) || line[6] != '.' ||
        !http1_is_digit(line[7]) || line[8] != ' ' || line[9] == '0')
        return -1;
    if (!http1_is_digit(line[9]) || !http1_is_digit(line[10]) || !http1_is_digit(line[11]))
        return -1;
    if (len > 12 && !http1_is_space(line[12]))
        return -1;
    return (line[9] - '0') * 100 + (line[10] - '0') * 10 + (line[11] - '0');
}

bool http1_is_interim(unsigned status)
{
    return status < 200 && status != 101;
}

/* A status line is complete. */
void http1_response_begins(struct http1_call *c, unsigned status)
{
    struct http1 *s = c->http;
    struct http1_flow *f = c->flow;
    s->status = (uint16_t)status;
    f->phase = HTTP1_FIELDS;
    f->line_total = f->left = 0;
    f->framing = f->field = 0;
    f->inferred |= s->requests_lost || s->answers_lost || http1_outstanding(s) == 0;
    if (http1_is_interim(status))
        return;
    f->open = true;
    http1_tell(c, RESPONSE_BEGIN, c->begin_at);
}

/* The answer to an HTTP/0.9 request: content from the first byte; no status. */
void http1_old_response(struct http1_call *c)
{
    http1_response_begins(c, 200);
    c->http->status = 0;
    c->flow->body = c->flow->wire;
    http1_tell_response(c, RESPONSE_HEAD);
    c->flow->phase = HTTP1_TO_END;
}

/* The line in hand is no status line from its byte `n` on, which is `q`. */
static void not_a_status_line(struct http1_call *c, const uint8_t *q, size_t n)
{
    if (http1_front_kind(c->http) != KIND_OLD) {
        nonsense(c, q, n);
        return;
    }
    c->p = q;
    http1_old_response(c);
}

void http1_response_first(struct http1_call *c)
{
    struct http1_flow *f = c->flow;
    uint64_t at = f->line_total;
    for (const uint8_t *q = c->p; at < 5 && q < c->end; q++, at++) {
        if (*q != "HTTP/"[at]) {
            not_a_status_line(c, http1_front_kind(c->http) == KIND_OLD ? q + 1 : q, at);
            return;
        }
    }
    const uint8_t *lf = http1_find_lf(c->p, c->end);
    const size_t n = (size_t)((lf ? lf : c->end) - c->p);
    const uint8_t *line = c->p;
    if (!lf || f->line_total > 0) {
        if (f->line_total < HTTP1_LINE)
            memcpy(f->line + f->line_total, c->p, http1_min(n, HTTP1_LINE - f->line_total));
        line = f->line;
    }
    f->line_total += n;
    c->p += n;
    if (!lf)
        return;
    const int status = http1_status(line, http1_min(HTTP1_LINE, f->line_total));
    f->line_total = 0;
    c->p++;
    if (status < 0) {
        not_a_status_line(c, c->p, 0);
        return;
    }
    http1_response_begins(c, (unsigned)status);
    if (c->p < c->end)
        http1_fields(c);
}

void http1_start(struct http1_call *c)
{
    struct http1_flow *f = c->flow;
    while (*c->p == '\r' || *c->p == '\n')
        if (++c->p == c->end)
            return;
    c->begin_at = http1_at(c);
    f->line_total = 0;
    if (c->role == RESPONSES) {
        f->phase = HTTP1_FIRST;
        http1_response_first(c);
    } else if (http1_is_tchar(*c->p)) {
        http1_request_begins(c, c->begin_at);
        http1_request_first(c);
    } else {
        nonsense(c, c->p, 0);
    }
}

/* --- header ------------------------------------------------------------------------------- */

/* Eight letters and hyphens in lower case. */
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
    http1_tell_request_head(c);
    if (kind_of(c->verb) == KIND_CONNECT && http1_outstanding(c->http) > 0) {
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
