/*
 * rule_tables.h - what an object's unwind tables say about one return address: libunwind as their interpreter.
 *
 * In:      rule.c.                               Out: libunwind-x86_64.so.8, loaded in our constructor.
 * Owns:    the loaded library's functions and its address space.
 * Context: S, under rules.lock, on its own stack, with all signals blocked. tables_load, tables_init: I.
 * Sharing: by rules.lock alone.
 * Failure: RULE_UNKNOWN; false at the start, then no stack is walked in this process.
 *
 * Empty but on x86-64 with glibc, as rule.c is.
 */
#ifndef SONDE_RULE_TABLES_H
#define SONDE_RULE_TABLES_H

#include "shim/rule.h"
#include "shim/rule_object.h"

#if defined(__x86_64__) && defined(__GLIBC__)

/* Finds libunwind; the program's own dlerror() stays as it was. */
bool tables_load(void);

/* Makes its address space, once, after tables_load; it allocates (see rule_is_starting). */
bool tables_init(void);

/* The rule for a return address inside `o`. RULE_FRAME: no table covers it. */
rule_t tables_ask(const struct object *o, uint64_t address);

#endif
#endif
