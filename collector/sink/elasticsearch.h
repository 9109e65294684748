/*
 * elasticsearch.h - the sink that ships spans, endpoint totals, process and health documents to
 * Elasticsearch or OpenSearch by _bulk; how it behaves stands in docs/elasticsearch.md.
 *
 * In:      the sink thread (rows)            Out: HTTP, by libcurl's multi interface
 * Owns:    documents in memory, at most output.memory_bytes of them; beyond, the newest is dropped.
 * Context: the sink thread only. No call blocks on the network: push and commit only work in
 *          memory, turn(ms) waits for the network for at most ms.
 * Failure: whatever the server says or does not say, documents wait, are repeated, or are counted
 *          where they went: carried + accepted = acknowledged + duplicates + dead + dropped +
 *          queued at every moment.
 */
#ifndef SONDE_ELASTICSEARCH_H
#define SONDE_ELASTICSEARCH_H

#include <stdio.h>
#include "collector/settings.h"
#include "collector/sink/sink.h"

/*
 * One sink for one output (settings and output must outlive it). `run_id`: the run's token.
 * `before`: the counts that an earlier collector of this run had reached, NULL for none; what that
 * one had queued died with it and is counted as dropped at exit. `say` NULL: stderr. NULL when the
 * output cannot work (bad namespace, unreadable key file, no memory), which is said. Credentials:
 * SONDE_API_KEY, or SONDE_USER and SONDE_PASSWORD, else the files that the output names.
 *
 * sink.finish delivers until the deadline and counts the rest as dropped at exit; documents() still
 * answers after it.
 */
typedef void (*elasticsearch_say_fn)(void *to,
                                     const char *line); /* a line for a person, without newline */
struct sink *elasticsearch_open(const struct settings *, const struct output *, const char *run_id,
                                const struct documents *before, elasticsearch_say_fn say, void *to);

/* `sonde check --output URL`: asks every host, sets the templates up, delivers one health document;
 * tells `out` what it found, one line a fact, remedies included. 0: documents would arrive; 1: they
 * would not. Takes 20 s at most. */
int elasticsearch_check(const struct settings *, const struct output *, FILE *out);

#endif
