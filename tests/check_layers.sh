#!/usr/bin/env bash
# Includes run one way: shim → wire ← collector ← cli; parsers include only C headers and their own; each library has
# one place; the recorder calls nothing that it must not.
cd "$(dirname "$0")/.." || exit 1
BUILD=${BUILD:-build}
bad=0
complain() { echo "$*"; bad=1; }
includes() { grep -nE '^\s*#\s*include\s+"' "$@" /dev/null; }

includes wire/*.[ch] | grep -vE '"wire/' && complain "wire/ includes something of the other parts"
includes shim/*.[ch] | grep -vE '"(wire|shim)/' | grep -vE '"[a-z_]+\.h"' && complain "shim/ includes something beyond wire/"
includes collector/*.[ch] collector/sink/*.[ch] | grep -E '"(shim|cli)/' && complain "collector/ includes shim/ or cli/"
includes collector/protocol/*.[ch] | grep -vE '"collector/protocol/' && complain "a parser includes something that is not a parser's"
grep -lE '#\s*include\s+<(unistd|time|fcntl|sys/[a-z]+|stdio|stdlib|pthread)\.h>' collector/protocol/*.[ch] &&
    complain "a parser includes a header of system calls, I/O or allocation"
grep -lE 'curl/curl\.h' -r wire shim collector cli | grep -v '^collector/sink/elasticsearch' && complain "libcurl outside of the Elasticsearch sink"
grep -lE 'include <sqlite3\.h>' -r wire shim collector cli | grep -vE '^collector/sink/store|^collector/sink/sinks|^collector/report_load|^cli/report' &&
    complain "SQLite outside of the store and the report's loading"
grep -nE '\b(TODO|FIXME|XXX)\b' -r wire shim collector cli bench tests --include='*.[chS]' && complain "left unfinished by its own words"

# the recorder: no allocation, stdio, locks, threads, sockets, signals of its own
forbidden='malloc|calloc|realloc|free|printf|fprintf|snprintf|vsnprintf|puts|fopen|fwrite|abort|exit|pthread_create|pthread_once|sigaction|signal|socket|__stack_chk_fail|__errno_location_chk|getenv|dl_iterate_phdr'
if [ -e "$BUILD/libsonde.so" ]; then
    nm -D --undefined-only "$BUILD/libsonde.so" | sed 's/@.*//; s/.* //' | grep -Ex "$forbidden" && complain "the recorder imports what it must not use"
fi
exit $bad
