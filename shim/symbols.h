/*
 * symbols.h - every wrapped libc call, one row each. Included several times, each time with other meanings of the rows:
 * the pointers to the real functions, their first-entry functions, the resolve loop, the check against libc's prototype,
 * the exported functions (exports.c) and the list of exported names (exports.sh).
 *
 *   CALL(group, type, name, parameters, arguments, need, fallback)
 *       exports.c makes the exported function; it does `return on_name(arguments)`.
 *   HAND(group, type, name, parameters, arguments, need, fallback)
 *       the same, but the exported function is written by hand (hot, or noreturn).
 *   VARIADIC(group, type, name, prototype, parameters, arguments, need, fallback)
 *       written by hand: takes the optional argument when the call says that it is there, and calls on_name.
 *   TAIL(group, type, name, parameters, need)
 *       written in assembler or by hand; no on_name. Its pointer in `real`, and its copy real_tail_name, are NULL until resolved,
 *       and stay so where nobody defines it.
 *
 * need: `must` every libc has it, `may` an old or another libc lacks it. fallback: what a call does when no original
 * can be found, an expression of the words a to f; RAW(number, words...) is the system call with errno as libc sets it,
 * ABSENT is -1 with ENOSYS, LATER(name) looks for it once more. No include guard: it is a list. Keep kind, group, type and name of a row on one line.
 */
/* clang-format off */
#include "shim/symbols_file.h"
#include "shim/symbols_io.h"
#include "shim/symbols_lock.h"
#include "shim/symbols_memory.h"
#include "shim/symbols_operators.h"
#include "shim/symbols_process.h"
