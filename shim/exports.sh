#!/bin/sh
# exports.sh symbols.h... - writes the linker's version script: the wrapped names, nothing else.
# The node has no name: a version name would silently switch interposition off.
set -eu
names=$(for f in "$@"; do
    sed -nE 's/^ *(CALL|HAND|VARIADIC|TAIL)\([a-z]+, *[^,]+, *([A-Za-z0-9_]+),.*/\2/p' "$f"
    for part in $(sed -nE 's/^#include "shim\/(symbols_[a-z]+\.h)"$/\1/p' "$f"); do
        sed -nE 's/^ *(CALL|HAND|VARIADIC|TAIL)\([a-z]+, *[^,]+, *([A-Za-z0-9_]+),.*/\2/p' "$(dirname "$f")/$part"
    done
done | sort -u)
[ -n "$names" ] || { echo "exports.sh: no rows in $*" >&2; exit 1; }
echo '{'
echo '    global:'
for n in $names; do echo "        $n;"; done
echo '    local: *;'
echo '};'
