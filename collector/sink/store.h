/*
 * store.h - the local store: one SQLite file a run, readable with `sqlite3` while the run goes on
 * (docs/store.md).
 *
 * In:      sinks.c (rows)                       Out: the file; report_load.c reads it
 * Owns:    the file and its write-ahead log; only sink/store_*.c and report_*.c know SQLite.
 * Context: sink thread; store_choose_path, store_open and store_resume before it starts.
 * Failure: never reported as an error to the pipeline. While the file cannot be written (full disk,
 * I/O error, a reader that blocks the checkpoint at the size bound) rows of totals go to a database
 * in memory with the same tables, spans are shed and counted; the file is tried again now and then,
 * what memory holds is moved there.
 *
 * How a live store is known: its collector holds flock(LOCK_EX) on the file, and the run's row
 * names the supervisor (pid and start time), which lives on when a collector dies and the next one
 * is not there yet.
 */
#ifndef SONDE_STORE_H
#define SONDE_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "collector/sink/rows.h"
#include "collector/sink/sink.h"

#define STORE_APPLICATION_ID 0x534e4445 /* "SNDE", PRAGMA application_id */
#define STORE_VERSION 2                 /* PRAGMA user_version */

/*
 * Decides where this run writes and reserves it (an empty store that names the calling process as
 * supervisor), so call it in the supervisor, after all else was checked. `wanted` NULL or "":
 * ./sonde.db, then $STATE_DIRECTORY, $XDG_STATE_HOME, a folder of our own in /tmp. "none": out is
 * "none". An older store there is closed and kept as .old, .old.2, .old.3; one that a run is
 * writing is left alone, ours is sonde-PID.db beside it. 0; 1: another place than wanted, `message`
 * says which and why; -errno with a message that names the remedy (-EEXIST: the file is no store of
 * ours).
 */
int store_choose_path(const char *wanted, char *out, size_t, char *message, size_t message_bytes);

/* What an earlier collector of the same run left, for the one that takes over. Numbers go on after
 * these. */
struct store_resume {
    uint32_t lives; /* collectors before this one that wrote here; 0: this is the first */
    uint64_t run_start_ns, as_of_ns; /* of the run; of the last commit */
    uint32_t last_interval, last_process, last_stack;
    uint64_t first_sequence; /* rows' sequence numbers start here, so that none is used twice (lives
                                << 40 | 1) */
    uint64_t written, drained, late, lost[LOSS_COUNT]; /* sums over the intervals so far */
};
struct store_process { /* a process's row as last committed */
    uint32_t process;
    int32_t pid;
    bool ended;
    uint64_t start_ns, allocated, freed, allocations, cpu_ns;
};

struct store;
typedef void (*store_say_fn)(
    void *to, const char *line); /* one line for a person, without newline; any thread */

/*
 * Opens (or takes over, when its run has this id) the store at `path`; "none": memory only, no
 * spans. Never NULL but without memory: a file that cannot be opened is told to `say`, and tried
 * again now and then.
 */
struct store *store_open(const char *path, const char *run_id, uint64_t max_bytes, store_say_fn say,
                         void *to);
/* Takes over from an earlier collector. */
void store_resume(const struct store *, struct store_resume *);
void store_resume_processes(struct store *, void (*each)(void *to, const struct store_process *),
                            void *to);

/*
 * Totals of closed intervals after `after` that an earlier collector stored: endpoints as ROW_ENDPOINT, then totals as
 * ROW_TOTAL without their sketches, all with the store's numbers. Sink thread, before rows of this collector. Intervals
 * that were merged since are left out: their documents had other ids.
 */
void store_resume_totals(struct store *, uint64_t after, void (*each)(void *to, const struct row *), void *to);

/* One row. ROW_COMMIT ends the transaction; it also keeps the size bound, and tries a lost file
 * again. */
void store_push(struct store *, const struct row *);
/* What an output did so far in this collector's life; stored with the next commit. */
void store_documents(struct store *, const char *output, const struct documents *);
/* What an earlier collector of this run counted for it. False: nothing. */
bool store_documents_before(const struct store *, const char *output, struct documents *);
void store_count_shed(struct store *, const char *reason,
                      uint64_t spans); /* rows that did not reach us */
void store_commit(struct store *); /* without a ROW_COMMIT: the end, or nothing came for a while */
const char *store_path(const struct store *); /* where it is in fact; "none": in memory only */

/* The report's source: a connection whose main is the memory part, with the file attached as
 * `disk`. Sink thread, or after it. */
struct sqlite3 *store_connection(struct store *);
/* Checkpoints to one file in journal_mode=DELETE, unlocks, frees. 0 or -errno of what could not be
 * written. */
int store_close(struct store *);

#endif
