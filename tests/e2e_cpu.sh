#!/usr/bin/env bash
# CPU of real servers: what their events show of it against what /proc knows, within 2 %; and how much of it requests have.
. "$(dirname "$0")/lib.sh"
need nginx ab redis-server redis-benchmark redis-cli jq python3

# By /proc: ns that the threads of these processes ran, before they end.
ran() {
    local pid ns sum=0
    for pid in "$@"; do
        for ns in $(awk '{print $1}' "/proc/$pid/task/"*/schedstat 2>/dev/null); do sum=$((sum + ns)); done
    done
    echo "$sum"
}
percent() { awk -v a="$1" -v b="$2" 'BEGIN {printf "%.2f", b ? 100 * a / b : 0}'; }
within() { awk -v p="$2" -v most="$3" 'BEGIN {exit !(p <= most)}' && echo "ok: $1: $2 %" || fail "$1: $2 %, should be $3 at most"; }

# NAME NS-BY-PROC
compare() {
    report
    [ "$(q .outside.cpu_ns)" != null ] || skip "CPU is not measured on this machine"
    local all unseen outside
    all=$(q '[.processes[].cpu_ns // 0] | add')
    unseen=$(q .outside.cpu_unseen_ns)
    outside=$(q .outside.cpu_ns)
    within "$1: CPU that no event showed" "$(percent "$unseen" "$all")" 2
    within "$1: processes against /proc" "$(percent $((all > $2 ? all - $2 : $2 - all)) "$2")" 2
    echo "$1: $((all / 1000000)) ms of CPU, outside requests $(percent "$outside" "$all") %"
    check_sums complete
}

echo "--- nginx"
port=$(free_port)
mkdir -p "$scratch/www" "$scratch/logs"
head -c 1500 /dev/zero | tr '\0' x >"$scratch/www/small.html"
chmod -R a+rX "$scratch"
cat >"$scratch/nginx.conf" <<C
worker_processes 2;
pid $scratch/nginx.pid;
error_log $scratch/logs/error.log;
events { worker_connections 1024; }
http {
    access_log $scratch/logs/access.log;
    $nginx_paths
    keepalive_requests 100000; lingering_close off;
    server { listen 127.0.0.1:$port; root $scratch/www; }
}
C
watch nginx -c "$scratch/nginx.conf" -g 'daemon off;'
wait_listening "$port" || exit 1
ab -q -k -n 60000 -c 16 "http://127.0.0.1:$port/small.html" >"$scratch/ab1" 2>&1 || fail "ab keep-alive"
ab -q -n 4000 -c 8 "http://127.0.0.1:$port/small.html" >"$scratch/ab2" 2>&1 || fail "ab close"
wait_idle "$port"
master=$(cat "$scratch/nginx.pid")
told=$(ran "$master" $(pgrep -P "$master"))
kill -QUIT "$master"
wait "$sonde"; is "nginx: exit code" $? 0
compare nginx "$told"

echo "--- redis"
rm -f "$scratch"/s.db*
port=$(free_port)
watch redis-server --port "$port" --bind 127.0.0.1 --save '' --appendonly no --dir "$scratch" --protected-mode no
wait_listening "$port" || exit 1
redis-benchmark -p "$port" -q -t get,set -n 60000 -c 20 >"$scratch/b1" 2>&1 || fail benchmark
redis-benchmark -p "$port" -q -t get,set -n 300000 -c 20 -P 16 >"$scratch/b2" 2>&1 || fail "benchmark -P 16"
told=$(ran "$(redis-cli -p "$port" info server | tr -d '\r' | sed -n 's/^process_id://p')")
redis-cli -p "$port" shutdown nosave >/dev/null 2>&1
wait "$sonde"; is "redis: exit code" $? 0
compare redis "$told"

echo "--- a server that computes"
rm -f "$scratch"/s.db*
port=$(free_port)
watch redis-server --port "$port" --bind 127.0.0.1 --save '' --appendonly no --dir "$scratch" --protected-mode no
wait_listening "$port" || exit 1
redis-benchmark -p "$port" -q -n 300 -c 4 eval 'local x = 0 for i = 1, 200000 do x = x + i end return x' 0 \
    >"$scratch/b3" 2>&1 || fail "benchmark eval"
told=$(ran "$(redis-cli -p "$port" info server | tr -d '\r' | sed -n 's/^process_id://p')")
redis-cli -p "$port" shutdown nosave >/dev/null 2>&1
wait "$sonde"; is "computing: exit code" $? 0
compare computing "$told"
echo "computing: EVAL used $(percent "$(q '.endpoints[] | select(.endpoint == "EVAL") | .cpu_ns')" "$(q '[.processes[].cpu_ns // 0] | add')") %"
finish
