#!/usr/bin/env bash
# Heap per endpoint is exact, in three shapes of server: thread per connection, event loop, acceptor and worker pool.
. "$(dirname "$0")/lib.sh"
need jq python3
cat >"$scratch/client.py" <<'C'
"""Interleaved keep-alive requests: many connections, requests in two halves, so that a loop has several open at once."""
import random, socket, sys
port, rounds, pipeline = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
random.seed(7)
paths = ["/none", "/small", "/large", "/keep", "/grow", "/late"]
def answer(s, n):
    got = b""
    while got.count(b"ok\n") < n:
        more = s.recv(4096)
        if not more: sys.exit("the server closed")
        got += more
socks = [socket.create_connection(("127.0.0.1", port)) for _ in range(12)]
for s in socks: s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
for _ in range(rounds):
    random.shuffle(socks)
    sent = []
    for s in socks:
        q = b"".join(f"GET {random.choice(paths)} HTTP/1.1\r\nHost: x\r\n\r\n".encode() for _ in range(pipeline))
        cut = random.randrange(1, len(q)) if pipeline == 1 else len(q)
        s.sendall(q[:cut]); sent.append((s, q[cut:]))
    random.shuffle(sent)
    for s, rest in sent:
        if rest: s.sendall(rest)
    for s, _ in sent: answer(s, pipeline)
for s in socks: s.close()
C
for shape in threads loop pool; do
    echo "--- $shape"
    rm -f "$scratch"/s.db*
    port=$(free_port)
    watch "$BUILD/tests/live_known_cost" "$shape" "$port"
    wait_listening "$port" || exit 1
    python3 "$scratch/client.py" "$port" 200 1 || fail "$shape: client"
    sleep 0.5
    kill -TERM "$sonde"
    wait "$sonde"; is "$shape: exit code" $? 0
    cat "$scratch/err"
    report
    while read -r path requests allocated freed allocations; do
        is "$shape: GET $path" \
            "$(q ".endpoints[] | select(.endpoint == \"GET $path\") | \"\(.count) \(.heap.allocated_bytes) \(.heap.freed_bytes) \(.heap.allocations)\"")" \
            "$requests $allocated $freed $allocations"
    done <"$scratch/out"
    check_sums complete
done
echo "--- pipelined: divided and marked"
rm -f "$scratch"/s.db*
port=$(free_port)
watch "$BUILD/tests/live_known_cost" loop "$port"
wait_listening "$port" || exit 1
python3 "$scratch/client.py" "$port" 50 4 || fail "client"
sleep 0.5
kill -TERM "$sonde"; wait "$sonde"
report
read -r requests allocated freed allocations <<<"$(awk '{r += $2; a += $3; f += $4; n += $5} END {print r, a, f, n}' "$scratch/out")"
is "pipelined: all endpoints" \
    "$(q '[.endpoints[]] | "\(map(.count) | add) \(map(.heap.allocated_bytes) | add) \(map(.heap.freed_bytes) | add) \(map(.heap.allocations) | add)"')" \
    "$requests $allocated $freed $allocations"
[ "$(q '[.endpoints[].shared] | add')" -gt $((requests / 2)) ] || fail "pipelined requests are not marked as shared"
check_sums complete
finish
