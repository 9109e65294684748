#!/usr/bin/env bash
# A service is called as it was started, by a link's name too, and whatever the program calls itself: in children, after exec,
# for the interpreter of a script, after a collector's death, in a recording and its replay.
. "$(dirname "$0")/lib.sh"
need python3 jq
python=$(readlink -f "$(python3 -c 'import sys; print(sys.executable)')")
real=$(basename "$python")
ln -s "$python" "$scratch/shopd"
ln -s "$python" "$scratch/worker"

cat >"$scratch/names.py" <<'P'
import ctypes, os, subprocess, sys, time
folder = os.path.dirname(os.path.abspath(__file__))
ctypes.CDLL(None).prctl(15, b"liar", 0, 0, 0)
if os.fork() == 0:                                       # a child: as its parent
    os._exit(0)
os.wait()
subprocess.run([folder + "/worker", "-c", "pass"])        # another link to the same file
subprocess.run(["nonsense", "-c", "pass"], executable=folder + "/worker")  # argv[0] is no name
subprocess.run([folder + "/script"])                      # a script: its interpreter's link
fd = os.open(folder + "/worker", os.O_RDONLY)
subprocess.run(["/proc/self/fd/%d" % fd, "-c", "pass"], pass_fds=[fd])     # nobody's name: the file's own
subprocess.run(["/bin/true"])
if len(sys.argv) > 1:
    while not os.path.exists(sys.argv[1]):
        time.sleep(0.05)
P
printf '#!%s -S\npass\n' "$scratch/shopd" >"$scratch/script"
chmod +x "$scratch/script"

# Name and file of each process, in the order in which they began. A child that is on its way to exec counts as its parent.
names() { sqlite3 "$1" "SELECT DISTINCT service, CASE executable WHEN '$python' THEN 'python' ELSE replace(executable, '/usr', '') END FROM process ORDER BY 1" | tr '\n' ' '; }
want="$real|python shopd|python true|/bin/true worker|python "

"$SONDE" run --quiet -o "$scratch/a.db" "$scratch/shopd" "$scratch/names.py" || fail "exit code $?"
is "services" "$(names "$scratch/a.db")" "$want"
is "of one process each but the forks" \
    "$(sqlite3 "$scratch/a.db" "SELECT count(*) FROM process WHERE service = 'worker'")" 2

"$SONDE" run --quiet --name shop -o "$scratch/n.db" "$scratch/shopd" "$scratch/names.py" || fail "exit code $?"
is "--name is every name of CMD's file" "$(names "$scratch/n.db")" "shop|python true|/bin/true "

"$SONDE" record --quiet "$scratch/r" "$scratch/shopd" "$scratch/names.py" 2>"$scratch/err" || { fail "record: $?"; cat "$scratch/err"; }
"$SONDE" replay "$scratch/r" -o "$scratch/r.db" 2>/dev/null || fail "replay: $?"
is "services of a replay" "$(names "$scratch/r.db")" "$want"
is "in the dump" "$("$SONDE" dump "$scratch/r" | grep -c 'fact-process .*started-as=worker$')" 2

watch "$scratch/shopd" "$scratch/names.py" "$scratch/go"
for ((i = 0; i < 200; i++)); do
    [ "$(sqlite3 "$scratch/s.db" "SELECT count(*) FROM process WHERE service = 'true' AND end_ns > 0" 2>/dev/null)" = 1 ] && break
    sleep 0.1
done
kill -KILL "$(pgrep -f "sonde-collector.*$scratch/s.db")"
sleep 1
touch "$scratch/go"
wait "$sonde"; is "exit code" $? 0
is "services after a take-over" "$(names "$scratch/s.db")" "$want"
finish
