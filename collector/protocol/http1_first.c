/*
 * http1_first.c - how messages of HTTP/1.x begin: request lines, status lines, and what is neither.
 *
 * In:      http1.c, http1_lost.c                 Out: emit_fn
 * Context: P
 *
 * A request line that is whole in the input is not copied. Of an incomplete one the first
 * HTTP1_TEXT bytes and the last HTTP1_TAIL are kept, and lines are judged by those also when they
 * are whole: so any cutting gives the same messages.
 */
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

/* Requests are nonsense from here on; answers to those before it may still come. */
static void refuse(struct http1_call *c)
{
    struct http1 *s = c->http;
    if (c->flow->open)
        http1_take_back_request(s);
    s->refused = true;
    s->broken = http1_outstanding(s) == 0 && !s->flow[RESPONSES].open;
}

/* Not HTTP: the line in hand stands in error at its byte `n`, which is `q` in the input. */
static void nonsense(struct http1_call *c, const uint8_t *q, size_t n)
{
    struct http1_flow *f = c->flow;
    if (c->untold)
        http1_tell_begin(c);
    if (!f->shaky) {
        if (c->role == REQUESTS)
            refuse(c);
        else
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

void http1_request_opens(struct http1_call *c)
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
}

void http1_request_begins(struct http1_call *c, uint64_t at)
{
    http1_request_opens(c);
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

enum http1_kind http1_kind_of(struct slice verb)
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
        http1_newest_is(c->http, http1_kind_of(c->verb));
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
    if (c->role == RESPONSES && c->http->refused && http1_outstanding(c->http) == 0) {
        c->http->broken = true; /* what comes now speaks of the nonsense */
        c->p = c->end;
    } else if (c->role == RESPONSES) {
        f->phase = HTTP1_FIRST;
        http1_response_first(c);
    } else if (http1_is_tchar(*c->p)) {
        http1_request_opens(c);
        c->untold = true;
        http1_request_first(c);
    } else {
        nonsense(c, c->p, 0);
    }
}
