# make test    the environment, then all tests that need neither network nor GPU
# make demo    the environment, then the main job on real images that are installed with cnnbench
# make check   format, lint, types, layers
# With each: PYTHON=python3.12 chooses the Python, VENV=DIR puts the environment elsewhere.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
NEEDED_GB := 8

.PHONY: test demo check clean

test: $(READY)
	$(BIN)/python -m pytest -m "not slow and not cuda and not network"

demo: $(READY)
	@$(BIN)/cnnbench experiment=demo

check: $(READY)
	PATH="$(abspath $(BIN)):$$PATH" scripts/check

$(READY): pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "make: there is no '$(PYTHON)'. Install Python 3.10 to 3.13, or name one: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "make: $$($(PYTHON) --version) is too old: cnnbench needs 3.10 or later. Name another: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "make: $(PYTHON) lacks venv. On Debian or Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@mkdir -p "$(dir $(VENV))"
	@free=$$(df -Pk "$(dir $(VENV))" | awk 'NR == 2 {print int($$4 / 1048576)}'); [ -e "$(BIN)/cnnbench" ] || [ $$free -ge $(NEEDED_GB) ] || { echo "make: $(NEEDED_GB) GB of disk are needed for PyTorch and what it brings, $$free GB are free here. Free some, or put the environment elsewhere: make VENV=/other/disk/venv" >&2; exit 1; }
	@echo "make: installing PyTorch and the rest into $(VENV); this takes some minutes, once"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps d2l==1.0.3
	@touch $(READY)

clean:
	rm -rf $(VENV) dist .pytest_cache .mypy_cache .ruff_cache
