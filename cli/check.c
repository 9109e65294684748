/*
 * check.c - `sonde check`: is the configuration right, does the output take documents, what can be seen of CMD.
 */
#include "cli/cli.h"
#include "cli/jemalloc.h"
#include "collector/sink/elasticsearch.h"
#include "wire/arena.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static int check_help(void)
{
    printf("usage: sonde check [OPTIONS] [CMD]\n\n"
           "Tells whether the configuration is right (each fault with file, line and key),\n"
           "whether the output answers and takes documents, whether shared memory is to be\n"
           "had, and what of CMD can be seen. Exit code 1 when something is wrong.\n\n"
           "  --config FILE    settings as JSON\n"
           "  --output URL     as --to of sonde run\n"
           "  --set KEY=VALUE  one setting\n"
           "  --help           this text\n\n"
           "Settings and their defaults:\n");
    print_settings(stdout);
    return 0;
}

static void print_fault(void *faults, const char *where, const char *what)
{
    ++*(int *)faults;
    printf("fault     %s: %s\n", strcmp(where, "--to") ? where : "--output", what);
}

static int check_memory(const struct settings *s)
{
    uint64_t bytes = s->options.arena_bytes ? s->options.arena_bytes : ARENA_DEFAULT_BYTES;
    struct arena_view view;
    struct rlimit locked;
    int fd = arena_create(bytes, "check", &view);
    if (fd < 0) {
        printf("fault     shared memory: %" PRIu64 " MiB cannot be had: %s; set arena.bytes lower\n", bytes >> 20,
               strerror(-fd));
        return 1;
    }
    printf("ok        shared memory: %" PRIu64 " MiB\n", bytes >> 20);
    if (!getrlimit(RLIMIT_MEMLOCK, &locked) && locked.rlim_cur < bytes && geteuid())
        printf("note      a server that calls mlockall needs RLIMIT_MEMLOCK above arena.bytes; it is %" PRIu64 " KiB\n",
               (uint64_t)locked.rlim_cur >> 10);
    arena_detach(&view);
    close(fd);
    return 0;
}

static int check_command(const char *command)
{
    char path[4096], reason[512];
    enum sight sight = sight_of(command, path, sizeof path, reason, sizeof reason);
    switch (sight) {
    case SIGHT_FULL:
        printf("ok        %s: %s takes the recorder: traffic, time and memory are seen\n", command, path);
        return 0;
    case SIGHT_PART:
        printf("partly    %s: %s\n", command, reason);
        return 1;
    case SIGHT_BREAKS:
    case SIGHT_NONE:
        printf("fault     %s: nothing can be seen: %s\n", command, reason);
        return 1;
    case SIGHT_NOT_FOUND:
        printf("fault     %s: not found\n", command);
        return 1;
    default:
        printf("fault     %s: %s may not be executed\n", command, path);
        return 1;
    }
}

static int check_install(void)
{
    char path[4096];
    static const char *const parts[] = {"libsonde.so", "sonde-collector"};
    int faults = 0;
    for (int i = 0; i < 2; i++)
        if (install_find(parts[i], path, sizeof path)) {
            printf("fault     %s is not beside `sonde` nor in ../lib/sonde; build or install again\n", parts[i]);
            faults++;
        } else
            printf("ok        %s\n", path);
    return faults;
}

/* Only a fault where it is wanted: most runs do without. */
static int check_jemalloc(const struct settings *s)
{
    enum jemalloc has = jemalloc_look();
    bool wanted = s->allocator || s->heap_profile;
    if (has == JEMALLOC_MISSING)
        printf("%-10s" JEMALLOC_LIBRARY " is not there, for --allocator jemalloc (apt install libjemalloc2)\n", wanted ? "fault" : "note");
    else if (has == JEMALLOC_PLAIN)
        printf("%-10s" JEMALLOC_LIBRARY " for --allocator jemalloc; it was built without heap profiles (--heap-profile)\n",
               s->heap_profile ? "fault" : "ok");
    else
        printf("%-10s" JEMALLOC_LIBRARY " for --allocator jemalloc, with heap profiles (--heap-profile)\n", "ok");
    return (has == JEMALLOC_MISSING && wanted) || (has == JEMALLOC_PLAIN && s->heap_profile);
}

/* What a run with these settings measures, besides traffic and time. */
static void check_measured(const struct options *o)
{
    const struct {
        const char *name;
        bool on;
    } parts[] = {{"heap", o->heap},
                 {"stacks of allocations", o->heap && o->stacks},
                 {"CPU", o->cpu},
                 {"waits", o->waits},
                 {"stacks of waits for locks", o->waits && o->stacks},
                 {"bytes of connections", o->capture}};
    for (int on = 1; on >= 0; on--) {
        int told = 0;
        for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
            if (parts[i].on == on)
                printf("%s%s", told++ ? ", " : on ? "ok        measured: " : "note      switched off: ", parts[i].name);
        if (told)
            putchar('\n');
    }
}

int check_main(int argc, char **argv)
{
    static const struct option options[] = {
        {"config", 1, 0, 'c'}, {"output", 1, 0, 'o'}, {"set", 1, 0, 's'}, {"help", 0, 0, 'h'}, {0, 0, 0, 0}};
    struct settings s;
    int faults = 0;
    settings_init(&s);
    opterr = 0;
    for (int c; (c = getopt_long(argc, argv, "+:h", options, NULL)) != -1;) {
        if (c == 'c') {
            if (!settings_read(&s, optarg, print_fault, &faults))
                printf("ok        %s\n", optarg);
        } else if (c == 'o')
            settings_output(&s, optarg, print_fault, &faults);
        else if (c == 's')
            settings_set(&s, optarg, print_fault, &faults);
        else if (c == 'h')
            return check_help();
        else {
            wrong_option("check", options, c, argv);
            return EXIT_WRONG_USE;
        }
    }
    check_measured(&s.options);
    faults += check_install();
    faults += check_memory(&s);
    faults += check_jemalloc(&s);
    for (int i = 0; i < s.outputs; i++)
        faults += elasticsearch_check(&s, &s.output[i], stdout);
    if (optind < argc)
        faults += check_command(argv[optind]);
    printf(faults ? "%d fault%s\n" : "all is well\n", faults, faults == 1 ? "" : "s");
    settings_fini(&s);
    return faults ? 1 : 0;
}
