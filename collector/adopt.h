/*
 * adopt.h - arenas that processes made for themselves because the run's belongs to another user:
 * <directory>/sonde.<token>.<uid>.<pid>.
 *
 * In:      a directory that everybody may write to        Out: watch.c (mapped views)
 * Owns:    which names were looked at.
 * Context: C
 * Failure: a file that is not what it should be is left alone. One that shrinks while it is mapped
 *          (a file cannot be sealed) would be SIGBUS: the pages become empty ones instead, and
 *          adopt_is_broken says so.
 */
#ifndef SONDE_ADOPT_H
#define SONDE_ADOPT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "wire/arena.h"

struct adopted {
    struct arena_view view;
    char path[160]; /* of a folder elsewhere: for messages, and to know it again */
    uint8_t name_at;  /* where in path the file's name in its folder begins */
    int folder;       /* O_PATH, held to remove the file when nobody is left by whom to reach it */
    uint32_t uid;
    pid_t pid; /* who made it */
    uint64_t device, inode;
};

struct adopt_from {
    int folder;       /* O_PATH or open */
    const char *path; /* what it is called */
    const char *token;
    uint32_t uid; /* owner that counts as the named one too: users of a namespace are others to us; UINT32_MAX none */
};

/*
 * Maps the next arena of this run that `known` does not know (by path) yet. 1: *out is it; 0: no
 * more; -EACCES: there is one that we may not open (out->path says which; told once per path by the
 * caller). -EAGAIN: one is being made.
 */
int adopt_next(const struct adopt_from *, bool (*known)(void *to, const char *path), void *to,
               struct adopted *out);
void adopt_release(struct adopted *, bool remove);

/* Installs the SIGBUS handler. Context I. */
void adopt_guard(void);
bool adopt_is_broken(const struct adopted *);

#endif
