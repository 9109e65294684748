#!/usr/bin/env bash
# The recorder among other libraries: a preload of the program's own before and after it, libraries found by RUNPATH,
# a program built with address sanitizer, one that cleans its environment, an unreadable recorder.
. "$(dirname "$0")/lib.sh"
need gcc jq
cd "$scratch" || exit 1
so=$BUILD/libsonde.so
cat >other.c <<'C'
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sys/types.h>
#include <unistd.h>
/* counts what passes, and passes it on to whoever comes next */
static int calls;
ssize_t read(int fd, void *to, size_t n) { calls++; return ((ssize_t (*)(int, void *, size_t))dlsym(RTLD_NEXT, "read"))(fd, to, n); }
int close(int fd) { calls++; return ((int (*)(int))dlsym(RTLD_NEXT, "close"))(fd); }
void *malloc(size_t n) { static __thread int in; void *(*next)(size_t); if (in++) { in--; return 0; }
    next = (void *(*)(size_t))dlsym(RTLD_NEXT, "malloc"); in--; calls++; return next(n); }
int other_calls(void) { return calls; }
C
cat >program.c <<'C'
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
int main(void) {
    int pair[2]; char c[8];
    int (*calls)(void) = (int (*)(void))dlsym(RTLD_DEFAULT, "other_calls");
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair)) return 1;
    for (int i = 0; i < 10; i++) if (write(pair[0], "x", 1) != 1 || read(pair[1], c, 8) != 1) return 2;
    void *volatile p = malloc(100); free(p);
    if (close(pair[0]) || read(pair[1], c, 8)) return 3;
    printf("%d\n", calls && calls() >= 13);
    return 0; }
C
gcc -shared -fPIC -O1 -o other.so other.c -ldl && gcc -O1 -fno-builtin -o program program.c -ldl || { fail gcc; finish; }
is "another preload, alone" "$(LD_PRELOAD=$scratch/other.so ./program)" 1
is "another preload, beside sonde run" "$(LD_PRELOAD=$scratch/other.so "$SONDE" run --quiet -o a.db ./program)" 1
is "the recorder first" "$(LD_PRELOAD=$so:$scratch/other.so ./program)" 1
is "the recorder last" "$(LD_PRELOAD=$scratch/other.so:$so ./program)" 1

# dlopen by name finds what the calling library's own RUNPATH says
mkdir -p lib/sub
echo 'int inner(void) { return 42; }' >inner.c
cat >outer.c <<'C'
#include <dlfcn.h>
int outer(void) { void *h = dlopen("libinner.so", RTLD_NOW); int (*f)(void); if (!h) return -1; f = (int (*)(void))dlsym(h, "inner"); return f ? f() : -2; }
C
cat >load.c <<'C'
#include <dlfcn.h>
#include <stdio.h>
int main(int argc, char **argv) { void *h = dlopen(argv[1], RTLD_NOW); int (*f)(void) = h ? (int (*)(void))dlsym(h, "outer") : 0;
    const char *before = dlerror(), *after; void *no = dlsym(h, "no_such_symbol"); after = dlerror();
    printf("%d %d %s\n", argc, f ? f() : -3, !no && !before && after ? "ok" : "errors are mixed up"); dlclose(h); return 0; }
C
gcc -shared -fPIC -o lib/sub/libinner.so inner.c
gcc -shared -fPIC -Wl,--enable-new-dtags -Wl,-rpath,"\$ORIGIN/sub" -o lib/libouter.so outer.c -ldl
gcc -o load load.c -ldl
is "a library found by RUNPATH" "$("$SONDE" run --quiet -o a.db ./load "$scratch/lib/libouter.so")" "2 42 ok"

# address sanitizer wants to be first: the program runs, and somebody says why nothing is seen
echo '#include <stdio.h>
int main(void) { puts("ran"); return 6; }' >asan.c
if gcc -fsanitize=address -o asan asan.c 2>/dev/null && ./asan >/dev/null; [ $? = 6 ]; then
    "$SONDE" run -o b.db ./asan >o 2>e; is "exit code of a program with address sanitizer" $? 6
    is "its output" "$(cat o)" ran
    grep -qi 'sanitizer' e || fail "nobody says why nothing is seen: $(cat e)"
fi

is "a cleaned environment" "$("$SONDE" run --quiet -o c.db env -i /bin/sh -c 'echo clean; exec env' | grep -v '^PWD=\|^_=\|^SHLVL=')" clean
is "nothing of the loader's on stderr" "$("$SONDE" run --quiet -o d.db /bin/sh -c 'ls / >/dev/null; cd /; exec true' 2>&1)" ""
finish
