/*
 * live_owed.c - frees blocks while it fills the arena: what could not be told then is told with a later event.
 *
 *     live_owed [blocks] [s]   s: before each step it prints one line and reads one
 */
#include "live.h"

#define MOST 8192

static void *block[MOST];
static int pair[2];
static int step_by_step;

static void step(const char *name)
{
    char c;
    if (!step_by_step)
        return;
    CHECK(write(1, name, strlen(name)) > 0);
    while (read(0, &c, 1) == 1 && c != '\n')
        ;
}

static void burst(int calls)
{
    char c[512] = "";
    for (int i = 0; i < calls; i++) {
        CHECK(write(pair[0], c, sizeof c) == sizeof c);
        CHECK(read(pair[1], c, sizeof c) == sizeof c);
    }
}

static __attribute__((noinline)) void *kept_by_live_owed(void)
{
    void *p = malloc(20000);
    __asm__ volatile("" ::: "memory"); /* no jump to malloc: it is to be in the stack */
    return p;
}

int main(int argc, char **argv)
{
    int blocks = argc > 1 ? atoi(argv[1]) : 500;
    step_by_step = argc > 2;
    CHECK(blocks <= MOST);
    tcp_pair(pair);
    for (int i = 0; i < blocks; i++) {
        block[i] = kept_by_live_owed();
        CHECK(block[i]);
    }
    burst(1);
    step("allocated\n");
    burst(40000); /* no more room */
    for (int i = 0; i < blocks; i++)
        free(block[i]);
    step("freed\n");
    burst(1); /* room again */
    step("told\n");
    puts("end");
    return 0;
}
