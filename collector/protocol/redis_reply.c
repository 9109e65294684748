/*
 * redis_reply.c - the grammar of what a server sends: values of RESP2 and RESP3, nested, streamed.
 *
 * In:      redis.c                               Out: emit_fn (through redis_answer.c)
 * Context: P
 */
#include "collector/protocol/redis.h"

/* What follows a type byte. */
enum { FORM_NONE, FORM_TEXT, FORM_STRING, FORM_COUNT };
static const uint8_t form_of[256] = {
    ['+'] = FORM_TEXT,   ['-'] = FORM_TEXT,   [':'] = FORM_TEXT,   ['_'] = FORM_TEXT,
    [','] = FORM_TEXT,   ['#'] = FORM_TEXT,   ['('] = FORM_TEXT,   ['.'] = FORM_TEXT,
    ['$'] = FORM_STRING, ['='] = FORM_STRING, ['!'] = FORM_STRING, ['*'] = FORM_COUNT,
    ['%'] = FORM_COUNT,  ['~'] = FORM_COUNT,  ['>'] = FORM_COUNT,  ['|'] = FORM_COUNT};

/* A value is complete; so may be those around it. */
static void value_ends(struct redis_call *c)
{
    struct redis_replies *r = &c->redis->replies;
    r->phase = SAY_TYPE;
    if (r->capture)
        redis_word_is_known(c);
    while (r->depth > 0) {
        uint64_t *todo = &r->todo[r->depth - 1];
        if (*todo == REDIS_STREAMED || --*todo > 0)
            return;
        r->depth--;
        if (r->attributes & (1U << r->depth)) {
            r->attributes &= ~(1U << r->depth);
            return; /* the value it goes with comes next */
        }
    }
    redis_top_value_ends(c);
}

/* "." after the last element. */
static void stream_ends(struct redis_call *c)
{
    struct redis_replies *r = &c->redis->replies;
    r->todo[r->depth - 1] = 1;
    value_ends(c);
}

/* --- one value ---------------------------------------------------------------------------- */

static void number_begins(struct redis_replies *r, enum redis_reply_phase phase)
{
    r->phase = (uint8_t)phase;
    r->value = 0;
    r->digits = 0;
    r->minus = r->streamed = false;
}

static void aggregate(struct redis_call *c, uint64_t count)
{
    struct redis_replies *r = &c->redis->replies;
    const bool attribute = r->type == '|';
    if (r->minus || (count == 0 && !r->streamed)) {
        r->phase = SAY_TYPE;
        if (!attribute)
            value_ends(c);
        return;
    }
    if (r->depth == REDIS_DEPTH) {
        redis_lose_reply(c);
        return;
    }
    if (attribute)
        r->attributes |= 1U << r->depth;
    if (attribute || r->type == '%')
        count *= 2;
    r->todo[r->depth++] = r->streamed ? REDIS_STREAMED : count;
    r->phase = SAY_TYPE;
}

static void capture(struct redis_replies *r, const uint8_t *p, size_t n)
{
    for (; n > 0 && !r->word_done; p++, n--) {
        if (*p <= ' ' || *p >= 0x7F || r->word_len == REDIS_WORD)
            r->word_done = true;
        else
            r->word[r->word_len++] = *p;
    }
}

void redis_reply_data_ends(struct redis_call *c)
{
    struct redis_replies *r = &c->redis->replies;
    if (r->streamed)
        r->phase = SAY_PART;
    else
        value_ends(c);
}

static void data(struct redis_call *c)
{
    struct redis_replies *r = &c->redis->replies;
    const size_t n = redis_min((size_t)(c->end - c->p), r->left);
    const size_t payload = r->left > 2 ? redis_min(n, r->left - 2) : 0;
    if (r->capture)
        capture(r, c->p, payload);
    r->body += payload;
    c->p += n;
    r->left -= n;
    if (r->left == 0)
        redis_reply_data_ends(c);
}

/* Length or count of the value in hand is read. */
static void number_ends(struct redis_call *c, uint64_t value)
{
    struct redis_replies *r = &c->redis->replies;
    if (form_of[r->type] != FORM_STRING) {
        aggregate(c, value);
    } else if (r->streamed) {
        r->phase = SAY_PART;
    } else if (r->minus) {
        value_ends(c);
    } else {
        r->left = value + 2;
        r->phase = SAY_DATA;
        data(c);
    }
}

/* A line that is nothing but text, or an integer that matters. */
static void text_begins(struct redis_call *c)
{
    struct redis_replies *r = &c->redis->replies;
    number_begins(r, SAY_TEXT);
    if (r->type == ':' && r->depth == 1)
        r->number = 0;
}

/* The answer to SYNC is the snapshot itself: of "$1234" only the line belongs to it. */
static bool is_sync_snapshot(const struct redis *s)
{
    const struct redis_special *front = redis_front(s);
    return s->replies.depth == 0 && s->replies.type == '$' && front && front->kind == KIND_SYNC;
}

/* May a value of this type stand here? */
static bool fits(const struct redis_replies *r, uint8_t type)
{
    if (type == '.')
        return r->depth > 0 && r->todo[r->depth - 1] == REDIS_STREAMED;
    return form_of[type] != FORM_NONE && (type != '>' || r->depth == 0);
}

static void value_begins(struct redis_call *c)
{
    struct redis_replies *r = &c->redis->replies;
    const uint8_t type = *c->p;
    uint64_t value = 0;
    if (!fits(r, type)) {
        redis_reply_nonsense(c);
        return;
    }
    if (!r->begun && !r->open)
        c->begin_at = redis_at(c);
    r->begun = true;
    c->p++;
    r->type = type;
    if (r->depth == 0 && type != '|') {
        redis_top_begins(c, type);
    } else if (r->depth == 1 && r->first && type != '|' && r->attributes == 0) {
        r->first = false;
        if (type == '$' || type == '+' || type == '=')
            redis_capture_begins(r);
        else
            redis_word_is_known(c);
    }
    if (form_of[type] == FORM_TEXT || is_sync_snapshot(c->redis)) {
        text_begins(c);
        return;
    }
    const uint8_t *p = redis_number(c->p, c->end, &value);
    number_begins(r, SAY_NUMBER);
    if (p) {
        c->p = p;
        number_ends(c, value);
    }
}

static void text(struct redis_call *c)
{
    struct redis_replies *r = &c->redis->replies;
    const uint8_t *lf = memchr(c->p, '\n', (size_t)(c->end - c->p));
    const uint8_t *end = lf ? lf : c->end;
    if (r->capture)
        capture(r, c->p, (size_t)(end - c->p));
    if (r->type == ':' && r->depth == 1 && r->digits < 18) {
        const uint8_t *p = c->p;
        for (; p < end && *p >= '0' && *p <= '9' && r->digits < 18; p++, r->digits++)
            r->number = r->number * 10 + (uint64_t)(*p - '0');
        if (p < end)
            r->digits = 18; /* no more of them */
    }
    c->p = lf ? lf + 1 : end;
    if (!lf)
        return;
    if (r->type == '.')
        stream_ends(c);
    else
        value_ends(c);
}

static void number(struct redis_call *c)
{
    struct redis_replies *r = &c->redis->replies;
    while (c->p < c->end) {
        enum redis_digit d = DIGIT_MORE;
        if (*c->p == '?' && r->digits == 0 && !r->minus && !r->streamed) {
            r->streamed = true;
            r->digits = 1;
        } else {
            d = redis_digit(*c->p, &r->value, &r->digits, &r->minus);
        }
        if (d == DIGIT_BAD || r->value >> 59 || (r->streamed && r->value)) {
            redis_reply_nonsense(c);
            return;
        }
        c->p++;
        if (d == DIGIT_DONE) {
            number_ends(c, r->value);
            return;
        }
    }
}

/* ";N" before a part of a streamed string, ";0" behind the last. */
static void part(struct redis_call *c)
{
    struct redis_replies *r = &c->redis->replies;
    if (*c->p != ';') {
        redis_reply_nonsense(c);
        return;
    }
    c->p++;
    number_begins(r, SAY_PART_LENGTH);
    r->streamed = true;
}

static void part_length(struct redis_call *c)
{
    struct redis_replies *r = &c->redis->replies;
    while (c->p < c->end) {
        const enum redis_digit d = redis_digit(*c->p, &r->value, &r->digits, &r->minus);
        if (d == DIGIT_BAD || r->minus || r->value >> 59) {
            redis_reply_nonsense(c);
            return;
        }
        c->p++;
        if (d != DIGIT_DONE)
            continue;
        r->left = r->value + 2;
        r->phase = SAY_DATA;
        if (r->value == 0)
            value_ends(c);
        return;
    }
}

/* --- the common case ---------------------------------------------------------------------- */

/* Where an answer of one line or one string ends, if it is whole in the input; NULL if not. */
static const uint8_t *plain_end(const uint8_t *p, const uint8_t *end, uint64_t *len)
{
    *len = 0;
    if (*p == '$') {
        const uint8_t *text = redis_number(p + 1, end, len);
        if (end - p >= 5 && memcmp(p, "$-1\r\n", 5) == 0)
            return p + 5;
        return text && (uint64_t)(end - text) >= *len + 2 ? text + *len + 2 : NULL;
    }
    if (*p != '+' && *p != ':')
        return NULL;
    if (end - p > 64)
        end = p + 64;
    while (p < end && *p != '\n')
        p++;
    return p < end ? p + 1 : NULL;
}

/*
 * Nothing is special: such an answer is told at once. It says what is_answer() and
 * redis_reply_ends() would, without going through the state.
 */
static bool plain_answer(struct redis_call *c)
{
    struct redis *s = c->redis;
    struct message *m = &c->message;
    uint64_t body = 0;
    const uint8_t *end = plain_end(c->p, c->end, &body);
    if (!end)
        return false;
    redis_settle(c);
    const uint64_t len = (uint64_t)(end - c->p);
    m->part = RESPONSE;
    m->begin = redis_at(c);
    m->head = m->begin + 1;
    m->at = m->begin + len;
    m->wire_bytes = *c->wire + len;
    m->body_bytes = body;
    m->inferred =
        s->replies.inferred || s->requests_lost || s->answers_lost || s->asked == s->answered;
    c->emit(c->to, m);
    c->p = c->mark = end;
    *c->wire = 0;
    redis_answer_passes(s);
    return true;
}

/* Elements of an aggregate that are whole in the input, but for its last. */
static void plain_elements(struct redis_call *c)
{
    struct redis_replies *r = &c->redis->replies;
    uint64_t *todo = &r->todo[r->depth - 1], len = 0;
    if (r->first || *todo == REDIS_STREAMED)
        return;
    while (*todo > 1 && c->p < c->end && (*c->p == '$' || (r->depth > 1 && *c->p == ':'))) {
        const uint8_t *end = plain_end(c->p, c->end, &len);
        if (!end)
            return;
        c->p = end;
        r->body += len;
        --*todo;
    }
}

/* All is answered that was asked before the nonsense: what comes now speaks of that. */
static bool is_refusal(struct redis_call *c)
{
    struct redis *s = c->redis;
    if (!s->refused || s->asked != s->answered || s->replies.begun || s->replies.open)
        return false;
    s->broken = true;
    c->p = c->end;
    return true;
}

static void type(struct redis_call *c)
{
    const struct redis *s = c->redis;
    const struct redis_replies *r = &s->replies;
    if (r->depth > 0) {
        plain_elements(c);
        if (c->p < c->end)
            value_begins(c);
        return;
    }
    if (is_refusal(c))
        return;
    const struct redis_special *front = redis_front(s);
    if (!r->begun && !r->open && !s->monitor) {
        while (!front && plain_answer(c)) {
            if (c->p == c->end || is_refusal(c))
                return;
            front = redis_front(s);
        }
    }
    /* keep-alive of a master that prepares its snapshot */
    if (!r->begun && *c->p == '\n' && front &&
        (front->kind == KIND_PSYNC || front->kind == KIND_SYNC))
        c->p++;
    else
        value_begins(c);
}

void redis_reply_step(struct redis_call *c)
{
    switch ((enum redis_reply_phase)c->redis->replies.phase) {
    case SAY_TYPE:
        type(c);
        break;
    case SAY_TEXT:
        text(c);
        break;
    case SAY_NUMBER:
        number(c);
        break;
    case SAY_DATA:
        data(c);
        break;
    case SAY_PART:
        part(c);
        break;
    case SAY_PART_LENGTH:
        part_length(c);
        break;
    case SAY_LOST:
        redis_look_for_push(c);
        break;
    case SAY_OVER:
        c->p = c->mark = c->end;
        break;
    }
}

/* Behind a gap: a push whose kind was just read (in `word`) goes on with `values` more elements. */
void redis_push_begins_at_word(struct redis_call *c, uint64_t values)
{
    struct redis_replies *r = &c->redis->replies;
    r->begun = true;
    r->as = PUSHED;
    r->depth = 1;
    r->todo[0] = values + 1;
    value_ends(c);
}
