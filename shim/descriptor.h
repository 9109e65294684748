/*
 * descriptor.h - what every open descriptor is: kind, connection id, how many bytes went each way.
 *
 * A slot's word is {id: 60 bits, shared: 1, kind: 3}. An id is never given twice, so the word itself tells whether the
 * descriptor is still the same connection: note it before a call, compare after. Word 0 knows nothing.
 */
#ifndef SONDE_DESCRIPTOR_H
#define SONDE_DESCRIPTOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "wire/atomics.h"

enum kind {
    KIND_UNKNOWN = 0, /* inherited, passed, or made where we do not look */
    KIND_OTHER,       /* pipe, datagram, epoll...: no events */
    KIND_SOCKET,      /* stream socket, neither connected nor listening yet; has an id once bound */
    KIND_LISTENER,
    KIND_CONNECTION,
    KIND_UNSURE, /* has an id, but only read or write was seen: the collector says whether it is a connection */
    KIND_OPENED, /* by a path, or said to be no connection: no events; perhaps a file, asked when it waits (stall.c) */
    KIND_FILE    /* regular file or block device: no events */
};

#define SLOT_KIND UINT64_C(7)
#define SLOT_SHARED UINT64_C(8) /* duplicated: offsets are no truth */

struct slot {
    uint64_t word;
    uint64_t in, out; /* bytes so far; written by whoever does the call, readers of one direction take turns */
    uint64_t mode; /* SLOT_NONBLOCKING, as far as we were told */
};
#define SLOT_NONBLOCKING UINT64_C(1)

#define LEAF_BITS 10u
#define LEAF_SLOTS (1u << LEAF_BITS)
extern struct slot descriptor_first[LEAF_SLOTS] __attribute__((visibility("hidden")));

/* The slot of a descriptor whose leaf exists, else NULL (it is unknown). S. */
struct slot *descriptor_find_high(unsigned fd);
static inline struct slot *descriptor_find(int fd)
{
    return (unsigned)fd < LEAF_SLOTS ? &descriptor_first[fd] : descriptor_find_high((unsigned)fd);
}

/* The same, but makes the leaf (one mmap for 1024 descriptors above the first 1024). NULL: negative fd, no memory. */
struct slot *descriptor_make(int fd);

static inline enum kind slot_kind(uint64_t word)
{
    return (enum kind)(word & SLOT_KIND);
}

/* Calls on it are no events. */
static inline bool slot_is_silent(uint64_t word)
{
    return slot_kind(word) == KIND_OTHER || slot_kind(word) >= KIND_OPENED;
}

static inline uint64_t slot_word(enum kind kind, uint64_t id)
{
    return ((id >> 32) << 28 | (id & 0xfffffff)) << 4 | (uint64_t)kind;
}

static inline uint64_t slot_id(uint64_t word)
{
    return (word >> 32) << 32 | (word >> 4 & 0xfffffff);
}

/* A new meaning for the number; what stood there is gone. */
static inline void slot_set(struct slot *s, uint64_t word)
{
    store_relaxed(&s->in, 0);
    store_relaxed(&s->out, 0);
    store_relaxed(&s->mode, 0);
    store_release(&s->word, word);
}

/* A call returned a new descriptor, or a passed one came: its number means this now. */
void descriptor_reset(int fd, enum kind kind);

/* Calls `visit` for each slot in first..last that is not unknown. */
void descriptor_each(unsigned first, unsigned last, void (*visit)(int fd, struct slot *, void *to), void *to);

/* Start: what 0, 1 and 2 are. Context I. */
void descriptor_init(void);

/* Makes the leaves for every number that the limit allows now (65536 at most), as later it may be forbidden. */
void descriptor_settle(void);

#endif
