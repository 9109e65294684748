/*
 * fuzz_connection.c - any events through connections, spans, costs and totals: nothing outside the tables is touched,
 * and whatever the events say, what was counted adds up.
 *
 * Input: a program of small steps, each a byte of operation and its operands. Threads, processes and running totals are
 * honest, as order.c gives them; what events say of connections, bytes and times is not.
 */
#include <assert.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "collector/pipeline.h"
#include "collector/sink/queue.h"
#include "wire/arena.h"

#define START UINT64_C(1700000000000000000)
#define THREADS 8
#define PROCESSES 6 /* that may live at once */
#define NUMBERS 64  /* processes of one run */
#define CONNECTIONS 24
#define MOST_STEPS 600

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
void __real_rollup_span(void *rollup, const struct span *s);
void __wrap_rollup_span(void *rollup, const struct span *s);
void __real_rollup_fact(struct rollup *, const struct item *item);
void __wrap_rollup_fact(struct rollup *, const struct item *item);
void __real_rollup_tick(struct rollup *, uint64_t time_ns, const struct flow *, bool last);
void __wrap_rollup_tick(struct rollup *, uint64_t time_ns, const struct flow *, bool last);

struct actor {
    uint32_t thread, process, sequence; /* process 0: there is none */
    struct totals total;
};

static struct {
    struct pipeline *pipeline;
    struct rollup *rollup;
    struct queue *queue;
    uint64_t now, offset[CONNECTIONS][2];
    uint32_t threads, processes; /* last numbers given */
    uint32_t live[PROCESSES];    /* 0: none */
    struct totals ended[NUMBERS], told[NUMBERS];
    struct actor actor[THREADS];
    uint64_t bytes[2];
    struct cost cost;
} run;

static const uint8_t *at, *end;
static bool trace; /* FUZZ_TRACE is in the environment: show what an input does */

/* --- behind the pipeline ------------------------------------------------------------------------------------------ */

void __wrap_rollup_span(void *rollup, const struct span *s)
{
    if (trace)
        fprintf(stderr, "span %llu: in %llu out %llu %.*s\n", (unsigned long long)s->id, (unsigned long long)s->bytes[IN],
                (unsigned long long)s->bytes[OUT], s->target_len, s->target);
    assert(s->end_ns >= s->start_ns);
    run.bytes[IN] += s->bytes[IN];
    run.bytes[OUT] += s->bytes[OUT];
    assert(wall_sum(&s->wall) + s->downstream_ns <= s->end_ns - s->start_ns);
    assert(s->wall.cpu_ns <= s->cost.cpu_ns);
    cost_add(&run.cost, &s->cost);
    __real_rollup_span(rollup, s);
}

void __wrap_rollup_fact(struct rollup *r, const struct item *item)
{
    if (item->fact->kind == FACT_PROCESS_TOTAL || item->fact->kind == FACT_PROCESS_END)
        run.told[item->process] = item->fact->total;
    __real_rollup_fact(r, item);
}

void __wrap_rollup_tick(struct rollup *r, uint64_t time_ns, const struct flow *f, bool last)
{
    struct totals told = {0};
    for (uint32_t i = 0; i <= run.processes; i++) {
        told.allocated += run.told[i].allocated;
        told.freed += run.told[i].freed;
        told.allocations += run.told[i].allocations;
        told.cpu_ns += run.told[i].cpu_ns;
        told.lock_ns += run.told[i].lock_ns;
        told.disk_ns += run.told[i].disk_ns;
        told.sleep_ns += run.told[i].sleep_ns;
    }
    if (trace)
        fprintf(stderr, "tick: in %llu, outside %lld; out %llu, outside %lld\n", (unsigned long long)f->bytes_in,
                (long long)f->outside_in, (unsigned long long)f->bytes_out, (long long)f->outside_out);
    assert(f->outside_in <= f->bytes_in && f->outside_out <= f->bytes_out);
    /* spans that are over but not final stand between */
    assert(run.bytes[IN] + f->outside_in <= f->bytes_in);
    assert(run.bytes[OUT] + f->outside_out <= f->bytes_out);
    if (last) {
        assert(run.bytes[IN] + f->outside_in == f->bytes_in);
        assert(run.bytes[OUT] + f->outside_out == f->bytes_out);
        assert(run.cost.allocated + f->outside.allocated == told.allocated);
        assert(run.cost.freed + f->outside.freed == told.freed);
        assert(run.cost.allocations + f->outside.allocations == told.allocations);
        assert(run.cost.cpu_ns + f->outside.cpu_ns == told.cpu_ns);
        assert(run.cost.lock_ns + f->outside.lock_ns == told.lock_ns);
        assert(run.cost.disk_ns + f->outside.disk_ns == told.disk_ns);
        assert(run.cost.sleep_ns + f->outside.sleep_ns == told.sleep_ns);
    }
    __real_rollup_tick(r, time_ns, f, last);
    bool ended;
    while (queue_peek(run.queue, 0, &ended))
        queue_drop(run.queue);
}

/* --- before it ------------------------------------------------------------------------------------------------------ */

static uint64_t eat(unsigned bytes)
{
    uint64_t n = 0;
    for (; bytes && at < end; bytes--)
        n = n << 8 | *at++;
    return n;
}

static void plan(void *to, uint64_t connection, uint32_t p)
{
    (void)to, (void)connection;
    assert(p <= PLAN_IGNORE);
}

static void ask(void *to, uint32_t process, int32_t descriptor, uint64_t connection)
{
    (void)to, (void)process, (void)descriptor, (void)connection;
}

static void show(const struct item *i)
{
    static const char *const kinds[] = {"event", "fact", "gap", "tick"};
    fprintf(stderr, "%s +%llu thread %u process %u%s", kinds[i->kind], (unsigned long long)(i->time_ns - START), i->thread,
            i->process, i->late ? " late" : "");
    if (i->kind == ITEM_FACT)
        fprintf(stderr, " kind %d connection %llx pid %d", (int)i->fact->kind, (unsigned long long)i->fact->connection,
                i->fact->pid);
    if (i->kind == ITEM_EVENT)
        fprintf(stderr, " type %d flags %x connection %llx descriptor %d offset %llu result %d head %u tail %u: %.*s", i->event->type,
                i->event->flags, (unsigned long long)i->event->connection, i->event->descriptor, (unsigned long long)i->event->offset,
                i->event->result, i->event->head, i->event->tail, i->event->head < 24 ? i->event->head : 24, i->data);
    fprintf(stderr, "\n");
}

static void give(struct item *item, const struct fact *f)
{
    item->fact = f;
    if (f)
        item->kind = ITEM_FACT;
    if (trace)
        show(item);
    pipeline_item(run.pipeline, item);
}

static void add(struct totals *to, const struct totals *t)
{
    to->allocated += t->allocated;
    to->freed += t->freed;
    to->allocations += t->allocations;
    to->lock_ns += t->lock_ns;
    to->disk_ns += t->disk_ns;
    to->sleep_ns += t->sleep_ns;
    to->cpu_ns += t->cpu_ns;
}

static struct totals total_of(uint32_t process)
{
    struct totals t = run.ended[process];
    for (int i = 0; i < THREADS; i++)
        if (run.actor[i].process == process)
            add(&t, &run.actor[i].total);
    return t;
}

static void begin_process(uint32_t slot, uint32_t parent)
{
    if (run.live[slot] || run.processes + 1 == NUMBERS)
        return;
    run.live[slot] = ++run.processes;
    struct fact f = {.kind = FACT_PROCESS,
                     .pid = (int32_t)(100 + slot),
                     .parent = 1,
                     .parent_process = parent,
                     .exit_code = -1,
                     .signal = -1,
                     .executable = "/usr/sbin/nginx"};
    struct item item = {.process = run.live[slot], .time_ns = run.now};
    give(&item, &f);
}

static struct item item_of(uint32_t lane)
{
    const struct actor *a = &run.actor[lane];
    return (struct item){.lane = lane,
                         .thread = a->thread,
                         .process = a->process,
                         .tid = (int32_t)(1000 + a->thread),
                         .time_ns = run.now,
                         .entry_ns = run.now,
                         .total = a->total};
}

static struct actor *actor_at(uint32_t lane)
{
    struct actor *a = &run.actor[lane];
    uint32_t process = run.live[lane % PROCESSES];
    if (!a->process && process)
        *a = (struct actor){.thread = ++run.threads, .process = process};
    return a->process ? a : NULL;
}

static void end_thread(uint32_t lane, uint32_t in_call)
{
    struct actor *a = &run.actor[lane];
    struct item item = item_of(lane);
    struct fact f = {.kind = FACT_THREAD_END,
                     .tid = item.tid,
                     .in_call = in_call % CALL_COUNT,
                     .call_since_ns = run.now,
                     .connection = 1 + in_call % CONNECTIONS,
                     .exit_code = -1,
                     .signal = -1,
                     .total = a->total};
    give(&item, &f);
    add(&run.ended[a->process], &a->total);
    a->process = 0;
}

static void end_process(uint32_t slot, uint32_t how)
{
    uint32_t process = run.live[slot];
    if (!process)
        return;
    struct fact f = {.kind = FACT_PROCESS_END,
                     .pid = (int32_t)(100 + slot),
                     .exit_code = how & 1 ? 0 : -1,
                     .signal = how & 2 ? 9 : -1,
                     .replaced = how & 4};
    for (uint32_t i = 0; i < THREADS; i++)
        if (run.actor[i].process == process)
            end_thread(i, how);
    f.total = total_of(process);
    struct item item = {.process = process, .time_ns = run.now};
    give(&item, &f);
    run.live[slot] = 0;
}

/* --- events ----------------------------------------------------------------------------------------------------------- */

static const char *const texts[] = {
    "GET /a HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /a/1 HTTP/1.1\r\nHost: a\r\n\r\nGET /b HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST /c HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
    "POST /d HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n",
    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "HTTP/1.1 100 Continue\r\n\r\n",
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
    "HTTP/1.1 502 Bad Gateway\r\nConnection: close\r\n\r\nbad",
    "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n",
    "*1\r\n$4\r\nPING\r\n",
    "*2\r\n$3\r\nGET\r\n$1\r\na\r\n*2\r\n$3\r\nGET\r\n$1\r\nb\r\n",
    "+PONG\r\n",
    "$1\r\n1\r\n$-1\r\n",
    "-ERR no\r\n",
    "*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n",
};

static void play(uint32_t lane, struct event *e, const void *bytes, uint32_t len, uint32_t how)
{
    struct actor *a = &run.actor[lane];
    struct item item = item_of(lane);
    uint8_t *copy = malloc(len ? len : 1); /* exactly as large: whoever reads beyond is found */
    if (len)
        memcpy(copy, bytes, len);
    e->sequence = ++a->sequence;
    e->size = (uint16_t)(sizeof *e + len);
    e->allocated = (uint32_t)a->total.allocated;
    e->freed = (uint32_t)a->total.freed;
    e->allocations = (uint32_t)a->total.allocations;
    item.kind = ITEM_EVENT;
    item.event = e;
    item.data = copy;
    item.data_len = len;
    item.cpu_known = !(how & 16);
    if (how & 1) {
        item.entry_ns -= (uint64_t)how << 10;
        if (e->flags & EVENT_WAITED)
            item.ready_ns = item.entry_ns - 1000;
    }
    if (how & 2) {
        item.late = true;
        item.time_ns -= (uint64_t)how << 12;
    }
    give(&item, NULL);
    free(copy);
    run.now += 1 + (how & 4 ? (uint64_t)how << 8 : 0);
}

static uint64_t id_of(uint32_t number)
{
    if (!number)
        return 0;
    uint64_t id = (uint64_t)(1 + number % 3) << 32 | number;
    return number % 7 == 3 ? id | UINT64_C(1) << 31 : id;
}

/* Of a peer, an own address, a number: whatever the type wants, or does not. */
static uint32_t make_note(uint8_t *to, uint32_t how)
{
    struct event_address head = {.listener = id_of(how >> 4 & 3), .argument = (int32_t)(how & 15), .length = 16, .family = 2};
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons((uint16_t)(80 + how % 3))};
    struct event_argument number = {.argument = (int64_t)(how & 3)};
    if (how & 64) {
        memcpy(to, &number, sizeof number);
        return sizeof number;
    }
    if (how & 128)
        head.length = (uint16_t)(how * 257);
    memcpy(to, &head, sizeof head);
    memcpy(to + sizeof head, &in, sizeof in);
    return sizeof head + sizeof in;
}

static void any_event(uint32_t lane)
{
    uint8_t note[64];
    uint32_t type = (uint32_t)eat(1), number = (uint32_t)eat(1), how = (uint32_t)eat(1), len = 0;
    struct event e = {.type = (uint8_t)(1 + type % (EVENT_TYPE_COUNT - 1)),
                      .flags = (uint8_t)(eat(1) & ~EVENT_HAS_BLOCK),
                      .descriptor = (int32_t)(number % 9) - 1,
                      .connection = id_of(number % CONNECTIONS),
                      .offset = how & 8 ? eat(3) : run.offset[number % CONNECTIONS][how & 1],
                      .result = (int32_t)(how & 16 ? eat(4) : eat(1)),
                      .duration = how << 3,
                      .ready = how};
    const void *bytes = note;
    if (how & 32) {
        len = make_note(note, (uint32_t)eat(1));
    } else {
        len = (uint32_t)eat(1);
        len = len > (size_t)(end - at) ? (uint32_t)(end - at) : len;
        bytes = at;
        at += len;
    }
    e.head = (uint16_t)(how & 64 ? len / 2 : len);
    e.tail = (uint16_t)(len - e.head);
    play(lane, &e, bytes, len, how);
}

/* A step of a dialogue that goes right: its offset, its length. */
static void text_event(uint32_t lane)
{
    uint32_t number = (uint32_t)eat(1) % CONNECTIONS, which = (uint32_t)eat(1), how = (uint32_t)eat(1);
    const char *text = texts[which % (sizeof texts / sizeof *texts)];
    uint32_t way = which >> 4 & 1, len = (uint32_t)strlen(text), moved = len;
    if (how & 8)
        moved = 1 + (uint32_t)eat(1) % len;
    if (how & 16)
        moved += (uint32_t)eat(2);
    if (how & 32)
        len = len < moved ? len / 2 : moved / 2;
    len = len < moved ? len : moved;
    struct event e = {.type = way ? EVENT_OUT : EVENT_IN,
                      .flags = how & 64 ? EVENT_WAITED : 0,
                      .descriptor = 7,
                      .connection = id_of(number),
                      .offset = run.offset[number][way],
                      .result = (int32_t)moved,
                      .head = (uint16_t)len};
    run.offset[number][way] += moved;
    play(lane, &e, text, len, how & 7);
}

static void open_event(uint32_t lane)
{
    uint8_t note[64];
    uint32_t number = (uint32_t)eat(1) % CONNECTIONS, how = (uint32_t)eat(1);
    static const uint8_t types[] = {EVENT_ACCEPT, EVENT_CONNECT, EVENT_CLOSE, EVENT_DUP};
    struct event e = {.type = types[how >> 4 & 3], .descriptor = 7, .connection = id_of(number), .result = how & 8 ? -115 : 7};
    e.head = (uint16_t)(how & 32 ? 0 : make_note(note, how & 3));
    if (e.type == EVENT_ACCEPT || e.type == EVENT_CONNECT)
        run.offset[number][0] = run.offset[number][1] = 0;
    play(lane, &e, note, e.head, how & 7);
}

static void fact(uint32_t lane)
{
    static const uint8_t kinds[] = {FACT_REAPED,     FACT_THREAD_CALL, FACT_ADDRESS,      FACT_DESCRIPTOR,
                                    FACT_STREAM,     FACT_COMMAND_END, FACT_THREAD_TOTAL, FACT_PROCESS_TOTAL};
    uint32_t which = (uint32_t)eat(1), how = (uint32_t)eat(1);
    struct item item = item_of(lane);
    struct fact f = {.kind = kinds[which % sizeof kinds],
                     .pid = (int32_t)(100 + how % (PROCESSES + 1)),
                     .tid = item.tid,
                     .exit_code = how & 16 ? 0 : -1,
                     .signal = how & 32 ? 9 : -1,
                     .in_call = how % CALL_COUNT,
                     .call_since_ns = run.now - how,
                     .connection = id_of((which >> 3) % CONNECTIONS),
                     .is_stream = how & 1,
                     .is_known = how & 2,
                     .local_length = how & 4 ? 16 : (uint8_t)(how >> 1),
                     .remote_length = 16,
                     .total = run.actor[lane].total};
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(80)};
    memcpy(f.local, &in, sizeof in);
    memcpy(f.remote, &in, sizeof in);
    if (f.local_length > sizeof f.local)
        f.local_length = sizeof f.local;
    if (f.kind == FACT_PROCESS_TOTAL)
        f.total = total_of(item.process);
    if (f.kind == FACT_REAPED)
        item.process = run.live[how % PROCESSES];
    give(&item, &f);
}

static void move_totals(uint32_t lane)
{
    struct actor *a = &run.actor[lane];
    uint64_t how = eat(1), much = eat(how & 128 ? 5 : 2);
    a->total.allocated += how & 1 ? much : 0;
    a->total.allocations += how & 1;
    a->total.freed += how & 2 ? much : 0;
    a->total.lock_ns += how & 4 ? much : 0;
    a->total.disk_ns += how & 8 ? much : 0;
    a->total.sleep_ns += how & 16 ? much : 0;
    a->total.cpu_ns += how & 32 ? much : 0;
}

static void lose(uint32_t lane)
{
    struct item item = item_of(lane);
    item.kind = ITEM_GAP;
    item.missing = 1 + eat(1);
    item.loss = (enum loss)(item.missing % LOSS_COUNT);
    run.actor[lane].sequence += (uint32_t)item.missing;
    give(&item, NULL);
}

static void tick(uint64_t ns)
{
    run.now += ns;
    struct item item = {.kind = ITEM_TICK, .time_ns = run.now};
    give(&item, NULL);
}

static void step(void)
{
    uint32_t op = (uint32_t)eat(1), lane = (op >> 4) % THREADS;
    switch (op & 15) {
    case 0: tick(10000000 << (op >> 4 & 7)); return;
    case 1: begin_process(lane % PROCESSES, run.live[(lane + 1) % PROCESSES]); return;
    case 2: end_process(lane % PROCESSES, (uint32_t)eat(1)); return;
    default: break;
    }
    if (!actor_at(lane))
        return;
    switch (op & 15) {
    case 3: end_thread(lane, (uint32_t)eat(1)); break;
    case 4: lose(lane); break;
    case 5: fact(lane); break;
    case 6:
    case 7: move_totals(lane); break;
    case 8:
    case 9: any_event(lane); break;
    case 10: open_event(lane); break;
    default: text_event(lane);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct options o;
    struct feedback feedback = {plan, ask, ask, NULL};
    trace = getenv("FUZZ_TRACE") != NULL;
    options_init(&o);
    o.connections = o.open_spans = 64;
    o.routes = 8;
    o.interval_s = 2;
    memset(&run, 0, sizeof run);
    at = data;
    end = data + size;
    run.now = START;
    if (eat(1) & 1)
        o.capture = false;
    run.queue = queue_new(32 << 10, SHED);
    run.rollup = rollup_new(&o, run.queue, NULL);
    run.pipeline = pipeline_new(&o, &feedback, run.rollup);
    if (!run.pipeline)
        abort();
    for (uint32_t i = 0; i < 3; i++)
        begin_process(i, i ? run.live[0] : 0);
    for (int i = 0; i < MOST_STEPS && at < end; i++)
        step();
    pipeline_end(run.pipeline, run.now);
    pipeline_free(run.pipeline);
    rollup_free(run.rollup);
    queue_free(run.queue);
    return 0;
}
