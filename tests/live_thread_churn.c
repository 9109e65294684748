/*
 * live_thread_churn.c - a server that starts a thread for each connection, answers one request there and lets it end.
 *
 *     live_thread_churn PORT        ends on SIGTERM
 */
#include <arpa/inet.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void *answer(void *arg)
{
    static const char text[] = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n";
    int fd = (int)(intptr_t)arg;
    char head[1024];
    size_t have = 0;
    ssize_t n;
    while (have < sizeof head - 1 && (n = recv(fd, head + have, sizeof head - 1 - have, 0)) > 0) {
        head[have += (size_t)n] = 0;
        if (strstr(head, "\r\n\r\n"))
            break;
    }
    send(fd, text, sizeof text - 1, MSG_NOSIGNAL);
    shutdown(fd, SHUT_WR);
    while (recv(fd, head, sizeof head, 0) > 0)
        ;
    close(fd);
    return NULL;
}

static void stop(int number)
{
    (void)number;
    _exit(0);
}

int main(int argc, char **argv)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int one = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
    pthread_attr_t attributes;
    if (argc < 2)
        return 2;
    at.sin_port = htons((uint16_t)atoi(argv[1]));
    signal(SIGTERM, stop);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&at, sizeof at) || listen(fd, 512))
        return 1;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, 64 << 10);
    for (;;) {
        pthread_t thread;
        int client = accept(fd, NULL, NULL);
        if (client < 0)
            continue;
        while (pthread_create(&thread, &attributes, answer, (void *)(intptr_t)client))
            usleep(1000);
    }
}
