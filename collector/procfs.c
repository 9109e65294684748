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
#include <sys/sysmacros.h>
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

/* "NSpid:\t4711\t7": how the process or thread is numbered in each namespace, ours first. The innermost; 0: gone, or
 * an old kernel. *only: ours is the only one. */
static pid_t innermost(const char *path, bool *only)
{
    char text[4096];
    *only = true;
    if (read_file(path, text, sizeof text) <= 0)
        return 0;
    const char *line = strstr(text, "\nNSpid:");
    if (!line)
        return 0;
    char *end = NULL;
    long last = 0;
    int numbers = 0;
    for (line += 7; *line && *line != '\n'; line = end, numbers++) {
        long n = strtol(line, &end, 10);
        if (end == line)
            break;
        last = n;
    }
    *only = numbers <= 1;
    return (pid_t)last;
}

pid_t procfs_own_number(pid_t pid)
{
    char path[64];
    bool only;
    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    return innermost(path, &only);
}

/* "7f00-7f02 rw-s 00000000 00:01 1234 /memfd:x (deleted)" */
static bool names_file(const char *line, uint64_t device, uint64_t inode)
{
    unsigned long long found;
    unsigned major, minor;
    return sscanf(line, "%*x-%*x %*s %*x %x:%x %llu", &major, &minor, &found) == 3 && found == inode &&
           makedev(major, minor) == device;
}

pid_t procfs_parent(pid_t pid)
{
    char path[64], text[4096];
    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    const char *line = read_file(path, text, sizeof text) > 0 ? strstr(text, "\nPPid:") : NULL;
    return line ? (pid_t)strtol(line + 6, NULL, 10) : 0;
}

static bool is_zombie(pid_t pid)
{
    char path[64], text[4096];
    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    return read_file(path, text, sizeof text) <= 0 || strstr(text, "\nState:\tZ") || strstr(text, "\nState:\tX");
}

int procfs_maps(pid_t pid, uint64_t device, uint64_t inode)
{
    char path[64], line[PATH_MAX + 128];
    snprintf(path, sizeof path, "/proc/%d/maps", (int)pid);
    FILE *f = fopen(path, "re");
    if (!f)
        return -errno;
    int lines = 0, found = 0;
    while (!found && fgets(line, sizeof line, f)) {
        lines++;
        found = strstr(line, " rw-s ") && names_file(line, device, inode);
    }
    fclose(f);
    return found ? 1 : lines || !is_zombie(pid) ? 0 : -ESRCH; /* nothing at all: a zombie, or the kernel's own */
}

static int by_number(const void *a, const void *b)
{
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

int procfs_threads(pid_t pid, int32_t **tids, int most)
{
    char path[320];
    int count = 0;
    snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
    DIR *d = opendir(path);
    *tids = malloc((size_t)most * sizeof **tids);
    if (!d || !*tids) {
        if (d)
            closedir(d);
        free(*tids);
        *tids = NULL;
        return d ? -ENOMEM : -errno;
    }
    for (struct dirent *e; count >= 0 && (e = readdir(d));) {
        bool only;
        if (*e->d_name == '.')
            continue;
        snprintf(path, sizeof path, "/proc/%d/task/%s/status", (int)pid, e->d_name);
        pid_t tid = innermost(path, &only);
        if (tid && count == most)
            count = -E2BIG;
        else if (tid)
            (*tids)[count++] = tid;
    }
    closedir(d);
    if (count < 0) {
        free(*tids);
        *tids = NULL;
    } else
        qsort(*tids, (size_t)count, sizeof **tids, by_number);
    return count;
}

bool procfs_others(void)
{
    DIR *d = opendir("/proc");
    bool only = true;
    for (struct dirent *e; d && only && (e = readdir(d));) {
        char path[64];
        pid_t pid = (pid_t)strtol(e->d_name, NULL, 10);
        snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
        if (pid > 0)
            innermost(path, &only);
    }
    if (d)
        closedir(d);
    return !only;
}

pid_t procfs_find(pid_t seen, uint64_t boot_ns, const char *executable, bool (*may)(void *to, pid_t), void *to)
{
    DIR *d = opendir("/proc");
    pid_t found = 0;
    if (!d)
        return 0;
    for (struct dirent *e; (e = readdir(d));) {
        pid_t pid = (pid_t)strtol(e->d_name, NULL, 10);
        char path[64];
        bool only;
        snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
        if (pid <= 0 || innermost(path, &only) != seen || only)
            continue;
        if (boot_ns && procfs_start_ns(pid) > boot_ns + PROCFS_START_SLACK_NS)
            continue;
        if (may && !may(to, pid))
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
