/*
 * install.c - where libsonde.so and sonde-collector are: beside this program, or in ../lib/sonde of it.
 */
#include "cli/cli.h"

#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int install_find(const char *name, char *path, size_t room)
{
    char self[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n <= 0)
        return -ENOENT;
    self[n] = 0;
    const char *folder = dirname(self);
    for (int i = 0; i < 2; i++) {
        char candidate[PATH_MAX + 64], *real;
        snprintf(candidate, sizeof candidate, "%s/%s%s", folder, i ? "../lib/sonde/" : "", name);
        real = access(candidate, R_OK) ? NULL : realpath(candidate, NULL);
        if (!real)
            continue;
        int len = snprintf(path, room, "%s", real);
        free(real);
        return len > 0 && (size_t)len < room ? 0 : -ENAMETOOLONG;
    }
    return -ENOENT;
}
