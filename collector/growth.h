/*
 * growth.h - does the memory of one place grow with the requests? A verdict from its live samples over time.
 *
 * In:      report_sites.c (a store's history)     Out: report_leaks.c, report_memory.c
 * Context: P
 */
#ifndef SONDE_GROWTH_H
#define SONDE_GROWTH_H

#include <stdbool.h>
#include <stdint.h>

/* At one moment: requests answered so far, and what then lived of what they had allocated. */
struct growth_point {
    uint64_t requests, live_samples, live_bytes;
};

enum growth_verdict {
    GROWTH_UNKNOWN, /* it may grow: too few samples, or too few moments, to tell */
    GROWTH_NONE,
    GROWTH_STOPPED, /* it grew and did not go on: a cache that is full, a pool that is warm */
    GROWTH_LIKELY,
    GROWTH_SURE
};

struct growth {
    enum growth_verdict verdict;
    bool slowing;      /* it grows ever less: perhaps a cache that still fills */
    int points;        /* moments at which requests had gone on */
    uint64_t samples;  /* that live at the last of them */
    uint64_t requests; /* from the first to the last */
    double grown;      /* samples more, by the line through all points */
    double bytes_each; /* bytes more a request */
    double error;      /* of bytes_each, relative, one standard deviation; 0: not known */
};

#define GROWTH_SAMPLES 10 /* fewer tell nothing */
#define GROWTH_POINTS 5

/* Points in order of time. */
struct growth growth_of(const struct growth_point *, int count);

#endif
