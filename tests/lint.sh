#!/usr/bin/env bash
# lint.sh - both compilers with -Werror, cppcheck, clang-tidy's bug finders, shellcheck.
set -u
cd "$(dirname "$0")/.." || exit 1
bad=0
flags=(-std=gnu11 -D_GNU_SOURCE '-DSONDE_VERSION="lint"' '-DSONDE_COMMIT="lint"' -I.)
for cc in gcc clang; do
    make -s -j2 BUILD=build/lint-$cc CC=$cc CI=1 all tests || bad=1
done
mapfile -t sources < <(git ls-files 'wire/*.c' 'shim/*.c' 'collector/*.c' 'cli/*.c')
cppcheck --quiet --error-exitcode=1 --enable=warning,portability --inline-suppr --suppress=missingIncludeSystem \
    --suppress=normalCheckLevelMaxBranches -I. --std=c11 -j2 --include=tests/lint.h "${sources[@]}" || bad=1
clang-tidy --quiet --warnings-as-errors='*' --checks='-*,clang-analyzer-core.*,clang-analyzer-unix.*,bugprone-sizeof-*,bugprone-suspicious-*,-bugprone-suspicious-include' \
    "${sources[@]}" -- "${flags[@]}" 2>/dev/null || bad=1
shellcheck -S warning -x tests/*.sh bench/*.sh .ci/run || bad=1
[ $bad = 0 ] && echo "lint: clean" || echo "lint: findings above"
exit $bad
