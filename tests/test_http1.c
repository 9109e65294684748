/*
 * test_http1.c - HTTP/1.x: the documents in cases/http1, detection, and what cannot be said in a
 * document.
 */
#include "tests/parser_test.h"

#define HELLO_TLS "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"

static const struct sample samples[] = {
    SAMPLE(IN, SIDE_SERVER, 0, "GET / HTTP/1.1\r\n", "http"),
    SAMPLE(OUT, SIDE_CLIENT, 0, "POST /a HTTP/1.0\r\n", "http"),
    SAMPLE(IN, SIDE_SERVER, 0, "\r\n\r\nGET /x HTTP/1.1\r\n", "http"),
    SAMPLE(IN, SIDE_SERVER, 0, "GET http://a/b HTTP/1.1\n", "http"),
    SAMPLE(IN, SIDE_SERVER, 0, "OPTIONS * HTTP/1.1\r\n", "http"),
    SAMPLE(IN, SIDE_SERVER, 0, "CONNECT a:443 HTTP/1.1\r\n", "http"),
    SAMPLE(IN, SIDE_SERVER, 0, "X-NEW thing HTTP/1.1\r\n", "http"),
    SAMPLE(IN, SIDE_SERVER, 0, "GET /simple\r\n", "http"),
    SAMPLE(IN, SIDE_SERVER, 6379, "GET /x HTTP/1.1\r\n", "http"),
    SAMPLE(OUT, SIDE_SERVER, 0, "HTTP/1.1 200 OK\r\n", "http"),
    SAMPLE(IN, SIDE_CLIENT, 0, "HTTP/1.0 404 Not Found\r\n", "http"),
    /* a key of Redis on its port; only there */
    SAMPLE(IN, SIDE_SERVER, 6379, "GET /simple\r\n", "redis"),
    SAMPLE(IN, SIDE_SERVER, 0, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", NULL),
    SAMPLE(IN, SIDE_SERVER, 0, HELLO_TLS, NULL), SAMPLE(OUT, SIDE_CLIENT, 0, HELLO_TLS, NULL),
    SAMPLE(IN, SIDE_SERVER, 0, "SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n", NULL),
    SAMPLE(OUT, SIDE_SERVER, 0, "SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n", NULL),
    SAMPLE(IN, SIDE_SERVER, 0, "OPTIONS rtsp://a/b RTSP/1.0\r\n", NULL),
    SAMPLE(IN, SIDE_SERVER, 0, "OPTIONS sip:a@b SIP/2.0\r\n", NULL),
    SAMPLE(IN, SIDE_SERVER, 0, "EHLO mail.example.org\r\n", NULL),
    SAMPLE(OUT, SIDE_SERVER, 0, "220 mail.example.org ESMTP\r\n", NULL),
    SAMPLE(IN, SIDE_SERVER, 0, "get key\r\n", NULL),
    SAMPLE(IN, SIDE_SERVER, 11211, "get /key\r\n", NULL),
    SAMPLE(IN, SIDE_SERVER, 0, "set key 0 0 5\r\nhello\r\n", NULL),
    SAMPLE(IN, SIDE_SERVER, 0, "\x80\x00\x00\x00\x00\x00\x00\x00", NULL), /* memcached, binary */
    SAMPLE(IN, SIDE_SERVER, 5432, "\x00\x00\x00\x08\x04\xd2\x16\x2f",
           NULL), /* PostgreSQL SSLRequest */
    SAMPLE(IN, SIDE_SERVER, 5432, "\x00\x00\x00\x21\x00\x03\x00\x00user\x00x\x00", NULL),
    SAMPLE(OUT, SIDE_SERVER, 3306,
           "J\x00\x00\x00\x0a"
           "8.0.32",
           NULL),
    SAMPLE(IN, SIDE_SERVER, 0, "hello world\r\n\r\n", NULL),
    SAMPLE(IN, SIDE_SERVER, 0, "MMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMM / HTTP/1.1\r\n", NULL),
    SAMPLE(IN, SIDE_SERVER, 4222, "CONNECT {\"verbose\":false}\r\nSUB a 1\r\n", NULL), /* NATS */
};

static void test_first_bytes_tell_http(void **state)
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
    protocol_http1.feed(state, way, (const uint8_t *)text, strlen(text), ignore, NULL);
    return protocol_http1.blind(state, way);
}

static void test_blind_tells_what_need_not_be_captured(void **test)
{
    static uint64_t state[PROTOCOL_STATE_MAX / 8];
    (void)test;
    assert_true(protocol_http1.state_bytes <= sizeof state);
    protocol_http1.reset(state, SIDE_SERVER);
    assert_int_equal(feed(state, IN, "POST / HTTP/1.1\r\n"), 0);
    assert_int_equal(feed(state, IN, "Content-Length: 1000\r\n\r\nab"), 998);
    assert_int_equal(feed(state, OUT, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"), 0);
    assert_int_equal(feed(state, OUT, "100\r\nabc"), 253);
    protocol_http1.skip(state, OUT, 253, ignore, NULL);
    assert_int_equal(protocol_http1.blind(state, OUT), 0);
    protocol_http1.reset(state, SIDE_SERVER);
    feed(state, IN, "GET / HTTP/1.0\r\n\r\n");
    assert_true(feed(state, OUT, "HTTP/1.0 200 OK\r\n\r\n") == UINT64_MAX);
}

/* Ten thousand requests wait; all are paired, HEADs among them. */
static void count_ends(void *to, const struct message *m)
{
    unsigned *ends = to;
    assert_false(m->inferred);
    if (m->part == REQUEST_END || m->part == REQUEST)
        ends[0]++;
    else if (m->part == RESPONSE_END || m->part == RESPONSE)
        ends[1]++;
}

static void test_ten_thousand_pipelined(void **test)
{
    static uint64_t state[PROTOCOL_STATE_MAX / 8];
    static const char get[] = "GET / HTTP/1.1\r\n\r\n", head[] = "HEAD / HTTP/1.1\r\n\r\n";
    static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc";
    unsigned ends[2] = {0, 0};
    (void)test;
    protocol_http1.reset(state, SIDE_SERVER);
    for (int i = 0; i < 10000; i++) {
        const char *text = i / 1000 % 2 ? head : get;
        protocol_http1.feed(state, IN, (const uint8_t *)text, strlen(text), count_ends, ends);
    }
    for (int i = 0; i < 10000; i++) {
        const size_t body = i / 1000 % 2 ? 3 : 0;
        assert_int_equal(protocol_http1.feed(state, OUT, (const uint8_t *)answer,
                                             sizeof answer - 1 - body, count_ends, ends),
                         OK);
    }
    assert_int_equal(ends[0], 10000);
    assert_int_equal(ends[1], 10000);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest own[] = {cmocka_unit_test(test_first_bytes_tell_http),
                                     cmocka_unit_test(test_blind_tells_what_need_not_be_captured),
                                     cmocka_unit_test(test_ten_thousand_pipelined)};
    return run_parser_tests(argc, argv, &protocol_http1, "tests/cases/http1", own,
                            sizeof own / sizeof own[0]);
}
