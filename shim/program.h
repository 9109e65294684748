/*
 * program.h - which file this process runs, and by which of its names it was started.
 *
 * Debian's redis-server is a link to redis-check-rdb, python3 to python3.11, java to the one that is chosen: the file's own
 * name is not what people call the service.
 *
 * In:      lifecycle.c, once an image            Out: the process slot.
 * Context: I
 * Failure: an empty name.
 */
#ifndef SONDE_PROGRAM_H
#define SONDE_PROGRAM_H

struct program {
    char executable[256]; /* /proc/self/exe, cut */
    char name[56];        /* the link's that was executed, cut; empty: the executable's own */
};

void program_look(struct program *);

#endif
