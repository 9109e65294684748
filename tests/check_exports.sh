#!/usr/bin/env bash
# The built recorder: exports what its table says and nothing else, needs nothing that an old libc lacks, never calls
# itself through its own exports, keeps unwind tables, uses initial-exec TLS, loads under LD_BIND_NOW.
cd "$(dirname "$0")/.." || exit 1
BUILD=${BUILD:-build}
so=$BUILD/libsonde.so
bad=0
complain() { echo "$*"; bad=1; }
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
export LC_ALL=C

sh shim/exports.sh shim/symbols.h | sed -nE 's/^        ([A-Za-z0-9_]+);$/\1/p' | sort -u >"$scratch/table"
nm -D --defined-only "$so" | awk '{print $3}' | sort -u >"$scratch/exported"
[ "$(wc -l <"$scratch/table")" -gt 80 ] || complain "the table has only $(wc -l <"$scratch/table") rows"
diff "$scratch/table" "$scratch/exported" >"$scratch/diff" || complain "exports differ from shim/symbols.h:" "$(cat "$scratch/diff")"
nm -D --defined-only "$so" | grep '@' && complain "an exported name has a version: interposition is off"

# what it imports: only these, none newer than glibc 2.17, none of them wrapped, none that musl lacks
allowed=' __errno_location clock_gettime dirfd environ __environ fileno getauxval memcpy memset memmove memcmp
 program_invocation_name __progname_full pthread_mutex_unlock strcmp strlen strncmp strchr '
nm -D --undefined-only "$so" | sed -nE 's/^ +U ([^@]+)(@.*)?$/\1/p' | sort -u >"$scratch/imported"
while read -r name; do
    [[ $allowed == *[[:space:]]"$name"[[:space:]]* ]] || complain "imports $name"
done <"$scratch/imported"
comm -12 "$scratch/imported" "$scratch/exported" | grep . && complain "imports what it wraps"
nm -D --undefined-only "$so" | sed -nE 's/.*@GLIBC_2\.([0-9]+).*/\1/p' | sort -n | tail -1 >"$scratch/newest"
[ "$(cat "$scratch/newest")" -le 17 ] || complain "needs glibc 2.$(cat "$scratch/newest")"
nm -D --undefined-only "$so" | grep -E '_chk(@|$)|__stack_chk' && complain "built with fortify or stack protector"
readelf -dW "$so" | grep NEEDED | grep -v 'libc\.so\.6' && complain "needs a library beyond libc"

# a call of an exported name from inside would go through the PLT or the GOT, and back into us
readelf -rW "$so" | awk '/R_(X86_64|AARCH64)_(JUMP_SLOT|GLOB_DAT|JUMP_SLO)/ {print $5}' | sed 's/@.*//' | sort -u >"$scratch/slots"
comm -12 "$scratch/slots" "$scratch/exported" | grep . && complain "calls itself through its own exports"

# thread-locals: one offset from the thread pointer, no call to find them
readelf -rW "$so" | grep -E 'DTPMOD|TLSDESC' && complain "thread-locals are not initial-exec"
nm -D --undefined-only "$so" | grep __tls_get_addr && complain "thread-locals are not initial-exec"
tls=$(readelf -lW "$so" | awk '$1 == "TLS" {print $6}')
((tls > 0 && tls <= 512)) || complain "$tls bytes of thread-locals: a late loader has little room for them"

readelf -SW "$so" | grep -q '\.eh_frame ' || complain "no unwind tables: pthread_cancel could not run handlers through us"
readelf -lW "$so" | awk '$1 == "GNU_STACK"' | grep -q E && complain "asks for an executable stack"
readelf -dW "$so" | grep -q TEXTREL && complain "has text relocations"
readelf -dW "$so" | grep -q 'NODELETE' || complain "could be unloaded"
readelf -dW "$so" | grep -q 'BIND_NOW' || complain "is bound lazily"
readelf -lW "$so" | grep -q RELRO || complain "its tables stay writable"
readelf -nW "$so" | grep -q 'Build ID' || complain "has no build id"

said=$(LD_BIND_NOW=1 LD_PRELOAD="$PWD/$so" /bin/true 2>&1) || complain "does not load under LD_BIND_NOW"
[ -z "$said" ] || complain "the loader says: $said"
said=$(env -u SONDE_ARENA LD_PRELOAD="$PWD/$so" /bin/echo alive 2>&1)
[ "$said" = alive ] || complain "without an arena it is seen: $said"

# frames on the event path stay small: threads and signal stacks are as small as 2 KiB
# shellcheck disable=SC2016
for o in "$BUILD"/pic/shim/*.o; do
    objdump -d --no-show-raw-insn "$o" | sed -nE 's/^[0-9a-f]+ <(.*)>:$/\1/p; s/.*sub +\$(0x[0-9a-f]+),%rsp$/\1/p' | while read -r word; do
        case $word in
        0x*) [[ $name =~ resolve|each_object|attach|object|find|parse|open_|make_|tables_ask|^learn$|sampled_tell ]] || [ $((word)) -lt 512 ] || echo "$name: $((word)) bytes" ;;
        *) name=$word ;;
        esac
    done
done >"$scratch/frames"
[ ! -s "$scratch/frames" ] || complain "frames of 512 bytes or more: $(cat "$scratch/frames")"
exit $bad
