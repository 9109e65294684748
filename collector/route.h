/*
 * route.h - from verb and target to an endpoint's number: `GET /users/{id}`. docs/routes.md tells
 * the rules.
 *
 * In:      endpoint.c                     Out: route_events (new endpoints, merges)
 * Owns:    one trie a table; a table is one service, protocol and side.
 * Context: C. No clock, no chance: the same requests in the same order give the same endpoints.
 *
 * Bounds: `limit` endpoints that stand for themselves a table, then {other}; 50 literal children a
 * node, then {name}; 12 segments, then {rest}. Merged endpoints keep their numbers; at most 8 *
 * limit + 256 are ever made.
 */
#ifndef SONDE_ROUTE_H
#define SONDE_ROUTE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum route_style {
    ROUTE_HTTP,   /* method + template of the path */
    ROUTE_REDIS,  /* a command that exists, or {other} */
    ROUTE_COMMAND /* any word, at most `limit` of them */
};

#define ROUTE_LITERALS 50
#define ROUTE_NAME_MAX 700 /* longest name */
#define ROUTE_OTHER "{other}"
#define ROUTE_UNMATCHED "{unmatched}"

/* Calls upwards, given at init. */
struct route_events {
    /* A new endpoint: its number, 0: no more can be had. `verb` lives for ever or is NULL. */
    uint32_t (*create)(void *to, const char *name, size_t len, const char *verb);
    /* What `from` counted so far belongs to `into`, which takes its place. */
    void (*merge)(void *to, uint32_t from, uint32_t into);
    void *to;
};

struct route_request {
    const char *verb, *target;
    size_t verb_len, target_len;
    bool cut;     /* the target goes on but was not kept */
    bool missing; /* a server answered 404: counts for a route that ever answered otherwise, else
                     {unmatched} */
};

/* Remembers which raw target leads where, for all tables; bounded; forgets all when a route is made
 * or merged. */
struct route_cache;
struct route_cache *route_cache_new(void);
void route_cache_free(struct route_cache *);
uint32_t route_cache_generation(const struct route_cache *); /* another one: it forgot all */

struct routes;
struct routes *routes_new(enum route_style, size_t limit, struct route_cache *,
                          const struct route_events *);
void routes_free(struct routes *);
/* The endpoint's number; 0 only when `create` gave none at all. */
uint32_t routes_find(struct routes *, const struct route_request *);
/* What it would be called, the table's limit aside, without making it; `to` has ROUTE_NAME_MAX.
 * `routes` may be NULL. */
size_t routes_name(const struct routes *, enum route_style, const struct route_request *, char *to);
size_t routes_live(const struct routes *); /* endpoints that stand for themselves */

#endif
