/*
 * fuzz_sketch.c - any bytes are either refused, changing nothing, or a sketch that survives another
 * round of encoding.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include "collector/sketch.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct sketch_pool *pool;
    if (!pool)
        pool = sketch_pool_new(1 << 20);
    size_t pages = sketch_pool_free_pages(pool);
    struct sketch a, b;
    sketch_init(&a);
    sketch_init(&b);
    if (sketch_decode_into(&a, pool, data, size) != 0) {
        if (a.count || sketch_pool_free_pages(pool) != pages)
            abort();
        return 0;
    }
    uint8_t bytes[SKETCH_ENCODED_MAX];
    size_t len = sketch_encode(&a, bytes, sizeof bytes);
    if ((len == 0) != (a.count == 0) || sketch_decode_into(&b, pool, bytes, len) != 0)
        abort();
    if (a.count != b.count || a.sum != b.sum || a.min != b.min || a.max != b.max)
        abort();
    for (double q = 0; q <= 1; q += 0.125)
        if (a.count && (sketch_quantile(&a, q) < a.min || sketch_quantile(&b, q) > b.max))
            abort();
    sketch_clear(&a, pool);
    sketch_clear(&b, pool);
    if (sketch_pool_free_pages(pool) != pages)
        abort();
    return 0;
}
