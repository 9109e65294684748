#!/usr/bin/env bash
# demo.sh - a real nginx under load, watched; then what its requests cost.
set -u
cd "$(dirname "$0")/.." || exit 1
BUILD=$(cd "${BUILD:-build}" && pwd)
dir=$(mktemp -d "${TMPDIR:-/tmp}/sonde-demo.XXXXXX")
chmod 755 "$dir"
trap 'rm -rf "$dir"' EXIT
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
mkdir -p "$dir/www/static"
head -c 4000 /dev/zero | tr '\0' x >"$dir/www/index.html"
head -c 60000 /dev/zero | tr '\0' y >"$dir/www/static/app.js"
chmod -R a+rX "$dir"
cat >"$dir/nginx.conf" <<C
worker_processes 2;
pid $dir/pid;
error_log $dir/error.log;
events { worker_connections 512; }
http {
    log_format sizes '\$request_length \$bytes_sent';
    access_log $dir/access.log sizes;
    client_body_temp_path $dir/b; proxy_temp_path $dir/p; fastcgi_temp_path $dir/f; uwsgi_temp_path $dir/u; scgi_temp_path $dir/c;
    keepalive_requests 100000;
    server {
        listen 127.0.0.1:$port;
        root $dir/www;
        location /users/ { default_type application/json; return 200 '{"name": "somebody"}'; }
        location /orders { return 502; }
    }
}
C
cat >"$dir/mix.lua" <<'C'
local n = 0
request = function()
    n = n + 1
    if n % 200 == 0 then return wrk.format("POST", "/orders", nil, "item=1") end
    if n % 5 == 0 then return wrk.format("GET", "/static/app.js") end
    if n % 2 == 0 then return wrk.format("GET", "/") end
    return wrk.format("GET", "/users/" .. n)
end
C
store=$PWD/sonde-demo.db
echo "\$ sonde run -o sonde-demo.db nginx -c nginx.conf -g 'daemon off;'     (wrk loads it for 5 seconds)"
"$BUILD/sonde" run -o "$store" nginx -c "$dir/nginx.conf" -g 'daemon off;' 2>"$dir/summary" &
sonde=$!
for _ in $(seq 200); do [ -s "$dir/pid" ] && break; sleep 0.05; done
sleep 0.2
wrk -t 1 -c 32 -d 5 -s "$dir/mix.lua" "http://127.0.0.1:$port/" >"$dir/wrk"
sleep 0.2
kill -QUIT "$(cat "$dir/pid")"
wait "$sonde"
code=$?
echo
cat "$dir/summary"
echo
awk '{n++; i += $1; o += $2} END {printf "nginx'"'"'s own access log: %d requests, in %.1f MB, out %.1f GB\n", n, i / 1e6, o / 1e9}' "$dir/access.log"
cat <<C

Try next:
  $BUILD/sonde report $store --slowest 5
  $BUILD/sonde report $store --memory --cpu --waits
  $BUILD/sonde flame $store -o flame.html
  $BUILD/sonde report $store --json | jq .endpoints[0]
  $BUILD/sonde run -- your-server its-arguments
C
exit $code
