/*
 * slices.h - the same work in two processes, one bare and one watched, in alternating slices of one
 * run.
 *
 * A worker is this program again, started with `--worker` and perhaps with a preload; it reads
 * "kind rounds" lines and answers with ns for each. Between slices the parent does what the
 * collector would: gives the lanes' chunks back. Reported are medians; for what is added the median
 * and the quartiles of the differences of neighbouring slices, and `best`, the difference of the
 * two fastest slices: the number to read when the machine is busy.
 */
#ifndef SONDE_BENCH_SLICES_H
#define SONDE_BENCH_SLICES_H

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "wire/arena.h"
#include "wire/atomics.h"
#include "wire/clock.h"

#define SLICES_MAX 400

struct worker {
    pid_t pid;
    FILE *to, *from;
};

struct slices {
    struct arena_view view;
    int fd;
    char self[PATH_MAX], library[PATH_MAX + 32];
    FILE *json;
    bool first;
};

struct comparison {
    double bare, watched, added, low, high,
        best; /* ns: medians; of the differences: median, quartiles; of the fastest */
};

static inline int slices_init(struct slices *s, const char *name)
{
    char json[PATH_MAX + 64], own[PATH_MAX];
    memset(s, 0, sizeof *s);
    s->fd = arena_create(ARENA_DEFAULT_BYTES, "bench", &s->view);
    ssize_t n = readlink("/proc/self/exe", s->self, sizeof s->self - 1);
    if (s->fd < 0 || n < 0)
        return -1;
    clock_calibrate(s->view.arena);
    s->view.arena->features = FEATURE_HEAP | FEATURE_DATA;
    snprintf(own, sizeof own, "%s", s->self);
    const char *folder = dirname(own);
    snprintf(s->library, sizeof s->library, "%s/../libsonde.so", folder);
    snprintf(json, sizeof json, "%s/%s.json", folder, name);
    if (access(s->library, R_OK)) {
        fprintf(stderr, "%s is missing: run make first\n", s->library);
        return -1;
    }
    s->json = fopen(json, "w");
    s->first = true;
    if (s->json)
        fputs("[", s->json);
    return 0;
}

static inline void slices_fini(struct slices *s)
{
    if (s->json) {
        fputs("]\n", s->json);
        fclose(s->json);
    }
    arena_detach(&s->view);
    close(s->fd);
}

/* The environment of a watched process: ours, then `after` in LD_PRELOAD. */
static inline void slices_environment(const struct slices *s, bool watched, const char *after)
{
    char preload[PATH_MAX * 2], place[64];
    snprintf(preload, sizeof preload, "%s%s%s", watched ? s->library : "",
             watched && *after ? ":" : "", after);
    snprintf(place, sizeof place, "%d:%d:bench", (int)getppid(), s->fd);
    if (*preload)
        setenv("LD_PRELOAD", preload, 1);
    else
        unsetenv("LD_PRELOAD");
    if (watched)
        setenv(SONDE_ENV_ARENA, place, 1);
    else
        unsetenv(SONDE_ENV_ARENA);
}

static inline struct worker slices_start(const struct slices *s, bool watched, const char *after)
{
    struct worker w;
    int to[2], from[2];
    if (pipe2(to, O_CLOEXEC) ||
        pipe2(from, O_CLOEXEC)) /* the other worker must not hold them open */
        exit(1);
    w.pid = fork();
    if (!w.pid) {
        slices_environment(s, watched, after);
        dup2(to[0], STDIN_FILENO);
        dup2(from[1], STDOUT_FILENO);
        close(to[1]);
        close(from[0]);
        execl(s->self, s->self, "--worker", (char *)NULL);
        _exit(127);
    }
    close(to[0]);
    close(from[1]);
    w.to = fdopen(to[1], "w");
    w.from = fdopen(from[0], "r");
    return w;
}

static inline void slices_stop(struct worker *w)
{
    fclose(w->to);
    fclose(w->from);
    waitpid(w->pid, NULL, 0);
}

/* ns for one round of this kind. */
static inline double slices_ask(struct worker *w, int kind, int rounds)
{
    double ns = 0;
    fprintf(w->to, "%d %d\n", kind, rounds);
    fflush(w->to);
    if (fscanf(w->from, "%lf", &ns) != 1) {
        fprintf(stderr, "a worker ended\n");
        exit(1);
    }
    return ns;
}

/* The worker's side: `work` does `rounds` of `kind`. */
static inline int slices_work(void (*work)(int kind, int rounds))
{
    int kind, rounds;
    while (scanf("%d %d", &kind, &rounds) == 2) {
        uint64_t begin = clock_monotonic_ns();
        work(kind, rounds);
        printf("%f\n", (double)(clock_monotonic_ns() - begin) / rounds);
        fflush(stdout);
    }
    return 0;
}

/* All chunks that are full are free again; lanes and slots of processes that have ended too. */
static inline void slices_drain(struct slices *s)
{
    struct arena *a = s->view.arena;
    for (uint32_t i = 0; i < load_relaxed(&a->s_lanes_high); i++) {
        struct lane *l = &s->view.lane[i];
        if (load_acquire(&l->state) != LANE_LIVE)
            continue;
        if (!l->read_chunk)
            l->read_chunk = load_acquire(&l->first);
        while (l->read_chunk) {
            uint32_t next = load_acquire(&s->view.chunk[l->read_chunk - 1].next),
                     old = l->read_chunk - 1;
            if (!next)
                break;
            l->read_chunk = next;
            store_relaxed(&l->chunks_freed, l->chunks_freed + 1);
            arena_push_chunk(&s->view, old);
        }
    }
}

static inline int slices_ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static inline double slices_at(double *values, int count, double part)
{
    qsort(values, (size_t)count, sizeof *values, slices_ascending);
    return values[(int)(part * (count - 1))];
}

static inline struct comparison slices_judge(double *bare, double *watched, int count)
{
    double difference[SLICES_MAX];
    struct comparison c;
    for (int i = 0; i < count; i++)
        difference[i] = watched[i] - bare[i];
    c.bare = slices_at(bare, count, 0.5);
    c.watched = slices_at(watched, count, 0.5);
    c.added = slices_at(difference, count, 0.5);
    c.low = slices_at(difference, count, 0.25);
    c.high = slices_at(difference, count, 0.75);
    c.best = slices_at(watched, count, 0) - slices_at(bare, count, 0);
    return c;
}

static inline void slices_line(struct slices *s, const char *group, const char *name,
                               const struct comparison *c)
{
    printf("%-8s %-41s bare %10.1f  watched %10.1f  added %8.1f ns (%.1f to %.1f, best %.1f)\n",
           group, name, c->bare, c->watched, c->added, c->low, c->high, c->best);
    fflush(stdout);
    if (s->json)
        fprintf(s->json,
                "%s\n{\"group\": \"%s\", \"name\": \"%s\", \"bare_ns\": %.2f, \"watched_ns\": "
                "%.2f, \"added_ns\": %.2f, "
                "\"added_low_ns\": %.2f, \"added_high_ns\": %.2f, \"added_best_ns\": %.2f}",
                s->first ? "" : ",", group, name, c->bare, c->watched, c->added, c->low, c->high,
                c->best);
    s->first = false;
}

/* `count` slices of each worker, taking turns in who begins; the first few warm up. */
static inline struct comparison slices_compare(struct slices *s, struct worker *bare,
                                               struct worker *watched, int kind, int rounds,
                                               int count)
{
    double b[SLICES_MAX], w[SLICES_MAX];
    for (int i = -3; i < count; i++) {
        struct worker *first = i & 1 ? bare : watched, *second = i & 1 ? watched : bare;
        double x = slices_ask(first, kind, rounds), y = slices_ask(second, kind, rounds);
        if (i >= 0) {
            b[i] = i & 1 ? x : y;
            w[i] = i & 1 ? y : x;
        }
        slices_drain(s);
    }
    return slices_judge(b, w, count);
}

#endif
