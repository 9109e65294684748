/*
 * main.c - the collector's process: drains the arena of a running server, or replays a recording, into the sinks.
 *
 *     sonde-collector --store PATH --supervisor PID --arena FD --settings FD [--record FILE]
 *     sonde-collector --store PATH --replay FILE --settings FD
 *
 * stdin is the supervisor's pipe, lines of text: "command-pid PID", "command-end CODE SIGNAL CPU_NS" (-1 and 0: none), "stop".
 * Its end means that the supervisor is gone; we go on until the writers are. stdout takes the summary. stderr: what a
 * person must know at once. Exit code 0: all was written; 1: not (a damaged recording, a disk that hangs).
 *
 * Context: C, one thread for the pipeline; sinks.c has the other. The only blocking call here is the sleep.
 */
#include <cjson/cJSON.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "collector/order.h"
#include "collector/pipeline.h"
#include "collector/recording.h"
#include "collector/redact.h"
#include "collector/report.h"
#include "collector/rollup.h"
#include "collector/settings.h"
#include "collector/sink/queue.h"
#include "collector/sink/sinks.h"
#include "collector/timeline.h"
#include "collector/watch.h"
#include "wire/clock.h"

#define QUEUE_BYTES (4u << 20)
#define QUEUE_MOST (32u << 20)
#define SPAN_ROW 768 /* bytes of a large one */
#define NS_PER_S UINT64_C(1000000000)
#define REPLAY_FLUSH_S 60

/* How long a round sleeps, ms: under load, at most when silent, and while the arena fills up. A wake-up costs 30 us. */
enum { SLEEP_BUSY = 10, SLEEP_IDLE = 100, SLEEP_FULL = 1 };

struct collector {
    struct settings settings;
    struct queue *queue;
    struct sinks *sinks;
    struct rollup *rollup;
    struct pipeline *pipeline;
    struct watch *watch;
    struct order *order;
    struct recording_writer *record;
    const char *record_path;
    uint64_t start_ns;
    int input; /* the supervisor's pipe, -1: it is gone */
    char line[256];
    size_t line_len;
    pid_t command;
    struct feedback feedback; /* borrowed by the pipeline */
    int exit_code, signal;    /* of CMD, -1 unknown */
    bool command_ended, stop, failed;
};

static void say(void *unused, const char *line)
{
    (void)unused;
    dprintf(STDERR_FILENO, "sonde: %s\n", line);
}

static void say_fault(void *unused, const char *where, const char *what)
{
    (void)unused;
    dprintf(STDERR_FILENO, "sonde: %s: %s\n", where, what);
}

static struct instant instant_now(void)
{
    return (struct instant){clock_tsc(), clock_monotonic_ns()};
}

static uint64_t realtime_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

/* --- settings and rows of the run ------------------------------------------------------------------------------ */

static int read_settings(struct collector *c, int fd)
{
    struct stat st;
    if (fstat(fd, &st) || st.st_size <= 0)
        return -EINVAL;
    size_t len = (size_t)st.st_size;
    char *text = malloc(len + 1);
    ssize_t n = text ? pread(fd, text, len, 0) : -1;
    int faults = 1;
    if (n == (ssize_t)len) {
        text[len] = 0;
        faults = settings_parse(&c->settings, text, len, "settings", say_fault, NULL);
    }
    free(text);
    redact_command(c->settings.command);
    return faults ? -EINVAL : 0;
}

static char *command_json(const struct settings *s)
{
    cJSON *words = cJSON_CreateArray();
    for (char **word = s->command; word && *word; word++)
        cJSON_AddItemToArray(words, cJSON_CreateString(*word));
    char *text = cJSON_PrintUnformatted(words);
    cJSON_Delete(words);
    return text;
}

/* What fits: a run's row is told once, and no row is larger than ROW_MAX_BYTES. */
static size_t fitting(const char *text, size_t most)
{
    size_t len = text ? strlen(text) : 0;
    return len <= most ? len : 0;
}

static void tell_run(struct collector *c, const char *run)
{
    char host[256] = "";
    char *command = command_json(&c->settings), *settings = settings_json(&c->settings);
    gethostname(host, sizeof host - 1);
    size_t command_len = fitting(command, 8000), settings_len = fitting(settings, 7000), host_len = strlen(host);
    size_t fixed = sizeof(struct row) + sizeof(struct row_run);
    struct row *row = queue_reserve(c->queue, ROW_RUN, (fixed + command_len + settings_len + host_len + 7) & ~(size_t)7);
    if (row) {
        struct row_run r = {.start_ns = c->start_ns,
                            .pid = c->command,
                            .command_len = (uint16_t)command_len,
                            .settings_len = (uint16_t)settings_len,
                            .host_len = (uint16_t)host_len};
        memcpy(r.id, run, strnlen(run, sizeof r.id));
        char *at = (char *)(row + 1);
        memcpy(at, &r, sizeof r);
        at += sizeof r;
        memcpy(at, command, command_len);
        memcpy(at + command_len, settings, settings_len);
        memcpy(at + command_len + settings_len, host, host_len);
        queue_publish(c->queue, row);
    }
    free(command);
    free(settings);
    /* committed at once, so that `sonde report` finds the run before its first second is over */
    row = queue_reserve(c->queue, ROW_COMMIT, sizeof *row + sizeof(struct row_commit));
    if (row) {
        struct row_commit commit = {.time_ns = c->start_ns};
        memcpy(row + 1, &commit, sizeof commit);
        queue_publish(c->queue, row);
    }
}

static void tell_run_end(struct collector *c, uint64_t end_ns, bool clean)
{
    struct row_run_end r = {.end_ns = end_ns, .exit_code = c->exit_code, .signal = c->signal, .clean = clean};
    struct row *row = queue_reserve(c->queue, ROW_RUN_END, sizeof *row + sizeof r);
    if (!row)
        return;
    memcpy(row + 1, &r, sizeof r);
    queue_publish(c->queue, row);
}

/* A second of the spans that may be kept: a commit of the store takes that long on a busy machine. */
static size_t queue_bytes(const struct settings *s)
{
    uint64_t spans = s->options.spans_per_second;
    uint64_t bytes = spans < QUEUE_MOST / SPAN_ROW ? spans * SPAN_ROW : QUEUE_MOST;
    return bytes > QUEUE_BYTES ? bytes : QUEUE_BYTES;
}

/* Without an output, or without a store, there is one sample. */
static struct options options_of_samples(const struct settings *s)
{
    struct options o = s->options;
    if (!s->outputs || !strcmp(s->store, "none"))
        o.store_spans_per_second = o.spans_per_second;
    return o;
}

/* Everything below order: queue, sinks, rollup, pipeline. */
static int open_pipeline(struct collector *c, enum when_full when_full, const struct feedback *feedback)
{
    struct options sampled = options_of_samples(&c->settings);
    c->queue = queue_new(queue_bytes(&c->settings), when_full);
    c->sinks = c->queue ? sinks_start(&c->settings, c->queue, say, NULL) : NULL;
    c->rollup = c->sinks ? rollup_new(&sampled, c->queue, c->settings.service) : NULL;
    c->pipeline = c->rollup ? pipeline_new(&c->settings.options, feedback, c->rollup) : NULL;
    return c->pipeline ? 0 : -ENOMEM;
}

static void print_summary(struct collector *c)
{
    struct report *report;
    const char *store = sinks_store_path(c->sinks);
    struct report_query query = {.top = 0};
    struct report_style style = {.columns = c->settings.columns,
                                 .colour = c->settings.colour,
                                 .utf8 = c->settings.utf8,
                                 .store = strcmp(store, "none") ? store : NULL};
    if (c->settings.quiet)
        return;
    int rc = sinks_report(c->sinks, &query, &report);
    if (rc) {
        say_fault(NULL, "the summary cannot be made", strerror(-rc));
        return;
    }
    report_text(report, &style, stdout);
    fflush(stdout);
    report_free(report);
}

/* After the last item: ends what is open, writes and delivers, tells the summary. */
static int close_pipeline(struct collector *c, uint64_t end_ns, uint64_t flush_s)
{
    pipeline_end(c->pipeline, end_ns);
    tell_run_end(c, end_ns, !c->failed);
    queue_end(c->queue);
    int rc = sinks_finish(c->sinks, clock_monotonic_ns() + flush_s * NS_PER_S);
    if (rc) {
        say(NULL, rc == -EBUSY ? "the collector gets too little CPU to write the store to its end: give it more, or keep fewer "
                                 "samples (sampling.spans_per_second); what was not written is lost"
                               : "the disk under the store does not answer; what was not written is lost");
        _exit(1);
    }
    print_summary(c);
    rc = sinks_close(c->sinks);
    if (rc)
        say_fault(NULL, "the store could not be completed", strerror(-rc));
    pipeline_free(c->pipeline);
    rollup_free(c->rollup);
    queue_free(c->queue);
    settings_fini(&c->settings);
    return 0; /* what could not be written was said; a new collector would do no better */
}

/* --- live ------------------------------------------------------------------------------------------------------- */

static void obey(struct collector *c, const char *line)
{
    int pid, code, number;
    unsigned long long cpu_ns = 0;
    if (sscanf(line, "command-pid %d", &pid) == 1)
        c->command = pid;
    else if (sscanf(line, "command-end %d %d %llu", &code, &number, &cpu_ns) >= 2) {
        c->command_ended = true;
        c->exit_code = code;
        c->signal = number > 0 ? number : -1;
        watch_command_end(c->watch, c->command, c->exit_code, c->signal, cpu_ns);
    } else if (!strcmp(line, "stop"))
        c->stop = true;
}

static void read_input(struct collector *c)
{
    ssize_t n = read(c->input, c->line + c->line_len, sizeof c->line - 1 - c->line_len);
    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return;
    if (n <= 0) {
        c->input = -1;
        return;
    }
    c->line_len += (size_t)n;
    c->line[c->line_len] = 0;
    for (char *end; (end = strchr(c->line, '\n'));) {
        *end = 0;
        obey(c, c->line);
        c->line_len -= (size_t)(end + 1 - c->line);
        memmove(c->line, end + 1, c->line_len + 1);
    }
    if (c->line_len == sizeof c->line - 1)
        c->line_len = 0; /* no line of ours is that long */
}

/* Hands on what order gives now; true: there were events. */
static bool take_items(struct collector *c)
{
    struct source source = order_source(c->order);
    struct item item;
    bool events = false;
    while (source.next(source.self, &item) > 0) {
        events |= item.kind == ITEM_EVENT;
        if (c->record) {
            int rc = recording_write(c->record, &item);
            if (rc && !c->failed) {
                say_fault(NULL, c->record_path, strerror(-rc));
                c->failed = true;
            }
        }
        pipeline_item(c->pipeline, &item);
    }
    return events;
}

static void resume_process(void *to, const struct store_process *p)
{
    struct collector *c = to;
    struct totals total = {.allocated = p->allocated, .freed = p->freed, .allocations = p->allocations, .cpu_ns = p->cpu_ns};
    if (p->ended)
        return;
    pipeline_resume_process(c->pipeline, p->process, &total);
    watch_resume_process(c->watch, p->process, p->pid, &total, p->cpu_ns);
}

/* A collector before us had this run: its store tells what it had committed, nothing if it died before that. */
static void resume(struct collector *c)
{
    struct store_resume before;
    sinks_resume(c->sinks, &before);
    if (!before.lives) {
        if (watch_takes_over(c->watch))
            order_resume(c->order, &(struct order_counts){0});
        return;
    }
    c->start_ns = before.run_start_ns;
    queue_number_from(c->queue, before.first_sequence);
    struct order_counts counts = {.written = before.written, .drained = before.drained, .late = before.late};
    memcpy(counts.lost, before.lost, sizeof counts.lost);
    order_resume(c->order, &counts);
    struct rollup_resume told = {.last_interval = before.last_interval,
                                 .last_stack = before.last_stack,
                                 .written = before.written,
                                 .drained = before.drained,
                                 .late = before.late};
    memcpy(told.lost, before.lost, sizeof told.lost);
    rollup_resume(c->rollup, &told);
    sinks_resume_processes(c->sinks, resume_process, c);
}

static int open_record(struct collector *c)
{
    char *settings = settings_json(&c->settings);
    int rc = recording_create(c->record_path, c->settings.token, c->start_ns, settings, &c->record);
    free(settings);
    if (rc)
        say_fault(NULL, c->record_path, rc == -EEXIST ? "exists and is no recording; name another file" : strerror(-rc));
    return rc;
}

static int open_live(struct collector *c, int arena)
{
    struct instant now = instant_now();
    c->start_ns = realtime_ns();
    c->watch = watch_new(c->settings.options.watermark_ms * 1000000, say, NULL);
    if (!c->watch)
        return -ENOMEM;
    c->order = watch_order(c->watch);
    int rc = watch_open(c->watch, arena, &now);
    if (rc) {
        say_fault(NULL, "the arena cannot be mapped", strerror(-rc));
        return rc;
    }
    c->feedback = watch_feedback(c->watch);
    rc = open_pipeline(c, SHED, &c->feedback);
    if (rc)
        return rc;
    resume(c);
    tell_run(c, c->settings.token);
    return c->record_path ? open_record(c) : 0;
}

static bool is_over(const struct collector *c)
{
    if (c->stop)
        return true;
    return (c->command_ended || c->input < 0) && !watch_live(c->watch) && order_is_drained(c->order);
}

static int next_sleep(const struct collector *c, bool events, int sleep_ms)
{
    if (watch_is_full(c->watch))
        return SLEEP_FULL;
    if (events || c->command_ended)
        return SLEEP_BUSY;
    sleep_ms += sleep_ms / 2 + 1;
    return sleep_ms < SLEEP_IDLE ? sleep_ms : SLEEP_IDLE;
}

static int run_live(struct collector *c)
{
    int sleep_ms = SLEEP_BUSY, quiet = 0;
    while (quiet < 2) {
        struct instant now = instant_now();
        watch_turn(c->watch, &now, c->command_ended || c->input < 0);
        order_round(c->order, &now);
        bool events = take_items(c);
        quiet = !events && is_over(c) ? quiet + 1 : 0;
        if (c->stop && quiet == 0)
            break; /* the servers run on: what they do from now on is not ours */
        sleep_ms = next_sleep(c, events, sleep_ms);
        if (quiet < 2 && watch_wait(c->watch, c->input, sleep_ms))
            read_input(c);
    }
    struct instant now = instant_now();
    watch_finish(c->watch);
    order_finish(c->order, &now);
    take_items(c);
    uint64_t end_ns = order_now(c->order);
    if (c->record && recording_close(c->record) && !c->failed)
        say_fault(NULL, c->record_path, "could not be completed");
    int rc = close_pipeline(c, end_ns, c->settings.options.exit_flush_s);
    watch_free(c->watch);
    return rc;
}

/* --- replay ----------------------------------------------------------------------------------------------------- */

/* Command, name and run of the recording; all other settings are those of the replay. */
static void take_settings_of(struct collector *c, const struct recording_reader *r)
{
    struct settings recorded;
    const char *text = recording_settings(r);
    settings_init(&recorded);
    settings_parse(&recorded, text, strlen(text), "the recording's settings", say_fault, NULL);
    struct options *now = &c->settings.options;
    const struct options *then = &recorded.options; /* what the events mean depends on these */
    now->heap = then->heap;
    now->stacks = then->stacks;
    now->sample_bytes = then->sample_bytes;
    now->lock_sample_ns = then->lock_sample_ns;
    char **command = c->settings.command;
    c->settings.command = recorded.command;
    recorded.command = command;
    redact_command(c->settings.command);
    if (!c->settings.service) {
        c->settings.service = recorded.service;
        recorded.service = NULL;
    }
    free(c->settings.token);
    c->settings.token = strdup(recording_run(r));
    settings_fini(&recorded);
}

static int run_replay(struct collector *c, const char *path)
{
    char why[512];
    struct recording_reader *r;
    struct item item;
    int rc = recording_open(path, &r, why, sizeof why);
    if (rc) {
        say(NULL, why);
        return 1;
    }
    take_settings_of(c, r);
    c->start_ns = recording_start_ns(r);
    c->settings.replay = true;
    rc = open_pipeline(c, WAIT, NULL);
    if (rc)
        return 1;
    tell_run(c, recording_run(r));
    struct source source = recording_source(r);
    uint64_t end_ns = c->start_ns;
    while ((rc = source.next(source.self, &item)) > 0) {
        if (item.kind == ITEM_FACT && item.fact->kind == FACT_COMMAND_END) {
            c->exit_code = item.fact->exit_code;
            c->signal = item.fact->signal;
        }
        if (item.time_ns > end_ns)
            end_ns = item.time_ns;
        pipeline_item(c->pipeline, &item);
    }
    if (rc != -ENODATA)
        say(NULL, recording_fault(r));
    c->failed = rc != -ENODATA;
    recording_free(r);
    int failed = c->failed;
    return close_pipeline(c, end_ns, REPLAY_FLUSH_S) || failed;
}

/* --- start ------------------------------------------------------------------------------------------------------ */

/* The server must not be the one that the kernel kills first. */
static void volunteer_for_oom(void)
{
    int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    if (write(fd, "500", 3) < 0)
        errno = 0; /* not allowed: nothing to be done */
    close(fd);
}

/*
 * We sleep most of the time and must not wait long when we wake up: what waits in the arena is lost when it is full. A
 * higher priority where we may have it; a short slice (Linux 6.12) lets a short task run sooner without it.
 */
static void ask_to_run_soon(void)
{
    struct {
        uint32_t size, policy;
        uint64_t flags;
        int32_t nice;
        uint32_t priority;
        uint64_t runtime, deadline, period;
    } attributes = {.size = 48, .nice = -10, .runtime = 200000};
    if (syscall(SYS_sched_setattr, 0, &attributes, 0)) {
        attributes.nice = 0;
        syscall(SYS_sched_setattr, 0, &attributes, 0); /* refused too by kernels that know no slices: no harm */
    }
}

static int usage(void)
{
    say(NULL, "sonde-collector is started by `sonde run` and `sonde replay`");
    return 2;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"store", 1, 0, 's'},    {"supervisor", 1, 0, 'p'}, {"arena", 1, 0, 'a'},
                                            {"settings", 1, 0, 'c'}, {"record", 1, 0, 'r'},     {"replay", 1, 0, 'R'},
                                            {0, 0, 0, 0}};
    static struct collector c = {.exit_code = -1, .signal = -1};
    int arena = -1, settings = -1;
    const char *replay = NULL, *store = NULL;
    for (int o; (o = getopt_long(argc, argv, "", options, NULL)) != -1;)
        switch (o) {
        case 's': store = optarg; break;
        case 'p': break; /* for `sonde list` and people */
        case 'a': arena = atoi(optarg); break;
        case 'c': settings = atoi(optarg); break;
        case 'r': c.record_path = optarg; break;
        case 'R': replay = optarg; break;
        default: return usage();
        }
    if (!store || settings < 0 || (arena < 0) == !replay)
        return usage();
    prctl(PR_SET_NAME, "sonde-collector");
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a store that may not grow is a full disk */
    settings_init(&c.settings);
    if (read_settings(&c, settings))
        return usage();
    free(c.settings.store);
    c.settings.store = strdup(store);
    if (replay)
        return run_replay(&c, replay);
    signal(SIGINT, SIG_IGN); /* as long as somebody writes, we read */
    signal(SIGTERM, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    signal(SIGTSTP, SIG_IGN); /* a message to the terminal must not stop us */
    signal(SIGTTIN, SIG_IGN);
    signal(SIGTTOU, SIG_IGN);
    volunteer_for_oom();
    if (open_live(&c, arena))
        return 1;
    ask_to_run_soon(); /* this thread alone: the sinks' has time */
    return run_live(&c);
}
