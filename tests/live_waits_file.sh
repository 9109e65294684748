#!/usr/bin/env bash
# live_waits_file.sh - which calls on files count as waits for the disk (live_waits_file.c): those that waited, and only
# as long; none that the page cache served, none on pipes; no question where a filter may forbid it.
. "$(dirname "$0")/lib.sh"
cd "$ROOT" || exit 1
folder=${SONDE_TEST_DISK:-/var/tmp}

expect() { # kind, some|none|any
    local kind=$1 lock disk sleep took
    timeout 60 "$BUILD/tests/arena_run" -f 31 -o "$scratch/events" "$BUILD/tests/live_waits_file" "$kind" "$folder" \
        >"$scratch/out" 2>"$scratch/took" || fail "$kind: exit $?: $(cat "$scratch/out")"
    [ "$(cat "$scratch/out")" = "$kind" ] || fail "$kind: $(cat "$scratch/out")"
    took=$(awk '{print $2}' "$scratch/took")
    read -r lock disk sleep < <(sed -nE 's/^lane 1 .*lock_ns=([0-9]+) disk_ns=([0-9]+) sleep_ns=([0-9]+).*/\1 \2 \3/p' "$scratch/events")
    echo "$kind: disk $disk ns of ${took:-?}"
    [ "$lock$sleep" = 00 ] || fail "$kind: lock $lock, sleep $sleep"
    case $2 in
    none) [ "$disk" = 0 ] || fail "$kind: disk $disk ns, not 0" ;;
    some) if [ "$disk" = 0 ] || [ "$disk" -gt "$took" ]; then fail "$kind: disk $disk ns of $took"; fi ;;
    esac
    grep -qE '^sum .* full=0 nested=0 no_lane=0 unfinished=0 refused=0 damaged=0 ' "$scratch/events" || fail "$kind: $(grep '^sum' "$scratch/events")"
}

case $(stat -f -c %T "$folder") in
tmpfs | ramfs | overlayfs) disk=any ;; # nothing waits there, or who knows
*) disk=some ;;
esac
for kind in dropped positioned sync direct sendfile; do expect $kind $disk; done
expect filtered any # it is not killed for a question of ours
# a machine that is full may take the processor away in any call, which looks the same: once of five must be clean
for kind in pipe fifo cached sendfile_blocking; do
    before=$failures
    for _ in 1 2 3 4 5; do
        failures=$before
        expect $kind none
        [ "$failures" = "$before" ] && break
    done
done
# where a switch cannot be told: what took 20 us
export GLIBC_TUNABLES=glibc.pthread.rseq=0
expect sync $disk
unset GLIBC_TUNABLES
finish
