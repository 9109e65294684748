/*
 * redis_reply.c - replies and pushes: values of RESP2 and RESP3, nested, streamed.
 *
 * In:      redis.c                               Out: emit_fn
 * Context: P
 *
 * A top value is an answer or a push. Most are known by their first byte; in RESP2 with
 * subscriptions an array is known by its first element, in MONITOR a line by its first word. Until
 * then nothing is told of it.
 */
#include "collector/protocol/redis.h"

/* What follows a type byte. */
enum { FORM_NONE, FORM_TEXT, FORM_STRING, FORM_COUNT };
static const uint8_t form_of[256] = {
    ['+'] = FORM_TEXT,   ['-'] = FORM_TEXT,   [':'] = FORM_TEXT,   ['_'] = FORM_TEXT,
    [','] = FORM_TEXT,   ['#'] = FORM_TEXT,   ['('] = FORM_TEXT,   ['.'] = FORM_TEXT,
    ['$'] = FORM_STRING, ['='] = FORM_STRING, ['!'] = FORM_STRING, ['*'] = FORM_COUNT,
    ['%'] = FORM_COUNT,  ['~'] = FORM_COUNT,  ['>'] = FORM_COUNT,  ['|'] = FORM_COUNT};

/* --- what a first element says ------------------------------------------------------------ */

enum news { NEWS_NONE, NEWS_MESSAGE, NEWS_SUBSCRIBED, NEWS_UNSUBSCRIBED };

static enum news news_of(const struct redis_replies *r, enum redis_class *class)
{
    static const struct {
        const char *word;
        enum news news;
        enum redis_class class;
    } known[] = {{"message", NEWS_MESSAGE, TO_CHANNEL},
                 {"pmessage", NEWS_MESSAGE, TO_PATTERN},
                 {"smessage", NEWS_MESSAGE, TO_SHARD},
                 {"subscribe", NEWS_SUBSCRIBED, TO_CHANNEL},
                 {"psubscribe", NEWS_SUBSCRIBED, TO_PATTERN},
                 {"ssubscribe", NEWS_SUBSCRIBED, TO_SHARD},
                 {"unsubscribe", NEWS_UNSUBSCRIBED, TO_CHANNEL},
                 {"punsubscribe", NEWS_UNSUBSCRIBED, TO_PATTERN},
                 {"sunsubscribe", NEWS_UNSUBSCRIBED, TO_SHARD}};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (strlen(known[i].word) == r->word_len &&
            memcmp(known[i].word, r->word, r->word_len) == 0) {
            *class = known[i].class;
            return known[i].news;
        }
    }
    return NEWS_NONE;
}

static bool is_subscription(const struct redis_special *front)
{
    return front && (front->kind == KIND_SUBSCRIBE || front->kind == KIND_UNSUBSCRIBE);
}

/* This news is what the oldest command without an answer asked for. */
static bool answers_front(const struct redis *s, enum news news, enum redis_class class)
{
    const struct redis_special *front = redis_front(s);
    if (!front || front->class != class)
        return false;
    return (front->kind == KIND_SUBSCRIBE && news == NEWS_SUBSCRIBED) ||
           (front->kind == KIND_UNSUBSCRIBE && news == NEWS_UNSUBSCRIBED);
}

/* The third element told how many subscriptions are left (shards are counted by themselves). */
static void count_subscriptions(struct redis *s, enum redis_class class)
{
    const uint64_t total = s->replies.number;
    uint64_t others = 0;
    if (class != TO_SHARD)
        others = s->subscribed[class == TO_CHANNEL ? TO_PATTERN : TO_CHANNEL];
    s->subscribed[class] = total > others ? total - others : 0;
}

static bool is_subscribed(const struct redis *s)
{
    return (s->subscribed[0] | s->subscribed[1] | s->subscribed[2]) != 0;
}

/* --- parts -------------------------------------------------------------------------------- */

void redis_tell_reply(struct redis_call *c, enum part part, uint64_t at)
{
    const struct redis_replies *r = &c->redis->replies;
    struct message *m = &c->message;
    if (r->error) {
        m->error = true;
        m->error_text.at = r->word;
        m->error_text.len = r->word_len;
    }
    redis_tell(c, part, at);
    m->error = false;
    m->error_text.at = NULL;
    m->error_text.len = 0;
}

static void tell_head(struct redis_call *c)
{
    c->redis->replies.head_told = true;
    redis_tell_reply(c, RESPONSE_HEAD, redis_at(c));
}

/* The value in hand is (part of) an answer. */
static void is_answer(struct redis_call *c)
{
    struct redis *s = c->redis;
    struct redis_replies *r = &s->replies;
    r->as = ANSWER;
    if (r->open)
        return;
    r->open = true;
    r->inferred |= s->requests_lost || s->answers_lost || redis_outstanding(s) == 0;
    redis_tell(c, RESPONSE_BEGIN, c->begin_at);
    if (!r->error)
        tell_head(c);
}

static void value_is_over(struct redis_replies *r)
{
    r->as = UNDECIDED;
    r->begun = r->error = r->capture = r->first = false;
    r->word_len = 0;
    r->number = 0;
    r->depth = 0;
    r->attributes = 0;
    r->phase = SAY_TYPE;
}

/* The answer in hand is complete, or as complete as it will be. */
void redis_reply_ends(struct redis_call *c)
{
    struct redis_replies *r = &c->redis->replies;
    redis_tell_reply(c, RESPONSE_END, redis_at(c));
    value_is_over(r);
    r->wire = r->body = 0;
    r->open = r->head_told = r->inferred = false;
    r->answers_left = 0;
    redis_answer_passes(c->redis);
}

void redis_push_ends(struct redis_call *c)
{
    struct redis_replies *r = &c->redis->replies;
    struct message *m = &c->message;
    const bool line = r->top == '+';
    m->verb.at = line ? (const uint8_t *)"monitor" : r->word;
    m->verb.len = line ? 7 : r->word_len;
    redis_tell(c, PUSH, redis_at(c));
    m->verb.at = NULL;
    m->verb.len = 0;
    value_is_over(r);
    r->wire = r->body = 0;
    r->inferred = false;
}

/* --- a top value ends --------------------------------------------------------------------- */

static bool word_is(const struct redis_replies *r, const char *word)
{
    return strlen(word) == r->word_len && memcmp(word, r->word, r->word_len) == 0;
}

/* What an answered command changes for what comes. True: the connection is a replica's now. */
static bool takes_effect(struct redis *s, enum redis_kind kind)
{
    const struct redis_replies *r = &s->replies;
    const bool ok = r->top == '+' && !r->error;
    if (kind == KIND_HELLO && (r->top == '%' || r->top == '*'))
        s->resp3 = r->top == '%';
    else if (kind == KIND_MONITOR && ok && word_is(r, "OK"))
        s->monitor = true;
    else if (kind == KIND_RESET && ok) {
        s->resp3 = s->monitor = false;
        memset(s->subscribed, 0, sizeof s->subscribed);
    }
    return (kind == KIND_PSYNC && ok) || (kind == KIND_SYNC && r->top == '$');
}

/* One of the values of an answer to a subscription, or the only one of any other. */
static void answer_value_ends(struct redis_call *c)
{
    struct redis *s = c->redis;
    struct redis_replies *r = &s->replies;
    const struct redis_special *front = redis_front(s);
    const enum redis_kind kind = front ? front->kind : KIND_PLAIN;
    enum redis_class class = TO_CHANNEL;
    const enum news news = is_subscription(front) ? news_of(r, &class) : NEWS_NONE;
    if (r->answers_left == 0) {
        uint64_t values = 1;
        if (news != NEWS_NONE)
            values = front->channels ? front->channels : s->subscribed[front->class];
        r->answers_left = values > UINT32_MAX ? UINT32_MAX : values ? (uint32_t)values : 1;
    }
    if (news == NEWS_SUBSCRIBED || news == NEWS_UNSUBSCRIBED)
        count_subscriptions(s, class);
    if (--r->answers_left > 0) {
        value_is_over(r);
        return;
    }
    const bool replica = takes_effect(s, kind);
    redis_reply_ends(c);
    if (replica)
        redis_upgrade(c);
}

static void top_value_ends(struct redis_call *c)
{
    struct redis_replies *r = &c->redis->replies;
    enum redis_class class = TO_CHANNEL;
    if (r->as == UNDECIDED)
        is_answer(c);
    if (r->as == ANSWER) {
        if (!r->head_told)
            tell_head(c);
        answer_value_ends(c);
        return;
    }
    const enum news news = r->top == '+' ? NEWS_NONE : news_of(r, &class);
    if (news == NEWS_SUBSCRIBED || news == NEWS_UNSUBSCRIBED)
        count_subscriptions(c->redis, class);
    redis_push_ends(c);
}

/* The word that was captured decides what its value is. */
static void word_is_known(struct redis_call *c)
{
    const struct redis *s = c->redis;
    struct redis_replies *r = &c->redis->replies;
    enum redis_class class = TO_CHANNEL;
    bool push = false;
    r->capture = false;
    if (r->as != UNDECIDED)
        return;
    const enum news news = news_of(r, &class);
    if (r->top == '+')
        push = r->word_len > 0 && r->word[0] >= '0' && r->word[0] <= '9';
    else if (r->top == '>')
        push = !answers_front(s, news, class);
    else
        push = news == NEWS_MESSAGE || (news != NEWS_NONE && !answers_front(s, news, class));
    if (push)
        r->as = PUSHED;
    else
        is_answer(c);
}

/* A value is complete; so may be those around it. */
static void value_ends(struct redis_call *c)
{
    struct redis_replies *r = &c->redis->replies;
    r->phase = SAY_TYPE;
    if (r->capture)
        word_is_known(c);
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
    top_value_ends(c);
}

/* "." after the last element. */
static void stream_ends(struct redis_call *c)
{
    struct redis_replies *r = &c->redis->replies;
    r->todo[r->depth - 1] = 1;
    value_ends(c);
}

/* --- one value ---------------------------------------------------------------------------- */

static void capture_begins(struct redis_replies *r)
{
    r->capture = true;
    r->word_done = false;
    r->word_len = 0;
}

static void number_begins(struct redis_replies *r, enum redis_reply_phase phase)
{
    r->phase = (uint8_t)phase;
    r->value = 0;
    r->digits = 0;
    r->minus = r->streamed = false;
}

/* A top value begins (attributes may have come before it). */
static void top_begins(struct redis_call *c, uint8_t type)
{
    struct redis *s = c->redis;
    struct redis_replies *r = &s->replies;
    const struct redis_special *front = redis_front(s);
    r->top = type;
    r->error = type == '-' || type == '!';
    if (r->error || (type == '+' && (s->monitor || front)))
        capture_begins(r);
    if (type == '>') {
        r->first = true;
        r->as = is_subscription(front) ? UNDECIDED : PUSHED;
    } else if (type == '*' && !s->resp3 && (is_subscribed(s) || is_subscription(front))) {
        r->first = true;
        if (!is_subscribed(s))
            is_answer(c);
    } else if (type != '+' || !s->monitor) {
        is_answer(c);
    }
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
        top_begins(c, type);
    } else if (r->depth == 1 && r->first && type != '|' && r->attributes == 0) {
        r->first = false;
        if (type == '$' || type == '+' || type == '=')
            capture_begins(r);
        else
            word_is_known(c);
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
    const uint64_t at = redis_at(c), wire = *c->wire, len = (uint64_t)(end - c->p);
    m->inferred =
        s->replies.inferred || s->requests_lost || s->answers_lost || s->asked == s->answered;
    m->part = RESPONSE_BEGIN;
    m->at = at;
    m->wire_bytes = wire + 1;
    m->body_bytes = 0;
    c->emit(c->to, m);
    m->part = RESPONSE_HEAD;
    m->at = at + 1;
    c->emit(c->to, m);
    m->part = RESPONSE_END;
    m->at = at + len;
    m->wire_bytes = wire + len;
    m->body_bytes = body;
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
    const struct redis_special *front = redis_front(s);
    if (!r->begun && !r->open && !s->monitor) {
        while (!front && plain_answer(c)) {
            if (c->p == c->end)
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
