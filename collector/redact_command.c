/*
 * redact_command.c - secrets among the words of a command line.
 *
 * In:      main.c                                Out: -
 * Context: P
 * Failure: no memory: the word is masked as a whole.
 */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "collector/redact.h"

static bool ends_in(const char *name, size_t len, const char *end)
{
    size_t n = strlen(end);
    return len >= n && !strncasecmp(name + len - n, end, n);
}

/* Narrower than redact_is_secret_key: options are words that programs chose, not keys of unknown queries. */
static bool is_secret_name(const char *name, size_t len)
{
    static const char *const words[] = {"passw",      "passphrase", "passwd",     "requirepass", "masterauth", "pwd",
                                        "secret",     "token",      "credential", "cookie",      "authorization",
                                        "apikey",     "api-key",    "api_key",    "access-key",  "access_key"};
    static const char *const whole[] = {"pass", "auth"};
    static const char *const places[] = {"file", "path", "dir"}; /* where the secret lies is none */
    for (size_t i = 0; i < sizeof places / sizeof *places; i++)
        if (ends_in(name, len, places[i]))
            return false;
    while (len && *name == '-') {
        name++;
        len--;
    }
    for (size_t i = 0; i < sizeof whole / sizeof *whole; i++)
        if (strlen(whole[i]) == len && !strncasecmp(name, whole[i], len))
            return true;
    return redact_holds(name, len, words, sizeof words / sizeof *words);
}

static bool is_user_option(const char *word)
{
    return !strcmp(word, "-u") || !strcmp(word, "--user") || !strcmp(word, "--proxy-user");
}

/* What of the word is secret: from `*begin` to `*end`. */
static bool find_secret(const char *before, const char *word, const char **begin, const char **end)
{
    *end = word + strlen(word);
    const char *mark = word + strcspn(word, "=: \t\n");
    if (before && *before == '-' && !strchr(before, '=') && *word && *word != '-' &&
        is_secret_name(before, strlen(before))) {
        *begin = word;
        return true;
    }
    if ((*mark == '=' || (*mark == ':' && mark[1] != '/')) && is_secret_name(word, (size_t)(mark - word))) {
        *begin = mark + 1 + strspn(mark + 1, " ");
        return **begin;
    }
    const char *colon = strchr(word, ':'), *url = strstr(word, "://");
    if (before && is_user_option(before) && colon) {
        *begin = colon + 1;
        return **begin;
    }
    if (!url)
        return false;
    *begin = url + 3;
    const char *host = *begin + strcspn(*begin, "/?# "), *at = memrchr(*begin, '@', (size_t)(host - *begin));
    if (at)
        *end = at;
    return at && at > *begin;
}

static char *masked(const char *word, const char *begin, const char *end)
{
    char *out = malloc((size_t)(begin - word) + sizeof REDACT_MASK + strlen(end));
    if (!out)
        return NULL;
    char *to = mempcpy(out, word, (size_t)(begin - word));
    stpcpy(stpcpy(to, REDACT_MASK), end);
    return out;
}

void redact_command(char **words)
{
    char *before = NULL, *kept = NULL; /* as they were: what one word says decides on the next */
    for (char **word = words; word && *word; word++) {
        const char *begin, *end;
        char *now = *word;
        if (word > words && find_secret(before, now, &begin, &end)) {
            *word = masked(now, begin, end);
            if (!*word)
                *word = memset(now, '*', strlen(now));
            free(kept);
            kept = *word == now ? NULL : now;
        }
        before = now;
    }
    free(kept);
}
