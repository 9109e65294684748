/*
 * report.c - `sonde report`: shows what a store holds, after the run or while it goes on.
 *
 * In:      arguments                            Out: collector/report.h
 * Context: I
 * Exit codes: 0; 1 the store is missing or damaged, or --strict and not complete; 2 wrong use.
 */
#include <errno.h>
#include <langinfo.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "cli/cli.h"
#include "collector/report.h"

static const char usage[] =
    "usage: sonde report [STORE] [options]\n"
    "\n"
    "Shows what each request cost. STORE is ./sonde.db unless named; the run may\n"
    "still be going on.\n"
    "\n"
    "  --json            one JSON object with everything (docs/report.md)\n"
    "  --memory          what requests allocate and keep, and where in the code\n"
    "  --cpu             whose CPU it was\n"
    "  --waits           what its time was spent on: CPU, locks, disk, calls, sleep\n"
    "  --slowest N       the N slowest sampled requests, with their phases\n"
    "  --last D          only the last D: 90s, 5m, 2h, 1d (in whole intervals)\n"
    "  --since T         only since T: 14:30, 14:30:05, 2026-01-31T14:30:05 (local;\n"
    "                    with Z at the end UTC)\n"
    "  --sort KEY        count, time, p99, errors, heap, kept, cpu, out (count;\n"
    "                    --memory: kept, --cpu: cpu, --waits: time)\n"
    "  --top N           show N endpoints (20; with --json all) and places (5)\n"
    "  --strict          exit 1 when the report is not complete\n"
    "  --help            this text\n";

struct wish {
    struct report_query query;
    const char *store;
    uint64_t last_ns;
    bool json, strict;
    unsigned views; /* enum report_view */
};

static int wrong(const char *what, const char *value)
{
    fprintf(stderr, "sonde report: %s%s%s (see sonde report --help)\n", what, value ? ": " : "",
            value ? value : "");
    return 2;
}

/* 90s, 5m, 2h, 1d, 1500ms. 0: not a duration. */
static uint64_t duration(const char *text)
{
    static const struct {
        const char *unit;
        double ns;
    } units[] = {{"ms", 1e6},   {"s", 1e9},     {"m", 60e9}, {"min", 60e9},
                 {"h", 3600e9}, {"d", 86400e9}, {"", 1e9}};
    char *end;
    double v = strtod(text, &end);
    if (end == text || !(v > 0) || v > 1e9)
        return 0;
    for (size_t i = 0; i < sizeof units / sizeof *units; i++)
        if (strcmp(end, units[i].unit) == 0 && v * units[i].ns < 9e18)
            return (uint64_t)(v * units[i].ns);
    return 0;
}

/* A time of today (yesterday, if that were to come), or a whole date. 0: not a time. */
static uint64_t moment(const char *text)
{
    static const char *const formats[] = {
        "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M",
        "%Y-%m-%d",          "%H:%M:%S",          "%H:%M"};
    time_t now = time(NULL);
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
        struct tm t;
        localtime_r(&now, &t);
        if (formats[i][1] == 'Y')
            memset(&t, 0, sizeof t);
        t.tm_sec = 0;
        t.tm_isdst = -1;
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        char *end = strptime(text, formats[i], &t);
#pragma GCC diagnostic pop
        if (!end || end == text)
            continue;
        if (*end == '.' && end[1])
            end += 1 + strspn(end + 1, "0123456789");
        bool utc = strcmp(end, "Z") == 0;
        if (*end && !utc)
            continue;
        time_t s = utc ? timegm(&t) : mktime(&t);
        if (formats[i][1] == 'H' && s > now)
            s -= 86400;
        return s > 0 ? (uint64_t)s * 1000000000 : 0;
    }
    return 0;
}

static int whole_number(const char *text)
{
    char *end;
    errno = 0;
    long v = strtol(text, &end, 10);
    return errno == 0 && end != text && *end == 0 && v > 0 && v <= 1000000 ? (int)v : 0;
}

static bool is_sort(const char *text)
{
    static const char *const keys[] = {"count", "time", "p99", "errors",
                                       "heap",  "out",  "kept", "cpu"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (strcmp(text, keys[i]) == 0)
            return true;
    return false;
}

/* One option with its value. 0, or 2 after a message. */
static int take_value(struct wish *w, const char *option, const char *value)
{
    if (strcmp(option, "--last") == 0)
        return (w->last_ns = duration(value))
                   ? 0
                   : wrong("--last wants a duration like 90s, 5m, 2h", value);
    if (strcmp(option, "--since") == 0)
        return (w->query.since_ns = moment(value))
                   ? 0
                   : wrong("--since wants a time like 14:30 or 2026-01-31T14:30", value);
    if (strcmp(option, "--sort") == 0) {
        w->query.sort = value;
        return is_sort(value) ? 0
                              : wrong("--sort wants count, time, p99, errors, heap, kept, cpu or out",
                                      value);
    }
    if (strcmp(option, "--top") == 0)
        return (w->query.top = whole_number(value)) ? 0
                                                    : wrong("--top wants a number above 0", value);
    return (w->query.slowest = whole_number(value))
               ? 0
               : wrong("--slowest wants a number above 0", value);
}

static bool takes_value(const char *option)
{
    static const char *const options[] = {"--last", "--since", "--sort", "--top", "--slowest"};
    for (size_t i = 0; i < sizeof options / sizeof *options; i++)
        if (strcmp(option, options[i]) == 0)
            return true;
    return false;
}

static unsigned view_of(const char *option)
{
    static const char *const names[] = {"--memory", "--cpu", "--waits"};
    for (unsigned i = 0; i < 3; i++)
        if (strcmp(option, names[i]) == 0)
            return 1u << i;
    return 0;
}

static int no_such_option(const char *word)
{
    static const char *const names[] = {"json",  "memory", "cpu", "waits",  "slowest", "last",
                                        "since", "sort",   "top", "strict", "help",    NULL};
    const char *near = strncmp(word, "--", 2) ? NULL : settings_nearest(names, word + 2);
    char what[96] = "no such option";
    if (near)
        snprintf(what, sizeof what, "no such option (did you mean --%s?)", near);
    return wrong(what, word);
}

/* 0, 2 wrong use, -1 help was shown */
static int parse(int argc, char **argv, struct wish *w)
{
    bool options = true;
    for (int i = 1; i < argc; i++) {
        char name[32];
        const char *word = argv[i], *equals = strchr(word, '=');
        if (!options || word[0] != '-' || word[1] == 0) {
            if (w->store)
                return wrong("one store at a time", word);
            w->store = word;
            continue;
        }
        snprintf(name, sizeof name, "%.*s", equals ? (int)(equals - word) : 31, word);
        if (strcmp(word, "--") == 0) {
            options = false;
        } else if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) {
            fputs(usage, stdout);
            return -1;
        } else if (strcmp(word, "--json") == 0) {
            w->json = true;
        } else if (strcmp(word, "--strict") == 0) {
            w->strict = true;
        } else if (view_of(word)) {
            w->views |= view_of(word);
        } else if (takes_value(name)) {
            const char *value = equals ? equals + 1 : i + 1 < argc ? argv[++i] : NULL;
            if (!value)
                return wrong("a value is missing after", word);
            int rc = take_value(w, name, value);
            if (rc != 0)
                return rc;
        } else {
            return no_such_option(name);
        }
    }
    if (w->last_ns && w->query.since_ns)
        return wrong("--last and --since exclude each other", NULL);
    return 0;
}

struct report_style report_style_of_terminal(const char *store)
{
    struct winsize size;
    struct report_style style = {.columns = 80, .store = store};
    const char *term = getenv("TERM"), *columns = getenv("COLUMNS");
    bool terminal = isatty(STDOUT_FILENO);
    if (terminal && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0)
        style.columns = size.ws_col;
    else if (columns && whole_number(columns))
        style.columns = whole_number(columns);
    style.colour = terminal && !getenv("NO_COLOR") && term && strcmp(term, "dumb") != 0;
    setlocale(LC_CTYPE, "");
    style.utf8 = strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
    setlocale(LC_CTYPE, "C");
    return style;
}

/* --last counts from what the store knows last, so that it means the same after the run. */
static int load(struct wish *w, struct report **out, char *message, size_t room)
{
    if (w->last_ns) {
        int rc = report_read(w->store, NULL, out, message, room);
        if (rc != 0)
            return rc;
        uint64_t end = report_as_of(*out);
        report_free(*out);
        w->query.since_ns = end > w->last_ns ? end - w->last_ns : 1;
    }
    return report_read(w->store, &w->query, out, message, room);
}

int report_main(int argc, char **argv)
{
    struct wish w = {0};
    struct report *r;
    char message[4096 + 256];
    int rc = parse(argc, argv, &w);
    if (rc != 0)
        return rc < 0 ? 0 : rc;
    if (!w.store)
        w.store = "./sonde.db";
    if (!w.query.sort) /* the most of what is asked for first */
        w.query.sort = w.views == REPORT_MEMORY  ? "kept"
                       : w.views == REPORT_CPU   ? "cpu"
                       : w.views == REPORT_WAITS ? "time"
                                                 : "count";
    w.query.sites = w.json || w.views & (REPORT_MEMORY | REPORT_WAITS);
    w.query.history = w.views & REPORT_MEMORY;
    if (w.json && !w.query.slowest)
        w.query.slowest = 10;
    if (load(&w, &r, message, sizeof message) != 0) {
        fprintf(stderr, "sonde report: %s\n", message);
        return 1;
    }
    struct report_style style = report_style_of_terminal(w.store);
    if (w.json)
        rc = report_json(r, stdout);
    else if (w.views)
        report_views_text(r, &style, w.views, stdout);
    else if (!w.query.slowest)
        report_text(r, &style, stdout);
    if (!w.json && w.query.slowest)
        report_slowest_text(r, &style, stdout);
    if (rc != 0 || ferror(stdout)) {
        fprintf(stderr, "sonde report: cannot write the report: %s\n", strerror(rc ? -rc : EIO));
        rc = 1;
    } else if (w.strict && !report_is_complete(r)) {
        rc = 1;
    }
    report_free(r);
    return rc;
}
