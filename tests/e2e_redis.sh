#!/usr/bin/env bash
# redis-server (which brings its own jemalloc) under redis-benchmark: commands counted equal redis's own statistics.
. "$(dirname "$0")/lib.sh"
need redis-server redis-benchmark redis-cli jq
port=$(free_port)
watch redis-server --port "$port" --bind 127.0.0.1 --save '' --appendonly no --dir "$scratch" --protected-mode no
wait_listening "$port" || exit 1
redis-benchmark -p "$port" -q -t get,set,incr,lpush,lpop -n 20000 -c 20 >"$scratch/b1" 2>&1 || fail benchmark
redis-benchmark -p "$port" -q -t get,set -n 100000 -c 20 -P 16 >"$scratch/b2" 2>&1 || fail "benchmark -P 16"
redis-cli -p "$port" lpush alist x >/dev/null
redis-cli -p "$port" incr alist >/dev/null # WRONGTYPE
redis-cli -p "$port" nonsense >/dev/null
redis-cli -p "$port" set big "$(head -c 100000 /dev/zero | tr '\0' y)" >/dev/null
redis-cli -p "$port" get big >/dev/null
redis-cli -p "$port" info commandstats >"$scratch/stats"
redis-cli -p "$port" info stats | tr -d '\r' >"$scratch/totals"
redis-cli -p "$port" shutdown nosave >/dev/null 2>&1
wait "$sonde"; is "exit code" $? 0
cat "$scratch/err"
report
calls() { sed -n "s/^cmdstat_$1:calls=\([0-9]*\).*/\1/p" "$scratch/stats"; }
for c in get set incr lpush lpop; do
    is "$c" "$(q ".endpoints[] | select(.endpoint == \"${c^^}\") | .count")" "$(calls "$c")"
done
is "service, though the file is another" "$(q '[.endpoints[].service] | unique | join(" ")')" redis-server
is "errors of INCR" "$(q '.endpoints[] | select(.endpoint == "INCR") | .errors')" 1
total=$(sed -n 's/^total_commands_processed://p' "$scratch/totals")
# INFO sees itself started, not the SHUTDOWN that follows it; the unknown command is counted by us alone
is "all commands" "$(q '[.endpoints[].count] | add')" $((total + 3))
is "lost" "$(q '[.events.lost[]] | add // 0')" 0
check_sums
finish
