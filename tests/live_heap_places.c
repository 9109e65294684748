/*
 * live_heap_places.c - allocations where they are easily spoilt: before main, after exit handlers,
 * in threads with the smallest stack, in their key destructors, with a pending dlerror(), in a
 * plug-in loaded later, and errno.
 */
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void *before_main;
static pthread_key_t key;
static int destroyed;

__attribute__((constructor(101))) static void early(void)
{
    before_main = realloc(malloc(10), 100);
    strcpy(before_main, "before main");
}

__attribute__((destructor(101))) static void late(void)
{
    char *p = strdup("after the exit handlers\n");
    free(before_main);
    if (write(STDOUT_FILENO, p, strlen(p)) < 0)
        _exit(9);
    free(p);
}

static void destroy(void *block)
{
    free(block);
    free(malloc(333));
    __atomic_add_fetch(&destroyed, 1, __ATOMIC_RELAXED);
}

static void *small_stack(void *unused)
{
    (void)unused;
    pthread_setspecific(key, malloc(77));
    for (size_t i = 0; i < 100; i++)
        free(realloc(calloc(i + 1, 3), 2000));
    return NULL;
}

static bool threads_with_small_stacks(void)
{
    pthread_attr_t attributes;
    pthread_t id[8];
    bool right = !pthread_attr_init(&attributes) && !pthread_key_create(&key, destroy) &&
                 !pthread_attr_setstacksize(&attributes, (size_t)sysconf(_SC_THREAD_STACK_MIN));
    for (int i = 0; i < 8; i++)
        right &= !pthread_create(&id[i], &attributes, small_stack, NULL);
    for (int i = 0; i < 8; i++)
        right &= !pthread_join(id[i], NULL);
    pthread_attr_destroy(&attributes);
    return right && destroyed == 8;
}

static bool pending_dlerror_is_kept(void)
{
    dlsym(RTLD_DEFAULT, "no_such_symbol_anywhere");
    for (int i = 0; i < 100; i++)
        free(malloc((size_t)i));
    close(-1);
    const char *text = dlerror();
    return text && strstr(text, "no_such_symbol_anywhere") && !dlerror();
}

/* A C program has no operators of C++, whoever was preloaded. */
static bool no_operators_here(void)
{
    return !dlsym(RTLD_DEFAULT, "_Znwm") && !dlsym(RTLD_DEFAULT, "_ZdlPvm") && dlerror();
}

/* libstdc++ loaded late and privately: its operators are its own. */
static bool plug_in(void)
{
    void *library = dlopen("libstdc++.so.6", RTLD_NOW | RTLD_LOCAL);
    if (!library)
        return true; /* none installed */
    void *(*make)(size_t) = (void *(*)(size_t))dlsym(library, "_Znwm");
    void (*drop)(void *) = (void (*)(void *))dlsym(library, "_ZdlPv");
    if (!make || !drop)
        return false;
    for (size_t i = 0; i < 100; i++)
        drop(make(i * 10));
    return !dlclose(library);
}

static bool errno_is_kept(void)
{
    bool right = true;
    for (int i = 0; i < 1000; i++) {
        errno = 1234;
        void *p = malloc((size_t)i * 37);
        right &= p && errno == 1234;
        free(p);
        right &= errno == 1234;
    }
    return right;
}

int main(void)
{
    printf("%s\n", (char *)before_main);
    printf("small stacks %d\n", threads_with_small_stacks());
    printf("dlerror %d\n", pending_dlerror_is_kept());
    printf("operators %d\n", no_operators_here());
    printf("plug-in %d\n", plug_in());
    printf("errno %d\n", errno_is_kept());
    return 0;
}
