/*
 * heap.c - see heap.h.
 *
 * Context: C
 * Failure: no memory at the start: no heap at all. Damaged events are none.
 *
 * A block is in use until nobody asks for it any more: it is freed (or its process ended) and its request was judged.
 */
#include "collector/heap.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "collector/image.h"
#include "collector/objects.h"
#include "collector/sites.h"
#include "collector/told.h"
#include "wire/arena.h"

#define BUCKETS 65536u
#define EARLY 1024u /* frees that came before their allocation */
#define PROCESSES 4096u
#define SECOND UINT64_C(1000000000)

enum fate { LIVES, FREED, ENDED };

struct block {
    uint64_t serial, weight, since_ns;
    uint32_t process, stack;
    uint32_t site; /* 0: not booked yet */
    uint32_t next; /* in the list of its thread or request; of the free ones */
    uint32_t chain;
    uint32_t older, newer;
    uint32_t previous_of_process, next_of_process;
    uint8_t kind, fate;
    bool guess; /* its process ended, and frees of it were lost */
    bool listed, followed; /* listed: in a list; followed: in the index, a free will find it */
};

/* A request that has ended with live samples. */
struct judged {
    uint64_t due_ns;
    uint32_t list, endpoint, held; /* held: its span's place + 1, 0: let go */
    uint8_t class;
};

struct process_heap {
    uint32_t number, chain;
    uint32_t first; /* its blocks */
    bool unknown; /* its stacks are not walked, or its heap not seen */
    bool unsure;  /* frees of its blocks were lost: what seems to live may not */
};

struct early {
    uint64_t serial; /* 0: none */
    uint32_t process;
};

struct heap {
    struct rollup *rollup;
    struct sites *sites;
    struct block *block; /* [1..HEAP_BLOCKS] */
    uint32_t *bucket;
    uint32_t free, used, oldest, newest;
    struct judged *judged; /* ring of HEAP_BLOCKS + 1 */
    uint32_t judged_first, judged_count;
    struct span *held; /* [HEAP_HELD] */
    uint32_t held_free[HEAP_HELD], held_frees, held_used;
    uint32_t held_oldest; /* how far from judged_first the first that is held stands, at least */
    struct early early[EARLY]; /* by hash; a newer one takes its place */
    struct process_heap *process; /* chained by number */
    uint32_t process_bucket[PROCESSES], process_free, processes, process_room;
    uint64_t mean, lock_mean, retained_ns;
    bool off, stale; /* stale: a site does not know its oldest block */
    uint64_t looked_ns;
    struct heap_counts counts;
};

uint64_t heap_weight(uint64_t amount, uint64_t mean)
{
    if (amount / 64 >= mean)
        return amount; /* surely hit */
    double a = (double)amount, hit = -expm1(-a / (double)mean);
    return hit > 0 ? (uint64_t)(a / hit + 0.5) : mean;
}

struct heap_counts heap_counts(const struct heap *h)
{
    struct heap_counts c = h->counts;
    c.other = sites_other(h->sites);
    return c;
}

/* --- life --------------------------------------------------------------------------------------------------------------- */

struct heap *heap_new(const struct options *o, struct rollup *rollup)
{
    struct heap *h = calloc(1, sizeof *h);
    if (!h)
        return NULL;
    h->rollup = rollup;
    h->sites = rollup_sites(rollup);
    h->mean = o->sample_bytes;
    h->lock_mean = o->lock_sample_ns;
    h->retained_ns = o->retained_s * SECOND;
    h->off = !o->heap || !o->stacks;
    h->block = calloc(HEAP_BLOCKS + 1, sizeof *h->block);
    h->bucket = calloc(BUCKETS, sizeof *h->bucket);
    h->judged = calloc(HEAP_BLOCKS, sizeof *h->judged);
    h->held = calloc(HEAP_HELD, sizeof *h->held);
    if (!h->block || !h->bucket || !h->judged || !h->held) {
        heap_free(h);
        return NULL;
    }
    return h;
}

void heap_free(struct heap *h)
{
    if (!h)
        return;
    free(h->block);
    free(h->bucket);
    free(h->judged);
    free(h->held);
    free(h->process);
    free(h);
}

/* --- processes ---------------------------------------------------------------------------------------------------------- */

static uint32_t find_process(const struct heap *h, uint32_t number)
{
    uint32_t i = h->process_bucket[number % PROCESSES];
    while (i && h->process[i].number != number)
        i = h->process[i].chain;
    return i;
}

static uint32_t make_process(struct heap *h, uint32_t number)
{
    uint32_t i = find_process(h, number);
    if (i)
        return i;
    if (h->process_free) {
        i = h->process_free;
        h->process_free = h->process[i].chain;
    } else {
        if (h->processes + 1 >= h->process_room) {
            uint32_t room = h->process_room ? 2 * h->process_room : 64;
            struct process_heap *more = realloc(h->process, room * sizeof *more);
            if (!more)
                return 0;
            h->process = more;
            h->process_room = room;
        }
        i = ++h->processes;
    }
    h->process[i] = (struct process_heap){.number = number, .chain = h->process_bucket[number % PROCESSES]};
    h->process_bucket[number % PROCESSES] = i;
    return i;
}

static void drop_process(struct heap *h, uint32_t number)
{
    uint32_t *link = &h->process_bucket[number % PROCESSES], i;
    while ((i = *link) && h->process[i].number != number)
        link = &h->process[i].chain;
    if (!i)
        return;
    *link = h->process[i].chain;
    h->process[i] = (struct process_heap){.chain = h->process_free};
    h->process_free = i;
}

/* --- the index of blocks ------------------------------------------------------------------------------------------------ */

static uint32_t bucket_of(uint32_t process, uint64_t serial)
{
    uint64_t h = (serial ^ (uint64_t)process << 40) * UINT64_C(0x9e3779b97f4a7c15);
    return (uint32_t)(h >> 48) % BUCKETS;
}

static uint32_t find_block(const struct heap *h, uint32_t process, uint64_t serial)
{
    uint32_t i = h->bucket[bucket_of(process, serial)];
    while (i && (h->block[i].serial != serial || h->block[i].process != process))
        i = h->block[i].chain;
    return i;
}

static void follow(struct heap *h, uint32_t i)
{
    struct block *b = &h->block[i];
    uint32_t *bucket = &h->bucket[bucket_of(b->process, b->serial)], p = make_process(h, b->process);
    if (!p)
        return;
    b->chain = *bucket;
    *bucket = i;
    b->next_of_process = h->process[p].first;
    if (b->next_of_process)
        h->block[b->next_of_process].previous_of_process = i;
    h->process[p].first = i;
    b->older = h->newest;
    if (h->newest)
        h->block[h->newest].newer = i;
    else
        h->oldest = i;
    h->newest = i;
    b->followed = true;
}

static void unfollow(struct heap *h, uint32_t i)
{
    struct block *b = &h->block[i];
    uint32_t *link = &h->bucket[bucket_of(b->process, b->serial)], p = find_process(h, b->process);
    if (!b->followed)
        return;
    b->followed = false;
    while (*link != i)
        link = &h->block[*link].chain;
    *link = b->chain;
    if (b->previous_of_process)
        h->block[b->previous_of_process].next_of_process = b->next_of_process;
    else if (p)
        h->process[p].first = b->next_of_process;
    if (b->next_of_process)
        h->block[b->next_of_process].previous_of_process = b->previous_of_process;
    *(b->older ? &h->block[b->older].newer : &h->oldest) = b->newer;
    *(b->newer ? &h->block[b->newer].older : &h->newest) = b->older;
}

static void give_block(struct heap *h, uint32_t i)
{
    if (h->block[i].followed || h->block[i].listed)
        return;
    h->block[i] = (struct block){.next = h->free};
    h->free = i;
}

/* --- what becomes of a block -------------------------------------------------------------------------------------------- */

static void live_more(struct heap *h, const struct block *b)
{
    struct site *at = sites_at(h->sites, b->site);
    at->row.live_samples++;
    at->row.live_bytes += b->weight;
    if (!at->row.oldest_ns || b->since_ns < at->row.oldest_ns)
        at->row.oldest_ns = b->since_ns;
}

static void live_less(struct heap *h, const struct block *b)
{
    struct site *at = sites_at(h->sites, b->site);
    at->row.live_samples--;
    at->row.live_bytes -= b->weight;
    if (b->since_ns == at->row.oldest_ns) {
        at->row.oldest_ns = 0; /* the next one is looked for by the second */
        h->stale |= at->row.live_samples > 0;
    }
    sites_change(h->sites, b->site);
}

/* The oldest live one of sites whose oldest has gone: blocks stand in the order of their coming. */
static void find_oldest(struct heap *h)
{
    for (uint32_t i = h->oldest; h->stale && i; i = h->block[i].newer) {
        const struct block *b = &h->block[i];
        struct site *at = b->site ? sites_at(h->sites, b->site) : NULL;
        if (at && !at->row.oldest_ns) {
            at->row.oldest_ns = b->since_ns;
            sites_change(h->sites, b->site);
        }
    }
    h->stale = false;
}

static void ended_more(struct heap *h, const struct block *b)
{
    struct site *at = sites_at(h->sites, b->site);
    at->row.ended_samples++;
    at->row.ended_bytes += b->weight;
    at->interval_samples++;
    at->interval_bytes += b->weight;
}

/* It is freed, or its process ended, or it is forgotten (as if freed). */
static void meet_fate(struct heap *h, uint32_t i, enum fate fate)
{
    struct block *b = &h->block[i];
    b->fate = (uint8_t)fate;
    unfollow(h, i);
    if (b->site && b->kind == SITE_ALLOCATED) {
        live_less(h, b);
        if (fate == ENDED)
            ended_more(h, b);
    }
    give_block(h, i);
}

static uint32_t take_block(struct heap *h)
{
    if (!h->free && h->used == HEAP_BLOCKS) {
        h->counts.forgotten++;
        if (!h->oldest || h->block[h->oldest].listed)
            return 0; /* its request will ask for it: the new one goes */
        meet_fate(h, h->oldest, FREED);
    }
    uint32_t i = h->free;
    if (i)
        h->free = h->block[i].next;
    else
        i = ++h->used;
    h->block[i] = (struct block){.listed = true};
    return i;
}

/* --- events ------------------------------------------------------------------------------------------------------------- */

static uint32_t stack_of(struct heap *h, uint32_t process, const struct told_sample *s)
{
    struct frame frame[EVENT_FRAMES];
    for (uint16_t i = 0; i < s->frames; i++)
        frame[i] = objects_find(sites_objects(h->sites), process, s->frame[i]);
    return sites_stack(h->sites, frame, s->frames, s->end);
}

static bool was_freed_early(struct heap *h, uint32_t process, uint64_t serial)
{
    struct early *e = &h->early[bucket_of(process, serial) % EARLY];
    if (e->serial != serial || e->process != process)
        return false;
    e->serial = 0;
    return true;
}

static uint32_t sampled(struct heap *h, const struct item *item)
{
    struct told_sample s;
    bool wait = item->event->type == EVENT_LOCKED;
    if (!told_sample(item, &s) || (s.serial && !wait && find_block(h, item->process, s.serial)))
        return 0;
    uint64_t mean = wait ? h->lock_mean : h->mean;
    uint32_t i = take_block(h);
    if (!i)
        return 0;
    struct block *b = &h->block[i];
    b->serial = s.serial;
    b->weight = mean ? heap_weight(s.amount, mean) : s.amount;
    b->since_ns = item->time_ns;
    b->process = item->process;
    b->kind = wait ? SITE_LOCKWAIT : SITE_ALLOCATED;
    b->stack = stack_of(h, item->process, &s);
    b->fate = FREED; /* nobody follows it */
    if (!wait && s.serial && !was_freed_early(h, item->process, s.serial)) {
        b->fate = LIVES;
        follow(h, i);
    }
    return i;
}

static void freed(struct heap *h, const struct item *item)
{
    uint64_t serial;
    if (!told_freed(item, &serial))
        return;
    uint32_t i = find_block(h, item->process, serial);
    if (i) {
        meet_fate(h, i, FREED);
        return;
    }
    h->early[bucket_of(item->process, serial) % EARLY] = (struct early){serial, item->process};
}

uint32_t heap_event(void *heap, const struct item *item, const struct thread *t)
{
    struct heap *h = heap;
    struct told_object object;
    (void)t;
    if (item->event->type == EVENT_FREED)
        freed(h, item);
    else if (item->event->type != EVENT_OBJECT)
        return sampled(h, item);
    else if (told_object(item, &object))
        objects_told(sites_objects(h->sites), item->process, &object);
    return 0;
}

/* --- owners ------------------------------------------------------------------------------------------------------------- */

uint32_t heap_join(void *heap, uint32_t list, uint32_t more)
{
    struct heap *h = heap;
    uint32_t last = list;
    while (h->block[last].next)
        last = h->block[last].next;
    h->block[last].next = more;
    return list;
}

/* Counts them at their sites, keeps of the list what lives: for a request, else none. */
static uint32_t book(struct heap *h, uint32_t list, uint32_t endpoint, bool keep)
{
    uint32_t kept = 0;
    for (uint32_t i = list, next; i; i = next) {
        struct block *b = &h->block[i];
        next = b->next;
        b->next = 0;
        b->site = sites_find(h->sites, endpoint, b->stack, (enum site_kind)b->kind);
        if (b->site) {
            struct site *at = sites_at(h->sites, b->site);
            at->row.samples++;
            at->row.amount += b->weight;
            if (b->fate == LIVES)
                live_more(h, b);
            else if (b->fate == ENDED)
                ended_more(h, b);
            sites_change(h->sites, b->site);
        } else if (b->fate == LIVES) {
            unfollow(h, i);
            b->fate = FREED;
        }
        if (keep && b->fate != FREED) {
            b->next = kept;
            kept = i;
        } else {
            b->listed = false;
            give_block(h, i);
        }
    }
    return kept;
}

void heap_belong(void *heap, uint32_t list, struct exchange *e, bool shared)
{
    struct heap *h = heap;
    if (!e) {
        book(h, list, 0, false);
        return;
    }
    e->span.samples = e->span.samples ? heap_join(h, list, e->span.samples) : list;
    if (shared)
        e->span.inferred |= INFERRED_COST;
}

/* --- requests that have ended ------------------------------------------------------------------------------------------- */

static struct judged *judged_at(struct heap *h, uint32_t n)
{
    return &h->judged[(h->judged_first + n) % HEAP_BLOCKS];
}

/* Its span goes on without its own number. */
static void let_go(struct heap *h, struct judged *j)
{
    struct span *s = &h->held[j->held - 1];
    s->retained = UINT64_MAX;
    rollup_offer(h->rollup, s);
    h->held_free[h->held_frees++] = j->held;
    j->held = 0;
}

static uint32_t hold(struct heap *h, const struct span *s)
{
    while (!h->held_frees && h->held_used == HEAP_HELD) {
        struct judged *j = judged_at(h, h->held_oldest++);
        if (j->held) {
            let_go(h, j);
            h->counts.let_go++;
        }
    }
    uint32_t place = h->held_frees ? h->held_free[--h->held_frees] : ++h->held_used;
    h->held[place - 1] = *s;
    return place;
}

static bool is_guess(const struct heap *h, const struct block *b)
{
    uint32_t p = find_process(h, b->process);
    return b->guess || (p && h->process[p].unsure);
}

/* Oldest first; their ends differ by the second that a request may wait for its costs, no more. */
static void judge(struct heap *h)
{
    struct judged *j = judged_at(h, 0);
    uint64_t bytes = 0, samples = 0;
    bool guess = false;
    for (uint32_t i = j->list, next; i; i = next) {
        struct block *b = &h->block[i];
        next = b->next;
        if (b->fate != FREED) {
            struct site *at = sites_at(h->sites, b->site);
            at->row.retained_samples++;
            at->row.retained_bytes += b->weight;
            sites_change(h->sites, b->site);
            bytes += b->weight;
            samples++;
            guess |= is_guess(h, b);
        }
        b->next = 0;
        b->listed = false;
        give_block(h, i);
    }
    rollup_retained(h->rollup, j->endpoint, j->class, bytes, samples);
    if (j->held) {
        struct span *s = &h->held[j->held - 1];
        s->samples = (uint32_t)samples;
        s->retained = bytes;
        s->inferred |= guess ? INFERRED_COST : 0;
        rollup_offer(h->rollup, s);
        h->held_free[h->held_frees++] = j->held;
    }
    h->judged_first = (h->judged_first + 1) % HEAP_BLOCKS;
    h->judged_count--;
    h->held_oldest -= h->held_oldest > 0;
}

static uint32_t count(const struct heap *h, uint32_t list)
{
    uint32_t n = 0;
    for (; list; list = h->block[list].next)
        n++;
    return n;
}

static __attribute__((noinline)) void leaves_with(struct heap *h, struct span *s, uint32_t list, bool counted)
{
    struct rollup_place place = {0};
    if (counted)
        place = rollup_place(h->rollup, s);
    list = book(h, list, place.endpoint, counted);
    if (!list)
        return;
    if (h->judged_count == HEAP_BLOCKS)
        judge(h);
    s->samples = count(h, list);
    s->retained = UINT64_MAX;
    *judged_at(h, h->judged_count) = (struct judged){.due_ns = s->end_ns + h->retained_ns,
                                                     .list = list,
                                                     .endpoint = place.endpoint,
                                                     .class = place.class};
    h->judged_count++;
    uint32_t held = hold(h, s);
    judged_at(h, h->judged_count - 1)->held = held;
}

void heap_leaves(void *heap, struct span *s, bool counted)
{
    struct heap *h = heap;
    uint32_t list = s->samples, p = find_process(h, s->process);
    s->samples = 0;
    s->retained = h->off || (p && h->process[p].unknown) ? UINT64_MAX : 0;
    if (list)
        leaves_with(h, s, list, counted);
}

void heap_tick(struct heap *h, uint64_t time_ns)
{
    while (h->judged_count && judged_at(h, 0)->due_ns <= time_ns)
        judge(h);
    if (h->stale && time_ns >= h->looked_ns + SECOND) {
        h->looked_ns = time_ns;
        find_oldest(h);
    }
}

void heap_finish(struct heap *h)
{
    while (h->judged_count)
        judge(h);
}

/* --- facts -------------------------------------------------------------------------------------------------------------- */

void heap_fact(struct heap *h, const struct item *item)
{
    const struct fact *f = item->fact;
    uint32_t p = f->kind == FACT_PROCESS || f->flags ? make_process(h, item->process) : find_process(h, item->process);
    if (f->kind == FACT_PROCESS)
        objects_begin(sites_objects(h->sites), item->process, f->flags & PROCESS_FORKED ? f->parent_process : 0, f->pid,
                      f->executable);
    if (p && f->flags & (PROCESS_NO_STACKS | PROCESS_OWN_MALLOC))
        h->process[p].unknown = true;
    bool ends = f->kind == FACT_PROCESS_END;
    if (p && (f->flags & PROCESS_LOST_FREES || (ends && f->flags & PROCESS_OWES_FREES)))
        h->process[p].unsure = true;
    if (!ends)
        return;
    while (p && h->process[p].first) {
        h->block[h->process[p].first].guess = h->process[p].unsure;
        meet_fate(h, h->process[p].first, ENDED);
    }
    drop_process(h, item->process);
    objects_end(sites_objects(h->sites), item->process);
}

/* Of a full arena and a nested event the recorder tells later (shim/owed.h); of an unfinished one the block was not freed. */
void heap_gap(struct heap *h, const struct item *item)
{
    uint32_t p = find_process(h, item->process);
    if (p && (item->loss == LOSS_DAMAGED || item->loss == LOSS_COLLECTOR))
        h->process[p].unsure = true;
}

uint32_t heap_flags(const struct heap *h, uint32_t process)
{
    uint32_t p = find_process(h, process);
    return p && h->process[p].unsure ? PROCESS_LOST_FREES : 0;
}
