/*
 * live_process_exec.c - every exec function hands over its arguments and its environment unchanged.
 *
 * Each child becomes this program again, which prints what it was given. One of them cleans its
 * environment.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef AT_EMPTY_PATH
#define AT_EMPTY_PATH 0x1000
#endif

#define WORDS "2", "3", "4", "5", "6", "7", "8", "9", "10", "11"

extern char **environ;
static char self[4096];

/* The new image. */
static int tell(int argc, char **argv)
{
    for (int i = 2; i < argc; i++)
        printf("%s ", argv[i]);
    const char *mark = getenv("EXEC_TEST");
    printf("mark=%s preload=%s\n", mark ? mark : "-", getenv("PATH") ? "kept" : "gone");
    return 40 + argc % 10;
}

static void become(int how)
{
    char *argv[] = {self, "tell", "vector", "of", "words", NULL};
    char *clean[] = {"EXEC_TEST=clean", NULL};
    switch (how) {
    case 0:
        execve(self, argv, environ);
        break;
    case 1:
        execve(self, argv, clean);
        break;
    case 2:
        execv(self, argv);
        break;
    case 3:
        execvp(self, argv);
        break;
    case 4:
        execvpe(self, argv, clean);
        break;
    case 5:
        execl(self, self, "tell", "1", WORDS, (char *)NULL);
        break;
    case 6:
        execlp(self, self, "tell", "0", WORDS, (char *)NULL);
        break;
    case 7:
        execle(self, self, "tell", "e", WORDS, (char *)NULL, clean);
        break;
    case 8:
        fexecve(open(self, O_RDONLY | O_CLOEXEC), argv, environ);
        break;
    case 9:
        execveat(open(self, O_PATH | O_CLOEXEC), "", argv, environ, AT_EMPTY_PATH);
        break;
    case 10: /* fails: we go on as before */
        execl("/nonexistent", "x", (char *)NULL);
        printf("errno %d\n", errno);
        exit(21);
    default: /* found along PATH */
        execlp("sh", "sh", "-c", "echo along the path; exit 22", (char *)NULL);
    }
    _exit(99);
}

int main(int argc, char **argv)
{
    if (argc > 1 && !strcmp(argv[1], "tell"))
        return tell(argc, argv);
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    setenv("EXEC_TEST", "whole", 1);
    for (int how = 0; how < 12 && n > 0; how++) {
        int status = -1;
        fflush(stdout);
        pid_t pid = fork();
        if (!pid)
            become(how);
        waitpid(pid, &status, 0);
        printf("%d: %x\n", how, (unsigned)status);
    }
    return 0;
}
