# pushing.bash - sourced by the e2e tests of the Elasticsearch sink: talks to a running push_rows.
# Wants $d, a folder of the test's own; sets $failed to 1 where something is not as it should be.

BUILD=${BUILD:-build}
failed=0
pusher=

fail() {
    echo "FAIL $*"
    failed=1
}
is() { # what got wanted
    [ "$2" = "$3" ] || fail "$1: $2, wanted $3"
}
note() { echo "$((SECONDS / 60)):$(printf %02d $((SECONDS % 60))) $*"; }

push_begin() { # option... url: a push_rows that takes commands; its messages go to $d/err
    coproc PUSH { exec "$BUILD/tests/push_rows" "$@" 2>"$d/err"; }
    pusher=$PUSH_PID
}
tell() { printf '%s\n' "$@" >&"${PUSH[1]}"; }
counts() { # of now, on one line
    local line
    tell counts
    read -r -t 120 line <&"${PUSH[0]}" || fail "push_rows has ended: $(tail -n 3 "$d/err")"
    echo "$line"
}
number() { # name line: the value behind name=
    local v=${2##*"$1"=}
    echo "${v%% *}"
}
push_end() { # ms: delivers what is left for so long; tells the last counts
    local line input=${PUSH[1]} output=${PUSH[0]}
    tell "finish $1"
    read -r -t 120 line <&"$output" || line="push_rows has ended: $(tail -n 3 "$d/err")"
    exec {input}>&-
    wait "$pusher" || fail "push_rows: exit $?"
    pusher=
    last=$line
}
push_stop() { [ -z "$pusher" ] || kill "$pusher" 2>/dev/null; }

said() { grep -q "$1" "$d/err" || fail "stderr does not say '$1': $(cat "$d/err")"; }
said_not() { ! grep -q "$1" "$d/err" || fail "stderr says '$1': $(cat "$d/err")"; }

# on the server; $url and, with security on, $auth (an array of curl's options)
get() { curl -s -m 60 ${auth[@]+"${auth[@]}"} "$url$1"; }
put() { curl -s -m 60 ${auth[@]+"${auth[@]}"} -X PUT -H 'Content-Type: application/json' -d "$2" "$url$1"; }
post() { curl -s -m 60 ${auth[@]+"${auth[@]}"} -X POST -H 'Content-Type: application/json' -d "$2" "$url$1"; }
stored() { # data stream: how many documents can be found in it
    curl -s -m 60 ${auth[@]+"${auth[@]}"} -X POST "$url/_refresh" >"$d/refresh"
    get "/$1/_count" | jq -r '.count // 0'
}
