/*
 * fuzz_route.c - any verbs and targets: names stay printable and bounded, foretold names fit,
 * redaction lets no byte through that is no printable ASCII. Input: per request one byte of flags,
 * verb, NUL, target, NUL.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "collector/redact.h"
#include "collector/route.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint32_t made, live;

static void expect_printable(const char *text, size_t len, size_t most)
{
    if (len > most)
        abort();
    for (size_t i = 0; i < len; i++)
        if (text[i] < ' ' || text[i] > '~')
            abort();
}

static uint32_t on_create(void *to, const char *name, size_t len, const char *verb)
{
    (void)to;
    (void)verb;
    expect_printable(name, len, ROUTE_NAME_MAX);
    live++;
    return ++made;
}

static void on_merge(void *to, uint32_t from, uint32_t into)
{
    (void)to;
    if (from == into || from > made || into > made)
        abort();
    live--;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    enum { LIMIT = 70 };
    struct route_cache *cache = route_cache_new();
    made = live = 0;
    enum route_style style = size ? data[0] % 3 : ROUTE_HTTP;
    struct routes *r =
        routes_new(style, LIMIT, cache, &(struct route_events){on_create, on_merge, NULL});
    while (size > 3) {
        uint8_t flags = *data++;
        size--;
        char name[ROUTE_NAME_MAX], redacted[REDACTED_MAX];
        struct route_request q = {.verb = (const char *)data,
                                  .verb_len = strnlen((const char *)data, size)};
        data += q.verb_len;
        size -= q.verb_len;
        if (size == 0)
            break;
        q.target = (const char *)++data;
        size--;
        q.target_len = strnlen(q.target, size);
        q.cut = flags & 1;
        q.missing = flags & 2;
        expect_printable(name, routes_name(r, style, &q, name), sizeof name);
        if (routes_find(r, &q) == 0)
            abort();
        expect_printable(
            redacted,
            redact_target(q.target, q.target_len, q.cut, flags & 4, redacted, sizeof redacted),
            sizeof redacted);
        data += q.target_len;
        size -= q.target_len;
        data += size > 0;
        size -= size > 0;
    }
    if (routes_live(r) > LIMIT + 60 && style != ROUTE_REDIS)
        abort();
    routes_free(r);
    route_cache_free(cache);
    return 0;
}
