/*
 * report_places.c - the places in the code that keep, allocate or wait the most, and how sure that is.
 *
 * In:      struct report (sites)                Out: FILE
 * Context: P but for the FILE
 * Samples of one stack are shown together, whoever called it; the requests that did stand below.
 */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "collector/report_page.h"

#define SHOWN 5
#define FEW 10          /* samples that tell nothing */
#define ENOUGH 100      /* samples that do: +-10 % */
#define BYTES_COLUMNS 25 /* amount, samples, oldest */

struct place {
    const struct report_site *first; /* the one with the most */
    uint64_t amount, samples, oldest_ns;
    int endpoints;
};

/* malloc and its kin stand innermost in every stack and tell nothing. */
static const char *skip_allocator(const char *frames)
{
    static const char *const dull[] = {"malloc",         "calloc",        "realloc",  "reallocarray", "posix_memalign",
                                       "aligned_alloc",  "memalign",      "valloc",   "pvalloc",      "strdup",
                                       "operator new(unsigned long)",     "operator new[](unsigned long)",
                                       "_Znwm",          "_Znam",         "mmap",     "__libc_malloc"};
    const char *next = strstr(frames, " < ");
    size_t len = next ? (size_t)(next - frames) : 0;
    for (size_t i = 0; next && i < sizeof dull / sizeof *dull; i++)
        if (strlen(dull[i]) == len && strncmp(frames, dull[i], len) == 0)
            return skip_allocator(next + 3);
    return frames;
}

/* C++: without arguments and template arguments, which tell two functions apart less than their width costs. */
static void without_arguments(char *to, const char *name)
{
    int depth = 0;
    const char *start = name;
    for (; *name; name++) {
        bool operator= name - start >= 8 && strncmp(name - 8, "operator", 8) == 0;
        bool keep = *name == '(' && strncmp(name, "(anonymous namespace)", 21) == 0;
        if (operator|| keep) {
            size_t len = keep ? 21 : 1 + (size_t)(name[1] == name[0] || name[1] == ')');
            memcpy(to, name, len);
            to += depth ? 0 : len;
            name += len - 1;
        } else if (*name == '<' || *name == '(') {
            depth++;
        } else if ((*name == '>' || *name == ')') && depth > 0) {
            depth--;
        } else if (depth == 0) {
            *to++ = *name;
        }
    }
    *to = 0;
}

/* Names that are not balanced (but cut off: `std::pair<int, std::`), or that nothing would be left of, stay as they are. */
static void shorten(char *to, size_t room, const char *name)
{
    int angles = 0, brackets = 0;
    for (const char *s = name; *s; s++) {
        angles += (*s == '<') - (*s == '>');
        brackets += (*s == '(') - (*s == ')');
    }
    *to = 0;
    if (angles >= 0 && brackets >= 0 && strlen(name) < room)
        without_arguments(to, name);
    if (!*to)
        snprintf(to, room, "%s", name);
}

/* As many frames as have room, from the `first` one on; how many these are. The first one is never left out. */
static int add_frames(struct text *t, const struct page *p, const char *frames, int first, int width)
{
    char clean[4096], one[1024];
    int n = 0, used = 0, before = page_width(t->s);
    page_clean(clean, sizeof clean, frames && *frames ? skip_allocator(frames) : "(no stack)", p->style->utf8);
    for (char *at = clean, *next; at; at = next, n++) {
        next = strstr(at, " < ");
        if (next) {
            *next = 0;
            next += 3;
        }
        char *inlined = strstr(at, " (inlined)");
        if (inlined)
            *inlined = 0;
        if (n < first)
            continue;
        shorten(one, sizeof one, at);
        int need = page_width(one) + (n ? 3 : 0) + (next ? 5 : 0);
        if (used && page_width(t->s) - before + need > width) {
            text_add(t, " < ..");
            break;
        }
        text_add(t, "%s%s", n ? " < " : "", one);
        used++;
    }
    return used;
}

int page_put_frames(struct page *p, const char *frames, int width, bool pad)
{
    struct text t = {.used = 0};
    int n = add_frames(&t, p, frames, 0, width);
    page_name(p->f, t.s, pad || page_width(t.s) > width ? width : page_width(t.s));
    return n;
}

/* The first frame from the `from`th on that a just-in-time compiler made and named: the program's own code, not Node's. */
static const char *made_frame(const char *frames, int from, char *to, size_t room)
{
    const char *at = frames;
    for (int n = 0; at; n++) {
        const char *next = strstr(at, " < ");
        int len = (int)(next ? (size_t)(next - at) : strlen(at));
        if (n >= from && strncmp(at, "[jit] ", 6) == 0 && !memmem(at, (size_t)len, " node:", 6)) {
            snprintf(to, room, "%.*s", len, at);
            return to;
        }
        at = next ? next + 3 : NULL;
    }
    return NULL;
}

void page_put_stack(struct page *p, const char *frames)
{
    int width = p->columns - PAGE_LABEL, shown = 0;
    char made[512], clean[512];
    for (int line = 0; line < 2; line++) {
        struct text t = {.used = 0};
        int n = add_frames(&t, p, frames, shown, width - (line ? 0 : 1));
        if (!n)
            break;
        fprintf(p->f, "%*s", PAGE_LABEL, "");
        page_name(p->f, line ? t.s + 1 : t.s, page_width(t.s) - line < width ? page_width(t.s) - line : width);
        fputc('\n', p->f);
        shown += n;
    }
    if (frames && made_frame(skip_allocator(frames), shown, made, sizeof made)) {
        page_clean(clean, sizeof clean, made, p->style->utf8);
        fprintf(p->f, "%*s.. < ", PAGE_LABEL, "");
        page_name(p->f, clean, page_width(clean) < width - 5 ? page_width(clean) : width - 5);
        fputc('\n', p->f);
    }
}

static int by_frames(const void *a, const void *b, void *of)
{
    const struct page_places *what = of;
    const struct report_site *x = *(const struct report_site *const *)a, *y = *(const struct report_site *const *)b;
    int c = strcmp(x->frames ? x->frames : "", y->frames ? y->frames : "");
    if (c)
        return c;
    uint64_t ax = what->amount(x), ay = what->amount(y);
    return ax == ay ? 0 : ax > ay ? -1 : 1;
}

static int by_amount(const void *a, const void *b)
{
    const struct place *x = a, *y = b;
    if (x->amount != y->amount)
        return x->amount > y->amount ? -1 : 1;
    return strcmp(x->first->frames ? x->first->frames : "", y->first->frames ? y->first->frames : "");
}

/* Sites by stack; `sorted` has room for all of them. How many places. */
static int gather(const struct report *r, const struct page_places *what, const struct report_site **sorted,
                  struct place *place)
{
    int n = 0, places = 0;
    for (int i = 0; i < r->sites; i++)
        if (r->site[i].lockwait == what->lockwait && what->samples(&r->site[i]))
            sorted[n++] = &r->site[i];
    qsort_r(sorted, (size_t)n, sizeof(void *), by_frames, (void *)(uintptr_t)what);
    for (int i = 0; i < n; i++) {
        const struct report_site *s = sorted[i];
        if (i == 0 || strcmp(s->frames ? s->frames : "", sorted[i - 1]->frames ? sorted[i - 1]->frames : "") != 0)
            place[places++] = (struct place){.first = s};
        struct place *to = &place[places - 1];
        to->amount += what->amount(s);
        to->samples += what->samples(s);
        to->endpoints++;
        if (s->oldest_ns && (!to->oldest_ns || s->oldest_ns < to->oldest_ns))
            to->oldest_ns = s->oldest_ns;
    }
    qsort(place, (size_t)places, sizeof *place, by_amount);
    return places;
}

static struct cell cell_amount(const struct page *p, const struct page_places *what, uint64_t amount)
{
    return what->lockwait ? cell_time(amount, p->style->utf8) : cell_bytes(amount);
}

static struct cell cell_error(const struct page *p, uint64_t samples)
{
    struct cell c;
    snprintf(c.s, sizeof c.s, "%s%.0f%%", p->style->utf8 ? "\xc2\xb1" : "+-", 100 / sqrt((double)(samples ? samples : 1)));
    return c;
}

/* The requests that came by, the most first, and the frames that had no room above: places differ there. */
static void put_callers(struct page *p, const struct page_places *what, const struct place *place, int shown)
{
    struct text t = {.used = 0};
    char name[256];
    page_clean(name, sizeof name, place->first->endpoint ? place->first->endpoint : "outside requests", p->style->utf8);
    int width = p->columns - 7 - 22;
    fprintf(p->f, "%7s", "");
    if (place->endpoints > 1)
        text_add(&t, " %s, and %d more", cell_percent(what->amount(place->first), place->amount).s, place->endpoints - 1);
    width = page_width(name) < width ? page_width(name) : width;
    page_name(p->f, name, width);
    int room = p->columns - 7 - width - page_width(t.s) - 1;
    size_t callers = t.used;
    text_add(&t, " ");
    if (room < 24 || !add_frames(&t, p, place->first->frames, shown, room) || page_width(t.s + callers + 1) > room)
        t.s[callers] = 0;
    fprintf(p->f, "%s\n", t.s);
}

static void put_place(struct page *p, const struct page_places *what, const struct place *place, uint64_t all, bool ages)
{
    uint64_t now = p->r->end_ns ? p->r->end_ns : p->r->as_of_ns;
    page_right(p->f, cell_percent(place->amount, all).s, 6);
    fputc(' ', p->f);
    int shown = page_put_frames(p, place->first->frames, p->columns - 7 - BYTES_COLUMNS, true);
    page_right(p->f, cell_amount(p, what, place->amount).s, 9);
    page_right(p->f, cell_count(place->samples).s, 8);
    page_right(p->f,
               ages ? cell_time(place->oldest_ns && now > place->oldest_ns ? now - place->oldest_ns : UNKNOWN, p->style->utf8).s
                    : cell_error(p, place->samples).s,
               8);
    fputc('\n', p->f);
    put_callers(p, what, place, shown);
}

uint64_t page_finer(uint64_t now, uint64_t all, uint64_t samples, uint64_t least)
{
    double wanted = all != UNKNOWN && all ? (double)all / ENOUGH : (double)now * (double)(samples ? samples : 1) / ENOUGH;
    uint64_t rate = least;
    while (rate * 2 <= wanted && rate * 2 < now)
        rate *= 2;
    return rate;
}

static void say_few(struct page *p, const struct page_places *what, uint64_t samples)
{
    const struct report *r = p->r;
    uint64_t now = what->lockwait ? r->lock_sample_ns : r->sample_bytes;
    const char *key = what->lockwait ? "waits.sample_ns" : "memory.sample_bytes";
    if (samples == 0 && what->all == 0)
        return page_say(p, what->word, "nothing");
    uint64_t better = page_finer(now, what->all, samples, what->lockwait ? 1000 : 1024);
    page_say(p, what->word, "%s%s%" PRIu64 " sample%s: too few to tell. Finer: sonde run --set %s=%" PRIu64 " (it was %" PRIu64 ")",
             what->all == UNKNOWN ? "" : cell_amount(p, what, what->all).s, what->all == UNKNOWN ? "" : " in all, ", samples,
             page_plural(samples), key, better, now);
}

static void put_title(struct page *p, const struct page_places *what, uint64_t samples, bool ages)
{
    const struct report *r = p->r;
    struct text t = {.used = 0};
    uint64_t kib = r->sample_bytes >> 10;
    text_add(&t, "%-*s%s samples", PAGE_LABEL, what->word, cell_count(samples).s);
    if (!what->lockwait && (kib << 10) == r->sample_bytes && kib)
        text_add(&t, kib % 1024 ? " of %" PRIu64 " KiB" : " of %" PRIu64 " MiB", kib % 1024 ? kib : kib >> 10);
    else
        text_add(&t, " of %s", cell_amount(p, what, what->lockwait ? r->lock_sample_ns : r->sample_bytes).s);
    text_add(&t, ", %s%s", cell_error(p, samples).s, r->cut ? ", of the whole run" : "");
    page_paint(p, PAGE_BOLD);
    page_name(p->f, t.s, p->columns - BYTES_COLUMNS);
    page_right(p->f, what->column, 9);
    page_right(p->f, "samples", 8);
    page_right(p->f, ages ? "oldest" : "error", 8);
    page_paint(p, PAGE_PLAIN);
    fputc('\n', p->f);
}

void page_put_places(struct page *p, const struct page_places *what)
{
    const struct report *r = p->r;
    uint64_t samples = 0, amount = 0;
    if (!r->sites_known || (!what->lockwait && !r->stacks_sampled))
        return page_say(p, what->word, r->sites_known || !r->stacks_sampled
                                           ? "not known: memory.stacks was off"
                                           : "not known: this store has no sampled stacks");
    const struct report_site **sorted = calloc((size_t)r->sites + 1, sizeof(void *));
    struct place *place = calloc((size_t)r->sites + 1, sizeof *place);
    int places = sorted && place ? gather(r, what, sorted, place) : 0;
    bool ages = false; /* of blocks that live; none is known of those that lived when their process ended */
    for (int i = 0; i < places; i++) {
        samples += place[i].samples;
        amount += place[i].amount;
        ages = ages || (what->oldest && place[i].oldest_ns);
    }
    if (samples < FEW) {
        say_few(p, what, samples);
    } else {
        put_title(p, what, samples, ages);
        int most = r->top > 0 ? r->top : SHOWN;
        for (int i = 0; i < places && i < most; i++)
            put_place(p, what, &place[i], amount, ages);
        if (places > most)
            fprintf(p->f, "%7s+ %d more places: --top %d\n", "", places - most, places);
    }
    free(sorted);
    free(place);
}
