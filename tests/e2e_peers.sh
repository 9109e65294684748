#!/usr/bin/env bash
# Where other tools fail: requests cut at every byte, pipelines, chunks without a length, interim answers, HEAD, upgrade,
# slow readers, exchanges without an answer, high descriptors; an idle server stays asleep. Counts and bytes are the client's.
. "$(dirname "$0")/lib.sh"
need jq python3 nginx curl
cat >"$scratch/server.py" <<'C'
"""A server whose answers are sent in awkward pieces; every connection on a descriptor above 1023."""
import fcntl, os, resource, socket, sys, threading, time
resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1]),) * 2)
filler = [os.open("/dev/null", os.O_RDONLY) for _ in range(1100)]

def serve(c):
    assert c.fileno() > 1023
    c.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    have = b""
    def line():
        nonlocal have
        while b"\r\n" not in have:
            more = c.recv(4096)
            if not more: return None
            have += more
        one, have = have.split(b"\r\n", 1)
        return one
    def body(n):
        nonlocal have
        while len(have) < n: have += c.recv(65536)
        got, have = have[:n], have[n:]
        return got
    def pieces(*parts):
        for p in parts: c.sendall(p); time.sleep(0.001)
    while (first := line()):
        verb, target, _ = first.split(b" ")
        head = {}
        while (h := line()): k, v = h.split(b": ", 1); head[k.lower()] = v
        length = int(head.get(b"content-length", 0))
        if head.get(b"expect"): c.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        if length: body(length)
        if head.get(b"transfer-encoding") == b"chunked":
            while (n := int(line().split(b";")[0], 16)): body(n); line()
            while line(): pass
        if target == b"/plain":
            if verb == b"HEAD": c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n")
            else: pieces(b"HTTP/1.1 2", b"00 OK\r", b"\nContent-Length: 3\r\n\r", b"\nok", b"\n")
        elif target == b"/chunked":
            pieces(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1", b"0;name=\"x\"\r\n0123456789abcde", b"f\r", b"\n3\r\nGET\r\n0\r\n", b"X-Sum: 1\r\n\r", b"\n")
        elif target == b"/interim":
            pieces(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", b"HTTP/1.1 204 No Content\r\n\r\n")
        elif target == b"/close":
            pieces(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nuntil", b" the end"); break
        elif target == b"/upgrade":
            c.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n")
            while (d := c.recv(4096)): c.sendall(d)
            break
        elif target == b"/never": time.sleep(0.05); break
        elif target == b"/slow":
            c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4000000\r\n\r\n")
            for _ in range(100): c.sendall(bytes(40000))
    c.close()

s = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    c = s.accept()[0]
    threading.Thread(target=serve, args=(c,), daemon=True).start()
C
cat >"$scratch/client.py" <<'C'
"""Sends what is hard to read; prints per endpoint: requests, bytes sent, bytes received, as JSON."""
import json, socket, sys, time
port, told = int(sys.argv[1]), {}
def connect(buffer=0):
    s = socket.socket()
    if buffer: s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    s.connect(("127.0.0.1", port))
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return s
def until(s, end, have=b""):
    while not have.endswith(end):
        more = s.recv(65536)
        if not more: sys.exit(f"closed after {have[-60:]}")
        have += more
    return have
def book(name, sent, got, n=1):
    t = told.setdefault(name, [0, 0, 0])
    t[0] += n; t[1] += sent; t[2] += got
def request(path, verb=b"GET", more=b"", body=b""): return verb + b" " + path + b" HTTP/1.1\r\nHost: test\r\n" + more + b"\r\n" + body
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n"
CHUNKS_END = b"X-Sum: 1\r\n\r\n"

s, q = connect(), request(b"/plain")
for cut in range(1, len(q)):  # at every byte
    s.sendall(q[:cut]); time.sleep(0.002); s.sendall(q[cut:])
    book("GET /plain", len(q), len(until(s, b"ok\n")))
for i in range(len(q)): s.sendall(q[i:i + 1]); time.sleep(0.001)  # byte by byte
book("GET /plain", len(q), len(until(s, b"ok\n")))
for _ in range(20):  # three at once
    s.sendall(q * 3)
    got = b""
    while got.count(b"ok\n") < 3: got += s.recv(4096)
    book("GET /plain", 3 * len(q), len(got), 3)
# chunks both ways; a chunk that looks like a request
q = request(b"/chunked", b"POST", b"Transfer-Encoding: chunked\r\n", b"5;a=b\r\nGET /\r\n11\r\n HTTP/1.1\r\nHost:y\r\n0\r\nX-T: 1\r\n\r\n")
for cut in (20, 70, 85, 95, 100, len(q) - 2):
    s.sendall(q[:cut]); time.sleep(0.002); s.sendall(q[cut:])
    book("POST /chunked", len(q), len(until(s, CHUNKS_END)))
q = request(b"/interim")
for _ in range(10): s.sendall(q); book("GET /interim", len(q), len(until(s, b"No Content\r\n\r\n")))
q = request(b"/plain", b"HEAD")
for _ in range(10): s.sendall(q); book("HEAD /plain", len(q), len(until(s, b"5000\r\n\r\n")))
for _ in range(5):  # waits for 100 before it sends the body
    q = request(b"/plain", b"PUT", b"Expect: 100-continue\r\nContent-Length: 700\r\n")
    s.sendall(q)
    got = until(s, b"Continue\r\n\r\n"); s.sendall(b"b" * 700)
    book("PUT /plain", len(q) + 700, len(until(s, b"ok\n", got)))
s.close()
for _ in range(5):
    s, q, got = connect(), request(b"/close"), b""
    s.sendall(q)
    while (more := s.recv(4096)): got += more
    book("GET /close", len(q), len(got)); s.close()
for _ in range(4):
    s, q = connect(), request(b"/never")
    s.sendall(q); assert s.recv(100) == b""
    book("GET /never", len(q), 0); s.close()
s, q = connect(), request(b"/upgrade", more=b"Upgrade: x\r\nConnection: upgrade\r\n")
s.sendall(q); n = len(until(s, b"\r\n\r\n"))
book("GET /upgrade", len(q), n)
frames = [b"GET /plain HTTP/1.1\r\n\r\n", b"\x81\x05hello", b"x" * 3000]
for f in frames: s.sendall(f); until(s, f)
s.close()
s, q = connect(8192), request(b"/slow")  # reads slowly: the last byte leaves long after the first
s.sendall(q); got, began = 0, time.time()
while got < 4000000:
    got += len(s.recv(65536))
    if time.time() - began < 0.5: time.sleep(0.02)
book("GET /slow", len(q), got)
s.close()
print(json.dumps({"told": told, "frames": sum(map(len, frames))}))
C
port=$(free_port)
watch /usr/bin/python3 "$scratch/server.py" "$port"
wait_listening "$port" || exit 1
python3 "$scratch/client.py" "$port" >"$scratch/told.json" || fail client
wait_idle "$port"
kill -TERM "$sonde"; wait "$sonde"; is "exit code" $? 143
cat "$scratch/err"
report
while IFS=$'\t' read -r name count in out; do
    is "$name: requests, bytes in, bytes out" \
        "$(q "[.endpoints[] | select(.endpoint == \"$name\") | .count, .bytes_in, .bytes_out] | map(tostring) | join(\" \")")" "$count $in $out"
done < <(jq -r '.told | to_entries[] | [.key, .value[]] | @tsv' "$scratch/told.json")
is "endpoints" "$(q '.endpoints | length')" "$(jq '.told | length' "$scratch/told.json")"
is "final status, not the interim one" "$(q '.endpoints[] | select(.endpoint == "GET /interim") | .status | tostring')" '{"204":10}'
is "100 Continue is no answer" "$(q '.endpoints[] | select(.endpoint == "PUT /plain") | .status | tostring')" '{"200":5}'
is "no answer is no status" "$(q '.endpoints[] | select(.endpoint == "GET /never") | "\(.status | length) \(.unobserved) \(.errors)"')" "0 4 0"
is "body of chunks" "$(q '.endpoints[] | select(.endpoint == "POST /chunked") | "\(.body_in) \(.body_out)"')" "$((6 * 22)) $((6 * 19))"
is "HEAD has no body" "$(q '.endpoints[] | select(.endpoint == "HEAD /plain") | .body_out')" 0
is "the upgraded connection's bytes are outside" "$(q '.outside.bytes_in >= 3000 and .outside.bytes_out >= 3000')" true
is "first and last byte of a slow reader" "$(q '.endpoints[] | select(.endpoint == "GET /slow") | .latency_ns.max > 300000000 and .first_byte_ns.max < .latency_ns.max')" true
is "errors" "$(q '[.endpoints[].errors] | add')" 0
is "lost" "$(q '[.events.lost[]] | add // 0')" 0
is "negative or absurd times" "$(q '[.endpoints[].latency_ns | .p50, .max | select(. != null) | select(. < 0 or . > 10000000000)] | length')" 0
check_sums

echo "--- an idle server sleeps on, no thread, no descriptor, no signal is ours"
rm -f "$scratch"/s.db*
port=$(free_port)
cat >"$scratch/nginx.conf" <<C
worker_processes 1;
daemon off;
pid $scratch/nginx.pid;
error_log $scratch/error.log;
events { }
http { access_log off; $nginx_paths server { listen 127.0.0.1:$port; location / { return 200 "x"; } } }
C
state() { # pid: threads, descriptors' targets, signals caught, blocked, ignored, limits
    awk '/^Threads|^Sig/' "/proc/$1/status"
    find "/proc/$1/fd" -type l -printf '%f %l\n' | sed -E 's/\[[0-9]+\]/[n]/; s/sonde-test\.[^ ]*//' | sort -n
    cat "/proc/$1/limits"
}
wakes() { awk '/^voluntary/{v = $2} END {print v}' "/proc/$1/task/$1/status"; }
for how in bare watched; do
    if [ $how = bare ]; then nginx -c "$scratch/nginx.conf" 2>/dev/null >&2 & pid=$!; pids+=("$pid"); else watch nginx -c "$scratch/nginx.conf"; pid=$sonde; fi
    wait_listening "$port" || exit 1
    for _ in 1 2 3; do curl -so /dev/null "http://127.0.0.1:$port/"; done
    sleep 1.5 # memory of the last requests is settled
    worker=$(pgrep -P "$(cat "$scratch/nginx.pid")" | head -n 1)
    state "$worker" >"$scratch/state.$how"
    before=$(wakes "$worker"); sleep 3; after=$(wakes "$worker")
    is "$how: wake-ups in 3 s" $((after - before)) 0
    kill -QUIT "$(cat "$scratch/nginx.pid")"; wait "$pid"
done
sed -i '/^[12] /d' "$scratch"/state.*
diff "$scratch/state.bare" "$scratch/state.watched" && echo "ok: threads, descriptors, signals and limits are as bare" || fail "the worker differs from a bare one"
finish
