/*
 * symbol_file.c - functions at addresses of an ELF file: DWARF with what was inlined, else its symbol table, else
 * .dynsym; separate debug files by build id and .gnu_debuglink. All of it by elfutils' libdwfl.
 *
 * Context: sink thread
 * Failure: damaged or missing files have no symbols. Debug data that would take too much memory is not read: then the
 * symbol table names the function, without what was inlined.
 */
#include <dlfcn.h>
#include <elfutils/libdwfl.h>
#include <dwarf.h>
#include <fcntl.h>
#include <gelf.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "collector/symbol.h"

#define DEBUG_MOST (24u << 20)    /* bytes of .debug_info that are read */
#define UNPACKED_MOST (32u << 20) /* of all debug sections that are compressed: libdw unpacks them at once */
#define INLINED_MOST 8
#define LOOKS_MOST 250 /* at DWARF in a second of the stream, 3 ms each in a libpython; by count, so that a replay is equal */

static unsigned looks; /* sink thread only */

struct place { /* a function of the symbol table */
    GElf_Addr address;
    uint32_t size, index;
};

struct symbol_file {
    Dwfl *dwfl;
    struct place *place; /* by address, one for each; libdw's own search looks at every symbol for every frame: 2 ms in Node */
    size_t places;
    bool places_tried;
    Dwfl_Module *module;
    GElf_Addr bias; /* address in the module = address in the file + bias */
    bool dwarf_tried, dwarf;
    bool costly; /* the debug file beside it is too large */
};

/* --- debug data --------------------------------------------------------------------------------------------------------- */

struct debug_bytes {
    uint64_t info, unpacked;
    bool symtab;
};

static struct debug_bytes debug_bytes(Elf *elf)
{
    struct debug_bytes sum = {0};
    size_t names;
    Elf_Scn *section = NULL;
    if (!elf || elf_getshdrstrndx(elf, &names))
        return sum;
    while ((section = elf_nextscn(elf, section))) {
        GElf_Shdr h;
        GElf_Chdr c;
        const char *name = gelf_getshdr(section, &h) ? elf_strptr(elf, names, h.sh_name) : NULL;
        if (!name)
            continue;
        bool packed = h.sh_flags & SHF_COMPRESSED && gelf_getchdr(section, &c);
        uint64_t bytes = packed ? c.ch_size : h.sh_size;
        sum.symtab |= h.sh_type == SHT_SYMTAB;
        if (!strcmp(name, ".debug_info"))
            sum.info += bytes;
        if (packed && !strncmp(name, ".debug_", 7))
            sum.unpacked += bytes;
    }
    return sum;
}

static bool is_costly(struct debug_bytes b)
{
    return b.info > DEBUG_MOST || b.unpacked > UNPACKED_MOST;
}

/* A costly one gives its symbol table; has_dwarf, which asked for that first, then knows to go no further. */
static int find_debuginfo(Dwfl_Module *m, void **file, const char *name, Dwarf_Addr base, const char *path,
                          const char *link, GElf_Word crc, char **found)
{
    struct symbol_file *f = *file;
    int fd = dwfl_standard_find_debuginfo(m, file, name, base, path, link, crc, found);
    if (fd < 0 || !f)
        return fd;
    Elf *elf = elf_begin(fd, ELF_C_READ_MMAP, NULL);
    f->costly = is_costly(debug_bytes(elf));
    elf_end(elf);
    return fd;
}

static char *debug_path;
static const Dwfl_Callbacks callbacks = {
    .find_elf = dwfl_build_id_find_elf,
    .find_debuginfo = find_debuginfo,
    .section_address = dwfl_offline_section_address,
    .debuginfo_path = &debug_path,
};

/* --- files -------------------------------------------------------------------------------------------------------------- */

static bool is_same(Dwfl_Module *m, const uint8_t *build_id, size_t len)
{
    const unsigned char *bits;
    GElf_Addr at;
    int n = dwfl_module_build_id(m, &bits, &at);
    return !len || (n == (int)len && !memcmp(bits, build_id, len));
}

struct symbol_file *symbol_file_open(const char *path, const uint8_t *build_id, size_t len, bool *replaced)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return NULL;
    struct symbol_file *f = fstat(fd, &st) == 0 && S_ISREG(st.st_mode) ? calloc(1, sizeof *f) : NULL;
    if (!f || !(f->dwfl = dwfl_begin(&callbacks))) {
        close(fd);
        free(f);
        return NULL;
    }
    f->module = dwfl_report_offline(f->dwfl, path, path, fd); /* takes the descriptor when it succeeds */
    if (!f->module)
        close(fd);
    dwfl_report_end(f->dwfl, NULL, NULL);
    if (f->module && dwfl_module_getelf(f->module, &f->bias) && is_same(f->module, build_id, len))
        return f;
    *replaced |= f->module != NULL;
    symbol_file_close(f);
    return NULL;
}

void symbol_file_close(struct symbol_file *f)
{
    free(f->place);
    dwfl_end(f->dwfl);
    free(f);
}

bool symbol_file_address(struct symbol_file *f, uint64_t offset, uint64_t *address)
{
    GElf_Addr bias;
    Elf *elf = dwfl_module_getelf(f->module, &bias);
    size_t n = 0;
    if (!elf || elf_getphdrnum(elf, &n))
        return false;
    for (size_t i = 0; i < n; i++) {
        GElf_Phdr p;
        if (!gelf_getphdr(elf, (int)i, &p) || p.p_type != PT_LOAD || offset - p.p_offset >= p.p_filesz)
            continue;
        *address = offset - p.p_offset + p.p_vaddr;
        return true;
    }
    return false;
}

/* --- names -------------------------------------------------------------------------------------------------------------- */

/* C++ names: libstdc++ knows how, if this machine has it; nothing of ours is linked with C++. */
static char *demangled(const char *name)
{
    static char *(*demangle)(const char *, char *, size_t *, int *);
    static bool tried;
    int status = 0;
    if (name[0] != '_' || name[1] != 'Z' || strlen(name) > 1000)
        return NULL;
    if (!tried) {
        void *library = dlopen("libstdc++.so.6", RTLD_NOW | RTLD_LOCAL);
        if (library)
            *(void **)(void *)&demangle = dlsym(library, "__cxa_demangle");
        tried = true;
    }
    return demangle ? demangle(name, NULL, NULL, &status) : NULL;
}

static void add_name(struct frame_text *t, const char *name, bool inlined)
{
    char *plain = demangled(name);
    const char *shown = plain ? plain : name;
    size_t len = strlen(shown), most = SYMBOL_TEXT / 2;
    if (len > most)
        len = most;
    if (t->len + len + sizeof " < (inlined) " < t->room) {
        if (t->len) {
            memcpy(t->at + t->len, " < ", 3);
            t->len += 3;
        }
        frame_add(t, shown, len);
        if (inlined)
            frame_add(t, " (inlined)", 10);
    }
    free(plain);
}

static const char *die_name(Dwarf_Die *die)
{
    Dwarf_Attribute a;
    const char *name = NULL;
    if (dwarf_attr_integrate(die, DW_AT_linkage_name, &a) || dwarf_attr_integrate(die, DW_AT_MIPS_linkage_name, &a))
        name = dwarf_formstring(&a);
    return name ? name : dwarf_diename(die);
}

/* --- DWARF -------------------------------------------------------------------------------------------------------------- */

static bool has_dwarf(struct symbol_file *f)
{
    if (f->dwarf_tried)
        return f->dwarf;
    GElf_Addr bias;
    void **file;
    f->dwarf_tried = true;
    struct debug_bytes own = debug_bytes(dwfl_module_getelf(f->module, &bias));
    if (dwfl_module_info(f->module, &file, NULL, NULL, NULL, NULL, NULL, NULL))
        *file = f;
    if (is_costly(own) || (!own.info && own.symtab))
        return false; /* of a file that has a symbol table nobody can say how large its debug file is, but by opening it */
    dwfl_module_getsymtab(f->module);
    if (f->costly)
        return false;
    return f->dwarf = dwfl_module_getdwarf(f->module, &bias) != NULL;
}

/* The function and those inlined into it at this address; 0: DWARF has none. */
static int add_functions(struct symbol_file *f, GElf_Addr address, struct frame_text *t)
{
    Dwarf_Addr bias;
    Dwarf_Die *cu = dwfl_module_addrdie(f->module, address, &bias), *scopes = NULL, *outer = NULL;
    int n = cu ? dwarf_getscopes(cu, address - bias, &scopes) : 0, named = 0;
    /* of an inlined one the scopes beyond are those where it was written: ask where it stands */
    n = n > 0 ? dwarf_getscopes_die(&scopes[0], &outer) : 0;
    for (int i = 0; i < n && named < INLINED_MOST; i++) {
        int tag = dwarf_tag(&outer[i]);
        if (tag != DW_TAG_subprogram && tag != DW_TAG_inlined_subroutine)
            continue;
        const char *name = die_name(&outer[i]);
        if (name) {
            add_name(t, name, tag == DW_TAG_inlined_subroutine);
            named++;
        }
        if (tag == DW_TAG_subprogram)
            break;
    }
    free(scopes);
    free(outer);
    return named;
}

/* --- the symbol table --------------------------------------------------------------------------------------------------- */

#define PLACES_MOST (1 << 20)

/* Of several names of one address: the global one, then the weak one, then the first. */
static int preference(const GElf_Sym *symbol)
{
    int bind = GELF_ST_BIND(symbol->st_info);
    return bind == STB_GLOBAL ? 0 : bind == STB_WEAK ? 1 : 2;
}

static int by_address(const void *a, const void *b, void *file)
{
    const struct place *x = a, *y = b;
    struct symbol_file *f = file;
    GElf_Sym s, t;
    GElf_Addr at;
    if (x->address != y->address)
        return x->address < y->address ? -1 : 1;
    dwfl_module_getsym_info(f->module, (int)x->index, &s, &at, NULL, NULL, NULL);
    dwfl_module_getsym_info(f->module, (int)y->index, &t, &at, NULL, NULL, NULL);
    if (preference(&s) != preference(&t))
        return preference(&s) - preference(&t);
    return x->index < y->index ? -1 : x->index > y->index;
}

static bool is_function(const GElf_Sym *symbol, GElf_Word section, const char *name)
{
    int type = GELF_ST_TYPE(symbol->st_info);
    return section != SHN_UNDEF && name && name[0] && (type == STT_FUNC || type == STT_GNU_IFUNC || type == STT_NOTYPE);
}

static void read_places(struct symbol_file *f)
{
    int n = dwfl_module_getsymtab(f->module);
    f->places_tried = true;
    if (n <= 0 || n > PLACES_MOST || !(f->place = malloc((size_t)n * sizeof *f->place)))
        return;
    for (int i = 0; i < n; i++) {
        GElf_Sym symbol;
        GElf_Addr at;
        GElf_Word section = SHN_UNDEF;
        const char *name = dwfl_module_getsym_info(f->module, i, &symbol, &at, &section, NULL, NULL);
        if (is_function(&symbol, section, name))
            f->place[f->places++] = (struct place){at, symbol.st_size < UINT32_MAX ? (uint32_t)symbol.st_size : UINT32_MAX, (uint32_t)i};
    }
    qsort_r(f->place, f->places, sizeof *f->place, by_address, f);
    size_t kept = 0;
    for (size_t i = 0; i < f->places; i++)
        if (!kept || f->place[kept - 1].address != f->place[i].address)
            f->place[kept++] = f->place[i];
    f->places = kept;
}

/* The function that holds this address, which may begin before a smaller one that ends before it; one without a size reaches
 * to the next. NULL: between functions. */
static const struct place *place_at(const struct symbol_file *f, GElf_Addr at)
{
    size_t low = 0, high = f->places;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (f->place[middle].address <= at)
            low = middle + 1;
        else
            high = middle;
    }
    for (size_t i = low, looked = 0; i-- > 0 && looked < 8; looked++) {
        const struct place *p = &f->place[i];
        if (at - p->address < p->size || (!p->size && i + 1 == low))
            return p;
    }
    return NULL;
}

void symbol_file_rest(void)
{
    looks = 0;
}

bool symbol_file_find(struct symbol_file *f, uint64_t address, struct frame_text *t)
{
    GElf_Addr at = address - 1 + f->bias; /* the call, not what it returns to */
    if (looks < LOOKS_MOST && has_dwarf(f) && (looks++, add_functions(f, at, t)))
        return true;
    if (!f->places_tried)
        read_places(f);
    const struct place *p = place_at(f, at);
    GElf_Sym symbol;
    GElf_Addr begin;
    const char *name = p ? dwfl_module_getsym_info(f->module, (int)p->index, &symbol, &begin, NULL, NULL, NULL) : NULL;
    if (!name || !name[0])
        return false;
    add_name(t, name, false);
    return true;
}
