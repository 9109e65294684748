/*
 * golden.h - a page as text against the one that is kept in tests/cases/. SONDE_GOLDEN=1 writes the kept ones anew: read
 * the difference with care.
 */
#ifndef SONDE_TESTS_GOLDEN_H
#define SONDE_TESTS_GOLDEN_H

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Its first 64 KiB, for free(). NULL: there is none. */
static inline char *read_whole(const char *path)
{
    FILE *f = fopen(path, "r");
    if (!f)
        return NULL;
    char *text = calloc(1, 65536);
    size_t n = fread(text, 1, 65535, f);
    text[n] = 0;
    fclose(f);
    return text;
}

/* In characters of UTF-8. */
static inline int longest_line(const char *text)
{
    int longest = 0, width = 0;
    for (; *text; text++) {
        if (*text == '\n')
            width = 0;
        else if (((unsigned char)*text & 0xc0) != 0x80)
            width++;
        longest = width > longest ? width : longest;
    }
    return longest;
}

/* tests/cases/GROUP/NAME.txt */
static inline void same_as_golden(const char *group, const char *name, const char *text)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "tests/cases/%s/%s.txt", group, name);
    if (getenv("SONDE_GOLDEN")) {
        FILE *f = fopen(path, "w");
        assert_non_null(f);
        fputs(text, f);
        fclose(f);
        return;
    }
    char *golden = read_whole(path);
    if (!golden)
        fail_msg("%s is missing", path);
    if (strcmp(golden, text) != 0)
        fail_msg("%s differs; now it is:\n%s", path, text);
    free(golden);
}

#endif
