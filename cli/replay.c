/*
 * replay.c - `sonde replay` and `sonde dump`: what was recorded, through the collector or as text.
 */
#include "cli/cli.h"
#include "collector/dump.h"
#include "collector/sink/store.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static int replay_help(FILE *to, int code)
{
    fprintf(to, "usage: sonde replay [OPTIONS] FILE\n\n"
                "Runs the collector over a stream that `sonde record` kept: the same report as\n"
                "the live run over the same events. The summary goes to stdout.\n\n"
                "  -o STORE         where results are kept (default ./sonde.db; none: nowhere)\n"
                "  --to URL         also ship there, as sonde run does\n"
                "  --config FILE    settings as JSON\n"
                "  --set KEY=VALUE  one setting; sonde check --help lists them\n"
                "  --name SERVICE   name of the service\n"
                "  --quiet          no summary\n"
                "  --help           this text\n");
    return code;
}

static bool parse_replay(struct settings *s, int argc, char **argv, int *code)
{
    static const struct option options[] = {{"to", 1, 0, 't'},    {"config", 1, 0, 'c'}, {"set", 1, 0, 's'},
                                            {"quiet", 0, 0, 'q'}, {"name", 1, 0, 'n'},   {"help", 0, 0, 'h'},
                                            {0, 0, 0, 0}};
    int faults = 0;
    for (int pass = 0; pass < 2; pass++) {
        optind = 0;
        opterr = 0;
        for (int c; (c = getopt_long(argc, argv, ":o:h", options, NULL)) != -1;) {
            if (c == 'c' && !pass)
                faults += settings_read(s, optarg, complain_fault, NULL) != 0;
            if (!pass || c == 'c')
                continue;
            if (c == 'h') {
                *code = replay_help(stdout, 0);
                return false;
            }
            if (c == 't')
                faults += settings_output(s, optarg, complain_fault, NULL);
            else if (c == 's')
                faults += settings_set(s, optarg, complain_fault, NULL);
            else if (c == 'q')
                s->quiet = true;
            else if (c == 'n' || c == 'o') {
                char **field = c == 'n' ? &s->service : &s->store;
                free(*field);
                *field = strdup(optarg);
            } else {
                wrong_option("replay", options, c, argv);
                faults++;
            }
        }
    }
    *code = faults ? EXIT_WRONG_USE : 0;
    return !faults;
}

static int write_settings(const struct settings *s)
{
    char *text = settings_json(s);
    int fd = memfd_create("sonde-settings", 0);
    ssize_t n = fd < 0 || !text ? -1 : write(fd, text, strlen(text));
    free(text);
    if (n <= 0 || lseek(fd, 0, SEEK_SET))
        return -1;
    return fd;
}

static int replay_words(struct settings *s, int argc, char **argv)
{
    char collector[4096], store[4096], message[1024], number[16];
    int code, status;
    if (!parse_replay(s, argc, argv, &code))
        return code;
    if (argc - optind != 1) {
        fprintf(stderr, "sonde replay: %s (see sonde replay --help)\n", optind < argc ? "one recording at a time" : "which recording?");
        return EXIT_WRONG_USE;
    }
    const char *file = argv[optind];
    if (access(file, R_OK)) {
        complain("%s: %s", file, strerror(errno));
        return 1;
    }
    if (install_find("sonde-collector", collector, sizeof collector)) {
        complain("sonde-collector is not beside `sonde` nor in ../lib/sonde; build or install again");
        return 1;
    }
    int rc = store_choose_path(s->store, store, sizeof store, message, sizeof message);
    if (rc)
        complain("%s", message);
    if (rc < 0)
        return rc == -EEXIST ? EXIT_WRONG_USE : 1;
    free(s->store);
    s->store = strdup(store);
    int fd = write_settings(s);
    pid_t child = fd < 0 ? -1 : fork();
    if (!child) {
        snprintf(number, sizeof number, "%d", fd);
        execl(collector, collector, "--replay", file, "--store", store, "--settings", number, NULL);
        _exit(127);
    }
    if (child < 0 || waitpid(child, &status, 0) != child) {
        complain("the collector cannot be started: %s", strerror(errno));
        return 1;
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

int replay_main(int argc, char **argv)
{
    struct settings s;
    settings_init(&s);
    int code = replay_words(&s, argc, argv);
    settings_fini(&s);
    return code;
}

int dump_main(int argc, char **argv)
{
    static const struct option options[] = {{"help", 0, 0, 'h'}, {0, 0, 0, 0}};
    opterr = 0;
    int c = getopt_long(argc, argv, ":h", options, NULL);
    if (c == 'h') {
        printf("usage: sonde dump FILE\n\nPrints the events of a recorded stream, one line each (docs/events.md).\n");
        return 0;
    }
    if (c != -1)
        wrong_option("dump", options, c, argv);
    else if (argc - optind != 1)
        fprintf(stderr, "sonde dump: %s (see sonde dump --help)\n", optind < argc ? "one recording at a time" : "which recording?");
    else
        return dump_file(argv[optind], stdout);
    return EXIT_WRONG_USE;
}
