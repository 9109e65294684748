/*
 * leaks.c - `sonde leaks`: places whose memory grows with the requests.
 *
 * In:      arguments                             Out: collector/report.h
 * Context: I
 * Exit codes: 0, leaks or none; 1 the store is missing or damaged; 2 wrong use.
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "collector/report.h"

static const char usage[] =
    "usage: sonde leaks [STORE] [--json] [--top N]\n"
    "\n"
    "Shows the places in the code whose live memory grows with the requests, the\n"
    "route that makes them grow, how much a request adds, and how sure that is.\n"
    "Memory that stopped growing (a cache that is full) is no leak. STORE is\n"
    "./sonde.db unless named; the run may still be going on.\n"
    "\n"
    "  SURE      it rises over the whole run, by more than chance, and goes on\n"
    "  LIKELY    it rises by more than chance; with more time or samples, surely\n"
    "  TOO FEW   it may rise: too few samples to tell\n"
    "\n"
    "  --json    one JSON object (docs/report.md)\n"
    "  --top N   show N places (default 10)\n"
    "  --help    this text\n";

static int wrong(const char *what, const char *value)
{
    fprintf(stderr, "sonde leaks: %s%s%s (see sonde leaks --help)\n", what, value ? ": " : "", value ? value : "");
    return EXIT_WRONG_USE;
}

int leaks_main(int argc, char **argv)
{
    static const struct option options[] = {{"json", 0, 0, 'j'}, {"top", 1, 0, 't'}, {"help", 0, 0, 'h'}, {0, 0, 0, 0}};
    struct report_query query = {.sites = true, .history = true};
    struct report *r;
    char message[4096 + 256], *end;
    bool json = false;
    opterr = 0;
    for (int c; (c = getopt_long(argc, argv, ":h", options, NULL)) != -1;) {
        if (c == 'h')
            return fputs(usage, stdout) < 0;
        if (c == 'j') {
            json = true;
        } else if (c == 't') {
            long n = strtol(optarg, &end, 10);
            if (*end || n < 1 || n > 1000000)
                return wrong("--top wants a number above 0", optarg);
            query.top = (int)n;
        } else {
            wrong_option("leaks", options, c, argv);
            return EXIT_WRONG_USE;
        }
    }
    if (argc - optind > 1)
        return wrong("one store at a time", argv[optind + 1]);
    const char *store = optind < argc ? argv[optind] : "./sonde.db";
    if (report_read(store, &query, &r, message, sizeof message) != 0) {
        fprintf(stderr, "sonde leaks: %s\n", message);
        return 1;
    }
    struct report_style style = report_style_of_terminal(store);
    int rc = 0;
    if (json)
        rc = report_leaks_json(r, stdout);
    else
        report_leaks_text(r, &style, stdout);
    if (rc != 0 || ferror(stdout))
        complain("cannot write: the output is full or closed");
    report_free(r);
    return rc != 0 || ferror(stdout) ? 1 : 0;
}
