/*
 * partial_malloc.c - a library for test_usage: an allocator that brings malloc, free, calloc and
 * realloc, but no malloc_usable_size. Blocks have a header, so that libc's must never be asked
 * about them.
 */
#include <stddef.h>
#include <string.h>

void *__libc_malloc(size_t);
void __libc_free(void *);

#define HEADER 32 /* its size word lies: whoever reads it as libc's own gets nonsense */

void *malloc(size_t size);
void *calloc(size_t count, size_t size);
void *realloc(void *block, size_t size);
void free(void *block);

void *malloc(size_t size)
{
    size_t *p = __libc_malloc(size + HEADER);
    if (!p)
        return NULL;
    p[0] = size;
    p[3] = 0x5a5a5a5a5a5a5a58;
    return (char *)p + HEADER;
}

void free(void *block)
{
    if (block)
        __libc_free((char *)block - HEADER);
}

void *calloc(size_t count, size_t size)
{
    void *p = size && count > (size_t)-1 / 2 / size ? NULL : malloc(count * size);
    return p ? memset(p, 0, count * size) : NULL;
}

void *realloc(void *block, size_t size)
{
    void *p = malloc(size);
    if (p && block) {
        size_t old = *(size_t *)(void *)((char *)block - HEADER);
        memcpy(p, block, old < size ? old : size);
        free(block);
    }
    return p;
}
