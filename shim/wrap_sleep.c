/*
 * wrap_sleep.c - where a thread waits for the clock.
 *
 * In:      exports.c.                Out: libc, stall.c.
 * Context: S
 * Failure: forwarded unmeasured.
 *
 * libc's own calls among these stay inside it, so each is wrapped. A sleep stands inside the work for a request.
 */
#define _GNU_SOURCE
#include "shim/real.h"
#include "shim/stall.h"

unsigned on_sleep(unsigned seconds)
{
    struct stall s;
    stall_begin(&s, CALL_SLEEP);
    unsigned left = real.sleep(seconds);
    stall_slept(&s);
    return left;
}

int on_usleep(useconds_t us)
{
    struct stall s;
    stall_begin(&s, CALL_SLEEP);
    int result = real.usleep(us);
    stall_slept(&s);
    return result;
}

int on_nanosleep(const struct timespec *time, struct timespec *left)
{
    struct stall s;
    stall_begin(&s, CALL_SLEEP);
    int result = real.nanosleep(time, left);
    stall_slept(&s);
    return result;
}

int on_clock_nanosleep(clockid_t clock, int flags, const struct timespec *time, struct timespec *left)
{
    struct stall s;
    stall_begin(&s, CALL_SLEEP);
    int error = real.clock_nanosleep(clock, flags, time, left);
    stall_slept(&s);
    return error;
}

int on_thrd_sleep(const struct timespec *time, struct timespec *left)
{
    struct stall s;
    stall_begin(&s, CALL_SLEEP);
    int result = real.thrd_sleep(time, left);
    stall_slept(&s);
    return result;
}
