/*
 * sockets.c - see sockets.h.
 *
 * In:      watch.c        Out: watch.c
 * Context: C; sockets_line is P.
 */
#include "collector/sockets.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int sockets_inode(pid_t pid, int descriptor, uint64_t *inode)
{
    char path[64], target[64];
    snprintf(path, sizeof path, "/proc/%d/fd/%d", (int)pid, descriptor);
    ssize_t n = readlink(path, target, sizeof target - 1);
    if (n < 0)
        return -errno;
    target[n] = 0;
    return sscanf(target, "socket:[%" SCNu64 "]", inode) == 1 ? 0 : -ENOTSOCK;
}

static struct socket_question *asked(struct socket_question *q, size_t count, uint64_t inode)
{
    for (size_t i = 0; i < count; i++)
        if (q[i].inode == inode && !q[i].known)
            return &q[i];
    return NULL;
}

/* "0100007F:1F90": words of the address as the machine keeps them, port in plain hex. */
static uint8_t inet_address(const char *text, bool six, uint8_t out[112])
{
    unsigned word[4], port;
    if (six) {
        if (sscanf(text, "%8x%8x%8x%8x:%4x", &word[0], &word[1], &word[2], &word[3], &port) != 5)
            return 0;
        struct sockaddr_in6 a = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)};
        memcpy(&a.sin6_addr, word, sizeof a.sin6_addr);
        memcpy(out, &a, sizeof a);
        return sizeof a;
    }
    if (sscanf(text, "%8x:%4x", &word[0], &port) != 2)
        return 0;
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    memcpy(&a.sin_addr, word, sizeof a.sin_addr);
    memcpy(out, &a, sizeof a);
    return sizeof a;
}

static bool inet_line(bool six, const char *line, struct socket_question *q, size_t count)
{
    char local[64], remote[64];
    unsigned state;
    uint64_t inode;
    if (sscanf(line, " %*[0-9]: %63s %63s %x %*s %*s %*s %*s %*s %" SCNu64, local, remote, &state,
               &inode) != 4)
        return false;
    struct socket_question *a = inode ? asked(q, count, inode) : NULL;
    if (!a)
        return false;
    a->known = a->stream = true;
    a->local_length = inet_address(local, six, a->local);
    a->remote_length = state == 0x0a ? 0 : inet_address(remote, six, a->remote); /* 0a: listens */
    return true;
}

static bool unix_line(const char *line, struct socket_question *q, size_t count)
{
    unsigned type;
    uint64_t inode;
    char path[sizeof(((struct sockaddr_un *)0)->sun_path) + 1] = "";
    int n = sscanf(line, "%*[^:]: %*x %*x %*x %x %*x %" SCNu64 " %108[^\n]", &type, &inode, path);
    struct socket_question *a = n >= 2 ? asked(q, count, inode) : NULL;
    if (!a)
        return false;
    a->known = true;
    /* an end without a name is a socketpair's, or a client's whose connect was not seen */
    a->stream = (type == SOCK_STREAM || type == SOCK_SEQPACKET) && n == 3;
    if (n < 3)
        return true;
    struct sockaddr_un u = {.sun_family = AF_UNIX};
    size_t length = strlen(path);
    if (length > sizeof u.sun_path)
        length = sizeof u.sun_path;
    memcpy(u.sun_path, path, length);
    if (path[0] == '@')
        u.sun_path[0] = 0;
    a->local_length = (uint8_t)(offsetof(struct sockaddr_un, sun_path) + length);
    memcpy(a->local, &u, a->local_length);
    return true;
}

bool sockets_line(enum socket_table table, const char *line, struct socket_question *q,
                  size_t count)
{
    return table == TABLE_UNIX ? unix_line(line, q, count)
                               : inet_line(table == TABLE_TCP6, line, q, count);
}

static size_t read_table(pid_t pid, enum socket_table table, struct socket_question *q,
                         size_t count)
{
    static const char *const names[] = {"tcp", "tcp6", "unix"};
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/net/%s", (int)pid, names[table]);
    FILE *f = fopen(path, "re");
    if (!f)
        return 0;
    char *line = NULL;
    size_t room = 0, found = 0;
    while (found < count && getline(&line, &room, f) > 0)
        found += sockets_line(table, line, q, count);
    free(line);
    fclose(f);
    return found;
}

void sockets_look_up(pid_t pid, struct socket_question *q, size_t count)
{
    size_t found = 0;
    for (enum socket_table t = TABLE_TCP; t <= TABLE_UNIX && found < count; t++)
        found += read_table(pid, t, q, count);
    for (size_t i = 0; i < count; i++)
        q[i].known = true; /* in no table: a socket of another kind, or closed by now */
}
