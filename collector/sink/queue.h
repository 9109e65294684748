/*
 * queue.h - a bounded single-producer, single-consumer queue of rows between the pipeline and the
 * sink thread.
 *
 * Sharing: reserve, publish, end, patience from the pipeline's thread only; peek, drop, abandon from the sink's only.
 * Failure: full → SHED: NULL, counted per kind by the caller; WAIT (replay): sleeps until there is room.
 *
 * A sleeping consumer is woken by a ROW_COMMIT, a ROW_RUN_END, the end, and when a quarter of the
 * queue is used; other rows wait for one of these or for the consumer's own timeout. So the
 * producer makes no system call for a row.
 */
#ifndef SONDE_QUEUE_H
#define SONDE_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include "collector/sink/rows.h"

enum when_full { SHED, WAIT };
struct queue;
struct queue *
queue_new(size_t bytes,
          enum when_full); /* `bytes` is rounded up to a power of two, 32 KiB at least */
void queue_free(struct queue *);
/* The next row gets this sequence (1 unless told): a new collector goes on where the one before it
 * ended. */
void queue_number_from(struct queue *, uint64_t sequence);
/*
 * Room for a row of `bytes` (struct row and all), to be filled in place and then published; NULL:
 * full, or `bytes` above ROW_MAX_BYTES. Sets kind, bytes, sequence. Nothing else is zeroed.
 * `row->bytes` may be lowered before publish; a row that is not published is forgotten by the next
 * reserve. With SHED the last quarter is kept for others than ROW_SPAN.
 */
struct row *queue_reserve(struct queue *, enum row_kind, size_t bytes);
void queue_publish(struct queue *, struct row *);
/*
 * From now on a full SHED queue waits, until the consumer has made no headway for `ms`; then it
 * sheds again. A WAIT queue waits for ever anyway.
 */
void queue_patience(struct queue *, int ms);
void queue_end(struct queue *); /* no more rows will come */
/* The oldest row, or NULL after `timeout_ms` (0: at once, -1: none). Valid until queue_drop.
 * *ended: empty and ended. */
const struct row *queue_peek(struct queue *, int timeout_ms, bool *ended);
void queue_drop(struct queue *);
void queue_abandon(
    struct queue *); /* the consumer takes no more: reserve returns NULL, a waiting one too */
size_t queue_used(const struct queue *); /* bytes, from either thread */
size_t queue_room(const struct queue *); /* its size in bytes */

#endif
