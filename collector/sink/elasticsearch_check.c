/*
 * elasticsearch_check.c - `sonde check --output URL`: would documents arrive?
 *
 * In:      cli/check.c             Out: lines for a person
 * Context: I
 *
 * Nothing is guessed: every host is asked with the sink's own code, sets the templates up if they
 * are missing, and takes one health document ("event.action": "check").
 */
#include "collector/sink/elasticsearch_inside.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#define PATIENCE_NS (20 * SECOND_NS)

static void say_nothing(void *to, const char *line)
{
    (void)to;
    (void)line; /* last_trouble has it */
}

static void report(const struct elasticsearch *es, const char *url, bool taken, FILE *out)
{
    const char *templates = es->setup.blind   ? "may not be looked at"
                            : es->setup.wrote ? "set up"
                                              : "in place";
    if (es->setup.step != SETUP_FLAVOUR) /* it has answered something */
        fprintf(out, "output %s: %s%s%s, with %s\n", url, es->setup.flavour,
                *es->setup.version ? " " : "", es->setup.version, http_credentials(es->http));
    if (es->setup.step == SETUP_READY)
        fprintf(out, "output %s: index templates %s\n", url, templates);
    if (taken)
        fprintf(out, "output %s: a document was taken (%s-%s)\n", url,
                stream_names[STREAM_COLLECTOR], es->namespace);
    else
        fprintf(out, "output %s: FAULT: %s\n", url,
                *es->last_trouble ? es->last_trouble : "no answer in time");
}

static int check_host(const struct settings *settings, const struct output *output,
                      uint64_t patience_ns, FILE *out)
{
    uint64_t deadline = elasticsearch_now() + patience_ns;
    struct timespec now;
    char id[40];
    clock_gettime(CLOCK_REALTIME, &now);
    snprintf(id, sizeof id, "check-%lld-%ld", (long long)now.tv_sec, now.tv_nsec);
    struct elasticsearch *es = elasticsearch_new(settings, output, id, NULL, say_nothing, NULL);
    if (!es)
        return -1;
    elasticsearch_health(es, NULL);
    es->ending = true; /* no waiting for a full batch, short pauses */
    bool taken = false;
    while (!taken && !es->in_trouble && elasticsearch_now() < deadline) {
        deliver_turn(es, 20);
        taken = es->count.acknowledged + es->count.duplicates;
    }
    report(es, output->url, taken, out);
    elasticsearch_free(es);
    return taken ? 0 : 1;
}

int elasticsearch_check(const struct settings *settings, const struct output *output, FILE *out)
{
    char message[300];
    struct http *h = http_open(output, message, sizeof message);
    int faults = 0;
    if (!h) {
        fprintf(out, "output %s: FAULT: %s\n", output->url ? output->url : "", message);
        return 1;
    }
    for (int i = 0; i < http_hosts(h); i++) {
        struct output one = *output;
        one.url = strdup(http_url(h, i));
        int rc =
            one.url ? check_host(settings, &one, PATIENCE_NS / (uint64_t)http_hosts(h), out) : -1;
        if (rc < 0)
            fprintf(out, "output %s: FAULT: bad namespace, or no memory\n", output->url);
        faults += rc != 0;
        free(one.url);
    }
    http_close(h);
    return faults ? 1 : 0;
}
