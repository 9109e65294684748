/*
 * list.c - `sonde list` and `sonde off`: the runs that go on, found in /proc by their collectors.
 */
#include "cli/cli.h"
#include "wire/arena.h"
#include "wire/atomics.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Reads /proc/PID/cmdline, NUL-terminated; its length or -1. */
static ssize_t read_arguments(int pid, char *list, size_t room)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/cmdline", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, list, room - 1);
    if (fd >= 0)
        close(fd);
    list[n > 0 ? n : 0] = 0;
    return n;
}

/* The value after `option` in a NUL-separated argument list. */
static const char *argument(const char *list, size_t len, const char *option)
{
    for (const char *at = list; at < list + len; at += strlen(at) + 1) {
        const char *next = at + strlen(at) + 1;
        if (!strcmp(at, option) && next < list + len)
            return next;
    }
    return NULL;
}

static bool read_running(int pid, struct running *out)
{
    char list[8192];
    ssize_t n = read_arguments(pid, list, sizeof list);
    if (n <= 0)
        return false;
    const char *name = strrchr(list, '/') ? strrchr(list, '/') + 1 : list;
    const char *store = argument(list, (size_t)n, "--store"), *arena = argument(list, (size_t)n, "--arena");
    const char *supervisor = argument(list, (size_t)n, "--supervisor");
    if (strcmp(name, "sonde-collector") != 0 || !store || !arena || !supervisor)
        return false;
    out->collector = pid;
    out->arena = atoi(arena);
    out->supervisor = atoi(supervisor);
    snprintf(out->store, sizeof out->store, "%s", store);
    return true;
}

int running_each(int (*each)(void *to, const struct running *), void *to)
{
    DIR *proc = opendir("/proc");
    int count = 0;
    for (struct dirent *d; proc && (d = readdir(proc));) {
        struct running r;
        int pid = atoi(d->d_name);
        if (pid > 0 && read_running(pid, &r)) {
            count++;
            if (each(to, &r))
                break;
        }
    }
    if (proc)
        closedir(proc);
    return count;
}

static int open_arena(const struct running *r, struct arena_view *view)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/fd/%d", r->collector, r->arena);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    int rc = arena_open(fd, view);
    close(fd);
    return rc;
}

/* The supervisor's own command line, as one line of text. */
static void command_of(int pid, char *out, size_t room)
{
    ssize_t n = read_arguments(pid, out, room);
    while (n > 0 && !out[n - 1])
        n--;
    for (ssize_t i = 0; i < n; i++)
        if ((unsigned char)out[i] < ' ')
            out[i] = ' ';
    if (n <= 0)
        snprintf(out, room, "-");
}

static int show(void *to, const struct running *r)
{
    struct arena_view view = {0};
    char command[256];
    int *shown = to, live = 0, rc = open_arena(r, &view);
    if (!(*shown)++)
        printf("%-8s %-5s %5s  %-28s %s\n", "PID", "STATE", "PROCS", "STORE", "COMMAND");
    for (uint32_t i = 0; !rc && i < view.processes && i < view.arena->s_processes_high; i++)
        live += load_relaxed(&view.process[i].state) == PROCESS_LIVE;
    command_of(r->supervisor, command, sizeof command);
    printf("%-8d %-5s %5d  %-28s %s\n", r->supervisor, rc ? "?" : load_relaxed(&view.arena->off) ? "off" : "on", live,
           r->store, command);
    if (!rc)
        arena_detach(&view);
    return 0;
}

int list_main(int argc, char **argv)
{
    if (argc > 1) {
        if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h")) {
            printf("usage: sonde list\n\n"
                   "Lists the runs that go on: the supervisor's pid, recording on or off, how many\n"
                   "processes are watched, the store, the command.\n");
            return 0;
        }
        fprintf(stderr, "sonde list: takes no options nor names: %s (see sonde list --help)\n", argv[1]);
        return EXIT_WRONG_USE;
    }
    int shown = 0;
    if (!running_each(show, &shown))
        printf("no run goes on\n");
    return 0;
}

struct off {
    const char *store; /* absolute; NULL: the only one */
    int found, done;
    uint32_t value;
};

static int switch_one(void *to, const struct running *r)
{
    struct off *off = to;
    struct arena_view view;
    if (off->store && strcmp(off->store, r->store) != 0)
        return 0;
    off->found++;
    int rc = open_arena(r, &view);
    if (rc) {
        complain("the run with store %s (pid %d): %s; only its user or root may switch it", r->store, r->supervisor,
                 strerror(-rc));
        return 0;
    }
    store_relaxed(&view.arena->off, off->value);
    arena_detach(&view);
    off->done++;
    printf("%s: recording is %s; the servers run on\n", r->store, off->value ? "off" : "on again");
    return 0;
}

static int count_one(void *to, const struct running *r)
{
    (void)to;
    (void)r;
    return 0;
}

static int off_usage(void)
{
    printf("usage: sonde off [--undo] [STORE]\n\n"
                "Stops recording in the servers of a run at once; they run on. STORE names the\n"
                "run where there is more than one.\n\n"
                "  --undo    records again; what passed meanwhile is not known\n"
                "  --help    this text\n");
    return 0;
}

int off_main(int argc, char **argv)
{
    static const struct option options[] = {{"help", 0, 0, 'h'}, {"undo", 0, 0, 'u'}, {0, 0, 0, 0}};
    struct off off = {.value = 1};
    char absolute[PATH_MAX];
    opterr = 0;
    for (int c; (c = getopt_long(argc, argv, ":h", options, NULL)) != -1;) {
        if (c == 'h')
            return off_usage();
        if (c != 'u') {
            wrong_option("off", options, c, argv);
            return EXIT_WRONG_USE;
        }
        off.value = 0;
    }
    if (argc - optind > 1) {
        fprintf(stderr, "sonde off: one store at a time: %s (see sonde off --help)\n", argv[optind + 1]);
        return EXIT_WRONG_USE;
    }
    if (optind < argc) {
        if (!realpath(argv[optind], absolute)) {
            complain("%s: %s; `sonde list` shows the stores of running runs", argv[optind], strerror(errno));
            return 1;
        }
        off.store = absolute;
    } else if (running_each(count_one, NULL) > 1) {
        complain("more than one run goes on; name the store of the one you mean:");
        list_main(1, argv);
        return EXIT_WRONG_USE;
    }
    running_each(switch_one, &off);
    if (!off.found)
        complain("no run goes on%s%s", off.store ? " with store " : "", off.store ? off.store : "");
    return off.done ? 0 : 1;
}
