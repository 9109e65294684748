/*
 * store_inside.h - one open store: what store.c (transactions), store_open.c (the file), store_rows.c and
 * store_ledger.c (rows and counts into tables) work on together.
 *
 * In:      those four                          Out: SQLite
 * Context: sink thread, but for store_open
 */
#ifndef SONDE_STORE_INSIDE_H
#define SONDE_STORE_INSIDE_H

#include <limits.h>

#include "collector/sink/store.h"
#include "collector/sink/store_tables.h"

#define OUTPUTS 16
#define REASONS 16
#define STORE_WAIT_MS 2000 /* for somebody else's lock, before the file counts as lost */

enum statement {
    PUT_RUN,
    PUT_PROCESS,
    DELETE_PROCESS,
    FIND_PROCESS,
    FIND_ENDPOINT,
    PUT_ENDPOINT,
    PUT_INTERVAL,
    PUT_LOSS,
    PUT_TOTAL,
    PUT_STATUS,
    PUT_SPAN,
    CLEAR_IN_FLIGHT,
    PUT_IN_FLIGHT,
    PUT_UNREAD,
    PUT_STACK,
    PUT_SITE,
    PUT_SITE_LIVE,
    PUT_SHED,
    PUT_DOCUMENTS,
    STATEMENTS
};

/* Numbers as this collector's rows have them → as the store has them. 0: not seen yet. */
struct map {
    uint32_t *to, room, last;
};

struct run { /* the run's row, kept here because every commit writes it whole */
    char id[33], *command, *settings, *host;
    int32_t pid, exit_code, signal;
    uint64_t start_ns, end_ns, as_of_ns;
    uint32_t lives;
    int clean;
    int32_t supervisor;
    uint64_t supervisor_start;
};

struct store {
    sqlite3 *db;
    sqlite3_stmt *st[SCHEMAS][STATEMENTS];
    struct bound span_bound; /* of PUT_SPAN, which goes to the file alone */
    char path[PATH_MAX];
    char run_id[33];
    uint64_t max_bytes;
    store_say_fn say;
    void *say_to;
    int lock;            /* descriptor that holds the flock, -1 */
    bool none, attached; /* attached: the file can be read at least */
    enum { TO_MEMORY, TO_DISK } target;
    bool open;       /* a transaction is */
    int fault;       /* SQLite's code that sent us to memory */
    const char *why; /* the same in a word */
    uint64_t retry_ns;
    uint32_t memory_floor; /* intervals above it stand in memory alone */
    uint8_t *pending;
    size_t pending_used, pending_room;
    uint64_t span_bytes, pending_spans; /* in this transaction */
    struct run run;
    struct store_resume resume;
    struct map process, endpoint;
    uint32_t interval_base, last_interval;
    bool interval_seen;
    struct {
        const char *reason;
        uint64_t count;
    } shed[REASONS];
    struct {
        char *name;
        struct documents documents;
        bool changed;
    } output[OUTPUTS];
};

void store_tell(struct store *, const char *format, ...) __attribute__((format(printf, 2, 3)));

extern const char *const store_class_names[8]; /* by row_total.class */

bool store_row_is_whole(const struct row *); /* store_check.c */

/* store_rows.c: into the target's tables. SQLITE_OK or SQLite's code. */
struct binder store_to(struct store *, enum statement); /* its statement, prepared; st NULL: it could not be */
int store_done(struct store *, struct binder *);
int store_apply(struct store *, const struct row *);
int store_put_run(struct store *);     /* the run's row as it stands */
int store_put_ledgers(struct store *); /* store_ledger.c: what was shed, what became of documents */
void store_forget_statements(struct store *, int schema);

extern uint64_t store_retry_ns; /* between tries to write a lost file again; tests shorten it */

/* store_open.c */
int store_attach(struct store *); /* opens and locks the file, makes or checks its tables */
void store_detach(struct store *);
bool store_belongs(struct store *);
bool store_keep_linked(struct store *);
const char *store_fault_word(int code); /* "disk full" */

#endif
