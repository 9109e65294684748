/*
 * protocol.h - what every protocol parser looks like: bytes in, messages out.
 *
 * In:      collector/connection.c feeds the bytes of one connection in stream order, each direction by itself.
 * Owns:    nothing. State is a fixed block of `state_bytes` given by the connection, zeroed before the first call.
 * Context: P (no I/O, no clock, no allocation, no global state)
 *
 * Three laws: any cutting of the input gives the same messages; nothing outside the input is read; state and work are
 * bounded by the input's size. State holds no pointer into old input.
 *
 * Directions are seen from the process that owns the descriptor: IN is what it read, OUT is what it wrote. Whether that
 * end is the server or the client of the protocol is told by `side` at reset (accepted sockets are servers, connected
 * ones clients); a parser reads requests from IN and responses from OUT as a server, and the reverse as a client.
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
 *   LOST_STEP  bytes that held message boundaries were not seen; the parser is looking for its feet and marks what it
 *              emits meanwhile `inferred`
 */
enum verdict { MORE, OK, NOT_MINE, BROKEN, LOST_STEP };

/*
 * The life of an exchange. Per direction the parts arrive in order; REQUEST_BEGIN carries the first byte, REQUEST_HEAD
 * arrives when verb and target are known (slices valid for the call only), REQUEST_END with the last byte of the
 * request. Responses likewise; INTERIM is a 1xx answer (RFC 9110 15.2). UPGRADE: both directions leave the protocol
 * after this point (101, successful CONNECT) and are counted as bytes. PUSH: server data that answers no request
 * (RESP3 push, a published message).
 *
 * Responses are given in the order of their requests (`stream` 0) except for multiplexed protocols, which name theirs.
 * A response to a request whose beginning was not seen is emitted all the same with `inferred`.
 */
enum part { REQUEST_BEGIN, REQUEST_HEAD, REQUEST_END, INTERIM, RESPONSE_BEGIN, RESPONSE_HEAD, RESPONSE_END, UPGRADE, PUSH };

struct slice {
    const uint8_t *at; /* borrowed for the call */
    uint32_t len;
};

/*
 * wire_bytes and body_bytes are those of this message since its BEGIN, head included, as known at this part; the END
 * part has the final ones. The sum of wire_bytes over END (and INTERIM, PUSH) parts of a direction is the number of
 * bytes fed to it, so long as no verdict was BROKEN. `at` is how many bytes of the current feed or skip call had been
 * consumed when the part happened: 0 < at <= len for ENDs, BEGIN has the offset of its first byte.
 */
struct message {
    enum part part;
    uint32_t stream;
    uint32_t status; /* HTTP status; 0 unknown; Redis: 0 */
    uint64_t at;
    uint64_t wire_bytes, body_bytes;
    struct slice verb, target; /* REQUEST_HEAD: method and target, Redis: command (upper case) and empty */
    struct slice error_text;   /* first word of an error reply ("WRONGTYPE"), RESPONSE_HEAD/END */
    bool error;                /* the answer is an error in the protocol's own sense */
    bool no_answer;            /* this request gets no answer (CLIENT REPLY OFF) */
    bool inferred;             /* boundary or order was concluded, not seen */
};

typedef void (*emit_fn)(void *to, const struct message *);

struct protocol {
    const char *name; /* "http", "redis": the name shown and stored */
    uint32_t state_bytes; /* <= PROTOCOL_STATE_MAX */
    /*
     * OK: certainly mine; MORE: could be, wants more bytes; NOT_MINE. `way` is the direction of these first bytes,
     * `port` the server's port (0 unknown) which may only break ties, never decide alone.
     */
    enum verdict (*detect)(enum way, enum side, const uint8_t *, size_t, uint16_t port);
    void (*reset)(void *state, enum side); /* state is zeroed memory */
    enum verdict (*feed)(void *state, enum way, const uint8_t *, size_t, emit_fn, void *to);
    enum verdict (*skip)(void *state, enum way, uint64_t bytes, emit_fn, void *to); /* bytes that passed unseen */
    enum verdict (*end)(void *state, enum way, emit_fn, void *to); /* FIN, reset, or lost for good: no more bytes this way */
    /*
     * How many of the next bytes of this direction the parser need not see (inside a counted body), 0 if it needs all;
     * UINT64_MAX: none any more (upgraded, broken). Sets the capture plan.
     */
    uint64_t (*blind)(const void *state, enum way);
};

#define PROTOCOL_STATE_MAX 1024

extern const struct protocol protocol_http1;
extern const struct protocol protocol_redis;

/* All parsers, NULL at the end, in the order in which detection asks them (protocol/detect.c). */
extern const struct protocol *const protocols[];

#endif
