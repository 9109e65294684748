/*
 * elasticsearch_setup.h - what server is it, and are our templates there: a dialogue of a few
 * requests.
 *
 * In:      elasticsearch.c gives it answers     Out: its next request
 * Context: sink thread; no I/O here
 */
#ifndef SONDE_ELASTICSEARCH_SETUP_H
#define SONDE_ELASTICSEARCH_SETUP_H

#include "collector/sink/elasticsearch_http.h"
#include "collector/sink/templates.h"

enum setup_step {
    SETUP_FLAVOUR,   /* GET / */
    SETUP_NODES,     /* where that is refused: GET /_nodes/_local */
    SETUP_LOOK,      /* which of our templates are there? */
    SETUP_COMPONENT, /* PUT the component template */
    SETUP_INDEX,     /* PUT the index templates, one after the other */
    SETUP_READY
};

struct setup {
    enum setup_step step;
    int stream;      /* of SETUP_INDEX */
    bool plain_mode; /* the server does not know index.mode */
    bool wrote;      /* templates were put, not found */
    bool blind;      /* we may not even look */
    char path[64];
    char *body;       /* of the request under way */
    char flavour[32]; /* "Elasticsearch", "OpenSearch" */
    char version[32]; /* "" unknown */
};

enum setup_result {
    SETUP_GO_ON, /* ask for the next request */
    SETUP_DONE,
    SETUP_TRY_AGAIN, /* the server is busy or ill */
    SETUP_REFUSED,   /* credentials: 401 */
    SETUP_FORBIDDEN, /* templates are missing (we looked), and may not be put */
    SETUP_FAULT      /* the server does not take them: no such server, perhaps */
};

void setup_init(struct setup *);
void setup_fini(struct setup *);
/* Starts over, keeps what is known of the server: somebody removed a template. */
void setup_again(struct setup *);
/* False: no memory. The body is the setup's, valid until the answer. */
bool setup_request(struct setup *, struct http_request *);
enum setup_result setup_answer(struct setup *, const struct http_answer *);

#endif
