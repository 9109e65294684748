/*
 * bench_document.c - what a span costs on its way to Elasticsearch, without the network: its
 * document, gzip, reading the answer. Prints "name n ns/op" and the bytes.
 */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "collector/document.h"
#include "collector/sink/batch.h"
#include "collector/sink/bulk.h"

#define SPANS 4000u /* about 2 MiB: one body */
#define ROUNDS 50

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void report(const char *name, uint64_t ns, uint64_t n)
{
    printf("%-36s %8llu %9.1f ns/op\n", name, (unsigned long long)n, (double)ns / (double)n);
}

static union {
    struct row row;
    char bytes[2048];
} rows[SPANS];

static void make_names(struct document_writer *w)
{
    static union {
        struct row row;
        char bytes[512];
    } room;
    struct row_run *r = (void *)(&room.row + 1);
    r->host_len = 8;
    memcpy(r + 1, "bench-01", 8);
    document_run(w, &room.row);
    memset(&room, 0, sizeof room);
    struct row_endpoint *e = (void *)(&room.row + 1);
    e->endpoint = 1;
    memcpy(e->protocol, "http", 4);
    e->service_len = 5;
    e->name_len = 15;
    memcpy(e + 1, "nginxGET /users/{id}", 20);
    document_endpoint(w, &room.row);
}

static void make_span(struct row *row, unsigned i)
{
    struct row_span *s = (void *)(row + 1);
    struct sockaddr_in peer = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f000001)};
    char path[64];
    row->kind = ROW_SPAN;
    row->sequence = i + 1;
    s->id = i + 1;
    s->endpoint = 1;
    s->pid = s->tid = 4711;
    s->start_ns = UINT64_C(1769860800000000000) + i * UINT64_C(12345);
    s->duration_ns = 118000 + i % 997;
    s->queue_ns = 12000 + i % 31;
    s->first_byte_ns = s->work_ns = 96000 + i % 499;
    s->bytes_in = 111;
    s->bytes_out = 850;
    s->body_out = 612;
    s->cost = (struct cost){.allocated = 4200 + i % 7, .freed = 4200, .allocations = 5};
    s->rate = 1;
    s->status = 200;
    s->answered = 1;
    memcpy(s->peer, &peer, s->peer_length = sizeof peer);
    memcpy(s->protocol, "http", 4);
    memcpy(s->verb, "GET", s->verb_len = 3);
    s->target_len = (uint16_t)snprintf(path, sizeof path, "/users/%u", i * 7919u % 100000u);
    memcpy(s + 1, path, s->target_len);
}

static char *make_answer(size_t *len)
{
    static const char item[] = "{\"create\":{\"_index\":\".ds-logs-sonde.span-default-2026.11.22-"
                               "000001\",\"status\":201}},";
    char *text = malloc(SPANS * sizeof item + 100), *p = text;
    if (!text)
        exit(1);
    p += sprintf(p, "{\"errors\":false,\"took\":30,\"items\":[");
    for (unsigned i = 0; i < SPANS; i++)
        p = mempcpy(p, item, sizeof item - 1);
    p--;
    p += sprintf(p, "]}");
    *len = (size_t)(p - text);
    return text;
}

int main(void)
{
    struct document_writer *w =
        document_writer_new("0123456789abcdef0123456789abcdef", "default", 1769860800000);
    struct packer *packer = packer_new();
    struct batch batch = {0};
    struct body *body = NULL;
    struct bulk_answer answer;
    uint64_t write_ns = 0, pack_ns = 0, read_ns = 0, start;
    size_t bytes = 0, packed = 0, answer_len;
    char *text = make_answer(&answer_len);
    if (!w || !packer)
        return 1;
    make_names(w);
    for (unsigned i = 0; i < SPANS; i++)
        make_span(&rows[i].row, i);
    for (int round = 0; round <= ROUNDS; round++) { /* the first one warms up */
        start = now_ns();
        for (unsigned i = 0; i < SPANS; i++) {
            char *to = batch_reserve(&batch, DOCUMENT_MAX);
            batch_commit(&batch, document_span(w, &rows[i].row, to));
        }
        write_ns = (round ? write_ns : 0) + now_ns() - start;
        bytes = batch.len;
        start = now_ns();
        body = batch_seal(packer, &batch, STREAM_SPAN);
        pack_ns = (round ? pack_ns : 0) + now_ns() - start;
        if (!body)
            return 1;
        packed = body->gzip_len;
        body_free(body);
        start = now_ns();
        if (bulk_read(text, answer_len, &answer, NULL, NULL) || answer.items != SPANS)
            return 1;
        read_ns = (round ? read_ns : 0) + now_ns() - start;
    }
    uint64_t n = (uint64_t)SPANS * ROUNDS;
    report("document_span", write_ns, n);
    report("gzip, per document of a full body", pack_ns, n);
    report("answer, per document", read_ns, n);
    report("all of it", write_ns + pack_ns + read_ns, n);
    printf("bytes per document with its action   %8zu, compressed %zu\n", bytes / SPANS,
           packed / SPANS);
    free(text);
    batch_fini(&batch);
    packer_free(packer);
    document_writer_free(w);
    return 0;
}
