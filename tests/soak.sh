#!/usr/bin/env bash
# soak.sh [MINUTES [NAME...]] - real servers under load for a long time, everything on, workers restarted meanwhile: no crash,
# no hang, memory flat, losses counted. Default 10 minutes each; names: nginx redis postgresql apache java node cpython
# coroutines. Not part of `make test`. docs/overhead.md says what came out.
. "$(dirname "$0")/lib.sh"
minutes=${1:-10}
shift $(($# > 0))
duration=$(awk -v m="$minutes" 'BEGIN {printf "%d", m * 60}')
everything=(--set memory.sample_bytes=65536 --set waits.sample_ns=100000)
need jq ab wrk

conf_nginx() { # file port
    cat >"$1" <<C
worker_processes 2;
daemon off;
pid $scratch/nginx.pid;
error_log $scratch/error.log;
events { worker_connections 1024; }
http { access_log $scratch/access.log; $nginx_paths keepalive_requests 1000; server { listen 127.0.0.1:$2; root $scratch/www; } }
C
}

# begin_NAME sets `command`; load_NAME loads once for about 2 s and fails where an answer fails; turn_NAME (each 10 s)
begin_nginx() { conf_nginx "$scratch/nginx.conf" "$port"; command=(nginx -c "$scratch/nginx.conf"); }
load_nginx() { wrk -t 1 -c 16 -d 2 "http://127.0.0.1:$port/hello.txt" | bad_wrk; }
turn_nginx() { kill -HUP "$(cat "$scratch/nginx.pid")"; : >"$scratch/access.log"; }
end_nginx() { kill -QUIT "$(cat "$scratch/nginx.pid")"; }

begin_redis() { command=(redis-server --port "$port" --bind 127.0.0.1 --save '' --dir "$scratch"); }
load_redis() { redis-benchmark -q -p "$port" -c 16 -P 4 -n 40000 -r 1000 -t set,get,lpush,lpop,zadd >"$scratch/load" 2>&1; }
turn_redis() { redis-cli -p "$port" bgsave >/dev/null; redis-cli -p "$port" client kill type normal >/dev/null; }
end_redis() { kill -TERM "$sonde"; }

begin_postgresql() {
    local bin
    bin=$(find /usr/lib/postgresql -name initdb | sort -V | tail -n 1)
    bin=${bin%/initdb}
    [ "$(id -u)" != 0 ] || { as=(setpriv --reuid=65534 --regid=65534 --clear-groups --); chown 65534:65534 "$scratch"; chmod 777 "$scratch"; }
    "${as[@]+"${as[@]}"}" "$bin/initdb" -D "$scratch/data" -A trust -U tester --no-sync >/dev/null 2>&1
    printf "listen_addresses='127.0.0.1'\nport=%d\nunix_socket_directories=''\nfsync=off\n" "$port" >>"$scratch/data/postgresql.conf"
    command=("$bin/postgres" -D "$scratch/data")
}
load_postgresql() {
    [ -e "$scratch/made" ] || { pgbench -q -i -s 2 -h 127.0.0.1 -p "$port" -U tester postgres >/dev/null 2>&1 || return; touch "$scratch/made"; }
    pgbench -n -c 6 -j 2 -T 2 -h 127.0.0.1 -p "$port" -U tester postgres >"$scratch/load" 2>&1 &&
        pgbench -n -C -S -c 3 -t 30 -h 127.0.0.1 -p "$port" -U tester postgres >>"$scratch/load" 2>&1
}
turn_postgresql() { kill -HUP "$sonde"; }
end_postgresql() { kill -INT "$sonde"; }

begin_apache() {
    mkdir -p "$scratch/logs"
    apache_conf "$port" >"$scratch/apache.conf"
    printf '%s\n' 'StartServers 2' 'MaxConnectionsPerChild 2000' >>"$scratch/apache.conf"
    command=(apache2 -f "$scratch/apache.conf" -DFOREGROUND)
}
load_apache() { ab -q -k -n 6000 -c 16 "http://127.0.0.1:$port/hello.txt" 2>&1 | bad_ab; }
turn_apache() { kill -USR1 "$(cat "$scratch/apache.pid")"; }
end_apache() { kill -TERM "$(cat "$scratch/apache.pid")"; }

begin_java() {
    cat >"$scratch/Hello.java" <<'C'
import com.sun.net.httpserver.HttpServer;
import java.net.InetSocketAddress;
public class Hello { public static void main(String[] a) throws Exception {
    HttpServer s = HttpServer.create(new InetSocketAddress("127.0.0.1", Integer.parseInt(a[0])), 128);
    s.createContext("/", e -> { StringBuilder t = new StringBuilder(); for (int i = 0; i < 500; i++) t.append(i); byte[] b = t.toString().getBytes();
        e.sendResponseHeaders(200, b.length); e.getResponseBody().write(b); e.close(); });
    s.setExecutor(java.util.concurrent.Executors.newCachedThreadPool()); s.start(); } }
C
    (cd "$scratch" && javac Hello.java)
    command=(java -Xmx64m -Xms64m -XX:+AlwaysPreTouch -cp "$scratch" Hello "$port")
}
load_java() { wrk -t 1 -c 8 -d 2 "http://127.0.0.1:$port/hello.txt" | bad_wrk; }
end_java() { kill -TERM "$sonde"; }

begin_node() {
    cat >"$scratch/server.js" <<'C'
const http = require('http'), zlib = require('zlib');
http.createServer((q, a) => { const o = {}; for (let i = 0; i < 50; i++) o['k' + i] = [i, 'v'.repeat(i)];
    zlib.gzip(JSON.stringify(o), (e, b) => a.end(b)); }).listen(+process.argv[2], '127.0.0.1');
process.on('SIGTERM', () => process.exit(0));
C
    command=(node --max-old-space-size=64 "$scratch/server.js" "$port")
}
load_node() { wrk -t 1 -c 8 -d 2 "http://127.0.0.1:$port/hello.txt" | bad_wrk; }
end_node() { kill -TERM "$sonde"; }

begin_cpython() {
    cat >"$scratch/server.py" <<'C'
import http.server, json, subprocess, sys
class H(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    n = 0
    def do_GET(self):
        H.n += 1
        if H.n % 500 == 0: subprocess.run(["/bin/true"])
        body = json.dumps(json.loads(json.dumps({str(i): [i] * 20 for i in range(50)}))).encode()
        self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers(); self.wfile.write(body)
    def log_message(self, *a): pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), H).serve_forever()
C
    command=(/usr/bin/python3 "$scratch/server.py" "$port")
}
load_cpython() { wrk -t 1 -c 8 -d 2 "http://127.0.0.1:$port/hello.txt" | bad_wrk; }
end_cpython() { kill -TERM "$sonde"; }

begin_coroutines() { command=("$BUILD/tests/live_coroutines" "$port"); }
load_coroutines() { wrk -t 1 -c 8 -d 2 "http://127.0.0.1:$port/hello.txt" | bad_wrk; }
end_coroutines() { kill -TERM "$sonde"; }

# wrk and ab end well in spite of failed requests
bad_wrk() { tee "$scratch/load" | grep -E 'Socket errors: connect [1-9]|Non-2xx' && return 1; grep -q Requests/sec "$scratch/load"; }
bad_ab() { tee "$scratch/load" | grep -E '^Non-2xx|apr_' && return 1; grep -q '^Failed requests: *0$' "$scratch/load"; }

family() { # pid: it and all below, but the collector
    local p
    for p in $(pgrep -P "$1"); do [ "$(cat "/proc/$p/comm" 2>/dev/null)" = sonde-collector ] || { echo "$p"; family "$p"; }; done
}
# Of these pids: anonymous memory, what forked ones still share divided among them. Not "Private": a page of the arena or of
# PostgreSQL's shared buffers counts as that for as long as no other process has touched it.
anonymous_kib() {
    local p
    for p in "$@"; do cat "/proc/$p/smaps_rollup" 2>/dev/null; done | awk '/^(Pss_Anon|SwapPss):/{s += $2} END {print s + 0}'
}

soak() { # name
    local name=$1 command=() port began at=0 next=10 loads=0 bad=0 as=() pid code room=8192
    port=$(free_port)
    rm -rf "${scratch:?}"/*; mkdir -p "$scratch/www" "$scratch/bin"; echo "hello, world" >"$scratch/www/hello.txt"
    cp "$BUILD/sonde" "$BUILD/sonde-collector" "$BUILD/libsonde.so" "$scratch/bin/"
    chmod -R a+rX "$scratch"
    "begin_$name"
    "${as[@]+"${as[@]}"}" "$scratch/bin/sonde" run "${everything[@]}" -o "$scratch/s.db" "${command[@]}" >"$scratch/out" 2>"$scratch/err" &
    sonde=$!
    pids+=("$sonde")
    wait_listening "$port" || { fail "$name does not start"; return; }
    sleep 1
    began=$SECONDS
    : >"$scratch/memory"
    while ((at = SECONDS - began, at < duration)); do
        "load_$name" || { bad=$((bad + 1)); cp "$scratch/load" "$scratch/load.bad" 2>/dev/null; }
        loads=$((loads + 1))
        kill -0 "$sonde" 2>/dev/null || { fail "$name: sonde is gone"; break; }
        mapfile -t pid < <(family "$sonde")
        echo "$at $(anonymous_kib "${pid[@]}") $(anonymous_kib "$(pgrep -P "$sonde" sonde-collector | head -n 1)")" >>"$scratch/memory"
        if ((at >= next)) && declare -F "turn_$name" >/dev/null; then "turn_$name"; next=$((at + 10)); sleep 0.5; fi
    done
    sleep 1
    "end_$name"
    wait_gone "$sonde" 60 || { fail "$name: does not end"; kill -KILL "$sonde"; }
    wait "$sonde"; code=$?
    report
    local first last
    first=$(awk -v d="$duration" '$1 >= d / 6 && $1 < d / 3 {s += $2; c += $3; n++} END {if (n) printf "%d %d", s / n, c / n}' "$scratch/memory")
    last=$(awk -v d="$duration" '$1 >= d * 5 / 6 {s += $2; c += $3; n++} END {if (n) printf "%d %d", s / n, c / n}' "$scratch/memory")
    printf '%-11s loads %d (%d bad), exit %d, %s requests, events %s, lost %s, server %s -> %s KiB, collector %s -> %s KiB\n' "$name" $loads $bad $code \
        "$(q '[.endpoints[] | select(.side == "server") | .count] | add // 0')" "$(q .events.written)" "$(q '.events.lost | tostring')" \
        "${first% *}" "${last% *}" "${first#* }" "${last#* }"
    awk -v d="$duration" '{k = int($1 * 6 / d); if (k > 5) k = 5; s[k] += $2; c[k] += $3; n[k]++}
        END {printf "  sixths of the time, KiB: server"; for (k = 0; k < 6; k++) printf " %d", n[k] ? s[k] / n[k] : 0
             printf ", collector"; for (k = 0; k < 6; k++) printf " %d", n[k] ? c[k] / n[k] : 0; print ""}' "$scratch/memory"
    [ "$name" = java ] && [ $code = 143 ] && code=0
    [ "$name" = cpython ] && [ $code = 143 ] && code=0
    is "$name: exit code" $code 0
    is "$name: loads that failed" $bad 0
    grep -E 'collector was killed|collector ended|exited on signal|Segmentation|core dumped|terminated by signal' "$scratch/err" "$scratch/error.log" "$scratch/logs/error" 2>/dev/null && fail "$name: something died"
    check_sums
    [ -n "$first" ] && [ -n "$last" ] || { fail "$name: $loads loads are too few to compare memory"; return; }
    # node takes what its heap's limit allows, bare as well
    [ "$name" = node ] && room=65536
    awk -v f="${first% *}" -v l="${last% *}" -v r="$room" 'BEGIN {exit !(f && l <= f * 1.1 + r)}' || fail "$name: the server grew from ${first% *} to ${last% *} KiB"
    # its queue (4 MiB) and SQLite's cache (2 MiB) are touched bit by bit in the first minutes
    awk -v f="${first#* }" -v l="${last#* }" 'BEGIN {exit !(f && l <= f * 1.1 + 8192 && l < 65536)}' || fail "$name: the collector grew from ${first#* } to ${last#* } KiB"
}

renice 10 $$ >/dev/null 2>&1
for one in "${@:-nginx redis postgresql apache java node cpython coroutines}"; do
    for name in $one; do echo "--- $name, $minutes minutes"; soak "$name"; done
done
finish
