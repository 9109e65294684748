/*
 * sample.c - populations, their shares, and the row of a span that is kept.
 *
 * In:      rollup.c        Out: emit; redact.h
 * Owns:    held spans, shares of the second, slow ones of the interval.
 * Context: C
 * Failure: no memory, or a bound: the span is not kept, and its share says so by its rate.
 *
 * Why giving up the largest hash keeps the rate exact: a share holds the m smallest hashes of all
 * that was offered to it. Taking the largest of them away leaves the m - 1 smallest. A share that
 * ever gave one up or refused one may not grow again (`full`): what it does not hold any more might
 * have been smaller.
 */
#include "collector/sample.h"

#include <stdlib.h>
#include <string.h>
#include "collector/endpoint.h"
#include "collector/verb.h"
#include "wire/options.h"

#define HELD 1024u
#define SHARES 1024u
#define SLOW_MOST 2048u
#define UNKNOWN UINT64_MAX

struct held {
    struct held *next_free;
    uint64_t key; /* hash, or duration */
    struct row_span row;
    size_t tail_len;
    char tail[SAMPLE_TAIL_MAX];
};

/* A binary heap of held spans: the largest key first, or with `least` the smallest. */
struct heap {
    struct held **at;
    uint32_t count, room;
    bool least;
};

/* What an endpoint keeps of one second. */
struct share {
    struct heap heap;
    uint64_t offered;
    bool full;
};

struct population {
    uint64_t at_once, passed; /* allowance that is not held; how much of it was used */
    uint32_t allowance, held;
    bool none;
    enum why why;
    uint32_t shares;
    struct share share[SHARES + 1]; /* the last for all endpoints that come too late */
};

/* Per endpoint, by its number. */
struct place {
    uint32_t second[2]; /* in which `share` below is its own, per population */
    uint32_t share[2];
    uint32_t interval; /* in which `slow` is its own */
    uint32_t slow;     /* index in sample.slow */
};

struct sample {
    bool paths, queries;
    sample_emit_fn emit;
    void *to;
    struct held *free;
    struct population population[2]; /* ordinary, errors */
    struct place *place;
    uint32_t places;
    uint32_t second, interval; /* numbers, from 1 */
    uint32_t slowest;          /* per endpoint and interval */
    struct heap *slow;
    uint32_t slow_count, slow_room, slow_held;
};

/* ---- heaps ---- */

static bool above(const struct heap *h, const struct held *a, const struct held *b)
{
    return h->least ? a->key < b->key : a->key > b->key;
}

static void sift_down(struct heap *h, uint32_t i)
{
    struct held *moved = h->at[i];
    for (;;) {
        uint32_t child = 2 * i + 1;
        if (child >= h->count)
            break;
        if (child + 1 < h->count && above(h, h->at[child + 1], h->at[child]))
            child++;
        if (!above(h, h->at[child], moved))
            break;
        h->at[i] = h->at[child];
        i = child;
    }
    h->at[i] = moved;
}

static bool heap_add(struct heap *h, struct held *x)
{
    if (h->count == h->room) {
        uint32_t room = h->room ? 2 * h->room : 4;
        struct held **more = realloc(h->at, room * sizeof(struct held *));
        if (!more)
            return false;
        h->at = more;
        h->room = room;
    }
    uint32_t i = h->count++;
    for (; i && above(h, x, h->at[(i - 1) / 2]); i = (i - 1) / 2)
        h->at[i] = h->at[(i - 1) / 2];
    h->at[i] = x;
    return true;
}

static struct held *heap_take_top(struct heap *h)
{
    struct held *top = h->at[0];
    h->at[0] = h->at[--h->count];
    if (h->count)
        sift_down(h, 0);
    return top;
}

static struct held *heap_replace_top(struct heap *h, struct held *x)
{
    struct held *top = h->at[0];
    h->at[0] = x;
    sift_down(h, 0);
    return top;
}

/* ---- held spans ---- */

static struct held *take_held(struct sample *s)
{
    struct held *h = s->free;
    if (!h)
        return malloc(sizeof *h);
    s->free = h->next_free;
    return h;
}

static void give_held(struct sample *s, struct held *h)
{
    h->next_free = s->free;
    s->free = h;
}

/* ---- the row of a span ---- */

static uint64_t between(uint64_t from, uint64_t to)
{
    if (!from || !to)
        return UNKNOWN;
    return to > from ? to - from : 0; /* an early answer began before the request's end */
}

static void fill_phases(struct row_span *r, const struct span *s)
{
    bool server = s->side == SIDE_SERVER;
    r->queue_ns = server ? between(s->ready_ns, s->first_in_ns) : UNKNOWN;
    r->receive_ns = between(s->first_in_ns, s->last_in_ns);
    r->work_ns =
        server ? between(s->last_in_ns, s->first_out_ns) : between(s->last_out_ns, s->first_in_ns);
    r->send_ns = between(s->first_out_ns, s->last_out_ns);
    r->first_byte_ns = s->first_byte_ns ? s->first_byte_ns : UNKNOWN;
}

static uint64_t duration_of(const struct span *s)
{
    return s->start_ns && s->end_ns >= s->start_ns ? s->end_ns - s->start_ns : 0;
}

/* Only verbs that exist; in an endpoint that has none of its own, by looking it up. */
static void fill_verb(struct row_span *r, const struct span *s, const struct endpoint *endpoint)
{
    const char *verb = endpoint->verb;
    if (!verb && endpoint->http)
        verb = verb_http(s->verb, s->verb_len);
    else if (!verb && s->protocol && !strcmp(s->protocol->name, "redis"))
        verb = verb_redis(s->verb, s->verb_len);
    else if (!verb)
        verb = VERB_OTHER;
    r->verb_len = (uint8_t)strnlen(verb, sizeof r->verb);
    memcpy(r->verb, verb, r->verb_len);
}

static size_t fill_tail(const struct sample *sample, struct row_span *r, const struct span *s,
                        char *tail)
{
    size_t target = 0;
    if (sample->paths && s->target_len)
        target = redact_target(s->target, s->target_len, s->target_len >= SPAN_TARGET,
                               sample->queries, tail, REDACTED_MAX);
    size_t error = redact_word(s->error_text, s->error_len, tail + target, sizeof s->error_text);
    r->target_len = (uint16_t)target;
    r->error_len = (uint16_t)error;
    return target + error;
}

static void fill_ends(struct row_span *r, const struct span *s)
{
    r->peer_length = s->peer_length < sizeof r->peer ? s->peer_length : sizeof r->peer;
    r->local_length = s->local_length < sizeof r->local ? s->local_length : sizeof r->local;
    memcpy(r->peer, s->peer, r->peer_length);
    memcpy(r->local, s->local, r->local_length);
}

static size_t fill(const struct sample *sample, const struct span *s,
                   const struct endpoint *endpoint, int32_t pid, struct row_span *r, char *tail)
{
    *r = (struct row_span){
        .id = s->id,
        .parent = s->parent,
        .endpoint = endpoint->number,
        .process = s->process,
        .pid = pid,
        .tid = (int32_t)s->tid,
        .start_ns = s->start_ns,
        .duration_ns = duration_of(s),
        .bytes_in = s->bytes[IN],
        .bytes_out = s->bytes[OUT],
        .body_in = s->body[IN],
        .body_out = s->body[OUT],
        .cost = s->cost,
        .wall = s->wall,
        .cpu_known = s->cpu_known,
        .waits_known = s->waits_known,
        .downstream_ns = s->downstream_ns,
        .retained = s->retained,
        .rate = 1,
        .status = s->status,
        .inferred = s->inferred,
        .shared = s->shared,
        .side = s->side,
        .answered = s->answered,
        .error = endpoint_failed(endpoint, s),
        .traced = s->traced,
    };
    memcpy(r->trace, s->trace, sizeof r->trace);
    strncpy(r->protocol, s->protocol ? s->protocol->name : "unknown", sizeof r->protocol - 1);
    fill_phases(r, s);
    fill_verb(r, s, endpoint);
    fill_ends(r, s);
    return fill_tail(sample, r, s, tail);
}

/* ---- populations ---- */

static uint64_t hash_of(uint64_t id)
{
    id = (id ^ id >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    id = (id ^ id >> 27) * UINT64_C(0x94d049bb133111eb);
    return id ^ id >> 31;
}

static struct place *place_of(struct sample *s, uint32_t endpoint)
{
    if (endpoint >= s->places) {
        uint32_t places = s->places ? s->places : 64;
        while (places <= endpoint)
            places *= 2;
        struct place *more = realloc(s->place, places * sizeof *more);
        if (!more)
            return NULL;
        memset(more + s->places, 0, (places - s->places) * sizeof *more);
        s->place = more;
        s->places = places;
    }
    return &s->place[endpoint];
}

static struct share *share_of(struct sample *s, struct population *p, uint32_t endpoint)
{
    unsigned which = (unsigned)(p - s->population);
    struct place *place = place_of(s, endpoint);
    if (!place)
        return &p->share[SHARES];
    if (place->second[which] != s->second) {
        place->second[which] = s->second;
        place->share[which] = p->shares < SHARES ? p->shares++ : SHARES;
    }
    return &p->share[place->share[which]];
}

static struct share *largest(struct population *p)
{
    struct share *most = &p->share[SHARES];
    for (uint32_t i = 0; i < p->shares; i++)
        if (p->share[i].heap.count > most->heap.count)
            most = &p->share[i];
    return most;
}

/* May this share hold one more? Takes one from another if need be. */
static bool make_way(struct sample *s, struct population *p, struct share *share)
{
    if (share->full)
        return false;
    if (p->held < p->allowance)
        return true;
    struct share *most = largest(p);
    if (most->heap.count <= share->heap.count || most->heap.count < 2)
        return share->heap.count == 0; /* beyond the allowance, lest a rare endpoint be starved */
    give_held(s, heap_take_top(&most->heap));
    most->full = true;
    p->held--;
    return true;
}

/* Where a span with this hash may be put: NULL, it is not kept. *replaces: in the place of the
 * largest. */
static struct share *admit(struct sample *s, struct population *p, uint32_t endpoint, uint64_t hash,
                           bool *replaces)
{
    struct share *share = share_of(s, p, endpoint);
    share->offered++;
    *replaces = false;
    if (make_way(s, p, share))
        return share;
    share->full = true;
    *replaces = true;
    return share->heap.count && hash < share->heap.at[0]->key ? share : NULL;
}

static void put(struct sample *s, struct population *p, struct share *share, struct held *h,
                bool replaces)
{
    if (replaces) {
        give_held(s, heap_replace_top(&share->heap, h));
    } else if (heap_add(&share->heap, h)) {
        p->held++;
    } else {
        share->full = true;
        give_held(s, h);
    }
}

static void pass(struct sample *s, enum why why, const struct span *span,
                 const struct endpoint *endpoint, int32_t pid)
{
    struct row_span row;
    char tail[SAMPLE_TAIL_MAX];
    size_t tail_len = fill(s, span, endpoint, pid, &row, tail);
    row.why = (uint8_t)why;
    s->emit(s->to, &row, tail, tail_len);
}

static void hold(struct sample *s, struct population *p, const struct span *span,
                 const struct endpoint *endpoint, int32_t pid)
{
    bool replaces;
    uint64_t hash = hash_of(span->id);
    struct share *share = p->none ? NULL : admit(s, p, endpoint->number, hash, &replaces);
    struct held *h = share ? take_held(s) : NULL;
    if (!h) {
        if (share)
            share->full = true;
        return;
    }
    h->key = hash;
    h->tail_len = fill(s, span, endpoint, pid, &h->row, h->tail);
    h->row.why = (uint8_t)p->why;
    put(s, p, share, h, replaces);
}

static void leave(struct sample *s, struct share *share)
{
    double rate = (double)share->heap.count / (double)share->offered;
    for (uint32_t i = 0; i < share->heap.count; i++) {
        struct held *h = share->heap.at[i];
        h->row.rate = rate;
        s->emit(s->to, &h->row, h->tail, h->tail_len);
        give_held(s, h);
    }
    share->heap.count = 0;
    share->offered = 0;
    share->full = false;
}

void sample_second(struct sample *s)
{
    for (struct population *p = s->population; p < s->population + 2; p++) {
        for (uint32_t i = 0; i < p->shares; i++)
            leave(s, &p->share[i]);
        leave(s, &p->share[SHARES]);
        p->shares = p->held = 0;
        p->passed = 0;
    }
    s->second++;
}

/* ---- the slowest ---- */

static struct heap *slow_of(struct sample *s, uint32_t endpoint)
{
    struct place *place = place_of(s, endpoint);
    if (!place)
        return NULL;
    if (place->interval == s->interval)
        return &s->slow[place->slow];
    if (s->slow_count == s->slow_room) {
        uint32_t room = s->slow_room ? 2 * s->slow_room : 64;
        struct heap *more = realloc(s->slow, room * sizeof *more);
        if (!more)
            return NULL;
        memset(more + s->slow_room, 0, (room - s->slow_room) * sizeof *more);
        s->slow = more;
        s->slow_room = room;
    }
    place->interval = s->interval;
    place->slow = s->slow_count;
    s->slow[s->slow_count].least = true;
    return &s->slow[s->slow_count++];
}

/* One that was among the slowest until now joins the others of this second. */
static void demote(struct sample *s, struct held *h)
{
    struct population *p = &s->population[0];
    bool replaces;
    h->key = hash_of(h->row.id);
    h->row.why = WHY_SAMPLE;
    struct share *share = p->none ? NULL : admit(s, p, h->row.endpoint, h->key, &replaces);
    if (share)
        put(s, p, share, h, replaces);
    else
        give_held(s, h);
}

static bool keep_slow(struct sample *s, const struct span *span, const struct endpoint *endpoint,
                      int32_t pid)
{
    struct heap *slow = s->slowest ? slow_of(s, endpoint->number) : NULL;
    uint64_t duration = duration_of(span);
    if (!slow)
        return false;
    bool room = slow->count < s->slowest && s->slow_held < SLOW_MOST;
    if (!room && (!slow->count || duration <= slow->at[0]->key))
        return false;
    struct held *h = take_held(s);
    if (!h)
        return false;
    h->key = duration;
    h->tail_len = fill(s, span, endpoint, pid, &h->row, h->tail);
    h->row.why = WHY_SLOW;
    if (!room) {
        demote(s, heap_replace_top(slow, h));
        return true;
    }
    if (!heap_add(slow, h)) {
        give_held(s, h);
        return false;
    }
    s->slow_held++;
    return true;
}

void sample_interval(struct sample *s)
{
    for (uint32_t i = 0; i < s->slow_count; i++) {
        struct heap *slow = &s->slow[i];
        for (; slow->count; slow->count--) {
            struct held *h = slow->at[slow->count - 1];
            s->emit(s->to, &h->row, h->tail, h->tail_len);
            give_held(s, h);
        }
    }
    s->slow_count = s->slow_held = 0;
    s->interval++;
}

/* ---- all spans ---- */

/*
 * Neither among the slowest nor of a hash small enough, as most are once their endpoint's share is full: counted, and
 * nothing else. False: it has to be looked at.
 */
static inline bool is_refused(struct sample *s, struct population *p, const struct span *span, uint32_t endpoint)
{
    unsigned which = (unsigned)(p - s->population);
    if (endpoint >= s->places || p->none)
        return false;
    const struct place *place = &s->place[endpoint];
    if (place->second[which] != s->second)
        return false;
    if (p->why == WHY_SAMPLE && s->slowest) {
        const struct heap *slow = &s->slow[place->slow];
        if (place->interval != s->interval || (slow->count < s->slowest && s->slow_held < SLOW_MOST) ||
            (slow->count && duration_of(span) > slow->at[0]->key))
            return false;
    }
    struct share *share = &p->share[place->share[which]];
    if (!share->full || (share->heap.count && hash_of(span->id) < share->heap.at[0]->key))
        return false;
    share->offered++;
    return true;
}

static __attribute__((noinline)) void consider(struct sample *s, struct population *p, const struct span *span,
                                               const struct endpoint *endpoint, int32_t pid)
{
    if (p->passed < p->at_once) {
        p->passed++;
        pass(s, p->why, span, endpoint, pid);
        return;
    }
    if (p->why == WHY_SAMPLE && keep_slow(s, span, endpoint, pid))
        return;
    hold(s, p, span, endpoint, pid);
}

void sample_offer(struct sample *s, const struct span *span, const struct endpoint *endpoint,
                  int32_t pid)
{
    struct population *p = &s->population[endpoint_failed(endpoint, span)];
    if (p->passed < p->at_once || !is_refused(s, p, span, endpoint->number))
        consider(s, p, span, endpoint, pid);
}

static void allow(struct population *p, enum why why, uint64_t a_second)
{
    p->why = why;
    p->none = a_second == 0;
    p->allowance = a_second < HELD ? (uint32_t)a_second : HELD;
    p->at_once = a_second - p->allowance;
}

struct sample *sample_new(const struct options *o, sample_emit_fn emit, void *to)
{
    struct sample *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    s->paths = o->paths;
    s->queries = o->queries;
    s->emit = emit;
    s->to = to;
    s->second = s->interval = 1;
    s->slowest = (uint32_t)o->slowest;
    allow(&s->population[0], WHY_SAMPLE, o->spans_per_second);
    allow(&s->population[1], WHY_ERROR, o->errors_per_second);
    return s;
}

void sample_free(struct sample *s)
{
    if (!s)
        return;
    for (struct population *p = s->population; p < s->population + 2; p++)
        for (uint32_t i = 0; i <= SHARES; i++) {
            while (p->share[i].heap.count)
                give_held(s, p->share[i].heap.at[--p->share[i].heap.count]);
            free(p->share[i].heap.at);
        }
    for (uint32_t i = 0; i < s->slow_room; i++) {
        while (s->slow[i].count)
            give_held(s, s->slow[i].at[--s->slow[i].count]);
        free(s->slow[i].at);
    }
    for (struct held *h = s->free, *next; h; h = next) {
        next = h->next_free;
        free(h);
    }
    free(s->slow);
    free(s->place);
    free(s);
}
