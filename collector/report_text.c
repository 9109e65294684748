/*
 * report_text.c - the report as a person reads it: the verdict first, then what each request costs,
 * then what is missing and what to do about it.
 *
 * In:      struct report                        Out: FILE
 * Context: P but for the FILE, the local time zone and the store's size
 * Rules: 80 columns unless told; SI units; `-` unknown; losses shown when 0 too; nothing is rounded
 * to 0 % or 100 %; nothing from the traffic reaches the terminal unchecked.
 */
#include <cjson/cJSON.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "collector/report_page.h"

/* --- the head --- */

static void add_word(struct text *t, const char *word, bool utf8)
{
    char shown[256];
    page_clean(shown, sizeof shown, word, utf8);
    bool plain =
        *word &&
        strspn(word, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:=,@%+") ==
            strlen(word);
    if (plain)
        text_add(t, "%s", shown);
    else if (strchr(word, '\''))
        text_add(t, "\"%s\"", shown);
    else
        text_add(t, "'%s'", shown);
}

static void add_command(struct text *t, const struct report *r, bool utf8)
{
    cJSON *command = r->command ? cJSON_Parse(r->command) : NULL;
    const cJSON *word;
    int n = 0;
    cJSON_ArrayForEach(word, command)
    {
        if (!cJSON_IsString(word))
            continue;
        text_add(t, n++ ? " " : "");
        add_word(t, n == 1 ? page_basename(word->valuestring) : word->valuestring, utf8);
    }
    if (n == 0)
        text_add(t, "-");
    cJSON_Delete(command);
}

static void add_end(struct text *t, const struct report *r)
{
    if (r->running)
        text_add(t, "still running");
    else if (r->abandoned)
        text_add(t, "broken off");
    else if (r->signal > 0)
        text_add(t, "ended by %s", page_signal(r->signal));
    else if (r->exit_code >= 0)
        text_add(t, "exit %d", r->exit_code);
    else
        text_add(t, "ended");
}

static void put_title(struct page *p)
{
    const struct report *r = p->r;
    bool utf8 = p->style->utf8;
    struct text when = {.used = 0}, command = {.used = 0};
    text_add(&when, "   %s + %s", cell_clock(r->from_ns, false).s,
             cell_time(r->to_ns > r->from_ns ? r->to_ns - r->from_ns : 0, utf8).s);
    if (r->cut)
        text_add(&when, " of %s", cell_time(r->duration_ns, utf8).s);
    text_add(&when, "   ");
    add_end(&when, r);
    add_command(&command, r, utf8);
    int room = p->columns - 7 - page_width(when.s);
    bool narrow = room < 8; /* the time takes a line of its own */
    room = narrow ? p->columns - 7 : room;
    page_paint(p, PAGE_BOLD);
    fputs("sonde: ", p->f);
    if (page_width(command.s) <= room)
        fputs(command.s, p->f);
    else
        fprintf(p->f, "%.*s...", (int)(page_skip(command.s, room - 3) - command.s), command.s);
    page_paint(p, PAGE_PLAIN);
    if (narrow) {
        fputc('\n', p->f);
        page_label(p, "");
        page_wrap(p, when.s + strspn(when.s, " "));
    } else {
        fprintf(p->f, "%s\n", when.s);
    }
}

static void add_partial_reason(struct text *t, const struct report *r, bool utf8)
{
    char address[128];
    if (r->unreads) {
        page_clean(address, sizeof address, r->unread[0].address, utf8);
        text_add(t, "; NOT READ: %s %s", address, page_unread_reason(r->unread[0].reason));
        if (r->unreads > 1)
            text_add(t, " and %d more", r->unreads - 1);
        text_add(t, " (see below)");
    } else if (r->abandoned) {
        text_add(t, "; nothing is known after %s", cell_clock(r->as_of_ns, false).s);
    } else if (r->bounds) {
        text_add(t, "; more at once than sonde's limits (see below)");
    } else if (r->processes == 0) {
        text_add(t, "; nothing of the command could be watched");
    }
}

static void put_verdict(struct page *p)
{
    static const char *const word[] = {"COMPLETE", "PARTIAL", "LOSSY"};
    static const char *const colour[] = {"\033[1;32m", "\033[1;33m", "\033[1;31m"};
    const struct report *r = p->r;
    struct text t = {.used = 0};
    text_add(&t, "%s request%s, ", cell_grouped(r->requests).s, page_plural(r->requests));
    if (r->verdict == REPORT_LOSSY)
        text_add(&t, "%s of %s events lost (%s): counts are too low",
                 cell_count(r->events.lost_sum).s, cell_count(r->events.written).s,
                 cell_percent(r->events.lost_sum, r->events.written).s);
    else
        text_add(&t, "%s event%s, 0 lost", cell_count(r->events.written).s,
                 page_plural(r->events.written));
    if (r->verdict == REPORT_COMPLETE)
        text_add(&t, ", nothing unread");
    else
        add_partial_reason(&t, r, p->style->utf8);
    page_paint(p, colour[r->verdict]);
    fprintf(p->f, "%-*s", PAGE_LABEL, word[r->verdict]);
    page_paint(p, PAGE_PLAIN);
    page_wrap(p, t.s);
}

void page_put_head(struct page *p)
{
    put_title(p);
    put_verdict(p);
}

/* nginx x 5, sh */
static void add_programs(struct text *t, const struct report *r, bool utf8)
{
    int shown = 0;
    uint64_t others = 0;
    for (int i = 0; i < r->processes; i++) {
        const char *name = page_program(&r->process[i]);
        uint64_t count = 0;
        bool known = false;
        for (int k = 0; k < r->processes; k++) {
            if (strcmp(page_program(&r->process[k]), name) != 0)
                continue;
            known = known || k < i;
            count += r->process[k].merged;
        }
        if (known)
            continue;
        if (shown++ >= 3) {
            others += count;
            continue;
        }
        char text[64];
        page_clean(text, sizeof text, name, utf8);
        text_add(t, count > 1 ? "%s%s x %s" : "%s%s", shown > 1 ? ", " : "", text,
                 cell_grouped(count).s);
    }
    if (others)
        text_add(t, ", %s more", cell_grouped(others).s);
    if (!shown)
        text_add(t, "no process seen");
}

static void add_heap(struct text *t, const struct report *r)
{
    uint64_t all = 0, charged = 0;
    bool known = r->heap_counted;
    for (int i = 0; i < r->processes; i++)
        all += r->process[i].allocated;
    for (int i = 0; i < r->endpoints; i++)
        charged += r->endpoint[i].allocated;
    if (!known)
        text_add(t, ", heap not counted");
    else if (r->processes)
        text_add(t, ", heap %s", cell_bytes(all).s);
    if (known && r->requests && all && !r->cut)
        text_add(t, " (%s)", cell_percent(charged < all ? charged : all, all).s);
}

static void put_flow(struct page *p)
{
    const struct report *r = p->r;
    struct text t = {.used = 0};
    uint64_t connections =
        r->connections.accepted + r->connections.opened + r->connections.inherited;
    add_programs(&t, r, p->style->utf8);
    text_add(&t, ", %s connection%s, in %s, out %s", cell_count(connections).s,
             page_plural(connections), cell_bytes(r->connections.bytes_in).s,
             cell_bytes(r->connections.bytes_out).s);
    add_heap(&t, r);
    page_label(p, "");
    page_wrap(p, t.s);
}

/* --- the foot --- */

static void put_outputs(struct page *p)
{
    for (int i = 0; i < p->r->outputs; i++) {
        const struct report_output *o = &p->r->output[i];
        const struct documents *d = &o->documents;
        uint64_t dropped =
            d->dropped_memory + d->dropped_exit + d->dropped_refused + o->dropped_collector;
        char name[200];
        struct text t = {.used = 0};
        page_clean(name, sizeof name, o->name, p->style->utf8);
        text_add(&t, "%s: %s document%s, %s acknowledged", name,
                 cell_grouped(d->carried + d->accepted).s, page_plural(d->carried + d->accepted),
                 cell_grouped(d->acknowledged + d->duplicates).s);
        if (d->dead)
            text_add(&t, ", %s refused as bad", cell_grouped(d->dead).s);
        if (d->queued)
            text_add(&t, ", %s queued", cell_grouped(d->queued).s);
        text_add(&t, ", %s dropped", cell_grouped(dropped).s);
        if (d->dropped_exit)
            text_add(&t, " (%s not delivered in time: raise exit.flush_s)",
                     cell_grouped(d->dropped_exit).s);
        else if (d->dropped_memory)
            text_add(&t, " (%s while it was slow: raise output.memory_bytes)",
                     cell_grouped(d->dropped_memory).s);
        page_say(p, i ? "" : "SENT", "%s", t.s);
    }
}

/* The write-ahead log's, while there is one. */
static uint64_t log_bytes(const char *store)
{
    char path[4096];
    struct stat st;
    return snprintf(path, sizeof path, "%s-wal", store) < (int)sizeof path && stat(path, &st) == 0
               ? (uint64_t)st.st_size
               : 0;
}

/* As one would type it here. */
static const char *short_path(const char *path, char *room, size_t bytes)
{
    char here[1024];
    size_t n = getcwd(here, sizeof here) ? strlen(here) : 0;
    if (n < 2 || strncmp(path, here, n) != 0 || path[n] != '/')
        return path;
    snprintf(room, bytes, ".%s", path + n);
    return room;
}

static void put_remedy(struct page *p, const char *reason)
{
    static const char *const remedies[][2] = {
        {"queue full", "more than could be written: lower sampling.spans_per_second"},
        {"held by a reader", "end the program that keeps the store open"},
        {"disk full", "make room, or lower store.bytes"},
    };
    for (size_t i = 0; i < sizeof remedies / sizeof *remedies; i++)
        if (!strcmp(reason, remedies[i][0]))
            page_say(p, "", "%s", remedies[i][1]);
}

static void put_samples(struct page *p)
{
    const struct report *r = p->r;
    for (int i = 0, told = 0; i < r->sheds; i++) {
        if (strcmp(r->shed[i].reason, "size") == 0)
            continue;
        page_say(p, told++ ? "" : "SAMPLES",
                 "%s sampled request%s not kept: %s; the totals above count them",
                 cell_grouped(r->shed[i].count).s, page_plural(r->shed[i].count),
                 r->shed[i].reason);
        put_remedy(p, r->shed[i].reason);
    }
}

static void put_store(struct page *p)
{
    const struct report *r = p->r;
    struct stat st;
    uint64_t by_size = 0;
    char shorter[1024];
    for (int i = 0; i < r->sheds; i++)
        if (strcmp(r->shed[i].reason, "size") == 0)
            by_size = r->shed[i].count;
    if (r->lives > 1)
        page_say(
            p, "NOTE",
            "the collector was started anew %u time%s; what was lost meanwhile is counted above",
            r->lives - 1, page_plural(r->lives - 1));
    if (!p->style->store || strcmp(p->style->store, "none") == 0)
        return;
    struct text t = {.used = 0};
    char path[1024];
    page_clean(path, sizeof path, short_path(p->style->store, shorter, sizeof shorter),
               p->style->utf8);
    text_add(&t, "%s", path);
    if (stat(p->style->store, &st) == 0)
        text_add(&t, " %s", cell_bytes((uint64_t)st.st_size + log_bytes(p->style->store)).s);
    if (by_size)
        text_add(&t, ", %s older samples let go (store.bytes)", cell_count(by_size).s);
    struct text next = {.used = 0};
    text_add(&next, "sonde report ");
    if (strcmp(path, "./sonde.db") != 0 && strcmp(path, "sonde.db") != 0)
        text_add(&next, "%s ", path);
    text_add(&next, r->requests ? "--slowest 5 | --memory | --json" : "--json");
    page_label(p, "STORE");
    if (PAGE_LABEL + page_width(t.s) + 10 + page_width(next.s) <= p->columns) {
        fprintf(p->f, "%s    NEXT  %s\n", t.s, next.s);
        return;
    }
    page_wrap(p, t.s);
    page_label(p, "NEXT");
    page_wrap(p, next.s);
}

void report_text(const struct report *r, const struct report_style *style, FILE *f)
{
    struct page p = page_begin(r, style, f);
    page_put_head(&p);
    put_flow(&p);
    page_put_nothing(&p);
    page_put_endpoints(&p);
    page_put_errors(&p);
    page_put_crashes(&p);
    page_put_in_flight(&p);
    page_put_unread(&p);
    page_put_lost(&p);
    page_put_heap_notes(&p);
    put_outputs(&p);
    put_samples(&p);
    put_store(&p);
    fflush(f);
}
