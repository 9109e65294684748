/*
 * bulk.c - what a server's answer to a _bulk request means.
 *
 * In:      bytes of an answer (untrusted)      Out: verdicts for elasticsearch.c
 * Context: P
 *
 * The tables are those of docs/elasticsearch.md; what real servers answered is in tests/cases/bulk/.
 */
#include "collector/sink/bulk.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define DEPTH_MAX 32

/* --- reading JSON ---------------------------------------------------------------------------- */

struct reader {
    const char *p, *end;
    bool bad; /* sticky: not JSON, or cut */
};

static char peek(struct reader *r)
{
    while (r->p < r->end && (*r->p == ' ' || *r->p == '\n' || *r->p == '\r' || *r->p == '\t'))
        r->p++;
    if (r->p < r->end)
        return *r->p;
    r->bad = true;
    return 0;
}

static bool take(struct reader *r, char c)
{
    if (peek(r) != c || r->bad)
        return false;
    r->p++;
    return true;
}

static struct text read_string(struct reader *r)
{
    struct text t = {"", 0};
    if (!take(r, '"')) {
        r->bad = true;
        return t;
    }
    const char *start = r->p;
    while (r->p < r->end && *r->p != '"')
        r->p += *r->p == '\\' ? 2 : 1;
    if (r->p >= r->end) {
        r->p = r->end;
        r->bad = true;
        return t;
    }
    t.at = start;
    t.len = (size_t)(r->p++ - start);
    return t;
}

/* A number, true, false or null. */
static struct text read_word(struct reader *r)
{
    char first = peek(r);
    struct text t = {r->p, 0};
    while (r->p < r->end &&
           (isalnum((unsigned char)*r->p) || *r->p == '-' || *r->p == '+' || *r->p == '.'))
        r->p++;
    t.len = (size_t)(r->p - t.at);
    if (!t.len || r->p == r->end || !(isdigit((unsigned char)first) || strchr("-tfn", first)))
        r->bad = true;
    return t;
}

static bool is(struct text t, const char *word)
{
    return t.len == strlen(word) && !memcmp(t.at, word, t.len);
}

static uint64_t read_integer(struct reader *r)
{
    struct text t = read_word(r);
    uint64_t n = 0;
    for (size_t i = 0; i < t.len && isdigit((unsigned char)t.at[i]) && n < UINT64_MAX / 16; i++)
        n = n * 10 + (uint64_t)(t.at[i] - '0');
    return n;
}

/* The next member's key, its value being next; false at the end of the object (or at a fault). */
static bool next_member(struct reader *r, bool *first, struct text *key)
{
    if (r->bad || take(r, '}'))
        return false;
    if (!*first && !take(r, ','))
        r->bad = true;
    *first = false;
    *key = read_string(r);
    if (!take(r, ':'))
        r->bad = true;
    return !r->bad;
}

static bool next_element(struct reader *r, bool *first)
{
    if (r->bad || take(r, ']'))
        return false;
    if (!*first && !take(r, ','))
        r->bad = true;
    *first = false;
    return !r->bad;
}

static void skip_value(struct reader *r, int depth)
{
    struct text key;
    bool first = true;
    char c = peek(r);
    if (depth > DEPTH_MAX)
        r->bad = true;
    if (r->bad)
        return;
    if (c == '"') {
        read_string(r);
    } else if (c == '{') {
        r->p++;
        while (next_member(r, &first, &key))
            skip_value(r, depth + 1);
    } else if (c == '[') {
        r->p++;
        while (next_element(r, &first))
            skip_value(r, depth + 1);
    } else {
        read_word(r);
    }
}

static struct text string_or_skip(struct reader *r)
{
    struct text none = {"", 0};
    if (peek(r) == '"')
        return read_string(r);
    skip_value(r, 0);
    return none;
}

/* An object with type and reason, or a string, which is then the reason. */
static void read_error(struct reader *r, struct bulk_item *out)
{
    struct text key;
    bool first = true;
    if (peek(r) == '"') {
        out->reason = read_string(r);
        return;
    }
    if (!take(r, '{')) {
        skip_value(r, 0);
        return;
    }
    while (next_member(r, &first, &key)) {
        if (is(key, "type"))
            out->type = string_or_skip(r);
        else if (is(key, "reason"))
            out->reason = string_or_skip(r);
        else
            skip_value(r, 0);
    }
}

/* {"create": {…}}, already behind the first brace */
static void read_item(struct reader *r, struct bulk_item *item)
{
    struct text key;
    bool first = true, inner = true;
    memset(item, 0, sizeof *item);
    item->index.at = item->type.at = item->reason.at = "";
    if (!next_member(r, &first, &key) || !take(r, '{')) {
        r->bad = true;
        return;
    }
    while (next_member(r, &inner, &key)) {
        if (is(key, "status"))
            item->status = (unsigned)read_integer(r);
        else if (is(key, "_index"))
            item->index = string_or_skip(r);
        else if (is(key, "failure_store"))
            item->failure_store = is(string_or_skip(r), "used");
        else if (is(key, "error"))
            read_error(r, item);
        else
            skip_value(r, 0);
    }
    if (!take(r, '}'))
        r->bad = true;
}

/* An item of the same bytes as the one before it means the same: nearly all of them do. */
static uint32_t read_items(struct reader *r, bulk_item_fn each, void *to)
{
    struct bulk_item item;
    struct text last = {"", 0};
    uint32_t count = 0;
    bool first = true;
    if (!take(r, '['))
        r->bad = true;
    while (next_element(r, &first)) {
        const char *start = r->p;
        if (last.len && (size_t)(r->end - start) > last.len && !memcmp(start, last.at, last.len)) {
            r->p += last.len;
        } else {
            if (!take(r, '{'))
                r->bad = true;
            read_item(r, &item);
            last = (struct text){start, (size_t)(r->p - start)};
        }
        if (!r->bad && each)
            each(to, count, &item);
        count++;
    }
    return count;
}

static bool at_end(struct reader *r)
{
    while (r->p < r->end && isspace((unsigned char)*r->p))
        r->p++;
    return r->p == r->end;
}

int bulk_read(const char *answer, size_t len, struct bulk_answer *out, bulk_item_fn each, void *to)
{
    struct reader r = {answer, answer + len, false};
    struct text key;
    bool first = true;
    memset(out, 0, sizeof *out);
    if (!take(&r, '{'))
        return -EPROTO;
    while (next_member(&r, &first, &key)) {
        if (is(key, "items"))
            out->items = read_items(&r, each, to);
        else if (is(key, "errors"))
            out->errors = is(read_word(&r), "true");
        else if (is(key, "took"))
            out->took_ms = read_integer(&r);
        else
            skip_value(&r, 0);
    }
    return r.bad || !at_end(&r) ? -EPROTO : 0;
}

bool bulk_read_error(const char *answer, size_t len, struct bulk_item *out)
{
    struct reader r = {answer, answer + len, false};
    struct text key;
    bool first = true, found = false;
    memset(out, 0, sizeof *out);
    out->index.at = out->type.at = out->reason.at = "";
    if (!take(&r, '{'))
        return false;
    while (next_member(&r, &first, &key)) {
        if (is(key, "error")) {
            read_error(&r, out);
            found = !r.bad;
        } else if (is(key, "status")) {
            out->status = (unsigned)read_integer(&r);
        } else {
            skip_value(&r, 0);
        }
    }
    return found;
}

/* --- verdicts -------------------------------------------------------------------------------- */

static bool contains(struct text t, const char *word)
{
    return t.len && memmem(t.at, t.len, word, strlen(word));
}

enum fate bulk_fate(const struct bulk_item *item)
{
    bool blocked = is(item->type, "cluster_block_exception") ||
                   is(item->type, "index_closed_exception") || is(item->type, "security_exception");
    switch (item->status) {
    case 200:
    case 201:
        return FATE_DONE;
    case 409:
        return FATE_DUPLICATE;
    case 401:
    case 403:
        return FATE_HOLD;
    case 404:
        return FATE_SETUP;
    case 408:
    case 429:
        return blocked ? FATE_HOLD : FATE_RETRY;
    case 500:
        return FATE_RETRY_A_FEW;
    case 502:
    case 503:
    case 504:
        return FATE_RETRY;
    case 400:
        if (blocked ||
            (is(item->type, "validation_exception") && contains(item->reason, "shards open")))
            return FATE_HOLD;
        return FATE_DEAD;
    default:
        return item->status >= 400 && item->status < 500 ? FATE_DEAD : FATE_RETRY_A_FEW;
    }
}

enum outcome bulk_outcome(unsigned status)
{
    switch (status) {
    case 400:
        return OUTCOME_HALVE;
    case 413:
        return OUTCOME_SMALLER;
    case 401:
    case 402:
    case 403:
    case 407:
        return OUTCOME_HOLD;
    case 408:
    case 425:
    case 429:
        return OUTCOME_BACK_OFF;
    default:
        return status < 300 ? OUTCOME_ITEMS : status < 500 ? OUTCOME_SETUP : OUTCOME_BACK_OFF;
    }
}

/* The number after `name` in the reason, 0: none. */
static uint64_t number_after(struct text t, const char *name)
{
    const char *at = t.len ? memmem(t.at, t.len, name, strlen(name)) : NULL;
    if (!at)
        return 0;
    struct reader r = {at + strlen(name), t.at + t.len, false};
    return read_integer(&r);
}

size_t bulk_pressure_limit(const struct bulk_item *error, size_t body_bytes)
{
    uint64_t wants = number_after(error->reason, "coordinating_operation_bytes=");
    uint64_t most = number_after(error->reason, "max_coordinating_bytes="); /* Elasticsearch */
    if (!most)
        most = number_after(error->reason, "max_coordinating_and_primary_bytes="); /* OpenSearch */
    if (!wants || !most || wants <= most)
        return 0;
    return (size_t)((double)body_bytes * ((double)most / (double)wants));
}

/* These reasons speak of the cluster, not of a document. */
static bool is_harmless(struct text type)
{
    static const char *const types[] = {
        "cluster_block_exception",      "validation_exception",
        "security_exception",           "es_rejected_execution_exception",
        "rejected_execution_exception", "circuit_breaking_exception",
        "index_not_found_exception",    "index_closed_exception",
        "invalid_index_name_exception"};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (is(type, types[i]))
            return true;
    return false;
}

static void print_clean(char *to, size_t room, const char *from, size_t len)
{
    size_t n = 0;
    for (size_t i = 0; i < len && n + 1 < room; i++)
        if (from[i] != '\\')
            to[n++] =
                (char)((unsigned char)from[i] < 0x20 || (unsigned char)from[i] == 0x7f ? ' '
                                                                                       : from[i]);
    to[n] = 0;
}

void bulk_reason(const struct bulk_item *item, char *to, size_t room)
{
    struct text shown = item->type;
    char clean[200];
    const char *field =
        item->reason.len ? memmem(item->reason.at, item->reason.len, "failed to parse field [", 23)
                         : NULL;
    print_clean(to, room, shown.at, shown.len);
    if (!item->type.len ||
        is_harmless(item->type)) { /* without a type it is a plain message of the server */
        print_clean(clean, sizeof clean, item->reason.at, item->reason.len);
    } else if (field) { /* "failed to parse field [n] of type [long] in document with … Preview of
                           field's value: …" */
        const char *end = item->reason.at + item->reason.len,
                   *stop = memmem(field, (size_t)(end - field), "] in doc", 8);
        print_clean(clean, sizeof clean, field, stop ? (size_t)(stop + 1 - field) : 23 - 1);
    } else {
        return;
    }
    size_t used = strlen(to);
    if (*clean && used + 3 < room)
        snprintf(to + used, room - used, "%s%s", used ? ": " : "", clean);
}
