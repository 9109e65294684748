/*
 * main.c - `sonde`: which subcommand.
 */
#include "cli/cli.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct subcommand {
    const char *name;
    int (*main)(int argc, char **argv);
    const char *what;
};

static const struct subcommand subcommands[] = {
    {"run", run_main, "run a command and tell what its requests cost"},
    {"report", report_main, "show the summary of a store again, also while the run goes on"},
    {"flame", flame_main, "where in the code requests allocate, keep and wait, as a flame graph"},
    {"leaks", leaks_main, "places whose memory grows with the requests"},
    {"list", list_main, "list the runs that go on"},
    {"off", off_main, "stop recording in running servers; they run on"},
    {"record", record_main, "run a command and keep its raw event stream in a file"},
    {"replay", replay_main, "run the collector over a recorded stream"},
    {"dump", dump_main, "print a recorded stream as text"},
    {"check", check_main, "is the configuration right, does the output answer, what can be seen"},
};

void complain(const char *format, ...)
{
    char line[1024] = "sonde: ";
    va_list ap;
    va_start(ap, format);
    int n = vsnprintf(line + 7, sizeof line - 8, format, ap);
    va_end(ap);
    size_t len = 7 + (n < 0 ? 0 : (size_t)n < sizeof line - 8 ? (size_t)n : sizeof line - 9);
    line[len++] = '\n';
    if (write(STDERR_FILENO, line, len) < 0)
        return; /* nobody to tell */
}

void complain_fault(void *unused, const char *where, const char *what)
{
    (void)unused;
    complain("%s: %s", where, what);
}

static void usage(FILE *to)
{
    fprintf(to, "sonde - what every request costs, inside a server that nobody recompiled\n\n"
                "usage: sonde COMMAND [OPTIONS]\n\n");
    for (size_t i = 0; i < sizeof subcommands / sizeof *subcommands; i++)
        fprintf(to, "  %-8s %s\n", subcommands[i].name, subcommands[i].what);
    fprintf(to, "\n`sonde COMMAND --help` tells more. Start with:\n\n"
                "  sonde run -- nginx -g 'daemon off;'\n");
}

static int no_such_command(const char *word)
{
    enum { COUNT = sizeof subcommands / sizeof *subcommands };
    const char *names[COUNT + 1] = {NULL};
    for (size_t i = 0; i < COUNT; i++)
        names[i] = subcommands[i].name;
    const char *near = settings_nearest(names, word);
    if (near)
        complain("there is no command \"%s\"; did you mean \"sonde %s\"? (sonde --help lists them)", word, near);
    else
        complain("there is no command \"%s\"; sonde --help lists them (to watch a program: sonde run -- %s ...)", word, word);
    return EXIT_WRONG_USE;
}

int main(int argc, char **argv)
{
    static char help[] = "--help";
    if (argc < 2) {
        usage(stderr);
        return EXIT_WRONG_USE;
    }
    if (!strcmp(argv[1], "--version") || !strcmp(argv[1], "-V")) {
        printf("sonde %s (%s)\n", SONDE_VERSION, SONDE_COMMIT);
        return 0;
    }
    if (!strcmp(argv[1], "help") && argc > 2) {
        argv[1] = argv[2]; /* sonde help run: sonde run --help */
        argv[2] = help;
        argc = 3;
        argv[argc] = NULL;
    }
    if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help")) {
        usage(stdout);
        return 0;
    }
    for (size_t i = 0; i < sizeof subcommands / sizeof *subcommands; i++)
        if (!strcmp(argv[1], subcommands[i].name))
            return subcommands[i].main(argc - 1, argv + 1);
    return no_such_command(argv[1]);
}
