/*
 * sites.h - what was sampled where in the code, for which endpoint: stacks, sites, their rows.
 *
 * In:      heap.c (samples and what becomes of them)        Out: ROW_OBJECT, ROW_FRAMES, ROW_SITE, ROW_SITE_LIVE
 * Owns:    stacks by number, sites, objects.h.
 * Context: C
 *
 * Bounds: 4096 stacks, 8192 sites; what exceeds them counts for the stack {other} of its endpoint, whose number is the
 * first. Rows leave once a second for what changed, at most 1024 sites a second, the longest waiting first.
 */
#ifndef SONDE_SITES_H
#define SONDE_SITES_H

#include <stdbool.h>
#include <stdint.h>
#include "collector/sink/rows.h"

#define SITES_STACKS 4096u
#define SITES_MOST 8192u
#define SITES_LIVE_MOST 256u /* told at the close of an interval */

struct endpoints;
struct objects;
struct queue;
struct sites;

/* Numbers of sites count from 1. Their amounts may be changed in place, then sites_change. */
struct site {
    struct row_site row;
    uint64_t interval_samples, interval_bytes; /* of ended_*, since the last closed interval */
    uint32_t chain, next_changed;
    bool changed, lived; /* lived: told so by the last interval's rows */
};

struct sites *sites_new(void); /* NULL: no memory */
void sites_free(struct sites *);
void sites_number_from(struct sites *, uint32_t first); /* stacks; before the first */
struct objects *sites_objects(struct sites *);

/* The number of a stack; the same for the same frames. */
uint32_t sites_stack(struct sites *, const struct frame *, uint32_t frames, uint8_t end);
/* Finds or makes; 0: even {other} has no room. */
uint32_t sites_find(struct sites *, uint32_t endpoint, uint32_t stack, enum site_kind);
struct site *sites_at(struct sites *, uint32_t site);
void sites_change(struct sites *, uint32_t site);

/* False: no room, the rest comes with the next call. `all`: at the end. */
bool sites_push(struct sites *, struct endpoints *, struct queue *, bool all);
/* The interval of this number is closed: rows of what lives. `requests`: of all endpoints. What finds no room is missing. */
void sites_push_live(struct sites *, struct endpoints *, struct queue *, uint32_t interval, uint64_t requests);

uint64_t sites_other(const struct sites *); /* samples that a bound sent to {other}, or nowhere */

#endif
