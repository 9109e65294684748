/*
 * prototypes.h - wrapped functions that no header declares (the fortified kin), or not the headers of every libc.
 */
#ifndef SONDE_PROTOTYPES_H
#define SONDE_PROTOTYPES_H

#include <dlfcn.h>
#include <fcntl.h>
#include <malloc.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <threads.h>
#include <time.h>

extern ssize_t __read_chk(int fd, void *buffer, size_t size, size_t room);
extern ssize_t __recv_chk(int fd, void *buffer, size_t size, size_t room, int flags);
extern ssize_t __recvfrom_chk(int fd, void *buffer, size_t size, size_t room, int flags, struct sockaddr *from,
                              socklen_t *length);
extern int __poll_chk(struct pollfd *p, nfds_t count, int limit_ms, size_t room);
extern int __ppoll_chk(struct pollfd *p, nfds_t count, const struct timespec *limit, const sigset_t *mask, size_t room);
extern int __open_2(const char *path, int flags);
extern int __open64_2(const char *path, int flags);
extern int __openat_2(int at, const char *path, int flags);
extern int __openat64_2(int at, const char *path, int flags);

/* since glibc 2.34, 2.34, 2.35, 2.27 */
extern int close_range(unsigned first, unsigned last, int flags);
extern void closefrom(int first);
extern int epoll_pwait2(int fd, struct epoll_event *events, int count, const struct timespec *limit,
                        const sigset_t *mask);
extern int memfd_create(const char *name, unsigned flags);

extern ssize_t __pread_chk(int fd, void *buffer, size_t size, off_t at, size_t room);
extern ssize_t __pread64_chk(int fd, void *buffer, size_t size, off64_t at, size_t room);

/* since glibc 2.30, 2.31 */
extern int pthread_mutex_clocklock(pthread_mutex_t *m, clockid_t clock, const struct timespec *until);
extern int pthread_rwlock_clockrdlock(pthread_rwlock_t *l, clockid_t clock, const struct timespec *until);
extern int pthread_rwlock_clockwrlock(pthread_rwlock_t *l, clockid_t clock, const struct timespec *until);
extern int pthread_cond_clockwait(pthread_cond_t *c, pthread_mutex_t *m, clockid_t clock, const struct timespec *until);
extern int sem_clockwait(sem_t *at, clockid_t clock, const struct timespec *until);
extern int pthread_clockjoin_np(pthread_t thread, void **result, clockid_t clock, const struct timespec *until);

#ifndef CLOSE_RANGE_CLOEXEC
#define CLOSE_RANGE_CLOEXEC (1U << 2)
#endif

#include "shim/operators.h"

#define ENDS __attribute__((noreturn)) void /* exit and its kin */

#endif
