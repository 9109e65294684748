#!/usr/bin/env bash
# Servers that replace their own processes under load: nginx reloads, Apache's graceful restart, haproxy's re-exec with its
# listening sockets passed on. No request fails, every request is counted, old and new processes are seen.
. "$(dirname "$0")/lib.sh"
need nginx haproxy apache2 ab jq curl python3
mkdir -p "$scratch/www" "$scratch/logs"
echo "hello, world" >"$scratch/www/hello.txt"
chmod -R a+rX "$scratch"
cat >"$scratch/load.py" <<'C'
"""A new connection for each request, without a pause, until the file exists; prints how many were answered with 200."""
import os, socket, sys
port, stop, n = int(sys.argv[1]), sys.argv[2], 0
while not os.path.exists(stop):
    s = socket.create_connection(("127.0.0.1", port))
    s.sendall(b"GET /hello.txt HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    got = b""
    while (more := s.recv(4096)): got += more
    if not got.startswith(b"HTTP/1.1 200"): sys.exit(f"after {n}: {got[:80]}")
    n += 1
print(n)
C
nginx_conf() { # port
    cat >"$scratch/nginx.conf" <<C
worker_processes 2;
daemon off;
pid $scratch/nginx.pid;
error_log $scratch/logs/error.log;
events { }
http { access_log off; $nginx_paths server { listen 127.0.0.1:$1; root $scratch/www; } }
C
}
try() { # name service reload-command stop-command
    local name=$1 service=$2
    wait_listening "$port" || return
    rm -f "$scratch/stop"
    python3 "$scratch/load.py" "$port" "$scratch/stop" >"$scratch/n1" 2>"$scratch/e1" & local one=$!
    python3 "$scratch/load.py" "$port" "$scratch/stop" >"$scratch/n2" 2>"$scratch/e2" & local two=$!
    for _ in 1 2 3 4; do sleep 0.7; eval "$3"; done
    sleep 0.7
    touch "$scratch/stop"
    wait "$one" || fail "$name: a request failed: $(tail -1 "$scratch/e1")"
    wait "$two" || fail "$name: a request failed: $(tail -1 "$scratch/e2")"
    wait_idle "$port"
    eval "$4"
    wait_gone "$sonde" 30 || { fail "$name: does not end"; kill -KILL "$sonde"; }
    wait "$sonde"; echo "$name: exit code $?"
    report
    is "$name: requests" "$(q "[.endpoints[] | select(.side == \"server\" and .service == \"$service\") | .count] | add")" $(($(cat "$scratch/n1") + $(cat "$scratch/n2")))
    is "$name: generations of processes seen" "$(q "([.processes[] | select(.executable | endswith(\"/$service\")) | .merged] | add) >= $5")" true
    is "$name: lost" "$(q '[.events.lost[]] | add // 0')" 0
    check_sums
}
nginx_() {
    port=$(free_port); nginx_conf "$port"; rm -f "$scratch"/s.db*
    watch nginx -c "$scratch/nginx.conf"
    try nginx nginx "kill -HUP \$(cat $scratch/nginx.pid)" "kill -QUIT \$(cat $scratch/nginx.pid)" 11
}
apache_() {
    port=$(free_port); rm -f "$scratch"/s.db*
    apache_conf "$port" >"$scratch/apache.conf"
    watch apache2 -f "$scratch/apache.conf" -DFOREGROUND
    try apache apache2 "kill -USR1 \$(cat $scratch/apache.pid)" "kill -TERM \$(cat $scratch/apache.pid)" 5
}
haproxy_() {
    port=$(free_port); back=$(free_port); rm -f "$scratch"/s.db*
    nginx_conf "$back"
    nginx -c "$scratch/nginx.conf" & pids+=($!) # not watched
    wait_listening "$back" || return
    cat >"$scratch/haproxy.cfg" <<C
global
    nbthread 2
    stats socket $scratch/haproxy.sock mode 600 level admin expose-fd listeners
defaults
    mode http
    timeout connect 5s
    timeout client 10s
    timeout server 10s
frontend f
    bind 127.0.0.1:$port
    default_backend b
backend b
    server s 127.0.0.1:$back
C
    watch haproxy -W -f "$scratch/haproxy.cfg" -x "$scratch/haproxy.sock" -p "$scratch/haproxy.pid"
    try haproxy haproxy "kill -USR2 \$(head -n 1 $scratch/haproxy.pid)" "kill -TERM \$(head -n 1 $scratch/haproxy.pid)" 6
    is "haproxy's calls" "$(q '[.endpoints[] | select(.side == "client" and .service == "haproxy") | .count] | add')" $(($(cat "$scratch/n1") + $(cat "$scratch/n2")))
    kill -QUIT "$(cat "$scratch/nginx.pid")"
}
for one in ${ONLY:-nginx_ apache_ haproxy_}; do echo "--- $one"; $one; done
finish
