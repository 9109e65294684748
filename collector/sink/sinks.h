/*
 * sinks.h - the sink thread: pops rows, hands them to the local store and the outputs, commits,
 * ends by its deadline.
 *
 * In:      sink/queue.h                          Out: sink/store.h, sink/elasticsearch.h
 * Context: A (own thread); the functions here are called by the collector's main thread.
 * Failure: nothing here stops the pipeline: a full disk sheds spans, a dead destination drops
 * documents, all counted.
 */
#ifndef SONDE_SINKS_H
#define SONDE_SINKS_H

#include "collector/report.h"
#include "collector/settings.h"
#include "collector/sink/queue.h"
#include "collector/sink/store.h"

struct sinks;

/*
 * Opens settings->store (already chosen by store_choose_path) and the outputs, starts the thread.
 * `say` gets lines for a person (disk full, output refused) from any thread; may be NULL. NULL: no
 * memory or no thread.
 */
struct sinks *sinks_start(const struct settings *, struct queue *, store_say_fn say, void *to);

/* What an earlier collector of this run left; lives = 0: none. Call before the pipeline starts. */
void sinks_resume(struct sinks *, struct store_resume *);
void sinks_resume_processes(struct sinks *, void (*each)(void *to, const struct store_process *),
                            void *to);
const char *sinks_store_path(const struct sinks *); /* "none": memory only */

/*
 * After queue_end: takes what is left in the queue, commits, delivers until `deadline_ns`
 * (CLOCK_MONOTONIC), commits what became of the documents. 0; -ETIMEDOUT: the disk hangs; -EBUSY: the
 * thread gets on, but has too little CPU to come to an end. After these it cannot be joined: only _exit.
 */
int sinks_finish(struct sinks *, uint64_t deadline_ns);
extern uint64_t sinks_patience_ns; /* beyond the deadline, for the last commit on a slow disk; tests shorten it */

/* The run's report from memory and file, also when the file could not be written. After
 * sinks_finish. 0 or -errno. */
int sinks_report(struct sinks *, const struct report_query *, struct report **out);

/* Closes the store to one file, frees all. 0 or -errno of what could not be written. */
int sinks_close(struct sinks *);

#endif
