/*
 * owed.c - see owed.h.
 *
 * In:      see owed.h.                           Out: the process's slot.
 * Context: S
 */
#define _GNU_SOURCE
#include "shim/owed.h"

#include "shim/sampled.h"

static uint64_t *place_at(uint64_t n)
{
    return (uint64_t *)(void *)((char *)shim.epoch + SAMPLED_OWED) + n % OWED_MOST;
}

static void raise_flag(uint32_t flag)
{
    __atomic_fetch_or(&shim.view.process[shim.process].flags, flag, __ATOMIC_RELAXED);
}

/* The count first: who takes then looks, and finds the serial or nothing; nothing is waited for. */
void owed_put(uint64_t serial)
{
    fetch_add_relaxed(owed_count(), 1);
    raise_flag(PROCESS_OWES_FREES);
    for (uint64_t i = 0; i < OWED_MOST; i++) {
        uint64_t none = 0;
        if (!load_relaxed(place_at(serial + i)) && cas_acq_rel(place_at(serial + i), &none, serial))
            return;
    }
    raise_flag(PROCESS_LOST_FREES);
    __atomic_fetch_sub(owed_count(), 1, __ATOMIC_RELAXED);
}

/* Nothing is owed any more; but somebody may have come to owe in between. */
static void paid(void)
{
    uint32_t *flags = &shim.view.process[shim.process].flags;
    __atomic_fetch_and(flags, ~(uint32_t)PROCESS_OWES_FREES, __ATOMIC_SEQ_CST);
    if (load_relaxed(owed_count()))
        raise_flag(PROCESS_OWES_FREES);
}

uint64_t owed_take(void)
{
    for (uint64_t i = 0; i < OWED_MOST && load_relaxed(owed_count()); i++) {
        uint64_t serial = load_relaxed(place_at(i));
        if (!serial || !cas_acq_rel(place_at(i), &serial, (uint64_t)0))
            continue;
        if (__atomic_sub_fetch(owed_count(), 1, __ATOMIC_SEQ_CST) == 0)
            paid();
        return serial;
    }
    return 0;
}
