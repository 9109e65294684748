/*
 * arena.h - the shared memory of one run and user: header, process slots, lane headers, capture plan, chunk pool.
 *
 *   | struct arena | process slots | lanes | capture plan | chunks ... |
 *
 * Made by the supervisor (`sonde run`) as a sealed memfd, or by a process that may not open that one as a file
 * /dev/shm/sonde.<token>.<uid>.<pid>. Mapped shared by every watched process and by the collector. Offsets, never
 * pointers; every index and offset read from here is checked against the bounds that the reader computed itself from
 * arena_bytes (arena_attach), never against numbers that stand in the pages at that moment.
 *
 * Who writes what: `own` producer thread; `any` process by atomic operations; `col` collector only; `init` once.
 *
 * Ways through it, each with its acquire and release:
 *   event   producer: add_own(sequence) → reserve in its chunk → fill → store_release(chunk.committed);
 *           collector: load_acquire(chunk.committed), copies, checks, uses.
 *   chunk   free stack, 64-bit head {tag, index + 1}, LIFO; producers pop by CAS, the collector pushes by CAS. What was
 *           never used stands on no stack: s_chunks_high (s_lanes_high, s_processes_high) counts how far the pool was
 *           ever opened, so that making an arena touches its first page only. A full chunk gets its successor by store_release(chunk.next); the first one by store_release(lane.first).
 *   lane    free stack of the same kind; a thread pops one at its first event or allocation; the collector pushes it
 *           back when the thread is proven dead and everything of it was drained.
 *   recall  collector: store(lane.recall = 1), membarrier, reads lane.busy; 0: CAS recall 1 → 2, frees the chunk.
 *           producer, inside busy: sees 1: CAS 1 → 0 and goes on with its chunk; sees 2: forgets its chunk, takes a new
 *           one, publishes it in lane.first, stores recall = 0.
 */
#ifndef SONDE_ARENA_H
#define SONDE_ARENA_H

#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>
#include <sys/types.h>

#define ARENA_MAGIC UINT64_C(0x31414e4552414453) /* "SDARENA1" */
#define ARENA_MAJOR 1
#define ARENA_MINOR 0

#define ARENA_LANES 8192u
#define ARENA_PROCESSES 4096u
#define ARENA_PLANS 65536u
#define CHUNK_BYTES 8192u
#define ARENA_MIN_BYTES (UINT64_C(8) << 20)
#define ARENA_DEFAULT_BYTES (UINT64_C(32) << 20)

/* Environment of a watched process. Values are copied at start: set-process-title code overwrites the originals. */
/* "<supervisor pid>:<fd>:<token>[:<features>[:<sample bytes>[:<lock sample ns>[:<pid namespace>]]]]": open /proc/<pid>/fd/<fd>, map it, close it. The numbers at
   the end are the run's settings, for a process that may not open it and makes an arena of its own; the last is the inode
   of the supervisor's /proc/self/ns/pid: in another namespace its pid says nothing. */
#define SONDE_ENV_ARENA "SONDE_ARENA"
#define SONDE_ENV_OFF "SONDE_OFF"     /* 1: every wrapper only forwards */

enum clock_kind { CLOCK_KIND_TSC = 1, CLOCK_KIND_MONOTONIC = 2 }; /* ticks are TSC cycles, or ns of CLOCK_MONOTONIC */

enum arena_feature {
    FEATURE_HEAP = 1 << 0,   /* count malloc and free */
    FEATURE_STACKS = 1 << 1, /* sampled allocation stacks */
    FEATURE_CPU = 1 << 2,    /* thread CPU clock in event blocks */
    FEATURE_WAITS = 1 << 3,  /* lock, disk, sleep totals */
    FEATURE_DATA = 1 << 4    /* capture bytes at all */
};

/* What a capture plan word says: high 28 bits tag (a hash of the connection id), low 4 bits the plan. */
enum plan {
    PLAN_DEFAULT = 0, /* in: calls up to 4 KiB whole, longer: first 4 KiB + last 256 B; out: first 1 KiB + last 256 B */
    PLAN_COUNT,       /* no bytes */
    PLAN_HEAD_TAIL,   /* both ways first 4 KiB and last 256 B */
    PLAN_FULL,        /* all bytes, in parts of EVENT_MORE, up to 256 KiB a call */
    PLAN_IGNORE       /* no connection: the recorder stops making events for it */
};

/* The call a thread is in (lane.call), and what EVENT_TURN names. */
enum call {
    CALL_NONE, CALL_READ, CALL_WRITE, CALL_ACCEPT, CALL_CONNECT, CALL_POLL, CALL_EPOLL_WAIT, CALL_SELECT, CALL_SENDFILE,
    CALL_SPLICE, CALL_CLOSE, CALL_FSYNC, CALL_LOCK, CALL_CONDITION, CALL_SEMAPHORE, CALL_FUTEX, CALL_SLEEP, CALL_WAITPID,
    CALL_COUNT
};

enum lane_state { LANE_FREE = 0, LANE_LIVE = 1 };
enum process_state { PROCESS_FREE = 0, PROCESS_LIVE = 1 };
enum process_flag {
    PROCESS_FORKED = 1 << 0,      /* began by fork, same image as its parent */
    PROCESS_MALLCTL = 1 << 1,     /* bytes come from jemalloc's thread.allocatedp */
    PROCESS_NO_SIZES = 1 << 2,    /* allocator's parts do not belong together: freed bytes unknown */
    PROCESS_NO_CLOCK = 1 << 3,    /* rdtsc is forbidden here (seccomp mode 1, PR_SET_TSC) */
    PROCESS_OWN_MALLOC = 1 << 4,  /* the executable defines malloc itself: allocations are not seen */
    PROCESS_NO_CPU = 1 << 5,      /* FEATURE_CPU, but it cannot be had (any more): the kernel or libc lacks rseq, or a
                                     seccomp filter was set that may forbid the clock */
    PROCESS_NO_STACKS = 1 << 6,   /* FEATURE_STACKS, but none is walked here: no libunwind, too old a libc, valgrind */
    PROCESS_OWES_FREES = 1 << 7,  /* EVENT_FREEDs that found no room wait for the next event; at an end: they were lost */
    PROCESS_LOST_FREES = 1 << 8   /* more than can wait: some blocks look alive that are not */
};

/* 512 bytes: one executed image or forked child. */
struct process_slot {
    uint32_t state;  /* any: enum process_state; set last, by store_release */
    int32_t pid;     /* as this process sees itself */
    int32_t parent;
    uint32_t uid;
    uint32_t serial; /* unique in the arena, from 1; a slot that is used again has another one */
    uint32_t flags;  /* any: enum process_flag */
    uint64_t start;  /* ticks */
    uint32_t parent_serial; /* forked from that slot's process; 0: executed */
    uint32_t s_next_free;
    uint64_t start_boot; /* ns of CLOCK_BOOTTIME when it attached; a process of this pid that began later (field 22 of
                            /proc/PID/stat, the same clock) is another one. 0 unknown */
    /* threads without a lane add here, atomically; `lost_no_lane` counts their events */
    uint64_t s_allocated, s_freed, s_allocations, s_lost_no_lane;
    /*
     * The collector's: its number in the run, and what lanes that were already freed had counted. Two copies, the low
     * bit of `ended_valid` names the true one: a collector that dies between adding a lane and freeing it leaves either
     * the old sum or a new one that names the lane, so that its successor adds it exactly once.
     */
    struct ended_lanes {
        uint32_t lane_serial, lanes; /* the last one added; how many */
        uint64_t allocated, freed, allocations;
        uint64_t lock, disk, sleep; /* ticks */
    } ended[2];
    uint32_t ended_valid;
    uint32_t number;
    char name[56]; /* the name that executable was started by (a link's), cut; empty: the file's own */
    char executable[256]; /* /proc/self/exe at start, cut, NUL-terminated */
};
_Static_assert(sizeof(struct process_slot) == 512, "process slot is 512 bytes");

/* 256 bytes: one thread. Lines: identity, producer's, totals, collector's. */
struct lane {
    /* identity: written at claim, constant until freed. Whoever pops a lane zeroes all of it, the collector's line too */
    uint32_t state; /* any: enum lane_state; set last, by store_release */
    uint32_t process;        /* index of its process slot */
    uint32_t process_serial; /* and that slot's serial, lest it was used again */
    int32_t tid;
    uint32_t serial; /* unique in the arena, from 1: high half of the connection ids given here (after 2^28 ids, and for
                        threads without a lane, another number of the same series) */
    uint32_t s_next_free;
    uint64_t start; /* ticks */
    char name[16];  /* comm of a process's first thread; empty: ask /proc (asking here would be a system call) */
    uint64_t pad0[2];
    /* producer's: own thread only */
    uint64_t sequence; /* events attempted, dropped ones included */
    uint64_t busy;     /* stack address while between reserve and commit, else 0 */
    uint32_t first;    /* chunk index + 1 of the oldest chunk; release; collector starts here after a recall or claim */
    uint32_t chunk;    /* chunk index + 1 now written to */
    uint32_t write;    /* next free byte in it */
    uint32_t call;     /* enum call it is in, 0 none */
    uint64_t call_since;      /* ticks */
    uint64_t call_connection; /* connection the call is on, 0 none */
    uint32_t chunks_taken;    /* free-running; minus chunks_freed = held now */
    uint32_t pad1;
    uint64_t reserved_at; /* ticks at reserve while busy: the merge waits for a live owner */
    /* totals: own thread only, by add_own */
    uint64_t allocated, freed, allocations;
    uint64_t lock, disk, sleep; /* ticks */
    uint64_t lost_full, lost_nested;
    /* collector's; recall is shared, see above */
    uint32_t recall;
    uint32_t chunks_freed;
    uint32_t read_chunk;  /* chunk index + 1 now read */
    uint32_t read_offset; /* next unread byte in it */
    uint64_t drained;     /* events consumed */
    uint64_t gone;        /* events of this lane known lost by sequence */
    uint64_t pad2[4];
};
_Static_assert(sizeof(struct lane) == 256, "lane is four cache lines");
_Static_assert(offsetof(struct lane, sequence) == 64, "producer's line");
_Static_assert(offsetof(struct lane, allocated) == 128, "totals' line");
_Static_assert(offsetof(struct lane, recall) == 192, "collector's line");

struct chunk {
    uint32_t committed; /* own: bytes from the start of the chunk that hold finished events; begins at CHUNK_HEADER */
    uint32_t next;      /* own: chunk index + 1 of the successor; 0 none yet; release */
    uint32_t lane;      /* own: index + 1 of the lane that holds it; 0 free */
    uint32_t lane_serial;
    uint32_t next_free; /* index + 1, while on the free stack */
    uint32_t pad[11];
    uint8_t data[CHUNK_BYTES - 64];
};
_Static_assert(sizeof(struct chunk) == CHUNK_BYTES, "chunk");
#define CHUNK_HEADER 64u

struct arena {
    uint64_t magic;
    uint16_t major, minor;
    uint32_t header_bytes;
    uint64_t arena_bytes;
    uint8_t build_id[20]; /* of libsonde.so that made it; zero unknown */
    uint32_t clock;       /* enum clock_kind */
    uint64_t ticks_per_second;
    /* anchor: this tick is this CLOCK_MONOTONIC and this CLOCK_REALTIME, taken together */
    uint64_t anchor_ticks, anchor_monotonic_ns, anchor_realtime_ns;
    uint32_t processes, lanes, plans, chunks;
    uint64_t processes_offset, lanes_offset, plans_offset, chunks_offset;
    uint32_t supervisor; /* pid */
    uint32_t uid;
    char token[32]; /* hex: names the run, and its fallback arenas */
    uint8_t pad0[256 - 168];
    /* settings: read by the recorder; written by the supervisor, `off` by anybody who may */
    uint32_t off;      /* kill switch */
    uint32_t features; /* enum arena_feature */
    uint64_t sample_bytes; /* mean bytes between sampled stacks */
    uint32_t lane_chunks;  /* most chunks one lane may hold */
    uint32_t exit_wait;
    uint64_t lock_sample_ns; /* mean ns of waiting for locks between sampled stacks; 0: none */
    uint8_t pad1[256 - 32];
    /* stacks and counters, each on its own line */
    uint64_t s_free_chunks __attribute__((aligned(64))); /* {tag << 32 | index + 1} */
    uint64_t s_free_count; /* chunks that nobody holds, never used ones included, approximate: when to drain faster */
    uint64_t s_free_lanes __attribute__((aligned(64)));
    uint64_t s_free_processes __attribute__((aligned(64)));
    uint32_t s_lane_serial __attribute__((aligned(64))); /* last given */
    uint32_t s_process_serial;
    uint32_t s_epoch;
    uint32_t s_lanes_high, s_processes_high, s_chunks_high; /* slots ever used: readers need not look beyond */
    uint64_t s_refused __attribute__((aligned(64))); /* processes that did not attach: other version, no slot; see arena_refuse */
    uint64_t s_no_lane;                              /* events dropped for want of a lane or process slot */
    /* the collector's, so that its successor goes on where it stopped */
    uint64_t collector_pid __attribute__((aligned(64)));
    uint64_t collector_beat; /* ticks of its last round */
    uint32_t processes_numbered; /* last number given to a process slot */
    uint32_t accounted_valid;    /* as process_slot.ended_valid: which of */
    struct accounted {
        uint64_t lane_serial, events; /* drained or known lost, of lanes already freed */
    } accounted[2];
};

/* A mapping with bounds that were computed from arena_bytes, never read from the pages again. */
struct arena_view {
    struct arena *arena;
    struct process_slot *process;
    struct lane *lane;
    uint32_t *plan;
    struct chunk *chunk;
    uint32_t processes, lanes, plans, chunks;
    uint64_t bytes;
};

/* Lays out a zeroed mapping of `bytes`; sets every free stack. 0 or -EINVAL (too small). Context I. */
int arena_format(void *mapping, uint64_t bytes, const char *token, struct arena_view *out);

/*
 * May this process make a file of that size? Beyond RLIMIT_FSIZE the kernel does not refuse, it sends SIGXFSZ, which
 * kills. arena_create asks it.
 */
bool arena_may_be(uint64_t bytes);

/* Makes a sealed memfd of `bytes`, formats it. Returns its descriptor (close-on-exec) or -errno. */
int arena_create(uint64_t bytes, const char *token, struct arena_view *out);

/* Maps what `fd` holds, shared and MADV_DONTDUMP, checks magic, version and layout. -EPROTONOSUPPORT: other major. */
int arena_open(int fd, struct arena_view *out);

/*
 * Adds one to s_refused of an arena whose major is another one. Its offset and those of magic, major, minor and
 * arena_bytes never change, whatever the major. Context I.
 */
void arena_refuse(int fd);

/* The checks of arena_open over a mapping that exists (a test's image, a recording). */
int arena_attach(void *mapping, uint64_t bytes, struct arena_view *out);
void arena_detach(struct arena_view *);

/*
 * Free stacks: P over shared pages, lock-free, any thread or process, signal-safe. Pop: index or -1. A damaged stack
 * (index out of bounds) reads as empty.
 */
int32_t arena_pop_chunk(const struct arena_view *);
void arena_push_chunk(const struct arena_view *, uint32_t index);
int32_t arena_pop_lane(const struct arena_view *);
void arena_push_lane(const struct arena_view *, uint32_t index);
int32_t arena_pop_process(const struct arena_view *);
void arena_push_process(const struct arena_view *, uint32_t index);

static inline uint32_t arena_plan_hash(uint64_t connection)
{
    uint64_t h = connection * UINT64_C(0x9e3779b97f4a7c15);
    return (uint32_t)(h >> 32);
}

/* index = low 16 bits of the hash, tag = its high 28 bits; a word with another tag means PLAN_DEFAULT */
static inline uint32_t arena_plan_get(const struct arena_view *v, uint64_t connection)
{
    uint32_t h = arena_plan_hash(connection);
    uint32_t word = __atomic_load_n(&v->plan[h & (ARENA_PLANS - 1)], __ATOMIC_RELAXED);
    return (word ^ h) >> 4 ? (uint32_t)PLAN_DEFAULT : word & 15;
}

static inline void arena_plan_set(const struct arena_view *v, uint64_t connection, enum plan plan)
{
    uint32_t h = arena_plan_hash(connection);
    __atomic_store_n(&v->plan[h & (ARENA_PLANS - 1)], (h & ~15u) | (uint32_t)plan, __ATOMIC_RELAXED);
}

#endif
