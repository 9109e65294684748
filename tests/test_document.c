/*
 * test_document.c - rows become documents that a server takes: valid JSON, exact integers, right
 * fields, small.
 */
#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>
#include <cmocka.h>

#include "collector/document.h"
#include "collector/sink/templates.h"

#define RUN "00112233445566778899aabbccddeeff"

static struct document_writer *writer;
static char text[DOCUMENT_MAX + 1];

static union {
    struct row row;
    char bytes[ROW_MAX_BYTES];
} room;

static void *start_row(enum row_kind kind, size_t bytes)
{
    memset(&room, 0, sizeof room);
    room.row.kind = (uint16_t)kind;
    room.row.bytes = (uint16_t)(sizeof(struct row) + bytes);
    room.row.sequence = 7;
    return &room.row + 1;
}

static void append(const char *bytes, size_t len)
{
    memcpy(room.bytes + room.row.bytes, bytes, len);
    room.row.bytes = (uint16_t)(room.row.bytes + len);
}

static void name_endpoint(uint32_t number, const char *service, const char *name,
                          const char *protocol, uint32_t merged_into)
{
    struct row_endpoint *e = start_row(ROW_ENDPOINT, sizeof *e);
    e->endpoint = number;
    e->merged_into = merged_into;
    e->service_len = (uint16_t)strlen(service);
    e->name_len = (uint16_t)strlen(name);
    snprintf(e->protocol, sizeof e->protocol, "%s", protocol);
    append(service, strlen(service));
    append(name, strlen(name));
    assert_int_equal(document_endpoint(writer, &room.row), 0);
}

static int set_up(void **state)
{
    (void)state;
    writer = document_writer_new(RUN, "default", 0x123456789abULL);
    assert_non_null(writer);
    struct row_run *r = start_row(ROW_RUN, sizeof *r);
    r->host_len = 4;
    append("web1", 4);
    document_run(writer, &room.row);
    name_endpoint(1, "nginx", "GET /", "http", 0);
    name_endpoint(3, "nginx", "GET /", "http", 0);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    document_writer_free(writer);
    return 0;
}

/* Both lines are JSON, and no more than two are there; the second one, for cJSON_Delete. */
static cJSON *parse(size_t len, cJSON **action)
{
    assert_true(len > 0 && len <= DOCUMENT_MAX);
    assert_int_equal(text[len - 1], '\n');
    text[len] = 0;
    char *newline = strchr(text, '\n');
    assert_ptr_equal(strchr(newline + 1, '\n'), text + len - 1);
    cJSON *second = cJSON_Parse(newline + 1), *first = cJSON_Parse(text);
    if (!first || !second)
        fail_msg("no JSON: %s", text);
    if (action)
        *action = first;
    else
        cJSON_Delete(first);
    return second;
}

/* The value at a.b.c; NULL: not there */
static const cJSON *at(const cJSON *from, const char *path)
{
    char copy[100], *rest = copy, *part;
    snprintf(copy, sizeof copy, "%s", path);
    while (from && (part = strsep(&rest, ".")))
        from = cJSON_GetObjectItemCaseSensitive(from, part);
    return from;
}

static const char *string_at(const cJSON *from, const char *path)
{
    const cJSON *v = at(from, path);
    return cJSON_IsString(v) ? v->valuestring : "(none)";
}

static bool has(const char *piece)
{
    return strstr(text, piece);
}

static struct row_span *typical_span(void)
{
    struct sockaddr_in peer = {.sin_family = AF_INET, .sin_port = htons(40001)};
    inet_pton(AF_INET, "127.0.0.1", &peer.sin_addr);
    struct row_span *s = start_row(ROW_SPAN, sizeof *s);
    s->id = 77;
    s->endpoint = 1;
    s->pid = s->tid = 4711;
    s->start_ns = UINT64_C(1769860800123456789);
    s->duration_ns = 118234;
    s->queue_ns = 12345;
    s->work_ns = s->first_byte_ns = 96123;
    s->bytes_in = 111;
    s->bytes_out = 850;
    s->body_out = 612;
    s->cost = (struct cost){.allocated = 4200, .freed = 4200, .allocations = 5};
    s->rate = 1;
    s->status = 200;
    s->answered = 1;
    memcpy(s->peer, &peer, s->peer_length = sizeof peer);
    memcpy(s->protocol, "http", 4);
    memcpy(s->verb, "GET", s->verb_len = 3);
    return s;
}

static cJSON *write_span(struct row_span *s, const char *target, const char *error)
{
    s->target_len = (uint16_t)strlen(target);
    s->error_len = (uint16_t)strlen(error);
    append(target, s->target_len);
    append(error, s->error_len);
    return parse(document_span(writer, &room.row, text), NULL);
}

static void test_a_get_is_one_small_document(void **state)
{
    (void)state;
    cJSON *d = write_span(typical_span(), "/", "");
    assert_string_equal(string_at(d, "@timestamp"), "2026-01-31T12:00:00.123456789Z");
    assert_string_equal(string_at(d, "service.name"), "nginx");
    assert_string_equal(string_at(d, "host.name"), "web1");
    assert_string_equal(string_at(d, "event.outcome"), "success");
    assert_string_equal(string_at(d, "http.request.method"), "GET");
    assert_string_equal(string_at(d, "url.path"), "/");
    assert_string_equal(string_at(d, "client.ip"), "127.0.0.1");
    assert_string_equal(string_at(d, "sonde.endpoint"), "GET /");
    assert_string_equal(string_at(d, "sonde.side"), "server");
    assert_int_equal(at(d, "http.response.status_code")->valuedouble, 200);
    assert_int_equal(at(d, "http.request.bytes")->valuedouble, 111);
    assert_int_equal(at(d, "http.response.bytes")->valuedouble, 850);
    assert_int_equal(at(d, "http.response.body.bytes")->valuedouble, 612);
    assert_int_equal(at(d, "sonde.memory.allocated.bytes")->valuedouble, 4200);
    assert_null(at(d, "trace.id"));
    cJSON_Delete(d);
    size_t document = strlen(strchr(text, '\n') + 1);
    if (document > 500)
        fail_msg("%zu bytes", document);
}

static void test_integers_are_exact(void **state)
{
    (void)state;
    struct row_span *s = typical_span();
    s->duration_ns = UINT64_C(9007199254740993); /* 2^53 + 1 */
    s->bytes_out = UINT64_C(9223372036854775807);
    s->bytes_in = UINT64_C(9223372036854775809); /* no `long` */
    s->cost.allocated = UINT64_C(10000000000000000);
    s->cost.freed = 9;
    s->cost.allocations = 10;
    cJSON_Delete(write_span(s, "/", ""));
    assert_true(has("\"duration\":9007199254740993,"));
    assert_true(has("\"response\":{\"status_code\":200,\"bytes\":9223372036854775807,"));
    assert_true(has("\"method\":\"GET\",\"bytes\":9223372036854775807}"));
    assert_true(has("\"allocated\":{\"bytes\":10000000000000000}"));
    assert_true(has("\"freed\":{\"bytes\":9},\"allocations\":10}"));
}

static void test_every_digit_count_is_written_right(void **state)
{
    (void)state;
    uint64_t n = 1;
    for (int digits = 1; digits <= 19; digits++, n *= 10) {
        char expected[64];
        for (int minus = 0; minus <= 1; minus++) {
            struct row_span *s = typical_span();
            s->duration_ns = n - (uint64_t)minus;
            cJSON_Delete(write_span(s, "/", ""));
            snprintf(expected, sizeof expected, "\"duration\":%llu,",
                     (unsigned long long)(n - (uint64_t)minus));
            assert_true(has(expected));
        }
    }
}

static void test_unknown_is_left_out(void **state)
{
    (void)state;
    struct row_span *s = typical_span();
    s->duration_ns = s->queue_ns = s->receive_ns = s->work_ns = s->first_byte_ns = s->send_ns =
        UINT64_MAX;
    s->downstream_ns = UINT64_MAX;
    s->status = 0;
    s->answered = 0;
    s->peer_length = 0;
    cJSON *d = write_span(s, "", "");
    assert_null(at(d, "event.duration"));
    assert_null(at(d, "sonde.queue"));
    assert_null(at(d, "sonde.first_byte"));
    assert_null(at(d, "sonde.downstream"));
    assert_null(at(d, "http.response.status_code"));
    assert_null(at(d, "client"));
    assert_null(at(d, "url"));
    assert_string_equal(string_at(d, "event.outcome"), "unknown");
    cJSON_Delete(d);
    assert_false(has("18446744073709551615"));
}

static void test_a_client_span_reads_the_other_way_round(void **state)
{
    (void)state;
    struct row_span *s = typical_span();
    s->side = SIDE_CLIENT;
    s->parent = 3;
    s->error = 1;
    s->bytes_in = 9000;
    s->bytes_out = 80;
    s->body_in = 8000;
    s->body_out = 0;
    cJSON *d = write_span(s, "/a?token=x", "");
    assert_int_equal(at(d, "http.request.bytes")->valuedouble, 80);
    assert_int_equal(at(d, "http.response.bytes")->valuedouble, 9000);
    assert_int_equal(at(d, "http.response.body.bytes")->valuedouble, 8000);
    assert_string_equal(string_at(d, "server.ip"), "127.0.0.1");
    assert_int_equal(at(d, "server.port")->valuedouble, 40001);
    assert_null(at(d, "client"));
    assert_string_equal(string_at(d, "event.outcome"), "failure");
    assert_string_equal(string_at(d, "url.path"), "/a");
    assert_string_equal(string_at(d, "url.query"), "token=x");
    assert_int_equal(strlen(string_at(d, "parent.id")), 16);
    assert_int_equal(strlen(string_at(d, "span.id")), 16);
    assert_int_equal(strlen(string_at(d, "trace.id")), 32);
    cJSON_Delete(d);
}

static void test_parent_and_child_have_one_trace(void **state)
{
    (void)state;
    struct row_span *s = typical_span();
    s->downstream_ns = 5;
    cJSON *parent = write_span(s, "/", "");
    s = typical_span();
    s->id = 78;
    s->parent = 77;
    s->side = SIDE_CLIENT;
    cJSON *child = write_span(s, "/", "");
    assert_string_equal(string_at(parent, "span.id"), string_at(child, "parent.id"));
    assert_string_equal(string_at(parent, "trace.id"), string_at(child, "trace.id"));
    assert_string_not_equal(string_at(parent, "span.id"), string_at(child, "span.id"));
    cJSON_Delete(parent);
    cJSON_Delete(child);
}

static void test_the_times_of_a_span_add_up_to_its_duration(void **state)
{
    (void)state;
    struct row_span *s = typical_span();
    s->duration_ns = 100;
    s->cost.cpu_ns = 25; /* 5 of them before the first byte */
    s->wall = (struct wall){.cpu_ns = 20, .lock_ns = 1, .disk_ns = 2, .sleep_ns = 3, .runqueue_ns = 4};
    s->downstream_ns = 50;
    s->cpu_known = s->waits_known = 1;
    cJSON *d = write_span(s, "/", "");
    static const char *const waits[] = {"sonde.lock.ns",       "sonde.disk.ns",     "sonde.sleep.ns",
                                        "sonde.downstream.ns", "sonde.runqueue.ns", "sonde.unknown.ns"};
    double sum = 20;
    for (size_t i = 0; i < sizeof waits / sizeof *waits; i++)
        sum += at(d, waits[i])->valuedouble;
    assert_int_equal(sum, 100);
    assert_int_equal(at(d, "sonde.cpu.ns")->valuedouble, 25);
    cJSON_Delete(d);
    s->cpu_known = 0;
    d = write_span(s, "/", "");
    assert_null(at(d, "sonde.unknown")); /* what CPU it was would be in it */
    cJSON_Delete(d);
}

static void test_a_traceparent_is_kept(void **state)
{
    (void)state;
    struct row_span *s = typical_span();
    for (int i = 0; i < 16; i++)
        s->trace[i] = (uint8_t)(0xf0 + i);
    s->traced = 1;
    cJSON *d = write_span(s, "/", "");
    assert_string_equal(string_at(d, "trace.id"), "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff");
    cJSON_Delete(d);
}

static void test_redis_is_a_database(void **state)
{
    (void)state;
    name_endpoint(2, "redis", "GET", "redis", 0);
    struct row_span *s = typical_span();
    s->endpoint = 2;
    s->error = 1;
    memset(s->protocol, 0, sizeof s->protocol);
    memcpy(s->protocol, "redis", 5);
    cJSON *d = write_span(s, "", "WRONGTYPE");
    assert_string_equal(string_at(d, "db.system.name"), "redis");
    assert_string_equal(string_at(d, "db.operation.name"), "GET");
    assert_string_equal(string_at(d, "db.response.status_code"), "WRONGTYPE");
    assert_int_equal(at(d, "sonde.bytes.in")->valuedouble, 111);
    assert_int_equal(at(d, "sonde.bytes.out")->valuedouble, 850);
    assert_null(at(d, "http"));
    cJSON_Delete(d);
}

static void test_any_bytes_become_valid_text(void **state)
{
    (void)state;
    static const struct {
        const char *in, *out;
    } cases[] = {
        {"/plain", "/plain"},
        {"a\"b\\c", "a\\\"b\\\\c"},
        {"tab\tnl\nesc\033", "tab\\u0009nl\\u000aesc\\u001b"},
        {"gr\xc3\xbc\xc3\x9f", "gr\xc3\xbc\xc3\x9f"},
        {"\xe2\x82\xac \xf0\x9f\x8e\x88", "\xe2\x82\xac \xf0\x9f\x8e\x88"},
        {"\xff", "\xef\xbf\xbd"},
        {"\xc3", "\xef\xbf\xbd"},                                 /* cut */
        {"\xc0\xaf", "\xef\xbf\xbd\xef\xbf\xbd"},                 /* longer than need be */
        {"\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"}, /* a surrogate */
        {"\xf4\x90\x80\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
        {"\xe2\x82x", "\xef\xbf\xbd\xef\xbf\xbdx"},
        {"\x7f", "\x7f"},
    };
    char out[200];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        *document_escape(out, cases[i].in, strlen(cases[i].in)) = 0;
        assert_string_equal(out, cases[i].out);
    }
}

static void test_the_longest_of_everything_fits(void **state)
{
    (void)state;
    static char ugly[4096];
    memset(ugly, 1, sizeof ugly - 1); /* six bytes each */
    name_endpoint(3, ugly, ugly, "http", 0);
    struct row_span *s = typical_span();
    s->endpoint = 3;
    s->inferred = 63;
    s->parent = 1;
    s->shared = 3;
    s->lost_before = 9;
    s->rate = 1.0 / 3;
    s->why = WHY_SLOW;
    memset(s->verb, 1, s->verb_len = sizeof s->verb);
    cJSON *d = write_span(s, ugly, ugly);
    assert_int_equal(cJSON_GetArraySize(at(d, "sonde.inferred")), 6);
    assert_true(at(d, "sonde.sample_rate")->valuedouble == 1.0 / 3);
    cJSON_Delete(d);
}

static void test_ids_are_of_one_width_and_ordered(void **state)
{
    (void)state;
    char earlier[64] = "";
    for (uint64_t sequence = 1; sequence < UINT64_C(1) << 40; sequence *= 7) {
        cJSON *action, *d;
        typical_span();
        room.row.sequence = sequence;
        d = parse(document_span(writer, &room.row, text), &action);
        const char *id = string_at(action, "create._id");
        assert_int_equal(strlen(id), 40);
        assert_int_equal(strncmp(id, RUN, 16), 0);
        assert_true(strcmp(id, earlier) > 0);
        assert_string_equal(string_at(action, "create._index"), "logs-sonde.span-default");
        snprintf(earlier, sizeof earlier, "%s", id);
        cJSON_Delete(action);
        cJSON_Delete(d);
    }
}

static void test_totals_have_an_id_of_what_they_are(void **state)
{
    (void)state;
    cJSON *action[2];
    for (int i = 0; i < 2; i++) {
        struct row_total *t = start_row(ROW_TOTAL, sizeof *t);
        room.row.sequence = (uint64_t)(100 + i); /* the same interval pushed by another collector */
        t->interval = 12;
        t->endpoint = i ? 3 : 1; /* where the endpoint has another number */
        t->class = 5;
        t->closed = 1;
        t->start_ns = UINT64_C(1769860800000000000);
        t->end_ns = UINT64_C(1769860810000000000);
        t->count = t->errors = 3;
        t->latency_p99 = 44;
        t->first_count = i ? 3 : 0;
        t->cost = (struct cost){.allocated = 100, .freed = 142, .allocations = 2};
        t->retained = t->cost.allocated - t->cost.freed;
        t->retained_samples = 7;
        cJSON *d = parse(document_total(writer, &room.row, text), &action[i]);
        assert_string_equal(string_at(d, "event.end"), "2026-01-31T12:00:10.000000000Z");
        assert_string_equal(string_at(d, "sonde.class"), "5xx");
        assert_string_equal(string_at(d, "http.request.method"), "GET");
        assert_string_equal(string_at(d, "http.route"), "/");
        assert_string_equal(string_at(d, "network.protocol"), "http");
        assert_int_equal(at(d, "sonde.requests.count")->valuedouble, 3);
        assert_int_equal(at(d, "sonde.latency.p99")->valuedouble, 44);
        assert_true(!at(d, "sonde.first_byte") == !i);
        assert_int_equal(at(d, "sonde.memory.retained.bytes")->valuedouble, -42);
        assert_int_equal(at(d, "sonde.memory.retained.samples")->valuedouble, 7);
        assert_int_equal(at(d, "sonde.memory.freed.bytes")->valuedouble, 142);
        cJSON_Delete(d);
    }
    assert_string_equal(string_at(action[0], "create._id"), string_at(action[1], "create._id"));
    assert_int_equal(strlen(string_at(action[0], "create._id")), 40);
    cJSON_Delete(action[0]);
    cJSON_Delete(action[1]);
}

static void test_merged_and_unknown_endpoints_still_count(void **state)
{
    (void)state;
    name_endpoint(8, "nginx", "GET /old", "http", 9);
    name_endpoint(9, "nginx", "GET /{id}", "http", 0);
    for (uint32_t endpoint = 8; endpoint <= 300; endpoint += 292) {
        struct row_total *t = start_row(ROW_TOTAL, sizeof *t);
        t->endpoint = endpoint;
        t->count = 1;
        cJSON *d = parse(document_total(writer, &room.row, text), NULL);
        assert_string_equal(string_at(d, "sonde.endpoint"),
                            endpoint == 8 ? "GET /{id}" : "{unknown}");
        cJSON_Delete(d);
    }
}

static void test_a_process_says_how_it_ended(void **state)
{
    (void)state;
    struct row_process *r = start_row(ROW_PROCESS, sizeof *r);
    r->pid = 12;
    r->parent = 11;
    r->exit_code = -1;
    r->signal = 9;
    r->merged = 1;
    r->ended = 1;
    r->allocated = 5;
    r->executable_len = 15;
    r->service_len = 5;
    append("/usr/sbin/nginxnginx", 20);
    cJSON *d = parse(document_process(writer, &room.row, 1, text), NULL);
    assert_string_equal(string_at(d, "process.name"), "nginx");
    assert_string_equal(string_at(d, "process.executable"), "/usr/sbin/nginx");
    assert_int_equal(at(d, "sonde.signal")->valuedouble, 9);
    assert_null(at(d, "process.exit_code"));
    assert_non_null(at(d, "process.end"));
    cJSON_Delete(d);
}

static void test_health_names_every_loss(void **state)
{
    (void)state;
    struct row_interval i = {.start_ns = 1, .end_ns = 2, .written = 10, .drained = 9};
    struct document_health h = {
        .interval = &i, .time_ns = 5, .documents = {.accepted = 3, .queued = 3}};
    i.lost[LOSS_FULL] = 1;
    cJSON *d = parse(document_health(writer, &h, text), NULL);
    assert_int_equal(at(d, "sonde.events.lost.full")->valuedouble, 1);
    assert_int_equal(cJSON_GetArraySize(at(d, "sonde.events.lost")), LOSS_COUNT);
    assert_int_equal(at(d, "sonde.lag.ns")->valuedouble, 3);
    assert_int_equal(at(d, "sonde.documents.queued")->valuedouble, 3);
    cJSON_Delete(d);
}

/* Every leaf of `document` is in the mappings of `template` or of the common part. */
static void expect_mapped(const cJSON *document, const cJSON *own, const cJSON *common,
                          const char *path)
{
    const cJSON *child;
    cJSON_ArrayForEach(child, document)
    {
        char here[200];
        snprintf(here, sizeof here, "%s%s%s", path, *path ? "." : "", child->string);
        const cJSON *a = at(at(own, "properties"), child->string),
                    *b = at(at(common, "properties"), child->string);
        if (!a && !b)
            fail_msg("no mapping for %s", here);
        if (cJSON_IsObject(child))
            expect_mapped(child, a, b, here);
    }
}

static void test_every_field_has_a_mapping(void **state)
{
    (void)state;
    char *common_text = template_component(true), *span_text = template_index(STREAM_SPAN);
    char *total_text = template_index(STREAM_ENDPOINT),
         *process_text = template_index(STREAM_PROCESS);
    char *health_text = template_index(STREAM_COLLECTOR);
    cJSON *common = cJSON_Parse(common_text), *span = cJSON_Parse(span_text),
          *total = cJSON_Parse(total_text);
    cJSON *process = cJSON_Parse(process_text), *health = cJSON_Parse(health_text), *d;
    const cJSON *all = at(common, "template.mappings");
    assert_string_equal(string_at(common, "template.settings.index.mode"),
                        "(none)"); /* one key with a dot */
    assert_non_null(strstr(common_text, "\"index.mode\":\"standard\""));
    struct row_span *s = typical_span();
    s->tid = 5;
    s->parent = 1;
    s->inferred = 1;
    s->shared = 1;
    s->lost_before = 1;
    s->rate = 0.5;
    s->why = WHY_ERROR;
    s->receive_ns = s->send_ns = s->downstream_ns = 3;
    s->cost = (struct cost){1, 1, 1, 1, 1, 1, 1};
    d = write_span(s, "/?q", "x");
    expect_mapped(d, at(span, "template.mappings"), all, "");
    cJSON_Delete(d);
    s = typical_span();
    memcpy(s->protocol, "redis", 5);
    d = write_span(s, "k", "x");
    expect_mapped(d, at(span, "template.mappings"), all, "");
    cJSON_Delete(d);
    struct row_total *t = start_row(ROW_TOTAL, sizeof *t);
    t->endpoint = 1;
    t->cost.allocated = 1;
    t->unobserved = t->inferred = t->shared = t->first_count = 1;
    d = parse(document_total(writer, &room.row, text), NULL);
    expect_mapped(d, at(total, "template.mappings"), all, "");
    cJSON_Delete(d);
    struct row_process *r = start_row(ROW_PROCESS, sizeof *r);
    r->ended = 1;
    r->merged = 2;
    r->signal = 1;
    r->cpu_ns = 1;
    r->allocated = 1;
    d = parse(document_process(writer, &room.row, 1, text), NULL);
    expect_mapped(d, at(process, "template.mappings"), all, "");
    cJSON_Delete(d);
    struct row_interval i = {.closed = 1};
    struct document_health h = {.interval = &i};
    d = parse(document_health(writer, &h, text), NULL);
    expect_mapped(d, at(health, "template.mappings"), all, "");
    cJSON_Delete(d);
    h.interval = NULL;
    d = parse(document_health(writer, &h, text), NULL);
    expect_mapped(d, at(health, "template.mappings"), all, "");
    cJSON_Delete(d);
    char *texts[] = {common_text, span_text, total_text, process_text, health_text};
    cJSON *trees[] = {common, span, total, process, health};
    for (int k = 0; k < 5; k++) {
        free(texts[k]);
        cJSON_Delete(trees[k]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_get_is_one_small_document, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_integers_are_exact, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_every_digit_count_is_written_right, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_unknown_is_left_out, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_client_span_reads_the_other_way_round, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_parent_and_child_have_one_trace, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_the_times_of_a_span_add_up_to_its_duration, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_traceparent_is_kept, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_redis_is_a_database, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_any_bytes_become_valid_text, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_the_longest_of_everything_fits, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_ids_are_of_one_width_and_ordered, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_totals_have_an_id_of_what_they_are, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_merged_and_unknown_endpoints_still_count, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_a_process_says_how_it_ended, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_health_names_every_loss, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_every_field_has_a_mapping, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
