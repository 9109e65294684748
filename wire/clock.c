/*
 * clock.c - which clock this machine's arenas use, and its rate.
 *
 * In:      cli and collector (calibrate, refine), shim/lifecycle.c (choose, for an arena of its own).
 * Context: I; clock_scale_init is P.
 * Failure: none: without a trustworthy TSC the clock is CLOCK_MONOTONIC.
 */
#include "wire/clock.h"

#include <fcntl.h>
#include <string.h>
#include <time.h>

#include "wire/raw.h"

#if defined(__x86_64__)
#include <cpuid.h>

static bool tsc_is_invariant(void)
{
    unsigned a, b, c, d;
    return __get_cpuid(0x80000007u, &a, &b, &c, &d) && (d & 1u << 8);
}

/* The kernel watches the TSC; where it keeps time by something else it found a reason. No file: no news. */
static bool kernel_trusts_tsc(void)
{
    char name[32] = "";
    long fd = raw4(SYS_openat, AT_FDCWD, (long)"/sys/devices/system/clocksource/clocksource0/current_clocksource",
                   O_RDONLY | O_CLOEXEC, 0);
    if (fd < 0)
        return true;
    long n = raw3(SYS_read, fd, (long)name, sizeof name - 1);
    raw1(SYS_close, fd);
    static const char *const by_tsc[] = {"tsc", "kvm-clock", "hyperv_clocksource_tsc_page"};
    for (size_t i = 0; n > 0 && i < sizeof by_tsc / sizeof *by_tsc; i++)
        if (!strncmp(name, by_tsc[i], strlen(by_tsc[i])))
            return true;
    return n <= 0;
}

uint32_t clock_choose(void)
{
    return tsc_is_invariant() && kernel_trusts_tsc() ? CLOCK_KIND_TSC : CLOCK_KIND_MONOTONIC;
}
#else
uint32_t clock_choose(void)
{
    return CLOCK_KIND_MONOTONIC;
}
#endif

struct anchor {
    uint64_t ticks, monotonic_ns, realtime_ns;
};

static uint64_t realtime_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (uint64_t)t.tv_sec * UINT64_C(1000000000) + (uint64_t)t.tv_nsec;
}

/* The clocks together: of several tries the one that took least, so that no switch of tasks lies between. */
static struct anchor take_anchor(uint32_t kind)
{
    struct anchor best = {0, 0, 0};
    uint64_t least = UINT64_MAX;
    for (int i = 0; i < 16; i++) {
        uint64_t before = clock_now(kind);
        uint64_t monotonic = clock_monotonic_ns(), realtime = realtime_ns();
        uint64_t after = clock_now(kind);
        if (after - before < least) {
            least = after - before;
            best = (struct anchor){before + least / 2, monotonic, realtime};
        }
    }
    return best;
}

static uint64_t rate_between(const struct anchor *from, const struct anchor *to)
{
    uint64_t ns = to->monotonic_ns - from->monotonic_ns;
    return ns ? (uint64_t)((unsigned __int128)(to->ticks - from->ticks) * UINT64_C(1000000000) / ns) : 0;
}

void clock_anchor(struct arena *a)
{
    struct anchor now = take_anchor(a->clock);
    a->anchor_ticks = now.ticks;
    a->anchor_monotonic_ns = now.monotonic_ns;
    a->anchor_realtime_ns = now.realtime_ns;
}

void clock_calibrate(struct arena *a)
{
    a->clock = clock_choose();
    clock_anchor(a);
    a->ticks_per_second = UINT64_C(1000000000);
    if (a->clock != CLOCK_KIND_TSC)
        return;
    struct anchor first = {a->anchor_ticks, a->anchor_monotonic_ns, a->anchor_realtime_ns}, now;
    do {
        struct timespec nap = {0, 1000000};
        raw2(SYS_nanosleep, (long)&nap, 0);
        now = take_anchor(a->clock);
    } while (now.monotonic_ns - first.monotonic_ns < 8000000);
    a->ticks_per_second = rate_between(&first, &now);
}

uint64_t clock_refine(const struct arena *a)
{
    if (a->clock != CLOCK_KIND_TSC)
        return UINT64_C(1000000000);
    struct anchor first = {a->anchor_ticks, a->anchor_monotonic_ns, a->anchor_realtime_ns};
    struct anchor now = take_anchor(a->clock);
    uint64_t rate = now.monotonic_ns > first.monotonic_ns ? rate_between(&first, &now) : 0;
    return rate ? rate : a->ticks_per_second;
}

void clock_scale_init(struct clock_scale *s, const struct arena *a)
{
    uint64_t rate = a->ticks_per_second ? a->ticks_per_second : UINT64_C(1000000000);
    s->anchor_ticks = a->anchor_ticks;
    s->anchor_realtime_ns = a->anchor_realtime_ns;
    s->multiplier = (uint64_t)(((unsigned __int128)UINT64_C(1000000000) << 32) / rate);
}
