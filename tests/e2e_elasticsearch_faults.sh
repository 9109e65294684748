#!/usr/bin/env bash
# e2e_elasticsearch_faults.sh - the sink against a scripted server: answers that are empty, cut, late or lies.
# Whatever happens, every accepted document is stored exactly once, and the counts say so. Cases run side by side.
set -u
cd "$(dirname "$0")/.." || exit 1
BUILD=${BUILD:-build}
push=$BUILD/tests/push_rows
top=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null; rm -rf "$top"' EXIT

all='accepted=1000 acknowledged=1000 duplicates=0 dead=0 memory=0 exit=0 queued=0'
known='accepted=1000 acknowledged=0 duplicates=1000 dead=0 memory=0 exit=0 queued=0'
half='accepted=1000 acknowledged=500 duplicates=500 dead=0 memory=0 exit=0 queued=0'
deliver=$'spans 1000\ndrain 40000\ncounts'

# --- within a case: $d, $url and $failed are its own

fail() {
    echo "FAIL: $*"
    failed=1
}
run() { # option...: a push_rows that does what stdin says
    "$push" --set output.wait_ms=50 "$@" "$url" >"$d/out" 2>"$d/err" || fail "push_rows: exit $?"
    told=$(curl -s "$url/_standin")
}
counts() { [ "$(tail -n 1 "$d/out")" = "$1" ] || fail "$(tail -n 1 "$d/out"), wanted $1"; }
saw() { [ "$(jq -r "$1" <<<"$told")" = true ] || fail "not $1 in $told"; }
said() { grep -q "$1" "$d/err" || fail "stderr does not say '$1'"; }

# case FUNCTION FAULT...: FUNCTION with a server that makes these faults, in the background
case_number=0
case_() {
    case_number=$((case_number + 1))
    while [ "$(jobs -rp | wc -l)" -ge 6 ]; do wait -n; done
    (
        d=$top/$case_number failed=0
        mkdir "$d"
        python3 tests/standin.py "$d" "${@:2}" 2>"$d/server.err" &
        server=$!
        trap 'kill $server' EXIT
        for _ in $(seq 200); do [ -s "$d/url" ] && break; sleep 0.05; done
        url=$(cat "$d/url")
        "$1"
        [ ! -s "$d/server.err" ] || fail "the server: $(cat "$d/server.err")"
        [ $failed = 0 ] || cat "$d/err"
        exit $failed
    ) >"$top/$case_number.log" 2>&1 || { echo "FAIL $*"; cat "$top/$case_number.log"; touch "$top/failed"; } &
}

# --- cases

honest() {
    run <<<"$deliver"
    counts "$all"
    saw '.documents == 1000 and (.requests | length == 1) and .requests[0].gzip and .requests[0].expect == null'
}
applied() { # but the answer does not say so: the same bytes again are known already
    run <<<"$deliver"
    counts "$known"
    saw '.documents == 1000 and (.requests | length == 2)'
}
applied_and_said() {
    applied
    said 'documents wait'
}
applied_in_part() {
    run <<<"$deliver"
    counts "$half"
}
not_applied() {
    run <<<"$deliver"
    counts "$all"
    saw '.documents == 1000 and (.requests | length == 2)'
}
waits_as_told() {
    not_applied
    saw '.requests[1].time - .requests[0].time >= 2'
}
no_matter() { # "errors": false is not believed
    run <<<"$deliver"
    counts "$all"
    saw '.documents == 1000'
}
only_what_failed_goes_again() {
    run <<<"$deliver"
    counts "$all"
    saw '(.requests | map(.documents)) == [1000, 500]'
}
the_bad_are_buried_alone() {
    run <<<"$deliver"
    counts 'accepted=1000 acknowledged=500 duplicates=0 dead=500 memory=0 exit=0 queued=0'
    said 'refused for good'
}
one_poisons_a_request() {
    run <<<"$deliver"
    counts 'accepted=1000 acknowledged=999 duplicates=0 dead=1 memory=0 exit=0 queued=0'
}
never_took_one() { # it is no Elasticsearch, perhaps: nothing is buried
    run <<<$'spans 9\nturn 3000\ncounts'
    counts 'accepted=9 acknowledged=0 duplicates=0 dead=0 memory=0 exit=0 queued=9'
    said 'is this an Elasticsearch'
}
limit_is_learnt() {
    run <<<"$deliver"
    counts "$all"
    saw '.documents == 1000'
}
refused_thrice_is_halved() {
    run <<<"$deliver"
    counts "$all"
    saw '(.requests | map(.documents)) == [1000, 1000, 1000, 500, 500]'
}
goes_plain_at_last() { # the third time; curl repeats once by itself
    run <<<"$deliver"
    counts "$all"
    saw '(.requests[:-1] | all(.gzip)) and (.requests[-1].gzip | not) and (.requests | length <= 4)'
}
late() {
    run <<<"$deliver"
    counts "$all"
}
end_keeps_its_deadline() {
    local start=$SECONDS
    run <<<$'spans 1000\nturn 300\nfinish 1000'
    counts 'accepted=1000 acknowledged=0 duplicates=0 dead=0 memory=0 exit=1000 queued=0'
    [ $((SECONDS - start)) -lt 30 ] || fail "it took $((SECONDS - start)) s of a server that stalls for 30"
    said '1000 documents could not be delivered'
}
number() { # name line
    local v=${2##*"$1"=}
    echo "${v%% *}"
}
memory_is_bounded() { # the newest dropped and counted (push_rows checks the sum), totals have room of their own
    run --set output.memory_bytes=1M <<<$'spans 200000\ncounts\ninterval\ncounts\nmemory'
    mapfile -t line <"$d/out"
    [ "$(number memory "${line[0]}")" -ge 1000 ] || fail "nothing was dropped: ${line[0]}"
    [ "$(number memory "${line[1]}")" = "$(number memory "${line[0]}")" ] || fail "totals were dropped: ${line[1]}"
    [ "${line[2]}" -le 40000 ] || fail "${line[2]} kB in memory"
    said 'output.memory_bytes is full'
}
set_up_again() {
    run <<<"$deliver"
    counts "$all"
    said 'documents wait'
}

case_ honest
for fault in empty cut short length-lie not-json long; do case_ applied_and_said $fault; done
case_ applied close-stored # curl repeats that one by itself
case_ applied_in_part empty-part
for fault in close status=503 status=502 status=408 html=502 retry-after=1 \
    items=429,es_rejected_execution_exception items=503,unavailable_shards_exception \
    items=500,node_not_connected_exception; do
    case_ not_applied "$fault"
done
case_ waits_as_told retry-after=2
case_ no_matter errors-lie
case_ only_what_failed_goes_again items-half=429,es_rejected_execution_exception
case_ the_bad_are_buried_alone items-half=400,document_parsing_exception
case_ one_poisons_a_request always:poison=/users/777/1
case_ never_took_one always:status=400
case_ limit_is_learnt always:larger-than=100000
case_ refused_thrice_is_halved status=429 status=429 status=429
case_ goes_plain_at_last always:close-gzip
case_ late stall=3
case_ end_keeps_its_deadline stall=30
case_ memory_is_bounded always:status=503
for fault in status=301 status=404 status=405; do case_ set_up_again $fault; done
wait
echo "$case_number cases"
[ ! -e "$top/failed" ]
