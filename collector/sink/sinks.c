/*
 * sinks.c - the sink thread: takes rows off the queue and gives each to the store and to every
 * output.
 *
 * In:      sinks.h's caller                     Out: store.h, elasticsearch.h
 * Owns:    the thread, the outputs, the store.
 * Context: the caller's thread before `run` starts and after it was joined; in between, the sink
 *          thread alone.
 * Failure: what an output does not take it counts as dropped; nothing waits for it.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "collector/sink/elasticsearch.h"
#include "collector/sink/sinks.h"
#include "collector/symbol.h"
#include "wire/clock.h"

#define ROWS_A_TURN 256
#define IDLE_MS                                                                                    \
    100 /* nothing to do: how long to wait for a row while an output might want to work */
#define ALONE_MS 1000 /* the same without outputs */
#define BUSY_MS 5     /* an output works: how long it may wait for its network at a time */
#define COMMIT_NS (UINT64_C(2) * 1000000000) /* without a ROW_COMMIT */
#define SLOW_MOST 4 /* so many times sinks_patience_ns for a thread that gets on, but slowly */

uint64_t sinks_patience_ns = UINT64_C(5) * 1000000000;

struct sinks {
    struct queue *queue;
    struct store *store;
    struct symbols *symbols;
    struct sink *output[OUTPUTS_MAX];
    char name[OUTPUTS_MAX][256]; /* what the ledger calls it: its URL */
    uint64_t delivered[OUTPUTS_MAX]; /* totals of intervals up to this one are, by an earlier collector's account */
    int outputs;
    pthread_t thread;
    pid_t tid; /* of the thread; under the lock */
    bool running;
    uint64_t deadline_ns; /* told by sinks_finish, with `finishing` */
    pthread_mutex_t lock;
    pthread_cond_t moved;     /* one of the two below; CLOCK_MONOTONIC */
    bool finishing, finished; /* the deadline is known; the thread has nothing left to do */
};

static void note_documents(struct sinks *s)
{
    for (int i = 0; i < s->outputs; i++) {
        struct documents d = {0};
        if (!s->output[i]->documents)
            continue;
        s->output[i]->documents(s->output[i]->self, &d);
        store_documents(s->store, s->name[i], &d);
    }
}

static void push_again(void *to, const struct row *row)
{
    struct sink *o = to;
    o->push(o->self, row);
}

/* What a collector before us may not have delivered: a document that arrived twice is a duplicate, by its id. */
static void tell_again(struct sinks *s)
{
    for (int i = 0; i < s->outputs; i++)
        store_resume_totals(s->store, s->delivered[i], push_again, s->output[i]);
}

/* What frames mean stays here; all others get text. NULL: the row was for the symboliser alone. */
static const struct row *translate(struct sinks *s, const struct row *row)
{
    if (row->kind == ROW_COMMIT)
        symbols_rest(s->symbols);
    if (row->kind == ROW_FRAMES)
        return symbols_stack(s->symbols, row);
    if (row->kind == ROW_OBJECT)
        symbols_object(s->symbols, row);
    return row->kind == ROW_OBJECT ? NULL : row;
}

static enum span_for meant_for(const struct row *row)
{
    return row->kind == ROW_SPAN ? ((const struct row_span *)(const void *)(row + 1))->meant_for : FOR_ALL;
}

static void take(struct sinks *s, const struct row *queued)
{
    const struct row *row = translate(s, queued);
    if (!row)
        return;
    enum span_for whose = meant_for(row);
    for (int i = 0; i < s->outputs && whose != FOR_STORE; i++) {
        struct sink *o = s->output[i];
        o->push(o->self, row); /* what it cannot take it counts itself */
        if (row->kind == ROW_COMMIT && o->commit)
            o->commit(o->self);
    }
    if (row->kind == ROW_RUN)
        tell_again(s); /* documents name the host, which that row told */
    if (row->kind == ROW_COMMIT)
        note_documents(s);
    if (whose != FOR_OUTPUTS)
        store_push(s->store, row);
}

/* Lets the outputs work. True: one of them wants to go on soon. */
static bool turn(struct sinks *s, int ms)
{
    bool busy = false;
    for (int i = 0; i < s->outputs; i++)
        if (s->output[i]->turn && s->output[i]->turn(s->output[i]->self, ms) == 1)
            busy = true;
    return busy;
}

static uint64_t wait_for_deadline(struct sinks *s)
{
    pthread_mutex_lock(&s->lock);
    while (!s->finishing)
        pthread_cond_wait(&s->moved, &s->lock);
    uint64_t deadline = s->deadline_ns;
    pthread_mutex_unlock(&s->lock);
    return deadline;
}

/* The last rows are committed before the outputs get their time, so that a kill meanwhile costs no
 * row. */
static void end(struct sinks *s)
{
    store_commit(s->store);
    uint64_t deadline = wait_for_deadline(s);
    for (int i = 0; i < s->outputs; i++)
        if (s->output[i]->finish)
            s->output[i]->finish(s->output[i]->self, deadline);
    note_documents(s);
    store_commit(s->store);
}

static void *run(void *self)
{
    struct sinks *s = self;
    pthread_mutex_lock(&s->lock);
    s->tid = gettid();
    pthread_mutex_unlock(&s->lock);
    bool ended = false, busy = false, dirty = false;
    int idle_ms = s->outputs ? IDLE_MS : ALONE_MS;
    uint64_t committed = clock_monotonic_ns();
    while (!ended) {
        const struct row *row = queue_peek(s->queue, busy ? 0 : idle_ms, &ended);
        for (int n = 0; row && n < ROWS_A_TURN; n++) {
            dirty = row->kind != ROW_COMMIT;
            if (!dirty)
                committed = clock_monotonic_ns();
            take(s, row);
            queue_drop(s->queue);
            row = n + 1 < ROWS_A_TURN ? queue_peek(s->queue, 0, &ended) : NULL;
        }
        busy = turn(s, busy && queue_used(s->queue) == 0 ? BUSY_MS : 0);
        if (dirty && clock_monotonic_ns() - committed > COMMIT_NS) {
            store_commit(s->store);
            committed = clock_monotonic_ns();
            dirty = false;
        }
    }
    end(s);
    pthread_mutex_lock(&s->lock);
    s->finished = true;
    pthread_cond_broadcast(&s->moved);
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

static void open_outputs(struct sinks *s, const struct settings *settings, store_say_fn say,
                         void *to)
{
    for (int i = 0; i < settings->outputs; i++) {
        const struct output *output = &settings->output[i];
        char *name = s->name[s->outputs];
        struct documents before;
        snprintf(name, sizeof s->name[0], "%s", output->url);
        bool known = store_documents_before(s->store, name, &before);
        struct sink *opened =
            elasticsearch_open(settings, output, settings->token, known ? &before : NULL, say, to);
        if (!opened)
            continue;
        s->delivered[s->outputs] = known ? before.totals_through : 0;
        s->output[s->outputs++] = opened;
    }
}

struct sinks *sinks_start(const struct settings *settings, struct queue *queue, store_say_fn say,
                          void *to)
{
    struct sinks *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    s->queue = queue;
    pthread_mutex_init(&s->lock, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&s->moved, &attributes);
    pthread_condattr_destroy(&attributes);
    s->store = store_open(settings->store, settings->token, settings->options.store_bytes, say, to);
    s->symbols = symbols_new(!settings->replay);
    if (s->store && s->symbols) {
        open_outputs(s, settings, say, to);
        s->running = pthread_create(&s->thread, NULL, run, s) == 0;
    }
    if (!s->running) {
        sinks_close(s);
        return NULL;
    }
    pthread_setname_np(s->thread, "sonde-sinks");
    return s;
}

void sinks_resume(struct sinks *s, struct store_resume *out)
{
    store_resume(s->store, out);
}

void sinks_resume_processes(struct sinks *s, void (*each)(void *to, const struct store_process *),
                            void *to)
{
    store_resume_processes(s->store, each, to);
}

const char *sinks_store_path(const struct sinks *s)
{
    return store_path(s->store);
}

/* --- the end --- */

static uint64_t cpu_of(struct sinks *s)
{
    clockid_t clock;
    struct timespec t;
    if (pthread_getcpuclockid(s->thread, &clock) || clock_gettime(clock, &t))
        return 0;
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* It runs, or would if somebody let it. */
static bool is_runnable(const struct sinks *s)
{
    char path[64], text[256] = "";
    snprintf(path, sizeof path, "/proc/self/task/%d/stat", (int)s->tid);
    FILE *f = fopen(path, "re");
    if (!f)
        return false;
    size_t n = fread(text, 1, sizeof text - 1, f);
    fclose(f);
    text[n] = 0;
    const char *end = strrchr(text, ')');
    return end && end[1] == ' ' && end[2] == 'R';
}

static bool has_finished_by(struct sinks *s, uint64_t time_ns)
{
    struct timespec until = {.tv_sec = (time_t)(time_ns / 1000000000),
                             .tv_nsec = (long)(time_ns % 1000000000)};
    int rc = 0;
    while (!s->finished && rc == 0)
        rc = pthread_cond_timedwait(&s->moved, &s->lock, &until);
    return s->finished;
}

/* A thread that neither ran nor could have run waits for its disk; one that did is slow, and gets more time. */
static int wait_for_end(struct sinks *s)
{
    uint64_t until = s->deadline_ns, ran = cpu_of(s);
    for (int slow = 0; slow < SLOW_MOST; slow++) {
        until += sinks_patience_ns;
        if (has_finished_by(s, until))
            return 0;
        uint64_t now = cpu_of(s);
        if (now - ran < sinks_patience_ns / 1000 && !is_runnable(s))
            return -ETIMEDOUT;
        ran = now;
    }
    return -EBUSY;
}

int sinks_finish(struct sinks *s, uint64_t deadline_ns)
{
    if (!s->running)
        return 0;
    pthread_mutex_lock(&s->lock);
    s->deadline_ns = deadline_ns;
    s->finishing = true;
    pthread_cond_broadcast(&s->moved);
    int rc = wait_for_end(s);
    pthread_mutex_unlock(&s->lock);
    if (rc != 0)
        return rc;
    pthread_join(s->thread, NULL);
    s->running = false;
    return 0;
}

int sinks_report(struct sinks *s, const struct report_query *query, struct report **out)
{
    if (s->running)
        return -ETIMEDOUT;
    return report_load(store_connection(s->store), query, out);
}

int sinks_close(struct sinks *s)
{
    if (!s)
        return 0;
    if (s->running)
        return -ETIMEDOUT;
    for (int i = 0; i < s->outputs; i++)
        s->output[i]->close(s->output[i]->self, 0);
    int rc = store_close(s->store);
    symbols_free(s->symbols);
    pthread_mutex_destroy(&s->lock);
    pthread_cond_destroy(&s->moved);
    free(s);
    return rc;
}
