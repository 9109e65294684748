/*
 * endpoint.c - from a span to its endpoint's record.
 *
 * In:      rollup.c        Out: route.h, process.h (services), sink/queue.h
 * Owns:    tables and records.
 * Context: C
 * Failure: no memory: a record made at start, {other} of no service, takes all.
 */
#include "collector/endpoint.h"

#include <stdlib.h>
#include <string.h>
#include "collector/process.h"
#include "collector/route.h"
#include "collector/sink/queue.h"
#include "wire/options.h"

#define LIVE_LEAST 4096u

struct table {
    struct table *next; /* of the same service */
    struct endpoints *owner;
    uint32_t service;
    uint8_t side;
    enum route_style style;
    const struct protocol *protocol;
    struct routes *routes;
};

/*
 * Requests as they were sent last, and where they led: most are repeated at once. Void when the generation of the
 * routes' cache is another one.
 */
#define MEMOS 64u /* a power of two */
#define MEMO_TARGET 96u
struct memo {
    const struct protocol *protocol;
    struct endpoint *endpoint;
    uint64_t verb; /* its up to 8 bytes */
    uint32_t service, generation;
    uint16_t target_len;
    uint8_t verb_len, side;
    bool missing;
    char target[MEMO_TARGET];
};

struct endpoints {
    struct memo memo[MEMOS];
    struct processes *processes;
    struct route_cache *cache;
    struct table *of_service[SERVICES_MAX];
    struct endpoint **record; /* by number - first */
    uint32_t first, count, room;
    size_t limit, live, live_most;
    struct endpoint **merged; /* whose rows are to be sent again */
    size_t merges, merges_room;
    struct endpoint last_resort;
};

/* ---- tables ---- */

static enum route_style style_of(const struct protocol *protocol)
{
    if (!protocol)
        return ROUTE_COMMAND;
    if (!strncmp(protocol->name, "http", 4))
        return ROUTE_HTTP;
    return !strcmp(protocol->name, "redis") ? ROUTE_REDIS : ROUTE_COMMAND;
}

static struct endpoint *new_record(struct endpoints *e)
{
    if (e->count == e->room) {
        uint32_t room = e->room ? 2 * e->room : 64;
        struct endpoint **more = realloc(e->record, room * sizeof(struct endpoint *));
        if (!more)
            return NULL;
        e->record = more;
        e->room = room;
    }
    struct endpoint *record = calloc(1, sizeof *record);
    if (record) {
        record->number = e->first + e->count;
        e->record[e->count++] = record;
    }
    return record;
}

static uint32_t on_create(void *to, const char *name, size_t len, const char *verb)
{
    const struct table *t = to;
    struct endpoints *e = t->owner;
    if (e->live >= e->live_most && (verb || name[0] != '{')) /* {other} can always be had */
        return 0;
    char *copy = strndup(name, len);
    struct endpoint *record = copy ? new_record(e) : NULL;
    if (!record) {
        free(copy);
        return 0;
    }
    record->service = t->service;
    record->side = t->side;
    record->http = t->style == ROUTE_HTTP;
    record->protocol = t->protocol;
    record->name = copy;
    record->name_len = (uint16_t)len;
    record->verb = verb ? verb : copy[0] != '{' ? copy : NULL;
    e->live++;
    return record->number;
}

static void add_merge(struct endpoints *e, struct endpoint *from, uint32_t into)
{
    if (e->merges == e->merges_room) {
        size_t room = e->merges_room ? 2 * e->merges_room : 64;
        struct endpoint **more = realloc(e->merged, room * sizeof(struct endpoint *));
        if (!more) { /* told when it is next counted; its number stands for itself until then */
            from->merged_into = into;
            from->told = false;
            return;
        }
        e->merged = more;
        e->merges_room = room;
    }
    from->merged_into = into;
    from->told = false;
    e->merged[e->merges++] = from;
}

/* Those that were merged into `from` go on to `into`: no reader has to follow a chain. */
static void on_merge(void *to, uint32_t from, uint32_t into)
{
    struct endpoints *e = ((struct table *)to)->owner;
    for (uint32_t i = 0; i < e->count; i++)
        if (e->record[i]->merged_into == from)
            add_merge(e, e->record[i], into);
    add_merge(e, endpoints_by_number(e, from), into);
    e->live--;
}

static struct table *find_table(const struct endpoints *e, const struct span *s, uint32_t service)
{
    struct table *t = e->of_service[service];
    while (t && (t->protocol != s->protocol || t->side != s->side))
        t = t->next;
    return t;
}

static struct table *add_table(struct endpoints *e, const struct span *s, uint32_t service)
{
    struct table *t = malloc(sizeof *t);
    if (!t)
        return NULL;
    *t = (struct table){.next = e->of_service[service],
                        .owner = e,
                        .service = service,
                        .side = s->side,
                        .style = style_of(s->protocol),
                        .protocol = s->protocol};
    t->routes =
        routes_new(t->style, e->limit, e->cache, &(struct route_events){on_create, on_merge, t});
    if (!t->routes) {
        free(t);
        return NULL;
    }
    e->of_service[service] = t;
    return t;
}

/* ---- finding ---- */

static inline bool is_missing(const struct span *s)
{
    return s->status == 404 && s->side == SIDE_SERVER;
}

static struct route_request request_of(const struct span *s)
{
    return (struct route_request){
        .verb = s->verb,
        .verb_len = s->verb_len,
        .target = s->target,
        .target_len = s->target_len,
        .cut = s->target_len >= SPAN_TARGET,
        .missing = is_missing(s),
    };
}

/* Its verb as a word; span.verb has room to read one. */
static inline uint64_t verb_word(const struct span *s)
{
    uint64_t word;
    memcpy(&word, s->verb, sizeof word);
    return s->verb_len < 8 ? word & ((UINT64_C(1) << 8 * s->verb_len) - 1) : word;
}

static inline struct memo *memo_of(struct endpoints *e, const struct span *s, uint64_t verb)
{
    uint64_t word = s->target_len;
    if (s->target_len >= 8)
        memcpy(&word, s->target + s->target_len - 8, 8);
    return &e->memo[((word ^ verb) * UINT64_C(0x9e3779b97f4a7c15)) >> 58 & (MEMOS - 1)];
}

static inline bool is_memo(const struct memo *m, const struct span *s, uint32_t service, uint64_t verb)
{
    return m->protocol == s->protocol && m->verb == verb && m->service == service && m->verb_len == s->verb_len &&
           m->target_len == s->target_len && m->side == s->side && m->missing == is_missing(s) &&
           (!s->target_len || !memcmp(m->target, s->target, s->target_len));
}

static struct endpoint *find_route(struct endpoints *e, const struct span *s, uint32_t service)
{
    struct table *t = find_table(e, s, service);
    if (!t && !(t = add_table(e, s, service)))
        return &e->last_resort;
    struct route_request q = request_of(s);
    uint32_t number = routes_find(t->routes, &q);
    return number ? endpoints_by_number(e, number) : &e->last_resort;
}

/* Finds it without the memo, and takes it down there. Apart, so that the way of most requests stays short. */
static __attribute__((noinline)) struct endpoint *learn(struct endpoints *e, const struct span *s, uint32_t service,
                                                        struct memo *m)
{
    struct endpoint *found = find_route(e, s, service);
    if (!m || found == &e->last_resort)
        return found;
    *m = (struct memo){.protocol = s->protocol,
                       .endpoint = found,
                       .verb = verb_word(s),
                       .service = service,
                       .generation = route_cache_generation(e->cache),
                       .target_len = s->target_len,
                       .verb_len = s->verb_len,
                       .side = s->side,
                       .missing = is_missing(s)};
    memcpy(m->target, s->target, s->target_len);
    return found;
}

struct endpoint *endpoints_find(struct endpoints *e, const struct span *s, uint32_t service)
{
    if (s->verb_len > 8 || s->target_len > MEMO_TARGET || !s->protocol)
        return learn(e, s, service, NULL);
    uint64_t verb = verb_word(s);
    struct memo *m = memo_of(e, s, verb);
    if (m->generation == route_cache_generation(e->cache) && is_memo(m, s, service, verb))
        return m->endpoint;
    return learn(e, s, service, m);
}

struct endpoint *endpoints_by_number(struct endpoints *e, uint32_t number)
{
    return number == e->last_resort.number ? &e->last_resort : e->record[number - e->first];
}

size_t endpoints_name(struct endpoints *e, const struct span *s, char *to)
{
    uint32_t service = processes_see(e->processes, s->process).service;
    const struct table *t = find_table(e, s, service);
    struct route_request q = request_of(s);
    return routes_name(t ? t->routes : NULL, style_of(s->protocol), &q, to);
}

/* ---- rows ---- */

bool endpoints_tell(struct endpoints *e, struct endpoint *record, struct queue *q)
{
    if (record->told)
        return true;
    const char *service = processes_service(e->processes, record->service);
    size_t service_len = strnlen(service, 255);
    struct row *row =
        queue_reserve(q, ROW_ENDPOINT,
                      sizeof *row + sizeof(struct row_endpoint) + service_len + record->name_len);
    if (!row)
        return false;
    struct row_endpoint *r = (void *)(row + 1);
    *r = (struct row_endpoint){
        .endpoint = record->number,
        .merged_into = record->merged_into,
        .side = record->side,
        .service_len = (uint16_t)service_len,
        .name_len = record->name_len,
    };
    strncpy(r->protocol, record->protocol ? record->protocol->name : "unknown",
            sizeof r->protocol - 1);
    char *tail = (char *)(r + 1);
    memcpy(tail, service, service_len);
    memcpy(tail + service_len, record->name, record->name_len);
    queue_publish(q, row);
    return record->told = true;
}

bool endpoints_push_merges(struct endpoints *e, struct queue *q)
{
    while (e->merges) {
        struct endpoint *from = e->merged[e->merges - 1];
        /* the one that takes over first: a row may not name what was not told */
        if (!endpoints_tell(e, endpoints_by_number(e, from->merged_into), q) ||
            !endpoints_tell(e, from, q))
            return false;
        e->merges--;
    }
    return true;
}

/* ---- life ---- */

struct endpoints *endpoints_new(const struct options *options, struct processes *processes)
{
    struct endpoints *e = calloc(1, sizeof *e);
    if (!e)
        return NULL;
    e->processes = processes;
    e->limit = options->routes;
    e->live_most = 4 * e->limit > LIVE_LEAST ? 4 * e->limit : LIVE_LEAST;
    e->cache = route_cache_new();
    e->last_resort.name = strdup(ROUTE_OTHER);
    e->last_resort.name_len = sizeof ROUTE_OTHER - 1;
    if (!e->cache || !e->last_resort.name) {
        endpoints_free(e);
        return NULL;
    }
    endpoints_number_from(e, 1);
    return e;
}

void endpoints_number_from(struct endpoints *e, uint32_t first)
{
    e->last_resort.number = first;
    e->first = first + 1;
}

void endpoints_free(struct endpoints *e)
{
    if (!e)
        return;
    for (uint32_t i = 0; i < SERVICES_MAX; i++)
        for (struct table *t = e->of_service[i], *next; t; t = next) {
            next = t->next;
            routes_free(t->routes);
            free(t);
        }
    for (uint32_t i = 0; i < e->count; i++) {
        free(e->record[i]->name);
        free(e->record[i]);
    }
    free(e->record);
    free(e->merged);
    free(e->last_resort.name);
    route_cache_free(e->cache);
    free(e);
}
