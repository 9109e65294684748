/*
 * process.h - what wrappers of other families tell wrap_process.c. Context S, keep errno.
 */
#ifndef SONDE_PROCESS_H
#define SONDE_PROCESS_H

#include <stdbool.h>

/*
 * Before a system call that may take something away from the process: its number and first two
 * arguments. prctl with PR_SET_TSC and seccomp's mode 1 make rdtsc a SIGSEGV, seccomp's filters
 * kill for system calls. Other numbers are nothing.
 */
bool process_before_syscall(long number, long first, long second); /* true: the clock was given up for it */
/* That call failed: the clock is still there. */
void process_clock_back(void);

#endif
