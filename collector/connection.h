/*
 * connection.h - every stream connection by its id: who holds it, how far its streams are, who reads it.
 *
 * In:      pipeline.c (items)        Out: span.c (messages), activity.c (who touched what), feedback (plans, questions)
 * Owns:    the table of connections, parser states, held bytes, listeners, what is unread.
 * Context: C
 * Failure: at a bound the longest idle makes room, counted in bound_connections; no parser state: only counted.
 *
 *   connection.c  the table, what each event means      stream.c    bytes in order, detection, parsers
 *   holder.c      dup, fork, close, death               unread.c    what could not be read, by address
 */
#ifndef SONDE_CONNECTION_H
#define SONDE_CONNECTION_H

#include "collector/activity.h"
#include "collector/image.h"
#include "collector/order.h"
#include "collector/protocol/protocol.h"
#include "collector/span.h"
#include "wire/options.h"

enum origin {
    ORIGIN_CONNECTING, /* under way: counts once it was used */
    ORIGIN_UNSURE,     /* perhaps a file or pipe: counts once /proc said stream */
    ORIGIN_IGNORED,    /* it is no stream */
    ORIGIN_ACCEPTED,
    ORIGIN_OPENED,
    ORIGIN_INHERITED,
    ORIGIN_GUESSED, /* its beginning was lost or late: inherited until told better */
    ORIGIN_RETURNED /* made room at the bound and came back: counted before */
};

enum reading {
    READING_UNDECIDED, /* which protocol, perhaps with held bytes */
    READING_PARSER,
    READING_LATE, /* joined under way: the parser is chosen when a message begins */
    READING_NONE  /* only counted */
};

struct address { /* of an internet socket, else of length 0 */
    uint8_t length;
    uint8_t at[28]; /* struct sockaddr_in, sockaddr_in6 */
};

struct holder {
    struct image *image;     /* NULL: unused */
    uint32_t next, previous; /* 2 * slot + which, 0 none (slots count from 1) */
    uint32_t descriptors;
};

struct connection {
    uint64_t id;
    uint64_t position[2];     /* bytes of both ways since it was first seen: what `connections` counts */
    uint64_t shift[2];        /* position = event's offset + shift, for events of offset_image */
    uint32_t offset_image[2]; /* process whose offsets these are */
    uint32_t thread, lane;    /* of its last data event */
    uint32_t gaps;            /* of that lane then */
    uint32_t parser;          /* state block, 0 none */
    uint8_t origin, reading;
    uint8_t broken;      /* bit per way: the parser gave up */
    uint8_t ended;       /* bit per way: end() was told */
    uint8_t plan;        /* last one asked for */
    uint8_t unread;      /* enum unread_reason + 1, 0 none */
    bool over;           /* no more events are expected */
    bool messages_begun; /* by the bytes in hand */
    struct dialogue dialogue;
    uint64_t opened_ns, touched_ns, over_ns;
    uint64_t left_ns; /* when the last process seen with it let go of it, */
    uint32_t left_by; /* and which that was: it lingers */
    uint64_t unread_bytes[2]; /* counted in its row */
    uint64_t unheld[2]; /* of an unsure one, bytes for which there was no room to hold them */
    uint64_t connect_parent; /* server span in which connect was called */
    uint32_t connect_exchange;
    struct outcall call; /* of a request of ours to an opened one that is not read */
    uint32_t hold;     /* held bytes, 0 none */
    uint32_t next_over; /* slot of the next one that is over */
    uint32_t unread_row;
    int32_t descriptor; /* as first seen */
    uint32_t listener; /* its number, 0 unknown */
    struct holder holder[2];
    struct address peer, local;
};

#define LISTENERS_MAX 1024
struct listener {
    uint64_t id; /* connection id of its slot */
    bool listening, asked;
    bool full; /* message boundaries lay in bytes that were not captured: capture all */
    uint8_t length;
    uint8_t address[112];
};

struct holds;   /* stream.c */
struct parsers; /* stream.c */

struct connections {
    struct connection *table; /* [1..limit] */
    uint32_t limit, used, free, live;
    uint32_t *index; /* open addressing: slots by id */
    uint32_t index_mask;
    uint32_t hand; /* of the clock that finds the longest idle */
    uint32_t over_first, over_last;
    struct listener listener[LISTENERS_MAX];
    uint32_t listeners;
    struct images *images;
    struct image nobody; /* holds the connections that may live on in a child that was not seen with them */
    struct spans *spans;
    struct activity *activity;
    const struct protocol *const *protocols;
    struct feedback feedback;
    struct holds *holds;
    struct parsers *parsers;
    struct unread unread[256];
    uint32_t unread_rows;
    uint64_t now_ns; /* of the item in hand */
    bool capture;
    struct flow flow; /* accepted .. bytes_out, bound_* */
    uint64_t overlaps; /* bytes that events claimed twice: not counted again */
    void (*killed)(void *to, const struct exchange *); /* a request that a signal's death cut off */
    void *killed_to;
    /* an event of sampled stacks: returns the list (activity.h) that waits for its owner, 0: none */
    uint32_t (*sampled)(void *to, const struct item *, const struct thread *);
    void *sampled_to;
};

/* `known` ends with NULL. NULL: no memory. */
struct connections *connections_new(const struct options *, const struct protocol *const *known,
                                    const struct feedback *, struct spans *, struct activity *);
void connections_free(struct connections *);

void connection_event(struct connections *, const struct item *);
void connection_fact(struct connections *, const struct item *);
void connection_gap(struct connections *, const struct item *);
/* Nothing older than this will come: captures are complete, ended connections go, what idles gives its state back. */
void connection_tick(struct connections *, uint64_t time_ns);
/* Everything still open ends here; what is in progress is told as in flight. */
void connection_finish(struct connections *, uint64_t time_ns);

/* --- between its files -------------------------------------------------------------------------------------------- */

struct connection *connection_find(struct connections *, uint64_t id);
uint32_t connection_slot(const struct connections *, const struct connection *);
/* It ends now: messages are completed, requests left open end unanswered, or are in flight when `killed`. */
void connection_end(struct connections *, struct connection *, uint64_t time_ns, bool killed);
void connection_free_over(struct connections *, uint64_t before_ns, bool all);
void connection_mark_loss(struct connections *, struct connection *); /* on what is in progress */
struct moment moment_of(const struct item *);

/* stream.c */
int streams_init(struct connections *, const struct options *);
void streams_fini(struct connections *);
/* A data event with result > 0. Captures may go on in the thread's EVENT_MOREs. */
void stream_take(struct connections *, struct connection *, struct thread *, const struct item *, enum way);
void stream_more(struct connections *, struct thread *, const struct item *);       /* EVENT_MORE */
void stream_more_over(struct connections *, struct thread *);                        /* no more parts will come */
void stream_half_end(struct connections *, struct connection *, enum way, const struct moment *);
void stream_end(struct connections *, struct connection *, const struct moment *);
void stream_hold_unsure(struct connections *, struct connection *, const struct item *, enum way);
void stream_proven(struct connections *, struct connection *); /* what was held counts after all */
void stream_forget(struct connections *, struct connection *); /* gives blocks back */
void stream_tick(struct connections *, uint64_t time_ns);
void stream_plan(struct connections *, struct connection *, uint32_t plan);

/* holder.c */
struct holder *holder_of(struct connection *, const struct image *);
void holder_add(struct connections *, struct connection *, struct image *);
void holder_dup(struct connections *, struct connection *, struct image *);
void holder_close(struct connections *, struct connection *, struct image *, uint64_t time_ns);
void holders_clear(struct connections *, struct connection *);
void holder_image_fact(struct connections *, const struct item *); /* PROCESS, PROCESS_END, REAPED */
void holder_reaped(struct connections *, int32_t pid, int32_t exit_code, int32_t signal, uint64_t time_ns);
void holder_tick(struct connections *, uint64_t time_ns, bool last);

/* unread.c */
void unread_flag(struct connections *, struct connection *, enum unread_reason);
void unread_more(struct connections *, struct connection *, enum way, uint64_t bytes);
/* Bytes of the requests' direction that were not captured. */
void unread_gap(struct connections *, struct connection *, enum way, uint64_t bytes);
void unread_address(struct connections *, struct connection *); /* it became known */
/* Address of our end for accepted ones, of the peer for opened ones. */
uint16_t address_port(const uint8_t *sockaddr, size_t length);

#endif
