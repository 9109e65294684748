/*
 * procfs.c - see procfs.h.
 *
 * In:      watch.c        Out: watch.c
 * Context: C
 */
#include "collector/procfs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int procfs_pidfd(pid_t pid)
{
    if (pid <= 0)
        return -ESRCH;
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    return fd < 0 ? -errno : fd;
}

bool procfs_thread_is_gone(pid_t pid, pid_t tid)
{
    return pid > 0 && tid > 0 && syscall(SYS_tgkill, pid, tid, 0) < 0 && errno == ESRCH;
}

uint64_t procfs_cpu_ns(pid_t pid)
{
    struct timespec t;
    clockid_t clock = (clockid_t)((~(unsigned)pid << 3) | 2); /* as clock_getcpuclockid makes it */
    if (pid <= 0 || clock_gettime(clock, &t))
        return 0;
    return (uint64_t)t.tv_sec * UINT64_C(1000000000) + (uint64_t)t.tv_nsec;
}

static ssize_t read_file(const char *path, char *to, size_t room)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    ssize_t n = read(fd, to, room - 1);
    close(fd);
    to[n > 0 ? n : 0] = 0;
    return n;
}

uint64_t procfs_start_ns(pid_t pid)
{
    char path[64], text[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    if (read_file(path, text, sizeof text) <= 0)
        return 0;
    const char *at = strrchr(text, ')'); /* the name before may hold anything */
    if (!at)
        return 0;
    at++;
    for (int field = 2; field < 22; field++) {
        at = strchr(at, ' ');
        if (!at)
            return 0;
        at++;
    }
    long hertz = sysconf(_SC_CLK_TCK);
    return hertz > 0 ? strtoull(at, NULL, 10) * (UINT64_C(1000000000) / (uint64_t)hertz) : 0;
}

bool procfs_runs(pid_t pid, const char *executable)
{
    char path[64], target[PATH_MAX];
    snprintf(path, sizeof path, "/proc/%d/exe", (int)pid);
    ssize_t n = readlink(path, target, sizeof target - 1);
    if (n <= 0 || !executable[0])
        return true;
    target[n] = 0;
    return !strncmp(target, executable, strlen(executable));
}

/* "NSpid:\t4711\t7": how the process is numbered in each namespace, ours first. The innermost, 0:
 * only ours. */
static pid_t innermost(pid_t pid)
{
    char path[64], text[4096];
    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    if (read_file(path, text, sizeof text) <= 0)
        return 0;
    const char *line = strstr(text, "\nNSpid:");
    if (!line)
        return 0;
    char *end = NULL;
    long last = 0;
    int numbers = 0;
    for (line += 7; *line && *line != '\n'; line = end, numbers++) {
        last = strtol(line, &end, 10);
        if (end == line)
            break;
    }
    return numbers > 1 ? (pid_t)last : 0;
}

pid_t procfs_find(pid_t seen, uint64_t boot_ns, const char *executable)
{
    DIR *d = opendir("/proc");
    pid_t found = 0;
    if (!d)
        return 0;
    for (struct dirent *e; (e = readdir(d));) {
        pid_t pid = (pid_t)strtol(e->d_name, NULL, 10);
        if (pid <= 0 || innermost(pid) != seen)
            continue;
        if (boot_ns && procfs_start_ns(pid) > boot_ns + PROCFS_START_SLACK_NS)
            continue;
        bool surely = procfs_runs(pid, executable);
        if (surely || !found)
            found = pid;
        if (surely)
            break;
    }
    closedir(d);
    return found;
}
