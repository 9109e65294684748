/*
 * verb.h - the methods and commands that exist: the bounded part of every endpoint's name.
 *
 * Context: P
 * A word that is none of them is shown as {other}: clients can send what they like, also a password
 * where a command belongs.
 */
#ifndef SONDE_VERB_H
#define SONDE_VERB_H

#include <stddef.h>

#define VERB_OTHER "{other}"

/* The same word as a string that lives for ever, VERB_OTHER when there is no such method. Methods
 * are case-sensitive. */
const char *verb_http(const char *, size_t len);
/* The command of "CONFIG", "config get" or "CONFIG|GET" is CONFIG: what follows may be anything. */
const char *verb_redis(const char *, size_t len);

#endif
