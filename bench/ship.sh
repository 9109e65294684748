#!/usr/bin/env bash
# ship.sh [REQUESTS] - our own CPU when every request of a real nginx goes to a real Elasticsearch as a document.
# Prints the collector's ms of CPU per 1000 requests (bar: 6): each request a row of the local store, nothing shipped;
# each a document, the store with a sample of its own; each both. And what arrived, and what was shed where.
set -u
cd "$(dirname "$0")/.." || exit 1
BUILD=${BUILD:-build}
requests=${1:-200000}
d=$(mktemp -d)
chmod 755 "$d"
server=tests/servers/elasticsearch.sh
trap 'kill "$(cat "$d/nginx.pid" 2>/dev/null)" 2>/dev/null; bash $server stop "$d/es"; rm -rf "$d"' EXIT
bash $server start "$d/es" || exit 1
url=$(cat "$d/es/url")
mkdir "$d/html"
head -c 612 /dev/zero | tr '\0' x >"$d/html/index.html"
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
cat >"$d/nginx.conf" <<CONF
daemon off; pid $d/nginx.pid; error_log $d/nginx.err; worker_processes 1; events { worker_connections 256; }
http { access_log off; keepalive_requests 1000000; server { listen 127.0.0.1:$port; root $d/html; } }
CONF

cpu_ms() { # pid: of all its threads
    awk '{n += $1} END {printf "%.0f\n", n / 1e6}' /proc/"$1"/task/*/schedstat
}
once() { # name option...
    local name=$1 collector before after
    shift
    "$BUILD/sonde" run -o "$d/s.db" --set sampling.spans_per_second=10000000 \
        --set exit.flush_s=60 "$@" -- nginx -c "$d/nginx.conf" >"$d/out" 2>&1 &
    local run=$!
    for _ in $(seq 100); do curl -s -o /dev/null "http://127.0.0.1:$port/" && break; sleep 0.1; done
    sleep 1
    collector=$(pgrep -f "sonde-collector.*$d/s.db" | head -n 1)
    before=$(cpu_ms "$collector")
    ab -q -k -c 16 -n "$requests" "http://127.0.0.1:$port/index.html" >"$d/ab.out" 2>&1
    sleep 4 # what is on its way arrives
    after=$(cpu_ms "$collector")
    kill "$(cat "$d/nginx.pid")"
    wait $run
    awk -v n="$name" -v ms=$((after - before)) -v r="$requests" \
        'BEGIN {printf "%-28s %7.2f ms of CPU per 1000 requests\n", n, ms * 1000 / r}'
    awk '/Requests per second/ {printf "%-28s %7.0f requests/s, with the server and the load on the same cores\n", "", $4}' "$d/ab.out"
    "$BUILD/sonde" report "$d/s.db" --json | jq -r '"                             \(.endpoints | map(.count) | add) requests, shed \(.spans_shed | tojson)", (.documents | select(.accepted > 0) | "                             documents \(tojson)")'
    rm -f "$d"/s.db*
}
once "every request stored"
once "every request shipped" --to "$url"
once "shipped and stored" --to "$url" --set store.spans_per_second=10000000
