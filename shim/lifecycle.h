/*
 * lifecycle.h - how a process and its threads come to have a slot and lanes; what other wrappers tell about them.
 *
 * In:      wrap_process.c, cpu.c, exports.c, tests.      Owns: `shim` (record.h), the process's slot.
 * Sharing: by CAS in lifecycle.c; each function says its context.
 * Failure: the process is not watched, every wrapper only forwards.
 */
#ifndef SONDE_LIFECYCLE_H
#define SONDE_LIFECYCLE_H

#include <stdbool.h>
#include "shim/record.h"

/*
 * Attaches to the arena at `place` ("<pid>:<fd>:<token>"), unless this process is attached already. The first wrapped
 * call does it with what the environment says; tests and a late loader call it themselves. Context I.
 */
bool lifecycle_attach(const char *place);

/*
 * Before seccomp or PR_SET_TSC takes something away: attaches, takes this thread's lane, makes the tables that would
 * later need a system call. Keeps errno. Context S.
 */
void lifecycle_settle(void);

/* rdtsc becomes forbidden here (seccomp mode 1, PR_SET_TSC): no clock from now on. False: there was none. Context S. */
bool lifecycle_no_clock(void);
void lifecycle_clock_back(void); /* it did not: what was to forbid it failed */

/* Sets bits of enum process_flag in our slot. Context S. */
void lifecycle_flag(uint32_t flags);

/* Our pid and this thread's tid without a system call, as known; 0: not attached. */
int32_t lifecycle_pid(void);

#endif
