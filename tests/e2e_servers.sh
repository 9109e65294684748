#!/usr/bin/env bash
# The main job on the other servers that people run: every request of ab is counted, the sums hold.
. "$(dirname "$0")/lib.sh"
need ab jq curl
N=${N:-2000}
mkdir -p "$scratch/www"
echo "hello, world" >"$scratch/www/hello.txt"
chmod -R a+rX "$scratch"

# load NAME PORT [ab options]: N requests, then compare after the server ended: row NAME
load() {
    local name=$1 port=$2
    shift 2
    ab -q -n "$N" -c 8 "$@" "http://127.0.0.1:$port/hello.txt" >"$scratch/$name.ab" 2>&1 || { fail "$name: ab"; tail -5 "$scratch/$name.ab"; }
    grep -E '^Non-2xx' "$scratch/$name.ab" && fail "$name: answers that are not 2xx"
}
row() { # name, requests wanted, [service]
    local name=$1 want=$2 service=${3:-}
    report
    is "$name: requests" "$(q "[.endpoints[] | select(.side == \"server\" and (\"$service\" == \"\" or .service == \"$service\")) | .count] | add")" "$want"
    is "$name: GET /hello.txt answered 200" "$(q "[.endpoints[] | select(.side == \"server\" and .endpoint == \"GET /hello.txt\" and (\"$service\" == \"\" or .service == \"$service\")) | .status[\"200\"]] | add")" "$want"
    is "$name: lost" "$(q '[.events.lost[]] | add // 0')" 0
    check_sums
}
begin() { rm -f "$scratch"/s.db*; }

apache() { # mpm
    local mpm=$1 port dir
    port=$(free_port); dir=$scratch/apache-$mpm; mkdir -p "$dir/logs"; begin
    cat >"$dir/conf" <<C
ServerRoot "$dir"
ServerName localhost
PidFile $dir/pid
Listen 127.0.0.1:$port
LoadModule mpm_${mpm}_module /usr/lib/apache2/modules/mod_mpm_${mpm}.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
ErrorLog $dir/logs/error
LogFormat "%s %O" sizes
CustomLog $dir/logs/access sizes
DocumentRoot $scratch/www
KeepAliveTimeout 2
MaxKeepAliveRequests 0
User www-data
Group www-data
C
    sed -i '/^LogFormat/i LoadModule logio_module /usr/lib/apache2/modules/mod_logio.so' "$dir/conf"
    watch apache2 -f "$dir/conf" -DFOREGROUND
    wait_listening "$port" || return
    load "apache-$mpm" "$port" -k
    load "apache-$mpm" "$port"
    wait_idle "$port"
    kill -TERM "$(cat "$dir/pid")" # signals its whole process group
    wait "$sonde"; is "apache-$mpm: exit code" $? 0
    row "apache-$mpm" $((2 * N))
    is "apache-$mpm: bytes out" "$(q '[.endpoints[].bytes_out] | add')" "$(awk '{s += $2} END {print s}' "$dir/logs/access")"
}

haproxy_nginx() {
    local front back
    front=$(free_port); back=$(free_port); begin
    cat >"$scratch/back.conf" <<C
worker_processes 1;
pid $scratch/back.pid;
error_log $scratch/back.err;
events { }
http { access_log off; $nginx_paths
keepalive_requests 1000000; server { listen 127.0.0.1:$back; root $scratch/www; } }
C
    cat >"$scratch/haproxy.cfg" <<C
global
    nbthread 2
defaults
    mode http
    timeout connect 5s
    timeout client 10s
    timeout server 10s
frontend f
    bind 127.0.0.1:$front
    default_backend b
backend b
    http-reuse always
    server s 127.0.0.1:$back
C
    cat >"$scratch/both.sh" <<C
nginx -c $scratch/back.conf -g 'daemon off;' &
exec haproxy -db -f $scratch/haproxy.cfg
C
    watch bash "$scratch/both.sh"
    wait_listening "$front" && wait_listening "$back" || return
    load haproxy "$front" -k
    kill -QUIT "$(cat "$scratch/back.pid")"
    pkill -USR1 -P "$(pgrep -P "$sonde" -x haproxy | head -n 1)" 2>/dev/null
    kill -USR1 "$(pgrep -P "$sonde" -x haproxy)" 2>/dev/null
    wait "$sonde"
    row haproxy "$N" haproxy
    is "nginx behind haproxy: requests" "$(q '[.endpoints[] | select(.side == "server" and .service == "nginx") | .count] | add')" "$N"
    is "haproxy's calls to nginx" "$(q '[.endpoints[] | select(.side == "client" and .service == "haproxy") | .count] | add')" "$N"
}

lighttpd_() {
    local port; port=$(free_port); begin
    printf 'server.document-root = "%s"\nserver.port = %d\nserver.bind = "127.0.0.1"\nserver.max-keep-alive-requests = 100000\n' \
        "$scratch/www" "$port" >"$scratch/lighttpd.conf"
    watch lighttpd -D -f "$scratch/lighttpd.conf"
    wait_listening "$port" || return
    load lighttpd "$port" -k
    kill -INT "$sonde" 2>/dev/null # passed on: graceful stop
    wait "$sonde"
    row lighttpd "$N"
}

python_() {
    local port; port=$(free_port); begin
    watch /usr/bin/python3 -m http.server "$port" --bind 127.0.0.1 --directory "$scratch/www"
    wait_listening "$port" || return
    load python "$port"
    kill -TERM "$sonde"
    wait "$sonde"
    row python "$N"
}

node_() {
    local port; port=$(free_port); begin
    cat >"$scratch/server.js" <<'C'
const http = require('http');
const server = http.createServer((q, a) => { a.setHeader('Content-Type', 'text/plain'); a.end('hello, world\n'); });
server.listen(+process.argv[2], '127.0.0.1');
process.on('SIGTERM', () => { server.close(() => process.exit(0)); server.closeAllConnections && server.closeAllConnections(); });
C
    watch node "$scratch/server.js" "$port"
    wait_listening "$port" || return
    load node "$port" -k
    kill -TERM "$sonde"
    wait "$sonde"; is "node: exit code" $? 0
    row node "$N"
}

java_() {
    local port; port=$(free_port); begin
    cat >"$scratch/Hello.java" <<'C'
import com.sun.net.httpserver.HttpServer;
import java.net.InetSocketAddress;
public class Hello { public static void main(String[] a) throws Exception {
    HttpServer s = HttpServer.create(new InetSocketAddress("127.0.0.1", Integer.parseInt(a[0])), 128);
    s.createContext("/", e -> { byte[] b = "hello, world\n".getBytes(); e.sendResponseHeaders(200, b.length); e.getResponseBody().write(b); e.close(); });
    s.setExecutor(java.util.concurrent.Executors.newFixedThreadPool(4)); s.start(); } }
C
    (cd "$scratch" && javac Hello.java) || { fail "javac"; return; }
    watch java -Xmx128m -cp "$scratch" Hello "$port"
    wait_listening "$port" || return
    load java "$port" -k
    kill -TERM "$sonde"
    wait "$sonde"; is "java: exit code" $? 143
    row java "$N"
}

for one in ${ONLY:-"apache prefork" "apache event" haproxy_nginx lighttpd_ python_ node_ java_}; do
    echo "--- $one"
    case $one in
    apache*) need apache2; apache "${one#apache }" ;;
    haproxy*) need haproxy nginx; haproxy_nginx ;;
    lighttpd_) need lighttpd; lighttpd_ ;;
    python_) python_ ;;
    node_) need node; node_ ;;
    java_) need java javac; java_ ;;
    esac
done
finish
