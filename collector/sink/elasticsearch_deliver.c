/*
 * elasticsearch_deliver.c - batches become bodies, bodies become requests.
 *
 * In:      elasticsearch.c (open batches)   Out: elasticsearch_http.c, elasticsearch_answer.c
 * Owns:    every body from seal to acknowledgement.
 * Context: sink thread. Nothing waits but http_work, and that for the ms that the caller gave.
 */
#include "collector/sink/elasticsearch_inside.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define BULK_PATH                                                                                  \
    "/_bulk?filter_path=took,errors,items.*.status,items.*.error.type,items.*.error.reason,"      \
    "items.*.failure_store"

void deliver_seal(struct elasticsearch *es, struct lane *lane)
{
    struct body *b = batch_seal(es->packer, &lane->open, (uint8_t)(lane - es->lane));
    if (!b) { /* no memory: what is in the batch stays there until there is, begin_document stops at
                 the bound */
        lane->open.since_ns = elasticsearch_now();
        return;
    }
    body_own(es, b);
    body_queue_append(&lane->waiting, b);
}

/* --- set-up ---------------------------------------------------------------------------------- */

static void start_setup(struct elasticsearch *es, uint64_t now)
{
    struct http_request r;
    uint64_t next;
    int host = http_host(es->http, now, &next);
    if (host < 0 || !setup_request(&es->setup, &r))
        return;
    r.tag = &es->setup;
    es->setup_running = http_start(es->http, host, &r);
}

static void setup_answered(struct elasticsearch *es, const struct http_answer *a)
{
    struct bulk_item error;
    char words[240] = "";
    es->setup_running = false;
    if (!a->fault && a->status >= 300 && bulk_read_error(a->text, a->len, &error))
        bulk_reason(&error, words, sizeof words);
    switch (setup_answer(&es->setup, a)) {
    case SETUP_GO_ON:
    case SETUP_DONE:
        http_host_worked(es->http, a->host);
        memset(&es->hold, 0, sizeof es->hold);
        break;
    case SETUP_TRY_AGAIN:
        if (a->fault)
            deliver_say_fault(es, a);
        else
            deliver_say_busy(es, a->host, words);
        deliver_host_failed(es, a->host, a->retry_after_ns);
        break;
    case SETUP_REFUSED:
        elasticsearch_say(es, TROUBLE_CREDENTIALS, a->host,
                          "401 with %s: %s; set SONDE_API_KEY, or SONDE_USER and SONDE_PASSWORD, "
                          "or name their files",
                          http_credentials(es->http), words);
        hold_begin(es, &es->hold);
        if (http_credentials_reload(es->http))
            memset(&es->hold, 0, sizeof es->hold);
        break;
    case SETUP_FORBIDDEN:
        elasticsearch_say(es, TROUBLE_TEMPLATES, a->host,
                          "403, %s may not set up index templates, and they are missing; run "
                          "`sonde check --output` once "
                          "with credentials that may (manage_index_templates)",
                          http_credentials(es->http));
        setup_again(&es->setup);
        hold_begin(es, &es->hold);
        break;
    case SETUP_FAULT:
        elasticsearch_say(es, TROUBLE_TEMPLATES, a->host, "index templates cannot be set up: %u %s",
                          a->status, words);
        setup_again(&es->setup);
        hold_begin(es, &es->hold);
        break;
    }
}

/* --- sending --------------------------------------------------------------------------------- */

static bool fly(struct elasticsearch *es, struct body *b, int host)
{
    struct flight *f = es->flight;
    while (f->body)
        f++;
    struct http_request r = {.method = "POST",
                             .path = BULK_PATH,
                             .body = (const char *)b->gzip,
                             .len = b->gzip_len,
                             .gzip = true,
                             .answer_max = (1u << 20) + (size_t)b->documents * 2048,
                             .tag = f};
    if (b->plain) {
        f->text = body_text(es->packer, b);
        r.body = f->text;
        r.len = b->plain_len;
        r.gzip = false;
    }
    if (!r.body || !http_start(es->http, host, &r)) {
        free(f->text);
        f->text = NULL;
        return false;
    }
    f->body = b;
    f->host = host;
    es->flying++;
    es->lane[b->stream].flights++;
    return true;
}

/* The next body that may go, taken out of its lane: totals are few and dear, they go first, spans
 * last. */
static struct body *next_body(struct elasticsearch *es, uint64_t now)
{
    for (int i = STREAM_SPAN + 1; i <= STREAM_COUNT; i++) {
        struct lane *lane = &es->lane[i % STREAM_COUNT];
        if (lane->hold.until_ns > now || (lane->hold.delay_ns && lane->flights))
            continue; /* one body tries whether the hold is over */
        struct body *b = body_queue_take(&lane->waiting, now);
        if (b)
            return b;
    }
    return NULL;
}

static void start_flights(struct elasticsearch *es, uint64_t now)
{
    while (es->flying < es->window) {
        uint64_t next;
        int host = http_host(es->http, now, &next);
        struct body *b = host >= 0 ? next_body(es, now) : NULL;
        if (!b)
            return;
        if (b->plain_len > es->body_limit + es->body_limit / 4 + 1024 && body_divide(es, b))
            continue; /* the server has taught us a smaller limit since it was made */
        if (!fly(es, b, host)) {
            body_put_back(es, b);
            return;
        }
    }
}

/* While bodies wait, the open batch goes on growing: after an outage there are few large ones, not
 * many small ones. */
static void seal_due(struct elasticsearch *es, uint64_t now)
{
    uint64_t wait_ns = es->ending ? 0 : es->settings->options.bulk_wait_ms * 1000000;
    for (int i = 0; i < STREAM_COUNT; i++) {
        struct lane *lane = &es->lane[i];
        if (lane->open.documents && now - lane->open.since_ns >= wait_ns &&
            (es->ending || !lane->waiting.first))
            deliver_seal(es, lane);
    }
}

static void start(struct elasticsearch *es)
{
    uint64_t now = elasticsearch_now();
    seal_due(es, now);
    if (es->hold.until_ns > now)
        return;
    if (es->setup.step != SETUP_READY) {
        if (!es->setup_running)
            start_setup(es, now);
        return;
    }
    start_flights(es, now);
}

int deliver_turn(struct elasticsearch *es, int ms)
{
    struct http_answer a;
    start(es);
    http_work(es->http, ms);
    while (http_next(es->http, &a)) {
        if (a.tag == &es->setup)
            setup_answered(es, &a);
        else
            deliver_answered(es, a.tag, &a);
    }
    start(es);
    return http_running(es->http) > 0;
}

/* The run has ended: what waits for later waits no more than a moment. */
static void hurry(struct elasticsearch *es)
{
    uint64_t now = elasticsearch_now(), latest = now + ENDING_PAUSE_NS;
    http_hosts_hurry(es->http, latest);
    if (!es->busy_since_ns)
        es->window = FLIGHTS; /* all streams at once: each may have to be made first */
    if (es->hold.until_ns > latest)
        es->hold.until_ns = latest;
    for (int i = 0; i < STREAM_COUNT; i++) {
        if (es->lane[i].hold.until_ns > latest)
            es->lane[i].hold.until_ns = latest;
        for (struct body *b = es->lane[i].waiting.first; b; b = b->next)
            if (b->not_before_ns > latest)
                b->not_before_ns = latest;
    }
}

void deliver_until(struct elasticsearch *es, uint64_t deadline_ns)
{
    hurry(es);
    struct timespec pause = {.tv_nsec = 5000000};
    for (uint64_t now = elasticsearch_now(); now < deadline_ns && elasticsearch_queued(es);
         now = elasticsearch_now()) {
        uint64_t rest_ms = (deadline_ns - now) / 1000000;
        if (!deliver_turn(es, rest_ms < 20 ? (int)rest_ms + 1 : 20))
            nanosleep(&pause, NULL);
    }
}

void deliver_give_up(struct elasticsearch *es)
{
    uint64_t left = elasticsearch_queued(es);
    if (!left)
        return;
    elasticsearch_tell(es, 0,
                       "%" PRIu64 " documents could not be delivered by the end of the run and are "
                       "dropped (exit.flush_s gives more time)%s%s",
                       left, *es->last_trouble ? "; last trouble: " : "", es->last_trouble);
    for (int i = 0; i < STREAM_COUNT; i++) {
        struct body *b;
        while ((b = body_queue_take(&es->lane[i].waiting, UINT64_MAX)))
            body_disown(es, b);
        batch_fini(&es->lane[i].open);
    }
    for (int i = 0; i < FLIGHTS;
         i++) /* their requests end with http_close, which comes before the bytes are freed */
        if (es->flight[i].body)
            es->flight[i].body->documents = 0;
    es->count.dropped_exit += left;
}
