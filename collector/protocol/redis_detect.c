/*
 * redis_detect.c - which words are Redis commands; are these first bytes of a direction Redis?
 *
 * Context: P
 *
 * Certain are "*N" + "$N" lines of a client, and values with a count of a server. Inline commands
 * are lines whose first word is a command of Redis and of nobody else; those that memcached, SMTP,
 * POP3 or FTP also have count on a port of Redis only. So do a server's lines of text: POP3 says
 * +OK too.
 */
#include <strings.h>
#include "collector/protocol/redis.h"

enum redis_kind redis_classify(const uint8_t *word, size_t len, enum redis_class *class)
{
    static const struct {
        const char *word;
        enum redis_kind kind;
        enum redis_class class;
    } known[] = {{"ACL", KIND_CONTAINER, 0},
                 {"SYNC", KIND_SYNC, 0},
                 {"PSYNC", KIND_PSYNC, 0},
                 {"HELLO", KIND_HELLO, 0},
                 {"RESET", KIND_RESET, 0},
                 {"XINFO", KIND_CONTAINER, 0},
                 {"DEBUG", KIND_CONTAINER, 0},
                 {"CLIENT", KIND_CONTAINER, 0},
                 {"CONFIG", KIND_CONTAINER, 0},
                 {"OBJECT", KIND_CONTAINER, 0},
                 {"SCRIPT", KIND_CONTAINER, 0},
                 {"MEMORY", KIND_CONTAINER, 0},
                 {"MODULE", KIND_CONTAINER, 0},
                 {"PUBSUB", KIND_CONTAINER, 0},
                 {"XGROUP", KIND_CONTAINER, 0},
                 {"MONITOR", KIND_MONITOR, 0},
                 {"CLUSTER", KIND_CONTAINER, 0},
                 {"COMMAND", KIND_CONTAINER, 0},
                 {"LATENCY", KIND_CONTAINER, 0},
                 {"SLOWLOG", KIND_CONTAINER, 0},
                 {"FUNCTION", KIND_CONTAINER, 0},
                 {"SENTINEL", KIND_CONTAINER, 0},
                 {"SUBSCRIBE", KIND_SUBSCRIBE, TO_CHANNEL},
                 {"PSUBSCRIBE", KIND_SUBSCRIBE, TO_PATTERN},
                 {"SSUBSCRIBE", KIND_SUBSCRIBE, TO_SHARD},
                 {"UNSUBSCRIBE", KIND_UNSUBSCRIBE, TO_CHANNEL},
                 {"PUNSUBSCRIBE", KIND_UNSUBSCRIBE, TO_PATTERN},
                 {"SUNSUBSCRIBE", KIND_UNSUBSCRIBE, TO_SHARD}};
    /* where words of each length begin in the table */
    static const uint8_t from[] = {0, 0, 0, 0, 1, 2, 7, 15, 20, 22, 23, 25, 26, 28};
    if (len < 3 || len > 12)
        return KIND_PLAIN;
    for (size_t i = from[len]; i < from[len + 1]; i++) {
        if (known[i].word[0] == word[0] && known[i].word[1] == word[1] &&
            memcmp(known[i].word, word, len) == 0) {
            *class = known[i].class;
            return known[i].kind;
        }
    }
    return KIND_PLAIN;
}

/* --- detection ---------------------------------------------------------------------------- */

static bool is_redis_port(uint16_t port)
{
    return (port >= 6379 && port <= 6399) || port == 26379 || port == 16379 ||
           (port >= 7000 && port <= 7010);
}

/* Words that can only be Redis as the first of a connection, and words that others have as well. */
static const char *const ours[] = {
    "PING",    "CONFIG",       "CLIENT",   "COMMAND", "DBSIZE",    "FLUSHALL",   "FLUSHDB",
    "BGSAVE",  "BGREWRITEAOF", "LASTSAVE", "LPUSH",   "RPUSH",     "LPOP",       "RPOP",
    "LRANGE",  "LLEN",         "SADD",     "SREM",    "SPOP",      "SMEMBERS",   "HSET",
    "HGET",    "HGETALL",      "HDEL",     "ZADD",    "ZRANGE",    "ZSCORE",     "MGET",
    "MSET",    "SETEX",        "SETNX",    "GETSET",  "EXPIRE",    "EXISTS",     "TTL",
    "SCAN",    "KEYS",         "EVAL",     "EVALSHA", "SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE",
    "PUBLISH", "MULTI",        "EXEC",     "UNLINK",  "SLAVEOF",   "REPLICAOF",  "REPLCONF",
    "PSYNC",   "SYNC",         "XADD",     "XREAD",   "XLEN",      "INCRBY",     "DECRBY",
    "STRLEN",  "SLOWLOG",      "LATENCY",  "MEMORY",  "OBJECT",    "CLUSTER",    "SENTINEL",
    "BLPOP",   "BRPOP",        "GETDEL",   "PFADD",   "PFCOUNT",   "SETRANGE",   "GETRANGE"};
static const char *const shared[] = {
    "HELLO", "ECHO", "GET",    "SET",      "DEL",     "INCR",  "DECR", "APPEND", "TOUCH",
    "AUTH",  "INFO", "SELECT", "TYPE",     "QUIT",    "RESET", "TIME", "MOVE",   "COPY",
    "DUMP",  "SORT", "DEBUG",  "SHUTDOWN", "MONITOR", "SAVE",  "ROLE", "WAIT",   "ACL"};

/* Is the word one of the list; or, when it may go on, the beginning of one? */
static bool listed(const char *const *list, size_t count, const uint8_t *word, size_t len,
                   bool part)
{
    for (size_t i = 0; i < count; i++) {
        const size_t n = strlen(list[i]);
        if ((n == len || (part && n > len)) && strncasecmp(list[i], (const char *)word, len) == 0)
            return true;
    }
    return false;
}

static enum verdict detect_inline(const uint8_t *p, size_t len, uint16_t port)
{
    const uint8_t *lf = memchr(p, '\n', len);
    const size_t line = lf ? (size_t)(lf - p) : len;
    size_t word = 0;
    for (size_t i = 0; i < line; i++)
        if ((p[i] < ' ' && p[i] != '\t' && !(p[i] == '\r' && i + 1 == line)) || p[i] == 0x7F)
            return NOT_MINE;
    const size_t end = line > 0 && p[line - 1] == '\r' ? line - 1 : line;
    if (end > 9 && memcmp(p + end - 9, " HTTP/1.", 8) == 0)
        return NOT_MINE;
    while (word < line && p[word] > ' ')
        word++;
    const bool part = word == len;
    bool mine = listed(ours, sizeof ours / sizeof ours[0], p, word, part);
    if (is_redis_port(port))
        mine |= listed(shared, sizeof shared / sizeof shared[0], p, word, part);
    if (!mine)
        return NOT_MINE;
    return lf ? OK : len < 4096 ? MORE : NOT_MINE;
}

/* "<type>digits CR LF" at p: how long that is, 0 for not yet, SIZE_MAX for no. */
static size_t count_line(const uint8_t *p, size_t len, bool minus)
{
    size_t n = 1;
    if (n < len && minus && p[n] == '-')
        n++;
    const size_t first = n;
    while (n < len && p[n] >= '0' && p[n] <= '9')
        n++;
    if (n - first > 10)
        return SIZE_MAX;
    if (n == len)
        return 0;
    if (n == first || p[n] != '\r' || (n + 1 < len && p[n + 1] != '\n'))
        return SIZE_MAX;
    return n + 1 < len ? n + 2 : 0;
}

static enum verdict detect_request(const uint8_t *p, size_t len, uint16_t port)
{
    while (len > 0 && (*p == '\r' || *p == '\n'))
        p++, len--;
    if (len == 0)
        return MORE;
    if (*p != '*')
        return detect_inline(p, len, port);
    const size_t n = count_line(p, len, false);
    if (n == 0 || n == len)
        return MORE;
    if (n == SIZE_MAX || p[n] != '$')
        return NOT_MINE;
    const size_t m = count_line(p + n, len - n, false);
    return m == 0 ? MORE : m == SIZE_MAX ? NOT_MINE : OK;
}

/* A line of text: only the error codes of Redis are its own ("-ERR" is POP3's too). */
static enum verdict detect_text(const uint8_t *p, size_t len, uint16_t port)
{
    static const char *const codes[] = {"-NOAUTH ",     "-WRONGPASS ", "-DENIED ",
                                        "-MOVED ",      "-ASK ",       "-LOADING ",
                                        "-MASTERDOWN ", "-NOPERM ",    "-WRONGTYPE "};
    bool part = len < 2;
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
        const size_t n = strlen(codes[i]);
        if (memcmp(codes[i], p, redis_min(n, len)) != 0)
            continue;
        if (len >= n)
            return OK;
        part = true;
    }
    for (size_t i = 1; i < len && p[i] != '\r'; i++)
        if (p[i] < ' ' || p[i] >= 0x7F)
            return NOT_MINE;
    if (!is_redis_port(port) && !part)
        return NOT_MINE;
    return is_redis_port(port) && memchr(p, '\n', len) ? OK : len < 512 ? MORE : NOT_MINE;
}

static enum verdict detect_reply(const uint8_t *p, size_t len, uint16_t port)
{
    if (*p == '+' || *p == '-' || *p == ':')
        return detect_text(p, len, port);
    if (!memchr("$*%~>", *p, 5))
        return NOT_MINE;
    const size_t n = count_line(p, len, *p == '$' || *p == '*');
    if (n == SIZE_MAX)
        return NOT_MINE;
    if (*p == '$' && n > 0)
        return OK;
    if (n == 0 || n == len)
        return MORE;
    return memchr("+-:$*_,#!=(%~>|", p[n], 15) ? OK : NOT_MINE;
}

enum verdict redis_detect(enum way way, enum side side, const uint8_t *p, size_t len, uint16_t port)
{
    if (len == 0)
        return MORE;
    if ((way == IN) == (side == SIDE_SERVER))
        return detect_request(p, len, port);
    return detect_reply(p, len, port);
}
