/*
 * elsewhere.h - the /dev/shm of containers: processes that mounted another one make their arenas there.
 *
 * In:      /proc                               Out: watch.c
 * Context: C
 * Failure: what we may not look into (another user's without privilege) is not looked into.
 */
#ifndef SONDE_ELSEWHERE_H
#define SONDE_ELSEWHERE_H

#include <stdint.h>

struct elsewhere {
    int folder;       /* O_PATH; closed after the call */
    const char *name; /* tells it apart from others, in messages too: "/dev/shm(0:52)" */
    uint32_t uid;     /* of a process in there, as we count users */
};

/* Calls `each` for every such folder and user in it. */
void elsewhere_each(void (*each)(void *to, const struct elsewhere *), void *to);

#endif
