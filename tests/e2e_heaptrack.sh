#!/usr/bin/env bash
# heaptrack on the same program agrees: the five sites that allocate most, in the same order of size within sampling's error.
. "$(dirname "$0")/lib.sh"
command -v heaptrack >/dev/null || skip "heaptrack is not installed"
need jq python3 gcc c++filt
cat >"$scratch/sites.c" <<'C'
/* eight places that allocate different amounts for each request; a tenth of it lives on for a while */
#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
static void *ring[4096];
static unsigned at;
#define SITE(name, bytes, times) __attribute__((noinline)) void *name(void) { void *p = 0; \
    for (int i = 0; i < times; i++) { p = malloc(bytes); memset(p, i, 16); if (i + 1 < times) free(p); } return p; }
SITE(parse_headers, 700, 2) SITE(load_session, 9000, 3) SITE(render_page, 30000, 2) SITE(build_index, 5000, 8) SITE(open_log, 100, 2)
SITE(compress_body, 64000, 2) SITE(copy_rows, 1500, 10) SITE(tiny_things, 48, 20)
static void keep(void *p) { free(ring[at]); ring[at] = p; at = (at + 1) % 4096; }
int work(void) { keep(parse_headers()); keep(load_session()); free(render_page()); keep(build_index()); keep(open_log()); free(compress_body()); keep(copy_rows()); keep(tiny_things()); return 3; }
int main(int argc, char **argv)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1]))};
    int one = 1, l = socket(AF_INET, SOCK_STREAM, 0), left = argc > 2 ? atoi(argv[2]) : 0;
    setsockopt(l, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(l, (struct sockaddr *)&a, sizeof a) || listen(l, 16)) return 1;
    static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n";
    while (left > 0) {
        char q[2048];
        int fd = accept(l, 0, 0);
        while (left > 0 && read(fd, q, sizeof q) > 0) { work(); left--; if (write(fd, answer, sizeof answer - 1) < 0) break; }
        close(fd);
    }
    return 0;
}
C
gcc -O2 -g -fno-ipa-icf -o "$scratch/sites" "$scratch/sites.c" || { fail gcc; finish; }
cat >"$scratch/load.py" <<'C'
import socket, sys
s = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
for _ in range(int(sys.argv[2])):
    s.sendall(b"GET /page HTTP/1.1\r\nHost: x\r\n\r\n")
    if not s.recv(100).endswith(b"ok\n"): sys.exit("no answer")
C
N=3000
serve() { # command...
    local port; port=$(free_port)
    (cd "$scratch" && exec "$@" "$scratch/sites" "$port" $N) >"$scratch/out" 2>"$scratch/err" &
    local server=$!
    pids+=("$server")
    wait_listening "$port" || return 1
    python3 "$scratch/load.py" "$port" $N || fail "load"
    wait "$server"
}
serve heaptrack -o "$scratch/track" || fail "heaptrack: $(tail -3 "$scratch/err")"
track=$(find "$scratch" -maxdepth 1 -name 'track*' | head -n 1)
heaptrack_print -f "$track" -a 0 -p 0 -T 0 -l 0 -F "$scratch/folded" --flamegraph-cost-type allocations >/dev/null 2>"$scratch/print.err" || fail "heaptrack_print: $(cat "$scratch/print.err")"
serve "$SONDE" run --quiet --set memory.sample_bytes=16384 -o "$scratch/s.db" || fail "sonde: $(tail -3 "$scratch/err")"
"$SONDE" flame "$scratch/s.db" --by allocated --format collapsed >"$scratch/ours" || fail "sonde flame"
cat >"$scratch/compare.py" <<'C'
"""heaptrack counts allocations of a place, sonde samples bytes: each place has one size, so the one gives the other."""
import re, sys
size = {"parse_headers": 700, "load_session": 9000, "render_page": 30000, "build_index": 5000, "open_log": 100, "compress_body": 64000, "copy_rows": 1500, "tiny_things": 48}
def read(path, weight):
    total = {}
    for line in open(path):
        stack, _, n = line.rstrip().rpartition(" ")
        for name in size:
            if re.search(rf"\b{name}\b", stack): total[name] = total.get(name, 0) + float(n) * weight(name)
    return total
theirs, ours = read(sys.argv[1], lambda name: size[name]), read(sys.argv[2], lambda name: 1)
top = lambda t: [k for k, _ in sorted(t.items(), key=lambda kv: -kv[1])[:5]]
print("heaptrack", [(k, int(theirs[k])) for k in top(theirs)])
print("sonde    ", [(k, int(ours[k])) for k in top(ours)])
if top(theirs) != top(ours): sys.exit("the five top sites differ")
for k in top(theirs):
    if abs(ours[k] / theirs[k] - 1) > 0.15: sys.exit(f"{k}: {ours[k]:.0f} against {theirs[k]:.0f}")
C
python3 "$scratch/compare.py" "$scratch/folded" "$scratch/ours" || fail "they do not agree"
finish
