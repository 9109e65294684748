#!/usr/bin/env bash
# What the small programs of live_io_* do is seen: each event once, sums that add up, nothing of what is no connection.
# And how processes attach: another version, switched off, another user, no shared memory, a full arena.
cd "$(dirname "$0")/.." || exit 1
BUILD=${BUILD:-build}
run=$BUILD/tests/arena_run
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
bad=0
complain() { echo "$*"; bad=1; }
count() { grep -cE "$1" "$scratch/events"; }
expect() { # how many lines match
    local n
    n=$(count "$2")
    [ "$n" = "$1" ] || complain "$program: $n events like '$2', expected $1"
}
sum() { sed -nE "s/^sum .*\b$1=([0-9]+).*/\1/p" "$scratch/events"; }
watch() { # program: runs it, checks that attempts = drained + lost
    program=$1
    shift
    timeout 100 "$run" -o "$scratch/events" "$@" "$BUILD/tests/$program" >"$scratch/out" 2>&1 || complain "$program failed: $(cat "$scratch/out")"
    [ "$(sum damaged)$(sum refused)$(sum no_lane)$(sum full)" = 0000 ] || complain "$program: $(grep ^sum "$scratch/events")"
    [ "$(sum written)" = $(($(sum drained) + $(sum nested) + $(sum unfinished))) ] || complain "$program: $(grep ^sum "$scratch/events")"
}

watch live_io_noplt -f 16 # data, no heap: no turns
expect 30 ' IN fd=[0-9]+ .* result=[56] '
expect 30 ' OUT fd=[0-9]+ .* result=[56] '
expect 10 ' OUT .*"direct"'
expect 1 ' ACCEPT .* listener '
expect 1 ' CONNECT fd=[0-9]+ .* result=0 '

watch live_io_descriptors -f 16
expect 1 ' OUT fd=1500 .* offset\? "above 1023"'
expect 1 ' IN fd=2000 .* offset\? "above 1023"'
expect 1 ' OUT fd=5999 .* "the highest"'
expect 1 ' CLOSE fd=2000 '
expect 1 ' CLOSE fd=5999 '
expect 1 ' IN fd=104 .*"still open"|OUT fd=104 .*"still open"'
expect 10 ' CLOSE fd=10[0-9] '
expect 2000 ' OUT .*"not mixed up"'
expect 2000 ' IN .*"by the copy"'
expect 1 '"by stdio' # stdio is out of sight: what it wrote is seen only where it was read
expect 0 '"from a child' # a pipe is no connection
[ "$(count ' unsure')" = 0 ] || complain "descriptors that the program opened itself are unsure: $(grep -m3 ' unsure' "$scratch/events")"
ids=$(grep -E ' ACCEPT ' "$scratch/events" | sed -E 's/.* id=([0-9a-f]+) .*/\1/' | sort | uniq -d)
[ -z "$ids" ] || complain "an id was given twice: $ids"

watch live_io_messages -f 16
expect 0 'long message|"one"|"four"' # datagrams
expect 1 ' OUT .*"first"'
expect 1 ' IN .*"second!"'
expect 1 ' IN .* result=5 .* head=0 ' # thrown away by MSG_TRUNC
expect 1 ' IN .* first unsure "passed"'
expect 1 ' SHUTDOWN .* result=0 '
expect 1 ' IN .*"packet"'

watch live_io_processes -f 16
expect 3 ' IN .*"hello"'
expect 3 ' OUT .*"world"'
expect 1 ' OUT .*"still"'
expect 1 ' IN .*"there"'
expect 1 ' IN fd=0 .* first unsure "echo"'
[ "$(grep -cE '^process .* flags=0x1 ' "$scratch/events")" = 4 ] || complain "forked children: $(grep ^process "$scratch/events")"

watch live_io_seccomp -f 16
[ "$(count ' noclock')" -ge 1600 ] || complain "no clock where it is forbidden: $(count ' noclock')"
watch live_io_errors -f 16
expect 1 ' IN .* result=-104 '
expect 2 ' OUT .* result=-32 '
expect 0 'result=-(11|4|9) '
watch live_io_interrupt -f 16 -b $((256 << 20)) # it writes faster than a busy machine prints
[ "$(count ' result=-11 ')" = 0 ] || complain "EAGAIN became an event"

# a full arena: the newest events are dropped and counted, the program does not notice
program=live_io_interrupt
"$run" -n -b $((8 << 20)) -o "$scratch/events" "$BUILD/tests/$program" >"$scratch/out" 2>&1 || complain "a full arena was noticed: $(cat "$scratch/out")"
[ "$(sum full)" -gt 0 ] || complain "nothing was dropped from an arena that nobody drains"
[ "$(sum written)" = $(($(sum drained) + $(sum full) + $(sum nested) + $(sum unfinished))) ] || complain "full arena: $(grep ^sum "$scratch/events")"

# switched off, another major: nothing recorded, nothing noticed
program=live_io_noplt
SONDE_OFF=1 "$run" -o "$scratch/events" "$BUILD/tests/$program" >"$scratch/out" || complain "SONDE_OFF=1 was noticed"
[ "$(sum written)$(grep -c ^process "$scratch/events")" = 00 ] || complain "SONDE_OFF=1 records"
"$run" -m -o "$scratch/events" "$BUILD/tests/$program" >"$scratch/out" || complain "another major was noticed"
[ "$(sum written)$(sum refused)" = 01 ] || complain "another major: $(grep ^sum "$scratch/events")"

# a run whose arena another user holds: one of its own, shared with its children, private to the user
if [ "$(id -u)" = 0 ]; then
    here=$(mktemp -d /tmp/live-io.XXXXXX)
    install -m 755 "$BUILD/libsonde.so" "$BUILD/tests/live_io_noplt" "$here"
    chmod 755 "$here"
    find /dev/shm -name 'sonde.*' | sort >"$scratch/before"
    SONDE_LIBRARY=$here/libsonde.so "$run" -f 1 setpriv --reuid=65534 --regid=65534 --clear-groups sh -c "'$here/live_io_noplt'; '$here/live_io_noplt'; :" >"$scratch/out" 2>&1 || complain "another user's arena was noticed: $(cat "$scratch/out")"
    made=$(find /dev/shm -name 'sonde.*' -newer "$scratch/before" | sort | comm -13 "$scratch/before" -)
    [ "$(wc -l <<<"$made")" = 1 ] || complain "fallback arenas: ${made:-none}"
    [ "$(stat -c '%u %a %s %F' "$made")" = "65534 600 8388608 regular file" ] || complain "fallback arena is $(stat -c '%u %a %s %F' "$made")"
    [ "$(head -c 8 "$made")" = SDARENA1 ] || complain "fallback arena is not one"
    [ "$(od -An -t u4 -j 260 -N 4 "$made")" -eq 1 ] || complain "the run's settings did not reach the fallback arena"
    [ "$(grep -aoc live_io_noplt "$made")" -gt 0 ] || complain "the children did not share their parent's arena"
    [ -z "$made" ] || rm -f "$made"
    # files may not be that large: pass-through, not SIGXFSZ
    SONDE_LIBRARY=$here/libsonde.so "$run" prlimit --fsize=102400 setpriv --reuid=65534 --regid=65534 --clear-groups "$here/live_io_noplt" >"$scratch/out" 2>&1 || complain "with small files only: $(cat "$scratch/out")"
    # no room at all: pass-through
    unshare -m sh -c "mount -t tmpfs -o size=16k none /dev/shm && SONDE_LIBRARY='$here/libsonde.so' '$run' setpriv --reuid=65534 --regid=65534 --clear-groups '$here/live_io_noplt' && [ -z \"\$(ls /dev/shm)\" ]" >"$scratch/out" 2>&1 || complain "without shared memory: $(cat "$scratch/out")"
    rm -rf "$here"
fi
exit $bad
