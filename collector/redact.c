/*
 * redact.c - masking what may be secret in targets and error texts.
 *
 * In:      sample.c (spans that are kept), route.c (redact_is_opaque)      Out: -
 * Owns:    nothing.
 * Context: P
 * Failure: in doubt it is masked. A secret of fewer than 20 letters in a path can not be told from
 * a word: store.paths=false keeps no paths at all.
 */
#include "collector/redact.h"

#include <ctype.h>
#include <stdint.h>
#include <string.h>
#include <strings.h>

/* ---- judging ---- */

struct shape {
    unsigned digits, lower, upper, separators, upper_pairs,
        rises; /* rises: lower followed by upper */
};

static struct shape shape_of(const char *part, size_t len)
{
    struct shape s = {0};
    char before = 0;
    for (size_t i = 0; i < len; i++) {
        char c = part[i];
        if (c >= '0' && c <= '9') {
            s.digits++;
        } else if (c >= 'a' && c <= 'z') {
            s.lower++;
        } else if (c >= 'A' && c <= 'Z') {
            s.upper++;
            s.upper_pairs += before >= 'A' && before <= 'Z';
            s.rises += before >= 'a' && before <= 'z';
        } else {
            s.separators++;
        }
        before = c;
    }
    return s;
}

/* Digits among letters, or capitals where camelCase would have none; 32 letters in one go are no
 * word either. */
static bool is_mixed(const char *part, size_t len)
{
    struct shape s = shape_of(part, len);
    if (s.digits && s.lower + s.upper)
        return true;
    if (s.lower && (s.upper_pairs >= 2 || s.rises * 4 >= len))
        return true;
    return len >= 32 && !s.separators && !(s.digits == len);
}

/* name@host.tld, user:password@ */
static bool names_a_person(const char *part, size_t len)
{
    const char *at = memchr(part, '@', len);
    if (!at || at == part)
        return false;
    size_t before = (size_t)(at - part), after = len - before - 1;
    if (memchr(part, ':', before))
        return true;
    const char *dot = memrchr(at + 1, '.', after);
    return dot && dot + 1 < part + len && isalpha((unsigned char)dot[1]);
}

bool redact_is_opaque(const char *part, size_t len)
{
    if (len >= REDACT_OPAQUE_LENGTH && is_mixed(part, len))
        return true;
    return len > 2 && names_a_person(part, len);
}

bool redact_holds(const char *text, size_t len, const char *const *words, size_t count)
{
    for (size_t i = 0; i < count; i++)
        for (size_t at = 0, n = strlen(words[i]); at + n <= len; at++)
            if (!strncasecmp(text + at, words[i], n))
                return true;
    return false;
}

bool redact_is_secret_key(const char *key, size_t len)
{
    static const char *const words[] = {
        "token",  "key",    "pass",  "pwd",    "secret",    "auth", "sess", "sign", "sig",
        "code",   "cred",   "jwt",   "otp",    "pin",       "sid",  "csrf", "xsrf", "nonce",
        "cookie", "ticket", "grant", "access", "assertion", "hash", "hmac", "mac",  "mail",
        "phone",  "card",   "cvv",   "cvc",    "iban",      "ssn",  "state"};
    return redact_holds(key, len, words, sizeof words / sizeof *words);
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

size_t redact_decode(const char *from, size_t len, char *to)
{
    size_t n = 0;
    for (size_t i = 0; i < len; i++) {
        int high = from[i] == '%' && i + 2 < len ? hex_digit(from[i + 1]) : -1;
        int low = high >= 0 ? hex_digit(from[i + 2]) : -1;
        to[n++] = low >= 0 ? (char)(high << 4 | low) : from[i];
        i += low >= 0 ? 2 : 0;
    }
    return n;
}

/* ---- writing ---- */

struct out {
    char *at;
    size_t len, room; /* room without the mark of a cut */
    bool full;
};

static void put(struct out *o, const char *text, size_t len)
{
    if (o->full || len > o->room - o->len) {
        o->full = true;
        return;
    }
    memcpy(o->at + o->len, text, len);
    o->len += len;
}

#define PUT(o, literal) put((o), (literal), sizeof(literal) - 1)

static bool is_plain(char c)
{
    return c > ' ' && c < 0x7f;
}

static void put_encoded(struct out *o, const char *text, size_t len)
{
    static const char hex[] = "0123456789ABCDEF";
    size_t run = 0;
    for (size_t i = 0; i < len; i++) {
        if (is_plain(text[i]))
            continue;
        unsigned char c = (unsigned char)text[i];
        put(o, text + run, i - run);
        put(o, (char[]){'%', hex[c >> 4], hex[c & 15]}, 3);
        run = i + 1;
    }
    put(o, text + run, len - run);
}

#define PART_MAX 512

/* Decoded for judging only; longer than any target that is kept. */
static bool hides_something(const char *part, size_t len)
{
    char decoded[PART_MAX];
    if (len < 3)
        return false;
    if (!memchr(part, '%', len))
        return redact_is_opaque(part, len);
    if (len > sizeof decoded)
        return true;
    size_t n = redact_decode(part, len, decoded);
    return redact_is_opaque(decoded, n) || memchr(decoded, '%', n); /* encoded twice */
}

/* The ending of a file's name, dot and all, that may stand behind a mask; 0: none. */
static size_t ending(const char *part, size_t len)
{
    const char *dot = memrchr(part, '.', len);
    size_t n = dot && dot > part ? len - (size_t)(dot - part) : 0;
    bool letter = false;
    for (size_t i = 1; i < n; i++) {
        if (!islower((unsigned char)dot[i]) && !isdigit((unsigned char)dot[i]))
            return 0;
        letter |= islower((unsigned char)dot[i]) != 0;
    }
    return letter && n <= 6 ? n : 0;
}

static void put_part(struct out *o, const char *part, size_t len)
{
    if (!hides_something(part, len)) {
        put_encoded(o, part, len);
        return;
    }
    size_t kept = ending(part, len);
    PUT(o, REDACT_MASK);
    if (!memchr(part, '@', len) && !memchr(part, '%', len))
        put(o, part + len - kept, kept);
}

/* One key=value of a query or of a path part's parameters. */
static void put_pair(struct out *o, const char *pair, size_t len)
{
    char decoded[PART_MAX];
    const char *equals = memchr(pair, '=', len);
    size_t key = equals ? (size_t)(equals - pair) : len;
    if (key > sizeof decoded) {
        PUT(o, REDACT_MASK);
        return;
    }
    put_part(o, pair, key);
    if (!equals)
        return;
    size_t n = redact_decode(pair, key, decoded);
    PUT(o, "=");
    if (redact_is_secret_key(decoded, n) || hides_something(equals + 1, len - key - 1))
        PUT(o, REDACT_MASK);
    else
        put_encoded(o, equals + 1, len - key - 1);
}

static void put_pairs(struct out *o, const char *at, const char *end, bool cut)
{
    for (bool more = true; more;) {
        const char *stop = at;
        while (stop < end && *stop != '&' && *stop != ';')
            stop++;
        more = stop < end;
        if (!more && cut)
            PUT(o, REDACT_CUT);
        else
            put_pair(o, at, (size_t)(stop - at));
        if (more)
            put(o, stop, 1);
        at = stop + 1;
    }
}

static void put_path(struct out *o, const char *at, const char *end, bool cut, bool queries)
{
    for (bool more = true; more;) {
        const char *stop = at;
        while (stop < end && *stop != '/')
            stop++;
        more = stop < end;
        const char *parameters = memchr(at, ';', (size_t)(stop - at));
        if (!more && cut) {
            PUT(o, REDACT_CUT);
        } else {
            put_part(o, at, (size_t)((parameters ? parameters : stop) - at));
            if (parameters && queries) {
                PUT(o, ";");
                put_pairs(o, parameters + 1, stop, false);
            }
        }
        if (more)
            PUT(o, "/");
        at = stop + 1;
    }
}

/* ---- the forms of a target (RFC 9112 3.2) ---- */

static const char *stop_at(const char *at, const char *end, const char *any)
{
    while (at < end && (!*at || !strchr(any, *at)))
        at++;
    return at;
}

/* The end of "scheme:" before "//", NULL: not in absolute form. */
static const char *after_scheme(const char *at, const char *end)
{
    const char *p = at;
    while (p < end && (isalnum((unsigned char)*p) || *p == '+' || *p == '-' || *p == '.'))
        p++;
    return p > at && end - p >= 3 && !memcmp(p, "://", 3) ? p + 1 : NULL;
}

/* Behind "user:password@". */
static const char *after_user(const char *at, const char *end)
{
    for (const char *p = end; p > at; p--)
        if (p[-1] == '@')
            return p;
    return at;
}

/* host:port, as CONNECT has it. */
static bool is_authority(const char *at, const char *end)
{
    const char *colon = end;
    while (colon > at && isdigit((unsigned char)colon[-1]))
        colon--;
    if (colon == end || colon == at || colon[-1] != ':')
        return false;
    for (const char *p = at; p < colon - 1; p++)
        if (!isalnum((unsigned char)*p) && (!*p || !strchr(".-:[]_", *p)))
            return false;
    return true;
}

static void put_target(struct out *o, const char *at, const char *end, bool cut, bool queries)
{
    const char *scheme = after_scheme(at, end);
    const char *fragment = memchr(at, '#', (size_t)(end - at));
    if (fragment) {
        end = fragment;
        cut = false;
    }
    const char *query = memchr(at, '?', (size_t)(end - at));
    const char *path_end = query ? query : end;
    if (scheme && scheme + 2 <= path_end) {
        const char *authority_end = stop_at(scheme + 2, path_end, "/");
        put_encoded(o, at, (size_t)(scheme + 2 - at));
        const char *host = after_user(scheme + 2, authority_end);
        put_encoded(o, host, (size_t)(authority_end - host));
        at = authority_end;
    } else if (at < path_end && *at != '/' && !query && !cut) {
        const char *host = after_user(at, path_end);
        if (is_authority(host, path_end)) {
            put_encoded(o, host, (size_t)(path_end - host));
            return;
        }
    }
    put_path(o, at, path_end, cut && !query, queries);
    if (!query || !queries)
        return;
    PUT(o, "?");
    put_pairs(o, query + 1, end, cut);
}

/*
 * Nearly all targets: plain characters, short parts, no marks of anything else. The bytes of it
 * that may be kept as they are: all, or up to a query that is dropped; 0: look closer.
 */
static size_t harmless(const char *target, size_t len, bool queries)
{
    size_t run = 0;
    if (len == 0 || target[0] != '/')
        return 0;
    for (size_t i = 0; i < len; i++) {
        char c = target[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (c == '?' && !queries)
            return i;
        if (!letter && c != '/' && c != '-' && c != '.' && c != '_')
            return 0;
        run = c == '/' ? 0 : run + 1;
        if (run >= REDACT_OPAQUE_LENGTH)
            return 0;
    }
    return len;
}

size_t redact_target(const char *target, size_t len, bool cut, bool queries, char *out, size_t room)
{
    size_t plain = cut ? 0 : harmless(target, len, queries);
    if (plain && plain <= room) {
        memcpy(out, target, plain);
        return plain;
    }
    struct out o = {.at = out, .room = room - (sizeof REDACT_CUT - 1)};
    put_target(&o, target, target + len, cut, queries);
    if (o.full) {
        o.full = false;
        o.room = room;
        PUT(&o, REDACT_CUT);
    }
    return o.len;
}

size_t redact_word(const char *text, size_t len, char *out, size_t room)
{
    size_t n = 0;
    while (n < len &&
           (isalnum((unsigned char)text[n]) || text[n] == '_' || text[n] == '-' || text[n] == '.'))
        n++;
    if (redact_is_opaque(text, n)) {
        text = REDACT_MASK;
        n = sizeof REDACT_MASK - 1;
    }
    n = n < room ? n : room;
    memcpy(out, text, n);
    return n;
}
