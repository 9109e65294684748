/*
 * fuzz_redis.c - the Redis parser against itself, cut differently (parser_fuzz.h).
 */
#include "tests/parser_fuzz.h"

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    fuzz_initialize(*argc, *argv, &protocol_redis, "tests/cases/redis");
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_parser(&protocol_redis, data, size);
    fuzz_detect(&protocol_redis, data, size);
    return 0;
}
