#!/usr/bin/env bash
# Real servers with a stack sampled every 1024 bytes: they answer as ever, every count holds.
. "$(dirname "$0")/lib.sh"
again() { # test [which of its servers]
    SONDE_OPTIONS="--set memory.sample_bytes=1024" ONLY=${2:-} timeout -k 10 280 bash "tests/$1.sh" >"$scratch/$1.log" 2>&1
    local rc=$?
    case $rc in
    0) echo "ok: $1" ;;
    77) echo "skipped: $1: $(tail -n 1 "$scratch/$1.log")" ;;
    *) fail "$1: exit $rc"; tail -n 40 "$scratch/$1.log" ;;
    esac
}
again e2e_nginx
again e2e_redis
again e2e_servers "haproxy_nginx lighttpd_ python_ node_ java_"
again e2e_unparsed # PostgreSQL, memcached

# Apache's threads, with every request's pools on malloc; it signals its whole process group when it stops: arena_run's
if command -v apache2 >/dev/null && command -v ab >/dev/null; then
    port=$(free_port); dir=$scratch/apache; mkdir -p "$dir/www"; echo hello >"$dir/www/hello.txt"; chmod -R a+rX "$scratch"
    cat >"$dir/conf" <<C
ServerRoot "$dir"
ServerName localhost
PidFile $dir/pid
Listen 127.0.0.1:$port
LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
ErrorLog $dir/error
DocumentRoot $dir/www
MaxConnectionsPerChild 500
User www-data
Group www-data
C
    "$BUILD/tests/arena_run" -r 1024 -q -s apache2 -f "$dir/conf" -DFOREGROUND >"$scratch/out" 2>"$scratch/sums" &
    pids+=($!)
    wait_listening "$port"
    for ((i = 0; i < 5; i++)); do
        ab -q -n 2000 -c 16 "http://127.0.0.1:$port/hello.txt" >"$scratch/ab" 2>&1 || { fail "apache: ab"; cat "$scratch/ab"; }
    done
    kill -TERM "$(cat "$dir/pid")"
    wait "${pids[-1]}"; is "apache: exit code" $? 0
    is "apache: crashes" "$(grep -cE 'exit signal|Segmentation' "$dir/error")" 0
    samples=$(awk '/^type ALLOCATED/ {print $3}' "$scratch/sums")
    [ "${samples:-0}" -gt 200 ] || { fail "apache: ${samples:-0} samples"; cat "$scratch/sums"; }
fi
finish
