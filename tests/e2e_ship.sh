#!/usr/bin/env bash
# `sonde run --to` on a real nginx and a real Elasticsearch with TLS and passwords: with a wrong password the server runs on
# and the line names the remedy; with the right one every request and every total arrives. Secrets are nowhere to be seen.
. "$(dirname "$0")/lib.sh"
need nginx ab jq curl openssl sqlite3
command -v mvn >/dev/null || skip "no Maven to get Elasticsearch with"
es=$ROOT/tests/servers/elasticsearch.sh
ES_SECURITY=1 bash "$es" start "$scratch/es" || { fail "Elasticsearch did not start"; finish; }
trap 'bash "$es" stop "$scratch/es"; cleanup' EXIT
url=$(cat "$scratch/es/url"); password=$(cat "$scratch/es/password")
auth=(--cacert "$scratch/es/ca.crt" -u "elastic:$password")
echo "hello, world" >"$scratch/hello.txt"; chmod a+rx "$scratch"; chmod a+r "$scratch/hello.txt"

serve() { # namespace, ordinary spans a second in the store: nginx under sonde --to
    port=$(free_port)
    rm -f "$scratch/access.log" "$scratch"/s.db*
    cat >"$scratch/nginx.conf" <<C
worker_processes 2;
daemon off;
pid $scratch/nginx.pid;
error_log $scratch/error.log;
events { }
http { access_log $scratch/access.log; $nginx_paths keepalive_requests 1000000; server { listen 127.0.0.1:$port; root $scratch;
location /bad { return 503; } location /users/ { return 200 "user\n"; } } }
C
    printf '{"output": [{"url": "%s", "ca_file": "%s", "namespace": "%s"}]}' "$url" "$scratch/es/ca.crt" "$1" >"$scratch/config.json"
    SONDE_OPTIONS="--config $scratch/config.json --set sampling.spans_per_second=1000000 --set store.spans_per_second=$2 --set interval.s=1" \
        watch nginx -c "$scratch/nginx.conf"
    wait_listening "$port" || exit 1
    ab -q -k -n 3000 -c 8 "http://127.0.0.1:$port/hello.txt" >"$scratch/ab" 2>&1 || fail ab
    for i in $(seq 10 29); do curl -so /dev/null "http://127.0.0.1:$port/users/$i"; done
    for i in 1 2 3; do curl -so /dev/null "http://127.0.0.1:$port/bad"; done
}
stop() {
    sleep 1.5
    pgrep -af sonde >"$scratch/ps"
    find /proc/[0-9]*/environ -maxdepth 0 -print0 2>/dev/null | while IFS= read -r -d '' f; do
        case $(cat "${f%environ}comm" 2>/dev/null) in nginx) tr '\0' '\n' <"$f" ;; esac
    done >"$scratch/environ" 2>/dev/null
    kill -QUIT "$(cat "$scratch/nginx.pid")"
    wait_gone "$sonde" 40 || fail "sonde does not end"
    wait "$sonde"; is "exit code" $? 0
    report
    is "requests in the report" "$(q '[.endpoints[].count] | add')" "$(wc -l <"$scratch/access.log")"
    is "requests" "$(wc -l <"$scratch/access.log")" 3023
    check_sums
    grep -F "$1" "$scratch/ps" "$scratch/environ" "$scratch/err" "$scratch/report.json" >/dev/null && fail "the password is in ps, in nginx's environment, in messages or in the report"
    grep -aqF "$1" "$scratch/s.db" && fail "the password is in the store"
}
ask() { curl -s -m 60 "${auth[@]}" -X POST -H 'Content-Type: application/json' "$url$1" -d "$2"; }

echo "--- wrong password"
export SONDE_USER=elastic SONDE_PASSWORD=entirely-wrong-7781
serve wrong 1000000
stop entirely-wrong-7781
grep -E '401.*(user elastic|password)' "$scratch/err" || fail "nobody says that the password is wrong: $(cat "$scratch/err")"
is "acknowledged" "$(q .documents.acknowledged)" 0
is "spans in the store, which has all if it may" "$(sqlite3 -readonly "$scratch/s.db" 'SELECT count(*) FROM span')" 3023
is "what was not delivered is counted" "$(q '.documents | (([.dropped[]] | add // 0) + .queued) > 3000')" true

echo "--- right password"
export SONDE_PASSWORD=$password
serve right 50
stop "$password"
cat "$scratch/err"
unset SONDE_USER SONDE_PASSWORD
is "everything was acknowledged" "$(q '.documents | "\(.queued) \(.dead) \([.dropped[]] | add // 0)"')" "0 0 0"
curl -s -m 60 "${auth[@]}" -X POST "$url/_refresh" | jq -e '._shards.failed == 0' >/dev/null || fail "no refresh"
is "samples that found no room" "$(q '.spans_shed | tostring')" "{}"
is "the store has a sample of its own, which stands for all" \
    "$(sqlite3 -readonly "$scratch/s.db" "SELECT round(sum(1 / rate)), count(*) < 1500, sum(failed) FROM span")" "3023.0|1|3"
is "span documents" "$(ask '/logs-sonde.span-right/_count' '{}' | jq .count)" 3023
is "requests in the totals' documents" \
    "$(ask '/metrics-sonde.endpoint-right/_search?size=0' '{"aggs": {"n": {"sum": {"field": "sonde.requests.count"}}, "e": {"sum": {"field": "sonde.requests.errors"}}, "o": {"sum": {"field": "sonde.bytes.out"}}}}' |
        jq -r '.aggregations | "\(.n.value) \(.e.value) \(.o.value)"')" "3023 3 $(q '[.endpoints[].bytes_out] | add')"
is "documents in the report and there" \
    "$(for s in logs-sonde.span metrics-sonde.endpoint metrics-sonde.process metrics-sonde.collector; do ask "/$s-right/_count" '{}' | jq .count; done | awk '{s += $1} END {print s}')" \
    "$(q .documents.acknowledged)"
is "a failed request by its fields" \
    "$(ask '/logs-sonde.span-right/_count' '{"query": {"bool": {"filter": [{"term": {"http.response.status_code": 503}}, {"term": {"url.path": "/bad"}}]}}}' | jq .count)" 3
finish
