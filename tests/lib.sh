# lib.sh - what the end-to-end tests share: scratch folder, ports, servers under sonde, comparison of reports.
# shellcheck shell=bash
set -u
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
BUILD=${BUILD:-build}
case $BUILD in /*) ;; *) BUILD=$ROOT/$BUILD ;; esac
SONDE=$BUILD/sonde
scratch=$(mktemp -d "${TMPDIR:-/tmp}/sonde-test.XXXXXX")
chmod 755 "$scratch"
pids=()
failures=0

cleanup() {
    local p
    for p in "${pids[@]+"${pids[@]}"}"; do kill -KILL "$p" 2>/dev/null; done
    [ -n "${KEEP:-}" ] && echo "kept: $scratch" || rm -rf "$scratch"
}
trap cleanup EXIT

skip() { echo "$*"; exit 77; }
fail() { echo "FAILED: $*"; failures=$((failures + 1)); }
need() { local c; for c in "$@"; do command -v "$c" >/dev/null || skip "$c is not installed"; done; }
is() { # what got want
    if [ "$2" = "$3" ]; then echo "ok: $1 = $2"; else fail "$1 is '$2', should be '$3'"; fi
}
finish() { [ "$failures" = 0 ] || { echo "$failures failures"; exit 1; }; exit 0; }

free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

wait_port() { # port [seconds]
    local i
    for ((i = 0; i < ${2:-20} * 20; i++)); do
        (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null && return 0
        sleep 0.05
    done
    echo "nothing listens on port $1"
    return 1
}

wait_gone() { # pid [seconds]
    local i
    for ((i = 0; i < ${2:-30} * 20; i++)); do
        kill -0 "$1" 2>/dev/null || return 0
        sleep 0.05
    done
    return 1
}

# Starts `sonde run` in the background with the store $scratch/s.db: watch NAME COMMAND... ; sets $sonde.
# The shell's own opening of a port to wait for it is a connection too: wait_log waits without one.
watch() {
    "$SONDE" run -o "$scratch/s.db" ${SONDE_OPTIONS:-} "$@" >"$scratch/out" 2>"$scratch/err" &
    sonde=$!
    pids+=("$sonde")
}

# Waits until something listens on the port, by /proc, so that no connection of ours is counted.
wait_listening() {
    local hex i
    hex=$(printf '%04X' "$1")
    for ((i = 0; i < 600; i++)); do
        awk -v p=":$hex" '$4 == "0A" && substr($2, length($2) - 4) == p {found = 1} END {exit !found}' \
            /proc/net/tcp /proc/net/tcp6 2>/dev/null && return 0
        sleep 0.05
    done
    echo "nothing listens on port $1"; cat "$scratch/err"
    return 1
}

# Apache with its event MPM, serving $scratch/www: apache_conf PORT.
apache_conf() {
    cat <<C
ServerRoot "$scratch"
ServerName localhost
PidFile $scratch/apache.pid
Listen 127.0.0.1:$1
LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
ErrorLog $scratch/logs/error
DocumentRoot $scratch/www
User www-data
Group www-data
C
}

report() { "$SONDE" report "$scratch/s.db" --json "$@" >"$scratch/report.json" || fail "sonde report: exit $?"; }
q() { jq -r "$1" "$scratch/report.json"; }

# The sums of the report's contract, and the verdict when given.
check_sums() {
    jq -r '
    def s(f): map(f) | add // 0;
    def row(name; a; b): if a == b then empty else "\(name): \(a) against \(b)" end;
    row("bytes in of endpoints + outside, of connections"; (.endpoints | s(.bytes_in)) + .outside.bytes_in; .connections.bytes_in),
    row("bytes out of endpoints + outside, of connections"; (.endpoints | s(.bytes_out)) + .outside.bytes_out; .connections.bytes_out),
    (if .outside.allocated_bytes == null then empty else
    row("allocated by endpoints + outside, by processes"; (.endpoints | s(.heap.allocated_bytes)) + .outside.allocated_bytes; .processes | s(.allocated_bytes)),
    row("freed by endpoints + outside, by processes"; (.endpoints | s(.heap.freed_bytes)) + .outside.freed_bytes; .processes | s(.freed_bytes)),
    row("allocations of endpoints + outside, of processes"; (.endpoints | s(.heap.allocations)) + .outside.allocations; .processes | s(.allocations)) end),
    (if .outside.cpu_ns == null then empty else
    row("CPU of endpoints + outside, of processes"; (.endpoints | s(.cpu_ns // 0)) + .outside.cpu_ns; .processes | s(.cpu_ns // 0)) end),
    (.endpoints[] | select(.waits_ns != null and .cpu_wall_ns != null) |
    row("\(.side) \(.endpoint): CPU + waits + unknown, latency"; .cpu_wall_ns + ([.waits_ns[] // 0] | add); .latency_ns.sum // 0)),
    row("events written, drained + lost"; .events.written; .events.drained + ([.events.lost[]] | add // 0)),
    row("documents"; .documents.carried + .documents.accepted; .documents.acknowledged + .documents.duplicates + .documents.dead + ([.documents.dropped[]] | add // 0) + .documents.queued)
    ' "$scratch/report.json" >"$scratch/sums" || fail "the report is not what jq reads"
    if [ -s "$scratch/sums" ]; then fail "sums do not hold:"; cat "$scratch/sums"; else echo "ok: the sums hold"; fi
    [ $# = 0 ] || is verdict "$(q .verdict)" "$1"
}
