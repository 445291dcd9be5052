"""The stage `refit` on a tiny Llama: further variants, the same bytes however they are made, what is refused."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import tiny_models
import torch
from processes import workers_killed_when

from drop_ray.errors import UserError
from drop_ray.job.ledger import read_manifest
from drop_ray.models.checkpoint import open_checkpoint
from drop_ray.models.loading import load_model
from drop_ray.pipeline import run
from drop_ray.stages.forecast import forecast_lines
from drop_ray.store import open_store

LINE = {"ridge": 0.1, "held_out": 4}
PLANS = [{"strategy": "attention", "drop": [1, 2]}, {"strategy": "block", "drop": [1]}]
# No drop_ray on its path: a checkpoint is a model of transformers with its own code beside it.
PLAIN = """
import json, sys, torch
from transformers import AutoModelForCausalLM
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], trust_remote_code=True, dtype="float32").eval()
with torch.no_grad():
    print(json.dumps(model(torch.tensor(json.loads(sys.argv[2]))).logits.tolist()))
assert not any(name.split(".")[0] == "drop_ray" for name in sys.modules)
"""


def commits(config, stage):
    store = open_store(config.store)
    return {label: store.find(step) for at, label, step in read_manifest(store, f"runs/{config.name}") if at == stage}


def forecast_of(config, stage):
    return next(line.split()[1:3] for line in forecast_lines(config) if line.startswith(stage))


def test_refitted_plans_are_judged_exported_and_reported_as_further_variants(make_config, tmp_path):
    config = make_config(plans=PLANS, refit=[LINE], export=["attention-2-refit", "block-1-refit"])
    assert forecast_of(config, "refit") == ["3", "3"]
    done = run(config)
    names = ["attention-1-refit", "attention-2-refit", "block-1-refit"]
    assert list(commits(config, "refit")) == names
    assert forecast_of(config, "refit") == ["3", "0"]
    assert {f"{name} on text" for name in names} <= {*commits(config, "evaluate")}
    assert not [*Path(config.store).glob("artifacts/refit-layer-*/*")]
    assert run(config).computed == 0

    exported = Path(done.checkpoints["attention-2-refit"])
    fields = json.loads((exported / "config.json").read_text())
    assert fields["drop_attn_list"] == sorted(done.plans[1].drop_attn)
    assert "solved anew" in fields["drop_ray"]["refit"]
    assert "ridge 0.1" in (exported / "README.md").read_text()
    ids = tiny_models.token_ids(2, 16)
    command = [sys.executable, "-P", "-c", PLAIN, str(exported), json.dumps(ids.tolist())]
    result = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path, env=without_drop_ray())
    refitted = tiny_models.logits_of(load_model(open_checkpoint(exported)), ids)
    torch.testing.assert_close(torch.tensor(json.loads(result.stdout)), refitted, rtol=1e-4, atol=1e-4)
    base = open_checkpoint(config.model.path)
    dropped = tiny_models.logits_of(load_model(base, done.plans[1].drops), ids)
    assert (refitted - dropped).abs().max() > 1e-2

    folder = Path(done.folder)
    assert "## What was lost, and what came back" in (folder / "report.md").read_text()
    rows = pq.read_table(folder / "tables" / "refits.parquet").to_pylist()
    assert [(row["variant"], row["of"]) for row in rows] == [(name, name.removesuffix("-refit")) for name in names]
    assert all(row["tokens"] == 16 * 32 and row["held_out"] == 4 for row in rows)
    errors = pq.read_table(folder / "tables" / "refit_errors.parquet").to_pylist()
    assert all(row["fitted_after"] < row["fitted_before"] for row in errors)
    # A whole block: the plain format too, whose layers are renumbered.
    plain = Path(done.checkpoints["block-1-refit (plain)"])
    logits = tiny_models.logits_of(load_model(open_checkpoint(plain)), ids)
    expected = tiny_models.logits_of(load_model(open_checkpoint(done.checkpoints["block-1-refit"])), ids)
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5)


def without_drop_ray():
    return {**{key: value for key, value in os.environ.items() if key != "PYTHONPATH"}, "HF_MODULES_CACHE": "modules"}


@pytest.fixture(scope="module")
def deep(tmp_path_factory):
    """A model and a text on which a refit takes a while."""
    folder = tmp_path_factory.mktemp("deep") / "model"
    tiny_models.write_checkpoint(folder, num_layers=8, hidden_size=64, intermediate_size=192)
    return {
        "model": {"path": str(folder), "dtype": "float32"},
        "calibration": {"source": str(folder.parent / "text.txt"), "num_samples": 60, "seq_len": 64},
        "plans": [{"file": str(folder.parent / f"{name}.json")} for name in ("one", "two", "three")],
    }


@pytest.fixture
def deep_config(make_config, deep, inputs):
    folder = Path(deep["model"]["path"]).parent
    (folder / "text.txt").write_text((inputs / "text.txt").read_text())
    for name, attn in (("one", [1]), ("two", [2, 3]), ("three", [1, 3, 5])):
        (folder / f"{name}.json").write_text(json.dumps({"name": name, "drop_attn": attn, "drop_mlp": []}))

    def make(workers, store):
        execution = {"num_workers": workers, "cpus_per_worker": 0.5}
        return make_config(store=store, **deep, refit=[{"ridge": 0.1, "held_out": 16}], execution=execution)

    return make


def checksums(config):
    return {label: commit.checksum for label, commit in commits(config, "refit").items()}


@pytest.mark.full
def test_any_number_of_workers_and_killed_ones_give_the_same_bytes(deep_config, caplog):
    calm = deep_config(1, "calm")
    run(calm, "refit")
    assert len(checksums(calm)) == 3
    disturbed = deep_config(3, "disturbed")
    artifacts = Path(disturbed.store) / "artifacts"
    with workers_killed_when(lambda: len([*artifacts.glob("refit-layer-*/commit.json")]) >= 2):
        run(disturbed, "refit")
    assert "worker lost, attempt 1 of 3" in caplog.text
    assert checksums(disturbed) == checksums(calm)
    # Whoever came after went on where the others were.
    found = [commit.provenance["measured"]["layers_found"] for commit in commits(disturbed, "refit").values()]
    assert sum(found) >= 2, found
    assert sum(commit.provenance["measured"]["layers_found"] for commit in commits(calm, "refit").values()) == 0


@pytest.mark.full
def test_a_refitted_plan_is_quantized_as_refitted(make_config, tmp_path):
    from drop_ray.quantization.dequantized import open_dequantized

    folder = tiny_models.write_checkpoint(tmp_path / "wide", hidden_size=128, intermediate_size=192)
    config = make_config(
        model={"path": str(folder), "dtype": "float32"},
        calibration={"source": str(make_config().calibration.source), "num_samples": 40, "seq_len": 32},
        plans=[{"strategy": "attention", "drop": [1]}],
        refit=[{"ridge": 1.0}],
        quantization=[{"method": "gptq", "group_size": 32, "held_out": 4}],
        export=["attention-1-refit"],
    )
    done = run(config)
    assert {*done.checkpoints} == {"base-gptq", "attention-1-gptq", "attention-1-refit-gptq", "attention-1-refit"}
    name = "model.layers.3.mlp.down_proj.weight"
    refitted = open_checkpoint(done.checkpoints["attention-1-refit"]).read([name])[name]
    base = open_checkpoint(folder).read([name])[name]
    packed = open_dequantized(Path(done.checkpoints["attention-1-refit-gptq"])).read([name])[name].float()
    assert (packed - refitted).norm() < 0.8 * (packed - base).norm()
    variants = pq.read_table(Path(done.folder) / "tables" / "variants.parquet").to_pylist()
    made = {row["name"]: row["quantization_of"] for row in variants}
    assert made["attention-1-refit-gptq"] == "attention-1-refit"
    assert made["attention-1-gptq"] == "attention-1"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            {"num_samples": 7},
            r"refit \(refit\): 7 samples of 32 tokens .* set refit \(refit\).num_samples to 8 or more",
        ),
        ({"plans": ["attention-9"]}, r"refit \(refit\).plans: no plan is called attention-9; plans: attention-1"),
        ({"plans": ["base"]}, "the base drops nothing"),
    ],
)
def test_what_does_not_fit_is_refused_before_any_work(make_config, line, message):
    config = make_config(refit=[{"held_out": 4, **line}])
    with pytest.raises(UserError, match=message):
        run(config)
    assert open_store(config.store).list("artifacts") == []
