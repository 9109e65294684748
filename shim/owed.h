/*
 * owed.h - freed blocks whose EVENT_FREED found no room: told with a later event, so that no block looks alive for ever.
 *
 * In:      sampled.c (a loss), record.c (the next event that found room).
 * Owns:    the end of the pages behind the epoch word (sampled.h): WIPEONFORK, a child owes nothing of its parent's.
 * Context: S
 * Sharing: places and their count are claimed by CAS; any thread pays for any other.
 * Failure: no place: PROCESS_LOST_FREES, for good. What is owed when the process ends: PROCESS_OWES_FREES.
 */
#ifndef SONDE_OWED_H
#define SONDE_OWED_H

#include "shim/record.h"

#define OWED_MOST 1024u /* serials */
#define OWED_BYTES (8u * OWED_MOST)

/* Beside the epoch, whose line is read with each event. Only where this process is attached. */
static inline uint64_t *owed_count(void)
{
    return shim.epoch + 1;
}

void owed_put(uint64_t serial);
uint64_t owed_take(void); /* 0: nothing is owed */

#endif
