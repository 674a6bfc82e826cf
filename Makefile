# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#
# sidestep: all that is built goes to $(B). `make help` lists the targets.

B ?= build
VERSION := 0.1.0
V ?= 0
Q := $(if $(filter 1,$(V)),,@)
say = @$(if $(filter 1,$(V)),true,printf '  %-7s %s\n' $(1) $(2))

CC := gcc
CLANG ?= clang
BPFTOOL ?= bpftool
ARCH_INCLUDE := -I/usr/include/$(shell $(CC) -print-multiarch 2>/dev/null)

# SANITIZE=address,undefined builds user space with sanitizers, into a folder of its own.
SANITIZE ?=
ifneq ($(SANITIZE),)
B := build-sanitize
SANITIZE_FLAGS := -fsanitize=$(SANITIZE) -fno-sanitize-recover=all -fno-omit-frame-pointer
endif

LIBS := libbpf libxdp libcyaml yaml-0.1 jansson libsystemd
WARNINGS := -Wall -Wextra -Wshadow -Wno-missing-field-initializers
CFLAGS ?= -O2 -g
ALL_CFLAGS = -std=gnu11 -D_GNU_SOURCE $(CFLAGS) $(WARNINGS) $(SANITIZE_FLAGS) -Iinclude -Iloader -I$(B) \
	$(shell pkg-config --cflags $(LIBS)) -MMD -MP
ALL_LIBS = $(SANITIZE_FLAGS) $(shell pkg-config --libs $(LIBS)) -lm -lpthread
# The same source gives the same bytes, and so the same version, in whatever folder it is built.
SAME_BYTES := -fdebug-compilation-dir=. -ffile-prefix-map=$(CURDIR)=.
BPF_CFLAGS := -O2 -g $(SAME_BYTES) -Wall -Wextra -Wno-unused-parameter -target bpf -mcpu=v3 $(ARCH_INCLUDE) -Iinclude -MMD -MP

LOADER_OBJS := $(patsubst loader/%.c,$(B)/loader/%.o,$(wildcard loader/*.c))
LOADER_LIB := $(filter-out $(B)/loader/main.o,$(LOADER_OBJS))
SKELETONS := $(B)/host.skel.h $(B)/adopt.skel.h $(B)/balancer.skel.h
UNIT_TESTS := $(patsubst tests/%.c,$(B)/tests/%,$(wildcard tests/test_*.c))

.PHONY: all
all: $(B)/sidestep $(B)/xdp_pass.bpf.o

.PHONY: help
help:
	@echo 'make              build sidestep into $(B)/'
	@echo 'sudo make demo    show a connection sidestep the balancer, IPv4 and IPv6'
	@echo 'sudo make check   run all tests'
	@echo 'sudo make check-kernels'
	@echo '                  run all tests on other kernels, emulated: $$KERNELS (6.1 6.12)'
	@echo 'sudo make bench   measure; results in $(B)/bench.json'
	@echo 'make unit         run the tests that need no network namespaces'
	@echo 'make fuzz         fuzz the option codec and the configuration, $$FUZZ_SECONDS each (10)'
	@echo 'make install      install to $$(DESTDIR)$$(PREFIX) (/usr/local)'
	@echo 'make format       format the sources; format-check only looks'
	@echo 'make deps         install the Debian packages that are missing'
	@echo 'make clean        remove what was built'
	@echo 'SANITIZE=address,undefined and V=1 work with all of them'

# --- packages ---------------------------------------------------------------------------------
# Nothing is asked of a fresh machine but make itself: demo, check and bench install what they lack.

.PHONY: deps
deps:
	$(Q).ci/install-packages

# --- rules ------------------------------------------------------------------------------------

$(B)/loader $(B)/tests $(B)/tests/bench $(B)/tests/e2e:
	$(Q)mkdir -p $@

$(B)/%.bpf.o: host-bpf/%.bpf.c | $(B)/loader
	$(call say,BPF,$@)
	$(Q)$(CLANG) $(BPF_CFLAGS) -c $< -o $@

$(B)/%.bpf.o: lb-xdp/%.bpf.c | $(B)/loader
	$(call say,BPF,$@)
	$(Q)$(CLANG) $(BPF_CFLAGS) -c $< -o $@

$(B)/%.bpf.o: netns-testbed/%.bpf.c | $(B)/loader
	$(call say,BPF,$@)
	$(Q)$(CLANG) $(BPF_CFLAGS) -c $< -o $@

$(B)/%.bpf.o: tests/bench/%.bpf.c | $(B)/loader
	$(call say,BPF,$@)
	$(Q)$(CLANG) $(BPF_CFLAGS) -c $< -o $@

$(B)/%.bpf.o: tests/e2e/%.bpf.c | $(B)/loader
	$(call say,BPF,$@)
	$(Q)$(CLANG) $(BPF_CFLAGS) -c $< -o $@

$(B)/%.skel.h: $(B)/%.bpf.o
	$(call say,SKEL,$@)
	$(Q)$(BPFTOOL) gen skeleton $< name $*_bpf > $@.tmp 2> $@.log || { cat $@.log; exit 1; }
	$(Q)mv $@.tmp $@

# Named, or make would count it as a file in between and prefer another rule for tests/bench.
$(B)/bench.skel.h: $(B)/bench.bpf.o

# A program's version names its code: another build is another version.
$(B)/version.h: $(B)/host.bpf.o $(B)/balancer.bpf.o
	$(call say,GEN,$@)
	$(Q)hash() { sha256sum $$1 | cut -c 1-12; }; { \
	echo '#define SIDESTEP_VERSION "$(VERSION)"'; \
	echo "#define HOST_VERSION \"$(VERSION)+$$(hash $(B)/host.bpf.o)\""; \
	echo "#define BALANCER_VERSION \"$(VERSION)+$$(hash $(B)/balancer.bpf.o)\""; } > $@

$(B)/loader/%.o: loader/%.c $(SKELETONS) $(B)/version.h | $(B)/loader
	$(call say,CC,$@)
	$(Q)$(CC) $(ALL_CFLAGS) -c $< -o $@

$(B)/sidestep: $(LOADER_OBJS)
	$(call say,LINK,$@)
	$(Q)$(CC) $^ -o $@ $(ALL_LIBS)

# --- tests ------------------------------------------------------------------------------------

$(B)/tests/%.o: tests/%.c $(SKELETONS) $(B)/version.h | $(B)/tests
	$(call say,CC,$@)
	$(Q)$(CC) $(ALL_CFLAGS) $(shell pkg-config --cflags cmocka) -c $< -o $@

# What the tests of the balancer share, and those of its choices.
$(addprefix $(B)/tests/test_,answer_xdp balancer_xdp udp_xdp load_xdp choice_xdp): $(B)/tests/balancer_load.o
$(B)/tests/test_load_xdp $(B)/tests/test_choice_xdp: $(B)/tests/balancer_run.o

$(B)/tests/%: $(B)/tests/%.o $(B)/tests/packet.o $(B)/tests/progrun.o $(B)/tests/many.o $(LOADER_LIB)
	$(call say,LINK,$@)
	$(Q)$(CC) $^ -o $@ $(ALL_LIBS) $(shell pkg-config --libs cmocka)

# The end-to-end tests are one program of several files.
E2E_OBJS := $(patsubst tests/%.c,$(B)/tests/%.o,$(filter-out %.bpf.c,$(wildcard tests/e2e/*.c)))
$(E2E_OBJS): | $(B)/tests/e2e
$(B)/tests/test_e2e: $(E2E_OBJS) | $(B)/middlebox.bpf.o

$(B)/tests/bench/%.o: tests/bench/%.c $(B)/bench.skel.h | $(B)/tests/bench
	$(call say,CC,$@)
	$(Q)$(CC) $(ALL_CFLAGS) -c $< -o $@

$(B)/bench_%: $(B)/tests/bench/bench_%.o $(B)/tests/packet.o $(B)/tests/many.o $(LOADER_LIB)
	$(call say,LINK,$@)
	$(Q)$(CC) $^ -o $@ $(ALL_LIBS)

# Fuzzers are built of the sources themselves, instrumented; see tests/fuzz/run.
FUZZ := option config
FUZZ_FLAGS := -std=gnu11 -D_GNU_SOURCE -O1 -g -Iinclude -Iloader -fsanitize=fuzzer,address,undefined \
	-fno-sanitize-recover=all
CONFIG_SOURCES := $(wildcard loader/config*.c) loader/yaml_line.c loader/address.c loader/hex.c \
	loader/error.c
$(B)/fuzz_%: tests/fuzz/fuzz_%.c $(CONFIG_SOURCES) $(wildcard include/sidestep/*.h loader/*.h) | $(B)/loader
	$(call say,FUZZ,$@)
	$(Q)$(CLANG) $(FUZZ_FLAGS) $< $(CONFIG_SOURCES) -o $@ $(shell pkg-config --cflags --libs libcyaml yaml-0.1)

.PHONY: fuzz
fuzz: $(patsubst %,$(B)/fuzz_%,$(FUZZ))
	$(Q)tests/fuzz/run $(B) $(FUZZ)

.PRECIOUS: $(B)/%.bpf.o $(B)/tests/%.o $(B)/tests/bench/%.o $(B)/%.skel.h

.PHONY: build-tests
build-tests: all $(UNIT_TESTS)

UNIT := $(patsubst %,$(B)/tests/%,test_option test_address test_config test_maglev test_report)
.PHONY: unit
unit: $(UNIT)
	$(Q)tests/run $(UNIT)

# User space under AddressSanitizer and UndefinedBehaviorSanitizer.
SANITIZED := $(patsubst %,build-sanitize/tests/%,test_option test_address test_config test_maglev test_report)
.PHONY: build-sanitized
build-sanitized:
	$(Q)$(MAKE) --no-print-directory SANITIZE=address,undefined $(SANITIZED)

# Not parallel: the testbed and the packet tests want the machine for themselves.
.PHONY: check
check: deps
	$(Q)$(MAKE) --no-print-directory build-tests build-sanitized $(patsubst %,$(B)/fuzz_%,$(FUZZ))
	$(Q)tests/run $(UNIT_TESTS) $(SANITIZED) "tests/fuzz/run $(B) $(FUZZ)" tests/test_testbed.sh

# The tests again, on kernels of Debian that this machine does not run.
.PHONY: check-kernels
check-kernels: deps
	$(Q)$(MAKE) --no-print-directory build-tests
	$(Q)tests/vm/check-kernels $(B) $(UNIT_TESTS)

.PHONY: demo
demo: deps
	$(Q)$(MAKE) --no-print-directory all
	$(Q)netns-testbed/demo

.PHONY: bench
bench: deps
	$(Q)$(MAKE) --no-print-directory all $(B)/bench_xdp $(B)/bench_table $(B)/bench_tcp $(B)/empty.bpf.o
	$(Q)tests/bench/bench

# --- the rest ---------------------------------------------------------------------------------

PREFIX ?= /usr/local
.PHONY: install
install: $(B)/sidestep
	install -D -m 755 $(B)/sidestep $(DESTDIR)$(PREFIX)/sbin/sidestep
	install -D -m 644 docs/sidestep.8 $(DESTDIR)$(PREFIX)/share/man/man8/sidestep.8

SOURCES := $(wildcard include/sidestep/*.h host-bpf/*.[ch] lb-xdp/*.[ch] loader/*.[ch] tests/*.[ch] \
	tests/*/*.[ch] netns-testbed/*.[ch])
SCRIPTS := .ci/run .ci/install-packages netns-testbed/testbed netns-testbed/demo netns-testbed/lib.sh \
	tests/run tests/fuzz/run tests/test_testbed.sh tests/bench/bench tests/vm/check-kernels \
	tests/vm/init
.PHONY: format format-check
format:
	$(Q)clang-format -i $(SOURCES)
format-check:
	$(Q)clang-format --dry-run -Werror $(SOURCES)
	$(Q)shellcheck -x $(SCRIPTS)

# For editors: clangd reads it.
compile_commands.json: Makefile
	$(Q)$(MAKE) -Bn V=1 all build-tests 2>/dev/null | grep -E '^(gcc|clang) .* -c ' | \
	sed -E 's|(.*) -c ([^ ]+) (.*)|{"directory": "$(CURDIR)", "file": "\2", "command": "\1 -c \2 \3"}|' | \
	sed 's|\\"|\\\\"|g' | jq -s . > $@

.PHONY: clean
clean:
	$(Q)rm -rf build build-sanitize

-include $(wildcard $(B)/*.d $(B)/loader/*.d $(B)/tests/*.d $(B)/tests/bench/*.d $(B)/tests/e2e/*.d)
