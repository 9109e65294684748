/*
 * templates.c - the component template and the index templates of our data streams.
 *
 * In:      elasticsearch_setup.c               Out: JSON texts
 * Context: P
 *
 * Only types that every server has: Elasticsearch's test archive lacks half of the others,
 * OpenSearch some.
 */
#include "collector/sink/templates.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <string.h>

const char *const template_names[STREAM_COUNT] = {"sonde-span", "sonde-endpoint", "sonde-process",
                                                  "sonde-collector"};

#define ALL 15u
#define SPAN (1u << STREAM_SPAN)
#define ENDPOINT (1u << STREAM_ENDPOINT)
#define PROCESS (1u << STREAM_PROCESS)
#define COLLECTOR (1u << STREAM_COLLECTOR)

static const struct field {
    const char *path, *type;
    unsigned streams; /* ALL: in the component template */
} fields[] = {
    {"@timestamp", "date", ALL},
    {"event.dataset", "keyword", ALL},
    {"event.start", "date", ALL},
    {"event.end", "date", ALL},
    {"event.duration", "long", ALL},
    {"event.outcome", "keyword", ALL},
    {"event.action", "keyword", ALL},
    {"host.name", "keyword", ALL},
    {"service.name", "keyword", ALL},
    {"network.protocol", "keyword", ALL},
    {"process.pid", "long", ALL},
    {"sonde.run", "keyword", ALL},
    {"sonde.side", "keyword", ALL},
    {"sonde.endpoint", "keyword", ALL},
    {"sonde.bytes.in", "long", ALL},
    {"sonde.bytes.out", "long", ALL},
    {"sonde.memory.allocated.bytes", "long", ALL},
    {"sonde.memory.freed.bytes", "long", ALL},
    {"sonde.memory.allocations", "long", ALL},
    {"sonde.cpu.ns", "long", ALL},
    {"sonde.lock.ns", "long", ALL},
    {"sonde.disk.ns", "long", ALL},
    {"sonde.sleep.ns", "long", ALL},
    {"sonde.downstream.ns", "long", ALL},
    {"sonde.runqueue.ns", "long", ALL},
    {"sonde.unknown.ns", "long", ALL},
    {"http.request.method", "keyword", SPAN | ENDPOINT},
    {"http.request.bytes", "long", SPAN},
    {"http.request.body.bytes", "long", SPAN},
    {"http.response.status_code", "long", SPAN},
    {"http.response.bytes", "long", SPAN},
    {"http.response.body.bytes", "long", SPAN},
    {"http.route", "keyword", ENDPOINT},
    {"url.path", "keyword", SPAN},
    {"url.query", "keyword", SPAN},
    {"client.ip", "ip", SPAN},

    {"server.ip", "ip", SPAN},
    {"server.port", "long", SPAN},
    {"db.system.name", "keyword", SPAN},
    {"db.operation.name", "keyword", SPAN},
    {"db.query.text", "keyword", SPAN},
    {"db.response.status_code", "keyword", SPAN},
    {"error.type", "keyword", SPAN},
    {"trace.id", "keyword", SPAN},
    {"span.id", "keyword", SPAN},
    {"parent.id", "keyword", SPAN},
    {"process.thread.id", "long", SPAN},
    {"sonde.queue.ns", "long", SPAN},
    {"sonde.receive.ns", "long", SPAN},
    {"sonde.work.ns", "long", SPAN},
    {"sonde.first_byte.ns", "long", SPAN},
    {"sonde.send.ns", "long", SPAN},
    {"sonde.sample_rate", "double", SPAN},
    {"sonde.sampled_as", "keyword", SPAN},
    {"sonde.shared", "long", SPAN},
    {"sonde.lost_before", "long", SPAN},
    {"sonde.inferred", "keyword", SPAN},
    {"sonde.class", "keyword", ENDPOINT},
    {"sonde.memory.retained.bytes", "long", SPAN | ENDPOINT},
    {"sonde.memory.retained.samples", "long", ENDPOINT},
    {"sonde.requests.count", "long", ENDPOINT},
    {"sonde.requests.errors", "long", ENDPOINT},
    {"sonde.requests.unobserved", "long", ENDPOINT},
    {"sonde.requests.inferred", "long", ENDPOINT},
    {"sonde.requests.shared", "long", ENDPOINT},
    {"sonde.latency.sum", "long", ENDPOINT},
    {"sonde.latency.min", "long", ENDPOINT},
    {"sonde.latency.max", "long", ENDPOINT},
    {"sonde.latency.p50", "long", ENDPOINT},
    {"sonde.latency.p90", "long", ENDPOINT},
    {"sonde.latency.p95", "long", ENDPOINT},
    {"sonde.latency.p99", "long", ENDPOINT},
    {"sonde.latency.p999", "long", ENDPOINT},
    {"sonde.first_byte.count", "long", ENDPOINT},
    {"sonde.first_byte.sum", "long", ENDPOINT},
    {"sonde.first_byte.min", "long", ENDPOINT},
    {"sonde.first_byte.max", "long", ENDPOINT},
    {"sonde.first_byte.p50", "long", ENDPOINT},
    {"sonde.first_byte.p90", "long", ENDPOINT},
    {"sonde.first_byte.p95", "long", ENDPOINT},
    {"sonde.first_byte.p99", "long", ENDPOINT},
    {"sonde.first_byte.p999", "long", ENDPOINT},
    {"sonde.body.in", "long", ENDPOINT},
    {"sonde.body.out", "long", ENDPOINT},
    {"process.name", "keyword", PROCESS},
    {"process.executable", "keyword", PROCESS},
    {"process.parent.pid", "long", PROCESS},
    {"process.start", "date", PROCESS},
    {"process.end", "date", PROCESS},
    {"process.exit_code", "long", PROCESS},
    {"sonde.signal", "long", PROCESS},
    {"sonde.merged", "long", PROCESS},
    {"sonde.events.written", "long", COLLECTOR},
    {"sonde.events.drained", "long", COLLECTOR},
    {"sonde.events.late", "long", COLLECTOR},
    {"sonde.events.lost.full", "long", COLLECTOR},
    {"sonde.events.lost.no_lane", "long", COLLECTOR},
    {"sonde.events.lost.nested", "long", COLLECTOR},
    {"sonde.events.lost.unfinished", "long", COLLECTOR},
    {"sonde.events.lost.collector", "long", COLLECTOR},
    {"sonde.events.lost.damaged", "long", COLLECTOR},
    {"sonde.connections.accepted", "long", COLLECTOR},
    {"sonde.connections.opened", "long", COLLECTOR},
    {"sonde.connections.inherited", "long", COLLECTOR},
    {"sonde.documents.carried", "long", COLLECTOR},
    {"sonde.documents.accepted", "long", COLLECTOR},
    {"sonde.documents.acknowledged", "long", COLLECTOR},
    {"sonde.documents.duplicates", "long", COLLECTOR},
    {"sonde.documents.dead", "long", COLLECTOR},
    {"sonde.documents.queued", "long", COLLECTOR},
    {"sonde.documents.dropped.memory", "long", COLLECTOR},
    {"sonde.documents.dropped.exit", "long", COLLECTOR},
    {"sonde.documents.dropped.refused", "long", COLLECTOR},
    {"sonde.lag.ns", "long", COLLECTOR},
    {"sonde.queue.bytes", "long", COLLECTOR},
    {"sonde.collector.memory.bytes", "long", COLLECTOR},
};

/* The object `name` in `parent`, made if need be. NULL: no memory; all of cJSON's functions take
 * that. */
static cJSON *child(cJSON *parent, const char *name)
{
    cJSON *c = cJSON_GetObjectItemCaseSensitive(parent, name);
    return c ? c : cJSON_AddObjectToObject(parent, name);
}

/* a.b.c: properties.a.properties.b.properties.c */
static bool add_field(cJSON *mappings, const struct field *f)
{
    char path[64];
    snprintf(path, sizeof path, "%s", f->path);
    cJSON *at = mappings;
    char *rest = NULL;
    for (char *part = strtok_r(path, ".", &rest); part; part = strtok_r(NULL, ".", &rest))
        at = child(child(at, "properties"), part);
    if (!strcmp(f->type, "keyword") && !cJSON_AddNumberToObject(at, "ignore_above", 1024))
        return false;
    return cJSON_AddStringToObject(at, "type", f->type);
}

static bool add_mappings(cJSON *template, unsigned streams)
{
    cJSON *mappings = cJSON_AddObjectToObject(template, "mappings");
    if (!cJSON_AddBoolToObject(mappings, "dynamic", 0))
        return false;
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        if (streams == ALL ? fields[i].streams == ALL
                           : fields[i].streams != ALL && (fields[i].streams & streams))
            if (!add_field(mappings, &fields[i]))
                return false;
    return true;
}

static bool add_marks(cJSON *root)
{
    cJSON *meta = cJSON_AddObjectToObject(root, "_meta");
    return cJSON_AddNumberToObject(root, "version", TEMPLATES_VERSION) &&
           cJSON_AddStringToObject(meta, "managed_by", "sonde");
}

static char *print_and_delete(cJSON *root, bool good)
{
    char *text = good ? cJSON_PrintUnformatted(root) : NULL;
    cJSON_Delete(root);
    return text;
}

char *template_component(bool index_mode)
{
    cJSON *root = cJSON_CreateObject(), *template = cJSON_AddObjectToObject(root, "template");
    cJSON *settings = cJSON_AddObjectToObject(template, "settings");
    bool good = settings && add_mappings(template, ALL) && add_marks(root);
    if (index_mode && !cJSON_AddStringToObject(settings, "index.mode", "standard"))
        good = false;
    return print_and_delete(root, good);
}

char *template_index(enum stream stream)
{
    char pattern[64];
    snprintf(pattern, sizeof pattern, "%s-*", stream_names[stream]);
    cJSON *root = cJSON_CreateObject(), *patterns = cJSON_AddArrayToObject(root, "index_patterns");
    bool good = cJSON_AddItemToArray(patterns, cJSON_CreateString(pattern));
    good &= !!cJSON_AddObjectToObject(root, "data_stream");
    good &= !!cJSON_AddItemToArray(cJSON_AddArrayToObject(root, "composed_of"),
                                   cJSON_CreateString(TEMPLATE_COMPONENT));
    good &= !!cJSON_AddNumberToObject(root, "priority", 200);
    good &=
        add_mappings(cJSON_AddObjectToObject(root, "template"), 1u << stream) && add_marks(root);
    return print_and_delete(root, good);
}

int template_count_current(const char *answer)
{
    cJSON *root = cJSON_Parse(answer), *one;
    int count = 0;
    cJSON_ArrayForEach(one, cJSON_GetObjectItemCaseSensitive(root, "index_templates"))
    {
        const cJSON *name = cJSON_GetObjectItemCaseSensitive(one, "name");
        const cJSON *inner = cJSON_GetObjectItemCaseSensitive(one, "index_template");
        const cJSON *version = cJSON_GetObjectItemCaseSensitive(inner, "version");
        for (int i = 0; i < STREAM_COUNT; i++)
            if (cJSON_IsString(name) && !strcmp(name->valuestring, template_names[i]) &&
                cJSON_IsNumber(version) && version->valuedouble >= TEMPLATES_VERSION)
                count++;
    }
    cJSON_Delete(root);
    return count;
}
