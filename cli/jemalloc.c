/*
 * jemalloc.c - jemalloc's own heap profile: is it built in, how it is asked for, what came of it.
 *
 * In:      run.c, supervise.c, check.c           Out: the environment of CMD
 * Context: I
 * The profile is jemalloc's work alone: it samples and writes PREFIX.PID.N.f.heap when a process ends by exit. Asked
 * for by MALLOC_CONF, it reaches every process of CMD whose malloc is jemalloc, also programs that are linked with it.
 */
#include "cli/jemalloc.h"

#include <errno.h>
#include <glob.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cli/cli.h"

/* What `true` says on stderr with jemalloc as its malloc and profiles asked for: only complaints. */
static ssize_t hear(char *said, size_t room)
{
    int ends[2];
    ssize_t n, used = 0;
    if (pipe(ends))
        return -1;
    pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], STDERR_FILENO);
        close(ends[0]);
        close(ends[1]);
        setenv("LD_PRELOAD", JEMALLOC_LIBRARY, 1);
        setenv("MALLOC_CONF", "prof:true,prof_active:false", 1);
        unsetenv("LD_LIBRARY_PATH");
        execl("/bin/true", "true", (char *)NULL);
        _exit(127);
    }
    close(ends[1]);
    while (child > 0 && (n = read(ends[0], said + used, room - 1 - (size_t)used)) > 0)
        used += n;
    close(ends[0]);
    said[used] = 0;
    int status = 0;
    if (child < 0 || waitpid(child, &status, 0) != child || !WIFEXITED(status) || WEXITSTATUS(status))
        return -1;
    return used;
}

enum jemalloc jemalloc_look(void)
{
    char said[2048];
    if (hear(said, sizeof said) < 0 || strstr(said, "cannot be preloaded"))
        return JEMALLOC_MISSING;
    return strstr(said, "Invalid conf") ? JEMALLOC_PLAIN : JEMALLOC_PROFILES;
}

char *jemalloc_prefix(const char *wanted)
{
    char here[PATH_MAX], *prefix = NULL;
    const char *name = wanted && *wanted ? wanted : "sonde-heap";
    if (*name == '/')
        return strdup(name);
    if (!getcwd(here, sizeof here) || asprintf(&prefix, "%s/%s", here, name) < 0)
        return NULL;
    return prefix;
}

static time_t asked; /* older files of this name are another run's */

int jemalloc_refuse(const char *prefix)
{
    char folder[PATH_MAX];
    asked = time(NULL);
    snprintf(folder, sizeof folder, "%s", prefix);
    char *slash = strrchr(folder, '/');
    if (slash)
        *slash = 0;
    if (strpbrk(prefix, ",:") || strlen(prefix) > PATH_MAX - 64) {
        complain("--heap-profile: %s: jemalloc cannot express a comma or colon in a path; name another", prefix);
        return -EINVAL;
    }
    if (access(*folder ? folder : "/", W_OK)) {
        complain("--heap-profile: %s: %s", *folder ? folder : "/", strerror(errno));
        return -EACCES;
    }
    return 0;
}

/* Later words of MALLOC_CONF win, so CMD's own come first. */
void jemalloc_environment(const struct settings *s)
{
    char conf[PATH_MAX + 1024];
    const char *own = getenv("MALLOC_CONF");
    int steps = 0;
    for (uint64_t bytes = s->options.sample_bytes; bytes > 1; bytes >>= 1)
        steps++;
    snprintf(conf, sizeof conf, "%s%sprof:true,prof_final:true,lg_prof_sample:%d,prof_prefix:%s", own ? own : "",
             own && *own ? "," : "", steps, s->heap_profile);
    setenv("MALLOC_CONF", conf, 1);
}

void jemalloc_tell(const struct settings *s)
{
    char pattern[PATH_MAX + 16];
    glob_t found = {.gl_pathc = 0};
    const char *newest = NULL;
    int files = 0;
    snprintf(pattern, sizeof pattern, "%s.*.f.heap", s->heap_profile);
    int rc = glob(pattern, GLOB_NOSORT, NULL, &found);
    for (size_t i = 0; rc == 0 && i < found.gl_pathc; i++) {
        struct stat st;
        if (stat(found.gl_pathv[i], &st) == 0 && st.st_mtime >= asked) {
            newest = found.gl_pathv[i];
            files++;
        }
    }
    if (files)
        complain("jemalloc's heap profiles: %d file%s, as %s (jeprof --text PROGRAM FILE)", files, files == 1 ? "" : "s", newest);
    else
        complain("jemalloc wrote no heap profile: the program does not use jemalloc (--allocator jemalloc), its jemalloc "
                 "was built without profiles, or no process ended by exit");
    globfree(&found);
}
