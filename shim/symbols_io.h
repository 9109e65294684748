/* symbols_io.h - part of the list in symbols.h: descriptors, sockets, data, waits. */
/* clang-format off */

CALL(io, ssize_t, read, (int fd, void *buffer, size_t size), (fd, buffer, size), must, RAW(SYS_read, a, b, c))
CALL(io, ssize_t, write, (int fd, const void *buffer, size_t size), (fd, buffer, size), must, RAW(SYS_write, a, b, c))
