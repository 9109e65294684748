#!/usr/bin/env bash
# Servers whose protocol is not read: PostgreSQL (a process per connection) and memcached (threads). Their connections and
# bytes are exact, counted by a relay between load and server; every process is seen; they behave as bare.
. "$(dirname "$0")/lib.sh"
need jq python3

relay_begin() { # server's port: sets $front; counts come to $scratch/relay at relay_end
    front=$(free_port)
    python3 "$ROOT/tests/relay.py" "$front" "$1" "$scratch/relay" &
    relay=$!
    pids+=("$relay")
    wait_listening "$front"
}
relay_end() { kill -TERM "$relay"; wait "$relay"; read -r connections up down <"$scratch/relay"; }
unread() { q "[.unread[] | select(.address == \"127.0.0.1:$1\") | .$2] | add"; }

postgresql() {
    local bin as=() port data=$scratch/data
    bin=$(find /usr/lib/postgresql -name initdb 2>/dev/null | sort -V | tail -n 1)
    [ -n "$bin" ] || skip "PostgreSQL is not installed"
    bin=${bin%/initdb}
    # it refuses to be root; the recorder and the store must be readable for whom it becomes
    [ "$(id -u)" != 0 ] || as=(setpriv --reuid=65534 --regid=65534 --clear-groups --)
    mkdir -p "$data" "$scratch/bin"
    cp "$BUILD/sonde" "$BUILD/sonde-collector" "$BUILD/libsonde.so" "$scratch/bin/"
    [ "$(id -u)" != 0 ] || chown 65534:65534 "$data" "$scratch"
    "${as[@]+"${as[@]}"}" "$bin/initdb" -D "$data" -A trust -U tester --no-sync >"$scratch/initdb" 2>&1 || { fail initdb; cat "$scratch/initdb"; return; }
    port=$(free_port)
    cat >>"$data/postgresql.conf" <<P
listen_addresses = '127.0.0.1'
port = $port
unix_socket_directories = ''
fsync = off
log_connections = on
autovacuum_naptime = 5min
P
    local sql='SELECT count(*), sum(abalance), md5(string_agg(aid::text, $$,$$ ORDER BY aid)) FROM pgbench_accounts'
    local how
    for how in bare watched; do
        if [ $how = bare ]; then
            "${as[@]+"${as[@]}"}" "$bin/postgres" -D "$data" >"$scratch/log.bare" 2>&1 &
        else
            "${as[@]+"${as[@]}"}" "$scratch/bin/sonde" run -o "$scratch/s.db" ${SONDE_OPTIONS:-} "$bin/postgres" -D "$data" >"$scratch/out" 2>"$scratch/err" &
        fi
        sonde=$!
        pids+=("$sonde")
        wait_listening "$port" || return
        relay_begin "$port" || return
        ready "$front" || return
        "$bin/pgbench" -q -i -s 1 -h 127.0.0.1 -p "$front" -U tester postgres >"$scratch/init.$how" 2>&1 || { fail "$how: pgbench -i"; cat "$scratch/init.$how"; }
        "$bin/pgbench" -n -S -c 4 -j 2 -t 200 -h 127.0.0.1 -p "$front" -U tester postgres >"$scratch/bench.$how" 2>&1 || fail "$how: pgbench -S"
        "$bin/pgbench" -n -C -S -c 2 -t 20 -h 127.0.0.1 -p "$front" -U tester postgres >>"$scratch/bench.$how" 2>&1 || fail "$how: pgbench -C"
        "$bin/psql" -h 127.0.0.1 -p "$front" -U tester -At -c "$sql" postgres >"$scratch/sql.$how" 2>&1
        "$bin/psql" -h 127.0.0.1 -p "$front" -U tester -At -c 'SELECT 1/0' postgres >>"$scratch/sql.$how" 2>&1
        relay_end
        kill -INT "$sonde" # fast shutdown
        wait "$sonde"; is "$how: exit code" $? 0
    done
    cat "$scratch/err"
    is "same answers" "$(cat "$scratch/sql.watched")" "$(cat "$scratch/sql.bare")"
    is "every transaction" "$(grep -c '^number of transactions actually processed: \(800/800\|40/40\)$' "$scratch/bench.watched")" 2
    grep -E 'PANIC|FATAL|terminated by signal' "$scratch/err" && fail "the server complains"
    report
    local said
    said=$(grep -c 'connection received' "$scratch/err")
    is "connections by the server's own log" "$said" "$connections"
    is "connections" "$(unread "$port" connections)" "$connections"
    is "bytes in" "$(unread "$port" bytes_in)" "$up"
    is "bytes out" "$(unread "$port" bytes_out)" "$down"
    # postmaster, its helpers, a backend per connection
    is "every backend is a process" "$(q "([.processes[] | select(.executable | endswith(\"postgres\")) | .merged] | add) >= $connections + 5")" true
    is "a parent for each" "$(q '[.processes[] | select(.executable | endswith("postgres")) | .parent] | unique | length <= 2')" true
    is "lost" "$(q '[.events.lost[]] | add // 0')" 0
    check_sums partial
}

memcached_() {
    local port user=()
    need memcached
    port=$(free_port)
    [ "$(id -u)" != 0 ] || user=(-u nobody)
    rm -f "$scratch"/s.db*
    watch memcached -t 4 -p "$port" -l 127.0.0.1 -U 0 "${user[@]+"${user[@]}"}"
    wait_listening "$port" || return
    relay_begin "$port" || return
    python3 - "$front" <<'P' || fail "memcached: client"
import socket, sys, threading
bad = []
def client(k):
    s = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
    f = s.makefile("rb")
    for i in range(150):
        value = bytes([65 + (i + k) % 26]) * (1 + (i * 37) % 9000)
        s.sendall(b"set k%d 0 0 %d\r\n%s\r\n" % (k, len(value), value))
        if f.readline() != b"STORED\r\n": bad.append("set")
        s.sendall(b"get k%d\r\nget missing\r\n" % k)
        if f.readline() != b"VALUE k%d 0 %d\r\n" % (k, len(value)) or f.read(len(value) + 2) != value + b"\r\n": bad.append("get")
        if f.readline() != b"END\r\n" or f.readline() != b"END\r\n": bad.append("end")
    s.sendall(b"quit\r\n")
    if s.recv(1): bad.append("quit")
    s.close()
threads = [threading.Thread(target=client, args=(k,)) for k in range(12)]
for t in threads: t.start()
for t in threads: t.join()
sys.exit(str(bad[:5]) if bad else 0)
P
    relay_end
    kill -TERM "$sonde"
    wait "$sonde"; is "memcached: exit code" $? 0
    cat "$scratch/err"
    report
    is "memcached: connections of the load" "$connections" 12
    is "memcached: connections" "$(unread "$port" connections)" 12
    is "memcached: bytes in" "$(unread "$port" bytes_in)" "$up"
    is "memcached: bytes out" "$(unread "$port" bytes_out)" "$down"
    is "memcached: lost" "$(q '[.events.lost[]] | add // 0')" 0
    check_sums partial
}

ready() { # port: until PostgreSQL takes connections, by the relay; each try is one connection for all who count
    wait_for 30 pg_isready -q -d postgres -h 127.0.0.1 -p "$1" -U tester || { fail "PostgreSQL does not get ready"; return 1; }
}

for one in ${ONLY:-postgresql memcached_}; do
    echo "--- $one"
    $one
done
finish
