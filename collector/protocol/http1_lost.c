/*
 * http1_lost.c - bytes that held message boundaries went unseen: losing step, finding feet.
 *
 * In:      http1.c                               Out: emit_fn
 * Context: P
 *
 * Feet are looked for line by line, each judged by its last bytes (HTTP1_TEXT of a request's,
 * HTTP1_LINE of a response's): a message that follows content without a line end stands at the end
 * of a line.
 */
#include "collector/protocol/http1.h"

/* A gap in a request line: what is known of it is told. */
static void tell_broken_line(struct http1_call *c)
{
    const struct http1 *s = c->http;
    const size_t have = http1_min(HTTP1_TEXT, c->flow->line_total);
    size_t from = c->flow->digits;
    if (from == 0)
        return;
    while (from < have && s->text[from] == ' ')
        from++;
    size_t end = from;
    while (end < have && end - from < TARGET_MAX && s->text[end] != ' ')
        end++;
    http1_slice(&c->verb, s->text, c->flow->digits);
    http1_slice(&c->target, s->text + from, (end - from));
    if (end > from)
        http1_tell_request_head(c);
}

/* Methods that come without content, unless the header said more before the gap. */
static bool asks_without_content(const struct http1_call *c)
{
    static const char *const methods[] = {"GET", "HEAD", "DELETE", "OPTIONS"};
    const struct http1_flow *f = c->flow;
    if (f->phase == HTTP1_FIELDS && (f->framing || f->left))
        return false;
    for (size_t i = 0; i < 4; i++)
        if (strlen(methods[i]) == c->verb.len && memcmp(methods[i], c->verb.at, c->verb.len) == 0)
            return true;
    return false;
}

static void lose_request(struct http1_call *c)
{
    c->http->requests_lost = true;
    if (c->flow->phase == HTTP1_FIRST)
        tell_broken_line(c);
    else if (c->flow->phase == HTTP1_FIELDS)
        http1_tell_request_head(c);
    else
        return;
    c->flow->in_head = asks_without_content(c);
}

static void lose_response(struct http1_call *c)
{
    struct http1_flow *f = c->flow;
    c->http->answers_lost = true;
    if (f->phase != HTTP1_FIELDS)
        return;
    if (!http1_is_interim(c->http->status)) {
        http1_tell_response(c, RESPONSE_HEAD);
        f->in_head = http1_has_no_content(c) ||
                     (f->framing == (FRAMING_LENGTH_SEEN | FRAMING_LENGTH) && f->left == 0);
        return;
    }
    f->inferred = true;
    http1_tell_response(c, INTERIM);
    f->wire = 0;
    c->http->status = 0;
}

/* The bytes that come next hold boundaries, and will not be seen. */
void http1_lose_step(struct http1_call *c)
{
    struct http1_flow *f = c->flow;
    const uint8_t phase = f->phase;
    f->inferred = f->open;
    f->in_head = false;
    if (c->role == REQUESTS)
        lose_request(c);
    else
        lose_response(c);
    f->in_chunks = phase == HTTP1_CHUNK_SIZE || phase == HTTP1_CHUNK_EXT ||
                   phase == HTTP1_CHUNK_END || phase == HTTP1_TRAILERS;
    f->inferred = f->open;
    f->phase = HTTP1_LOST;
    f->line_total = 0;
    f->shaky = f->fragment = true;
    f->zero_line = false;
}

/* --- finding feet ------------------------------------------------------------------------- */

/* The last `len` bytes before c->p begin a message; what was open before it ends. */
static void stand_up(struct http1_call *c, size_t len)
{
    struct http1_flow *f = c->flow;
    http1_settle(c);
    f->wire -= len;
    if (f->in_chunks)
        f->body -= http1_min(len, f->body);
    f->inferred = true;
    if (f->open)
        http1_message_ends(c);
    else if (f->wire > 0)
        http1_tell(c, STRAY, http1_at(c));
    f->wire = len;
    f->body = 0;
    f->inferred = true;
    f->in_chunks = f->in_head = false;
    c->begin_at = http1_at(c) >= len ? http1_at(c) - len : 0;
}

/* Length of the longest known method that ends at `end`. */
static size_t method_before(const uint8_t *line, const uint8_t *end)
{
    for (size_t len = 10; len >= 3; len--)
        if ((size_t)(end - line) >= len && http1_is_method(end - len, len))
            return len;
    return 0;
}

/* "… GET /path HTTP/1.1": where its method begins and how long that is; NULL if the line ends
 * otherwise. */
static const uint8_t *find_request(const uint8_t *line, const uint8_t *end, size_t *method)
{
    if (end > line && end[-1] == '\r')
        end--;
    if (end - line < 9 || memcmp(end - 9, " HTTP/1.", 8) != 0 || end[-1] < '0' || end[-1] > '9')
        return NULL;
    const uint8_t *target = end - 9;
    while (target > line && target[-1] != ' ')
        target--;
    if (target == line || target == end - 9)
        return NULL;
    *method = method_before(line, target - 1);
    return *method ? target - 1 - *method : NULL;
}

static void look_for_request(struct http1_call *c, const uint8_t *line, size_t len)
{
    const uint8_t *end = line + len;
    size_t method = 0;
    const uint8_t *at = find_request(line, end, &method);
    if (!at)
        return;
    const size_t total = (size_t)(end - at);
    stand_up(c, total + 1);
    http1_request_begins(c, c->begin_at);
    c->flow->digits = (uint8_t)method;
    http1_request_line(c, at, end - http1_min(HTTP1_TAIL, total), total);
}

/*
 * The last status line in a line. None is looked for inside an answer that is the only one
 * outstanding: it can only be content.
 */
static void look_for_response(struct http1_call *c, const uint8_t *line, size_t len)
{
    if (c->flow->open && http1_outstanding(c->http) <= 1)
        return;
    for (size_t i = len < 12 ? 0 : len - 11; i-- > 0;) {
        const int status = line[i] == 'H' ? http1_status(line + i, len - i) : -1;
        if (status < 0)
            continue;
        stand_up(c, len - i + 1);
        http1_response_begins(c, (unsigned)status);
        return;
    }
}

/* A whole line, by its last `len` bytes of `total`; c->p stands behind its LF. */
static void judge(struct http1_call *c, const uint8_t *line, size_t len, uint64_t total)
{
    struct http1_flow *f = c->flow;
    const bool ends_cr = len > 0 && line[len - 1] == '\r';
    const uint64_t text = total - ends_cr;
    const bool ends = text == 0 && ((f->in_chunks && f->zero_line) || (f->in_head && !f->fragment));
    f->zero_line = !f->fragment && text == 1 && line[0] == '0';
    f->fragment = false;
    if (ends)
        http1_message_ends(c);
    else if (c->role == REQUESTS)
        look_for_request(c, line, len);
    else
        look_for_response(c, line, len);
}

/* Keeps the last `cap` bytes of the line in hand. */
static void keep_end(uint8_t *kept, size_t cap, uint64_t total, const uint8_t *p, size_t n)
{
    if (n >= cap) {
        memcpy(kept, p + n - cap, cap);
        return;
    }
    size_t old = http1_min(cap, total);
    const size_t gone = old + n > cap ? old + n - cap : 0;
    old -= gone;
    memmove(kept, kept + gone, old);
    memcpy(kept + old, p, n);
}

void http1_look_for_feet(struct http1_call *c)
{
    struct http1_flow *f = c->flow;
    uint8_t *kept = c->role == REQUESTS ? c->http->text : f->line;
    const size_t cap = c->role == REQUESTS ? HTTP1_TEXT : HTTP1_LINE;
    while (c->p < c->end && f->phase == HTTP1_LOST) {
        const uint8_t *line = c->p;
        const uint8_t *lf = http1_find_lf(line, c->end);
        const size_t n = (size_t)((lf ? lf : c->end) - line);
        const uint64_t total = f->line_total + n;
        if (!lf || f->line_total > 0) {
            keep_end(kept, cap, f->line_total, line, n);
            line = kept;
        } else if (n > cap) {
            line += n - cap;
        }
        c->p += n + (lf ? 1 : 0);
        if (f->in_chunks)
            f->body += n + (lf ? 1 : 0);
        f->line_total = lf ? 0 : total;
        if (lf)
            judge(c, line, http1_min(cap, total), total);
    }
}

/* --- answers that must have ended --------------------------------------------------------- */

static void tell_past(struct http1_call *c, struct message m, enum part part)
{
    m.part = part;
    m.inferred = m.past = true;
    c->emit(c->to, &m);
}

/*
 * A request begins (or the response direction ended) while answers are missing: every request
 * before it was answered. The bytes that passed are divided among them, the rest to the first.
 */
void http1_conclude_answers(struct http1_call *c)
{
    struct http1 *s = c->http;
    struct http1_flow *f = &s->flow[RESPONSES];
    const uint64_t waiting = http1_outstanding(s);
    const uint64_t count = waiting ? waiting : f->open;
    if (count == 0 && f->wire > 0)
        tell_past(c, (struct message){.wire_bytes = f->wire}, STRAY);
    for (uint64_t i = 0; i < count; i++) {
        struct message m = {.wire_bytes = f->wire / count + (i == 0 ? f->wire % count : 0)};
        if (i == 0 && f->open) {
            m.status = s->status;
            m.error = s->status >= (s->side == SIDE_CLIENT ? 400 : 500);
            m.body_bytes = f->body < m.wire_bytes ? f->body : m.wire_bytes;
        } else {
            tell_past(c, (struct message){0}, RESPONSE_BEGIN);
        }
        tell_past(c, m, RESPONSE_END);
        http1_answer_passes(s);
    }
    f->wire = f->body = f->line_total = 0;
    f->phase = HTTP1_START;
    f->open = f->inferred = f->in_chunks = f->in_head = false;
    f->shaky = true;
    s->status = 0;
    s->answers_lost = false;
}
