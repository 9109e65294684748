#!/usr/bin/env bash
# bench_heaptrack.sh [ROUNDS] - CPython that builds and parses JSON: bare, under sonde with everything on, under heaptrack,
# by turns. Prints the slow-down of each in CPU time of the program itself, and how many times less sonde's is (bar: 20).
set -u
cd "$(dirname "$0")/.." || exit 1
BUILD=${BUILD:-build}
rounds=${1:-7}
python=/usr/bin/python3
command -v heaptrack >/dev/null || { echo "heaptrack is not installed"; exit 77; }
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cat >"$scratch/json_work.py" <<'C'
import json, resource, time
began = time.perf_counter()
for n in range(120):
    text = json.dumps([{"id": i, "name": "name %d" % i, "tags": [str(i + k) for k in range(6)], "price": i * 0.37} for i in range(500)])
    back = json.loads(text)
assert len(back) == 500
r = resource.getrusage(resource.RUSAGE_SELF)
print(r.ru_utime + r.ru_stime, time.perf_counter() - began)
C
export PYTHONMALLOC=${PYTHONMALLOC:-} # PYTHONMALLOC=malloc: every object is a malloc; without it CPython takes 256 KiB arenas
[ -n "$PYTHONMALLOC" ] || unset PYTHONMALLOC
for ((i = 0; i < rounds; i++)); do
    "$python" "$scratch/json_work.py" >>"$scratch/bare"
    "$BUILD/sonde" run --quiet -o "$scratch/s.db" "$python" "$scratch/json_work.py" >>"$scratch/sonde"
    heaptrack -o "$scratch/track" "$python" "$scratch/json_work.py" 2>/dev/null | grep -E '^[0-9.]+ [0-9.]+$' >>"$scratch/heaptrack"
    rm -f "$scratch"/track* "$scratch"/s.db*
done
"$python" - "$scratch" <<'C'
import statistics, sys
read = lambda name: [tuple(map(float, l.split())) for l in open(f"{sys.argv[1]}/{name}")]
bare, sonde, heaptrack = read("bare"), read("sonde"), read("heaptrack")
print("program CPU, median of", len(bare), "rounds, slow-down against bare of the same round")
out = {}
for name, runs in (("sonde", sonde), ("heaptrack", heaptrack)):
    for k, what in enumerate(("CPU", "wall")):
        r = sorted(x[k] / b[k] for x, b in zip(runs, bare))
        out[name, what] = statistics.median(r) - 1
        print(f"{name:10} {what:4} x {statistics.median(r):.3f}   ({r[len(r) // 4]:.3f}..{r[-1 - len(r) // 4]:.3f})")
for what in ("CPU", "wall"):
    s = max(out["sonde", what], 1e-3)
    print(f"{what}: {out['heaptrack', what] / s:.0f} times less slow-down (bar 20)")
C
