/*
 * rule_object.h - the object (executable or library) at an address: which of its bytes can be read, what it is called.
 *
 * In:      rule.c, rule_tables.c.                Out: glibc's _dl_find_object (2.35), which takes no lock;
 *          dl_iterate_phdr would wait for a thread that runs a constructor inside dlopen.
 * Owns:    nothing: a struct object is the caller's. It holds as long as no dlclose runs (rules.unloading).
 * Context: S. object_start is I.
 * Failure: false, or no segment at all: nothing of it is read.
 *
 * Empty but on x86-64 with glibc, as rule.c is.
 */
#ifndef SONDE_RULE_OBJECT_H
#define SONDE_RULE_OBJECT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "wire/event.h"

#if defined(__x86_64__) && defined(__GLIBC__)

#include <link.h>

#define OBJECT_SEGMENTS 8u
#define OBJECT_PATH_MOST 4096u

struct found { /* glibc's struct dl_find_object, since 2.35 */
    unsigned long long flags;
    void *start, *end;
    struct link_map *map;
    void *eh_frame;
    unsigned long long reserved[7];
};

struct object {
    struct found at;
    unsigned segments;
    struct {
        uint64_t from, to;
    } segment[OBJECT_SEGMENTS]; /* readable, whole pages */
    uint64_t start, end; /* of all segments */
    uint64_t note, note_bytes;
};

/* False: this libc cannot tell objects. Context I. */
bool object_start(void);

/* The object that the instruction before `address` lies in. False: none, *o is undefined. */
bool object_at(struct object *o, uint64_t address);

/* Do `bytes` from here lie in one readable segment? */
bool object_reads(const struct object *o, uint64_t from, uint64_t bytes);

/* Fills the payload of an EVENT_OBJECT: at most sizeof *n + OBJECT_PATH_MOST bytes. Returns how many. */
size_t object_note(const struct object *o, struct event_object *n);

#endif
#endif
