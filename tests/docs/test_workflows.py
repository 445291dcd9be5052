"""What a public forge and pre-commit run is what anybody runs: targets of the Makefile, tools of the lock file."""

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yaml"))
TARGETS = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
every_workflow = pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)


def jobs(path):
    return yaml.safe_load(path.read_text())["jobs"].values()


def make_targets(path):
    """Those that a workflow calls, with each value of its matrix."""
    for job in jobs(path):
        choices = job.get("strategy", {}).get("matrix", {}).get("target", [])
        for step in job["steps"]:
            for target in re.findall(r"^make (.*)$", step.get("run", ""), re.MULTILINE):
                yield from choices if "matrix.target" in target else [target]


@every_workflow
def test_actions_are_pinned_and_nothing_may_be_written(path):
    assert yaml.safe_load(path.read_text())["permissions"] == {"contents": "read"}
    uses = [step["uses"] for job in jobs(path) for step in job["steps"] if "uses" in step]
    assert uses
    assert all(re.fullmatch(r"actions/[a-z-]+@v\d+\.\d+\.\d+", action) for action in uses)
    assert "secrets." not in path.read_text()


@every_workflow
def test_only_targets_of_the_makefile_are_called(path):
    called = list(make_targets(path))
    assert called
    assert {*called} <= TARGETS


def test_a_change_must_pass_what_the_repository_itself_asks_for():
    asked = re.findall(r"^make (.*)$", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)
    assert list(make_targets(ROOT / ".github" / "workflows" / "test.yaml")) == asked


def test_hooks_are_the_tools_of_the_lock_file():
    locked = (ROOT / "requirements" / "cpu.lock").read_text()
    hooks = [
        hook
        for repository in yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
        for hook in repository["hooks"]
    ]
    assert hooks
    for hook in hooks:
        tool = re.match(r"\.venv/bin/(\w+)", hook["entry"])[1]
        assert f"\n{tool}==" in locked
