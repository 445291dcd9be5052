"""The data of tasks is read before any work: what cannot be read is said with its cause."""

import json
import os
import shutil
from pathlib import Path

import pytest

from drop_ray.errors import UserError
from drop_ray.evaluation import TaskRequest
from drop_ray.evaluation.tasks.catalog import Catalog
from drop_ray.evaluation.tasks.opening import open_tasks
from drop_ray.evaluation.tasks.resolving import resolve_tasks

TASKS = Path(__file__).parents[1] / "support" / "evaluation_tasks"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    return Path(shutil.copytree(TASKS, tmp_path / "tasks"))


def test_data_that_is_there_is_read(folder: Path) -> None:
    open_tasks([TaskRequest("opposites", num_fewshot=6)], str(folder))


def test_fewer_examples_than_shots_are_found_without_a_model(folder: Path) -> None:
    with pytest.raises(UserError, match="opposites: num_fewshot is 7, but there are 6 examples"):
        open_tasks([TaskRequest("opposites", num_fewshot=7)], str(folder))


def test_the_cause_at_the_bottom_is_shown(folder: Path) -> None:
    rows = [json.dumps({"word": "a", "choices": ["b"], "answer": 0}), json.dumps({"word": [1], "choices": 2})]
    (folder / "opposites_test.jsonl").write_text("\n".join(rows) + "\n")
    expected = (
        r"evaluation.tasks: opposites cannot be loaded \(DatasetGenerationError: .*; caused by .*; see to its YAML"
    )
    with pytest.raises(UserError, match=expected):
        open_tasks([TaskRequest("opposites")], str(folder))


def test_what_is_no_file_or_no_task_is_refused(folder: Path) -> None:
    (folder / "odd.yaml").write_text("group: odd\ntask: [opposites, 7]\n")
    with pytest.raises(UserError, match=r"odd.yaml: a group lists tasks by name"):
        resolve_tasks([TaskRequest("odd")], str(folder))
    os.mkfifo(folder / "pipe.yaml")
    with pytest.raises(UserError, match=r"evaluation.include_path: .*pipe.yaml is not a file"):
        Catalog(str(folder))


def test_the_file_of_a_task_of_the_user_is_known(folder: Path) -> None:
    found = resolve_tasks([TaskRequest("opposites"), TaskRequest("word_tasks")], str(folder), allow_code=True)
    assert found["opposites"].file == str(folder / "opposites.yaml")
    assert found["word_tasks"].file is None  # a tag
