#!/usr/bin/env bash
# e2e_elasticsearch_security.sh - the sink against a real Elasticsearch with TLS, passwords and API keys: what is right
# arrives, what is wrong waits and is said with its remedy, secrets are in no message and no argument.
set -u
cd "$(dirname "$0")/.." || exit 1
d=$(mktemp -d)
chmod 755 "$d"
# shellcheck source=tests/servers/pushing.bash
. tests/servers/pushing.bash
server=tests/servers/elasticsearch.sh
trap 'push_stop; bash $server stop "$d/es"; rm -rf "$d"' EXIT
command -v mvn >/dev/null || { echo "no Maven to get Elasticsearch with"; exit 77; }
ES_SECURITY=1 bash $server start "$d/es" || { echo "Elasticsearch did not start"; exit 1; }
url=$(cat "$d/es/url") ca=$d/es/ca.crt password=$(cat "$d/es/password")
auth=(--cacert "$ca" -u "elastic:$password")
fast=(--set output.wait_ms=100)
note "started"

key() { # file, privileges as JSON: an API key of user elastic; the index of keys may need a moment
    for _ in $(seq 20); do
        post /_security/api_key "{\"name\":\"k\",\"role_descriptors\":{\"r\":$2}}" | jq -er .encoded >"$1" && return
        sleep 0.5
    done
    fail "no API key"
}
writer='{"cluster":["monitor"],"indices":[{"names":["logs-sonde.*","metrics-sonde.*"],
    "privileges":["create_doc","auto_configure","view_index_metadata"]}]}'
spans_only='{"cluster":["monitor"],"indices":[{"names":["logs-sonde.*"],
    "privileges":["create_doc","auto_configure","view_index_metadata"]}]}'
key "$d/writer.key" "$writer"
key "$d/spans.key" "$spans_only"
note "keys made"

note "an authority that nobody knows, no credentials, a wrong password: said, and nothing arrives"
"$BUILD/tests/push_rows" --check "$url" >"$d/check" && fail "check without the authority's file said yes"
grep -q "certificate problem.*ca_file" "$d/check" || fail "unknown authority: $(cat "$d/check")"
"$BUILD/tests/push_rows" --check "http${url#https}" >"$d/check" && fail "check by plain http said yes"
grep -q "does it want https?" "$d/check" || fail "plain http: $(cat "$d/check")"
"$BUILD/tests/push_rows" --ca "$ca" --check "$url" >"$d/check" && fail "check without credentials said yes"
grep -q "401 with no credentials: .*SONDE_API_KEY" "$d/check" || fail "no credentials: $(cat "$d/check")"
"$BUILD/tests/push_rows" --ca "$d/none" --check "$url" >"$d/check" && fail "a missing authority's file was taken"
grep -q "$d/none: No such file" "$d/check" || fail "missing file: $(cat "$d/check")"

note "a key that may only write, before the templates are there: it waits until somebody sets them up"
push_begin "${fast[@]}" --ca "$ca" --key "$d/writer.key" --namespace early "$url"
tell "spans 100" "turn 1500"
is "without templates" "$(counts)" "accepted=100 acknowledged=0 duplicates=0 dead=0 memory=0 exit=0 queued=100"
said "403, an API key may not set up index templates, and they are missing; run .sonde check --output"
SONDE_USER=elastic SONDE_PASSWORD=$password "$BUILD/tests/push_rows" --ca "$ca" --check "$url" >"$d/check" ||
    fail "check as elastic: $(cat "$d/check")"
grep -q "Elasticsearch 8.19.3, with user elastic" "$d/check" || fail "check as elastic: $(cat "$d/check")"
tell "drain 40000"
is "with templates" "$(counts)" "accepted=100 acknowledged=100 duplicates=0 dead=0 memory=0 exit=0 queued=0"
push_end 1000

note "a password that is wrong, and is then set right in its file"
echo "not-the-password" >"$d/password"
push_begin "${fast[@]}" --ca "$ca" --user elastic --password "$d/password" --namespace wrong "$url"
tell "spans 100" "turn 1500"
is "wrong password" "$(number queued "$(counts)")" 100
said "401 with user elastic: security_exception: unable to authenticate user \[elastic\]"
echo "$password" >"$d/password"
tr '\0' '\n' <"/proc/$pusher/cmdline" | grep -q "$password" && fail "the password is among the arguments"
tell "drain 40000"
is "right password" "$(counts)" "accepted=100 acknowledged=100 duplicates=0 dead=0 memory=0 exit=0 queued=0"
said_not "$password"
said_not "not-the-password"
push_end 1000

note "the environment's key, without a file"
is "key of the environment" "$(SONDE_API_KEY=$(cat "$d/writer.key") "$BUILD/tests/push_rows" "${fast[@]}" --ca "$ca" \
    --namespace environment "$url" <<<$'spans 100\ninterval\ndrain 20000\ncounts' 2>"$d/err")" \
    "accepted=105 acknowledged=105 duplicates=0 dead=0 memory=0 exit=0 queued=0"

note "rights for spans alone: totals wait, spans arrive"
push_begin "${fast[@]}" --ca "$ca" --key "$d/spans.key" --namespace half "$url"
tell "spans 100" interval "turn 3000"
line=$(counts)
is "spans" "$(number acknowledged "$line")" 100
is "totals" "$(number queued "$line")" 5
said "metrics-sonde.endpoint-half: .*security_exception.*create_doc"
push_end 500
is "at the end" "$(number exit "$last")" 5
is "stored" "$(stored logs-sonde.span-half)" 100

note "a key that is revoked while the sink runs"
key "$d/short.key" "$writer"
push_begin "${fast[@]}" --ca "$ca" --key "$d/short.key" --namespace revoked "$url"
tell "spans 100" "drain 20000"
is "before" "$(number acknowledged "$(counts)")" 100
id=$(base64 -d <"$d/short.key" | cut -d: -f1)
curl -s "${auth[@]}" -X DELETE -H 'Content-Type: application/json' -d "{\"ids\":[\"$id\"]}" "$url/_security/api_key" >"$d/out"
tell "spans 100" "turn 2000"
is "revoked" "$(number queued "$(counts)")" 100
said "401 with an API key"
cp "$d/writer.key" "$d/short.key"
tell "drain 60000"
is "another key" "$(counts)" "accepted=200 acknowledged=200 duplicates=0 dead=0 memory=0 exit=0 queued=0"
push_end 1000

note "end"
exit $failed
