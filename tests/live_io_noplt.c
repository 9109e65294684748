/*
 * live_io_noplt.c - calls that do not go through a PLT: built with -fno-plt, addresses taken, looked up by dlsym. All of
 * them reach the same function.
 */
#include "tests/live.h"

#include <dlfcn.h>

typedef ssize_t (*read_fn)(int, void *, size_t);
typedef ssize_t (*write_fn)(int, const void *, size_t);
static read_fn volatile taken = read;

int main(void)
{
    int pair[2];
    char c[16];
    read_fn found = (read_fn)dlsym(RTLD_DEFAULT, "read");
    write_fn found_write = (write_fn)dlsym(RTLD_DEFAULT, "write");
    CHECK(found && found_write && found == taken);
    tcp_pair(pair);
    for (int i = 0; i < 10; i++) {
        CHECK(write(pair[0], "direct", 6) == 6 && read(pair[1], c, sizeof c) == 6);
        CHECK(found_write(pair[0], "found", 5) == 5 && found(pair[1], c, sizeof c) == 5);
        CHECK(write(pair[0], "taken", 5) == 5 && taken(pair[1], c, sizeof c) == 5);
    }
    puts("every way leads to the same function");
    return 0;
}
