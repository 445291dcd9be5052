"""The rules of the house: who may import what, and that light parts stay light."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import drop_ray
from drop_ray.extensions import STRATEGIES

PACKAGE = Path(drop_ray.__file__).parent
HEAVY = {"torch", "transformers", "vllm", "lm_eval", "ray", "datasets"}
LIGHT = ["drop_ray", "drop_ray.cli", "drop_ray.config", "drop_ray.identity", "drop_ray.planning.requests"]
LIGHT += sorted({location.partition(":")[0] for location in STRATEGIES.own.values()})
LIGHT += [
    "drop_ray.report.html",
    "drop_ray.store",
    "drop_ray.store.tables",
    "drop_ray.evaluation",
]
# models/ and scoring/ run on any GPU machine with a plain PyTorch image.
PORTABLE = {"torch", "transformers", "accelerate", "safetensors", "numpy", "fsspec", "huggingface_hub", "drop_ray"}


def imported(path):
    """Top-level names of everything a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module.split(".")[0]


def test_only_runtime_imports_ray():
    importing = {path.relative_to(PACKAGE).parts[0] for path in PACKAGE.rglob("*.py") if "ray" in imported(path)}
    assert importing == {"runtime"}


@pytest.mark.parametrize("folder", ["models", "scoring"])
def test_models_and_scoring_need_little(folder):
    for path in (PACKAGE / folder).rglob("*.py"):
        assert set(imported(path)) - set(sys.stdlib_module_names) <= PORTABLE, path


@pytest.mark.parametrize("module", LIGHT)
def test_light_modules_import_without_the_heavy_libraries(module):
    code = f"import {module}, sys; print(*(name for name in {sorted(HEAVY)} if name in sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == ""


def test_help_names_every_command_and_needs_no_heavy_library():
    code = "import sys; from drop_ray.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
    code += f"print('HEAVY', *(name for name in {sorted(HEAVY | {'pydantic', 'pyarrow'})} if name in sys.modules))"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert re.search(r"^HEAVY$", output, re.MULTILINE)
    for command in ("run", "score", "plan", "export", "evaluate", "report", "status"):
        assert re.search(rf"^    {command} ", output, re.MULTILINE)
