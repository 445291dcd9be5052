"""Steps and records as values, without a store."""

import json
import subprocess
import sys

import pytest

from drop_ray.errors import CorruptArtifactError
from drop_ray.store import Commit, Output, Step


def test_the_path_depends_on_name_and_identity_only() -> None:
    step = Step("score", {"a": (1, 2), "b": {"x": None}})
    assert Step("score", {"b": {"x": None}, "a": [1, 2]}) == step
    assert Step("score", {"b": {"x": None}, "a": [1, 2]}).path == step.path
    assert step.path.startswith("artifacts/score-")
    assert Step("rank", step.identity).path.removeprefix("artifacts/rank") != step.path.removeprefix("artifacts/score")


def test_a_step_does_not_follow_later_changes_of_its_arguments() -> None:
    identity = {"drops": [1, 2]}
    step = Step("score", identity)
    identity["drops"].append(3)
    assert step.identity == {"drops": [1, 2]}
    assert step == Step("score", {"drops": [1, 2]})


@pytest.mark.parametrize(
    ("identity", "error"),
    [
        ({"load": print}, TypeError),
        ({"layers": {1, 2}}, TypeError),
        ({"ratio": float("nan")}, ValueError),
        ({"step": "plan"}, ValueError),
    ],
)
def test_an_identity_without_canonical_json_is_refused(identity: dict[str, object], error: type[Exception]) -> None:
    with pytest.raises(error):
        Step("score", identity)


@pytest.mark.parametrize("name", ["", "../up", "a/b", "Score", "-score"])
def test_a_name_that_cannot_be_a_folder_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="not a step name"):
        Step(name, {})


@pytest.fixture
def commit() -> Commit:
    return Commit(
        step=Step("score", {"samples": (0, 16), "ratio": 0.1}),
        attempt="00ff00ff",
        outputs={"scores.parquet": Output(3, "ab"), "model/config.json": Output(0, "cd")},
        units={"artifacts/unit-1": "ef"},
        provenance={"versions": {"torch": "2.13.0+cpu"}},
        created="2026-01-02T03:04:05+00:00",
    )


def test_a_record_survives_json(commit: Commit) -> None:
    assert Commit.from_json(commit.to_json().encode(), "commit.json") == commit


@pytest.mark.parametrize(
    "fields",
    [
        {"attempt": "../.."},
        {"attempt": None},
        {"outputs": None},
        {"outputs": {"scores.parquet": {"size": 3}}},
        {"step": {"name": "../up", "identity": {}}},
        {"units": 1},
    ],
)
def test_a_record_with_a_wrong_field_is_refused(commit: Commit, fields: dict[str, object]) -> None:
    record = {**json.loads(commit.to_json()), **fields}
    with pytest.raises(CorruptArtifactError, match=r"^here/commit\.json is not a commit record: "):
        Commit.from_json(json.dumps(record).encode(), "here/commit.json")


@pytest.mark.parametrize("text", [b"", b"[]", b"null", b"\xff", b"{}"])
def test_what_is_no_record_is_refused(text: bytes) -> None:
    with pytest.raises(CorruptArtifactError, match=r"^here/commit\.json is not a commit record: "):
        Commit.from_json(text, "here/commit.json")


def test_importing_the_store_does_not_import_what_only_some_stores_need() -> None:
    heavy = "{'s3fs', 'botocore', 'pyarrow', 'torch', 'ray'}"
    code = f"import sys, drop_ray.store; print(sorted({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
