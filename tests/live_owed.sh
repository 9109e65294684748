#!/usr/bin/env bash
# Blocks that are freed while the arena is full: told as soon as there is room, so that nothing looks alive; where more were
# freed than can wait, or the process ended before, what is shown as kept is said to be a guess.
. "$(dirname "$0")/lib.sh"
need jq sqlite3
mkfifo "$scratch/in" "$scratch/lines"
exec 8<>"$scratch/in" 9<>"$scratch/lines"
begin() { # blocks: they are allocated, and told
    rm -f "$scratch"/s.db*
    "$SONDE" run --quiet -o "$scratch/s.db" --set arena.bytes=8388608 --set memory.sample_bytes=1024 \
        "$BUILD/tests/live_owed" "$1" s <"$scratch/in" >"$scratch/lines" 2>"$scratch/err" &
    sonde=$!
    pids+=("$sonde")
    line allocated
    sleep 1.2
    is "blocks that live" "$(kept live_samples)" "$1"
    program=$(pgrep -P "$sonde" live_owed)
    collector=$(pgrep -P "$sonde" sonde-collector | head -n 1)
}
line() { local got; read -r -t 20 got <&9; [ "$got" = "$1" ] || { fail "it says '$got', not '$1'"; cat "$scratch/err"; finish; }; }
go() { echo >&8; }
kept() { sqlite3 -cmd '.timeout 5000' "$scratch/s.db" "SELECT sum($1) FROM site JOIN stack USING(stack) WHERE frames LIKE '%kept_by_live_owed%'"; }
lost() { "$SONDE" report "$scratch/s.db" --json | jq -r '.processes[0].frees'; }
fill() { # it frees all while nobody drains
    kill -STOP "$collector"
    go
    line freed
}
drain() {
    kill -CONT "$collector"
    sleep 0.5
}

echo "--- room again"
begin 500
fill
drain
go
line told
sleep 1.5
is "blocks that live" "$(kept live_samples)" 0
[ "$("$SONDE" report "$scratch/s.db" --json | jq '.events.lost.full')" -gt 1000 ] || fail "the arena was not full"
go
line end
wait "$sonde"
is "blocks never freed" "$(kept ended_samples)" 0
is "frees" "$(lost)" null

echo "--- more than can wait"
begin 3000
fill
drain
go
line told
go
line end
wait "$sonde"
n=$(kept ended_samples)
if [ "$n" -gt 1000 ] && [ "$n" -lt 2000 ]; then echo "ok: $n seem to live"; else fail "blocks that seem to live: $n"; fi
is "frees" "$(lost)" "some lost"
"$SONDE" report "$scratch/s.db" --memory | grep -q '^UNSURE ' || fail "the report does not say so"
is "leaks say so" "$("$SONDE" leaks "$scratch/s.db" --json | jq .frees_lost)" true

echo "--- ended before"
begin 500
fill
kill -KILL "$program"
drain
wait "$sonde"
is "blocks never freed, as far as is known" "$(kept ended_samples)" 500
is "frees" "$(lost)" "some lost"
finish
