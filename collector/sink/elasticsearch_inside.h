/*
 * elasticsearch_inside.h - what the parts of the Elasticsearch sink share; nobody else includes it.
 *
 *   elasticsearch.c           rows → documents → batches; opening, closing, counts
 *   elasticsearch_deliver.c   batches → bodies → requests
 *   elasticsearch_answer.c    what an answer does to a body
 *   elasticsearch_check.c     `sonde check --output`
 *   elasticsearch_setup.c, elasticsearch_http.c, batch.c, bulk.c, templates.c: not this struct
 *
 * Where a document is: in an open batch, in a waiting body, in a flight, or counted in `count`.
 * Every step moves it.
 */
#ifndef SONDE_ELASTICSEARCH_INSIDE_H
#define SONDE_ELASTICSEARCH_INSIDE_H

#include "collector/document.h"
#include "collector/sink/batch.h"
#include "collector/sink/bulk.h"
#include "collector/sink/elasticsearch.h"
#include "collector/sink/elasticsearch_http.h"
#include "collector/sink/elasticsearch_setup.h"

#define FLIGHTS 4
#define SECOND_NS UINT64_C(1000000000)
#define ENDING_PAUSE_NS (SECOND_NS / 4) /* every pause is cut to this once the run has ended */

/* What may be wrong; each is said once, then once a minute while it lasts. */
enum trouble {
    TROUBLE_NETWORK,
    TROUBLE_ANSWER, /* ambiguous */
    TROUBLE_BUSY,
    TROUBLE_CREDENTIALS, /* 401 */
    TROUBLE_RIGHTS,      /* 403 */
    TROUBLE_TEMPLATES,
    TROUBLE_BLOCKED, /* an index, by its operator or by a limit of the cluster */
    TROUBLE_DEAD,
    TROUBLE_MEMORY,
    TROUBLE_COUNT
};

struct hold { /* until when something waits for an operator; each time longer, up to half a minute
               */
    uint64_t until_ns, delay_ns;
};

struct lane { /* of one stream */
    struct batch open;
    struct body_queue waiting;
    struct hold hold;
    int flights;
};

struct flight {
    struct body *body; /* NULL: free */
    char *text;        /* when it is sent plain */
    int host;
};

struct process_rows { /* the newest row of each process that changed since the last interval's end
                       */
    struct row **row;
    size_t count, room;
};

struct elasticsearch {
    struct sink sink;
    const struct settings *settings;
    elasticsearch_say_fn say;
    void *say_to;
    char namespace[128];

    struct document_writer *writer;
    struct process_rows processes;
    uint64_t health_number;
    uint64_t totals_told; /* all totals of intervals up to this one are documents */

    struct packer *packer;
    struct lane lane[STREAM_COUNT];
    size_t memory_bytes;    /* of all bodies, in flight or not */
    size_t body_limit;      /* uncompressed bytes of a body; a server may have taught us less than
                               output.bulk_bytes */
    struct documents count; /* `queued` is not kept: it is counted when asked for */
    uint64_t failure_store;

    struct http *http;
    struct setup setup;
    bool setup_running;
    struct flight flight[FLIGHTS];
    int window; /* how many flights are allowed now: 1 to FLIGHTS */
    unsigned in_a_row,
        wanted_in_a_row; /* good answers since the last bad one; until one more flight is tried */
    int flying;
    uint64_t successes; /* bodies that were delivered */
    struct hold hold;   /* of everything: credentials, set-up */
    uint64_t busy_since_ns;
    bool ending;
    uint64_t said_ns[TROUBLE_COUNT];
    uint32_t in_trouble; /* bit per trouble said since the last success */
    char last_trouble[512];
};

/* elasticsearch.c */
uint64_t elasticsearch_now(void);
uint64_t elasticsearch_queued(const struct elasticsearch *);
void elasticsearch_say(struct elasticsearch *, enum trouble, int host, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* a line without limit of rate or number of documents */
void elasticsearch_tell(struct elasticsearch *, int host, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void elasticsearch_health(struct elasticsearch *, const struct row_interval *);
struct elasticsearch *elasticsearch_new(const struct settings *, const struct output *,
                                        const char *run_id, const struct documents *before,
                                        elasticsearch_say_fn say, void *to);
void elasticsearch_free(struct elasticsearch *);

/* elasticsearch_deliver.c */
void deliver_seal(struct elasticsearch *,
                  struct lane *);                 /* the open batch becomes a body that waits */
int deliver_turn(struct elasticsearch *, int ms); /* sink.turn */
void deliver_until(struct elasticsearch *, uint64_t deadline_ns);
void deliver_give_up(struct elasticsearch *); /* what is left is counted as dropped at exit */

/* elasticsearch_answer.c */
void body_own(struct elasticsearch *, struct body *);    /* counts its memory */
void body_disown(struct elasticsearch *, struct body *); /* and frees it */
void body_put_back(struct elasticsearch *, struct body *);
bool body_divide(struct elasticsearch *,
                 struct body *); /* both halves go first; false: one document, or no memory */
void hold_begin(struct elasticsearch *, struct hold *);
void deliver_host_failed(struct elasticsearch *, int host, uint64_t at_least_ns);
void deliver_say_busy(struct elasticsearch *, int host, const char *why);
void deliver_say_fault(struct elasticsearch *, const struct http_answer *);
void deliver_answered(struct elasticsearch *, struct flight *, const struct http_answer *);

#endif
