/*
 * live.h - what the small programs share that run bare and under the recorder: they must behave the same, and check
 * here that they do what the system's documentation says.
 */
#ifndef SONDE_TESTS_LIVE_H
#define SONDE_TESTS_LIVE_H

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            printf("%s:%d: not so: %s (errno %d)\n", __FILE__, __LINE__, #condition, errno);                           \
            fflush(stdout);                                                                                            \
            _exit(1);                                                                                                  \
        }                                                                                                              \
    } while (0)

/* Fails with this errno, and only this. */
#define FAILS(call, error)                                                                                             \
    do {                                                                                                               \
        errno = 0;                                                                                                     \
        CHECK((call) == -1);                                                                                           \
        CHECK(errno == (error));                                                                                       \
    } while (0)

/* Succeeds, and leaves errno alone. */
#define KEEPS(call, result)                                                                                            \
    do {                                                                                                               \
        errno = 12345;                                                                                                 \
        CHECK((call) == (result));                                                                                     \
        CHECK(errno == 12345);                                                                                         \
    } while (0)

/* A connected pair of TCP sockets over loopback: [0] connected, [1] was accepted. */
static inline void tcp_pair(int pair[2])
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof at;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(listener >= 0);
    CHECK(bind(listener, (struct sockaddr *)&at, sizeof at) == 0);
    CHECK(listen(listener, 4) == 0);
    CHECK(getsockname(listener, (struct sockaddr *)&at, &length) == 0);
    pair[0] = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(connect(pair[0], (struct sockaddr *)&at, sizeof at) == 0);
    pair[1] = accept(listener, NULL, NULL);
    CHECK(pair[1] >= 0);
    CHECK(close(listener) == 0);
}

#endif
