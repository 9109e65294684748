/*
 * elasticsearch_setup.c - what server is it, and are our templates there: a dialogue of a few
 * requests.
 *
 * In:      elasticsearch.c gives it answers     Out: its next request
 * Context: sink thread; no I/O here
 *
 * A key that may only write is enough once the templates are there; the first key that may manage
 * templates puts them.
 */
#include "collector/sink/elasticsearch_setup.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "collector/sink/bulk.h"

void setup_init(struct setup *s)
{
    memset(s, 0, sizeof *s);
    snprintf(s->flavour, sizeof s->flavour, "Elasticsearch");
}

void setup_fini(struct setup *s)
{
    free(s->body);
    s->body = NULL;
}

void setup_again(struct setup *s)
{
    s->step = SETUP_LOOK;
    s->stream = 0;
}

bool setup_request(struct setup *s, struct http_request *r)
{
    memset(r, 0, sizeof *r);
    r->method = "GET";
    r->answer_max = 1 << 20;
    free(s->body);
    s->body = NULL;
    switch (s->step) {
    case SETUP_FLAVOUR:
        r->path = "/";
        return true;
    case SETUP_NODES:
        r->path = "/_nodes/_local?filter_path=nodes.*.version";
        return true;
    case SETUP_LOOK:
        r->path = "/_index_template/"
                  "sonde-*?filter_path=index_templates.name,index_templates.index_template.version";
        return true;
    case SETUP_COMPONENT:
        r->path = "/_component_template/" TEMPLATE_COMPONENT;
        s->body = template_component(!s->plain_mode);
        break;
    default:
        snprintf(s->path, sizeof s->path, "/_index_template/%s", template_names[s->stream]);
        r->path = s->path;
        s->body = template_index((enum stream)s->stream);
        break;
    }
    r->method = "PUT";
    r->body = s->body;
    r->len = s->body ? strlen(s->body) : 0;
    return s->body;
}

static void set_version(struct setup *s, const cJSON *version)
{
    const cJSON *number = cJSON_GetObjectItemCaseSensitive(version, "number");
    const cJSON *distribution = cJSON_GetObjectItemCaseSensitive(version, "distribution");
    const cJSON *text = cJSON_IsString(version) ? version : number;
    if (cJSON_IsString(text))
        snprintf(s->version, sizeof s->version, "%.31s", text->valuestring);
    if (cJSON_IsString(distribution) && !strcmp(distribution->valuestring, "opensearch"))
        snprintf(s->flavour, sizeof s->flavour, "OpenSearch");
}

/* {"version": {"number": …}} or {"nodes": {"<id>": {"version": "…"}}} */
static void read_version(struct setup *s, const char *text)
{
    cJSON *root = cJSON_Parse(text), *nodes = cJSON_GetObjectItemCaseSensitive(root, "nodes");
    const cJSON *node = nodes ? nodes->child : NULL;
    const cJSON *version = cJSON_GetObjectItemCaseSensitive(node ? node : root, "version");
    if (version)
        set_version(s, version);
    s->plain_mode =
        strcmp(s->flavour, "Elasticsearch") != 0 || (*s->version && atoi(s->version) < 8);
    cJSON_Delete(root);
}

static enum setup_result to_step(struct setup *s, enum setup_step step)
{
    s->step = step;
    return step == SETUP_READY ? SETUP_DONE : SETUP_GO_ON;
}

static enum setup_result after_put(struct setup *s, const struct http_answer *a)
{
    struct bulk_item error;
    if (a->status < 300) {
        s->wrote = true;
        if (s->step == SETUP_COMPONENT)
            return to_step(s, SETUP_INDEX);
        return ++s->stream < STREAM_COUNT ? SETUP_GO_ON : to_step(s, SETUP_READY);
    }
    if (a->status == 403) /* blind: they may well be there, what becomes of a document will tell */
        return s->blind ? to_step(s, SETUP_READY) : SETUP_FORBIDDEN;
    if (a->status == 400 && s->step == SETUP_COMPONENT && !s->plain_mode &&
        bulk_read_error(a->text, a->len, &error) && memmem(a->text, a->len, "index.mode", 10)) {
        s->plain_mode = true; /* an older server, or one of unknown kind */
        return SETUP_GO_ON;
    }
    return SETUP_FAULT;
}

enum setup_result setup_answer(struct setup *s, const struct http_answer *a)
{
    if (a->fault || a->status >= 500 || a->status == 429 || a->status == 408)
        return SETUP_TRY_AGAIN;
    if (a->status == 401)
        return SETUP_REFUSED;
    switch (s->step) {
    case SETUP_FLAVOUR:
        if (a->status != 200)
            return to_step(s, SETUP_NODES);
        read_version(s, a->text);
        return to_step(s, SETUP_LOOK);
    case SETUP_NODES:
        if (a->status == 200)
            read_version(s, a->text);
        return to_step(s, SETUP_LOOK);
    case SETUP_LOOK:
        s->stream = 0;
        s->wrote = false;
        s->blind = a->status == 403;
        if (a->status == 200 && template_count_current(a->text) == STREAM_COUNT)
            return to_step(s, SETUP_READY);
        return to_step(s, SETUP_COMPONENT);
    default:
        return after_put(s, a);
    }
}
