/*
 * test_rule.c - rules are learned whatever signal handlers do meanwhile: one that leaves by siglongjmp, at any
 * instruction of rule_learn(), must not end learning for the process. And a filter's setter waits for walks.
 */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include <cmocka.h>

#include "shim/lifecycle.h"
#include "shim/real.h"
#include "shim/rule.h"
#include "shim/stack.h"
#include "tests/shim_doubles.h"

#define TRAP_FLAG 0x100

#if defined(__x86_64__)

static sigjmp_buf out;
static volatile long step, leave_at;
static volatile bool left;

/* Is the next instruction the one that blocks all signals? A trap behind it would be deadly. */
static bool blocks_signals(const greg_t *r)
{
    const unsigned char *code = (const unsigned char *)r[REG_RIP];
    return code[0] == 0x0f && code[1] == 0x05 && r[REG_RAX] == SYS_rt_sigprocmask && r[REG_RDI] == SIG_SETMASK &&
           r[REG_RSI];
}

static void on_step(int number, siginfo_t *info, void *context)
{
    greg_t *r = ((ucontext_t *)context)->uc_mcontext.gregs;
    (void)number, (void)info;
    if (step++ == leave_at) {
        left = true;
        siglongjmp(out, 1);
    }
    if (blocks_signals(r))
        r[REG_EFL] &= ~(greg_t)TRAP_FLAG;
}

static void steps(bool on)
{
    if (on)
        __asm__ volatile("pushfq; orq $0x100, (%%rsp); popfq" ::: "memory", "cc");
    else
        __asm__ volatile("pushfq; andq $~0x100, (%%rsp); popfq" ::: "memory", "cc");
}

/* A return address of ours, that is not known. */
static __attribute__((noinline)) uint64_t fresh_address(void)
{
    rules.generation++;
    return (uint64_t)__builtin_return_address(0);
}

static void test_handler_that_jumps_away_ends_no_learning(void **state)
{
    (void)state;
    struct sigaction action = {.sa_sigaction = on_step, .sa_flags = SA_SIGINFO};
    assert_int_equal(sigaction(SIGTRAP, &action, NULL), 0);
    long jumps = 0;
    for (leave_at = 0, left = true; left; leave_at++) {
        uint64_t address = fresh_address();
        assert_int_not_equal(rule_kind(rule_learn(address)), RULE_NONE);
        address = fresh_address();
        step = 0;
        left = false;
        if (!sigsetjmp(out, 1)) {
            steps(true);
            rule_learn(address);
        }
        steps(false);
        jumps += left;
    }
    assert_in_range(jumps, 10, 10000);
}

static _Atomic bool ended; /* the thread sanitizer does not see the recorder's own order */

static void *walk_for_a_while(void *unused)
{
    usleep(2000);
    ended = true;
    __atomic_fetch_sub(&rules.walking, 1, __ATOMIC_SEQ_CST);
    return unused;
}

static void test_filter_waits_for_walks_but_not_for_ever(void **state)
{
    (void)state;
    pthread_t thread;
    uint64_t patience = shim.long_ticks;
    shim.long_ticks = UINT64_C(1) << 40;
    rules.walking = 1;
    assert_int_equal(pthread_create(&thread, NULL, walk_for_a_while, NULL), 0);
    stack_no_calls();
    assert_true(ended);
    pthread_join(thread, NULL);
    rules.no_calls = 0;
    shim.long_ticks = patience;
    rules.walking = 1; /* left by longjmp */
    stack_no_calls();
    assert_int_equal(rules.no_calls, 1);
    rules.walking = rules.no_calls = 0;
}

static int attach(void **state)
{
    (void)state;
    static struct arena_view view;
    char place[128];
    int fd = arena_create(ARENA_DEFAULT_BYTES, "rule", &view);
    if (fd < 0)
        return -1;
    view.arena->features |= FEATURE_STACKS;
    view.arena->clock = CLOCK_KIND_MONOTONIC;
    snprintf(place, sizeof place, "%d:%d:rule", getpid(), fd);
    real_resolve();
    return lifecycle_attach(place) && lane_here() && rule_start() ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_handler_that_jumps_away_ends_no_learning),
        cmocka_unit_test(test_filter_waits_for_walks_but_not_for_ever),
    };
    return cmocka_run_group_tests(tests, attach, NULL);
}

#else

int main(void)
{
    puts("stacks are walked on x86-64 only");
    return 77;
}

#endif
