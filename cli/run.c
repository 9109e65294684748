/*
 * run.c - `sonde run` and `sonde record`: options, then the supervisor.
 */
#include "cli/cli.h"
#include "cli/jemalloc.h"
#include "cli/supervise.h"
#include "collector/sink/store.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <langinfo.h>
#include <locale.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const char run_help[] =
    "usage: sonde run [OPTIONS] [--] CMD ARGS...\n\n"
    "Runs CMD and tells what every request costs in it. Options end at the first word\n"
    "that is none.\n\n"
    "  -o STORE         where results are kept (default ./sonde.db; none: nowhere)\n"
    "  --to URL         also ship to Elasticsearch or OpenSearch, http(s)://HOST:9200\n"
    "                   (may be given again); credentials: SONDE_API_KEY, or\n"
    "                   SONDE_USER and SONDE_PASSWORD\n"
    "  --config FILE    settings as JSON; sonde check --config FILE: is it right?\n"
    "  --name SERVICE   name of the service (default: CMD's own)\n"
    "  --set KEY=VALUE  one setting; may be given again\n"
    "  --allocator jemalloc  run CMD with jemalloc, whose own counters cost nothing\n"
    "  --heap-profile[=PREFIX]  have jemalloc write its own heap profile when a\n"
    "                   process ends, PREFIX.PID.0.f.heap (default ./sonde-heap; with\n"
    "                   --allocator jemalloc, or a program that has jemalloc)\n"
    "  --quiet          no summary at the end\n"
    "  --exec           become CMD, so that its pid is ours (systemd Type=notify)\n"
    "  --strict         do not start CMD when it cannot be watched (exit code 125)\n"
    "  --help           this text\n\n"
    "The exit code is CMD's; 128+n when signal n killed it; 125 sonde failed before\n"
    "CMD ran; 126 CMD cannot be executed; 127 it was not found.\n\n"
    "Settings (--set, or keys of the file), with their defaults:\n";

static const char record_help[] =
    "usage: sonde record [OPTIONS] FILE [--] CMD ARGS...\n\n"
    "Runs CMD as `sonde run` does and keeps the raw event stream in FILE, for\n"
    "`sonde replay` and `sonde dump`. FILE then holds traffic as it was captured,\n"
    "secrets included. Options are those of `sonde run`, before FILE; no store is\n"
    "written unless -o names one.\n";

static int print_help(const char *text, bool settings)
{
    fputs(text, stdout);
    if (settings)
        print_settings(stdout);
    return 0;
}

struct arguments {
    struct settings settings;
    bool exec, help, wrong;
};

static void apply(struct arguments *a, int option, const char *value)
{
    struct settings *s = &a->settings;
    switch (option) {
    case 'o':
        free(s->store);
        s->store = strdup(value);
        break;
    case 't':
        a->wrong |= settings_output(s, value, complain_fault, NULL) != 0;
        break;
    case 'n':
        free(s->service);
        s->service = strdup(value);
        break;
    case 's':
        a->wrong |= settings_set(s, value, complain_fault, NULL) != 0;
        break;
    case 'a':
        if (strcmp(value, "jemalloc") != 0) {
            complain("--allocator can be jemalloc only");
            a->wrong = true;
        }
        free(s->allocator);
        s->allocator = strdup(value);
        break;
    case 'p':
        free(s->heap_profile);
        s->heap_profile = strdup(value ? value : "");
        break;
    case 'q':
        s->quiet = true;
        break;
    case 'x':
        a->exec = true;
        break;
    case 'S':
        s->strict = true;
        break;
    case 'h':
        a->help = true;
        break;
    case 'c':
        break; /* read before all others */
    default:
        break;
    }
}

/* The configuration file first, then the options over it, whatever their order. Index of the first word after. */
static int parse_arguments(struct arguments *a, int argc, char **argv)
{
    static const struct option options[] = {
        {"to", 1, 0, 't'},    {"config", 1, 0, 'c'}, {"name", 1, 0, 'n'},   {"set", 1, 0, 's'},  {"allocator", 1, 0, 'a'},
        {"heap-profile", 2, 0, 'p'},
        {"quiet", 0, 0, 'q'}, {"exec", 0, 0, 'x'},   {"strict", 0, 0, 'S'}, {"help", 0, 0, 'h'}, {0, 0, 0, 0}};
    settings_init(&a->settings);
    for (int pass = 0; pass < 2; pass++) {
        optind = 0;
        opterr = 0;
        for (int c; (c = getopt_long(argc, argv, "+:o:h", options, NULL)) != -1;)
            if (c == '?' || c == ':') {
                if (pass)
                    wrong_option(argv[0], options, c, argv);
                a->wrong = true;
            } else if (pass)
                apply(a, c, optarg);
            else if (c == 'c')
                a->wrong |= settings_read(&a->settings, optarg, complain_fault, NULL) != 0;
    }
    return optind;
}

static void look_at_terminal(struct settings *s)
{
    struct winsize size;
    bool terminal = isatty(STDERR_FILENO);
    setlocale(LC_CTYPE, "");
    s->utf8 = !strcmp(nl_langinfo(CODESET), "UTF-8") && terminal;
    s->colour = terminal && !getenv("NO_COLOR") && strcmp(getenv("TERM") ? getenv("TERM") : "dumb", "dumb") != 0;
    if (terminal && !ioctl(STDERR_FILENO, TIOCGWINSZ, &size) && size.ws_col >= 40)
        s->columns = size.ws_col;
}

static void make_token(struct settings *s)
{
    /* time first: names of runs, and the ids of their documents, sort by it */
    uint64_t words[2] = {0, 0};
    char text[32];
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (getrandom(words, sizeof words, 0) != sizeof words)
        words[1] = (uint64_t)getpid() << 32 ^ (uint64_t)now.tv_nsec;
    snprintf(text, sizeof text, "%08" PRIx32 "%08" PRIx32, (uint32_t)now.tv_sec, (uint32_t)words[1]);
    free(s->token);
    s->token = strdup(text);
}

/* Becomes CMD without us. Only returns the exit code of a failed exec. */
static int run_bare(char **command)
{
    unsetenv("SONDE_API_KEY");
    unsetenv("SONDE_USER");
    unsetenv("SONDE_PASSWORD");
    execvp(*command, command);
    return cannot_execute(*command, errno);
}

static int not_monitored(const struct settings *s, const char *why, int rc, char **command)
{
    complain("%s%s%s; %s", why, rc ? ": " : "", rc ? strerror(-rc) : "",
             s->strict ? "nothing is started (--strict)" : "the command runs unmonitored");
    return s->strict ? EXIT_SONDE_FAILED : run_bare(command);
}

static int choose_store(struct settings *s, bool *unmonitored)
{
    char path[4096], message[1024] = "";
    /* where files may not grow, an error and no SIGXFSZ; CMD gets the caller's setting back */
    struct sigaction ignore = {.sa_handler = SIG_IGN}, before;
    sigaction(SIGXFSZ, &ignore, &before);
    int rc = store_choose_path(s->store, path, sizeof path, message, sizeof message);
    sigaction(SIGXFSZ, &before, NULL);
    if (rc == 1 && !s->quiet)
        complain("%s", message);
    if (rc < 0) {
        *unmonitored = rc != -EEXIST; /* a file that is not ours: wrong use */
        complain("%s%s", message, !*unmonitored || s->strict ? "; nothing is started" : "; the command runs unmonitored");
        return rc;
    }
    free(s->store);
    s->store = realpath(path, NULL); /* as `sonde list` and `sonde off` show and compare it */
    if (!s->store)
        s->store = strdup(path);
    return 0;
}

/* --exec: the supervisor becomes a process of its own, outside CMD's family and process group; we become CMD. */
static int run_exec(struct supervisor *s, char **command)
{
    int ready[2];
    pid_t self = getpid(), supervisor = -1;
    const char *why = "";
    if (pipe2(ready, O_CLOEXEC))
        return not_monitored(s->settings, "no pipe", -errno, command);
    pid_t child = fork();
    if (!child) {
        setpgid(0, 0);
        if (fork())
            _exit(0);
        pid_t me = getpid();
        int rc = supervisor_start(s, &why);
        if (rc)
            complain("%s: %s", why, strerror(-rc));
        int words[2] = {rc ? -1 : me, s->arena_fd};
        if (write(ready[1], words, sizeof words) != (ssize_t)sizeof words || rc)
            _exit(1);
        close(ready[1]);
        _exit(supervisor_follow(s, self));
    }
    close(ready[1]);
    int words[2] = {-1, -1};
    if (child > 0)
        waitpid(child, NULL, 0);
    if (read(ready[0], words, sizeof words) == (ssize_t)sizeof words)
        supervisor = words[0];
    close(ready[0]);
    if (supervisor < 0)
        return not_monitored(s->settings, "the supervisor could not start", 0, command);
    install_find("libsonde.so", s->library, sizeof s->library);
    s->arena_fd = words[1];
    supervisor_environment(s, supervisor);
    execvp(*command, command);
    return cannot_execute(*command, errno);
}

/* exec's own failures are told before anything is made. 0: it can run; `breaks`: not with a library preloaded. */
static int refuse_command(char **command, bool quiet, char *breaks, size_t room)
{
    char path[4096], reason[512];
    *breaks = 0;
    enum sight sight = sight_of(*command, path, sizeof path, reason, sizeof reason);
    if (sight == SIGHT_NOT_FOUND)
        return cannot_execute(*command, ENOENT);
    if (sight == SIGHT_NOT_EXECUTABLE)
        return cannot_execute(*command, EACCES);
    if (sight == SIGHT_BREAKS)
        snprintf(breaks, room, "%s: %s", *command, reason);
    if (sight == SIGHT_PART && !quiet)
        complain("%s: %s", *command, reason);
    return 0;
}

/* Before anything is made. 0, or the reason was told. */
static int prepare_heap_profile(struct settings *s)
{
    if (!s->heap_profile)
        return 0;
    char *prefix = jemalloc_prefix(s->heap_profile);
    free(s->heap_profile);
    s->heap_profile = prefix;
    if (!prefix || jemalloc_refuse(prefix))
        return -EINVAL;
    enum jemalloc has = jemalloc_look();
    if (has == JEMALLOC_PROFILES || !s->allocator)
        return 0;
    complain(has == JEMALLOC_MISSING ? "--heap-profile: there is no " JEMALLOC_LIBRARY "; install it (apt install libjemalloc2)"
                                     : "--heap-profile: this " JEMALLOC_LIBRARY " was built without heap profiles (--enable-prof): "
                                       "none is written; sonde flame --by live shows sonde's own samples");
    if (s->strict)
        return -ENOTSUP;
    free(s->heap_profile); /* the run is worth more than this profile */
    s->heap_profile = NULL;
    return 0;
}

static int run_with(struct arguments *a, char **command, const char *record)
{
    struct settings *s = &a->settings;
    bool unmonitored = false;
    const char *why;
    char breaks[1024];
    int rc = refuse_command(command, s->quiet, breaks, sizeof breaks);
    if (rc)
        return rc;
    if (*breaks)
        return not_monitored(s, breaks, 0, command);
    if (prepare_heap_profile(s))
        return EXIT_SONDE_FAILED;
    make_token(s);
    look_at_terminal(s);
    if (choose_store(s, &unmonitored) < 0)
        return !unmonitored || s->strict ? EXIT_SONDE_FAILED : run_bare(command);
    s->command = command;
    struct supervisor supervisor = {.settings = s, .record = record};
    if (a->exec)
        return run_exec(&supervisor, command);
    rc = supervisor_start(&supervisor, &why);
    if (rc)
        return not_monitored(s, why, rc, command);
    return supervisor_run(&supervisor, command);
}

static int end_with(struct arguments *a, int code)
{
    a->settings.command = NULL; /* main's own */
    settings_fini(&a->settings);
    return code;
}

static int run_words(struct arguments *a, int argc, char **argv)
{
    int first = parse_arguments(a, argc, argv);
    if (a->help)
        return print_help(run_help, true);
    if (a->wrong)
        return EXIT_SONDE_FAILED;
    if (first >= argc) {
        complain("which command? As in: sonde run -- nginx -g 'daemon off;'");
        return EXIT_SONDE_FAILED;
    }
    return run_with(a, argv + first, NULL);
}

int run_main(int argc, char **argv)
{
    struct arguments a = {.exec = false};
    return end_with(&a, run_words(&a, argc, argv));
}

/* A recording is made anew, never over another file: empty, or beginning with our magic. */
static int refuse_file(const char *path)
{
    char magic[8] = "";
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT)
        return 0;
    bool ours = fd >= 0 && !fstat(fd, &st) && S_ISREG(st.st_mode) &&
                (st.st_size == 0 || (read(fd, magic, 8) == 8 && !memcmp(magic, "SNDREC", 6)));
    if (fd >= 0)
        close(fd);
    if (!ours)
        complain("%s exists and is no recording; name another file", path);
    return ours ? 0 : -EEXIST;
}

static int record_words(struct arguments *a, int argc, char **argv)
{
    int first = parse_arguments(a, argc, argv);
    if (a->help)
        return print_help(record_help, false);
    if (a->wrong)
        return EXIT_SONDE_FAILED;
    char **command = argv + first + 1;
    if (first + 1 < argc && !strcmp(*command, "--"))
        command++;
    if (first + 1 >= argc || !*command) {
        complain("which file and which command? As in: sonde record stream.sonde nginx -g 'daemon off;'");
        return EXIT_SONDE_FAILED;
    }
    if (**command == '-' && command == argv + first + 1) {
        complain("%s: options stand before the file: sonde record %s ... %s CMD", *command, *command, argv[first]);
        return EXIT_SONDE_FAILED;
    }
    if (refuse_file(argv[first]))
        return EXIT_SONDE_FAILED;
    if (!a->settings.store)
        a->settings.store = strdup("none");
    if (!a->settings.quiet)
        complain("%s will hold raw traffic, secrets included; keep it to yourself (mode 0600)", argv[first]);
    return run_with(a, command, argv[first]);
}

int record_main(int argc, char **argv)
{
    struct arguments a = {.exec = false};
    return end_with(&a, record_words(&a, argc, argv));
}
