/*
 * sites.c - see sites.h.
 *
 * Context: C
 * Failure: no memory for a stack's frames: it counts for {other}. A full queue: rows wait.
 *
 * A stack is known by a hash of 128 bits; its frames are kept until its row has left, no longer.
 */
#include "collector/sites.h"

#include <stdlib.h>
#include <string.h>

#include "collector/endpoint.h"
#include "collector/objects.h"
#include "collector/sink/queue.h"

#define BUCKETS 4096u
#define SITES_OTHER 1024u /* of all sites, kept for {other} */
#define PUSH_MOST 1024u

struct stack {
    uint64_t hash[2];
    struct frame *frame; /* until told; NULL in {other} */
    uint32_t chain;
    uint16_t frames;
    uint8_t end;
    bool told;
};

struct sites {
    struct stack stack[SITES_STACKS + 1]; /* from 1, which is {other} */
    struct site site[SITES_MOST + 1];
    uint32_t stack_bucket[BUCKETS], site_bucket[BUCKETS];
    uint32_t stacks, sites, first; /* first: number of stack[1] in rows */
    uint32_t changed, last_changed; /* sites, in the order of change */
    uint64_t other;
    struct objects *objects;
};

struct sites *sites_new(void)
{
    struct sites *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    s->objects = objects_new();
    if (!s->objects) {
        free(s);
        return NULL;
    }
    s->stacks = 1;
    s->first = 1;
    return s;
}

void sites_free(struct sites *s)
{
    if (!s)
        return;
    for (uint32_t i = 1; i <= s->stacks; i++)
        free(s->stack[i].frame);
    objects_free(s->objects);
    free(s);
}

void sites_number_from(struct sites *s, uint32_t first)
{
    s->first = first;
}

struct objects *sites_objects(struct sites *s)
{
    return s->objects;
}

uint64_t sites_other(const struct sites *s)
{
    return s->other;
}

/* --- stacks ------------------------------------------------------------------------------------------------------------- */

static uint64_t mix(uint64_t h, uint64_t word)
{
    h = (h ^ word) * UINT64_C(0x9e3779b97f4a7c15);
    return h ^ h >> 29;
}

static void hash_frames(const struct frame *f, uint32_t n, uint64_t hash[2])
{
    hash[0] = n;
    hash[1] = ~(uint64_t)n;
    for (uint32_t i = 0; i < n; i++) {
        hash[0] = mix(hash[0] + f[i].object, f[i].address);
        hash[1] = mix(hash[1] ^ f[i].address * 31, f[i].object + UINT64_C(0x517cc1b727220a95));
    }
}

static uint32_t find_stack(const struct sites *s, const uint64_t hash[2])
{
    uint32_t i = s->stack_bucket[hash[0] % BUCKETS];
    while (i && (s->stack[i].hash[0] != hash[0] || s->stack[i].hash[1] != hash[1]))
        i = s->stack[i].chain;
    return i;
}

uint32_t sites_stack(struct sites *s, const struct frame *frame, uint32_t frames, uint8_t end)
{
    uint64_t hash[2];
    hash_frames(frame, frames, hash);
    uint32_t i = find_stack(s, hash);
    if (i)
        return i;
    struct frame *copy = s->stacks < SITES_STACKS ? malloc(frames * sizeof *copy + 1) : NULL;
    if (!copy) {
        s->other++;
        return 1;
    }
    memcpy(copy, frame, frames * sizeof *copy);
    i = ++s->stacks;
    s->stack[i] = (struct stack){.hash = {hash[0], hash[1]},
                                 .frame = copy,
                                 .frames = (uint16_t)frames,
                                 .end = end,
                                 .chain = s->stack_bucket[hash[0] % BUCKETS]};
    s->stack_bucket[hash[0] % BUCKETS] = i;
    return i;
}

/* --- sites -------------------------------------------------------------------------------------------------------------- */

static uint32_t look(const struct sites *s, uint32_t bucket, uint32_t endpoint, uint32_t stack, enum site_kind kind)
{
    uint32_t i = s->site_bucket[bucket];
    while (i && (s->site[i].row.endpoint != endpoint || s->site[i].row.stack != stack || s->site[i].row.kind != kind))
        i = s->site[i].chain;
    return i;
}

uint32_t sites_find(struct sites *s, uint32_t endpoint, uint32_t stack, enum site_kind kind)
{
    uint32_t bucket = (uint32_t)(mix(mix(endpoint, stack), kind) % BUCKETS);
    uint32_t i = look(s, bucket, endpoint, stack, kind);
    if (i)
        return i;
    if (stack != 1 && s->sites >= SITES_MOST - SITES_OTHER) {
        s->other++;
        return sites_find(s, endpoint, 1, kind);
    }
    if (s->sites == SITES_MOST) {
        s->other++;
        return 0;
    }
    i = ++s->sites;
    s->site[i] = (struct site){.row = {.endpoint = endpoint, .stack = stack, .kind = (uint8_t)kind},
                               .chain = s->site_bucket[bucket]};
    s->site_bucket[bucket] = i;
    return i;
}

struct site *sites_at(struct sites *s, uint32_t site)
{
    return &s->site[site];
}

void sites_change(struct sites *s, uint32_t site)
{
    struct site *at = &s->site[site];
    if (at->changed)
        return;
    at->changed = true;
    at->next_changed = 0;
    if (s->changed)
        s->site[s->last_changed].next_changed = site;
    else
        s->changed = site;
    s->last_changed = site;
}

/* --- rows --------------------------------------------------------------------------------------------------------------- */

static bool push_other(struct sites *s, struct queue *q)
{
    static const char text[] = "{other}";
    struct row *row = queue_reserve(q, ROW_STACK, sizeof *row + sizeof(struct row_stack) + sizeof text - 1);
    if (!row)
        return false;
    struct row_stack *r = (void *)(row + 1);
    *r = (struct row_stack){.stack = s->first, .text_len = sizeof text - 1};
    memcpy(r + 1, text, sizeof text - 1);
    queue_publish(q, row);
    return s->stack[1].told = true;
}

static bool push_stack(struct sites *s, struct queue *q, uint32_t number)
{
    struct stack *at = &s->stack[number];
    if (at->told)
        return true;
    if (number == 1)
        return push_other(s, q);
    for (uint32_t i = 0; i < at->frames; i++)
        if (!objects_tell(s->objects, at->frame[i].object, q))
            return false;
    size_t bytes = at->frames * sizeof *at->frame;
    struct row *row = queue_reserve(q, ROW_FRAMES, sizeof *row + sizeof(struct row_frames) + bytes);
    if (!row)
        return false;
    struct row_frames *r = (void *)(row + 1);
    *r = (struct row_frames){.stack = s->first + number - 1, .frames = at->frames, .end = at->end};
    memcpy(r + 1, at->frame, bytes);
    queue_publish(q, row);
    free(at->frame);
    at->frame = NULL;
    return at->told = true;
}

static bool tell(struct sites *s, struct endpoints *endpoints, struct queue *q, const struct site *at)
{
    uint32_t endpoint = at->row.endpoint;
    return push_stack(s, q, at->row.stack) &&
           (!endpoint || endpoints_tell(endpoints, endpoints_by_number(endpoints, endpoint), q));
}

static bool push_site(struct sites *s, struct endpoints *endpoints, struct queue *q, const struct site *at)
{
    if (!tell(s, endpoints, q, at))
        return false;
    struct row *row = queue_reserve(q, ROW_SITE, sizeof *row + sizeof at->row);
    if (!row)
        return false;
    struct row_site *r = (void *)(row + 1);
    *r = at->row;
    r->stack += s->first - 1;
    queue_publish(q, row);
    return true;
}

bool sites_push(struct sites *s, struct endpoints *endpoints, struct queue *q, bool all)
{
    for (uint32_t n = 0; s->changed && (all || n < PUSH_MOST); n++) {
        struct site *at = &s->site[s->changed];
        if (!push_site(s, endpoints, q, at))
            return false;
        s->changed = at->next_changed;
        at->changed = false;
    }
    return true;
}

/* --- growth ------------------------------------------------------------------------------------------------------------- */

static bool lives(const struct site *at)
{
    return at->row.live_samples || at->interval_samples;
}

static uint64_t live_bytes(const struct site *at)
{
    return at->row.live_bytes + at->interval_bytes;
}

static int by_live_bytes(const void *a, const void *b)
{
    const struct site *x = *(const struct site *const *)a, *y = *(const struct site *const *)b;
    if (live_bytes(x) != live_bytes(y))
        return live_bytes(x) > live_bytes(y) ? -1 : 1;
    return x < y ? -1 : x > y;
}

static bool push_live(struct sites *s, struct endpoints *endpoints, struct queue *q, struct site *at,
                      uint32_t interval, uint64_t requests)
{
    if (!tell(s, endpoints, q, at))
        return false;
    struct row *row = queue_reserve(q, ROW_SITE_LIVE, sizeof *row + sizeof(struct row_site_live));
    if (!row)
        return false;
    uint32_t endpoint = at->row.endpoint;
    *(struct row_site_live *)(void *)(row + 1) = (struct row_site_live){
        .interval = interval,
        .endpoint = endpoint,
        .stack = at->row.stack + s->first - 1,
        .requests = endpoint ? endpoints_by_number(endpoints, endpoint)->requests : requests,
        .live_samples = at->row.live_samples + at->interval_samples,
        .live_bytes = live_bytes(at),
    };
    queue_publish(q, row);
    at->lived = lives(at);
    return true;
}

void sites_push_live(struct sites *s, struct endpoints *endpoints, struct queue *q, uint32_t interval,
                     uint64_t requests)
{
    static struct site *list[SITES_MOST];
    uint32_t n = 0;
    for (uint32_t i = 1; i <= s->sites; i++)
        if (lives(&s->site[i]) || s->site[i].lived)
            list[n++] = &s->site[i];
    if (n)
        qsort(list, n, sizeof(void *), by_live_bytes);
    for (uint32_t i = 0; i < n; i++)
        if (i >= SITES_LIVE_MOST || !push_live(s, endpoints, q, list[i], interval, requests))
            break;
    for (uint32_t i = 1; i <= s->sites; i++)
        s->site[i].interval_samples = s->site[i].interval_bytes = 0;
}
