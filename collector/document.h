/*
 * document.h - rows become documents: two lines of NDJSON each, a create action and an ECS
 * document.
 *
 * In:      sink/elasticsearch.c (rows in the order they were pushed)     Out: bytes, appended at `to`
 * Owns:    the names of endpoints, escaped once; the run's and the host's.
 * Context: P
 * Failure: never; text that is not UTF-8 gets U+FFFD, numbers above what a `long` holds are cut to it.
 *
 * The fields stand in docs/elasticsearch.md, their types in sink/templates.c. Integers are exact:
 * they go from uint64_t to digits and pass no double. A request's document keeps below 500 bytes:
 * what is unknown is left out, and so are waits and phases of 0 ns, a sample rate of 1, and the ids
 * of a trace that has one span.
 */
#ifndef SONDE_DOCUMENT_H
#define SONDE_DOCUMENT_H

#include "collector/sink/rows.h"
#include "collector/sink/sink.h"

enum stream { STREAM_SPAN, STREAM_ENDPOINT, STREAM_PROCESS, STREAM_COLLECTOR, STREAM_COUNT };
extern const char *const stream_names[STREAM_COUNT]; /* without the namespace: "logs-sonde.span" */

#define DOCUMENT_MAX 32768u /* bytes that any one of the writers below may need */

struct document_writer;

/*
 * `run_id` gives the first 16 characters of every _id, `incarnation` (ms since the epoch, of this
 * collector) keeps the ids of two collectors of one run apart. NULL: no memory.
 */
struct document_writer *document_writer_new(const char *run_id, const char *namespace,
                                            uint64_t incarnation);
void document_writer_free(struct document_writer *);

/* Names that later documents carry. 0 or -ENOMEM. */
void document_run(struct document_writer *, const struct row *);
int document_endpoint(struct document_writer *, const struct row *);

/* Each writes at most DOCUMENT_MAX bytes at `to` and returns how many. */
size_t document_span(struct document_writer *, const struct row *, char *to);
size_t document_total(struct document_writer *, const struct row *, char *to);
/* The state of a process as the row tells it, at `time_ns`. */
size_t document_process(struct document_writer *, const struct row *, uint64_t time_ns, char *to);
struct document_health {
    const struct row_interval *interval; /* NULL: only that we are here (`sonde check`) */
    struct documents documents;
    uint64_t queued_bytes,
        resident_bytes;       /* documents in memory, compressed; the collector's own memory */
    uint64_t time_ns, number; /* now; counts these documents */
};
size_t document_health(struct document_writer *, const struct document_health *, char *to);

/* Text between quotes in JSON: escaped, UTF-8 made valid. At most 6 * len bytes; returns the end.
 */
char *document_escape(char *to, const char *text, size_t len);

#endif
