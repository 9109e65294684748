#!/usr/bin/env bash
# live_waits.sh - waits of known length (live_waits.c): each kind is added to the total it belongs to, none to another;
# the program behaves the same bare. Bounds are one-sided: a machine may be slower, never faster.
set -u
cd "$(dirname "$0")/.." || exit 1
BUILD=${BUILD:-build}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
failed=0
fail() { echo "$*"; failed=1; }

# kind, least ms of lock, sleep by the main thread (0: none at all; x: any)
expect() {
    local kind=$1 lock sleep disk
    timeout 60 "$BUILD/tests/arena_run" -f "${features:-31}" -o "$scratch/events" "$BUILD/tests/live_waits" "$kind" >"$scratch/out" || fail "$kind: exit $?"
    [ "$(cat "$scratch/out")" = "$kind" ] || fail "$kind: $(cat "$scratch/out")"
    read -r lock disk sleep < <(sed -nE 's/^lane 1 .*lock_ns=([0-9]+) disk_ns=([0-9]+) sleep_ns=([0-9]+).*/\1 \2 \3/p' "$scratch/events")
    within "$kind: lock" "$lock" "$2"
    within "$kind: sleep" "$sleep" "$3"
    within "$kind: disk" "$disk" 0
    grep -qE '^sum .* full=0 nested=0 no_lane=0 unfinished=0 refused=0 damaged=0 ' "$scratch/events" || fail "$kind: $(grep '^sum' "$scratch/events")"
}

within() { # what, seen ns, least ms
    case $3 in
    x) ;;
    0) [ "$2" = 0 ] || fail "$1: $2 ns, not 0" ;;
    *) [ "$2" -ge $(($3 * 1000000)) ] || fail "$1: $2 ns, less than $3 ms" ;;
    esac
}

turns() { # kind, call: the wait ended the claim, or (0) did not
    local n
    n=$(grep -cE "^lane=[0-9]+ .* TURN .* result=$2 " "$scratch/events")
    if [ "$3" = 0 ]; then [ "$n" = 0 ] || fail "$1: $n turns"; else [ "$n" -ge "$3" ] || fail "$1: $n turns, not $3"; fi
}

for kind in mutex mutex_timed c11 rwlock_read rwlock_write barrier join; do
    expect $kind 25 0
    turns $kind '[0-9]+' 0
done
expect kinds 200 0
expect rwlock_shared 0 0
expect condition 25 0
turns condition 13 1
expect condition_timed 25 0
turns condition_timed 13 2
expect c11_condition 25 0
turns c11_condition 13 1
expect semaphore 25 0
turns semaphore 14 1
expect semaphore_timed 25 0
expect futex 25 0
turns futex 15 1
expect sleep 0 60

# switched off: nothing is measured, nothing is noted
features=17
for kind in mutex condition semaphore futex sleep; do
    expect $kind 0 0
    turns $kind '[0-9]+' 0
done
[ $failed = 0 ]
