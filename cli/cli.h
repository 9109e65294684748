/*
 * cli.h - the subcommands, and what they share.
 *
 * Each subcommand's main gets argv with its own name at argv[0] and returns the exit code. Context: I.
 */
#ifndef SONDE_CLI_H
#define SONDE_CLI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include "collector/report.h"
#include "collector/settings.h"

enum { EXIT_WRONG_USE = 2, EXIT_SONDE_FAILED = 125, EXIT_CANNOT_EXECUTE = 126, EXIT_NOT_FOUND = 127 };

int run_main(int argc, char **argv);
int record_main(int argc, char **argv);
int replay_main(int argc, char **argv);
int dump_main(int argc, char **argv);
int report_main(int argc, char **argv);
int flame_main(int argc, char **argv);
int leaks_main(int argc, char **argv);
int list_main(int argc, char **argv);
int off_main(int argc, char **argv);
int check_main(int argc, char **argv);

/* cli/report.c: how stdout wants a page */
struct report_style report_style_of_terminal(const char *store);

/* "sonde: ..." and a newline on stderr, in one write. */
void complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Tells on stderr what was wrong with the option at which getopt_long (with ":", and opterr = 0) returned `found`. */
struct option;
void wrong_option(const char *command, const struct option *options, int found, char **argv);

void print_settings(FILE *to); /* every key, what it means, its default */

/* A settings_fault_fn that complains: "sonde: WHERE: WHAT". */
void complain_fault(void *unused, const char *where, const char *what);

/* Absolute path of libsonde.so or sonde-collector: beside this program, or in ../lib/sonde of it. 0 or -ENOENT. */
int install_find(const char *name, char *path, size_t room);

/*
 * What can be seen of a command, told from its file: PATH is searched, scripts are followed to their interpreter.
 * Fills `path` with the file that would run. SIGHT_NOT_FOUND and SIGHT_NOT_EXECUTABLE are exec's own failures,
 * SIGHT_BREAKS a program that fails when anything is preloaded.
 */
enum sight { SIGHT_FULL, SIGHT_PART, SIGHT_BREAKS, SIGHT_NONE, SIGHT_NOT_FOUND, SIGHT_NOT_EXECUTABLE };
enum sight sight_of(const char *command, char *path, size_t room, char *reason, size_t reason_room);

/* The runs of this user that go on, found in /proc by their collectors. */
struct running {
    int collector, supervisor, arena;
    char store[4096];
};
/* Calls `each` for every one until it returns non-zero; returns how many there were so far. */
int running_each(int (*each)(void *to, const struct running *), void *to);

#endif
