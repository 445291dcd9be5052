"""The entry points under jobs/: one for the whole run and one a stage, each the command line's own function."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from drop_ray.commands.stages import COMMANDS as STAGES

pytestmark = pytest.mark.alone

FOLDER = Path(__file__).parents[2] / "jobs"
ENTRIES = {f"run_{stage}" for stage in STAGES} - {"run_run"} | {"run_pipeline"}


def test_every_stage_has_an_entry():
    assert {path.stem for path in FOLDER.glob("run_*.py")} == ENTRIES


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.py")))
def test_an_entry_hides_no_library(name):
    """A script's folder comes first on Python's path: jobs/evaluate.py would be imported as the library `evaluate`."""
    assert name not in sys.stdlib_module_names
    assert importlib.util.find_spec(name) is None


@pytest.mark.parametrize("name", sorted(ENTRIES))
def test_an_entry_is_the_command_of_its_stage(name):
    usage = subprocess.run([sys.executable, FOLDER / f"{name}.py", "--help"], capture_output=True, text=True).stdout
    stage = "run" if name == "run_pipeline" else name.removeprefix("run_")
    assert usage.startswith(f"usage: drop-ray {stage} ")
