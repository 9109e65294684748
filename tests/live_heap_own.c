/*
 * live_heap_own.c - a program with a malloc of its own, which its libraries use too: a recorder
 * sees none of it, and must not touch its blocks. Every block is one more piece of a large array;
 * nothing is ever given back.
 */
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ROOM (64u << 20)

static char room[ROOM] __attribute__((aligned(64)));
static size_t used, frees;

void *malloc(size_t size)
{
    size_t whole = (size + 16 + 63) & ~(size_t)63;
    size_t at = __atomic_fetch_add(&used, whole, __ATOMIC_RELAXED);
    if (at + whole > ROOM) {
        errno = ENOMEM;
        return NULL;
    }
    memcpy(&room[at], &size, sizeof size);
    return &room[at + 16];
}

void free(void *block)
{
    frees += block != NULL;
}

void *calloc(size_t count, size_t size)
{
    return malloc(count * size); /* the room is zero */
}

void *realloc(void *block, size_t size)
{
    void *p = malloc(size);
    if (p && block) {
        size_t old;
        memcpy(&old, (char *)block - 16, sizeof old);
        memcpy(p, block, old < size ? old : size);
    }
    return p;
}

static __attribute__((noinline)) bool is_ours(const void *block)
{
    return (const char *)block > room && (const char *)block < room + ROOM;
}

int main(void)
{
    size_t before = used;
    bool right = true;
    for (size_t i = 0; i < 1000; i++) {
        char *p = strdup("by libc, from our room");
        right &= is_ours(p);
        char *q = reallocarray(is_ours(p) ? p : NULL, 4, 20);
        right &= is_ours(q) && !strcmp(q, "by libc, from our room");
        free(q);
    }
    puts(right && used > before && frees >= 1000 ? "ok" : "failed");
    return !right;
}
