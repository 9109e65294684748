/*
 * elasticsearch_http.h - requests to the hosts of one output, several at once, none blocking.
 *
 * In:      elasticsearch.c, elasticsearch_setup.c      Out: the network
 * Owns:    connections, credentials, each host's back-off. Only elasticsearch_http.c knows libcurl.
 * Context: sink thread
 * Failure: told as a fault of the answer, in words for a person.
 */
#ifndef SONDE_ELASTICSEARCH_HTTP_H
#define SONDE_ELASTICSEARCH_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "collector/settings.h"

#define HTTP_SLOTS 5 /* four bodies and a request of the set-up */

enum http_fault {
    HTTP_ANSWERED,
    HTTP_UNREACHABLE, /* nothing was sent */
    HTTP_CLOSED,      /* sent, at least in part; the connection ended without a whole answer */
    HTTP_TIMEOUT,
    HTTP_TLS,     /* certificate, authority, protocol */
    HTTP_TOO_LONG /* the answer was longer than was allowed */
};

struct http_request {
    const char *method, *path; /* "POST", "/_bulk?…" */
    const char *body;          /* borrowed until the answer came; NULL none */
    size_t len, answer_max;
    bool gzip;
    void *tag;
};

struct http_answer {
    void *tag;
    int host;
    enum http_fault fault;
    unsigned status;
    const char *text; /* NUL-terminated, valid until the next http_next */
    size_t len;
    uint64_t duration_ns, retry_after_ns; /* 0: not told */
    char words[200];                      /* what a fault was */
};

struct http;

/* NULL, with one line in `message`: bad URL, unreadable file of credentials or authority, no
 * memory. */
struct http *http_open(const struct output *, char *message, size_t message_bytes);
void http_close(
    struct http *); /* running requests are given up; their bodies are the caller's again */

/* Reads the files of credentials again. True: they have changed. */
bool http_credentials_reload(struct http *);
const char *
http_credentials(const struct http *); /* "an API key", "user elastic", "no credentials" */

/* A host that may be tried at `now_ns`, in turn; -1: none, then *next_ns is when one may. */
int http_host(struct http *, uint64_t now_ns, uint64_t *next_ns);
int http_hosts(const struct http *);
const char *http_url(const struct http *, int host);
/* Full jitter between 0 and 1 s, 2 s, 4 s … 60 s; at least what the server asked for, at most
 * `most_ns`. */
void http_host_failed(struct http *, int host, uint64_t now_ns, uint64_t at_least_ns,
                      uint64_t most_ns);
void http_host_worked(struct http *, int host);
void http_hosts_hurry(struct http *, uint64_t latest_ns); /* no back-off goes on longer than that */

/* Starts a request; false: all slots are busy, or no memory. */
bool http_start(struct http *, int host, const struct http_request *);
int http_running(const struct http *);
/* Lets the network work, waiting for it at most `ms`. */
void http_work(struct http *, int ms);
/* The next answer that is complete. */
bool http_next(struct http *, struct http_answer *);

#endif
