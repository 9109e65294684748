#!/usr/bin/env bash
# run.sh [PATTERN...] - runs the tests whose names match (default: all), each under a time limit; exit 0 when none failed.
#
# A test is a built program build/tests/test_* (units), a script tests/{e2e,live,check}_*.sh, or a program
# build/tests/live_* that has no script: that one must behave the same bare and under `sonde run` (exit code, stdout).
# 0 pass, 77 skip (the reason is its last line), everything else fails. Logs: build/test-logs/.
# The ten that took longest are listed at the end.
set -u
cd "$(dirname "$0")/.." || exit 1
BUILD=${BUILD:-build}
export BUILD
limit=${TEST_LIMIT:-300}
logs=$BUILD/test-logs
mkdir -p "$logs"
patterns=("$@")
[ ${#patterns[@]} -gt 0 ] || patterns=('*')

wanted() {
    local p
    for p in "${patterns[@]}"; do
        # shellcheck disable=SC2053
        [[ $1 == $p ]] && return 0
    done
    return 1
}

both() { # a live program: bare, then watched; same exit code, same output
    local program=$1 bare watched a b scratch
    scratch=$(mktemp -d)
    bare=$("$program" 2>"$scratch/err") ; a=$?
    watched=$("$BUILD/sonde" run --quiet -o "$scratch/s.db" "$program" 2>>"$scratch/err") ; b=$?
    if [ $a != 0 ] || [ $b != $a ] || [ "$bare" != "$watched" ]; then
        echo "bare: exit $a"; echo "$bare"; echo "under sonde: exit $b"; echo "$watched"; cat "$scratch/err"
        rm -rf "$scratch"; return 1
    fi
    rm -rf "$scratch"
}

passed=0 failed=0 skipped=0 reasons=() took=()
one() { # name command...
    local name=$1 rc start=$SECONDS
    shift
    wanted "$name" || return 0
    timeout -k 10 "$limit" "$@" >"$logs/$name.log" 2>&1 </dev/null
    rc=$?
    took+=("$((SECONDS - start)) $name")
    case $rc in
    0) passed=$((passed + 1)); printf 'ok    %s (%ds)\n' "$name" $((SECONDS - start)) ;;
    77) skipped=$((skipped + 1)); reasons+=("$name: $(tail -n 1 "$logs/$name.log")"); printf 'skip  %s\n' "$name" ;;
    *) failed=$((failed + 1)); printf 'FAIL  %s (exit %d, %ds), the end of %s:\n' "$name" $rc $((SECONDS - start)) "$logs/$name.log"
       tail -n 25 "$logs/$name.log" | sed 's/^/      /' ;;
    esac
}

export -f both
for t in "$BUILD"/tests/test_*; do
    [ -x "$t" ] && [ ! -d "$t" ] && [[ $t != *.d ]] && one "$(basename "$t")" "$t"
done
for t in tests/check_*.sh; do [ -e "$t" ] && one "$(basename "$t" .sh)" bash "$t"; done
for t in "$BUILD"/tests/live_*; do
    name=$(basename "$t")
    [ -x "$t" ] && [[ $t != *.d ]] && [ ! -e "tests/$name.sh" ] && one "$name" bash -c 'both "$1"' both "$t"
done
for t in tests/live_*.sh tests/e2e_*.sh; do [ -e "$t" ] && one "$(basename "$t" .sh)" bash "$t"; done

slowest() {
    printf '%s\n' "${took[@]}" | sort -rn | head -n 10 | awk '{printf "%s%s %ds", n++ ? ", " : "slowest: ", $2, $1} END {print ""}'
}
[ ${#took[@]} -le 10 ] || slowest
for r in "${reasons[@]+"${reasons[@]}"}"; do echo "skipped: $r"; done
if [ $skipped -gt 0 ]; then
    echo "$passed passed, $failed failed, $skipped skipped"
else
    echo "$passed passed, $failed failed"
fi
[ $failed = 0 ]
