/*
 * elsewhere.c - see elsewhere.h.
 *
 * In:      watch.c        Out: watch.c
 * Context: C
 *
 * /proc/PID/root is the process's own tree. Its links are resolved in there (RESOLVE_IN_ROOT): whoever owns a container
 * cannot send us to a folder of ours.
 */
#include "collector/elsewhere.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/types.h>
#include <unistd.h>

#define MOST 64 /* folders and users of one look */

struct seen {
    dev_t device;
    ino_t inode;
    uid_t uid;
};

static bool is_new(struct seen *seen, int *count, const struct seen *one)
{
    for (int i = 0; i < *count; i++)
        if (seen[i].device == one->device && seen[i].inode == one->inode && seen[i].uid == one->uid)
            return false;
    if (*count == MOST)
        return false;
    seen[(*count)++] = *one;
    return true;
}

static int open_folder(pid_t pid)
{
    char path[64];
    struct open_how how = {.flags = O_PATH | O_DIRECTORY | O_CLOEXEC, .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS};
    snprintf(path, sizeof path, "/proc/%d/root", (int)pid);
    int root = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (root < 0)
        return -1;
    int folder = (int)syscall(SYS_openat2, root, "dev/shm", &how, sizeof how);
    close(root);
    return folder;
}

/* One namespace and user is looked into once. */
static bool is_other(pid_t pid, const struct stat *ours, struct seen *namespaces, int *count, uid_t *uid)
{
    char path[64];
    struct stat s, process;
    snprintf(path, sizeof path, "/proc/%d/ns/mnt", (int)pid);
    if (stat(path, &s) || s.st_ino == ours->st_ino)
        return false;
    snprintf(path, sizeof path, "/proc/%d", (int)pid);
    if (stat(path, &process))
        return false;
    *uid = process.st_uid;
    return is_new(namespaces, count, &(struct seen){s.st_dev, s.st_ino, *uid});
}

void elsewhere_each(void (*each)(void *to, const struct elsewhere *), void *to)
{
    struct seen namespaces[MOST], folders[MOST];
    int known = 0, looked = 0;
    struct stat ours, shm;
    uid_t uid;
    DIR *d = opendir("/proc");
    bool can = d && !stat("/proc/self/ns/mnt", &ours) && !stat("/dev/shm", &shm);
    for (struct dirent *e; can && (e = readdir(d));) {
        pid_t pid = (pid_t)strtol(e->d_name, NULL, 10);
        struct stat s;
        if (pid <= 0 || !is_other(pid, &ours, namespaces, &known, &uid))
            continue;
        int folder = open_folder(pid);
        if (folder < 0)
            continue;
        if (!fstat(folder, &s) && (s.st_dev != shm.st_dev || s.st_ino != shm.st_ino) &&
            is_new(folders, &looked, &(struct seen){s.st_dev, s.st_ino, uid})) {
            char name[64];
            snprintf(name, sizeof name, "/dev/shm(%u:%u)", major(s.st_dev), minor(s.st_dev));
            each(to, &(struct elsewhere){folder, name, uid});
        }
        close(folder);
    }
    if (d)
        closedir(d);
}
