#!/usr/bin/env bash
# C++ exceptions through sampled frames, and operator new in its many shapes, as without us: with every block sampled, on each
# allocator. The recorder's libunwind must not take the program's own unwinding over.
. "$(dirname "$0")/lib.sh"
need g++
g++ -std=c++17 -O2 -g -Wno-alloc-size-larger-than -pthread -o "$scratch/exceptions" tests/exceptions.cc 2>"$scratch/g++" ||
    { fail "g++: $(cat "$scratch/g++")"; finish; }
for a in "" libjemalloc.so.2 libtcmalloc_minimal.so.4 libmimalloc.so.2.0; do
    # mimalloc's operators abort where memory is out; then so they must here
    (LD_PRELOAD=$a exec "$scratch/exceptions" >"$scratch/bare" 2>/dev/null); bare=$?
    LD_PRELOAD=$a "$BUILD/tests/arena_run" -s -b 0x10000000 -r 1 "$scratch/exceptions" >"$scratch/watched" 2>"$scratch/sums"; watched=$?
    is "${a:-glibc}: exit code" "$watched" "$bare"
    [ "$bare" = 3 ] || [ "$a" = libmimalloc.so.2.0 ] || fail "${a:-glibc}: bare it exits with $bare"
    [ -n "$a" ] || lines=$(wc -l <"$scratch/watched")
    diff "$scratch/bare" "$scratch/watched" || fail "${a:-glibc}: it behaves otherwise"
    samples=$(awk '/^type ALLOCATED/ {print $3}' "$scratch/sums")
    [ "${samples:-0}" -gt 10000 ] || fail "${a:-glibc}: ${samples:-0} samples"
done
is "lines printed on glibc" "$lines" 16
"$SONDE" run --quiet -o "$scratch/s.db" --set memory.sample_bytes=1024 "$scratch/exceptions" >"$scratch/watched" 2>"$scratch/err"
is "under sonde run: exit code" $? 3
finish
