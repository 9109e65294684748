/*
 * objects.h - which file the code at an address of a process came from.
 *
 * In:      heap.c (OBJECT events, facts of processes)        Out: ROW_OBJECT, frames of stacks
 * Owns:    the map of each process, the list of files over all of them.
 * Context: C. Reads no file: names are found in the sink thread (symbol.h).
 *
 * A file is the same for all processes if path and build id are. A forked child begins with its parent's map, as that is when
 * the child's first stack comes.
 * Bounds: 4096 files, 65 536 mapped pieces over all processes; beyond them an address lies in no file.
 */
#ifndef SONDE_OBJECTS_H
#define SONDE_OBJECTS_H

#include <stdbool.h>
#include <stdint.h>
#include "collector/sink/rows.h"
#include "collector/told.h"

struct queue;
struct objects;
struct objects *objects_new(void); /* NULL: no memory */
void objects_free(struct objects *);

/* A process began; `parent`: forked from that one, 0: executed. */
void objects_begin(struct objects *, uint32_t process, uint32_t parent, int32_t pid, const char *executable);
void objects_end(struct objects *, uint32_t process);
void objects_told(struct objects *, uint32_t process, const struct told_object *);

/* `address` is one to return to: the call before it decides. In no file: an object that stands for the process. */
struct frame objects_find(struct objects *, uint32_t process, uint64_t address);

/* Pushes its row if that was not done; false: no room. */
bool objects_tell(struct objects *, uint32_t object, struct queue *);

#endif
