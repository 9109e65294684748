/*
 * wrap_io.c - read, write and their kin.
 *
 * In:      exports.c.                Out: libc.
 * Context: S
 */
#define _GNU_SOURCE
#include "shim/real.h"

ssize_t on_read(int fd, void *buffer, size_t size)
{
    return real.read(fd, buffer, size);
}

ssize_t on_write(int fd, const void *buffer, size_t size)
{
    return real.write(fd, buffer, size);
}
