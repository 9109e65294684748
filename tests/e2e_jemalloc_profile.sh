#!/usr/bin/env bash
# jemalloc's own heap profile of the same run agrees: what each place keeps, by both and in truth, within the error of sampling.
. "$(dirname "$0")/lib.sh"
need gcc jeprof jq python3
cat >"$scratch/keeps.c" <<'C'
/* six places that keep known amounts to the end, and one that keeps nothing */
#include <stdlib.h>
#include <string.h>
static void *volatile sink;
#define SITE(name, bytes) __attribute__((noinline)) void *name(void) { void *p = malloc(bytes); memset(p, 1, 16); return p; }
SITE(keep_pages, 30000) SITE(keep_bodies, 20000) SITE(keep_sessions, 9000) SITE(keep_rows, 1500) SITE(keep_keys, 48) SITE(keep_little, 100)
SITE(keep_nothing, 25000)
static void times(void *(*site)(void), int n) { for (int i = 0; i < n; i++) { sink = site(); if (i % 16 == 0) free(keep_nothing()); } }
int main(void)
{
    times(keep_pages, 3000); times(keep_bodies, 2500); times(keep_sessions, 3000);
    times(keep_rows, 10000); times(keep_keys, 150000); times(keep_little, 200);
    exit(0); /* jemalloc writes its profile at exit */
}
C
gcc -O2 -g -fno-ipa-icf -fno-optimize-sibling-calls -o "$scratch/keeps" "$scratch/keeps.c" || { fail gcc; finish; }
"$SONDE" run --quiet --allocator jemalloc --heap-profile="$scratch/prof" --set memory.sample_bytes=16384 -o "$scratch/s.db" \
    -- "$scratch/keeps" >"$scratch/out" 2>"$scratch/err" || fail "sonde run: exit $?"
grep -q . "$scratch/err" && { cat "$scratch/err"; grep -q 'profile' "$scratch/err" && skip "no jemalloc with profiles here"; }
is "events lost" "$("$SONDE" report "$scratch/s.db" --json | jq '[.events.lost[]] | add // 0')" 0
theirs=$(find "$scratch" -name 'prof.*.heap' | head -n 1)
[ -n "$theirs" ] || { fail "no profile was written: $(cat "$scratch/err")"; finish; }
jeprof --text --cum --show_bytes "$scratch/keeps" "$theirs" >"$scratch/theirs" 2>"$scratch/jeprof.err" || fail "jeprof: $(cat "$scratch/jeprof.err")"
"$SONDE" flame "$scratch/s.db" --by live --format collapsed >"$scratch/ours" || fail "sonde flame"
cat >"$scratch/compare.py" <<'C'
"""jeprof weighs samples up as we do; a sum of n samples is right to about 1/sqrt(n)."""
import re, sys
mean = 16384
# what they take: jemalloc's size classes
truth = {"keep_pages": 3000 * 32768, "keep_bodies": 2500 * 20480, "keep_sessions": 3000 * 10240, "keep_rows": 10000 * 1536, "keep_keys": 150000 * 48, "keep_little": 200 * 112}
theirs, ours = {}, {}
for line in open(sys.argv[1]):
    m = re.match(r"\s*-?\d+\s+\S+\s+\S+\s+(\d+)\s+\S+%\s+(keep_\w+)", line)
    if m: theirs[m[2]] = float(m[1])
for line in open(sys.argv[2]):
    stack, _, n = line.rstrip().rpartition(" ")
    for name in re.findall(r"\bkeep_\w+", stack): ours[name] = ours.get(name, 0) + float(n)
print("%-14s %12s %12s %12s" % ("", "kept", "jemalloc", "sonde"))
bad = []
for k in truth:
    print("%-14s %12d %12d %12d" % (k, truth[k], theirs.get(k, 0), ours.get(k, 0)))
    for who, said in (("jemalloc", theirs), ("sonde", ours)):
        # sampled bytes are a Poisson process: large blocks are hit for sure, of small ones n = truth / mean
        if k != "keep_little" and abs(said.get(k, 0) / truth[k] - 1) > 4.5 / (truth[k] / mean) ** 0.5: bad.append(f"{who} says {said.get(k, 0):.0f} of {k}")
top = lambda t: [k for k, _ in sorted(t.items(), key=lambda kv: -kv[1]) if k in truth][:5]
if top(theirs) != top(ours): bad.append("the five top places differ")
if ours.get("keep_nothing") or theirs.get("keep_nothing"): bad.append("a place that keeps nothing is said to")
sys.exit("\n".join(bad) or 0)
C
python3 "$scratch/compare.py" "$scratch/theirs" "$scratch/ours" || { fail "they do not agree"; head -20 "$scratch/theirs" "$scratch/ours"; }
finish
