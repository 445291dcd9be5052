"""Calibration text by `load_dataset`: real folders of data files, and a stand-in for the hub, which is out of reach."""

import json
import shutil
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub import HfApi

from drop_ray.calibration.dataset import open_dataset
from drop_ray.config import CalibrationConfig
from drop_ray.errors import UserError

TEXTS = [f"document {number}" for number in range(50)]
SHA = "0123456789abcdef0123456789abcdef01234567"


def settings(folder, **fields):
    return CalibrationConfig(dataset=str(folder), **fields)


def documents(folder, text_field="text", seed=None, **fields):
    return list(open_dataset(settings(folder, **fields)).documents(text_field, seed))


def write_rows(path, rows):
    path.parent.mkdir(exist_ok=True)
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        path.write_text("\n".join(json.dumps(row) for row in rows))
    return path.parent


@pytest.fixture
def folder(tmp_path):
    return write_rows(tmp_path / "corpus" / "train.jsonl", [{"text": text, "stars": 5} for text in TEXTS])


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_documents_of_a_folder_come_in_order_without_the_empty_ones(tmp_path, suffix):
    rows = [{"text": text} for text in (*TEXTS[:20], "", None, *TEXTS[20:])]
    folder = write_rows(tmp_path / "corpus" / f"validation.{suffix}", rows)
    assert documents(folder, dataset_split="validation") == TEXTS


def test_several_files_are_one_split(tmp_path):
    for part in range(2):
        rows = [{"text": text} for text in TEXTS[25 * part : 25 * part + 25]]
        write_rows(tmp_path / "corpus" / f"train-0000{part}-of-00002.jsonl", rows)
    assert documents(tmp_path / "corpus") == TEXTS


def test_a_dataset_with_several_configurations_needs_its_name(tmp_path):
    for name in ("en", "de"):
        write_rows(tmp_path / name / "train.jsonl", [{"text": name}])
    configs = "".join(f"- {{config_name: {name}, data_files: {name}/train.jsonl}}\n" for name in ("en", "de"))
    (tmp_path / "README.md").write_text(f"---\nconfigs:\n{configs}---\n")
    assert documents(tmp_path, dataset_config="de") == ["de"]
    for given in (None, "fr"):
        with pytest.raises(UserError, match=r"calibration.dataset_config: [^\n]*\['en', 'de'\]$"):
            documents(tmp_path, dataset_config=given)


def test_a_seed_shuffles_a_stream_reproducibly(folder):
    first, again, other = (documents(folder, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert len({str(TEXTS), str(first), str(other)}) == 3
    assert sorted(first) == sorted(TEXTS)


def test_a_folder_goes_by_its_content_and_not_by_its_path(folder, tmp_path):
    identity = open_dataset(settings(folder)).identity
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / ".DS_Store").write_text("x")
    assert open_dataset(settings(copy)).identity == identity
    assert open_dataset(settings(copy, dataset_split="validation")).identity != identity
    with (copy / "train.jsonl").open("a") as file:
        file.write(" ")
    assert open_dataset(settings(copy)).identity != identity


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"text_field": "content"}, "calibration.text_field: .* no column content; it has text, stars"),
        ({"text_field": "stars"}, "calibration.text_field: column stars .* holds no text but int"),
        ({"dataset_split": "validation"}, "calibration.dataset_split: .* no split validation; it has train"),
        ({"dataset_config": "en"}, "calibration.dataset_config: .*'en' not found. Available: .*default"),
        ({"dataset_revision": "main"}, "calibration.dataset_revision: a folder has no revisions"),
    ],
)
def test_what_a_folder_does_not_have_is_named(folder, fields, message):
    with pytest.raises(UserError, match=message):
        documents(folder, **fields)


def test_folders_without_readable_data_are_named(tmp_path):
    (tmp_path / "empty").mkdir()
    broken = write_rows(tmp_path / "broken" / "train.jsonl", [{"text": "a"}])
    (broken / "train.jsonl").write_text('{"text": "a"}\n{"text": ')
    for folder in (tmp_path / "empty", broken):
        with pytest.raises(UserError, match=f"calibration.dataset: {folder} cannot be read .*a folder of data files"):
            documents(folder)


@pytest.mark.parametrize("name", ["nowhere", "json", "s3://bucket/c4", "a/b/c"])
def test_a_name_that_the_hub_cannot_have_is_refused_without_asking_it(name):
    with pytest.raises(UserError, match=f"calibration.dataset: {name} is neither a folder nor a Hugging Face name"):
        documents(name)


@pytest.mark.parametrize("revision", [None, "main", SHA])
def test_a_dataset_that_the_hub_does_not_give_is_named(revision):
    with pytest.raises(UserError, match=r"calibration.dataset: allenai/c4 cannot be read .*check the name"):
        documents("allenai/c4", dataset_config="en", dataset_split="validation", dataset_revision=revision)


@pytest.fixture
def hub(monkeypatch):
    """Commits by (name, revision); `loaded` is what was asked of load_dataset."""
    state = SimpleNamespace(commits={("allenai/c4", None): SHA}, loaded=[])

    def dataset_info(self, name, *, revision=None):
        return SimpleNamespace(sha=state.commits[name, revision])

    def load_dataset(*args, **kwargs):
        state.loaded.append((args, kwargs))
        return {"validation": [{"text": "a"}]}

    monkeypatch.setattr(HfApi, "dataset_info", dataset_info)
    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    return state


def test_without_a_revision_the_commit_of_today_is_read_and_identifies_the_text(hub):
    dataset = open_dataset(settings("allenai/c4", dataset_config="en", dataset_split="validation"))
    assert dataset.identity == {"name": "allenai/c4", "commit": SHA, "config": "en", "split": "validation"}
    assert dataset.label == "allenai/c4, en, validation, commit 0123456789ab"
    hub.commits["allenai/c4", None] = "f" * 40  # the dataset changes while the run goes on
    assert list(dataset.documents("text", None)) == ["a"]
    assert hub.loaded == [(("allenai/c4", "en"), {"revision": SHA, "streaming": True})]
    later = open_dataset(settings("allenai/c4", dataset_config="en", dataset_split="validation"))
    assert later.identity != dataset.identity


def test_a_branch_is_looked_up_and_a_commit_needs_no_hub(hub):
    hub.commits = {("allenai/c4", "v2"): SHA}
    branch = open_dataset(settings("allenai/c4", dataset_revision="v2"))
    commit = open_dataset(settings("allenai/c4", dataset_revision=SHA))
    assert branch.identity == commit.identity


@pytest.mark.parametrize("start", ["null", "\n null\n", "\ufeffnull"])
def test_a_json_file_that_begins_with_null_would_end_the_process_and_is_refused(tmp_path, start):
    (tmp_path / "a.jsonl").write_text(start + '\n{"text": "a"}\n')
    dataset = open_dataset(CalibrationConfig(dataset=str(tmp_path)))
    with pytest.raises(UserError, match="calibration.dataset: .*a.jsonl begins with null; it must hold objects"):
        list(dataset.documents("text", None))
