/*
 * image.c - executed images and forked children, by their number in the run.
 *
 * Context: C
 * Failure: no memory: the image is not known, its events are not charged.
 */
#include "collector/image.h"

#include <stdlib.h>
#include <string.h>

#define BUCKETS 4096u

struct images {
    struct image *bucket[BUCKETS];
    struct image *free;
};

struct images *images_new(void)
{
    return calloc(1, sizeof(struct images));
}

static void free_chain(struct image *i)
{
    while (i) {
        struct image *next = i->next;
        free(i);
        i = next;
    }
}

void images_free(struct images *all)
{
    if (!all)
        return;
    for (uint32_t b = 0; b < BUCKETS; b++)
        free_chain(all->bucket[b]);
    free_chain(all->free);
    free(all);
}

struct image *image_find(const struct images *all, uint32_t number)
{
    struct image *i = all->bucket[number % BUCKETS];
    while (i && i->number != number)
        i = i->next;
    return i;
}

struct image *image_make(struct images *all, uint32_t number)
{
    struct image *i = image_find(all, number);
    if (i || !number)
        return i;
    i = all->free;
    if (i)
        all->free = i->next;
    else
        i = malloc(sizeof *i);
    if (!i)
        return NULL;
    memset(i, 0, sizeof *i);
    i->number = number;
    i->exit_code = i->signal = -1;
    i->next = all->bucket[number % BUCKETS];
    all->bucket[number % BUCKETS] = i;
    return i;
}

void image_drop(struct images *all, struct image *i)
{
    struct image **link = &all->bucket[i->number % BUCKETS];
    while (*link && *link != i)
        link = &(*link)->next;
    if (!*link)
        return;
    *link = i->next;
    i->number = 0;
    i->next = all->free;
    all->free = i;
}

void image_each(struct images *all, void (*visit)(void *to, struct image *), void *to)
{
    for (uint32_t b = 0; b < BUCKETS; b++) {
        struct image *next;
        for (struct image *i = all->bucket[b]; i; i = next) {
            next = i->next;
            visit(to, i);
        }
    }
}

struct image *image_of_pid(const struct images *all, int32_t pid)
{
    struct image *found = NULL;
    for (uint32_t b = 0; b < BUCKETS; b++)
        for (struct image *i = all->bucket[b]; i; i = i->next)
            if (i->pid == pid && i->end <= IMAGE_DIED && (!found || i->number > found->number))
                found = i;
    return found;
}

/* --- children ------------------------------------------------------------------------------------------------------- */

static bool child_lives(const struct images *all, const struct child *c, uint64_t now_ns)
{
    if (!c->pid)
        return false;
    if (!c->process)
        return now_ns < c->time_ns + FORK_UNSEEN_NS;
    const struct image *i = image_find(all, c->process);
    return i && i->end == IMAGE_LIVES;
}

static struct child *child_slot(struct images *all, struct image *i, uint64_t now_ns)
{
    for (uint32_t n = 0; n < i->children_used; n++)
        if (!child_lives(all, &i->children[n], now_ns))
            return &i->children[n];
    if (i->children_used < IMAGE_FORKS)
        return &i->children[i->children_used++];
    return &i->children[i->children_next++ % IMAGE_FORKS];
}

void image_forked(struct images *all, struct image *i, int32_t pid, uint64_t time_ns)
{
    *child_slot(all, i, time_ns) = (struct child){.pid = pid, .time_ns = time_ns};
    if (time_ns > i->last_fork_ns)
        i->last_fork_ns = time_ns;
}

void image_child_seen(struct images *all, struct image *parent, int32_t pid, uint32_t number, uint64_t time_ns)
{
    for (uint32_t n = 0; n < parent->children_used; n++)
        if (parent->children[n].pid == pid && !parent->children[n].process) {
            parent->children[n].process = number;
            return;
        }
    *child_slot(all, parent, time_ns) = (struct child){.pid = pid, .process = number, .time_ns = time_ns};
    if (time_ns > parent->last_fork_ns)
        parent->last_fork_ns = time_ns;
}

void image_child_gone(struct image *parent, int32_t pid)
{
    for (uint32_t n = 0; n < parent->children_used; n++)
        if (parent->children[n].pid == pid)
            parent->children[n].pid = 0;
}

bool image_has_children(const struct images *all, const struct image *i, uint64_t since_ns, uint64_t now_ns)
{
    if (i->last_fork_ns < since_ns)
        return false;
    for (uint32_t n = 0; n < i->children_used; n++)
        if (i->children[n].time_ns >= since_ns && child_lives(all, &i->children[n], now_ns))
            return true;
    return false;
}
