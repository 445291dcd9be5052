"""A run that was made, in the hands of others: its checkpoint on the hub, two runs compared, and what MLflow got."""

import json
import shutil
import time
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard
from local_run import run_stages
from tiny_run import config_of, write_inputs

from drop_ray.cli import main
from drop_ray.job.opening import open_job
from drop_ray.sharing.finished_run import open_run
from drop_ray.store import open_store

pytestmark = pytest.mark.full

ALL = {"export": "all", "export_formats": ["dropped", "llm-drop"]}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Two runs by other calibration texts, with KL: their files, and the store."""
    folder = tmp_path_factory.mktemp("runs")
    write_inputs(folder)
    (folder / "other.txt").write_text("other words walk and sing here the day is long " * 600)
    for name, text in (("one", "text.txt"), ("two", "other.txt")):
        config = config_of(
            folder,
            folder / "store",
            name=name,
            calibration={"source": str(folder / text), "num_samples": 20, "seq_len": 32},
            divergence={"source": str(folder / "text.txt"), "num_samples": 4},
            **ALL,
        )
        run_stages(open_job(config))
        (folder / f"{name}.yaml").write_text(config.to_yaml())
    return folder


def check_results(card, made):
    """The card's results are the run's."""
    found = {(one.dataset_name, one.metric_type): one for one in ModelCard(card).data.eval_results}
    rows = [row for row in open_run(str(made / "one.yaml")).results.evaluations if row.variant == "attention-2"]
    assert {place: one.metric_value for place, one in found.items()} == {(r.task, r.metric): r.value for r in rows}
    choose = found["choose", "acc"]
    assert (choose.dataset_type, choose.dataset_split) == ("choose", "test")
    assert choose.metric_args["num_fewshot"] == 2
    assert choose.metric_args["documents"] == 12
    assert "KL of its predictions to the base's: " in card


def test_a_variant_is_pushed_with_the_runs_results_and_the_store_is_left_as_it_was(made, hub, capsys):
    place = made / "store" / "runs" / "one"
    before = {path: path.read_bytes() for path in (made / "store").rglob("README.md")}
    assert main(["push", str(place), "attention-2", "--to", "me/mine"]) == 0
    files = hub.repos["me/mine"]["main"]
    check_results(files["README.md"].decode(), made)
    assert json.loads(files["config.json"])["drop_attn_list"]
    assert any(name.endswith(".safetensors") for name in files)
    assert before == {path: path.read_bytes() for path in (made / "store").rglob("README.md")}
    assert all(b"model-index" not in card for card in before.values())


def test_a_format_is_chosen(made, hub, capsys):
    config = str(made / "one.yaml")
    assert main(["push", config, "attention-1", "--to", "me/mine", "--format", "llm-drop", "--dry-run"]) == 0
    assert "export format: `llm-drop`" in capsys.readouterr().out
    assert main(["push", config, "attention-1", "--to", "me/mine", "--format", "plain", "--dry-run"]) == 2
    assert "it has dropped, llm-drop" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["one.yaml", "--to", "me/x"], "say which variant; those with a checkpoint: attention-1, attention-2"),
        (["one.yaml", "nope", "--to", "me/x"], "has no variant nope; it has: base, attention-1"),
        (["one.yaml", "base", "--to", "me/x"], "base has no checkpoint"),
        (["store", "attention-1", "--to", "me/x"], "is no YAML file and no run's folder"),
        (["store/runs/three", "attention-1", "--to", "me/x"], "has no config.yaml"),
    ],
)
def test_what_cannot_be_pushed_is_said(made, hub, capsys, arguments, message):
    source, *others = arguments
    assert main(["push", str(made / source), *others]) == 2
    assert message in capsys.readouterr().err
    assert hub.repos == {}


def test_a_store_that_was_moved_still_has_its_checkpoints(made, hub, tmp_path):
    shutil.copytree(made / "store", tmp_path / "moved")
    values = yaml.safe_load((made / "one.yaml").read_text()) | {"store": str(tmp_path / "moved")}
    (tmp_path / "one.yaml").write_text(yaml.safe_dump(values))
    shutil.move(made / "store", made / "away")
    try:
        assert main(["push", str(tmp_path / "one.yaml"), "attention-1", "--to", "me/mine"]) == 0
    finally:
        shutil.move(made / "away", made / "store")
    assert "config.json" in hub.repos["me/mine"]["main"]


def test_a_run_on_s3_is_pushed_and_compared(made, hub, s3_url, capsys):
    store = open_store(s3_url)
    for path in (made / "store").rglob("*"):
        if path.is_file():
            store.files.upload(path, path.relative_to(made / "store").as_posix())
    assert main(["push", f"{s3_url}/runs/one", "attention-1", "--to", "me/mine"]) == 0
    files = hub.repos["me/mine"]["main"]
    commit = open_run(str(made / "one.yaml")).results.variants[1].checkpoint.split(", ")[0].removeprefix("dropped: ")
    assert all((path.name, path.read_bytes()) in files.items() for path in Path(commit).glob("*.safetensors"))
    assert b"model-index" in files["README.md"]
    assert main(["compare", str(made / "two.yaml"), f"{s3_url}/runs/one/report.html"]) == 0
    assert capsys.readouterr().out.splitlines()[-1]


def test_a_damaged_checkpoint_is_not_pushed(made, hub, tmp_path, capsys):
    shutil.copytree(made / "store", tmp_path / "store")
    for weights in tmp_path.glob("store/artifacts/export-*/*/checkpoint/*.safetensors"):
        weights.write_bytes(weights.read_bytes()[:-1])
    assert main(["push", str(tmp_path / "store" / "runs" / "one"), "attention-1", "--to", "me/mine"]) == 2
    assert "is not what was committed" in capsys.readouterr().err
    assert hub.repos == {}


def test_an_export_of_a_finished_run_has_its_results(made, tmp_path, capsys):
    config, output = str(made / "one.yaml"), tmp_path / "out"
    plan = made / "store" / "runs" / "one" / "plans" / "attention-2.json"
    assert main(["export", config, "--plan", str(plan), "--output", str(output)]) == 0
    assert "with the run's results in its model card" in capsys.readouterr().out
    check_results((output / "README.md").read_text(), made)


def test_an_export_of_another_plan_of_that_name_has_none(made, tmp_path, capsys):
    plan = tmp_path / "attention-2.json"
    plan.write_text(json.dumps({"drop_attn": [0], "drop_mlp": []}))
    assert main(["export", str(made / "one.yaml"), "--plan", str(plan), "--output", str(tmp_path / "out")]) == 0
    assert ModelCard((tmp_path / "out" / "README.md").read_text()).data.eval_results is None


def test_two_runs_are_compared_by_file_and_by_folder(made, tmp_path, capsys):
    runs = [str(made / "one.yaml"), str(made / "store" / "runs" / "two")]
    assert main(["compare", *runs]) == 0
    text = capsys.readouterr().out
    assert "# " not in text.splitlines()[0]
    assert text.startswith("one beside two\n")
    assert "calibration (differs)" in text
    assert "KL was taken to the same base on the same text by all" in text
    assert "Everything that was measured is compared." in text
    assert main(["compare", *runs, "--output", str(tmp_path / "both")]) == 0
    assert (tmp_path / "both.md").read_text().split() == text.split()
    assert (tmp_path / "both.html").read_text().startswith("<!doctype html>")
    assert main(["compare", runs[0]]) == 2


def test_mlflow_gets_a_run_with_one_below_it_for_each_variant(made, tmp_path, capsys):
    tracking = pytest.importorskip("mlflow.tracking", reason="the extra mlflow is not installed")
    command = ["track", str(made / "one.yaml"), "--set", f"tracking={{mlflow: {{uri: '{tmp_path / 'mlruns'}'}}}}"]
    assert main(command) == 0
    assert main(command) == 0
    assert "was there already" in capsys.readouterr().out
    client = tracking.MlflowClient(tracking_uri=str(tmp_path / "mlruns"))
    runs = client.search_runs([client.get_experiment_by_name("drop_ray").experiment_id])
    parent = next(run for run in runs if "drop_ray.results" in run.data.tags)
    children = {run.info.run_name: run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id}
    assert len(runs) == 1 + len(children)
    rows = open_run(str(made / "one.yaml")).results
    assert [*children] == [row.name for row in reversed(rows.variants)]
    kl = {row.variant: row.kl for row in rows.divergences}
    assert {name: run.data.metrics["kl"] for name, run in children.items() if name != "base"} == kl
    assert parent.data.params["calibration.num_samples"] == "20"
    assert {one.path for one in client.list_artifacts(parent.info.run_id)} >= {"report.html", "results.csv"}


def test_weights_and_biases_gets_a_run_offline(made, tmp_path, capsys, monkeypatch):
    pytest.importorskip("wandb", reason="the extra wandb is not installed")
    tracking = f"tracking={{wandb: {{mode: offline, folder: '{tmp_path}'}}}}"
    assert main(["track", str(made / "one.yaml"), "--set", tracking]) == 0
    assert "for `wandb sync`" in capsys.readouterr().out
    (written,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    # The process of wandb's own that writes the file may do so a moment after `finish` has returned.
    deadline = time.monotonic() + 30
    while b"attention-2/choose/acc" not in written.read_bytes():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    (page,) = tmp_path.glob("wandb/offline-run-*/files/media/html/*.html")
    assert page.read_bytes().startswith(b"<!doctype")
