#!/usr/bin/env bash
# Ctrl-Z, fg and Ctrl-C at a shell's prompt work with sonde in front as without it.
. "$(dirname "$0")/lib.sh"
need python3 bash
cat >"$scratch/play.py" <<'C'
import os, pty, re, select, sys, time
sonde, store = sys.argv[1:3]
pid, terminal = pty.fork()
if pid == 0:
    os.environ["TERM"] = "dumb"
    os.execvp("bash", ["bash", "--norc", "--noprofile", "-i"])
seen = b""
def expect(pattern, seconds=20):
    global seen
    end = time.time() + seconds
    while not re.search(pattern, seen):
        if time.time() > end or not select.select([terminal], [], [], max(0, end - time.time()))[0]:
            sys.exit("waited in vain for %r in %r" % (pattern, seen[-2000:]))
        try:
            seen += os.read(terminal, 4096)
        except OSError:
            sys.exit("the shell ended: %r" % seen[-2000:])
    seen = seen[re.search(pattern, seen).end():]
def type_(text): os.write(terminal, text.encode())
type_("PS1='prompt> '\n"); expect(rb"prompt> $|prompt> ")
for command in ("sh -c 'echo started; exec sleep 100'", f"{sonde} run -o {store} sh -c 'echo started; exec sleep 100'"):
    type_(command + "\n"); expect(rb"[\r\n]started"); time.sleep(0.5)
    type_("\x1a"); expect(rb"Stopped"); expect(rb"prompt> ")
    type_("ps -o stat=,comm= | grep -c '^T.*sleep'\n"); expect(rb"[\r\n]1\r?\n")
    type_("fg\n"); expect(rb"sleep 100'"); time.sleep(0.5)
    type_("\x03"); expect(rb"prompt> ")
    type_("echo code $?\n"); expect(rb"code 130\r?\n")
type_("exit\n")
print("played")
C
is "the play at the terminal" "$(timeout 100 python3 "$scratch/play.py" "$SONDE" "$scratch/s.db")" played
report
is "how it ended" "$(q .run.signal)" 2
finish
