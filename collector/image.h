/*
 * image.h - executed images and forked children: who lives, who forked whom, how they ended.
 *
 * In:      facts, fork, exit and wait events
 * Out:     connection's ends (holder.c), process totals (activity.c)
 * Owns:    one struct image per item.process. Context: C
 */
#ifndef SONDE_IMAGE_H
#define SONDE_IMAGE_H

#include "collector/order.h"
#include "collector/span.h"

#define IMAGE_FORKS 16
#define FORK_UNSEEN_NS UINT64_C(5000000000) /* how long a forked child that made no event is thought to live */

struct child {
    int32_t pid;
    uint32_t process; /* once it was seen, else 0 */
    uint64_t time_ns;
};

enum image_end { IMAGE_LIVES, IMAGE_DIED, IMAGE_EXITED, IMAGE_KILLED, IMAGE_REPLACED };

struct image {
    uint32_t number; /* item.process; 0: free */
    int32_t pid;
    uint32_t parent; /* number, 0 unknown */
    uint8_t end;     /* enum image_end; DIED: how is not yet known */
    bool exiting;    /* exit was called */
    bool hands_over; /* requests went from one of its threads to another before they were answered */
    uint8_t children_used;
    uint32_t children_next;  /* round robin when all are used */
    struct child children[IMAGE_FORKS];
    uint64_t last_fork_ns;
    uint64_t end_ns;
    int32_t exit_code, signal; /* as a wait or the end told, -1 unknown */
    uint32_t threads;     /* lane + 1 of its first thread */
    uint32_t connections; /* first connection that it holds, see holder.c */
    struct cost charged;  /* by threads that ended, and the base of a take-over */
    struct cost told;     /* as its lane headers said */
    struct image *next;   /* in its chain of the table, and of the free ones */
};

struct images;
struct images *images_new(void);
void images_free(struct images *);
struct image *image_find(const struct images *, uint32_t number);      /* NULL: none */
struct image *image_make(struct images *, uint32_t number);            /* finds or makes; NULL: no memory */
struct image *image_of_pid(const struct images *, int32_t pid);        /* the newest that lives */
void image_drop(struct images *, struct image *);
/* Visits all; `visit` may drop the one it is given. */
void image_each(struct images *, void (*visit)(void *to, struct image *), void *to);

void image_forked(struct images *, struct image *, int32_t child, uint64_t time_ns);
void image_child_seen(struct images *, struct image *parent, int32_t pid, uint32_t number, uint64_t time_ns);
void image_child_gone(struct image *parent, int32_t pid); /* died, or executed something else */
/* Could a child that was forked after `since_ns` still live? */
bool image_has_children(const struct images *, const struct image *, uint64_t since_ns, uint64_t now_ns);

#endif
