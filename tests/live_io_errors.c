/* live_io_errors.c - results and errno of calls that fail, bad pointers, nothing touched that is not ours. */
#include "tests/live.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/uio.h>

extern char **environ;
static char *volatile nowhere = (char *)8; /* volatile: the compiler must not know */
static volatile int negative = -1;

static void bad_pointers(int pair[2])
{
    char c = 'x', *edge = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(edge != MAP_FAILED && munmap(edge + 4096, 4096) == 0);
    edge += 4096 - 10;
    memset(edge, 'e', 10);
    FAILS(write(pair[0], nowhere, 10), EFAULT);
    FAILS(send(pair[0], nowhere, 10, 0), EFAULT);
    KEEPS(send(pair[0], edge, 10, 0), 10);
    CHECK(read(pair[1], edge, 1000) == 10); /* the kernel writes what there is; a longer buffer than memory is no fault */
    CHECK(write(pair[0], &c, 1) == 1);
    FAILS(read(pair[1], nowhere, 10), EFAULT);
    CHECK(read(pair[1], &c, 1) == 1);
    struct iovec v[2] = {{edge, 10}, {nowhere, 5}};
    ssize_t n = writev(pair[0], v, 2);
    CHECK(n == 10 || (n == -1 && errno == EFAULT));
    while (n > 0)
        n -= read(pair[1], edge, (size_t)n);
    FAILS(writev(pair[0], (struct iovec *)(void *)nowhere, 2), EFAULT);
    FAILS(recvmsg(pair[1], (struct msghdr *)(void *)nowhere, 0), EFAULT);
    FAILS(connect(pair[0], (struct sockaddr *)(void *)nowhere, 16), EFAULT);
    FAILS(writev(pair[0], v, negative), EINVAL);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    FAILS(bind(fd, (struct sockaddr *)(void *)nowhere, 16), EFAULT);
    CHECK(listen(fd, 1) == 0);
    CHECK(fcntl(fd, F_SETFL, O_NONBLOCK) == 0);
    FAILS(accept(fd, (struct sockaddr *)(void *)nowhere, (socklen_t *)(void *)nowhere), EAGAIN);
    FAILS(accept(fd, NULL, NULL), EAGAIN);
    close(fd);
}

static void accept_into_bad_pointers(void)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof at;
    int listener = socket(AF_INET, SOCK_STREAM, 0), client = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(bind(listener, (struct sockaddr *)&at, sizeof at) == 0 && listen(listener, 4) == 0);
    CHECK(getsockname(listener, (struct sockaddr *)&at, &length) == 0);
    CHECK(connect(client, (struct sockaddr *)&at, sizeof at) == 0);
    FAILS(accept(listener, (struct sockaddr *)&at, (socklen_t *)(void *)nowhere), EFAULT);
    close(client);
    client = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(connect(client, (struct sockaddr *)&at, sizeof at) == 0);
    /* a short buffer: what fits is written, the whole length is told, no byte beyond */
    unsigned char small[8];
    memset(small, 0xee, sizeof small);
    length = 4;
    int fd = accept4(listener, (struct sockaddr *)(void *)small, &length, SOCK_CLOEXEC);
    CHECK(fd >= 0 && length == 16 && small[4] == 0xee && small[0] == AF_INET);
    CHECK(fcntl(fd, F_GETFD) == FD_CLOEXEC);
    close(fd), close(client), close(listener);
}

static void nothing_there(int pair[2])
{
    char c;
    struct epoll_event e;
    CHECK(fcntl(pair[0], F_SETFL, O_NONBLOCK) == 0);
    FAILS(read(pair[0], &c, 1), EAGAIN);
    FAILS(recv(pair[0], &c, 1, 0), EAGAIN);
    KEEPS(read(pair[0], &c, 0), 0);
    KEEPS(write(pair[0], &c, 0), 0);
    FAILS(read(-1, &c, 1), EBADF);
    FAILS(write(999, &c, 1), EBADF);
    FAILS(close(999), EBADF);
    FAILS(close(-1), EBADF);
    FAILS(dup(999), EBADF);
    FAILS(dup2(999, 5), EBADF);
    FAILS(fcntl(999, F_DUPFD, 3), EBADF);
    FAILS(shutdown(999, SHUT_WR), EBADF);
    FAILS(listen(999, 1), EBADF);
    FAILS(recv(0x7fffffff, &c, 1, 0), EBADF);
    FAILS(sendfile(pair[0], 999, NULL, 10), EBADF);
    FAILS(epoll_wait(pair[0], &e, 1, 0), EINVAL);
    FAILS(socket(AF_INET, 77, 0), EINVAL);
    FAILS(open("/nowhere/at/all", O_RDONLY), ENOENT);
    KEEPS(poll(NULL, 0, 0), 0);
    KEEPS(select(0, NULL, NULL, NULL, &(struct timeval){0, 0}), 0);
}

static void broken_pipe(void)
{
    int pair[2];
    char c = 0;
    tcp_pair(pair);
    struct linger reset = {1, 0};
    CHECK(setsockopt(pair[1], SOL_SOCKET, SO_LINGER, &reset, sizeof reset) == 0);
    CHECK(close(pair[1]) == 0);
    struct pollfd p = {pair[0], POLLIN, 0};
    CHECK(poll(&p, 1, 5000) == 1);
    FAILS(read(pair[0], &c, 1), ECONNRESET);
    KEEPS(read(pair[0], &c, 1), 0);
    signal(SIGPIPE, SIG_IGN);
    FAILS(write(pair[0], &c, 1), EPIPE);
    FAILS(send(pair[0], &c, 1, MSG_NOSIGNAL), EPIPE);
    CHECK(close(pair[0]) == 0);
}

static void modes(void)
{
    char name[] = "/tmp/live-io-XXXXXX";
    CHECK(mkdtemp(name) != NULL && chdir(name) == 0);
    umask(0);
    struct stat s;
    int fd = open("a", O_CREAT | O_WRONLY | O_EXCL, 0640);
    CHECK(fd >= 0 && fstat(fd, &s) == 0 && (s.st_mode & 07777) == 0640);
    close(fd);
    fd = openat(AT_FDCWD, "b", O_CREAT | O_RDWR, 0604);
    CHECK(fd >= 0 && fstat(fd, &s) == 0 && (s.st_mode & 07777) == 0604);
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 10};
    KEEPS(fcntl(fd, F_SETLK, &lock), 0); /* the argument is a pointer: all 64 bits */
    KEEPS(fcntl(fd, F_GETLK, &lock), 0);
    CHECK(lock.l_type == F_UNLCK);
    close(fd);
    fd = open(".", O_TMPFILE | O_RDWR, 0600);
    if (fd >= 0) {
        CHECK(fstat(fd, &s) == 0 && (s.st_mode & 07777) == 0600);
        close(fd);
    }
    unlink("a"), unlink("b");
    CHECK(chdir("/") == 0 && rmdir(name) == 0);
}

int main(void)
{
    int pair[2];
    const char *before[4] = {environ[0], environ[1], getenv("PATH"), NULL};
    CHECK(dlsym(RTLD_DEFAULT, "no_such_name_1") == NULL);
    tcp_pair(pair);
    CHECK(write(pair[0], "a", 1) == 1 && read(pair[1], &(char){0}, 1) == 1);
    const char *message = dlerror();
    CHECK(message && strstr(message, "no_such_name_1")); /* no call in between ate it */
    CHECK(dlerror() == NULL);
    bad_pointers(pair);
    accept_into_bad_pointers();
    nothing_there(pair);
    close(pair[0]), close(pair[1]);
    broken_pipe();
    modes();
    CHECK(environ[0] == before[0] && environ[1] == before[1] && getenv("PATH") == before[2]);
    int lowest = open("/dev/null", O_RDONLY);
    CHECK(lowest == 3); /* nobody else holds a descriptor */
    puts("errors as documented");
    return 0;
}
