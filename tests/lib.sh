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

# Waits until the command succeeds: wait_for SECONDS COMMAND... ; says so and returns 1 when it never does.
wait_for() {
    local end=$((SECONDS + $1))
    shift
    until "$@" 2>/dev/null; do
        [ $SECONDS -lt $end ] || { echo "never came true: $*"; return 1; }
        sleep 0.05
    done
}

is_open() { (exec 3<>"/dev/tcp/127.0.0.1/$1"); }
wait_port() { wait_for "${2:-20}" is_open "$1"; } # port [seconds]
is_gone() { ! kill -0 "$1"; }
wait_gone() { wait_for "${2:-30}" is_gone "$1"; } # pid [seconds]

# Starts `sonde run` in the background with the store $scratch/s.db: watch NAME COMMAND... ; sets $sonde.
# The shell's own opening of a port to wait for it is a connection too: wait_log waits without one.
watch() {
    "$SONDE" run -o "$scratch/s.db" ${SONDE_OPTIONS:-} "$@" >"$scratch/out" 2>"$scratch/err" &
    sonde=$!
    pids+=("$sonde")
}

# Sockets of the port in these states, by /proc, so that no connection of ours is counted: has_sockets PORT STATES
has_sockets() {
    awk -v p="$(printf ':%04X' "$1")" -v states="$2" \
        'index(states, $4) && substr($2, length($2) - 4) == p {found = 1} END {exit !found}' /proc/net/tcp /proc/net/tcp6
}
listens() { has_sockets "$1" 0A; }
wait_listening() { wait_for 30 listens "$1" || { cat "$scratch/err"; return 1; }; }

# Waits until a server has seen that its clients are gone: nothing established, nothing that only the other end closed.
is_idle() { ! has_sockets "$1" 01,08; }
wait_idle() { wait_for 20 is_idle "$1" || fail "port $1: connections stay open"; }

# kill -9 of the collector of $sonde; another one has taken over afterwards, its pid is $collector.
collector_of() { pgrep -P "$1" sonde-collector | head -n 1; }
has_successor() { collector=$(collector_of "$sonde"); [ -n "$collector" ] && [ "$collector" != "$1" ]; }
replace_collector() {
    collector=$(collector_of "$sonde")
    [ -n "$collector" ] || { fail "no collector runs"; return 1; }
    kill -KILL "$collector"
    wait_for 20 has_successor "$collector" || fail "no new collector took over"
}

# What every nginx here needs to write below $scratch alone.
# shellcheck disable=SC2034
nginx_paths="client_body_temp_path $scratch/b; proxy_temp_path $scratch/p; fastcgi_temp_path $scratch/f;
    uwsgi_temp_path $scratch/u; scgi_temp_path $scratch/c;"

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
report_says() { "$SONDE" report "$scratch/s.db" --json 2>/dev/null | jq -e "$1" >/dev/null; }
until_report() { wait_for "$1" report_says "$2" || fail "the report never says $2"; } # seconds, jq condition; while the run goes on
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
