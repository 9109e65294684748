/*
 * test_http1.c - HTTP/1.x: the documents in cases/http1, and what cannot be said in one.
 */
#include "tests/parser_test.h"

static enum verdict detect_in(const char *text, uint16_t port)
{
    const size_t len = strlen(text);
    return protocol_http1.detect(IN, SIDE_SERVER, at_the_edge((const uint8_t *)text, len), len,
                                 port);
}

int main(int argc, char **argv)
{
    (void)detect_in;
    const struct CMUnitTest own[] = {};
    return run_parser_tests(argc, argv, &protocol_http1, "tests/cases/http1", own,
                            sizeof own / sizeof own[0]);
}
