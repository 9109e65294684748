/*
 * batch.h - documents on their way: an open batch of NDJSON, sealed bodies of gzip, queues of them.
 *
 * In:      elasticsearch.c                     Out: bytes for the network
 * Owns:    the memory of batches and bodies. Only batch.c knows libdeflate.
 * Context: P
 * Failure: NULL or -ENOMEM; nothing is lost by it that the caller had before.
 *
 * A document is two lines: its action, and itself. One body holds documents of one stream, so that
 * a blocked index delays no other. A durable outbox may keep bodies instead: they hold no pointers
 * but their bytes.
 */
#ifndef SONDE_BATCH_H
#define SONDE_BATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct batch {
    char *text;
    size_t len, room;
    uint32_t documents;
    uint64_t since_ns; /* when its first document came; set by the caller */
};

struct body {
    struct body *next;
    uint8_t *gzip;
    size_t gzip_len, plain_len;
    uint32_t documents;
    uint8_t stream;
    bool plain;             /* send it without compression */
    uint16_t refused;       /* times it met 429 since it was made */
    uint16_t failed;        /* times that some of it met 500 */
    uint16_t closed;        /* times that the connection ended without an answer */
    uint64_t success_mark;  /* how many bodies others had delivered when that began */
    uint64_t not_before_ns; /* CLOCK_MONOTONIC */
};

struct body_queue {
    struct body *first, *last;
};

struct packer; /* compressor, decompressor and room for them, used again and again */
struct packer *packer_new(void);
void packer_free(struct packer *);

/* Room for `most` bytes at the end of the batch, or NULL; batch_commit says how many were used by
 * one document. */
char *batch_reserve(struct batch *, size_t most);
void batch_commit(struct batch *, size_t used);
void batch_fini(struct batch *);

/* Compresses what is in the batch and empties it; NULL: no memory, the batch is as before. */
struct body *batch_seal(struct packer *, struct batch *, uint8_t stream);

void body_free(struct body *);
size_t body_memory(const struct body *);
/* Its NDJSON, for free(); NULL: no memory (or its bytes are damaged). */
char *body_text(struct packer *, const struct body *);
/* A new body of those documents whose `wanted` is not 0, in order. NULL: no memory. */
struct body *body_pick(struct packer *, const struct body *, const uint8_t *wanted);
/* Two new bodies with half of the documents each; -ENOMEM: neither. */
int body_halve(struct packer *, const struct body *, struct body *half[2]);

void body_queue_append(struct body_queue *, struct body *);
void body_queue_prepend(struct body_queue *, struct body *);
/* Takes out the first body that may be sent at `now_ns`; NULL: none. */
struct body *body_queue_take(struct body_queue *, uint64_t now_ns);

#endif
