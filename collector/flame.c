/*
 * flame.c - sampled stacks as a tree of weights, and its two forms for other programs.
 *
 * In:      struct report (sites)                 Out: FILE
 * Owns:    the tree; names that it made; all others are the report's.
 * Context: I
 * Names come from other people's files: they are data, and each form writes them in a way that cannot be anything else.
 */
#include <errno.h>
#include <fnmatch.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "collector/flame.h"
#include "collector/json_text.h"
#include "collector/report_page.h"

const char *flame_word(enum flame_by by)
{
    static const char *const words[] = {"allocated", "retained", "live", "lockwait"};
    return words[by];
}

bool flame_is_time(const struct flame *f)
{
    return f->by == FLAME_LOCKWAIT;
}

/* --- which sites --- */

static uint64_t weight_of(const struct report_site *s, enum flame_by by, uint64_t *samples)
{
    *samples = by == FLAME_RETAINED ? s->retained_samples
               : by == FLAME_LIVE   ? s->live_samples + s->ended_samples
                                    : s->samples;
    if (s->lockwait != (by == FLAME_LOCKWAIT))
        return 0;
    return by == FLAME_RETAINED ? s->retained_bytes : by == FLAME_LIVE ? s->live_bytes + s->ended_bytes : s->amount;
}

static bool matches(const char *route, const char *endpoint)
{
    if (!endpoint)
        return strcmp(route, "outside") == 0 || strcmp(route, "outside requests") == 0;
    const char *path = strchr(endpoint, ' ');
    return strcmp(route, endpoint) == 0 || (path && strcmp(route, path + 1) == 0) || fnmatch(route, endpoint, 0) == 0;
}

static unsigned distance(const char *a, const char *b)
{
    unsigned row[129];
    size_t n = strnlen(b, 128);
    for (size_t j = 0; j <= n; j++)
        row[j] = (unsigned)j;
    for (size_t i = 0; i < 128 && a[i]; i++) {
        unsigned diagonal = row[0]++;
        for (size_t j = 0; j < n; j++) {
            unsigned change = diagonal + (a[i] != b[j]), least = (row[j] < row[j + 1] ? row[j] : row[j + 1]) + 1;
            diagonal = row[j + 1];
            row[j + 1] = change < least ? change : least;
        }
    }
    return row[n];
}

/* Of the whole name, or of its path: people leave the method out. */
static bool find_route(const struct report *r, const char *route, const char **nearest)
{
    unsigned least = UINT32_MAX;
    *nearest = NULL;
    if (matches(route, NULL))
        return true;
    for (int i = 0; i < r->endpoints; i++) {
        const char *name = r->endpoint[i].name, *path = strchr(name, ' ');
        if (matches(route, name))
            return true;
        unsigned d = distance(route, name), e = path ? distance(route, path + 1) : d;
        d = e < d ? e : d;
        if (d < least) {
            least = d;
            *nearest = name;
        }
    }
    return false;
}

/* --- the tree --- */

static uint32_t hash_text(const char *s, size_t len)
{
    uint32_t h = 2166136261u;
    for (size_t i = 0; i < len; i++)
        h = (h ^ (unsigned char)s[i]) * 16777619u;
    return h;
}

/* Doubles an array when it is full; the tables behind it are made anew by the caller. */
static bool grow(void **array, uint32_t *room, uint32_t used, size_t size)
{
    if (used < *room)
        return true;
    uint32_t bigger = *room ? *room * 2 : 1024;
    void *copy = reallocarray(*array, bigger, size);
    if (copy) {
        *array = copy;
        *room = bigger;
    }
    return copy != NULL;
}

static bool rehash_names(struct flame *f)
{
    f->slots = f->names_room * 2;
    free(f->slot);
    f->slot = calloc(f->slots, sizeof *f->slot);
    for (uint32_t i = 0; f->slot && i < f->names; i++) {
        uint32_t at = hash_text(f->name[i], strlen(f->name[i])) % f->slots;
        while (f->slot[at])
            at = (at + 1) % f->slots;
        f->slot[at] = i + 1;
    }
    return f->slot != NULL;
}

/* The number of a name + 1; 0: no memory. `text` must stay. */
static uint32_t name_of(struct flame *f, const char *text)
{
    uint32_t room = f->names_room;
    if (!grow((void **)(uintptr_t)&f->name, &f->names_room, f->names, sizeof *f->name) ||
        (room != f->names_room && !rehash_names(f)))
        return 0;
    uint32_t at = hash_text(text, strlen(text)) % f->slots;
    for (; f->slot[at]; at = (at + 1) % f->slots)
        if (strcmp(f->name[f->slot[at] - 1], text) == 0)
            return f->slot[at];
    f->name[f->names] = text;
    return f->slot[at] = ++f->names;
}

static uint32_t node_place(const struct flame *f, uint32_t parent, uint32_t name)
{
    uint32_t at = (parent * 2654435761u ^ name * 40503u) % f->node_slots;
    for (; f->node_slot[at]; at = (at + 1) % f->node_slots) {
        const struct flame_node *n = &f->node[f->node_slot[at]];
        if (n->parent == parent && n->name == name)
            break;
    }
    return at;
}

static bool rehash_nodes(struct flame *f)
{
    f->node_slots = f->room * 2;
    free(f->node_slot);
    f->node_slot = calloc(f->node_slots, sizeof *f->node_slot);
    for (uint32_t i = 1; f->node_slot && i < f->nodes; i++)
        f->node_slot[node_place(f, f->node[i].parent, f->node[i].name)] = i;
    return f->node_slot != NULL;
}

static uint32_t child_of(struct flame *f, uint32_t parent, const char *text)
{
    uint32_t room = f->room, name = name_of(f, text);
    if (!name || !grow((void **)(uintptr_t)&f->node, &f->room, f->nodes, sizeof *f->node) ||
        (room != f->room && !rehash_nodes(f)))
        return 0;
    uint32_t at = node_place(f, parent, name - 1);
    if (f->node_slot[at])
        return f->node_slot[at];
    f->node[f->nodes] = (struct flame_node){.name = name - 1, .parent = parent, .sibling = f->node[parent].child};
    f->node[parent].child = f->nodes;
    return f->node_slot[at] = f->nodes++;
}

static char *last_frame(char *frames, char *end)
{
    for (char *s = end; s - frames >= 3; s--)
        if (memcmp(s - 3, " < ", 3) == 0)
            return s;
    return frames;
}

/* One stack: cut into frames in place, the outermost one first. */
static int add_stack(struct flame *f, const char *root, char *frames, uint64_t weight, uint64_t samples)
{
    uint32_t at = child_of(f, 0, root);
    char *end = frames + strlen(frames);
    for (bool more = true; at && more;) {
        char *start = last_frame(frames, end);
        at = child_of(f, at, *start ? start : "?");
        more = start > frames;
        end = more ? start - 3 : frames;
        if (more)
            *end = 0;
    }
    if (!at)
        return -ENOMEM;
    f->node[at].self += weight;
    for (uint32_t n = at;; n = f->node[n].parent) {
        f->node[n].all += weight;
        f->node[n].samples += samples;
        if (n == 0)
            return 0;
    }
}

static int by_weight(const void *a, const void *b, void *of)
{
    const struct flame *f = of;
    const struct flame_node *x = &f->node[*(const uint32_t *)a], *y = &f->node[*(const uint32_t *)b];
    if (x->all != y->all)
        return x->all > y->all ? -1 : 1;
    return strcmp(f->name[x->name], f->name[y->name]);
}

/* Siblings: the heaviest first. */
static int sort_children(struct flame *f)
{
    uint32_t *list = calloc(f->nodes, sizeof *list);
    for (uint32_t i = 0; list && i < f->nodes; i++) {
        uint32_t n = 0;
        for (uint32_t c = f->node[i].child; c; c = f->node[c].sibling)
            list[n++] = c;
        if (n > 1)
            qsort_r(list, n, sizeof *list, by_weight, f);
        for (uint32_t k = 0; k < n; k++)
            f->node[list[k]].sibling = k + 1 < n ? list[k + 1] : 0;
        f->node[i].child = n ? list[0] : 0;
    }
    free(list);
    return list ? 0 : -ENOMEM;
}

static const char *frames_of(const struct report_site *s)
{
    return s->frames && *s->frames ? s->frames : "(no stack)";
}

static size_t text_bytes(const struct report *r)
{
    size_t bytes = 1;
    for (int i = 0; i < r->sites; i++)
        bytes += strlen(frames_of(&r->site[i])) + 1;
    return bytes;
}

int flame_build(struct flame *f, const struct report *r, enum flame_by by, const char *route, const char **nearest)
{
    *f = (struct flame){.by = by, .r = r, .route = route};
    if (route && !find_route(r, route, nearest))
        return -ENOENT;
    char *text = f->text = malloc(text_bytes(r));
    uint32_t root = text ? name_of(f, "all") : 0;
    if (!root || !grow((void **)(uintptr_t)&f->node, &f->room, 0, sizeof *f->node))
        return -ENOMEM;
    f->node[f->nodes++] = (struct flame_node){.name = root - 1};
    int rc = rehash_nodes(f) ? 0 : -ENOMEM;
    for (int i = 0; i < r->sites && rc == 0; i++) {
        const struct report_site *s = &r->site[i];
        uint64_t samples, weight = weight_of(s, by, &samples);
        if (!weight || (route && !matches(route, s->endpoint)))
            continue;
        size_t len = strlen(frames_of(s));
        memcpy(text, frames_of(s), len + 1);
        rc = add_stack(f, s->endpoint ? s->endpoint : "outside requests", text, weight, samples);
        text += len + 1;
        f->sites++;
    }
    return rc == 0 ? sort_children(f) : rc;
}

void flame_free(struct flame *f)
{
    free(f->node);
    free(f->name);
    free(f->slot);
    free(f->node_slot);
    free(f->text);
    memset(f, 0, sizeof *f);
}

void flame_summary(const struct flame *f, char *to, size_t room, bool utf8)
{
    const struct flame_node *all = &f->node[0];
    const char *of = f->by == FLAME_ALLOCATED  ? "allocated"
                     : f->by == FLAME_RETAINED ? "retained"
                     : f->by == FLAME_LIVE     ? "not freed"
                                               : "waiting for locks";
    if (!all->samples)
        snprintf(to, room, "nothing was sampled");
    else
        snprintf(to, room, "%s %s, estimated from %" PRIu64 " sample%s (%s%.0f%%) at %d place%s",
                 (flame_is_time(f) ? cell_time(all->all, false) : cell_bytes(all->all)).s, of, all->samples,
                 page_plural(all->samples), utf8 ? "\xc2\xb1" : "+-", 100 / sqrt((double)all->samples), f->sites, page_plural((uint64_t)f->sites));
}

/* --- collapsed stacks: "root;outer;inner weight" --- */

static void put_collapsed_name(FILE *to, const char *name)
{
    for (; *name; name++)
        fputc(*name == ';' ? ':' : (unsigned char)*name < 0x20 || *name == 0x7f ? '?' : *name, to);
}

static void put_path(const struct flame *f, uint32_t node, FILE *to)
{
    uint32_t path[256];
    int n = 0;
    for (uint32_t at = node; at && n < 256; at = f->node[at].parent)
        path[n++] = at;
    while (n-- > 0) {
        put_collapsed_name(to, f->name[f->node[path[n]].name]);
        if (n)
            fputc(';', to);
    }
}

static void put_collapsed(const struct flame *f, FILE *to)
{
    for (uint32_t i = 1; i < f->nodes; i++) {
        if (!f->node[i].self)
            continue;
        put_path(f, i, to);
        fprintf(to, " %" PRIu64 "\n", f->node[i].self);
    }
}

/* --- speedscope: https://www.speedscope.app/file-format-schema.json --- */

static void put_sample(const struct flame *f, uint32_t node, FILE *to)
{
    uint32_t path[256];
    int n = 0;
    for (uint32_t at = node; at && n < 256; at = f->node[at].parent)
        path[n++] = at;
    fputc('[', to);
    while (n-- > 0)
        fprintf(to, "%" PRIu32 "%s", f->node[path[n]].name, n ? "," : "");
    fputc(']', to);
}

static void put_speedscope(const struct flame *f, FILE *to)
{
    char title[512];
    int n = 0;
    snprintf(title, sizeof title, "sonde: %s%s%s", flame_word(f->by), f->route ? " by " : "", f->route ? f->route : "");
    fputs("{\"$schema\":\"https://www.speedscope.app/file-format-schema.json\",\"exporter\":\"sonde " SONDE_VERSION "\",\"name\":", to);
    json_put_text(to, title);
    fputs(",\"activeProfileIndex\":0,\"shared\":{\"frames\":[", to);
    for (uint32_t i = 0; i < f->names; i++) {
        fputs(i ? ",{\"name\":" : "{\"name\":", to);
        json_put_text(to, f->name[i]);
        fputc('}', to);
    }
    fputs("]},\"profiles\":[{\"type\":\"sampled\",\"name\":", to);
    json_put_text(to, title);
    fprintf(to, ",\"unit\":\"%s\",\"startValue\":0,\"endValue\":%" PRIu64 ",\"samples\":[",
            flame_is_time(f) ? "nanoseconds" : "bytes", f->node[0].all);
    for (uint32_t i = 1; i < f->nodes; i++) {
        if (!f->node[i].self)
            continue;
        fputs(n++ ? "," : "", to);
        put_sample(f, i, to);
    }
    fputs("],\"weights\":[", to);
    n = 0;
    for (uint32_t i = 1; i < f->nodes; i++)
        if (f->node[i].self)
            fprintf(to, "%s%" PRIu64, n++ ? "," : "", f->node[i].self);
    fputs("]}]}\n", to);
}

int flame_put(const struct flame *f, enum flame_format format, FILE *to)
{
    if (format == FLAME_COLLAPSED)
        put_collapsed(f, to);
    else if (format == FLAME_SPEEDSCOPE)
        put_speedscope(f, to);
    else
        flame_put_html(f, to);
    return fflush(to) == 0 && !ferror(to) ? 0 : -EIO;
}
