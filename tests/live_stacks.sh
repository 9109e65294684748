#!/usr/bin/env bash
# Sampled stacks without a collector: right, unbiased, followed until freed; no crash and no hang where walking is hard.
. "$(dirname "$0")/lib.sh"
need python3 strace
run=$BUILD/tests/arena_run
events() { python3 tests/stack_events.py "$@" || fail "$*"; }
[ "$(uname -m)" = x86_64 ] || skip "stacks are walked on x86-64 only"

# each of them with every allocator: -r 1 samples every block
allocators=("" libjemalloc.so.2 libtcmalloc_minimal.so.4 libmimalloc.so.2.0)
sampled() { # allocator program arguments: what it printed is $scratch/printed
    LD_PRELOAD=$1 timeout 120 "$run" -b 0x10000000 -r "${MEAN:-1}" -o "$scratch/events" "$BUILD/tests/$2" "${@:3}" >"$scratch/printed"
    local rc=$?
    [ $rc = 0 ] || { fail "$*: exit $rc"; tail -3 "$scratch/printed"; return 1; }
    if grep -E "^sum .* (${FULL-full}|damaged|no_lane|refused)=[1-9]" "$scratch/events"; then fail "$*: unexpected losses"; fi
}

for a in "${allocators[@]}"; do
    for p in live_stack_chain live_stack_fixed live_stack_pointers; do
        sampled "$a" $p -v && events chains "$scratch/events" "$scratch/printed"
    done
    for p in "live_heap_threads -v 4 3000" "live_heap_operators -v" "live_heap_signal -v"; do
        # shellcheck disable=SC2086
        sampled "$a" $p && events books "$scratch/events" "$scratch/printed" && events known "$scratch/events"
    done
    for mean in 1000 20000; do
        MEAN=$mean sampled "$a" live_stack_sizes -v && events rate "$scratch/events" "$scratch/printed" $mean
    done
    echo "checked: stacks, books and rates on ${a:-glibc}"
done

for a in "" libjemalloc.so.2; do
    FULL=damaged sampled "$a" live_stack_hard # threads that do nothing but allocate may fill the arena
    is "hard places on ${a:-glibc}" "$(grep -c ' ok$' "$scratch/printed")" 11
done
for case in signal altstack longjmp; do
    LIVE_SIGNAL_MALLOC=1 sampled "$BUILD/tests/signal_malloc.so" live_stack_hard $case
    is "$case inside malloc and inside the recorder" "$(cat "$scratch/printed")" "$case ok"
done

# other code at the same address: what was known of the library before is forgotten
sampled "" live_stack_hard unload
is "stacks that end early through libraries that go" "$(grep -cE 'end=(unknown|unsafe|cut)' "$scratch/events")" 0

# between samples there is no system call
calls() { strace -f "$run" -f "$1" -r "$2" "$BUILD/tests/$3" 2>&1 | grep -vcE 'wait4|nanosleep'; }
none=$(calls 1 0 live_stack_sizes) few=$(calls 3 1099511627776 live_stack_sizes)
[ "$few" -lt $((none + 120)) ] || fail "system calls: $none bare, $few without samples"
# a page of stack is proven by rt_sigprocmask(99, ...)
asked=$(strace -f -e trace=rt_sigprocmask "$run" -r 1 "$BUILD/tests/live_stack_chain" 2>&1 | grep -c 'rt_sigprocmask(0x63')
[ "$asked" -gt 10 ] || fail "stack pages asked for: $asked"
finish
