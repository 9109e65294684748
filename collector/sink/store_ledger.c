/*
 * store_ledger.c - what is counted beside the rows: samples that were shed, what became of documents.
 *
 * In:      store.c, sinks.c                     Out: SQLite
 * Context: sink thread
 */
#include <string.h>

#include "collector/sink/store_inside.h"

int store_put_ledgers(struct store *s)
{
    int rc = SQLITE_OK;
    for (int i = 0; i < REASONS && s->shed[i].reason && rc == SQLITE_OK; i++) {
        struct binder b = store_to(s, PUT_SHED);
        if (b.st) {
            bind_text(&b, s->shed[i].reason, strlen(s->shed[i].reason));
            bind_u64(&b, s->shed[i].count);
        }
        rc = store_done(s, &b);
    }
    for (int i = 0; i < OUTPUTS && s->output[i].name && rc == SQLITE_OK; i++) {
        const struct documents *d = &s->output[i].documents;
        const uint64_t values[] = {d->carried,        d->accepted,     d->acknowledged,
                                   d->duplicates,     d->dead,         d->queued,
                                   d->dropped_memory, d->dropped_exit, d->dropped_refused,
                                   d->totals_through};
        struct binder b = store_to(s, PUT_DOCUMENTS);
        if (b.st) {
            bind_text(&b, s->output[i].name, strlen(s->output[i].name));
            for (size_t v = 0; v < sizeof values / sizeof *values; v++)
                bind_u64(&b, values[v]);
        }
        rc = store_done(s, &b);
    }
    return rc;
}

void store_count_shed(struct store *s, const char *reason, uint64_t spans)
{
    for (int i = 0; i < REASONS && spans; i++) {
        if (!s->shed[i].reason)
            s->shed[i].reason = reason;
        if (strcmp(s->shed[i].reason, reason) == 0) {
            s->shed[i].count += spans;
            return;
        }
    }
}

void store_documents(struct store *s, const char *output, const struct documents *d)
{
    for (int i = 0; i < OUTPUTS; i++) {
        if (!s->output[i].name)
            s->output[i].name = strdup(output);
        if (s->output[i].name && strcmp(s->output[i].name, output) == 0) {
            s->output[i].documents = *d;
            return;
        }
    }
}

bool store_documents_before(const struct store *s, const char *output, struct documents *out)
{
    for (int i = 0; i < OUTPUTS && s->output[i].name; i++)
        if (strcmp(s->output[i].name, output) == 0) {
            *out = s->output[i].documents;
            return true;
        }
    return false;
}
