/*
 * sampled.c - see sampled.h.
 *
 * In:      see sampled.h.                        Out: stack.h, record.h.
 * Context: S
 */
#define _GNU_SOURCE
#include "shim/sampled.h"

#include <errno.h>

#include "shim/rule.h"
#include "shim/stack.h"
#include "shim/usage.h"

#define PLACES_EACH 8u /* addresses in a cache line */

static uint64_t last_serial;

/* --- gaps --- */

/* -log2(random / 2^64) in units of 2^-32: the fraction bit by bit, squaring; no floating point, whose flags are the program's */
static uint64_t minus_log2(uint64_t random)
{
    if (!random)
        random = 1;
    uint64_t whole = (uint64_t)__builtin_clzll(random), x = random << whole, fraction = 0;
    for (int i = 0; i < 32; i++) { /* x is in [1, 2) * 2^63 */
        x = (uint64_t)((unsigned __int128)x * x >> 64);
        fraction <<= 1;
        if (x >> 63)
            fraction |= 1;
        else
            x <<= 1;
    }
    return ((whole + 1) << 32) - fraction;
}

#define LN_2 UINT64_C(2977044472) /* * 2^-32 */

uint64_t sampled_gap(uint64_t random, uint64_t mean)
{
    unsigned __int128 ln = (unsigned __int128)minus_log2(random) * LN_2 >> 32; /* units of 2^-32 */
    return (uint64_t)(ln * mean >> 32) + 1;
}

static uint64_t draw(void)
{
    uint64_t x = self.random;
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    self.random = x;
    return x * UINT64_C(0x2545f4914f6cdd1d);
}

static void seed(const struct lane *l)
{
    uint64_t x = (uint64_t)l->serial << 32 ^ l->start ^ (uint64_t)(uintptr_t)&self;
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    self.random = (x ^ x >> 31) | 1;
}

/* --- the table --- */

static uint64_t *keys_of(const void *block)
{
    uint64_t bucket = ((uint64_t)(uintptr_t)block >> 4) * UINT64_C(0x9e3779b97f4a7c15) >> 52;
    return (uint64_t *)(void *)((char *)shim.epoch + SAMPLED_KEYS) + bucket * PLACES_EACH;
}
_Static_assert(SAMPLED_PLACES == PLACES_EACH << 12, "keys_of gives 12 bits");

static uint64_t *serial_at(const uint64_t *key)
{
    return (uint64_t *)(void *)((char *)key + (SAMPLED_SERIALS - SAMPLED_KEYS));
}

static void count_up(uint8_t *count)
{
    uint8_t old = load_relaxed(count);
    while (old != UINT8_MAX && !cas_acq_rel(count, &old, (uint8_t)(old + 1)))
        ;
}

static void count_down(uint8_t *count)
{
    uint8_t old = load_relaxed(count);
    while (old && old != UINT8_MAX && !cas_acq_rel(count, &old, (uint8_t)(old - 1)))
        ;
}

/* False: no place. */
static bool enter(void *block, uint64_t serial)
{
    uint64_t *key = keys_of(block);
    for (unsigned i = 0; i < PLACES_EACH; i++) {
        uint64_t none = 0;
        if (load_relaxed(&key[i]) || !cas_acq_rel(&key[i], &none, (uint64_t)1)) /* 1: taken, by nobody's address */
            continue;
        store_relaxed(serial_at(&key[i]), serial);
        store_release(&key[i], (uint64_t)(uintptr_t)block);
        count_up(sampled_count(block));
        return true;
    }
    return false;
}

/* Takes it out: its serial, 0: it was not there. */
static uint64_t take_out(void *block)
{
    uint64_t *key = keys_of(block);
    for (unsigned i = 0; i < PLACES_EACH; i++)
        if (load_acquire(&key[i]) == (uint64_t)(uintptr_t)block) {
            uint64_t serial = load_relaxed(serial_at(&key[i]));
            store_release(&key[i], (uint64_t)0);
            count_down(sampled_count(block));
            return serial;
        }
    return 0;
}

/* --- events --- */

/* How long the thread had been awake is the next call's to tell. True: it was written. */
static bool tell(struct lane *l, uint8_t type, const void *data, size_t bytes)
{
    uint64_t waited = self.wait_return, lost = l ? l->lost_full + l->lost_nested : 0;
    struct observation o = {.type = type, .descriptor = -1, .time = ticks_now()};
    self.wait_return = 0;
    record_note(l, &o, data, bytes);
    self.wait_return = waited;
    return l && lost == l->lost_full + l->lost_nested;
}

/* Apart from record_event, which does the same: these come also in programs that have nothing else to tell. */
static void pay(struct lane *l)
{
    uint64_t waited = self.wait_return;
    self.wait_return = 0;
    record_owed(l, ticks_now());
    self.wait_return = waited;
}

static void tell_freed(uint64_t serial)
{
    if (!shim.attached || self.in_vfork)
        return;
    int saved = errno;
    struct event_argument a = {.argument = (int64_t)serial};
    struct lane *l = lane_here();
    if (!recording() || !tell(l, EVENT_FREED, &a, sizeof a))
        owed_put(serial);
    else if (__builtin_expect(load_relaxed(owed_count()), 0))
        pay(l);
    errno = saved;
}

/* Apart: only here is so much of the stack needed. */
static __attribute__((noinline)) void sampled_tell(struct lane *l, void *block)
{
    uint64_t words[sizeof(struct event_sample) / 8 + EVENT_FRAMES];
    struct event_sample *s = (struct event_sample *)(void *)words;
    enum event_stack_end end;
    unsigned frames = stack_walk(s->frame, EVENT_FRAMES, &end);
    uint64_t serial = fetch_add_relaxed(&last_serial, 1) + 1;
    bool followed = enter(block, serial);
    s->serial = followed ? serial : 0;
    s->amount = usage.usable(block);
    s->frames = (uint16_t)frames;
    s->end = (uint16_t)end;
    s->pad = 0;
    bool told = tell(l, EVENT_ALLOCATED, s, sizeof *s + frames * sizeof *s->frame);
    if (!told && followed)
        take_out(block); /* nobody knows of it */
    if (told && __builtin_expect(load_relaxed(owed_count()), 0))
        pay(l);
}

/* --- when --- */

static bool is_never(void)
{
    return usage.mode == USAGE_COUNT || usage.mode == USAGE_NONE || !rule_ready() ||
           !(shim.view.arena->features & FEATURE_STACKS) || !load_relaxed(&shim.view.arena->sample_bytes);
}

void *sampled_took(void *block)
{
    struct lane *l = self.lane;
    uint64_t total = l->allocated, bytes;
    if (rule_pending())
        return block; /* before our constructor */
    if (is_never()) {
        self.sample_at = UINT64_MAX;
        return block;
    }
    uint64_t mean = load_relaxed(&shim.view.arena->sample_bytes);
    if (!self.sample_at) {
        seed(l);
        bytes = usage.usable(block);
        self.sample_at = total - (bytes < total ? bytes : total) + sampled_gap(draw(), mean);
        if (total < self.sample_at)
            return block;
    }
    self.sample_at = total + sampled_gap(draw(), mean);
    int saved = errno;
    if (recording())
        sampled_tell(l, block);
    errno = saved;
    return block;
}

void sampled_gave(void *block)
{
    uint64_t serial = take_out(block);
    if (serial)
        tell_freed(serial);
}

uint64_t sampled_forget_slow(void *block)
{
    return take_out(block);
}

/* The serial names the block, so that it may be told after the call, when another thread has its address again. */
void sampled_moved(void *block, uint64_t serial, bool done)
{
    if (done)
        tell_freed(serial);
    else
        enter(block, serial);
}
