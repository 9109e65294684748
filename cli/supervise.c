/*
 * supervise.c - holds the arena, keeps a collector alive, waits for CMD and passes signals on.
 *
 * In:      run.c                Out: the collector (control lines on its stdin, its summary from its stdout), CMD
 * Owns:    the arena's descriptor, the collector process.
 * Context: one thread; all signals blocked and read from a signalfd, so that none can end us before the last event.
 *
 * The collector has a process group of its own: Apache signals its whole process group when it stops. We stay in the
 * shell's foreground group with CMD, so the terminal's signals reach CMD without us; we pass on only what was sent to
 * us alone, and stop when CMD stops, so that job control works as without us.
 */
#include "cli/supervise.h"
#include "cli/cli.h"
#include "collector/procfs.h"
#include "cli/jemalloc.h"
#include "wire/atomics.h"
#include "wire/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { COLLECTOR_ARENA = 3, COLLECTOR_SETTINGS = 4 };
#define SECOND_NS UINT64_C(1000000000)

static sigset_t callers_mask;
static struct sigaction callers_chld;

/* --- the collector ------------------------------------------------------------------------------------------- */

static int make_settings_file(const struct supervisor *s)
{
    char *text = settings_json(s->settings);
    int fd = text ? memfd_create("sonde-settings", MFD_CLOEXEC) : -1;
    size_t len = text ? strlen(text) : 0;
    if (fd >= 0 && write(fd, text, len) != (ssize_t)len) {
        close(fd);
        fd = -1;
    }
    free(text);
    return fd;
}

/* In the child: only stdin, stdout, stderr, the arena and the settings stay. Never returns. */
static void become_collector(const struct supervisor *s, int control, int summary)
{
    char supervisor[16];
    const char *store = s->settings->store ? s->settings->store : "none";
    snprintf(supervisor, sizeof supervisor, "%d", getppid());
    /* a process group of its own, not a session: see docs/architecture.md */
    setpgid(0, 0);
    signal(SIGPIPE, SIG_IGN);
    /* above 4 first, lest dup2 closes what is still needed */
    int arena = fcntl(s->arena_fd, F_DUPFD, 10), settings = fcntl(s->settings_fd, F_DUPFD, 10);
    if (arena < 0 || settings < 0 || dup2(control, 0) < 0 || dup2(summary, 1) < 0 || dup2(arena, COLLECTOR_ARENA) < 0 ||
        dup2(settings, COLLECTOR_SETTINGS) < 0)
        _exit(EXIT_SONDE_FAILED);
    close_range(COLLECTOR_SETTINGS + 1, ~0U, 0);
    lseek(COLLECTOR_SETTINGS, 0, SEEK_SET);
    sigprocmask(SIG_SETMASK, &callers_mask, NULL);
    execl(s->collector_path, s->collector_path, "--store", store, "--supervisor", supervisor, "--arena", "3",
          "--settings", "4", s->record ? "--record" : NULL, s->record, NULL);
    _exit(EXIT_SONDE_FAILED);
}

static void tell_collector(const struct supervisor *s, const char *line)
{
    if (s->control >= 0 && write(s->control, line, strlen(line)) < 0)
        return; /* it died: its successor is told anew */
}

static void tell_command(const struct supervisor *s)
{
    char line[64];
    if (s->command > 0) {
        snprintf(line, sizeof line, "command-pid %d\n", s->command);
        tell_collector(s, line);
    }
    if (s->command_ended) {
        snprintf(line, sizeof line, "command-end %d %d %llu\n", s->exit_code, s->signal > 0 ? s->signal : 0, s->cpu_ns);
        tell_collector(s, line);
    }
    if (s->stopping)
        tell_collector(s, "stop\n");
}

static int start_collector(struct supervisor *s)
{
    int control[2] = {-1, -1}, summary[2] = {-1, -1};
    s->restart_ns = 0;
    s->text_len = 0;
    if (pipe2(control, O_CLOEXEC) || pipe2(summary, O_CLOEXEC) || (s->collector = fork()) < 0) {
        int rc = -errno;
        for (int i = 0; i < 2; i++) {
            if (control[i] >= 0)
                close(control[i]);
            if (summary[i] >= 0)
                close(summary[i]);
        }
        s->collector = 0;
        return rc;
    }
    if (!s->collector)
        become_collector(s, control[0], summary[1]);
    close(control[0]);
    close(summary[1]);
    s->control = control[1];
    s->summary = summary[0];
    fcntl(s->summary, F_SETFL, O_NONBLOCK);
    tell_command(s);
    return 0;
}

/* Takes what the collector has said; false at its end. */
static bool read_summary(struct supervisor *s)
{
    for (;;) {
        char *more = realloc(s->text, s->text_len + 65536);
        if (!more)
            return false;
        s->text = more;
        ssize_t n = read(s->summary, s->text + s->text_len, 65536);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 && errno == EAGAIN;
        s->text_len += (size_t)n;
        if (s->text_len > 16 << 20)
            return false;
    }
}

/* A collector that did not end by itself is followed by another; after five deaths in a minute, only after a pause. */
static void collector_ended(struct supervisor *s, int status)
{
    read_summary(s);
    close(s->summary);
    close(s->control);
    s->summary = s->control = -1;
    s->collector = 0;
    if ((WIFEXITED(status) && WEXITSTATUS(status) == 0) || (s->command_ended && s->deaths >= 3))
        return;
    uint64_t now = clock_monotonic_ns();
    uint64_t fifth = s->death_ns[s->deaths % 5];
    s->death_ns[s->deaths++ % 5] = now;
    s->restart_ns = fifth && now - fifth < 60 * SECOND_NS ? now + 10 * SECOND_NS : now;
    if (s->deaths <= 3)
        complain("the collector %s %d; the server runs on, a new collector takes over",
                 WIFSIGNALED(status) ? "was killed by signal" : "ended with code",
                 WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
}

/* --- start --------------------------------------------------------------------------------------------------- */

static uint64_t number_in(const char *path)
{
    char text[32] = "";
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof text - 1);
    if (fd >= 0)
        close(fd);
    text[n > 0 ? n : 0] = 0;
    return *text >= '0' && *text <= '9' ? strtoull(text, NULL, 10) : UINT64_MAX;
}

/* The container's memory limit: ours or any parent's, cgroup 2 or 1. */
static uint64_t memory_limit(void)
{
    char line[4096], path[4200];
    uint64_t least = number_in("/sys/fs/cgroup/memory/memory.limit_in_bytes");
    FILE *f = fopen("/proc/self/cgroup", "re");
    while (f && fgets(line, sizeof line, f)) {
        if (strncmp(line, "0::", 3) != 0)
            continue;
        line[strcspn(line, "\n")] = 0;
        for (char *at = line + 3; *at;) {
            snprintf(path, sizeof path, "/sys/fs/cgroup%s/memory.max", at);
            uint64_t n = number_in(path);
            least = n < least ? n : least;
            char *slash = strrchr(at, '/');
            *(slash ? slash : at) = 0;
        }
        uint64_t n = number_in("/sys/fs/cgroup/memory.max");
        least = n < least ? n : least;
    }
    if (f)
        fclose(f);
    return least;
}

static uint64_t arena_bytes(const struct settings *settings)
{
    uint64_t wanted = settings->options.arena_bytes;
    if (wanted)
        return wanted;
    uint64_t share = memory_limit() / 16;
    wanted = share < ARENA_DEFAULT_BYTES ? share : ARENA_DEFAULT_BYTES;
    return wanted < ARENA_MIN_BYTES ? ARENA_MIN_BYTES : wanted;
}

/* 0: no stacks of waits for locks */
static uint64_t wanted_lock_sample(const struct options *o)
{
    return o->stacks && o->waits ? o->lock_sample_ns : 0;
}

static uint32_t wanted_features(const struct options *o)
{
    return (o->heap ? (uint32_t)FEATURE_HEAP : 0) | (o->capture ? (uint32_t)FEATURE_DATA : 0) |
           (o->heap && o->stacks ? (uint32_t)FEATURE_STACKS : 0) | (o->cpu ? (uint32_t)FEATURE_CPU : 0) |
           (o->waits ? (uint32_t)FEATURE_WAITS : 0);
}

int supervisor_start(struct supervisor *s, const char **why)
{
    int rc = -ENOENT;
    s->arena_fd = s->settings_fd = s->control = s->summary = -1;
    s->exit_code = s->signal = -1;
    *why = "libsonde.so or sonde-collector is not beside `sonde` nor in ../lib/sonde; build or install again";
    if (install_find("libsonde.so", s->library, sizeof s->library) ||
        install_find("sonde-collector", s->collector_path, sizeof s->collector_path))
        return rc;
    *why = "the path of libsonde.so holds a space or colon, which LD_PRELOAD cannot express; install it elsewhere";
    if (strpbrk(s->library, " :"))
        return -EINVAL;
    *why = "no shared memory for the recorder; free some, or set arena.bytes lower";
    s->arena_fd = arena_create(arena_bytes(s->settings), s->settings->token, &s->view);
    if (s->arena_fd < 0)
        return s->arena_fd;
    clock_calibrate(s->view.arena);
    const struct options *o = &s->settings->options;
    s->view.arena->supervisor = (uint32_t)getpid();
    s->view.arena->features = wanted_features(o);
    s->view.arena->sample_bytes = o->sample_bytes;
    s->view.arena->lock_sample_ns = wanted_lock_sample(o);
    *why = "the collector cannot be started";
    s->settings_fd = make_settings_file(s);
    if (s->settings_fd < 0)
        return -errno;
    return start_collector(s);
}

void supervisor_environment(const struct supervisor *s, pid_t supervisor)
{
    char preload[8192], arena[160];
    struct stat namespace = {0};
    const char *others = getenv("LD_PRELOAD");
    const char *allocator = s->settings->allocator ? ":libjemalloc.so.2" : "";
    snprintf(preload, sizeof preload, "%s%s%s%s", s->library, allocator, others && *others ? ":" : "",
             others ? others : "");
    if (stat("/proc/self/ns/pid", &namespace))
        namespace.st_ino = 0;
    snprintf(arena, sizeof arena, "%d:%d:%s:%u:%" PRIu64 ":%" PRIu64 ":%" PRIu64, supervisor, s->arena_fd, s->settings->token,
             wanted_features(&s->settings->options), s->settings->options.sample_bytes,
             wanted_lock_sample(&s->settings->options), (uint64_t)namespace.st_ino); /* --exec: no arena is mapped here */
    setenv("LD_PRELOAD", preload, 1);
    if (s->settings->heap_profile)
        jemalloc_environment(s->settings);
    setenv(SONDE_ENV_ARENA, arena, 1);
    unsetenv("SONDE_API_KEY");
    unsetenv("SONDE_USER");
    unsetenv("SONDE_PASSWORD");
}

int cannot_execute(const char *command, int error)
{
    if (error == ENOENT) {
        complain("%s: not found", command);
        return EXIT_NOT_FOUND;
    }
    complain("%s: cannot be executed: %s", command, strerror(error));
    return EXIT_CANNOT_EXECUTE;
}

/* --- CMD ----------------------------------------------------------------------------------------------------- */

/* Starts CMD with the caller's signals; 0, or the errno with which exec failed. */
static int start_command(struct supervisor *s, char **command)
{
    int failure[2], error = 0;
    pid_t self = getpid();
    if (pipe2(failure, O_CLOEXEC))
        return errno;
    s->command = fork();
    if (s->command < 0) {
        error = errno;
        close(failure[0]);
        close(failure[1]);
        return error;
    }
    if (!s->command) {
        supervisor_environment(s, self);
        sigaction(SIGCHLD, &callers_chld, NULL);
        sigprocmask(SIG_SETMASK, &callers_mask, NULL);
        execvp(*command, command);
        error = errno;
        if (write(failure[1], &error, sizeof error) < 0)
            _exit(EXIT_CANNOT_EXECUTE);
        _exit(EXIT_CANNOT_EXECUTE);
    }
    close(failure[1]);
    if (read(failure[0], &error, sizeof error) != sizeof error)
        error = 0;
    close(failure[0]);
    return error;
}

/* Is `pid` CMD or below it? Then its signals to the group reached CMD already. */
static bool descends_from_command(const struct supervisor *s, pid_t pid)
{
    for (int depth = 0; pid > 1 && depth < 64; depth++) {
        char path[64], text[512];
        if (pid == s->command)
            return true;
        snprintf(path, sizeof path, "/proc/%d/stat", pid);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
        if (fd >= 0)
            close(fd);
        if (n <= 0)
            return false;
        text[n] = 0;
        const char *after = strrchr(text, ')');
        if (!after || sscanf(after + 1, " %*c %d", &pid) != 1)
            return false;
    }
    return false;
}

/* The pids of live watched processes whose parent is none of them: what a daemonised CMD left. */
static int signal_followed(const struct supervisor *s, int number)
{
    int count = 0;
    for (uint32_t i = 0; i < s->view.processes && i < load_relaxed(&s->view.arena->s_processes_high); i++) {
        const struct process_slot *p = &s->view.process[i];
        bool has_parent = false;
        if (load_acquire(&p->state) != PROCESS_LIVE || p->pid <= 1 || kill(p->pid, 0))
            continue;
        for (uint32_t j = 0; j < s->view.processes && j < load_relaxed(&s->view.arena->s_processes_high); j++)
            has_parent |= j != i && load_relaxed(&s->view.process[j].state) == PROCESS_LIVE &&
                          s->view.process[j].pid == p->parent && !kill(p->parent, 0);
        if (!has_parent && !kill(p->pid, number))
            count++;
    }
    return count;
}

static bool is_job_control(int number)
{
    return number == SIGTSTP || number == SIGTTIN || number == SIGTTOU;
}

/*
 * CMD has ended (or was never ours) and its daemons run on: a request to end is passed to them. Where that is not
 * possible, or at Ctrl-C, we stop watching: recording is switched off, the servers run on, the summary is written.
 */
static void pass_to_followed(struct supervisor *s, int number)
{
    if (is_job_control(number))
        kill(getpid(), SIGSTOP);
    if (number != SIGINT && number != SIGTERM && number != SIGHUP && number != SIGQUIT)
        return;
    if (s->stopping || (number != SIGINT && signal_followed(s, number)))
        return;
    s->stopping = true;
    store_relaxed(&s->view.arena->off, 1);
    tell_collector(s, "stop\n");
}

/*
 * A signal that was sent to us. What the terminal (SI_KERNEL) or CMD's own family sent reached the whole group, so CMD
 * has it already. Stops: CMD decides whether it stops; we follow it (command_status).
 */
static void pass_signal(struct supervisor *s, const struct signalfd_siginfo *info)
{
    int number = (int)info->ssi_signo;
    if (number == SIGPIPE || (pid_t)info->ssi_pid == getpid())
        return;
    if (s->command_ended || s->exec)
        pass_to_followed(s, number);
    else if (info->ssi_code != SI_KERNEL && !descends_from_command(s, (pid_t)info->ssi_pid))
        kill(s->command, number);
}

static bool is_stopped(pid_t pid)
{
    char path[64], text[512];
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (fd >= 0)
        close(fd);
    text[n > 0 ? n : 0] = 0;
    const char *after = strrchr(text, ')');
    return after && after[1] == ' ' && after[2] == 'T';
}

/* The terminal stopped CMD while it is in front: we stop too, so that the shell takes the terminal back. */
static void stop_with_command(int number)
{
    int terminal = open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY);
    if (terminal < 0)
        return;
    bool ours = tcgetpgrp(terminal) == getpgrp() || number != SIGTSTP;
    close(terminal);
    if (ours && is_job_control(number))
        kill(getpid(), SIGSTOP);
}

static void command_status(struct supervisor *s, const siginfo_t *info)
{
    if (info->si_code == CLD_STOPPED) {
        stop_with_command(info->si_status);
        return;
    }
    if (info->si_code == CLD_CONTINUED || info->si_code == CLD_TRAPPED)
        return;
    s->command_ended = true;
    s->exit_code = info->si_code == CLD_EXITED ? info->si_status : -1;
    s->signal = info->si_code == CLD_EXITED ? -1 : info->si_status;
    tell_command(s);
}

static void reap(struct supervisor *s)
{
    const int any = WEXITED | WSTOPPED | WCONTINUED | WNOHANG;
    for (;;) {
        siginfo_t info = {.si_pid = 0};
        if (waitid(P_ALL, 0, &info, any | WNOWAIT) || !info.si_pid)
            return;
        if (info.si_pid == s->command)
            s->cpu_ns = procfs_cpu_ns(s->command); /* its clock goes with it */
        if (waitid(P_PID, (id_t)info.si_pid, &info, any) || !info.si_pid)
            continue;
        if (info.si_pid == s->command)
            command_status(s, &info);
        else if (info.si_pid == s->collector && info.si_code != CLD_STOPPED && info.si_code != CLD_CONTINUED)
            collector_ended(s, info.si_code == CLD_EXITED ? info.si_status << 8 : info.si_status);
    }
}

static void read_signals(struct supervisor *s, int fd)
{
    struct signalfd_siginfo info;
    while (read(fd, &info, sizeof info) == sizeof info)
        if (info.ssi_signo == SIGCHLD)
            reap(s);
        else if (info.ssi_signo != SIGCONT)
            pass_signal(s, &info);
        else if (!s->command_ended && !s->exec && is_stopped(s->command))
            kill(s->command, SIGCONT); /* only we were told to go on */
}

/* After 3 s, or at CMD's end: has no process of it attached? Then say why, once. */
static void say_if_unseen(struct supervisor *s, char **command, bool *said)
{
    char path[4096], reason[512];
    if (*said || s->settings->quiet || load_relaxed(&s->view.arena->s_processes_high))
        return;
    *said = true;
    enum sight sight = sight_of(*command, path, sizeof path, reason, sizeof reason);
    if (sight == SIGHT_NONE)
        complain("nothing of %s can be seen: %s", *command, reason);
    else if (!s->command_ended)
        complain("nothing of %s is seen so far: it, or what it started, did not take the recorder (cleaned environment, "
                 "other user, static or privileged program)",
                 *command);
}

/*
 * The first process of a container: the others end with it, as they would with CMD in our place. Nobody waits for a
 * forgotten orphan; the collector writes what there is.
 */
static void end_container(struct supervisor *s)
{
    if (getpid() != 1 || !s->command_ended || s->stopping)
        return;
    s->stopping = true;
    tell_collector(s, "stop\n");
}

/* Until CMD has ended and the collector has said its last. `command_fd`: a pidfd when CMD is not our child, else -1. */
static void wait_for_all(struct supervisor *s, char **command, int signals, int command_fd)
{
    uint64_t started = clock_monotonic_ns();
    bool said = false;
    while (!s->command_ended || s->collector || s->restart_ns) {
        struct pollfd fds[] = {{signals, POLLIN, 0}, {s->summary, POLLIN, 0}, {command_fd, POLLIN, 0}};
        uint64_t now = clock_monotonic_ns(), wake = s->restart_ns;
        uint64_t look = started + 3 * SECOND_NS;
        if (!said && now < look && (!wake || look < wake))
            wake = look;
        int timeout = wake ? (wake > now ? (int)((wake - now) / 1000000) + 1 : 0) : -1;
        poll(fds, 3, timeout);
        if (fds[0].revents)
            read_signals(s, signals);
        if (fds[1].revents && s->summary >= 0 && !read_summary(s)) {
            close(s->summary);
            s->summary = -1;
        }
        if (fds[2].revents) {
            command_fd = -1;
            s->command_ended = true;
            tell_command(s);
        }
        if (s->restart_ns && clock_monotonic_ns() >= s->restart_ns && start_collector(s))
            s->restart_ns = clock_monotonic_ns() + 10 * SECOND_NS;
        if (command && (s->command_ended || clock_monotonic_ns() >= look))
            say_if_unseen(s, command, &said);
        end_container(s);
        if (s->command_ended && !s->collector && s->deaths >= 20)
            break; /* it cannot be kept alive, and nobody waits for it */
    }
}

static void print_summary(const struct supervisor *s)
{
    if (s->settings->quiet)
        return;
    for (size_t at = 0; at < s->text_len;) {
        ssize_t n = write(STDERR_FILENO, s->text + at, s->text_len - at);
        if (n <= 0)
            return;
        at += (size_t)n;
    }
}

static int open_signals(void)
{
    sigset_t all;
    struct sigaction plain = {.sa_handler = SIG_DFL};
    sigfillset(&all);
    static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGSYS};
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++)
        sigdelset(&all, faults[i]);
    sigprocmask(SIG_BLOCK, &all, &callers_mask);
    sigaction(SIGCHLD, &plain, &callers_chld); /* inherited SIG_IGN would lose exit codes */
    return signalfd(-1, &all, SFD_CLOEXEC | SFD_NONBLOCK);
}

int supervisor_run(struct supervisor *s, char **command)
{
    int signals = open_signals();
    int error = signals < 0 ? errno : start_command(s, command);
    if (error) {
        s->command_ended = s->stopping = true;
        if (s->control >= 0)
            close(s->control);
        if (s->collector > 0)
            kill(s->collector, SIGKILL); /* nothing was watched: there is nothing to write */
        return cannot_execute(*command, error);
    }
    tell_command(s);
    wait_for_all(s, command, signals, -1);
    print_summary(s);
    if (s->settings->heap_profile && !s->settings->quiet)
        jemalloc_tell(s->settings);
    return s->signal > 0 ? 128 + s->signal : s->exit_code;
}

int supervisor_follow(struct supervisor *s, pid_t command)
{
    int signals = open_signals(), fd = (int)syscall(SYS_pidfd_open, command, 0);
    s->exec = true;
    s->command = command;
    s->command_ended = fd < 0;
    tell_command(s);
    wait_for_all(s, NULL, signals, fd);
    print_summary(s);
    return 0;
}
