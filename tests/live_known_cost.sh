#!/usr/bin/env bash
# What each request costs, in three shapes of server: thread per connection, event loop, acceptor and worker pool. Heap per
# endpoint is exact; CPU and waits are what the server measured of itself; what a helper thread hides is outside.
. "$(dirname "$0")/lib.sh"
need jq python3
cat >"$scratch/client.py" <<'C'
"""Interleaved keep-alive requests: many connections, requests in two halves, so that a loop has several open at once."""
import random, socket, sys
port, rounds, pipeline, paths = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:]
random.seed(7)
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
# a file on a real file system where there is one: tmpfs reads no disk
home=${SONDE_TEST_DISK:-/var/tmp}
file=$(mktemp "$home/sonde-test.XXXXXX")
trap 'rm -f "$file" "$file.sync"; cleanup' EXIT
head -c 1048576 /dev/urandom >"$file"
sync "$file"
heap=(/none /small /large /keep /grow /late /leak)
time=(/none /warm /burn /lock /sleep /disk /cached /sync /backend /hidden)
export SONDE_OPTIONS="--set memory.sample_bytes=16384 --set memory.retained_s=1 --quiet"
for shape in ${ONLY:-threads loop pool}; do
    echo "--- $shape"
    rm -f "$scratch"/s.db*
    port=$(free_port)
    watch "$BUILD/tests/live_known_cost" "$shape" "$port" "$file"
    wait_listening "$port" || exit 1
    python3 "$scratch/client.py" "$port" 200 1 "${heap[@]}" || fail "$shape: client"
    python3 "$scratch/client.py" "$port" 60 1 "${time[@]}" || fail "$shape: client"
    sleep 1.5
    kill -TERM "$sonde"
    wait "$sonde"; is "$shape: exit code" $? 0
    cat "$scratch/err"
    report
    python3 "$ROOT/tests/known_cost.py" "$shape" "$scratch/out" "$scratch/report.json" || fail "$shape"
    check_sums complete
done
echo "--- pipelined: divided and marked"
rm -f "$scratch"/s.db*
port=$(free_port)
watch "$BUILD/tests/live_known_cost" loop "$port"
wait_listening "$port" || exit 1
python3 "$scratch/client.py" "$port" 50 4 "${heap[@]}" || fail "client"
sleep 0.5
kill -TERM "$sonde"; wait "$sonde"
report
read -r requests allocated freed allocations <<<"$(awk '$1 != "cpu" {r += $2; a += $3; f += $4; n += $5} END {print r, a, f, n}' "$scratch/out")"
is "pipelined: all endpoints" \
    "$(q '[.endpoints[]] | "\(map(.count) | add) \(map(.heap.allocated_bytes) | add) \(map(.heap.freed_bytes) | add) \(map(.heap.allocations) | add)"')" \
    "$requests $allocated $freed $allocations"
[ "$(q '[.endpoints[].shared] | add')" -gt $((requests / 2)) ] || fail "pipelined requests are not marked as shared"
check_sums complete
finish
