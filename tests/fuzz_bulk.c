/*
 * fuzz_bulk.c - answers of a server that may say anything: nothing is read outside them, the same
 * answer means the same twice, items are told one by one, reasons are clean.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "collector/sink/bulk.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void see(void *to, uint32_t position, const struct bulk_item *item)
{
    uint32_t *next = to;
    char words[64];
    if (position != (*next)++)
        abort();
    bulk_fate(item);
    bulk_reason(item, words, sizeof words);
    if (strlen(words) >= sizeof words || strpbrk(words, "\n\r\t\033"))
        abort();
    if (bulk_pressure_limit(item, 1000) > 1000)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bulk_answer with, without;
    struct bulk_item error;
    uint32_t next = 0;
    char *text = malloc(size ? size : 1); /* of its own size, so that the sanitizer sees the edge */
    if (!text)
        return 0;
    if (size)
        memcpy(text, data, size);
    int rc = bulk_read(text, size, &with, see, &next);
    if (rc != bulk_read(text, size, &without, NULL, NULL) || with.items != without.items)
        abort();
    if (!rc && next < with.items)
        abort();
    next = 0;
    if (bulk_read_error(text, size, &error))
        see(&next, 0, &error);
    free(text);
    return 0;
}
