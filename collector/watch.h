/*
 * watch.h - the processes of a run: who they are, when they and their threads end, what they used,
 * what their descriptors are; and the arenas that they made for themselves.
 *
 * In:      process slots and lane headers, pidfds, /proc, what `sonde run` tells about CMD
 * Out:     order.c (arenas, deaths, facts)
 * Owns:    the order; pidfds; adopted arenas, which it unmaps and removes after their last process.
 * Context: C. The only place of the collector that asks the system about processes.
 * Failure: what cannot be asked stays unknown (0, -1, is_known false); a process that cannot be
 *          opened by pidfd is looked at once a second.
 *
 * Process numbers stand in the slots, so that a new collector uses the same ones.
 */
#ifndef SONDE_WATCH_H
#define SONDE_WATCH_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "collector/order.h"

struct watch;
struct instant;
typedef void (*watch_say_fn)(void *to, const char *line); /* one line for a person */

struct watch *watch_new(uint64_t watermark_ns, watch_say_fn, void *to);
void watch_free(struct watch *);
struct order *watch_order(struct watch *);
struct feedback watch_feedback(struct watch *);

/* The run's arena; not closed. Finds the processes and arenas that are there already. 0 or -errno.
 */
int watch_open(struct watch *, int arena_fd, const struct instant *now);
/* Where fallback arenas stand; NULL: nowhere. /dev/shm unless told otherwise, before watch_open. */
void watch_place(struct watch *, const char *directory);
bool watch_takes_over(const struct watch *); /* another collector had this arena before */
/* A process that the store knows and that had not ended then: told as ended unless it is still
 * there. */
void watch_resume_process(struct watch *, uint32_t number, int32_t pid, const struct totals *,
                          uint64_t cpu_ns);

/* Before each order_round. `closing`: CMD has ended: leave nothing to the next second. */
void watch_turn(struct watch *, const struct instant *now, bool closing);
/* Sleeps until a process ends, `input` can be read (-1: none), or the time is over. true: `input`
 * can be read. */
bool watch_wait(struct watch *, int input, int ms);
uint32_t watch_live(const struct watch *); /* processes whose end was not told yet */
bool watch_is_full(
    const struct watch *); /* more than a quarter of some pool is in use: drain faster */

/* CMD, told by its parent. The code or the signal, the other -1. */
void watch_command_end(struct watch *, pid_t, int exit_code, int signal, uint64_t cpu_ns);
/* The last totals of those that live on. */
void watch_finish(struct watch *);

#endif
