#!/usr/bin/env bash
# live_waits_unwind.sh - waits that do not return (live_waits_unwind.c): the program behaves the same bare and watched,
# and no total is longer than the program ran.
. "$(dirname "$0")/lib.sh"
cd "$ROOT" || exit 1

timeout 60 "$BUILD/tests/live_waits_unwind" >"$scratch/bare" || fail "bare: exit $?: $(cat "$scratch/bare")"
start=$(date +%s%N)
timeout 60 "$BUILD/tests/arena_run" -l 1000 -f 31 -o "$scratch/events" "$BUILD/tests/live_waits_unwind" >"$scratch/out" ||
    fail "watched: exit $?: $(cat "$scratch/out")"
took=$(($(date +%s%N) - start))
cmp "$scratch/bare" "$scratch/out" || fail "it says something else"

sed -nE 's/^lane ([0-9]+) process=([0-9]+) .*lock_ns=([0-9]+) disk_ns=([0-9]+) sleep_ns=([0-9]+).*/\1 \2 \3 \4 \5/p' \
    "$scratch/events" >"$scratch/lanes"
[ "$(wc -l <"$scratch/lanes")" -ge 20 ] || fail "only $(wc -l <"$scratch/lanes") lanes"
awk -v took="$took" '$3 + $4 + $5 > took {print "lane " $1 " waited longer than the program ran: " $0; bad = 1} END{exit bad}' "$scratch/lanes" || failures=1
# the forked child came back into its parent's wait, then slept for 1 ms; that it waited on its own account is possible
# only where it was forked before the wait began
awk '$2 == 2 {n++; if ($5 < 1000000) {print "child: " $0; bad = 1}} END{exit bad || n != 1}' "$scratch/lanes" || fail "the child's waits"
# the last thread of the program slept for 20 ms and found its lock free
tail -n 1 "$scratch/lanes" | awk '{exit !($3 == 0 && $5 >= 20000000)}' || fail "the last thread: $(tail -n 1 "$scratch/lanes")"
# main thread: woken by signals in its waits
awk '$1 == 1 {exit !($3 >= 1000000 && $5 >= 1000000)}' "$scratch/lanes" || fail "the main thread: $(head -n 1 "$scratch/lanes")"
grep -qE '^sum .* full=0 nested=0 no_lane=0 unfinished=0 refused=0 damaged=0 ' "$scratch/events" || fail "$(grep '^sum' "$scratch/events")"
finish
