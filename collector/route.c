/*
 * route.c - the trie of a service's routes, its late merges, and the cache before it.
 *
 * In:      endpoint.c        Out: route_path.h (segments), verb.h (methods)
 * Owns:    tables and the cache.
 * Context: C
 * Failure: no memory, or a bound: {other}, whose count is kept.
 *
 * Nodes are found by one hash table a trie, keyed by parent, kind and text. A node that gets its
 * 51st literal child is collapsed: its literal children's subtrees move under one {name} child
 * (files under *.ending), their endpoints are made anew there and the old ones merged into them.
 * Numbers are never used again, so old rows still add up.
 */
#include "collector/route.h"

#include <stdlib.h>
#include <string.h>
#include "collector/redact.h"
#include "collector/route_path.h"
#include "collector/verb.h"

#define NONE UINT32_MAX
#define ENDINGS_MAX 16 /* *.ending children of a node */

struct node {
    uint32_t parent, child, next; /* indices; `next` also links the free list */
    uint32_t leaf;                /* first of its endpoints */
    uint32_t hash;                /* of parent, kind and text */
    uint8_t kind, len;            /* enum segment_kind */
    uint8_t literals, endings;    /* children of that kind */
    bool collapsed;
    char text[SEGMENT_TEXT];
};

struct leaf { /* an endpoint that stands for itself */
    uint32_t endpoint, next;
    const char *verb;
};

struct routes {
    enum route_style style;
    size_t limit, live, ever;
    uint32_t serial; /* in the cache's keys */
    struct node *node;
    struct leaf *leaf;
    uint32_t nodes, nodes_room, free_node;
    uint32_t leaves, leaves_room, free_leaf;
    uint32_t *slot; /* node index + 1, 0 empty; a power of two of them */
    uint32_t slots, used;
    uint32_t other, unmatched;
    struct route_cache *cache;
    struct route_events events;
};

/* ---- cache: two ways a set ---- */

#define CACHE_SETS 4096u

struct cached {
    uint64_t key;
    uint32_t endpoint, generation;
};
struct route_cache {
    uint32_t generation; /* entries of another one are void */
    uint32_t tables;
    struct cached set[CACHE_SETS][2];
};

struct route_cache *route_cache_new(void)
{
    struct route_cache *c = calloc(1, sizeof *c);
    if (c)
        c->generation = 1;
    return c;
}

void route_cache_free(struct route_cache *c)
{
    free(c);
}

uint32_t route_cache_generation(const struct route_cache *c)
{
    return c->generation;
}

static uint64_t mix(uint64_t a, uint64_t b)
{
    unsigned __int128 product = (unsigned __int128)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static uint64_t load64(const char *at)
{
    uint64_t word;
    memcpy(&word, at, 8);
    return word;
}

static uint64_t load_short(const char *at, size_t len)
{
    uint64_t word = 0;
    if (len >= 4) {
        uint32_t low, high;
        memcpy(&low, at, 4);
        memcpy(&high, at + len - 4, 4);
        return low | (uint64_t)high << 32;
    }
    if (len)
        word = (uint64_t)(uint8_t)at[0] | (uint64_t)(uint8_t)at[len / 2] << 8 |
               (uint64_t)(uint8_t)at[len - 1] << 16;
    return word;
}

static uint64_t hash_bytes(uint64_t h, const char *at, size_t len)
{
    const uint64_t k = UINT64_C(0x9e3779b97f4a7c15);
    h ^= len * UINT64_C(0xd6e8feb86659fd93);
    for (; len > 8; at += 8, len -= 8)
        h = mix(h ^ load64(at), k) + k;
    return mix(h ^ (len == 8 ? load64(at) : load_short(at, len)), UINT64_C(0xa0761d6478bd642f));
}

static uint64_t key_of(const struct routes *r, const struct route_request *q)
{
    const char *query = memchr(q->target, '?', q->target_len);
    size_t len = query ? (size_t)(query - q->target) : q->target_len;
    uint64_t seed = (uint64_t)r->serial << 2 | (q->cut && len == q->target_len) << 1 | q->missing;
    return hash_bytes(hash_bytes(mix(seed + 1, UINT64_C(0xe7037ed1a0b428db)), q->verb, q->verb_len),
                      q->target, len);
}

static uint32_t recall(struct route_cache *c, uint64_t key)
{
    struct cached *set = c->set[key & (CACHE_SETS - 1)];
    if (set[0].key == key && set[0].generation == c->generation)
        return set[0].endpoint;
    if (set[1].key != key || set[1].generation != c->generation)
        return 0;
    struct cached hit =
        set[1]; /* what is asked for again stays: one-time paths push out each other */
    set[1] = set[0];
    set[0] = hit;
    return hit.endpoint;
}

static void remember(struct route_cache *c, uint64_t key, uint32_t endpoint)
{
    struct cached *set = c->set[key & (CACHE_SETS - 1)];
    set[set[0].generation == c->generation] = (struct cached){key, endpoint, c->generation};
}

/* ---- nodes ---- */

static uint32_t node_hash(uint32_t parent, uint32_t segment_hash)
{
    uint64_t h = ((uint64_t)parent << 32 | segment_hash) * UINT64_C(0x9e3779b97f4a7c15);
    return (uint32_t)(h >> 32);
}

static uint32_t find_child(const struct routes *r, uint32_t parent, const struct segment *s)
{
    uint32_t hash = node_hash(parent, s->hash);
    for (uint32_t i = hash;; i++) {
        uint32_t at = r->slot[i & (r->slots - 1)];
        if (!at)
            return NONE;
        const struct node *n = &r->node[--at];
        if (n->hash == hash && n->parent == parent && n->kind == s->kind && n->len == s->len &&
            !memcmp(n->text, s->text ? s->text : "", s->len))
            return at;
    }
}

static void put_slot(struct routes *r, uint32_t at)
{
    uint32_t i = r->node[at].hash;
    while (r->slot[i & (r->slots - 1)])
        i++;
    r->slot[i & (r->slots - 1)] = at + 1;
    r->used++;
}

/* All nodes that hang in the trie again, in `slots` places: after a merge, or to grow. */
static bool rebuild(struct routes *r, uint32_t slots)
{
    uint32_t *slot = calloc(slots, sizeof *slot);
    if (!slot)
        return false;
    free(r->slot);
    r->slot = slot;
    r->slots = slots;
    r->used = 0;
    for (uint32_t i = 1; i < r->nodes; i++)
        if (r->node[i].parent != NONE)
            put_slot(r, i);
    return true;
}

static uint32_t take_node(struct routes *r)
{
    uint32_t at = r->free_node;
    if (at != NONE) {
        r->free_node = r->node[at].next;
        return at;
    }
    if (r->nodes == r->nodes_room) {
        uint32_t room = r->nodes_room ? 2 * r->nodes_room : 32;
        struct node *more = realloc(r->node, room * sizeof *more);
        if (!more)
            return NONE;
        r->node = more;
        r->nodes_room = room;
    }
    return r->nodes++;
}

static void give_node(struct routes *r, uint32_t at)
{
    r->node[at].parent = NONE;
    r->node[at].next = r->free_node;
    r->free_node = at;
}

static bool is_counted_literal(const struct segment *s)
{
    return s->kind == SEGMENT_LITERAL && s->len;
}

static uint32_t add_child(struct routes *r, uint32_t parent, const struct segment *s)
{
    if (2 * (r->used + 1) > r->slots && !rebuild(r, 2 * r->slots))
        return NONE;
    uint32_t at = take_node(r);
    if (at == NONE)
        return NONE;
    struct node *n = &r->node[at], *up = &r->node[parent];
    *n = (struct node){.parent = parent,
                       .child = NONE,
                       .next = up->child,
                       .leaf = NONE,
                       .kind = s->kind,
                       .len = s->len};
    n->hash = node_hash(parent, s->hash);
    if (s->len)
        memcpy(n->text, s->text, s->len);
    up->child = at;
    up->literals += is_counted_literal(s);
    up->endings += s->kind == SEGMENT_FILE;
    put_slot(r, at);
    return at;
}

static struct segment segment_of(const struct node *n)
{
    struct segment s;
    segment_make(&s, n->kind, n->text, n->len);
    return s;
}

/* What this segment is under `parent`: below a collapsed node no word stands for itself. */
static struct segment under(const struct routes *r, uint32_t parent, const struct segment *s,
                            bool last)
{
    const struct node *up = &r->node[parent];
    struct segment seen = *s;
    bool file = s->kind == SEGMENT_FILE;
    if (!file && (!up->collapsed || !is_counted_literal(s)))
        return seen;
    size_t ending = last && !file ? segment_ending(s->text, s->len) : 0;
    if (ending)
        segment_make(&seen, SEGMENT_FILE, s->text + s->len - ending, ending);
    if (seen.kind == SEGMENT_FILE &&
        (up->endings < ENDINGS_MAX || find_child(r, parent, &seen) != NONE))
        return seen;
    segment_make(&seen, SEGMENT_NAME, NULL, 0);
    return seen;
}

/* ---- endpoints ---- */

static size_t write_segment(const struct segment *s, char *to)
{
    size_t n = 0;
    if (s->kind != SEGMENT_ASTERISK && s->kind != SEGMENT_AUTHORITY)
        to[n++] = '/';
    return n + segment_write(s, to + n);
}

static size_t write_segments(const struct routes *r, uint32_t at, char *to)
{
    if (at == 0)
        return 0;
    size_t n = write_segments(r, r->node[at].parent, to);
    struct segment s = segment_of(&r->node[at]);
    return n + write_segment(&s, to + n);
}

static size_t write_verb(const char *verb, char *to)
{
    size_t n = strlen(verb);
    memcpy(to, verb, n);
    to[n++] = ' ';
    return n;
}

static size_t write_name(const struct routes *r, uint32_t at, const char *verb, char *to)
{
    size_t n = write_verb(verb, to);
    return n + write_segments(r, at, to + n);
}

static uint32_t find_leaf(const struct routes *r, uint32_t node, const char *verb)
{
    for (uint32_t i = r->node[node].leaf; i != NONE; i = r->leaf[i].next)
        if (r->leaf[i].verb == verb)
            return i;
    return NONE;
}

static uint32_t take_leaf(struct routes *r)
{
    uint32_t at = r->free_leaf;
    if (at != NONE) {
        r->free_leaf = r->leaf[at].next;
        return at;
    }
    if (r->leaves == r->leaves_room) {
        uint32_t room = r->leaves_room ? 2 * r->leaves_room : 16;
        struct leaf *more = realloc(r->leaf, room * sizeof *more);
        if (!more)
            return NONE;
        r->leaf = more;
        r->leaves_room = room;
    }
    return r->leaves++;
}

static void give_leaf(struct routes *r, uint32_t at)
{
    r->leaf[at].next = r->free_leaf;
    r->free_leaf = at;
}

static uint32_t create(struct routes *r, const char *name, size_t len, const char *verb)
{
    uint32_t endpoint = r->events.create(r->events.to, name, len, verb);
    if (endpoint) {
        r->ever++;
        r->cache->generation++;
    }
    return endpoint;
}

/* A new endpoint at the node; its number, 0: none to be had, then the table stays as large as it
 * is. */
static uint32_t add_leaf(struct routes *r, uint32_t node, const char *verb)
{
    char name[ROUTE_NAME_MAX];
    const struct node *n = &r->node[node];
    bool command = r->style != ROUTE_HTTP;
    size_t len = command ? n->len : write_name(r, node, verb, name);
    uint32_t at = take_leaf(r);
    uint32_t endpoint =
        at == NONE ? 0 : create(r, command ? n->text : name, len, command ? NULL : verb);
    if (!endpoint) {
        if (at != NONE)
            give_leaf(r, at);
        r->limit = r->live;
        return 0;
    }
    r->leaf[at] = (struct leaf){endpoint, r->node[node].leaf, verb};
    r->node[node].leaf = at;
    r->live++;
    return endpoint;
}

static uint32_t lazy(struct routes *r, uint32_t *endpoint, const char *name)
{
    if (!*endpoint)
        *endpoint = create(r, name, strlen(name), NULL);
    return *endpoint;
}

static uint32_t other(struct routes *r)
{
    return lazy(r, &r->other, ROUTE_OTHER);
}

/* ---- late merges ---- */

static void collapse(struct routes *r, uint32_t at);

static void move_leaves(struct routes *r, uint32_t from, uint32_t to)
{
    while (r->node[from].leaf != NONE) {
        uint32_t at = r->node[from].leaf;
        struct leaf leaf = r->leaf[at];
        r->node[from].leaf = leaf.next;
        give_leaf(r, at);
        r->live--;
        uint32_t there = find_leaf(r, to, leaf.verb);
        uint32_t into = there != NONE ? r->leaf[there].endpoint : add_leaf(r, to, leaf.verb);
        if (!into)
            into = other(r);
        if (into)
            r->events.merge(r->events.to, leaf.endpoint, into);
    }
}

/* The child of `to` where `s` belongs, made if need be. */
static uint32_t place(struct routes *r, uint32_t to, const struct segment *s, bool last)
{
    for (;;) {
        struct segment seen = under(r, to, s, last);
        uint32_t child = find_child(r, to, &seen);
        if (child != NONE)
            return child;
        if (!is_counted_literal(&seen) || r->node[to].literals < ROUTE_LITERALS)
            return add_child(r, to, &seen);
        collapse(r, to);
    }
}

static void move_subtree(struct routes *r, uint32_t from, uint32_t to);

/* A child of a node that moves or was collapsed goes where its text belongs under `to`, then is
 * freed. */
static void move_child(struct routes *r, uint32_t child, uint32_t to)
{
    char text[SEGMENT_TEXT]; /* nodes move when their array grows */
    struct segment s = segment_of(&r->node[child]);
    memcpy(text, s.text, s.len);
    s.text = text;
    if (r->node[child].leaf != NONE) {
        uint32_t there = place(r, to, &s, true);
        if (there != NONE)
            move_leaves(r, child, there);
    }
    if (r->node[child].child != NONE) {
        uint32_t there = place(r, to, &s, false);
        if (there != NONE)
            move_subtree(r, child, there);
    }
    give_node(r, child);
}

static void move_subtree(struct routes *r, uint32_t from, uint32_t to)
{
    while (r->node[from].child != NONE) {
        uint32_t child = r->node[from].child;
        r->node[from].child = r->node[child].next;
        move_child(r, child, to);
    }
}

static void collapse(struct routes *r, uint32_t at)
{
    uint32_t kept = NONE, gone = NONE;
    for (uint32_t child = r->node[at].child, next; child != NONE; child = next) {
        struct segment s = segment_of(&r->node[child]);
        uint32_t *list = is_counted_literal(&s) ? &gone : &kept;
        next = r->node[child].next;
        r->node[child].next = *list;
        *list = child;
    }
    r->node[at].child = kept;
    r->node[at].collapsed = true;
    r->node[at].literals = 0;
    while (gone != NONE) {
        uint32_t child = gone;
        gone = r->node[child].next;
        move_child(r, child, at);
    }
    rebuild(r, r->slots); /* without memory the old one does: freed nodes match no parent */
    r->cache->generation++;
}

/* ---- finding ---- */

struct walk {
    uint32_t node;    /* where it ended */
    unsigned missing; /* index of the first segment without a node; path.count: none */
};

static struct walk follow(const struct routes *r, const struct path *p)
{
    struct walk w = {0, 0};
    for (; w.missing < p->count; w.missing++) {
        struct segment s = under(r, w.node, &p->segment[w.missing], w.missing + 1 == p->count);
        uint32_t child = find_child(r, w.node, &s);
        if (child == NONE)
            break;
        w.node = child;
    }
    return w;
}

static uint32_t extend(struct routes *r, struct walk w, const struct path *p)
{
    for (; w.node != NONE && w.missing < p->count; w.missing++)
        w.node = place(r, w.node, &p->segment[w.missing], w.missing + 1 == p->count);
    return w.node;
}

static uint32_t find_path(struct routes *r, const struct path *p, const char *verb, bool missing)
{
    for (;;) {
        struct walk w = follow(r, p);
        bool whole = w.missing == p->count;
        uint32_t leaf = whole ? find_leaf(r, w.node, verb) : NONE;
        if (leaf != NONE)
            return r->leaf[leaf].endpoint;
        if (missing)
            return lazy(r, &r->unmatched, ROUTE_UNMATCHED);
        struct segment s = {.kind = SEGMENT_REST};
        if (!whole)
            s = under(r, w.node, &p->segment[w.missing], w.missing + 1 == p->count);
        if (is_counted_literal(&s) && r->node[w.node].literals == ROUTE_LITERALS) {
            collapse(r, w.node); /* may make room below the limit too */
            continue;
        }
        if (r->live >= r->limit || r->ever >= 8 * r->limit + 256)
            return other(r);
        uint32_t node = extend(r, w, p);
        uint32_t endpoint = node == NONE ? 0 : add_leaf(r, node, verb);
        return endpoint ? endpoint : other(r);
    }
}

static uint32_t find_http(struct routes *r, const struct route_request *q)
{
    struct path p;
    const char *verb = verb_http(q->verb, q->verb_len);
    path_parse(&p, q->target, q->target_len, q->cut, !strcmp(verb, "CONNECT"));
    if (p.count)
        return find_path(r, &p, verb, q->missing);
    return q->missing ? lazy(r, &r->unmatched, ROUTE_UNMATCHED) : other(r);
}

/* The command as a segment, its text in `to` (SEGMENT_TEXT); empty: none that can be shown. */
static struct segment command_of(enum route_style style, const struct route_request *q, char *to)
{
    struct segment s;
    size_t len = q->verb_len < SEGMENT_TEXT ? q->verb_len : SEGMENT_TEXT;
    if (style == ROUTE_REDIS) {
        const char *verb = verb_redis(q->verb, q->verb_len);
        len = strcmp(verb, VERB_OTHER) ? strlen(verb) : 0;
        memcpy(to, verb, len);
    } else {
        len = redact_word(q->verb, len, to, SEGMENT_TEXT);
    }
    segment_make(&s, SEGMENT_LITERAL, to, len);
    return s;
}

/* Commands are children of the root that no number of others collapses. */
static uint32_t find_command(struct routes *r, const struct route_request *q)
{
    char text[SEGMENT_TEXT];
    struct segment s = command_of(r->style, q, text);
    if (!s.len)
        return other(r);
    uint32_t node = find_child(r, 0, &s);
    if (node != NONE && r->node[node].leaf != NONE)
        return r->leaf[r->node[node].leaf].endpoint;
    if (r->live >= r->limit && r->style != ROUTE_REDIS)
        return other(r);
    if (node == NONE)
        node = add_child(r, 0, &s);
    uint32_t endpoint = node == NONE ? 0 : add_leaf(r, node, "");
    return endpoint ? endpoint : other(r);
}

uint32_t routes_find(struct routes *r, const struct route_request *q)
{
    uint64_t key = key_of(r, q);
    uint32_t endpoint = recall(r->cache, key);
    if (endpoint)
        return endpoint;
    endpoint = r->style == ROUTE_HTTP ? find_http(r, q) : find_command(r, q);
    if (endpoint)
        remember(r->cache, key, endpoint);
    return endpoint;
}

size_t routes_name(const struct routes *r, enum route_style style, const struct route_request *q,
                   char *to)
{
    struct path p;
    struct walk w = {0, 0};
    if (style != ROUTE_HTTP) {
        size_t len = command_of(style, q, to).len;
        return len ? len : strlen(strcpy(to, ROUTE_OTHER));
    }
    const char *verb = verb_http(q->verb, q->verb_len);
    path_parse(&p, q->target, q->target_len, q->cut, !strcmp(verb, "CONNECT"));
    if (!p.count)
        return strlen(strcpy(to, ROUTE_OTHER));
    size_t n = write_verb(verb, to);
    if (r)
        w = follow(r, &p);
    n += r ? write_segments(r, w.node, to + n) : 0;
    for (unsigned i = w.missing; i < p.count; i++) {
        struct segment s = p.segment[i];
        if (r && i == w.missing)
            s = under(r, w.node, &s, i + 1 == p.count);
        n += write_segment(&s, to + n);
    }
    return n;
}

size_t routes_live(const struct routes *r)
{
    return r->live;
}

struct routes *routes_new(enum route_style style, size_t limit, struct route_cache *cache,
                          const struct route_events *events)
{
    struct routes *r = calloc(1, sizeof *r);
    if (!r)
        return NULL;
    r->style = style;
    r->limit = limit;
    r->cache = cache;
    r->events = *events;
    r->serial = ++cache->tables;
    r->free_node = r->free_leaf = NONE;
    r->slots = 64;
    r->slot = calloc(r->slots, sizeof *r->slot);
    uint32_t root = take_node(r);
    if (!r->slot || root == NONE) {
        routes_free(r);
        return NULL;
    }
    r->node[root] = (struct node){.parent = NONE, .child = NONE, .next = NONE, .leaf = NONE};
    return r;
}

void routes_free(struct routes *r)
{
    if (!r)
        return;
    free(r->node);
    free(r->leaf);
    free(r->slot);
    free(r);
}
