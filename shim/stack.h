/*
 * stack.h - who called: the return addresses above a wrapped call, without ever reading what is no stack.
 *
 * In:      sampled.c, wrap_lock.c, lifecycle.c, wrap_process.c.    Out: rule.c for addresses not seen before.
 * Owns:    the window of proven pages of one walk; nothing outlives it.
 * Context: S: also in signal handlers, on alternate and custom stacks, under the loader's lock, in threads without a lane.
 * Sharing: nothing but the rules (rule.h).
 * Failure: the stack ends early and says why (enum event_stack_end).
 *
 * docs/heap.md, "Stacks", says how each of these is known to be safe.
 */
#ifndef SONDE_STACK_H
#define SONDE_STACK_H

#include <stdbool.h>
#include <stdint.h>

#include "wire/arena.h"
#include "wire/event.h"

/*
 * Fills frames[0..] with return addresses: [0] lies in the code that called the exported function we are in (frames of
 * this library are left out), each further one in its caller. Returns how many, at most `most` (<= EVENT_FRAMES).
 * Keeps errno. About 10 ns a frame, plus 0.1 µs for each page of stack that it crosses; a frame that this process has
 * not seen before costs 3 to 10 µs once.
 */
unsigned stack_walk(uint64_t *frames, unsigned most, enum event_stack_end *end);

/* Loads what reads unwind tables, when this run wants stacks. In our constructor only: it uses the loader. Context I. */
void stack_start(void);

/* This process's slot is new: says there when stacks cannot be walked here. */
void stack_attached(struct process_slot *);

/* A system call may be refused from now on, deadly: walks make none. */
void stack_no_calls(void);

#endif
