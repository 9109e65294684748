#!/usr/bin/env bash
# live_valgrind.sh - a program under valgrind, watched, with a sample a kilobyte: valgrind finds nothing and says nothing.
set -u
cd "$(dirname "$0")/.." || exit 1
BUILD=${BUILD:-build}
command -v valgrind >/dev/null || { echo "no valgrind"; exit 77; }
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
timeout 200 "$BUILD/sonde" run --quiet -o none --set memory.sample_bytes=1024 --set waits.sample_ns=1000 -- \
    valgrind -q --error-exitcode=9 "$BUILD/tests/live_heap_places" >"$scratch/out" 2>"$scratch/err"
rc=$?
[ $rc = 0 ] && ! [ -s "$scratch/err" ] || { echo "exit $rc"; cat "$scratch/out" "$scratch/err"; exit 1; }
