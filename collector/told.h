/*
 * told.h - what the events of sampled stacks say: ALLOCATED, LOCKED, FREED, OBJECT, copied and checked.
 *
 * In:      items (drain.c checked that head and tail lie inside the event, nothing else)
 * Out:     heap.c, objects.c, dump.c
 * Context: P
 */
#ifndef SONDE_TOLD_H
#define SONDE_TOLD_H

#include <stdbool.h>
#include <stdint.h>
#include "collector/order.h"

struct told_sample {
    uint64_t serial, amount; /* bytes; ns */
    uint16_t frames;         /* 0: nothing could be walked */
    uint8_t end;             /* enum event_stack_end */
    uint64_t frame[EVENT_FRAMES];
};

#define TOLD_PATH_MAX 4096u
struct told_object {
    uint64_t start, end, bias;
    uint8_t build_id[20];
    uint16_t build_id_len, path_len;
    const char *path; /* borrowed from the item; no NUL behind it */
};

/* Is it one of the four, which touch no connection and divide no interval? */
static inline bool told_is_one(unsigned type)
{
    return type >= EVENT_ALLOCATED && type <= EVENT_OBJECT;
}

/* Each false: the item is of another type, or damaged. */
bool told_sample(const struct item *, struct told_sample *);
bool told_freed(const struct item *, uint64_t *serial);
bool told_object(const struct item *, struct told_object *);

#endif
