/*
 * wrap_loader.c - objects that go away: what was learned of their code is forgotten.
 *
 * In:      the program.                          Out: rule.h.
 * Context: A: dlclose runs destructors, which may do anything.
 */
#define _GNU_SOURCE
#include "shim/real.h"
#include "shim/rule.h"

int on_dlclose(void *handle)
{
    rule_unload_begin();
    int result = real.dlclose(handle);
    rule_unload_end();
    return result;
}
