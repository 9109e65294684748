/*
 * endpoint.h - endpoints of the run: numbers, names, and which one a span counts for.
 *
 * In:      rollup.c                       Out: ROW_ENDPOINT
 * Owns:    one table of routes per service, protocol and side (route.h), endpoint records.
 * Context: C
 *
 * Bounds: `routes.limit` a table (route.h); 4096 or four times the limit over all tables that stand
 * for themselves; numbers are never used again.
 */
#ifndef SONDE_ENDPOINT_H
#define SONDE_ENDPOINT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "collector/span.h"

struct options;
struct processes;
struct queue;
struct tally;

struct endpoint {
    uint32_t number;      /* in the run, from 1 */
    uint32_t merged_into; /* 0: itself */
    uint32_t service;
    uint8_t side;
    bool http;
    bool told; /* its row as it is now was pushed */
    uint16_t name_len;
    const struct protocol *protocol;
    const char *verb; /* method or command that exists; lives for ever; NULL: see name */
    char *name;
    uint64_t requests; /* counted so far */
    struct tally *open, *waiting; /* interval.c: of the current interval; while two are merged */
};

struct endpoints;
struct endpoints *endpoints_new(const struct options *, struct processes *);
void endpoints_free(struct endpoints *);
void endpoints_number_from(struct endpoints *, uint32_t first); /* before the first span */

/* Never fails: without memory it is one last {other}. */
struct endpoint *endpoints_find(struct endpoints *, const struct span *, uint32_t service);
struct endpoint *endpoints_by_number(struct endpoints *, uint32_t number); /* of one that exists */
size_t endpoints_count(const struct endpoints *);                          /* ever made */
/* What it would be called, for requests that have not ended; `to` has ROUTE_NAME_MAX. */
size_t endpoints_name(struct endpoints *, const struct span *, char *to);

/* Pushes its row if need be; false: no room, so no row that names it may be sent either. */
bool endpoints_tell(struct endpoints *, struct endpoint *, struct queue *);
/* Pushes rows of those that were merged since. False: no room, the rest comes with the next call.
 */
bool endpoints_push_merges(struct endpoints *, struct queue *);

/* An answer that is an error: by its status where it has one, HTTP server from 500 on, client from
 * 400. */
static inline bool endpoint_failed(const struct endpoint *e, const struct span *s)
{
    if (e->http && s->answered && s->status)
        return s->status >= (s->side == SIDE_SERVER ? 500 : 400);
    return s->error;
}

#endif
