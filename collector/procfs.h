/*
 * procfs.h - the few things that the system tells about another process.
 *
 * In:      watch.c        Context: C. -errno or 0 when it cannot be told; nothing is kept.
 */
#ifndef SONDE_PROCFS_H
#define SONDE_PROCFS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

int procfs_pidfd(pid_t); /* readable when the process has ended; -ESRCH: there is none */
bool procfs_thread_is_gone(pid_t, pid_t tid);
uint64_t procfs_cpu_ns(
    pid_t); /* CPU of all its threads, ended ones included; also of a zombie; 0 unknown */
uint64_t procfs_start_ns(pid_t);                 /* CLOCK_BOOTTIME, to 10 ms; 0 unknown */
bool procfs_runs(pid_t, const char *executable); /* true also when it cannot be told */

/*
 * Processes of other PID namespaces see themselves by other numbers. Looks for the process that
 * sees itself as `seen` in a namespace below ours, and began at `boot_ns` or before; `executable`
 * settles it among several. 0: none. Reads a file per process of the machine.
 */
pid_t procfs_find(pid_t seen, uint64_t boot_ns, const char *executable, bool (*may)(void *to, pid_t), void *to);

bool procfs_others(void); /* does any process that we see stand in a namespace below ours? */
/* How the process numbers itself: its pid in the innermost namespace. 0: it is gone. */
pid_t procfs_own_number(pid_t);
pid_t procfs_parent(pid_t); /* 0: none, or unknown */
/* Does it map this file? 1, 0, or -errno when that cannot be told. */
int procfs_maps(pid_t, uint64_t device, uint64_t inode);
/* Its threads as they number themselves, sorted, for free(). How many; -errno; more than `most`: -E2BIG. */
int procfs_threads(pid_t, int32_t **tids, int most);

#define PROCFS_START_SLACK_NS UINT64_C(20000000)

#endif
