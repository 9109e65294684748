/*
 * redis_request.c - commands: arrays of bulk strings, inline lines; what answer each will get.
 *
 * In:      redis.c                               Out: emit_fn
 * Context: P
 */
#include "collector/protocol/redis.h"

enum { LONGEST_BULK_BITS = 40 };

/* What a command word is shown as: upper case; what no command has is '?'. */
static const uint8_t shown[256] = {
#define X(c) [c] = c
    X('A'), X('B'), X('C'), X('D'), X('E'), X('F'), X('G'), X('H'), X('I'), X('J'), X('K'),
    X('L'), X('M'), X('N'), X('O'), X('P'), X('Q'), X('R'), X('S'), X('T'), X('U'), X('V'),
    X('W'), X('X'), X('Y'), X('Z'), X('0'), X('1'), X('2'), X('3'), X('4'), X('5'), X('6'),
    X('7'), X('8'), X('9'), X('.'), X('_'), X('-'), X(':'), X('|')
#undef X
};

static uint8_t show(uint8_t c)
{
    const uint8_t upper = c >= 'a' && c <= 'z' ? c - 0x20 : c;
    return shown[upper] ? shown[upper] : '?';
}

/* --- what answer it gets ------------------------------------------------------------------ */

static bool is_client_reply(const struct redis_requests *r)
{
    return r->verb_len == 12 && memcmp(r->verb, "CLIENT REPLY", 12) == 0 && r->argc == 3;
}

static bool extra_is(const struct redis_requests *r, const char *mode)
{
    return strlen(mode) == r->extra_len && memcmp(r->extra, mode, r->extra_len) == 0;
}

/* CLIENT REPLY OFF and SKIP silence all but subscriptions (their answers are pushes) and RESET. */
static bool is_silent(struct redis_requests *r)
{
    if (r->reply == REPLY_ON && r->kind == KIND_PLAIN)
        return false;
    const bool off = r->reply == REPLY_OFF;
    bool silent = r->reply != REPLY_ON;
    if (!off)
        r->reply = REPLY_ON;
    if (is_client_reply(r) && extra_is(r, "ON")) {
        r->reply = REPLY_ON;
        silent = false;
    } else if (is_client_reply(r) && extra_is(r, "OFF")) {
        r->reply = REPLY_OFF;
        silent = true;
    } else if (is_client_reply(r) && extra_is(r, "SKIP") && !off) {
        r->reply = REPLY_SKIP;
        silent = true;
    } else if (r->kind == KIND_RESET && r->argc == 1) {
        r->reply = REPLY_ON;
        silent = false;
    } else if (r->kind == KIND_SUBSCRIBE || r->kind == KIND_UNSUBSCRIBE) {
        silent = false;
    }
    return silent;
}

/* The command's name is known. */
static void head(struct redis_call *c)
{
    struct redis_requests *r = &c->redis->requests;
    struct message *m = &c->message;
    r->wanted = 0;
    r->silent = is_silent(r);
    if (!r->silent)
        redis_ask(c->redis, r->kind, r->class, r->argc - 1);
    m->no_answer = r->silent;
    m->verb.at = r->verb;
    m->verb.len = r->verb_len;
    redis_tell(c, REQUEST_HEAD, redis_at(c));
    m->verb.at = NULL;
    m->verb.len = 0;
    m->no_answer = false;
}

/* The next bytes of argument `index`, which is of the name. */
static void word(struct redis_requests *r, const uint8_t *p, size_t n)
{
    if (r->index == 2) {
        for (; n > 0 && r->extra_len < REDIS_MODE; n--)
            r->extra[r->extra_len++] = show(*p++);
        if (n > 0)
            r->extra[0] = '?'; /* too long: none of them */
        return;
    }
    for (; n > 0 && r->verb_len < VERB_MAX; n--)
        r->verb[r->verb_len++] = show(*p++);
}

/*
 * A first word of up to eight letters, as most are, with eight readable bytes: all at once. False:
 * it has something else in it.
 */
static inline bool is_short_word(const uint8_t *p, size_t n, uint64_t *word)
{
    const uint64_t ones = 0x0101010101010101, high = 0x80 * ones;
    const uint64_t mask = n < 8 ? (UINT64_C(1) << (8 * n)) - 1 : UINT64_MAX;
    uint64_t w;
    memcpy(&w, p, 8);
    w &= mask;
    const uint64_t upper = w & (0xDF * ones);
    /* a byte from 'A' to 'Z' has its top bit set by the first sum and not by the second */
    const uint64_t letters = (upper + (0x80 - 'A') * ones) & ~(upper + (0x7F - 'Z') * ones) & high;
    if ((w & high) || letters != (high & mask))
        return false;
    *word = upper;
    return true;
}

static bool short_word(struct redis_requests *r, const uint8_t *p, size_t n)
{
    uint64_t upper;
    if (!is_short_word(p, n, &upper))
        return false;
    memcpy(r->verb, &upper, 8);
    r->verb_len = (uint8_t)n;
    return true;
}

static void word_ends(struct redis_call *c)
{
    struct redis_requests *r = &c->redis->requests;
    enum redis_class class = TO_CHANNEL;
    if (r->index == 0) {
        r->kind = (uint8_t)redis_classify(r->verb, r->verb_len, &class);
        r->class = (uint8_t) class;
        if (r->kind == KIND_CONTAINER && r->argc > 1) {
            if (r->verb_len < VERB_MAX)
                r->verb[r->verb_len++] = ' ';
            r->wanted = 2;
            return;
        }
    } else if (r->index == 1 && is_client_reply(r)) {
        r->wanted = 3;
        return;
    }
    head(c);
}

/* --- arrays ------------------------------------------------------------------------------- */

void redis_request_begins(struct redis_call *c)
{
    struct redis *s = c->redis;
    struct redis_requests *r = &s->requests;
    const struct redis_replies *a = &s->replies;
    const bool between = a->phase == SAY_LOST || (a->phase == SAY_TYPE && !a->begun && !a->open);
    if (s->answers_lost && between)
        redis_conclude_answers(c);
    if (s->requests_lost && !r->inferred && redis_outstanding(s) == 0 && between)
        s->requests_lost = false;
    r->open = true;
    r->silent = false;
    r->index = r->argc = 0;
    r->verb_len = r->extra_len = 0;
    r->wanted = 1;
    redis_tell(c, REQUEST_BEGIN, c->begin_at);
}

void redis_request_ends(struct redis_call *c)
{
    struct redis_requests *r = &c->redis->requests;
    c->message.no_answer = r->silent;
    redis_tell(c, REQUEST_END, redis_at(c));
    c->message.no_answer = false;
    r->wire = r->body = 0;
    r->open = r->inferred = false;
    r->phase = ASK_START;
}

static void number_begins(struct redis_requests *r, enum redis_request_phase phase)
{
    r->phase = (uint8_t)phase;
    r->value = 0;
    r->digits = 0;
    r->minus = false;
}

/* Arguments, as many as are whole in the input; the rest of one goes step by step. */
static void arguments(struct redis_call *c)
{
    struct redis_requests *r = &c->redis->requests;
    r->phase = ASK_BULK;
    while (r->args > 0) {
        uint64_t len = 0;
        const uint8_t *p = c->p, *data = NULL;
        if (p == c->end)
            return;
        if (*p != '$') {
            redis_request_nonsense(c);
            return;
        }
        data = redis_number(p + 1, c->end, &len);
        if (!data || (uint64_t)(c->end - data) < len + 2) {
            c->p = p + 1;
            number_begins(r, ASK_LENGTH);
            return;
        }
        c->p = data + len + 2;
        if (r->index > 0)
            r->body += len;
        if (r->index < r->wanted) {
            if (r->index > 0 || len == 0 || len > 8 || c->end - data < 8 ||
                !short_word(r, data, len))
                word(r, data, len);
            word_ends(c);
        }
        r->index++;
        r->args--;
    }
    redis_request_ends(c);
}

/* "*N" is read; "*0" and "*-1" are no command, their bytes belong to the next. */
static void counted(struct redis_call *c, uint64_t count)
{
    struct redis_requests *r = &c->redis->requests;
    r->phase = ASK_START;
    if (count == 0)
        return;
    redis_request_begins(c);
    r->args = count;
    r->argc = (uint32_t)count;
    arguments(c);
}

static void read_count(struct redis_call *c)
{
    struct redis_requests *r = &c->redis->requests;
    while (c->p < c->end) {
        const enum redis_digit d = redis_digit(*c->p, &r->value, &r->digits, &r->minus);
        if (d == DIGIT_BAD || r->value > INT32_MAX) {
            redis_request_nonsense(c);
            return;
        }
        c->p++;
        if (d == DIGIT_DONE) {
            counted(c, r->minus ? 0 : r->value);
            return;
        }
    }
}

static void read_length(struct redis_call *c)
{
    struct redis_requests *r = &c->redis->requests;
    while (c->p < c->end) {
        const enum redis_digit d = redis_digit(*c->p, &r->value, &r->digits, &r->minus);
        if (d == DIGIT_BAD || r->minus || r->value >> LONGEST_BULK_BITS) {
            redis_request_nonsense(c);
            return;
        }
        c->p++;
        if (d == DIGIT_DONE) {
            r->left = r->value + 2;
            r->phase = ASK_DATA;
            return;
        }
    }
}

static void data(struct redis_call *c)
{
    struct redis_requests *r = &c->redis->requests;
    const size_t n = redis_min((size_t)(c->end - c->p), r->left);
    const size_t payload = r->left > 2 ? redis_min(n, r->left - 2) : 0;
    if (r->index < r->wanted)
        word(r, c->p, payload);
    if (r->index > 0)
        r->body += payload;
    c->p += n;
    r->left -= n;
    if (r->left > 0)
        return;
    if (r->index < r->wanted)
        word_ends(c);
    r->index++;
    r->args--;
    arguments(c);
}

/* --- the common case ---------------------------------------------------------------------- */

/* Behind `count` arguments that are whole in the input; NULL: they are not, or are none. */
static inline const uint8_t *plain_arguments(const uint8_t *p, const uint8_t *end, uint64_t count,
                                             uint64_t *body)
{
    for (; count > 0; count--) {
        uint64_t len = 0;
        const uint8_t *data = p < end && *p == '$' ? redis_number(p + 1, end, &len) : NULL;
        if (!data || (uint64_t)(end - data) < len + 2)
            return NULL;
        *body += len;
        p = data + len + 2;
    }
    return p;
}

/* No command that redis_classify() knows; the last one that was none is remembered. */
static inline bool is_plain(struct redis_requests *r, uint64_t word, size_t len)
{
    enum redis_class class;
    uint8_t verb[8];
    if (word == r->plain)
        return true;
    memcpy(verb, &word, 8);
    if (redis_classify(verb, len, &class) != KIND_PLAIN)
        return false;
    r->plain = word;
    return true;
}

/*
 * Nothing is special: such a command is told at once. It says what counted() and arguments() would,
 * without going through the state.
 */
static bool plain_command(struct redis_call *c)
{
    struct redis *s = c->redis;
    struct redis_requests *r = &s->requests;
    struct message *m = &c->message;
    uint64_t count = 0, len = 0, body = 0, word;
    const uint8_t *p = redis_number(c->p + 1, c->end, &count);
    if (!p || count == 0 || p == c->end || *p != '$')
        return false;
    const uint8_t *text = redis_number(p + 1, c->end, &len);
    if (!text || len == 0 || len > 8 || c->end - text < 10 || !is_short_word(text, len, &word) ||
        !is_plain(r, word, len))
        return false;
    const uint8_t *head = text + len + 2, *end = plain_arguments(head, c->end, count - 1, &body);
    if (!end)
        return false;
    redis_settle(c);
    s->asked++;
    m->part = REQUEST;
    m->begin = redis_at(c);
    m->head = m->begin + (uint64_t)(head - c->p);
    m->at = m->begin + (uint64_t)(end - c->p);
    m->wire_bytes = *c->wire + (uint64_t)(end - c->p);
    m->body_bytes = body;
    m->inferred = false;
    m->verb.at = (const uint8_t *)&word;
    m->verb.len = (uint32_t)len;
    c->emit(c->to, m);
    m->verb.at = NULL;
    m->verb.len = 0;
    c->p = c->mark = end;
    *c->wire = 0;
    return true;
}

/* --- inline ------------------------------------------------------------------------------- */

static bool is_blank(uint8_t c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* Counts the words as they come; quotes hold blanks. */
static void count_words(struct redis_requests *r, const uint8_t *p, const uint8_t *end)
{
    for (; p < end; p++) {
        if (r->quote) {
            r->quote = *p == r->quote ? 0 : r->quote;
            continue;
        }
        if (*p == '"' || *p == '\'')
            r->quote = *p;
        if (is_blank(*p)) {
            r->in_word = false;
        } else if (!r->in_word) {
            r->in_word = true;
            r->argc++;
        }
    }
}

/* The name's words, from what is kept of the line. */
static void name_from_line(struct redis_call *c, const uint8_t *p, const uint8_t *end)
{
    struct redis_requests *r = &c->redis->requests;
    for (r->index = 0; r->index < r->wanted; r->index++) {
        uint8_t quote = 0;
        while (p < end && is_blank(*p))
            p++;
        for (; p < end && (quote || !is_blank(*p)); p++) {
            if (quote ? *p == quote : *p == '"' || *p == '\'')
                quote = quote ? 0 : *p;
            else
                word(r, p, 1);
        }
        word_ends(c);
    }
}

/* What HTTP clients say to a Redis port: Redis closes, without an answer. */
static bool is_http(const struct redis_requests *r)
{
    return r->verb_len == 5 && memcmp(r->verb, "HOST:", 5) == 0;
}

static void inline_line(struct redis_call *c)
{
    struct redis_requests *r = &c->redis->requests;
    const uint8_t *lf = memchr(c->p, '\n', (size_t)(c->end - c->p));
    const size_t n = (size_t)((lf ? lf : c->end) - c->p);
    const uint8_t *line = c->p;
    count_words(r, line, line + n);
    if (!lf || r->line_total > 0) {
        if (r->line_total < REDIS_LINE)
            memcpy(r->line + r->line_total, line, redis_min(n, REDIS_LINE - r->line_total));
        line = r->line;
    }
    r->line_total = r->line_total + n < REDIS_LINE ? r->line_total + (uint32_t)n : REDIS_LINE;
    c->p += n + (lf ? 1 : 0);
    if (!lf)
        return;
    name_from_line(c, line, line + r->line_total);
    if (is_http(r))
        redis_request_nonsense(c);
    else
        redis_request_ends(c);
}

static void start(struct redis_call *c)
{
    const struct redis *s = c->redis;
    struct redis_requests *r = &c->redis->requests;
    while (is_blank(*c->p))
        if (++c->p == c->end)
            return;
    if (*c->p == '*' && r->reply == REPLY_ON && !r->inferred && !s->answers_lost &&
        !s->requests_lost && plain_command(c))
        return;
    c->begin_at = redis_at(c);
    if (*c->p == '*') {
        uint64_t count = 0;
        const uint8_t *p = redis_number(c->p + 1, c->end, &count);
        c->p = p ? p : c->p + 1;
        if (p)
            counted(c, count);
        else
            number_begins(r, ASK_COUNT);
    } else if (*c->p > ' ' && *c->p < 0x7F) {
        redis_request_begins(c);
        r->phase = ASK_INLINE;
        r->line_total = 0;
        r->quote = 0;
        r->in_word = false;
        inline_line(c);
    } else {
        redis_request_nonsense(c);
    }
}

void redis_request_step(struct redis_call *c)
{
    switch ((enum redis_request_phase)c->redis->requests.phase) {
    case ASK_START:
        while (c->p < c->end && c->redis->requests.phase == ASK_START)
            start(c);
        break;
    case ASK_COUNT:
        read_count(c);
        break;
    case ASK_BULK:
        arguments(c);
        break;
    case ASK_LENGTH:
        read_length(c);
        break;
    case ASK_DATA:
        data(c);
        break;
    case ASK_INLINE:
        inline_line(c);
        break;
    case ASK_LOST:
        redis_look_for_command(c);
        break;
    case ASK_OVER:
        c->p = c->mark = c->end;
        break;
    }
}
