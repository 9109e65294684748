/*
 * test_redis.c - Redis: the documents in cases/redis, detection, and what cannot be said in a
 * document.
 */
#include "tests/parser_test.h"

static const struct sample samples[] = {
    SAMPLE(IN, SIDE_SERVER, 0, "*1\r\n$4\r\nPING\r\n", "redis"),
    SAMPLE(OUT, SIDE_CLIENT, 0, "*2\r\n$3\r\nGET\r\n", "redis"),
    SAMPLE(IN, SIDE_SERVER, 0, "PING\r\n", "redis"),
    SAMPLE(IN, SIDE_SERVER, 0, "ping\n", "redis"),
    SAMPLE(IN, SIDE_SERVER, 0, "lpush l a b\r\n", "redis"),
    SAMPLE(IN, SIDE_SERVER, 6379, "get foo\r\n", "redis"),
    SAMPLE(IN, SIDE_SERVER, 6379, "QUIT\r\n", "redis"),
    SAMPLE(OUT, SIDE_SERVER, 0, "$5\r\nvalue\r\n", "redis"),
    SAMPLE(OUT, SIDE_SERVER, 0, "*2\r\n$1\r\na\r\n", "redis"),
    SAMPLE(IN, SIDE_CLIENT, 0, "%7\r\n$6\r\nserver\r\n", "redis"),
    SAMPLE(OUT, SIDE_SERVER, 0, "-NOAUTH Authentication required.\r\n", "redis"),
    SAMPLE(OUT, SIDE_SERVER, 6379, "+PONG\r\n", "redis"),
    SAMPLE(OUT, SIDE_SERVER, 6379, "-ERR max number of clients reached\r\n", "redis"),
    /* memcached's words, and memcached's answers, but on a port of Redis */
    SAMPLE(IN, SIDE_SERVER, 0, "get foo\r\n", NULL),
    SAMPLE(IN, SIDE_SERVER, 11211, "GET foo\r\n", NULL),
    SAMPLE(IN, SIDE_SERVER, 11211, "set foo 0 0 3\r\nbar\r\n", NULL),
    SAMPLE(IN, SIDE_SERVER, 11211, "incr n 1\r\n", NULL),
    SAMPLE(IN, SIDE_SERVER, 11211, "quit\r\n", NULL),
    SAMPLE(IN, SIDE_SERVER, 11211, "touch k 5\r\n", NULL),
    SAMPLE(IN, SIDE_SERVER, 11211, "stats\r\n", NULL),
    SAMPLE(IN, SIDE_SERVER, 11211, "version\r\n", NULL),
    SAMPLE(IN, SIDE_SERVER, 11211, "mg foo v\r\n", NULL),
    SAMPLE(OUT, SIDE_SERVER, 11211, "VALUE foo 0 3\r\nbar\r\nEND\r\n", NULL),
    SAMPLE(OUT, SIDE_SERVER, 11211, "STORED\r\n", NULL),
    /* POP3, SMTP, FTP, IMAP, IRC, NATS */
    SAMPLE(OUT, SIDE_SERVER, 110, "+OK POP3 server ready\r\n", NULL),
    SAMPLE(OUT, SIDE_SERVER, 110, "-ERR no\r\n", NULL),
    SAMPLE(IN, SIDE_SERVER, 25, "EHLO a\r\n", NULL),
    SAMPLE(IN, SIDE_SERVER, 25, "AUTH LOGIN\r\n", NULL),
    SAMPLE(IN, SIDE_SERVER, 25, "QUIT\r\n", NULL),
    SAMPLE(IN, SIDE_SERVER, 21, "USER anonymous\r\n", NULL),
    SAMPLE(IN, SIDE_SERVER, 143, "a1 SELECT inbox\r\n", NULL),
    SAMPLE(OUT, SIDE_SERVER, 143, "* OK IMAP4rev1 ready\r\n", NULL),
    SAMPLE(OUT, SIDE_SERVER, 4222, "INFO {\"server_id\":\"x\"}\r\n", NULL),
    SAMPLE(IN, SIDE_SERVER, 6667, "NICK me\r\n", NULL),
    SAMPLE(IN, SIDE_SERVER, 0, "\x16\x03\x01\x02\x00\x01", NULL),
    SAMPLE(IN, SIDE_SERVER, 0, "SSH-2.0-OpenSSH_9.2p1\r\n", NULL),
    SAMPLE(OUT, SIDE_SERVER, 0, "SSH-2.0-OpenSSH_9.2p1\r\n", NULL),
    SAMPLE(IN, SIDE_SERVER, 5432, "\x00\x00\x00\x08\x04\xd2\x16\x2f", NULL),
    SAMPLE(IN, SIDE_SERVER, 0, "RCmb\x00\x00\x08\x98", NULL), /* the bus of a Redis cluster */
    SAMPLE(IN, SIDE_SERVER, 6379, "*1\r\n+PING\r\n", NULL),
    SAMPLE(IN, SIDE_SERVER, 6379, "*x\r\n", NULL),
    SAMPLE(IN, SIDE_SERVER, 6379, "HELO\r\n", NULL),
    SAMPLE(IN, SIDE_SERVER, 0, "PING\x01\r\n", NULL),
};

static void test_first_bytes_tell_redis(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof samples / sizeof samples[0]; i++)
        check_sample(&samples[i]);
}

static void ignore(void *to, const struct message *m)
{
    (void)to;
    (void)m;
}

static uint64_t feed(void *state, enum way way, const char *text)
{
    protocol_redis.feed(state, way, (const uint8_t *)text, strlen(text), ignore, NULL);
    return protocol_redis.blind(state, way);
}

static void test_blind_tells_what_need_not_be_captured(void **test)
{
    static uint64_t state[PROTOCOL_STATE_MAX / 8];
    (void)test;
    assert_true(protocol_redis.state_bytes <= sizeof state);
    protocol_redis.reset(state, SIDE_SERVER);
    assert_int_equal(feed(state, IN, "*3\r\n$3\r\nSE"), 0);
    assert_int_equal(feed(state, IN, "T\r\n$1\r\nk\r\n$1000\r\nab"), 1000);
    assert_int_equal(feed(state, OUT, "$500\r\nabc"), 499);
}

static void count_ends(void *to, const struct message *m)
{
    unsigned *ends = to;
    assert_false(m->inferred);
    if (m->part == REQUEST_END || m->part == REQUEST)
        ends[0]++;
    else if (m->part == RESPONSE_END || m->part == RESPONSE)
        ends[1]++;
}

/* Ten thousand commands wait, the last a SUBSCRIBE with two channels: all are paired. */
static void test_ten_thousand_pipelined(void **test)
{
    static uint64_t state[PROTOCOL_STATE_MAX / 8];
    static const char ping[] = "*1\r\n$4\r\nPING\r\n", pong[] = "+PONG\r\n";
    static const char subscribe[] = "*3\r\n$9\r\nSUBSCRIBE\r\n$1\r\na\r\n$1\r\nb\r\n";
    static const char subscribed[] =
        "*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n*3\r\n$9\r\nsubscribe\r\n$1\r\nb\r\n:2\r\n";
    unsigned ends[2] = {0, 0};
    (void)test;
    protocol_redis.reset(state, SIDE_SERVER);
    for (int i = 0; i < 9999; i++)
        protocol_redis.feed(state, IN, (const uint8_t *)ping, strlen(ping), count_ends, ends);
    protocol_redis.feed(state, IN, (const uint8_t *)subscribe, strlen(subscribe), count_ends, ends);
    for (int i = 0; i < 9999; i++)
        protocol_redis.feed(state, OUT, (const uint8_t *)pong, strlen(pong), count_ends, ends);
    protocol_redis.feed(state, OUT, (const uint8_t *)subscribed, strlen(subscribed), count_ends,
                        ends);
    assert_int_equal(ends[0], 10000);
    assert_int_equal(ends[1], 10000);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest own[] = {cmocka_unit_test(test_first_bytes_tell_redis),
                                     cmocka_unit_test(test_blind_tells_what_need_not_be_captured),
                                     cmocka_unit_test(test_ten_thousand_pipelined)};
    return run_parser_tests(argc, argv, &protocol_redis, "tests/cases/redis", own,
                            sizeof own / sizeof own[0]);
}
