/*
 * address.c - socket addresses for people.
 *
 * In:      rollup.c (what could not be read)        Out: -
 * Owns:    nothing.
 * Context: P
 */
#include "collector/address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

static size_t unix_text(const uint8_t *path, size_t len, char *to)
{
    size_t n = 5;
    memcpy(to, "unix:", n);
    for (size_t i = 0; i < len && (path[i] || i == 0); i++)
        to[n++] = i == 0 && !path[i] ? '@' : path[i] < ' ' || path[i] >= 0x7f ? '?' : (char)path[i];
    to[n] = 0;
    return n;
}

static char *put_number(char *to, unsigned n)
{
    char digits[5], *d = digits + sizeof digits;
    do
        *--d = (char)('0' + n % 10);
    while (n /= 10);
    size_t len = (size_t)(digits + sizeof digits - d);
    memcpy(to, d, len);
    return to + len;
}

/* By hand: each sampled request has one, and printf costs as much as all the rest of its row. */
static size_t v4_text(const void *address, in_port_t port, char *to)
{
    const uint8_t *byte = address;
    char *p = to;
    for (int i = 0; i < 4; i++) {
        p = put_number(p, byte[i]);
        *p++ = i < 3 ? '.' : ':';
    }
    p = put_number(p, ntohs(port));
    *p = 0;
    return (size_t)(p - to);
}

size_t address_text(const uint8_t *address, size_t len, char to[ADDRESS_TEXT])
{
    char host[INET6_ADDRSTRLEN];
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
    sa_family_t family = AF_UNSPEC;
    if (len >= sizeof family)
        memcpy(&family, address, sizeof family);
    if (family == AF_INET && len >= sizeof v4) {
        memcpy(&v4, address, sizeof v4);
        return v4_text(&v4.sin_addr, v4.sin_port, to);
    }
    if (family == AF_INET6 && len >= offsetof(struct sockaddr_in6, sin6_scope_id)) {
        memset(&v6, 0, sizeof v6);
        memcpy(&v6, address, len < sizeof v6 ? len : sizeof v6);
        if (IN6_IS_ADDR_V4MAPPED(&v6.sin6_addr))
            return v4_text(&v6.sin6_addr.s6_addr[12], v6.sin6_port, to);
        inet_ntop(AF_INET6, &v6.sin6_addr, host, sizeof host);
        return (size_t)snprintf(to, ADDRESS_TEXT, "[%s]:%u", host, ntohs(v6.sin6_port));
    }
    if (family == AF_UNIX) {
        size_t most = sizeof((struct sockaddr_un *)0)->sun_path;
        len -= sizeof family;
        return unix_text(address + sizeof family, len < most ? len : most, to);
    }
    return (size_t)snprintf(to, ADDRESS_TEXT, "unknown");
}
