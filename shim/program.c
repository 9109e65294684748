/*
 * program.c - see program.h.
 *
 * The kernel keeps the path that was executed (AT_EXECFN), out of the program's reach. It counts only when it leads to the
 * file that runs: of a script it is the script's, of fexecve a descriptor's. The interpreter of a script is in argv[0], where the
 * kernel has put it; what a parent made up as argv[0] leads to no file, or to another one.
 */
#define _GNU_SOURCE
#include "shim/program.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/stat.h>

#include "wire/raw.h"

static const char *last_part(const char *path)
{
    const char *name = path;
    for (const char *c = path; *c; c++)
        if (*c == '/')
            name = c + 1;
    return name;
}

static bool is_same_file(const char *path)
{
    struct stat ours, theirs;
    return !raw4(SYS_newfstatat, AT_FDCWD, (long)"/proc/self/exe", (long)&ours, 0) &&
           !raw4(SYS_newfstatat, AT_FDCWD, (long)path, (long)&theirs, 0) &&
           ours.st_dev == theirs.st_dev && // NOLINT(clang-analyzer-core.UndefinedBinaryOperatorResult): written by the kernel
           ours.st_ino == theirs.st_ino;
}

/* /proc/self/exe and /dev/fd/5 lead to the file too, but are nobody's names. */
static bool is_a_name(const char *path)
{
    return path && *last_part(path) && strncmp(path, "/proc/", 6) != 0 && strncmp(path, "/dev/", 5) != 0;
}

static bool take_name(struct program *p, const char *path)
{
    if (!is_a_name(path))
        return false;
    const char *name = last_part(path);
    if (!strcmp(name, last_part(p->executable)))
        return true;
    if (!is_same_file(path))
        return false;
    size_t n = strlen(name);
    n = n < sizeof p->name ? n : sizeof p->name - 1;
    memcpy(p->name, name, n);
    p->name[n] = 0;
    return true;
}

void program_look(struct program *p)
{
    int error = errno;
    long n = raw4(SYS_readlinkat, AT_FDCWD, (long)"/proc/self/exe", (long)p->executable, sizeof p->executable - 1);
    p->executable[n > 0 ? n : 0] = 0;
    p->name[0] = 0;
    unsigned long executed = getauxval(AT_EXECFN);
    if (!take_name(p, (const char *)executed)) // NOLINT(performance-no-int-to-ptr): an address from the kernel
        take_name(p, program_invocation_name);
    errno = error;
}
