# GAL: `make help` says what there is. A program's object list is its architecture: it links only what its role needs.
CC ?= cc
PYTHON ?= /usr/bin/python3
B ?= build
PREFIX ?= /usr/local

WARN = -Wall -Wextra -Wshadow -Wconversion -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wformat=2 -Wundef \
       $(if $(WERROR),-Werror)
HARDEN = -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3 -fstack-protector-strong -fstack-clash-protection -fPIE
OPT ?= -O2 -g
CFLAGS ?= $(OPT) $(if $(SANITIZE),-fsanitize=$(SANITIZE) -fno-omit-frame-pointer,$(HARDEN))
ALL_CFLAGS = -std=gnu11 -D_GNU_SOURCE $(WARN) $(CFLAGS) -I. -I$(B) -MMD -MP
ALL_LDFLAGS = -pie -Wl,-z,relro,-z,now,-z,noexecstack,--as-needed $(if $(SANITIZE),-fsanitize=$(SANITIZE)) $(LDFLAGS)

PROGRAMS = gal-sponsor gal-assistor gal-link gal-core gal-worker gal

COMMON   = common/log.o common/pipe.o common/conf.o common/child.o common/sandbox.o
WIRE     = common/wire.o common/msg.o proto/gal.pb-c.o
SUPERVISE = common/log.o common/pipe.o common/conf.o common/conf_read.o common/supervise.o common/filter.o common/control.o

gal-sponsor_OBJ  = sponsor/main.o $(SUPERVISE)
gal-sponsor_LIB  = -linih -ljansson -lseccomp
gal-assistor_OBJ = assistor/main.o $(SUPERVISE)
gal-assistor_LIB = -linih -ljansson -lseccomp
gal-link_OBJ     = common/link.o common/transfer.o common/net.o common/trace.o common/digest.o common/key.o $(COMMON) $(WIRE)
gal-link_LIB     = -lzmq -lsodium -lprotobuf-c
gal-core_OBJ     = sponsor/core.o sponsor/gal.o sponsor/step.o sponsor/replay.o sponsor/peers.o sponsor/run.o sponsor/rows.o sponsor/labels.o \
                   sponsor/predict.o sponsor/loss.o sponsor/weights.o sponsor/rate.o sponsor/metric.o \
                   common/inbox.o common/digest.o common/mat.o common/store.o common/table.o $(COMMON) $(WIRE)
gal-core_LIB     = -lopenblas -lsqlite3 -lprotobuf-c -lsodium -lz -lm
gal-worker_OBJ   = assistor/worker.o assistor/runs.o assistor/policy.o assistor/features.o assistor/model.o assistor/model_linear.o \
                   common/inbox.o common/digest.o common/mat.o common/store.o common/table.o $(COMMON) $(WIRE)
gal-worker_LIB   = -lopenblas -lsqlite3 -lprotobuf-c -lsodium -lz -lm
gal_OBJ          = $(patsubst %.c,%.o,$(wildcard deploy/gal/*.c)) common/key.o common/table.o common/log.o
gal_LIB          = -lsodium -ljansson -lz -lm

# unit tests: tests/unit/test_X.c with the objects it exercises
TESTS = test_loss test_weights test_rate test_metric test_table test_features test_model_linear test_mat test_key
test_loss_OBJ = sponsor/loss.o common/mat.o
test_weights_OBJ = sponsor/weights.o common/mat.o
test_rate_OBJ = sponsor/rate.o sponsor/loss.o common/mat.o
test_metric_OBJ = sponsor/metric.o sponsor/loss.o common/mat.o
test_table_OBJ = common/table.o
test_features_OBJ = assistor/features.o common/table.o common/mat.o
test_model_linear_OBJ = assistor/model.o assistor/model_linear.o common/mat.o
test_mat_OBJ = common/mat.o
test_key_OBJ = common/key.o
TEST_LIB = -lcmocka -lopenblas -lsqlite3 -lsodium -lprotobuf-c -lz -lm

# measurements: tests/bench/bench_X.c, likewise
BENCHES = bench_table bench_linear make_table
bench_table_OBJ = common/table.o
bench_linear_OBJ = assistor/model_linear.o common/mat.o

# fuzz targets: tests/fuzz/fuzz_X.c, with main() of replay.c or of libFuzzer (FUZZER=-fsanitize=fuzzer), corpus in tests/fuzz/corpus/X
FUZZ = msg transfer pipe key z85 conf table trace features model worker link peers
FUZZ_BASE = tests/fuzz/fuzz.o common/msg.o common/digest.o proto/gal.pb-c.o
fuzz_transfer_OBJ = common/transfer.o
fuzz_pipe_OBJ = common/pipe.o
fuzz_key_OBJ = common/key.o
fuzz_z85_OBJ = common/key.o
fuzz_conf_OBJ = common/conf.o
fuzz_table_OBJ = common/table.o
fuzz_trace_OBJ = common/trace.o tests/fuzz/gal_trace.o deploy/gal/client.o deploy/gal/util.o
fuzz_features_OBJ = assistor/features.o common/table.o common/mat.o
fuzz_model_OBJ = assistor/model.o assistor/model_linear.o common/mat.o
fuzz_worker_OBJ = assistor/runs.o assistor/policy.o assistor/features.o assistor/model.o assistor/model_linear.o common/inbox.o common/mat.o \
                  common/store.o common/table.o common/conf.o common/pipe.o tests/fuzz/own.o
fuzz_link_OBJ = common/transfer.o common/trace.o common/key.o common/conf.o common/pipe.o tests/fuzz/own.o
fuzz_peers_OBJ = common/inbox.o common/mat.o common/conf.o common/pipe.o tests/fuzz/own.o
FUZZ_LIB = -lopenblas -lsqlite3 -lsodium -lprotobuf-c -ljansson -linih -lz -lm
FUZZ_RUNS ?= 20000
FUZZ_SEED ?= 1
FUZZ_JOBS ?= 2

obj = $(addprefix $(B)/,$(1))

all: $(addprefix $(B)/,$(PROGRAMS))  ## build the programs

.SECONDEXPANSION:
$(addprefix $(B)/,$(PROGRAMS)): $(B)/%: $$(call obj,$$($$*_OBJ))
	$(CC) $(ALL_LDFLAGS) $^ $($*_LIB) -o $@

$(addprefix $(B)/tests/unit/,$(TESTS)): $(B)/tests/unit/%: $(B)/tests/unit/%.o $$(call obj,$$($$*_OBJ))
	$(CC) $(ALL_LDFLAGS) $^ $(TEST_LIB) -o $@

$(addprefix $(B)/tests/bench/,$(BENCHES)): $(B)/tests/bench/%: $(B)/tests/bench/%.o $$(call obj,$$($$*_OBJ))
	$(CC) $(ALL_LDFLAGS) $^ -lopenblas -lz -lm -o $@

$(addprefix $(B)/tests/fuzz/fuzz_,$(FUZZ)): %: %.o $$(call obj,$$($$(*F)_OBJ) $$(FUZZ_BASE) $$(if $$(FUZZER),,tests/fuzz/replay.o))
	$(CC) $(ALL_LDFLAGS) $(FUZZER) $^ $(FUZZ_LIB) -o $@

$(B)/%.o: %.c | $(B)/proto/gal.pb-c.h
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -c $< -o $@

$(B)/proto/gal.pb-c.o: $(B)/proto/gal.pb-c.c
	$(CC) -std=gnu11 $(CFLAGS) -I$(B) -c $< -o $@

$(B)/proto/gal.pb-c.c $(B)/proto/gal.pb-c.h &: proto/gal.proto
	@mkdir -p $(B)/proto
	protoc-c --c_out=$(B) $<

$(B)/tests/gal_pb2.py: proto/gal.proto
	@mkdir -p $(@D)
	protoc --python_out=$(B)/tests -Iproto $<

deps:  ## install the Debian packages that are missing
	@deploy/install-deps

# Quiet: what the daemons and the build say is shown when something fails.
DEMO = $(B)/gal simulate tests/data/reference/breast_cancer.csv --target target --orgs 8 --baselines alone,joint
demo: deps  ## install, build, and 8 organizations learn together on this host
	@$(MAKE) -q all >/dev/null 2>&1 || echo "building …"
	@$(MAKE) -s -j$$(nproc) all
	@rm -rf $(B)/demo
	@echo "Eight organizations know the same patients. Each holds 3 or 4 of 30 measurements; the sponsor alone"
	@echo "holds the diagnosis. In each round it sends the residual: what its score still misses on each row."
	@echo "Every organization fits the residual with its own columns and sends back the fitted values; the"
	@echo "sponsor weighs them and takes a step. Eight daemons, encrypted sockets; no column is ever sent."
	@echo
	@$(DEMO) --keep --out $(B)/demo 2>$(B)/demo.log || { cat $(B)/demo.log >&2; exit 1; }
	@echo "One round as a picture, and the proof that both ends tell the same:"
	@echo "    $(B)/gal trace $(B)/demo/org2/trace.jsonl --diagram"
	@echo "    $(B)/gal trace $(B)/demo/sponsor/trace.jsonl $(B)/demo/org2/trace.jsonl --verify"
	@echo "Not protected: the residual of a classification task shows each row's label by its sign (README.md)."

install: all  ## to PREFIX (/usr/local): programs, man pages; DESTDIR is respected
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/libexec/gal $(addprefix $(DESTDIR)$(PREFIX)/share/man/man,1 5 8)
	install $(addprefix $(B)/,gal gal-sponsor gal-assistor) $(DESTDIR)$(PREFIX)/bin
	install $(addprefix $(B)/,gal-link gal-core gal-worker) $(DESTDIR)$(PREFIX)/libexec/gal
	for n in 1 5 8; do install -m 644 docs/man/*.$$n $(DESTDIR)$(PREFIX)/share/man/man$$n; done

check-source:  ## the sources against the rules of docs/ARCHITECTURE.md; gal.c against docs/ALGORITHM.md
	@$(PYTHON) tests/check_source.py

check: deps  ## all tests, short forms (≤ 20 minutes on 2 cores)
	$(MAKE) -s -j$$(nproc) all unit
	$(MAKE) -s check-source check-hardening check-unit check-fuzz check-asan check-valgrind check-system

check-full: deps  ## the figures of the bars that take longer
	$(MAKE) -s check FUZZ_RUNS=1000000
	$(MAKE) -s bench

check-hardening: all  ## compiler and linker hardening, read off the built programs
	@$(PYTHON) tests/check_hardening.py $(B)

unit: $(addprefix $(B)/tests/unit/,$(TESTS))

check-unit: unit  ## unit tests (cmocka)
	@set -e; for t in $(TESTS); do $(B)/tests/unit/$$t; done

fuzz: $(addprefix $(B)/tests/fuzz/fuzz_,$(FUZZ))

replay: fuzz
	@set -e; for t in $(FUZZ); do $(B)/tests/fuzz/fuzz_$$t tests/fuzz/corpus/$$t; done

# one target's executions; what it finds new is kept beside its program, a failing input too
$(addprefix fuzz-,$(FUZZ)): fuzz-%: $(B)/tests/fuzz/fuzz_%
	@mkdir -p $(B)/corpus/$*
	@OPENBLAS_NUM_THREADS=1 $< -runs=$(FUZZ_RUNS) -seed=$(FUZZ_SEED) -max_len=4096 -timeout=20 -verbosity=0 -print_final_stats=1 \
	    -artifact_prefix=$(B)/$*- $(B)/corpus/$* tests/fuzz/corpus/$* >$(B)/$*.log 2>&1 || { cat $(B)/$*.log; exit 1; }
	@echo "fuzz_$*: $$(sed -n 's/^stat::number_of_executed_units: *//p' $(B)/$*.log) executions, none failed"

fuzz-runs: $(addprefix fuzz-,$(FUZZ))

SANITIZED = SANITIZE=$(if $(1),$(1)$(comma))address,undefined OPT='-O1 -g -fno-sanitize-recover=all'
comma = ,

check-fuzz:  ## fuzz targets: their corpora, then FUZZ_RUNS executions each where clang has libFuzzer
	@$(MAKE) -s B=$(B)/replay $(call SANITIZED) replay
	@if printf 'int LLVMFuzzerTestOneInput(const char *d, long n) { return d && !n; }' | \
	    clang -fsanitize=fuzzer -x c - -o $(B)/replay/probe 2>/dev/null; then \
	    $(MAKE) -s -j$(FUZZ_JOBS) B=$(B)/fuzz CC=clang $(call SANITIZED,fuzzer-no-link) FUZZER=-fsanitize=fuzzer fuzz-runs; \
	else echo 'no libFuzzer here: the corpora alone were run'; fi

COVERED = common/msg.c common/transfer.c common/pipe.c common/conf.c common/conf_read.c common/key.c common/table.c \
          common/trace.c common/link.c common/inbox.c assistor/features.c assistor/worker.c sponsor/peers.c \
          deploy/gal/trace_read.c deploy/gal/trace_verify.c
fuzz-coverage:  ## lines of the decoders that the corpora reach
	@rm -f $(B)/coverage/*.profraw
	@LLVM_PROFILE_FILE=$(B)/coverage/%p.profraw $(MAKE) -s B=$(B)/coverage CC=clang LDFLAGS=-fprofile-instr-generate \
	    CFLAGS='-O1 -g -fprofile-instr-generate -fcoverage-mapping' replay
	@llvm-profdata merge -o $(B)/coverage/all.profdata $(B)/coverage/*.profraw
	@llvm-cov report $(B)/coverage/tests/fuzz/fuzz_msg $(patsubst %,-object $(B)/coverage/tests/fuzz/fuzz_%,$(FUZZ)) \
	    -instr-profile=$(B)/coverage/all.profdata $(COVERED) | awk '{ printf "%-40s %8s %8s %9s\n", $$1, $$8, $$9, $$10 }'

bench: all bench-table bench-linear $(B)/tests/bench/make_table  ## what the parts and the whole cost, side by side (≤ 10 minutes)
	$(PYTHON) tests/bench/bench.py $(B) $(if $(SMALL),,--large)
check-system: all  ## system tests: real daemons, real data (pytest)
	GAL_BUILD=$(abspath $(B)) $(PYTHON) -m pytest -q tests/system

bench-table bench-linear: bench-%: $(B)/tests/bench/bench_%  ## time loading a table, a linear round
	OPENBLAS_NUM_THREADS=1 $<

# One whole simulation, by daemons of the build in $(1); $(2): what runs them
simulate = $(2) $(1)/gal simulate tests/data/reference/wine.csv --target target --orgs 3 --rounds 3 --baselines joint \
           --set sandbox.mode=off --json >$(1)/simulation.json

check-asan:  ## unit tests and a whole simulation under ASan and UBSan
	$(MAKE) B=$(B)/asan SANITIZE=address,undefined OPT='-O1 -g' all unit
	@set -e; for t in $(TESTS); do UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 $(B)/asan/tests/unit/$$t; done
	@rm -f $(B)/asan/report.*
	ASAN_OPTIONS=detect_leaks=0:log_path=$(abspath $(B))/asan/report UBSAN_OPTIONS=print_stacktrace=1:log_path=$(abspath $(B))/asan/report \
	    $(call simulate,$(B)/asan,timeout 120)
	@if ls $(B)/asan/report.* 2>/dev/null; then cat $(B)/asan/report.*; exit 1; fi

check-valgrind: all unit  ## unit tests and a whole simulation under valgrind
	@set -e; for t in $(TESTS); do echo "valgrind $$t"; \
	GAL_SHORT=1 valgrind -q --error-exitcode=9 --leak-check=full --errors-for-leak-kinds=definite $(B)/tests/unit/$$t >/dev/null; done
	@rm -rf $(B)/valgrind; mkdir -p $(B)/valgrind
	$(call simulate,$(B),timeout 300 valgrind -q --trace-children=yes --error-exitcode=9 --log-file=$(B)/valgrind/%p.log)
	@if grep -l . $(B)/valgrind/*.log; then cat $(B)/valgrind/*.log; exit 1; fi

format:  ## lay out the C sources
	clang-format -i $$(git ls-files '*.c' '*.h')

clean:  ## remove what was built
	rm -rf $(B)

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 18

.PHONY: all deps demo install unit check check-full check-unit check-source check-hardening check-system check-asan check-valgrind fuzz replay \
        fuzz-runs check-fuzz fuzz-coverage $(addprefix fuzz-,$(FUZZ)) bench bench-table bench-linear format clean help
-include $(shell find $(B) -name '*.d' 2>/dev/null)
