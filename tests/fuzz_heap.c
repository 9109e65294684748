/*
 * fuzz_heap.c - events of sampled stacks, sound and damaged, between those of requests, through pipeline and rollup into
 * rows: nothing outside is touched, every number of a site is plausible, and every row names what was told before it.
 *
 * Input: a program of small steps, each a byte of operation, a byte of who, and operands.
 */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "collector/pipeline.h"
#include "collector/sink/queue.h"
#include "wire/options.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define START UINT64_C(1700000000000000000)
#define MS UINT64_C(1000000)
#define THREADS 8u
#define GET "GET /a HTTP/1.1\r\nHost: a\r\n\r\n"
#define ANSWER "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"

struct input {
    const uint8_t *at, *end;
};

static struct pipeline *pipeline;
static uint64_t now, offsets[THREADS][2], allocated[THREADS];
static bool object_told[1 << 16], stack_told[1 << 16];
static uint64_t rows;

static uint64_t take(struct input *in, unsigned bytes)
{
    uint64_t v = 0;
    for (unsigned i = 0; i < bytes && in->at < in->end; i++)
        v = v << 8 | *in->at++;
    return v;
}

static void play(unsigned who, struct event *e, const void *data, size_t len)
{
    struct item item = {.kind = ITEM_EVENT,
                        .lane = who,
                        .thread = who + 1,
                        .process = 1 + who / 4,
                        .tid = (int32_t)who + 100,
                        .time_ns = now,
                        .entry_ns = now - 1000,
                        .total = {.allocated = allocated[who]},
                        .event = e,
                        .data = data,
                        .data_len = (uint32_t)len};
    now += 1000;
    pipeline_item(pipeline, &item);
}

static void move(unsigned who, enum event_type type, const char *text)
{
    size_t len = strlen(text);
    uint64_t *offset = &offsets[who][type == EVENT_OUT];
    struct event e = {.type = (uint8_t)type,
                      .descriptor = 5,
                      .connection = who + 1,
                      .offset = *offset,
                      .result = (int32_t)len,
                      .head = (uint16_t)len};
    *offset += len;
    play(who, &e, text, len);
}

static void sample(unsigned who, struct input *in)
{
    uint64_t d[sizeof(struct event_sample) / 8 + 4];
    struct event_sample *head = (void *)d;
    *head = (struct event_sample){.serial = take(in, 1), .amount = take(in, 2), .frames = (uint16_t)(take(in, 1) % 5), .end = 1};
    struct event e = {.type = take(in, 1) % 8 ? EVENT_ALLOCATED : EVENT_LOCKED, .descriptor = -1};
    for (unsigned i = 0; i < head->frames; i++)
        head->frame[i] = 0x1000 + take(in, 1) * 64;
    allocated[who] += head->amount;
    size_t len = sizeof *head + head->frames * 8;
    e.head = (uint16_t)len;
    play(who, &e, d, len);
}

static void raw(unsigned who, struct input *in)
{
    uint8_t d[256] __attribute__((aligned(8)));
    struct event e = {.type = (uint8_t)(EVENT_ALLOCATED + take(in, 1) % 4), .descriptor = -1};
    e.flags = take(in, 1) % 2 ? EVENT_WAITED : 0;
    size_t len = take(in, 1) % sizeof d;
    for (size_t i = 0; i < len; i++)
        d[i] = (uint8_t)take(in, 1);
    uint8_t *exact = malloc(len + 1); /* so that a byte too far is seen */
    memcpy(exact, d, len);
    e.head = (uint16_t)len;
    play(who, &e, exact, len);
    free(exact);
}

static void object(unsigned who, struct input *in)
{
    uint64_t d[sizeof(struct event_object) / 8 + 1];
    struct event_object *o = (void *)d;
    *o = (struct event_object){.bias = 0x1000, .path_len = (uint16_t)(take(in, 1) % 9), .build_id_len = 20};
    memcpy(o->path, "/lib/a.s", 8);
    o->start = take(in, 1) * 256;
    o->end = o->start + take(in, 1) * 256;
    struct event e = {.type = EVENT_OBJECT, .descriptor = -1, .head = (uint16_t)(sizeof *o + o->path_len)};
    play(who, &e, d, sizeof *o + o->path_len);
}

static void fact(enum fact_kind kind, uint32_t process, uint32_t flags, uint32_t parent)
{
    struct fact f = {.kind = kind, .pid = (int32_t)process, .flags = flags, .parent_process = parent, .exit_code = 0, .signal = -1};
    struct item item = {.kind = ITEM_FACT, .process = process, .time_ns = now, .fact = &f};
    strcpy(f.executable, "/bin/a");
    pipeline_item(pipeline, &item);
}

static void check_site(const struct row_site *r)
{
    assert(r->stack < sizeof stack_told && stack_told[r->stack]);
    assert(r->samples && r->live_samples + r->ended_samples <= r->samples);
    assert(r->live_bytes + r->ended_bytes <= r->amount && r->retained_bytes <= r->amount);
    assert(r->retained_samples <= r->samples && !r->live_samples == !r->live_bytes);
    assert(r->kind != SITE_LOCKWAIT || !(r->live_samples | r->ended_samples | r->retained_samples));
}

static void drain(struct queue *q, bool last)
{
    const struct row *row;
    bool ended;
    while ((row = queue_peek(q, 0, &ended))) {
        const void *body = row + 1;
        rows++;
        if (row->kind == ROW_OBJECT)
            object_told[((const struct row_object *)body)->object] = true;
        if (row->kind == ROW_STACK)
            stack_told[((const struct row_stack *)body)->stack] = true;
        if (row->kind == ROW_FRAMES) {
            const struct row_frames *f = body;
            const struct frame *frame = (const void *)(f + 1);
            for (unsigned i = 0; i < f->frames; i++)
                assert(!frame[i].object || object_told[frame[i].object]);
            stack_told[f->stack] = true;
        }
        if (row->kind == ROW_SITE) {
            check_site(body);
            assert(!last || !((const struct row_site *)body)->live_samples); /* all processes have ended */
        }
        queue_drop(q);
    }
}

static void step(struct input *in, struct queue *q)
{
    unsigned op = (unsigned)take(in, 1) % 10, who = (unsigned)take(in, 1) % THREADS;
    struct event e = {.type = EVENT_TURN, .descriptor = -1};
    struct event_argument serial = {.argument = 0};
    struct item tick = {.kind = ITEM_TICK};
    switch (op) {
    case 0: move(who, EVENT_IN, GET); break;
    case 1: move(who, EVENT_OUT, ANSWER); break;
    case 2: play(who, &e, NULL, 0); break;
    case 3:
    case 4: sample(who, in); break;
    case 5:
        serial.argument = (int64_t)take(in, 1);
        e = (struct event){.type = EVENT_FREED, .descriptor = -1, .head = sizeof serial};
        play(who, &e, &serial, sizeof serial);
        break;
    case 6: raw(who, in); break;
    case 7: object(who, in); break;
    case 8:
        fact(take(in, 1) % 3 ? FACT_PROCESS : FACT_PROCESS_END, 1 + who / 4, (uint32_t)take(in, 1), (uint32_t)(who % 3));
        break;
    default:
        now += take(in, 1) * 50 * MS;
        tick.time_ns = now;
        pipeline_item(pipeline, &tick);
        drain(q, false);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, data + size};
    struct options options;
    options_init(&options);
    options.sample_bytes = 4096;
    options.retained_s = 1;
    options.connections = options.open_spans = 64;
    struct queue *q = queue_new(4 << 20, SHED);
    struct rollup *rollup = rollup_new(&options, q, "a");
    pipeline = pipeline_new(&options, NULL, rollup);
    now = START;
    memset(offsets, 0, sizeof offsets);
    memset(allocated, 0, sizeof allocated);
    memset(object_told, 0, sizeof object_told);
    memset(stack_told, 0, sizeof stack_told);
    fact(FACT_PROCESS, 1, 0, 0);
    fact(FACT_PROCESS, 2, 1, 1);
    while (in.at < in.end)
        step(&in, q);
    fact(FACT_PROCESS_END, 1, 0, 0);
    fact(FACT_PROCESS_END, 2, 0, 0);
    pipeline_end(pipeline, now);
    drain(q, true);
    pipeline_free(pipeline);
    rollup_free(rollup);
    queue_free(q);
    return 0;
}
