#!/usr/bin/env bash
# e2e_elasticsearch.sh - the sink against a real Elasticsearch: documents arrive, are typed right, add up; blocks, limits,
# a kill in the middle of it: nothing accepted is lost while the sink lives, and the counts say exactly what became of it.
set -u
cd "$(dirname "$0")/.." || exit 1
d=$(mktemp -d)
chmod 755 "$d"
# shellcheck source=tests/servers/pushing.bash
. tests/servers/pushing.bash
server=tests/servers/elasticsearch.sh
trap 'push_stop; bash $server stop "$d/es"; rm -rf "$d"' EXIT
command -v mvn >/dev/null || { echo "no Maven to get Elasticsearch with"; exit 77; }
bash $server start "$d/es" || { echo "Elasticsearch did not start"; exit 1; }
url=$(cat "$d/es/url")
note "started"
# what is lost by a kill of the server must be our fault, not that of a disk that had no time
fast=(--set output.wait_ms=100)

note "check: nothing is there yet, then it is"
"$BUILD/tests/push_rows" --check "$url" >"$d/check" || fail "check: $(cat "$d/check")"
grep -q "Elasticsearch 8.19.3, with no credentials" "$d/check" || fail "check: $(cat "$d/check")"
grep -q "index templates set up" "$d/check" || fail "check: $(cat "$d/check")"
"$BUILD/tests/push_rows" --check "$url" | grep -q "index templates in place" || fail "check the second time"
"$BUILD/tests/push_rows" --check http://127.0.0.1:1 >"$d/check" && fail "check of a closed port said yes"
grep -q "FAULT: .*connect" "$d/check" || fail "check of a closed port: $(cat "$d/check")"

note "documents arrive and add up"
push_begin "${fast[@]}" --set output.bulk_bytes=256K "$url"
tell "spans 5000" interval "spans 5000" interval interval "drain 30000"
is counts "$(counts)" "accepted=10015 acknowledged=10015 duplicates=0 dead=0 memory=0 exit=0 queued=0"
tell again "drain 30000" # as after a crash: the same totals of the same interval
is repeat "$(counts)" "accepted=10018 acknowledged=10015 duplicates=3 dead=0 memory=0 exit=0 queued=0"
push_end 5000
is spans "$(stored logs-sonde.span-default)" 10000
is totals "$(stored metrics-sonde.endpoint-default)" 9
is processes "$(stored metrics-sonde.process-default)" 3
is health "$(stored metrics-sonde.collector-default)" 5
requests=$(post '/metrics-sonde.endpoint-default/_search?size=0' '{"aggs":{"n":{"sum":{"field":"sonde.requests.count"}}}}')
is "sum of requests" "$(jq -r .aggregations.n.value <<<"$requests")" 1818
exact=$(get '/metrics-sonde.endpoint-default/_search?size=1&filter_path=hits.hits._source.sonde.bytes.out')
[[ $exact == *9007199254740993* ]] || fail "2^53 + 1 came back as $exact"

note "mappings"
get /logs-sonde.span-default/_mapping >"$d/mapping"
type_of() { jq -r "first(.[]).mappings.properties.$1.type" "$d/mapping"; }
is "type of duration" "$(type_of event.properties.duration)" long
is "type of client.ip" "$(type_of client.properties.ip)" ip
is "type of endpoint" "$(type_of sonde.properties.endpoint)" keyword
is "type of @timestamp" "$(jq -r 'first(.[]).mappings.properties["@timestamp"].type' "$d/mapping")" date
is dynamic "$(jq -r 'first(.[]).mappings.dynamic' "$d/mapping")" false
is index.mode "$(get /logs-sonde.span-default/_settings | jq -r 'first(.[]).settings.index.mode')" standard
is "a span found by its fields" "$(get '/logs-sonde.span-default/_count?q=http.request.method:GET%20AND%20client.ip:127.0.0.1' |
    jq -r .count)" 10000
size=$(get '/logs-sonde.span-default/_search?size=1' | jq -c '.hits.hits[0]._source' | wc -c)
[ "$size" -le 550 ] || fail "a span's document has $size bytes"

note "the whole line: every request of a real nginx under ab"
mkdir "$d/html"
echo hello >"$d/html/index.html"
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
cat >"$d/nginx.conf" <<CONF
daemon off; pid $d/nginx.pid; error_log $d/nginx.err; worker_processes 2; events { worker_connections 256; }
http { log_format bytes '\$bytes_sent'; access_log $d/access.log bytes; server { listen 127.0.0.1:$port; root $d/html; } }
CONF
SONDE_API_KEY=not-asked-for "$BUILD/sonde" run -o "$d/line.db" --to "$url" --set sampling.spans_per_second=1000000 \
    --set exit.flush_s=30 -- nginx -c "$d/nginx.conf" >"$d/line.out" 2>&1 &
line_pid=$!
for _ in $(seq 100); do curl -s -o /dev/null "http://127.0.0.1:$port/" && break; sleep 0.1; done
ab -q -n 5000 -c 8 -k "http://127.0.0.1:$port/index.html" >"$d/ab.out" 2>&1 || fail "ab: $(tail -n 3 "$d/ab.out")"
worker=$(pgrep -P "$(cat "$d/nginx.pid")" | head -n 1)
tr '\0' '\n' <"/proc/$worker/environ" | grep -q SONDE_API_KEY && fail "nginx has the API key in its environment"
kill "$(cat "$d/nginx.pid")"
wait "$line_pid" || fail "sonde run: $? $(cat "$d/line.out")"
requests=$(wc -l <"$d/access.log")
sent=$(awk '{n += $1} END {print n}' "$d/access.log")
is "spans of nginx" "$(post /_refresh '' >"$d/out"; get "/logs-sonde.span-default/_count?q=service.name:nginx%20AND%20http.response.status_code:200%20AND%20NOT%20host.name:test-host" | jq -r .count)" "$requests"
line=$(post '/metrics-sonde.endpoint-default/_search?size=0' '{"query":{"bool":{"must_not":{"term":{"host.name":"test-host"}}}},
    "aggs":{"n":{"sum":{"field":"sonde.requests.count"}},"out":{"sum":{"field":"sonde.bytes.out"}}}}')
is "requests of nginx" "$(jq -r .aggregations.n.value <<<"$line")" "$requests"
is "bytes of nginx" "$(jq -r .aggregations.out.value <<<"$line")" "$sent"
"$BUILD/sonde" report "$d/line.db" --json | jq -e '.documents | .accepted == .acknowledged and .queued == 0' >"$d/out" ||
    fail "documents of the report: $("$BUILD/sonde" report "$d/line.db" --json | jq -c .documents)"

note "the collector is killed twice: totals that it had not delivered are delivered by the next one"
killed_collector() { # waits until what it counted is stored, then kills it before its interval ends
    sleep 2.5
    collector=$(pgrep -f "sonde-collector.*$d/killed.db" | head -n 1)
    kill -KILL "$collector"
    for _ in $(seq 100); do
        next=$(pgrep -f "sonde-collector.*$d/killed.db" | head -n 1)
        [ -n "$next" ] && [ "$next" != "$collector" ] && return
        sleep 0.1
    done
    fail "no collector took over"
}
: >"$d/access.log"
"$BUILD/sonde" run -o "$d/killed.db" --to "$url" --set interval.s=30 --set exit.flush_s=30 --name killed \
    -- nginx -c "$d/nginx.conf" >"$d/killed.out" 2>&1 &
line_pid=$!
for _ in $(seq 100); do curl -s -o /dev/null "http://127.0.0.1:$port/" && break; sleep 0.1; done
ab -q -n 3000 -c 8 -k "http://127.0.0.1:$port/index.html" >"$d/ab.out" 2>&1 || fail "ab: $(tail -n 3 "$d/ab.out")"
killed_collector
curl -s -o "$d/out" "http://127.0.0.1:$port/missing" # another order of endpoints
ab -q -n 2000 -c 8 -k "http://127.0.0.1:$port/index.html" >"$d/ab.out" 2>&1 || fail "ab: $(tail -n 3 "$d/ab.out")"
killed_collector
ab -q -n 1000 -c 8 -k "http://127.0.0.1:$port/index.html" >"$d/ab.out" 2>&1 || fail "ab: $(tail -n 3 "$d/ab.out")"
kill "$(cat "$d/nginx.pid")"
wait "$line_pid" || fail "sonde run: $? $(cat "$d/killed.out")"
post /_refresh '' >"$d/out"
line=$(post '/metrics-sonde.endpoint-default/_search?size=0' '{"query":{"term":{"service.name":"killed"}},
    "aggs":{"n":{"sum":{"field":"sonde.requests.count"}}}}')
is "requests in documents after two deaths" "$(jq -r .aggregations.n.value <<<"$line")" "$(wc -l <"$d/access.log")"
is "requests in the store after two deaths" "$("$BUILD/sonde" report "$d/killed.db" --json | jq '[.endpoints[].count] | add')" \
    "$(wc -l <"$d/access.log")"

note "a block of one index holds its stream, the others go on"
put '/logs-sonde.span-default/_settings' '{"index.blocks.read_only_allow_delete":true}' >"$d/out"
push_begin "${fast[@]}" --run block "$url"
tell "spans 100" interval "turn 3000"
line=$(counts)
is "held spans" "$(number queued "$line")" 100
is "the others" "$(number acknowledged "$line")" 5
said "takes nothing until its operator mends it: 429 cluster_block_exception"
put '/logs-sonde.span-default/_settings' '{"index.blocks.read_only_allow_delete":null}' >"$d/out"
tell "drain 40000"
is "after the block" "$(counts)" "accepted=105 acknowledged=105 duplicates=0 dead=0 memory=0 exit=0 queued=0"
said "takes documents again"
push_end 1000

note "no more shards allowed: 400, and yet no document is to blame"
put /_cluster/settings '{"persistent":{"cluster.max_shards_per_node":1}}' >"$d/out"
push_begin "${fast[@]}" --namespace crowded "$url"
tell "spans 50" "turn 3000"
is "shard limit" "$(counts)" "accepted=50 acknowledged=0 duplicates=0 dead=0 memory=0 exit=0 queued=50"
said "maximum normal shards open"
put /_cluster/settings '{"persistent":{"cluster.max_shards_per_node":null}}' >"$d/out"
tell "drain 40000"
is "after the shard limit" "$(counts)" "accepted=50 acknowledged=50 duplicates=0 dead=0 memory=0 exit=0 queued=0"
push_end 1000

note "the whole cluster read-only"
put /_cluster/settings '{"persistent":{"cluster.blocks.read_only":true}}' >"$d/out"
push_begin "${fast[@]}" --run readonly "$url"
tell "spans 50" "turn 2000"
is "read-only" "$(number queued "$(counts)")" 50
said "403 cluster_block_exception"
put /_cluster/settings '{"persistent":{"cluster.blocks.read_only":null}}' >"$d/out"
tell "drain 40000"
is "after read-only" "$(counts)" "accepted=50 acknowledged=50 duplicates=0 dead=0 memory=0 exit=0 queued=0"
push_end 1000

note "documents that the mapping refuses are buried alone"
put /_index_template/poison '{"index_patterns":["logs-sonde.span-poison"],"priority":900,"data_stream":{},"template":{
    "mappings":{"dynamic":false,"properties":{"url":{"properties":{"path":{"type":"long"}}}}}}}' >"$d/out"
push_begin "${fast[@]}" --namespace poison "$url"
tell "spans 10" "pathless 200" "spans 10" "drain 30000"
is poison "$(counts)" "accepted=220 acknowledged=200 duplicates=0 dead=20 memory=0 exit=0 queued=0"
said "20 documents of logs-sonde.span-poison refused for good: 400 document_parsing_exception: failed to parse field \[url.path\] of type \[long\];"
said_not "/users/"
push_end 1000

note "killed in the middle, started again with narrow limits"
push_begin "${fast[@]}" --set output.bulk_bytes=256K --run killed --namespace killed "$url"
tell "spans 20000" "turn 2000" "spans 60000"
kill -9 "$(cat "$d/es/pid")"
tell "turn 2000" "spans 20000"
is "nothing is lost while it is down" "$(number memory "$(counts)")" 0
said "documents wait"
printf '%s\n' "indexing_pressure.memory.limit: 150kb" "http.max_content_length: 1mb" >"$d/narrow.yml"
ES_YML=$d/narrow.yml bash $server start "$d/es" || fail "Elasticsearch did not start again"
note "started again"
tell "drain 90000"
line=$(counts)
is "accepted" "$(number accepted "$line")" 100000
is "dead" "$(number dead "$line")" 0
is "queued" "$(number queued "$line")" 0
is "acknowledged + duplicates" "$(($(number acknowledged "$line") + $(number duplicates "$line")))" 100000
is "stored, each once" "$(stored logs-sonde.span-killed)" 100000
push_end 1000
note "$line"

note "429: bodies above the indexing-pressure limit (150 kB) get smaller until they pass"
push_begin "${fast[@]}" --set output.bulk_bytes=900K --namespace pressure "$url"
tell "spans 4000" "drain 60000"
is pressure "$(counts)" "accepted=4000 acknowledged=4000 duplicates=0 dead=0 memory=0 exit=0 queued=0"
is "stored under pressure" "$(stored logs-sonde.span-pressure)" 4000
push_end 1000
note "413: the limit counts what gzip unpacks to"
push_begin "${fast[@]}" --set output.bulk_bytes=4M --namespace large "$url"
tell "spans 8000" "drain 60000"
is large "$(counts)" "accepted=8000 acknowledged=8000 duplicates=0 dead=0 memory=0 exit=0 queued=0"
is "stored, once cut" "$(stored logs-sonde.span-large)" 8000
push_end 1000

note "a dead destination: the end keeps its deadline, what is left is counted"
bash $server stop "$d/es"
push_begin "${fast[@]}" "$url"
tell "spans 1000" "turn 500"
start=$SECONDS
push_end 2000
is "a dead destination" "$last" "accepted=1000 acknowledged=0 duplicates=0 dead=0 memory=0 exit=1000 queued=0"
[ $((SECONDS - start)) -lt 60 ] || fail "the end took $((SECONDS - start)) s"
said "Couldn't connect\|Connection refused\|Failed to connect"

note "end"
exit $failed
