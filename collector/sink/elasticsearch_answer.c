/*
 * elasticsearch_answer.c - what an answer does to a body: done, again, later, in halves, never.
 *
 * In:      elasticsearch_deliver.c (answers)   Out: lanes, counts
 * Owns:    the pauses: of the whole sink, of a lane, of a host, of a body.
 * Context: sink thread
 * Failure: docs/elasticsearch.md has the two tables; bulk.c knows which row an answer belongs to,
 * this file does it. Without memory a body goes back as it is: the server knows its ids.
 */
#include "collector/sink/elasticsearch_inside.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define HOLD_FIRST_NS SECOND_NS
#define HOLD_LONGEST_NS (30 * SECOND_NS)
#define BACK_OFF_LONGEST_NS (60 * SECOND_NS)
#define SMALLEST_LIMIT 4096u
#define REFUSED_BEFORE_HALVING 3
#define FAILED_BEFORE_DEAD 10
#define CLOSED_BEFORE_PLAIN 2
#define CLOSED_BEFORE_HALVING 5
#define CLOSED_BEFORE_DEAD 10
#define GOOD_ANSWERS_MOST 1024
#define BUSY_BEFORE_SAYING_NS (10 * SECOND_NS)

void deliver_say_fault(struct elasticsearch *es, const struct http_answer *a)
{
    const char *remedy = "";
    if (a->fault == HTTP_TLS)
        remedy = "; name the file of its authority (output.ca_file)";
    else if (a->fault == HTTP_CLOSED && !es->successes &&
             !strncmp(http_url(es->http, a->host), "http:", 5))
        remedy = "; does it want https?";
    elasticsearch_say(es, TROUBLE_NETWORK, a->host, "%s%s", a->words, remedy);
}

/* --- bodies: from here to there, never lost -------------------------------------------------- */

void body_own(struct elasticsearch *es, struct body *b)
{
    es->memory_bytes += body_memory(b);
}

void body_disown(struct elasticsearch *es, struct body *b)
{
    es->memory_bytes -= body_memory(b);
    body_free(b);
}

void body_put_back(struct elasticsearch *es, struct body *b)
{
    body_queue_prepend(&es->lane[b->stream].waiting, b);
}

/* In two, sent before anything else; false: one document, or no memory. */
bool body_divide(struct elasticsearch *es, struct body *b)
{
    struct body *half[2];
    if (b->documents < 2 || body_halve(es->packer, b, half))
        return false;
    for (int i = 1; i >= 0; i--) {
        body_own(es, half[i]);
        body_put_back(es, half[i]);
    }
    body_disown(es, b);
    return true;
}

static void bury(struct elasticsearch *es, struct body *b, int host, const char *why)
{
    es->count.dead += b->documents;
    elasticsearch_say(es, TROUBLE_DEAD, host, "%" PRIu32 " document of %s refused for good: %s",
                      b->documents, stream_names[b->stream], why);
    body_disown(es, b);
}

/* --- pauses ---------------------------------------------------------------------------------- */

static uint64_t longest(const struct elasticsearch *es, uint64_t ns)
{
    return es->ending && ns > ENDING_PAUSE_NS ? ENDING_PAUSE_NS : ns;
}

void hold_begin(struct elasticsearch *es, struct hold *h)
{
    uint64_t now = elasticsearch_now();
    if (h == &es->hold)
        es->window = 1;
    if (h->until_ns > now) /* another flight has found the same */
        return;
    h->delay_ns = h->delay_ns ? h->delay_ns * 2 : HOLD_FIRST_NS;
    if (h->delay_ns > HOLD_LONGEST_NS)
        h->delay_ns = HOLD_LONGEST_NS;
    h->until_ns = now + longest(es, h->delay_ns);
}

/* Half as many, and it takes twice as many good answers until one more is tried. */
static void fewer_flights(struct elasticsearch *es)
{
    es->window = es->window > 1 ? es->window / 2 : 1;
    es->in_a_row = 0;
    if (es->wanted_in_a_row < GOOD_ANSWERS_MOST)
        es->wanted_in_a_row *= 2;
}

void deliver_host_failed(struct elasticsearch *es, int host, uint64_t at_least_ns)
{
    http_host_failed(es->http, host, elasticsearch_now(), at_least_ns,
                     longest(es, BACK_OFF_LONGEST_NS));
    fewer_flights(es);
}

static void host_worked(struct elasticsearch *es, int host, uint64_t duration_ns)
{
    http_host_worked(es->http, host);
    es->busy_since_ns = 0;
    if (duration_ns < 2 * SECOND_NS && es->window < FLIGHTS &&
        ++es->in_a_row >= es->wanted_in_a_row) {
        es->window++;
        es->in_a_row = 0;
    }
}

/* Busy for a moment is daily life; busy for long is worth a line. */
void deliver_say_busy(struct elasticsearch *es, int host, const char *why)
{
    uint64_t now = elasticsearch_now();
    if (!es->busy_since_ns)
        es->busy_since_ns = now;
    if (now - es->busy_since_ns >= BUSY_BEFORE_SAYING_NS)
        elasticsearch_say(es, TROUBLE_BUSY, host, "busy for %" PRIu64 " s: %s",
                          (now - es->busy_since_ns) / SECOND_NS, why);
}

static void say_recovered(struct elasticsearch *es, int host)
{
    uint32_t lasting = es->in_trouble & ~(1u << TROUBLE_DEAD | 1u << TROUBLE_MEMORY);
    if (!lasting)
        return;
    es->in_trouble = 0;
    for (int i = 0; i < TROUBLE_COUNT; i++)
        if (lasting >> i & 1)
            es->said_ns[i] = 0;
    elasticsearch_tell(es, host, "takes documents again, %" PRIu64 " wait",
                       elasticsearch_queued(es));
}

/* --- what an answer's items do to a body ----------------------------------------------------- */

struct judgement {
    struct elasticsearch *es;
    struct body *body;
    uint8_t *again; /* per document: 1 it must be sent again */
    uint32_t done, duplicates, dead, retries, a_few, held, set_up, aside;
    char dead_words[240], held_words[240], busy_words[240];
};

static void judge(void *to, uint32_t position, const struct bulk_item *item)
{
    struct judgement *j = to;
    char words[240];
    if (position >= j->body->documents)
        return; /* that many were not asked for: the answer is none */
    enum fate fate = bulk_fate(item);
    if (fate == FATE_RETRY_A_FEW && j->body->failed >= FAILED_BEFORE_DEAD)
        fate = FATE_DEAD;
    j->again[position] =
        fate == FATE_RETRY || fate == FATE_RETRY_A_FEW || fate == FATE_HOLD || fate == FATE_SETUP;
    switch (fate) {
    case FATE_DONE:
        j->done++;
        j->aside += item->failure_store;
        return;
    case FATE_DUPLICATE:
        j->duplicates++;
        return;
    default:
        break;
    }
    size_t used = (size_t)snprintf(words, sizeof words, "%u ", item->status);
    bulk_reason(item, words + used, sizeof words - used);
    if (fate == FATE_DEAD) {
        j->dead++;
        memcpy(j->dead_words, words, sizeof words);
    } else if (fate == FATE_RETRY || fate == FATE_RETRY_A_FEW) {
        j->retries++;
        j->a_few += fate == FATE_RETRY_A_FEW;
        memcpy(j->busy_words, words, sizeof words);
    } else {
        j->held++;
        j->set_up += fate == FATE_SETUP;
        memcpy(j->held_words, words, sizeof words);
    }
}

static void say_judgement(struct elasticsearch *es, const struct judgement *j, int host)
{
    const char *stream = stream_names[j->body->stream];
    if (j->dead)
        elasticsearch_say(es, TROUBLE_DEAD, host,
                          "%" PRIu32 " documents of %s-%s refused for good: %s", j->dead, stream,
                          es->namespace, j->dead_words);
    if (j->held && !strncmp(j->held_words, "403 security", 12))
        elasticsearch_say(es, TROUBLE_RIGHTS, host,
                          "%s-%s: %s; give %s the privileges create_doc, auto_configure and "
                          "view_index_metadata on it",
                          stream, es->namespace, j->held_words, http_credentials(es->http));
    else if (j->held)
        elasticsearch_say(es, TROUBLE_BLOCKED, host,
                          "%s-%s takes nothing until its operator mends it: %s", stream,
                          es->namespace, j->held_words);
    if (j->retries)
        deliver_say_busy(es, host, j->busy_words);
}

/* The documents that must go again become a body of their own. */
static bool send_again(struct elasticsearch *es, const struct judgement *j)
{
    struct body *old = j->body, *again = NULL;
    uint32_t count = j->retries + j->held;
    if (count == old->documents) {
        again = old;
    } else if (count) {
        again = body_pick(es->packer, old, j->again);
        if (!again)
            return false;
        body_own(es, again);
        again->refused = old->refused;
    }
    if (again != old)
        body_disown(es, old);
    if (!again)
        return true;
    again->failed = (uint16_t)(again->failed + (j->a_few != 0));
    if (j->retries && !j->held) {
        uint64_t limit = SECOND_NS << (again->refused < 6 ? again->refused : 6);
        again->refused++;
        again->not_before_ns = elasticsearch_now() + longest(es, limit / 2);
    }
    body_put_back(es, again);
    return true;
}

static void ambiguous(struct elasticsearch *es, struct body *b, const struct http_answer *a,
                      const char *what)
{
    elasticsearch_say(es, TROUBLE_ANSWER, a->host, "%s: the same documents are sent again", what);
    deliver_host_failed(es, a->host, 0);
    body_put_back(es, b);
}

/* 200: believed only with as many items as documents. */
static void items_told(struct elasticsearch *es, struct body *b, const struct http_answer *a)
{
    struct bulk_answer answer;
    struct judgement j = {.es = es, .body = b};
    struct lane *lane = &es->lane[b->stream];
    j.again = calloc(1, b->documents);
    if (!j.again) { /* no memory: the same bytes again, the server knows their ids */
        body_put_back(es, b);
        return;
    }
    if (bulk_read(a->text, a->len, &answer, judge, &j) || answer.items != b->documents) {
        free(j.again);
        ambiguous(es, b, a,
                  a->len ? "an answer that is cut or of another number of items"
                         : "an empty answer");
        return;
    }
    say_judgement(es, &j, a->host);
    uint32_t settled = j.done + j.duplicates + j.dead;
    if (!send_again(es, &j)) { /* no memory to take it apart: all of it again, what was done will be
                                  a duplicate */
        b->not_before_ns = elasticsearch_now() + SECOND_NS;
        body_put_back(es, b);
        free(j.again);
        return;
    }
    free(j.again);
    es->count.acknowledged += j.done;
    es->count.duplicates += j.duplicates;
    es->count.dead += j.dead;
    es->failure_store += j.aside;
    if (j.held)
        hold_begin(es, &lane->hold);
    else
        memset(&lane->hold, 0, sizeof lane->hold);
    if (j.set_up)
        setup_again(&es->setup);
    if (j.retries)
        fewer_flights(es);
    else
        host_worked(es, a->host, a->duration_ns);
    if (settled)
        es->successes++;
    if (j.done + j.duplicates && !j.held)
        say_recovered(es, a->host);
}

/* --- what an answer does to a body ----------------------------------------------------------- */

static void refused_too_often(struct elasticsearch *es, struct body *b, const struct http_answer *a,
                              const struct bulk_item *error)
{
    size_t limit = bulk_pressure_limit(error, b->plain_len);
    char words[240];
    size_t used = (size_t)snprintf(words, sizeof words, "%u ", a->status);
    bulk_reason(error, words + used, sizeof words - used);
    deliver_say_busy(es, a->host, words);
    b->refused++;
    if (limit && b->documents > 1) { /* it would be refused by an idle server too */
        if (limit / 2 < es->body_limit)
            es->body_limit = limit / 2 > SMALLEST_LIMIT ? limit / 2 : SMALLEST_LIMIT;
        if (body_divide(es, b))
            return;
    } else if (a->status == 429 && b->refused >= REFUSED_BEFORE_HALVING) {
        deliver_host_failed(es, a->host, a->retry_after_ns);
        if (!body_divide(es, b))
            body_put_back(es, b);
        return;
    }
    deliver_host_failed(es, a->host, a->retry_after_ns);
    body_put_back(es, b);
}

static void bad_document(struct elasticsearch *es, struct body *b, const struct http_answer *a,
                         const struct bulk_item *error)
{
    char words[240];
    if (b->documents > 1) {
        if (!body_divide(es, b))
            body_put_back(es, b);
        return;
    }
    size_t used = (size_t)snprintf(words, sizeof words, "%u ", a->status);
    bulk_reason(error, words + used, sizeof words - used);
    if (es->successes || a->status == 413) {
        bury(es, b, a->host, words);
        return;
    }
    elasticsearch_say(es, TROUBLE_ANSWER, a->host, "%s; is this an Elasticsearch?",
                      words); /* it never took one of ours */
    hold_begin(es, &es->hold);
    body_put_back(es, b);
}

static void too_large(struct elasticsearch *es, struct body *b, const struct http_answer *a,
                      const struct bulk_item *error)
{
    if (b->documents > 1 && b->plain_len / 2 < es->body_limit)
        es->body_limit = b->plain_len / 2 > SMALLEST_LIMIT ? b->plain_len / 2 : SMALLEST_LIMIT;
    bad_document(es, b, a, error);
}

static void no_rights(struct elasticsearch *es, struct body *b, const struct http_answer *a,
                      const struct bulk_item *error)
{
    char words[240];
    bulk_reason(error, words, sizeof words);
    if (a->status != 403) {
        elasticsearch_say(es, TROUBLE_CREDENTIALS, a->host,
                          "%u with %s: %s; set SONDE_API_KEY, or SONDE_USER and SONDE_PASSWORD, or "
                          "name their files",
                          a->status, http_credentials(es->http), words);
        hold_begin(es, &es->hold);
        if (http_credentials_reload(es->http))
            memset(&es->hold, 0, sizeof es->hold);
    } else {
        elasticsearch_say(es, TROUBLE_RIGHTS, a->host,
                          "%s-%s: 403 %s; it needs create_doc and auto_configure for %s",
                          stream_names[b->stream], es->namespace, words,
                          http_credentials(es->http));
        hold_begin(es, &es->lane[b->stream].hold);
    }
    body_put_back(es, b);
}

static void no_such_place(struct elasticsearch *es, struct body *b, const struct http_answer *a,
                          const struct bulk_item *error)
{
    char words[240];
    bulk_reason(error, words, sizeof words);
    elasticsearch_say(es, TROUBLE_TEMPLATES, a->host, "%u %s; is this URL an Elasticsearch's?",
                      a->status, words);
    setup_again(&es->setup);
    hold_begin(es, &es->hold);
    body_put_back(es, b);
}

static void no_answer(struct elasticsearch *es, struct body *b, const struct http_answer *a)
{
    if (a->fault == HTTP_TOO_LONG && body_divide(es, b))
        return;
    if (a->fault == HTTP_CLOSED &&
        !a->status) { /* a body damaged on its way ends so, but so does a server's death */
        if (!b->closed)
            b->success_mark = es->successes;
        b->closed++;
        b->plain = b->plain || b->closed >= CLOSED_BEFORE_PLAIN;
        bool alone = es->successes == b->success_mark; /* nobody else gets through either */
        if (!alone && b->closed >= CLOSED_BEFORE_DEAD && b->documents == 1) {
            bury(es, b, a->host, "the server closes the connection whenever it is sent");
            return;
        }
        if (!alone && b->closed >= CLOSED_BEFORE_HALVING && body_divide(es, b)) {
            deliver_host_failed(es, a->host, 0);
            return;
        }
    }
    deliver_say_fault(es, a);
    deliver_host_failed(es, a->host, 0);
    body_put_back(es, b);
}

void deliver_answered(struct elasticsearch *es, struct flight *f, const struct http_answer *a)
{
    struct body *b = f->body;
    struct bulk_item error;
    free(f->text);
    memset(f, 0, sizeof *f);
    es->flying--;
    es->lane[b->stream].flights--;
    if (a->fault) {
        no_answer(es, b, a);
        return;
    }
    if (bulk_outcome(a->status) != OUTCOME_ITEMS)
        bulk_read_error(a->text, a->len, &error);
    if (a->status != 401) /* it knows us */
        memset(&es->hold, 0, sizeof es->hold);
    switch (bulk_outcome(a->status)) {
    case OUTCOME_ITEMS:
        items_told(es, b, a);
        break;
    case OUTCOME_HALVE:
        bad_document(es, b, a, &error);
        break;
    case OUTCOME_SMALLER:
        too_large(es, b, a, &error);
        break;
    case OUTCOME_HOLD:
        no_rights(es, b, a, &error);
        break;
    case OUTCOME_SETUP:
        no_such_place(es, b, a, &error);
        break;
    case OUTCOME_BACK_OFF:
        refused_too_often(es, b, a, &error);
        break;
    }
}
