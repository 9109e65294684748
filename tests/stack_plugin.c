/*
 * stack_plugin.c - a library for live_stack_*: a function that allocates through its argument, and a constructor that
 * waits for another thread which allocates (the loader's lock is held meanwhile).
 */
#include <semaphore.h>
#include <stdlib.h>

extern sem_t plugin_begun __attribute__((weak)), plugin_may_end __attribute__((weak));

void *plugin_calls(void *(*f)(void *), void *argument);

/* The same instructions in each library, but for the size of the frame. */
void *plugin_calls(void *(*f)(void *), void *argument)
{
    volatile char room[PLUGIN_ROOM];
    room[0] = 1;
    void *result = f(argument);
    return room[0] ? result : NULL;
}

__attribute__((constructor)) static void begin(void)
{
    free(malloc(77));
    if (&plugin_begun && &plugin_may_end) {
        sem_post(&plugin_begun);
        sem_wait(&plugin_may_end);
    }
}
