/*
 * process.c - records of processes, from facts to rows.
 *
 * In:      rollup.c        Out: sink/queue.h
 * Owns:    records, executables, the names of services.
 * Context: C
 * Failure: no memory: the process stays unknown, its spans count for the first service.
 *
 * A record is live, then ended, in the order of ends; the oldest of more than 1000 is added to its
 * executable's sum. The first one so added *is* the sum from then on and keeps its number; of the
 * others a row with merged = 0 tells the sink to forget what it has, unless none was ever sent.
 */
#include "collector/process.h"

#include <stdlib.h>
#include <string.h>
#include "collector/sink/queue.h"
#include "wire/arena.h"

#define BUCKETS 4096u
#define EXECUTABLES_MAX 256
#define SEEN 256u /* direct-mapped by number */
#define SUMMED 4096u /* the same: summed processes whose last spans may still come */

struct executable {
    char path[256], name[256]; /* name: as it was started; one file may have several */
    uint32_t service;
    bool commands; /* --name is the name of its path */
    struct process *sum; /* of the ended ones that are not kept */
};

struct process {
    struct process *chain, *pid_chain; /* in its buckets */
    struct process *older, *newer;     /* while ended and kept */
    struct process *next_changed;
    uint32_t number, executable, merged, flags;
    int32_t pid, parent, exit_code, signal;
    uint64_t start_ns, end_ns;
    uint64_t allocated, freed, allocations, cpu_ns;
    bool ended, replaced, heap_tail_unknown;
    bool changed, sent, gone; /* gone: summed elsewhere, to be forgotten by the sink */
};

struct processes {
    struct process *bucket[BUCKETS], *by_pid[BUCKETS];
    struct {
        uint32_t number; /* 0: none */
        struct process_view view;
    } seen[SEEN];
    struct {
        uint32_t number, executable;
        int32_t pid;
    } summed[SUMMED];
    struct process *changed, **last_changed; /* in the order of change */
    struct process *oldest, *newest;
    size_t ended;
    struct executable *executable[EXECUTABLES_MAX];
    uint32_t executables;
    char *service[SERVICES_MAX];
    uint32_t services;
    bool command_named;
    int32_t command_pid; /* 0: no process seen yet */
};

/* ---- names ---- */

static const char *basename_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash && slash[1] ? slash + 1 : path;
}

static uint32_t service_number(struct processes *p, const char *name)
{
    uint32_t i =
        p->command_named ? 0 : 1; /* --name and a basename that happens to be equal are the same */
    for (; i < p->services; i++)
        if (!strcmp(p->service[i], name))
            return i;
    if (p->services == SERVICES_MAX - 1)
        name = "{other}";
    else if (p->services == SERVICES_MAX)
        return SERVICES_MAX - 1;
    char *copy = strdup(name);
    if (!copy)
        return 0;
    p->service[p->services] = copy;
    return p->services++;
}

static void printable(const char *from, char *to, size_t room)
{
    size_t n = 0;
    for (; from[n] && n + 1 < room; n++)
        to[n] = (unsigned char)from[n] < ' ' || from[n] == 0x7f ? '?' : from[n];
    to[n] = 0;
}

static bool is_commands(const struct processes *p, const char *path)
{
    for (uint32_t i = 0; i < p->executables; i++)
        if (p->executable[i]->commands && !strcmp(p->executable[i]->path, path))
            return true;
    return false;
}

static void name_path(struct processes *p, const char *path)
{
    for (uint32_t i = 0; i < p->executables; i++)
        if (!strcmp(p->executable[i]->path, path)) {
            p->executable[i]->commands = true;
            p->executable[i]->service = 0;
        }
}

static uint32_t executable_number(struct processes *p, const char *path, const char *name)
{
    struct executable *e = calloc(1, sizeof *e);
    if (!e)
        return 0;
    printable(path[0] ? path : "unknown", e->path, sizeof e->path);
    printable(name[0] ? name : basename_of(e->path), e->name, sizeof e->name);
    for (uint32_t i = 0; i < p->executables; i++)
        if (!strcmp(p->executable[i]->path, e->path) && !strcmp(p->executable[i]->name, e->name)) {
            free(e);
            return i;
        }
    if (p->executables == EXECUTABLES_MAX) {
        free(e);
        return EXECUTABLES_MAX - 1;
    }
    if (p->executables == EXECUTABLES_MAX - 1)
        strcpy(e->name, strcpy(e->path, "{other}"));
    e->commands = is_commands(p, e->path);
    e->service = e->commands ? 0 : service_number(p, e->name);
    p->executable[p->executables] = e;
    return p->executables++;
}

/* ---- records ---- */

static struct process *find(const struct processes *p, uint32_t number)
{
    struct process *at = p->bucket[number % BUCKETS];
    while (at && at->number != number)
        at = at->chain;
    return at;
}

static void change(struct processes *p, struct process *at)
{
    if (at->changed)
        return;
    at->changed = true;
    at->next_changed = NULL;
    *p->last_changed = at;
    p->last_changed = &at->next_changed;
}

static struct process *add(struct processes *p, uint32_t number, int32_t pid,
                           const char *executable, const char *name)
{
    struct process *at = calloc(1, sizeof *at);
    if (!at)
        return NULL;
    at->number = number;
    at->merged = 1;
    at->exit_code = at->signal = -1;
    at->executable = executable_number(p, executable, name);
    at->pid = pid;
    at->chain = p->bucket[number % BUCKETS];
    p->bucket[number % BUCKETS] = at;
    at->pid_chain = p->by_pid[(uint32_t)pid % BUCKETS];
    p->by_pid[(uint32_t)pid % BUCKETS] = at;
    return at;
}

static void unchain(struct processes *p, struct process *gone)
{
    struct process **at = &p->bucket[gone->number % BUCKETS];
    while (*at != gone)
        at = &(*at)->chain;
    *at = gone->chain;
    at = &p->by_pid[(uint32_t)gone->pid % BUCKETS];
    while (*at != gone)
        at = &(*at)->pid_chain;
    *at = gone->pid_chain;
    if (p->seen[gone->number % SEEN].number == gone->number)
        p->seen[gone->number % SEEN].number = 0;
}

/* ---- ended ones ---- */

static void link_ended(struct processes *p, struct process *at)
{
    at->older = p->newest;
    if (p->newest)
        p->newest->newer = at;
    else
        p->oldest = at;
    p->newest = at;
    p->ended++;
}

static struct process *unlink_oldest(struct processes *p)
{
    struct process *at = p->oldest;
    p->oldest = at->newer;
    if (p->oldest)
        p->oldest->older = NULL;
    else
        p->newest = NULL;
    at->older = at->newer = NULL;
    p->ended--;
    return at;
}

static void sum_up(struct process *into, const struct process *from)
{
    into->merged += from->merged;
    into->allocated += from->allocated;
    into->freed += from->freed;
    into->allocations += from->allocations;
    into->cpu_ns += from->cpu_ns;
    into->heap_tail_unknown |= from->heap_tail_unknown;
    into->flags |= from->flags;
    into->exit_code = into->signal = -1;
    if (from->start_ns < into->start_ns)
        into->start_ns = from->start_ns;
    if (from->end_ns > into->end_ns)
        into->end_ns = from->end_ns;
}

static void retire_oldest(struct processes *p)
{
    struct process *at = unlink_oldest(p);
    struct executable *e = p->executable[at->executable];
    if (!e->sum) {
        e->sum = at;
        return;
    }
    sum_up(e->sum, at);
    p->summed[at->number % SUMMED].number = at->number;
    p->summed[at->number % SUMMED].executable = at->executable;
    p->summed[at->number % SUMMED].pid = at->pid;
    change(p, e->sum);
    unchain(p, at);
    at->gone = true;
    if (at->sent || at->changed)
        change(p, at); /* freed once the sink was told */
    else
        free(at);
}

/* ---- facts ---- */

/* CMD's own pid names what it runs, also what it becomes by exec; children before their exec run
 * the same. */
static void name_service(struct processes *p, const struct process *at)
{
    if (!p->command_pid)
        p->command_pid = at->pid;
    if (p->command_named && at->pid == p->command_pid)
        name_path(p, p->executable[at->executable]->path);
    memset(p->seen, 0, sizeof p->seen); /* others of this executable have another service now */
}

static void began(struct processes *p, const struct item *item)
{
    const struct fact *f = item->fact;
    struct process *at = find(p, item->process);
    if (!at)
        at = add(p, item->process, f->pid, f->executable, f->name);
    if (!at)
        return;
    at->parent = f->parent;
    at->flags = f->flags & ~(uint32_t)PROCESS_OWES_FREES;
    at->heap_tail_unknown |= f->heap_tail_unknown;
    if (!at->start_ns)
        at->start_ns = item->time_ns;
    name_service(p, at);
    change(p, at);
}

static void take_totals(struct processes *p, struct process *at, const struct fact *f)
{
    uint64_t cpu = f->cpu_ns ? f->cpu_ns : f->total.cpu_ns;
    if (at->allocated == f->total.allocated && at->freed == f->total.freed &&
        at->allocations == f->total.allocations && (!cpu || at->cpu_ns == cpu) &&
        (!f->heap_tail_unknown || at->heap_tail_unknown) && !(f->flags & PROCESS_LOST_FREES & ~at->flags))
        return;
    at->flags |= f->flags & PROCESS_LOST_FREES;
    at->allocated = f->total.allocated;
    at->freed = f->total.freed;
    at->allocations = f->total.allocations;
    at->heap_tail_unknown |= f->heap_tail_unknown;
    if (cpu)
        at->cpu_ns = cpu;
    change(p, at);
}

static void ended(struct processes *p, struct process *at, const struct item *item)
{
    const struct fact *f = item->fact;
    take_totals(p, at, f);
    at->flags |= f->flags & PROCESS_OWES_FREES; /* nobody can tell them any more */
    if (f->exit_code >= 0)
        at->exit_code = f->exit_code;
    if (f->signal >= 0)
        at->signal = f->signal;
    change(p, at);
    if (at->ended)
        return;
    at->ended = true;
    at->replaced = f->replaced;
    at->end_ns = item->time_ns;
    link_ended(p, at);
    while (p->ended > PROCESS_ENDED_KEPT)
        retire_oldest(p);
}

/* The last image under this pid whose status is not known: pids come again, an image that was
 * replaced has none. */
static void told(struct processes *p, const struct fact *f)
{
    struct process *last = NULL;
    for (struct process *at = p->by_pid[(uint32_t)f->pid % BUCKETS]; at; at = at->pid_chain)
        if (at->pid == f->pid && at->merged == 1 && !at->replaced &&
            (!last || at->number > last->number))
            last = at;
    if (!last || last->exit_code >= 0 || last->signal >= 0)
        return;
    last->exit_code = f->exit_code;
    last->signal = f->signal;
    change(p, last);
}

void processes_fact(struct processes *p, const struct item *item)
{
    const struct fact *f = item->fact;
    struct fact own;
    struct process *at = find(p, item->process);
    switch (f->kind) {
    case FACT_PROCESS:
        began(p, item);
        break;
    case FACT_PROCESS_TOTAL:
        if (at && !at->ended)
            take_totals(p, at, f);
        break;
    case FACT_PROCESS_END:
        if (at)
            ended(p, at, item);
        break;
    case FACT_REAPED:
        told(p, f);
        break;
    case FACT_COMMAND_END:
        own = *f;
        own.pid = p->command_pid;
        if (own.pid)
            told(p, &own);
        break;
    default:
        break;
    }
}

/* ---- views ---- */

static struct process_view look(struct processes *p, uint32_t number)
{
    const struct process *at = find(p, number);
    if (!at && number && p->summed[number % SUMMED].number == number)
        return (struct process_view){p->summed[number % SUMMED].pid,
                                     p->executable[p->summed[number % SUMMED].executable]->service};
    if (!at)
        return (struct process_view){0, 0};
    struct process_view view = {at->pid, p->executable[at->executable]->service};
    p->seen[number % SEEN].number = number;
    p->seen[number % SEEN].view = view;
    return view;
}

struct process_view processes_see(struct processes *p, uint32_t number)
{
    if (number && p->seen[number % SEEN].number == number)
        return p->seen[number % SEEN].view;
    return look(p, number);
}

const char *processes_service(const struct processes *p, uint32_t service)
{
    return p->service[service < p->services ? service : 0];
}

/* ---- rows ---- */

static bool push(const struct processes *p, struct queue *q, const struct process *at)
{
    const struct executable *e = p->executable[at->executable];
    const char *service = p->service[e->service];
    size_t path_len = strlen(e->path), service_len = strnlen(service, 255);
    struct row *row = queue_reserve(
        q, ROW_PROCESS, sizeof *row + sizeof(struct row_process) + path_len + service_len);
    if (!row)
        return false;
    struct row_process *r = (void *)(row + 1);
    *r = (struct row_process){
        .process = at->number,
        .pid = at->pid,
        .parent = at->parent,
        .exit_code = at->exit_code,
        .signal = at->signal,
        .merged = at->gone ? 0 : at->merged,
        .ended = at->ended,
        .heap_tail_unknown = at->heap_tail_unknown,
        .start_ns = at->start_ns,
        .end_ns = at->end_ns,
        .allocated = at->allocated,
        .freed = at->freed,
        .allocations = at->allocations,
        .cpu_ns = at->cpu_ns,
        .executable_len = (uint16_t)path_len,
        .service_len = (uint16_t)service_len,
        .flags = at->flags,
    };
    char *tail = (char *)(r + 1);
    memcpy(tail, e->path, path_len);
    memcpy(tail + path_len, service, service_len);
    queue_publish(q, row);
    return true;
}

/* What was summed up before the sink ever heard of it needs no row and no memory. */
static void forget_unsent(struct processes *p)
{
    struct process **at = &p->changed;
    while (*at) {
        struct process *one = *at;
        if (one->gone && !one->sent) {
            *at = one->next_changed;
            free(one);
        } else {
            at = &one->next_changed;
        }
    }
    p->last_changed = at;
}

bool processes_push(struct processes *p, struct queue *q)
{
    forget_unsent(p);
    while (p->changed) {
        struct process *at = p->changed;
        if (!push(p, q, at))
            return false;
        p->changed = at->next_changed;
        if (!p->changed)
            p->last_changed = &p->changed;
        at->changed = false;
        at->sent = true;
        if (at->gone)
            free(at);
    }
    return true;
}

struct processes *processes_new(const char *service_of_command)
{
    struct processes *p = calloc(1, sizeof *p);
    if (!p)
        return NULL;
    p->last_changed = &p->changed;
    p->command_named = service_of_command != NULL;
    p->service[0] = strdup(service_of_command ? service_of_command : "unknown");
    p->services = 1;
    if (!p->service[0]) {
        free(p);
        return NULL;
    }
    return p;
}

void processes_free(struct processes *p)
{
    if (!p)
        return;
    for (struct process *at = p->changed, *next; at; at = next) {
        next = at->next_changed;
        if (at->gone)
            free(at);
    }
    for (uint32_t i = 0; i < BUCKETS; i++)
        for (struct process *at = p->bucket[i], *next; at; at = next) {
            next = at->chain;
            free(at);
        }
    for (uint32_t i = 0; i < p->executables; i++)
        free(p->executable[i]);
    for (uint32_t i = 0; i < p->services; i++)
        free(p->service[i]);
    free(p);
}
