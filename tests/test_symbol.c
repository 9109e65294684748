/*
 * test_symbol.c - frames as text, of programs that are compiled here in each way that a distribution or a person does.
 *
 * The program prints return addresses of its own functions as its file counts them; those are looked up.
 */
#include <elf.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>
#include "collector/symbol.h"

static const char source[] =
    "#define _GNU_SOURCE\n"
    "#include <dlfcn.h>\n#include <link.h>\n#include <stdio.h>\n#include <stdint.h>\n#include <stdlib.h>\n"
    "static int is_here(struct dl_phdr_info *i, size_t n, void *at) {\n"
    "    uintptr_t *a = at; (void)n;\n"
    "    for (int k = 0; k < i->dlpi_phnum; k++) {\n"
    "        uintptr_t s = i->dlpi_addr + i->dlpi_phdr[k].p_vaddr;\n"
    "        if (i->dlpi_phdr[k].p_type == PT_LOAD && *a >= s && *a < s + i->dlpi_phdr[k].p_memsz)\n"
    "            { *a -= i->dlpi_addr; return 1; }\n"
    "    }\n"
    "    return 0; }\n"
    "static void tell(const char *label, uintptr_t a) {\n"
    "    dl_iterate_phdr(is_here, &a); printf(\"%s %lx\\n\", label, (unsigned long)a); }\n"
    "__attribute__((noinline)) static void where(const char *label) {\n"
    "    tell(label, (uintptr_t)__builtin_return_address(0)); }\n"
    "static inline __attribute__((always_inline)) void put_in(int n) { where(\"inlined\"); if (n) puts(\"\"); }\n"
    "__attribute__((noinline)) static void hidden(void) { where(\"hidden\"); puts(\"\"); }\n"
    "__attribute__((noinline)) void leak(int n) { where(\"leak\"); put_in(n); hidden(); }\n"
    "void cpp(int n) __asm__(\"_ZN3app4keepEi\");\n"
    "__attribute__((noinline)) void cpp(int n) { where(\"cpp\"); if (n) puts(\"\"); }\n"
    "__attribute__((noinline,noreturn)) static void stop(void) {\n"
    "    tell(\"ender\", (uintptr_t)__builtin_return_address(0)); exit(0); }\n"
    "__attribute__((noinline,noreturn,used)) void ender(void) { stop(); }\n" /* its last instruction is the call */
    "void run(int n) { leak(n); cpp(n); ender(); }\n";

static char folder[64];
static char told[4096];
static struct symbols *symbols;

__attribute__((format(printf, 1, 2))) static void sh(const char *format, ...)
{
    char command[2048];
    va_list ap;
    va_start(ap, format);
    vsnprintf(command, sizeof command, format, ap);
    va_end(ap);
    if (system(command) != 0)
        fail_msg("%s", command);
}

static void write_file(const char *name, const char *text)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static int begin(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/sonde-symbol-XXXXXX");
    assert_non_null(mkdtemp(folder));
    write_file("code.c", source);
    write_file("main.c", "void run(int n);\nint main(int c, char **v) { (void)v; run(c - 1); return 0; }\n");
    symbols = symbols_new(false);
    assert_non_null(symbols);
    return 0;
}

static int end(void **state)
{
    (void)state;
    symbols_free(symbols);
    sh("rm -rf %s", folder);
    return 0;
}

/* Runs it and keeps what it prints. */
static void run(const char *program)
{
    char command[256];
    snprintf(command, sizeof command, "cd %s && LD_LIBRARY_PATH=. ./%s", folder, program);
    FILE *p = popen(command, "r");
    assert_non_null(p);
    size_t n = fread(told, 1, sizeof told - 1, p);
    told[n] = 0;
    assert_int_equal(pclose(p), 0);
}

static uint64_t address_of(const char *label)
{
    char *at = strstr(told, label);
    assert_non_null(at);
    return strtoull(at + strlen(label) + 1, NULL, 16);
}

/* --- rows --------------------------------------------------------------------------------------------------------------- */

union room {
    struct row row;
    uint8_t bytes[8192];
};
static uint32_t objects;

static uint32_t object_named(const char *path, const uint8_t *build_id, int32_t pid)
{
    static union room room;
    memset(&room, 0, sizeof room);
    struct row_object *r = (void *)(&room.row + 1);
    r->object = ++objects;
    r->pid = pid;
    r->jit = !path;
    if (build_id) {
        memcpy(r->build_id, build_id, 20);
        r->build_id_len = 20;
    }
    r->path_len = path ? (uint16_t)strlen(path) : 0;
    memcpy(r + 1, path ? path : "", r->path_len);
    symbols_object(symbols, &room.row);
    return r->object;
}

static const char *text_of(const struct frame *frames, uint16_t n)
{
    static union room room;
    static char text[ROW_MAX_BYTES];
    struct row_frames *r = (void *)(&room.row + 1);
    room.row.kind = ROW_FRAMES;
    *r = (struct row_frames){.stack = 7, .frames = n};
    memcpy(r + 1, frames, n * sizeof *frames);
    const struct row *row = symbols_stack(symbols, &room.row);
    const struct row_stack *s = (const void *)(row + 1);
    assert_int_equal(row->kind, ROW_STACK);
    assert_int_equal(s->stack, 7);
    assert_true(row->bytes % 8 == 0 && sizeof *row + sizeof *s + s->text_len <= row->bytes);
    snprintf(text, sizeof text, "%.*s", (int)s->text_len, (const char *)(s + 1));
    return text;
}

/* The frame at a label of the program that ran last, looked up in `file`. */
static const char *frame_in(const char *file, const char *label)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, file);
    return text_of(&(struct frame){.object = object_named(path, NULL, 0), .address = address_of(label)}, 1);
}

/* --- tests -------------------------------------------------------------------------------------------------------------- */

static void test_a_position_independent_program(void **state)
{
    (void)state;
    sh("cd %s && cc -O2 -fPIE -pie -o pie code.c main.c", folder);
    run("pie");
    assert_string_equal(frame_in("pie", "leak"), "leak");
    assert_string_equal(frame_in("pie", "hidden"), "hidden");
    assert_string_equal(frame_in("pie", "ender"), "ender"); /* it returns to the function behind it */
}

static void test_a_program_at_a_fixed_address(void **state)
{
    (void)state;
    sh("cd %s && cc -O2 -fno-pie -no-pie -o fixed code.c main.c", folder);
    run("fixed");
    assert_true(address_of("leak") >= 0x400000);
    assert_string_equal(frame_in("fixed", "leak"), "leak");
}

static void test_what_was_inlined_stands_before_its_function(void **state)
{
    (void)state;
    sh("cd %s && cc -g -O2 -o debug code.c main.c", folder);
    run("debug");
    assert_string_equal(frame_in("debug", "inlined"), "put_in (inlined) < leak");
    assert_string_equal(frame_in("debug", "leak"), "leak");
}

static void test_a_shared_object_stripped_to_its_exported_names(void **state)
{
    (void)state;
    sh("cd %s && cc -O2 -fPIC -shared -o libcode.so code.c && strip --strip-unneeded libcode.so &&"
       " cc -o with main.c -L. -lcode", folder);
    run("with");
    assert_string_equal(frame_in("libcode.so", "leak"), "leak");
    char wanted[64];
    snprintf(wanted, sizeof wanted, "libcode.so+0x%llx", (unsigned long long)address_of("hidden"));
    assert_string_equal(frame_in("libcode.so", "hidden"), wanted); /* not exported: no neighbour's name */
}

static void test_a_stripped_program_is_object_and_offset(void **state)
{
    (void)state;
    sh("cd %s && cc -O2 -o bare code.c main.c && strip bare", folder);
    run("bare");
    char wanted[64];
    snprintf(wanted, sizeof wanted, "bare+0x%llx", (unsigned long long)address_of("leak"));
    assert_string_equal(frame_in("bare", "leak"), wanted);
}

static void test_debug_data_beside_the_program(void **state)
{
    (void)state;
    sh("cd %s && cc -g -O2 -o apart code.c main.c && objcopy --only-keep-debug apart apart.debug && strip apart &&"
       " mkdir .debug && mv apart.debug .debug/ && objcopy --add-gnu-debuglink=.debug/apart.debug apart", folder);
    run("apart");
    assert_string_equal(frame_in("apart", "hidden"), "hidden");
    assert_string_equal(frame_in("apart", "inlined"), "put_in (inlined) < leak");
}

static void test_names_of_cpp_as_one_writes_them(void **state)
{
    (void)state;
    sh("cd %s && cc -O2 -o plus code.c main.c", folder);
    run("plus");
    assert_string_equal(frame_in("plus", "cpp"), "app::keep(int)");
}

static void test_a_file_that_was_replaced_names_nothing(void **state)
{
    (void)state;
    static const uint8_t other[20] = {1, 2, 3};
    char path[128], wanted[96];
    sh("cd %s && cc -O2 -Wl,--build-id -o swapped code.c main.c", folder);
    run("swapped");
    snprintf(path, sizeof path, "%s/swapped", folder);
    struct frame f = {.object = object_named(path, other, 0), .address = address_of("leak")};
    snprintf(wanted, sizeof wanted, "swapped+0x%llx (file replaced)", (unsigned long long)f.address);
    assert_string_equal(text_of(&f, 1), wanted);
}

static void test_a_file_that_is_gone_or_no_elf(void **state)
{
    (void)state;
    struct frame f = {.object = object_named("/nowhere/libx.so", NULL, 0), .address = 0x1234};
    assert_string_equal(text_of(&f, 1), "libx.so+0x1234");
    char path[128];
    snprintf(path, sizeof path, "%s/main.c", folder);
    f.object = object_named(path, NULL, 0);
    assert_string_equal(text_of(&f, 1), "main.c+0x1234");
    f.object = object_named("/dev/zero", NULL, 0);
    assert_string_equal(text_of(&f, 1), "zero+0x1234");
    f.object = 8000; /* never told */
    assert_string_equal(text_of(&f, 1), "[unknown]+0x1234");
}

static void test_made_code_by_its_map(void **state)
{
    (void)state;
    char path[64];
    int32_t pid = (int32_t)getpid();
    struct frame f = {.object = object_named(NULL, NULL, pid), .address = 0x7f0010000011};
    snprintf(path, sizeof path, "/tmp/perf-%d.map", pid);
    assert_string_equal(text_of(&f, 1), "[jit]");
    FILE *map = fopen(path, "w");
    assert_non_null(map);
    fputs("7f0010000000 20 LazyCompile:~old /app.js:1\n7f0020000000 10 other\nrubbish\n\n"
          "7f0010000000 40 LazyCompile:*leak /app.js:7\n7f0010000040 8 < next\n", map);
    fclose(map);
    assert_string_equal(text_of(&f, 1), "[jit] LazyCompile:*leak /app.js:7"); /* what had no name is asked for again */
    unlink(path);
    assert_int_equal(mkfifo(path, 0600), 0); /* nobody writes to it: it must not be waited for */
    f.address += 0x1000;
    assert_string_equal(text_of(&f, 1), "[jit]");
    unlink(path);
}

__attribute__((noinline)) static void *here(void)
{
    return __builtin_return_address(0);
}

/* The event that told of the file was lost, or another collector had it. */
static void test_a_live_process_tells_what_it_has_mapped(void **state)
{
    (void)state;
    symbols_free(symbols);
    symbols = symbols_new(true);
    struct frame f = {.object = object_named(NULL, NULL, (int32_t)getpid()), .address = (uint64_t)(uintptr_t)here()};
    assert_string_equal(text_of(&f, 1), "test_a_live_process_tells_what_it_has_mapped");
}

static void test_stacks_are_frames_in_a_row(void **state)
{
    (void)state;
    struct frame f[EVENT_FRAMES];
    uint32_t object = object_named("/lib/x.so", NULL, 0);
    for (uint64_t i = 0; i < EVENT_FRAMES; i++)
        f[i] = (struct frame){.object = object, .address = i};
    assert_string_equal(text_of(f, 2), "x.so+0x0 < x.so+0x1");
    assert_string_equal(text_of(f, 0), "[not walked]");
    assert_int_equal(strlen(text_of(f, EVENT_FRAMES)), 16 * 8 + 48 * 9 + 63 * 3);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_position_independent_program),
        TEST(test_a_program_at_a_fixed_address),
        TEST(test_what_was_inlined_stands_before_its_function),
        TEST(test_a_shared_object_stripped_to_its_exported_names),
        TEST(test_a_stripped_program_is_object_and_offset),
        TEST(test_debug_data_beside_the_program),
        TEST(test_names_of_cpp_as_one_writes_them),
        TEST(test_a_file_that_was_replaced_names_nothing),
        TEST(test_a_file_that_is_gone_or_no_elf),
        TEST(test_made_code_by_its_map),
        TEST(test_a_live_process_tells_what_it_has_mapped),
        TEST(test_stacks_are_frames_in_a_row),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
