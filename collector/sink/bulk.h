/*
 * bulk.h - what a server's answer to a _bulk request means.
 *
 * In:      bytes of an answer (untrusted)      Out: verdicts for elasticsearch.c
 * Context: P. Bounded work; nothing outside the answer is read; integers never pass a double.
 *
 * Own reading of JSON, because an answer has a line for each document: a library's tree would cost
 * more than the document itself.
 */
#ifndef SONDE_BULK_H
#define SONDE_BULK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct text {
    const char *at; /* raw: JSON's escapes are still in it */
    size_t len;
};

struct bulk_item {
    unsigned status;
    struct text index, type, reason;
    bool failure_store; /* it was stored, but aside */
};

struct bulk_answer {
    uint64_t took_ms;
    uint32_t items;
    bool errors;
};

/* Reads a whole answer, calls `each` (may be NULL) for every item in order. 0, or -EPROTO: cut,
 * empty or no such JSON. */
typedef void (*bulk_item_fn)(void *to, uint32_t position, const struct bulk_item *);
int bulk_read(const char *answer, size_t len, struct bulk_answer *, bulk_item_fn each, void *to);

/* type and reason of an answer that is an error; `error` may be an object or a string. False: no
 * such thing in it. */
bool bulk_read_error(const char *answer, size_t len, struct bulk_item *out);

/* What to do with a document after its item; RECORDS "item". */
enum fate {
    FATE_DONE,
    FATE_DUPLICATE,   /* it is there already */
    FATE_RETRY,       /* this document alone, after a while */
    FATE_RETRY_A_FEW, /* the same, but not for ever */
    FATE_HOLD,        /* an operator can mend it: its stream waits */
    FATE_SETUP,       /* the index is missing: templates first, then as HOLD */
    FATE_DEAD         /* it will never be taken */
};
enum fate bulk_fate(const struct bulk_item *);

/* What to do with a body after the answer's status. */
enum outcome {
    OUTCOME_ITEMS,    /* judge item by item; if that cannot be done, it is ambiguous */
    OUTCOME_HALVE,    /* some document in it is bad */
    OUTCOME_SMALLER,  /* it is too large */
    OUTCOME_HOLD,     /* credentials or rights */
    OUTCOME_SETUP,    /* no such place: a fault in the set-up */
    OUTCOME_BACK_OFF, /* busy or ill */
};
enum outcome bulk_outcome(unsigned status);

/*
 * Of a body that the indexing-pressure limit refused: how many of its bytes may be sent at once, so
 * that it would pass on an idle server; 0: it is not too large (or the reason does not say).
 */
size_t bulk_pressure_limit(const struct bulk_item *error, size_t body_bytes);

/* Type and as much of the reason as quotes no document, for a person; at most `room` bytes with the
 * end. */
void bulk_reason(const struct bulk_item *, char *to, size_t room);

#endif
