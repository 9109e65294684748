/*
 * adopt.c - see adopt.h.
 *
 * In:      watch.c        Out: watch.c
 * Owns:    the table of guarded mappings.
 * Context: C; on_sigbus runs in the thread that touched a page which is gone, and makes two system
 * calls.
 */
#include "collector/adopt.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "wire/atomics.h"

#define GUARDED 64
#define ADOPT_MOST_BYTES (UINT64_C(256) << 20)

static struct guarded {
    char *from;
    uint64_t bytes;
    bool broken;
} guarded[GUARDED];

static sigjmp_buf escape; /* while `taking`: a mapping whose place is not known yet */
static volatile sig_atomic_t taking;

static void on_sigbus(int number, siginfo_t *info, void *context)
{
    (void)context;
    char *at = info->si_addr;
    for (int i = 0; i < GUARDED; i++) {
        struct guarded *g = &guarded[i];
        if (!g->from || at < g->from || at >= g->from + g->bytes)
            continue;
        g->broken = true;
        if (mmap(g->from, g->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
                 -1, 0) == g->from)
            return;
    }
    if (taking) {
        taking = 0;
        siglongjmp(escape, 1);
    }
    signal(number, SIG_DFL); /* not ours: it happens again, and ends us */
}

void adopt_guard(void)
{
    struct sigaction a = {.sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO};
    sigemptyset(&a.sa_mask);
    sigaction(SIGBUS, &a, NULL);
}

static bool guard(const struct arena_view *v)
{
    for (int i = 0; i < GUARDED; i++)
        if (!guarded[i].from) {
            guarded[i] = (struct guarded){.bytes = v->bytes};
            compiler_barrier();
            guarded[i].from = (char *)v->arena;
            return true;
        }
    return false;
}

bool adopt_is_broken(const struct adopted *a)
{
    for (int i = 0; i < GUARDED; i++)
        if (guarded[i].from == (char *)a->view.arena)
            return *(volatile bool *)&guarded[i].broken;
    return false;
}

void adopt_release(struct adopted *a, bool remove)
{
    for (int i = 0; i < GUARDED; i++)
        if (guarded[i].from == (char *)a->view.arena)
            guarded[i].from = NULL;
    arena_detach(&a->view);
    if (remove)
        unlinkat(a->folder, a->path + a->name_at, 0);
    if (a->folder >= 0)
        close(a->folder);
}

/* "sonde.<token>.<uid>.<pid>" */
static bool is_named(const char *name, const char *token, uint32_t *uid, pid_t *pid)
{
    size_t n = strlen(token);
    if (!n || strncmp(name, "sonde.", 6) != 0 || strncmp(name + 6, token, n) != 0 || name[6 + n] != '.')
        return false;
    int end = 0;
    return sscanf(name + 7 + n, "%u.%d%n", uid, pid, &end) == 2 && !name[7 + n + (size_t)end];
}

static bool is_sound(int fd, struct adopted *a, uint32_t uid)
{
    struct stat s;
    if (fstat(fd, &s))
        return false;
    a->device = s.st_dev;
    a->inode = s.st_ino;
    return S_ISREG(s.st_mode) && (s.st_uid == a->uid || s.st_uid == uid) && !(s.st_mode & 077) &&
           s.st_nlink == 1 && s.st_size >= 0 && (uint64_t)s.st_size <= ADOPT_MOST_BYTES;
}

static bool is_young(int fd)
{
    struct stat s;
    struct timespec now;
    return !fstat(fd, &s) && !clock_gettime(CLOCK_REALTIME, &now) &&
           now.tv_sec - s.st_ctim.tv_sec < 3;
}

static int map_and_check(int fd, struct adopted *a, const char *token)
{
    if (sigsetjmp(escape, 1))
        return -EIO; /* it shrank under our hands */
    taking = 1;
    int rc = arena_open(fd, &a->view);
    if (!rc &&
        (strncmp(a->view.arena->token, token, sizeof a->view.arena->token) != 0 || !guard(&a->view))) {
        arena_detach(&a->view);
        rc = -ENOENT;
    }
    taking = 0;
    return rc;
}

/* 1, 0 (leave it alone), -EACCES, -EAGAIN. */
static int take(const struct adopt_from *from, struct adopted *a)
{
    int fd = openat(from->folder, a->path + a->name_at, O_RDWR | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return errno == EACCES || errno == EPERM ? -EACCES : 0;
    int rc = 0;
    if (is_sound(fd, a, from->uid)) {
        rc = map_and_check(fd, a, from->token);
        rc = !rc ? 1 : rc == -EINVAL && is_young(fd) ? -EAGAIN : 0;
    }
    close(fd);
    if (rc == 1)
        a->folder = openat(from->folder, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    return rc;
}

int adopt_next(const struct adopt_from *from, bool (*known)(void *to, const char *path), void *to,
               struct adopted *out)
{
    int fd = openat(from->folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    bool again = false;
    int rc = 0;
    if (!d) {
        if (fd >= 0)
            close(fd);
        return 0;
    }
    for (struct dirent *e; rc == 0 && (e = readdir(d));) {
        memset(out, 0, sizeof *out);
        out->folder = -1;
        if (!is_named(e->d_name, from->token, &out->uid, &out->pid))
            continue;
        int n = snprintf(out->path, sizeof out->path, "%s/%s", from->path, e->d_name);
        if (n < 0 || (size_t)n >= sizeof out->path || known(to, out->path))
            continue;
        out->name_at = (uint8_t)(strlen(from->path) + 1);
        rc = take(from, out);
        if (rc == -EAGAIN) {
            again = true;
            rc = 0;
        }
    }
    closedir(d);
    return rc ? rc : again ? -EAGAIN : 0;
}
