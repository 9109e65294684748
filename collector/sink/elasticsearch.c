/*
 * elasticsearch.c - the sink for Elasticsearch and OpenSearch: rows become documents, documents
 * become batches.
 *
 * In:      rows                     Out: elasticsearch_deliver.c
 * Owns:    the sink, its counts, the names of what it has said.
 * Context: sink thread
 * Failure: no memory: the newest document is dropped and counted; spans first, totals have an
 * eighth for themselves.
 */
#include "collector/sink/elasticsearch_inside.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define SAY_AGAIN_NS (60 * SECOND_NS)

uint64_t elasticsearch_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * SECOND_NS + (uint64_t)t.tv_nsec;
}

static uint64_t epoch_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (uint64_t)t.tv_sec * SECOND_NS + (uint64_t)t.tv_nsec;
}

/* --- what a person is told ------------------------------------------------------------------- */

static void say_line(struct elasticsearch *es, const char *line)
{
    if (es->say)
        es->say(es->say_to, line);
    else
        fprintf(stderr, "sonde: %s\n", line);
}

void elasticsearch_tell(struct elasticsearch *es, int host, const char *format, ...)
{
    char words[500], line[800];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(words, sizeof words, format, arguments);
    va_end(arguments);
    snprintf(line, sizeof line, "%s at %s: %s", es->setup.flavour, http_url(es->http, host), words);
    say_line(es, line);
}

void elasticsearch_say(struct elasticsearch *es, enum trouble trouble, int host, const char *format,
                       ...)
{
    char words[400];
    uint64_t now = elasticsearch_now();
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(words, sizeof words, format, arguments);
    va_end(arguments);
    snprintf(es->last_trouble, sizeof es->last_trouble, "%s", words);
    if (es->said_ns[trouble] && now - es->said_ns[trouble] < SAY_AGAIN_NS)
        return;
    es->said_ns[trouble] = now;
    es->in_trouble |= 1u << trouble;
    elasticsearch_tell(es, host >= 0 ? host : 0, "%s; %" PRIu64 " documents wait", words,
                       elasticsearch_queued(es));
}

/* --- counts ---------------------------------------------------------------------------------- */

uint64_t elasticsearch_queued(const struct elasticsearch *es)
{
    uint64_t queued = 0;
    for (int i = 0; i < STREAM_COUNT; i++) {
        queued += es->lane[i].open.documents;
        for (const struct body *b = es->lane[i].waiting.first; b; b = b->next)
            queued += b->documents;
    }
    for (int i = 0; i < FLIGHTS; i++)
        queued += es->flight[i].body ? es->flight[i].body->documents : 0;
    return queued;
}

static void es_documents(void *self, struct documents *out)
{
    struct elasticsearch *es = self;
    const struct lane *totals = &es->lane[STREAM_ENDPOINT];
    if (!totals->open.documents && !totals->waiting.first && !totals->flights)
        es->count.totals_through = es->totals_told;
    *out = es->count;
    out->queued = elasticsearch_queued(es);
}

static size_t memory_used(const struct elasticsearch *es)
{
    size_t used = es->memory_bytes;
    for (int i = 0; i < STREAM_COUNT; i++)
        used += es->lane[i].open.len;
    return used;
}

/* --- rows ------------------------------------------------------------------------------------ */

/* Room for one more document of this stream; NULL: dropped, and counted. */
static char *begin_document(struct elasticsearch *es, enum stream stream)
{
    size_t most = es->settings->options.output_memory;
    char *to = NULL;
    es->count.accepted++;
    if (stream == STREAM_SPAN)
        most -= most / 8;
    if (memory_used(es) < most)
        to = batch_reserve(&es->lane[stream].open, DOCUMENT_MAX);
    if (to)
        return to;
    es->count.dropped_memory++;
    elasticsearch_say(es, TROUBLE_MEMORY, -1,
                      "output.memory_bytes is full, new documents are dropped and counted");
    return NULL;
}

static void end_document(struct elasticsearch *es, enum stream stream, size_t bytes)
{
    struct lane *lane = &es->lane[stream];
    if (!lane->open.documents)
        lane->open.since_ns = elasticsearch_now();
    batch_commit(&lane->open, bytes);
    if (lane->open.len >= es->body_limit)
        deliver_seal(es, lane);
}

static void push_span(struct elasticsearch *es, const struct row *row)
{
    char *to = begin_document(es, STREAM_SPAN);
    if (to)
        end_document(es, STREAM_SPAN, document_span(es->writer, row, to));
}

static void push_total(struct elasticsearch *es, const struct row *row)
{
    const struct row_total *t = (const void *)(row + 1);
    if (!t->closed) /* whole rows come every second; the last of an interval counts */
        return;
    char *to = begin_document(es, STREAM_ENDPOINT);
    if (to)
        end_document(es, STREAM_ENDPOINT, document_total(es->writer, row, to));
}

static void write_processes(struct elasticsearch *es, uint64_t time_ns)
{
    for (size_t i = 0; i < es->processes.count; i++) {
        struct row *row = es->processes.row[i];
        bool gone = !((const struct row_process *)(const void *)(row + 1))
                         ->merged; /* another row sums it now */
        char *to = gone ? NULL : begin_document(es, STREAM_PROCESS);
        if (to)
            end_document(es, STREAM_PROCESS, document_process(es->writer, row, time_ns, to));
        free(row);
    }
    es->processes.count = 0;
}

/* Keeps the newest row of each process. */
static int keep_process(struct elasticsearch *es, const struct row *row)
{
    struct process_rows *kept = &es->processes;
    uint32_t process = ((const struct row_process *)(const void *)(row + 1))->process;
    size_t i = kept->count;
    while (i &&
           ((const struct row_process *)(const void *)(kept->row[i - 1] + 1))->process != process)
        i--;
    if (!i && kept->count == kept->room) {
        size_t room = kept->room ? kept->room * 2 : 16;
        struct row **more = realloc(kept->row, room * sizeof(void *));
        if (!more)
            return -ENOMEM;
        kept->row = more;
        kept->room = room;
    }
    struct row *copy = malloc(row->bytes);
    if (!copy)
        return -ENOMEM;
    memcpy(copy, row, row->bytes);
    if (i)
        free(kept->row[i - 1]);
    else
        i = ++kept->count;
    kept->row[i - 1] = copy;
    if (kept->count >= 1024) /* a server that forks for each request: do not search long lists */
        write_processes(es, epoch_ns());
    return 0;
}

static uint64_t resident_bytes(void)
{
    unsigned long pages = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    if (!f)
        return 0;
    if (fscanf(f, "%*u %lu", &pages) != 1)
        pages = 0;
    fclose(f);
    return (uint64_t)pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

void elasticsearch_health(struct elasticsearch *es, const struct row_interval *interval)
{
    struct document_health h = {.interval = interval,
                                .queued_bytes = memory_used(es),
                                .resident_bytes = resident_bytes(),
                                .time_ns = epoch_ns(),
                                .number = ++es->health_number};
    es_documents(es, &h.documents);
    char *to = begin_document(es, STREAM_COLLECTOR);
    if (to)
        end_document(es, STREAM_COLLECTOR, document_health(es->writer, &h, to));
}

static void push_interval(struct elasticsearch *es, const struct row_interval *interval)
{
    es->totals_told = interval->interval - 1; /* the rows of one interval follow each other */
    if (!interval->closed)
        return;
    write_processes(es, interval->end_ns);
    elasticsearch_health(es, interval);
}

static int es_push(void *self, const struct row *row)
{
    struct elasticsearch *es = self;
    switch ((enum row_kind)row->kind) {
    case ROW_RUN:
        document_run(es->writer, row);
        return 0;
    case ROW_ENDPOINT:
        return document_endpoint(es->writer, row);
    case ROW_SPAN:
        push_span(es, row);
        return 0;
    case ROW_TOTAL:
        push_total(es, row);
        return 0;
    case ROW_PROCESS:
        return keep_process(es, row);
    case ROW_INTERVAL:
        push_interval(es, (const void *)(row + 1));
        return 0;
    case ROW_RUN_END:
        write_processes(es, ((const struct row_run_end *)(const void *)(row + 1))->end_ns);
        return 0;
    default:
        return 0; /* the local store's alone */
    }
}

static int es_commit(void *self)
{
    (void)self; /* what is sent, and when, follows from size and time */
    return 0;
}

/* --- life ------------------------------------------------------------------------------------ */

static int es_turn(void *self, int ms)
{
    return deliver_turn(self, ms);
}

static void es_finish(void *self, uint64_t deadline_ns)
{
    struct elasticsearch *es = self;
    if (es->ending)
        return;
    es->ending = true;
    write_processes(es, epoch_ns());
    deliver_until(es, deadline_ns);
    deliver_give_up(es);
}

static int es_close(void *self, uint64_t deadline_ns)
{
    es_finish(self, deadline_ns);
    elasticsearch_free(self);
    return 0;
}

/* Lower case, none of the characters that names of data streams forbid. */
static bool is_namespace(const char *text)
{
    size_t len = strlen(text);
    if (!len || len > 100)
        return false;
    for (const char *c = text; *c; c++)
        if ((unsigned char)*c <= ' ' || strchr("\\/*?\"<>|,#:-", *c) || (*c >= 'A' && *c <= 'Z') ||
            (unsigned char)*c >= 0x7f)
            return false;
    return true;
}

static void set_counts(struct elasticsearch *es, const struct documents *before)
{
    if (!before)
        return;
    es->count = *before;
    es->count.dropped_exit +=
        before->queued; /* they were in the memory of a collector that is dead */
    es->count.queued = 0;
    es->totals_told = before->totals_through;
}

struct elasticsearch *elasticsearch_new(const struct settings *settings,
                                        const struct output *output, const char *run_id,
                                        const struct documents *before, elasticsearch_say_fn say,
                                        void *to)
{
    char message[300] = "no memory", line[600];
    struct elasticsearch *es = calloc(1, sizeof *es);
    const char *namespace = output->namespace ? output->namespace : "default";
    if (!es)
        return NULL;
    es->settings = settings;
    snprintf(es->namespace, sizeof es->namespace, "%s", namespace);
    es->say = say;
    es->say_to = to;
    es->window = 1;
    es->wanted_in_a_row = 1;
    es->body_limit = settings->options.bulk_bytes;
    if (es->body_limit > settings->options.output_memory / 4)
        es->body_limit = settings->options.output_memory / 4;
    set_counts(es, before);
    setup_init(&es->setup);
    if (is_namespace(namespace)) {
        es->writer = document_writer_new(run_id, namespace, epoch_ns() / 1000000);
        es->packer = packer_new();
        es->http = http_open(output, message, sizeof message);
    } else {
        snprintf(message, sizeof message,
                 "the namespace \"%.100s\" is none: lower case, without \\/*?\"<>|,#:- and spaces",
                 namespace);
    }
    if (es->writer && es->packer && es->http)
        return es;
    snprintf(line, sizeof line, "output %.200s: %s; nothing is sent there",
             output->url ? output->url : "", message);
    say_line(es, line);
    elasticsearch_free(es);
    return NULL;
}

void elasticsearch_free(struct elasticsearch *es)
{
    for (int i = 0; i < STREAM_COUNT; i++) {
        struct body *b;
        while ((b = body_queue_take(&es->lane[i].waiting, UINT64_MAX)))
            body_free(b);
        batch_fini(&es->lane[i].open);
    }
    if (es->http)
        http_close(es->http);
    for (int i = 0; i < FLIGHTS; i++) {
        body_free(es->flight[i].body);
        free(es->flight[i].text);
    }
    for (size_t i = 0; i < es->processes.count; i++)
        free(es->processes.row[i]);
    free(es->processes.row);
    setup_fini(&es->setup);
    packer_free(es->packer);
    document_writer_free(es->writer);
    free(es);
}

struct sink *elasticsearch_open(const struct settings *settings, const struct output *output,
                                const char *run_id, const struct documents *before,
                                elasticsearch_say_fn say, void *to)
{
    struct elasticsearch *es = elasticsearch_new(settings, output, run_id, before, say, to);
    if (!es)
        return NULL;
    es->sink = (struct sink){.name = "elasticsearch",
                             .push = es_push,
                             .commit = es_commit,
                             .turn = es_turn,
                             .documents = es_documents,
                             .close = es_close,
                             .finish = es_finish,
                             .self = es};
    return &es->sink;
}
