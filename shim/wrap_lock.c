/*
 * wrap_lock.c - where a thread waits for another one: mutexes, rwlocks, conditions, semaphores, barriers, joins, futexes.
 *
 * In:      exports.c, syscall.S.                Out: libc, stall.c.
 * Context: S; also with any lock of the program or its allocator held.
 * Failure: forwarded unmeasured.
 *
 * A lock that is free costs one look at the word that the real function changes next. Only one that is held is measured,
 * around the real call, which is made once, with the same arguments: no trylock before it. A wait that begins between
 * our look and the real function's is missed; so is a lock that was released in that moment counted only if the thread
 * was switched off (stall.h).
 *
 * Mutexes, rwlocks, barriers and joins stand inside the work for a request. Conditions, semaphores and futexes end it:
 * that is how pools wait for the next one.
 *
 * The words are glibc's since 2.25 (nptl/); for another libc's locks nothing that is read here decides more than whether
 * stall_begin is asked, which then says no.
 */
#define _GNU_SOURCE
#include "shim/real.h"
#include "shim/by_number.h"
#include "shim/stall.h"

#include <linux/futex.h>

#define unlikely(x) __builtin_expect(!!(x), 0)

#ifndef FUTEX_LOCK_PI2
#define FUTEX_LOCK_PI2 13
#endif

static inline void lock_begin(struct stall *s)
{
    s->lane = NULL;
    if (shim.locks_known)
        stall_begin(s, CALL_LOCK);
}

/* --- mutexes ---------------------------------------------------------------------------------------------------- */

static inline bool mutex_is_held(const pthread_mutex_t *m)
{
    return load_relaxed(&m->__data.__lock) != 0;
}

/* Ours already, and of a kind that says so at once. */
static inline bool is_own(const pthread_mutex_t *m)
{
    int kind = load_relaxed(&m->__data.__kind) & 3;
    return self.lane && load_relaxed(&m->__data.__owner) == self.lane->tid &&
           (kind == PTHREAD_MUTEX_RECURSIVE_NP || kind == PTHREAD_MUTEX_ERRORCHECK_NP);
}

static inline void mutex_begin(struct stall *s, const pthread_mutex_t *m)
{
    s->lane = NULL;
    if (unlikely(mutex_is_held(m)) && !is_own(m))
        lock_begin(s);
}

/* Apart, as are the others that begin with `wait_for`: the way of a free lock saves no register and ends in a jump. */
static __attribute__((noinline)) int wait_for_mutex(pthread_mutex_t *m)
{
    struct stall s;
    lock_begin(&s);
    int error = real.pthread_mutex_lock(m);
    stall_locked(&s);
    return error;
}

/* Comes here only when it is held: exports.c has looked. */
int on_pthread_mutex_lock(pthread_mutex_t *m)
{
    return is_own(m) ? real.pthread_mutex_lock(m) : wait_for_mutex(m);
}

int on_pthread_mutex_timedlock(pthread_mutex_t *m, const struct timespec *until)
{
    struct stall s;
    mutex_begin(&s, m);
    int error = real.pthread_mutex_timedlock(m, until);
    stall_locked(&s);
    return error;
}

int on_pthread_mutex_clocklock(pthread_mutex_t *m, clockid_t clock, const struct timespec *until)
{
    struct stall s;
    mutex_begin(&s, m);
    int error = real.pthread_mutex_clocklock(m, clock, until);
    stall_locked(&s);
    return error;
}

/* C11's are POSIX's under another name, in glibc. */
int on_mtx_lock(mtx_t *m)
{
    struct stall s;
    mutex_begin(&s, (const pthread_mutex_t *)(const void *)m);
    int error = real.mtx_lock(m);
    stall_locked(&s);
    return error;
}

int on_mtx_timedlock(mtx_t *m, const struct timespec *until)
{
    struct stall s;
    mutex_begin(&s, (const pthread_mutex_t *)(const void *)m);
    int error = real.mtx_timedlock(m, until);
    stall_locked(&s);
    return error;
}

/* --- rwlocks: __readers holds two flags, one of waiting readers, and above them how many read -------------------- */

#define WRITE_PHASE 1u
#define WRITE_LOCKED 2u
#define READERS 3 /* bits below their number */

static inline bool keeps_readers_out(const pthread_rwlock_t *l)
{
    unsigned word = load_relaxed(&l->__data.__readers);
    return unlikely(word & WRITE_LOCKED) &&
           (word & WRITE_PHASE || l->__data.__flags == PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
}

static inline bool keeps_writers_out(const pthread_rwlock_t *l)
{
    unsigned word = load_relaxed(&l->__data.__readers);
    return unlikely(word & WRITE_LOCKED || (word >> READERS && !(word & WRITE_PHASE)));
}

static inline void read_begin(struct stall *s, const pthread_rwlock_t *l)
{
    s->lane = NULL;
    if (keeps_readers_out(l))
        lock_begin(s);
}

static inline void write_begin(struct stall *s, const pthread_rwlock_t *l)
{
    s->lane = NULL;
    if (keeps_writers_out(l))
        lock_begin(s);
}

static __attribute__((noinline)) int wait_for_writer(pthread_rwlock_t *l)
{
    struct stall s;
    lock_begin(&s);
    int error = real.pthread_rwlock_rdlock(l);
    stall_locked(&s);
    return error;
}

int on_pthread_rwlock_rdlock(pthread_rwlock_t *l)
{
    return keeps_readers_out(l) ? wait_for_writer(l) : real.pthread_rwlock_rdlock(l);
}

int on_pthread_rwlock_timedrdlock(pthread_rwlock_t *l, const struct timespec *until)
{
    struct stall s;
    read_begin(&s, l);
    int error = real.pthread_rwlock_timedrdlock(l, until);
    stall_locked(&s);
    return error;
}

int on_pthread_rwlock_clockrdlock(pthread_rwlock_t *l, clockid_t clock, const struct timespec *until)
{
    struct stall s;
    read_begin(&s, l);
    int error = real.pthread_rwlock_clockrdlock(l, clock, until);
    stall_locked(&s);
    return error;
}

static __attribute__((noinline)) int wait_for_all(pthread_rwlock_t *l)
{
    struct stall s;
    lock_begin(&s);
    int error = real.pthread_rwlock_wrlock(l);
    stall_locked(&s);
    return error;
}

int on_pthread_rwlock_wrlock(pthread_rwlock_t *l)
{
    return keeps_writers_out(l) ? wait_for_all(l) : real.pthread_rwlock_wrlock(l);
}

int on_pthread_rwlock_timedwrlock(pthread_rwlock_t *l, const struct timespec *until)
{
    struct stall s;
    write_begin(&s, l);
    int error = real.pthread_rwlock_timedwrlock(l, until);
    stall_locked(&s);
    return error;
}

int on_pthread_rwlock_clockwrlock(pthread_rwlock_t *l, clockid_t clock, const struct timespec *until)
{
    struct stall s;
    write_begin(&s, l);
    int error = real.pthread_rwlock_clockwrlock(l, clock, until);
    stall_locked(&s);
    return error;
}

/* --- barriers and joins: whether they will wait is not to be seen ------------------------------------------------ */

int on_pthread_barrier_wait(pthread_barrier_t *b)
{
    struct stall s;
    stall_begin(&s, CALL_LOCK);
    int error = real.pthread_barrier_wait(b);
    stall_joined(&s);
    return error;
}

int on_pthread_join(pthread_t thread, void **result)
{
    struct stall s;
    stall_begin(&s, CALL_LOCK);
    int error = real.pthread_join(thread, result);
    stall_joined(&s);
    return error;
}

int on_pthread_timedjoin_np(pthread_t thread, void **result, const struct timespec *until)
{
    struct stall s;
    stall_begin(&s, CALL_LOCK);
    int error = real.pthread_timedjoin_np(thread, result, until);
    stall_joined(&s);
    return error;
}

int on_pthread_clockjoin_np(pthread_t thread, void **result, clockid_t clock, const struct timespec *until)
{
    struct stall s;
    stall_begin(&s, CALL_LOCK);
    int error = real.pthread_clockjoin_np(thread, result, clock, until);
    stall_joined(&s);
    return error;
}

int on_thrd_join(thrd_t thread, int *result)
{
    struct stall s;
    stall_begin(&s, CALL_LOCK);
    int error = real.thrd_join(thread, result);
    stall_joined(&s);
    return error;
}

/* --- conditions: always a wait, and the way back through the mutex belongs to it ---------------------------------- */

int on_pthread_cond_wait(pthread_cond_t *c, pthread_mutex_t *m)
{
    struct stall s;
    stall_turn_begin(&s, CALL_CONDITION);
    int error = real.pthread_cond_wait(c, m);
    stall_turn_end(&s);
    return error;
}

int on_pthread_cond_timedwait(pthread_cond_t *c, pthread_mutex_t *m, const struct timespec *until)
{
    struct stall s;
    stall_turn_begin(&s, CALL_CONDITION);
    int error = real.pthread_cond_timedwait(c, m, until);
    stall_turn_end(&s);
    return error;
}

int on_pthread_cond_clockwait(pthread_cond_t *c, pthread_mutex_t *m, clockid_t clock, const struct timespec *until)
{
    struct stall s;
    stall_turn_begin(&s, CALL_CONDITION);
    int error = real.pthread_cond_clockwait(c, m, clock, until);
    stall_turn_end(&s);
    return error;
}

int on_cnd_wait(cnd_t *c, mtx_t *m)
{
    struct stall s;
    stall_turn_begin(&s, CALL_CONDITION);
    int error = real.cnd_wait(c, m);
    stall_turn_end(&s);
    return error;
}

int on_cnd_timedwait(cnd_t *c, mtx_t *m, const struct timespec *until)
{
    struct stall s;
    stall_turn_begin(&s, CALL_CONDITION);
    int error = real.cnd_timedwait(c, m, until);
    stall_turn_end(&s);
    return error;
}

/* --- semaphores: the value is the first word --------------------------------------------------------------------- */

static inline bool is_taken(const sem_t *at)
{
    return !load_relaxed((const unsigned *)(const void *)at);
}

static inline void semaphore_begin(struct stall *s, const sem_t *at)
{
    s->lane = NULL;
    if (is_taken(at) && shim.locks_known)
        stall_turn_begin(s, CALL_SEMAPHORE);
}

static __attribute__((noinline)) int wait_for_post(sem_t *at)
{
    struct stall s;
    semaphore_begin(&s, at);
    int result = real.sem_wait(at);
    stall_turn_end(&s);
    return result;
}

int on_sem_wait(sem_t *at)
{
    return unlikely(is_taken(at)) ? wait_for_post(at) : real.sem_wait(at);
}

int on_sem_timedwait(sem_t *at, const struct timespec *until)
{
    struct stall s;
    semaphore_begin(&s, at);
    int result = real.sem_timedwait(at, until);
    stall_turn_end(&s);
    return result;
}

int on_sem_clockwait(sem_t *at, clockid_t clock, const struct timespec *until)
{
    struct stall s;
    semaphore_begin(&s, at);
    int result = real.sem_clockwait(at, clock, until);
    stall_turn_end(&s);
    return result;
}

/* --- futexes by number, from watched_syscall ---------------------------------------------------------------------- */

static bool is_wait(long number, long operation)
{
    int command = (int)operation & FUTEX_CMD_MASK;
    return number != SYS_futex || command == FUTEX_WAIT || command == FUTEX_WAIT_BITSET ||
           command == FUTEX_WAIT_REQUEUE_PI;
}

static bool is_lock(long operation)
{
    int command = (int)operation & FUTEX_CMD_MASK;
    return command == FUTEX_LOCK_PI || command == FUTEX_LOCK_PI2;
}

/* The word is not looked at: a bad address is the kernel's to refuse. */
long watched_futex(long number, long a, long b, long c, long d, long e, long f)
{
    struct stall s;
    if (is_wait(number, b)) {
        stall_turn_begin(&s, CALL_FUTEX);
        long result = real_syscall(number, a, b, c, d, e, f);
        stall_turn_end(&s);
        return result;
    }
    if (!is_lock(b))
        return real_syscall(number, a, b, c, d, e, f);
    stall_begin(&s, CALL_LOCK);
    long result = real_syscall(number, a, b, c, d, e, f);
    stall_locked(&s);
    return result;
}
