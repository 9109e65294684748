/*
 * lifecycle.c - attaches the process to the arena, gives threads their lanes, begins anew after fork.
 *
 * In:      lane_slow() from any wrapper; the constructor.
 * Out:     wire/arena.c; descriptor.c at the start.
 * Owns:    `shim`, the epoch page, the process's slot.
 * Context: S, the attachment itself I.
 * Sharing: attaching is claimed by CAS, others go on unwatched meanwhile; in a child the epoch word is the claim.
 * Failure: pass-through for good, told to nobody but the arena's counters.
 *
 * The first wrapped call with an environment attaches, whichever it is: constructors of libraries run before ours. A
 * child of fork finds zero on the epoch page (MADV_WIPEONFORK: also for _Fork and raw clone, rightly not for vfork),
 * keeps the mapping, takes a slot of its own, and does so without a system call: it may live under a strict seccomp
 * filter. Descriptors opened here are closed here.
 */
#define _GNU_SOURCE
#include "shim/lifecycle.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "shim/cpu.h"
#include "shim/descriptor.h"
#include "shim/program.h"
#include "shim/real.h"
#include "shim/sampled.h"
#include "shim/stack.h"
#include "shim/stall.h"
#include "shim/usage.h"
#include "wire/raw.h"

#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18
#endif

enum { NOT_YET, ATTACHING, ATTACHED, NEVER };
#define EPOCH_CLAIMED 1u /* somebody in this child is attaching; epochs begin above */

static uint32_t state;
static struct {
    int32_t pid;
    uint32_t uid;
    char token[32];
    struct program program;
    bool has_settings; /* of the run, for an arena of our own */
    uint32_t features;
    uint64_t sample_bytes, lock_sample_ns, supervisor_namespace;
} own; /* of this process, and in a child until it attaches: of its parent */

struct shim_state shim;

/* --- small things ----------------------------------------------------------------------------------------------- */

static int32_t stale_tid; /* in a child of raw clone: what libc takes for its tid */

/* A mutex that we lock notes our tid: no system call. Where libc does not, or knows it wrong, ask the kernel. */
static int32_t thread_id(void)
{
#if defined(__GLIBC__)
    pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    real.pthread_mutex_lock(&mutex);
    int32_t tid = mutex.__data.__owner;
    pthread_mutex_unlock(&mutex);
    if (tid > 0 && tid != stale_tid)
        return tid;
#endif
    return (int32_t)raw0(SYS_gettid);
}

static uint64_t boot_ns(void)
{
    struct timespec t = {0, 0};
    int error = errno;
    if (clock_gettime(CLOCK_BOOTTIME, &t))
        errno = error;
    return (uint64_t)t.tv_sec * UINT64_C(1000000000) + (uint64_t)t.tv_nsec;
}

static const char *environment(const char *name)
{
    size_t n = strlen(name);
    for (char **e = environ; e && *e; e++)
        if (!strncmp(*e, name, n) && (*e)[n] == '=')
            return *e + n + 1;
    return NULL;
}

static void raise_high(uint32_t *high, uint32_t to)
{
    uint32_t old = load_relaxed(high);
    while (old < to && !cas_acq_rel(high, &old, to))
        ;
}

static char *put_text(char *to, const char *text)
{
    while (*text)
        *to++ = *text++;
    return to;
}

static char *put_number(char *to, uint64_t n)
{
    char digits[20];
    int i = 0;
    do
        digits[i++] = (char)('0' + n % 10);
    while (n /= 10);
    while (i)
        *to++ = digits[--i];
    return to;
}

/* --- which arena ------------------------------------------------------------------------------------------------ */

/* Digits → number; moves on. */
static uint64_t take_number(const char **at)
{
    uint64_t n = 0;
    for (int i = 0; **at >= '0' && **at <= '9' && i < 19; i++)
        n = n * 10 + (uint64_t)(*(*at)++ - '0');
    return n;
}

static bool take_colon(const char **at)
{
    return **at == ':' && (*at)++;
}

/* "<pid>:<fd>:<token>[:<features>[:<sample bytes>[:<lock sample ns>[:<pid namespace>]]]]" → the path of the supervisor's descriptor; keeps the rest. */
static bool parse_place(const char *at, char path[64])
{
    char *to = put_number(put_text(path, "/proc/"), take_number(&at));
    if (!take_colon(&at))
        return false;
    *put_number(put_text(to, "/fd/"), take_number(&at)) = 0;
    if (!take_colon(&at))
        return false;
    size_t n = 0;
    for (; *at && *at != ':' && *at != '/' && n + 1 < sizeof own.token; n++)
        own.token[n] = *at++;
    own.token[n] = 0;
    own.has_settings = take_colon(&at);
    own.features = (uint32_t)take_number(&at);
    own.sample_bytes = take_colon(&at) ? take_number(&at) : 0;
    own.lock_sample_ns = take_colon(&at) ? take_number(&at) : 0;
    own.supervisor_namespace = take_colon(&at) ? take_number(&at) : 0;
    return n > 0;
}

static bool is_off(void)
{
    const char *off = environment(SONDE_ENV_OFF);
    return off && off[0] == '1' && !off[1];
}

static bool same_run(const struct arena_view *v)
{
    return !strncmp(v->arena->token, own.token, sizeof own.token);
}

/* 0, or -errno; the descriptor is closed either way. */
static int open_and_check(long fd)
{
    int error = arena_open((int)fd, &shim.view);
    if (error == -EPROTONOSUPPORT)
        arena_refuse((int)fd);
    raw1(SYS_close, fd);
    if (!error && !same_run(&shim.view)) {
        arena_detach(&shim.view);
        return -ENOENT;
    }
    return error;
}

static void fallback_path(char path[128], uint32_t uid, int32_t pid)
{
    char *to = put_text(put_text(path, "/dev/shm/sonde."), own.token);
    to = put_number(put_text(to, "."), uid);
    *put_number(put_text(to, "."), (uint64_t)pid) = 0;
}

/* An arena that our parent, or an earlier image of this process, made for the same user. */
static int open_fallback(const char *path, uint32_t uid)
{
    long fd = raw4(SYS_openat, AT_FDCWD, (long)path, O_RDWR | O_CLOEXEC | O_NOFOLLOW, 0);
    if (fd < 0)
        return (int)fd;
    struct stat s = {.st_mode = 0};
    if (raw2(SYS_fstat, fd, (long)&s) || !S_ISREG(s.st_mode) || s.st_uid != uid || s.st_mode & 077) {
        raw1(SYS_close, fd);
        return -EACCES;
    }
    return open_and_check(fd);
}

static int make_fallback(const char *path, uint32_t uid)
{
    if (!arena_may_be(ARENA_MIN_BYTES))
        return -EFBIG;
    long fd = raw4(SYS_openat, AT_FDCWD, (long)path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return (int)fd;
    /* all of it now: a page that is missing later would be SIGBUS */
    int error = (int)raw4(SYS_fallocate, fd, 0, 0, (long)ARENA_MIN_BYTES);
    long at = error ? error
                    : raw6(SYS_mmap, 0, (long)ARENA_MIN_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (!raw_failed(at)) {
        raw3(SYS_madvise, at, (long)ARENA_MIN_BYTES, MADV_DONTDUMP);
        void *mapping = (void *)at; // NOLINT(performance-no-int-to-ptr): an address from the kernel
        struct arena *a = mapping;
        a->clock = clock_choose();
        a->uid = uid;
        clock_anchor(a);
        error = arena_format(mapping, ARENA_MIN_BYTES, own.token, &shim.view);
    } else
        error = (int)at;
    if (error)
        raw3(SYS_unlinkat, AT_FDCWD, (long)path, 0);
    else if (own.has_settings) {
        shim.view.arena->features = own.features;
        shim.view.arena->sample_bytes = own.sample_bytes;
        shim.view.arena->lock_sample_ns = own.lock_sample_ns;
    }
    raw1(SYS_close, fd);
    return error;
}

/* The run's arena is another user's: one of our own, shared with what our parent made. */
static int attach_fallback(void)
{
    char path[128];
    uint32_t uid = (uint32_t)raw0(SYS_geteuid);
    fallback_path(path, uid, (int32_t)raw0(SYS_getppid));
    if (!open_fallback(path, uid))
        return 0;
    fallback_path(path, uid, own.pid);
    int error = open_fallback(path, uid);
    return error == -ENOENT ? make_fallback(path, uid) : error;
}

/* There the supervisor's pid is nobody's, or somebody else's. */
static bool is_in_other_namespace(void)
{
    struct stat s;
    return own.supervisor_namespace && !raw4(SYS_newfstatat, AT_FDCWD, (long)"/proc/self/ns/pid", (long)&s, 0) &&
           s.st_ino != own.supervisor_namespace; // NOLINT(clang-analyzer-core.UndefinedBinaryOperatorResult): written by the kernel
}

static int attach_arena(const char *place)
{
    char path[64];
    if (!parse_place(place, path))
        return -EINVAL;
    long fd = raw4(SYS_openat, AT_FDCWD, (long)path, O_RDWR | O_CLOEXEC, 0);
    if (fd == -EACCES || fd == -EPERM)
        return attach_fallback();
    int error = fd < 0 ? (int)fd : open_and_check(fd);
    return error && error != -EPROTONOSUPPORT && is_in_other_namespace() ? attach_fallback() : error;
}

/* --- the process ------------------------------------------------------------------------------------------------ */

/* Takes a slot and fills it. 0: none left, counted. Returns its serial. */
static uint32_t take_slot(int32_t parent, uint32_t parent_serial, uint32_t flags)
{
    struct arena *a = shim.view.arena;
    int32_t index = arena_pop_process(&shim.view);
    if (index < 0) {
        fetch_add_relaxed(&a->s_refused, 1);
        return 0;
    }
    raise_high(&a->s_processes_high, (uint32_t)index + 1);
    struct process_slot *p = &shim.view.process[index];
    memset(p, 0, sizeof *p);
    uint32_t serial;
    do
        serial = __atomic_add_fetch(&a->s_process_serial, 1, __ATOMIC_RELAXED);
    while (!serial);
    p->pid = own.pid;
    p->parent = parent;
    p->uid = own.uid;
    p->serial = serial;
    p->flags = flags | (shim.clock ? 0 : (uint32_t)PROCESS_NO_CLOCK) |
               (cpu_is_missing() ? (uint32_t)PROCESS_NO_CPU : 0);
    p->start = ticks_now();
    p->parent_serial = parent_serial;
    p->start_boot = boot_ns();
    memcpy(p->executable, own.program.executable, sizeof p->executable);
    memcpy(p->name, own.program.name, sizeof p->name);
    shim.process = (uint32_t)index;
    shim.serial = serial;
    store_release(&p->state, (uint32_t)PROCESS_LIVE);
    return serial;
}

static bool make_epoch_page(void)
{
    long at = raw6(SYS_mmap, 0, SAMPLED_END, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (raw_failed(at))
        return false;
    if (raw3(SYS_madvise, at, SAMPLED_END, MADV_WIPEONFORK)) {
        raw2(SYS_munmap, at, SAMPLED_END);
        return false;
    }
    shim.epoch = (uint64_t *)at; // NOLINT(performance-no-int-to-ptr): an address from the kernel
    return true;
}

/* prctl(PR_SET_TSC) is inherited: rdtsc would be SIGSEGV here. */
static bool may_read_tsc(void)
{
#if defined(__x86_64__)
    int mode = PR_TSC_ENABLE;
    return raw2(SYS_prctl, PR_GET_TSC, (long)&mode) != 0 || mode == PR_TSC_ENABLE;
#else
    return true;
#endif
}

static bool attach_process(const char *place)
{
    own.pid = (int32_t)raw0(SYS_getpid);
    own.uid = (uint32_t)raw0(SYS_getuid);
    if (attach_arena(place))
        return false;
    program_look(&own.program);
    struct arena *a = shim.view.arena;
    shim.clock = a->clock == CLOCK_KIND_TSC && !may_read_tsc() ? 0 : a->clock;
    shim.stale_ticks = a->ticks_per_second;
    cpu_attach(a->features);
    stall_attach();
    uint32_t serial = make_epoch_page() ? take_slot((int32_t)raw0(SYS_getppid), 0, 0) : 0;
    if (!serial) {
        arena_detach(&shim.view);
        return false;
    }
    descriptor_init();
    store_release(shim.epoch, (uint64_t)serial + EPOCH_CLAIMED);
    return true;
}

static bool attach_from(uint32_t now, const char *place)
{
    if (!cas_acq_rel(&state, &now, ATTACHING))
        return false;
    bool done = place && !is_off() && attach_process(place);
    __atomic_store_n(&shim.attached, done, __ATOMIC_RELEASE);
    store_release(&state, (uint32_t)(done ? ATTACHED : NEVER));
    usage_attached(done ? &shim.view.process[shim.process] : NULL);
    return done;
}

static bool attach_first(void)
{
    return environ && attach_from(NOT_YET, environment(SONDE_ENV_ARENA));
}

bool lifecycle_attach(const char *place)
{
    return shim.attached || attach_from(load_relaxed(&state), place);
}

/* In a child of fork: the mapping is there, the rest is new. No system call, see the top. */
static bool attach_child(void)
{
    uint64_t none = 0;
    if (!cas_acq_rel(shim.epoch, &none, EPOCH_CLAIMED))
        return false;
    int32_t parent = own.pid, tid = thread_id();
    if (tid == parent || (self.lane && self.lane->tid == tid)) { /* raw clone left the parent's in libc's memory */
        stale_tid = tid;
        tid = (int32_t)raw0(SYS_getpid);
    }
    own.pid = tid;
    uint32_t serial = take_slot(parent, shim.serial, PROCESS_FORKED);
    if (!serial)
        return false; /* the claim stays: forward only */
    usage_attached(&shim.view.process[shim.process]);
    stack_attached(&shim.view.process[shim.process]);
    store_release(shim.epoch, (uint64_t)serial + EPOCH_CLAIMED);
    return true;
}

/* --- threads ---------------------------------------------------------------------------------------------------- */

static void first_thread_name(struct lane *l)
{
    const char *name = own.program.name[0] ? own.program.name : own.program.executable;
    for (const char *c = name; *c; c++)
        if (*c == '/')
            name = c + 1;
    for (size_t i = 0; i + 1 < sizeof l->name && name[i]; i++)
        l->name[i] = name[i];
}

static struct lane *take_lane(void)
{
    struct arena *a = shim.view.arena;
    int32_t index = arena_pop_lane(&shim.view);
    if (index < 0)
        return NULL;
    raise_high(&a->s_lanes_high, (uint32_t)index + 1);
    struct lane *l = &shim.view.lane[index];
    memset(l, 0, sizeof *l);
    l->process = shim.process;
    l->process_serial = shim.serial;
    l->tid = thread_id();
    if (l->tid == own.pid)
        first_thread_name(l);
    do
        l->serial = __atomic_add_fetch(&a->s_lane_serial, 1, __ATOMIC_RELAXED);
    while (!l->serial);
    l->start = ticks_now();
    return l;
}

static struct lane *claim(void)
{
    struct lane *l = take_lane(), *none = NULL;
    if (!l)
        return NULL;
    store_release(&l->state, (uint32_t)LANE_LIVE);
    /* a signal handler may have claimed one meanwhile: then that is ours */
    if (cas_acq_rel(&self.lane, &none, l)) {
        self.last_allocated = self.last_freed = self.last_allocations = self.last_waits = self.turn_waits = 0;
        self.sample_at = 0;
        if (self.jemalloc_allocated) {
            self.jemalloc_allocated_base = *self.jemalloc_allocated;
            self.jemalloc_freed_base = *self.jemalloc_freed;
        }
        return l;
    }
    store_release(&l->state, (uint32_t)LANE_FREE);
    arena_push_lane(&shim.view, (uint32_t)(l - shim.view.lane));
    return self.lane;
}

struct lane *lane_slow(void)
{
    if (self.in_vfork || load_relaxed(&state) == NEVER)
        return NULL;
    if (!shim.attached && !attach_first())
        return NULL;
    if (load_acquire(shim.epoch) <= EPOCH_CLAIMED && !attach_child())
        return NULL;
    uint64_t epoch = load_acquire(shim.epoch);
    if (self.epoch != epoch) {
        self.lane = NULL; /* our parent's */
        self.id_serial = self.connections = self.wait_return = 0;
        self.cpu = CPU_UNREAD;
        self.epoch = epoch;
    }
    return self.lane ? self.lane : claim();
}

/* --- what others tell ------------------------------------------------------------------------------------------- */

void lifecycle_flag(uint32_t flags)
{
    if (shim.attached)
        __atomic_fetch_or(&shim.view.process[shim.process].flags, flags, __ATOMIC_RELAXED);
}

bool lifecycle_no_clock(void)
{
    if (shim.clock != CLOCK_KIND_TSC)
        return false;
    shim.clock = 0;
    stall_clock_changed();
    lifecycle_flag(PROCESS_NO_CLOCK);
    return true;
}

void lifecycle_clock_back(void)
{
    if (!shim.attached)
        return;
    shim.clock = CLOCK_KIND_TSC;
    stall_clock_changed();
    __atomic_fetch_and(&shim.view.process[shim.process].flags, ~(uint32_t)PROCESS_NO_CLOCK, __ATOMIC_RELAXED);
}

void lifecycle_settle(void)
{
    if (lane_here())
        descriptor_settle();
    shim.shut = true;
}

int32_t lifecycle_pid(void)
{
    return shim.attached ? own.pid : 0;
}

__attribute__((constructor)) static void begin(void)
{
    real_resolve();
    lane_here();
    stack_start();
}
