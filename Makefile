# sonde - what every request costs, seen from inside a server that nobody recompiled.
# `make help` lists the targets.

BUILD   ?= build
PREFIX  ?= /usr/local
DESTDIR ?=
CC      ?= gcc
VERSION := 0.1.0
COMMIT  := $(shell git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)

WARN    := -Wall -Wextra -Wshadow -Wundef -Wstrict-prototypes -Wmissing-prototypes -Wformat=2 -Wvla $(if $(CI),-Werror)
COMMON  := -std=gnu11 -O2 -g -I. $(WARN) -MMD -MP
CFLAGS  ?=
SANITIZE ?=

# The recorder lives in other people's servers: no stack protector, no fortify (they import symbols that musl lacks),
# no large-file renaming (it would rename our exports), unwind tables kept (pthread_cancel runs through us).
SHIM_CFLAGS := $(COMMON) -fPIC -fvisibility=hidden -fno-stack-protector -U_FORTIFY_SOURCE -fasynchronous-unwind-tables \
	-fexceptions -fcf-protection -ftls-model=initial-exec -fno-builtin -fno-strict-aliasing
SHIM_LDFLAGS := -shared -Wl,-z,defs -Wl,-z,now -Wl,-z,relro -Wl,-z,nodelete -Wl,-z,noexecstack -Wl,--build-id \
	-Wl,--version-script=$(BUILD)/shim.map

# The collector is linked as one: an eighth less CPU for each event, and -O3 2 % less. The objects hold plain code too, for
# the tests.
LTO := $(if $(SANITIZE)$(findstring clang,$(CC))$(FAST_BUILD),,-O3 -flto=auto -ffat-lto-objects)
HOST_CFLAGS := $(COMMON) -D_GNU_SOURCE -DSONDE_VERSION='"$(VERSION)"' -DSONDE_COMMIT='"$(COMMIT)"' $(CFLAGS) $(SANITIZE)
COLLECTOR_LIBS := -lsqlite3 -lcurl -lcjson -ldeflate -ldw -lelf -lpthread -lm
# the collector's own heap; sanitizers bring their own allocator
MALLOC_LIBS := $(if $(SANITIZE),,-ljemalloc)

SHIM_SRC := $(wildcard shim/*.c) $(filter-out wire/options.c,$(wildcard wire/*.c))
SHIM_ASM := $(wildcard shim/*.S)
SHIM_OBJ := $(SHIM_SRC:%.c=$(BUILD)/pic/%.o) $(SHIM_ASM:%.S=$(BUILD)/pic/%.o)

LIB_SRC := $(wildcard wire/*.c) $(filter-out collector/main.c,$(wildcard collector/*.c)) \
	$(wildcard collector/protocol/*.c) $(wildcard collector/sink/*.c)
LIB_OBJ := $(LIB_SRC:%.c=$(BUILD)/host/%.o)
CLI_OBJ := $(patsubst %.c,$(BUILD)/host/%.o,$(wildcard cli/*.c))

TEST_UNITS := $(patsubst tests/%.c,$(BUILD)/tests/%,$(wildcard tests/test_*.c))
# inputs that a fuzz target once found something with
TEST_UNITS += $(patsubst tests/findings/%,$(BUILD)/tests/test_findings_%,$(wildcard tests/findings/*))
TEST_LIVE  := $(patsubst tests/%.c,$(BUILD)/tests/%,$(wildcard tests/live_*.c))
# the recorder without its exported names: tests and benches link it and put their own functions into `real`
SHIM_PARTS := $(patsubst %,$(BUILD)/pic/shim/%.o,record cpu owed rule rule_object rule_tables sampled stack stack_switch stall lifecycle program descriptor real \
	usage watch wrap_io wrap_message wrap_socket wrap_descriptor wrap_wait wrap_lock wrap_sleep wrap_file)
BENCHES    := $(patsubst bench/%.c,$(BUILD)/bench/%,$(wildcard bench/bench_*.c))
FUZZERS    := $(patsubst tests/%.c,$(BUILD)/fuzz/%,$(wildcard tests/fuzz_*.c))

.PHONY: all deps demo test check bench fuzz asan ubsan tsan lint format install help clean tests
.DELETE_ON_ERROR:
.SECONDARY:

all: $(BUILD)/libsonde.so $(BUILD)/sonde-collector $(BUILD)/sonde

$(BUILD)/shim.map: shim/exports.sh $(wildcard shim/symbols*.h)
	@mkdir -p $(@D)
	sh shim/exports.sh shim/symbols.h > $@

$(BUILD)/libsonde.so: $(SHIM_OBJ) $(BUILD)/shim.map
	$(CC) $(SHIM_LDFLAGS) -o $@.new $(SHIM_OBJ)
	mv -f $@.new $@

$(BUILD)/pic/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(SHIM_CFLAGS) -c -o $@ $<

$(BUILD)/pic/%.o: %.S
	@mkdir -p $(@D)
	$(CC) $(SHIM_CFLAGS) -c -o $@ $<

$(BUILD)/host/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(HOST_CFLAGS) $(LTO) -c -o $@ $<

$(BUILD)/host/collector/flame_html.o: collector/flame_page.html

$(BUILD)/libcollector.a: $(LIB_OBJ)
	@rm -f $@
	ar rcs $@ $^

# Renamed into place like the library: while the linker writes it, whoever starts it is told "Text file busy".
$(BUILD)/sonde-collector: $(BUILD)/host/collector/main.o $(BUILD)/libcollector.a
	$(CC) -O2 -g $(SANITIZE) $(LTO) -o $@.new $^ $(COLLECTOR_LIBS) $(MALLOC_LIBS)
	mv -f $@.new $@

$(BUILD)/sonde: $(CLI_OBJ) $(BUILD)/libcollector.a
	$(CC) $(SANITIZE) -o $@.new $^ $(COLLECTOR_LIBS)
	mv -f $@.new $@

# Unit tests link the collector and the wire; a test that needs shim modules names their objects: `test_x_OBJ = ...`.
$(BUILD)/tests/test_%: tests/test_%.c $(BUILD)/libcollector.a
	@mkdir -p $(@D)
	$(CC) $(HOST_CFLAGS) -o $@ $< $(test_$*_OBJ) $(BUILD)/libcollector.a -lcmocka $(COLLECTOR_LIBS)

# small tables: fast to make, and soon full
fuzz_connection_FLAGS := -DITEM_LANES_MAX=16u -DPARSERS=12u -DHOLDS=6u -Wl,--wrap=rollup_span,--wrap=rollup_fact,--wrap=rollup_tick
# Found inputs again, without a fuzzer; of their flags the linker's alone, as the library has its tables' full sizes.
$(BUILD)/tests/test_findings_%: tests/fuzz_%.c tests/findings.c $(BUILD)/libcollector.a
	@mkdir -p $(@D)
	$(CC) $(HOST_CFLAGS) -UNDEBUG -o $@ tests/findings.c $< $(filter -Wl%,$(fuzz_$*_FLAGS)) $(BUILD)/libcollector.a $(COLLECTOR_LIBS)

live_heap_operators_LDFLAGS := -Wl,--no-as-needed -l:libstdc++.so.6

live_io_noplt_LDFLAGS := -fno-plt
# Small servers and programs that run through the preload; they link nothing of ours.
$(BUILD)/tests/live_%: tests/live_%.c
	@mkdir -p $(@D)
	$(CC) $(HOST_CFLAGS) -fno-builtin -o $@ $< $(live_$*_LDFLAGS) -lpthread -ldl

# an allocator that cannot tell the size of its blocks
$(BUILD)/tests/partial_malloc.so: tests/partial_malloc.c
	@mkdir -p $(@D)
	$(CC) $(HOST_CFLAGS) -fno-builtin -fPIC -shared -o $@ $<

# two libraries that differ in the frame of their function; the same program with fixed addresses, with frame pointers
$(BUILD)/tests/stack_plugin_a.so: STACK_ROOM := 200
$(BUILD)/tests/stack_plugin_b.so: STACK_ROOM := 300
$(BUILD)/tests/stack_plugin_%.so: tests/stack_plugin.c
	@mkdir -p $(@D)
	$(CC) $(HOST_CFLAGS) -DPLUGIN_ROOM=$(STACK_ROOM) -fPIC -shared -o $@ $<

$(BUILD)/tests/signal_malloc.so: tests/signal_malloc.c
	@mkdir -p $(@D)
	$(CC) $(HOST_CFLAGS) -fno-builtin -fPIC -shared -o $@ $<

live_stack_hard_LDFLAGS := -Wl,--export-dynamic
live_stack_chain_LDFLAGS := -fpie -pie
$(BUILD)/tests/live_stack_fixed: tests/live_stack_chain.c
	@mkdir -p $(@D)
	$(CC) $(HOST_CFLAGS) -fno-builtin -fno-pie -no-pie -o $@ $< -lpthread -ldl
$(BUILD)/tests/live_stack_pointers: tests/live_stack_chain.c
	@mkdir -p $(@D)
	$(CC) $(HOST_CFLAGS) -fno-builtin -fno-omit-frame-pointer -o $@ $< -lpthread -ldl
STACK_TESTS := $(patsubst %,$(BUILD)/tests/%,signal_malloc.so stack_plugin_a.so stack_plugin_b.so live_stack_fixed live_stack_pointers)

# tools of the tests: arena_run runs a command under the bare recorder and shows its events, push_rows drives a sink
TEST_TOOLS := $(BUILD)/tests/arena_run $(BUILD)/tests/push_rows
$(TEST_TOOLS): $(BUILD)/tests/%: tests/%.c $(BUILD)/libcollector.a
	@mkdir -p $(@D)
	$(CC) $(HOST_CFLAGS) -o $@ $< $(BUILD)/libcollector.a $(COLLECTOR_LIBS)

test_record_OBJ := $(SHIM_PARTS)
test_cpu_OBJ := $(SHIM_PARTS)
test_rule_OBJ := $(SHIM_PARTS)
bench_record_OBJ := $(SHIM_PARTS)
$(BUILD)/tests/test_record $(BUILD)/tests/test_cpu $(BUILD)/tests/test_rule $(BUILD)/bench/bench_record: $(SHIM_PARTS)

$(BUILD)/bench/bench_%: bench/bench_%.c $(BUILD)/libcollector.a
	@mkdir -p $(@D)
	$(CC) $(HOST_CFLAGS) -fno-builtin -o $@ $< $(bench_$*_OBJ) $(BUILD)/libcollector.a $(COLLECTOR_LIBS)

# A target whose flags change the tables compiles all of the library with them; the others share its objects.
FUZZ_CC := clang -std=gnu11 -D_GNU_SOURCE -O1 -g -I. -DSONDE_VERSION='"fuzz"' -DSONDE_COMMIT='"fuzz"' \
	-fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined
FUZZ_OBJ := $(LIB_SRC:%.c=$(BUILD)/fuzz-obj/%.o)

$(BUILD)/fuzz-obj/%.o: %.c
	@mkdir -p $(@D)
	$(FUZZ_CC) -MMD -MP -c -o $@ $<

$(BUILD)/fuzz-obj/collector/flame_html.o: collector/flame_page.html

$(BUILD)/fuzz/fuzz_connection: FUZZ_OBJ := $(LIB_SRC)
$(BUILD)/fuzz/fuzz_%: tests/fuzz_%.c $(FUZZ_OBJ)
	@mkdir -p $(@D)
	$(FUZZ_CC) -o $@ $< $(fuzz_$*_FLAGS) $(FUZZ_OBJ) $(COLLECTOR_LIBS)

tests: $(TEST_UNITS) $(TEST_LIVE) $(TEST_TOOLS) $(BUILD)/tests/partial_malloc.so $(STACK_TESTS)

# --- targets for people -------------------------------------------------------------------------------------------

deps: ## install what a fresh Debian 12 lacks
	@sh tests/deps.sh

demo: ## build, watch a real nginx under load, show what its requests cost
	@sh tests/deps.sh
	@$(MAKE) --no-print-directory all
	@bash tests/demo.sh

test: ## all tests: units, live programs, real servers
	@sh tests/deps.sh
	@$(MAKE) --no-print-directory all tests
	@bash tests/run.sh

check: all ## rules of the built files: exports, self-calls, include direction
	@bash tests/run.sh 'check_*'

bench: all $(BENCHES) ## cost per call and per request, as ratios against the bare server
	@bash bench/run.sh

fuzz: $(FUZZERS) ## run each fuzz target for FUZZ_SECONDS (default 600)
	@bash tests/fuzz.sh

asan: ## unit tests under address sanitizer
	@$(MAKE) --no-print-directory BUILD=$(BUILD)/asan SANITIZE='-fsanitize=address -fno-omit-frame-pointer' sanitized

ubsan: ## unit tests under undefined-behaviour sanitizer
	@$(MAKE) --no-print-directory BUILD=$(BUILD)/ubsan SANITIZE='-fsanitize=undefined -fno-sanitize-recover=all' sanitized

tsan: ## unit tests under thread sanitizer
	@$(MAKE) --no-print-directory BUILD=$(BUILD)/tsan SANITIZE='-fsanitize=thread' sanitized

.PHONY: sanitized
sanitized: $(TEST_UNITS)
	@SANITIZED=1 TEST_LIMIT=$${TEST_LIMIT:-900} BUILD=$(BUILD) bash tests/run.sh 'test_*'

lint: ## clang-tidy, cppcheck, shellcheck, both compilers with -Werror
	@bash tests/lint.sh

format: ## clang-format over the tree
	clang-format -i $(shell git ls-files '*.c' '*.h')

install: all ## install under DESTDIR and PREFIX; the library is renamed into place
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/lib/sonde $(DESTDIR)$(PREFIX)/share/man/man1 \
		$(DESTDIR)$(PREFIX)/share/bash-completion/completions
	install -m 755 $(BUILD)/sonde $(DESTDIR)$(PREFIX)/bin/sonde
	install -m 755 $(BUILD)/sonde-collector $(DESTDIR)$(PREFIX)/lib/sonde/sonde-collector
	install -m 755 $(BUILD)/libsonde.so $(DESTDIR)$(PREFIX)/lib/sonde/.libsonde.so.new
	mv -f $(DESTDIR)$(PREFIX)/lib/sonde/.libsonde.so.new $(DESTDIR)$(PREFIX)/lib/sonde/libsonde.so
	install -m 644 docs/sonde.1 $(DESTDIR)$(PREFIX)/share/man/man1/sonde.1
	install -m 644 cli/completion.bash $(DESTDIR)$(PREFIX)/share/bash-completion/completions/sonde

help: ## this list
	@awk -F':.*## ' '/^[a-z]+:.*## /{printf "  %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

clean: ## remove what was built
	rm -rf $(BUILD)

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
