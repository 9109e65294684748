#!/usr/bin/env bash
# nginx under ab and wrk: requests and bytes equal the access log's own figures, exactly.
. "$(dirname "$0")/lib.sh"
need nginx ab wrk jq
port=$(free_port)
mkdir -p "$scratch/www" "$scratch/logs"
head -c 1500 /dev/zero | tr '\0' x >"$scratch/www/small.html"
head -c 300000 /dev/urandom >"$scratch/www/large.bin"
chmod -R a+rX "$scratch/www"
cat >"$scratch/nginx.conf" <<C
worker_processes 2;
pid $scratch/nginx.pid;
error_log $scratch/logs/error.log;
events { worker_connections 1024; }
http {
    log_format sizes '\$status \$request_length \$bytes_sent \$request_method \$uri';
    access_log $scratch/logs/access.log sizes;
    $nginx_paths
    sendfile on; keepalive_requests 100000; lingering_close off;
    server {
        listen 127.0.0.1:$port;
        root $scratch/www;
        location /users/ { return 200 "user\n"; }
        location /fail { return 503; }
    }
}
C
watch nginx -c "$scratch/nginx.conf" -g 'daemon off;'
wait_listening "$port" || exit 1
ab -q -k -n 20000 -c 16 "http://127.0.0.1:$port/small.html" >"$scratch/ab1" 2>&1 || fail "ab keep-alive"
ab -q -n 2000 -c 8 "http://127.0.0.1:$port/small.html" >"$scratch/ab2" 2>&1 || fail "ab close"
ab -q -k -n 300 -c 4 "http://127.0.0.1:$port/large.bin" >"$scratch/ab3" 2>&1 || fail "ab large"
for i in $(seq 100 160); do curl -s "http://127.0.0.1:$port/users/$i" >/dev/null; done
for i in 1 2 3; do curl -s -o /dev/null "http://127.0.0.1:$port/fail"; curl -sI -o /dev/null "http://127.0.0.1:$port/large.bin"; done
curl -s -o /dev/null "http://127.0.0.1:$port/nothing/here"
wrk -t 2 -c 32 -d 3 "http://127.0.0.1:$port/small.html" >"$scratch/wrk" || fail wrk
wait_idle "$port"
kill -QUIT "$(cat "$scratch/nginx.pid")"
wait "$sonde"; is "exit code" $? 0
cat "$scratch/err"
report
read -r lines in out <<<"$(awk '{n++; i += $2; o += $3} END {printf "%d %d %d", n, i, o}' "$scratch/logs/access.log")"
is "requests" "$(q '[.endpoints[] | select(.side == "server") | .count] | add')" "$lines"
is "bytes in" "$(q '[.endpoints[] | select(.side == "server") | .bytes_in] | add')" "$in"
is "bytes out" "$(q '[.endpoints[] | select(.side == "server") | .bytes_out] | add')" "$out"
is "status 503" "$(q '[.endpoints[].status["503"] // 0] | add')" 3
is "errors" "$(q '[.endpoints[].errors] | add')" 3
is "GET /users/{id}" "$(q '.endpoints[] | select(.endpoint == "GET /users/{id}") | .count')" 61
is "HEAD /large.bin" "$(q '.endpoints[] | select(.endpoint == "HEAD /large.bin") | .count')" 3
is "body bytes of GET /large.bin" "$(q '.endpoints[] | select(.endpoint == "GET /large.bin") | .body_out')" $((300 * 300000))
is "lost" "$(q '[.events.lost[]] | add // 0')" 0
check_sums complete
finish
