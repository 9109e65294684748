/*
 * redis.c - Redis: RESP2, RESP3 and inline commands; pairing and the interface.
 *
 * In:      connection.c through protocol.h          Out: emit_fn
 * Owns:    nothing; state is struct redis (redis.h)
 * Context: P
 * Failure: BROKEN where Redis itself gives up ("Protocol error"); aggregates nested deeper than
 *          REDIS_DEPTH lose step.
 *
 * Replies come in the order of the commands, pushes between them. Commands that wait are counted;
 * only those whose answer is not one value, or changes what comes after, are remembered one by one.
 */
#include "collector/protocol/redis.h"

/* --- who waits for an answer -------------------------------------------------------------- */

const struct redis_special *redis_front(const struct redis *s)
{
    const struct redis_special *front = &s->specials[0];
    if (s->specials_used && s->asked != s->answered && s->answered - front->first < front->count)
        return front;
    return NULL;
}

/* No room left: its answer is taken for one value, and answers are `inferred` from then on. */
void redis_ask(struct redis *s, enum redis_kind kind, enum redis_class class, uint32_t channels)
{
    const uint32_t number = s->asked++;
    struct redis_special *last = &s->specials[s->specials_used];
    if (kind == KIND_PLAIN || kind == KIND_CONTAINER)
        return;
    if (s->specials_used && last[-1].kind == kind && last[-1].class == class &&
        last[-1].channels == channels && last[-1].first + last[-1].count == number) {
        last[-1].count++;
    } else if (s->specials_used < REDIS_SPECIALS) {
        *last = (struct redis_special){.first = number,
                                       .count = 1,
                                       .channels = channels,
                                       .kind = (uint8_t)kind,
                                       .class = (uint8_t) class};
        s->specials_used++;
    } else {
        s->requests_lost = true;
    }
}

/* The oldest command is answered. */
void redis_answer_passes(struct redis *s)
{
    if (s->asked == s->answered)
        return;
    s->answered++;
    const struct redis_special *front = &s->specials[0];
    if (s->specials_used && s->answered - front->first >= front->count &&
        (int32_t)(s->answered - front->first) > 0) {
        s->specials_used--;
        memmove(s->specials, s->specials + 1, s->specials_used * sizeof *front);
    }
    if (s->asked == s->answered)
        s->answers_lost = false;
}

/* Both directions leave the protocol. What the client sent ahead is told, then nothing more. */
void redis_upgrade(struct redis_call *c)
{
    const struct redis_requests *r = &c->redis->requests;
    if (r->wire > 0 || r->open) {
        const struct message m = {.part = r->open ? REQUEST_END : STRAY,
                                  .wire_bytes = r->wire,
                                  .body_bytes = r->body,
                                  .no_answer = r->open && r->silent,
                                  .inferred = r->inferred,
                                  .truncated = r->open,
                                  .past = true};
        c->emit(c->to, &m);
    }
    redis_tell(c, UPGRADE, redis_at(c));
    c->redis->upgraded = true;
    c->p = c->mark = c->end;
}

/* --- the interface ------------------------------------------------------------------------ */

static inline void begin_call(struct redis_call *c, struct redis *s, enum way way, emit_fn emit,
                              void *to)
{
    static const uint8_t nothing[1];
    struct message *m = &c->message;
    c->redis = s;
    c->replies = (way == IN) != (s->side == SIDE_SERVER);
    c->wire = c->replies ? &s->replies.wire : &s->requests.wire;
    c->start = c->p = c->end = c->mark = nothing;
    c->begin_at = c->skipped = 0;
    c->emit = emit;
    c->to = to;
    m->stream = m->status = 0;
    memset(&m->verb, 0, offsetof(struct message, error) - offsetof(struct message, verb));
    m->error = m->no_answer = m->inferred = m->truncated = m->past = false;
}

/* Nothing more is read of this direction. */
static bool is_broken(const struct redis_call *c)
{
    return c->redis->broken || (c->redis->refused && !c->replies);
}

static enum verdict verdict(const struct redis_call *c)
{
    const struct redis_requests *q = &c->redis->requests;
    const struct redis_replies *a = &c->redis->replies;
    if (is_broken(c))
        return BROKEN;
    if (c->redis->upgraded)
        return OK;
    if (!c->replies) {
        if (q->phase == ASK_LOST)
            return LOST_STEP;
        return q->phase == ASK_START || q->phase == ASK_OVER ? OK : MORE;
    }
    if (a->phase == SAY_LOST)
        return LOST_STEP;
    return a->phase == SAY_OVER || (a->phase == SAY_TYPE && !a->begun && !a->open) ? OK : MORE;
}

static enum verdict redis_feed(void *state, enum way way, const uint8_t *bytes, size_t len,
                               emit_fn emit, void *to)
{
    struct redis *s = state;
    struct redis_call c;
    begin_call(&c, s, way, emit, to);
    if (len == 0 || is_broken(&c) || s->upgraded)
        return verdict(&c);
    c.start = c.p = c.mark = bytes;
    c.end = bytes + len;
    if (c.replies) {
        while (c.p < c.end)
            redis_reply_step(&c);
    } else {
        while (c.p < c.end)
            redis_request_step(&c);
    }
    redis_settle(&c);
    return verdict(&c);
}

static void pass_request(struct redis_call *c, uint64_t *bytes)
{
    struct redis_requests *r = &c->redis->requests;
    uint64_t n = *bytes;
    if (r->phase == ASK_DATA && r->index >= r->wanted) {
        n = r->left < n ? r->left : n;
        r->body += r->left <= 2 ? 0 : n < r->left - 2 ? n : r->left - 2;
        r->left -= n;
    } else if (r->phase != ASK_LOST && r->phase != ASK_OVER) {
        redis_lose_request(c);
    }
    c->skipped += n;
    *bytes -= n;
    r->wire += r->phase == ASK_OVER ? 0 : n;
    if (r->phase == ASK_LOST) {
        r->fragment = true;
        r->line_total = r->star_len = 0;
    }
    if (r->phase != ASK_DATA || r->left > 0)
        return;
    r->index++;
    r->phase = ASK_BULK;
    if (--r->args == 0)
        redis_request_ends(c);
}

static void pass_reply(struct redis_call *c, uint64_t *bytes)
{
    struct redis *s = c->redis;
    struct redis_replies *r = &s->replies;
    uint64_t n = *bytes;
    if (r->phase == SAY_DATA && !(r->capture && r->as == UNDECIDED)) {
        n = r->left < n ? r->left : n;
        r->body += r->left <= 2 ? 0 : n < r->left - 2 ? n : r->left - 2;
        r->word_done = true;
        r->left -= n;
    } else if (r->phase != SAY_LOST && r->phase != SAY_OVER) {
        redis_lose_reply(c);
        if (s->upgraded)
            return;
    }
    c->skipped += n;
    *bytes -= n;
    r->wire += r->phase == SAY_OVER ? 0 : n;
    if (r->phase == SAY_LOST) {
        r->fragment = true;
        r->line_total = 0;
        r->found = 0;
    }
    if (r->phase == SAY_DATA && r->left == 0)
        redis_reply_data_ends(c);
}

static enum verdict redis_skip(void *state, enum way way, uint64_t bytes, emit_fn emit, void *to)
{
    struct redis *s = state;
    struct redis_call c;
    begin_call(&c, s, way, emit, to);
    while (bytes > 0 && !is_broken(&c) && !s->upgraded) {
        if (c.replies)
            pass_reply(&c, &bytes);
        else
            pass_request(&c, &bytes);
    }
    return verdict(&c);
}

static void end_requests(struct redis_call *c)
{
    struct redis_requests *r = &c->redis->requests;
    c->message.truncated = r->phase != ASK_LOST;
    if (r->open) {
        redis_request_ends(c);
    } else if (r->wire > 0) {
        c->message.truncated = false;
        redis_tell(c, STRAY, 0);
    }
    r->wire = 0;
    r->phase = ASK_OVER;
}

static void end_replies(struct redis_call *c)
{
    struct redis *s = c->redis;
    struct redis_replies *r = &s->replies;
    const bool between = r->phase == SAY_TYPE && !r->begun && !r->open;
    if (s->answers_lost && (between || r->phase == SAY_LOST))
        redis_conclude_answers(c);
    c->message.truncated = r->phase != SAY_LOST;
    if (r->open) {
        redis_reply_ends(c);
    } else if (r->wire > 0) {
        c->message.truncated = false;
        redis_tell(c, STRAY, 0);
    }
    r->wire = 0;
    r->phase = SAY_OVER;
}

static enum verdict redis_end(void *state, enum way way, emit_fn emit, void *to)
{
    struct redis *s = state;
    struct redis_call c;
    begin_call(&c, s, way, emit, to);
    if (is_broken(&c) || s->upgraded)
        return verdict(&c);
    if (c.replies && s->replies.phase != SAY_OVER)
        end_replies(&c);
    else if (!c.replies && s->requests.phase != ASK_OVER)
        end_requests(&c);
    return verdict(&c);
}

static uint64_t redis_blind(const void *state, enum way way)
{
    const struct redis *s = state;
    const struct redis_requests *q = &s->requests;
    const struct redis_replies *a = &s->replies;
    if (s->broken || s->upgraded)
        return UINT64_MAX;
    if ((way == IN) == (s->side == SIDE_SERVER)) {
        if (q->phase == ASK_OVER || s->refused)
            return UINT64_MAX;
        return q->phase == ASK_DATA && q->index >= q->wanted ? q->left : 0;
    }
    if (a->phase == SAY_OVER)
        return UINT64_MAX;
    return a->phase == SAY_DATA && !a->capture ? a->left : 0;
}

static void redis_reset(void *state, enum side side)
{
    memset(state, 0, sizeof(struct redis));
    ((struct redis *)state)->side = (uint8_t)side;
}

static bool redis_idle(const void *state)
{
    const struct redis *s = state;
    const struct redis_requests *q = &s->requests;
    const struct redis_replies *a = &s->replies;
    if (q->phase != ASK_START || q->wire > 0 || q->shaky || q->reply != REPLY_ON)
        return false;
    if (a->phase != SAY_TYPE || a->begun || a->open || a->wire > 0 || a->shaky)
        return false;
    return s->asked == s->answered && s->specials_used == 0 && !s->requests_lost &&
           !s->answers_lost && !s->broken && !s->refused && !s->upgraded && !s->monitor &&
           (s->subscribed[0] | s->subscribed[1] | s->subscribed[2]) == 0;
}

const struct protocol protocol_redis = {.name = "redis",
                                        .state_bytes = sizeof(struct redis),
                                        .detect = redis_detect,
                                        .reset = redis_reset,
                                        .feed = redis_feed,
                                        .skip = redis_skip,
                                        .end = redis_end,
                                        .blind = redis_blind,
                                        .idle = redis_idle};
