/*
 * stall.c - see stall.h.
 */
#define _GNU_SOURCE
#include "shim/stall.h"

#include <string.h>
#include <sys/stat.h>

#include "shim/real.h"
#include "shim/sampled.h"
#include "shim/stack.h"
#include "wire/raw.h"

#define NS_PER_S UINT64_C(1000000000)
#define LOCK_FRAMES 40u /* half a kilobyte of stack, no more */
#define GUESSED_RATE UINT64_C(2500000000) /* of a TSC whose rate nobody told; only thresholds hang on it */

/* --- what may be measured --------------------------------------------------------------------------------------- */

/* The libc that we run on, which may be another than we were built with: the locks' layout is read from 2.25 on. */
static bool is_known_glibc(void)
{
    const char *(*version)(void) = (const char *(*)(void))real_find("gnu_get_libc_version", NULL);
    const char *at = version ? version() : "";
    if (at[0] != '2' || at[1] != '.')
        return false;
    unsigned minor = 0;
    for (at += 2; *at >= '0' && *at <= '9' && minor < 1000; at++)
        minor = minor * 10 + (unsigned)(*at - '0');
    return minor >= 25;
}

void stall_clock_changed(void)
{
    shim.waits = shim.clock && shim.view.arena->features & FEATURE_WAITS;
}

void stall_attach(void)
{
    const struct arena *a = shim.view.arena;
    uint64_t rate = a->clock == CLOCK_KIND_MONOTONIC ? NS_PER_S : a->ticks_per_second ? a->ticks_per_second : GUESSED_RATE;
    stall_clock_changed();
    shim.locks_known = is_known_glibc();
    shim.long_ticks = rate / 50000;
    shim.lock_sample_ticks = (uint64_t)((unsigned __int128)a->lock_sample_ns * rate / NS_PER_S);
}

/* --- samples ---------------------------------------------------------------------------------------------------- */

static uint64_t hash(uint64_t x)
{
    x += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

/* Ticks of waiting until the next sample: exponential, never 0. */
static uint64_t next_gap(uint64_t now)
{
    return sampled_gap(hash(now ^ (uint64_t)(uintptr_t)&self), shim.lock_sample_ticks);
}

/* How long the thread had been awake is the next call's to tell. */
static __attribute__((noinline)) void record_sample(struct lane *l, uint64_t since, uint64_t now)
{
    uint64_t words[sizeof(struct event_sample) / 8 + LOCK_FRAMES], waited = self.wait_return;
    struct event_sample *s = (struct event_sample *)(void *)words;
    enum event_stack_end end;
    unsigned frames = stack_walk(s->frame, LOCK_FRAMES, &end);
    s->serial = 0;
    s->amount = now - since;
    s->frames = (uint16_t)frames;
    s->end = (uint16_t)end;
    s->pad = 0;
    struct observation o = {
        .type = EVENT_LOCKED, .descriptor = -1, .entry = since, .time = now, .result = CALL_LOCK};
    self.wait_return = 0;
    record_note(l, &o, words, sizeof *s + frames * sizeof *s->frame);
    self.wait_return = waited;
}

static void sample(struct lane *l, uint64_t since, uint64_t now)
{
    if (!shim.lock_sample_ticks)
        return;
    if (!self.lock_left)
        self.lock_left = next_gap(now);
    if (now - since < self.lock_left) {
        self.lock_left -= now - since;
        return;
    }
    self.lock_left = next_gap(now);
    if (recording())
        record_sample(l, since, now);
}

/* --- one wait --------------------------------------------------------------------------------------------------- */

static struct lane *measured_lane(void)
{
    return shim.waits && recording() ? lane_here() : NULL;
}

void stall_begin(struct stall *s, enum call call)
{
    s->lane = measured_lane();
    if (!s->lane)
        return;
    s->since = call_enter(s->lane, &s->before, call, 0);
    cpu_timed_begin();
}

void stall_disk_begin(struct stall *s, enum call call)
{
    stall_begin(s, call);
    if (s->lane)
        cpu_wait_begin();
}

/* When it ended, in ticks, if it was a wait at all. `least`: what counts as one where a switch is unknown. */
static inline uint64_t wait_over(const struct stall *s, enum cpu_switched switched, uint64_t least)
{
    if (switched == CPU_STAYED)
        return 0;
    uint64_t now = ticks_now();
    uint64_t shortest = switched == CPU_UNKNOWN ? least : 1;
    return now >= s->since + shortest ? now : 0;
}

static inline void add_wait(uint64_t *total, uint64_t ticks)
{
    add_own(total, ticks);
    cpu_timed_end();
}

/* The same; 0 also where it is not ours to count. */
static uint64_t stall_end(const struct stall *s, uint64_t least, bool disk)
{
    if (!stall_is_ours(s))
        return 0;
    enum cpu_switched switched = disk ? cpu_wait_end() : cpu_was_switched();
    call_leave(s->lane, &s->before);
    return wait_over(s, switched, least);
}

void stall_locked(const struct stall *s)
{
    uint64_t now = stall_end(s, 1, false);
    if (!now)
        return;
    add_wait(&s->lane->lock, now - s->since);
    sample(s->lane, s->since, now);
}

void stall_joined(const struct stall *s)
{
    uint64_t now = stall_end(s, 1, false);
    if (now)
        add_wait(&s->lane->lock, now - s->since);
}

void stall_slept(const struct stall *s)
{
    uint64_t now = stall_end(s, 1, false);
    if (now)
        add_wait(&s->lane->sleep, now - s->since);
}

void stall_read(const struct stall *s)
{
    uint64_t now = stall_end(s, shim.long_ticks, true);
    if (now)
        add_wait(&s->lane->disk, now - s->since);
}

/* Asked once per descriptor, after a wait that dwarfs the question; never where system calls may be forbidden. */
static bool is_file(int fd)
{
    struct slot *slot = descriptor_find(fd);
    uint64_t word = slot ? load_relaxed(&slot->word) : 0;
    struct stat status = {.st_mode = 0};
    if (slot_kind(word) != KIND_OPENED || shim.shut)
        return slot_kind(word) == KIND_FILE;
    if (raw2(SYS_fstat, fd, (long)&status))
        return false;
    bool file = S_ISREG(status.st_mode) || S_ISBLK(status.st_mode);
    cas_acq_rel(&slot->word, &word, (uint64_t)(file ? KIND_FILE : KIND_OTHER));
    return file;
}

void stall_file_slow(const struct stall *s, int fd)
{
    uint64_t now = wait_over(s, cpu_wait_end(), shim.long_ticks);
    if (now && is_file(fd))
        add_wait(&s->lane->disk, now - s->since);
}

void stall_borrowed_slow(const struct stall *s)
{
    uint64_t now = wait_over(s, cpu_wait_end(), shim.long_ticks);
    if (now)
        add_wait(&s->lane->disk, now - s->since);
}

void stall_turn_begin(struct stall *s, enum call call)
{
    s->lane = measured_lane();
    if (!s->lane)
        return;
    wait_begin(s->lane, &s->before, call);
    s->since = load_relaxed(&s->lane->call_since);
    cpu_timed_begin();
}

void stall_turn_end(const struct stall *s)
{
    if (!stall_is_ours(s))
        return;
    bool waited = cpu_was_switched() != CPU_STAYED;
    wait_end(s->lane, &s->before);
    if (waited && self.wait_return > s->since) {
        add_wait(&s->lane->lock, self.wait_return - s->since);
        self.turn_waits += self.wait_return - s->since;
    }
}
