/*
 * queue.h - a bounded single-producer, single-consumer queue of rows between the pipeline and the sink thread.
 *
 * Sharing: push from the pipeline's thread only, pop from the sink's only.
 * Failure: full → SHED: false, counted per kind by the caller; WAIT (replay): sleeps until there is room.
 */
#ifndef SONDE_QUEUE_H
#define SONDE_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include "collector/sink/rows.h"

enum when_full { SHED, WAIT };
struct queue;
struct queue *queue_new(size_t bytes, enum when_full);
void queue_free(struct queue *);
/* Room for a row of `bytes`, to be filled in place and then published; NULL: full. Sets kind, bytes, sequence. */
struct row *queue_reserve(struct queue *, enum row_kind, size_t bytes);
void queue_publish(struct queue *, struct row *);
void queue_end(struct queue *); /* no more rows will come */
/* The oldest row, or NULL after `timeout_ms` (0: at once). Valid until queue_drop. *ended: the queue is empty and ended. */
const struct row *queue_peek(struct queue *, int timeout_ms, bool *ended);
void queue_drop(struct queue *);
size_t queue_used(const struct queue *);

#endif
