/*
 * flame.h - sampled stacks as a tree of weights, written as collapsed stacks, for speedscope, or as one page.
 *
 * In:      cli/flame.c                           Out: FILE
 * Context: I
 */
#ifndef SONDE_FLAME_H
#define SONDE_FLAME_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "collector/report.h"

/* allocated: bytes; retained: of them, those that lived memory.retained_s past the end of their request; live: those
 * never freed so far; lockwait: ns */
enum flame_by { FLAME_ALLOCATED, FLAME_RETAINED, FLAME_LIVE, FLAME_LOCKWAIT };
enum flame_format { FLAME_COLLAPSED, FLAME_SPEEDSCOPE, FLAME_HTML };

struct flame_node {
    uint32_t name, parent, child, sibling; /* 0 is the root: no child or sibling has that number */
    uint64_t all, self, samples;           /* samples: of all */
};

struct flame {
    enum flame_by by;
    const struct report *r;
    const char *route; /* NULL: all */
    struct flame_node *node; /* parents before children; [0]: the root */
    uint32_t nodes, room;
    const char **name;
    uint32_t names, names_room;
    uint32_t *slot; /* hash tables: of names, then of nodes; 0 free */
    uint32_t slots, *node_slot, node_slots;
    char *text; /* what names of ours stand in */
    int sites;
};

/* Root first: the endpoint, then the outermost frame. `route` selects: an endpoint's name, its path, a pattern with *;
 * "outside": what belongs to no request. 0, -ENOMEM, or -ENOENT: no such route; `nearest` then names one (NULL: none). */
int flame_build(struct flame *, const struct report *, enum flame_by, const char *route, const char **nearest);
void flame_free(struct flame *);
bool flame_is_time(const struct flame *);
const char *flame_word(enum flame_by); /* "allocated" */

/* -EIO when the FILE failed */
int flame_put(const struct flame *, enum flame_format, FILE *);
/* flame_html.c */
void flame_put_html(const struct flame *, FILE *);
/* One line of what it shows: how much, of how many samples, how sure. */
void flame_summary(const struct flame *, char *to, size_t room, bool utf8);

#endif
