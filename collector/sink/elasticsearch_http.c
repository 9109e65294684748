/*
 * elasticsearch_http.c - requests to the hosts of one output, several at once, none blocking.
 *
 * In:      elasticsearch.c, elasticsearch_setup.c      Out: the network
 * Owns:    connections, credentials, each host's back-off. Only this file knows libcurl.
 * Context: sink thread
 *
 * Secrets stand in the header list of a request and nowhere else: no message, no argument, no file
 * of ours has them.
 */
#include "collector/sink/elasticsearch_http.h"

#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#define HOSTS_MAX 32
#define SECOND UINT64_C(1000000000)
#define LONGEST_BACK_OFF_NS (60 * SECOND)
#define CONNECT_TIMEOUT_MS 10000L
#define ANSWER_TIMEOUT_MS 90000L /* a server waits a minute for a shard before it says 503 */
#define KEPT_ANSWER_BYTES (256u << 10)

struct host {
    char *url; /* without a final slash */
    unsigned failures;
    uint64_t not_before_ns;
    bool loopback;
};

struct slot {
    CURL *easy;
    struct curl_slist *headers;
    bool busy, done, too_long;
    int host;
    void *tag;
    CURLcode code;
    char *text;
    size_t len, room, most;
    uint64_t started_ns;
    char error[CURL_ERROR_SIZE];
};

struct http {
    CURLM *multi;
    struct host host[HOSTS_MAX];
    int hosts, next_host;
    struct slot slot[HTTP_SLOTS];
    int running;
    unsigned seed;
    const struct output *output;
    char *authorization; /* the header line, NULL none */
    char who[160];
};

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * SECOND + (uint64_t)t.tv_nsec;
}

/* --- credentials ----------------------------------------------------------------------------- */

static void forget(char *secret)
{
    if (secret)
        explicit_bzero(secret, strlen(secret));
    free(secret);
}

static char *base64(const char *from, size_t len)
{
    static const char letters[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char *to = malloc((len + 2) / 3 * 4 + 1), *p = to;
    if (!to)
        return NULL;
    for (size_t i = 0; i < len; i += 3) {
        unsigned v = (unsigned)(uint8_t)from[i] << 16;
        v |= i + 1 < len ? (unsigned)(uint8_t)from[i + 1] << 8 : 0;
        v |= i + 2 < len ? (uint8_t)from[i + 2] : 0;
        *p++ = letters[v >> 18];
        *p++ = letters[v >> 12 & 63];
        *p++ = i + 1 < len ? letters[v >> 6 & 63] : '=';
        *p++ = i + 2 < len ? letters[v & 63] : '=';
    }
    *p = 0;
    return to;
}

/* The first line of a file, without its newline and the spaces around. NULL and errno: cannot be
 * read, or it is empty. */
static char *read_secret(const char *path)
{
    char text[4096], *start = text;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return NULL;
    ssize_t n = read(fd, text, sizeof text - 1);
    int failed = n < 0 ? errno : ENODATA;
    close(fd);
    text[n > 0 ? n : 0] = 0;
    start += strspn(start, " \t");
    start[strcspn(start, "\r\n")] = 0;
    for (size_t len = strlen(start); len && (start[len - 1] == ' ' || start[len - 1] == '\t');)
        start[--len] = 0;
    char *secret = *start ? strdup(start) : NULL;
    explicit_bzero(text, sizeof text);
    if (!secret)
        errno = failed;
    return secret;
}

static char *basic(const char *user, const char *password)
{
    char *both = NULL, *line = NULL, *encoded = NULL;
    if (asprintf(&both, "%s:%s", user, password) < 0)
        return NULL;
    encoded = base64(both, strlen(both));
    if (encoded && asprintf(&line, "Authorization: Basic %s", encoded) < 0)
        line = NULL;
    forget(both);
    forget(encoded);
    return line;
}

/* A key as the server's `encoded` gives it, or as id:key. */
static char *api_key(const char *key)
{
    char *encoded = strchr(key, ':') ? base64(key, strlen(key)) : strdup(key), *line = NULL;
    if (encoded && asprintf(&line, "Authorization: ApiKey %s", encoded) < 0)
        line = NULL;
    forget(encoded);
    return line;
}

static const char *environment(const char *name)
{
    const char *value = getenv(name);
    return value && *value ? value : NULL;
}

/* The header line of a user's password: of its file, else of the environment. */
static char *user_line(const struct output *o, const char *user, char *message, size_t bytes)
{
    const char *given = environment("SONDE_PASSWORD");
    char *password = o->password_file ? read_secret(o->password_file) : strdup(given ? given : "");
    if (!password) {
        snprintf(message, bytes, "the password file %s: %s",
                 o->password_file ? o->password_file : "", strerror(errno));
        return NULL;
    }
    char *line = basic(user, password);
    forget(password);
    return line;
}

/* What the output names comes first, then the environment. 0, or -errno with a message. */
static int load_credentials(const struct output *o, char **line, char *who, size_t who_bytes,
                            char *message, size_t bytes)
{
    const char *key = environment("SONDE_API_KEY");
    const char *user = o->user ? o->user : environment("SONDE_USER");
    *line = NULL;
    if (o->api_key_file || (key && !o->user)) {
        char *secret = o->api_key_file ? read_secret(o->api_key_file) : strdup(key);
        if (!secret) {
            snprintf(message, bytes, "the API key file %s: %s",
                     o->api_key_file ? o->api_key_file : "", strerror(errno));
            return -errno;
        }
        *line = api_key(secret);
        forget(secret);
        snprintf(who, who_bytes, "an API key");
    } else if (user) {
        *line = user_line(o, user, message, bytes);
        snprintf(who, who_bytes, "user %s", user);
    } else {
        snprintf(who, who_bytes, "no credentials");
        return 0;
    }
    return *line ? 0 : -EINVAL;
}

bool http_credentials_reload(struct http *h)
{
    char *line, message[256];
    if (load_credentials(h->output, &line, h->who, sizeof h->who, message, sizeof message))
        return false; /* being replaced just now, perhaps: what worked before stays */
    bool changed = !line != !h->authorization || (line && strcmp(line, h->authorization) != 0);
    forget(h->authorization);
    h->authorization = line;
    return changed;
}

const char *http_credentials(const struct http *h)
{
    return h->who;
}

/* --- hosts ----------------------------------------------------------------------------------- */

static bool is_loopback(const char *url)
{
    const char *host = strstr(url, "://");
    host = host ? host + 3 : url;
    size_t len = *host == '[' ? strcspn(host, "]") + 1 : strcspn(host, ":/");
    return (len == 9 && !strncasecmp(host, "localhost", 9)) || !strncmp(host, "127.", 4) ||
           (len == 5 && !strncmp(host, "[::1]", 5));
}

/* A comma list; a host without a scheme takes that of the one before it. */
static int add_hosts(struct http *h, const char *urls)
{
    const char *scheme = "http://";
    for (const char *at = urls; *at; at += strspn(at, ", ")) {
        size_t len = strcspn(at, ", ");
        bool has_scheme = !strncasecmp(at, "http://", 7) || !strncasecmp(at, "https://", 8);
        if (has_scheme)
            scheme = strncasecmp(at, "https", 5) ? "http://" : "https://";
        struct host *host = &h->host[h->hosts];
        size_t used = len;
        while (used && at[used - 1] == '/')
            used--;
        if (!used || h->hosts == HOSTS_MAX)
            return -EINVAL;
        if (asprintf(&host->url, "%s%.*s", has_scheme ? "" : scheme, (int)used, at) < 0)
            return -ENOMEM;
        host->loopback = is_loopback(host->url);
        h->hosts++;
        at += len;
    }
    return h->hosts ? 0 : -EINVAL;
}

int http_hosts(const struct http *h)
{
    return h->hosts;
}

const char *http_url(const struct http *h, int host)
{
    return h->host[host].url;
}

int http_host(struct http *h, uint64_t now, uint64_t *next_ns)
{
    *next_ns = UINT64_MAX;
    for (int i = 0; i < h->hosts; i++) {
        int host = (h->next_host + i) % h->hosts;
        if (h->host[host].not_before_ns <= now) {
            h->next_host = (host + 1) % h->hosts;
            return host;
        }
        if (h->host[host].not_before_ns < *next_ns)
            *next_ns = h->host[host].not_before_ns;
    }
    return -1;
}

void http_host_failed(struct http *h, int host, uint64_t now, uint64_t at_least_ns,
                      uint64_t most_ns)
{
    struct host *one = &h->host[host];
    uint64_t limit = one->failures < 6 ? SECOND << one->failures : LONGEST_BACK_OFF_NS;
    one->failures++;
    limit = limit < most_ns ? limit : most_ns;
    uint64_t wait = (uint64_t)((double)limit * ((double)rand_r(&h->seed) / RAND_MAX));
    if (wait < limit / 20) /* never a loop without a pause */
        wait = limit / 20;
    if (wait < at_least_ns)
        wait = at_least_ns < most_ns ? at_least_ns : most_ns;
    one->not_before_ns = now + wait;
}

void http_host_worked(struct http *h, int host)
{
    h->host[host].failures = 0;
    h->host[host].not_before_ns = 0;
}

void http_hosts_hurry(struct http *h, uint64_t latest_ns)
{
    for (int i = 0; i < h->hosts; i++)
        if (h->host[i].not_before_ns > latest_ns)
            h->host[i].not_before_ns = latest_ns;
}

/* --- requests -------------------------------------------------------------------------------- */

static size_t on_data(char *data, size_t size, size_t count, void *to)
{
    struct slot *s = to;
    size_t n = size * count, room = s->room ? s->room : 16384;
    if (s->len + n > s->most) {
        s->too_long = true;
        return 0;
    }
    while (room < s->len + n + 1)
        room *= 2;
    if (room != s->room) {
        char *more = realloc(s->text, room);
        if (!more)
            return 0;
        s->text = more;
        s->room = room;
    }
    memcpy(s->text + s->len, data, n);
    s->len += n;
    s->text[s->len] = 0;
    return n;
}

static bool add_header(struct curl_slist **list, const char *line)
{
    struct curl_slist *more = curl_slist_append(*list, line);
    if (more)
        *list = more;
    return more;
}

static void free_headers(struct slot *s)
{
    for (struct curl_slist *h = s->headers; h; h = h->next)
        if (!strncmp(h->data, "Authorization:", 14))
            explicit_bzero(h->data, strlen(h->data));
    curl_slist_free_all(s->headers);
    s->headers = NULL;
}

static bool set_headers(const struct http *h, struct slot *s, const struct http_request *r)
{
    bool good =
        add_header(&s->headers, "Expect:"); /* or a large body waits a second for 100 Continue */
    if (r->body) {
        bool lines = strstr(r->path, "_bulk");
        good &= add_header(&s->headers, lines ? "Content-Type: application/x-ndjson"
                                              : "Content-Type: application/json");
    }
    if (r->gzip)
        good &= add_header(&s->headers, "Content-Encoding: gzip");
    if (h->authorization)
        good &= add_header(&s->headers, h->authorization);
    return good;
}

static void set_options(const struct http *h, struct slot *s, const struct http_request *r)
{
    const struct host *host = &h->host[s->host];
    curl_easy_setopt(s->easy, CURLOPT_PRIVATE, s);
    curl_easy_setopt(s->easy, CURLOPT_ERRORBUFFER, s->error);
    curl_easy_setopt(s->easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(s->easy, CURLOPT_QUICK_EXIT, 1L); /* giving up waits for no name server */
    curl_easy_setopt(s->easy, CURLOPT_WRITEFUNCTION, on_data);
    curl_easy_setopt(s->easy, CURLOPT_WRITEDATA, s);
    curl_easy_setopt(s->easy, CURLOPT_USERAGENT, "sonde/" SONDE_VERSION);
    curl_easy_setopt(s->easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(s->easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(s->easy, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_TIMEOUT_MS);
    curl_easy_setopt(s->easy, CURLOPT_TIMEOUT_MS, ANSWER_TIMEOUT_MS);
    curl_easy_setopt(s->easy, CURLOPT_TCP_KEEPALIVE, 1L);
    if (host->loopback) /* a proxy of the environment has no business there */
        curl_easy_setopt(s->easy, CURLOPT_NOPROXY, "*");
    if (h->output->ca_file)
        curl_easy_setopt(s->easy, CURLOPT_CAINFO, h->output->ca_file);
    curl_easy_setopt(s->easy, CURLOPT_HTTPHEADER, s->headers);
    if (r->body) {
        curl_easy_setopt(s->easy, CURLOPT_POSTFIELDS, r->body);
        curl_easy_setopt(s->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)r->len);
    }
    curl_easy_setopt(s->easy, CURLOPT_CUSTOMREQUEST, r->method);
}

bool http_start(struct http *h, int host, const struct http_request *r)
{
    struct slot *s = NULL;
    char url[2048];
    for (int i = 0; i < HTTP_SLOTS && !s; i++)
        if (!h->slot[i].busy)
            s = &h->slot[i];
    if (!s || (!s->easy && !(s->easy = curl_easy_init())))
        return false;
    curl_easy_reset(s->easy);
    s->host = host;
    s->tag = r->tag;
    s->len = 0;
    s->most = r->answer_max;
    s->too_long = s->done = false;
    *s->error = 0;
    snprintf(url, sizeof url, "%s%s", h->host[host].url, r->path);
    if (!set_headers(h, s, r) || curl_easy_setopt(s->easy, CURLOPT_URL, url)) {
        free_headers(s);
        return false;
    }
    set_options(h, s, r);
    if (curl_multi_add_handle(h->multi, s->easy)) {
        free_headers(s);
        return false;
    }
    s->busy = true;
    s->started_ns = now_ns();
    h->running++;
    return true;
}

int http_running(const struct http *h)
{
    return h->running;
}

void http_work(struct http *h, int ms)
{
    int left;
    CURLMsg *message;
    curl_multi_perform(h->multi, &left);
    if (ms > 0 && left == h->running && left) {
        curl_multi_poll(h->multi, NULL, 0, ms, NULL);
        curl_multi_perform(h->multi, &left);
    }
    while ((message = curl_multi_info_read(h->multi, &left)))
        if (message->msg == CURLMSG_DONE) {
            struct slot *s = NULL;
            CURLcode code = message->data.result;
            CURL *easy = message->easy_handle;
            curl_easy_getinfo(easy, CURLINFO_PRIVATE, (char **)&s);
            curl_multi_remove_handle(h->multi, easy);
            s->done = true;
            s->code = code;
        }
}

static enum http_fault fault_of(const struct slot *s)
{
    curl_off_t sent = 0;
    long os_error = 0;
    curl_easy_getinfo(s->easy, CURLINFO_SIZE_UPLOAD_T, &sent);
    curl_easy_getinfo(s->easy, CURLINFO_OS_ERRNO, &os_error);
    switch (s->code) {
    case CURLE_OK:
        return HTTP_ANSWERED;
    case CURLE_COULDNT_CONNECT:
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_URL_MALFORMAT:
        return HTTP_UNREACHABLE;
    case CURLE_OPERATION_TIMEDOUT:
        return sent ? HTTP_TIMEOUT : HTTP_UNREACHABLE;
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CIPHER:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_ISSUER_ERROR:
        return HTTP_TLS;
    case CURLE_WRITE_ERROR:
        return s->too_long ? HTTP_TOO_LONG : HTTP_CLOSED;
    default:
        return HTTP_CLOSED;
    }
}

static uint64_t retry_after(const struct slot *s)
{
    curl_off_t seconds = 0;
    if (curl_easy_getinfo(s->easy, CURLINFO_RETRY_AFTER, &seconds) || seconds <= 0)
        return 0;
    return (seconds < 3600 ? (uint64_t)seconds : 3600) * SECOND;
}

/* A long answer's room is given back once it was read. */
static void trim(struct slot *s)
{
    if (s->room > KEPT_ANSWER_BYTES) {
        free(s->text);
        s->text = NULL;
        s->room = 0;
    }
}

bool http_next(struct http *h, struct http_answer *out)
{
    long status = 0;
    for (int i = 0; i < HTTP_SLOTS; i++) {
        struct slot *s = &h->slot[i];
        if (!s->busy)
            trim(s);
        if (!s->busy || !s->done)
            continue;
        memset(out, 0, sizeof *out);
        curl_easy_getinfo(s->easy, CURLINFO_RESPONSE_CODE, &status);
        out->tag = s->tag;
        out->host = s->host;
        out->fault = fault_of(s);
        out->status = (unsigned)status;
        out->text = s->text && s->len ? s->text : "";
        out->len = s->len;
        out->duration_ns = now_ns() - s->started_ns;
        out->retry_after_ns = retry_after(s);
        if (out->fault)
            snprintf(out->words, sizeof out->words, "%s",
                     *s->error ? s->error : curl_easy_strerror(s->code));
        free_headers(s);
        s->busy = s->done = false;
        h->running--;
        return true;
    }
    return false;
}

/* --- life ------------------------------------------------------------------------------------ */

struct http *http_open(const struct output *output, char *message, size_t bytes)
{
    struct http *h = calloc(1, sizeof *h);
    *message = 0;
    if (!h)
        return NULL;
    h->output = output;
    h->seed = (unsigned)(now_ns() ^ (uint64_t)getpid() << 16);
    signal(SIGPIPE, SIG_IGN); /* OpenSSL writes to sockets that the other side has closed */
    if (curl_global_init(CURL_GLOBAL_DEFAULT) || !(h->multi = curl_multi_init()))
        goto failed;
    curl_multi_setopt(h->multi, CURLMOPT_MAXCONNECTS, (long)HTTP_SLOTS * 2);
    if (!output->url || add_hosts(h, output->url)) {
        snprintf(message, bytes,
                 "no URL like http://host:9200 or https://one:9200,https://two:9200");
        goto failed;
    }
    if (load_credentials(output, &h->authorization, h->who, sizeof h->who, message, bytes))
        goto failed;
    if (output->ca_file && access(output->ca_file, R_OK)) {
        snprintf(message, bytes, "the file of authorities %s: %s", output->ca_file,
                 strerror(errno));
        goto failed;
    }
    return h;
failed:
    if (!*message)
        snprintf(message, bytes, "no memory");
    http_close(h);
    return NULL;
}

void http_close(struct http *h)
{
    for (int i = 0; i < HTTP_SLOTS; i++) {
        struct slot *s = &h->slot[i];
        if (s->easy) {
            if (s->busy && !s->done)
                curl_multi_remove_handle(h->multi, s->easy);
            curl_easy_cleanup(s->easy);
        }
        free_headers(s);
        free(s->text);
    }
    if (h->multi)
        curl_multi_cleanup(h->multi);
    for (int i = 0; i < h->hosts; i++)
        free(h->host[i].url);
    forget(h->authorization);
    free(h);
}
