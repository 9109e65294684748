/*
 * redact.h - what of a request's target, of an error's text and of a command line may be kept.
 *
 * Context: P. Everything of a span that is stored or sent passes here, names of endpoints by
 * redact_is_opaque.
 *
 * Masked are: path parts of 20 or more mixed characters (tokens, hashes, keys), e-mail addresses
 * and user:password pairs; dropped: user and password of absolute URLs, fragments, and the query
 * unless it is wanted (then the values of keys that sound secret, and opaque ones, are masked).
 * Bytes that are no printable ASCII are percent-encoded. Percent encoding hides nothing: parts are
 * judged decoded. docs/routes.md has the whole list.
 */
#ifndef SONDE_REDACT_H
#define SONDE_REDACT_H

#include <stdbool.h>
#include <stddef.h>

#define REDACT_MASK "{masked}"
#define REDACT_CUT "{cut}"      /* stands for the last, incomplete part of a target that was cut */
#define REDACTED_MAX 512        /* longest redacted target */
#define REDACT_OPAQUE_LENGTH 20 /* from here on mixed characters are taken for a secret */

/* A path part, decoded, that looks like a token, an e-mail address or user:password. */
bool redact_is_opaque(const char *part, size_t len);
/* A key whose value is masked: token, password, secret, auth, session, signature, code, ... in any
 * part of it. */
bool redact_is_secret_key(const char *key, size_t len);
/* One of the words stands in the text, in capitals or not. */
bool redact_holds(const char *text, size_t len, const char *const *words, size_t count);
/* Decodes %XX; `to` has room for `len` bytes; the bytes written. */
size_t redact_decode(const char *from, size_t len, char *to);

/*
 * `cut`: the target goes on but was not kept. `room` is at least 64; what does not fit ends in
 * REDACT_CUT. The bytes written, printable ASCII without NUL.
 */
size_t redact_target(const char *target, size_t len, bool cut, bool queries, char *out,
                     size_t room);
/* The first word of an error text, at most `room` bytes; the bytes written. */
size_t redact_word(const char *text, size_t len, char *out, size_t room);

/*
 * A command line, malloced words and a NULL: masked in place are values of options and variables that are called after
 * secrets (--requirepass X, --token=X, DB_PASSWORD=X), of such headers (Authorization: X), passwords behind -u USER: and
 * --user, user and password of URLs. A script in one word (sh -c) is not looked into, the program's name never changes.
 */
void redact_command(char **words);

#endif
