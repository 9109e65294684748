/*
 * arena_run.c - runs a command under the bare recorder and shows what it wrote: no collector in between.
 *
 *     arena_run [-o FILE] [-q] [-s] [-n] [-m] [-b BYTES] [-f FEATURES] [-r SAMPLE_BYTES] [-l LOCK_SAMPLE_NS]
 *               CMD ARGS...
 *
 * Events go to FILE (default: none) as they come, one a line; -q counts them only. The sums of each process and lane
 * stand at the end of FILE, and with -s on stderr. -n drains nothing (what does a full arena do?), -m makes an arena of
 * another major version. Exit: CMD's own.
 * SONDE_LIBRARY names libsonde.so, default: beside this program's folder.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <libgen.h>
#include <limits.h>

#include "wire/arena.h"
#include "wire/atomics.h"
#include "wire/clock.h"
#include "wire/event.h"

static struct arena_view view;
static struct clock_scale scale;
static FILE *out;
static bool quiet, show_sums, no_drain, other_major;
static uint64_t by_type[256], events, damaged;

static const char *const type_names[] = {"NONE", "ACCEPT", "CONNECT", "BIND", "LISTEN", "CLOSE", "SHUTDOWN", "DUP",
                                         "IN", "OUT", "MORE", "TURN", "FORK", "EXEC", "EXIT", "REAPED", "ALLOCATED",
                                         "FREED", "LOCKED", "OBJECT"};

static const char *type_name(unsigned type)
{
    return type < sizeof type_names / sizeof *type_names ? type_names[type] : "?";
}

static void print_text(const uint8_t *data, unsigned n)
{
    fputc('"', out);
    for (unsigned i = 0; i < n && i < 80; i++)
        if (data[i] >= 32 && data[i] < 127 && data[i] != '"' && data[i] != '\\')
            fputc(data[i], out);
        else
            fprintf(out, "\\x%02x", data[i]);
    fputc('"', out);
}

static void print_flags(unsigned flags)
{
    static const char *const names[] = {"block", "offset?", "first", "unsure", "waited", "long", "noclock", "listener"};
    for (unsigned i = 0; i < 8; i++)
        if (flags >> i & 1)
            fprintf(out, " %s", names[i]);
}

static void print_sample(const uint8_t *data, unsigned bytes)
{
    static const char *const ends[] = {"whole", "cut", "unknown", "unsafe"};
    struct event_sample s;
    uint64_t frame;
    memcpy(&s, data, sizeof s);
    fprintf(out, " serial=%" PRIu64 " amount=%" PRIu64 " end=%s frames=", s.serial, s.amount, s.end < 4 ? ends[s.end] : "?");
    for (unsigned i = 0; i < s.frames && sizeof s + (i + 1) * sizeof frame <= bytes; i++) {
        memcpy(&frame, data + sizeof s + i * sizeof frame, sizeof frame);
        fprintf(out, "%s%" PRIx64, i ? "," : "", frame);
    }
}

static void print_object(const uint8_t *data, unsigned bytes)
{
    struct event_object o;
    memcpy(&o, data, sizeof o);
    fprintf(out, " start=%" PRIx64 " end=%" PRIx64 " bias=%" PRIx64 " build_id_len=%u path=%.*s", o.start, o.end, o.bias,
            o.build_id_len, (int)(bytes - sizeof o), (const char *)data + sizeof o);
}

static void print_event(const struct lane *l, const struct event *e, const uint8_t *data)
{
    unsigned shift = e->flags & EVENT_LONG ? 10 : 0;
    fprintf(out,
            "lane=%u tid=%d seq=%u %s fd=%d id=%" PRIx64 " off=%" PRIu64 " result=%d dur_ns=%" PRIu64
            " ready_ns=%" PRIu64 " alloc=%u freed=%u n=%u head=%u tail=%u",
            (unsigned)(l - view.lane), l->tid, e->sequence, type_name(e->type), e->descriptor, e->connection, e->offset,
            e->result, clock_ticks_to_ns(&scale, (uint64_t)e->duration << shift),
            clock_ticks_to_ns(&scale, (uint64_t)e->ready << shift), e->allocated, e->freed, e->allocations, e->head,
            e->tail);
    print_flags(e->flags);
    if (e->flags & EVENT_HAS_BLOCK) {
        const struct event_block *b = (const void *)(data - sizeof *b);
        fprintf(out, " lock_ns=%" PRIu64 " disk_ns=%" PRIu64 " sleep_ns=%" PRIu64 " cpu_ns=%" PRId64,
                clock_ticks_to_ns(&scale, b->lock), clock_ticks_to_ns(&scale, b->disk),
                clock_ticks_to_ns(&scale, b->sleep), (int64_t)b->cpu_ns);
    }
    if ((e->type == EVENT_ALLOCATED || e->type == EVENT_LOCKED) && e->head >= sizeof(struct event_sample)) {
        print_sample(data, e->head);
    } else if (e->type == EVENT_OBJECT && e->head >= sizeof(struct event_object)) {
        print_object(data, e->head);
    } else if (e->type == EVENT_FREED && e->head == sizeof(struct event_argument)) {
        fprintf(out, " serial=%" PRIu64, *(const uint64_t *)(const void *)data);
    } else if (e->head) {
        fputc(' ', out);
        print_text(data, e->head);
    }
    fputc('\n', out);
}

static void take_event(struct lane *l, const char *at, uint32_t room)
{
    struct event e;
    memcpy(&e, at, sizeof e);
    uint32_t fixed = sizeof e + (e.flags & EVENT_HAS_BLOCK ? sizeof(struct event_block) : 0);
    if (e.size > room || (e.type != EVENT_NONE && e.size < fixed + e.head + e.tail)) {
        damaged++;
        return;
    }
    if (e.type == EVENT_NONE) /* a hole: only its size was written */
        return;
    events++;
    l->drained++;
    by_type[e.type]++;
    if (!quiet && out)
        print_event(l, &e, (const uint8_t *)at + fixed);
}

/* Reads what is committed; frees chunks that have a successor. */
static void drain_lane(struct lane *l)
{
    if (!l->read_chunk) {
        l->read_chunk = load_acquire(&l->first);
        l->read_offset = CHUNK_HEADER;
    }
    while (l->read_chunk) {
        struct chunk *c = &view.chunk[l->read_chunk - 1];
        uint32_t next = load_acquire(&c->next), committed = load_acquire(&c->committed);
        while (l->read_offset < committed) {
            const char *at = (const char *)c + l->read_offset;
            uint16_t size = *(const uint16_t *)(const void *)at;
            if (!size || size & 7) {
                damaged++;
                l->read_offset = committed;
                break;
            }
            take_event(l, at, committed - l->read_offset);
            l->read_offset += size;
        }
        if (!next)
            return;
        uint32_t old = l->read_chunk - 1;
        l->read_chunk = next;
        l->read_offset = CHUNK_HEADER;
        store_relaxed(&l->chunks_freed, l->chunks_freed + 1);
        arena_push_chunk(&view, old);
    }
}

static void drain(void)
{
    for (uint32_t i = 0; i < load_relaxed(&view.arena->s_lanes_high); i++)
        if (load_acquire(&view.lane[i].state) == LANE_LIVE)
            drain_lane(&view.lane[i]);
}

static void print_sums(FILE *to)
{
    uint64_t written = 0, full = 0, nested = 0, drained = 0, no_lane = 0;
    for (uint32_t i = 0; i < view.arena->s_processes_high; i++) {
        const struct process_slot *p = &view.process[i];
        no_lane += p->s_lost_no_lane;
        fprintf(to, "process %u pid=%d parent=%d parent_serial=%u flags=%#x uid=%u %s %s\n", p->serial, p->pid, p->parent,
                p->parent_serial, p->flags, p->uid, p->executable, p->name);
    }
    for (uint32_t i = 0; i < view.arena->s_lanes_high; i++) {
        const struct lane *l = &view.lane[i];
        written += l->sequence;
        full += l->lost_full;
        nested += l->lost_nested;
        drained += l->drained;
        fprintf(to,
                "lane %u process=%u tid=%d sequence=%" PRIu64 " drained=%" PRIu64 " full=%" PRIu64 " nested=%" PRIu64
                " busy=%" PRIx64 " call=%u allocated=%" PRIu64 " freed=%" PRIu64 " allocations=%" PRIu64
                " lock_ns=%" PRIu64 " disk_ns=%" PRIu64 " sleep_ns=%" PRIu64 "\n",
                l->serial, l->process_serial, l->tid, l->sequence, l->drained, l->lost_full, l->lost_nested, l->busy,
                l->call, l->allocated, l->freed, l->allocations, clock_ticks_to_ns(&scale, l->lock),
                clock_ticks_to_ns(&scale, l->disk), clock_ticks_to_ns(&scale, l->sleep));
    }
    fprintf(to,
            "sum written=%" PRIu64 " drained=%" PRIu64 " full=%" PRIu64 " nested=%" PRIu64 " no_lane=%" PRIu64
            " unfinished=%" PRIu64 " refused=%" PRIu64 " damaged=%" PRIu64 " chunks_free=%" PRIu64 "/%u\n",
            written + no_lane, drained, full, nested, no_lane, written - drained - full - nested,
            view.arena->s_refused, damaged, view.arena->s_free_count, view.chunks);
    for (unsigned i = 0; i < 256; i++)
        if (by_type[i])
            fprintf(to, "type %s %" PRIu64 "\n", type_name(i), by_type[i]);
}

static const char *library(const char *self)
{
    static char path[PATH_MAX];
    const char *named = getenv("SONDE_LIBRARY");
    char own[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", own, sizeof own - 1);
    if (named || n < 0)
        return named ? named : self;
    own[n] = 0;
    snprintf(path, sizeof path, "%.4000s/../libsonde.so", dirname(own));
    return path;
}

static void start(char **command, int fd, const char *self)
{
    char place[128], preload[PATH_MAX + 256];
    const char *before = getenv("LD_PRELOAD");
    snprintf(place, sizeof place, "%d:%d:%s:%u:%" PRIu64 ":%" PRIu64, (int)getppid(), fd, view.arena->token,
             view.arena->features, view.arena->sample_bytes, view.arena->lock_sample_ns);
    snprintf(preload, sizeof preload, "%s%s%s", library(self), before ? ":" : "", before ? before : "");
    setenv(SONDE_ENV_ARENA, place, 1);
    setenv("LD_PRELOAD", preload, 1);
    execvp(command[0], command);
    perror(command[0]);
    _exit(errno == ENOENT ? 127 : 126);
}

static uint64_t bytes = ARENA_DEFAULT_BYTES, rate, lock_rate;
static long features = -1; /* -1: what arena_create sets */

static bool take_options(int argc, char **argv)
{
    int option;
    while ((option = getopt(argc, argv, "+o:qsnmb:f:r:l:")) != -1)
        switch (option) {
        case 'o': out = fopen(optarg, "we"); break;
        case 'q': quiet = true; break;
        case 's': show_sums = true; break;
        case 'n': no_drain = true; break;
        case 'm': other_major = true; break;
        case 'b': bytes = strtoull(optarg, NULL, 0); break;
        case 'f': features = strtol(optarg, NULL, 0); break;
        case 'r': rate = strtoull(optarg, NULL, 0); break;
        case 'l': lock_rate = strtoull(optarg, NULL, 0); break;
        default: return false;
        }
    return argv[optind];
}

/* Its descriptor, or -errno. */
static int make_arena(void)
{
    char token[32];
    snprintf(token, sizeof token, "%08x%08x", (unsigned)getpid(), (unsigned)time(NULL));
    int fd = arena_create(bytes, token, &view);
    if (fd < 0)
        return fd;
    clock_calibrate(view.arena);
    clock_scale_init(&scale, view.arena);
    view.arena->supervisor = (uint32_t)getpid();
    view.arena->lock_sample_ns = lock_rate;
    if (features >= 0)
        view.arena->features = (uint32_t)features;
    if (rate) {
        view.arena->sample_bytes = rate;
        view.arena->features |= FEATURE_STACKS;
    }
    view.arena->major += other_major;
    return fd;
}

/* Until the child and all of its orphans have ended. The child's exit code. */
static int drain_until_the_end(pid_t child)
{
    int status = 0, code = 0;
    for (;;) {
        pid_t dead = waitpid(-1, &status, WNOHANG);
        if (dead == child)
            code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
        if (dead < 0 && errno == ECHILD)
            return code;
        if (dead > 0)
            continue;
        struct timespec nap = {0, 2000000};
        nanosleep(&nap, NULL);
        if (!no_drain)
            drain();
    }
}

int main(int argc, char **argv)
{
    if (!take_options(argc, argv))
        return 125;
    int fd = make_arena();
    if (fd < 0) {
        fprintf(stderr, "arena: %s\n", strerror(-fd));
        return 125;
    }
    signal(SIGINT, SIG_IGN);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    pid_t child = fork();
    if (child < 0)
        return 125;
    if (!child) {
        signal(SIGINT, SIG_DFL);
        setpgid(0, 0); /* Apache signals its whole group when it stops */
        start(argv + optind, fd, argv[0]);
    }
    int code = drain_until_the_end(child);
    drain();
    if (out)
        print_sums(out);
    if (show_sums)
        print_sums(stderr);
    return code;
}
