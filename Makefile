# The two commands of the README: `make demo` and `make test`. Both create .venv from the lock file first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test test-full lint benchmark lock clean

demo: $(READY)
	$(BIN)/drop-ray run jobs/configs/demo.yaml

test: $(READY)
	$(BIN)/python -m pytest -m "not full and not gpu"

test-full: $(READY)
	$(BIN)/python -m pytest -m "full and not gpu"

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

benchmark: $(READY)
	$(BIN)/python tests/benchmarks/sweep_speed.py
	$(BIN)/python tests/benchmarks/sweep_memory.py
	$(BIN)/python tests/benchmarks/startup.py

# One complete lock file per environment. torch pins its own CUDA packages exactly, where its wheel has any.
$(READY): requirements/cpu.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "drop_ray needs Python 3.11 or newer: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --requirement requirements/cpu.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $(READY)

# Resolve pyproject.toml anew and pin everything that was found.
lock:
	rm -rf $(VENV)-lock && $(PYTHON) -m venv $(VENV)-lock
	$(VENV)-lock/bin/pip install --quiet --upgrade pip setuptools
	$(VENV)-lock/bin/pip install --quiet --editable '.[dev]'
	$(VENV)-lock/bin/pip freeze --all --exclude-editable | grep -v '^pip==' | sed 's/+cpu$$//' > requirements/cpu.lock
	rm -rf $(VENV)-lock

clean:
	rm -rf $(VENV) drop-ray-store .pytest_cache .mypy_cache .ruff_cache
