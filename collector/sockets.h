/*
 * sockets.h - what a descriptor of another process is, from /proc: a stream socket or not, its
 * addresses.
 *
 * In:      watch.c (questions of the pipeline)        Out: FACT_ADDRESS, FACT_DESCRIPTOR
 * Context: C. Reads files; tables are read for many questions at once, rarely.
 * Failure: an answer with known = false.
 */
#ifndef SONDE_SOCKETS_H
#define SONDE_SOCKETS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct socket_question {
    uint64_t inode;
    bool known, stream; /* answers; a socketpair's end is no stream here */
    uint8_t local_length, remote_length;
    uint8_t local[112], remote[112]; /* struct sockaddr */
};

/* The inode of the socket behind a descriptor; -ENOTSOCK, or -errno when it cannot be looked at. 3
 * us. */
int sockets_inode(pid_t, int descriptor, uint64_t *inode);

/* Looks the inodes up in the tables of the process's network. */
void sockets_look_up(pid_t, struct socket_question *, size_t count);

/* One line of /proc/PID/net/tcp, tcp6 or unix: true when it is one of the questions, which it
 * answers. P. */
enum socket_table { TABLE_TCP, TABLE_TCP6, TABLE_UNIX };
bool sockets_line(enum socket_table, const char *line, struct socket_question *, size_t count);

#endif
