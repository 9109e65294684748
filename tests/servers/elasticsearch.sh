#!/usr/bin/env bash
# elasticsearch.sh fetch | start DIR | stop DIR - a real Elasticsearch on one node of 127.0.0.1, for tests.
#
# fetch gets the archive from Maven Central into ${SONDE_CACHE:-$HOME/.cache/sonde-tests} (once, checked).
# start picks free ports (or takes those of the last start in DIR, with its data), returns when the server answers,
# and leaves in DIR: url, pid, and with security on: password (of user elastic), ca.crt.
#   ES_SECURITY=1   passwords, API keys and TLS      ES_YML=FILE   more lines for elasticsearch.yml
# As root the server runs as nobody: it refuses to be root.
set -euo pipefail
umask 022
version=8.19.3
sum=c4b08b70523700efde9f3e4c9287229f085c2c0db1efca5c6a7d65abbdb9f2e1
cache=${SONDE_CACHE:-$HOME/.cache/sonde-tests}
zip=$cache/elasticsearch-$version.zip
here=$(cd "$(dirname "$0")" && pwd)

fetch() {
    [ -s "$zip" ] && return
    mkdir -p "$cache"
    local d
    d=$(mktemp -d "$cache/get.XXXXXX")
    mvn -q -B dependency:copy -DoutputDirectory="$d" \
        -Dartifact=org.elasticsearch.distribution.integ-test-zip:elasticsearch:$version:zip >&2
    echo "$sum  $d/elasticsearch-$version.zip" | sha256sum -c --quiet >&2
    mv "$d/elasticsearch-$version.zip" "$zip"
    rm -rf "$d"
}

free_ports() { # count: ports that nobody listens on, all different
    python3 - "$1" <<'PY'
import socket, sys
s = [socket.socket() for _ in range(int(sys.argv[1]))]
for x in s: x.bind(("127.0.0.1", 0))
print(*[x.getsockname()[1] for x in s])
PY
}

stop() {
    local pid
    pid=$(cat "$1/pid" 2>/dev/null) || return 0
    grep -qaF "es.path.home=$1/" "/proc/$pid/cmdline" 2>/dev/null || return 0
    kill "$pid" 2>/dev/null || return 0
    for _ in $(seq 100); do
        [ -d "/proc/$pid" ] || return 0
        sleep 0.1
    done
    kill -9 "$pid"
}

certificates() { # an authority of our own, and a certificate of it for the server
    local key="-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
    # shellcheck disable=SC2086
    (
        cd "$1/config/certs"
        openssl req -x509 $key -days 30 -subj /CN=test-ca -addext basicConstraints=critical,CA:TRUE \
            -addext keyUsage=keyCertSign -keyout "$1/ca.key" -out "$1/ca.crt"
        openssl req $key -subj /CN=localhost -keyout n.key -out n.csr
        openssl x509 -req -in n.csr -CA "$1/ca.crt" -CAkey "$1/ca.key" -CAcreateserial -days 30 -out n.crt \
            -extfile <(echo subjectAltName=DNS:localhost,IP:127.0.0.1)
    ) 2>"$1/openssl.log" || { cat "$1/openssl.log" >&2; return 1; }
}

# The archive lacks the analysis module that the index of API keys needs; these few lines of ours stand in for it.
analysis_plugin() {
    local java=$2 home=$3
    mkdir -p "$1/plugin" "$home/plugins/sonde"
    "$java/bin/javac" -nowarn -cp "$home/lib/*" -d "$1/plugin" "$here/KeyIndexAnalysis.java"
    "$java/bin/jar" cf "$home/plugins/sonde/sonde.jar" -C "$1/plugin" .
    printf '%s\n' name=sonde description=analysis version=1 elasticsearch.version=$version java.version=17 \
        classname=sonde.KeyIndexAnalysis >"$home/plugins/sonde/plugin-descriptor.properties"
}

configure() {
    local http transport
    [ -s "$1/ports" ] || free_ports 2 >"$1/ports"
    read -r http transport <"$1/ports"
    {
        printf '%s\n' "cluster.name: sonde" "node.name: one" "path.data: $1/data" "path.logs: $1/logs" \
            "network.host: 127.0.0.1" "http.port: $http" "transport.port: $transport" \
            "discovery.type: single-node" "cluster.routing.allocation.disk.threshold_enabled: false" \
            "xpack.security.autoconfiguration.enabled: false"
        if [ "${ES_SECURITY:-0}" = 1 ]; then
            printf '%s\n' "xpack.security.enabled: true" "xpack.security.http.ssl.enabled: true" \
                "xpack.security.http.ssl.key: certs/n.key" "xpack.security.http.ssl.certificate: certs/n.crt"
            echo "https://127.0.0.1:$http" >"$1/url"
        else
            echo "xpack.security.enabled: false"
            echo "http://127.0.0.1:$http" >"$1/url"
        fi
        [ -z "${ES_YML:-}" ] || cat "$ES_YML"
    } >"$1/config/elasticsearch.yml"
}

start() {
    local dir=$1 home=$1/elasticsearch-$version java as=()
    java=$(dirname "$(dirname "$(readlink -f "$(command -v javac)")")")
    fetch
    mkdir -p "$dir"/{config/jvm.options.d,config/certs,data,logs,tmp}
    chmod 755 "$dir"
    if [ ! -x "$home/bin/elasticsearch" ]; then
        unzip -q -o "$zip" -d "$dir"
        cp -rn "$home/config/." "$dir/config/"
        [ "${ES_SECURITY:-0}" = 0 ] || { certificates "$dir" && analysis_plugin "$dir" "$java" "$home"; }
    fi
    configure "$dir"
    if [ "$(id -u)" = 0 ]; then
        chown -R nobody:nogroup "$dir"/{config,data,logs,tmp}
        chown nobody:nogroup "$dir"
        as=(setpriv --reuid=nobody --regid=nogroup --clear-groups)
    fi
    run() {
        (cd "$dir" && env -i PATH=/usr/bin:/bin HOME="$dir" HOSTNAME=localhost ES_JAVA_HOME="$java" \
            ES_PATH_CONF="$dir/config" ES_TMPDIR="$dir/tmp" CLI_JAVA_OPTS=-XX:TieredStopAtLevel=1 \
            ES_JAVA_OPTS="-Xms256m -Xmx512m -XX:TieredStopAtLevel=1 -XX:-AlwaysPreTouch -XX:-UseG1GC -XX:+UseSerialGC" \
            ${as[@]+"${as[@]}"} "$@")
    }
    local auth=()
    if [ "${ES_SECURITY:-0}" = 1 ]; then
        [ -s "$dir/password" ] || echo "pw-$RANDOM$RANDOM$RANDOM" >"$dir/password"
        [ -f "$dir/config/elasticsearch.keystore" ] || tr -d '\n' <"$dir/password" |
            run "$home/bin/elasticsearch-keystore" add -x -f bootstrap.password
        auth=(--cacert "$dir/ca.crt" -u "elastic:$(cat "$dir/password")")
    fi
    rm -f "$dir/pid"
    run "$home/bin/elasticsearch" -d -p "$dir/pid" >"$dir/logs/start.log" 2>&1 </dev/null || {
        tail -n 30 "$dir/logs/start.log" >&2
        return 1
    }
    for _ in $(seq 300); do
        curl -sf -m 5 -o /dev/null ${auth[@]+"${auth[@]}"} "$(cat "$dir/url")/_cluster/health" && return
        sleep 0.2
    done
    tail -n 30 "$dir/logs/start.log" >&2
    stop "$dir"
    return 1
}

case ${1:-} in
fetch) fetch ;;
start | stop) "$1" "$(realpath -m "$2")" ;;
*) sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 2 ;;
esac
