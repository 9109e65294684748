#!/usr/bin/env bash
# Processes of a PID namespace below ours: their numbers are not ours. They are seen, and each one's death is its own.
. "$(dirname "$0")/lib.sh"
need unshare ab jq python3

inside() { # name, options of unshare
    local name=$1 port
    shift
    unshare "$@" true 2>"$scratch/why" || { echo "skip: $name: $(cat "$scratch/why")"; return; }
    port=$(free_port)
    rm -f "$scratch"/s.db*
    cat >"$scratch/in.sh" <<C
sleep 1000 & victim=\$!
/usr/bin/python3 -m http.server $port --bind 127.0.0.1 --directory $scratch/www 2>/dev/null & server=\$!
until [ -e $scratch/go ]; do sleep 0.1; done
kill -KILL \$victim
until [ -e $scratch/end ]; do sleep 0.1; done
kill \$server
wait
exit 0
C
    rm -f "$scratch/go" "$scratch/end"
    watch unshare "$@" bash "$scratch/in.sh"
    wait_listening "$port" || return
    ab -q -n 500 -c 4 "http://127.0.0.1:$port/hello.txt" >"$scratch/ab" 2>&1 || fail "$name: ab"
    touch "$scratch/go"
    until_report 30 '[.processes[] | select(.executable | endswith("/sleep")) | select(.end != null)] | length > 0'
    report
    is "$name: the server runs on" "$(q '[.processes[] | select(.executable | contains("/python3")) | .end] | tostring')" "[null]"
    touch "$scratch/end"
    wait "$sonde"; is "$name: exit code" $? 0
    report
    is "$name: requests" "$(q '[.endpoints[] | select(.endpoint == "GET /hello.txt") | .count] | add')" 500
    is "$name: processes that have not ended" "$(q '[.processes[] | select(.end == null)] | length')" 0
    is "$name: CPU of the server is known" "$(q '[.processes[] | select(.executable | contains("/python3")) | .cpu_ns > 1000000] | all')" true
    is "$name: arenas left behind" "$(find /dev/shm -name "sonde.*" -newer "$scratch/go" | wc -l)" 0
    check_sums
}

mkdir -p "$scratch/www"
echo "hello, world" >"$scratch/www/hello.txt"
chmod -R a+rX "$scratch"
unshare -pf true 2>/dev/null || unshare -Urpf true 2>/dev/null || skip "PID namespaces are not permitted here"
inside "the outer /proc" -pf
inside "its own /proc" -pf --mount-proc
inside "users of its own too" -Urpf --mount-proc

# A container: its own /dev/shm, so that the arena which a process makes for itself stands in another folder than ours.
cat >"$scratch/container.sh" <<'C'
mount -t tmpfs -o size=64m tmpfs /dev/shm || exit 9
"$@" &
wait $!
read -rt 4 <>"$0.quiet" # a sleep would leave an arena of its own
ls /dev/shm >"$0.after"
C
contained() { # name, options of unshare
    local name=$1 port
    shift
    unshare "$@" -m true 2>"$scratch/why" || { echo "skip: $name: $(cat "$scratch/why")"; return; }
    port=$(free_port)
    rm -f "$scratch"/s.db* "$scratch"/container.sh.*
    mkfifo "$scratch/container.sh.quiet"
    watch unshare "$@" -m bash "$scratch/container.sh" bash -c \
        '/usr/bin/timeout -s TERM 6 /usr/bin/python3 -m http.server '"$port"' --bind 127.0.0.1 --directory '"$scratch/www"' 2>/dev/null; exit 0'
    wait_listening "$port" || return
    ab -q -n 500 -c 4 "http://127.0.0.1:$port/hello.txt" >"$scratch/ab" 2>&1 || fail "$name: ab"
    wait "$sonde"; is "$name: exit code" $? 0
    report
    is "$name: requests" "$(q '[.endpoints[] | select(.endpoint == "GET /hello.txt") | .count] | add')" 500
    is "$name: processes that have not ended" "$(q '[.processes[] | select(.end == null)] | length')" 0
    # of `ls` itself, which is watched too
    is "$name: arenas of ended processes left behind" "$(grep -c '^sonde' "$scratch/container.sh.after")" 1
    check_sums
}
contained "its own /dev/shm" -pf --mount-proc
contained "its own /dev/shm and users" -Urpf --mount-proc
finish
