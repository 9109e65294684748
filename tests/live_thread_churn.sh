#!/usr/bin/env bash
# Servers that start a thread for each connection: dead threads give their place back in time, nothing is lost.
. "$(dirname "$0")/lib.sh"
need ab jq python3
N=${N:-20000}

run() { # name, requests, command...: PORT in the command stands for the port
    local name=$1 n=$2 port words=() w
    shift 2
    port=$(free_port)
    for w in "$@"; do words+=("${w/PORT/$port}"); done
    rm -f "$scratch"/s.db*
    watch "${words[@]}"
    wait_listening "$port" || return
    ab -q -n "$n" -c 32 "http://127.0.0.1:$port/hello" >"$scratch/ab" 2>&1 || { fail "$name: ab"; tail -5 "$scratch/ab"; }
    grep -E '^Requests per second' "$scratch/ab"
    kill -TERM "$sonde"
    wait "$sonde"
    report
    echo "$name: lost $(q '.events.lost | tostring'), of $(q .events.written) written"
    is "$name: requests" "$(q '[.endpoints[] | select(.endpoint == "GET /hello") | .count] | add')" "$n"
    is "$name: lost" "$(q '[.events.lost[]] | add // 0')" 0
    check_sums
}

run "thread a connection" "$N" "$BUILD/tests/live_thread_churn" PORT
cat >"$scratch/threads.py" <<'C'
import http.server, sys
class H(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.send_header("Content-Length", "3"); self.end_headers(); self.wfile.write(b"ok\n")
    def log_message(self, *a): pass
class S(http.server.ThreadingHTTPServer):
    request_queue_size = 256
S(("127.0.0.1", int(sys.argv[1])), H).serve_forever()
C
run python $((N / 4)) /usr/bin/python3 "$scratch/threads.py" PORT
finish
