/*
 * redis_lost.c - bytes that held message boundaries went unseen: losing step, finding feet.
 *
 * In:      redis.c, redis_request.c, redis_reply.c          Out: emit_fn
 * Context: P
 *
 * Commands are found by "*N" and "$N" in two lines, published messages and pushes by their first
 * three, MONITOR's by its time stamp. Replies have no such mark: the next command proves that they
 * ended.
 */
#include "collector/protocol/redis.h"

void redis_lose_request(struct redis_call *c)
{
    struct redis_requests *r = &c->redis->requests;
    c->redis->requests_lost = true;
    r->inferred = r->open;
    r->phase = ASK_LOST;
    r->shaky = r->fragment = true;
    r->line_total = r->star_len = 0;
}

/* The connection is a replica's from here on: what it gets is no reply. */
static bool is_snapshot(const struct redis *s)
{
    const struct redis_special *front = redis_front(s);
    return front && (front->kind == KIND_PSYNC || front->kind == KIND_SYNC);
}

void redis_lose_reply(struct redis_call *c)
{
    struct redis *s = c->redis;
    struct redis_replies *r = &s->replies;
    s->answers_lost = true;
    if (is_snapshot(s)) {
        r->inferred = true;
        if (!r->open)
            redis_tell(c, RESPONSE_BEGIN, c->begin_at);
        redis_reply_ends(c);
        redis_upgrade(c);
        return;
    }
    if (r->open && !r->head_told) {
        r->inferred = true;
        redis_tell_reply(c, RESPONSE_HEAD, redis_at(c));
        r->head_told = true;
    }
    r->inferred = r->open;
    r->phase = SAY_LOST;
    r->shaky = r->fragment = true;
    r->line_total = r->found_len = 0;
    r->found = 0;
    r->depth = 0;
    r->attributes = 0;
    r->begun = r->capture = r->first = false;
    r->as = UNDECIDED;
}

void redis_request_nonsense(struct redis_call *c)
{
    if (c->redis->requests.shaky) {
        redis_lose_request(c);
        return;
    }
    c->redis->refused = true;
    c->p = c->end;
}

void redis_reply_nonsense(struct redis_call *c)
{
    if (c->redis->replies.shaky) {
        redis_lose_reply(c);
        return;
    }
    c->redis->broken = true;
    c->p = c->end;
}

/* --- finding feet ------------------------------------------------------------------------- */

/*
 * The next line, by its first REDIS_LINE bytes: from the input if it is whole there, else from
 * `kept`. NULL: it does not end in this input. *total counts it with its LF.
 */
static const uint8_t *next_line(struct redis_call *c, uint8_t *kept, uint32_t *line_total,
                                uint64_t *total)
{
    const uint8_t *line = c->p;
    const uint8_t *lf = memchr(line, '\n', (size_t)(c->end - line));
    const size_t n = (size_t)((lf ? lf : c->end) - line);
    const uint64_t all = (uint64_t)*line_total + n;
    if (!lf || *line_total > 0) {
        if (*line_total < REDIS_LINE)
            memcpy(kept + *line_total, line, redis_min(n, REDIS_LINE - *line_total));
        line = kept;
    }
    c->p += n + (lf ? 1 : 0);
    *line_total = lf ? 0 : (uint32_t)redis_min(UINT32_MAX, all);
    *total = all + 1;
    return lf ? line : NULL;
}

/* "<type>digits" with its CR and nothing else. */
static bool is_count(const uint8_t *line, uint64_t total, uint8_t type, uint64_t *value)
{
    uint64_t v = 0;
    if (total < 4 || total > 11 || line[0] != type || line[total - 2] != '\r')
        return false;
    for (uint64_t i = 1; i < total - 2; i++) {
        if (line[i] < '0' || line[i] > '9')
            return false;
        v = v * 10 + (uint64_t)(line[i] - '0');
    }
    *value = v;
    return true;
}

static void stand_up_at(struct redis_call *c, uint64_t len)
{
    c->begin_at = redis_at(c) >= len ? redis_at(c) - len : 0;
}

static void command_found(struct redis_call *c, uint64_t len, uint64_t argc, uint64_t first)
{
    struct redis_requests *r = &c->redis->requests;
    redis_settle(c);
    r->wire -= len;
    r->inferred = true;
    if (r->open)
        redis_request_ends(c);
    else if (r->wire > 0)
        redis_tell(c, STRAY, redis_at(c));
    r->wire = len;
    r->body = 0;
    r->inferred = true;
    stand_up_at(c, len);
    redis_request_begins(c);
    r->args = argc;
    r->argc = (uint32_t)argc;
    r->left = first + 2;
    r->phase = ASK_DATA;
}

void redis_look_for_command(struct redis_call *c)
{
    struct redis_requests *r = &c->redis->requests;
    while (c->p < c->end && r->phase == ASK_LOST) {
        uint64_t total = 0, value = 0;
        const uint8_t *line = next_line(c, r->line, &r->line_total, &total);
        if (!line)
            return;
        if (r->star_len > 0 && is_count(line, total, '$', &value)) {
            command_found(c, r->star_len + total, r->value, value);
            return;
        }
        r->star_len = 0;
        if (is_count(line, total, '*', &value) && value > 0) {
            r->star_len = (uint32_t)total;
            r->value = value;
        }
    }
}

static void push_found(struct redis_call *c, uint64_t len)
{
    struct redis_replies *r = &c->redis->replies;
    redis_settle(c);
    r->wire -= len;
    r->inferred = true;
    if (r->open)
        redis_reply_ends(c);
    else if (r->wire > 0)
        redis_tell(c, STRAY, redis_at(c));
    r->wire = len;
    r->body = 0;
    r->inferred = true;
    r->error = r->head_told = false;
    stand_up_at(c, len);
}

static bool is_published(const uint8_t *word, size_t len)
{
    static const char *const kinds[] = {"message", "pmessage", "smessage", "invalidate"};
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (strlen(kinds[i]) == len && memcmp(kinds[i], word, len) == 0)
            return true;
    return false;
}

/* "+1700000000.123456 [0 127.0.0.1:…", a line of MONITOR. */
static bool is_monitor_line(const uint8_t *line, uint64_t total)
{
    if (total < 22 || line[0] != '+' || line[11] != '.' || line[18] != ' ' || line[19] != '[')
        return false;
    for (int i = 1; i < 18; i++)
        if (i != 11 && (line[i] < '0' || line[i] > '9'))
            return false;
    return true;
}

/* The second and third line of a push: the length of its kind, and the kind. */
static void look_further(struct redis_call *c, const uint8_t *line, uint64_t total)
{
    struct redis_replies *r = &c->redis->replies;
    uint64_t value = 0;
    if (r->found == 1 && is_count(line, total, '$', &value)) {
        r->left = value;
        r->found_len += (uint32_t)total;
        r->found = 2;
        return;
    }
    if (r->found == 2 && total == r->left + 2 && total < REDIS_WORD &&
        is_published(line, (size_t)r->left)) {
        uint8_t word[REDIS_WORD];
        const size_t len = (size_t)r->left;
        memcpy(word, line, len);
        push_found(c, r->found_len + total);
        memcpy(r->word, word, len);
        r->word_len = (uint8_t)len;
        redis_push_begins_at_word(c, r->found_count - 1);
    }
    r->found = 0;
}

static bool reads_pushes(const struct redis *s, uint8_t type)
{
    if (type == '>')
        return true;
    return !s->resp3 && (s->subscribed[0] | s->subscribed[1] | s->subscribed[2]) != 0;
}

void redis_look_for_push(struct redis_call *c)
{
    struct redis *s = c->redis;
    struct redis_replies *r = &s->replies;
    while (c->p < c->end && r->phase == SAY_LOST) {
        uint64_t total = 0, value = 0;
        const uint8_t *line = next_line(c, r->line, &r->line_total, &total);
        if (!line)
            return;
        const bool fragment = r->fragment;
        r->fragment = false;
        if (r->found > 0)
            look_further(c, line, total);
        if (r->phase != SAY_LOST || r->found > 0)
            continue;
        if (s->monitor && !fragment && is_monitor_line(line, total)) {
            push_found(c, total);
            r->top = '+';
            r->as = PUSHED;
            r->depth = 0;
            redis_push_ends(c);
        } else if (reads_pushes(s, line[0]) && is_count(line, total, line[0], &value) &&
                   value > 1 && (line[0] == '>' || line[0] == '*')) {
            r->found = 1;
            r->found_len = (uint32_t)total;
            r->found_count = value;
            r->top = line[0];
        }
    }
}

/* --- answers that must have ended --------------------------------------------------------- */

static void tell_past(struct redis_call *c, struct message m, enum part part)
{
    m.part = part;
    m.inferred = m.past = true;
    c->emit(c->to, &m);
}

/* What a command whose answer was not seen has most likely changed. */
static void assume_effect(struct redis *s)
{
    const struct redis_special *front = redis_front(s);
    if (!front)
        return;
    uint64_t *subscribed = &s->subscribed[front->class];
    if (front->kind == KIND_SUBSCRIBE)
        *subscribed += front->channels;
    else if (front->kind == KIND_UNSUBSCRIBE)
        *subscribed -=
            front->channels && front->channels < *subscribed ? front->channels : *subscribed;
    else if (front->kind == KIND_MONITOR)
        s->monitor = true;
    else if (front->kind == KIND_RESET) {
        s->resp3 = s->monitor = false;
        memset(s->subscribed, 0, sizeof s->subscribed);
    }
}

/*
 * A command begins (or the reply direction ended) while answers are missing: every command before
 * it was answered. The bytes that passed are divided among them, the rest to the first.
 */
void redis_conclude_answers(struct redis_call *c)
{
    struct redis *s = c->redis;
    struct redis_replies *r = &s->replies;
    const uint64_t waiting = redis_outstanding(s);
    const uint64_t count = waiting ? waiting : r->open;
    if (count == 0 && r->wire > 0)
        tell_past(c, (struct message){.wire_bytes = r->wire}, STRAY);
    for (uint64_t i = 0; i < count; i++) {
        struct message m = {.wire_bytes = r->wire / count + (i == 0 ? r->wire % count : 0)};
        if (i == 0 && r->open) {
            m.error = r->error;
            m.error_text = (struct slice){r->error ? r->word : NULL, r->error ? r->word_len : 0};
            m.body_bytes = r->body < m.wire_bytes ? r->body : m.wire_bytes;
        } else {
            tell_past(c, (struct message){0}, RESPONSE_BEGIN);
        }
        tell_past(c, m, RESPONSE_END);
        assume_effect(s);
        redis_answer_passes(s);
    }
    r->wire = r->body = 0;
    r->line_total = 0;
    r->answers_left = 0;
    r->word_len = 0;
    r->phase = SAY_TYPE;
    r->open = r->head_told = r->inferred = r->error = false;
    r->shaky = true;
    s->answers_lost = false;
}
