/*
 * bench_fork.c - what the recorder adds to the start of a program and to a fork: bare against
 * watched, in turns.
 */
#include "bench/slices.h"

#include <signal.h>

#define STARTS 300

/* Ended processes' slots and lanes serve again. */
static void reclaim(struct slices *s)
{
    struct arena *a = s->view.arena;
    slices_drain(s);
    for (uint32_t i = 0; i < load_relaxed(&a->s_processes_high); i++) {
        struct process_slot *p = &s->view.process[i];
        if (load_acquire(&p->state) != PROCESS_LIVE || !kill(p->pid, 0) || errno != ESRCH)
            continue;
        for (uint32_t j = 0; j < load_relaxed(&a->s_lanes_high); j++) {
            struct lane *l = &s->view.lane[j];
            if (l->state != LANE_LIVE || l->process_serial != p->serial)
                continue;
            uint32_t chunk = l->read_chunk ? l->read_chunk : l->first;
            if (chunk)
                arena_push_chunk(&s->view, chunk - 1);
            store_release(&l->state, (uint32_t)LANE_FREE);
            arena_push_lane(&s->view, j);
        }
        store_release(&p->state, (uint32_t)PROCESS_FREE);
        arena_push_process(&s->view, i);
    }
}

static double start_once(struct slices *s, bool watched, char *const argv[])
{
    int status;
    uint64_t begin = clock_monotonic_ns();
    pid_t pid = fork();
    if (!pid) {
        slices_environment(s, watched, "");
        execv(argv[0], argv);
        _exit(127);
    }
    if (waitpid(pid, &status, 0) != pid || status)
        exit(1);
    return (double)(clock_monotonic_ns() - begin);
}

static void starts(struct slices *s, const char *name, char *const argv[], int count)
{
    double b[SLICES_MAX], w[SLICES_MAX];
    if (access(argv[0], X_OK))
        return;
    for (int i = 0; i < count; i++) {
        if (i & 1)
            b[i] = start_once(s, false, argv);
        w[i] = start_once(s, true, argv);
        if (!(i & 1))
            b[i] = start_once(s, false, argv);
        if (i % 50 == 49)
            reclaim(s);
    }
    struct comparison c = slices_judge(b, w, count);
    slices_line(s, "start", name, &c);
    reclaim(s);
}

static pid_t fork_child(void)
{
    pid_t pid = fork();
    if (!pid)
        _exit(0);
    return pid;
}

static pid_t vfork_child(void)
{
    pid_t pid = vfork();
    if (!pid)
        _exit(0);
    return pid;
}

/* In the worker: children that do nothing. */
static void work(int kind, int rounds)
{
    for (int i = 0; i < rounds; i++) {
        int status;
        waitpid(kind ? vfork_child() : fork_child(), &status, 0);
    }
}

static void forks(struct slices *s, const char *name, int kind)
{
    double b[SLICES_MAX], w[SLICES_MAX];
    struct worker bare = slices_start(s, false, ""), watched = slices_start(s, true, "");
    for (int i = -2; i < 40; i++) {
        double x = slices_ask(&bare, kind, 25), y = slices_ask(&watched, kind, 25);
        if (i >= 0) {
            b[i] = x;
            w[i] = y;
        }
        reclaim(s);
    }
    struct comparison c = slices_judge(b, w, 40);
    slices_line(s, "fork", name, &c);
    slices_stop(&bare);
    slices_stop(&watched);
}

int main(int argc, char **argv)
{
    if (argc > 1 && !strcmp(argv[1], "--worker"))
        return slices_work(work);
    struct slices s;
    if (slices_init(&s, "fork"))
        return 1;
    starts(&s, "/bin/true", (char *[]){"/bin/true", NULL}, STARTS);
    s.view.arena->features |= FEATURE_STACKS;
    s.view.arena->sample_bytes = UINT64_C(524288);
    starts(&s, "/bin/true, stacks sampled", (char *[]){"/bin/true", NULL}, STARTS);
    s.view.arena->features &= ~(uint32_t)FEATURE_STACKS;
    starts(&s, "/usr/bin/python3 -S -c 1", (char *[]){"/usr/bin/python3", "-S", "-c", "1", NULL},
           100);
    starts(&s, "/usr/sbin/nginx -v",
           (char *[]){"/bin/sh", "-c", "exec /usr/sbin/nginx -v 2>/dev/null", NULL}, 100);
    forks(&s, "fork + _exit + waitpid", 0);
    forks(&s, "vfork + _exit + waitpid", 1);
    slices_fini(&s);
    return 0;
}
