/*
 * live_stack_hard.c - allocates where walking the stack could deadlock or crash. Argument: one of the cases below;
 * none: all of them. Every case ends with "NAME ok"; a hang is an alarm.
 */
#include <dlfcn.h>
#include <limits.h>
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include "live.h"

#if defined(__clang__)
#define APART __attribute__((noinline))
#else
#define APART __attribute__((noinline, noclone))
#endif

sem_t plugin_begun, plugin_may_end; /* stack_plugin.c */

APART static void allocate(size_t size)
{
    char *volatile block = malloc(size);
    block[0] = 1;
    block = realloc(block, size * 2);
    block[size] = 1;
    free(block);
}

APART static void deeper(unsigned depth, size_t size)
{
    char room[64];
    __asm__ __volatile__("" : : "r"(room) : "memory");
    if (depth)
        deeper(depth - 1, size);
    else
        allocate(size);
    __asm__ __volatile__("" : : "r"(room) : "memory");
}

/* Calls from a place of its own each time, so that its addresses are new. */
#define FRESH_1(n) allocate(n), allocate(n + 1), allocate(n + 2), allocate(n + 3),
#define FRESH_2(n) FRESH_1(n) FRESH_1(n + 4) FRESH_1(n + 8) FRESH_1(n + 12)
#define FRESH_3(n) FRESH_2(n) FRESH_2(n + 16) FRESH_2(n + 32) FRESH_2(n + 48)

static const char *beside(const char *name)
{
    static char path[512];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 40);
    CHECK(n > 0);
    path[n] = 0;
    strcpy(strrchr(path, '/') + 1, name);
    return path;
}

/* --- signals --- */

static volatile sig_atomic_t strikes;

static void on_strike(int number)
{
    (void)number;
    int saved = errno;
    deeper(strikes % 7u, 100);
    strikes = strikes + 1;
    errno = saved;
}

static void strike_every(long us, bool own_stack)
{
    static char stack[32768];
    stack_t alternative = {.ss_sp = stack, .ss_size = sizeof stack};
    struct sigaction act = {.sa_handler = on_strike, .sa_flags = own_stack ? SA_ONSTACK | SA_RESTART : SA_RESTART};
    struct itimerval often = {{0, us}, {0, us}};
    CHECK(sigaltstack(&alternative, NULL) == 0 && sigaction(SIGALRM, &act, NULL) == 0);
    strikes = 0;
    CHECK(setitimer(ITIMER_REAL, &often, NULL) == 0);
}

static void strike_no_more(void)
{
    struct itimerval never = {{0, 0}, {0, 0}};
    CHECK(setitimer(ITIMER_REAL, &never, NULL) == 0);
    signal(SIGALRM, SIG_DFL);
}

/* With signal_malloc.so the handler may strike inside malloc too; with others main only computes meanwhile. */
static void strikes_on(bool own_stack)
{
    bool anywhere = getenv("LIVE_SIGNAL_MALLOC") != NULL;
    strike_every(300, own_stack);
    for (unsigned i = 0; strikes < 1500; i++)
        if (anywhere)
            deeper(i % 20, 50);
    strike_no_more();
}

static void in_handlers(void)
{
    strikes_on(false);
}

static void on_alternate_stacks(void)
{
    strikes_on(true);
}

static sigjmp_buf back;

static void leave(int number)
{
    (void)number;
    deeper(3, 100);
    siglongjmp(back, 1);
}

/* A handler that never returns: out of wherever it struck. Only with an allocator that can bear it. */
static void leaving_handlers(void)
{
    if (!getenv("LIVE_SIGNAL_MALLOC"))
        return;
    volatile unsigned left = 0;
    signal(SIGUSR2, leave);
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR2};
    struct itimerspec often = {{0, 200000}, {0, 200000}};
    timer_t timer;
    CHECK(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0);
    if (sigsetjmp(back, 1))
        left++;
    else
        CHECK(timer_settime(timer, 0, &often, NULL) == 0);
    while (left < 1500)
        deeper(left % 20, 50);
    timer_delete(timer);
}

/* --- stacks of the program's own --- */

static ucontext_t main_context, coroutine[8];

static void run_coroutine(void)
{
    for (;;) {
        deeper(5, 200);
        swapcontext(&coroutine[0], &main_context);
    }
}

#define COROUTINE_BYTES 16384u

static void switch_to(char *stack)
{
    CHECK(getcontext(&coroutine[0]) == 0);
    coroutine[0].uc_stack.ss_sp = stack;
    coroutine[0].uc_stack.ss_size = COROUTINE_BYTES;
    coroutine[0].uc_link = NULL;
    makecontext(&coroutine[0], run_coroutine, 0);
    for (int i = 0; i < 3; i++)
        CHECK(swapcontext(&main_context, &coroutine[0]) == 0);
}

/* Side by side, behind guard pages, below what is mapped and unmapped again, in the heap. */
static void on_coroutines(void)
{
    for (int round = 0; round < 300; round++) {
        size_t bytes = COROUTINE_BYTES * 6;
        char *stacks = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
        CHECK(stacks != MAP_FAILED);
        switch_to(stacks);
        switch_to(stacks + COROUTINE_BYTES);
        CHECK(mprotect(stacks + 3 * COROUTINE_BYTES, 4096, PROT_NONE) == 0);
        switch_to(stacks + 2 * COROUTINE_BYTES);
        CHECK(munmap(stacks + 3 * COROUTINE_BYTES, 3 * COROUTINE_BYTES) == 0);
        switch_to(stacks + 2 * COROUTINE_BYTES);
        switch_to(stacks + COROUTINE_BYTES);
        CHECK(munmap(stacks, 3 * COROUTINE_BYTES) == 0);
        char *heap = malloc(COROUTINE_BYTES);
        switch_to(heap);
        free(heap);
    }
}

static void *small(void *unused)
{
    allocate(300);
    return unused;
}

static void in_small_threads(void)
{
    pthread_attr_t attr;
    CHECK(pthread_attr_init(&attr) == 0 && pthread_attr_setstacksize(&attr, (size_t)PTHREAD_STACK_MIN) == 0);
    for (int i = 0; i < 300; i++) {
        pthread_t t;
        CHECK(pthread_create(&t, &attr, small, NULL) == 0 && pthread_join(t, NULL) == 0);
    }
}

/* --- tables that lie --- */

#if defined(__x86_64__)
typedef void (*call_fn)(void (*)(void));
#define LIAR(name, lie)                                                                                                \
    void name(void (*f)(void));                                                                                        \
    __asm__(".text\n.globl " #name "\n.type " #name ",@function\n" #name ":\n.cfi_startproc\n"                         \
            "push %rbp\n.cfi_def_cfa_offset 16\n.cfi_offset %rbp,-16\nmov $0x10,%ebp\n" lie "\ncall *%rdi\npop %rbp\n" \
            ".cfi_def_cfa %rsp,8\nret\n.cfi_endproc\n.size " #name ",.-" #name "\n");
LIAR(says_rbp_is_the_frame, ".cfi_def_cfa %rbp,16")
LIAR(says_rbp_is_far_away, ".cfi_offset %rbp,-80000")
LIAR(says_frame_is_huge, ".cfi_def_cfa_offset 900000")
LIAR(says_frame_is_beyond, ".cfi_def_cfa_offset 8000000")
LIAR(says_frame_is_negative, ".cfi_def_cfa_offset -160")
LIAR(says_another_register, ".cfi_def_cfa %rbx,16")
LIAR(says_it_is_expressed, ".cfi_escape 0x0f,0x03,0x77,0x08,0x06") /* *(rsp + 8) */
LIAR(says_nonsense, ".cfi_escape 0x0f,0x02,0x30,0x06") /* *0 */
LIAR(says_return_is_elsewhere, ".cfi_offset %rip,-4096")
static const call_fn liars[] = {says_rbp_is_the_frame, says_rbp_is_far_away,  says_frame_is_huge,
                                says_frame_is_beyond,  says_frame_is_negative, says_another_register,
                                says_it_is_expressed,  says_nonsense,          says_return_is_elsewhere};

static void allocate_some(void)
{
    allocate(100);
}

static void under_lying_tables(void)
{
    for (int round = 0; round < 50; round++)
        for (size_t i = 0; i < sizeof liars / sizeof *liars; i++)
            liars[i](allocate_some);
}
#else
static void under_lying_tables(void)
{
}
#endif

/* --- the loader --- */

static void *load(void *path)
{
    return dlopen(path, RTLD_NOW);
}

/* A constructor waits with the loader's lock held, and what it waits for is an allocation from places not seen yet. */
static void inside_dlopen(void)
{
    pthread_t loader;
    void *library = NULL;
    sem_init(&plugin_begun, 0, 0);
    sem_init(&plugin_may_end, 0, 0);
    CHECK(pthread_create(&loader, NULL, load, (void *)(uintptr_t)beside("stack_plugin_a.so")) == 0);
    sem_wait(&plugin_begun);
    (void)(FRESH_3(1000) 0);
    pthread_t t;
    CHECK(pthread_create(&t, NULL, small, NULL) == 0 && pthread_join(t, NULL) == 0);
    sem_post(&plugin_may_end);
    CHECK(pthread_join(loader, &library) == 0 && library != NULL && dlclose(library) == 0);
}

static void *allocate_for(void *unused)
{
    deeper(2, 150);
    return unused;
}

static void in_libraries_that_go(void)
{
    for (int i = 0; i < 1000; i++) {
        for (int n = 0; n < 2; n++)
            sem_post(&plugin_may_end);
        void *library = dlopen(beside(i % 2 ? "stack_plugin_a.so" : "stack_plugin_b.so"), RTLD_NOW);
        CHECK(library != NULL);
        void *(*calls)(void *(*)(void *), void *) = (void *(*)(void *(*)(void *), void *))dlsym(library, "plugin_calls");
        CHECK(calls != NULL && calls(allocate_for, &i) == &i);
        CHECK(dlclose(library) == 0);
    }
}

/* --- processes, threads that are thrown out --- */

static volatile bool stop;

static void *churn(void *unused)
{
    for (unsigned i = 0; !stop; i++)
        deeper(i % 30, 64 + i % 500);
    return unused;
}

static void in_children(void)
{
    pthread_t t[3];
    stop = false;
    for (int i = 0; i < 3; i++)
        CHECK(pthread_create(&t[i], NULL, churn, NULL) == 0);
    for (int i = 0; i < 150; i++) {
        pid_t child = fork();
        CHECK(child >= 0);
        if (!child) {
            (void)(FRESH_2(64) 0);
            deeper(10, 100);
            _exit(0);
        }
        int status;
        CHECK(waitpid(child, &status, 0) == child && status == 0);
    }
    stop = true;
    for (int i = 0; i < 3; i++)
        CHECK(pthread_join(t[i], NULL) == 0);
}

static int cleaned;

static void clean(void *block)
{
    free(block);
    cleaned++;
}

static void *until_cancelled(void *unused)
{
    void *block = malloc(500);
    pthread_cleanup_push(clean, block);
    for (;;) {
        deeper(4, 80);
        pthread_testcancel();
    }
    pthread_cleanup_pop(0);
    return unused;
}

static void in_cancelled_threads(void)
{
    for (int i = 0; i < 200; i++) {
        pthread_t t;
        void *result;
        CHECK(pthread_create(&t, NULL, until_cancelled, NULL) == 0);
        CHECK(pthread_cancel(t) == 0 && pthread_join(t, &result) == 0 && result == PTHREAD_CANCELED);
    }
}

/* --- what is the program's --- */

static void beside_errno_and_dlerror(void)
{
    CHECK(dlsym(RTLD_DEFAULT, "no_such_name_2") == NULL);
    errno = 4321;
    (void)(FRESH_2(2000) 0);
    CHECK(errno == 4321);
    const char *message = dlerror();
    CHECK(message && strstr(message, "no_such_name_2") && !dlerror());
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*run)(void);
    } cases[] = {{"errno", beside_errno_and_dlerror},
                 {"signal", in_handlers},
                 {"altstack", on_alternate_stacks},
                 {"longjmp", leaving_handlers},
                 {"coroutine", on_coroutines},
                 {"small", in_small_threads},
                 {"lies", under_lying_tables},
                 {"loader", inside_dlopen},
                 {"unload", in_libraries_that_go},
                 {"fork", in_children},
                 {"cancel", in_cancelled_threads}};
    setvbuf(stdout, NULL, _IONBF, 0);
    alarm(120);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (argc > 1 && strcmp(argv[1], cases[i].name) != 0)
            continue;
        cases[i].run();
        alarm(120);
        printf("%s ok\n", cases[i].name);
    }
    return 0;
}
