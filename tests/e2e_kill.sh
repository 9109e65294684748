#!/usr/bin/env bash
# kill -9 of the server names what was in flight; kill -9 of the collector under load costs no request.
. "$(dirname "$0")/lib.sh"
need nginx ab wrk jq python3

# 1. the server is killed while a request waits for its answer
port=$(free_port)
cat >"$scratch/slow.py" <<'C'
import http.server, sys, threading, time
class H(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        if self.path == "/slow":
            time.sleep(60)
        body = b"ok\n"
        self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers(); self.wfile.write(body)
    def log_message(self, *a): pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), H).serve_forever()
C
watch /usr/bin/python3 "$scratch/slow.py" "$port"
wait_listening "$port" || exit 1
ab -q -n 200 -c 4 "http://127.0.0.1:$port/fast" >/dev/null 2>&1 || fail ab
curl -s "http://127.0.0.1:$port/slow" >/dev/null & curl=$!
until_report 20 '.in_flight | map(.endpoint) == ["GET /slow"]'
kill -KILL "$(pgrep -P "$sonde" -x python3 | head -n 1)"
wait "$sonde"; is "exit code after SIGKILL" $? 137
kill "$curl" 2>/dev/null
cat "$scratch/err"
report
is "in flight" "$(q '.in_flight | length')" 1
is "its endpoint" "$(q '.in_flight[0].endpoint')" "GET /slow"
is "GET /fast" "$(q '.endpoints[] | select(.endpoint == "GET /fast") | .count')" 200
is "signal" "$(q '.run.signal')" 9
check_sums

# 2. the collector is killed under load
rm -f "$scratch"/s.db*
port=$(free_port)
echo small >"$scratch/small.html"; chmod -R a+rX "$scratch"
cat >"$scratch/nginx.conf" <<C
worker_processes 1;
pid $scratch/nginx.pid;
error_log $scratch/error.log;
events { }
http { access_log $scratch/access.log; $nginx_paths keepalive_requests 10000000; server { listen 127.0.0.1:$port; root $scratch; } }
C
watch nginx -c "$scratch/nginx.conf" -g 'daemon off;'
wait_listening "$port" || exit 1
wrk -t 1 -c 8 -d 6 "http://127.0.0.1:$port/small.html" >"$scratch/wrk" &
load=$!
until_report 20 '[.endpoints[].count] | add > 1000'
worker=$(pgrep -P "$(cat "$scratch/nginx.pid")" | head -n 1)
before=$(awk '/VmData/{print $2}' "/proc/$worker/status")
for _ in 1 2; do
    report
    before_kill=$(q '[.endpoints[].count] | add')
    replace_collector
    until_report 20 "[.endpoints[].count] | add > $before_kill" # by what the successor counted
done
after=$(awk '/VmData/{print $2}' "/proc/$worker/status")
wait "$load"
grep -E 'Socket errors|Non-2xx' "$scratch/wrk" && fail "requests failed while the collector died"
[ $((after - before)) -lt 2048 ] || fail "the server's private memory grew from $before to $after kB"
wait_idle "$port"
kill -QUIT "$(cat "$scratch/nginx.pid")"
wait "$sonde"; is "exit code" $? 0
cat "$scratch/err"
report
lines=$(wc -l <"$scratch/access.log")
counted=$(q '[.endpoints[].count] | add')
echo "requests: $counted counted of $lines; lost: $(q '.events.lost')"
[ "$counted" -gt $((lines / 3)) ] && [ "$counted" -le "$lines" ] || fail "counted $counted of $lines"
is "events written = drained + lost" "$(q '.events.written == .events.drained + ([.events.lost[]] | add // 0)')" true
finish
