#!/usr/bin/env bash
# Waits in real programs with threads: CPython's locks and sleeps reach the requests that waited; memcached's threads and
# redis's fsync do what they did; nothing is lost.
. "$(dirname "$0")/lib.sh"
need jq python3 curl nginx memcached redis-server redis-benchmark

least() { # what, seen, least
    if [ "$2" -ge "$3" ]; then echo "ok: $1 = $2, at least $3"; else fail "$1 = $2, less than $3"; fi
}

disk=${SONDE_TEST_DISK:-/var/tmp} # where waits for the disk are to be had
case $(stat -f -c %T "$disk") in tmpfs | ramfs | overlayfs) disk= ;; esac

echo "--- python: a lock held over a sleep of 20 ms, four requests at once"
cat >"$scratch/server.py" <<'P'
import http.server, sys, threading, time
lock = threading.Lock()
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        if self.path != "/free":
            with lock:
                time.sleep(0.02 if self.path == "/held" else 60)
        self.send_response(200)
        self.send_header("Content-Length", "3")
        self.end_headers()
        self.wfile.write(b"ok\n")
    def log_message(self, *args): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
server.daemon_threads = True
server.serve_forever()
P
cat >"$scratch/client.py" <<'P'
import http.client, sys, threading
def run(path, times):
    c = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]))
    for _ in range(times):
        c.request("GET", path)
        assert c.getresponse().read() == b"ok\n"
threads = [threading.Thread(target=run, args=("/held", 10)) for _ in range(4)]
for t in threads: t.start()
for t in threads: t.join()
run("/free", 40)
P
port=$(free_port)
watch /usr/bin/python3 "$scratch/server.py" "$port"
wait_listening "$port" || exit 1
python3 "$scratch/client.py" "$port" || fail "client"
kill -TERM "$sonde"; wait "$sonde"
report
held='.endpoints[] | select(.endpoint == "GET /held" and .side == "server")'
is "python: requests" "$(q "[$held | .count] | add")" 40
least "python: slept for requests, ns" "$(q "[$held | .waits_ns.sleep] | add")" 800000000
least "python: waited for the lock, ns" "$(q "[$held | .waits_ns.lock] | add")" 400000000
is "python: slept where nothing sleeps, ns" "$(q '[.endpoints[] | select(.endpoint == "GET /free" and .side == "server") | .waits_ns.sleep] | add')" 0
is "python: lost" "$(q '[.events.lost[]] | add // 0')" 0
check_sums

echo "--- the same, killed: what the requests in flight were waiting in"
rm -f "$scratch"/s.db*
port=$(free_port)
watch /usr/bin/python3 "$scratch/server.py" "$port"
wait_listening "$port" || exit 1
curl -s "http://127.0.0.1:$port/stuck" >/dev/null & pids+=($!)
curl -s "http://127.0.0.1:$port/stuck" >/dev/null & pids+=($!)
until_report 20 '[.in_flight[] | .endpoint + " in " + .call] | sort == ["GET /stuck in semaphore", "GET /stuck in sleep"]'
kill -KILL "$(pgrep -P "$sonde" -x python3 | head -n 1)"
wait "$sonde"; is "exit code after SIGKILL" $? 137
report
is "in flight" "$(q '[.in_flight[] | .endpoint + " in " + .call] | sort | join(", ")')" "GET /stuck in semaphore, GET /stuck in sleep"
check_sums

echo "--- redis: every write is synced"
rm -f "$scratch"/s.db*
port=$(free_port)
watch redis-server --port "$port" --save '' --appendonly yes --appendfsync always --dir "${SONDE_TEST_DISK:-/var/tmp}" \
    --appenddirname "sonde-test-$$" --logfile ''
wait_listening "$port" || exit 1
redis-benchmark -p "$port" -q -n 300 -c 1 -t set >"$scratch/bench" 2>&1 || fail "redis-benchmark: $(cat "$scratch/bench")"
redis-cli -p "$port" info commandstats >"$scratch/stats" 2>/dev/null
kill -TERM "$sonde"; wait "$sonde"
rm -rf "${SONDE_TEST_DISK:-/var/tmp}/sonde-test-$$"
report
set='.endpoints[] | select(.endpoint == "SET" and .side == "server")'
is "redis: SET" "$(q "[$set | .count] | add")" 300
[ -z "$disk" ] || least "redis: waited for the disk, ns" "$(q "[$set | .waits_ns.disk] | add")" 1
check_sums

echo "--- nginx: a file of which the page cache knows nothing, by sendfile"
if [ -n "$disk" ]; then
    rm -f "$scratch"/s.db*
    folder=$(mktemp -d "$disk/sonde-test.XXXXXX")
    trap 'rm -rf "$folder"; cleanup' EXIT
    head -c 4194304 /dev/urandom >"$folder/cold.bin"
    echo warm >"$folder/warm.txt"
    chmod -R a+rX "$folder" "$scratch"
    port=$(free_port)
    cat >"$scratch/nginx.conf" <<C
worker_processes 1;
pid $scratch/nginx.pid;
error_log $scratch/error.log;
events { }
http { access_log off; sendfile on; $nginx_paths server { listen 127.0.0.1:$port; root $folder; } }
C
    watch nginx -c "$scratch/nginx.conf" -g 'daemon off;'
    wait_listening "$port" || exit 1
    for _ in 1 2 3 4 5; do
        python3 -c 'import os, sys; f = os.open(sys.argv[1], os.O_RDONLY); os.fsync(f); os.posix_fadvise(f, 0, 0, os.POSIX_FADV_DONTNEED)' "$folder/cold.bin"
        curl -s "http://127.0.0.1:$port/cold.bin" | cmp - "$folder/cold.bin" || fail "nginx: the file differs"
        curl -s "http://127.0.0.1:$port/warm.txt" >/dev/null
    done
    kill -QUIT "$(cat "$scratch/nginx.pid")"; wait "$sonde"
    report
    least "nginx: waited for the disk, ns" "$(q '.endpoints[] | select(.endpoint == "GET /cold.bin") | .waits_ns.disk')" 100000
    is "nginx: cold requests" "$(q '.endpoints[] | select(.endpoint == "GET /cold.bin") | .count')" 5
    check_sums
fi

echo "--- memcached: four threads"
rm -f "$scratch"/s.db*
cat >"$scratch/cache.py" <<'P'
import socket, sys, threading
def run(who):
    s = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
    f = s.makefile("rb")
    for i in range(500):
        s.sendall(b"set k%d 0 0 3\r\nabc\r\nget k%d\r\nincr n 1\r\n" % (i % 7, i % 7))
        assert [f.readline() for _ in range(4)] == [b"STORED\r\n", b"VALUE k%d 0 3\r\n" % (i % 7), b"abc\r\n", b"END\r\n"]
        assert f.readline().strip().isdigit()
first = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
first.sendall(b"set n 0 0 1\r\n0\r\n"); assert first.recv(100) == b"STORED\r\n"
threads = [threading.Thread(target=run, args=(i,)) for i in range(8)]
for t in threads: t.start()
for t in threads: t.join()
first.sendall(b"get n\r\n"); assert b"\r\n4000\r\n" in first.recv(100)
P
port=$(free_port)
watch memcached -u nobody -t 4 -p "$port" -l 127.0.0.1
wait_listening "$port" || exit 1
python3 "$scratch/cache.py" "$port" || fail "memcached answers differ"
kill -TERM "$sonde"; wait "$sonde"; is "memcached: exit code" $? 0
report
is "memcached: connections" "$(q .connections.accepted)" 9
is "memcached: lost" "$(q '[.events.lost[]] | add // 0')" 0
check_sums
finish
