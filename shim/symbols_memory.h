/*
 * symbols_memory.h - part of the list in symbols.h: the malloc family. malloc_usable_size and mallctl are only asked
 * (usage.c), never exported. No original at all: as if memory were out.
 */
/* clang-format off */

#define OUT_OF_MEMORY ((errno = ENOMEM), 0)

HAND(memory, void *, malloc, (size_t size), (size), must, OUT_OF_MEMORY)
HAND(memory, void, free, (void *block), (block), must, 0)
HAND(memory, void *, calloc, (size_t count, size_t size), (count, size), must, OUT_OF_MEMORY)
HAND(memory, void *, realloc, (void *block, size_t size), (block, size), must, OUT_OF_MEMORY)
HAND(memory, void *, reallocarray, (void *block, size_t count, size_t size), (block, count, size), may, OUT_OF_MEMORY)
HAND(memory, void *, memalign, (size_t alignment, size_t size), (alignment, size), may, OUT_OF_MEMORY)
HAND(memory, void *, aligned_alloc, (size_t alignment, size_t size), (alignment, size), may, OUT_OF_MEMORY)
HAND(memory, int, posix_memalign, (void **block, size_t alignment, size_t size), (block, alignment, size), must, ENOMEM)
HAND(memory, void *, valloc, (size_t size), (size), may, OUT_OF_MEMORY)
HAND(memory, void *, pvalloc, (size_t size), (size), may, OUT_OF_MEMORY)
