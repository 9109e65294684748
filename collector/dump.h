/*
 * dump.h - a recorded stream as text, one item a line, for people and golden tests.
 *
 * In:      cli/replay.c.              Context: P but for the FILE.
 */
#ifndef SONDE_DUMP_H
#define SONDE_DUMP_H

#include <stdio.h>
#include "collector/order.h"

/* One line; `start_ns` is what times are counted from. */
void dump_item(const struct item *, uint64_t start_ns, FILE *);

/* All of a recording. 0, or 1 with the reason on stderr (missing, no recording, damaged). */
int dump_file(const char *path, FILE *);

#endif
