#!/usr/bin/env bash
# The command itself: exit codes, streams, signals, wrong use, trouble at the start; CMD behaves as without sonde.
. "$(dirname "$0")/lib.sh"
need jq
cd "$scratch" || exit 1
rc() { "$@" >"$scratch/o" 2>"$scratch/e"; echo $?; }

is "exit code 0" "$(rc "$SONDE" run -o a.db true)" 0
is "exit code 7" "$(rc "$SONDE" run -o a.db sh -c 'exit 7')" 7
is "killed by signal 15" "$(rc "$SONDE" run -o a.db sh -c 'kill -TERM $$')" 143
is "killed by signal 9" "$(rc "$SONDE" run -o a.db sh -c 'kill -KILL $$')" 137
is "not found" "$(rc "$SONDE" run -o a.db /no/such/program)" 127
is "not found in PATH" "$(rc "$SONDE" run -o a.db no-such-program)" 127
touch plain; chmod 644 plain
is "not executable" "$(rc "$SONDE" run -o a.db ./plain)" 126
is "no command" "$(rc "$SONDE" run)" 125
is "unknown option" "$(rc "$SONDE" run --nonsense true)" 125
is "unknown setting" "$(rc "$SONDE" run --set sampling.spans_per_secnd=3 true)" 125
grep -q 'did you mean' "$scratch/e" || fail "no suggestion: $(cat "$scratch/e")"
is "bad URL" "$(rc "$SONDE" run --to nonsense true)" 125
is "password in URL" "$(rc "$SONDE" run --to http://a:b@h:9200 true)" 125
is "missing config" "$(rc "$SONDE" run --config /no/such.json touch started)" 125
[ -e started ] && fail "the command was started in spite of wrong use"
grep -q '/no/such.json' "$scratch/e" || fail "the missing file is not named"
is "unknown command" "$(rc "$SONDE" nonsense)" 2
is "no command at all" "$(rc "$SONDE")" 2
is "report without a store" "$(rc "$SONDE" report missing.db)" 1
grep -q 'missing.db' "$scratch/e" || fail "the missing store is not named"
echo "not a store" >other.txt
is "report of another file" "$(rc "$SONDE" report other.txt)" 1
is "-o on a file that is no store" "$(rc "$SONDE" run -o other.txt true)" 125
is "that file afterwards" "$(cat other.txt)" "not a store"
is "record over another file" "$(rc "$SONDE" record other.txt true)" 125
for c in run report list off record replay dump check; do
    is "sonde $c --help" "$(rc "$SONDE" $c --help)" 0
    grep -q '^usage: sonde' "$scratch/o" || fail "sonde $c --help says no usage"
done
"$SONDE" --version | grep -Eq '^sonde [0-9.]+ \([0-9a-f]+|unknown\)$' || fail "--version"

# streams are the command's own
is "stdin and stdout" "$(echo abc | "$SONDE" run --quiet -o a.db tr a-z A-Z)" ABC
is "nothing of ours with --quiet" "$("$SONDE" run --quiet -o a.db sh -c 'echo out; echo err >&2' 2>&1)" "$(printf 'out\nerr')"
is "arguments" "$("$SONDE" run --quiet -o a.db printf '%s|' -o x --quiet)" "-o|x|--quiet|"
is "after --" "$("$SONDE" run --quiet -o a.db -- printf '%s|' a b)" "a|b|"

# the environment: our secrets are gone, the rest is as it was
SONDE_API_KEY=secret SONDE_PASSWORD=secret SONDE_USER=me "$SONDE" run --quiet -o a.db env >"$scratch/env"
grep -E 'SONDE_(API_KEY|PASSWORD|USER)' "$scratch/env" && fail "secrets are in the command's environment"
env >"$scratch/bare"
is "variables besides ours" "$(grep -Ev '^(LD_PRELOAD|SONDE_ARENA|_)=' "$scratch/env" | sort)" "$(grep -Ev '^(_)=' "$scratch/bare" | sort)"

# a password in the command's arguments reaches the command, not the store
is "the command's own words" "$("$SONDE" run --quiet -o words.db printf '%s|' --requirepass hunter2)" "--requirepass|hunter2|"
is "the store's" "$("$SONDE" report words.db --json | jq -c .run.command)" '["printf","%s|","--requirepass","{masked}"]'
is "the password in the store" "$(grep -c hunter2 words.db)" 0

# descriptors: none of ours in the command
# shellcheck disable=SC2012
is "descriptors" "$("$SONDE" run --quiet -o a.db ls /proc/self/fd 3>&- | tr '\n' ' ')" "$(ls /proc/self/fd 3>&- | tr '\n' ' ')"
is "signals blocked and ignored" "$("$SONDE" run --quiet -o a.db grep -E 'Sig(Blk|Ign|Cgt)' /proc/self/status)" "$(grep -E 'Sig(Blk|Ign|Cgt)' /proc/self/status)"
is "kill switch at start" "$(SONDE_OFF=1 "$SONDE" run --quiet -o a.db echo hello)" hello

# signals to sonde reach the command once; its own exit code comes back
cat >trap.sh <<'C'
n=0
trap 'n=$((n + 1)); echo "term $n"' TERM
trap 'echo usr1' USR1
echo ready
while [ $n = 0 ]; do sleep 0.1; done
sleep 0.3 # a second TERM would come now
exit $((40 + n))
C
"$SONDE" run --quiet -o a.db bash trap.sh >"$scratch/trapped" & p=$!
pids+=("$p")
wait_for 20 grep -q ready "$scratch/trapped"
kill -USR1 $p
wait_for 20 grep -q usr1 "$scratch/trapped"
kill -TERM $p
wait $p; is "exit code after SIGTERM that was caught" $? 41
is "signals seen" "$(tr '\n' ' ' <"$scratch/trapped")" "ready usr1 term 1 "

# a process group that is signalled by the command's own end does not take sonde with it
"$SONDE" run -o group.db setsid -w bash -c 'trap "" TERM; kill -TERM 0; exit 3' 2>"$scratch/e"
is "exit code after a signal to the group" $? 3
"$SONDE" report group.db --json | jq -e .run.exit_code >/dev/null || fail "no report of the group run"

# static programs: one line says why nothing is seen
cat >static.c <<'C'
int main(void) { return 5; }
C
if gcc -static -o static static.c 2>/dev/null; then
    is "exit code of a static program" "$(rc "$SONDE" run -o a.db ./static)" 5
    grep -q 'statically linked' "$scratch/e" || fail "no reason for a static program: $(cat "$scratch/e")"
fi

# stores: kept as .old, listed while they run
rm -f keep.db*
"$SONDE" run --quiet -o keep.db true; "$SONDE" run --quiet -o keep.db true
[ -e keep.db.old ] || fail "the older store was not kept"
is "mode of the store" "$(stat -c %a keep.db)" 600
"$SONDE" run --quiet -o busy.db sleep 60 & p=$!
pids+=("$p")
busy() { "$SONDE" list | grep -q "$scratch/busy.db" && "$SONDE" report busy.db >/dev/null; }
wait_for 20 busy || fail "list does not show the run: $("$SONDE" list)"
"$SONDE" report busy.db >/dev/null || fail "report while the run goes on"
"$SONDE" run -o busy.db true 2>"$scratch/e"; grep -q 'sonde-' "$scratch/e" || fail "a busy store: $(cat "$scratch/e")"
"$SONDE" off busy.db >/dev/null || fail off
"$SONDE" list | grep -q off || fail "list does not say off"
kill $p 2>/dev/null; wait $p

# configuration faults name file, line and key
printf '{\n  "name": "x",\n  "store": {"byts": 5}\n}\n' >bad.json
is "check of a bad file" "$(rc "$SONDE" check --config bad.json)" 1
grep -q 'bad.json:3.*store.bytes' "$scratch/o" || fail "check says: $(cat "$scratch/o")"
printf '{"name": "x", "sampling": {"spans_per_second": 5}}\n' >good.json
is "check of a good file" "$(rc "$SONDE" check --config good.json)" 0
is "check tells what is off" "$("$SONDE" check --set time.waits=off --set memory.stacks=off | grep -c '^note      switched off: stacks of allocations, waits, stacks of waits for locks$')" 1
# what a wrong word is told, and where: one line, the command's name, what was meant, what to read
says() { # want command...
    local want=$1 code
    shift
    "$@" >"$scratch/o" 2>"$scratch/e"; code=$?
    is "lines for ${*:2}, exit $code" "$(wc -l <"$scratch/e")/$(wc -c <"$scratch/o")" 1/0
    grep -qF -- "$want" "$scratch/e" || fail "${*:2} says '$(cat "$scratch/e")', should say '$want'"
    [ $code = 2 ] || [ $code = 125 ] || fail "${*:2}: exit $code"
}
says 'did you mean "sonde run"?' "$SONDE" rnu
says 'sonde run: no such option: --quite; did you mean --quiet?' "$SONDE" run --quite true
says 'sonde run: --to wants a value' "$SONDE" run --to
says 'sonde run: --quiet takes no value' "$SONDE" run --quiet=1 true
says 'sonde run: no such option: -z' "$SONDE" run -z true
says 'options stand before the file' "$SONDE" record r --quiet true
says 'did you mean --slowest?' "$SONDE" report --slow 3
says 'sonde check: no such option: --confg; did you mean --config?' "$SONDE" check --confg x
says 'sonde replay: which recording?' "$SONDE" replay
says 'sonde flame: --by wants a value' "$SONDE" flame --by
says 'sonde leaks: no such option: --frob' "$SONDE" leaks --frob
says 'sonde off: no such option: --undoo; did you mean --undo?' "$SONDE" off --undoo
printf '{"memory":\n {"sampl_bytes": 1},\n "nam": 2}\n' >bad.json
"$SONDE" check --config bad.json --output foo >"$scratch/o" 2>&1; is "check of three faults" $? 1
is "faults counted" "$(tail -n 1 "$scratch/o")" "3 faults"
grep -q '^fault     bad.json:2: .*sample_bytes' "$scratch/o" && grep -q '^fault     --output: "foo"' "$scratch/o" || fail "check names places: $(cat "$scratch/o")"

# every option of every --help stands in the man page and in the completion; no help is wider than a terminal
sed 's/\\-/-/g' "$ROOT/docs/sonde.1" >"$scratch/man"
for c in '' run record replay dump report flame leaks list off check; do
    # shellcheck disable=SC2086
    "$SONDE" $c --help >"$scratch/help" || fail "$c --help: $?"
    is "lines of '$c --help' beyond 80 columns" "$(awk 'length > 80' "$scratch/help" | wc -l)" 0
    for o in $(sed -nE 's/^  (-[-a-z]+).*/\1/p' "$scratch/help"); do
        for where in "$scratch/man" "$ROOT/cli/completion.bash"; do
            grep -qE -- "(^|[^-a-z])$o([^-a-z]|\$)" "$where" || fail "$c $o is missing in $(basename "$where")"
        done
    done
    [ -z "$c" ] || cmp -s <("$SONDE" help $c) "$scratch/help" || fail "sonde help $c differs from its --help"
done
finish
