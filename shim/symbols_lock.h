/*
 * symbols_lock.h - part of the list in symbols.h: waiting for threads (wrap_lock.c) and for the clock (wrap_sleep.c).
 *
 * Before glibc 2.34 some of these stand in libpthread, which a program without threads may load late: when none was found
 * at the start, the first call looks again.
 */
/* clang-format off */

HAND(lock, int, pthread_mutex_lock, (pthread_mutex_t *m), (m), must, LATER(pthread_mutex_lock))
CALL(lock, int, pthread_mutex_timedlock, (pthread_mutex_t *m, const struct timespec *until), (m, until), must, LATER(pthread_mutex_timedlock))
CALL(lock, int, pthread_mutex_clocklock, (pthread_mutex_t *m, clockid_t clock, const struct timespec *until), (m, clock, until), may, LATER(pthread_mutex_clocklock))
CALL(lock, int, mtx_lock, (mtx_t *m), (m), may, LATER(mtx_lock))
CALL(lock, int, mtx_timedlock, (mtx_t *m, const struct timespec *until), (m, until), may, LATER(mtx_timedlock))
CALL(lock, int, pthread_rwlock_rdlock, (pthread_rwlock_t *l), (l), must, LATER(pthread_rwlock_rdlock))
CALL(lock, int, pthread_rwlock_timedrdlock, (pthread_rwlock_t *l, const struct timespec *until), (l, until), must, LATER(pthread_rwlock_timedrdlock))
CALL(lock, int, pthread_rwlock_clockrdlock, (pthread_rwlock_t *l, clockid_t clock, const struct timespec *until), (l, clock, until), may, LATER(pthread_rwlock_clockrdlock))
CALL(lock, int, pthread_rwlock_wrlock, (pthread_rwlock_t *l), (l), must, LATER(pthread_rwlock_wrlock))
CALL(lock, int, pthread_rwlock_timedwrlock, (pthread_rwlock_t *l, const struct timespec *until), (l, until), must, LATER(pthread_rwlock_timedwrlock))
CALL(lock, int, pthread_rwlock_clockwrlock, (pthread_rwlock_t *l, clockid_t clock, const struct timespec *until), (l, clock, until), may, LATER(pthread_rwlock_clockwrlock))
CALL(lock, int, pthread_barrier_wait, (pthread_barrier_t *b), (b), must, LATER(pthread_barrier_wait))
CALL(lock, int, pthread_join, (pthread_t thread, void **result), (thread, result), must, LATER(pthread_join))
CALL(lock, int, pthread_timedjoin_np, (pthread_t thread, void **result, const struct timespec *until), (thread, result, until), may, LATER(pthread_timedjoin_np))
CALL(lock, int, pthread_clockjoin_np, (pthread_t thread, void **result, clockid_t clock, const struct timespec *until), (thread, result, clock, until), may, LATER(pthread_clockjoin_np))
CALL(lock, int, thrd_join, (thrd_t thread, int *result), (thread, result), may, LATER(thrd_join))
CALL(lock, int, pthread_cond_wait, (pthread_cond_t *c, pthread_mutex_t *m), (c, m), must, LATER(pthread_cond_wait))
CALL(lock, int, pthread_cond_timedwait, (pthread_cond_t *c, pthread_mutex_t *m, const struct timespec *until), (c, m, until), must, LATER(pthread_cond_timedwait))
CALL(lock, int, pthread_cond_clockwait, (pthread_cond_t *c, pthread_mutex_t *m, clockid_t clock, const struct timespec *until), (c, m, clock, until), may, LATER(pthread_cond_clockwait))
CALL(lock, int, cnd_wait, (cnd_t *c, mtx_t *m), (c, m), may, LATER(cnd_wait))
CALL(lock, int, cnd_timedwait, (cnd_t *c, mtx_t *m, const struct timespec *until), (c, m, until), may, LATER(cnd_timedwait))
CALL(lock, int, sem_wait, (sem_t *at), (at), must, LATER(sem_wait))
CALL(lock, int, sem_timedwait, (sem_t *at, const struct timespec *until), (at, until), must, LATER(sem_timedwait))
CALL(lock, int, sem_clockwait, (sem_t *at, clockid_t clock, const struct timespec *until), (at, clock, until), may, LATER(sem_clockwait))

CALL(sleep, unsigned, sleep, (unsigned seconds), (seconds), must, LATER(sleep))
CALL(sleep, int, usleep, (useconds_t us), (us), must, LATER(usleep))
CALL(sleep, int, nanosleep, (const struct timespec *time, struct timespec *left), (time, left), must, RAW(SYS_nanosleep, a, b))
CALL(sleep, int, clock_nanosleep, (clockid_t clock, int flags, const struct timespec *time, struct timespec *left), (clock, flags, time, left), must, -raw6(SYS_clock_nanosleep, (int)a, (int)b, c, d, 0, 0))
CALL(sleep, int, thrd_sleep, (const struct timespec *time, struct timespec *left), (time, left), may, LATER(thrd_sleep))
