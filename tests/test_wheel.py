"""The wheel: all of the package is in it, and it works by itself, installed outside of a checkout."""

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BUILD = "from setuptools import build_meta as build; import sys; build.build_wheel(sys.argv[1])"
# No file of these belongs to the package: caches, and what an editable installation leaves.
PASSING = ("__pycache__", "*.pyc", "*.egg-info", ".*")


def environment():
    """That of a user: nothing leads to the checkout."""
    return {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A copy of what the package is made of, since a build writes beside its sources."""
    folder = tmp_path_factory.mktemp("source")
    for name in ("drop_ray", "jobs"):
        shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=shutil.ignore_patterns(*PASSING))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    return folder


@pytest.fixture(scope="module")
def wheel(source, tmp_path_factory):
    dist = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, "-c", BUILD, dist], cwd=source, env=environment(), check=True, capture_output=True)
    (path,) = dist.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def program(wheel, tmp_path_factory):
    """`drop-ray` of an environment that has the wheel, and what it needs from the one that the tests run in."""
    venv = tmp_path_factory.mktemp("fresh") / "venv"
    python = venv / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index", wheel]
    subprocess.run([*pip, "--disable-pip-version-check"], env=environment(), check=True)
    (packages,) = venv.glob("lib/*/site-packages")
    # A folder on the path, whose own .pth files are not read: one of them leads to the checkout.
    (packages / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return venv / "bin" / "drop-ray"


def run(program, folder, *arguments, code=0):
    done = subprocess.run([program, *arguments], cwd=folder, env=environment(), capture_output=True, text=True)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stderr if code else done.stdout


def test_every_file_of_the_package_is_in_the_wheel(wheel):
    # os.walk, since Path.rglob does not follow the link to the examples.
    walked = [(Path(folder), names) for folder, _, names in os.walk(ROOT / "drop_ray", followlinks=True)]
    passing = shutil.ignore_patterns(*PASSING)
    files = {
        (folder / name).relative_to(ROOT).as_posix()
        for folder, names in walked
        if not passing("", folder.relative_to(ROOT).parts)
        for name in {*names} - passing("", names)
    }
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if name.startswith("drop_ray/")}
        assert archive.read("drop_ray/examples/demo.yaml") == (ROOT / "jobs" / "configs" / "demo.yaml").read_bytes()
    assert {"drop_ray/py.typed", "drop_ray/demo/model/model.safetensors"} < files
    assert packed == files


def test_the_installed_package_is_the_wheels_own(program, tmp_path):
    code = "import drop_ray, importlib.metadata as found; print(drop_ray.__file__, found.version('drop-ray'))"
    told = run(program.with_name("python"), tmp_path, "-c", code)
    assert told.startswith(str(program.parents[1]))
    assert told.split()[-1] == __import__("drop_ray").__version__


def test_what_init_writes_outside_of_a_checkout_is_a_config_there(program, tmp_path):
    assert "drop-ray run demo.yaml" in run(program, tmp_path, "init")
    run(program, tmp_path, "init", "--example", "llama3_70b")
    assert "has no run demo; start it" in run(program, tmp_path, "status", "demo.yaml", code=2)


@pytest.mark.alone
@pytest.mark.full
def test_an_installed_wheel_runs_to_a_report(program, tmp_path):
    run(program, tmp_path, "init", "demo:model", "--output", "first.yaml")
    assert "evaluate" in run(program, tmp_path, "run", "first.yaml", "--dry-run")
    assert "report: " in run(program, tmp_path, "run", "first.yaml")
    assert "attention-" in (tmp_path / "drop-ray-store" / "runs" / "first" / "report.html").read_text()
