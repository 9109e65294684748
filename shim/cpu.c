/*
 * cpu.c - see cpu.h: the section that nobody runs, and the clock itself.
 *
 * Context: cpu_attach I, the rest S.
 */
#define _GNU_SOURCE
#include "shim/cpu.h"

#include <linux/rseq.h>
#include <sys/resource.h>
#include <time.h>

#include "shim/lifecycle.h"
#include "shim/real.h"
#include "wire/raw.h"

struct cpu_state cpu;

#if defined(__x86_64__)
/* The kernel checks the signature before `abort`, with which libc registered the thread's area (RSEQ_SIG). */
__asm__(".pushsection .text\n"
        "        .long   0x53053053\n"
        "        .type   sonde_section_abort, %function\n"
        "        .hidden sonde_section_abort, sonde_section_start\n"
        "sonde_section_abort:\n"
        "        ud2\n"
        "sonde_section_start:\n"
        "        nop\n"
        "        .popsection\n");
extern char sonde_section_abort[] __attribute__((visibility("hidden")));
extern char sonde_section_start[] __attribute__((visibility("hidden")));
const struct cpu_section cpu_section = {
    .start = (uintptr_t)sonde_section_start, .length = 1, .abort = (uintptr_t)sonde_section_abort};
#define CAN_MARK true
#else
const struct cpu_section cpu_section;
#define CAN_MARK false
#endif

_Static_assert(offsetof(struct rseq, rseq_cs) == 8, "cpu_word knows this place");
_Static_assert(offsetof(struct cpu_section, start) == offsetof(struct rseq_cs, start_ip) &&
                   offsetof(struct cpu_section, length) == offsetof(struct rseq_cs, post_commit_offset) &&
                   offsetof(struct cpu_section, abort) == offsetof(struct rseq_cs, abort_ip),
               "layout of the kernel");

static bool is_registered(void)
{
    const struct rseq *area = (const void *)((const char *)__builtin_thread_pointer() + cpu.area);
    return (int32_t)area->cpu_id >= 0;
}

/* glibc registers each thread's area and tells where, unless the kernel or a tunable said no: then the size is 0. */
static bool find_area(void)
{
    const ptrdiff_t *offset = real_find("__rseq_offset", NULL);
    const unsigned *size = real_find("__rseq_size", NULL);
    if (!CAN_MARK || !offset || !size || !*size)
        return false;
    cpu.area = *offset;
    return is_registered();
}

void cpu_attach(uint32_t features)
{
    bool wanted = features & (FEATURE_CPU | FEATURE_WAITS);
    cpu.how = wanted && find_area() ? CPU_RSEQ : CPU_NONE;
    cpu.reads = cpu.how == CPU_RSEQ && features & FEATURE_CPU;
}

void cpu_shut(void)
{
    if (cpu.how != CPU_RSEQ)
        return;
    cpu.how = CPU_SHUT;
    if (cpu.reads)
        lifecycle_flag(PROCESS_NO_CPU);
}

uint64_t cpu_read(void)
{
    struct timespec t;
    if (self.cpu == CPU_READ)
        self.cpu = CPU_UNREAD; /* until the event that carries it stands */
    if (cpu.how != CPU_RSEQ || !is_registered())
        return UINT64_MAX;
    bool counted = self.waits_known && cpu_mark_stands(); /* at the end of a wait, just now */
    cpu_set_mark();
    if (raw2(SYS_clock_gettime, CLOCK_THREAD_CPUTIME_ID, (long)&t))
        return UINT64_MAX;
    if (!counted)
        self.waits_known = 0;
    if (!counted && shim.waits) /* else nobody asks for the run queue */
        cpu_count_waits();
    uint64_t ns =
        (uint64_t)t.tv_sec * UINT64_C(1000000000) + // NOLINT(clang-analyzer-core.UndefinedBinaryOperatorResult): the kernel's
        (uint64_t)t.tv_nsec;
    return ns ? ns : 1;
}

static bool read_waits(uint64_t *count)
{
    struct rusage r;
    if (cpu.how != CPU_RSEQ || raw2(SYS_getrusage, RUSAGE_THREAD, (long)&r))
        return false;
    *count = (uint64_t)r.ru_nvcsw; // NOLINT(clang-analyzer-core.uninitialized.Assign): written by the kernel
    return true;
}

void cpu_count_waits(void)
{
    self.waits_known = read_waits(&self.waits);
}

void cpu_timed_end(void)
{
    if (!cpu.reads || cpu.how != CPU_RSEQ)
        return;
    bool known = self.waits_known;
    uint64_t before = self.waits;
    if (self.cpu == CPU_READ)
        self.cpu = CPU_UNREAD;
    cpu_set_mark();
    cpu_count_waits();
    if (known && self.waits_known)
        self.waits_timed += self.waits - before;
}

enum cpu_switched cpu_has_waited(void)
{
    uint64_t now;
    if (!self.waits_known || !read_waits(&now))
        return CPU_SWITCHED;
    return now == self.waits ? CPU_STAYED : CPU_SWITCHED;
}
