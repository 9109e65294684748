/* symbols_process.h - part of the list in symbols.h: how processes begin, end and are waited for. */
/* clang-format off */

TAIL(process, pid_t, vfork, (void), must)
CALL(process, pid_t, fork, (void), (), must, RAW(SYS_clone, SIGCHLD, 0, 0, 0, 0))

TAIL(process, int, execve, (const char *path, char *const argv[], char *const envp[]), must)
TAIL(process, int, execv, (const char *path, char *const argv[]), must)
TAIL(process, int, execvp, (const char *file, char *const argv[]), must)
TAIL(process, int, execvpe, (const char *file, char *const argv[], char *const envp[]), may)
TAIL(process, int, execl, (const char *path, const char *arg, ...), must)
TAIL(process, int, execlp, (const char *file, const char *arg, ...), must)
TAIL(process, int, execle, (const char *path, const char *arg, ...), must)
TAIL(process, int, fexecve, (int fd, char *const argv[], char *const envp[]), may)
TAIL(process, int, execveat, (int fd, const char *path, char *const argv[], char *const envp[], int flags), may)

TAIL(process, ENDS, exit, (int status), must)
TAIL(process, ENDS, _exit, (int status), must)
TAIL(process, ENDS, _Exit, (int status), must)
TAIL(process, ENDS, quick_exit, (int status), may)

CALL(process, int, dlclose, (void *handle), (handle), may, ABSENT)

CALL(process, pid_t, wait, (int *status), (status), must, RAW(SYS_wait4, -1, a, 0, 0))
CALL(process, pid_t, waitpid, (pid_t pid, int *status, int options), (pid, status, options), must, RAW(SYS_wait4, (pid_t)a, b, (int)c, 0))
CALL(process, pid_t, wait3, (int *status, int options, struct rusage *usage), (status, options, usage), must, RAW(SYS_wait4, -1, a, (int)b, c))
CALL(process, pid_t, wait4, (pid_t pid, int *status, int options, struct rusage *usage), (pid, status, options, usage), must, RAW(SYS_wait4, (pid_t)a, b, (int)c, d))
CALL(process, int, waitid, (idtype_t type, id_t id, siginfo_t *info, int options), (type, id, info, options), must, RAW(SYS_waitid, a, b, c, (int)d, 0))

VARIADIC(process, int, prctl, (int option, ...), (int option, unsigned long a2, unsigned long a3, unsigned long a4, unsigned long a5), (option, a2, a3, a4, a5), must, RAW(SYS_prctl, (int)a, b, c, d, e))
