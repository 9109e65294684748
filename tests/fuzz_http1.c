/*
 * fuzz_http1.c - the HTTP/1.x parser against itself, cut differently (parser_fuzz.h).
 */
#include "tests/parser_fuzz.h"

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    fuzz_initialize(*argc, *argv, &protocol_http1, "tests/cases/http1");
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_parser(&protocol_http1, data, size);
    fuzz_detect(&protocol_http1, data, size);
    return 0;
}
