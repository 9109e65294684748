#!/bin/sh
# deps.sh - installs what a fresh Debian 12 lacks to build and test; says what; does nothing when all is there.
set -eu
build="gcc make git ca-certificates libcjson-dev libcurl4-openssl-dev libjemalloc-dev libsqlite3-dev libnghttp2-dev libdeflate-dev libdw-dev
 libelf-dev libunwind-dev libncurses-dev libmicrohttpd-dev libcmocka-dev pkg-config"
tests="g++ nginx-light redis-server redis-tools memcached haproxy lighttpd apache2 apache2-utils wrk sqlite3 jq curl clang
 libclang-rt-14-dev clang-format clang-tidy cppcheck shellcheck strace python3 nodejs default-jdk-headless maven unzip
 libtcmalloc-minimal4 libmimalloc2.0 procps psmisc util-linux man-db openssl postgresql postgresql-contrib varnish heaptrack"
missing=
for p in $build $tests; do
    dpkg-query -W -f='${Status}' "$p" 2>/dev/null | grep -q 'ok installed' && continue
    # a program that another source provides counts too
    case $p in
    nodejs) command -v node >/dev/null && continue ;;
    default-jdk-headless) command -v javac >/dev/null && continue ;;
    maven) command -v mvn >/dev/null && continue ;;
    python3) command -v python3 >/dev/null && continue ;;
    esac
    missing="$missing $p"
done
[ -n "$missing" ] || exit 0
echo "installing:$missing"
as=
[ "$(id -u)" = 0 ] || as=sudo
# servers are wanted as programs, not as services that start now
policy=/usr/sbin/policy-rc.d
made=
if [ ! -e $policy ]; then
    printf '#!/bin/sh\nexit 101\n' | $as tee $policy >/dev/null
    $as chmod +x $policy
    made=1
fi
trap '[ -z "$made" ] || $as rm -f $policy' EXIT
$as apt-get update -q >/dev/null
# shellcheck disable=SC2086
DEBIAN_FRONTEND=noninteractive $as apt-get install -yq --no-install-recommends $missing >/tmp/sonde-deps.log 2>&1 || {
    echo "deps: apt-get failed, its last lines:" >&2
    tail -20 /tmp/sonde-deps.log >&2
    exit 1
}
