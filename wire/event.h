/*
 * event.h - one event: what call, on which connection, when, how long, how many bytes, the first bytes of the data,
 * and the thread's running totals.
 *
 * Written by shim/record.c into a chunk of the thread's lane, read by collector/drain.c, kept by `sonde record`.
 * All integers little-endian as the machine has them; an arena never leaves its machine (a recording does: its header
 * names the byte order). Times and durations are clock ticks of the arena (see clock.h), not nanoseconds.
 *
 * Layout of one event in a chunk: struct event, then (EVENT_HAS_BLOCK) struct event_block, then `head` captured bytes,
 * then `tail` captured bytes, padded to 8. `size` is all of it.
 *
 * Changing it: bump ARENA_MAJOR in arena.h when an old reader would misread, ARENA_MINOR when it would merely miss
 * something; then the asserts below; then docs/events.md; then tests/test_event.c.
 */
#ifndef SONDE_EVENT_H
#define SONDE_EVENT_H

#include <stddef.h>
#include <stdint.h>

enum event_type {
    EVENT_NONE = 0, /* begun and never finished (the thread was thrown out by siglongjmp): skip `size` bytes, a loss by its sequence */
    /* connection; the data of ACCEPT, CONNECT, BIND is struct event_address */
    EVENT_ACCEPT,   /* descriptor = the new one, connection = its id, result = descriptor; argument = listening descriptor */
    EVENT_CONNECT,  /* result 0 or -errno; -EINPROGRESS is a success that is under way */
    EVENT_BIND,     /* bind on a stream socket; connection = the listener's id */
    EVENT_LISTEN,   /* argument = backlog */
    EVENT_CLOSE,    /* recorded before the call; result = 0 */
    EVENT_SHUTDOWN, /* recorded before the call; argument = SHUT_RD, SHUT_WR, SHUT_RDWR */
    EVENT_DUP,      /* descriptor = old, result = new; both now carry `connection` */
    /* data */
    EVENT_IN,   /* result = bytes, 0 = end of file, < 0 = -errno (never EAGAIN, EINTR) */
    EVENT_OUT,  /* result = bytes written, also by sendfile and splice (then nothing is captured) */
    EVENT_MORE, /* next part of the capture of the event before it in this lane; offset says where it belongs */
    /* thread and process */
    EVENT_TURN,  /* the thread enters a wait and its totals moved since its last event; result = enum call */
    EVENT_FORK,  /* in the parent: result = child pid */
    EVENT_EXEC,  /* recorded before the call; this image ends if it succeeds */
    EVENT_EXIT,  /* exit or _exit was called; result = status */
    EVENT_REAPED, /* a wait call told: argument = pid, result = wait status */
    /* memory (sampled), later: hand-off, log, name */
    EVENT_ALLOCATED, /* a sampled allocation; data: struct event_sample with its stack */
    EVENT_FREED,     /* that block is freed (recorded before the call) or realloc has moved it; data: struct event_argument = its serial */
    EVENT_LOCKED,    /* a sampled wait for a mutex or rwlock is over; result = enum call; data: struct event_sample */
    EVENT_OBJECT,    /* stacks of this process name addresses in an object not told before; data: struct event_object */
    EVENT_TYPE_COUNT
};

enum event_flag {
    EVENT_HAS_BLOCK = 1 << 0,      /* struct event_block follows */
    EVENT_OFFSET_UNKNOWN = 1 << 1, /* the slot changed during the call, or the descriptor is shared: offset is no truth */
    EVENT_FIRST = 1 << 2,          /* first event on a descriptor that was neither accepted nor connected here */
    EVENT_UNSURE = 1 << 3,         /* read or write on a descriptor never proven to be a socket: the collector asks /proc */
    EVENT_WAITED = 1 << 4,         /* the thread waited (poll, epoll, select) since its last event; how long accept or a read blocked is its own duration */
    EVENT_LONG = 1 << 5,           /* duration and ready are in units of 1024 ticks */
    EVENT_NO_CLOCK = 1 << 6,       /* time is 0: this process may not read its clock */
    EVENT_LISTENER_KNOWN = 1 << 7  /* ACCEPT: struct event_address.listener is the id under which bind was seen */
};

struct event {
    uint16_t size;      /* bytes, multiple of 8 */
    uint8_t type;       /* enum event_type */
    uint8_t flags;      /* enum event_flag */
    int32_t descriptor; /* -1: none */
    uint64_t connection; /* lane serial << 32 | count; 0: none */
    uint64_t offset;     /* bytes of this direction of the connection before this call */
    uint64_t time;       /* ticks at the call's return (CLOSE, EXEC, TURN, SHUTDOWN: at its entry) */
    int32_t result;
    uint32_t sequence; /* low 32 bits of the lane's sequence */
    uint32_t duration; /* ticks from entry to return, saturating; see EVENT_LONG */
    uint32_t ready;    /* ticks from the return of the thread's last wait to the entry of this call; 0: no wait since the last event */
    uint32_t allocated, freed, allocations; /* low 32 bits of the thread's running totals, at this event */
    uint16_t head, tail;                    /* captured bytes: the first `head` and the last `tail` of the call's data */
};

_Static_assert(sizeof(struct event) == 64, "event is one cache line");
_Static_assert(offsetof(struct event, connection) == 8, "layout");
_Static_assert(offsetof(struct event, offset) == 16, "layout");
_Static_assert(offsetof(struct event, time) == 24, "layout");
_Static_assert(offsetof(struct event, result) == 32, "layout");
_Static_assert(offsetof(struct event, sequence) == 36, "layout");
_Static_assert(offsetof(struct event, duration) == 40, "layout");
_Static_assert(offsetof(struct event, ready) == 44, "layout");
_Static_assert(offsetof(struct event, allocated) == 48, "layout");
_Static_assert(offsetof(struct event, head) == 60, "layout");

/*
 * Whole totals, present when a wait total moved, the CPU clock was read or a heap total moved by 2^31 or more since the
 * last event.
 *
 * CPU: `cpu_ns` is the thread's CPU clock at this event's time. It is read at a thread's first event and at the first
 * one after the thread was switched off the processor. Events without it lie on the same stretch of running: there the
 * clock is that of the event before it plus the time between the two. A process flagged PROCESS_NO_CPU reads none.
 */
struct event_block {
    uint64_t allocated, freed, allocations; /* the thread's, since it started */
    uint64_t lock, disk, sleep;             /* ticks spent in them */
    uint64_t cpu_ns;                        /* thread CPU clock; 0: not read */
    uint64_t waits; /* with cpu_ns: how often the thread gave its processor up itself (ru_nvcsw) outside the waits that
                       lock, disk and sleep have, plus 1; 0: not read */
};
_Static_assert(sizeof(struct event_block) == 64, "layout");

/*
 * Data of ACCEPT (peer), CONNECT (peer) and BIND (own): always in `head`, cut to the socket address's real length.
 * `event.ready` keeps its meaning. LISTEN, SHUTDOWN, REAPED carry their argument in struct event_argument.
 */
struct event_address {
    uint64_t listener; /* ACCEPT: connection id of the listening descriptor's slot, 0 unknown */
    int32_t argument;  /* ACCEPT: listening descriptor; CONNECT: 0 */
    uint16_t length;   /* bytes of address that follow, at most 110 (struct sockaddr_un) */
    uint16_t family;
    uint8_t address[]; /* struct sockaddr as the kernel gave it */
};
_Static_assert(sizeof(struct event_address) == 16, "layout");

struct event_argument {
    int64_t argument;
};

/*
 * Data of ALLOCATED and LOCKED: one of about `sample_bytes` allocated bytes, or lock_sample_ns waited ns, was hit
 * (Poisson: gaps are exponential, so an amount a stands for a / (1 - exp(-a / mean))).
 * `frame[0]` is the address after the wrapped call in the code that made it, each further one its caller's.
 */
enum event_stack_end { /* why the stack ends where it does */
    STACK_WHOLE,    /* at the thread's first function */
    STACK_CUT,      /* more than fit */
    STACK_UNKNOWN,  /* at code without unwind tables or frame pointer */
    STACK_UNSAFE    /* at a place where walking on might have read what is no stack */
};
struct event_sample {
    uint64_t serial; /* ALLOCATED: names the block in its process, FREED repeats it; 0: the block is not followed */
    uint64_t amount; /* usable bytes; ticks (ns in the collector's items and in recordings) */
    uint16_t frames;
    uint16_t end;    /* enum event_stack_end */
    uint32_t pad;
    uint64_t frame[];
};
_Static_assert(sizeof(struct event_sample) == 24, "layout");
#define EVENT_FRAMES 64u

struct event_object {
    uint64_t start, end; /* addresses mapped from it, here */
    uint64_t bias;       /* address here minus address in the file's symbol table */
    uint8_t build_id[20]; /* zero: none */
    uint16_t build_id_len;
    uint16_t path_len;   /* bytes of path that follow; 0: the executable itself */
    char path[];
};
_Static_assert(sizeof(struct event_object) == 48, "layout");

#define EVENT_MAX_SIZE 8064u /* what fits in a chunk */

#endif
