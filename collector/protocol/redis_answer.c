/*
 * redis_answer.c - what a value that a server sends means: an answer, one of several of an answer,
 * a push.
 *
 * In:      redis_reply.c, redis_lost.c           Out: emit_fn
 * Context: P
 *
 * Most are known by their first byte. In RESP2 with subscriptions an array is known by its first
 * element, in MONITOR a line by its first word, in RESP3 a push that may answer a SUBSCRIBE; until
 * then nothing is told of it.
 */
#include "collector/protocol/redis.h"

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

void redis_top_value_ends(struct redis_call *c)
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
void redis_word_is_known(struct redis_call *c)
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

/* A top value begins (attributes may have come before it). */
void redis_top_begins(struct redis_call *c, uint8_t type)
{
    struct redis *s = c->redis;
    struct redis_replies *r = &s->replies;
    const struct redis_special *front = redis_front(s);
    r->top = type;
    r->error = type == '-' || type == '!';
    if (r->error || (type == '+' && (s->monitor || front)))
        redis_capture_begins(r);
    if (type == '>') {
        s->resp3 = true; /* HELLO may have been said to a state that was dropped since */
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
