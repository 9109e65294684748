/*
 * document_total.c - documents of each interval: totals of endpoints, processes, our own health.
 *
 * In:      sink/elasticsearch.c                Out: bytes of NDJSON
 * Context: P
 */
#include "collector/document_inside.h"

static const char *class_name(unsigned class)
{
    static const char *const words[] = {"none", "1xx", "2xx", "3xx", "4xx", "5xx", "ok", "error"};
    return words[class < sizeof words / sizeof *words ? class : 0];
}

static char *put_quantiles(char *p, const uint64_t *sum_min_max_quantiles)
{
    static const char *const words[] = {"\"sum\":",  ",\"min\":", ",\"max\":", ",\"p50\":",
                                        ",\"p90\":", ",\"p95\":", ",\"p99\":", ",\"p999\":"};
    for (int i = 0; i < 8; i++)
        p = put_number(put_bytes(p, words[i], strlen(words[i])), sum_min_max_quantiles[i]);
    return p;
}

static char *put_counts(char *p, const struct row_total *t)
{
    p = put_number(PUT(p, ",\"requests\":{\"count\":"), t->count);
    p = put_number(PUT(p, ",\"errors\":"), t->errors);
    p = PUT_SOME(p, ",\"unobserved\":", t->unobserved);
    p = PUT_SOME(p, ",\"inferred\":", t->inferred);
    p = PUT_SOME(p, ",\"shared\":", t->shared);
    *p++ = '}';
    if (t->count) { /* else only what earlier requests retained */
        p = put_quantiles(PUT(p, ",\"latency\":{"), &t->latency_sum);
        *p++ = '}';
    }
    if (t->first_count) {
        p = put_number(PUT(p, ",\"first_byte\":{\"count\":"), t->first_count);
        p = put_quantiles(PUT(p, ","), &t->first_sum);
        *p++ = '}';
    }
    p = put_flow(p, t->bytes_in, t->bytes_out);
    p = put_number(PUT(p, ",\"body\":{\"in\":"), t->body_in);
    p = put_number(PUT(p, ",\"out\":"), t->body_out);
    return PUT(p, "}");
}

static char *put_interval(struct document_writer *w, char *p, const char *dataset, uint64_t start,
                          uint64_t end)
{
    p = put_time(w, p, start);
    p = put_text(PUT(p, ",\"event\":{\"dataset\":"), dataset, strlen(dataset), 32);
    p = put_time(w, PUT(p, ",\"start\":"), start);
    p = put_time(w, PUT(p, ",\"end\":"), end);
    return PUT(p, "},");
}

size_t document_total(struct document_writer *w, const struct row *row, char *to)
{
    const struct row_total *t = (const void *)(row + 1);
    const struct names *n = document_names(w, t->endpoint);
    char *p = put_action(w, to, STREAM_ENDPOINT);
    p = put_hex(p, t->interval, 8);
    p = put_hex(p, document_key(w, t->endpoint), 15);
    p = put_hex(p, t->class, 1);
    p = put_interval(w, PUT(p, "\"}}\n{\"@timestamp\":"), "sonde.endpoint", t->start_ns, t->end_ns);
    p = put_bytes(p, n->text, n->service_len);
    p = put_bytes(p, w->host, w->host_len);
    p = put_bytes(p, n->text + n->service_len + n->endpoint_len, n->request_len);
    p = put_text(PUT(p, "\"sonde\":{\"run\":"), w->run, RUN_CHARS, RUN_CHARS);
    p = n->side == SIDE_SERVER ? PUT(p, ",\"side\":\"server\",") : PUT(p, ",\"side\":\"client\",");
    p = put_bytes(p, n->text + n->service_len, n->endpoint_len);
    p = put_text(PUT(p, ",\"class\":"), class_name(t->class), strlen(class_name(t->class)), 8);
    p = put_counts(p, t);
    p = put_heap(p, &t->cost, t->retained, t->retained_samples);
    p = put_times(p, t->cost.cpu_ns, &t->wall, t->downstream_ns,
                  t->cpu_count && t->waits_count ? wall_unknown(&t->wall, t->downstream_ns, t->latency_sum) : 0);
    p = PUT(p, "}}\n");
    return (size_t)(p - to);
}

size_t document_process(struct document_writer *w, const struct row *row, uint64_t time_ns,
                        char *to)
{
    const struct row_process *r = (const void *)(row + 1);
    const char *executable = (const char *)(r + 1), *service = executable + r->executable_len;
    size_t len = r->executable_len < NAME_MAX_BYTES ? r->executable_len : NAME_MAX_BYTES;
    const char *slash = len ? memrchr(executable, '/', len) : NULL,
               *name = slash ? slash + 1 : executable;
    const struct cost heap = {
        .allocated = r->allocated, .freed = r->freed, .allocations = r->allocations};
    char *p = put_action(w, to, STREAM_PROCESS);
    p = put_sequence_id(w, p, row->sequence);
    p = put_time(w, p, time_ns);
    p = PUT(p, ",\"event\":{\"dataset\":\"sonde.process\"},\"service\":{\"name\":");
    p = PUT(put_text(p, service, r->service_len, SHORT_MAX_BYTES), "},");
    p = put_bytes(p, w->host, w->host_len);
    p = put_signed(PUT(p, "\"process\":{\"pid\":"), r->pid);
    p = PUT(put_signed(PUT(p, ",\"parent\":{\"pid\":"), r->parent), "}");
    p = put_text(PUT(p, ",\"name\":"), name, (size_t)(executable + len - name), SHORT_MAX_BYTES);
    p = put_text(PUT(p, ",\"executable\":"), executable, len, NAME_MAX_BYTES);
    p = put_time(w, PUT(p, ",\"start\":"), r->start_ns);
    if (r->ended)
        p = put_time(w, PUT(p, ",\"end\":"), r->end_ns);
    if (r->exit_code >= 0)
        p = put_signed(PUT(p, ",\"exit_code\":"), r->exit_code);
    p = put_text(PUT(p, "},\"sonde\":{\"run\":"), w->run, RUN_CHARS, RUN_CHARS);
    if (r->signal > 0)
        p = put_signed(PUT(p, ",\"signal\":"), r->signal);
    if (r->merged > 1)
        p = put_number(PUT(p, ",\"merged\":"), r->merged);
    p = put_heap(p, &heap, UINT64_MAX, 0);
    if (r->cpu_ns)
        p = PUT(put_number(PUT(p, ",\"cpu\":{\"ns\":"), r->cpu_ns), "}");
    p = PUT(p, "}}\n");
    return (size_t)(p - to);
}

static char *put_events(char *p, const struct row_interval *i)
{
    p = put_number(PUT(p, ",\"events\":{\"written\":"), i->written);
    p = put_number(PUT(p, ",\"drained\":"), i->drained);
    p = put_number(PUT(p, ",\"late\":"), i->late);
    p = PUT(p, ",\"lost\":{");
    for (int k = 0; k < LOSS_COUNT; k++) {
        p = put_text(k ? PUT(p, ",") : p, loss_names[k], strlen(loss_names[k]), 16);
        p = put_number(PUT(p, ":"), i->lost[k]);
    }
    p = put_number(PUT(p, "}},\"connections\":{\"accepted\":"), i->flow.accepted);
    p = put_number(PUT(p, ",\"opened\":"), i->flow.opened);
    p = put_number(PUT(p, ",\"inherited\":"), i->flow.inherited);
    p = put_number(PUT(p, "},\"bytes\":{\"in\":"), i->flow.bytes_in);
    p = put_number(PUT(p, ",\"out\":"), i->flow.bytes_out);
    return PUT(p, "}");
}

static char *put_ledger(char *p, const struct documents *d)
{
    p = put_number(PUT(p, ",\"documents\":{\"carried\":"), d->carried);
    p = put_number(PUT(p, ",\"accepted\":"), d->accepted);
    p = put_number(PUT(p, ",\"acknowledged\":"), d->acknowledged);
    p = put_number(PUT(p, ",\"duplicates\":"), d->duplicates);
    p = put_number(PUT(p, ",\"dead\":"), d->dead);
    p = put_number(PUT(p, ",\"queued\":"), d->queued);
    p = put_number(PUT(p, ",\"dropped\":{\"memory\":"), d->dropped_memory);
    p = put_number(PUT(p, ",\"exit\":"), d->dropped_exit);
    p = put_number(PUT(p, ",\"refused\":"), d->dropped_refused);
    return PUT(p, "}}");
}

size_t document_health(struct document_writer *w, const struct document_health *h, char *to)
{
    char *p = put_action(w, to, STREAM_COLLECTOR);
    p = put_sequence_id(w, p, h->number);
    p = h->interval
            ? put_interval(w, p, "sonde.collector", h->interval->start_ns, h->interval->end_ns)
            : PUT(put_time(w, p, h->time_ns),
                  ",\"event\":{\"dataset\":\"sonde.collector\",\"action\":\"check\"},");
    p = put_bytes(p, w->host, w->host_len);
    p = put_text(PUT(p, "\"sonde\":{\"run\":"), w->run, RUN_CHARS, RUN_CHARS);
    if (h->interval) {
        p = put_events(p, h->interval);
        uint64_t lag = h->time_ns > h->interval->end_ns ? h->time_ns - h->interval->end_ns : 0;
        p = PUT(put_number(PUT(p, ",\"lag\":{\"ns\":"), lag), "}");
    }
    p = put_ledger(p, &h->documents);
    p = put_number(PUT(p, ",\"queue\":{\"bytes\":"), h->queued_bytes);
    p = put_number(PUT(p, "},\"collector\":{\"memory\":{\"bytes\":"), h->resident_bytes);
    p = PUT(p, "}}}}\n");
    return (size_t)(p - to);
}
