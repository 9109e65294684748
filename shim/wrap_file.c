/*
 * wrap_file.c - calls that only files take: time in which they wait for the disk.
 *
 * In:      exports.c.                Out: libc, stall.c.
 * Context: S
 * Failure: forwarded unmeasured.
 *
 * They make no events. What the page cache serves is no wait (stall.h). Pages of a mapped file that are read or written
 * by a fault are not seen.
 */
#define _GNU_SOURCE
#include "shim/real.h"
#include "shim/stall.h"

/* One body: the mark, the real call, its wait. */
#define TIMED(type, call, expression)                                                                                  \
    struct stall s;                                                                                                    \
    stall_disk_begin(&s, call);                                                                                        \
    type result = expression;                                                                                          \
    stall_read(&s);                                                                                                    \
    return result

ssize_t on_pread(int fd, void *buffer, size_t size, off_t at)
{
    TIMED(ssize_t, CALL_READ, real.pread(fd, buffer, size, at));
}

ssize_t on_pread64(int fd, void *buffer, size_t size, off64_t at)
{
    TIMED(ssize_t, CALL_READ, real.pread64(fd, buffer, size, at));
}

ssize_t on___pread_chk(int fd, void *buffer, size_t size, off_t at, size_t room)
{
    TIMED(ssize_t, CALL_READ, real.__pread_chk(fd, buffer, size, at, room));
}

ssize_t on___pread64_chk(int fd, void *buffer, size_t size, off64_t at, size_t room)
{
    TIMED(ssize_t, CALL_READ, real.__pread64_chk(fd, buffer, size, at, room));
}

ssize_t on_pwrite(int fd, const void *buffer, size_t size, off_t at)
{
    TIMED(ssize_t, CALL_WRITE, real.pwrite(fd, buffer, size, at));
}

ssize_t on_pwrite64(int fd, const void *buffer, size_t size, off64_t at)
{
    TIMED(ssize_t, CALL_WRITE, real.pwrite64(fd, buffer, size, at));
}

ssize_t on_preadv(int fd, const struct iovec *v, int count, off_t at)
{
    TIMED(ssize_t, CALL_READ, real.preadv(fd, v, count, at));
}

ssize_t on_preadv64(int fd, const struct iovec *v, int count, off64_t at)
{
    TIMED(ssize_t, CALL_READ, real.preadv64(fd, v, count, at));
}

ssize_t on_pwritev(int fd, const struct iovec *v, int count, off_t at)
{
    TIMED(ssize_t, CALL_WRITE, real.pwritev(fd, v, count, at));
}

ssize_t on_pwritev64(int fd, const struct iovec *v, int count, off64_t at)
{
    TIMED(ssize_t, CALL_WRITE, real.pwritev64(fd, v, count, at));
}

ssize_t on_copy_file_range(int from, off64_t *from_at, int to, off64_t *to_at, size_t size, unsigned flags)
{
    TIMED(ssize_t, CALL_WRITE, real.copy_file_range(from, from_at, to, to_at, size, flags));
}

int on_fsync(int fd)
{
    TIMED(int, CALL_FSYNC, real.fsync(fd));
}

int on_fdatasync(int fd)
{
    TIMED(int, CALL_FSYNC, real.fdatasync(fd));
}

int on_syncfs(int fd)
{
    TIMED(int, CALL_FSYNC, real.syncfs(fd));
}

int on_sync_file_range(int fd, off64_t at, off64_t size, unsigned flags)
{
    TIMED(int, CALL_FSYNC, real.sync_file_range(fd, at, size, flags));
}

int on_msync(void *at, size_t size, int flags)
{
    TIMED(int, CALL_FSYNC, real.msync(at, size, flags));
}

int on_fallocate(int fd, int mode, off_t at, off_t size)
{
    TIMED(int, CALL_WRITE, real.fallocate(fd, mode, at, size));
}

int on_fallocate64(int fd, int mode, off64_t at, off64_t size)
{
    TIMED(int, CALL_WRITE, real.fallocate64(fd, mode, at, size));
}

int on_posix_fallocate(int fd, off_t at, off_t size)
{
    TIMED(int, CALL_WRITE, real.posix_fallocate(fd, at, size));
}

int on_posix_fallocate64(int fd, off64_t at, off64_t size)
{
    TIMED(int, CALL_WRITE, real.posix_fallocate64(fd, at, size));
}
