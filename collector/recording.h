/*
 * recording.h - the ordered stream as a file: `sonde record` writes what leaves order.c, `sonde replay` reads it.
 *
 * File (integers as the machine has them; the header tells their order):
 *   struct recording_header, then `settings_bytes` of JSON (settings_json: command, service, options of the run)
 *   blocks: struct recording_block, then `bytes` of records, each padded to 8; the last one is empty: RECORDING_END_MARK
 *   record: struct recording_item, then the event and its data, or the fact
 * A block's checksum is verified before anything in it is used. A file that was cut or damaged gives all items before
 * the damage, then -EBADMSG, and says where. A collector that takes over goes on behind the last whole block. It holds raw traffic, secrets included: mode 0600.
 *
 * Context: C. The writer is buffered by blocks; the last one is written by close.
 */
#ifndef SONDE_RECORDING_H
#define SONDE_RECORDING_H

#include <stddef.h>
#include <stdint.h>
#include "collector/order.h"

#define RECORDING_MAGIC "SNDREC1\n"
#define RECORDING_VERSION 1
#define RECORDING_BLOCK_BYTES (256u << 10)

struct recording_header {
    char magic[8];
    uint32_t byte_order; /* 0x01020304 */
    uint16_t version, header_bytes;
    uint16_t item_bytes, event_bytes, fact_bytes, pad; /* sizes of the structs, lest another build misreads them */
    uint32_t settings_bytes;
    uint32_t settings_crc;
    uint64_t start_ns;
    char run[32]; /* the run's token */
};

struct recording_block {
    uint32_t mark; /* RECORDING_BLOCK_MARK */
    uint32_t bytes, items, crc;
};
#define RECORDING_BLOCK_MARK 0x4b4c4253u
#define RECORDING_END_MARK 0x444e4553u

struct recording_item {
    uint32_t bytes; /* of the whole record, multiple of 8 */
    uint8_t kind, late;
    uint16_t loss;
    uint32_t lane, thread, process, data_len;
    int32_t tid;
    uint32_t cpu_known; /* 1: cpu_known, 2: ready */
    uint64_t time_ns, entry_ns, ready_ns, missing;
    struct totals total;
};

struct recording_writer;
/*
 * Makes the file, overwrites an older recording, goes on with one of the same run; -EEXIST: the file there is no
 * recording. `settings` is JSON text.
 */
int recording_create(const char *path, const char *run, uint64_t start_ns, const char *settings,
                     struct recording_writer **out);
/* 0 or -errno; after the first failure (a full disk) nothing more is written and the same is returned. */
int recording_write(struct recording_writer *, const struct item *);
/* Flushes and frees. 0 or the first -errno. */
int recording_close(struct recording_writer *);

struct recording_reader;
/* 0 or -errno; `why` then holds a line for a person, which names the file and what is wrong with it. */
int recording_open(const char *path, struct recording_reader **out, char *why, size_t why_bytes);
/* Items are borrowed until the next call. At the end -ENODATA; damage: -EBADMSG and recording_fault tells. */
struct source recording_source(struct recording_reader *);
const char *recording_settings(const struct recording_reader *); /* JSON, NUL-terminated */
const char *recording_run(const struct recording_reader *);
uint64_t recording_start_ns(const struct recording_reader *);
const char *recording_fault(const struct recording_reader *); /* NULL: none so far */
void recording_free(struct recording_reader *);

#endif
