#!/usr/bin/env bash
# live_events_of_processes.sh - what the recorder notes of fork, vfork, exec, exit and the wait family, and what it must not
# note: anything that a vfork child does in its parent's memory. The bare recorder, no collector.
set -u
cd "$(dirname "$0")/.." || exit 1
BUILD=${BUILD:-build}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
failed=0

watch() { # program: its events to $scratch/events
    timeout 60 "$BUILD/tests/arena_run" -o "$scratch/events" "$BUILD/tests/$1" >"$scratch/out" || { echo "$1: exit $?"; failed=1; }
}

same() { # what, seen, wanted
    [ "$2" = "$3" ] || { echo "$1: $2, not $3"; failed=1; }
}

count() { grep -c "^lane=.* seq=[0-9]* $1 " "$scratch/events"; }

sums() {
    same "$1: lost or damaged" "$(grep '^sum' "$scratch/events" | grep -cE ' full=0 nested=0 no_lane=0 unfinished=0 refused=0 damaged=0 ')" 1
}

# Parent and 240 vfork children, two of three of which close the parent's connection: it stays one, its offsets go on.
watch live_process_vfork
sums vfork
same 'vfork: sent' "$(count OUT)" 200
same 'vfork: received' "$(count IN)" 200
same 'vfork: closed (the listener)' "$(count CLOSE)" 1
same 'vfork: duplicated' "$(count DUP)" 0
same 'vfork: exec noted in the parent' "$(count EXEC)" 0
same 'vfork: connections' "$(grep -E '^lane=.* (IN|OUT) ' "$scratch/events" | grep -o ' id=[0-9a-f]*' | sort -u | wc -l)" 2
same 'vfork: offsets' "$(awk '/^lane=.* OUT /{sub(/off=/,"",$7); if ($7 != n++) bad++} END{print bad + 0}' "$scratch/events")" 0
# 200 that exec, 20 that exit, 20 that vfork again and one that forks (whose own children are theirs), one by posix_spawn
same 'vfork: reaped' "$(count REAPED)" 242
same 'vfork: forked by a vfork child, watched' "$(grep -c '^process .* flags=0x1 ' "$scratch/events")" 1

# 73 children; a status of 15 and 9 is a signal, 6 is abort
watch live_process_exit
sums exit
same 'exit: forked' "$(count FORK)" 73
same 'exit: reaped' "$(count REAPED)" 73
for status in 768:9 1024:9 1280:9 1536:9 1792:9 15:9 9:9 6:9 2048:1; do
    same "exit: children that ended with ${status%:*}" "$(grep ' REAPED ' "$scratch/events" | grep -c " result=${status%:*} ")" "${status#*:}"
done
same 'exit: exit, _exit, _Exit, quick_exit called' "$(count EXIT)" 46
same 'exit: processes' "$(grep -c '^process .* flags=0x1 ' "$scratch/events")" 73

# twelve ways to exec in as many children, one of which fails; those that clean their environment are seen no more
watch live_process_exec
sums exec
same 'exec: noted' "$(count EXEC)" 12
same 'exec: images that go on watched' "$(grep '^process ' "$scratch/events" | grep -vc 'flags=0x1 ')" 9

# no clock: noted as such, nothing lost
watch live_process_clock
sums clock
same 'clock: processes without one' "$(grep -c '^process .* flags=0x9 ' "$scratch/events")" 4

[ $failed = 0 ] && echo ok
exit $failed
