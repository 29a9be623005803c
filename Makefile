# make chat     install what is needed, fetch the default model and embedder, and talk to it
# make test     lint, types and tests
# make lint     ruff and mypy alone
# make adapter  train the bundled model's adapter anew: hours on two cores; an unfinished run goes on
# make bench    BENCH=throughput (or another of benchmarks/)
# make clean    what was built, and the caches of the tools; make clean-all: .venv too
#
# PYTHON=python3.12      another Python (3.11 or newer)
# GPU=cuda|metal|vulkan  build llama.cpp for a graphics card (needs its toolkit), as in: make chat GPU=cuda
# ARGS="-m qwen3-4b"     options for localmem chat
# TORCH_INDEX=URL        where torch comes from. On Linux the usual index gives a build with gigabytes of CUDA libraries,
#                        which localmem does not use. PyTorch publishes an index of CPU builds: name it here, once, at the
#                        first install. A torch that pip finds by its own settings (find-links, say) needs no URL.

PYTHON ?= python3
BENCH ?= throughput
ARGS ?=
GPU ?=
TORCH_INDEX ?=

NO_NETWORK = $(shell unshare -n true 2>/dev/null && echo unshare -n || { unshare -rn true 2>/dev/null && echo unshare -rn; })
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
RUNTIME := $(VENV)/.runtime
DEV := $(VENV)/.dev
TRAIN := $(VENV)/.train
CMAKE_cuda := -DGGML_CUDA=on
CMAKE_metal := -DGGML_METAL=on
CMAKE_vulkan := -DGGML_VULKAN=on

ifneq ($(GPU),)
ifeq ($(CMAKE_$(GPU)),)
$(error GPU=$(GPU) is unknown: use cuda, metal or vulkan)
endif
GPU_BUILD := $(VENV)/.llama-$(GPU)
endif

.PHONY: chat models test lint bench adapter clean clean-all
.DELETE_ON_ERROR:

chat: models
	@$(BIN)/localmem chat $(ARGS)

models: $(RUNTIME) $(GPU_BUILD)
	@$(BIN)/localmem models pull

# The tests run where there is no network at all, if the system allows it. pytest's closing line comes last.
test: lint models
	@offline="$(NO_NETWORK)"; \
	test -n "$$offline" || echo "note: no network namespace here (unshare -n); Python's sockets are blocked all the same"; \
	$$offline $(BIN)/pytest

lint: $(DEV)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

bench: $(DEV) models
	@$(BIN)/python -m benchmarks.$(BENCH)

adapter: $(TRAIN) models
	@$(BIN)/python -m training $(ARGS)

# GCC before 11.5, 12.4 and 13.3 miscompiles AMX (its bug 114098): such a llama.cpp crashes at its first batch, on a
# processor that has it. There AMX is left out, and a wheel from the cache, which may have it, is not used.
AMX_CRASHES = $(shell grep -qs amx_tile /proc/cpuinfo && \
	case "$$(echo __GNUC__ __GNUC_MINOR__ __clang_major__ | $${CXX:-c++} -E -P -x c++ - 2>/dev/null)" in \
	("11 "[0-4]" __clang_major__" | "12 "[0-3]" __clang_major__" | "13 "[0-2]" __clang_major__") echo yes;; esac)
NO_AMX := -mno-amx-tile -mno-amx-int8 -mno-amx-bf16

$(RUNTIME): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "localmem needs Python 3.11 or newer: make $(MAKECMDGOALS) PYTHON=python3.12, for example"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@test -z "$(TORCH_INDEX)" || $(PIP) install --no-deps -c constraints.txt --index-url "$(TORCH_INDEX)" torch
	@test -z "$(AMX_CRASHES)" || CMAKE_ARGS="-DCMAKE_C_FLAGS='$(NO_AMX)' -DCMAKE_CXX_FLAGS='$(NO_AMX)'" \
		$(PIP) install -c constraints.txt --no-binary llama-cpp-python --no-cache-dir llama-cpp-python
	@$(PIP) install -c constraints.txt -e . || { $(if_no_compiler); exit 1; }
	@test -z "$$(find $(VENV) -maxdepth 5 -type d -path '*site-packages/nvidia')" || \
		echo "note: torch came with CUDA libraries that localmem does not use; TORCH_INDEX in the Makefile avoids them"
	@touch $@

# The tests train as well, so they need both.
$(DEV): $(RUNTIME)
	@$(PIP) install -c constraints.txt -e '.[dev,train]'
	@touch $@

$(TRAIN): $(RUNTIME)
	@$(PIP) install -c constraints.txt -e '.[train]'
	@touch $@

# A wheel or a cached build would be one for the CPU, so neither is used.
$(VENV)/.llama-%: $(RUNTIME)
	@rm -f $(VENV)/.llama-*
	CMAKE_ARGS="$(CMAKE_$*)" $(PIP) install -c constraints.txt --no-binary llama-cpp-python --no-cache-dir \
		--force-reinstall --no-deps llama-cpp-python || { $(if_no_compiler); exit 1; }
	@touch $@

define if_no_compiler
command -v c++ >/dev/null || command -v g++ >/dev/null || command -v clang++ >/dev/null || \
	echo "llama.cpp is compiled here and there is no C++ compiler: install one (Debian, Ubuntu: apt install build-essential; macOS: xcode-select --install) and try again"
endef

clean:
	rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find localmem tests benchmarks training -name __pycache__ -type d -prune -exec rm -rf {} +

clean-all: clean
	rm -rf $(VENV)
