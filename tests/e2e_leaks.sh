#!/usr/bin/env bash
# Real leaks found: a C server built as a distribution does (-O2, stripped, debug file beside), a Python and a Node server;
# `sonde leaks` and the report's sites name route and stack, and accuse no other route.
. "$(dirname "$0")/lib.sh"
need jq python3 gcc objcopy strip
cat >"$scratch/orders.c" <<'C'
/* a small server with a leak: what it remembers of an order is never forgotten */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
struct order { struct order *next; char text[3000]; };
static struct order *orders;
static __attribute__((noinline)) struct order *remember_order(const char *text)
{
    struct order *o = malloc(sizeof *o);
    snprintf(o->text, sizeof o->text, "%s", text);
    o->next = orders;
    orders = o;
    return o;
}
static __attribute__((noinline)) int look_up_user(const char *text)
{
    char *copy = malloc(3000);
    int n = snprintf(copy, 3000, "%s", text);
    free(copy);
    return n;
}
static __attribute__((noinline)) int answer_request(int fd, char *q)
{
    char out[256];
    int n = !strncmp(q, "GET /orders/", 12) ? (int)strlen(remember_order(q + 12)->text) : look_up_user(q);
    int len = snprintf(out, sizeof out, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n%3d\n", n % 1000);
    return write(fd, out, (size_t)len) == len;
}
int main(int argc, char **argv)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1]))};
    int one = 1, l = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(l, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (argc != 2 || bind(l, (struct sockaddr *)&at, sizeof at) || listen(l, 64)) return 1;
    for (;;) {
        char q[4096];
        int fd = accept(l, NULL, NULL), more = 1;
        for (ssize_t n; more && (n = read(fd, q, sizeof q - 1)) > 0;) { q[n] = 0; more = answer_request(fd, q); }
        close(fd);
    }
}
C
cat >"$scratch/orders.py" <<'C'
import http.server, sys
kept = []
class H(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    def do_GET(self):
        text = self.path.encode() * 300
        if self.path.startswith("/orders/"): kept.append(bytearray(text))
        body = b"%4d" % (len(text) % 1000)
        self.send_response(200); self.send_header("Content-Length", "4"); self.end_headers(); self.wfile.write(body)
    def log_message(self, *a): pass
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), H).serve_forever()
C
cat >"$scratch/orders.js" <<'C'
const kept = [];
require('http').createServer((q, a) => {
    const b = Buffer.alloc(20000, q.url);
    if (q.url.startsWith('/orders/')) kept.push(b);
    a.end('done');
}).listen(+process.argv[2], '127.0.0.1');
setInterval(() => global.gc && global.gc(), 500);
process.on('SIGTERM', () => process.exit(0));
C
cat >"$scratch/load.py" <<'C'
"""Orders and users by turns for some seconds: every moment has some."""
import http.client, sys, time
port, seconds, pause = int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])
c = http.client.HTTPConnection("127.0.0.1", port)
end, n = time.time() + seconds, 0
while time.time() < end:
    for path in (f"/orders/{n}", f"/users/{n}", "/status"):
        c.request("GET", path); r = c.getresponse(); r.read()
        if r.status != 200: sys.exit(r.status)
    n += 1
    time.sleep(pause)
print(n)
C
try() { # name, function that must be in the stack (extended regular expression), bytes an order keeps at least, command...
    local name=$1 function=$2 bytes=$3 port
    shift 3
    port=$(free_port)
    rm -f "$scratch"/s.db*
    "$SONDE" run --quiet --set interval.s=1 --set memory.retained_s=1 --set memory.sample_bytes=16384 -o "$scratch/s.db" "$@" "$port" 2>"$scratch/err" &
    sonde=$!
    pids+=("$sonde")
    wait_listening "$port" || return
    n=$(python3 "$scratch/load.py" "$port" "${SECONDS_EACH:-9}" 0.005) || fail "$name: load"
    sleep 1.5
    kill -TERM "$sonde"
    wait "$sonde"
    report
    echo "$name: $n orders"
    "$SONDE" leaks "$scratch/s.db" | head -20
    "$SONDE" leaks "$scratch/s.db" --json >"$scratch/leaks.json" || fail "$name: sonde leaks: exit $?"
    is "$name: the surest leak's route" "$(jq -r '.leaks[0].endpoint' "$scratch/leaks.json")" "GET /orders/{id}"
    is "$name: how sure" "$(jq -r '.leaks[0].verdict | . == "sure" or . == "likely"' "$scratch/leaks.json")" true
    jq -r '.leaks[0].stack[]' "$scratch/leaks.json" | grep -Eq "$function" || fail "$name: no $function in its stack: $(jq -c '.leaks[0].stack' "$scratch/leaks.json")"
    is "$name: other routes accused" "$(jq -r '[.leaks[] | select(.endpoint == "GET /users/{id}" or .endpoint == "GET /status") | select(.verdict == "sure")] | length' "$scratch/leaks.json")" 0
    is "$name: bytes an order keeps" "$(jq -r "([.leaks[] | select(.endpoint == \"GET /orders/{id}\") | .bytes_per_request // 0] | add) | . >= 0.7 * $bytes and . <= 1.4 * $bytes + 500" "$scratch/leaks.json")" true
    if [ "$(q '.sites')" = null ]; then
        echo "the report has no sites yet"
    else
        q '.sites[] | tostring' | grep -E "orders" | grep -Eq "$function" || fail "$name: the report's sites do not name route and stack"
    fi
    local got
    got=$(q '.endpoints[] | select(.endpoint == "GET /orders/{id}") | .heap.retained_bytes')
    [ "$got" != null ] && awk -v g="$got" -v n="$n" -v b="$bytes" 'BEGIN {exit !(g >= 0.7 * n * b && g <= 1.4 * n * b + 500 * n)}' || fail "$name: orders retain $got bytes, $n times about $bytes were kept"
    check_sums
}

c_() {
    gcc -O2 -g -o "$scratch/orders" "$scratch/orders.c" || { fail gcc; return; }
    objcopy --only-keep-debug "$scratch/orders" "$scratch/orders.debug"
    strip "$scratch/orders"
    objcopy --add-gnu-debuglink="$scratch/orders.debug" "$scratch/orders"
    try C 'remember_order' 3008 "$scratch/orders"
}
python_() { try Python 'PyByteArray|bytearray' 3600 /usr/bin/python3 "$scratch/orders.py"; }
node_() { need node; try Node 'alloc|Alloc|Buffer' 20000 node --expose-gc "$scratch/orders.js"; }

for one in ${ONLY:-c_ python_ node_}; do echo "--- $one"; $one; done
finish
