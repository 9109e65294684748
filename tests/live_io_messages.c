/* live_io_messages.c - message calls: vectors, passed descriptors, peeks, truncation, several at once, by number. */
#include "tests/live.h"

#include <fcntl.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/uio.h>

static void vectors(int pair[2])
{
    char a[3], b[4], c[100];
    struct iovec out[3] = {{"abc", 3}, {"", 0}, {"defgh", 5}}, in[3] = {{a, 3}, {b, 4}, {c, 100}};
    KEEPS(writev(pair[0], out, 3), 8);
    KEEPS(readv(pair[1], in, 3), 8);
    CHECK(!memcmp(a, "abc", 3) && !memcmp(b, "defg", 4) && c[0] == 'h');
    struct msghdr m = {.msg_iov = out, .msg_iovlen = 3}, n = {.msg_iov = in, .msg_iovlen = 3};
    KEEPS(sendmsg(pair[0], &m, 0), 8);
    KEEPS(recvmsg(pair[1], &n, MSG_PEEK), 8);
    KEEPS(recvmsg(pair[1], &n, 0), 8);
    CHECK(n.msg_flags == 0 && n.msg_controllen == 0);
    KEEPS(pwritev2(pair[0], out, 3, -1, 0), 8);
    KEEPS(preadv2(pair[1], in, 3, -1, 0), 8);
    FAILS(preadv2(pair[1], in, 3, 0, 0), ESPIPE);
}

static void peeks_and_truncation(int pair[2])
{
    char c[16] = "";
    KEEPS(send(pair[0], "0123456789", 10, 0), 10);
    KEEPS(recv(pair[1], c, 4, MSG_PEEK), 4);
    KEEPS(recv(pair[1], c, 2, 0), 2);
    KEEPS(recv(pair[1], NULL, 5, MSG_TRUNC), 5); /* TCP throws them away */
    KEEPS(recvfrom(pair[1], c, 16, MSG_WAITALL | MSG_DONTWAIT, NULL, NULL), 3);
    CHECK(!memcmp(c, "789", 3));
    FAILS(recv(pair[1], c, 1, MSG_ERRQUEUE), EAGAIN);
    FAILS(recv(pair[1], c, 1, MSG_OOB), EINVAL);
    KEEPS(send(pair[0], "!", 1, MSG_OOB), 1);
    struct sockaddr_in at;
    socklen_t length = sizeof at;
    KEEPS(getpeername(pair[0], (struct sockaddr *)&at, &length), 0);
}

static void datagrams(void)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)}, from;
    socklen_t length = sizeof at;
    int a = socket(AF_INET, SOCK_DGRAM, 0), b = socket(AF_INET, SOCK_DGRAM, 0);
    char c[64], d[64];
    CHECK(bind(a, (struct sockaddr *)&at, sizeof at) == 0);
    CHECK(getsockname(a, (struct sockaddr *)&at, &length) == 0);
    KEEPS(sendto(b, "long message", 12, 0, (struct sockaddr *)&at, sizeof at), 12);
    length = sizeof from;
    KEEPS(recvfrom(a, c, 4, MSG_TRUNC, (struct sockaddr *)&from, &length), 12); /* more than the buffer holds */
    CHECK(length == sizeof from && from.sin_family == AF_INET);
    KEEPS(connect(b, (struct sockaddr *)&at, sizeof at), 0);
    struct iovec v[2] = {{"one", 3}, {"four", 4}}, w[2] = {{c, 64}, {d, 64}};
    struct mmsghdr out[2] = {{.msg_hdr = {.msg_iov = &v[0], .msg_iovlen = 1}},
                             {.msg_hdr = {.msg_iov = &v[1], .msg_iovlen = 1}}},
                   in[2] = {{.msg_hdr = {.msg_iov = &w[0], .msg_iovlen = 1}},
                            {.msg_hdr = {.msg_iov = &w[1], .msg_iovlen = 1}}};
    KEEPS(sendmmsg(b, out, 2, 0), 2);
    KEEPS(recvmmsg(a, in, 2, 0, NULL), 2);
    CHECK(in[0].msg_len == 3 && in[1].msg_len == 4 && !memcmp(d, "four", 4));
    KEEPS((int)syscall(SYS_sendmmsg, b, out, 2, 0), 2);
    KEEPS((int)syscall(SYS_recvmmsg, a, in, 2, 0, NULL), 2);
    FAILS((int)syscall(SYS_recvmmsg, a, in, 2, MSG_DONTWAIT, NULL), EAGAIN);
    CHECK(in[1].msg_len == 4);
    close(a), close(b);
}

static void several_on_a_stream(int pair[2])
{
    char c[8], d[8];
    struct iovec v[2] = {{"first", 5}, {"second!", 7}}, w[2] = {{c, 5}, {d, 7}};
    struct mmsghdr out[2] = {{.msg_hdr = {.msg_iov = &v[0], .msg_iovlen = 1}},
                             {.msg_hdr = {.msg_iov = &v[1], .msg_iovlen = 1}}},
                   in[2] = {{.msg_hdr = {.msg_iov = &w[0], .msg_iovlen = 1}},
                            {.msg_hdr = {.msg_iov = &w[1], .msg_iovlen = 1}}};
    KEEPS(sendmmsg(pair[0], out, 2, 0), 2);
    KEEPS(recvmmsg(pair[1], in, 2, 0, NULL), 2);
    CHECK(in[0].msg_len == 5 && in[1].msg_len == 7 && !memcmp(d, "second!", 7));
}

/* A socket sent over a socket: the number that comes is a new one. */
static void passed(void)
{
    int ways[2], pair[2], got = -1;
    char control[CMSG_SPACE(sizeof(int))], c = 0;
    struct iovec v = {&c, 1};
    struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, ways) == 0);
    tcp_pair(pair);
    struct cmsghdr *h = CMSG_FIRSTHDR(&m);
    h->cmsg_level = SOL_SOCKET;
    h->cmsg_type = SCM_RIGHTS;
    h->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(h), &pair[1], sizeof(int));
    KEEPS(sendmsg(ways[0], &m, 0), 1);
    CHECK(close(pair[1]) == 0);
    memset(control, 0, sizeof control);
    KEEPS(recvmsg(ways[1], &m, MSG_CMSG_CLOEXEC), 1);
    h = CMSG_FIRSTHDR(&m);
    CHECK(h && h->cmsg_type == SCM_RIGHTS);
    memcpy(&got, CMSG_DATA(h), sizeof got);
    CHECK(fcntl(got, F_GETFD) == FD_CLOEXEC);
    CHECK(write(pair[0], "passed", 6) == 6);
    char back[16];
    CHECK(read(got, back, sizeof back) == 6 && write(got, "answer", 6) == 6 && read(pair[0], back, 16) == 6);
    close(got), close(pair[0]), close(ways[0]), close(ways[1]);
}

static void unix_stream(void)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX}, from;
    socklen_t length = sizeof from;
    snprintf(at.sun_path + 1, sizeof at.sun_path - 1, "live-io-%d", (int)getpid());
    int listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0), a = socket(AF_UNIX, SOCK_SEQPACKET, 0);
    CHECK(bind(listener, (struct sockaddr *)&at, sizeof at) == 0 && listen(listener, 2) == 0);
    KEEPS(connect(a, (struct sockaddr *)&at, sizeof at), 0);
    int b = accept(listener, (struct sockaddr *)&from, &length);
    CHECK(b >= 0 && length == sizeof(sa_family_t));
    char c[16];
    CHECK(send(a, "packet", 6, 0) == 6 && recv(b, c, sizeof c, 0) == 6);
    KEEPS(shutdown(a, SHUT_WR), 0);
    CHECK(recv(b, c, sizeof c, 0) == 0);
    FAILS(shutdown(a, 99), EINVAL);
    close(a), close(b), close(listener);
}

int main(void)
{
    int pair[2];
    tcp_pair(pair);
    vectors(pair);
    several_on_a_stream(pair);
    peeks_and_truncation(pair);
    close(pair[0]), close(pair[1]);
    datagrams();
    passed();
    unix_stream();
    puts("messages as documented");
    return 0;
}
