/*
 * http1_detect.c - are these first bytes of a direction HTTP/1.x?
 *
 * Context: P
 *
 * Certain are: a known method and an absolute path; any token, a target and HTTP/1.x at the end of
 * a line; a status line. RTSP, SIP, ICAP and HTTP/2's preface end their lines otherwise.
 */
#include "collector/protocol/http1.h"

enum { LONGEST_LINE = 16384 };

static enum verdict detect_response(const uint8_t *p, size_t len)
{
    if (memcmp(p, "HTTP/1.", http1_min(7, len)) != 0)
        return NOT_MINE;
    if (len < 8)
        return MORE;
    return p[7] >= '0' && p[7] <= '9' ? OK : NOT_MINE;
}

/* Redis' own ports: there "GET /x" without a version is a key. */
static bool is_redis_port(uint16_t port)
{
    return (port >= 6379 && port <= 6399) || port == 26379 || port == 16379 ||
           (port >= 7000 && port <= 7010);
}

/* A line that needs its end to be told from others. */
static enum verdict whole_line(const uint8_t *p, size_t len, size_t method)
{
    const uint8_t *lf = memchr(p, '\n', len);
    size_t n = lf ? (size_t)(lf - p) : len;
    for (size_t i = method; i < n; i++)
        if (p[i] < 0x20 && !(p[i] == '\r' && i + 1 == n))
            return NOT_MINE;
    if (!lf)
        return len < LONGEST_LINE ? MORE : NOT_MINE;
    while (n > 0 && (p[n - 1] == '\r' || p[n - 1] == ' '))
        n--;
    if (n < method + 10 || memcmp(p + n - 9, " HTTP/1.", 8) != 0)
        return NOT_MINE;
    return p[n - 1] >= '0' && p[n - 1] <= '9' ? OK : NOT_MINE;
}

static enum verdict detect_request(const uint8_t *p, size_t len, uint16_t port)
{
    size_t n = 0;
    while (len > 0 && (*p == '\r' || *p == '\n'))
        p++, len--;
    while (n < len && n <= VERB_MAX && http1_is_tchar(p[n]))
        n++;
    if (n == len && n <= VERB_MAX)
        return MORE;
    if (n == 0 || n > VERB_MAX || p[n] != ' ')
        return NOT_MINE;
    if (n + 1 == len)
        return MORE;
    if (http1_is_method(p, n) && p[n + 1] == '/' && !is_redis_port(port))
        return OK;
    return whole_line(p, len, n);
}

enum verdict http1_detect(enum way way, enum side side, const uint8_t *p, size_t len, uint16_t port)
{
    if (len == 0)
        return MORE;
    if ((way == IN) == (side == SIDE_SERVER))
        return detect_request(p, len, port);
    return detect_response(p, len);
}
