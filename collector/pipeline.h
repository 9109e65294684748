/*
 * pipeline.h - connection → protocol → span → activity → rollup, wired together; the same for live runs and replays.
 *
 * Context: C, one thread. Below it nothing reads a clock, /proc or randomness.
 */
#ifndef SONDE_PIPELINE_H
#define SONDE_PIPELINE_H

#include "collector/order.h"
#include "collector/rollup.h"

struct pipeline;
/* `feedback` may be NULL, it is copied. The rollup is borrowed. NULL: no memory. */
struct pipeline *pipeline_new(const struct options *, const struct feedback *, struct rollup *);
void pipeline_free(struct pipeline *);
/* Before the first item: another collector had charged this much of a process that did not end with it. */
void pipeline_resume_process(struct pipeline *, uint32_t process, const struct totals *);
/* Takes one item; calls rollup_span for what it finished, rollup_fact for facts, rollup_tick once a second of ITEM_TICKs. */
void pipeline_item(struct pipeline *, const struct item *);
/* The stream has ended (`killed` facts came before): names what is in flight, ends what is open, last rollup_tick. */
void pipeline_end(struct pipeline *, uint64_t time_ns);

#endif
