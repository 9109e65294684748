/*
 * route_path.c - cutting a target in segments and telling words from identifiers.
 *
 * In:      route.c        Out: redact.h (what is opaque)
 * Owns:    nothing.
 * Context: P
 *
 * One pass over the bytes of a segment counts what it is made of; only those with '%', ';' or bytes
 * that are no printable ASCII are copied and looked at again.
 */
#include "collector/route_path.h"

#include <ctype.h>
#include <string.h>
#include "collector/redact.h"

#define TARGET_MOST 512

/* ---- what a segment is made of ---- */

enum byte_class {
    DIGIT = 1,
    HEX = 2,
    LETTER = 4,
    DASH = 8,
    DOT = 16,
    NUMERIC = 32,
    ODD = 64,
    AT = 128
};

/* clang-format off */
static const uint8_t class_of[256] = {
    [0 ... ' '] = ODD, ['%'] = ODD, [';'] = ODD, ['*'] = ODD, ['{'] = ODD, ['}'] = ODD, [0x7f ... 255] = ODD,
    ['0' ... '9'] = DIGIT, ['A' ... 'F'] = HEX, ['a' ... 'f'] = HEX, ['G' ... 'Z'] = LETTER, ['g' ... 'z'] = LETTER,
    ['+'] = NUMERIC, [','] = NUMERIC, [':'] = NUMERIC, ['-'] = DASH, ['.'] = DOT, ['@'] = AT,
};
/* clang-format on */

struct made_of {
    uint8_t any; /* all classes that occur */
    unsigned digits;
};

static struct made_of look(const char *text, size_t len)
{
    struct made_of m = {0};
    for (size_t i = 0; i < len; i++) {
        uint8_t class = class_of[(unsigned char)text[i]];
        m.any |= class;
        m.digits += class & DIGIT;
    }
    return m;
}

static bool all_digits(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (!isdigit((unsigned char)text[i]))
            return false;
    return true;
}

/* 2024-01, 2024-01-31, and with a time behind a T. */
static bool is_date(const char *text, size_t len)
{
    if (len < 7 || !all_digits(text, 4) || text[4] != '-' || !all_digits(text + 5, 2))
        return false;
    if (text[0] != '1' && text[0] != '2')
        return false;
    int month = (text[5] - '0') * 10 + text[6] - '0';
    if (month < 1 || month > 12)
        return false;
    if (len == 7)
        return true;
    return len >= 10 && text[7] == '-' && all_digits(text + 8, 2) &&
           (len == 10 || text[10] == 'T' || text[10] == ' ');
}

/* Digits with signs and separators; not 2.0, which is a version. */
static bool is_number(struct made_of m, size_t len)
{
    if (m.digits == len)
        return true;
    return m.digits && !(m.any & (uint8_t) ~(DIGIT | DASH | DOT | NUMERIC)) &&
           !(len == 3 && m.any == (DIGIT | DOT));
}

/* a1b2c3d: hexadecimal, too many digits for a word. */
static bool is_hash(struct made_of m, size_t len)
{
    return len >= 7 && m.digits >= 2 && m.any == (DIGIT | HEX);
}

static bool is_uuid(const char *text, size_t len, struct made_of m)
{
    return len == 36 && m.any == (m.any & (DIGIT | HEX | DASH)) && text[8] == '-' &&
           text[13] == '-' && text[18] == '-' && text[23] == '-';
}

static enum segment_kind kind_of(const char *text, size_t len, struct made_of m)
{
    if (m.digits) {
        if (is_date(text, len))
            return SEGMENT_DATE;
        if (is_number(m, len) || is_hash(m, len) || is_uuid(text, len, m))
            return SEGMENT_ID;
    }
    if ((len >= REDACT_OPAQUE_LENGTH || (m.any & AT)) && redact_is_opaque(text, len))
        return SEGMENT_ID;
    return len > SEGMENT_TEXT ? SEGMENT_NAME : SEGMENT_LITERAL;
}

/* ---- files ---- */

size_t segment_ending(const char *text, size_t len)
{
    const char *dot = memrchr(text, '.', len);
    if (!dot || dot == text)
        return 0;
    size_t n = len - (size_t)(dot + 1 - text);
    bool letter = false;
    for (size_t i = 1; i <= n; i++) {
        if (!islower((unsigned char)dot[i]) && !isdigit((unsigned char)dot[i]))
            return 0;
        letter |= islower((unsigned char)dot[i]) != 0;
    }
    return letter && n <= 5 ? n : 0;
}

/* One of the words of a file's name that bundlers and cameras make: 9f3c2a, BNqSdX8k, 20240131. */
static bool is_stamp(const char *text, size_t len)
{
    struct made_of m = look(text, len);
    unsigned rises = 0, pairs = 0, digit_before_letter = 0;
    if (m.digits == len)
        return len >= 4;
    if (m.any == (DIGIT | HEX) && len >= 6 && m.digits >= 2)
        return true;
    for (size_t i = 1; i < len; i++) {
        bool upper = isupper((unsigned char)text[i]);
        rises += upper && islower((unsigned char)text[i - 1]);
        pairs += upper && isupper((unsigned char)text[i - 1]);
        digit_before_letter +=
            isalpha((unsigned char)text[i]) && isdigit((unsigned char)text[i - 1]);
    }
    if (len >= 8 && digit_before_letter)
        return true;
    return len == 8 && (m.any & (HEX | LETTER)) && (rises >= 2 || (rises && pairs));
}

static bool is_stamped_file(const char *text, size_t len, size_t ending)
{
    size_t stem = len - ending - 1;
    enum segment_kind kind = kind_of(text, stem, look(text, stem));
    if (kind == SEGMENT_ID || kind == SEGMENT_DATE)
        return true;
    for (size_t at = 0, i = 0; i <= stem; i++) {
        if (i < stem && !strchr(".-_", text[i]))
            continue;
        if (is_stamp(text + at, i - at))
            return true;
        at = i + 1;
    }
    return false;
}

/* ---- segments ---- */

static uint64_t load64(const char *at)
{
    uint64_t word;
    memcpy(&word, at, sizeof word);
    return word;
}

/* Fewer than 8 bytes as one word: their first and last four may overlap. */
static uint64_t load_few(const char *at, size_t len)
{
    uint32_t low, high;
    if (len < 4)
        return len ? (uint64_t)(uint8_t)at[0] << 16 | (uint64_t)(uint8_t)at[len / 2] << 8 |
                         (uint8_t)at[len - 1]
                   : 0;
    memcpy(&low, at, sizeof low);
    memcpy(&high, at + len - sizeof high, sizeof high);
    return low | (uint64_t)high << 32;
}

void segment_make(struct segment *s, enum segment_kind kind, const char *text, size_t len)
{
    const uint64_t k = UINT64_C(0x9e3779b97f4a7c15);
    uint64_t h = k * (kind + 1) ^ len;
    *s = (struct segment){.kind = (uint8_t)kind, .len = (uint8_t)len, .text = text};
    for (size_t i = 0; i + 8 < len; i += 8) {
        h = (h ^ load64(text + i)) * UINT64_C(0xff51afd7ed558ccd);
        h ^= h >> 32;
    }
    h = (h ^ (len < 8 ? load_few(text, len) : load64(text + len - 8))) * k;
    s->hash = (uint32_t)(h >> 32);
}

size_t segment_write(const struct segment *s, char *to)
{
    static const char *const words[] = {
        [SEGMENT_ID] = "{id}",     [SEGMENT_DATE] = "{date}", [SEGMENT_NAME] = "{name}",
        [SEGMENT_REST] = "{rest}", [SEGMENT_ASTERISK] = "*",  [SEGMENT_AUTHORITY] = "{authority}"};
    const char *text = s->text;
    size_t len = s->len, n = 0;
    if (s->kind == SEGMENT_FILE) {
        memcpy(to, "*.", 2);
        n = 2;
    } else if (s->kind != SEGMENT_LITERAL) {
        text = words[s->kind];
        len = strlen(text);
    }
    memcpy(to + n, text, len);
    return n + len;
}

static void add(struct path *p, const char *text, size_t len, struct made_of m, bool last)
{
    struct segment *s = &p->segment[p->count];
    if (p->count == PATH_SEGMENTS)
        return;
    if (++p->count == PATH_SEGMENTS && !last) {
        segment_make(s, SEGMENT_REST, NULL, 0);
        return;
    }
    size_t ending = last && (m.any & DOT) ? segment_ending(text, len) : 0;
    if (ending && is_stamped_file(text, len, ending)) {
        segment_make(s, SEGMENT_FILE, text + len - ending, ending);
        return;
    }
    enum segment_kind kind = kind_of(text, len, m);
    segment_make(s, kind, text, kind == SEGMENT_LITERAL ? len : 0);
}

/* Printable and none of those that stand for structure in a name or in a target: as it is; else
 * %XX, so that nobody can make up a `{name}` of ours. */
static size_t normalise(const char *from, size_t len, char *to)
{
    static const char hex[] = "0123456789ABCDEF";
    char decoded[TARGET_MOST];
    size_t n = 0, m = redact_decode(from, len, decoded);
    for (size_t i = 0; i < m; i++) {
        unsigned char c = (unsigned char)decoded[i];
        if (c > ' ' && c < 0x7f && !strchr("/%?#;*{}", c)) {
            to[n++] = (char)c;
        } else {
            to[n++] = '%';
            to[n++] = hex[c >> 4];
            to[n++] = hex[c & 15];
        }
    }
    return n;
}

static void go_up(struct path *p)
{
    p->count -= p->count > 0;
}

static void add_slash(struct path *p)
{
    add(p, "", 0, (struct made_of){0}, true);
}

/* One part between slashes, made of `m`. */
static void take(struct path *p, const char *text, size_t len, struct made_of m, bool last)
{
    if (m.any & ODD) {
        const char *parameters = memchr(text, ';', len);
        char *copy = p->decoded + p->decoded_len;
        len = normalise(text, parameters ? (size_t)(parameters - text) : len, copy);
        p->decoded_len += len;
        text = copy;
        m = look(text, len);
    }
    bool dots = m.any == DOT && len <= 2;
    if (dots && len == 2)
        go_up(p);
    if (len && !dots)
        add(p, text, len, m, last);
    else if (last)
        add_slash(p);
}

/* ---- targets ---- */

size_t path_length(const char *target, size_t len)
{
    const char *end = memchr(target, '?', len);
    if (end)
        len = (size_t)(end - target);
    end = memchr(target, '#', len);
    return end ? (size_t)(end - target) : len;
}

/* Where the path of "scheme://authority/path" begins; NULL: not in absolute form. */
static const char *absolute(const char *target, const char *end)
{
    const char *p = target;
    while (p < end && (isalnum((unsigned char)*p) || *p == '+' || *p == '-' || *p == '.'))
        p++;
    if (p == target || end - p < 3 || memcmp(p, "://", 3) != 0)
        return NULL;
    p += 3;
    const char *slash = memchr(p, '/', (size_t)(end - p));
    return slash ? slash : end;
}

static void take_all(struct path *p, const char *at, const char *end, bool cut)
{
    for (bool last = false; !last;) {
        struct made_of m = {0};
        const char *stop = at;
        for (; stop < end && *stop != '/'; stop++) {
            uint8_t class = class_of[(unsigned char)*stop];
            m.any |= class;
            m.digits += class & DIGIT;
        }
        last = stop == end;
        if (!last || !cut)
            take(p, at, (size_t)(stop - at), m, last);
        at = stop + 1;
    }
    if (cut && p->count < PATH_SEGMENTS)
        segment_make(&p->segment[p->count++], SEGMENT_REST, NULL, 0);
}

void path_parse(struct path *p, const char *target, size_t len, bool cut, bool authority)
{
    size_t whole = len;
    len = path_length(target, len);
    cut = cut && len == whole;
    if (len > TARGET_MOST) {
        len = TARGET_MOST;
        cut = true;
    }
    const char *at = target, *end = target + len;
    p->count = 0;
    p->decoded_len = 0;
    if (authority || (len == 1 && *at == '*')) {
        segment_make(&p->segment[p->count++], authority ? SEGMENT_AUTHORITY : SEGMENT_ASTERISK,
                     NULL, 0);
        return;
    }
    if (len == 0 || *at != '/')
        at = len ? absolute(at, end) : NULL;
    if (at)
        take_all(p, at < end ? at + 1 : at, end, cut);
}
