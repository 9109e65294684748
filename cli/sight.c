/*
 * sight.c - what of a command the recorder will see, told from its file before it runs.
 *
 * A preloaded library is taken by dynamically linked programs of glibc that are not privileged. Go programs take it
 * too, but make their system calls themselves.
 */
#include "cli/cli.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

/* exec's search: the first executable file; a file that may not be executed is remembered. */
static enum sight search_path(const char *command, char *path, size_t room)
{
    struct stat st;
    enum sight worst = SIGHT_NOT_FOUND;
    const char *dirs = getenv("PATH");
    if (strchr(command, '/')) {
        snprintf(path, room, "%s", command);
        if (stat(path, &st))
            return SIGHT_NOT_FOUND;
        return S_ISREG(st.st_mode) && !access(path, X_OK) ? SIGHT_FULL : SIGHT_NOT_EXECUTABLE;
    }
    for (const char *at = dirs ? dirs : "/bin:/usr/bin"; *command; at += strcspn(at, ":") + 1) {
        int len = (int)strcspn(at, ":");
        snprintf(path, room, "%.*s%s%s", len, at, len ? "/" : "./", command);
        if (!stat(path, &st) && S_ISREG(st.st_mode)) {
            if (!access(path, X_OK))
                return SIGHT_FULL;
            worst = SIGHT_NOT_EXECUTABLE;
        }
        if (!at[len])
            break;
    }
    return worst;
}

static bool privileged(const char *path, const struct stat *st)
{
    char caps[64];
    return ((st->st_mode & S_ISUID) && st->st_uid != geteuid()) ||
           ((st->st_mode & S_ISGID) && (st->st_mode & S_IXGRP) && st->st_gid != getegid()) ||
           (geteuid() != 0 && getxattr(path, "security.capability", caps, sizeof caps) > 0);
}

static bool holds(const uint8_t *file, size_t size, const char *word)
{
    return memmem(file, size, word, strlen(word)) != NULL;
}

/* The loader's path that the program names, or NULL. */
static const char *loader_of(const uint8_t *file, size_t size, const Elf64_Ehdr *h)
{
    for (unsigned i = 0; i < h->e_phnum; i++) {
        Elf64_Phdr p;
        if (h->e_phoff > size || h->e_phoff + (i + 1) * sizeof p > size)
            break;
        memcpy(&p, file + h->e_phoff + i * sizeof p, sizeof p);
        if (p.p_type == PT_INTERP && p.p_offset < size && p.p_filesz && p.p_filesz <= size - p.p_offset &&
            !file[p.p_offset + p.p_filesz - 1])
            return (const char *)file + p.p_offset;
    }
    return NULL;
}

/* A sanitizer's library among those that the program names: it wants to be first, and ends a program where it is not. */
static bool sanitized(const uint8_t *file, size_t size)
{
    static const char *const names[] = {"libasan.so.", "libtsan.so.", "liblsan.so.", "libhwasan.so.", "libclang_rt.asan"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char entry[32] = "";
        size_t n = strlen(names[i]);
        memcpy(entry + 1, names[i], n); /* a whole word of the string table begins after a zero */
        if (memmem(file, size, entry, n + 1))
            return true;
    }
    return false;
}

static enum sight look_at_elf(const uint8_t *file, size_t size, char *reason, size_t room)
{
    Elf64_Ehdr h;
    if (size >= sizeof h)
        memcpy(&h, file, sizeof h);
    if (size < sizeof h || h.e_ident[EI_CLASS] != ELFCLASS64 || h.e_machine != EM_X86_64) {
        snprintf(reason, room, "it is not a 64-bit x86 program, as this recorder is");
        return SIGHT_NONE;
    }
    const char *loader = loader_of(file, size, &h);
    bool go = holds(file, size, "\xff Go buildinf:");
    if (!loader) {
        snprintf(reason, room, "it is statically linked%s, and LD_PRELOAD reaches dynamically linked programs only",
                 go ? " (a Go program)" : "");
        return SIGHT_NONE;
    }
    if (!strstr(loader, "ld-linux")) {
        snprintf(reason, room, "it is linked with another C library (%s), not glibc", loader);
        return SIGHT_NONE;
    }
    if (sanitized(file, size)) {
        snprintf(reason, room, "it is built with a sanitizer whose library ends it when another one is preloaded; "
                               "build it without, or with clang, which links it in");
        return SIGHT_BREAKS;
    }
    if (go) {
        snprintf(reason, room, "it is a Go program: Go makes its system calls itself, so its traffic is not seen");
        return SIGHT_PART;
    }
    return SIGHT_FULL;
}

static size_t script_word(const uint8_t *file, size_t size, size_t i, char *word, size_t room)
{
    size_t n = 0;
    while (i < size && (file[i] == ' ' || file[i] == '\t'))
        i++;
    while (i < size && n + 1 < room && file[i] != ' ' && file[i] != '\t' && file[i] != '\n')
        word[n++] = (char)file[i++];
    word[n] = 0;
    return i;
}

/* The interpreter of a script into `next`; false: it is none, or names none. */
static bool script_interpreter(const uint8_t *file, size_t size, char *next, size_t room)
{
    if (file[0] != '#' || file[1] != '!')
        return false;
    size_t i = script_word(file, size, 2, next, room);
    if (!strcmp(next, "/usr/bin/env") || !strcmp(next, "/bin/env"))
        script_word(file, size, i, next, room);
    return *next != 0;
}

/* One file: what it is itself; SIGHT_FULL and a name in `next` where it is a script. */
static enum sight look_at_file(const char *name, char *next, size_t next_room, char *reason, size_t room)
{
    struct stat st;
    enum sight sight = SIGHT_FULL; /* what may be run but not read is not known to be bad */
    *next = 0;
    int fd = open(name, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return sight;
    uint8_t *file = MAP_FAILED;
    if (!fstat(fd, &st) && st.st_size >= EI_NIDENT)
        file = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    close(fd);
    if (file == MAP_FAILED)
        return sight;
    if (!memcmp(file, ELFMAG, SELFMAG) && privileged(name, &st)) {
        snprintf(reason, room,
                 "%s has privileges of its own (setuid, setgid or file capabilities), and for such programs the loader "
                 "ignores LD_PRELOAD; start sonde as the user that it becomes",
                 name);
        sight = SIGHT_NONE;
    } else if (!memcmp(file, ELFMAG, SELFMAG))
        sight = look_at_elf(file, (size_t)st.st_size, reason, room);
    else if (!script_interpreter(file, (size_t)st.st_size, next, next_room))
        *next = 0;
    munmap(file, (size_t)st.st_size);
    return sight;
}

enum sight sight_of(const char *command, char *path, size_t room, char *reason, size_t reason_room)
{
    char name[PATH_MAX], next[PATH_MAX];
    *reason = 0;
    enum sight sight = search_path(command, path, room);
    if (sight != SIGHT_FULL)
        return sight;
    snprintf(name, sizeof name, "%s", path);
    for (int depth = 0; depth < 5; depth++) {
        sight = look_at_file(name, next, sizeof next, reason, reason_room);
        if (!*next || search_path(next, name, sizeof name) != SIGHT_FULL)
            break;
    }
    return sight;
}
