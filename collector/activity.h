/*
 * activity.h - whose cost is it: charges what each thread allocated, freed and waited for to requests (the
 * six rules; docs/attribution.md).
 *
 * In:      connection.c (which event touched which connection), pipeline.c (deaths, ticks)
 * Out:     span.c (costs), `outside`
 * Owns:    one struct thread per lane, a sum per process.
 * Context: C
 */
#ifndef SONDE_ACTIVITY_H
#define SONDE_ACTIVITY_H

#include "collector/order.h"
#include "collector/span.h"
#include "collector/wall.h"

/* Whose the interval is that began with the thread's last event. */
enum claim {
    CLAIM_NONE,    /* nobody's: kept for the next request (rule 4) */
    CLAIM_OUTSIDE, /* a connection's that is not read */
    CLAIM_SPANS,   /* `count` exchanges from `exchange` on (rules 1, 5) */
    CLAIM_AFTER    /* they are finished and it ended: kept until the next request comes, then frees are theirs (rule 4) */
};

struct image; /* image.h */

/* A thread. Its first line is what every event needs. */
struct thread {
    uint32_t number; /* item.thread, 0: none in this lane */
    uint32_t lane;
    struct image *image;
    struct totals last; /* charged up to here */
    struct cost delta;  /* of the interval that ends with the event in hand */
    struct cost kept;   /* for the next request */
    struct cost deferred; /* of the interval in hand, up to a sample that lies in it */
    bool deferring;
    uint32_t samples, samples_kept; /* lists (below): of the interval in hand; as `kept` */
    uint64_t kept_from_ns; /* begin of what is kept, 0: nothing is */
    struct stretch stretch; /* the interval in hand */
    uint64_t at_ns;     /* time of its last event */
    uint32_t measured;  /* exchange.state of the requests that the event in hand touches */
    uint64_t paused;    /* the unfinished request that it worked for when it began to wait, 0: none, or several */
    uint64_t kept_until; /* a wait after this time sends what is kept to outside */
    /* claim */
    uint8_t claim; /* enum claim */
    bool over;     /* SPANS: they were finished when the interval began */
    int32_t tid;
    uint32_t exchange, count;
    uint64_t first_id, last_id;
    struct dialogue *dialogue; /* of the claim; only compared */
    /* the server span for which the thread surely works now; 0: not sure */
    uint64_t serving;
    uint32_t serving_exchange;
    /* connection.c: the connection of its last event, and the capture that may go on in EVENT_MOREs */
    uint32_t connection_slot, more_slot;
    uint64_t connection;
    uint64_t more_offset, more_base, more_end; /* offset of the event, its position in the stream, its end */
    struct moment more_moment;
    uint8_t more_way;
    uint32_t gaps;      /* times that events of it were lost */
    uint32_t next, previous; /* threads of its process: lane + 1 */
    uint32_t in_call;   /* as a fact told */
    uint32_t ended;     /* number of the lane's last thread that has ended */
    uint64_t call_since_ns;
};

/*
 * Sampled blocks and waits (heap.c). They wait on their thread until the interval that they lie in is charged, then
 * they belong to whom it is charged. A list is the number of one of its samples, 0: empty.
 */
struct sample_lists {
    uint32_t (*join)(void *to, uint32_t list, uint32_t more);
    void (*belong)(void *to, uint32_t list, struct exchange *, bool shared); /* NULL: to no request; shared: to the
                                                                                first of several (rule 5) */
    void *to;
};

struct activity;
struct activity *activity_new(struct spans *, bool waits); /* waits: lock, disk and sleep are measured */
void activity_free(struct activity *);

/* The thread of an event, begun if it is new; what was in its lane before has ended. */
struct thread *activity_thread(struct activity *, const struct item *, struct image *);
struct thread *activity_find(struct activity *, uint32_t lane, uint32_t number); /* NULL: none */
struct thread *activity_in_lane(struct activity *, uint32_t lane);
uint32_t activity_lanes(const struct activity *); /* ever used */

/* Each event: first this, then one of the three below. */
void activity_interval(struct activity *, struct thread *, const struct item *);
/* It moved bytes of a connection that is read, NULL: that is not. `fresh`: a request came (begun or whole
   now), or from another thread. */
void activity_touch(struct activity *, struct thread *, struct dialogue *, bool fresh);
void activity_undecided(struct activity *, struct thread *, uint64_t time_ns); /* of one whose protocol is not known yet */
void activity_stay(struct activity *, struct thread *);                        /* any other event */
/*
 * Bytes of a connection that this process opened and that is not read moved. Written while the thread worked for one
 * request, they are a call of it, over when an answer comes. False: nobody's that is known.
 */
struct outcall {
    uint64_t id; /* of the request that wrote there last */
    uint32_t exchange;
    bool open;      /* no answer yet */
    bool ambiguous; /* several requests used it at once */
};
bool activity_call(struct activity *, struct thread *, struct outcall *, enum way, uint64_t time_ns);
void activity_call_end(struct activity *, struct outcall *, uint64_t time_ns);
/* A sample, which divides no interval: its cost is charged with the next event. `list`: 0 for a free. */
void activity_sample(struct activity *, struct thread *, uint32_t list);
void activity_lists(struct activity *, const struct sample_lists *); /* copied; none before: nobody samples */
/* After activity_stay. The claim ends: the thread waits; or EOF or close on the connection (rule 1). */
void activity_wait(struct activity *, struct thread *, uint64_t time_ns);
void activity_part(struct activity *, struct thread *, uint64_t time_ns);
/* EOF: the same, unless the connection is a call of `caller` (0: of nobody), for which the thread works on. */
void activity_hung_up(struct activity *, struct thread *, struct dialogue *, uint64_t caller, uint64_t time_ns);
/* EVENT_TURN: the same, unless it waits for another thread in the middle of its request. */
void activity_turn(struct activity *, struct thread *, const struct item *);
/* A connection came: the claim ends, what follows prepares for its request. */
void activity_expect(struct activity *, struct thread *, uint64_t time_ns);

/* What a thread without events did meanwhile; its end; its base after a take-over. */
void activity_total(struct activity *, struct thread *, const struct totals *);
void activity_thread_end(struct activity *, struct thread *, const struct totals *final); /* NULL: not known */
void activity_base(struct thread *, const struct totals *);
void activity_resume(struct image *, const struct totals *); /* what another collector had charged of a process */
void activity_told(struct image *, const struct totals *); /* its lane headers' sums so far */
/* Its threads have ended; what its lanes counted beyond the events goes to outside. */
void activity_image_end(struct activity *, struct image *, const struct totals *final);

/* Each 250 ms: finished spans older than a second are final. */
void activity_sweep(struct activity *, uint64_t time_ns);

/* Charged to no request so far, with what is kept and what is in progress: as if it all ended now. */
struct cost activity_outside(const struct activity *);
/* CPU of images that have ended which no event had shown: a part of outside. */
uint64_t activity_unseen_cpu(const struct activity *);
/* Sum of the totals that were charged, for a process with its threads. */
struct cost activity_charged(const struct activity *, const struct image *);

#endif
