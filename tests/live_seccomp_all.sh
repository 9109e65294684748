#!/usr/bin/env bash
# live_seccomp_all.sh - a filter for all threads while they are sampled as often as can be (live_seccomp_all.c). That a
# walk under way is waited for is test_rule's to show.
set -u
cd "$(dirname "$0")/.." || exit 1
BUILD=${BUILD:-build}
timeout 20 "$BUILD/tests/live_seccomp_all"
[ $? = 4 ] || { echo "no such filter here"; exit 77; }
for i in $(seq 5); do
    timeout 60 "$BUILD/sonde" run --quiet -o none --set memory.sample_bytes=1024 --set waits.sample_ns=1000 -- \
        "$BUILD/tests/live_seccomp_all"
    rc=$?
    [ $rc = 4 ] || { echo "run $i: exit $rc"; exit 1; }
done
