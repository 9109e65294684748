/*
 * settings.h - everything that a run was told: options, command, service name, store, outputs, terminal.
 *
 * In:      cli (arguments, configuration files); the collector reads what `sonde run` wrote for it (JSON on a descriptor).
 * Context: I
 *
 * Configuration file (JSON): every key of wire/options.h, nested by its dots or flat
 * ({"sampling": {"spans_per_second": 5}} or {"sampling.spans_per_second": 5}), and "name", "store", "quiet", "strict",
 * "allocator", "heap_profile", "output": [{"url", "ca_file", "api_key_file", "user", "password_file", "namespace"}] or one such object.
 */
#ifndef SONDE_SETTINGS_H
#define SONDE_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>
#include "wire/options.h"

#define OUTPUTS_MAX 8

struct output { /* strings owned by the settings; NULL unset */
    char *url; /* scheme://host:port[,scheme://host:port...]: several hosts of one cluster */
    char *ca_file;
    char *api_key_file, *user, *password_file; /* besides SONDE_API_KEY, SONDE_USER, SONDE_PASSWORD */
    char *namespace;                           /* of the data streams; NULL: "default" */
};

struct settings {
    struct options options;
    char **command; /* NULL-terminated; NULL none */
    char *service;  /* --name, NULL: the command's basename */
    char *store;    /* path; "none": keep nothing */
    struct output output[OUTPUTS_MAX];
    int outputs;
    bool quiet, strict;
    char *allocator; /* NULL, "jemalloc" */
    char *heap_profile; /* where jemalloc writes its own, NULL: it does not */
    int columns;     /* of the terminal, 80 if none */
    bool colour, utf8;
    char *token;     /* of the run, hex */
    bool replay; /* of a recording: the processes are not here any more; never in JSON */
};

void settings_init(struct settings *);
void settings_fini(struct settings *);

/* Reports one fault: where (file:line or the option), what, remedy. */
typedef void (*settings_fault_fn)(void *to, const char *where, const char *what);

/* Reads a configuration file. Number of faults, or -errno when it cannot be read (also reported). */
int settings_read(struct settings *, const char *path, settings_fault_fn, void *to);
/* As above from memory; `name` stands for the file in messages. */
int settings_parse(struct settings *, const char *text, size_t len, const char *name, settings_fault_fn, void *to);
/* Which of the words was meant: the one that begins so, or the nearest; NULL: none is near. */
const char *settings_nearest(const char *const *words, const char *word);
/* key=value as --set takes it: 0, or 1 with the fault reported. */
int settings_set(struct settings *, const char *assignment, settings_fault_fn, void *to);
/* Adds an output after checking its URL (scheme, no user or password in it). 0 or 1 with the fault reported. */
int settings_output(struct settings *, const char *url, settings_fault_fn, void *to);
/* All of it as JSON, for the collector and for the store's run row (secrets are never in it: only names of files). */
char *settings_json(const struct settings *);

#endif
