/*
 * supervise.h - the process that holds the arena, keeps a collector alive and waits for CMD.
 */
#ifndef SONDE_SUPERVISE_H
#define SONDE_SUPERVISE_H

#include <stdbool.h>
#include <sys/types.h>
#include "collector/settings.h"
#include "wire/arena.h"

struct supervisor {
    const struct settings *settings;
    const char *record; /* file of `sonde record`, NULL none */
    bool exec;          /* CMD is not our child: follow it by pidfd */
    char library[4096], collector_path[4096];
    struct arena_view view;
    int arena_fd, settings_fd;
    pid_t collector, command;
    int control, summary; /* pipe ends towards the collector; -1 closed */
    char *text;           /* what the collector said so far: the summary */
    size_t text_len;
    bool command_ended, stopping;
    int exit_code, signal; /* of CMD; -1: unknown, none */
    unsigned long long cpu_ns; /* of CMD at its end, 0 unknown */
    unsigned deaths;
    unsigned long long death_ns[5]; /* of the last five collectors */
    unsigned long long restart_ns;  /* when the next one may start, 0: it runs */
};

/* Arena, settings and collector. 0, or -errno with `why` set to a line that names the remedy. */
int supervisor_start(struct supervisor *, const char **why);

/* The environment of CMD: LD_PRELOAD and SONDE_ARENA added, our secrets removed. For the child, before exec. */
void supervisor_environment(const struct supervisor *, pid_t supervisor);

/* Starts CMD as a child and waits until it and all watched processes have ended. Exit code for the shell. */
int supervisor_run(struct supervisor *, char **command);

/* Follows `command` (not our child) by pidfd until all watched processes have ended. */
int supervisor_follow(struct supervisor *, pid_t command);

/* exec's exit codes: 126 or 127, with the reason on stderr. */
int cannot_execute(const char *command, int error);

#endif
