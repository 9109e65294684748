/*
 * rule_object.c - see rule_object.h.
 *
 * Sharing: the pointer to _dl_find_object is written once, in our constructor.
 */
#define _GNU_SOURCE
#include "shim/rule_object.h"

#if defined(__x86_64__) && defined(__GLIBC__)

#include <elf.h>
#include <string.h>
#include <sys/auxv.h>

#include "shim/real.h"
#include "shim/rule.h"

static int (*find_object)(void *, struct found *);

bool object_start(void)
{
    find_object = (int (*)(void *, struct found *))real_find("_dl_find_object", NULL);
    return find_object;
}

bool object_reads(const struct object *o, uint64_t from, uint64_t bytes)
{
    for (unsigned i = 0; i < o->segments; i++)
        if (from >= o->segment[i].from && from < o->segment[i].to)
            return bytes <= o->segment[i].to - from;
    return false;
}

static void add_segment(struct object *o, uint64_t bias, const ElfW(Phdr) *p)
{
    uint64_t from = (bias + p->p_vaddr) & ~UINT64_C(4095), end = bias + p->p_vaddr + p->p_memsz;
    if (from < o->start)
        o->start = from;
    if (end > o->end)
        o->end = end;
    if (!(p->p_flags & PF_R) || o->segments == OBJECT_SEGMENTS)
        return;
    o->segment[o->segments].from = from;
    o->segment[o->segments++].to = (bias + p->p_vaddr + p->p_filesz + 4095) & ~UINT64_C(4095);
}

/* Behind an ELF header, in its first page. */
static const ElfW(Phdr) *headers_at(uint64_t at, unsigned *count)
{
    const ElfW(Ehdr) *e = (const ElfW(Ehdr) *)at; // NOLINT(performance-no-int-to-ptr)
    if (!at || at & 4095 || !rule_readable(at) || memcmp(e->e_ident, ELFMAG, SELFMAG) != 0 ||
        e->e_phentsize != sizeof(ElfW(Phdr)) || e->e_phoff > 4096 ||
        e->e_phoff + e->e_phnum * sizeof(ElfW(Phdr)) > 4096)
        return NULL;
    *count = e->e_phnum;
    return (const ElfW(Phdr) *)(const void *)((const char *)e + e->e_phoff);
}

/* The executable's are told by the kernel. An object with holes is found in parts, of which not each has the header. */
static const ElfW(Phdr) *headers_of(const struct object *o, unsigned *count)
{
    if (!o->at.map->l_prev) {
        *count = (unsigned)getauxval(AT_PHNUM);
        return (const ElfW(Phdr) *)getauxval(AT_PHDR); // NOLINT(performance-no-int-to-ptr)
    }
    const ElfW(Phdr) *p = headers_at((uint64_t)o->at.start, count);
    return p ? p : headers_at(o->at.map->l_addr, count);
}

/* None: nothing of it is read. */
static void object_segments(struct object *o)
{
    unsigned count = 0;
    uint64_t bias = o->at.map->l_addr;
    const ElfW(Phdr) *p = headers_of(o, &count);
    o->segments = 0;
    o->note = o->note_bytes = o->end = 0;
    o->start = UINT64_MAX;
    for (unsigned i = 0; p && i < count; i++) {
        if (p[i].p_type == PT_LOAD)
            add_segment(o, bias, &p[i]);
        if (p[i].p_type == PT_NOTE && p[i].p_align == 4) {
            o->note = bias + p[i].p_vaddr;
            o->note_bytes = p[i].p_filesz;
        }
    }
}

bool object_at(struct object *o, uint64_t address)
{
    if (find_object((void *)(address - 1), &o->at) || !o->at.map) // NOLINT(performance-no-int-to-ptr)
        return false;
    object_segments(o);
    return true;
}

static void find_build_id(const struct object *o, struct event_object *n)
{
    uint64_t at = o->note, end = o->note + o->note_bytes;
    if (!object_reads(o, at, o->note_bytes))
        return;
    while (at + 12 <= end) {
        uint32_t head[3]; /* bytes of name, of content, type */
        memcpy(head, (const void *)at, sizeof head); // NOLINT(performance-no-int-to-ptr)
        uint64_t content = at + 12 + ((head[0] + 3ull) & ~3ull);
        if (content + head[1] > end)
            return;
        if (head[2] == NT_GNU_BUILD_ID && head[0] == 4 && head[1] <= sizeof n->build_id) {
            memcpy(n->build_id, (const void *)content, head[1]); // NOLINT(performance-no-int-to-ptr)
            n->build_id_len = (uint16_t)head[1];
            return;
        }
        at = content + ((head[1] + 3ull) & ~3ull);
    }
}

size_t object_note(const struct object *o, struct event_object *n)
{
    const char *name = o->at.map->l_name ? o->at.map->l_name : "";
    size_t bytes = strlen(name);
    if (bytes > OBJECT_PATH_MOST)
        bytes = OBJECT_PATH_MOST;
    *n = (struct event_object){
        .start = o->start, .end = o->end, .bias = o->at.map->l_addr, .path_len = (uint16_t)bytes};
    memcpy(n->path, name, bytes);
    find_build_id(o, n);
    return sizeof *n + bytes;
}
_Static_assert(sizeof(struct event) + sizeof(struct event_block) + sizeof(struct event_object) + OBJECT_PATH_MOST <=
                   EVENT_MAX_SIZE, "an object fits in an event");

#endif
