/*
 * symbol.c - see symbol.h.
 *
 * Context: sink thread
 * Failure: no file, no symbol, no memory: the object's name and the address in it.
 *
 * An object's file is opened for its first frame and closed with the second's other ones (symbols_rest), so that the
 * symbol table of a large binary is not held while nothing new is sampled. Names found stay, in a small table.
 */
#include "collector/symbol.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OBJECTS_MOST 8192u
#define KNOWN 8192u    /* names found lately, by hash */
#define OPEN_MOST 8    /* files at once */

struct object {
    char *path; /* NULL: not told, or made code */
    struct symbol_file *file;
    int32_t pid;
    uint16_t build_id_len;
    uint8_t build_id[20];
    bool told, jit, tried, replaced; /* tried: to open it, in vain */
};

struct known {
    uint64_t address;
    uint32_t object; /* 0: none */
    char *text;
};

struct symbols {
    bool live;
    struct object *object; /* [OBJECTS_MOST] by number */
    struct known known[KNOWN];
    int open;
    union {
        struct row row;
        uint8_t bytes[ROW_MAX_BYTES];
    } out;
};

struct symbols *symbols_new(bool live)
{
    struct symbols *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    s->live = live;
    s->object = calloc(OBJECTS_MOST, sizeof *s->object);
    if (!s->object) {
        free(s);
        return NULL;
    }
    unsetenv("DEBUGINFOD_URLS"); /* elfutils would ask the network */
    return s;
}

static void close_object(struct symbols *s, struct object *o)
{
    if (!o->file)
        return;
    symbol_file_close(o->file);
    o->file = NULL;
    s->open--;
}

static void close_all(struct symbols *s)
{
    for (uint32_t i = 0; s->open && i < OBJECTS_MOST; i++)
        close_object(s, &s->object[i]);
}

void symbols_rest(struct symbols *s)
{
    symbol_jit_rest();
    symbol_file_rest();
    close_all(s);
}

void symbols_free(struct symbols *s)
{
    if (!s)
        return;
    symbols_rest(s);
    for (uint32_t i = 0; i < OBJECTS_MOST; i++)
        free(s->object[i].path);
    for (uint32_t i = 0; i < KNOWN; i++)
        free(s->known[i].text);
    free(s->object);
    free(s);
}

/* --- text --------------------------------------------------------------------------------------------------------------- */

/* No control characters; a `<` between blanks would end the frame. */
void frame_add(struct frame_text *t, const char *from, size_t len)
{
    for (size_t i = 0; i < len && t->len + 1 < t->room; i++) {
        unsigned char c = (unsigned char)from[i];
        if (c < ' ' || c == 0x7f)
            c = '?';
        if (c == '<' && i && from[i - 1] == ' ' && i + 1 < len && from[i + 1] == ' ')
            c = '(';
        t->at[t->len++] = (char)c;
    }
    t->at[t->len] = 0;
}

static void add(struct frame_text *t, const char *from)
{
    size_t len = strlen(from);
    if (len + t->len + 1 > t->room)
        len = t->room - t->len - 1;
    memcpy(t->at + t->len, from, len);
    t->len += len;
    t->at[t->len] = 0;
}

static const char *base_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash && slash[1] ? slash + 1 : path;
}

static void add_offset(struct frame_text *t, const char *path, uint64_t address, const char *why)
{
    char number[32];
    snprintf(number, sizeof number, "+0x%" PRIx64, address);
    frame_add(t, base_of(path), strlen(base_of(path)));
    add(t, number);
    add(t, why);
}

/* --- objects ------------------------------------------------------------------------------------------------------------ */

void symbols_object(struct symbols *s, const struct row *row)
{
    const struct row_object *r = (const void *)(row + 1);
    if (!r->object || r->object >= OBJECTS_MOST || r->build_id_len > sizeof r->build_id)
        return;
    struct object *o = &s->object[r->object];
    close_object(s, o);
    free(o->path);
    *o = (struct object){.pid = r->pid, .build_id_len = r->build_id_len, .told = true, .jit = r->jit};
    memcpy(o->build_id, r->build_id, sizeof o->build_id);
    if (!r->jit)
        o->path = strndup((const char *)(r + 1), r->path_len);
}

/* Through the process, where it sees other files than we do (a container, a file since replaced). */
static struct symbol_file *open_through(const struct symbols *s, struct object *o, bool *replaced)
{
    char path[4200];
    struct symbol_file *f = symbol_file_open(o->path, o->build_id, o->build_id_len, replaced);
    if (f || !s->live || o->pid <= 0)
        return f;
    snprintf(path, sizeof path, "/proc/%d/root%s", o->pid, o->path);
    return symbol_file_open(path, o->build_id, o->build_id_len, replaced);
}

static struct symbol_file *file_of(struct symbols *s, struct object *o)
{
    if (o->file || o->tried || !o->path)
        return o->file;
    if (s->open >= OPEN_MOST)
        close_all(s);
    bool replaced = false;
    o->file = open_through(s, o, &replaced);
    o->tried = !o->file;
    o->replaced = !o->file && replaced;
    s->open += o->file != NULL;
    return o->file;
}

/* --- frames ------------------------------------------------------------------------------------------------------------- */

/* No event told of a file there: made code, or the event was lost, or another collector had it. */
static void name_made_code(const struct symbols *s, const struct object *o, uint64_t address, struct frame_text *t)
{
    char path[4096];
    uint64_t offset, in_file;
    if (symbol_jit_find(o->pid, s->live, address, t))
        return;
    if (!s->live || !symbol_mapped_file(o->pid, address - 1, path, sizeof path, &offset)) {
        add(t, "[jit]");
        return;
    }
    bool replaced = false;
    struct symbol_file *f = symbol_file_open(path, NULL, 0, &replaced);
    if (!f || !symbol_file_address(f, offset, &in_file))
        add_offset(t, path, offset + 1, " (in file)");
    else if (!symbol_file_find(f, in_file + 1, t))
        add_offset(t, path, in_file + 1, "");
    if (f)
        symbol_file_close(f);
}

static void name_frame(struct symbols *s, const struct frame *frame, struct frame_text *t)
{
    struct object *o = frame->object < OBJECTS_MOST ? &s->object[frame->object] : NULL;
    if (!o || !o->told) {
        add_offset(t, "[unknown]", frame->address, "");
    } else if (o->jit) {
        name_made_code(s, o, frame->address, t);
    } else {
        struct symbol_file *f = file_of(s, o);
        if (!f || !symbol_file_find(f, frame->address, t))
            add_offset(t, o->path ? o->path : "?", frame->address, o->replaced ? " (file replaced)" : "");
    }
}

/* Made code without a name is asked for again: its map may grow. */
static const char *text_of(struct symbols *s, const struct frame *frame)
{
    uint64_t hash = (frame->address ^ (uint64_t)frame->object << 48) * UINT64_C(0x9e3779b97f4a7c15);
    struct known *k = &s->known[hash >> 40 & (KNOWN - 1)];
    char room[SYMBOL_TEXT] = "";
    struct frame_text t = {room, 0, sizeof room};
    if (k->text && k->object == frame->object && k->address == frame->address)
        return k->text;
    name_frame(s, frame, &t);
    if (!strcmp(room, "[jit]"))
        return "[jit]";
    free(k->text);
    *k = (struct known){frame->address, frame->object, strdup(room)};
    return k->text ? k->text : "?";
}

const struct row *symbols_stack(struct symbols *s, const struct row *row)
{
    const struct row_frames *from = (const void *)(row + 1);
    const struct frame *frame = (const void *)(from + 1);
    struct row_stack *r = (void *)(&s->out.row + 1);
    size_t fixed = sizeof *row + sizeof *r;
    struct frame_text t = {(char *)(r + 1), 0, sizeof s->out.bytes - fixed - 8};
    t.at[0] = 0;
    for (uint16_t i = 0; i < from->frames; i++) {
        if (i)
            add(&t, " < ");
        add(&t, text_of(s, &frame[i]));
    }
    if (!from->frames)
        add(&t, "[not walked]");
    *r = (struct row_stack){.stack = from->stack, .text_len = (uint16_t)t.len, .end = from->end};
    s->out.row = (struct row){.kind = ROW_STACK, .bytes = (uint16_t)((fixed + t.len + 7) & ~(size_t)7), .sequence = row->sequence};
    return &s->out.row;
}
