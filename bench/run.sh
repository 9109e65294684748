#!/usr/bin/env bash
# run.sh - all benches: cost of a call, of malloc, of a start, of stages; then real servers bare against watched.
# Results: a table here, JSON in build/bench.json. QUICK=1 takes minutes, not half an hour.
set -u
cd "$(dirname "$0")/.." || exit 1
export BUILD=${BUILD:-build}
load=$(cut -d' ' -f1 /proc/loadavg)
awk -v l="$load" 'BEGIN {exit !(l > 0.5)}' && echo "note: the machine is busy (load $load); ratios will be noisy"
for b in "$BUILD"/bench/bench_*; do
    case $b in *.d | *_load) continue ;; esac
    [ -x "$b" ] || continue
    echo "--- $(basename "$b")"
    "$b" || echo "failed: exit $?"
done
echo "--- heap-heavy program beside heaptrack"
bash bench/bench_heaptrack.sh ${QUICK:+3}
zip=${SONDE_CACHE:-$HOME/.cache/sonde-tests}/elasticsearch-8.19.3.zip
echo "--- every request shipped to Elasticsearch"
if command -v java >/dev/null && [ -s "$zip" ]; then
    bash bench/ship.sh ${QUICK:+50000}
else
    echo "skipped: wants java and $zip (tests/servers/elasticsearch.sh fetch)"
fi
echo "--- servers"
python3 bench/load.py ${QUICK:+--quick} --json "$BUILD/bench.json"
