/*
 * jemalloc.h - jemalloc's own heap profile.
 *
 * Context: I
 */
#ifndef SONDE_JEMALLOC_H
#define SONDE_JEMALLOC_H

#include "collector/settings.h"

#define JEMALLOC_LIBRARY "libjemalloc.so.2"

enum jemalloc { JEMALLOC_MISSING, JEMALLOC_PLAIN, JEMALLOC_PROFILES };
enum jemalloc jemalloc_look(void); /* asks the library, by running `true` with it */

char *jemalloc_prefix(const char *wanted);  /* absolute (servers leave their folder); NULL, "": the default; malloc'd */
int jemalloc_refuse(const char *prefix);    /* 0: it can be written there; else told */
void jemalloc_environment(const struct settings *); /* MALLOC_CONF, for the child before exec */
void jemalloc_tell(const struct settings *);        /* after the end: which files there are, or why none */

#endif
