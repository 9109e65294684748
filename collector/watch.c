/*
 * watch.c - see watch.h.
 *
 * In:      wire/arena.h's process slots and lanes, procfs.c, sockets.c, adopt.c, main.c
 * Out:     order.c
 * Owns:    the processes, their pidfds, the arenas.
 * Context: C
 * Failure: see watch.h.
 */
#include "collector/watch.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <linux/membarrier.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "collector/adopt.h"
#include "collector/drain.h"
#include "collector/elsewhere.h"
#include "collector/procfs.h"
#include "collector/sockets.h"
#include "collector/timeline.h"
#include "wire/atomics.h"
#include "wire/clock.h"

#define NS_PER_MS UINT64_C(1000000)
#define NS_PER_S UINT64_C(1000000000)
#define SILENT_EVERY_NS (250 * NS_PER_MS)
#define CROWDED_FIRST_NS                                                                           \
    (5 * NS_PER_MS) /* between sweeps while lanes or chunks run low; twice that when one found none */
#define CROWDED_SHARE 10     /* a tenth of the time at most goes there */
#define IDLE_NS (20 * NS_PER_MS) /* what is a silent lane then */
#define SCAN_EVERY_NS (50 * NS_PER_MS) /* looks for arenas while there is a reason to */
#define ELSEWHERE_SOON_NS (100 * NS_PER_MS)
#define ELSEWHERE_EVERY_NS (30 * NS_PER_S) /* a look of 70 processes takes 2 ms */
#define ELSEWHERE_SHARE 100
#define QUIET_NS NS_PER_S              /* a lane that was silent for so long gives its chunk back */
#define CALL_NS NS_PER_S               /* a call that lasts longer is told */
#define ENDED 1024                     /* ended processes that are remembered */
#define QUESTIONS 1024
#define AT_ONCE 128 /* questions looked up together */
#define TIDS 32768

enum process_stage { UNPROVEN, ALIVE, DEAD };

struct process {
    struct place *place;
    uint32_t index, serial, number, parent_number;
    int32_t pid;    /* as it sees itself */
    pid_t host_pid; /* as we see it; 0: not found */
    int pidfd;      /* -1: none */
    uint32_t flags, uid;
    int32_t parent;
    uint64_t start_ns, boot_ns, death_ns, death_round;
    enum process_stage stage;
    bool replaced, told;
    struct totals sent;
    uint64_t cpu_ns, cpu_before; /* cpu_before: of images that this process ran earlier */
    char executable[256], name[56];
};

struct place { /* an arena */
    int order; /* its number in the order */
    struct adopted adopted;
    bool main, broken;
    uint64_t device, inode; /* of its file; 0: unknown */
    struct process **of_slot; /* [view.processes] */
    uint32_t processes;
};

struct ended {
    uint32_t number, place_order, serial;
    int32_t pid;
    uint64_t start_ns;
};

struct question {
    uint32_t process;
    pid_t pid;
    uint64_t connection;
    bool address;
    struct socket_question of;
};

struct watch {
    struct order *order;
    watch_say_fn say;
    void *say_to;
    const char *directory;
    char token[33];
    int epoll, inotify;
    bool takes_over, closing;
    bool elsewhere; /* look into containers too */
    uint64_t elsewhere_soon, elsewhere_after;
    struct place *place[ORDER_ARENAS];
    struct process **process; /* those whose end was not told */
    uint32_t count, room;
    struct ended ended[ENDED];
    uint64_t ended_count;
    char refused[8][160]; /* arenas that we may not open */
    uint32_t refusals;
    uint64_t now, swept, silent, scanned, scan_until;
    uint64_t crowded_after, crowded_every; /* the next sweep for want of room */
    struct question question[QUESTIONS];
    uint32_t questions;
    uint64_t tables_after; /* when /proc's tables may be read again */
    struct tid {
        uint32_t stamp;
        int32_t tid;
        struct drain_lane *lane;
    } * tids;
    uint32_t stamp;
};

/* --- facts --- */

static void tell(struct watch *w, const struct process *p, uint64_t time_ns, struct fact *f)
{
    struct item item = {.process = p ? p->number : 0, .time_ns = time_ns};
    if (p && !f->pid)
        f->pid = p->pid;
    order_fact(w->order, &item, f);
}

static struct fact new_fact(enum fact_kind kind)
{
    struct fact f;
    memset(&f, 0, sizeof f);
    f.kind = kind;
    f.exit_code = f.signal = -1;
    return f;
}

static struct fact fact_of(const struct process *p, enum fact_kind kind)
{
    struct fact f = new_fact(kind);
    f.pid = p->pid;
    f.parent = p->parent;
    f.uid = p->uid;
    f.parent_process = p->parent_number;
    f.flags = p->flags;
    f.heap_tail_unknown = p->flags & PROCESS_MALLCTL;
    f.cpu_ns = p->cpu_ns;
    memcpy(f.executable, p->executable, sizeof f.executable);
    memcpy(f.name, p->name, sizeof f.name);
    return f;
}

/* --- who is who --- */

static struct process *by_number(const struct watch *w, uint32_t number)
{
    for (uint32_t i = 0; i < w->count; i++)
        if (w->process[i]->number == number)
            return w->process[i];
    return NULL;
}

static uint32_t number_of_serial(const struct watch *w, const struct place *a, uint32_t serial)
{
    if (!serial)
        return 0;
    for (uint32_t i = 0; i < w->count; i++)
        if (w->process[i]->place == a && w->process[i]->serial == serial)
            return w->process[i]->number;
    for (uint64_t n = w->ended_count; n-- && n + ENDED >= w->ended_count;) {
        const struct ended *e = &w->ended[n % ENDED];
        if (e->place_order == (uint32_t)a->order && e->serial == serial)
            return e->number;
        if (!n)
            break;
    }
    return 0;
}

/* The youngest process of this pid that had begun at that time. */
static uint32_t number_of_pid(const struct watch *w, int32_t pid, uint64_t before_ns)
{
    uint32_t number = 0;
    uint64_t youngest = 0;
    for (uint32_t i = 0; i < w->count; i++) {
        const struct process *p = w->process[i];
        if ((p->pid == pid || p->host_pid == pid) && p->start_ns <= before_ns &&
            p->start_ns >= youngest) {
            number = p->number;
            youngest = p->start_ns;
        }
    }
    uint64_t first = w->ended_count > ENDED ? w->ended_count - ENDED : 0;
    for (uint64_t n = first; n < w->ended_count; n++) {
        const struct ended *e = &w->ended[n % ENDED];
        if (e->pid == pid && e->start_ns <= before_ns && e->start_ns > youngest) {
            number = e->number;
            youngest = e->start_ns;
        }
    }
    return number;
}

/* The number that stands in the slot, or the next one; see wire/arena.h. */
static uint32_t take_number(struct watch *w, struct process_slot *slot)
{
    struct arena *a = w->place[0]->adopted.view.arena;
    uint32_t number = load_relaxed(&slot->number), last = load_relaxed(&a->processes_numbered);
    if (number && number <= last && !by_number(w, number))
        return number;
    number = last + 1;
    store_relaxed(&a->processes_numbered, number);
    store_release(&slot->number, number);
    return number;
}

/* --- life and death of processes --- */

static void bury(struct watch *w, struct process *p, bool replaced)
{
    if (p->stage == DEAD)
        return;
    uint64_t cpu = replaced || p->pidfd >= 0 ? procfs_cpu_ns(p->host_pid) : 0;
    if (cpu > p->cpu_before + p->cpu_ns)
        p->cpu_ns = cpu - p->cpu_before;
    p->stage = DEAD;
    p->replaced = replaced;
    p->death_ns = w->now;
    p->death_round = order_rounds(w->order);
    if (p->pidfd >= 0)
        close(p->pidfd);
    p->pidfd = -1;
    struct drain *d = order_arena(w->order, p->place->order);
    for (uint32_t i = d->process_lanes[p->index]; i; i = d->lanes[i - 1].next_of_process)
        order_lane_dead(w->order, &d->lanes[i - 1], w->now);
}

static bool open_pidfd(struct watch *w, struct process *p, pid_t pid)
{
    int fd = procfs_pidfd(pid);
    if (fd == -ESRCH)
        return false;
    uint64_t start = procfs_start_ns(pid);
    if (start && p->boot_ns && start > p->boot_ns + PROCFS_START_SLACK_NS) {
        if (fd >= 0)
            close(fd);
        return false; /* the number was given again */
    }
    p->host_pid = pid;
    p->pidfd = fd < 0 ? -1 : fd;
    p->stage = ALIVE;
    struct epoll_event e = {.events = EPOLLIN, .data.u32 = p->number};
    if (fd >= 0)
        epoll_ctl(w->epoll, EPOLL_CTL_ADD, fd, &e);
    return true;
}

struct claim {
    const struct watch *w;
    const struct process *p;
};

/* Whoever writes into this arena maps it. Who may not be asked might, if it has that parent or has lost it. */
static bool may_be(void *to, pid_t pid)
{
    const struct claim *c = to;
    const struct place *a = c->p->place;
    int maps = a->inode ? procfs_maps(pid, a->device, a->inode) : -ENOENT;
    if (maps >= 0 || maps == -ESRCH)
        return maps != 0;
    pid_t parent = procfs_parent(pid);
    return pid != c->p->pid || parent == c->p->parent || (parent == 1 && pid != 1);
}

/* Two images in one process: the older one was replaced by exec. */
static void replace_older(struct watch *w, struct process *p)
{
    for (uint32_t i = 0; i < w->count; i++) {
        struct process *q = w->process[i];
        if (q == p || q->stage == DEAD || !p->host_pid || q->host_pid != p->host_pid)
            continue;
        bool q_is_older =
            q->start_ns < p->start_ns || (q->start_ns == p->start_ns && q->number < p->number);
        struct process *old = q_is_older ? q : p, *new = q_is_older ? p : q;
        bury(w, old, true);
        new->cpu_before = old->cpu_before + old->cpu_ns;
    }
}

/* true: it lives, and is the one that we take it for. */
static bool look_for(struct watch *w, struct process *p, bool others)
{
    struct claim claim = {w, p};
    pid_t there = procfs_own_number(p->pid);
    bool ours = there == p->pid && may_be(&claim, p->pid);
    pid_t pid = ours ? p->pid : 0;
    /* of a namespace below ours most likely, or surely: what has its number here is somebody else */
    if (p->pid == 1 || !p->parent || (!ours && (there || others))) {
        pid_t found = procfs_find(p->pid, p->boot_ns, p->executable, may_be, &claim);
        pid = found ? found : pid;
    }
    if (!pid || !open_pidfd(w, p, pid))
        return false;
    replace_older(w, p);
    return true;
}

/* What was not found at once: may be of another namespace, or was on its way from one image to the next. */
static void prove(struct watch *w, struct process *p, bool others)
{
    if (look_for(w, p, others))
        return;
    uint64_t start = procfs_start_ns(p->pid);
    bool here = procfs_own_number(p->pid) == p->pid && start && p->boot_ns &&
                start <= p->boot_ns + PROCFS_START_SLACK_NS;
    bury(w, p, here); /* here, without our arena: it runs what is not watched now */
}

static bool keep(struct watch *w, struct process *p)
{
    if (w->count == w->room) {
        uint32_t room = w->room ? 2 * w->room : 64;
        struct process **larger = realloc(w->process, room * sizeof(void *));
        if (!larger)
            return false;
        w->process = larger;
        w->room = room;
    }
    w->process[w->count++] = p;
    return true;
}

static struct process *begin_process(struct watch *w, struct place *a, uint32_t index)
{
    struct process_slot *slot = &a->adopted.view.process[index];
    struct process *p = calloc(1, sizeof *p);
    if (!p || !keep(w, p)) {
        free(p);
        return NULL;
    }
    struct drain *d = order_arena(w->order, a->order);
    p->place = a;
    p->index = index;
    p->serial = load_relaxed(&slot->serial);
    p->pid = load_relaxed(&slot->pid);
    p->parent = load_relaxed(&slot->parent);
    p->uid = load_relaxed(&slot->uid);
    p->flags = load_relaxed(&slot->flags);
    p->boot_ns = load_relaxed(&slot->start_boot);
    p->pidfd = -1;
    memcpy(p->executable, slot->executable, sizeof p->executable - 1);
    memcpy(p->name, slot->name, sizeof p->name - 1);
    uint64_t start = order_ticks_to_ns(w->order, d, load_relaxed(&slot->start));
    p->start_ns = start && start <= w->now ? start : w->now;
    p->number = take_number(w, slot);
    p->parent_number = number_of_serial(w, a, load_relaxed(&slot->parent_serial));
    a->of_slot[index] = p;
    a->processes++;
    struct fact f = fact_of(p, FACT_PROCESS);
    tell(w, p, p->start_ns, &f);
    look_for(w, p, false);
    w->scan_until = w->now + 2 * NS_PER_S; /* it may run what makes an arena of its own */
    return p;
}

static bool is_new(const struct place *a, uint32_t index)
{
    return !a->of_slot[index] && load_acquire(&a->adopted.view.process[index].state) == PROCESS_LIVE;
}

#define GENERATIONS 64 /* of forks between two looks; beyond them a child has no parent here */

/* After its parent: a child may stand in a slot before it, and has its number, files and connections from there. */
static void begin_family(struct watch *w, struct place *a, uint32_t index, int generations)
{
    const struct arena_view *v = &a->adopted.view;
    uint32_t parent = load_relaxed(&v->process[index].parent_serial);
    uint32_t high = load_relaxed(&v->arena->s_processes_high);
    bool missing = parent && generations && !number_of_serial(w, a, parent);
    for (uint32_t i = 0; missing && i < high && i < v->processes; i++)
        if (i != index && is_new(a, i) && load_relaxed(&v->process[i].serial) == parent) {
            begin_family(w, a, i, generations - 1);
            break;
        }
    if (is_new(a, index)) /* not begun meanwhile, in pages that are damaged */
        begin_process(w, a, index);
}

static void scan_slots(struct watch *w, struct place *a)
{
    const struct arena_view *v = &a->adopted.view;
    uint32_t high = load_relaxed(&v->arena->s_processes_high);
    for (uint32_t i = 0; i < high && i < v->processes && !a->broken; i++)
        if (is_new(a, i))
            begin_family(w, a, i, GENERATIONS);
}

/* --- totals --- */

static void sum_totals(struct watch *w, const struct process *p, struct totals *t)
{
    struct drain *d = order_arena(w->order, p->place->order);
    const struct process_slot *slot = &d->view.process[p->index];
    struct lane_totals sum, n;
    drain_ended(d, p->index, &sum);
    sum.allocated += load_relaxed(&slot->s_allocated);
    sum.freed += load_relaxed(&slot->s_freed);
    sum.allocations += load_relaxed(&slot->s_allocations);
    for (uint32_t i = d->process_lanes[p->index]; i; i = d->lanes[i - 1].next_of_process) {
        drain_totals(&d->lanes[i - 1], &n);
        sum.allocated += n.allocated;
        sum.freed += n.freed;
        sum.allocations += n.allocations;
        sum.lock += n.lock;
        sum.disk += n.disk;
        sum.sleep += n.sleep;
    }
    *t = (struct totals){.allocated = sum.allocated,
                         .freed = sum.freed,
                         .allocations = sum.allocations,
                         .lock_ns = order_duration_to_ns(w->order, d, sum.lock),
                         .disk_ns = order_duration_to_ns(w->order, d, sum.disk),
                         .sleep_ns = order_duration_to_ns(w->order, d, sum.sleep),
                         .cpu_ns = p->cpu_ns};
}

static void refresh(struct watch *w, struct process *p)
{
    if (p->place->broken)
        return; /* the pages are gone: what was told last stands */
    p->flags = load_relaxed(&p->place->adopted.view.process[p->index].flags);
    if (p->stage == ALIVE) {
        uint64_t cpu = procfs_cpu_ns(p->host_pid);
        if (cpu > p->cpu_before + p->cpu_ns)
            p->cpu_ns = cpu - p->cpu_before;
    }
    sum_totals(w, p, &p->sent);
}

static void tell_totals(struct watch *w, struct process *p)
{
    struct totals before = p->sent;
    refresh(w, p);
    if (p->told && !memcmp(&before, &p->sent, sizeof before))
        return;
    p->told = true;
    struct fact f = fact_of(p, FACT_PROCESS_TOTAL);
    f.total = p->sent;
    tell(w, p, w->now, &f);
}

/* Every event of it was given out: its final totals, its slot given back. */
static void end_process(struct watch *w, struct process *p)
{
    refresh(w, p);
    struct fact f = fact_of(p, FACT_PROCESS_END);
    f.total = p->sent;
    f.replaced = p->replaced;
    tell(w, p, p->death_ns, &f);
    w->ended[w->ended_count++ % ENDED] =
        (struct ended){p->number, (uint32_t)p->place->order, p->serial, p->pid, p->start_ns};
    struct place *a = p->place;
    a->of_slot[p->index] = NULL;
    a->processes--;
    if (!a->broken) {
        store_release(&a->adopted.view.process[p->index].state, (uint32_t)PROCESS_FREE);
        arena_push_process(&a->adopted.view, p->index);
    }
    free(p);
}

static void end_processes(struct watch *w)
{
    uint32_t left = 0;
    for (uint32_t i = 0; i < w->count; i++) {
        struct process *p = w->process[i];
        struct drain *d = order_arena(w->order, p->place->order);
        bool over = p->stage == DEAD && order_rounds(w->order) > p->death_round &&
                    !d->process_lanes[p->index] &&
                    (order_watermark(w->order) >= p->death_ns || w->closing);
        if (over)
            end_process(w, p);
        else
            w->process[left++] = p;
    }
    w->count = left;
}

/* --- threads --- */

static uint32_t hook_lane_begin(void *to, struct drain_lane *l)
{
    struct watch *w = to;
    struct place *a = NULL;
    for (int i = 0; i < ORDER_ARENAS && !a; i++)
        if (w->place[i] && order_arena(w->order, w->place[i]->order) == l->drain)
            a = w->place[i];
    if (!a)
        return 0;
    struct process *p = a->of_slot[l->process_index];
    if (!p && is_new(a, l->process_index)) {
        begin_family(w, a, l->process_index, GENERATIONS);
        p = a->of_slot[l->process_index];
    }
    if (!p || p->serial != l->process_serial)
        return 0;
    if (p->stage == DEAD)
        order_lane_dead(w->order, l, p->death_ns);
    return p->number;
}

/* Of two lanes with one tid the older one's thread is dead: its number was given again. */
static bool is_second(struct watch *w, struct drain_lane *l)
{
    uint32_t at = (uint32_t)l->tid * 2654435761u >> 17;
    struct tid *t = &w->tids[at & (TIDS - 1)];
    if (t->stamp != w->stamp || t->tid != l->tid) {
        *t = (struct tid){w->stamp, l->tid, l};
        return false;
    }
    bool older = (int32_t)(l->serial - t->lane->serial) < 0;
    struct drain_lane *dead = older ? l : t->lane;
    if (!older)
        t->lane = l;
    order_lane_dead(w->order, dead, w->now);
    return true;
}

/* Threads of another namespace are numbered otherwise: of them we have a list. */
static bool is_gone(const struct process *p, const struct drain_lane *l, const int32_t *alive, int threads)
{
    if (p->host_pid == p->pid)
        return procfs_thread_is_gone(p->host_pid, l->tid);
    for (int low = 0, high = threads - 1; low <= high;) {
        int middle = low + (high - low) / 2;
        if (alive[middle] == l->tid)
            return false;
        if (alive[middle] < l->tid)
            low = middle + 1;
        else
            high = middle - 1;
    }
    return threads > 0;
}

/* How many of them were found dead. */
static uint32_t sweep_threads(struct watch *w)
{
    uint32_t dead = 0;
    for (uint32_t i = 0; i < w->count; i++) {
        struct process *p = w->process[i];
        if (p->stage != ALIVE)
            continue;
        struct drain *d = order_arena(w->order, p->place->order);
        uint32_t first = d->process_lanes[p->index];
        int32_t *alive = NULL;
        int threads = p->host_pid != p->pid && first && d->lanes[first - 1].next_of_process
                          ? procfs_threads(p->host_pid, &alive, TIDS)
                          : -1;
        w->stamp++;
        for (uint32_t j = first; j; j = d->lanes[j - 1].next_of_process) {
            struct drain_lane *l = &d->lanes[j - 1];
            if (l->stage != STAGE_LIVE)
                continue;
            /* a process's first thread stands as long as it does */
            if (is_second(w, l))
                dead++;
            else if (l->tid != p->pid && is_gone(p, l, alive, threads)) {
                order_lane_dead(w->order, l, w->now);
                dead++;
            }
        }
        free(alive);
    }
    return dead;
}

static void tell_calls(struct watch *w, struct place *a)
{
    struct drain *d = order_arena(w->order, a->order);
    uint32_t high = drain_high(d), told = 0;
    for (uint32_t i = 0; i < high && told < 256; i++) {
        struct drain_lane *l = &d->lanes[i];
        if (l->stage != STAGE_LIVE)
            continue;
        uint32_t call = load_relaxed(&l->shared->call);
        uint64_t since = load_relaxed(&l->shared->call_since),
                 since_ns = order_ticks_to_ns(w->order, d, since);
        if (call == CALL_NONE || call >= CALL_COUNT || !since || since == l->call_told ||
            since_ns + CALL_NS > w->now)
            continue;
        l->call_told = since;
        told++;
        struct fact f = new_fact(FACT_THREAD_CALL);
        struct item item = {.lane = l->number,
                            .thread = l->thread,
                            .process = l->process,
                            .tid = l->tid,
                            .time_ns = w->now,
                            .total = l->total};
        f.pid = a->of_slot[l->process_index] ? a->of_slot[l->process_index]->pid : 0;
        f.tid = l->tid;
        f.in_call = call;
        f.call_since_ns = since_ns;
        f.connection = drain_id(d, load_relaxed(&l->shared->call_connection));
        f.total = l->total;
        order_fact(w->order, &item, &f);
    }
}

/* --- arenas --- */

static bool membarrier_all(void *to)
{
    (void)to;
    return syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) == 0;
}

static struct place *add_place(struct watch *w, const struct adopted *adopted)
{
    struct place *a = calloc(1, sizeof *a);
    struct process **slots = calloc(adopted->view.processes, sizeof(void *));
    int at = 0;
    while (at < ORDER_ARENAS && w->place[at])
        at++;
    int order = a && slots && at < ORDER_ARENAS ? order_attach(w->order, &adopted->view) : -ENOSPC;
    if (order < 0) {
        free(a);
        free(slots);
        return NULL;
    }
    a->adopted = *adopted;
    a->order = order;
    a->main = !at;
    a->device = adopted->device;
    a->inode = adopted->inode;
    a->of_slot = slots;
    w->place[at] = a;
    struct arena *arena = a->adopted.view.arena;
    store_relaxed(&arena->collector_pid, (uint64_t)getpid());
    return a;
}

static bool is_known_path(void *to, const char *path)
{
    struct watch *w = to;
    for (int i = 1; i < ORDER_ARENAS; i++)
        if (w->place[i] && !strcmp(w->place[i]->adopted.path, path))
            return true;
    for (uint32_t i = 0; i < w->refusals && i < 8; i++)
        if (!strcmp(w->refused[i], path))
            return true;
    return false;
}

static void note_refusal(struct watch *w, const struct adopted *a, const char *why)
{
    char line[320];
    snprintf(line, sizeof line,
             "cannot read %s, which a process of user %u made: %s; it stays unseen", a->path,
             a->uid, why);
    if (w->say)
        w->say(w->say_to, line);
    memcpy(w->refused[w->refusals++ % 8], a->path, sizeof a->path);
}

static void adopt_from(struct watch *w, const struct adopt_from *from)
{
    struct adopted a;
    int rc;
    while ((rc = adopt_next(from, is_known_path, w, &a)) == 1) {
        struct place *added = add_place(w, &a);
        if (!added) {
            adopt_release(&a, false);
            note_refusal(w, &a, "too many of them");
            continue;
        }
        scan_slots(w, added);
    }
    if (rc == -EACCES)
        note_refusal(w, &a, "run sonde as that user or as root");
    if (rc == -EAGAIN)
        w->scan_until = w->now + 2 * NS_PER_S;
}

static void adopt_arenas(struct watch *w)
{
    int folder = open(w->directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0)
        return;
    adopt_from(w, &(struct adopt_from){folder, w->directory, w->token, UINT32_MAX});
    close(folder);
}

static void adopt_elsewhere(void *to, const struct elsewhere *e)
{
    struct watch *w = to;
    adopt_from(w, &(struct adopt_from){e->folder, e->name, w->token, e->uid});
}

/* Containers' own /dev/shm tell no news: looked at more often while processes begin, a hundredth of the time at most. */
static void look_elsewhere(struct watch *w)
{
    bool soon = w->now < w->scan_until;
    if (!w->elsewhere || w->now < (soon ? w->elsewhere_soon : w->elsewhere_after))
        return;
    uint64_t before = clock_monotonic_ns();
    elsewhere_each(adopt_elsewhere, w);
    uint64_t pause = ELSEWHERE_SHARE * (clock_monotonic_ns() - before);
    w->elsewhere_soon = w->now + (pause > ELSEWHERE_SOON_NS ? pause : ELSEWHERE_SOON_NS);
    w->elsewhere_after = w->now + (pause > ELSEWHERE_EVERY_NS ? pause : ELSEWHERE_EVERY_NS);
}

static void look_for_arenas(struct watch *w)
{
    char events[4096];
    if (!w->directory)
        return;
    if (w->inotify >= 0 && read(w->inotify, events, sizeof events) > 0)
        w->scan_until = w->now + 2 * NS_PER_S;
    bool due = w->now >= w->scanned + NS_PER_S ||
               (w->now < w->scan_until && w->now >= w->scanned + SCAN_EVERY_NS);
    if (!due && !w->closing)
        return;
    w->scanned = w->now;
    adopt_arenas(w);
    look_elsewhere(w);
}

static void drop_place(struct watch *w, int i, bool remove)
{
    struct place *a = w->place[i];
    order_detach(w->order, a->order);
    if (!a->main)
        adopt_release(&a->adopted, remove);
    else
        arena_detach(&a->adopted.view);
    free(a->of_slot);
    free(a);
    w->place[i] = NULL;
}

/* `sonde off` writes into the run's arena; those that processes made for themselves follow. */
static void pass_on_switch(struct watch *w)
{
    uint32_t off = load_relaxed(&w->place[0]->adopted.view.arena->off);
    for (int i = 1; i < ORDER_ARENAS; i++)
        if (w->place[i] && load_relaxed(&w->place[i]->adopted.view.arena->off) != off)
            store_relaxed(&w->place[i]->adopted.view.arena->off, off);
}

static bool is_used(const struct watch *w, const struct place *a)
{
    return a->main || a->processes || order_arena(w->order, a->order)->live ||
           load_relaxed(&a->adopted.view.arena->s_process_serial) == 0;
}

static void tend_arenas(struct watch *w)
{
    for (int i = 0; i < ORDER_ARENAS; i++) {
        struct place *a = w->place[i];
        if (!a)
            continue;
        struct drain *d = order_arena(w->order, a->order);
        if (!a->main && !a->broken && adopt_is_broken(&a->adopted)) {
            char line[256];
            a->broken = true;
            snprintf(line, sizeof line,
                     "%s was cut short by somebody: what its processes do is unseen from here on",
                     a->adopted.path);
            if (w->say)
                w->say(w->say_to, line);
        }
        drain_recall(d, w->now, QUIET_NS, membarrier_all, NULL);
        if (d->leaking || drain_free_chunks(d) < d->view.chunks / 8)
            drain_sweep(d, membarrier_all, NULL);
        tell_calls(w, a);
        if (!is_used(w, a))
            drop_place(w, i, true);
    }
}

/* --- questions of the pipeline --- */

static void answer(struct watch *w, const struct question *q)
{
    struct fact f = new_fact(q->address ? FACT_ADDRESS : FACT_DESCRIPTOR);
    struct process *p = by_number(w, q->process);
    f.pid = p ? p->pid : 0;
    f.connection = q->connection;
    f.is_known = q->of.known;
    f.is_stream = q->of.stream;
    f.local_length = q->of.local_length;
    f.remote_length = q->of.remote_length;
    memcpy(f.local, q->of.local, sizeof f.local);
    memcpy(f.remote, q->of.remote, sizeof f.remote);
    struct item item = {.process = q->process, .time_ns = w->now};
    order_fact(w->order, &item, &f);
}

static void ask(struct watch *w, uint32_t process, int32_t descriptor, uint64_t connection,
                bool address)
{
    struct question q = {.process = process, .connection = connection, .address = address};
    const struct process *p = by_number(w, process);
    int rc = p && p->stage == ALIVE ? sockets_inode(p->host_pid, descriptor, &q.of.inode) : -ESRCH;
    if (!rc && w->questions < QUESTIONS) {
        q.pid = p->host_pid;
        w->question[w->questions++] = q;
        return;
    }
    q.of.known = rc == -ENOTSOCK;
    answer(w, &q);
}

static void ask_address(void *to, uint32_t process, int32_t descriptor, uint64_t connection)
{
    ask(to, process, descriptor, connection, true);
}

static void ask_descriptor(void *to, uint32_t process, int32_t descriptor, uint64_t connection)
{
    ask(to, process, descriptor, connection, false);
}

static void set_plan(void *to, uint64_t connection, uint32_t plan)
{
    struct watch *w = to;
    uint64_t bare;
    struct drain *d = order_arena_of(w->order, connection, &bare);
    if (d)
        arena_plan_set(&d->view, bare, (enum plan)plan);
}

/* Reads the tables for questions of one process; a twentieth of the time at most goes there. */
static void answer_questions(struct watch *w)
{
    struct socket_question batch[AT_ONCE];
    uint32_t taken[AT_ONCE], n = 0;
    uint64_t before = clock_monotonic_ns();
    if (!w->questions || before < w->tables_after)
        return;
    pid_t pid = w->question[0].pid;
    for (uint32_t i = 0; i < w->questions && n < AT_ONCE; i++)
        if (w->question[i].pid == pid) {
            batch[n] = w->question[i].of;
            taken[n++] = i;
        }
    sockets_look_up(pid, batch, n);
    for (uint32_t i = 0; i < n; i++) {
        w->question[taken[i]].of = batch[i];
        answer(w, &w->question[taken[i]]);
    }
    while (n)
        w->question[taken[--n]] = w->question[--w->questions];
    uint64_t after = clock_monotonic_ns();
    w->tables_after = after + 20 * (after - before);
}

struct feedback watch_feedback(struct watch *w)
{
    return (struct feedback){set_plan, ask_address, ask_descriptor, w};
}

/* --- what others tell --- */

static void tell_status(struct watch *w, int32_t pid, int exit_code, int signal, uint64_t time_ns,
                        enum fact_kind kind)
{
    struct fact f = new_fact(kind);
    struct item item = {.process = number_of_pid(w, pid, time_ns), .time_ns = time_ns};
    f.pid = pid;
    f.exit_code = exit_code;
    f.signal = signal;
    order_fact(w->order, &item, &f);
    for (uint32_t i = 0; i < w->count; i++)
        if (w->process[i]->stage == UNPROVEN && w->process[i]->number == item.process)
            bury(w, w->process[i],
                 false); /* who was reaped is dead, whatever its number means here */
}

static void hook_reaped(void *to, const struct item *item, int32_t pid, int32_t status)
{
    if (WIFEXITED(status))
        tell_status(to, pid, WEXITSTATUS(status), -1, item->time_ns, FACT_REAPED);
    else if (WIFSIGNALED(status))
        tell_status(to, pid, -1, WTERMSIG(status), item->time_ns, FACT_REAPED);
}

void watch_command_end(struct watch *w, pid_t pid, int exit_code, int signal, uint64_t cpu_ns)
{
    for (uint32_t i = 0; i < w->count; i++) {
        struct process *p = w->process[i];
        if (p->pid == pid && !p->replaced && cpu_ns > p->cpu_before + p->cpu_ns)
            p->cpu_ns = cpu_ns - p->cpu_before;
    }
    uint64_t now = w->now ? w->now : UINT64_MAX;
    tell_status(w, pid, exit_code, signal, now, FACT_REAPED);
    tell_status(w, pid, exit_code, signal, now, FACT_COMMAND_END);
}

void watch_resume_process(struct watch *w, uint32_t number, int32_t pid, const struct totals *total,
                          uint64_t cpu_ns)
{
    if (by_number(w, number))
        return;
    struct fact f = new_fact(FACT_PROCESS_END);
    struct item item = {.process = number, .time_ns = w->now};
    f.pid = pid;
    f.total = *total;
    f.cpu_ns = cpu_ns;
    order_fact(w->order, &item, &f);
}

/* --- life --- */

struct watch *watch_new(uint64_t watermark_ns, watch_say_fn say, void *to)
{
    struct watch *w = calloc(1, sizeof *w);
    if (!w)
        return NULL;
    struct order_hooks hooks = {hook_lane_begin, NULL, hook_reaped, w};
    w->order = order_new(watermark_ns, &hooks);
    w->tids = calloc(TIDS, sizeof *w->tids);
    w->epoll = epoll_create1(EPOLL_CLOEXEC);
    w->inotify = -1;
    w->directory = "/dev/shm";
    w->elsewhere = true;
    w->say = say;
    w->say_to = to;
    if (!w->order || !w->tids || w->epoll < 0) {
        watch_free(w);
        return NULL;
    }
    return w;
}

void watch_free(struct watch *w)
{
    if (!w)
        return;
    for (uint32_t i = 0; i < w->count; i++) {
        if (w->process[i]->pidfd >= 0)
            close(w->process[i]->pidfd);
        free(w->process[i]);
    }
    for (int i = ORDER_ARENAS; i--;)
        if (w->place[i])
            drop_place(w, i, false);
    order_free(w->order);
    if (w->epoll >= 0)
        close(w->epoll);
    if (w->inotify >= 0)
        close(w->inotify);
    free(w->process);
    free(w->tids);
    free(w);
}

struct order *watch_order(struct watch *w)
{
    return w->order;
}

void watch_place(struct watch *w, const char *directory)
{
    w->directory = directory;
    w->elsewhere = false;
}

bool watch_takes_over(const struct watch *w)
{
    return w->takes_over;
}

uint32_t watch_live(const struct watch *w)
{
    return w->count;
}

static void set_now(struct watch *w, const struct instant *now)
{
    const struct arena *a = w->place[0]->adopted.view.arena;
    uint64_t t = a->anchor_realtime_ns - a->anchor_monotonic_ns + now->monotonic_ns;
    if (t > w->now)
        w->now = t;
}

int watch_open(struct watch *w, int fd, const struct instant *now)
{
    struct adopted main = {.folder = -1};
    int rc = arena_open(fd, &main.view);
    if (rc)
        return rc;
    w->takes_over = load_relaxed(&main.view.arena->collector_pid) != 0;
    struct stat file;
    if (!fstat(fd, &file)) {
        main.device = file.st_dev;
        main.inode = file.st_ino;
    }
    if (!add_place(w, &main)) {
        arena_detach(&main.view);
        return -ENOMEM;
    }
    memcpy(w->token, main.view.arena->token, sizeof w->token - 1);
    adopt_guard();
    set_now(w, now);
    if (w->directory) {
        w->inotify = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
        if (w->inotify >= 0)
            inotify_add_watch(w->inotify, w->directory, IN_CREATE | IN_MOVED_TO);
    }
    scan_slots(w, w->place[0]);
    if (w->directory) {
        adopt_arenas(w);
        look_elsewhere(w);
    }
    if (w->takes_over)
        for (int i = 0; i < ORDER_ARENAS; i++)
            if (w->place[i])
                order_arena(w->order, w->place[i]->order)->leaking = true;
    w->swept = w->silent = w->now;
    return 0;
}

/* --- rounds --- */

static void take_deaths(struct watch *w)
{
    struct epoll_event events[64];
    int n;
    do {
        n = epoll_wait(w->epoll, events, 64, 0);
        for (int i = 0; i < n; i++) {
            struct process *p = events[i].data.u32 ? by_number(w, events[i].data.u32) : NULL;
            if (p)
                bury(w, p, false);
        }
    } while (n == 64);
}

static void prove_all(struct watch *w)
{
    int others = -1; /* asked once, and only when somebody was not found */
    for (uint32_t i = 0; i < w->count; i++) {
        struct process *p = w->process[i];
        if (p->stage == UNPROVEN) {
            others = others < 0 ? procfs_others() : others;
            prove(w, p, others);
        }
        if (p->stage == ALIVE && p->pidfd < 0 &&
            procfs_thread_is_gone(p->host_pid, p->host_pid))
            bury(w, p, false);
    }
}

static void sweep(struct watch *w)
{
    w->swept = w->now;
    prove_all(w);
    sweep_threads(w);
    tend_arenas(w);
    for (uint32_t i = 0; i < w->count; i++)
        if (w->process[i]->stage != DEAD)
            tell_totals(w, w->process[i]);
}

static bool has_few_lanes(const struct drain *d)
{
    return d->live > d->view.lanes / 2;
}

static bool has_few_chunks(const struct drain *d)
{
    return drain_free_chunks(d) < d->view.chunks / 2;
}

static bool is_crowded(const struct watch *w)
{
    for (int i = 0; i < ORDER_ARENAS; i++)
        if (w->place[i]) {
            const struct drain *d = order_arena(w->order, w->place[i]->order);
            if (has_few_lanes(d) || has_few_chunks(d))
                return true;
        }
    return false;
}

/*
 * A server that starts a thread for each connection leaves thousands of dead lanes a second, each
 * with its chunk: they come back long before the sweep of the second. Lanes of threads that live
 * but are silent give their chunks too. Threads that are simply many are looked at ever more
 * rarely.
 */
static void make_room(struct watch *w)
{
    if (w->now < w->crowded_after)
        return;
    if (!is_crowded(w)) {
        w->crowded_every = CROWDED_FIRST_NS;
        return;
    }
    uint64_t before = clock_monotonic_ns();
    bool found = sweep_threads(w) > 0;
    for (int i = 0; i < ORDER_ARENAS && !found; i++)
        if (w->place[i]) {
            struct drain *d = order_arena(w->order, w->place[i]->order);
            if (has_few_chunks(d))
                found |= drain_recall(d, w->now, IDLE_NS, membarrier_all, NULL) > 0;
        }
    w->crowded_every = found ? CROWDED_FIRST_NS : 2 * w->crowded_every;
    if (w->crowded_every > NS_PER_S)
        w->crowded_every = NS_PER_S;
    uint64_t pause = CROWDED_SHARE * (clock_monotonic_ns() - before);
    w->crowded_after = w->now + (pause > w->crowded_every ? pause : w->crowded_every);
}

void watch_turn(struct watch *w, const struct instant *now, bool closing)
{
    set_now(w, now);
    w->closing = closing;
    look_for_arenas(w);
    pass_on_switch(w);
    for (int i = 0; i < ORDER_ARENAS; i++)
        if (w->place[i])
            scan_slots(w, w->place[i]);
    take_deaths(w);
    if (closing)
        prove_all(w);
    end_processes(w);
    make_room(w);
    if (w->now >= w->silent + SILENT_EVERY_NS) {
        w->silent = w->now;
        order_silent_threads(w->order);
    }
    if (w->now >= w->swept + NS_PER_S)
        sweep(w);
    answer_questions(w);
}

bool watch_wait(struct watch *w, int input, int ms)
{
    struct epoll_event e = {.events = EPOLLIN, .data.u32 = 0};
    if (input >= 0 && epoll_ctl(w->epoll, EPOLL_CTL_ADD, input, &e) && errno == EPERM)
        input = -1; /* a file is always readable: no news by it */
    struct epoll_event events[64];
    int n = epoll_wait(w->epoll, events, 64, ms);
    bool readable = false;
    for (int i = 0; i < n; i++)
        readable |= !events[i].data.u32;
    if (input >= 0)
        epoll_ctl(w->epoll, EPOLL_CTL_DEL, input, NULL);
    return readable;
}

bool watch_is_full(const struct watch *w)
{
    for (int i = 0; i < ORDER_ARENAS; i++)
        if (w->place[i]) {
            const struct drain *d = order_arena(w->order, w->place[i]->order);
            if (drain_free_chunks(d) < d->view.chunks - d->view.chunks / 4)
                return true;
        }
    return false;
}

void watch_finish(struct watch *w)
{
    for (uint32_t i = 0; i < w->count; i++)
        tell_totals(w, w->process[i]);
    for (int i = 0; i < ORDER_ARENAS; i++)
        if (w->place[i] && !is_used(w, w->place[i]))
            drop_place(w, i, true); /* nobody comes by later to remove its file */
}
