/*
 * story.h - a scene with one process and two threads, as most tests of the pipeline want it: begin, finish, end.
 */
#ifndef SONDE_TESTS_STORY_H
#define SONDE_TESTS_STORY_H

#include "tests/scene.h"

static struct actor *a, *b; /* threads 1 and 2 of process 1 */

/* cmocka's set-up and tear-down. */
static inline int story_begin(void **state)
{
    (void)state;
    scene_open();
    process_begins(1, 100, 0);
    a = thread_in(1, 1);
    b = thread_in(2, 1);
    return 0;
}

static inline int story_end(void **state)
{
    (void)state;
    scene_close();
    return 0;
}

/* The process exits, the stream ends, the sums are checked. */
static inline void finish(void)
{
    process_exits(1);
    scene_end();
}

#endif
