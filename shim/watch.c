/*
 * watch.c - what a call on a descriptor becomes: an event, an id, an offset.
 *
 * In:      wrap_*.c.                       Out: record.c, descriptor.c.
 * Context: S
 * Sharing: slots by atomic words; offsets by one plain add: who reads one direction takes turns with other readers.
 * Failure: unseen.
 */
#define _GNU_SOURCE
#include "shim/watch.h"

#include <errno.h>

bool watch_start(struct watch *w, int fd, enum call call)
{
    w->lane = lane_here();
    if (!recording())
        return false;
    watch_note(w, fd);
    uint64_t id = slot_id(w->word);
    record_prepare(w->lane, id);
    w->entry = call_enter(w->lane, &w->before, call, id);
    return true;
}

static bool is_silent(int error)
{
    return error == EAGAIN || error == EINTR || error == EBADF;
}

static inline bool has_id(uint64_t word)
{
    return word >> 4;
}

/*
 * The id under which this call is reported: the one the slot had before, even if another stands there now. A first use
 * gives one: a socket of ours that never connected is a connection now, an unknown descriptor may be one.
 */
static uint64_t settle_id(const struct watch *w, struct slot **slot, uint64_t *word, uint32_t *flags)
{
    struct slot *s = w->slot ? w->slot : descriptor_make(w->fd);
    *slot = s;
    if (!s)
        return 0;
    uint64_t now = load_relaxed(&s->word);
    if (__builtin_expect(now == w->word && has_id(now), 1)) {
        *word = now;
        return slot_id(now);
    }
    if (has_id(w->word)) { /* closed meanwhile, or duplicated: SHARED came to it */
        *word = w->word;
        if ((now ^ w->word) & ~(SLOT_SHARED | SLOT_KIND))
            *slot = NULL;
        *flags |= EVENT_OFFSET_UNKNOWN;
        return slot_id(w->word);
    }
    uint64_t fresh = slot_word(slot_kind(w->word) == KIND_UNKNOWN ? KIND_UNSURE : KIND_CONNECTION,
                               connection_id_next(w->lane));
    uint64_t old = w->word;
    if (cas_acq_rel(&s->word, &old, fresh)) {
        *word = fresh;
        *flags |= EVENT_FIRST;
        return slot_id(fresh);
    }
    if (!has_id(old))
        return 0;
    *word = old; /* another thread's first use came before ours */
    *flags |= EVENT_OFFSET_UNKNOWN;
    return slot_id(old);
}

/* The collector found that it is no connection: no more events. */
static void ignore(struct slot *s, uint64_t word)
{
    if (s)
        cas_acq_rel(&s->word, &word, (uint64_t)KIND_OPENED);
}

void watch_data(const struct watch *w, const struct transfer *t)
{
    call_leave(w->lane, &w->before);
    int64_t result = t->result;
    if (__builtin_expect(result <= 0, 0)) {
        if (result < 0)
            result = -(int64_t)errno;
        bool nothing = result ? is_silent((int)-result) : t->type == EVENT_OUT || !t->asked;
        if (nothing || !has_id(w->word))
            return;
    }
    struct observation o = {.type = t->type, .time = ticks_now(), .descriptor = w->fd, .entry = w->entry};
    struct slot *slot;
    uint64_t word = 0;
    uint32_t flags = 0;
    o.connection = settle_id(w, &slot, &word, &flags);
    if (!o.connection)
        return;
    o.plan = arena_plan_get(&shim.view, o.connection);
    if (__builtin_expect(o.plan == PLAN_IGNORE, 0)) {
        ignore(slot, word);
        return;
    }
    if (word & SLOT_SHARED)
        flags |= EVENT_OFFSET_UNKNOWN;
    if (slot_kind(word) == KIND_UNSURE)
        flags |= EVENT_UNSURE;
    o.flags = (uint8_t)flags;
    o.result = result;
    if (result > 0) {
        if (slot)
            o.offset = fetch_add_own(t->type == EVENT_IN ? &slot->in : &slot->out, (uint64_t)result);
        o.data = t->data;
        o.data_count = t->data_count;
        o.data_bytes = (uint64_t)result;
    } else if (slot)
        o.offset = load_relaxed(t->type == EVENT_IN ? &slot->in : &slot->out);
    record_event(w->lane, &o);
}

/* --- the life of a number --------------------------------------------------------------------------------------- */

static void note_simple(uint8_t type, int fd, uint64_t id, int64_t result)
{
    if (!recording())
        return;
    struct observation o = {
        .type = type, .descriptor = fd, .connection = id, .result = result, .time = ticks_now()};
    if (arena_plan_get(&shim.view, id) != PLAN_IGNORE)
        record_event(lane_here(), &o);
}

static void close_slot(int fd, struct slot *s, void *unused)
{
    (void)unused;
    uint64_t word = load_relaxed(&s->word);
    if (has_id(word))
        note_simple(EVENT_CLOSE, fd, slot_id(word), 0);
    slot_set(s, KIND_UNKNOWN);
}

void watch_close(int fd)
{
    struct slot *s = descriptor_find(fd);
    if (s && load_relaxed(&s->word) && following())
        close_slot(fd, s, NULL);
}

void watch_close_range(unsigned first, unsigned last)
{
    if (following() && first <= last)
        descriptor_each(first, last, close_slot, NULL);
}

void watch_duplicate(int from, int to)
{
    if (from == to || !following())
        return;
    struct slot *old = descriptor_find(from), *new = descriptor_make(to);
    uint64_t word = old ? load_relaxed(&old->word) : 0;
    if (new && has_id(load_relaxed(&new->word)))
        close_slot(to, new, NULL);
    if (has_id(word)) {
        uint64_t expected = word;
        word |= SLOT_SHARED;
        cas_acq_rel(&old->word, &expected, word);
    }
    if (!new)
        return;
    slot_set(new, word);
    if (has_id(word)) {
        store_relaxed(&new->in, load_relaxed(&old->in));
        store_relaxed(&new->out, load_relaxed(&old->out));
        store_relaxed(&new->mode, load_relaxed(&old->mode));
        note_simple(EVENT_DUP, from, slot_id(word), to);
    }
}
