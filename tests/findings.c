/*
 * findings.c - a fuzz target without a fuzzer: runs the inputs that once found something, tests/findings/NAME.
 *
 * Linked with tests/fuzz_NAME.c as build/tests/test_findings_NAME.
 */
#include <dirent.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int main(int argc, char **argv)
{
    static uint8_t bytes[1 << 16];
    char folder[PATH_MAX / 2], path[PATH_MAX];
    const char *name = strrchr(argv[0], '_');
    int ran = 0;
    snprintf(folder, sizeof folder, "%s%s", argc > 1 ? argv[1] : "tests/findings/", argc > 1 ? "" : name + 1);
    DIR *d = opendir(folder);
    for (struct dirent *e; d && (e = readdir(d));) {
        snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        FILE *f = *e->d_name == '.' ? NULL : fopen(path, "rb");
        if (!f)
            continue;
        size_t len = fread(bytes, 1, sizeof bytes, f);
        fclose(f);
        printf("%s\n", e->d_name);
        fflush(stdout);
        LLVMFuzzerTestOneInput(bytes, len);
        ran++;
    }
    if (d)
        closedir(d);
    printf("%d inputs\n", ran);
    return !ran;
}
