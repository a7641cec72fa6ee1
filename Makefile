# make demo      train the demo on real images that are installed with cnnbench
# make test      run the tests that need neither network nor GPU, but for the slow ones
# make test-all  run the slow ones, too
# make check     check format, lint, types and the layers of imports
# Each makes the environment that it needs. PYTHON=python3.12 chooses the Python, VENV=DIR puts it elsewhere.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
READY := $(VENV)/.ready
TEST_READY := $(VENV)/.ready-test
DEV_READY := $(VENV)/.ready-dev
NEEDED_GB := 8
# The tests of a file in one process, as they share what was expensive to make; the files in their order.
PYTEST := $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: demo test test-all check dev clean

demo: $(READY)
	@$(BIN)/cnnbench experiment=demo

test: $(TEST_READY)
	$(PYTEST) -m "not slow and not cuda and not network"

test-all: $(TEST_READY)
	$(PYTEST) -m "not cuda and not network"

check: $(DEV_READY)
	PATH="$(abspath $(BIN)):$$PATH" scripts/check

dev: $(DEV_READY)

$(READY): pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "make: there is no '$(PYTHON)'. Install Python 3.10 to 3.13, or name one: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "make: $$($(PYTHON) --version) is too old: cnnbench needs 3.10 or later. Name another: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "make: $(PYTHON) lacks venv. On Debian or Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@mkdir -p "$(dir $(VENV))"
	@free=$$(df -Pk "$(dir $(VENV))" | awk 'NR == 2 {print int($$4 / 1048576)}'); [ -e "$(BIN)/cnnbench" ] || [ $$free -ge $(NEEDED_GB) ] || { echo "make: $(NEEDED_GB) GB of disk are needed for PyTorch and what it brings, $$free GB are free here. Free some, or put the environment elsewhere: make VENV=/other/disk/venv" >&2; exit 1; }
	@echo "make: installing PyTorch and the rest into $(VENV); this takes some minutes, once"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) -e .
	@touch $@

$(TEST_READY): $(READY)
	@echo "make: installing what the tests need into $(VENV)"
	@$(PIP) -e '.[test]'
	@$(PIP) --no-deps d2l==1.0.3
	@touch $@

$(DEV_READY): $(TEST_READY)
	@$(PIP) -e '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) dist .pytest_cache .mypy_cache .ruff_cache
