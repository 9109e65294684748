#!/usr/bin/env bash
# e2e_opensearch.sh - the sink against a real OpenSearch: what differs from Elasticsearch (GET / tells what it is, no
# index.mode, other error types), and two hosts of which one is dead.
set -u
cd "$(dirname "$0")/.." || exit 1
d=$(mktemp -d)
# shellcheck source=tests/servers/pushing.bash
. tests/servers/pushing.bash
server=tests/servers/opensearch.sh
trap 'push_stop; bash $server stop "$d/os"; rm -rf "$d"' EXIT
command -v mvn >/dev/null || { echo "no Maven to get OpenSearch with"; exit 77; }
bash $server start "$d/os" http.max_content_length=1mb || { echo "OpenSearch did not start"; exit 1; }
url=$(cat "$d/os/url")
fast=(--set output.wait_ms=100)
note "started"

"$BUILD/tests/push_rows" --check "$url" >"$d/check" || fail "check: $(cat "$d/check")"
grep -q "OpenSearch 2.19.1, with no credentials" "$d/check" || fail "check: $(cat "$d/check")"
grep -q "index templates set up" "$d/check" || fail "check: $(cat "$d/check")"

note "documents arrive and add up, with a dead host before the living one"
push_begin "${fast[@]}" "http://127.0.0.1:1,$url"
tell "spans 5000" interval interval again "drain 60000"
is counts "$(counts)" "accepted=5013 acknowledged=5010 duplicates=3 dead=0 memory=0 exit=0 queued=0"
push_end 1000
is spans "$(stored logs-sonde.span-default)" 5000
is "sum of requests" "$(post '/metrics-sonde.endpoint-default/_search?size=0' \
    '{"aggs":{"n":{"sum":{"field":"sonde.requests.count"}}}}' | jq -r .aggregations.n.value)" 912
is "a span found by its fields" "$(get '/logs-sonde.span-default/_count?q=http.request.method:GET%20AND%20client.ip:127.0.0.1' |
    jq -r .count)" 5000
is "data stream" "$(get /_data_stream/logs-sonde.span-default | jq -r '.data_streams[0].template')" sonde-span
get /logs-sonde.span-default/_mapping >"$d/mapping"
is "type of client.ip" "$(jq -r 'first(.[]).mappings.properties.client.properties.ip.type' "$d/mapping")" ip
is dynamic "$(jq -r 'first(.[]).mappings.dynamic' "$d/mapping")" false

note "413, then a block, then the shard limit"
push_begin "${fast[@]}" --set output.bulk_bytes=4M --namespace large "$url"
tell "spans 8000" "drain 60000"
is large "$(counts)" "accepted=8000 acknowledged=8000 duplicates=0 dead=0 memory=0 exit=0 queued=0"
put '/logs-sonde.span-large/_settings' '{"index.blocks.read_only_allow_delete":true}' >"$d/out"
tell "spans 100" interval "turn 2000"
line=$(counts)
is "held spans" "$(number queued "$line")" 100
is "the others" "$(number acknowledged "$line")" 8005
said "takes nothing until its operator mends it: 429 cluster_block_exception"
put '/logs-sonde.span-large/_settings' '{"index.blocks.read_only_allow_delete":null}' >"$d/out"
tell "drain 40000"
is "after the block" "$(number queued "$(counts)")" 0
push_end 1000
put /_cluster/settings '{"persistent":{"cluster.max_shards_per_node":1}}' >"$d/out"
push_begin "${fast[@]}" --namespace crowded "$url"
tell "spans 50" "turn 2000"
is "shard limit" "$(counts)" "accepted=50 acknowledged=0 duplicates=0 dead=0 memory=0 exit=0 queued=50"
said "maximum shards open"
put /_cluster/settings '{"persistent":{"cluster.max_shards_per_node":null}}' >"$d/out"
tell "drain 40000"
is "after the shard limit" "$(number acknowledged "$(counts)")" 50
push_end 1000

note "documents that the mapping refuses are buried alone"
put /_index_template/poison '{"index_patterns":["logs-sonde.span-poison"],"priority":900,"data_stream":{},"template":{
    "mappings":{"dynamic":false,"properties":{"url":{"properties":{"path":{"type":"long"}}}}}}}' >"$d/out"
push_begin "${fast[@]}" --namespace poison "$url"
tell "spans 10" "pathless 200" "drain 30000"
is poison "$(counts)" "accepted=210 acknowledged=200 duplicates=0 dead=10 memory=0 exit=0 queued=0"
said "10 documents of logs-sonde.span-poison refused for good: 400 mapper_parsing_exception"
said_not "/users/"
push_end 1000

note "killed in the middle, started again: with a pressure limit below one body"
push_begin "${fast[@]}" --set output.bulk_bytes=256K --namespace killed "$url"
tell "spans 20000" "turn 1500" "spans 30000"
kill -9 "$(cat "$d/os/pid")"
tell "turn 1000" "spans 10000"
bash $server start "$d/os" indexing_pressure.memory.limit=150kb || fail "OpenSearch did not start again"
note "started again"
tell "drain 90000"
line=$(counts)
is queued "$(number queued "$line")" 0
is "acknowledged + duplicates" "$(($(number acknowledged "$line") + $(number duplicates "$line")))" 60000
is "stored, each once" "$(stored logs-sonde.span-killed)" 60000
push_end 1000
note "$line"

note "end"
exit $failed
