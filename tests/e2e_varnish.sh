#!/usr/bin/env bash
# varnish in front of nginx: a manager that forks a child, closes what it does not know, drops root, brings its own jemalloc.
. "$(dirname "$0")/lib.sh"
need varnishd nginx ab jq curl
front=$(free_port); back=$(free_port)
mkdir -p "$scratch/www" "$scratch/work"
echo "hello, world" >"$scratch/www/hello.txt"
head -c 200000 /dev/urandom >"$scratch/www/large.bin"
chmod -R a+rX "$scratch/www"
cat >"$scratch/nginx.conf" <<C
worker_processes 1;
daemon off;
pid $scratch/nginx.pid;
error_log $scratch/nginx.err;
events { }
http {
    log_format sizes '\$request_length \$bytes_sent';
    access_log $scratch/nginx.log sizes;
    $nginx_paths
    server { listen 127.0.0.1:$back; root $scratch/www; }
}
C
cat >"$scratch/default.vcl" <<C
vcl 4.1;
backend default { .host = "127.0.0.1"; .port = "$back"; }
sub vcl_recv { if (req.url ~ "^/pass") { set req.url = "/hello.txt"; return (pass); } }
C
cat >"$scratch/both.sh" <<C
nginx -c $scratch/nginx.conf &
exec varnishd -F -n $scratch/work -a 127.0.0.1:$front -f $scratch/default.vcl -s malloc,64m -T none
C
watch bash "$scratch/both.sh"
wait_listening "$back" && wait_listening "$front" || exit 1
before=0
first() { before=$((before + 1)); curl -so /dev/null "http://127.0.0.1:$front/first"; }
wait_for 20 first
ab -q -k -n 3000 -c 16 "http://127.0.0.1:$front/hello.txt" >"$scratch/ab1" 2>&1 || fail "ab: cached"
ab -q -n 500 -c 8 "http://127.0.0.1:$front/pass" >"$scratch/ab2" 2>&1 || fail "ab: passed on"
ab -q -k -n 200 -c 4 "http://127.0.0.1:$front/large.bin" >"$scratch/ab3" 2>&1 || fail "ab: large"
for n in 1 2 3; do is "ab$n: failures" "$(awk '/^Failed requests|^Non-2xx/{n += $NF} END {print n + 0}' "$scratch/ab$n")" 0; done
wait_idle "$front"
kill -QUIT "$(cat "$scratch/nginx.pid")" # sonde waits for the last of them
kill -TERM "$sonde"
wait_gone "$sonde" 30 || { fail "sonde does not end"; exit 1; }
wait "$sonde"; is "exit code" $? 0
cat "$scratch/err"
report
server() { q "[.endpoints[] | select(.side == \"server\" and .service == \"$1\") | .$2] | add"; }
service=$(q '[.endpoints[] | select(.side == "server" and .service != "nginx") | .service] | unique | join(",")')
is "who serves" "$service" varnishd
is "requests" "$(server varnishd count)" $((before + 3700))
is "cached ones" "$(q '.endpoints[] | select(.side == "server" and .service == "varnishd" and .endpoint == "GET /hello.txt") | .count')" 3000
is "those that varnish rewrites, as the client asked" "$(q '.endpoints[] | select(.side == "server" and .service == "varnishd" and .endpoint == "GET /pass") | .count')" 500
lines=$(wc -l <"$scratch/nginx.log")
is "varnish's calls to nginx" "$(q '[.endpoints[] | select(.side == "client" and .service == "varnishd") | .count] | add')" "$lines"
is "nginx: requests" "$(server nginx count)" "$lines"
is "nginx: bytes in" "$(server nginx bytes_in)" "$(awk '{s += $1} END {print s}' "$scratch/nginx.log")"
is "nginx: bytes out" "$(server nginx bytes_out)" "$(awk '{s += $2} END {print s}' "$scratch/nginx.log")"
is "lost" "$(q '[.events.lost[]] | add // 0')" 0
check_sums
finish
