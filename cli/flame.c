/*
 * flame.c - `sonde flame`: the stacks that allocate, keep or wait, as text, for speedscope, or as a page.
 *
 * In:      arguments                             Out: collector/flame.h
 * Context: I
 * Exit codes: 0; 1 the store is missing or damaged, the output cannot be written; 2 wrong use.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "collector/flame.h"
#include "collector/report_model.h"

static const char usage[] =
    "usage: sonde flame [STORE] [--by WHAT] [--route R] [--format FORMAT] [-o FILE]\n"
    "\n"
    "Shows where in the code the sampled stacks allocate, keep memory or wait. STORE\n"
    "is ./sonde.db unless named.\n"
    "\n"
    "  --by allocated     bytes that were allocated (default)\n"
    "       retained      those that outlived their request by memory.retained_s\n"
    "       live          of them, those that were never freed so far\n"
    "       lockwait      time waited for locks\n"
    "  --route R          only of this endpoint: \"GET /users/{id}\", /users/{id},\n"
    "                     \"GET *\", outside\n"
    "  --format collapsed   \"root;outer;inner weight\", a line a stack, as\n"
    "                       flamegraph.pl takes it (default)\n"
    "           speedscope  JSON for https://www.speedscope.app\n"
    "           html        one page for a browser, which needs no network\n"
    "  -o FILE            write there; an ending of .html or .json tells the format\n"
    "  --help             this text\n";

struct wish {
    const char *store, *route, *output;
    enum flame_by by;
    enum flame_format format;
    bool format_told, help;
};

static int wrong(const char *what, const char *value)
{
    fprintf(stderr, "sonde flame: %s%s%s (see sonde flame --help)\n", what, value ? ": " : "", value ? value : "");
    return EXIT_WRONG_USE;
}

static int word_of(const char *value, const char *const *words)
{
    for (int i = 0; words[i]; i++)
        if (strcmp(words[i], value) == 0)
            return i;
    return -1;
}

static int take(struct wish *w, int option, const char *value)
{
    static const char *const bys[] = {"allocated", "retained", "live", "lockwait", NULL};
    static const char *const formats[] = {"collapsed", "speedscope", "html", NULL};
    int which;
    switch (option) {
    case 'b':
        which = word_of(value, bys);
        w->by = (enum flame_by)which;
        return which < 0 ? wrong("--by wants allocated, retained, live or lockwait", value) : 0;
    case 'f':
        which = word_of(value, formats);
        w->format = (enum flame_format)which;
        w->format_told = true;
        return which < 0 ? wrong("--format wants collapsed, speedscope or html", value) : 0;
    case 'r':
        w->route = value;
        return 0;
    case 'o':
        w->output = value;
        return 0;
    case 'h':
        w->help = true;
        return 0;
    default:
        return EXIT_WRONG_USE; /* told */
    }
}

static bool ends_in(const char *name, const char *end)
{
    size_t n = strlen(name), m = strlen(end);
    return n >= m && strcmp(name + n - m, end) == 0;
}

static int parse(int argc, char **argv, struct wish *w)
{
    static const struct option options[] = {
        {"by", 1, 0, 'b'}, {"route", 1, 0, 'r'}, {"format", 1, 0, 'f'}, {"output", 1, 0, 'o'}, {"help", 0, 0, 'h'}, {0, 0, 0, 0}};
    opterr = 0;
    for (int c; (c = getopt_long(argc, argv, ":o:h", options, NULL)) != -1;) {
        if (c == '?' || c == ':')
            wrong_option("flame", options, c, argv);
        int rc = take(w, c, optarg);
        if (rc != 0)
            return rc;
    }
    if (argc - optind > 1)
        return wrong("one store at a time", argv[optind + 1]);
    w->store = optind < argc ? argv[optind] : "./sonde.db";
    if (w->output && !w->format_told)
        w->format = ends_in(w->output, ".html")   ? FLAME_HTML
                    : ends_in(w->output, ".json") ? FLAME_SPEEDSCOPE
                                                  : FLAME_COLLAPSED;
    if (w->format == FLAME_HTML && !w->output && isatty(STDOUT_FILENO))
        return wrong("a page is nothing for a terminal; name a file: -o flame.html", NULL);
    return 0;
}

/* Never over a store, which one may have named by mistake. */
static FILE *open_output(const char *path)
{
    char magic[16] = "";
    FILE *f = fopen(path, "re");
    if (f && fread(magic, 1, sizeof magic, f) == sizeof magic && memcmp(magic, "SQLite format 3", 15) == 0) {
        fclose(f);
        errno = EEXIST;
        return NULL;
    }
    if (f)
        fclose(f);
    return fopen(path, "we");
}

/* Why there is nothing, and what to do about it. */
static void say_nothing(const struct flame *f)
{
    const struct report *r = f->r;
    const char *of = f->route ? f->route : "this run";
    if (!r->sites_known)
        complain("nothing was sampled: this store has no stacks");
    else if (f->by != FLAME_LOCKWAIT && !r->stacks_sampled)
        complain("nothing was sampled: memory.stacks was off");
    else if (f->by == FLAME_LOCKWAIT)
        complain("no wait for a lock was sampled in %s (one in %lu ns of waiting is: waits.sample_ns)", of, (unsigned long)r->lock_sample_ns);
    else if (f->by == FLAME_RETAINED)
        complain("nothing sampled in %s outlived its request by %lu s; --by live shows what was not freed so far", of,
                 (unsigned long)r->retained_s);
    else
        complain("no allocation was sampled in %s (one in %lu bytes is); finer: sonde run --set memory.sample_bytes=16384", of,
                 (unsigned long)r->sample_bytes);
}

static int write_out(const struct wish *w, const struct flame *f)
{
    FILE *to = w->output ? open_output(w->output) : stdout;
    if (!to) {
        complain("%s: %s", w->output, errno == EEXIST ? "this is a store; name another file" : strerror(errno));
        return 1;
    }
    int rc = flame_put(f, w->format, to);
    if (w->output && fclose(to) != 0)
        rc = -errno;
    if (rc != 0)
        complain("cannot write %s: %s", w->output ? w->output : "the output", strerror(-rc));
    return rc != 0;
}

static int show(const struct wish *w, const struct report *r)
{
    struct flame f;
    const char *nearest;
    char text[512];
    int rc = flame_build(&f, r, w->by, w->route, &nearest);
    if (rc == -ENOENT) {
        flame_free(&f);
        fprintf(stderr, "sonde flame: no endpoint \"%s\"%s%s%s (sonde report lists them)\n", w->route,
                nearest ? "; did you mean \"" : "", nearest ? nearest : "", nearest ? "\"?" : "");
        return EXIT_WRONG_USE;
    }
    if (rc != 0) {
        complain("%s", strerror(-rc));
    } else {
        rc = write_out(w, &f);
        flame_summary(&f, text, sizeof text, false);
        if (!f.sites)
            say_nothing(&f);
        else if (rc == 0 && (w->output || isatty(STDERR_FILENO)))
            complain("%s%s%s", w->output ? w->output : "", w->output ? ": " : "", text);
    }
    flame_free(&f);
    return rc ? 1 : 0;
}

int flame_main(int argc, char **argv)
{
    struct wish w = {.format = FLAME_COLLAPSED};
    struct report *r;
    char message[4096 + 256];
    int rc = parse(argc, argv, &w);
    if (rc != 0)
        return rc;
    if (w.help) {
        fputs(usage, stdout);
        return 0;
    }
    if (report_read(w.store, &(struct report_query){.sites = true}, &r, message, sizeof message) != 0) {
        fprintf(stderr, "sonde flame: %s\n", message);
        return 1;
    }
    rc = show(&w, r);
    report_free(r);
    return rc;
}
