/*
 * live_stack_sizes.c - blocks of many sizes, mixed; with -v prints how many of each usable size, "size BYTES BLOCKS".
 *
 */
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "live.h"

#define ROUNDS 100000

static const size_t sizes[] = {24, 40, 104, 456, 1000, 9000};
#define SIZES (sizeof sizes / sizeof *sizes)

int main(int argc, char **argv)
{
    size_t usable[SIZES] = {0}, blocks[SIZES] = {0};
    unsigned state = 1;
    for (unsigned round = 0; round < ROUNDS * SIZES; round++) {
        state = state * 1103515245 + 12345;
        size_t i = state / 65536 % SIZES;
        void *block = malloc(sizes[i]);
        CHECK(block != NULL);
        usable[i] = malloc_usable_size(block);
        blocks[i]++;
        free(block);
    }
    for (size_t i = 0; argc > 1 && !strcmp(argv[1], "-v") && i < SIZES; i++)
        printf("size %zu %zu\n", usable[i], blocks[i]);
    return 0;
}
