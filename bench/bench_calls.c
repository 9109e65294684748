/*
 * bench_calls.c - what a wrapped call adds in a real process, with its system call: bare against
 * watched.
 *
 * bench_record measures our part alone; here the whole call stands beside the whole call, so the
 * differences are small beside their spread. Connections are Unix stream sockets, the cheapest ones
 * that count as such.
 */
#include "bench/slices.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>

enum {
    TRANSFER_64,
    TRANSFER_256,
    TRANSFER_1024,
    TRANSFER_4096,
    AGAIN,
    TURN,
    OPEN_CLOSE,
    FILE_WRITE,
    NULL_READ,
    CONNECTION,
    BY_NUMBER,
    KINDS
};
static const struct {
    const char *name;
    int rounds; /* so that a slice stays below a third of the pool */
} kinds[KINDS] = {{"send + recv, 64 B captured each", 2000},
                  {"send + recv, 256 B captured each", 1500},
                  {"send + recv, 1024 B captured each", 500},
                  {"send 4096 B (1280 captured) + recv (4096)", 150},
                  {"recv, EAGAIN", 5000},
                  {"epoll_wait, nothing ready", 5000},
                  {"open + close of a file", 2000},
                  {"write of 100 B to /dev/null", 5000},
                  {"read of 100 B from /dev/zero", 5000},
                  {"connect + accept + 2 close", 500},
                  {"syscall(SYS_getppid)", 5000}};

static int ends[2], listener, poller, null, zero;
static struct sockaddr_un at = {.sun_family = AF_UNIX};
static char data[4096];

static void make_connection(int both[2])
{
    both[0] = socket(AF_UNIX, SOCK_STREAM, 0);
    if (connect(both[0], (struct sockaddr *)&at, sizeof at))
        exit(1);
    both[1] = accept(listener, NULL, NULL);
}

static void prepare(void)
{
    snprintf(at.sun_path + 1, sizeof at.sun_path - 1, "sonde-bench-%d", (int)getpid());
    listener = socket(AF_UNIX, SOCK_STREAM, 0);
    if (bind(listener, (struct sockaddr *)&at, sizeof at) || listen(listener, 8))
        exit(1);
    make_connection(ends);
    poller = epoll_create1(0);
    struct epoll_event e = {.events = EPOLLIN};
    epoll_ctl(poller, EPOLL_CTL_ADD, ends[1], &e);
    null = open("/dev/null", O_WRONLY);
    zero = open("/dev/zero", O_RDONLY);
}

static void transfer(size_t size, int rounds)
{
    static char in[4096];
    for (int i = 0; i < rounds; i++)
        if (send(ends[0], data, size, 0) != (ssize_t)size ||
            recv(ends[1], in, size, 0) != (ssize_t)size)
            exit(1);
}

static void connections(int rounds)
{
    for (int i = 0; i < rounds; i++) {
        int both[2];
        make_connection(both);
        close(both[0]);
        close(both[1]);
    }
}

static void small_calls(int kind, int rounds)
{
    struct epoll_event e;
    for (int i = 0; i < rounds; i++)
        switch (kind) {
        case AGAIN:
            recv(ends[1], data, sizeof data, MSG_DONTWAIT);
            break;
        case TURN:
            epoll_wait(poller, &e, 1, 0);
            break;
        case OPEN_CLOSE:
            close(open("/dev/null", O_RDONLY));
            break;
        case FILE_WRITE:
            if (write(null, data, 100) != 100)
                exit(1);
            break;
        case NULL_READ:
            if (read(zero, data, 100) != 100)
                exit(1);
            break;
        default:
            syscall(SYS_getppid);
        }
}

static void work(int kind, int rounds)
{
    static const size_t sizes[] = {64, 256, 1024, 4096};
    if (kind <= TRANSFER_4096)
        transfer(sizes[kind], rounds);
    else if (kind == CONNECTION)
        connections(rounds);
    else
        small_calls(kind, rounds);
}

int main(int argc, char **argv)
{
    if (argc > 1 && !strcmp(argv[1], "--worker")) {
        prepare();
        return slices_work(work);
    }
    struct slices s;
    if (slices_init(&s, "calls"))
        return 1;
    struct worker bare = slices_start(&s, false, ""), watched = slices_start(&s, true, "");
    for (int kind = 0; kind < KINDS; kind++) {
        struct comparison c = slices_compare(&s, &bare, &watched, kind, kinds[kind].rounds, 200);
        slices_line(&s, "call", kinds[kind].name, &c);
    }
    slices_stop(&bare);
    slices_stop(&watched);
    uint64_t lost = 0;
    for (uint32_t i = 0; i < s.view.arena->s_lanes_high; i++)
        lost += s.view.lane[i].lost_full;
    printf("events lost meanwhile: %llu\n", (unsigned long long)lost);
    slices_fini(&s);
    return 0;
}
