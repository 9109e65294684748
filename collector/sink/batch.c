/*
 * batch.c - documents on their way: an open batch of NDJSON, sealed bodies of gzip, queues of them.
 *
 * In:      elasticsearch.c                     Out: bytes for the network
 * Owns:    the memory of batches and bodies. Only this file knows libdeflate.
 * Context: P
 */
#include "collector/sink/batch.h"

#include <errno.h>
#include <libdeflate.h>
#include <stdlib.h>
#include <string.h>

#define LEVEL 1 /* 16:1 on our documents for 1.2 us each; higher levels cost more than they save   \
                 */
#define BATCH_FIRST_ROOM (64u << 10)

struct packer {
    struct libdeflate_compressor *compressor;
    struct libdeflate_decompressor *decompressor;
    uint8_t *room;
    size_t room_bytes;
};

struct packer *packer_new(void)
{
    struct packer *p = calloc(1, sizeof *p);
    if (!p)
        return NULL;
    p->compressor = libdeflate_alloc_compressor(LEVEL);
    p->decompressor = libdeflate_alloc_decompressor();
    if (p->compressor && p->decompressor)
        return p;
    packer_free(p);
    return NULL;
}

void packer_free(struct packer *p)
{
    if (!p)
        return;
    if (p->compressor)
        libdeflate_free_compressor(p->compressor);
    if (p->decompressor)
        libdeflate_free_decompressor(p->decompressor);
    free(p->room);
    free(p);
}

/* --- batches --------------------------------------------------------------------------------- */

char *batch_reserve(struct batch *b, size_t most)
{
    size_t room = b->room ? b->room : BATCH_FIRST_ROOM;
    while (room - b->len < most)
        room *= 2;
    if (room != b->room) {
        char *more = realloc(b->text, room);
        if (!more)
            return NULL;
        b->text = more;
        b->room = room;
    }
    return b->text + b->len;
}

void batch_commit(struct batch *b, size_t used)
{
    b->len += used;
    b->documents++;
}

void batch_fini(struct batch *b)
{
    free(b->text);
    memset(b, 0, sizeof *b);
}

static struct body *pack(struct packer *p, const char *text, size_t len)
{
    size_t bound = libdeflate_gzip_compress_bound(p->compressor, len);
    if (bound > p->room_bytes) {
        uint8_t *more = realloc(p->room, bound);
        if (!more)
            return NULL;
        p->room = more;
        p->room_bytes = bound;
    }
    size_t used = libdeflate_gzip_compress(p->compressor, text, len, p->room, p->room_bytes);
    struct body *body = used ? calloc(1, sizeof *body) : NULL;
    if (!body)
        return NULL;
    body->gzip = malloc(used);
    if (!body->gzip) {
        free(body);
        return NULL;
    }
    memcpy(body->gzip, p->room, used);
    body->gzip_len = used;
    body->plain_len = len;
    return body;
}

struct body *batch_seal(struct packer *p, struct batch *b, uint8_t stream)
{
    struct body *body = pack(p, b->text, b->len);
    if (!body)
        return NULL;
    body->documents = b->documents;
    body->stream = stream;
    b->len = 0;
    b->documents = 0;
    return body;
}

/* --- bodies ---------------------------------------------------------------------------------- */

void body_free(struct body *b)
{
    if (!b)
        return;
    free(b->gzip);
    free(b);
}

size_t body_memory(const struct body *b)
{
    return b->gzip_len + sizeof *b + 32; /* and what the allocator adds */
}

char *body_text(struct packer *p, const struct body *b)
{
    char *text = malloc(b->plain_len + 1);
    if (!text)
        return NULL;
    if (libdeflate_gzip_decompress(p->decompressor, b->gzip, b->gzip_len, text, b->plain_len,
                                   NULL)) {
        free(text);
        return NULL;
    }
    text[b->plain_len] = 0;
    return text;
}

/* Past the two lines of the document at `at`. */
static const char *document_end(const char *at, const char *end)
{
    for (int line = 0; line < 2 && at < end; line++) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        at = newline ? newline + 1 : end;
    }
    return at;
}

/* The documents first ≤ i < last of the text whose `wanted` (NULL: all) is not 0. */
static struct body *pick(struct packer *p, const struct body *from, const char *text,
                         uint32_t first, uint32_t last, const uint8_t *wanted)
{
    const char *at = text, *end = text + from->plain_len;
    struct batch batch = {0};
    for (uint32_t i = 0; i < last && at < end; i++) {
        const char *next = document_end(at, end);
        if (i >= first && (!wanted || wanted[i])) {
            char *to = batch_reserve(&batch, (size_t)(next - at));
            if (!to) {
                batch_fini(&batch);
                return NULL;
            }
            memcpy(to, at, (size_t)(next - at));
            batch_commit(&batch, (size_t)(next - at));
        }
        at = next;
    }
    struct body *body = batch.documents ? batch_seal(p, &batch, from->stream) : NULL;
    batch_fini(&batch);
    if (body) {
        body->plain = from->plain;
        body->failed = from->failed;
    }
    return body;
}

struct body *body_pick(struct packer *p, const struct body *from, const uint8_t *wanted)
{
    char *text = body_text(p, from);
    if (!text)
        return NULL;
    struct body *body = pick(p, from, text, 0, from->documents, wanted);
    free(text);
    return body;
}

int body_halve(struct packer *p, const struct body *from, struct body *half[2])
{
    uint32_t middle = from->documents / 2;
    char *text = body_text(p, from);
    if (!text)
        return -ENOMEM;
    half[0] = pick(p, from, text, 0, middle, NULL);
    half[1] = pick(p, from, text, middle, from->documents, NULL);
    free(text);
    if (half[0] && half[1])
        return 0;
    body_free(half[0]);
    body_free(half[1]);
    return -ENOMEM;
}

/* --- queues ---------------------------------------------------------------------------------- */

void body_queue_append(struct body_queue *q, struct body *b)
{
    b->next = NULL;
    if (q->last)
        q->last->next = b;
    else
        q->first = b;
    q->last = b;
}

void body_queue_prepend(struct body_queue *q, struct body *b)
{
    b->next = q->first;
    q->first = b;
    if (!q->last)
        q->last = b;
}

struct body *body_queue_take(struct body_queue *q, uint64_t now_ns)
{
    struct body *before = NULL;
    for (struct body *b = q->first; b; before = b, b = b->next) {
        if (b->not_before_ns > now_ns)
            continue;
        if (before)
            before->next = b->next;
        else
            q->first = b->next;
        if (q->last == b)
            q->last = before;
        b->next = NULL;
        return b;
    }
    return NULL;
}
