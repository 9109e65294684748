/*
 * exports.c - the exported functions, made from the table; each only calls its on_name. Variadic ones are written out.
 *
 * In:      the program and its libraries.       Out: wrap_*.c.
 * Context: S
 *
 * They stand apart from their bodies so that the bodies can be linked into tests without hiding libc.
 */
#define _GNU_SOURCE
#include "shim/real.h"

#include <stdarg.h>

#define CALL(group, type, name, parameters, arguments, need, fallback)                                                 \
    EXPORTED type name parameters                                                                                      \
    {                                                                                                                  \
        return on_##name arguments;                                                                                    \
    }
#define HAND(group, type, name, parameters, arguments, need, fallback)
#define VARIADIC(group, type, name, prototype, parameters, arguments, need, fallback)
#define TAIL(group, type, name, parameters, need)
#include "shim/symbols.h"

/* The word that the real function changes next tells whether it is free, see wrap_lock.c: one jump less. */
EXPORTED int pthread_mutex_lock(pthread_mutex_t *m)
{
    if (__builtin_expect(__atomic_load_n((const int *)(const void *)m, __ATOMIC_RELAXED), 0))
        return on_pthread_mutex_lock(m);
    return real.pthread_mutex_lock(m);
}

/* The argument is a word or a pointer, whatever the command; reading it when it is not there reads a register. */
#define FCNTL(name)                                                                                                    \
    EXPORTED int name(int fd, int command, ...)                                                                        \
    {                                                                                                                  \
        va_list list;                                                                                                  \
        va_start(list, command);                                                                                       \
        long argument = va_arg(list, long);                                                                            \
        va_end(list);                                                                                                  \
        return on_##name(fd, command, argument);                                                                       \
    }
FCNTL(fcntl)
FCNTL(fcntl64)

/* The mode is there only when a file may be made. */
#define MODE_AFTER(last)                                                                                               \
    mode_t mode = 0;                                                                                                   \
    if (flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE) {                                                         \
        va_list list;                                                                                                  \
        va_start(list, last);                                                                                          \
        mode = va_arg(list, mode_t);                                                                                   \
        va_end(list);                                                                                                  \
    }

EXPORTED int open(const char *path, int flags, ...)
{
    MODE_AFTER(flags)
    return on_open(path, flags, mode);
}

EXPORTED int open64(const char *path, int flags, ...)
{
    MODE_AFTER(flags)
    return on_open64(path, flags, mode);
}

EXPORTED int openat(int at, const char *path, int flags, ...)
{
    MODE_AFTER(flags)
    return on_openat(at, path, flags, mode);
}

EXPORTED int openat64(int at, const char *path, int flags, ...)
{
    MODE_AFTER(flags)
    return on_openat64(at, path, flags, mode);
}
