#!/usr/bin/env bash
# Trouble at the start and during the run: the command runs on, one clear line names the remedy, exit codes are as documented.
. "$(dirname "$0")/lib.sh"
need nginx ab jq curl python3
cd "$scratch" || exit 1
rc() { "$@" >"$scratch/o" 2>"$scratch/e"; echo $?; }
says() { # what pattern: one line of the last command's stderr matches
    if grep -Eq "$2" "$scratch/e"; then echo "ok: $1"; else fail "$1: stderr says: $(cat "$scratch/e")"; fi
}
nginx_conf() { # port: writes $scratch/nginx.conf
    echo "hello, world" >"$scratch/hello.txt"
    chmod -R a+rX "$scratch"
    cat >"$scratch/nginx.conf" <<C
worker_processes 2;
pid $scratch/nginx.pid;
error_log $scratch/error.log;
events { }
http { access_log $scratch/access.log; $nginx_paths keepalive_requests 1000000; server { listen 127.0.0.1:$1; root $scratch; } }
C
    rm -f "$scratch/access.log" "$scratch"/s.db*
}
load() { ab -q -k -n "$2" -c 8 "http://127.0.0.1:$1/hello.txt" >"$scratch/ab" 2>&1 || fail "ab: $(tail -3 "$scratch/ab")"; }
requests() { q '[.endpoints[] | select(.side == "server") | .count] | add'; }

daemon() { # nginx turns itself into a daemon: followed until its last process is gone
    local port; port=$(free_port); nginx_conf "$port"
    watch nginx -c "$scratch/nginx.conf"
    wait_listening "$port" || return
    load "$port" 1000
    until_report 20 '[.endpoints[].count] | add == 1000'
    kill -0 "$sonde" 2>/dev/null || fail "sonde ended while the daemon serves"
    report
    is "the run of a daemon goes on" "$(q .run.running)" true
    load "$port" 1000
    kill -QUIT "$(cat "$scratch/nginx.pid")"
    wait_gone "$sonde" 20 || fail "sonde does not end after the daemon"
    wait "$sonde"; is "exit code of a daemon's first process" $? 0
    report
    is "requests to a daemon" "$(requests)" 2000
    check_sums complete
    # by hand: double fork, session of its own, standard streams closed
    cat >"$scratch/twice.py" <<'C'
import os, socket, sys, time
if os.fork(): os._exit(9)
os.setsid()
if os.fork(): os._exit(0)
for fd in range(3): os.close(fd)
os.open("/dev/null", os.O_RDWR); os.dup(0); os.dup(0)
os.chdir("/")
s = socket.create_server(("127.0.0.1", int(sys.argv[1])))
for i in range(3):
    c = s.accept()[0]
    c.recv(4096); c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"); c.close()
time.sleep(1)
C
    port=$(free_port); rm -f "$scratch"/s.db*
    watch /usr/bin/python3 "$scratch/twice.py" "$port"
    wait_listening "$port" || return
    for i in 1 2 3; do is "answer $i of the daemon" "$(curl -s "http://127.0.0.1:$port/x")" ok; done
    wait "$sonde"; is "exit code of the process that was started" $? 9
    report
    is "requests to the process in its own session" "$(requests)" 3
    check_sums complete
}

no_collector() { ! pgrep -f "sonde-collector.*$scratch/s.db" >/dev/null; }

exec_() { # --exec: the command takes sonde's place, as supervisors want it
    local port; port=$(free_port); nginx_conf "$port"
    SONDE_OPTIONS="--exec" watch nginx -c "$scratch/nginx.conf" -g 'daemon off;'
    wait_listening "$port" || return
    is "the process that was started" "$(cat "/proc/$sonde/comm")" nginx
    is "nginx's own pid" "$(cat "$scratch/nginx.pid")" "$sonde"
    load "$port" 500
    kill -QUIT "$sonde"
    wait "$sonde"; is "exit code with --exec" $? 0
    wait_for 20 no_collector
    report
    is "requests with --exec" "$(requests)" 500
    check_sums complete
    is "exit code 7 with --exec" "$(rc "$SONDE" run -o x.db --quiet --exec sh -c 'exit 7')" 7
    is "not found with --exec" "$(rc "$SONDE" run -o x.db --exec no-such-program)" 127
    is "not executable with --exec" "$(rc "$SONDE" run -o x.db --exec ./hello.txt)" 126
    says "which is named" 'hello.txt'
}

reaped() { [ -s "$scratch/ps" ] && ! grep -qE '^Z|sleep$' "$scratch/ps"; }

pid_one() { # in a PID namespace: signals passed on, orphans reaped, the command's code within 2 s
    unshare -pf --mount-proc true 2>/dev/null || { echo "no PID namespaces here"; return; }
    cat >"$scratch/one.sh" <<'C'
trap 'echo term; exit 33' TERM
(sleep 0.2 & sh -c 'sleep 0.3 & exec sleep 0.1' & ) # orphans: their parents end first
for i in 1 2 3 4 5 6; do (setsid sh -c 'sleep 0.1' & ) ; done
echo ready
while :; do sleep 0.1; ps -eo stat=,comm= >"$1/ps.new"; mv "$1/ps.new" "$1/ps"; done
C
    unshare -pf --mount-proc "$SONDE" run -o "$scratch/one.db" bash "$scratch/one.sh" "$scratch" >"$scratch/o" 2>"$scratch/e" &
    local outer=$! inner begin took
    pids+=("$outer")
    wait_for 20 grep -q ready "$scratch/o"
    wait_for 20 reaped || fail "orphans that are not reaped: $(cat "$scratch/ps")"
    inner=$(pgrep -P "$outer" -x sonde)
    is "sonde's pid in there" "$(awk '/^NSpid/{print $NF}' "/proc/$inner/status")" 1
    begin=$(date +%s%N)
    kill -TERM "$inner"
    wait "$outer"; is "exit code as PID 1" $? 33
    took=$((($(date +%s%N) - begin) / 1000000))
    [ $took -lt 10000 ] || fail "the end took $took ms" # no measure: what hangs here hangs for good
    is "the signal arrived once" "$(grep -c term "$scratch/o")" 1
    "$SONDE" report "$scratch/one.db" --json | jq -e '.run.exit_code == 33' >/dev/null || fail "report of the run as PID 1"
    # an orphan that goes on does not hold the namespace's first process
    cat >"$scratch/orphan.sh" <<'C'
(sleep 60 & )
exit 4
C
    begin=$(date +%s%N)
    is "exit code with an orphan left" "$(rc timeout 20 unshare -pf --mount-proc "$SONDE" run -o "$scratch/two.db" bash "$scratch/orphan.sh")" 4
    took=$((($(date +%s%N) - begin) / 1000000))
    [ $took -lt 15000 ] || fail "an orphan held the container for $took ms"
    is "killed by SIGKILL as PID 1" "$(rc unshare -pf --mount-proc "$SONDE" run -o "$scratch/three.db" sh -c 'kill -KILL $$')" 137
}

memory() { # no shared memory: the command runs unwatched; --strict refuses
    is "files may not be that large" "$(ulimit -f 64; rc "$SONDE" run -o a.db sh -c 'echo ran; exit 5')" 5
    is "the command ran" "$(cat "$scratch/o")" ran
    says "a line says why and what to do" 'a.db.*choose another place with -o.*runs unmonitored'
    is "--strict" "$(ulimit -f 64; rc "$SONDE" run --strict -o a.db sh -c 'exit 5')" 125
    is "one line" "$(wc -l <"$scratch/e")" 1
    is "no descriptors left" "$(ulimit -n 12; rc "$SONDE" run -o b.db sh -c 'exit 5')" 5
    is "no address space" "$(ulimit -v 60000; rc "$SONDE" run -o c.db sh -c 'exit 5')" 5
    if unshare -m true 2>/dev/null; then
        is "/dev/shm of 16 KiB" "$(rc unshare -m sh -c "mount -t tmpfs -o size=16k none /dev/shm && exec '$SONDE' run -o d.db sh -c 'exit 6'")" 6
        "$SONDE" report d.db --json | jq -e '.processes | length > 0' >/dev/null || fail "with a tiny /dev/shm nothing was seen"
        is "noexec /dev/shm and /tmp" "$(rc unshare -m sh -c "mount -t tmpfs -o noexec none /dev/shm && exec '$SONDE' run -o e.db sh -c 'exit 6'")" 6
    fi
}

store() { # a store that cannot be written
    is "no such folder" "$(rc "$SONDE" run -o /no/such/folder/x.db sh -c 'exit 5')" 5
    says "names it" '/no/such/folder'
    is "the same with --strict" "$(rc "$SONDE" run --strict -o /no/such/folder/x.db sh -c 'exit 5')" 125
    mkdir -p folder.db
    is "a folder as store" "$(rc "$SONDE" run -o folder.db sh -c 'exit 5')" 5
    says "says what to do" 'folder.db.*name a file'
    if [ "$(id -u)" = 0 ]; then
        mkdir -p "$scratch/plain/bin" "$scratch/mine"
        cp "$BUILD/sonde" "$BUILD/sonde-collector" "$BUILD/libsonde.so" "$scratch/plain/bin"
        chmod 755 "$scratch/plain"; chown 65534 "$scratch/mine"
        is "a folder that is not ours" "$(cd "$scratch/plain" && rc env -u XDG_STATE_HOME HOME=/nonexistent setpriv --reuid=65534 --regid=65534 --clear-groups "$scratch/plain/bin/sonde" run sh -c 'exit 5')" 5
        says "says where the store is instead" '/tmp/'
        echo '{}' >"$scratch/mine/secret.json"; chmod 000 "$scratch/mine/secret.json"
        is "unreadable configuration" "$(rc setpriv --reuid=65534 --regid=65534 --clear-groups "$scratch/plain/bin/sonde" run --config "$scratch/mine/secret.json" -o "$scratch/mine/x.db" true)" 125
        says "is named" 'secret.json.*[Pp]ermission denied'
        is "one line" "$(wc -l <"$scratch/e")" 1
    fi
    # the store may not grow: RLIMIT_FSIZE above the arena's size
    local port; port=$(free_port); nginx_conf "$port"
    echo '{"store": }' >bad.json
    is "configuration that is no JSON" "$(rc "$SONDE" run --config bad.json true)" 125
    says "names file and line" 'bad.json:1'
    (ulimit -f 20000; exec "$SONDE" run --set arena.bytes=16M --set sampling.spans_per_second=100000 -o "$scratch/s.db" nginx -c "$scratch/nginx.conf" -g 'daemon off;' >"$scratch/o" 2>"$scratch/e") &
    sonde=$!; pids+=("$sonde")
    wait_listening "$port" || return
    # a small limit for the collector alone
    prlimit --fsize=200000 --pid "$(pgrep -P "$sonde" sonde-collector | head -n 1)"
    for i in 1 2 3 4 5; do load "$port" 2000; sleep 0.5; done
    kill -QUIT "$(cat "$scratch/nginx.pid")"
    wait_gone "$sonde" 20 || fail "sonde does not end with a store that may not grow"
    wait "$sonde"; is "exit code with a store that may not grow" $? 0
    is "requests served" "$(wc -l <"$scratch/access.log")" 10000
    grep -Eq '^COMPLETE +10.000 requests' "$scratch/e" || fail "summary: $(cat "$scratch/e")"
    says "and why the store lacks some" 'SAMPLES .*sampled requests not kept'
}

destination() { # nobody listens there: the server does not notice, losses are counted
    local port dead before after worker; port=$(free_port); dead=$(free_port); nginx_conf "$port"
    SONDE_OPTIONS="--to http://127.0.0.1:$dead --set output.memory_bytes=1M --set sampling.spans_per_second=1000000" \
        watch nginx -c "$scratch/nginx.conf" -g 'daemon off;'
    wait_listening "$port" || return
    load "$port" 2000
    worker=$(pgrep -P "$(cat "$scratch/nginx.pid")" | head -n 1)
    before=$(awk '/^VmData/{print $2}' "/proc/$worker/status")
    for i in 1 2 3 4 5 6; do load "$port" 8000; done
    after=$(awk '/^VmData/{print $2}' "/proc/$worker/status")
    [ $((after - before)) -lt 1024 ] || fail "the server's memory grew from $before to $after kB"
    collector=$(pgrep -P "$sonde" sonde-collector | head -n 1)
    is "collector's memory" "$(awk '/^VmRSS/{print ($2 < 65536) ? "bounded" : $2}' "/proc/$collector/status")" bounded
    kill -QUIT "$(cat "$scratch/nginx.pid")"
    wait_gone "$sonde" 20 || fail "sonde does not end with a dead destination"
    wait "$sonde"; is "exit code with a dead destination" $? 0
    cp "$scratch/err" "$scratch/e"; says "names it" "127.0.0.1:$dead"
    report
    is "requests with a dead destination" "$(requests)" 50000
    is "documents that were dropped are counted" "$(q '([.documents.dropped[]] | add // 0) > 0')" true
    is "none acknowledged" "$(q .documents.acknowledged)" 0
    check_sums
}

for one in ${ONLY:-daemon exec_ pid_one memory store destination}; do
    echo "--- $one"
    $one
done
finish
