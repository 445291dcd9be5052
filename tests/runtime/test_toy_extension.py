"""A package outside of drop_ray adds one of each kind: installed by pip, found, used, and kept apart."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import tiny_run
import torch
from processes import with_folders
from safetensors import safe_open
from tiny_models import token_ids

from drop_ray.models.families import DropLists
from drop_ray.models.loading import load_model

pytestmark = pytest.mark.alone

TOY = Path(tiny_run.__file__).with_name("toy_extension")
FIELDS = {
    "scoring": {"micro_batch": 2, "range_size": 10, "metrics": ["cosine", "relative_change"]},
    "plans": [
        {"strategy": "inner", "drop": [1, 2], "metric": "relative_change"},
        {"strategy": "attention", "drop": [2], "metric": "relative_change"},
        {"strategy": "inner", "drop": [2], "iterative": 1},
        {"strategy": "window", "drop": [2], "objective": "draft"},
    ],
}


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """The folder that the package is installed to."""
    source, target = (tmp_path_factory.mktemp(name) for name in ("source", "target"))
    # setuptools builds where the sources lie.
    shutil.copytree(TOY, source, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--target", str(target)]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, str(source)], check=True)
    return target


def drop_ray(command, config, *folders):
    """The command line in a process of its own, which finds packages in these folders."""
    return subprocess.run(
        [sys.executable, "-m", "drop_ray", command, config],
        env={**os.environ, **with_folders(*folders)},
        capture_output=True,
        text=True,
    )


def scores(store):
    """Mean importance by (metric, module, layer), of the base, and the identity it is kept under."""
    for record in store.glob("artifacts/score-*/commit.json"):
        step = json.loads(record.read_text())["step"]
        if step["name"] == "score" and not step["identity"]["drop_attn"]:
            (table,) = record.parent.glob("*/scores.parquet")
            means = {}
            for row in pq.read_table(table).to_pylist():
                key = row["metric"], row["module"], row["layer"]
                means[key] = means.get(key, 0.0) + row["total"] / row["tokens"] / 20
            return means, step["identity"]
    raise AssertionError("no score table of the base")


def test_a_metric_and_a_strategy_of_another_package_score_and_plan(toy, inputs, tmp_path):
    config = tiny_run.write_config(tmp_path / "run.yaml", inputs, tmp_path / "store", **FIELDS)
    done = drop_ray("plan", config, toy)
    assert done.returncode == 0, done.stderr
    means, identity = scores(tmp_path / "store")
    assert identity["metrics"] == ["cosine", "relative_change"]
    assert identity["metric_versions"] == {"relative_change": {"package": "drop-ray-toy", "algorithm": 1}}
    plans = [json.loads(path.read_text()) for path in (tmp_path / "store/runs/run/plans").glob("*.json")]
    made = {plan["name"]: (plan["strategy"], plan["metric"], plan["drop_attn"]) for plan in plans}
    changes = {layer: means["relative_change", "attention", layer] for layer in range(4)}
    ranked = sorted(changes, key=changes.get)
    inner = [layer for layer in ranked if layer in (1, 2)]
    assert made == {
        "inner-1-relative_change": ("inner", "relative_change", inner[:1]),
        "inner-2-relative_change": ("inner", "relative_change", inner),
        "attention-2-relative_change": ("attention", "relative_change", ranked[:2]),
        "inner-2-iterative1": ("inner-iterative1", "cosine", made["inner-2-iterative1"][2]),
        "window-2-draft": ("window-draft", None, made["window-2-draft"][2]),
    }
    first, second = made["window-2-draft"][2]
    assert second == first + 1
    assert sorted(made["inner-2-iterative1"][2]) == [1, 2]


@pytest.mark.full
def test_a_change_of_another_package_is_evaluated_exported_and_reported(toy, inputs, tmp_path):
    halved = {"kind": "scale_mlp", "layer": 1, "factor": 0.5}
    for name, changes in (("dropped", []), ("halved", [halved]), ("as-it-was", [{**halved, "factor": 1.0}])):
        plan = {"changes": [{"kind": "drop", "attn": [2]}, *changes]}
        (tmp_path / f"{name}.json").write_text(json.dumps(plan))
    plans = [{"file": str(tmp_path / f"{name}.json")} for name in ("dropped", "halved", "as-it-was")]
    fields = {"plans": plans, "export": ["halved"], "export_formats": ["dropped", "config-only"]}
    config = tiny_run.write_config(tmp_path / "run.yaml", inputs, tmp_path / "store", **fields)
    done = drop_ray("run", config, toy)
    assert done.returncode == 0, done.stderr
    assert "config-only has no weights, and this variant changes some" in done.stderr

    run = tmp_path / "store/runs/run"
    rows = pq.read_table(run / "tables/evaluations.parquet").to_pylist()
    perplexity = {row["variant"]: row["value"] for row in rows if (row["task"], row["primary"]) == ("text", True)}
    assert perplexity["as-it-was"] == perplexity["dropped"] != perplexity["halved"]
    variants = {row["name"]: row for row in pq.read_table(run / "tables/variants.parquet").to_pylist()}
    assert variants["halved"]["changes"] == ["scaled1"]
    assert "## Changed further" in (run / "report.md").read_text()

    name, checkpoint = "model.layers.1.mlp.down_proj.weight", Path(variants["halved"]["checkpoint"])
    (base,) = load_tensors(inputs / "model", name)
    (exported,) = load_tensors(checkpoint, name)
    assert torch.equal(exported, base * 0.5)
    # Whoever has the checkpoint needs neither the package nor drop_ray to have what it changed.
    loaded = load_model(checkpoint)
    samples = token_ids(2, 16)
    loaded_logits = loaded(samples).logits
    whole = load_model(inputs / "model", DropLists((2,)))
    assert not torch.equal(whole(samples).logits, loaded_logits)
    whole.get_parameter(name).data.mul_(0.5)
    assert torch.equal(whole(samples).logits, loaded_logits)


def load_tensors(folder, name):
    """The tensor of that name, from whichever file has it."""
    for path in folder.glob("*.safetensors"):
        with safe_open(path, "pt") as file:
            if name in file.keys():  # noqa: SIM118  it is no mapping
                yield file.get_tensor(name)


def test_more_than_the_strategy_chooses_from_is_refused_before_any_work(toy, inputs, tmp_path):
    plans = [{"strategy": "inner", "drop": 3}]
    config = tiny_run.write_config(tmp_path / "run.yaml", inputs, tmp_path / "store", plans=plans)
    refused = drop_ray("plan", config, toy)
    assert refused.returncode == 2
    assert "plans[0].drop: 3 is more than the 2 attention layers that strategy inner chooses from" in refused.stderr
    assert not (tmp_path / "store" / "artifacts").exists()


def test_a_config_that_needs_a_package_that_is_not_installed_names_what_there_is(inputs, tmp_path):
    config = tiny_run.write_config(tmp_path / "run.yaml", inputs, tmp_path / "store", **FIELDS)
    refused = drop_ray("plan", config)
    assert refused.returncode == 2
    assert "scoring.metrics[1]: Input should be 'cosine', 'angular', 'update_norm', " in refused.stderr
    assert "plans[0].strategy: Input should be 'attention', 'mlp', " in refused.stderr


def test_the_metric_is_that_of_its_formula(toy, monkeypatch):
    from drop_ray.scoring.state import make_state

    monkeypatch.syspath_prepend(str(toy))
    from drop_ray_toy.relative_change import RELATIVE_CHANGE

    before, after = torch.tensor([[[3.0, 4.0], [0.0, 2.0]]]), torch.tensor([[[3.0, 4.0], [1.5, 0.0]]])
    assert RELATIVE_CHANGE.distances(make_state(before), make_state(after)).tolist() == [[0.0, 1.25]]
