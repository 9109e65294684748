#!/usr/bin/env bash
# e2e_elasticsearch_faults.sh - the sink against a scripted server: answers that are empty, cut, late or lies.
# Whatever happens, every accepted document is stored exactly once, and the counts say so.
set -u
cd "$(dirname "$0")/.." || exit 1
BUILD=${BUILD:-build}
push=$BUILD/tests/push_rows
d=$(mktemp -d)
server=
trap 'kill $server 2>/dev/null; rm -rf "$d"' EXIT
failed=0

# serve FAULT...
serve() {
    [ -z "$server" ] || { kill "$server"; wait "$server" 2>/dev/null; }
    rm -f "$d/url"
    python3 tests/standin.py "$d" "$@" 2>"$d/server.err" &
    server=$!
    for _ in $(seq 100); do [ -s "$d/url" ] && break; sleep 0.05; done
    url=$(cat "$d/url")
}
# expect NAME COUNTS [OPTION...]: pushes what stdin says, compares the last counts that it prints
expect() {
    local name=$1 wanted=$2 got
    shift 2
    "$push" --set output.wait_ms=50 "$@" "$url" >"$d/out" 2>"$d/err" || { echo "FAIL $name: exit $?"; failed=1; }
    got=$(tail -n 1 "$d/out")
    if [ "$got" != "$wanted" ]; then
        echo "FAIL $name: $got, wanted $wanted"; cat "$d/err"
        failed=1
    fi
    told=$(curl -s "$url/_standin")
    [ ! -s "$d/server.err" ] || { echo "FAIL $name:"; cat "$d/server.err"; failed=1; }
}
# check NAME JQ-EXPRESSION: about what the server saw
check() {
    [ "$(jq -r "$2" <<<"$told")" = true ] || { echo "FAIL $1: not $2 in $told"; failed=1; }
}
said() { grep -q "$2" "$d/err" || { echo "FAIL $1: stderr does not say '$2':"; cat "$d/err"; failed=1; }; }

all='accepted=1000 acknowledged=1000 duplicates=0 dead=0 memory=0 exit=0 queued=0'
known='accepted=1000 acknowledged=0 duplicates=1000 dead=0 memory=0 exit=0 queued=0'
half='accepted=1000 acknowledged=500 duplicates=500 dead=0 memory=0 exit=0 queued=0'

serve
expect honest "$all" <<<$'spans 1000\ndrain 20000\ncounts'
check honest '.documents == 1000 and (.requests | length == 1) and .requests[0].gzip and .requests[0].expect == null'

# answers to a request that was applied: the same bytes again are known already
for fault in empty cut short length-lie not-json close-stored long; do
    serve "$fault"
    expect "$fault" "$known" <<<$'spans 1000\ndrain 20000\ncounts'
    check "$fault" '.documents == 1000 and (.requests | length == 2)'
    [ $fault = close-stored ] || said "$fault" 'documents wait'
done
serve empty-part
expect empty-part "$half" <<<$'spans 1000\ndrain 20000\ncounts'

# requests that were not applied
for fault in close status=503 status=502 status=408 html=502 retry-after=1 items=429,es_rejected_execution_exception \
    items=503,unavailable_shards_exception items=500,node_not_connected_exception; do
    serve "$fault"
    expect "$fault" "$all" <<<$'spans 1000\ndrain 20000\ncounts'
    check "$fault" '.documents == 1000 and (.requests | length == 2)'
done
serve retry-after=2
expect retry-after "$all" <<<$'spans 1000\ndrain 20000\ncounts'
check retry-after '.requests[1].time - .requests[0].time >= 2'

# part of a body: only that part goes again, and "errors": false is not believed
for fault in items-half=429,es_rejected_execution_exception errors-lie; do
    serve "$fault"
    expect "$fault" "$all" <<<$'spans 1000\ndrain 20000\ncounts'
    check "$fault" '.documents == 1000'
done
serve items-half=429,es_rejected_execution_exception
expect partial "$all" <<<$'spans 1000\ndrain 20000\ncounts'
check partial '(.requests | map(.documents)) == [1000, 500]'

# a document that is refused takes no other along; an answer that is never better ends in the dead letters
serve 'items-half=400,document_parsing_exception'
expect poison-items 'accepted=1000 acknowledged=500 duplicates=0 dead=500 memory=0 exit=0 queued=0' \
    <<<$'spans 1000\ndrain 20000\ncounts'
said poison-items 'refused for good'
serve 'always:poison=/users/777/1'
expect poison-request 'accepted=1000 acknowledged=999 duplicates=0 dead=1 memory=0 exit=0 queued=0' \
    <<<$'spans 1000\ndrain 30000\ncounts'
# a server that takes nothing at all makes no dead letters: it is no Elasticsearch, perhaps
serve always:status=400
expect never 'accepted=9 acknowledged=0 duplicates=0 dead=0 memory=0 exit=0 queued=9' <<<$'spans 9\nturn 3000\ncounts'
said never 'is this an Elasticsearch'

# sizes: halved until they pass, and the limit is remembered
serve always:larger-than=100000
expect too-large "$all" <<<$'spans 1000\ndrain 30000\nspans 0\ncounts'
check too-large '.documents == 1000'
serve status=429 status=429 status=429
expect refused-thrice "$all" <<<$'spans 1000\ndrain 30000\ncounts'
check refused-thrice '(.requests | map(.documents)) == [1000, 1000, 1000, 500, 500]'

# compression that breaks on the way: the third time it goes plain (curl repeats once by itself)
serve always:close-gzip
expect close-gzip "$all" <<<$'spans 1000\ndrain 30000\ncounts'
check close-gzip '(.requests[:-1] | all(.gzip)) and (.requests[-1].gzip | not) and (.requests | length <= 4)'

# a stalled server: nothing is lost, and finish keeps its deadline
serve stall=3
expect stall "$all" <<<$'spans 1000\ndrain 20000\ncounts'
serve stall=20
start=$SECONDS
expect stalled-end 'accepted=1000 acknowledged=0 duplicates=0 dead=0 memory=0 exit=1000 queued=0' \
    <<<$'spans 1000\nturn 300\nfinish 1000'
[ $((SECONDS - start)) -le 5 ] || { echo "FAIL stalled-end: took $((SECONDS - start)) s"; failed=1; }
said stalled-end 'dropped'

# memory: bounded, the newest dropped and counted (push_rows itself checks the sum), totals have room of their own
serve always:status=503
"$push" --set output.memory_bytes=1M "$url" >"$d/out" 2>"$d/err" \
    <<<$'spans 200000\ncounts\ninterval\ncounts\nmemory' || failed=1
mapfile -t line <"$d/out"
number() { local v=${2##*"$1"=}; echo "${v%% *}"; }
if [ "$(number memory "${line[0]}")" -lt 1000 ] || [ "$(number memory "${line[1]}")" != "$(number memory "${line[0]}")" ] ||
    [ "${line[2]}" -gt 40000 ]; then
    echo "FAIL memory-bound:"; cat "$d/out" "$d/err"; failed=1
fi
said memory-bound 'output.memory_bytes is full'

# redirects and unknown places are faults of the set-up: held, said
for fault in status=301 status=404 status=405; do
    serve "$fault"
    expect "$fault" "$all" <<<$'spans 1000\ndrain 20000\ncounts'
    said "$fault" 'documents wait'
done

exit $failed
