"""A whole run on a multimodal checkpoint: scored, refitted, evaluated and exported with its towers."""

import copy
import json
import math
from pathlib import Path

import pytest
import tiny_models
import torch
from local_run import run_stages
from safetensors.torch import load_file
from tiny_wrappers import image_and_text, outputs, silenced, write_wrapper
from transformers import AutoModelForImageTextToText

from drop_ray.config import parse_config
from drop_ray.job.opening import open_job
from drop_ray.models.families import DropLists
from drop_ray.models.registration import register
from drop_ray.stages.forecast import forecast
from drop_ray.stages.report import collect, evaluations_of

SEQ_LEN = 24


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wrapper")
    write_wrapper(folder / "model", "gemma3")
    ids = tiny_models.token_ids(60, SEQ_LEN).tolist()
    for name, part in (("ids", ids[:40]), ("held_out", ids[40:])):
        (folder / f"{name}.json").write_text(json.dumps(part))
    held_out = {"token_ids": str(folder / "held_out.json"), "num_samples": 8, "seq_len": SEQ_LEN}
    config = {
        "name": "wrapper",
        "model": {"path": str(folder / "model"), "dtype": "float32"},
        "calibration": {"token_ids": str(folder / "ids.json"), "num_samples": 16, "seq_len": SEQ_LEN},
        "plans": [{"strategy": "attention", "drop": [1]}, {"strategy": "block", "drop": [1]}],
        "refit": [{"ridge": 0.1, "held_out": 4}],
        "evaluation": {"perplexity": [{"name": "held-out", **held_out}], "divergence": held_out},
        "export": "all",
        "export_formats": ["dropped", "plain"],
        "store": str(folder / "store"),
    }
    return open_job(parse_config(config, "test"))


@pytest.fixture(scope="module")
def run(job):
    forecasts = {work.name: work for work in forecast(job)}
    assert forecasts["export"].todo == 4 + 2
    return run_stages(job)


def read(folder):
    return {name: tensor for path in sorted(folder.glob("*.safetensors")) for name, tensor in load_file(path).items()}


def load(folder):
    register()
    model, report = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    assert not any(report.values())
    return copy.deepcopy(model).eval()


def test_its_report_has_the_perplexity_of_the_wrapper(job, run):
    results = collect(run, evaluations_of(run))
    perplexities = {row.variant: row.value for row in results.evaluations if row.metric == "token_perplexity"}
    assert perplexities.keys() == {"base", "attention-1", "block-1", "attention-1-refit", "block-1-refit"}
    full = load(job.config.model.path)
    samples = torch.tensor(json.loads((job.checkpoint.folder.parent / "held_out.json").read_text())[:8])
    dropped = silenced(copy.deepcopy(full), DropLists(run.plans[0].drop_attn, ()))
    for model, variant in ((full, "base"), (dropped, "attention-1")):
        with torch.no_grad():
            expected = math.exp(model(samples, labels=samples).loss)
        assert perplexities[variant] == pytest.approx(expected, rel=1e-5)


def test_its_plans_are_exported_with_their_towers_and_read_an_image(job, run):
    image = image_and_text("gemma3")
    base = read(job.checkpoint.folder)
    for plan in run.plans:
        expected = outputs(silenced(load(job.config.model.path), plan.drops), image)
        formats = [plan.name, f"{plan.name} (plain)"] if plan.drop_mlp else [plan.name]
        for name in formats:
            assert torch.equal(outputs(load(run.checkpoints[name]), image), expected)
    refitted = load(run.checkpoints["attention-1-refit"])
    assert not torch.equal(outputs(refitted, image), outputs(load(run.checkpoints["attention-1"]), image))
    written = read(Path(run.checkpoints["attention-1-refit"]))
    changed = {name for name, tensor in written.items() if not torch.equal(tensor, base[name])}
    assert changed
    assert all(name.startswith("language_model.model.layers.") for name in changed)
