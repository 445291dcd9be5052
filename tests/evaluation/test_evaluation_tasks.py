"""What identifies a task, and which requests are refused before anything is loaded."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from drop_ray.errors import UserError
from drop_ray.evaluation import TaskRequest
from drop_ray.evaluation.tasks.resolving import resolve_tasks
from drop_ray.store.identity import canonical_json

TASKS = Path(__file__).parents[1] / "support" / "evaluation_tasks"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The tasks in a folder that a test may change."""
    return Path(shutil.copytree(TASKS, tmp_path / "tasks"))


def identity(folder: Path, name: str) -> str:
    return canonical_json(resolve_tasks([TaskRequest(name)], str(folder), allow_code=True)[name].identity)


def test_identity_does_not_depend_on_where_the_files_are(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = identity(TASKS, "collection")
    monkeypatch.chdir(folder)
    assert identity(Path(), "collection") == before
    assert str(TASKS) not in before
    assert str(folder) not in before


def append(name: str, text: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        with (folder / name).open("a") as file:
            file.write(text)

    return change


@pytest.mark.parametrize(
    ("task", "change"),
    [
        ("opposites", append("opposites_test.jsonl", '{"word": "a", "choices": ["b"], "answer": 0}\n')),
        ("opposites", append("opposites_train.jsonl", "\n")),
        ("opposites_first", append("opposites.yaml", "target_delimiter: ':'\n")),
        ("opposites_shouted", append("shouting.py", "\nLOUD = True\n")),
        ("collection", append("passages_test.jsonl", "\n")),
        ("collection", append("all_opposites.yaml", "group_alias: opposites\n")),
        ("word_tasks", append("passages.yaml", "metadata: {version: 2}\n")),
    ],
)
def test_identity_changes_with_data_code_includes_and_members(
    folder: Path, task: str, change: Callable[[Path], None]
) -> None:
    before = identity(folder, task)
    change(folder)
    assert identity(folder, task) != before


def test_identity_ignores_files_that_the_task_does_not_use(folder: Path) -> None:
    before = identity(folder, "opposites")
    for change in (append("shouting.py", "\n"), append("passages_test.jsonl", "\n"), append("passages.yaml", "\n")):
        change(folder)
    assert identity(folder, "opposites") == before


def test_moved_data_with_the_same_content_is_the_same_task(folder: Path) -> None:
    before = identity(folder, "opposites")
    (folder / "data").mkdir()
    (folder / "opposites_test.jsonl").rename(folder / "data" / "test.jsonl")
    yaml = folder / "opposites.yaml"
    yaml.write_text(yaml.read_text().replace("opposites_test.jsonl", str(folder / "data" / "*.jsonl")))
    assert identity(folder, "opposites") == before


def test_data_beside_a_custom_dataset_function_counts(folder: Path) -> None:
    (folder / "own.py").write_text("def rows(**_): raise RuntimeError('never run to identify a task')\n")
    (folder / "own.yaml").write_text("task: own\ncustom_dataset: !function own.rows\ntest_split: test\n")
    before = identity(folder, "own")
    append("passages_test.jsonl", "\n")(folder)
    assert identity(folder, "own") != before


def test_hub_datasets_are_named_and_not_read(folder: Path) -> None:
    (folder / "hub.yaml").write_text(
        "task: hub\ndataset_path: nobody/nothing\ndataset_name: main\n"
        "dataset_kwargs: {revision: abc, data_files: {test: raw/test.json}}\n"
    )
    config = json.loads(identity(folder, "hub"))["configs"]["hub"]
    assert (config["dataset_path"], config["dataset_name"]) == ("nobody/nothing", "main")
    assert config["dataset_kwargs"] == {"revision": "abc", "data_files": {"test": "raw/test.json"}}


def test_request_is_part_of_the_identity() -> None:
    requests = [TaskRequest("opposites"), TaskRequest("opposites", 2), TaskRequest("opposites", None, 5)]
    found = {canonical_json(resolve_tasks([request], str(TASKS))["opposites"].identity) for request in requests}
    assert len(found) == 3


def test_tasks_of_lm_eval_are_found(folder: Path) -> None:
    (folder / "mine.yaml").write_text("group: mine\ntask: [opposites, {task: arc_easy, num_fewshot: 3}]\n")
    resolved = resolve_tasks([TaskRequest("mine"), TaskRequest("chain_of_thought")], str(folder))
    members = resolved["mine"].identity["configs"]
    assert members.keys() == {"mine", "opposites", "arc_easy"}
    assert members["arc_easy"]["dataset_path"] == "allenai/ai2_arc"
    # gsm8k_platinum_cot has this tag by including a file of another of lm-eval's folders.
    assert {"gsm8k_cot", "gsm8k_platinum_cot"} <= set(resolved["chain_of_thought"].identity["tags"]["chain_of_thought"])


def test_unknown_task_names_the_nearest_and_where_it_looked(folder: Path) -> None:
    (folder / "broken.yaml").write_text("task: [unclosed\n")
    with pytest.raises(UserError) as caught:
        resolve_tasks([TaskRequest("opposits")], str(folder))
    message = str(caught.value)
    for part in ("evaluation.tasks", "'opposits'", "did you mean opposites", str(folder), "broken.yaml"):
        assert part in message


def refused(folder: Path, *requests: TaskRequest) -> str:
    with pytest.raises(UserError, match=r"^evaluation\.") as caught:
        resolve_tasks(requests, str(folder), allow_code=True)
    return str(caught.value)


def test_missing_data_and_code_are_named(folder: Path) -> None:
    (folder / "opposites_train.jsonl").unlink()
    assert str(folder / "opposites_train.jsonl") in refused(folder, TaskRequest("collection"))
    (folder / "shouting.py").unlink()
    (folder / "opposites_train.jsonl").write_text("")
    assert "shouting.shout" in refused(folder, TaskRequest("opposites_shouted"))


def test_requests_that_cannot_be_run_are_refused(folder: Path) -> None:
    (folder / "zero.yaml").write_text("include: opposites.yaml\ntask: zero\nnum_fewshot: 0\n")
    (folder / "codes.yaml").write_text("include: opposites.yaml\ntask: codes\nunsafe_code: true\n")
    (folder / "sees.yaml").write_text("include: opposites.yaml\ntask: sees\ndoc_to_image: picture\n")
    (folder / "mixed.yaml").write_text("group: mixed\ntask: [{task: opposites, num_fewshot: 0}]\n")
    assert "fixes num_fewshot: 0" in refused(folder, TaskRequest("zero", 3))
    assert "mixed: opposites fixes num_fewshot: 0" in refused(folder, TaskRequest("mixed", 3))
    assert "omit num_fewshot" in refused(folder, TaskRequest("collection", 1))
    assert "executes code" in refused(folder, TaskRequest("codes"))
    assert "images or audio" in refused(folder, TaskRequest("sees"))
    assert "listed twice" in refused(folder, TaskRequest("opposites"), TaskRequest("opposites", 2))
    assert "not a folder" in refused(folder / "absent", TaskRequest("opposites"))


@pytest.mark.parametrize(("num_fewshot", "limit"), [(-1, None), (None, 0)])
def test_impossible_numbers_are_refused(num_fewshot: int | None, limit: int | None) -> None:
    with pytest.raises(UserError, match="opposites"):
        TaskRequest("opposites", num_fewshot, limit)
