# Everything a person or a CI machine runs. `make demo` and `make test` need a CPython with venv and headers and a
# C++20 compiler (Debian: python3-dev python3-venv g++ make); all else comes from PyPI into $(VENV).
#
# Tests and the demo run against the built wheel, installed as a user would install it, never against the source
# folder. Files under $(VENV) and dist/ stamp what is done, so that a second run starts at once.
#
#   make demo QUERY="split a command line"    the main job; without QUERY it asks its own
#   make test                                 lint, C++ tests, Python tests
#   make test-packages                        some forty packages at work in interpreters; writes docs/packages.md
#   make test-hosts                           the Pythons, C++ programs and allocators that this machine has
#   make test-aarch64                         the loader on 64-bit Arm, emulated; says which Debian packages it needs
#   make faults                               has each call of mmap, malloc … fail in turn; FAULTS="--step 10" some of them,
#                                             "--jobs 8" so many at once
#   make soak SECONDS=600 SEED=1              everything public at once, from several threads; TORCH=1 with tensors
#   make fuzz FUZZ_SECONDS=60                 the ELF reader against made-up files; needs clang (Debian: clang)
#   make native-test | sanitize | lint | format | bench | wheel | clean
#
# PyPI's torch brings CUDA along; PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu gives the smaller CPU one.

PYTHON ?= python3
VENV ?= .venv
FUZZ_SECONDS ?= 60
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip
SOURCES := pyproject.toml CMakeLists.txt README.md LICENSE \
           $(shell find native multipy_actors -type f -not -path '*/__pycache__/*' 2>/dev/null)
FORMATTED_CPP = $(shell find native tests/native tests/hosts tests/embed examples/cpp benches -name '*.h' -o -name '*.cpp')
PYTHON_CODE = multipy_actors tests examples $(wildcard benches)
# The presets are in CMakePresets.json, and can be used without make.
CONFIGURE = $(BIN)/cmake -DCMAKE_MAKE_PROGRAM=$(abspath $(BIN))/ninja --preset
BUILD = $(BIN)/cmake --build --preset
TEST = $(abspath $(BIN))/ctest --preset

export PIP_DISABLE_PIP_VERSION_CHECK = 1
export QUERY

.PHONY: faults demo test pytest test-packages run-packages test-hosts test-aarch64 wheel native-test sanitize fuzz \
        interrupts soak bench lint format clean
.DELETE_ON_ERROR:

demo: $(VENV)/installed-demo
	$(BIN)/python examples/semantic_search.py $(if $(QUERY),"$$QUERY")

test: lint native-test pytest

# Bare pytest: `python -m pytest` would put the source folder, which has no extension, before the installed wheel.
pytest: $(VENV)/installed-test
	$(BIN)/pytest

# In an environment of its own, which holds gigabytes. The table is written whether or not all is well.
test-packages:
	$(MAKE) VENV=.venv-packages run-packages

run-packages: $(VENV)/installed-test,packages
	mkdir -p build
	status=0; $(BIN)/pytest tests/packages -q -m "" --junit-xml=build/packages.xml || status=$$?; \
	  PYTHONPATH=tests/packages $(BIN)/python tests/packages/report.py build/packages.xml docs/packages.md && exit $$status

test-hosts: $(VENV)/installed-test
	$(BIN)/python tests/hosts/matrix.py

test-aarch64: | $(VENV)/tools
	PATH=$(abspath $(BIN)):$$PATH $(BIN)/python tests/aarch64/run.py

wheel: dist/built

$(VENV)/tools: | $(BIN)/python
	$(PIP) install --quiet "scikit-build-core>=0.10" "nanobind==3.1.0" cmake ninja
	touch $@

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# Without isolation the build folder keeps pointing at the same tools, and a rebuild compiles only what changed.
dist/built: $(SOURCES) | $(VENV)/tools
	rm -rf dist
	$(PIP) wheel --quiet --no-build-isolation --no-deps --wheel-dir dist .
	touch $@

# The extra's torch pin and the packages that want any torch must meet in one pip command. The second command
# replaces a wheel of the same version, which pip would take for installed.
$(VENV)/installed-%: dist/built
	@echo "Installing the wheel and what the '$*' extra needs; the first time this downloads torch."
	$(PIP) install --quiet "$$(echo dist/*.whl)[$*]"
	$(PIP) install --quiet --force-reinstall --no-deps dist/*.whl
	touch $@

native-test: | $(VENV)/tools
	$(CONFIGURE) dev
	$(BUILD) dev
	$(TEST) dev

# ThreadSanitizer cannot place its shadow memory under strong address randomisation, hence setarch. Its detector of
# deadlocks knows 64 locks of a thread at most, and a fork takes more.
sanitize: | $(VENV)/tools
	$(CONFIGURE) asan
	$(BUILD) asan
	$(TEST) asan
	$(CONFIGURE) tsan
	$(BUILD) tsan
	setarch --addr-no-randomize $(TEST) tsan

# Hours for all of them; a sample is among the tests.
faults: $(VENV)/installed-test
	$(BIN)/python -X faulthandler tests/faults/inject.py $(FAULTS)

# What is found stays in build/fuzz/corpus and is where the next run begins; a crash leaves its input in build/fuzz.
fuzz: | $(VENV)/tools
	$(CONFIGURE) fuzz
	$(BUILD) fuzz
	mkdir -p build/fuzz/corpus
	tests/native/fuzz_seeds.sh clang build/fuzz/seeds
	build/fuzz/multipy_fuzz_elf_file -max_total_time=$(FUZZ_SECONDS) -max_len=20000 -timeout=10 -use_value_profile=1 \
	  -print_final_stats=1 -verbosity=0 -artifact_prefix=build/fuzz/ build/fuzz/corpus build/fuzz/seeds

# At random moments: they must hit whom they should, and nobody else. ROUNDS and SEED say how many, and which.
interrupts: $(VENV)/installed-test
	$(BIN)/python tests/faults/interrupts.py

# SECONDS, SEED, THREADS, TORCH=1 and KINDS="streams batches" are read from the environment; see the program.
soak: $(VENV)/installed-test
	$(BIN)/python -X faulthandler tests/soak/soak.py

bench: $(VENV)/installed-bench
	$(BIN)/asv machine --yes
	$(BIN)/asv run --python=same --show-stderr

lint: $(VENV)/installed-test
	$(BIN)/ruff format --check $(PYTHON_CODE)
	$(BIN)/ruff check $(PYTHON_CODE)
	$(BIN)/mypy --strict multipy_actors
	$(BIN)/lint-imports
	$(BIN)/clang-format --dry-run -Werror $(FORMATTED_CPP)

format: $(VENV)/installed-test
	$(BIN)/ruff format $(PYTHON_CODE)
	$(BIN)/ruff check --fix $(PYTHON_CODE)
	$(BIN)/clang-format -i $(FORMATTED_CPP)

# Keeps $(VENV), which took long to fill.
clean:
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
