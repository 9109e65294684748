/*
 * exports.c - the exported functions, made from the table; each only calls its on_name.
 *
 * In:      the program and its libraries.       Out: wrap_*.c.
 * Context: S
 *
 * They stand apart from their bodies so that the bodies can be linked into tests without hiding libc.
 */
#define _GNU_SOURCE
#include "shim/real.h"

#define CALL(group, type, name, parameters, arguments, need, fallback)                                                 \
    EXPORTED type name parameters                                                                                      \
    {                                                                                                                  \
        return on_##name arguments;                                                                                    \
    }
#define HAND(group, type, name, parameters, arguments, need, fallback)
#define VARIADIC(group, type, name, prototype, parameters, arguments, need, fallback)
#define TAIL(group, type, name, parameters, need)
#include "shim/symbols.h"
