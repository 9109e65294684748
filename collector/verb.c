/*
 * verb.c - tables of HTTP methods (IANA's registry and what caches and devices use) and Redis
 * commands (up to 8.2, with the modules that Redis ships).
 *
 * In:      route.c, sample.c        Out: -
 * Owns:    nothing.
 * Context: P
 */
#include "collector/verb.h"

#include <ctype.h>
#include <string.h>

/* Both sorted by strcmp. */
/* clang-format off */
static const char *const http[] = {
    "ACL", "BASELINE-CONTROL", "BIND", "CHECKIN", "CHECKOUT", "CONNECT", "COPY", "DELETE",
    "GET", "HEAD", "LABEL", "LINK", "LOCK", "M-SEARCH", "MERGE", "MKACTIVITY", "MKCALENDAR",
    "MKCOL", "MKREDIRECTREF", "MKWORKSPACE", "MOVE", "NOTIFY", "OPTIONS", "ORDERPATCH", "PATCH",
    "POST", "PROPFIND", "PROPPATCH", "PURGE", "PUT", "QUERY", "REBIND", "REPORT", "SEARCH",
    "SUBSCRIBE", "TRACE", "UNBIND", "UNCHECKOUT", "UNLINK", "UNLOCK", "UNSUBSCRIBE", "UPDATE",
    "UPDATEREDIRECTREF", "VERSION-CONTROL",
};

static const char *const redis[] = {
    "ACL", "APPEND", "ASKING", "AUTH", "BF.ADD", "BF.CARD", "BF.EXISTS", "BF.INFO", "BF.INSERT",
    "BF.LOADCHUNK", "BF.MADD", "BF.MEXISTS", "BF.RESERVE", "BF.SCANDUMP", "BGREWRITEAOF",
    "BGSAVE", "BITCOUNT", "BITFIELD", "BITFIELD_RO", "BITOP", "BITPOS", "BLMOVE", "BLMPOP",
    "BLPOP", "BRPOP", "BRPOPLPUSH", "BZMPOP", "BZPOPMAX", "BZPOPMIN", "CF.ADD", "CF.ADDNX",
    "CF.COUNT", "CF.DEL", "CF.EXISTS", "CF.INFO", "CF.INSERT", "CF.INSERTNX", "CF.LOADCHUNK",
    "CF.MEXISTS", "CF.RESERVE", "CF.SCANDUMP", "CLIENT", "CLUSTER", "CMS.INCRBY", "CMS.INFO",
    "CMS.INITBYDIM", "CMS.INITBYPROB", "CMS.MERGE", "CMS.QUERY", "COMMAND", "CONFIG", "COPY",
    "DBSIZE", "DEBUG", "DECR", "DECRBY", "DEL", "DELEX", "DIGEST", "DISCARD", "DUMP", "ECHO",
    "EVAL", "EVALSHA", "EVALSHA_RO", "EVAL_RO", "EXEC", "EXISTS", "EXPIRE", "EXPIREAT",
    "EXPIRETIME", "FAILOVER", "FCALL", "FCALL_RO", "FLUSHALL", "FLUSHDB", "FT.AGGREGATE",
    "FT.ALIASADD", "FT.ALIASDEL", "FT.ALIASUPDATE", "FT.ALTER", "FT.CONFIG", "FT.CREATE",
    "FT.CURSOR", "FT.DICTADD", "FT.DICTDEL", "FT.DICTDUMP", "FT.DROPINDEX", "FT.EXPLAIN",
    "FT.EXPLAINCLI", "FT.HYBRID", "FT.INFO", "FT.PROFILE", "FT.SEARCH", "FT.SPELLCHECK",
    "FT.SUGADD", "FT.SUGDEL", "FT.SUGGET", "FT.SUGLEN", "FT.SYNDUMP", "FT.SYNUPDATE",
    "FT.TAGVALS", "FT._LIST", "FUNCTION", "GEOADD", "GEODIST", "GEOHASH", "GEOPOS", "GEORADIUS",
    "GEORADIUSBYMEMBER", "GEORADIUSBYMEMBER_RO", "GEORADIUS_RO", "GEOSEARCH", "GEOSEARCHSTORE",
    "GET", "GETBIT", "GETDEL", "GETEX", "GETRANGE", "GETSET", "GRAPH.CONFIG",
    "GRAPH.CONSTRAINT", "GRAPH.DELETE", "GRAPH.EXPLAIN", "GRAPH.LIST", "GRAPH.PROFILE",
    "GRAPH.QUERY", "GRAPH.RO_QUERY", "GRAPH.SLOWLOG", "HDEL", "HELLO", "HEXISTS", "HEXPIRE",
    "HEXPIREAT", "HEXPIRETIME", "HGET", "HGETALL", "HGETDEL", "HGETEX", "HINCRBY",
    "HINCRBYFLOAT", "HKEYS", "HLEN", "HMGET", "HMSET", "HPERSIST", "HPEXPIRE", "HPEXPIREAT",
    "HPEXPIRETIME", "HPTTL", "HRANDFIELD", "HSCAN", "HSET", "HSETEX", "HSETNX", "HSTRLEN",
    "HTTL", "HVALS", "INCR", "INCRBY", "INCRBYFLOAT", "INFO", "JSON.ARRAPPEND", "JSON.ARRINDEX",
    "JSON.ARRINSERT", "JSON.ARRLEN", "JSON.ARRPOP", "JSON.ARRTRIM", "JSON.CLEAR", "JSON.DEBUG",
    "JSON.DEL", "JSON.FORGET", "JSON.GET", "JSON.MERGE", "JSON.MGET", "JSON.MSET",
    "JSON.NUMINCRBY", "JSON.NUMMULTBY", "JSON.NUMPOWBY", "JSON.OBJKEYS", "JSON.OBJLEN",
    "JSON.RESP", "JSON.SET", "JSON.STRAPPEND", "JSON.STRLEN", "JSON.TOGGLE", "JSON.TYPE",
    "KEYS", "LASTSAVE", "LATENCY", "LCS", "LINDEX", "LINSERT", "LLEN", "LMOVE", "LMPOP",
    "LOLWUT", "LPOP", "LPOS", "LPUSH", "LPUSHX", "LRANGE", "LREM", "LSET", "LTRIM", "MEMORY",
    "MGET", "MIGRATE", "MODULE", "MONITOR", "MOVE", "MSET", "MSETEX", "MSETNX", "MULTI",
    "OBJECT", "PERSIST", "PEXPIRE", "PEXPIREAT", "PEXPIRETIME", "PFADD", "PFCOUNT", "PFDEBUG",
    "PFMERGE", "PFSELFTEST", "PING", "PSETEX", "PSUBSCRIBE", "PSYNC", "PTTL", "PUBLISH",
    "PUBSUB", "PUNSUBSCRIBE", "QUIT", "RANDOMKEY", "READONLY", "READWRITE", "RENAME",
    "RENAMENX", "REPLCONF", "REPLICAOF", "RESET", "RESTORE", "RESTORE-ASKING", "ROLE", "RPOP",
    "RPOPLPUSH", "RPUSH", "RPUSHX", "SADD", "SAVE", "SCAN", "SCARD", "SCRIPT", "SDIFF",
    "SDIFFSTORE", "SELECT", "SENTINEL", "SET", "SETBIT", "SETEX", "SETNX", "SETRANGE",
    "SHUTDOWN", "SINTER", "SINTERCARD", "SINTERSTORE", "SISMEMBER", "SLAVEOF", "SLOWLOG",
    "SMEMBERS", "SMISMEMBER", "SMOVE", "SORT", "SORT_RO", "SPOP", "SPUBLISH", "SRANDMEMBER",
    "SREM", "SSCAN", "SSUBSCRIBE", "STRLEN", "SUBSCRIBE", "SUBSTR", "SUNION", "SUNIONSTORE",
    "SUNSUBSCRIBE", "SWAPDB", "SYNC", "TDIGEST.ADD", "TDIGEST.BYRANK", "TDIGEST.BYREVRANK",
    "TDIGEST.CDF", "TDIGEST.CREATE", "TDIGEST.INFO", "TDIGEST.MAX", "TDIGEST.MERGE",
    "TDIGEST.MIN", "TDIGEST.QUANTILE", "TDIGEST.RANK", "TDIGEST.RESET", "TDIGEST.REVRANK",
    "TDIGEST.TRIMMED_MEAN", "TIME", "TOPK.ADD", "TOPK.COUNT", "TOPK.INCRBY", "TOPK.INFO",
    "TOPK.LIST", "TOPK.QUERY", "TOPK.RESERVE", "TOUCH", "TS.ADD", "TS.ALTER", "TS.CREATE",
    "TS.CREATERULE", "TS.DECRBY", "TS.DEL", "TS.DELETERULE", "TS.GET", "TS.INCRBY", "TS.INFO",
    "TS.MADD", "TS.MGET", "TS.MRANGE", "TS.MREVRANGE", "TS.QUERYINDEX", "TS.RANGE",
    "TS.REVRANGE", "TTL", "TYPE", "UNLINK", "UNSUBSCRIBE", "UNWATCH", "VADD", "VCARD", "VDIM",
    "VEMB", "VGETATTR", "VINFO", "VISMEMBER", "VLINKS", "VRANDMEMBER", "VRANGE", "VREM",
    "VSETATTR", "VSIM", "WAIT", "WAITAOF", "WATCH", "XACK", "XACKDEL", "XADD", "XAUTOCLAIM",
    "XCFGSET", "XCLAIM", "XDEL", "XDELEX", "XGROUP", "XINFO", "XLEN", "XPENDING", "XRANGE",
    "XREAD", "XREADGROUP", "XREVRANGE", "XSETID", "XTRIM", "ZADD", "ZCARD", "ZCOUNT", "ZDIFF",
    "ZDIFFSTORE", "ZINCRBY", "ZINTER", "ZINTERCARD", "ZINTERSTORE", "ZLEXCOUNT", "ZMPOP",
    "ZMSCORE", "ZPOPMAX", "ZPOPMIN", "ZRANDMEMBER", "ZRANGE", "ZRANGEBYLEX", "ZRANGEBYSCORE",
    "ZRANGESTORE", "ZRANK", "ZREM", "ZREMRANGEBYLEX", "ZREMRANGEBYRANK", "ZREMRANGEBYSCORE",
    "ZREVRANGE", "ZREVRANGEBYLEX", "ZREVRANGEBYSCORE", "ZREVRANK", "ZSCAN", "ZSCORE", "ZUNION",
    "ZUNIONSTORE",
};
/* clang-format on */

#define WORD_MAX 31

/* `word` is NUL-terminated. */
static const char *find(const char *const *table, size_t count, const char *word)
{
    size_t low = 0, high = count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        int order = strcmp(word, table[middle]);
        if (order == 0)
            return table[middle];
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return VERB_OTHER;
}

const char *verb_http(const char *word, size_t len)
{
    char copy[WORD_MAX + 1];
    if (len == 3 && !memcmp(word, "GET", 3))
        return "GET";
    if (len == 0 || len > WORD_MAX || memchr(word, 0, len))
        return VERB_OTHER;
    memcpy(copy, word, len);
    copy[len] = 0;
    return find(http, sizeof http / sizeof *http, copy);
}

const char *verb_redis(const char *word, size_t len)
{
    char copy[WORD_MAX + 1];
    size_t n = 0;
    for (; n < len && word[n] != ' ' && word[n] != '|'; n++) {
        if (n == WORD_MAX || !word[n])
            return VERB_OTHER;
        copy[n] = (char)toupper((unsigned char)word[n]);
    }
    copy[n] = 0;
    return find(redis, sizeof redis / sizeof *redis, copy);
}
