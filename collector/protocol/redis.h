/*
 * redis.h - the inside of the Redis parser (RESP2, RESP3, inline): its state and what its files share.
 *
 * In:      redis.c (pairing, interface), redis_request.c, redis_reply.c, redis_lost.c, redis_detect.c
 * Owns:    nothing; see protocol.h
 * Context: P
 * Source:  https://redis.io/docs/latest/develop/reference/protocol-spec/, RESP3 by
 *          https://github.com/redis/redis-specifications; in doubt redis-server 7.0 was asked
 */
#ifndef SONDE_REDIS_H
#define SONDE_REDIS_H

#include <string.h>
#include "collector/protocol/protocol.h"

enum {
    REDIS_DEPTH = 32, /* of nested aggregates; Redis' own replies need 5 or so */
    REDIS_LINE = 64,  /* kept of an inline command, of a line while looking for feet */
    REDIS_WORD = 31,  /* kept of an error's first word, of a push's kind */
    REDIS_SPECIALS = 16,
    REDIS_MODE = 4 /* kept of CLIENT REPLY's argument */
};

/* Commands whose replies are not one value each, or that change what comes after. */
enum redis_kind {
    KIND_PLAIN,
    KIND_CONTAINER, /* CONFIG, CLIENT …: the next word belongs to the name */
    KIND_SUBSCRIBE, /* the six of them: a reply for each channel */
    KIND_UNSUBSCRIBE,
    KIND_MONITOR,
    KIND_HELLO,
    KIND_RESET,
    KIND_SYNC,
    KIND_PSYNC
};

/* What a subscription is to. */
enum redis_class { TO_CHANNEL, TO_PATTERN, TO_SHARD, CLASSES };

/* `count` requests in a row, from the one numbered `first`, of one kind and with as many channels.
 */
struct redis_special {
    uint32_t first, count, channels;
    uint8_t kind, class;
};

enum redis_request_phase {
    ASK_START, /* between commands, perhaps after empty lines */
    ASK_COUNT, /* behind '*' */
    ASK_BULK,  /* before '$' */
    ASK_LENGTH,
    ASK_DATA, /* `left` bytes, CR LF included */
    ASK_INLINE,
    ASK_LOST,
    ASK_OVER
};

enum redis_reply_mode {
    REPLY_ON,
    REPLY_OFF,
    REPLY_SKIP
}; /* CLIENT REPLY; SKIP: the next command */

struct redis_requests {
    uint64_t wire, body, left;
    uint64_t value; /* of the number in hand */
    uint64_t args;  /* still to come, the one in hand included */
    uint64_t plain; /* a first word, as 8 bytes, that is KIND_PLAIN */
    uint32_t index; /* of the argument in hand */
    uint32_t argc;
    uint8_t phase, digits;
    bool minus;
    bool open, inferred, shaky;
    bool silent;  /* the command in hand gets no answer */
    uint8_t kind; /* enum redis_kind of its first word */
    uint8_t class;
    uint8_t wanted;         /* words of its name; more are not looked at */
    uint8_t reply;          /* enum redis_reply_mode */
    uint8_t quote;          /* inline: in quotes of this kind */
    bool in_word, fragment; /* inline; LOST: the line in hand begins behind a gap */
    uint8_t verb_len, extra_len;
    uint8_t extra[REDIS_MODE];
    uint8_t verb[VERB_MAX + 1];
    uint32_t line_total;
    uint32_t star_len; /* LOST: the line before was "*N", with its LF */
    uint8_t line[REDIS_LINE];
};

enum redis_reply_phase {
    SAY_TYPE,   /* before a value; at depth 0 not open: between replies */
    SAY_TEXT,   /* in a line of text */
    SAY_NUMBER, /* in a length or count */
    SAY_DATA,   /* `left` bytes, CR LF included */
    SAY_PART,   /* before ';' of a streamed string */
    SAY_PART_LENGTH,
    SAY_LOST,
    SAY_OVER
};

enum redis_role_of_value { UNDECIDED, ANSWER, PUSHED };

#define REDIS_STREAMED UINT64_MAX /* an aggregate that ends with '.' */

struct redis_replies {
    uint64_t wire, body, left;
    uint64_t value;
    uint64_t todo[REDIS_DEPTH]; /* values to come on each level, or REDIS_STREAMED */
    uint64_t number;            /* the last integer on level 1: subscriptions left */
    uint32_t attributes;        /* bit: that level is an attribute, which precedes a value */
    uint32_t answers_left;      /* of a SUBSCRIBE: values to come, this one included */
    uint8_t phase, depth, digits;
    uint8_t type, top; /* of the value in hand; of the whole one */
    uint8_t as;        /* enum redis_role_of_value */
    bool minus, streamed;
    bool begun; /* bytes of a value were read */
    bool open, head_told, inferred, shaky, error;
    bool capture, word_done, first;
    uint8_t word_len;
    uint8_t word[REDIS_WORD];
    bool fragment;
    uint8_t found; /* LOST: how much of a published message's beginning was read */
    uint32_t line_total, found_len;
    uint64_t found_count;
    uint8_t line[REDIS_LINE];
};

struct redis {
    struct redis_requests requests;
    struct redis_replies replies;
    uint32_t asked, answered; /* commands with an answer coming are numbered */
    uint8_t side;
    bool broken, upgraded;
    bool refused; /* requests are broken: what was asked before is answered still */
    bool requests_lost, answers_lost;
    bool resp3, monitor;
    uint8_t specials_used;
    uint64_t subscribed[CLASSES];
    struct redis_special specials[REDIS_SPECIALS];
};
_Static_assert(sizeof(struct redis) <= PROTOCOL_STATE_MAX, "parser state is bounded");

struct redis_call {
    struct redis *redis;
    bool replies; /* the direction of this call */
    const uint8_t *start, *p, *end, *mark;
    uint64_t *wire; /* of this direction; bytes from `mark` on are not yet in it */
    uint64_t begin_at;
    uint64_t skipped;
    emit_fn emit;
    void *to;
    struct message message;
};

static inline size_t redis_min(size_t a, uint64_t b)
{
    return b < a ? (size_t)b : a;
}

static inline uint64_t redis_at(const struct redis_call *c)
{
    return c->skipped + (uint64_t)(c->p - c->start);
}

static inline void redis_settle(struct redis_call *c)
{
    *c->wire += (uint64_t)(c->p - c->mark);
    c->mark = c->p;
}

static inline void redis_tell(struct redis_call *c, enum part part, uint64_t at)
{
    struct message *m = &c->message;
    redis_settle(c);
    m->part = part;
    m->at = at;
    m->wire_bytes = *c->wire;
    m->body_bytes = c->replies ? c->redis->replies.body : c->redis->requests.body;
    m->inferred = c->replies ? c->redis->replies.inferred : c->redis->requests.inferred;
    c->emit(c->to, m);
}

static inline uint32_t redis_outstanding(const struct redis *s)
{
    return s->asked - s->answered;
}

/*
 * A number and its CR LF that are whole in the input, as they nearly always are: where they end,
 * NULL if not so. What is unusual goes byte by byte.
 */
static inline const uint8_t *redis_number(const uint8_t *p, const uint8_t *end, uint64_t *value)
{
    uint64_t v = 0;
    const uint8_t *const first = p;
    if (end - p > 9)
        end = p + 9;
    for (; p < end && (unsigned)(*p - '0') < 10; p++)
        v = v * 10 + (uint64_t)(*p - '0');
    if (end - p < 2 || p == first || p[0] != '\r' || p[1] != '\n')
        return NULL;
    *value = v;
    return p + 2;
}

/* The word of the value that comes will tell something. */
static inline void redis_capture_begins(struct redis_replies *r)
{
    r->capture = true;
    r->word_done = false;
    r->word_len = 0;
}

enum redis_digit { DIGIT_MORE, DIGIT_DONE, DIGIT_BAD };

/* One byte of a number in hand: sign, digits, CR, LF. */
static inline enum redis_digit redis_digit(uint8_t c, uint64_t *value, uint8_t *digits, bool *minus)
{
    if (c == '\n')
        return *digits > 0 ? DIGIT_DONE : DIGIT_BAD;
    if (c == '\r')
        return DIGIT_MORE;
    if (c == '-' && *digits == 0 && !*minus) {
        *minus = true;
        return DIGIT_MORE;
    }
    if ((unsigned)(c - '0') >= 10 || *digits >= 18)
        return DIGIT_BAD;
    *value = *value * 10 + (uint64_t)(c - '0');
    ++*digits;
    return DIGIT_MORE;
}

/* redis.c: pairing */
const struct redis_special *redis_front(const struct redis *s);
void redis_ask(struct redis *s, enum redis_kind kind, enum redis_class class, uint32_t channels);
void redis_answer_passes(struct redis *s);
void redis_upgrade(struct redis_call *c);

/* redis_request.c, redis_reply.c: one step each; they consume something or change the phase */
void redis_request_step(struct redis_call *c);
void redis_request_begins(struct redis_call *c);
void redis_request_ends(struct redis_call *c);
void redis_reply_step(struct redis_call *c);
void redis_reply_data_ends(struct redis_call *c);
void redis_push_begins_at_word(struct redis_call *c, uint64_t values);

/* redis_answer.c */
void redis_top_begins(struct redis_call *c, uint8_t type);
void redis_word_is_known(struct redis_call *c);
void redis_top_value_ends(struct redis_call *c);
void redis_reply_ends(struct redis_call *c);
void redis_push_ends(struct redis_call *c);
void redis_tell_reply(struct redis_call *c, enum part part, uint64_t at);

/* redis_lost.c */
void redis_lose_request(struct redis_call *c);
void redis_lose_reply(struct redis_call *c);
void redis_request_nonsense(struct redis_call *c);
void redis_reply_nonsense(struct redis_call *c);
void redis_look_for_command(struct redis_call *c);
void redis_look_for_push(struct redis_call *c);
void redis_conclude_answers(struct redis_call *c);

/* redis_detect.c */
enum redis_kind redis_classify(const uint8_t *word, size_t len, enum redis_class *class);
enum verdict redis_detect(enum way way, enum side side, const uint8_t *p, size_t len,
                          uint16_t port);

#endif
