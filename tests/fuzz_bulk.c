/*
 * fuzz_bulk.c - answers of a server that may say anything: nothing is read outside them, the same
 * answer means the same twice, items are told one by one, reasons are clean.
 *
 * `--write-seeds=DIR` writes the answers of tests/cases/bulk as inputs and ends.
 */
#include <dirent.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "collector/sink/bulk.h"

#define CASES "tests/cases/bulk"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What stands behind the first empty line of a case is the answer. */
static bool write_seed(const char *name, const char *folder)
{
    static char text[1 << 16];
    char path[PATH_MAX];
    snprintf(path, sizeof path, CASES "/%s", name);
    FILE *f = fopen(path, "r");
    if (!f)
        return false;
    text[fread(text, 1, sizeof text - 1, f)] = 0;
    fclose(f);
    const char *answer = strstr(text, "\n\n");
    snprintf(path, sizeof path, "%s/%s", folder, name);
    f = answer ? fopen(path, "w") : NULL;
    if (!f)
        return false;
    fputs(answer + 2, f);
    return fclose(f) == 0;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    if (*argc < 2 || strncmp((*argv)[1], "--write-seeds=", 14) != 0)
        return 0;
    DIR *cases = opendir(CASES);
    unsigned written = 0;
    for (struct dirent *e; cases && (e = readdir(cases));) {
        if (!strstr(e->d_name, ".case"))
            continue;
        if (!write_seed(e->d_name, (*argv)[1] + 14))
            exit(1);
        written++;
    }
    exit(!written);
}

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
