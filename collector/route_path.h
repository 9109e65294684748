/*
 * route_path.h - a request's target as a sequence of segments, those that identify one thing
 * already collapsed.
 *
 * Context: P
 */
#ifndef SONDE_ROUTE_PATH_H
#define SONDE_ROUTE_PATH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum segment_kind {
    SEGMENT_LITERAL, /* text; empty: the path ends in a slash */
    SEGMENT_ID,   /* {id}: numbers, UUIDs, hashes, e-mail addresses, 20 or more mixed characters */
    SEGMENT_DATE, /* {date} */
    SEGMENT_FILE, /* *.text: a file whose name has a number or hash in it */
    SEGMENT_NAME, /* {name}: too long for a literal, or one of too many */
    SEGMENT_REST, /* {rest}: deeper than PATH_SEGMENTS, or cut off */
    SEGMENT_ASTERISK, /* `OPTIONS *` */
    SEGMENT_AUTHORITY /* `CONNECT {authority}` */
};

#define PATH_SEGMENTS 12
#define SEGMENT_TEXT 48 /* longest literal */

struct segment {
    uint8_t kind, len;
    uint32_t hash;    /* of kind and text */
    const char *text; /* in the target, or in path.decoded */
};

struct path {
    unsigned count; /* 0: this is no target; "/" is one empty literal */
    struct segment segment[PATH_SEGMENTS];
    size_t decoded_len;
    char decoded[3 * 512];
};

/*
 * `len` without query (see path_length) is at most 512, more counts as cut. `authority`: the method
 * is CONNECT. Percent-encoding is normalised (RFC 3986 6.2.2), "//" and "." vanish, ".." goes up,
 * ";parameters" are left out.
 */
void path_parse(struct path *, const char *target, size_t len, bool cut, bool authority);
/* Bytes of the target before its query or fragment. */
size_t path_length(const char *target, size_t len);

void segment_make(struct segment *, enum segment_kind, const char *text,
                  size_t len); /* sets the hash */
/* The ending of a literal that looks like a file's name ("css" of "site.css"); its length, 0: none.
 */
size_t segment_ending(const char *text, size_t len);
/* As it stands in a name, without the slash; at most SEGMENT_TEXT + 2 bytes. */
size_t segment_write(const struct segment *, char *to);

#endif
