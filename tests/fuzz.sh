#!/usr/bin/env bash
# fuzz.sh [NAME...] - runs build/fuzz/fuzz_NAME (default: all) for FUZZ_SECONDS each (default 600), one after another.
#
# What a target has learned stays in build/fuzz-corpus/NAME; a target with cases in tests/cases/NAME starts from them.
# Exit 0 when nothing was found. A finding fails at once and is kept in build/fuzz-findings/: run the target on that
# file to see it again.
set -u
cd "$(dirname "$0")/.." || exit 1
BUILD=${BUILD:-build}
seconds=${FUZZ_SECONDS:-600}
failed=0 ran=0

wanted() { # NAME, then the names asked for
    local name=$1 w
    shift
    [ $# -gt 0 ] || return 0
    for w in "$@"; do
        [ "$w" = "$name" ] && return 0
    done
    return 1
}

for target in "$BUILD"/fuzz/fuzz_*; do
    case $target in *.d | *'*') continue ;; esac
    name=${target##*/fuzz_}
    wanted "$name" "$@" || continue
    corpus=$BUILD/fuzz-corpus/$name seeds=$BUILD/fuzz-seeds/$name log=$BUILD/fuzz-$name.log
    mkdir -p "$corpus" "$seeds" "$BUILD/fuzz-findings"
    if [ -d "tests/cases/$name" ] && ! timeout 60 "$target" --write-seeds="$seeds" >"$log" 2>&1; then
        echo "FAIL  $name: its cases cannot be read"
        failed=$((failed + 1))
        continue
    fi
    findings=
    [ ! -d "tests/findings/$name" ] || findings=tests/findings/$name
    ran=$((ran + 1))
    # the time limit is a net: -max_total_time ends the run
    if timeout -k 10 $((seconds + 120)) "$target" -max_total_time="$seconds" -max_len=4096 -timeout=20 \
        -rss_limit_mb=2048 -print_final_stats=1 -artifact_prefix="$BUILD/fuzz-findings/$name-" \
        "$corpus" "$seeds" ${findings:+"$findings"} >"$log" 2>&1; then
        echo "ok    $name: $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") inputs in $seconds s, nothing found"
    else
        failed=$((failed + 1))
        echo "FAIL  $name, the end of $log:"
        grep -av '^#\|Uses:' "$log" | tail -n 40 | cut -c1-300 | sed 's/^/      /'
    fi
done
if [ $ran = 0 ] && [ $failed = 0 ]; then
    echo "nothing to run: make fuzz builds the targets"
    exit 1
fi
[ $failed = 0 ]
