/*
 * raw.h - system calls without libc: no errno, no wrapper of ours in between, no cancellation point.
 *
 * In:      wire/arena.c, shim/.                  Out: the kernel.
 * Context: S
 *
 * The recorder must not call what it wraps, and `syscall` itself is wrapped. Results are the kernel's: -errno on failure.
 */
#ifndef SONDE_RAW_H
#define SONDE_RAW_H

#include <sys/syscall.h>

static inline long raw6(long number, long a, long b, long c, long d, long e, long f)
{
#if defined(__x86_64__)
    long result;
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    __asm__ __volatile__("syscall"
                         : "=a"(result)
                         : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                         : "rcx", "r11", "memory");
    return result; // cppcheck-suppress uninitvar ; the instruction wrote it
#elif defined(__aarch64__)
    register long x8 __asm__("x8") = number;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    register long x4 __asm__("x4") = e;
    register long x5 __asm__("x5") = f;
    __asm__ __volatile__("svc 0"
                         : "+r"(x0)
                         : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
                         : "memory");
    return x0;
#else
#error "no system call convention for this machine"
#endif
}

static inline long raw0(long number)
{
    return raw6(number, 0, 0, 0, 0, 0, 0);
}

static inline long raw1(long number, long a)
{
    return raw6(number, a, 0, 0, 0, 0, 0);
}

static inline long raw2(long number, long a, long b)
{
    return raw6(number, a, b, 0, 0, 0, 0);
}

static inline long raw3(long number, long a, long b, long c)
{
    return raw6(number, a, b, c, 0, 0, 0);
}

static inline long raw4(long number, long a, long b, long c, long d)
{
    return raw6(number, a, b, c, d, 0, 0);
}

/* mmap and its kin answer an address, or -errno in the last page. */
static inline int raw_failed(long result)
{
    return (unsigned long)result > -4096ul;
}

#endif
