/* live_io_descriptors.c - numbers above 1023 and as low as 0, duplicates, ranges, streams, two threads racing. */
#include "tests/live.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static void echo(int from, int to, const char *text)
{
    char back[64] = "";
    size_t n = strlen(text);
    CHECK(write(from, text, n) == (ssize_t)n);
    CHECK(read(to, back, sizeof back) == (ssize_t)n && !memcmp(back, text, n));
}

static void high_numbers(void)
{
    struct rlimit limit;
    CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    limit.rlim_cur = limit.rlim_max < 6000 ? limit.rlim_max : 6000;
    CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    int top = (int)limit.rlim_cur - 1, pair[2];
    tcp_pair(pair);
    CHECK(dup2(pair[0], 1500) == 1500);
    CHECK(fcntl(pair[1], F_DUPFD_CLOEXEC, 2000) == 2000);
    CHECK(dup3(pair[1], top, O_CLOEXEC) == top);
    CHECK(close(pair[0]) == 0 && close(pair[1]) == 0);
    echo(1500, 2000, "above 1023");
    echo(top, 1500, "the highest");
    FAILS(dup2(1500, top + 1), EBADF);
    CHECK(close(1500) == 0);
    CHECK(read(top, &(char){0}, 1) == 0);
    KEEPS(close_range(2000, (unsigned)top, 0), 0);
    FAILS(close(2000), EBADF);
    FAILS(close(top), EBADF);
}

static void streams(void)
{
    int pair[2];
    char line[64];
    tcp_pair(pair);
    FILE *f = fdopen(pair[0], "r+");
    CHECK(f != NULL);
    CHECK(fputs("by stdio\n", f) >= 0 && fflush(f) == 0);
    CHECK(read(pair[1], line, sizeof line) == 9);
    int number = pair[0];
    CHECK(fclose(f) == 0);
    FAILS(close(number), EBADF);
    CHECK(read(pair[1], line, sizeof line) == 0);
    CHECK(fcntl(open("/dev/null", O_RDWR), F_DUPFD, number) == number); /* free again, and no socket any more */
    CHECK(write(number, "x", 1) == 1 && close(number) == 0);
    close(pair[1]);
    DIR *d = opendir("/");
    CHECK(d && readdir(d) && closedir(d) == 0);
    FILE *p = popen("echo from a child", "r");
    CHECK(p && fgets(line, sizeof line, p) && !strcmp(line, "from a child\n") && pclose(p) == 0);
    FILE *memory = fmemopen(line, sizeof line, "w");
    errno = 0;
    CHECK(memory && fclose(memory) == 0 && errno == 0); /* a stream without a descriptor */
    f = fopen("/dev/null", "r");
    number = fileno(f);
    f = freopen("/dev/zero", "r", f);
    CHECK(f && fileno(f) == number && fgetc(f) == 0 && fclose(f) == 0);
}

static void ranges(void)
{
    int pair[2], i;
    tcp_pair(pair);
    for (i = 100; i < 110; i++)
        CHECK(dup2(pair[0], i) == i);
    KEEPS(close_range(100, 104, CLOSE_RANGE_CLOEXEC), 0);
    CHECK(fcntl(104, F_GETFD) == FD_CLOEXEC && fcntl(105, F_GETFD) == 0);
    echo(104, pair[1], "still open");
    closefrom(100);
    for (i = 100; i < 110; i++)
        FAILS(fcntl(i, F_GETFD), EBADF);
    echo(pair[0], pair[1], "below the range");
    CHECK(syscall(SYS_close, pair[0]) == 0);
    FAILS((int)syscall(SYS_close, pair[0]), EBADF);
    CHECK(read(pair[1], &(char){0}, 1) == 0 && close(pair[1]) == 0);
}

/* closefrom(3) as daemons do it: nobody's descriptor is in the way, and none is lost. */
static void close_everything(void)
{
    int pair[2];
    closefrom(3);
    tcp_pair(pair);
    CHECK(pair[0] == 4 && pair[1] == 5);
    echo(pair[0], pair[1], "after closefrom");
    close(pair[0]), close(pair[1]);
}

static void without_standard_descriptors(void)
{
    pid_t child = fork();
    if (!child) {
        int pair[2];
        close(0), close(1), close(2);
        struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        socklen_t length = sizeof at;
        int listener = socket(AF_INET, SOCK_STREAM, 0);
        if (listener != 0 || bind(0, (struct sockaddr *)&at, sizeof at) || listen(0, 1))
            _exit(2);
        getsockname(0, (struct sockaddr *)&at, &length);
        pair[0] = socket(AF_INET, SOCK_STREAM, 0);
        if (pair[0] != 1 || connect(1, (struct sockaddr *)&at, sizeof at) || (pair[1] = accept(0, NULL, NULL)) != 2)
            _exit(3);
        char back[16];
        if (write(1, "hello", 5) != 5 || read(2, back, sizeof back) != 5)
            _exit(4);
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(status == 0);
}

/* Two threads: one opens and closes numbers, the other uses its own connection meanwhile. Nothing may be mixed up. */
static volatile int stop;
static void *open_and_close(void *unused)
{
    while (!stop) {
        int fd = eventfd(0, 0), other = dup(fd), third = socket(AF_INET, SOCK_STREAM, 0);
        CHECK(fd >= 0 && other >= 0 && third >= 0);
        CHECK(close(fd) == 0 && close(third) == 0 && close(other) == 0);
    }
    return unused;
}

static void races(void)
{
    pthread_t t;
    CHECK(pthread_create(&t, NULL, open_and_close, NULL) == 0);
    for (int i = 0; i < 2000; i++) {
        int pair[2];
        tcp_pair(pair);
        echo(pair[0], pair[1], "not mixed up");
        int copy = dup(pair[1]);
        CHECK(close(pair[1]) == 0);
        echo(pair[0], copy, "by the copy");
        CHECK(close(pair[0]) == 0 && read(copy, &(char){0}, 1) == 0 && close(copy) == 0);
    }
    stop = 1;
    pthread_join(t, NULL);
}

int main(void)
{
    high_numbers();
    streams();
    ranges();
    close_everything();
    without_standard_descriptors();
    races();
    puts("descriptors as documented");
    return 0;
}
