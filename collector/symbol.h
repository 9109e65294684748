/*
 * symbol.h - frames of stacks as text: ROW_FRAMES become ROW_STACKs.
 *
 * In:      sinks.c (ROW_OBJECT, ROW_FRAMES, ROW_COMMIT)        Out: ROW_STACK for the store and the outputs
 * Owns:    what objects are, names found lately.
 * Context: sink thread, which may wait for a disk: a symbol table of 100 MB takes a second.
 *
 *   symbol.c       rows, text, the names found lately
 *   symbol_file.c  ELF and DWARF by libdwfl: open while a second's rows need them, then closed
 *   symbol_jit.c   perf maps; what /proc/PID/maps says of an address that no event told of
 */
#ifndef SONDE_SYMBOL_H
#define SONDE_SYMBOL_H

#include <stdbool.h>
#include <stddef.h>
#include "collector/sink/rows.h"

struct symbols;
/* `live`: /proc is that of the processes that are watched (no replay). NULL: no memory. */
struct symbols *symbols_new(bool live);
void symbols_free(struct symbols *);

void symbols_object(struct symbols *, const struct row *);             /* ROW_OBJECT */
const struct row *symbols_stack(struct symbols *, const struct row *); /* ROW_FRAMES → ROW_STACK, valid until the next call */
void symbols_rest(struct symbols *); /* nothing more for now: files are closed */

/* --- between its files ---------------------------------------------------------------------------------------------- */

#define SYMBOL_TEXT 512 /* of one frame, with what was inlined into it */

struct frame_text {
    char *at;
    size_t len, room;
};
void frame_add(struct frame_text *, const char *, size_t len); /* cut at the room; " < " and control characters are replaced */

struct symbol_file;
/* NULL: it is not there, or is another one than `build_id` tells (*replaced). */
struct symbol_file *symbol_file_open(const char *path, const uint8_t *build_id, size_t build_id_len, bool *replaced);
void symbol_file_close(struct symbol_file *);
/* Adds the functions at a return address, the innermost first; false: no symbol there. */
bool symbol_file_find(struct symbol_file *, uint64_t address, struct frame_text *);
void symbol_file_rest(void); /* a second is over */
/* The address in the file's own numbers of what is mapped from this offset of it; false: nothing is. */
bool symbol_file_address(struct symbol_file *, uint64_t offset, uint64_t *address);

/* The name of made code; false: no map, or not in it. */
bool symbol_jit_find(int32_t pid, bool live, uint64_t address, struct frame_text *);
void symbol_jit_rest(void); /* a second is over */
/* The file that is mapped at the address, and how far into it that is; false: none. */
bool symbol_mapped_file(int32_t pid, uint64_t address, char *path, size_t room, uint64_t *offset);

#endif
