#!/usr/bin/env bash
# A replay of a recording is the live run again: the same report over the same events, of a real nginx and a real Redis.
. "$(dirname "$0")/lib.sh"
need nginx ab redis-server redis-benchmark jq sqlite3

port=$(free_port) redis=$(free_port)
mkdir -p "$scratch/www"
echo "hello, world" >"$scratch/www/hello.txt"
chmod -R a+rX "$scratch"
cat >"$scratch/nginx.conf" <<C
worker_processes 2;
pid $scratch/nginx.pid;
error_log $scratch/error.log;
events { }
http { access_log off; $nginx_paths server { listen 127.0.0.1:$port; root $scratch/www; } }
C
cat >"$scratch/both.sh" <<C
nginx -c $scratch/nginx.conf -g 'daemon off;' &
redis-server --port $redis --bind 127.0.0.1 --save '' --logfile /dev/null --dir $scratch &
wait
C
(cd "$scratch" && exec "$SONDE" record -o "$scratch/s.db" --set memory.sample_bytes=16384 "$scratch/run.sonde" bash "$scratch/both.sh" >"$scratch/out" 2>"$scratch/err") &
sonde=$!
pids+=("$sonde")
wait_listening "$port" && wait_listening "$redis" || exit 1
ab -q -n 4000 -c 8 -k "http://127.0.0.1:$port/hello.txt" >"$scratch/ab" 2>&1 || fail ab
ab -q -n 500 -c 4 "http://127.0.0.1:$port/missing" >"$scratch/ab" 2>&1 || fail ab
redis-benchmark -p "$redis" -q -n 2000 -c 8 -t get,set >"$scratch/rb" 2>&1 || fail redis-benchmark
redis-benchmark -p "$redis" -q -n 2000 -c 8 -P 16 -t incr >"$scratch/rb" 2>&1 || fail redis-benchmark
wait_idle "$port" && wait_idle "$redis"
redis-cli -p "$redis" shutdown nosave 2>/dev/null
kill -QUIT "$(cat "$scratch/nginx.pid")"
wait "$sonde"
report
cp "$scratch/report.json" "$scratch/live.json"
is "events lost" "$(q '[.events.lost[]] | add // 0')" 0
is "requests of nginx" "$(q '[.endpoints[] | select(.service == "nginx") | .count] | add')" 4500
"$SONDE" replay "$scratch/run.sonde" -o "$scratch/replayed.db" >"$scratch/out2" 2>"$scratch/err2" || fail "replay: exit $? $(cat "$scratch/err2")"
"$SONDE" report "$scratch/replayed.db" --json >"$scratch/replayed.json" || fail "report of the replay"

# What may differ: when the run began (the collector's clock before the first event) and what follows from that.
# shellcheck disable=SC2016
same='del(.as_of, .from, .to, .run.start, .run.duration_ns)'
jq -S "$same" "$scratch/live.json" >"$scratch/live.same"
jq -S "$same" "$scratch/replayed.json" >"$scratch/replayed.same"
if diff -u "$scratch/live.same" "$scratch/replayed.same" >"$scratch/diff"; then
    echo "ok: the reports are the same, $(wc -l <"$scratch/live.same") lines"
else
    fail "the reports differ:"
    head -60 "$scratch/diff"
fi
names="SELECT stack, frames FROM stack ORDER BY stack"
sqlite3 "$scratch/s.db" "$names" >"$scratch/live.names"
sqlite3 "$scratch/replayed.db" "$names" >"$scratch/replayed.names"
[ "$(wc -l <"$scratch/live.names")" -gt 50 ] || fail "stacks: $(wc -l <"$scratch/live.names")"
if diff "$scratch/live.names" "$scratch/replayed.names" >"$scratch/diff"; then
    echo "ok: the names of $(wc -l <"$scratch/live.names") stacks are the same"
else
    fail "names differ:"
    head -20 "$scratch/diff"
fi
# of nothing here is the code made at run time: files told by parents reach children that were forked later
is "stacks with code of no file" "$(grep -c '\[jit\]' "$scratch/live.names")" 0
cp "$scratch/replayed.json" "$scratch/report.json"
check_sums
finish
