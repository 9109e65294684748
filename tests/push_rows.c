/*
 * push_rows.c - drives the Elasticsearch sink without the rest of the line: a tool of the tests.
 *
 *   push_rows [--check] [--run ID] [--namespace N] [--ca F] [--key F] [--user U --password F]
 *             [--set KEY=VALUE]... URL
 *
 * Reads commands from stdin, one a line:
 *
 *   spans N      N spans of one endpoint; `pathless N`: the same without a path
 *
 *   interval     closes an interval: totals of three endpoints, one process, one health document
 *
 *   again        the totals of the last interval once more; the server must know them already
 *
 *   turn MS      lets the sink work for so long; `drain MS`: until nothing is queued
 *
 *   counts       prints the counts on one line; `memory`: resident kilobytes; `cpu`: ms used so far
 *
 *   finish MS    delivers what is left, at most so long, then prints the counts
 *
 * After every step carried + accepted = acknowledged + duplicates + dead + dropped + queued, or it
 * ends with 3.
 */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>
#include "collector/sink/elasticsearch.h"

static struct settings settings;
static struct sink *sink;
static uint64_t sequence, spans_pushed;
static uint32_t interval;

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static struct documents counts(void)
{
    struct documents d;
    sink->documents(sink->self, &d);
    uint64_t known = d.acknowledged + d.duplicates + d.dead + d.dropped_memory + d.dropped_exit +
                     d.dropped_refused;
    if (d.carried + d.accepted != known + d.queued) {
        fprintf(
            stderr,
            "push_rows: the counts do not add up: carried %lu accepted %lu known %lu queued %lu\n",
            (unsigned long)d.carried, (unsigned long)d.accepted, (unsigned long)known,
            (unsigned long)d.queued);
        exit(3);
    }
    return d;
}

static void print_counts(void)
{
    struct documents d = counts();
    printf("accepted=%lu acknowledged=%lu duplicates=%lu dead=%lu memory=%lu exit=%lu queued=%lu\n",
           (unsigned long)d.accepted, (unsigned long)d.acknowledged, (unsigned long)d.duplicates,
           (unsigned long)d.dead, (unsigned long)d.dropped_memory, (unsigned long)d.dropped_exit,
           (unsigned long)d.queued);
    fflush(stdout);
}

static union {
    struct row row;
    char bytes[ROW_MAX_BYTES];
} room;

static void *start_row(enum row_kind kind, size_t bytes)
{
    memset(&room, 0, sizeof(struct row) + bytes);
    room.row.kind = (uint16_t)kind;
    room.row.bytes = (uint16_t)(sizeof(struct row) + bytes);
    room.row.sequence = ++sequence;
    return &room.row + 1;
}

/* Puts the texts behind the kind's struct and pushes the row. */
static void push(const char *one, const char *two, const char *three)
{
    const char *texts[] = {one, two, three};
    for (int i = 0; i < 3; i++) {
        size_t n = strlen(texts[i]);
        memcpy(room.bytes + room.row.bytes, texts[i], n);
        room.row.bytes = (uint16_t)(room.row.bytes + n);
    }
    room.row.bytes = (uint16_t)((room.row.bytes + 7u) & ~7u);
    if (sink->push(sink->self, &room.row)) {
        fprintf(stderr, "push_rows: a row of kind %u was refused\n", room.row.kind);
        exit(3);
    }
}

static void push_names(const char *run_id)
{
    struct row_run *r = start_row(ROW_RUN, sizeof *r);
    snprintf(r->id, sizeof r->id, "%.31s", run_id);
    r->host_len = 9;
    push("test-host", "", "");
    for (uint32_t i = 1; i <= 3; i++) {
        char name[40];
        struct row_endpoint *e = start_row(ROW_ENDPOINT, sizeof *e);
        snprintf(name, sizeof name, "GET /users/{id}/%u", i);
        e->endpoint = i;
        snprintf(e->protocol, sizeof e->protocol, "http");
        e->service_len = 5;
        e->name_len = (uint16_t)strlen(name);
        push("nginx", name, "");
    }
}

static uint8_t put_address(uint8_t *to, const char *ip, uint16_t port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
    inet_pton(AF_INET, ip, &a.sin_addr);
    memcpy(to, &a, sizeof a);
    return sizeof a;
}

static void push_span(bool with_path)
{
    char path[64] = "";
    struct row_span *s = start_row(ROW_SPAN, sizeof *s);
    s->id = ++spans_pushed;
    s->endpoint = 1;
    s->pid = s->tid = 4711;
    s->start_ns = clock_ns(CLOCK_REALTIME);
    s->duration_ns = 118000 + spans_pushed % 1000;
    s->queue_ns = 12000;
    s->first_byte_ns = s->work_ns = 96000;
    s->bytes_in = 111;
    s->bytes_out = 850;
    s->body_out = 612;
    s->cost = (struct cost){.allocated = 4200, .freed = 4200, .allocations = 5};
    s->rate = 1;
    s->status = 200;
    s->answered = 1;
    s->peer_length = put_address(s->peer, "127.0.0.1", (uint16_t)(40000 + spans_pushed % 1000));
    s->local_length = put_address(s->local, "127.0.0.1", 8080);
    snprintf(s->protocol, sizeof s->protocol, "http");
    memcpy(s->verb, "GET", s->verb_len = 3);
    if (with_path)
        snprintf(path, sizeof path, "/users/%lu/1", (unsigned long)spans_pushed);
    s->target_len = (uint16_t)strlen(path);
    push(path, "", "");
}

/* Requests of endpoint i in interval n: 100 * n + i, one in ten of them an error. */
static void push_totals(void)
{
    uint64_t end = clock_ns(CLOCK_REALTIME);
    for (uint32_t i = 1; i <= 3; i++) {
        struct row_total *t = start_row(ROW_TOTAL, sizeof *t);
        t->interval = interval;
        t->endpoint = i;
        t->class = 2;
        t->closed = 1;
        t->start_ns = end - 10000000000u;
        t->end_ns = end;
        t->count = 100 * interval + i;
        t->errors = t->count / 10;
        t->bytes_in = t->count * 111;
        t->bytes_out = (UINT64_C(1) << 53) + 1; /* a double cannot hold it */
        t->latency_sum = t->count * 118000;
        t->latency_min = 90000;
        t->latency_max = 310000;
        t->latency_p50 = t->latency_p90 = t->latency_p95 = t->latency_p99 = t->latency_p999 =
            118000;
        push("", "", "");
    }
}

static void push_interval(void)
{
    uint64_t now = clock_ns(CLOCK_REALTIME);
    interval++;
    push_totals();
    struct row_process *p = start_row(ROW_PROCESS, sizeof *p);
    p->process = p->merged = 1;
    p->pid = 4711;
    p->parent = 4710;
    p->exit_code = p->signal = -1;
    p->start_ns = now - 20000000000u;
    p->allocated = 123456;
    p->executable_len = 15;
    p->service_len = 5;
    push("/usr/sbin/nginx", "nginx", "");
    struct row_interval *i = start_row(ROW_INTERVAL, sizeof *i);
    i->interval = interval;
    i->closed = 1;
    i->start_ns = now - 10000000000u;
    i->end_ns = now;
    i->written = i->drained = 1000;
    push("", "", "");
}

static void turn(uint64_t ms, bool until_empty)
{
    struct timespec pause = {.tv_nsec = 1000000};
    uint64_t end = clock_ns(CLOCK_MONOTONIC) + ms * 1000000;
    while (clock_ns(CLOCK_MONOTONIC) < end && (!until_empty || counts().queued)) {
        if (!sink->turn(sink->self, 10))
            nanosleep(&pause, NULL);
        counts();
    }
}

static void obey(const char *line)
{
    char word[32] = "";
    unsigned long n = 0;
    sscanf(line, "%31s %lu", word, &n);
    if (!strcmp(word, "spans") || !strcmp(word, "pathless")) {
        for (unsigned long i = 0; i < n; i++) {
            push_span(*word == 's');
            if (i % 1000 == 999)
                sink->turn(sink->self, 0);
        }
    } else if (!strcmp(word, "interval")) {
        push_interval();
    } else if (!strcmp(word, "again")) {
        push_totals();
    } else if (!strcmp(word, "turn") || !strcmp(word, "drain")) {
        turn(n, *word == 'd');
    } else if (!strcmp(word, "finish")) {
        sink->finish(sink->self, clock_ns(CLOCK_MONOTONIC) + n * 1000000);
        print_counts();
    } else if (!strcmp(word, "memory")) {
        unsigned long pages = 0;
        FILE *f = fopen("/proc/self/statm", "re");
        if (f && fscanf(f, "%*u %lu", &pages) == 1)
            printf("%lu\n", pages * 4);
        if (f)
            fclose(f);
    } else if (!strcmp(word, "cpu")) {
        printf("%lu\n", (unsigned long)(clock_ns(CLOCK_PROCESS_CPUTIME_ID) / 1000000));
    } else if (!strcmp(word, "counts")) {
        print_counts();
    } else {
        fprintf(stderr, "push_rows: no such command: %s", line);
        exit(2);
    }
    fflush(stdout);
    counts();
}

static void fault(void *to, const char *where, const char *what)
{
    (void)to;
    fprintf(stderr, "push_rows: %s: %s\n", where, what);
    exit(2);
}

int main(int argc, char **argv)
{
    static struct output output;
    const char *run = "0123456789abcdef0123456789abcdef";
    char line[200];
    bool check = false;
    settings_init(&settings);
    for (int i = 1; i < argc; i++) {
        char **to = !strcmp(argv[i], "--namespace")  ? &output.namespace
                    : !strcmp(argv[i], "--ca")       ? &output.ca_file
                    : !strcmp(argv[i], "--key")      ? &output.api_key_file
                    : !strcmp(argv[i], "--user")     ? &output.user
                    : !strcmp(argv[i], "--password") ? &output.password_file
                                                     : NULL;
        if (!strcmp(argv[i], "--check"))
            check = true;
        else if (to && i + 1 < argc)
            *to = argv[++i];
        else if (!strcmp(argv[i], "--run") && i + 1 < argc)
            run = argv[++i];
        else if (!strcmp(argv[i], "--set") && i + 1 < argc)
            settings_set(&settings, argv[++i], fault, NULL);
        else
            output.url = argv[i];
    }
    if (check)
        return elasticsearch_check(&settings, &output, stdout);
    sink = elasticsearch_open(&settings, &output, run, NULL, NULL, NULL);
    if (!sink)
        return 1;
    push_names(run);
    while (fgets(line, sizeof line, stdin))
        obey(line);
    return sink->close(sink->self, clock_ns(CLOCK_MONOTONIC)) ? 1 : 0;
}
