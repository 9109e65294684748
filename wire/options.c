/*
 * options.c - the settings table and how text becomes a setting.
 *
 * In:      cli (files, --set), the collector's arguments.   Out: struct options.
 * Context: P
 */
#include "wire/options.h"

#include <ctype.h>
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define OPTION_ROW(field, key, def, min, max, help) {key, help, def, min, max, false, offsetof(struct options, field)},
#define SWITCH_ROW(field, key, def, help) {key, help, def, 0, 1, true, offsetof(struct options, field)},
const struct option_row option_rows[] = {OPTIONS(OPTION_ROW, SWITCH_ROW){NULL, NULL, 0, 0, 0, false, 0}};

static uint64_t *field_of(struct options *o, const struct option_row *row)
{
    return (uint64_t *)((char *)o + row->offset);
}

void options_init(struct options *o)
{
    for (const struct option_row *row = option_rows; row->key; row++)
        *field_of(o, row) = row->initial;
}

/* Levenshtein distance, for words of at most 63 letters. */
static unsigned distance(const char *a, const char *b)
{
    unsigned row[64];
    size_t n = strlen(b);
    if (n > 63 || strlen(a) > 63)
        return 64;
    for (size_t j = 0; j <= n; j++)
        row[j] = (unsigned)j;
    for (size_t i = 0; a[i]; i++) {
        unsigned diagonal = row[0]++;
        for (size_t j = 0; j < n; j++) {
            unsigned change = diagonal + (a[i] != b[j]);
            diagonal = row[j + 1];
            unsigned best = row[j] < row[j + 1] ? row[j] + 1 : row[j + 1] + 1;
            row[j + 1] = change < best ? change : best;
        }
    }
    return row[n];
}

static const char *nearest_key(const char *key)
{
    const char *best = NULL;
    unsigned least = 64;
    for (const struct option_row *row = option_rows; row->key; row++) {
        unsigned d = distance(key, row->key);
        if (d < least) {
            least = d;
            best = row->key;
        }
    }
    return best;
}

static int parse_switch(const char *text, uint64_t *out)
{
    static const char *const words[] = {"false", "true", "off", "on", "0", "1", "no", "yes"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (!strcasecmp(text, words[i])) {
            *out = i & 1;
            return 0;
        }
    return -EINVAL;
}

static int parse_number(const char *text, uint64_t *out)
{
    char *end;
    if (!isdigit((unsigned char)*text))
        return -EINVAL;
    errno = 0;
    uint64_t n = strtoull(text, &end, 10);
    if (errno)
        return -ERANGE;
    unsigned shift = 0;
    if (*end && strchr("kKmMgG", *end)) {
        shift = strchr("kK", *end) ? 10 : strchr("mM", *end) ? 20 : 30;
        end++;
        if (!strcmp(end, "iB") || !strcmp(end, "i") || !strcmp(end, "B"))
            end += strlen(end);
    }
    if (*end)
        return -EINVAL;
    if (shift && n >> (64 - shift))
        return -ERANGE;
    *out = n << shift;
    return 0;
}

int options_set(struct options *o, const char *key, const char *value, const char **nearest)
{
    for (const struct option_row *row = option_rows; row->key; row++) {
        if (strcmp(row->key, key) != 0)
            continue;
        uint64_t n;
        int rc = row->is_switch ? parse_switch(value, &n) : parse_number(value, &n);
        if (rc)
            return rc;
        if ((n < row->min || n > row->max) && n != row->initial)
            return -ERANGE;
        *field_of(o, row) = n;
        return 0;
    }
    if (nearest)
        *nearest = nearest_key(key);
    return -ENOENT;
}
