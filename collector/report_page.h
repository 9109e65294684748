/*
 * report_page.h - what the parts of a report's page share: the page, cells, words, growing lines.
 *
 * In:      report_text.c, report_table.c, report_notes.c, report_slowest.c
 * Context: as report_page.c
 */
#ifndef SONDE_REPORT_PAGE_H
#define SONDE_REPORT_PAGE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "collector/report.h"
#include "collector/report_model.h"

#define PAGE_LABEL 10 /* width of the first word of a section */

#define PAGE_BOLD "\033[1m"
#define PAGE_RED "\033[31m"
#define PAGE_PLAIN "\033[0m"

struct cell {
    char s[64];
};

struct page {
    FILE *f;
    const struct report *r;
    const struct report_style *style;
    int columns;
};

struct text { /* a growing line */
    char s[2048];
    size_t used;
};

struct page page_begin(const struct report *, const struct report_style *, FILE *);

/* Text. Widths are columns of a terminal, one a character. */
int page_width(const char *);
const char *page_skip(const char *, int characters);
/* `from` (NULL: "-") without what a terminal would obey or not know. */
void page_clean(char *to, size_t room, const char *from, bool utf8);
void page_name(FILE *, const char *, int width);  /* to the left, shortened in the middle */
void page_right(FILE *, const char *, int width); /* to the right */
void text_add(struct text *, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Numbers; UNKNOWN is "-". */
struct cell cell_digits(double, const char *unit); /* 6.03k */
struct cell cell_count(uint64_t);                  /* 9999, 12.3k */
struct cell cell_grouped(uint64_t);                /* 2 412 388 */
struct cell cell_rate(uint64_t count, uint64_t ns);
struct cell cell_each(double bytes); /* may be negative */
struct cell cell_bytes(uint64_t);
struct cell cell_time(uint64_t ns, bool utf8);
struct cell cell_percent(uint64_t part, uint64_t of); /* never rounded to 0 % or 100 % */
struct cell cell_clock(uint64_t ns, bool with_ms);    /* local time of day */

/* Sections: a first word ("" continues the one before), then words that wrap below it. */
void page_paint(struct page *, const char *escape); /* only when colour was asked for */
void page_label(struct page *, const char *word);
void page_wrap(struct page *, const char *text);
void page_say(struct page *, const char *word, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

const char *page_basename(const char *path);
const char *page_program(const struct report_process *); /* its service; of an old store its file */
const char *page_signal(int number); /* "SIGTERM" */
const char *page_plural(uint64_t);   /* "" for 1, else "s" */
const char *page_unread_reason(const char *);

/* report_text.c */
void page_put_head(struct page *); /* what ran, and how much of it is known */
/* report_table.c */
struct page_column {
    const char *title;
    int width, rank; /* rank: the lower, the earlier it gets its place; a title of NULL ends the list */
    struct cell (*value)(const struct page *, const struct report_endpoint *);
    bool (*wanted)(const struct report *);
};
void page_put_endpoints(struct page *);
/* Each endpoint with these columns (at most 9), groups of a service under their own head, which begins with `word`;
 * `last` (NULL: none) as a last row. */
void page_put_view(struct page *, const struct page_column *, const char *word, const struct report_endpoint *last);
/* report_memory.c, report_time.c */
void page_put_memory(struct page *);
void page_put_cpu(struct page *);
void page_put_waits(struct page *);
/* report_places.c: the places in the code with the most of something */
struct page_places {
    const char *word;    /* "KEPT AT" */
    const char *column;  /* "kept" */
    uint64_t (*amount)(const struct report_site *);
    uint64_t (*samples)(const struct report_site *);
    bool oldest;         /* tell the age of the oldest, else the error */
    bool lockwait;       /* of those where locks were waited for: times, not bytes */
    uint64_t all;        /* exact amount that the samples stand for, UNKNOWN */
};
void page_put_places(struct page *, const struct page_places *);
/* As many frames as have room, innermost first; inlining and C++ arguments are left out. pad: fill the width. How many. */
int page_put_frames(struct page *, const char *frames, int width, bool pad);
/* Two lines of frames, and the program's own code below them where a compiler made it at run time. */
void page_put_stack(struct page *, const char *frames);
/* A sampling rate at which `all` (UNKNOWN: judged by the samples) gives enough samples: a power of two times `least`. */
uint64_t page_finer(uint64_t now, uint64_t all, uint64_t samples, uint64_t least);
/* report_notes.c: what needs a look, what is missing and what to do about it; each says nothing
 * when all is well */
void page_put_nothing(struct page *);
void page_put_errors(struct page *);
void page_put_crashes(struct page *);
void page_put_in_flight(struct page *);
void page_put_unread(struct page *);
void page_put_lost(struct page *);
void page_put_heap_notes(struct page *);
void page_put_lost_frees(struct page *); /* beside what sampled blocks say */

#endif
