#!/usr/bin/env bash
# The store and its report on a real server: read while it is written, options, older stores, two runs at once, a disk that
# fills up under load, a store that is deleted under load.
. "$(dirname "$0")/lib.sh"
need nginx ab jq sqlite3 curl
rc() { "$@" >"$scratch/o" 2>"$scratch/e"; echo $?; }
db() { sqlite3 -readonly "${2:-$scratch/s.db}" "$1"; }

serve() { # port [store]: nginx under sonde; $sonde is its supervisor
    mkdir -p "$scratch/$1"
    cat >"$scratch/$1/nginx.conf" <<C
worker_processes 2;
daemon off;
pid $scratch/$1/nginx.pid;
error_log $scratch/$1/error.log;
events { }
http {
    access_log $scratch/$1/access.log;
    client_body_temp_path $scratch/$1/b; proxy_temp_path $scratch/$1/p; fastcgi_temp_path $scratch/$1/f;
    uwsgi_temp_path $scratch/$1/u; scgi_temp_path $scratch/$1/c;
    server {
        listen 127.0.0.1:$1;
        location / { return 200 "hello\n"; }
        location /bad { return 503; }
        location /users/ { return 200 "user\n"; }
    }
}
C
    # shellcheck disable=SC2086
    "$SONDE" run -o "${2:-$scratch/s.db}" ${SONDE_OPTIONS:-} nginx -c "$scratch/$1/nginx.conf" >"$scratch/out" 2>"$scratch/err" &
    sonde=$!
    pids+=("$sonde")
    wait_listening "$1" || exit 1
}
stop() { # port
    kill -QUIT "$(cat "$scratch/$1/nginx.pid")"
    wait_gone "$sonde" 30 || fail "sonde does not end"
}
load() { ab -q -n "$2" -c 8 "http://127.0.0.1:$1/" >/dev/null 2>&1 || fail ab; }

# 1. read while it is written
port=$(free_port)
serve "$port"
load "$port" 3000
for i in 1 2 3 4 5; do
    curl -s "http://127.0.0.1:$port/bad" >/dev/null
    curl -s "http://127.0.0.1:$port/users/$i$i$i" >/dev/null
done
until_report 20 '([.endpoints[].count] | add) == 3010'
report
is "running" "$(q .run.running)" true
is "end" "$(q .run.end)" null
is "requests by plain sqlite3" "$(db 'SELECT sum(count) FROM requests')" 3010
is "text of a run that goes on" "$("$SONDE" report "$scratch/s.db" | sed -n '1s/.*   //p')" "still running"
# somebody who forgets to end his transaction
mkfifo "$scratch/hold"
sqlite3 -readonly "$scratch/s.db" <"$scratch/hold" >/dev/null 2>&1 &
reader=$!
pids+=("$reader")
exec 5>"$scratch/hold"
echo 'BEGIN; SELECT count(*) FROM span;' >&5
load "$port" 500
until_report 20 '([.endpoints[].count] | add) == 3510'
exec 5>&-
wait "$reader"
# a second run with the same store goes elsewhere
"$SONDE" run -o "$scratch/s.db" true >"$scratch/o" 2>"$scratch/e"
grep -q 'another run' "$scratch/e" || fail "a second run on a live store says: $(cat "$scratch/e")"
is "its own store" "$(find "$scratch" -maxdepth 1 -name 'sonde-*.db' | wc -l)" 1
is "the first one goes on" "$(db 'SELECT sum(count) FROM requests')" 3510
stop "$port"
report
check_sums complete
is "requests" "$(q '[.endpoints[].count] | add')" "$(wc -l <"$scratch/$port/access.log")"
is "errors" "$(q '[.endpoints[].errors] | add')" 5
is "statuses" "$(q '.endpoints[] | select(.endpoint == "GET /bad") | .status | tostring')" '{"503":5}'
is "one file is left" "$(cd "$scratch" && echo s.db*)" s.db
is "mode" "$(stat -c %a "$scratch/s.db")" 600
is "journal" "$(db 'PRAGMA journal_mode')" delete
is "integrity" "$(db 'PRAGMA integrity_check')" ok
grep -q '^COMPLETE  3510 requests' "$scratch/err" || fail "the summary says: $(cat "$scratch/err")"
awk 'length > 80 { print "too wide: " $0; bad = 1 } END { exit bad }' "$scratch/err" || fail "summary wider than 80 columns"

# 2. what the command takes
cd "$scratch" || exit 1
is "sorted by errors" "$("$SONDE" report s.db --json --sort errors | jq -r '.endpoints[0].endpoint')" "GET /bad"
is "top 1" "$("$SONDE" report s.db --json --top 1 | jq -r '[(.endpoints | length), .endpoints_left_out] | tostring')" "[1,2]"
is "slowest" "$("$SONDE" report s.db --json --slowest 3 | jq '.slowest | length')" 3
is "slowest as text" "$("$SONDE" report s.db --slowest 3 | grep -c '^[0-9][0-9]:.*|$')" 3
is "--last 1d" "$("$SONDE" report s.db --json --last 1d | jq '[.endpoints[].count] | add')" 3510
is "--since in future" "$("$SONDE" report s.db --json --since 2099-01-01T00:00:00Z | jq '.endpoints | length')" 0
is "--strict when complete" "$(rc "$SONDE" report s.db --strict)" 0
for wrong in "--nonsense" "--last never" "--since yesterdayish" "--sort beauty" "--top 0" "--top" "--slowest x" "a b" "--last 1m --since 12:00"; do
    # shellcheck disable=SC2086
    is "report $wrong" "$(rc "$SONDE" report $wrong)" 2
    is "lines on stderr" "$(wc -l <e)" 1
done
is "to a full device" "$("$SONDE" report s.db --json >/dev/full 2>/dev/null; echo $?)" 1
head -c 12000 s.db >cut.db
is "a store cut short" "$(rc "$SONDE" report cut.db)" 1
grep -q cut.db e || fail "the damaged store is not named: $(cat e)"
is "no colour in a pipe" "$("$SONDE" report s.db | grep -c "$(printf '\033')")" 0
cp s.db other.db
sqlite3 other.db "INSERT INTO loss VALUES(1, 'recorder', 'full', 1)"
is "--strict when lossy" "$(rc "$SONDE" report other.db --strict)" 1
sed -n 2p o | grep -q '^LOSSY ' || fail "the page of a lossy run begins: $(sed -n 2p o)"
cd "$ROOT" || exit 1

# 3. older stores are kept, the collector's log folded in
port=$(free_port)
serve "$port"
load "$port" 100
until_report 20 '([.endpoints[].count] | add) == 100'
kill -KILL "$sonde"
collector=$(pgrep -f "sonde-collector.*$scratch/s.db" | head -n 1)
[ -n "$collector" ] && kill -KILL "$collector"
kill -QUIT "$(cat "$scratch/$port/nginx.pid")"
[ -z "$collector" ] || wait_gone "$collector"
report
is "a run without an end" "$(q .run.abandoned)" true
is "its verdict" "$(q .verdict)" partial
is "its requests" "$(q '[.endpoints[].count] | add')" 100
"$SONDE" run --quiet -o "$scratch/s.db" true
is "kept as .old" "$(db 'SELECT sum(count) FROM requests' "$scratch/s.db.old")" 100
is "and the one before" "$(db 'SELECT sum(count) FROM requests' "$scratch/s.db.old.2")" 3510

# 4. the store is deleted under load
rm -f "$scratch"/s.db*
port=$(free_port)
serve "$port"
load "$port" 1000
until_report 20 '([.endpoints[].count] | add) == 1000'
rm "$scratch/s.db"
load "$port" 1000
stop "$port"
report
is "deleted and written again" "$(q '[.endpoints[].count] | add')" 2000
check_sums complete
grep -q 'was removed' "$scratch/err" || fail "nobody said that the store was removed: $(cat "$scratch/err")"

# 5. the disk fills up under load, is freed, fills up again and stays full: the summary is right all the same
if mkdir "$scratch/disk" && mount -t tmpfs -o size=600k sonde-test "$scratch/disk" 2>/dev/null; then
    trap 'umount "$scratch/disk" 2>/dev/null; cleanup' EXIT
    port=$(free_port)
    SONDE_OPTIONS="--set sampling.spans_per_second=100000" serve "$port" "$scratch/disk/s.db"
    load "$port" 1000
    dd if=/dev/zero of="$scratch/disk/filler" bs=4k 2>/dev/null
    for i in 1 2 3 4 5; do load "$port" 2000; sleep 0.3; done
    wait_for 20 grep -q 'disk full' "$scratch/err" || fail "a full disk was not told: $(cat "$scratch/err")"
    rm "$scratch/disk/filler"
    wait_for 20 grep -q 'written again' "$scratch/err" || fail "the store did not come back: $(cat "$scratch/err")"
    stop "$port"
    "$SONDE" report "$scratch/disk/s.db" --json >"$scratch/report.json" || fail "report from the small disk"
    is "requests on the small disk" "$(q '[.endpoints[].count] | add')" 11000
    check_sums
    is "samples that found no room" "$(q '.spans_shed | keys | length > 0')" true
    port=$(free_port)
    serve "$port" "$scratch/disk/t.db"
    load "$port" 100
    dd if=/dev/zero of="$scratch/disk/filler" bs=4k 2>/dev/null
    for i in 1 2 3; do load "$port" 3000; sleep 0.5; done
    stop "$port"
    grep -Eq '^(COMPLETE|LOSSY|PARTIAL) +9100 requests' "$scratch/err" || fail "summary on a full disk: $(cat "$scratch/err")"
    umount "$scratch/disk"
else
    echo "no tmpfs can be mounted here: the full disk is tested by test_store only"
fi
finish
