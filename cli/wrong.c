/*
 * wrong.c - what all commands say to a wrong word: which one, what was meant perhaps, where to read on.
 */
#include "cli/cli.h"

#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define COLUMNS 80
#define HELP_AT 30 /* where the text of a setting begins */

void wrong_option(const char *command, const struct option *options, int found, char **argv)
{
    char word[64], meant[80] = "";
    const char *names[32], *near;
    int n = 0;
    snprintf(word, sizeof word, "%s", argv[optind - 1]);
    if (optopt && !memchr(word, '=', strlen(word)) && strncmp(word, "--", 2) != 0)
        snprintf(word, sizeof word, "-%c", optopt); /* one letter, perhaps of several */
    if (found == ':') {
        fprintf(stderr, "sonde %s: %s wants a value (see sonde %s --help)\n", command, word, command);
        return;
    }
    word[strcspn(word, "=")] = 0;
    for (const struct option *o = options; o->name && n < 31; o++) {
        if (!strncmp(word, "--", 2) && !strcmp(word + 2, o->name)) {
            fprintf(stderr, "sonde %s: %s takes no value (see sonde %s --help)\n", command, word, command);
            return;
        }
        names[n++] = o->name;
    }
    names[n] = NULL;
    near = strncmp(word, "--", 2) ? NULL : settings_nearest(names, word + 2);
    if (near)
        snprintf(meant, sizeof meant, "; did you mean --%s?", near);
    fprintf(stderr, "sonde %s: no such option: %s%s (see sonde %s --help)\n", command, word, meant, command);
}

/* `text` in lines of at most 80 columns, all but the first one indented. */
static void put_wrapped(FILE *to, const char *text)
{
    int column = HELP_AT;
    for (size_t n; *text; text += n) {
        text += strspn(text, " ");
        n = strcspn(text, " ");
        if (column > HELP_AT && column + 1 + (int)n > COLUMNS) {
            fprintf(to, "\n%*s", HELP_AT, "");
            column = HELP_AT;
        } else if (column > HELP_AT)
            column += fprintf(to, " ");
        column += fprintf(to, "%.*s", (int)n, text);
    }
    fputc('\n', to);
}

void print_settings(FILE *to)
{
    for (const struct option_row *row = option_rows; row->key; row++) {
        char text[512];
        if (row->is_switch)
            snprintf(text, sizeof text, "%s (%s)", row->help, row->initial ? "true" : "false");
        else
            snprintf(text, sizeof text, "%s (%" PRIu64 ")", row->help, row->initial);
        fprintf(to, "  %-27s ", row->key);
        put_wrapped(to, text);
    }
}
