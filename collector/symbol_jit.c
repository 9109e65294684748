/*
 * symbol_jit.c - names of made code: /tmp/perf-PID.map as Node (--perf-basic-prof), Java agents and others write it; and
 * what file a running process has mapped at an address.
 *
 * Context: sink thread
 * Failure: no such file, another one's line shapes: no name.
 */
#include <ctype.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "collector/symbol.h"

#define MAP_MOST (64u << 20)    /* bytes looked at of one map */
#define SECOND_MOST (32u << 20) /* of all in a second: a burst of new stacks must not hold the store up */

static uint64_t looked; /* sink thread only */

/* A plain file of anybody's folder: a pipe there must not make us wait, a link not lead us elsewhere. */
static FILE *open_map(const char *path)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return NULL;
    FILE *f = fstat(fd, &st) == 0 && S_ISREG(st.st_mode) ? fdopen(fd, "r") : NULL;
    if (!f)
        close(fd);
    return f;
}

/* "START SIZE name", hex; code moves: the last line that has the address is the true one. */
static bool look_in(FILE *f, uint64_t address, char *name, size_t room)
{
    char *line = NULL;
    size_t size = 0, seen = 0;
    ssize_t n;
    bool found = false;
    while (seen < MAP_MOST && (n = getline(&line, &size, f)) > 0) {
        char *end;
        seen += (size_t)n;
        looked += (size_t)n;
        uint64_t start = strtoull(line, &end, 16);
        uint64_t bytes = *end == ' ' ? strtoull(end + 1, &end, 16) : 0;
        if (*end != ' ' || address - start >= bytes)
            continue;
        snprintf(name, room, "%.*s", (int)strcspn(end + 1, "\n"), end + 1);
        found = name[0] != 0;
    }
    free(line);
    return found;
}

void symbol_jit_rest(void)
{
    looked = 0;
}

bool symbol_jit_find(int32_t pid, bool live, uint64_t address, struct frame_text *t)
{
    char path[64], name[SYMBOL_TEXT - 16];
    bool found = false;
    for (int i = 0; i < 1 + live && !found && pid > 0 && looked < SECOND_MOST; i++) {
        if (i)
            snprintf(path, sizeof path, "/proc/%d/root/tmp/perf-%d.map", pid, pid);
        else
            snprintf(path, sizeof path, "/tmp/perf-%d.map", pid);
        FILE *f = open_map(path);
        if (!f)
            continue;
        found = look_in(f, address - 1, name, sizeof name);
        fclose(f);
    }
    if (!found)
        return false;
    frame_add(t, "[jit] ", 6);
    frame_add(t, name, strlen(name));
    return true;
}

bool symbol_mapped_file(int32_t pid, uint64_t address, char *path, size_t room, uint64_t *offset)
{
    char name[64], *line = NULL;
    size_t size = 0;
    bool found = false;
    snprintf(name, sizeof name, "/proc/%d/maps", pid);
    FILE *f = pid > 0 ? fopen(name, "re") : NULL;
    while (f && !found && getline(&line, &size, f) > 0) {
        uint64_t start, end, from;
        int at = 0;
        if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %*s %" SCNx64 " %*s %*s %n", &start, &end, &from, &at) < 3 ||
            address < start || address >= end)
            continue;
        if (!at || line[at] != '/')
            break;
        snprintf(path, room, "%.*s", (int)strcspn(line + at, "\n"), line + at);
        *offset = address - start + from;
        found = true;
    }
    free(line);
    if (f)
        fclose(f);
    return found;
}
