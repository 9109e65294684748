/*
 * protocol.h - what every protocol parser looks like: bytes in, messages out.
 *
 * In:      collector/connection.c feeds the bytes of one connection in stream order, each direction by itself.
 * Owns:    nothing. State is a fixed block of `state_bytes` given by the connection, zeroed before the first call.
 * Context: P (no I/O, no clock, no allocation, no global state)
 *
 * Three laws: any cutting of the input gives the same messages; nothing outside the input is read;
 * state and work are bounded by the input's size. State holds no pointer into old input.
 *
 * Directions are seen from the process that owns the descriptor: IN is what it read, OUT is what it
 * wrote. Whether that end is the server or the client of the protocol is told by `side` at reset
 * (accepted sockets are servers, connected ones clients); a parser reads requests from IN and
 * responses from OUT as a server, and the reverse as a client.
 */
#ifndef SONDE_PROTOCOL_H
#define SONDE_PROTOCOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum way { IN, OUT };
enum side { SIDE_SERVER, SIDE_CLIENT };

/*
 * What a parser says of the bytes it was given.
 *   MORE       all consumed, in the middle of something; feed on
 *   OK         all consumed, at a message boundary in this direction
 *   NOT_MINE   (detect) these bytes are of another protocol
 *   BROKEN     a grammar violation: the connection is only counted from here on
 *   LOST_STEP  bytes that held message boundaries were not seen; the parser is looking for its feet
 * and marks what it emits meanwhile `inferred`
 */
enum verdict { MORE, OK, NOT_MINE, BROKEN, LOST_STEP };

/*
 * The life of an exchange. Per direction the parts arrive in order:
 *
 *   requests    REQUEST_BEGIN  REQUEST_HEAD  REQUEST_END
 *   responses   INTERIM*  RESPONSE_BEGIN  RESPONSE_HEAD  RESPONSE_END  UPGRADE?
 *
 * REQUEST_BEGIN is told with the first byte of a request (empty lines before it belong to it, but
 * do not begin it), REQUEST_HEAD when the head is complete, REQUEST_END with its last byte.
 * RESPONSE_BEGIN is told once the answer is known not to be an INTERIM (1xx but 101, RFC 9110 15.2)
 * nor a PUSH. UPGRADE: both directions leave the protocol after this point (101, successful
 * CONNECT, replication) and are counted as bytes; it follows its RESPONSE_END. PUSH: server data
 * that answers no request (RESP3 push, a published message, a line of MONITOR), told at its end;
 * `verb` names its kind. STRAY: bytes of a direction that belong to no message (empty lines after
 * the last one, bytes that passed while the parser had lost step between messages).
 *
 * A message that began and ended in this call may be told as one part in the place of its three:
 * REQUEST (BEGIN, HEAD, END) or RESPONSE. It says what its END would, and HEAD's fields; `begin` and
 * `head` are the `at` of the other two.
 *
 * HEAD may be missing where END is told: the head was never complete (`truncated`) or never seen
 * (`inferred`).
 *
 * Responses are given in the order of their requests (`stream` 0) except for multiplexed protocols,
 * which name theirs. An answer may come before its request's END, and before its HEAD. A response
 * to a request whose beginning was not seen is told all the same, `inferred`. Requests that nobody
 * answers are left to the caller when the connection ends; those with `no_answer` have none coming.
 *
 * Lost step. skip() beyond what is known to hold no boundary, or on a fresh state (joining a
 * connection under way: skip each direction by its stream offset first), loses step in that
 * direction; the verdict is LOST_STEP until it is found again.
 *
 * 1. A message that was open stays open and takes the bytes; when the parser is on its feet again
 *    it is ended, `inferred`.
 *
 * 2. Feet are found by content: the next request line, status line or last chunk (HTTP), the next
 *    command or published message (Redis). What is found so is `inferred`.
 *
 * 3. While the response direction is lost (or has found its feet with answers missing), the next
 *    REQUEST_BEGIN proves that older requests were answered: every one without an answer gets its
 *    RESPONSE_END just before that REQUEST_BEGIN, from the call that fed the *request*; `inferred`
 *    and `past` are set, `at` is 0, the bytes that passed are divided among them, a RESPONSE_HEAD
 *    is missing (status 0) where it was not seen. `past` says that it happened before this call, at
 *    the latest with the last bytes of its own direction: take that time. A client that sends on
 *    without waiting makes this premature; its later answers are then told as `inferred` ones
 *    without a request, and the pairing is right again as soon as nothing is outstanding.
 *
 * 4. end() of the response direction proves the same.
 */
enum part {
    REQUEST_BEGIN,
    REQUEST_HEAD,
    REQUEST_END,
    INTERIM,
    RESPONSE_BEGIN,
    RESPONSE_HEAD,
    RESPONSE_END,
    UPGRADE,
    PUSH,
    STRAY,
    REQUEST, /* whole */
    RESPONSE
};

struct slice {
    const uint8_t *at; /* borrowed for the call */
    uint32_t len;
};

/* Longer ones are cut to these; a longer HTTP method is none. */
#define VERB_MAX 31
#define TARGET_MAX 400
#define ERROR_TEXT_MAX 31

/*
 * wire_bytes and body_bytes are those of this message, head included; told where bytes end: END,
 * INTERIM, PUSH, STRAY, REQUEST, RESPONSE. Per direction the sum of wire_bytes over those parts,
 * once end() was called, is the number of bytes fed and skipped before UPGRADE, so long as no
 * verdict was BROKEN.
 *
 * `at` is how many bytes of the current feed or skip call had been consumed when the part happened:
 * 0 < at <= len for HEADs and ENDs; BEGIN has the offset of its first byte, 0 when that came in an
 * earlier call.
 *
 * body_bytes: HTTP: content without the framing of chunks. Redis: payloads of bulk strings, the
 * command word excepted.
 */
struct message {
    enum part part;
    uint32_t stream;
    uint32_t status; /* INTERIM, RESPONSE_HEAD, RESPONSE_END: HTTP status; 0 unknown or Redis */
    uint64_t at, begin, head; /* the latter two: REQUEST, RESPONSE */
    uint64_t wire_bytes, body_bytes;
    /* REQUEST_HEAD: method and target; Redis: command in upper case, none. PUSH: its kind */
    struct slice verb, target;
    struct slice trace;      /* REQUEST_HEAD, HTTP: value of traceparent, empty if none */
    struct slice error_text; /* RESPONSE_HEAD, _END: first word of an error reply ("WRONGTYPE") */
    bool error;     /* RESPONSE_HEAD, _END: HTTP server >= 500, client >= 400; Redis error */
    bool no_answer; /* REQUEST_HEAD, _END: it gets no answer (CLIENT REPLY OFF) */
    bool inferred;  /* boundary or order was concluded, not seen */
    bool truncated; /* _END: end() came before the message was complete */
    bool past;      /* happened before this call: see "Lost step" */
};

typedef void (*emit_fn)(void *to, const struct message *);

struct protocol {
    const char *name;     /* "http", "redis": the name shown and stored */
    uint32_t state_bytes; /* <= PROTOCOL_STATE_MAX */
    /*
     * OK: certainly mine; MORE: could be, wants more bytes; NOT_MINE. `way` is the direction of
     * these first bytes, `port` the server's port (0 unknown) which may only break ties, never
     * decide alone.
     */
    enum verdict (*detect)(enum way, enum side, const uint8_t *, size_t, uint16_t port);
    void (*reset)(void *state, enum side); /* state is zeroed memory */
    enum verdict (*feed)(void *state, enum way, const uint8_t *, size_t, emit_fn, void *to);
    /* bytes that passed unseen */
    enum verdict (*skip)(void *state, enum way, uint64_t bytes, emit_fn, void *to);
    /* FIN, reset, or lost for good: no more bytes this way */
    enum verdict (*end)(void *state, enum way, emit_fn, void *to);
    /*
     * How many of the next bytes of this direction the parser need not see (inside a counted body),
     * 0 if it needs all; UINT64_MAX: none any more (upgraded, broken). Sets the capture plan.
     */
    uint64_t (*blind)(const void *state, enum way);
    /*
     * Nothing is in progress, and reset() would make a state that reads on just as well: idle
     * connections then give theirs back. NULL: only a state that equals a fresh one byte by byte.
     */
    bool (*idle)(const void *state);
};

#define PROTOCOL_STATE_MAX 1024

extern const struct protocol protocol_http1;
extern const struct protocol protocol_redis;

/* All parsers, NULL at the end, in the order in which detection asks them (protocol/detect.c). */
extern const struct protocol *const protocols[];

#endif
