/*
 * wrap_process.c - how processes begin, end and are waited for.
 *
 * In:      the program; vfork.S for exec; syscall.S.   Out: record.h, lifecycle.h.
 * Context: S
 *
 * Observed before the call, as nothing may come after it: exec, exit. After it: fork in the parent,
 * and the wait family when it told that a process has ended. A child of vfork only forwards: it
 * stands in its parent's memory. posix_spawn, system and popen make their children inside libc and
 * are left alone; so are _Fork and clone, whose children are known by the epoch page.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/seccomp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "shim/cpu.h"
#include "shim/lifecycle.h"
#include "shim/process.h"
#include "shim/real.h"
#include "shim/record.h"
#include "shim/stack.h"
#include "shim/vfork.h"
#include "wire/raw.h"

_Static_assert(offsetof(struct thread_local_block, in_vfork) == SELF_IN_VFORK,
               "vfork.S knows this place");

/* --- begin --- */

pid_t on_fork(void)
{
    uint64_t entry = recording() ? ticks_now() : 0;
    pid_t pid = real.fork();
    if (!pid) {
        self.in_vfork = 0; /* forked by a vfork child: in memory of its own */
        lane_here();       /* a child that calls nothing more is a process too */
    }
    if (pid <= 0 || !recording())
        return pid;
    struct observation o = {
        .type = EVENT_FORK, .descriptor = -1, .entry = entry, .time = ticks_now(), .result = pid};
    record_event(lane_here(), &o);
    return pid;
}

/* --- exec and exit --- */

static void record_last(uint8_t type, int64_t result)
{
    if (!recording())
        return;
    struct observation o = {.type = type, .descriptor = -1, .time = ticks_now(), .result = result};
    record_event(lane_here(), &o);
}

static int absent(void)
{
    errno = ENOSYS;
    return -1;
}

/* From vfork.S: which exec it is (vfork.h). Returns the function to go to. */
void *before_exec(int which) __attribute__((visibility("hidden")));
void *before_exec(int which)
{
    real_resolve();
    int saved = errno;
    record_last(EVENT_EXEC, 0);
    errno = saved;
    void *const functions[] = {
        [EXEC_EXECVE] = (void *)real.execve,     [EXEC_EXECV] = (void *)real.execv,
        [EXEC_EXECVP] = (void *)real.execvp,     [EXEC_EXECVPE] = (void *)real.execvpe,
        [EXEC_EXECL] = (void *)real.execl,       [EXEC_EXECLP] = (void *)real.execlp,
        [EXEC_EXECLE] = (void *)real.execle,     [EXEC_FEXECVE] = (void *)real.fexecve,
        [EXEC_EXECVEAT] = (void *)real.execveat,
    };
    return functions[which] ? functions[which] : (void *)absent;
}

/* Ends the process when no original was found. */
static void end(int status)
{
    for (;;)
        raw1(SYS_exit_group, status);
}

EXPORTED void exit(int status)
{
    real_resolve();
    record_last(EVENT_EXIT, status);
    if (real.exit)
        real.exit(status);
    end(status);
    __builtin_unreachable();
}

EXPORTED void _exit(int status)
{
    real_resolve();
    record_last(EVENT_EXIT, status);
    if (real._exit)
        real._exit(status);
    end(status);
    __builtin_unreachable();
}

EXPORTED void _Exit(int status)
{
    real_resolve();
    record_last(EVENT_EXIT, status);
    if (real._Exit)
        real._Exit(status);
    end(status);
    __builtin_unreachable();
}

EXPORTED void quick_exit(int status)
{
    real_resolve();
    record_last(EVENT_EXIT, status);
    if (real.quick_exit)
        real.quick_exit(status);
    end(status);
    __builtin_unreachable();
}

/* --- wait --- */

struct waiting {
    struct lane *lane;
    uint64_t entry;
    struct call_mark before;
    bool on;
};

/*
 * A parent that waits for a child may do so for the request it serves: this mark is no end of its
 * claim.
 */
static void wait_enter(struct waiting *w)
{
    w->on = recording();
    if (w->on) {
        w->lane = lane_here();
        w->entry = call_enter(w->lane, &w->before, CALL_WAITPID, 0);
    }
}

static void reaped(const struct waiting *w, pid_t pid, int status)
{
    struct event_argument a = {.argument = pid};
    struct observation o = {.type = EVENT_REAPED,
                            .descriptor = -1,
                            .entry = w->entry,
                            .time = ticks_now(),
                            .result = status};
    record_note(w->lane, &o, &a, sizeof a);
}

static void wait_leave(const struct waiting *w, pid_t pid, const int *status)
{
    if (!w->on)
        return;
    call_leave(w->lane, &w->before);
    if (pid > 0 && (WIFEXITED(*status) || WIFSIGNALED(*status)) && recording())
        reaped(w, pid, *status);
}

pid_t on_wait(int *status)
{
    int own = 0;
    status = status ? status : &own;
    struct waiting w;
    wait_enter(&w);
    pid_t pid = real.wait(status);
    wait_leave(&w, pid, status);
    return pid;
}

pid_t on_waitpid(pid_t which, int *status, int options)
{
    int own = 0;
    status = status ? status : &own;
    struct waiting w;
    wait_enter(&w);
    pid_t pid = real.waitpid(which, status, options);
    wait_leave(&w, pid, status);
    return pid;
}

pid_t on_wait3(int *status, int options, struct rusage *usage)
{
    int own = 0;
    status = status ? status : &own;
    struct waiting w;
    wait_enter(&w);
    pid_t pid = real.wait3(status, options, usage);
    wait_leave(&w, pid, status);
    return pid;
}

pid_t on_wait4(pid_t which, int *status, int options, struct rusage *usage)
{
    int own = 0;
    status = status ? status : &own;
    struct waiting w;
    wait_enter(&w);
    pid_t pid = real.wait4(which, status, options, usage);
    wait_leave(&w, pid, status);
    return pid;
}

/* The status that waitpid would have told; -1: the process has not ended. */
static int status_of(const siginfo_t *info)
{
    switch (info->si_code) {
    case CLD_EXITED:
        return (info->si_status & 0xff) << 8;
    case CLD_KILLED:
        return info->si_status & 0x7f;
    case CLD_DUMPED:
        return (info->si_status & 0x7f) | 0x80;
    default:
        return -1;
    }
}

int on_waitid(idtype_t type, id_t id, siginfo_t *info, int options)
{
    siginfo_t own;
    own.si_pid = 0;
    own.si_code = 0;
    if (!info)
        info = &own;
    struct waiting w;
    wait_enter(&w);
    int result = real.waitid(type, id, info, options);
    if (!w.on)
        return result;
    call_leave(w.lane, &w.before);
    /* WNOWAIT leaves it to be waited for again: not reaped yet */
    if (!result && !(options & WNOWAIT) && info->si_pid > 0 && status_of(info) >= 0 && recording())
        reaped(&w, info->si_pid, status_of(info));
    return result;
}

/* --- what takes the clock or system calls away --- */

static bool takes_clock(long number, long first, long second)
{
    if (number == SYS_seccomp)
        return first == SECCOMP_SET_MODE_STRICT;
    return (first == PR_SET_TSC && second == PR_TSC_SIGSEGV) ||
           (first == PR_SET_SECCOMP && second == SECCOMP_MODE_STRICT);
}

static bool takes_calls(long number, long first)
{
    /* the other operations of seccomp only ask */
    return number == SYS_seccomp ? first <= SECCOMP_SET_MODE_FILTER : first == PR_SET_SECCOMP;
}

bool process_before_syscall(long number, long first, long second)
{
    if (number != SYS_prctl && number != SYS_seccomp)
        return false;
    int saved = errno;
    if (takes_calls(number, first)) {
        lifecycle_settle();
        cpu_shut();
        stack_no_calls();
    }
    bool taken = takes_clock(number, first, second) && lifecycle_no_clock();
    errno = saved;
    return taken;
}

void process_clock_back(void)
{
    lifecycle_clock_back();
}

int on_prctl(int option, unsigned long a2, unsigned long a3, unsigned long a4, unsigned long a5)
{
    bool taken = process_before_syscall(SYS_prctl, option, (long)a2);
    int result = real.prctl(option, a2, a3, a4, a5);
    if (taken && result)
        process_clock_back();
    return result;
}

EXPORTED int prctl(int option, ...)
{
    va_list list;
    va_start(list, option);
    unsigned long a2 = va_arg(list, unsigned long), a3 = va_arg(list, unsigned long);
    unsigned long a4 = va_arg(list, unsigned long), a5 = va_arg(list, unsigned long);
    va_end(list);
    return on_prctl(option, a2, a3, a4, a5);
}
