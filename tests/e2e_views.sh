#!/usr/bin/env bash
# The views over real runs: a server with a planted leak and known costs, nginx; screens, flame graphs, leaks, exit codes.
. "$(dirname "$0")/lib.sh"
need nginx ab jq python3

narrow() { # name: its lines have at most 80 columns
    local longest
    longest=$(python3 -c 'import sys; print(max((len(l.rstrip("\n")) for l in open(sys.argv[1], encoding="utf-8")), default=0))' "$scratch/$1")
    if [ "$longest" -le 80 ] && [ -s "$scratch/$1" ]; then echo "ok: $1 has $longest columns"; else fail "$1 has $longest columns"; cat "$scratch/$1"; fi
}
screens() { # every screen of a store
    local v
    for v in memory cpu waits "slowest 5"; do
        # shellcheck disable=SC2086
        "$SONDE" report "$scratch/s.db" --$v >"$scratch/${v% *}" || fail "report --$v: exit $?"
        narrow "${v% *}"
    done
    "$SONDE" report "$scratch/s.db" --memory --cpu --waits --slowest 3 >"$scratch/all" || fail "all views: exit $?"
    narrow all
    "$SONDE" leaks "$scratch/s.db" >"$scratch/leaks" || fail "leaks: exit $?"
    narrow leaks
}
exits() { # code word command...: its exit code, and a word that stderr must have
    local code=$1 word=$2 rc
    shift 2
    "$@" >"$scratch/exit.out" 2>"$scratch/exit.err"
    rc=$?
    if [ $rc = "$code" ] && grep -qF -- "$word" "$scratch/exit.err"; then echo "ok: ${*:2} exits $rc"; else
        fail "${*:2}: exit $rc instead of $code, or no \"$word\":"; cat "$scratch/exit.err"; fi
}
formats() { # BY: all three forms hold the same, and hold together
    "$SONDE" flame "$scratch/s.db" --by "$1" -o "$scratch/flame.txt" 2>/dev/null || fail "flame --by $1: exit $?"
    "$SONDE" flame "$scratch/s.db" --by "$1" -o "$scratch/flame.json" 2>/dev/null || fail "flame --by $1 as speedscope: exit $?"
    "$SONDE" flame "$scratch/s.db" --by "$1" -o "$scratch/flame.html" 2>/dev/null || fail "flame --by $1 as a page: exit $?"
    python3 - "$scratch" <<'P' || fail "flame --by $1"
import html.parser, json, re, sys
folder = sys.argv[1]
lines = open(folder + "/flame.txt").read().splitlines()
weight = 0
for line in lines:
    assert re.fullmatch(r"[^;]+(;[^;]+)* \d+", line), line
    weight += int(line.rsplit(" ", 1)[1])
j = json.load(open(folder + "/flame.json"))
p = j["profiles"][0]
assert p["type"] == "sampled" and len(p["samples"]) == len(p["weights"]) == len(lines)
assert sum(p["weights"]) == p["endValue"] == weight, (sum(p["weights"]), weight)
assert all(0 <= f < len(j["shared"]["frames"]) for s in p["samples"] for f in s)
page = open(folder + "/flame.html", encoding="utf-8").read()
assert "http://" not in page and "https://" not in page
class Page(html.parser.HTMLParser):
    open, data, seen = [], "", set()
    def handle_starttag(self, tag, attributes):
        self.seen.add(tag)
        assert not {k for k, v in attributes} & {"src", "href"}, attributes
        if tag not in ("meta", "input", "link", "br"): self.open.append((tag, dict(attributes)))
    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag, tag
    def handle_data(self, text):
        if self.open and self.open[-1][1].get("id") == "data": self.data += text
page_parser = Page()
page_parser.feed(page)
page_parser.close()
assert not page_parser.open and {"svg", "script", "input"} <= page_parser.seen, page_parser.open
data = json.loads(page_parser.data)
node = data["node"]
assert node[2] == weight and len(node) % 5 == 0
print(f"ok: {len(lines)} stacks, {weight}, a page of {len(page) // 1024} KiB")
P
}

echo "--- a server that leaks, waits and burns"
port=$(free_port)
head -c 1048576 /dev/urandom >"$scratch/file"
export SONDE_OPTIONS="--set interval.s=1 --set memory.sample_bytes=4096 --set memory.retained_s=1 --set waits.sample_ns=100000 --quiet"
watch "$BUILD/tests/live_known_cost" threads "$port" "$scratch/file"
wait_listening "$port" || exit 1
cat >"$scratch/client.py" <<'C'
import socket, sys, threading, time
port, seconds = int(sys.argv[1]), float(sys.argv[2])
def run(paths):
    s, end, i = socket.create_connection(("127.0.0.1", port)), time.time() + seconds, 0
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while time.time() < end:
        s.sendall(f"GET {paths[i % len(paths)]} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        got = b""
        while b"ok\n" not in got:
            more = s.recv(4096)
            if not more: sys.exit("the server closed")
            got += more
        i += 1
        time.sleep(0.001)
list(map(threading.Thread.join, [t for t in [threading.Thread(target=run, args=(p,)) for p in
    (["/leak", "/none", "/small"], ["/leak", "/large", "/none"], ["/lock", "/none"], ["/lock", "/sleep"], ["/burn", "/disk"])] if not t.start()]))
C
python3 "$scratch/client.py" "$port" 12 || fail client
kill -TERM "$sonde"; wait "$sonde"; is "exit code" $? 0
screens
report
cat "$scratch/memory" "$scratch/waits" "$scratch/leaks"
"$SONDE" leaks "$scratch/s.db" --json >"$scratch/leaks.json" || fail "leaks --json: exit $?"
is "leaks are looked for" "$(jq .known "$scratch/leaks.json")" true
is "verdict on GET /leak" "$(jq -r '[.leaks[] | select(.endpoint == "GET /leak" and (.verdict == "sure" or .verdict == "likely"))] | length > 0' "$scratch/leaks.json")" true
is "sure leaks of other routes" "$(jq -r '[.leaks[] | select(.verdict == "sure" and .endpoint != "GET /leak")] | length' "$scratch/leaks.json")" 0
is "the leak's stack names its function" "$(jq -r '[.leaks[] | select(.endpoint == "GET /leak")][0].stack | map(select(test("leak"))) | length > 0' "$scratch/leaks.json")" true
leaked=$(awk '$1 == "/leak" {print int($11 / $2)}' "$scratch/out")
found=$(jq -r '[.leaks[] | select(.endpoint == "GET /leak") | .bytes_per_request] | add' "$scratch/leaks.json")
python3 -c 'import sys; a, b = float(sys.argv[1]), float(sys.argv[2]); sys.exit(not 0.5 * a <= b <= 1.6 * a)' "$leaked" "$found" &&
    echo "ok: leaked $leaked bytes a request, found $found" || fail "leaked $leaked bytes a request, found $found"
for by in allocated retained live; do formats $by; done
# what samples say of all that was allocated agrees with the exact counters, within five of its errors
read -r weight samples exact <<<"$("$SONDE" report "$scratch/s.db" --memory --json |
    jq -r '[([.sites[] | select(.kind == "allocated") | .allocated_bytes] | add), ([.sites[] | select(.kind == "allocated") | .samples] | add), ([.processes[].allocated_bytes] | add)] | @tsv')"
python3 -c 'import sys; w, n, e = map(float, sys.argv[1:]); sys.exit(not abs(w / e - 1) < 5 / n ** .5)' "$weight" "$samples" "$exact" &&
    echo "ok: $samples samples say $weight bytes, the counters $exact" || fail "$samples samples say $weight bytes, the counters $exact"
is "--route /leak has only it" "$("$SONDE" flame "$scratch/s.db" --route /leak 2>/dev/null | grep -vc '^GET /leak;')" 0
exits 2 'did you mean "GET /leak"' "$SONDE" flame "$scratch/s.db" --route /leek
if [ "$("$SONDE" report "$scratch/s.db" --json | jq '[.endpoints[] | select(.endpoint == "GET /sleep") | .waits_ns.sleep // empty] | length')" = 1 ]; then
    grep -q '^GET /sleep' "$scratch/waits" || fail "no row of GET /sleep"
    "$SONDE" report "$scratch/s.db" --json | jq -e '.endpoints[] | select(.endpoint == "GET /sleep") | .waits_ns.sleep * 2 > .latency_ns.mean * .count' >/dev/null ||
        fail "GET /sleep does not sleep"
    formats lockwait
    is "locks were waited for in GET /lock" "$("$SONDE" flame "$scratch/s.db" --by lockwait --route /lock 2>/dev/null | grep -c .)" \
        "$("$SONDE" flame "$scratch/s.db" --by lockwait 2>/dev/null | grep -c '^GET /lock;')"
fi

echo "--- wrong use"
exits 1 "no store at" "$SONDE" flame "$scratch/none.db"
exits 1 "no store at" "$SONDE" leaks "$scratch/none.db"
exits 2 "--by wants" "$SONDE" flame "$scratch/s.db" --by time
exits 2 "--format wants" "$SONDE" flame "$scratch/s.db" --format svg
exits 2 "no such option" "$SONDE" leaks --frobnicate
exits 2 "one store" "$SONDE" leaks a b
exits 1 "this is a store" "$SONDE" flame "$scratch/s.db" -o "$scratch/s.db"
exits 1 "No such file or directory" "$SONDE" flame "$scratch/s.db" -o "$scratch/none/flame.txt"
script -qec "$SONDE flame $scratch/s.db --format html" /dev/null >"$scratch/exit.out" 2>&1 </dev/null
is "a page on a terminal" $? 2
grep -q 'o flame.html' "$scratch/exit.out" || fail "no hint to name a file"

echo "--- nginx"
mkdir -p "$scratch/www"
head -c 3000 /dev/zero | tr '\0' x >"$scratch/www/index.html"
chmod -R a+rX "$scratch/www"
port=$(free_port)
cat >"$scratch/nginx.conf" <<C
worker_processes 2; pid $scratch/nginx.pid; error_log $scratch/error.log; events { }
http { access_log off; $nginx_paths keepalive_requests 100000;
    server { listen 127.0.0.1:$port; root $scratch/www; location /users/ { return 200 "user\n"; } } }
C
rm -f "$scratch"/s.db*
export SONDE_OPTIONS="--set interval.s=1 --quiet"
watch nginx -c "$scratch/nginx.conf" -g 'daemon off;'
wait_listening "$port" || exit 1
for _ in 1 2 3 4 5 6; do
    ab -q -k -n 5000 -c 8 "http://127.0.0.1:$port/index.html" >/dev/null 2>&1 || fail ab
    ab -q -k -n 2000 -c 4 "http://127.0.0.1:$port/users/7" >/dev/null 2>&1 || fail ab
    sleep 0.7
done
kill -QUIT "$(cat "$scratch/nginx.pid")"
wait "$sonde"; is "exit code" $? 0
screens
cat "$scratch/memory" "$scratch/leaks"
formats allocated
is "nginx leaks nothing for sure" "$("$SONDE" leaks "$scratch/s.db" --json | jq '[.leaks[] | select(.verdict == "sure")] | length')" 0
grep -q 'ngx_' "$scratch/flame.txt" || fail "no function of nginx in its stacks"
grep -q 'GET /index.html' "$scratch/memory" || fail "no row of GET /index.html"

echo "--- jemalloc's own profile"
if "$SONDE" check | grep -q 'with heap profiles'; then
    "$SONDE" run -o none --allocator jemalloc --heap-profile="$scratch/prof" jq -n '[range(50000) | tostring] | length' >"$scratch/exit.out" 2>"$scratch/err" ||
        fail "jq with jemalloc: exit $?"
    grep -q "heap profiles: 1 file" "$scratch/err" || { fail "no word of the profile"; cat "$scratch/err"; }
    is "files of it" "$(find "$scratch" -name 'prof.*.f.heap' | wc -l)" 1
    head -n 1 "$(find "$scratch" -name 'prof.*.f.heap')" | grep -q '^heap_v2/' || fail "this is no profile"
    "$SONDE" run -o none --heap-profile="$scratch/none" true 2>"$scratch/err"
    grep -q "no heap profile" "$scratch/err" || fail "silent about a profile that there is not"
fi
exits 125 "No such file or directory" "$SONDE" run -o none --heap-profile="$scratch/none/x" true
exits 125 "comma or colon" "$SONDE" run -o none --heap-profile="$scratch/a,b" true
finish
