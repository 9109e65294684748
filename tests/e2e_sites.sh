#!/usr/bin/env bash
# Sites of sampled stacks: a replay gives the same ones as the live run; after kill -9 of the collector its successor names
# the same functions, though it never heard of the files; two processes with one file have one site.
. "$(dirname "$0")/lib.sh"
need jq python3 sqlite3
# blocks of 100 kB are all sampled: one in e^24 is not
options="--set memory.sample_bytes=4096 --set memory.retained_s=1 --quiet"
rows="SELECT * FROM site ORDER BY endpoint, stack, kind; SELECT * FROM stack ORDER BY stack; SELECT * FROM site_live
 ORDER BY interval, endpoint, stack; SELECT endpoint, sum(retained), sum(retained_samples) FROM total GROUP BY endpoint;
 SELECT id, retained FROM span ORDER BY id"
ask() { # PORT PATHS... by one connection
    python3 - "$@" <<'P'
import http.client, sys
c = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]))
for path in sys.argv[2:]:
    c.request("GET", path)
    c.getresponse().read()
P
}
retained='(.endpoints[] | select(.endpoint == "GET /leak") | .heap.retained_samples)'
leaks() { for _ in $(seq "$1"); do echo /leak /small; done; }

echo "--- replayed"
port=$(free_port)
# shellcheck disable=SC2086
"$SONDE" record -o "$scratch/s.db" $options "$scratch/run.rec" "$BUILD/tests/live_known_cost" loop "$port" >"$scratch/out" 2>"$scratch/err" &
sonde=$!
pids+=("$sonde")
wait_listening "$port" || exit 1
# shellcheck disable=SC2046
ask "$port" $(leaks 60)
until_report 20 "$retained == 15"
ask "$port" /small
kill -TERM "$sonde"
wait "$sonde"
# shellcheck disable=SC2086
"$SONDE" replay -o "$scratch/r.db" $options "$scratch/run.rec" || fail "replay"
for f in s r; do sqlite3 "$scratch/$f.db" "$rows" >"$scratch/$f.rows"; done
[ -s "$scratch/s.rows" ] || fail "no rows"
cmp "$scratch/s.rows" "$scratch/r.rows" && echo "ok: $(wc -l <"$scratch/s.rows") rows are the same" || fail "the replay differs"
report
is "retained samples of /leak" "$(q '.endpoints[] | select(.endpoint == "GET /leak") | .heap.retained_samples')" 15
is "retained of /small" "$(q '.endpoints[] | select(.endpoint == "GET /small") | .heap.retained_bytes')" 0
is "requests that say so" "$(sqlite3 "$scratch/s.db" "SELECT count(*) FROM span WHERE retained > 0")" 15
"$SONDE" dump "$scratch/run.rec" | grep -q ' allocated .* amount=[0-9]* end=whole stack=[0-9a-f,]*$' || fail "dump shows no stack"

echo "--- taken over"
rm -f "$scratch"/s.db*
port=$(free_port)
# shellcheck disable=SC2086
SONDE_OPTIONS=$options watch "$BUILD/tests/live_known_cost" threads "$port"
wait_listening "$port" || exit 1
# shellcheck disable=SC2046
ask "$port" $(leaks 40)
until_report 20 "$retained == 10"
replace_collector
# shellcheck disable=SC2046
ask "$port" $(leaks 40)
until_report 20 "$retained == 20"
kill -TERM "$sonde"
wait "$sonde"
report
is "retained samples of /leak over both" "$(q '.endpoints[] | select(.endpoint == "GET /leak") | .heap.retained_samples')" 20
is "functions that leaked" "$(sqlite3 "$scratch/s.db" "SELECT count(*), count(DISTINCT frames) FROM site JOIN stack USING(stack)
 JOIN endpoint USING(endpoint) WHERE name = 'GET /leak' AND frames LIKE '%leak%'")" "2|1"

echo "--- two processes, one file"
rm -f "$scratch"/s.db*
port=$(free_port) other=$(free_port)
# shellcheck disable=SC2016,SC2086
SONDE_OPTIONS=$options watch sh -c '"$0" loop "$1" & "$0" loop "$2" & wait' "$BUILD/tests/live_known_cost" "$port" "$other"
wait_listening "$port" && wait_listening "$other" || exit 1
# shellcheck disable=SC2046
ask "$port" $(leaks 20)
# shellcheck disable=SC2046
ask "$other" $(leaks 20)
sleep 2
pkill -TERM -f "live_known_cost loop ($port|$other)"
wait "$sonde"
is "samples at the one site of /leak" "$(sqlite3 "$scratch/s.db" "SELECT samples FROM site JOIN endpoint USING(endpoint)
 WHERE name = 'GET /leak' AND kind = 'allocated' AND retained_samples > 0")" 40
finish
