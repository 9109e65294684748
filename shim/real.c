/*
 * real.c - finds the real functions by walking the loader's list of objects.
 *
 * In:      first calls, lifecycle.c.            Out: nothing; reads ELF tables of loaded objects.
 * Context: I
 * Failure: see real.h.
 *
 * The order is the loader's: objects after ours first (what RTLD_NEXT would give), then those before ours (we may have
 * been loaded late). Of several versions of a name the default one is taken, as dlsym would.
 */
#define _GNU_SOURCE
#include "shim/real.h"

#include <elf.h>
#include <errno.h>
#include <link.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>

#include "wire/atomics.h"
#include "wire/raw.h"

/* libc's prototypes and our table must say the same; a difference would be a crash in somebody's server */
#define CHECK(name)                                                                                                    \
    _Static_assert(__builtin_types_compatible_p(__typeof__(&name), __typeof__(real.name)), "prototype of " #name);
#define CALL(group, type, name, parameters, arguments, need, fallback) CHECK(name)
#define HAND(group, type, name, parameters, arguments, need, fallback) CHECK(name)
#define VARIADIC(group, type, name, prototype, parameters, arguments, need, fallback) CHECK(name)
#define TAIL(group, type, name, parameters, need) CHECK(name)
#include "shim/symbols.h"
#undef CALL
#undef HAND
#undef VARIADIC
#undef TAIL

/* --- when there is no original ---------------------------------------------------------------------------------- */

static long answer(long result)
{
    if (!raw_failed(result))
        return result;
    errno = (int)-result;
    return -1;
}

#define RAW(...) raw_words((const long[7]){__VA_ARGS__})
#define ABSENT answer(-ENOSYS)
#define LATER(name) later(#name, (const long[6]){a, b, c, d, e, f})

static inline long raw_words(const long w[7])
{
    return answer(raw6(w[0], w[1], w[2], w[3], w[4], w[5], w[6]));
}

/*
 * A name that no object had at the start: an object that came since may have it. A thread that waits must not be told that
 * it did not, so this is asked at each call. pthread functions return their error, others that come here rarely do not.
 */
static long later(const char *name, const long w[6])
{
    long (*found)(long, long, long, long, long, long) =
        (long (*)(long, long, long, long, long, long))real_find(name, NULL);
    return found ? found(w[0], w[1], w[2], w[3], w[4], w[5]) : ENOSYS;
}

/* Copies that live until the calling expression ends, one of a kind in each. */
#define copy_limit(at) ((at) ? (long)memcpy(&(struct timespec){0, 0}, (const void *)(at), sizeof(struct timespec)) : 0)
#define mask_and_size(at) ((long)(long[2]){(at), 8})

#define WORDS long a, long b, long c, long d, long e, long f
#define FALLBACK(name, expression)                                                                                     \
    static long fallback_##name(WORDS)                                                                                 \
    {                                                                                                                  \
        (void)a, (void)b, (void)c, (void)d, (void)e, (void)f;                                                          \
        return expression;                                                                                             \
    }
#define CALL(group, type, name, parameters, arguments, need, fallback) FALLBACK(name, fallback)
#define HAND(group, type, name, parameters, arguments, need, fallback) FALLBACK(name, fallback)
#define VARIADIC(group, type, name, prototype, parameters, arguments, need, fallback) FALLBACK(name, fallback)
#define TAIL(group, type, name, parameters, need)
#include "shim/symbols.h"
#undef CALL
#undef HAND
#undef VARIADIC
#undef TAIL

/* --- first calls ------------------------------------------------------------------------------------------------ */

#define CALL(group, type, name, parameters, arguments, need, fallback)                                                 \
    static type first_##name parameters                                                                                \
    {                                                                                                                  \
        real_resolve();                                                                                                \
        return real.name arguments;                                                                                    \
    }
#define HAND(group, type, name, parameters, arguments, need, fallback)                                                 \
    CALL(group, type, name, parameters, arguments, need, fallback)
#define VARIADIC(group, type, name, prototype, parameters, arguments, need, fallback)                                  \
    CALL(group, type, name, parameters, arguments, need, fallback)
#define TAIL(group, type, name, parameters, need)
#include "shim/symbols.h"
#undef CALL
#undef HAND
#undef VARIADIC
#undef TAIL

/* One with a fixed third argument serves a variadic function too: the same registers on every machine we build for. */
#define CALL(group, type, name, parameters, arguments, need, fallback) .name = first_##name,
#define HAND(group, type, name, parameters, arguments, need, fallback) .name = first_##name,
#define VARIADIC(group, type, name, prototype, parameters, arguments, need, fallback)                                  \
    .name = (type(*) prototype)(void *)first_##name,
#define TAIL(group, type, name, parameters, need)
struct real real = {
#include "shim/symbols.h"
};
#undef CALL
#undef HAND
#undef VARIADIC
#undef TAIL

#define CALL(group, type, name, parameters, arguments, need, fallback)
#define HAND(group, type, name, parameters, arguments, need, fallback)
#define VARIADIC(group, type, name, prototype, parameters, arguments, need, fallback)
#define TAIL(group, type, name, parameters, need) void *real_tail_##name;
#include "shim/symbols.h"
#undef CALL
#undef HAND
#undef VARIADIC
#undef TAIL

/* --- the objects ------------------------------------------------------------------------------------------------ */

struct object {
    const struct link_map *map;
    const ElfW(Sym) *symbol;
    const char *string;
    const uint16_t *version; /* NULL: no versions */
    const uint32_t *gnu_hash;
    const uint32_t *hash;
};

extern struct r_debug _r_debug __attribute__((weak));
extern const ElfW(Dyn) own_dynamic[] __asm__("_DYNAMIC") __attribute__((visibility("hidden")));

/* The list's head: where glibc exports it, else by the executable's own DT_DEBUG. */
static const struct link_map *first_object(void)
{
    if (&_r_debug)
        return _r_debug.r_map;
    const ElfW(Phdr) *p = (const ElfW(Phdr) *)getauxval(AT_PHDR);
    uintptr_t base = 0;
    const ElfW(Dyn) *d = NULL;
    for (unsigned long i = 0, n = p ? getauxval(AT_PHNUM) : 0; i < n; i++) {
        if (p[i].p_type == PT_PHDR)
            base = (uintptr_t)p - p[i].p_vaddr;
        if (p[i].p_type == PT_DYNAMIC)
            d = (const ElfW(Dyn) *)(base + p[i].p_vaddr);
    }
    for (; d && d->d_tag != DT_NULL; d++)
        if (d->d_tag == DT_DEBUG && d->d_un.d_ptr)
            return ((const struct r_debug *)d->d_un.d_ptr)->r_map;
    return NULL;
}

/* glibc turns the addresses in a dynamic section into absolute ones, for the vDSO and elsewhere they are offsets. */
static const void *table_at(const struct link_map *map, ElfW(Addr) at)
{
    return (const void *)(at < map->l_addr ? at + map->l_addr : at);
}

static bool object_init(struct object *o, const struct link_map *map)
{
    memset(o, 0, sizeof *o);
    o->map = map;
    for (const ElfW(Dyn) *d = map->l_ld; d && d->d_tag != DT_NULL; d++) {
        const void *at = table_at(map, d->d_un.d_ptr);
        switch (d->d_tag) {
        case DT_SYMTAB: o->symbol = at; break;
        case DT_STRTAB: o->string = at; break;
        case DT_VERSYM: o->version = at; break;
        case DT_GNU_HASH: o->gnu_hash = at; break;
        case DT_HASH: o->hash = at; break;
        default: break;
        }
    }
    return o->symbol && o->string && (o->gnu_hash || o->hash);
}

static bool is_it(const struct object *o, uint32_t index, const char *name)
{
    const ElfW(Sym) *s = &o->symbol[index];
    unsigned type = ELF64_ST_TYPE(s->st_info);
    if (s->st_shndx == SHN_UNDEF || !s->st_value || (o->version && o->version[index] & 0x8000))
        return false;
    if (type != STT_FUNC && type != STT_GNU_IFUNC && type != STT_NOTYPE && type != STT_OBJECT)
        return false;
    return !strcmp(o->string + s->st_name, name);
}

static uint32_t gnu_hash_of(const char *name)
{
    uint32_t h = 5381;
    for (const unsigned char *c = (const unsigned char *)name; *c; c++)
        h = h * 33 + *c;
    return h;
}

static const ElfW(Sym) *find_by_gnu_hash(const struct object *o, const char *name, uint32_t h)
{
    uint32_t buckets = o->gnu_hash[0], offset = o->gnu_hash[1], words = o->gnu_hash[2], shift = o->gnu_hash[3];
    const ElfW(Addr) *bloom = (const ElfW(Addr) *)(const void *)&o->gnu_hash[4];
    const uint32_t *bucket = (const uint32_t *)(const void *)&bloom[words], *chain = &bucket[buckets];
    const unsigned bits = 8 * sizeof(ElfW(Addr));
    if (!buckets || !words)
        return NULL;
    ElfW(Addr) word = bloom[h / bits % words];
    if (!(word >> h % bits & 1) || !(word >> (h >> shift) % bits & 1))
        return NULL;
    uint32_t i = bucket[h % buckets];
    if (i < offset)
        return NULL;
    for (;; i++) {
        uint32_t other = chain[i - offset];
        if ((other | 1) == (h | 1) && is_it(o, i, name))
            return &o->symbol[i];
        if (other & 1)
            return NULL;
    }
}

static const ElfW(Sym) *find_by_hash(const struct object *o, const char *name)
{
    uint32_t buckets = o->hash[0], h = 0;
    const uint32_t *bucket = &o->hash[2], *chain = &bucket[buckets];
    for (const unsigned char *c = (const unsigned char *)name; *c; c++) {
        h = (h << 4) + *c;
        h = (h ^ (h >> 24 & 0xf0)) & 0x0fffffff;
    }
    for (uint32_t i = buckets ? bucket[h % buckets] : 0; i; i = chain[i])
        if (is_it(o, i, name))
            return &o->symbol[i];
    return NULL;
}

static void *address_of(const struct object *o, const ElfW(Sym) *s)
{
    uintptr_t at = o->map->l_addr + s->st_value;
    if (ELF64_ST_TYPE(s->st_info) == STT_GNU_IFUNC)
        return ((void *(*)(void))at)();
    return (void *)at; // NOLINT(performance-no-int-to-ptr): an address from the symbol table
}

static void *object_find(const struct object *o, const char *name, uint32_t h)
{
    const ElfW(Sym) *s = o->gnu_hash ? find_by_gnu_hash(o, name, h) : find_by_hash(o, name);
    return s ? address_of(o, s) : NULL;
}

static const struct link_map *own_map(const struct link_map *map)
{
    while (map && map->l_ld != own_dynamic)
        map = map->l_next;
    return map;
}

/* Calls `visit` on each object, those after ours first, until it says true. */
typedef bool (*visit_fn)(const struct object *, void *to);
static void each_object(visit_fn visit, void *to)
{
    const struct link_map *first = first_object(), *own = own_map(first);
    struct object o;
    for (const struct link_map *m = own ? own->l_next : first; m; m = m->l_next)
        if (object_init(&o, m) && visit(&o, to))
            return;
    for (const struct link_map *m = first; own && m != own; m = m->l_next)
        if (object_init(&o, m) && visit(&o, to))
            return;
}

/* --- the first pass --------------------------------------------------------------------------------------------- */

struct row {
    const char *name;
    void **pointer;
    void *fallback;
};

#define CALL(group, type, name, parameters, arguments, need, fallback)                                                 \
    {#name, (void **)(void *)&real.name, (void *)fallback_##name},
#define HAND(group, type, name, parameters, arguments, need, fallback)                                                 \
    CALL(group, type, name, parameters, arguments, need, fallback)
#define VARIADIC(group, type, name, prototype, parameters, arguments, need, fallback)                                  \
    CALL(group, type, name, parameters, arguments, need, fallback)
#define TAIL(group, type, name, parameters, need) {#name, (void **)(void *)&real.name, NULL},
static const struct row rows[] = {
#include "shim/symbols.h"
};
#undef CALL
#undef HAND
#undef VARIADIC
#undef TAIL

#define ROWS (sizeof rows / sizeof *rows)

struct pass {
    uint64_t found[(ROWS + 63) / 64];
    size_t left;
};

static bool resolve_in(const struct object *o, void *to)
{
    struct pass *p = to;
    for (size_t i = 0; i < ROWS && p->left; i++) {
        if (p->found[i / 64] >> i % 64 & 1)
            continue;
        void *at = object_find(o, rows[i].name, gnu_hash_of(rows[i].name));
        if (!at)
            continue;
        store_relaxed(rows[i].pointer, at);
        p->found[i / 64] |= UINT64_C(1) << i % 64;
        p->left--;
    }
    return !p->left;
}

#define CALL(group, type, name, parameters, arguments, need, fallback)
#define HAND(group, type, name, parameters, arguments, need, fallback)
#define VARIADIC(group, type, name, prototype, parameters, arguments, need, fallback)
#define TAIL(group, type, name, parameters, need) store_relaxed(&real_tail_##name, (void *)real.name);
static void copy_tails(void)
{
#include "shim/symbols.h"
}
#undef CALL
#undef HAND
#undef VARIADIC
#undef TAIL

static uint32_t resolved;

void real_resolve(void)
{
    if (load_acquire(&resolved))
        return;
    struct pass p = {{0}, ROWS};
    each_object(resolve_in, &p);
    for (size_t i = 0; i < ROWS; i++)
        if (!(p.found[i / 64] >> i % 64 & 1))
            store_relaxed(rows[i].pointer, rows[i].fallback);
    copy_tails();
    store_release(&resolved, 1);
}

struct wanted {
    const char *name;
    uint32_t hash;
    void *at;
    uintptr_t object;
};

static bool find_in(const struct object *o, void *to)
{
    struct wanted *w = to;
    w->at = object_find(o, w->name, w->hash);
    w->object = o->map->l_addr;
    return w->at != NULL;
}

void *real_find(const char *name, uintptr_t *object)
{
    struct wanted w = {name, gnu_hash_of(name), NULL, 0};
    each_object(find_in, &w);
    if (object)
        *object = w.at ? w.object : 0;
    return w.at;
}

/* An executable that is not position-independent may hold a jump under the name: that is no definition (SHN_UNDEF). */
bool real_is_hidden(const char *name)
{
    const struct link_map *first = first_object(), *own = own_map(first);
    struct object o;
    for (const struct link_map *m = first; own && m != own; m = m->l_next)
        if (object_init(&o, m) && object_find(&o, name, gnu_hash_of(name)))
            return true;
    return false;
}

/* --- withdrawn names --------------------------------------------------------------------------------------------- */

extern const ElfW(Ehdr) own_header __asm__("__ehdr_start") __attribute__((visibility("hidden")));

/* No code may stand in the pages that become writable for a moment. */
static bool is_data_only(uintptr_t from, uintptr_t to)
{
    uintptr_t base = (uintptr_t)&own_header;
    const ElfW(Phdr) *p = (const ElfW(Phdr) *)(const void *)((const char *)&own_header + own_header.e_phoff);
    for (unsigned i = 0; i < own_header.e_phnum; i++)
        if (p[i].p_type == PT_LOAD && !(p[i].p_flags & (PF_X | PF_W)) && base + p[i].p_vaddr <= from &&
            to <= ((base + p[i].p_vaddr + p[i].p_memsz + 4095) & ~(uintptr_t)4095))
            return true;
    return false;
}

/* A symbol without a value is no definition: one store each, so that a look-up at this moment sees it or not. */
static void forget(const struct object *own, const char *const *names, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const ElfW(Sym) *s = own->gnu_hash ? find_by_gnu_hash(own, names[i], gnu_hash_of(names[i]))
                                           : find_by_hash(own, names[i]);
        if (s)
            store_relaxed((ElfW(Addr) *)(uintptr_t)&s->st_value, (ElfW(Addr))0);
    }
}

bool real_withdraw(const char *const *names, size_t count)
{
    const struct link_map *map = own_map(first_object());
    struct object own;
    if (!map || !object_init(&own, map))
        return false;
    /* the symbol table ends where the string table begins, in every linker's layout; else nothing is done */
    uintptr_t from = (uintptr_t)own.symbol & ~(uintptr_t)4095, to = ((uintptr_t)own.string + 4095) & ~(uintptr_t)4095;
    if (to <= from || !is_data_only(from, to) ||
        raw3(SYS_mprotect, (long)from, (long)(to - from), PROT_READ | PROT_WRITE))
        return false;
    forget(&own, names, count);
    raw3(SYS_mprotect, (long)from, (long)(to - from), PROT_READ);
    return true;
}
