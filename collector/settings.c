/*
 * settings.c - configuration files, --set and --to become one struct settings; every fault names its place.
 *
 * In:      cli, the collector (the JSON that `sonde run` hands it)     Out: struct settings
 * Context: I
 *
 * cJSON keeps no positions, so the line of a key is found again in the text: the first line, from the line of its
 * parent on, that holds the key in quotes before a colon.
 */
#include "collector/settings.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct parse {
    struct settings *into;
    const char *text, *name;
    settings_fault_fn fault;
    void *to;
    int faults;
};

/* Keys beside those of wire/options.h. */
static const char *const plain_keys[] = {"name",    "store", "quiet",   "strict", "allocator", "heap_profile", "output",
                                         "command", "token", "columns", "colour", "utf8",      NULL};
static const char *const output_keys[] = {"url",  "ca_file",       "api_key_file", "user",
                                          "password_file", "namespace", NULL};

void settings_init(struct settings *s)
{
    memset(s, 0, sizeof *s);
    options_init(&s->options);
    s->columns = 80;
}

void settings_fini(struct settings *s)
{
    for (char **word = s->command; word && *word; word++)
        free(*word);
    free(s->command);
    free(s->service);
    free(s->store);
    free(s->allocator);
    free(s->heap_profile);
    free(s->token);
    for (int i = 0; i < s->outputs; i++) {
        struct output *o = &s->output[i];
        free(o->url);
        free(o->ca_file);
        free(o->api_key_file);
        free(o->user);
        free(o->password_file);
        free(o->namespace);
    }
    memset(s, 0, sizeof *s);
}

static void replace(char **field, const char *value)
{
    char *copy = value ? strdup(value) : NULL;
    free(*field);
    *field = copy;
}

static int line_at(const char *text, const char *at)
{
    int line = 1;
    for (const char *p = text; p && p < at; p++)
        line += *p == '\n';
    return line;
}

/* Where the dotted path stands in the text: its last key's quote, found key by key. */
static const char *place_of(const char *text, const char *path)
{
    char key[128];
    const char *at = text, *rest = path;
    for (;;) {
        size_t n = strcspn(rest, "\n");
        snprintf(key, sizeof key, "\"%.*s\"", (int)(n < 100 ? n : 100), rest);
        const char *p = at;
        while ((p = strstr(p, key))) {
            const char *after = p + strlen(key) + strspn(p + strlen(key), " \t\r\n");
            if (*after == ':')
                break;
            p++;
        }
        if (!p)
            return at;
        at = p;
        if (!rest[n])
            return at;
        rest += n + 1;
    }
}

__attribute__((format(printf, 3, 4))) static void fault_at(struct parse *p, const char *path, const char *format, ...)
{
    char where[512], what[512];
    va_list ap;
    va_start(ap, format);
    vsnprintf(what, sizeof what, format, ap);
    va_end(ap);
    if (p->text)
        snprintf(where, sizeof where, "%s:%d", p->name, line_at(p->text, place_of(p->text, path)));
    else
        snprintf(where, sizeof where, "%s", p->name);
    p->faults++;
    if (p->fault)
        p->fault(p->to, where, what);
}

static unsigned edit_distance(const char *a, const char *b)
{
    unsigned row[65];
    size_t n = strlen(b);
    if (n > 64 || strlen(a) > 64)
        return 65;
    for (size_t j = 0; j <= n; j++)
        row[j] = (unsigned)j;
    for (size_t i = 0; a[i]; i++) {
        unsigned diagonal = row[0]++;
        for (size_t j = 0; j < n; j++) {
            unsigned change = diagonal + (a[i] != b[j]);
            diagonal = row[j + 1];
            unsigned best = (row[j] < row[j + 1] ? row[j] : row[j + 1]) + 1;
            row[j + 1] = change < best ? change : best;
        }
    }
    return row[n];
}

static const char *nearest_in(const char *const *keys, const char *key)
{
    const char *best = NULL;
    unsigned least = 4;
    for (; *keys; keys++)
        if (edit_distance(key, *keys) < least) {
            least = edit_distance(key, *keys);
            best = *keys;
        }
    return best;
}

const char *settings_nearest(const char *const *words, const char *word)
{
    const char *near = nearest_in(words, word);
    for (int i = 0; words[i] && word[0] && word[1]; i++)
        if (!strncmp(words[i], word, strlen(word)))
            return words[i];
    return near && edit_distance(word, near) <= (strlen(word) + 1) / 2 ? near : NULL;
}

static void unknown_key(struct parse *p, const char *path, const char *key, const char *near)
{
    if (near && edit_distance(key, near) <= 8)
        fault_at(p, path, "unknown key \"%s\"; did you mean \"%s\"?", key, near);
    else
        fault_at(p, path, "unknown key \"%s\"; `sonde check --help` lists them", key);
}

static const struct option_row *option_of(const char *key)
{
    for (const struct option_row *row = option_rows; row->key; row++)
        if (!strcmp(row->key, key))
            return row;
    return NULL;
}

static void set_option(struct parse *p, const char *path, const char *key, const char *value)
{
    const char *near = NULL;
    int rc = options_set(&p->into->options, key, value, &near);
    const struct option_row *row = option_of(key);
    if (rc == -ENOENT) {
        const char *other = nearest_in(plain_keys, key);
        unknown_key(p, path, key, other ? other : near);
    } else if (rc == -ERANGE && row)
        fault_at(p, path, "%s is %s, must be from %" PRIu64 " to %" PRIu64, key, value, row->min, row->max);
    else if (rc)
        fault_at(p, path, "%s is \"%s\", must be %s", key, value,
                 row && row->is_switch ? "true or false" : "a whole number (k, M, G may follow)");
}

static void set_value(struct parse *p, const char *path, const char *key, const cJSON *value)
{
    char text[64];
    if (cJSON_IsBool(value))
        set_option(p, path, key, cJSON_IsTrue(value) ? "true" : "false");
    else if (cJSON_IsString(value))
        set_option(p, path, key, value->valuestring);
    else if (cJSON_IsNumber(value) && value->valuedouble >= 0 && value->valuedouble < 9007199254740992.0 &&
             value->valuedouble == (double)(uint64_t)value->valuedouble) {
        snprintf(text, sizeof text, "%" PRIu64, (uint64_t)value->valuedouble);
        set_option(p, path, key, text);
    } else if (option_of(key))
        fault_at(p, path, "%s must be %s", key, option_of(key)->is_switch ? "true or false" : "a whole number");
    else
        set_option(p, path, key, "");
}

/* A string, or a fault; NULL and `null` leave the field alone. */
static void set_string(struct parse *p, const char *path, char **field, const cJSON *value)
{
    if (cJSON_IsString(value))
        replace(field, value->valuestring);
    else if (!cJSON_IsNull(value))
        fault_at(p, path, "\"%s\" must be a string", strrchr(path, '\n') ? strrchr(path, '\n') + 1 : path);
}

static void set_flag(struct parse *p, const char *path, bool *field, const cJSON *value)
{
    if (cJSON_IsBool(value))
        *field = cJSON_IsTrue(value);
    else
        fault_at(p, path, "\"%s\" must be true or false", path);
}

static const char *url_fault(const char *url)
{
    static char what[256];
    for (const char *host = url;;) {
        size_t scheme = !strncmp(host, "https://", 8) ? 8 : !strncmp(host, "http://", 7) ? 7 : 0;
        size_t len = strcspn(host, ",");
        if (!scheme) {
            snprintf(what, sizeof what, "\"%.*s\" is no URL of Elasticsearch; write http://HOST:9200 or https://HOST:9200",
                     (int)(len < 100 ? len : 100), host);
            return what;
        }
        if (memchr(host, '@', len))
            return "user and password do not belong into the URL, where `ps` shows them; set SONDE_USER and "
                   "SONDE_PASSWORD, or SONDE_API_KEY, in the environment, or name files in the configuration";
        const char *name = host + scheme, *end = host + len;
        size_t host_len = *name == '[' ? strcspn(name, "]") + 1 : strcspn(name, ":/,");
        if (!host_len || name + host_len > end)
            return "the URL names no host; write http://HOST:9200";
        const char *port = name + host_len;
        if (port < end && *port == ':') {
            char *stop;
            unsigned long n = strtoul(port + 1, &stop, 10);
            if (stop == port + 1 || n == 0 || n > 65535 || (stop < end && *stop != '/'))
                return "the URL's port must be a number from 1 to 65535";
        }
        if (!host[len])
            return NULL;
        host += len + 1;
    }
}

static struct output *add_output(struct parse *p, const char *path, const char *url)
{
    const char *what = url_fault(url);
    if (what) {
        fault_at(p, path, "%s", what);
        return NULL;
    }
    if (p->into->outputs == OUTPUTS_MAX) {
        fault_at(p, path, "more than %d outputs", OUTPUTS_MAX);
        return NULL;
    }
    struct output *o = &p->into->output[p->into->outputs++];
    memset(o, 0, sizeof *o);
    replace(&o->url, url);
    return o;
}

static void parse_output(struct parse *p, const cJSON *object)
{
    const cJSON *url = cJSON_GetObjectItemCaseSensitive(object, "url");
    struct output *o = NULL;
    if (cJSON_IsString(url))
        o = add_output(p, "output\nurl", url->valuestring);
    else
        fault_at(p, "output", "an output needs a \"url\"");
    const cJSON *value;
    cJSON_ArrayForEach(value, object)
    {
        char path[160];
        snprintf(path, sizeof path, "output\n%s", value->string);
        char *unused = NULL, **field = !strcmp(value->string, "url")             ? NULL
                                       : !strcmp(value->string, "ca_file")       ? (o ? &o->ca_file : &unused)
                                       : !strcmp(value->string, "api_key_file")  ? (o ? &o->api_key_file : &unused)
                                       : !strcmp(value->string, "user")          ? (o ? &o->user : &unused)
                                       : !strcmp(value->string, "password_file") ? (o ? &o->password_file : &unused)
                                       : !strcmp(value->string, "namespace")     ? (o ? &o->namespace : &unused)
                                                                                 : NULL;
        if (field)
            set_string(p, path, field, value);
        else if (!strcmp(value->string, "password") || !strcmp(value->string, "api_key"))
            fault_at(p, path, "secrets do not stand in the configuration; name a file with \"%s_file\"", value->string);
        else if (strcmp(value->string, "url") != 0)
            unknown_key(p, path, value->string, nearest_in(output_keys, value->string));
        free(unused);
    }
}

static void parse_command(struct parse *p, const cJSON *array)
{
    int n = cJSON_GetArraySize(array), i = 0;
    const cJSON *word;
    if (!cJSON_IsArray(array)) {
        fault_at(p, "command", "\"command\" must be a list of strings");
        return;
    }
    p->into->command = calloc((size_t)n + 1, sizeof(char *));
    cJSON_ArrayForEach(word, array) if (p->into->command && cJSON_IsString(word)) p->into->command[i++] =
        strdup(word->valuestring);
}

/* One of plain_keys: true. */
static bool parse_plain(struct parse *p, const char *key, const cJSON *value)
{
    struct settings *s = p->into;
    if (!strcmp(key, "name"))
        set_string(p, key, &s->service, value);
    else if (!strcmp(key, "store") && !cJSON_IsObject(value)) /* an object holds store.bytes and its kin */
        set_string(p, key, &s->store, value);
    else if (!strcmp(key, "token"))
        set_string(p, key, &s->token, value);
    else if (!strcmp(key, "allocator")) {
        set_string(p, key, &s->allocator, value);
        if (s->allocator && strcmp(s->allocator, "jemalloc") != 0)
            fault_at(p, key, "allocator can be \"jemalloc\" only");
    } else if (!strcmp(key, "heap_profile"))
        set_string(p, key, &s->heap_profile, value);
    else if (!strcmp(key, "quiet"))
        set_flag(p, key, &s->quiet, value);
    else if (!strcmp(key, "strict"))
        set_flag(p, key, &s->strict, value);
    else if (!strcmp(key, "colour"))
        set_flag(p, key, &s->colour, value);
    else if (!strcmp(key, "utf8"))
        set_flag(p, key, &s->utf8, value);
    else if (!strcmp(key, "columns") && cJSON_IsNumber(value))
        s->columns = value->valueint;
    else if (!strcmp(key, "command"))
        parse_command(p, value);
    else if (!strcmp(key, "output") && cJSON_IsArray(value)) {
        const cJSON *each;
        cJSON_ArrayForEach(each, value) parse_output(p, each);
    } else if (!strcmp(key, "output") && cJSON_IsObject(value) && cJSON_GetObjectItemCaseSensitive(value, "url"))
        parse_output(p, value);
    else
        return false;
    return true;
}

/* `prefix` is the dotted name so far, `path` the same with newlines between keys, for finding the line. */
static void parse_object(struct parse *p, const cJSON *object, const char *prefix, const char *path)
{
    const cJSON *value;
    cJSON_ArrayForEach(value, object)
    {
        char key[256], at[256];
        snprintf(key, sizeof key, "%s%s%s", prefix, *prefix ? "." : "", value->string);
        snprintf(at, sizeof at, "%s%s%s", path, *path ? "\n" : "", value->string);
        if (!*prefix && parse_plain(p, value->string, value))
            continue;
        if (cJSON_IsObject(value))
            parse_object(p, value, key, at);
        else
            set_value(p, at, key, value);
    }
}

int settings_parse(struct settings *s, const char *text, size_t len, const char *name, settings_fault_fn fault, void *to)
{
    struct parse p = {s, text, name, fault, to, 0};
    const char *stopped = NULL;
    char where[512];
    cJSON *root = cJSON_ParseWithLengthOpts(text, len, &stopped, false);
    const char *rest = stopped ? stopped + strspn(stopped, " \t\r\n") : "";
    if (!root || (rest < text + len && *rest)) {
        snprintf(where, sizeof where, "%s:%d", name, stopped ? line_at(text, root ? rest : stopped) : 1);
        if (fault)
            fault(to, where, "not valid JSON here (a missing comma, quote or brace is the usual cause)");
        cJSON_Delete(root);
        return 1;
    }
    if (cJSON_IsObject(root))
        parse_object(&p, root, "", "");
    else
        fault_at(&p, "", "the configuration must be one JSON object: { ... }");
    cJSON_Delete(root);
    return p.faults;
}

int settings_read(struct settings *s, const char *path, settings_fault_fn fault, void *to)
{
    char message[160];
    char *text = NULL;
    size_t len = 0;
    int rc = 0;
    FILE *f = fopen(path, "re");
    if (!f) {
        rc = -errno;
    } else {
        text = malloc((1 << 20) + 1);
        len = text ? fread(text, 1, 1 << 20, f) : 0;
        rc = ferror(f) ? -errno : !text ? -ENOMEM : len == 1 << 20 ? -EFBIG : 0;
        fclose(f);
    }
    if (rc || !text) {
        snprintf(message, sizeof message, "cannot be read: %s; check the path and its permissions", strerror(-rc));
        if (fault)
            fault(to, path, message);
    } else {
        text[len] = 0;
        rc = settings_parse(s, text, len, path, fault, to);
    }
    free(text);
    return rc;
}

int settings_set(struct settings *s, const char *assignment, settings_fault_fn fault, void *to)
{
    char name[300], key[128];
    snprintf(name, sizeof name, "--set %.200s", assignment);
    struct parse p = {s, NULL, name, fault, to, 0};
    const char *equals = strchr(assignment, '=');
    if (!equals || equals == assignment || (size_t)(equals - assignment) >= sizeof key) {
        fault_at(&p, "", "must be KEY=VALUE, as in sampling.spans_per_second=50");
        return p.faults;
    }
    snprintf(key, sizeof key, "%.*s", (int)(equals - assignment), assignment);
    if (!strcmp(key, "name"))
        replace(&s->service, equals + 1);
    else if (!strcmp(key, "store"))
        replace(&s->store, equals + 1);
    else
        set_option(&p, "", key, equals + 1);
    return p.faults;
}

int settings_output(struct settings *s, const char *url, settings_fault_fn fault, void *to)
{
    struct parse p = {s, NULL, "--to", fault, to, 0};
    add_output(&p, "", url);
    return p.faults;
}

static void add_text(cJSON *object, const char *key, const char *value)
{
    if (value)
        cJSON_AddStringToObject(object, key, value);
}

char *settings_json(const struct settings *s)
{
    cJSON *root = cJSON_CreateObject();
    for (const struct option_row *row = option_rows; row->key; row++) {
        uint64_t value = *(const uint64_t *)((const char *)&s->options + row->offset);
        if (row->is_switch)
            cJSON_AddBoolToObject(root, row->key, value != 0);
        else
            cJSON_AddNumberToObject(root, row->key, (double)value);
    }
    add_text(root, "name", s->service);
    add_text(root, "store", s->store);
    add_text(root, "allocator", s->allocator);
    add_text(root, "heap_profile", s->heap_profile);
    add_text(root, "token", s->token);
    cJSON_AddBoolToObject(root, "quiet", s->quiet);
    cJSON_AddBoolToObject(root, "strict", s->strict);
    cJSON_AddBoolToObject(root, "colour", s->colour);
    cJSON_AddBoolToObject(root, "utf8", s->utf8);
    cJSON_AddNumberToObject(root, "columns", s->columns);
    cJSON *outputs = cJSON_AddArrayToObject(root, "output");
    for (int i = 0; i < s->outputs; i++) {
        cJSON *o = cJSON_CreateObject();
        add_text(o, "url", s->output[i].url);
        add_text(o, "ca_file", s->output[i].ca_file);
        add_text(o, "api_key_file", s->output[i].api_key_file);
        add_text(o, "user", s->output[i].user);
        add_text(o, "password_file", s->output[i].password_file);
        add_text(o, "namespace", s->output[i].namespace);
        cJSON_AddItemToArray(outputs, o);
    }
    if (s->command) {
        cJSON *words = cJSON_AddArrayToObject(root, "command");
        for (char **word = s->command; *word; word++)
            cJSON_AddItemToArray(words, cJSON_CreateString(*word));
    }
    char *text = cJSON_PrintUnformatted(root);
    cJSON_Delete(root);
    return text;
}
