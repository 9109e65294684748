/*
 * bench_malloc.c - what counting adds to an allocation: glibc, jemalloc, tcmalloc, mimalloc, bare
 * against watched; the same with stacks sampled at the default rate, and what one sample costs.
 *
 * `bench_malloc --count KIND ROUNDS` only does the work: for callgrind, when the machine is busy.
 */
#include "bench/slices.h"

enum { PAIR_64, PAIR_1000, CALLOC_64, REALLOC, BATCH, KINDS };
static const char *const kind_names[KINDS] = {"malloc(64) free", "malloc(1000) free",
                                              "calloc(1, 64) free", "malloc(64) realloc(128) free",
                                              "1000 malloc(16..500), then free"};
static const int kind_rounds[KINDS] = {20000, 20000, 20000, 10000, 20};

static inline void *keep(void *p)
{
    __asm__ __volatile__("" : "+r"(p)::"memory");
    return p;
}

static void batch(void)
{
    static void *blocks[1000];
    for (int i = 0; i < 1000; i++)
        blocks[i] = malloc(16 + (size_t)i * 3 % 484);
    for (int i = 0; i < 1000; i++)
        free(blocks[i * 37 % 1000]);
}

static void work(int kind, int rounds)
{
    switch (kind) {
    case PAIR_64:
        for (int i = 0; i < rounds; i++)
            free(keep(malloc(64)));
        break;
    case PAIR_1000:
        for (int i = 0; i < rounds; i++)
            free(keep(malloc(1000)));
        break;
    case CALLOC_64:
        for (int i = 0; i < rounds; i++)
            free(keep(calloc(1, 64)));
        break;
    case REALLOC:
        for (int i = 0; i < rounds; i++)
            free(keep(realloc(keep(malloc(64)), 128)));
        break;
    default:
        for (int i = 0; i < rounds; i++)
            batch();
    }
}

static void one_allocator(struct slices *s, const char *name, const char *library, bool sampled)
{
    s->view.arena->features =
        FEATURE_HEAP | FEATURE_DATA | (sampled ? (uint32_t)FEATURE_STACKS : 0);
    s->view.arena->sample_bytes = UINT64_C(524288);
    struct worker bare = slices_start(s, false, library), watched = slices_start(s, true, library);
    for (int kind = 0; kind < KINDS; kind++) {
        struct comparison c = slices_compare(s, &bare, &watched, kind, kind_rounds[kind], 200);
        if (kind == BATCH) /* a pair of the thousand */
            c = (struct comparison){c.bare / 1000, c.watched / 1000, c.added / 1000,
                                    c.low / 1000,  c.high / 1000,    c.best / 1000};
        char row[64]; /* told apart in the JSON, too */
        snprintf(row, sizeof row, "%s%s", kind_names[kind], sampled ? ", stacks" : "");
        slices_line(s, name, row, &c);
    }
    slices_stop(&bare);
    slices_stop(&watched);
}

/* Every block is sampled: ALLOCATED with its stack, and FREED, for each pair. */
static void one_sample(struct slices *s, const char *name, const char *library)
{
    s->view.arena->features = FEATURE_HEAP | FEATURE_DATA | FEATURE_STACKS;
    s->view.arena->sample_bytes = 1;
    struct worker bare = slices_start(s, false, library), watched = slices_start(s, true, library);
    struct comparison c = slices_compare(s, &bare, &watched, PAIR_1000, 5000, 100);
    slices_line(s, name, "malloc(1000) free, each sampled", &c);
    slices_stop(&bare);
    slices_stop(&watched);
}

static bool is_installed(const char *library)
{
    static const char *const folders[] = {"/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/lib",
                                          "/usr/local/lib"};
    char path[256];
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
        snprintf(path, sizeof path, "%s/%s", folders[i], library);
        if (!access(path, R_OK))
            return true;
    }
    return false;
}

int main(int argc, char **argv)
{
    static const char *const libraries[][2] = {{"jemalloc", "libjemalloc.so.2"},
                                               {"tcmalloc", "libtcmalloc_minimal.so.4"},
                                               {"mimalloc", "libmimalloc.so.2.0"}};
    if (argc > 1 && !strcmp(argv[1], "--worker"))
        return slices_work(work);
    if (argc > 3 && !strcmp(argv[1], "--count")) {
        work(atoi(argv[2]), atoi(argv[3]));
        return 0;
    }
    struct slices s;
    if (slices_init(&s, "malloc"))
        return 1;
    for (int sampled = 0; sampled < 2; sampled++) {
        one_allocator(&s, "glibc", "", sampled);
        for (size_t i = 0; i < sizeof libraries / sizeof *libraries; i++)
            if (is_installed(libraries[i][1]))
                one_allocator(&s, libraries[i][0], libraries[i][1], sampled);
    }
    one_sample(&s, "sample", "");
    slices_fini(&s);
    return 0;
}
