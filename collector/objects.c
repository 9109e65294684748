/*
 * objects.c - see objects.h.
 *
 * Context: C
 * Failure: no memory, or a bound: the address lies in no file.
 */
#include "collector/objects.h"

#include <stdlib.h>
#include <string.h>

#include "collector/sink/queue.h"

#define BUCKETS 1024u
#define OBJECTS_MOST 4096u
#define PIECES_MOST 65536u
#define PIECES_OF_ONE 4096u

struct object {
    char *path; /* NULL: code without a file, of one process */
    uint16_t path_len, build_id_len;
    uint8_t build_id[20];
    bool told;
    int32_t pid;
    uint32_t chain;
};

struct piece {
    uint64_t start, end, bias;
    uint32_t object;
};

/* Sorted by address, without overlaps; shared by forked processes until one of them maps more. */
struct map {
    uint32_t holders, count, room;
    struct piece piece[];
};

struct place { /* a process */
    struct place *chain;
    uint32_t number, nowhere; /* object that stands for it, 0: none yet */
    uint32_t parent;          /* whose map is its own, to be taken when it is asked for; 0: none, or taken */
    uint32_t heirs;           /* that have not taken theirs yet */
    int32_t pid;
    bool ended;               /* kept for its heirs */
    struct map *map;
    char executable[256];
};

struct objects {
    struct place *place[BUCKETS];
    struct object object[OBJECTS_MOST + 1]; /* from 1 */
    uint32_t bucket[BUCKETS];
    uint32_t objects, pieces;
};

struct objects *objects_new(void)
{
    return calloc(1, sizeof(struct objects));
}

static void leave_map(struct objects *o, struct place *p)
{
    if (p->map && !--p->map->holders) {
        o->pieces -= p->map->room;
        free(p->map);
    }
    p->map = NULL;
}

void objects_free(struct objects *o)
{
    if (!o)
        return;
    for (uint32_t b = 0; b < BUCKETS; b++)
        for (struct place *p = o->place[b], *next; p; p = next) {
            next = p->chain;
            leave_map(o, p);
            free(p);
        }
    for (uint32_t i = 1; i <= o->objects; i++)
        free(o->object[i].path);
    free(o);
}

/* --- processes ---------------------------------------------------------------------------------------------------------- */

static struct place *find_place(const struct objects *o, uint32_t process)
{
    struct place *p = o->place[process % BUCKETS];
    while (p && p->number != process)
        p = p->chain;
    return p;
}

static struct place *make_place(struct objects *o, uint32_t process)
{
    struct place *p = find_place(o, process);
    if (p)
        return p;
    p = calloc(1, sizeof *p);
    if (!p)
        return NULL;
    p->number = process;
    p->chain = o->place[process % BUCKETS];
    o->place[process % BUCKETS] = p;
    return p;
}

static void drop_place(struct objects *o, struct place *p)
{
    struct place **link = &o->place[p->number % BUCKETS];
    while (*link != p)
        link = &(*link)->chain;
    *link = p->chain;
    leave_map(o, p);
    free(p);
}

static struct place *leave_parent(struct objects *o, struct place *p)
{
    struct place *parent = p->parent ? find_place(o, p->parent) : NULL;
    p->parent = 0;
    if (parent)
        parent->heirs--;
    return parent;
}

/* Not when it began: facts of processes come before what their parents told until then. */
static void inherit(struct objects *o, struct place *p)
{
    struct place *parent = leave_parent(o, p);
    if (!parent)
        return;
    inherit(o, parent);
    bool last = parent->ended && !parent->heirs;
    if (parent->map && !p->map) {
        p->map = parent->map;
        if (last)
            parent->map = NULL;
        else
            p->map->holders++;
    }
    if (last)
        drop_place(o, parent);
}

/* Through those whose maps are not taken yet. */
static bool descends(const struct objects *o, const struct place *p, const struct place *from)
{
    while (p && p != from)
        p = p->parent ? find_place(o, p->parent) : NULL;
    return p;
}

/* A parent that descends from its child, as a broken recording may tell, is none: inherit()
 * would free the place it stands on. */
void objects_begin(struct objects *o, uint32_t process, uint32_t parent, int32_t pid, const char *executable)
{
    struct place *p = make_place(o, process), *from = parent ? find_place(o, parent) : NULL;
    if (!p)
        return;
    p->pid = pid;
    strncpy(p->executable, executable, sizeof p->executable - 1);
    if (from && !p->parent && !p->map && !descends(o, from, p)) {
        p->parent = parent;
        from->heirs++;
    }
}

/* An heir of one that ends takes the map of that one's parent along: no row of ended ones grows. */
void objects_end(struct objects *o, uint32_t process)
{
    struct place *p = find_place(o, process);
    if (!p || p->ended)
        return;
    inherit(o, p);
    p->ended = true;
    if (!p->heirs)
        drop_place(o, p);
}

/* --- files -------------------------------------------------------------------------------------------------------------- */

static uint32_t bucket_of(const char *path, size_t len)
{
    uint32_t h = 2166136261u;
    for (size_t i = 0; i < len; i++)
        h = (h ^ (uint8_t)path[i]) * 16777619u;
    return h % BUCKETS;
}

static uint32_t add_object(struct objects *o, const struct object *like)
{
    if (o->objects == OBJECTS_MOST)
        return 0;
    uint32_t number = ++o->objects;
    o->object[number] = *like;
    return number;
}

static uint32_t object_of(struct objects *o, const char *path, size_t len, const struct told_object *t, int32_t pid)
{
    uint32_t bucket = bucket_of(path, len);
    for (uint32_t i = o->bucket[bucket]; i; i = o->object[i].chain) {
        const struct object *at = &o->object[i];
        if (at->path_len == len && !memcmp(at->path, path, len) && at->build_id_len == t->build_id_len &&
            !memcmp(at->build_id, t->build_id, t->build_id_len))
            return i;
    }
    struct object like = {.path = malloc(len + 1),
                          .path_len = (uint16_t)len,
                          .build_id_len = t->build_id_len,
                          .pid = pid,
                          .chain = o->bucket[bucket]};
    if (!like.path)
        return 0;
    memcpy(like.path, path, len);
    like.path[len] = 0;
    memcpy(like.build_id, t->build_id, sizeof like.build_id);
    uint32_t number = add_object(o, &like);
    if (number)
        o->bucket[bucket] = number;
    else
        free(like.path);
    return number;
}

/* --- maps --------------------------------------------------------------------------------------------------------------- */

/* A map of its own with room for one more piece. */
static struct map *own_map(struct objects *o, struct place *p)
{
    struct map *old = p->map;
    if (old && old->holders == 1 && old->count < old->room)
        return old;
    uint32_t count = old ? old->count : 0, room = count + count / 2 + 16;
    if (count >= PIECES_OF_ONE || o->pieces + room > PIECES_MOST)
        return NULL;
    struct map *m = malloc(sizeof *m + room * sizeof *m->piece);
    if (!m)
        return NULL;
    o->pieces += room;
    m->holders = 1;
    m->room = room;
    m->count = count;
    if (count)
        memcpy(m->piece, old->piece, count * sizeof *m->piece);
    leave_map(o, p);
    p->map = m;
    return m;
}

/* The first piece that ends above the address. */
static uint32_t first_above(const struct map *m, uint64_t address)
{
    uint32_t low = 0, high = m->count;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (m->piece[middle].end > address)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

void objects_told(struct objects *o, uint32_t process, const struct told_object *t)
{
    struct place *p = make_place(o, process);
    if (!p)
        return;
    inherit(o, p);
    const char *path = t->path_len ? t->path : p->executable;
    size_t len = t->path_len ? t->path_len : strlen(p->executable);
    uint32_t object = len ? object_of(o, path, len, t, p->pid) : 0;
    struct map *m = object ? own_map(o, p) : NULL;
    if (!m)
        return;
    uint32_t at = first_above(m, t->start), beyond = at;
    while (beyond < m->count && m->piece[beyond].start < t->end)
        beyond++; /* what was mapped there is no more */
    memmove(&m->piece[at + 1], &m->piece[beyond], (m->count - beyond) * sizeof *m->piece);
    m->count = m->count - (beyond - at) + 1;
    m->piece[at] = (struct piece){t->start, t->end, t->bias, object};
}

struct frame objects_find(struct objects *o, uint32_t process, uint64_t address)
{
    struct place *p = make_place(o, process);
    if (!p)
        return (struct frame){.address = address};
    inherit(o, p);
    if (p->map) {
        uint32_t at = first_above(p->map, address - 1);
        if (at < p->map->count && p->map->piece[at].start <= address - 1)
            return (struct frame){.object = p->map->piece[at].object, .address = address - p->map->piece[at].bias};
    }
    if (!p->nowhere) {
        struct object like = {.pid = p->pid};
        p->nowhere = add_object(o, &like);
    }
    return (struct frame){.object = p->nowhere, .address = address};
}

/* --- rows --------------------------------------------------------------------------------------------------------------- */

bool objects_tell(struct objects *o, uint32_t number, struct queue *q)
{
    if (!number || o->object[number].told)
        return true;
    struct object *at = &o->object[number];
    struct row *row = queue_reserve(q, ROW_OBJECT, sizeof *row + sizeof(struct row_object) + at->path_len);
    if (!row)
        return false;
    struct row_object *r = (void *)(row + 1);
    *r = (struct row_object){.object = number,
                             .pid = at->pid,
                             .build_id_len = at->build_id_len,
                             .path_len = at->path_len,
                             .jit = at->path == NULL};
    memcpy(r->build_id, at->build_id, sizeof r->build_id);
    if (at->path)
        memcpy(r + 1, at->path, at->path_len);
    queue_publish(q, row);
    return at->told = true;
}
