/*
 * http1.c - HTTP/1.x (RFC 9112, 9110): pairing, content, and the interface; cut anywhere.
 *
 * In:      connection.c through protocol.h          Out: emit_fn
 * Owns:    nothing; state is struct http1 (http1.h)
 * Context: P
 * Failure: an observer is lenient: what looks like a request line is a request, whatever the server
 *          then thinks of it. Content whose end cannot be told goes to the end of the connection,
 *          `inferred`. BROKEN is only what is no HTTP/1.x at all.
 */
#include "collector/protocol/http1.h"

/* --- who waits for an answer -------------------------------------------------------------- */

enum http1_kind http1_front_kind(const struct http1 *s)
{
    const struct http1_special *front = &s->specials[0];
    if (s->specials_used && s->asked != s->answered && s->answered - front->first < front->count)
        return front->kind;
    return KIND_PLAIN;
}

/*
 * The newest request is of this kind. No room left for it (HEAD and GET in turn, a dozen times
 * unanswered): its answer is taken for a plain one's, and answers are `inferred` from then on.
 */
void http1_newest_is(struct http1 *s, enum http1_kind kind)
{
    if (kind == KIND_PLAIN || s->asked == s->answered)
        return;
    const uint32_t number = s->asked - 1;
    struct http1_special *last = &s->specials[s->specials_used];
    if (s->specials_used && last[-1].kind == kind && last[-1].first + last[-1].count == number) {
        last[-1].count++;
    } else if (s->specials_used < HTTP1_SPECIALS) {
        *last = (struct http1_special){.first = number, .count = 1, .kind = kind};
        s->specials_used++;
    } else {
        s->requests_lost = true;
    }
}

/* What followed a CONNECT was not read; if anything came, a boundary may have been in it. */
static void release_hold(struct http1 *s)
{
    struct http1_flow *f = &s->flow[REQUESTS];
    if (f->phase != HTTP1_HOLD)
        return;
    f->phase = f->wire > 0 ? HTTP1_LOST : HTTP1_START;
    if (f->wire > 0)
        f->shaky = f->fragment = s->requests_lost = true;
}

/* The oldest request is answered. */
void http1_answer_passes(struct http1 *s)
{
    if (s->asked == s->answered)
        return;
    if (http1_front_kind(s) == KIND_CONNECT)
        release_hold(s);
    s->answered++;
    const struct http1_special *front = &s->specials[0];
    if (s->specials_used && s->answered - front->first >= front->count &&
        (int32_t)(s->answered - front->first) > 0) {
        s->specials_used--;
        memmove(s->specials, s->specials + 1, s->specials_used * sizeof *front);
    }
    if (s->asked == s->answered)
        s->answers_lost = false;
}

/* What began was no request after all. */
void http1_take_back_request(struct http1 *s)
{
    if (s->asked != s->answered)
        s->asked--;
}

/* --- parts -------------------------------------------------------------------------------- */

void http1_tell_response(struct http1_call *c, enum part part)
{
    const struct http1 *s = c->http;
    c->message.status = s->status;
    c->message.error = s->status >= (s->side == SIDE_CLIENT ? 400 : 500);
    http1_tell(c, part, http1_at(c));
    c->message.status = 0;
    c->message.error = false;
}

static inline void no_slices(struct message *m)
{
    memset(&m->verb, 0, offsetof(struct message, error) - offsetof(struct message, verb));
}

void http1_tell_request_head(struct http1_call *c)
{
    struct message *m = &c->message;
    http1_slice(&m->verb, c->verb.at, c->verb.len);
    http1_slice(&m->target, c->target.at, c->target.len);
    http1_slice(&m->trace, c->http->trace, c->http->trace_len);
    http1_tell(c, REQUEST_HEAD, http1_at(c));
    no_slices(m);
}

__attribute__((noinline)) void http1_tell_begin(struct http1_call *c)
{
    const struct message m = {.part = REQUEST_BEGIN, .at = c->begin_at, .inferred = c->flow->inferred};
    c->untold = false;
    c->emit(c->to, &m);
}

static inline void ends(struct http1_flow *f, enum http1_phase next)
{
    f->wire = f->body = f->left = f->line_total = 0;
    f->phase = (uint8_t)next;
    f->open = f->inferred = f->in_chunks = f->in_head = false;
}

void http1_tell_request(struct http1_call *c)
{
    struct message *m = &c->message;
    c->untold = false;
    http1_slice(&m->verb, c->verb.at, c->verb.len);
    http1_slice(&m->target, c->target.at, c->target.len);
    http1_slice(&m->trace, c->http->trace, c->http->trace_len);
    m->begin = c->begin_at;
    m->head = http1_at(c);
    http1_tell(c, REQUEST, m->head);
    no_slices(m);
    ends(c->flow, HTTP1_START);
}

/* The message in hand is complete (or as complete as it will be). */
void http1_message_ends(struct http1_call *c)
{
    struct http1_flow *f = c->flow;
    const bool connect = f->phase == HTTP1_HOLD;
    if (c->role == REQUESTS)
        http1_tell(c, REQUEST_END, http1_at(c));
    else
        http1_tell_response(c, RESPONSE_END);
    ends(f, connect ? HTTP1_HOLD : HTTP1_START);
    if (c->role == RESPONSES) {
        c->http->status = 0;
        http1_answer_passes(c->http);
    }
}

/* Both directions leave HTTP. What the client sent ahead is told, then nothing more. */
void http1_upgrade(struct http1_call *c)
{
    struct http1_flow *requests = &c->http->flow[REQUESTS];
    struct message *m = &c->message;
    if (requests->wire > 0 || requests->open) {
        *m = (struct message){.part = requests->open ? REQUEST_END : STRAY,
                              .wire_bytes = requests->wire,
                              .body_bytes = requests->body,
                              .inferred = requests->inferred,
                              .truncated = requests->open,
                              .past = true};
        c->emit(c->to, m);
        m->inferred = m->truncated = m->past = false;
    }
    http1_tell(c, UPGRADE, http1_at(c));
    c->http->upgraded = true;
    c->p = c->mark = c->end;
}

/* --- content ------------------------------------------------------------------------------ */

static void counted(struct http1_call *c)
{
    struct http1_flow *f = c->flow;
    const size_t n = http1_min((size_t)(c->end - c->p), f->left);
    c->p += n;
    f->left -= n;
    f->body += n;
    if (f->left > 0)
        return;
    if (f->phase == HTTP1_COUNTED)
        http1_message_ends(c);
    else
        f->phase = HTTP1_CHUNK_END;
}

/* Chunks nobody can follow: content to the end of the connection. */
static void bad_chunk(struct http1_flow *f)
{
    f->phase = HTTP1_TO_END;
    f->inferred = true;
}

static void chunk_begins(struct http1_flow *f)
{
    f->line_total = 0;
    f->phase = f->left > 0 ? HTTP1_CHUNK_DATA : HTTP1_TRAILERS;
}

static int hex_value(uint8_t c)
{
    if (http1_is_digit(c))
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static void chunk_size(struct http1_call *c)
{
    struct http1_flow *f = c->flow;
    for (; c->p < c->end; c->p++) {
        const int digit = hex_value(*c->p);
        if (digit < 0)
            break;
        if (f->left >> 58) {
            bad_chunk(f);
            return;
        }
        f->left = f->left << 4 | (uint64_t)digit;
        f->digits = 1;
    }
    if (c->p == c->end)
        return;
    if (f->digits == 0 || (!http1_is_space(*c->p) && *c->p != ';' && *c->p != '\n'))
        bad_chunk(f);
    else
        f->phase = HTTP1_CHUNK_EXT;
}

static void chunk_ext(struct http1_call *c)
{
    const uint8_t *lf = http1_find_lf(c->p, c->end);
    c->p = lf ? lf + 1 : c->end;
    if (lf)
        chunk_begins(c->flow);
}

static void chunk_end(struct http1_call *c)
{
    struct http1_flow *f = c->flow;
    if (*c->p == '\n') {
        f->phase = HTTP1_CHUNK_SIZE;
        f->left = f->digits = 0;
    } else if (*c->p != '\r') {
        bad_chunk(f);
        return;
    }
    c->p++;
}

static void trailers(struct http1_call *c)
{
    struct http1_flow *f = c->flow;
    if (f->line_total == 0)
        f->line[0] = *c->p;
    if (!http1_finish_line(c, http1_find_lf(c->p, c->end)))
        return;
    const bool empty = f->line_total == 0 || (f->line_total == 1 && f->line[0] == '\r');
    f->line_total = 0;
    if (empty)
        http1_message_ends(c);
}

/* --- the interface ------------------------------------------------------------------------ */

static void step(struct http1_call *c)
{
    struct http1_flow *f = c->flow;
    switch ((enum http1_phase)f->phase) {
    case HTTP1_START:
        http1_start(c);
        break;
    case HTTP1_FIRST:
        if (c->role == REQUESTS)
            http1_request_first(c);
        else
            http1_response_first(c);
        break;
    case HTTP1_FIELDS:
        http1_fields(c);
        break;
    case HTTP1_COUNTED:
    case HTTP1_CHUNK_DATA:
        counted(c);
        break;
    case HTTP1_CHUNK_SIZE:
        chunk_size(c);
        break;
    case HTTP1_CHUNK_EXT:
        chunk_ext(c);
        break;
    case HTTP1_CHUNK_END:
        chunk_end(c);
        break;
    case HTTP1_TRAILERS:
        trailers(c);
        break;
    case HTTP1_TO_END:
        f->body += (uint64_t)(c->end - c->p);
        c->p = c->end;
        break;
    case HTTP1_LOST:
        http1_look_for_feet(c);
        break;
    case HTTP1_HOLD:
    case HTTP1_DEAF:
        c->p = c->end;
        break;
    case HTTP1_OVER:
        c->p = c->mark = c->end;
        break;
    }
}

/* Field by field: compilers clear a struct of this size with `rep stos`, which takes 12 ns. */
static inline void begin_call(struct http1_call *c, struct http1 *s, enum way way, emit_fn emit,
                              void *to)
{
    static const uint8_t nothing[1];
    struct message *m = &c->message;
    c->http = s;
    c->role = (way == IN) == (s->side == SIDE_SERVER) ? REQUESTS : RESPONSES;
    c->flow = &s->flow[c->role];
    c->start = c->p = c->end = c->mark = nothing;
    c->skipped = c->begin_at = 0;
    c->untold = false;
    c->verb.len = c->target.len = 0;
    c->emit = emit;
    c->to = to;
    m->stream = m->status = 0;
    no_slices(m);
    m->error = m->no_answer = m->inferred = m->truncated = m->past = false;
}

/* Nothing more is read of this direction. */
static bool is_broken(const struct http1_call *c)
{
    return c->http->broken || (c->http->refused && c->role == REQUESTS);
}

static enum verdict verdict(const struct http1_call *c)
{
    if (is_broken(c))
        return BROKEN;
    if (c->http->upgraded)
        return OK;
    switch ((enum http1_phase)c->flow->phase) {
    case HTTP1_START:
    case HTTP1_HOLD:
    case HTTP1_DEAF:
    case HTTP1_OVER:
        return OK;
    case HTTP1_LOST:
        return LOST_STEP;
    default:
        return MORE;
    }
}

static enum verdict http1_feed(void *state, enum way way, const uint8_t *bytes, size_t len,
                               emit_fn emit, void *to)
{
    struct http1 *s = state;
    struct http1_call c;
    begin_call(&c, s, way, emit, to);
    if (len == 0 || is_broken(&c) || s->upgraded)
        return verdict(&c);
    c.start = c.p = c.mark = bytes;
    c.end = bytes + len;
    if (c.role == REQUESTS && c.flow->phase == HTTP1_FIELDS)
        http1_recall_head(&c);
    while (c.p < c.end)
        step(&c);
    if (c.untold)
        http1_tell_begin(&c);
    http1_settle(&c);
    if (c.role == REQUESTS && c.flow->phase == HTTP1_FIELDS)
        http1_keep_head(&c);
    return verdict(&c);
}

/* As many of `n` unseen bytes as surely hold no boundary. */
static uint64_t pass(struct http1_call *c, uint64_t n)
{
    struct http1_flow *f = c->flow;
    const bool in_count = f->phase == HTTP1_COUNTED || f->phase == HTTP1_CHUNK_DATA;
    if (in_count && n > f->left)
        n = f->left;
    c->skipped += n;
    if (f->phase == HTTP1_OVER)
        return n;
    f->wire += n;
    if (in_count || f->phase == HTTP1_TO_END || (f->phase == HTTP1_LOST && f->in_chunks))
        f->body += n;
    if (in_count) {
        f->left -= n;
        if (f->left == 0 && f->phase == HTTP1_COUNTED)
            http1_message_ends(c);
        else if (f->left == 0)
            f->phase = HTTP1_CHUNK_END;
    }
    if (f->phase == HTTP1_LOST) {
        f->line_total = 0;
        f->zero_line = false;
        f->fragment = true;
    }
    return n;
}

static enum verdict http1_skip(void *state, enum way way, uint64_t bytes, emit_fn emit, void *to)
{
    struct http1 *s = state;
    struct http1_call c;
    begin_call(&c, s, way, emit, to);
    while (bytes > 0 && !is_broken(&c) && !s->upgraded) {
        switch ((enum http1_phase)c.flow->phase) {
        case HTTP1_START:
        case HTTP1_FIRST:
        case HTTP1_FIELDS:
        case HTTP1_CHUNK_SIZE:
        case HTTP1_CHUNK_EXT:
        case HTTP1_CHUNK_END:
        case HTTP1_TRAILERS:
            if (c.role == REQUESTS && c.flow->phase == HTTP1_FIELDS)
                http1_recall_head(&c);
            http1_lose_step(&c);
            break;
        default:
            bytes -= pass(&c, bytes);
        }
    }
    return verdict(&c);
}

static void end_responses(struct http1_call *c)
{
    struct http1_flow *f = c->flow;
    if (f->phase == HTTP1_FIRST && http1_front_kind(c->http) == KIND_OLD)
        http1_old_response(c);
    if (c->http->answers_lost && (f->phase == HTTP1_LOST || f->phase == HTTP1_START))
        http1_conclude_answers(c);
}

/* An open message ends here; complete only if its end was that of the connection. */
static enum verdict http1_end(void *state, enum way way, emit_fn emit, void *to)
{
    struct http1 *s = state;
    struct http1_call c;
    begin_call(&c, s, way, emit, to);
    struct http1_flow *const f = c.flow;
    if (is_broken(&c) || s->upgraded || f->phase == HTTP1_OVER)
        return verdict(&c);
    if (c.role == RESPONSES)
        end_responses(&c);
    c.message.truncated = f->phase != HTTP1_TO_END && f->phase != HTTP1_LOST;
    if (f->open) {
        http1_message_ends(&c);
    } else if (f->wire > 0) {
        c.message.truncated = false;
        f->inferred = false;
        http1_tell(&c, STRAY, 0);
    }
    f->wire = 0;
    f->phase = HTTP1_OVER;
    return verdict(&c);
}

static uint64_t http1_blind(const void *state, enum way way)
{
    const struct http1 *s = state;
    const enum http1_role role = (way == IN) == (s->side == SIDE_SERVER) ? REQUESTS : RESPONSES;
    const struct http1_flow *f = &s->flow[role];
    if (s->broken || s->upgraded || (s->refused && role == REQUESTS))
        return UINT64_MAX;
    switch ((enum http1_phase)f->phase) {
    case HTTP1_COUNTED:
    case HTTP1_CHUNK_DATA:
        return f->left;
    case HTTP1_TO_END:
    case HTTP1_DEAF:
    case HTTP1_OVER:
        return UINT64_MAX;
    default:
        return 0;
    }
}

static void http1_reset(void *state, enum side side)
{
    memset(state, 0, sizeof(struct http1));
    ((struct http1 *)state)->side = (uint8_t)side;
}

static bool flow_is_idle(const struct http1_flow *f)
{
    return f->phase == HTTP1_START && !f->open && !f->wire && !f->shaky && !f->inferred;
}

static bool http1_idle(const void *state)
{
    const struct http1 *s = state;
    return flow_is_idle(&s->flow[REQUESTS]) && flow_is_idle(&s->flow[RESPONSES]) &&
           s->asked == s->answered && !s->requests_lost && !s->answers_lost && !s->broken &&
           !s->refused && !s->upgraded;
}

const struct protocol protocol_http1 = {.name = "http",
                                        .state_bytes = sizeof(struct http1),
                                        .detect = http1_detect,
                                        .reset = http1_reset,
                                        .feed = http1_feed,
                                        .skip = http1_skip,
                                        .end = http1_end,
                                        .blind = http1_blind,
                                        .idle = http1_idle};
