/*
 * process.h - the processes of a run: their rows, and the service that each belongs to.
 *
 * In:      rollup.c (facts)                  Out: ROW_PROCESS
 * Owns:    one record an image or forked child, executables, services.
 * Context: C
 *
 * A service is --name for what CMD's own process runs and for every process of the same executable,
 * else the name that the executable was started by (a link's: redis-server, not redis-check-rdb).
 * Bounds: 1000 ended processes, older ones are summed per executable and name; 256 of these and of
 * services, then {other}.
 */
#ifndef SONDE_PROCESS_H
#define SONDE_PROCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "collector/order.h"

struct queue;
struct processes;

#define PROCESS_ENDED_KEPT 1000
#define SERVICES_MAX 256

struct processes *
processes_new(const char *service_of_command); /* NULL: its executable's name too */
void processes_free(struct processes *);
/* PROCESS, PROCESS_TOTAL, PROCESS_END, REAPED, COMMAND_END; others are ignored. */
void processes_fact(struct processes *, const struct item *);

struct process_view {
    int32_t pid;      /* 0 unknown */
    uint32_t service; /* below SERVICES_MAX */
};
struct process_view processes_see(struct processes *, uint32_t process);
const char *processes_service(const struct processes *, uint32_t service);

/* Pushes rows of what changed. False: no room, the rest comes with the next call. */
bool processes_push(struct processes *, struct queue *);

#endif
