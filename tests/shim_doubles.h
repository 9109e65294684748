/*
 * shim_doubles.h - stands in for the recorder's modules whose exported names must not hide libc's in a test program
 * (malloc, the C++ operators, exec and exit). Included once by each program that links SHIM_PARTS.
 */
#ifndef SONDE_SHIM_DOUBLES_H
#define SONDE_SHIM_DOUBLES_H

#include "shim/operators.h"
#include "shim/process.h"

void operators_withdraw(void)
{
}

bool process_before_syscall(long number, long first, long second)
{
    (void)number, (void)first, (void)second;
    return false;
}

void process_clock_back(void)
{
}

#endif
