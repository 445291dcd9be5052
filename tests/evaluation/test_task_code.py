"""Code that tasks name: said before it runs, and refused from elsewhere, before anything of it is imported."""

import json
from pathlib import Path

import pytest

from drop_ray.config.section import DEMO_FOLDER
from drop_ray.errors import UserError
from drop_ray.evaluation import TaskRequest
from drop_ray.evaluation.tasks.catalog import Catalog
from drop_ray.evaluation.tasks.resolving import resolve_tasks
from drop_ray.evaluation.tasks.task_code import check_task_code

PLAIN = "task: plain\ndataset_path: json\ndataset_kwargs: {data_files: {test: rows.jsonl}}\ntest_split: test\n"
CODED = PLAIN.replace("plain", "coded") + "filter_list:\n- {name: f, filter: [{function: !function trap.run}]}\n"


@pytest.fixture
def tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of tasks beside the working directory, whose code must not be imported."""
    folder, here = tmp_path / "tasks", tmp_path / "here"
    folder.mkdir()
    here.mkdir()
    (folder / "rows.jsonl").write_text(json.dumps({"text": "a"}))
    (folder / "plain.yaml").write_text(PLAIN)
    (folder / "coded.yaml").write_text(CODED)
    (folder / "group.yaml").write_text("group: both\ntask: [plain, coded]\n")
    (folder / "trap.py").write_text("raise SystemExit('foreign code was run')\n")
    monkeypatch.chdir(here)
    return folder


@pytest.mark.parametrize("task", ["coded", "both"])
def test_code_from_elsewhere_is_refused_with_file_field_and_remedy(tasks: Path, task: str) -> None:
    with pytest.raises(
        UserError, match=r"^evaluation.include_path: filter_list\[0\].filter\[0\].function of"
    ) as caught:
        resolve_tasks([TaskRequest(task)], str(tasks))
    for part in (
        "task coded runs code, !function trap.run",
        str(tasks / "trap.py"),
        "evaluation.allow_task_code: true",
    ):
        assert part in str(caught.value)


def test_a_module_of_an_installed_package_is_no_way_around_it(tasks: Path) -> None:
    (tasks / "coded.yaml").write_text(CODED.replace("trap.run", "os.system"))
    with pytest.raises(UserError, match="runs code, !function os.system"):
        resolve_tasks([TaskRequest("coded")], str(tasks))


def test_tasks_without_code_and_code_with_leave_are_taken(tasks: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="drop_ray"):
        resolve_tasks([TaskRequest("plain")], str(tasks))
        assert caplog.text == ""
        resolve_tasks([TaskRequest("coded")], str(tasks), allow_code=True)
    assert f"evaluation of coded runs code of {tasks / 'trap.py'}" in caplog.text


def test_code_of_the_working_directory_is_said_and_taken(
    tasks: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tasks.parent)
    with caplog.at_level("INFO", logger="drop_ray"):
        resolve_tasks([TaskRequest("coded")], "tasks")
    assert f"evaluation of coded runs code of {tasks / 'trap.py'}" in caplog.text


@pytest.mark.parametrize("linked", ["folder", "module", "include"])
def test_a_link_or_an_include_does_not_bring_code_in(tasks: Path, linked: str) -> None:
    inside = Path("inside")
    if linked == "folder":
        inside.symlink_to(tasks)
    else:
        inside.mkdir()
        (inside / "rows.jsonl").write_text("{}")
        if linked == "module":
            (inside / "coded.yaml").write_text(CODED)
            (inside / "trap.py").symlink_to(tasks / "trap.py")
        else:
            (inside / "coded.yaml").write_text(f"include: {tasks / 'coded.yaml'}\n{PLAIN.replace('plain', 'coded')}")
    with pytest.raises(UserError, match="evaluation.allow_task_code: true"):
        resolve_tasks([TaskRequest("coded")], "inside")


def test_the_demo_and_lm_eval_have_leave(tasks: Path, caplog: pytest.LogCaptureFixture) -> None:
    demo = Catalog(str(DEMO_FOLDER / "tasks"))
    for name in ("demo_recall", "humaneval"):
        with caplog.at_level("INFO", logger="drop_ray"):
            check_task_code(demo.find(name), allow=False)
    assert "demo_recall" not in caplog.text
    assert "humaneval" not in caplog.text
