/*
 * http1.h - the inside of the HTTP/1.x parser: its state and what its files share.
 *
 * In:      http1.c (pairing, content), http1_first.c, http1_head.c, http1_lost.c (bytes unseen, feet found),
 *          http1_detect.c
 * Owns:    nothing; see protocol.h
 * Context: P
 * Source:  RFC 9112 (messages), RFC 9110 (methods, status codes, which answers have content), RFC 1945 for HTTP/0.9
 */
#ifndef SONDE_HTTP1_H
#define SONDE_HTTP1_H

#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif
#include "collector/protocol/protocol.h"

enum {
    HTTP1_TEXT = VERB_MAX + 1 + TARGET_MAX + 16, /* of a request line kept while it is incomplete */
    HTTP1_TAIL = 16,                             /* its last bytes: " HTTP/1.1\r", a few spaces */
    HTTP1_LINE = 96,                             /* of a header line kept while it is incomplete */
    HTTP1_TRACE = 64,
    HTTP1_SPECIALS = 12
};

enum http1_phase {
    HTTP1_START,      /* between messages, perhaps after empty lines */
    HTTP1_FIRST,      /* in the request line or status line */
    HTTP1_FIELDS,     /* in the header */
    HTTP1_COUNTED,    /* `left` bytes of content to come */
    HTTP1_CHUNK_SIZE, /* in the hex digits; `left` is their value so far */
    HTTP1_CHUNK_EXT,  /* behind them, up to LF */
    HTTP1_CHUNK_DATA, /* `left` bytes to come */
    HTTP1_CHUNK_END,  /* before the CR LF behind the data */
    HTTP1_TRAILERS,
    HTTP1_TO_END, /* content ends with the connection, or nobody can tell where */
    HTTP1_HOLD,   /* requests: behind a CONNECT, what follows depends on its answer */
    HTTP1_DEAF,   /* requests: behind an HTTP/0.9 one; bytes are stray */
    HTTP1_LOST,   /* looking for feet, line by line */
    HTTP1_OVER    /* end() was called */
};

enum http1_field { FIELD_OTHER, FIELD_LENGTH, FIELD_CODING, FIELD_TRACE };

/* What the header says of the content's length. */
enum http1_framing {
    FRAMING_LENGTH_SEEN = 1, /* the field was there */
    FRAMING_LENGTH = 2,      /* and `left` has its value */
    FRAMING_CODING = 4,
    FRAMING_CHUNKED = 8, /* the last coding is chunked */
    FRAMING_BAD = 16     /* not to be understood */
};

/* Requests whose answer is framed in its own way. */
enum http1_kind { KIND_PLAIN, KIND_HEAD, KIND_CONNECT, KIND_OLD /* HTTP/0.9 */ };

/* One direction. Request bytes and response bytes never share a line buffer. */
struct http1_flow {
    uint64_t wire,
        body; /* of the message in hand; between messages: of empty lines, of lost bytes */
    uint64_t left;
    uint64_t line_total; /* bytes of the unfinished line so far, `line` or `text` keep some */
    uint8_t phase;
    uint8_t field;   /* of the last header line, for folded ones */
    uint8_t framing; /* enum http1_framing */
    uint8_t digits;  /* of a chunk size; of a request line: length of its method once that ended */
    bool open;       /* its BEGIN was told */
    bool inferred;   /* the message in hand is */
    bool shaky;      /* has lost step before: what does not parse is lost again, not BROKEN */
    bool in_chunks;  /* LOST: inside a chunked body */
    bool in_head;    /* LOST: inside a head that no content follows */
    bool zero_line;  /* LOST: the line before was "0" */
    bool fragment;   /* LOST: the line in hand begins behind a gap */
    uint8_t line[HTTP1_LINE];
};

/* `count` requests in a row, from the one numbered `first`, whose kind is not KIND_PLAIN. */
struct http1_special {
    uint32_t first;
    uint32_t count : 30;
    uint32_t kind : 2;
};

/*
 * Requests are numbered as they begin. Those from `answered` to `asked` wait for their answer;
 * plain ones need no more than that count, the others stand in `specials`.
 */
struct http1 {
    struct http1_flow flow[2]; /* enum http1_role */
    uint32_t asked, answered;
    struct http1_special specials[HTTP1_SPECIALS];
    uint8_t specials_used;
    uint8_t side;
    bool broken, upgraded;
    bool refused;       /* requests are broken: what was asked before is answered still */
    bool requests_lost; /* requests went unseen: answers may belong to them */
    bool answers_lost;  /* answers went unseen: the next request proves them */
    uint8_t verb_len, trace_len;
    uint16_t target_len;
    uint16_t status;
    uint8_t tail[HTTP1_TAIL];
    uint8_t text[HTTP1_TEXT]; /* FIRST: the line so far; FIELDS: method and target; LOST: the line's
                                 end */
    uint8_t trace[HTTP1_TRACE];
};
_Static_assert(sizeof(struct http1) <= PROTOCOL_STATE_MAX, "parser state is bounded");

enum http1_role { REQUESTS, RESPONSES };

/* One call of feed, skip or end. Bytes from `mark` on are not yet in flow->wire. */
struct http1_call {
    struct http1 *http;
    struct http1_flow *flow;
    enum http1_role role;
    const uint8_t *start, *p, *end, *mark;
    uint64_t begin_at;         /* of the message's first byte, 0 when that came earlier */
    bool untold;               /* a request began at begin_at; perhaps it is whole: told then */
    uint64_t skipped;          /* of this call */
    struct slice verb, target; /* while in a request's header: in the input or in `text` */
    emit_fn emit;
    void *to;
    struct message message; /* all zero but what the part in hand needs */
};

#define HTTP1_TCHAR 1
#define HTTP1_FIELD_START 2 /* a header line that begins so may matter */
extern const uint8_t http1_class[256];

static inline bool http1_is_tchar(uint8_t c)
{
    return http1_class[c] & HTTP1_TCHAR;
}

static inline bool http1_is_digit(uint8_t c)
{
    return c >= '0' && c <= '9';
}

static inline bool http1_is_space(uint8_t c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

static inline size_t http1_min(size_t a, uint64_t b)
{
    return b < a ? (size_t)b : a;
}

static inline const uint8_t *http1_find_lf(const uint8_t *p, const uint8_t *end)
{
#ifdef __SSE2__
    const __m128i lf = _mm_set1_epi8('\n');
    for (; end - p >= 16; p += 16) {
        const __m128i block = _mm_loadu_si128((const __m128i *)(const void *)p);
        const int hits = _mm_movemask_epi8(_mm_cmpeq_epi8(block, lf));
        if (hits)
            return p + __builtin_ctz((unsigned)hits);
    }
    for (; p < end; p++)
        if (*p == '\n')
            return p;
    return NULL;
#else
    return p < end ? memchr(p, '\n', (size_t)(end - p)) : NULL;
#endif
}

/*
 * By halves: a slice copied as 16 bytes right after it was written as 8 and 4 waits for the store
 * buffer, 5 ns each time.
 */
static inline void http1_slice(struct slice *to, const uint8_t *at, size_t len)
{
    to->at = at;
    to->len = (uint32_t)len;
}

/* How far the call has come. */
static inline uint64_t http1_at(const struct http1_call *c)
{
    return c->skipped + (uint64_t)(c->p - c->start);
}

static inline void http1_settle(struct http1_call *c)
{
    c->flow->wire += (uint64_t)(c->p - c->mark);
    c->mark = c->p;
}

void http1_tell_begin(struct http1_call *c); /* http1.c: of the request that is `untold` */

static inline void http1_tell(struct http1_call *c, enum part part, uint64_t at)
{
    struct message *m = &c->message;
    if (c->untold)
        http1_tell_begin(c);
    http1_settle(c);
    m->part = part;
    m->at = at;
    m->wire_bytes = c->flow->wire;
    m->body_bytes = c->flow->body;
    m->inferred = c->flow->inferred;
    c->emit(c->to, m);
}

static inline uint32_t http1_outstanding(const struct http1 *s)
{
    return s->asked - s->answered;
}

/* http1.c: pairing, and parts told by more than one file */
enum http1_kind http1_front_kind(const struct http1 *s);
void http1_newest_is(struct http1 *s, enum http1_kind kind);
void http1_answer_passes(struct http1 *s);
void http1_take_back_request(struct http1 *s);
void http1_tell_request_head(struct http1_call *c);
void http1_tell_request(struct http1_call *c); /* whole, without content */
void http1_tell_response(struct http1_call *c, enum part part);
void http1_message_ends(struct http1_call *c);
void http1_upgrade(struct http1_call *c);

/* http1_first.c: steps, and what they are made of */
void http1_start(struct http1_call *c);
void http1_request_first(struct http1_call *c);
void http1_response_first(struct http1_call *c);
void http1_request_opens(struct http1_call *c);
void http1_request_begins(struct http1_call *c, uint64_t at); /* it opens, and is told */
void http1_request_line(struct http1_call *c, const uint8_t *line, const uint8_t *tail,
                        uint64_t total);
void http1_response_begins(struct http1_call *c, unsigned status);
void http1_old_response(struct http1_call *c);
int http1_status(const uint8_t *line, size_t len);
bool http1_is_interim(unsigned status);
bool http1_is_method(const uint8_t *word, size_t len);
enum http1_kind http1_kind_of(struct slice verb);

/* http1_head.c */
void http1_fields(struct http1_call *c);
void http1_keep_head(struct http1_call *c);
void http1_recall_head(struct http1_call *c);
bool http1_finish_line(struct http1_call *c, const uint8_t *lf);
bool http1_has_no_content(const struct http1_call *c);

/* http1_lost.c */
void http1_lose_step(struct http1_call *c);
void http1_look_for_feet(struct http1_call *c);
void http1_conclude_answers(struct http1_call *c);

/* http1_detect.c */
enum verdict http1_detect(enum way way, enum side side, const uint8_t *p, size_t len,
                          uint16_t port);

#endif
