#!/usr/bin/env bash
# live_waits.sh - waits of known length (live_waits.c): each kind is added to the total it belongs to, none to another;
# the program behaves the same bare. Bounds are one-sided: a machine may be slower, never faster.
. "$(dirname "$0")/lib.sh"
cd "$ROOT" || exit 1

# kind, least ms of lock, sleep by the main thread (0: none at all; x: any)
expect() {
    local kind=$1 lock sleep disk
    timeout 60 "$BUILD/tests/arena_run" -l "${sample_ns:-0}" -f "${features:-31}" -o "$scratch/events" "$BUILD/tests/live_waits" "$kind" >"$scratch/out" || fail "$kind: exit $?"
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

turns() { # kind, call, how many turns it told
    local n
    n=$(grep -cE "^lane=[0-9]+ .* TURN .* result=$2 " "$scratch/events")
    [ "$n" = "$3" ] || fail "$1: $n turns, not $3"
}

# the second thread holds on for 30 ms from the moment that the main one sleeps; where the main one waits twice, it may
# be kept from the processor in between
for kind in mutex:30 mutex_timed:4 c11:30 rwlock_read:30 rwlock_write:1 barrier:30 join:1; do
    expect ${kind%:*} ${kind#*:} 0
    turns ${kind%:*} '[0-9]+' 0
done
expect kinds 50 0
expect rwlock_shared 0 0
expect condition 30 0
turns condition 13 1
expect condition_timed 1 0
turns condition_timed 13 0 # nothing moved but what the first of them waited: nothing to tell
expect c11_condition 30 0
turns c11_condition 13 1
expect semaphore 30 0
turns semaphore 14 1
expect semaphore_timed 1 0
expect futex 30 0
turns futex 15 1
expect sleep 0 60
expect vfork 0 0

# one wait of 30 ms where one in 1 us is sampled: its stack, once, and what it waited; none where none are wanted
grep -q ' LOCKED ' "$scratch/events" && fail "a stack that nobody wanted"
sample_ns=1000
expect mutex 25 0
same=$(grep -c ' LOCKED .* result=12 ' "$scratch/events")
[ "$same" = 1 ] || fail "mutex: $same samples, not 1"
grep ' LOCKED ' "$scratch/events" | grep -qE 'end=whole frames=([0-9a-f]+,){2}' || fail "mutex: its stack is not told: $(grep ' LOCKED ' "$scratch/events")"
for kind in condition join; do
    expect $kind 1 0
    grep -q ' LOCKED ' "$scratch/events" && fail "$kind: it waits for work or for ever, it has no sample"
done

# samples stand for all: each by what it waited, over the chance that it was hit
sample_ns=300000
expect often 20 0
awk -v mean=300000 '/^lane 1 /{sub(/.*lock_ns=/, ""); total = $1 + 0}
    /^lane=.* LOCKED /{match($0, /dur_ns=[0-9]+/); n++; a = substr($0, RSTART + 7, RLENGTH - 7) + 0; sum += a / (1 - exp(-a / mean))}
    END{printf "often: %d samples stand for %.0f ns of %.0f\n", n, sum, total; exit !(n >= 20 && sum > 0.6 * total && sum < 1.6 * total)}' \
    "$scratch/events" || failures=1
sample_ns=0

# where a switch cannot be told: whole calls count
export GLIBC_TUNABLES=glibc.pthread.rseq=0
expect mutex 30 0
expect condition 30 0
expect semaphore 30 0
expect sleep 0 60
unset GLIBC_TUNABLES

# switched off: nothing is measured, nothing is noted
features=17
for kind in mutex condition semaphore futex sleep; do
    expect $kind 0 0
    turns $kind '[0-9]+' 0
done
finish
