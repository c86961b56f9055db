# A thin front of CMake: each target is a command or two that can also be typed by hand.
#
#   make           build; leaves the command at build/sirocco
#   make run       set up, build, let the bundled model tell a story; ARGS="..." are passed to `sirocco run` instead
#   make test      set up, build, run every check
#   make debug     build with AddressSanitizer and UndefinedBehaviorSanitizer in build-debug, and run the tests there
#   make count     instructions of the kernels against tests/instructions.tsv (valgrind); ARGS=--update writes it anew
#   make arm       cross build for AArch64; base, kernels and formats under qemu, one processor for each instruction set
#   make fuzz      each fuzz target for FUZZ_SECONDS
#   make bench     the bench of the command, then the ladders of bench/; PEER=path/to/llama-bench instead compares with
#                  that program on synthetic files (bench/peer.sh)
#   make interop   writes the bundled model in each format and loads it with the program that the format is of; installs those
#   make format    clang-format 14 over all C files (format-check only looks)
#   make docs      docs/formats.md and models.md again, from the tables and the tests; STORY=DIR measures the checkpoints there
#   make install   PREFIX (also when building) and DESTDIR are honoured
#   make setup     only install what is missing
#   make clean     remove the build folders

PREFIX ?= /usr/local
FUZZ_SECONDS ?= 30
PROMPT ?= Once upon a time
JOBS ?= $(shell getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)
FORMATTED = $(wildcard include/*.h src/*/*.[ch] apps/*/*.[ch] tests/*.[ch] fuzz/*.[ch] tools/*.c)

# What setup may have installed a line earlier is looked up by the shell, not by make.
CLANG_FORMAT = $$(command -v clang-format-14 || echo clang-format)
generator = $(if $(GENERATOR),-G "$(GENERATOR)",$$(test -e $(1)/CMakeCache.txt || ! command -v ninja >/dev/null || echo -GNinja))
with_tests = $$(pkg-config --exists cmocka && echo ON || echo OFF)

# $(call configure,folder,preset,options): a folder keeps the generator it was made with.
configure = mkdir -p $(1) && { cmake --preset $(2) $(generator) -DCMAKE_INSTALL_PREFIX="$(PREFIX)" \
	-DSIROCCO_WERROR=$(if $(CI),ON,OFF) $(3) >$(1)/configure.log || { cat $(1)/configure.log; exit 1; }; }

.PHONY: all setup build run test debug count arm fuzz bench docs interop format format-check install clean
.NOTPARALLEL:

all: build

setup:
	@tools/setup.sh build test

build:
	@tools/setup.sh build
	@$(call configure,build,release,-DSIROCCO_TESTS=$(with_tests))
	@cmake --build build -j $(JOBS) --target product

run: build
	build/sirocco run $(if $(ARGS),$(ARGS),-i "$(PROMPT)" --echo --max-tokens 200)

test: setup
	@$(call configure,build,release,-DSIROCCO_TESTS=ON)
	@cmake --build build -j $(JOBS)
	ctest --test-dir build --output-on-failure -j $(JOBS)

debug: setup
	@$(call configure,build-debug,debug)
	@cmake --build build-debug -j $(JOBS)
	ctest --test-dir build-debug --output-on-failure -j $(JOBS)

count:
	@tools/setup.sh build count
	@$(call configure,build,release,-DSIROCCO_TESTS=ON)
	@cmake --build build -j $(JOBS) --target instructions
	tests/instructions.sh build $(ARGS)

arm:
	@tools/setup.sh build arm
	@$(call configure,build-arm,arm,-DSIROCCO_TESTS=ON)
	@cmake --build build-arm -j $(JOBS) --target base_test kernels_test rows_test formats_test
	ctest --test-dir build-arm --output-on-failure -j $(JOBS) -L emulated

fuzz:
	@tools/setup.sh build fuzz
	@$(call configure,build-fuzz,fuzz)
	@cmake --build build-fuzz -j $(JOBS) --target fuzzers
	tools/fuzz.sh build-fuzz $(FUZZ_SECONDS)

bench: build
	@cmake --build build -j $(JOBS) --target ladders
ifdef PEER
	PEER="$(PEER)" bench/peer.sh build
else
	build/sirocco bench $(ARGS)
	@for ladder in build/bench-*; do if [ -x "$$ladder" ]; then echo "$$ladder"; "$$ladder" || exit 1; fi; done
endif

docs: setup
	@$(call configure,build,release,-DSIROCCO_TESTS=ON)
	@cmake --build build -j $(JOBS) --target product formats_test checkpoints_test model_test
	tests/proof.sh build $(STORY) >build/formats.md && cp build/formats.md docs/formats.md
	tests/models.sh build >build/models.md && cp build/models.md docs/models.md

interop: build
	tools/interop.sh build $(ARGS)

format:
	@tools/setup.sh format
	$(CLANG_FORMAT) -i $(FORMATTED)

format-check:
	@tools/setup.sh format
	@$(CLANG_FORMAT) --version
	@$(CLANG_FORMAT) --dry-run -Werror $(FORMATTED)

install: build
	cmake --install build

clean:
	rm -rf build build-debug build-arm build-fuzz
