/*
 * arena.c - makes, maps and checks the shared memory; its free stacks.
 *
 * In:      cli (makes), shim/lifecycle.c (maps, makes its own when refused), collector (maps).
 * Owns:    the layout: where everything stands follows from arena_bytes alone.
 * Context: I for making and mapping; S for the free stacks.
 * Sharing: the stacks are popped and pushed by any thread of any process, lock-free.
 * Failure: -errno, nothing left behind; a damaged stack reads as empty.
 *
 * System calls go by raw.h: in the server's process the libc functions of these names are our own wrappers.
 */
#include "wire/arena.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "wire/atomics.h"
#include "wire/raw.h"

#ifndef F_ADD_SEALS
#define F_ADD_SEALS 1033
#define F_SEAL_SEAL 1
#define F_SEAL_SHRINK 2
#define F_SEAL_GROW 4
#endif
#ifndef MFD_CLOEXEC
#define MFD_CLOEXEC 1u
#define MFD_ALLOW_SEALING 2u
#endif

#define HEADER_BYTES 4096u
_Static_assert(sizeof(struct arena) <= HEADER_BYTES, "header fits its page");
_Static_assert(offsetof(struct arena, magic) == 0, "frozen for every major");
_Static_assert(offsetof(struct arena, major) == 8, "frozen for every major");
_Static_assert(offsetof(struct arena, arena_bytes) == 16, "frozen for every major");
_Static_assert(offsetof(struct arena, s_refused) == 768, "frozen for every major");

static void view_of(void *mapping, uint64_t bytes, struct arena_view *v)
{
    char *at = mapping;
    v->arena = mapping;
    at += HEADER_BYTES;
    v->process = (struct process_slot *)at;
    v->processes = ARENA_PROCESSES;
    at += sizeof(struct process_slot) * ARENA_PROCESSES;
    v->lane = (struct lane *)at;
    v->lanes = ARENA_LANES;
    at += sizeof(struct lane) * ARENA_LANES;
    v->plan = (uint32_t *)at;
    v->plans = ARENA_PLANS;
    at += sizeof(uint32_t) * ARENA_PLANS;
    v->chunk = (struct chunk *)at;
    v->chunks = (uint32_t)((bytes - (uint64_t)(at - (char *)mapping)) / CHUNK_BYTES);
    v->bytes = bytes;
}

int arena_format(void *mapping, uint64_t bytes, const char *token, struct arena_view *out)
{
    if (bytes < ARENA_MIN_BYTES || bytes > UINT64_C(1) << 40)
        return -EINVAL;
    struct arena_view v;
    view_of(mapping, bytes, &v);
    struct arena *a = v.arena;
    a->major = ARENA_MAJOR;
    a->minor = ARENA_MINOR;
    a->header_bytes = HEADER_BYTES;
    a->arena_bytes = bytes;
    a->processes = v.processes;
    a->lanes = v.lanes;
    a->plans = v.plans;
    a->chunks = v.chunks;
    a->processes_offset = (uint64_t)((char *)v.process - (char *)mapping);
    a->lanes_offset = (uint64_t)((char *)v.lane - (char *)mapping);
    a->plans_offset = (uint64_t)((char *)v.plan - (char *)mapping);
    a->chunks_offset = (uint64_t)((char *)v.chunk - (char *)mapping);
    for (size_t i = 0; i + 1 < sizeof a->token && token[i]; i++)
        a->token[i] = token[i];
    a->features = FEATURE_HEAP | FEATURE_DATA;
    a->lane_chunks = v.chunks - v.chunks / 4;
    a->s_free_count = v.chunks;
    store_release(&a->magic, ARENA_MAGIC);
    *out = v;
    return 0;
}

/* Maps shared, left out of core dumps. NULL and -errno in *error when it cannot be had. */
static void *map_shared(int fd, uint64_t bytes, int *error)
{
    long at = raw6(SYS_mmap, 0, (long)bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (raw_failed(at)) {
        *error = (int)at;
        return NULL;
    }
    raw3(SYS_madvise, at, (long)bytes, MADV_DONTDUMP);
    return (void *)at; // NOLINT(performance-no-int-to-ptr): an address from the kernel
}

bool arena_may_be(uint64_t bytes)
{
    struct rlimit most = {0, 0};
    return !raw4(SYS_prlimit64, 0, RLIMIT_FSIZE, 0, (long)&most) && most.rlim_cur >= bytes;
}

int arena_create(uint64_t bytes, const char *token, struct arena_view *out)
{
    bytes = (bytes + HEADER_BYTES - 1) & ~(uint64_t)(HEADER_BYTES - 1);
    if (!arena_may_be(bytes))
        return -EFBIG;
    int fd = (int)raw2(SYS_memfd_create, (long)"sonde", (long)(MFD_CLOEXEC | MFD_ALLOW_SEALING));
    if (fd < 0)
        return fd;
    int error = (int)raw2(SYS_ftruncate, fd, (long)bytes);
    /* all pages now: a page that cannot be had later would be SIGBUS in a server */
    if (!error)
        error = (int)raw4(SYS_fallocate, fd, 0, 0, (long)bytes);
    if (!error)
        error = (int)raw3(SYS_fcntl, fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
    void *mapping = error ? NULL : map_shared(fd, bytes, &error);
    if (mapping) {
        error = arena_format(mapping, bytes, token, out);
        if (error)
            raw2(SYS_munmap, (long)mapping, (long)bytes);
    }
    if (!error)
        return fd;
    raw1(SYS_close, fd);
    return error;
}

int arena_attach(void *mapping, uint64_t bytes, struct arena_view *out)
{
    if (bytes < ARENA_MIN_BYTES)
        return -EINVAL;
    const struct arena *a = mapping;
    if (load_acquire(&a->magic) != ARENA_MAGIC)
        return -EINVAL;
    if (a->major != ARENA_MAJOR)
        return -EPROTONOSUPPORT;
    struct arena_view v;
    view_of(mapping, bytes, &v);
    if (a->header_bytes != HEADER_BYTES || a->arena_bytes != bytes || a->processes != v.processes ||
        a->lanes != v.lanes || a->plans != v.plans || a->chunks != v.chunks ||
        a->chunks_offset != (uint64_t)((char *)v.chunk - (char *)mapping))
        return -EINVAL;
    *out = v;
    return 0;
}

static int size_of(int fd, uint64_t *bytes)
{
    long end = raw3(SYS_lseek, fd, 0, SEEK_END);
    if (end < 0)
        return (int)end;
    *bytes = (uint64_t)end;
    return 0;
}

int arena_open(int fd, struct arena_view *out)
{
    uint64_t bytes = 0;
    int error = size_of(fd, &bytes);
    if (error)
        return error;
    if (bytes < ARENA_MIN_BYTES)
        return -EINVAL;
    void *mapping = map_shared(fd, bytes, &error);
    if (!mapping)
        return error;
    error = arena_attach(mapping, bytes, out);
    if (error)
        raw2(SYS_munmap, (long)mapping, (long)bytes);
    return error;
}

void arena_refuse(int fd)
{
    uint64_t bytes = 0;
    int error = size_of(fd, &bytes);
    if (error || bytes < HEADER_BYTES)
        return;
    void *mapping = map_shared(fd, HEADER_BYTES, &error);
    if (!mapping)
        return;
    struct arena *a = mapping;
    if (load_acquire(&a->magic) == ARENA_MAGIC)
        fetch_add_relaxed(&a->s_refused, 1);
    raw2(SYS_munmap, (long)mapping, HEADER_BYTES);
}

void arena_detach(struct arena_view *v)
{
    if (v->arena)
        raw2(SYS_munmap, (long)v->arena, (long)v->bytes);
    memset(v, 0, sizeof *v);
}

/*
 * A stack head is {tag << 32 | index + 1}; the tag changes with every pop and push, so that a head that came back to
 * the same index is not taken for the old one. `link` of a popped item may be garbage when another thread was faster:
 * the CAS fails then. A head out of bounds is damage: reads as empty.
 */
static int32_t stack_pop(uint64_t *head, char *base, size_t stride, size_t link, uint32_t count)
{
    uint64_t old = load_acquire(head);
    for (;;) {
        uint32_t top = (uint32_t)old;
        if (!top || top > count)
            return -1;
        uint32_t next = load_relaxed((uint32_t *)(base + (size_t)(top - 1) * stride + link));
        uint64_t new = ((old >> 32) + 1) << 32 | next;
        if (cas_acq_rel(head, &old, new))
            return (int32_t)(top - 1);
    }
}

static void stack_push(uint64_t *head, char *base, size_t stride, size_t link, uint32_t index)
{
    uint64_t old = load_acquire(head), new;
    do {
        store_relaxed((uint32_t *)(base + (size_t)index * stride + link), (uint32_t)old);
        new = ((old >> 32) + 1) << 32 | (index + 1);
    } while (!cas_acq_rel(head, &old, new));
}

/* The next one that was never used, or -1. */
static int32_t open_next(uint32_t *high, uint32_t count)
{
    uint32_t old = load_relaxed(high);
    do {
        if (old >= count)
            return -1;
    } while (!cas_acq_rel(high, &old, old + 1));
    return (int32_t)old;
}

int32_t arena_pop_chunk(const struct arena_view *v)
{
    int32_t i = stack_pop(&v->arena->s_free_chunks, (char *)v->chunk, sizeof(struct chunk),
                          offsetof(struct chunk, next_free), v->chunks);
    if (i < 0)
        i = open_next(&v->arena->s_chunks_high, v->chunks);
    if (i >= 0)
        fetch_add_relaxed(&v->arena->s_free_count, (uint64_t)-1);
    return i;
}

void arena_push_chunk(const struct arena_view *v, uint32_t index)
{
    if (index >= v->chunks)
        return;
    stack_push(&v->arena->s_free_chunks, (char *)v->chunk, sizeof(struct chunk), offsetof(struct chunk, next_free),
               index);
    fetch_add_relaxed(&v->arena->s_free_count, 1);
}

int32_t arena_pop_lane(const struct arena_view *v)
{
    int32_t i = stack_pop(&v->arena->s_free_lanes, (char *)v->lane, sizeof(struct lane),
                          offsetof(struct lane, s_next_free), v->lanes);
    return i >= 0 ? i : open_next(&v->arena->s_lanes_high, v->lanes);
}

void arena_push_lane(const struct arena_view *v, uint32_t index)
{
    if (index < v->lanes)
        stack_push(&v->arena->s_free_lanes, (char *)v->lane, sizeof(struct lane), offsetof(struct lane, s_next_free),
                   index);
}

int32_t arena_pop_process(const struct arena_view *v)
{
    int32_t i = stack_pop(&v->arena->s_free_processes, (char *)v->process, sizeof(struct process_slot),
                          offsetof(struct process_slot, s_next_free), v->processes);
    return i >= 0 ? i : open_next(&v->arena->s_processes_high, v->processes);
}

void arena_push_process(const struct arena_view *v, uint32_t index)
{
    if (index < v->processes)
        stack_push(&v->arena->s_free_processes, (char *)v->process, sizeof(struct process_slot),
                   offsetof(struct process_slot, s_next_free), index);
}
