/*
 * real.h - the functions that our exported ones hide.
 *
 * In:      wrap_*.c, exports.c.                Out: libc, or whatever library defines the name after us.
 * Owns:    `real`, one pointer per row of symbols.h.
 * Context: S once resolved; the first pass is I (before main, in whatever call comes first).
 * Sharing: written by the first pass only; two threads that run it at once write the same values.
 * Failure: a name that nobody defines gets the system call itself, or an error.
 *
 * Every pointer begins at a function that resolves all of them, then calls the real one: no wrapper asks whether it may
 * call yet, and a call that comes before any constructor is served. The first pass walks the loader's list of objects;
 * dlsym would eat the program's pending dlerror() and could call malloc.
 */
#ifndef SONDE_REAL_H
#define SONDE_REAL_H

#ifndef _GNU_SOURCE
#error "shim files define _GNU_SOURCE before anything else"
#endif

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

/* Wrapped names that this libc's headers may lack. */
#include "shim/prototypes.h"

#define EXPORTED __attribute__((visibility("default")))

#define CALL(group, type, name, parameters, arguments, need, fallback) type(*name) parameters;
#define HAND(group, type, name, parameters, arguments, need, fallback) type(*name) parameters;
#define VARIADIC(group, type, name, prototype, parameters, arguments, need, fallback) type(*name) prototype;
#define TAIL(group, type, name, parameters, need) type(*name) parameters;
struct real {
#include "shim/symbols.h"
};
#undef CALL
#undef HAND
#undef VARIADIC
#undef TAIL
extern struct real real __attribute__((visibility("hidden")));

/* The same for assembler, which cannot reach into a C struct: real_tail_NAME, NULL until resolved. */
#define CALL(group, type, name, parameters, arguments, need, fallback)
#define HAND(group, type, name, parameters, arguments, need, fallback)
#define VARIADIC(group, type, name, prototype, parameters, arguments, need, fallback)
#define TAIL(group, type, name, parameters, need) extern void *real_tail_##name __attribute__((visibility("hidden")));
#include "shim/symbols.h"
#undef CALL
#undef HAND
#undef VARIADIC
#undef TAIL

/* What we do in each call. */
#define CALL(group, type, name, parameters, arguments, need, fallback) type on_##name parameters;
#define HAND(group, type, name, parameters, arguments, need, fallback) type on_##name parameters;
#define VARIADIC(group, type, name, prototype, parameters, arguments, need, fallback) type on_##name parameters;
#define TAIL(group, type, name, parameters, need)
#include "shim/symbols.h"
#undef CALL
#undef HAND
#undef VARIADIC
#undef TAIL

/* The first pass; later calls return at once. Context I. */
void real_resolve(void);

/*
 * The first definition of `name` in the objects after us, else in those before us; NULL: nobody has it. *object tells
 * which object it stands in (its load address), for "do these belong together?". Context I: never on a call's path.
 */
void *real_find(const char *name, uintptr_t *object);

/* Does the executable, or a library preloaded before us, define this name? Then nobody calls ours. Context I. */
bool real_is_hidden(const char *name);

/*
 * Takes names out of our own symbol table: whoever looks them up from now on finds what would be found without us.
 * Callers that are bound already still reach us. False: the table cannot be written, the names stay. Context I.
 */
bool real_withdraw(const char *const *names, size_t count);

#endif
