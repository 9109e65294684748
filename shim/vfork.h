/* vfork.h - what vfork.S and wrap_process.c share; preprocessor words only. */
#ifndef SONDE_VFORK_H
#define SONDE_VFORK_H

#define SELF_IN_VFORK 72 /* offsetof(struct thread_local_block, in_vfork) */

#define EXEC_EXECVE 0
#define EXEC_EXECV 1
#define EXEC_EXECVP 2
#define EXEC_EXECVPE 3
#define EXEC_EXECL 4
#define EXEC_EXECLP 5
#define EXEC_EXECLE 6
#define EXEC_FEXECVE 7
#define EXEC_EXECVEAT 8

#endif
