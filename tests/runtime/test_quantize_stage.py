"""The stage `quantize` on a tiny Llama: checkpoints, their evaluation and benchmark as further plans, resuming."""

import json
import re

import pytest
import tiny_models

from drop_ray.errors import UserError
from drop_ray.job.artifacts import PANEL, RECONSTRUCTION
from drop_ray.models.checkpoint import open_checkpoint
from drop_ray.pipeline import run
from drop_ray.stages.forecast import forecast_lines
from drop_ray.store import Step, open_store
from drop_ray.store.tables import read_table

VALUES = [
    {"method": "awq", "group_size": 32, "held_out": 4, "plans": []},
    {"method": "gptq", "group_size": 32, "held_out": 4, "plans": ["attention-2"]},
]
# Engine and gate are those of every benchmark; here a quantized plan is one of them.
SERVING = {
    "engine": "transformers",
    "workloads": [{"prompt": 24, "output": 8}],
    "batch_sizes": [2],
    "plans": ["attention-2-gptq"],
    "kv_cache_bytes": 1 << 20,
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Wide enough for the kernels, which take outputs by 64."""
    folder = tmp_path_factory.mktemp("wide") / "model"
    tiny_models.write_checkpoint(folder, hidden_size=128, intermediate_size=192)
    return {"path": str(folder), "dtype": "float32"}


def forecast_of(config, stage):
    return next(line.split()[1:3] for line in forecast_lines(config) if line.startswith(stage))


def test_quantized_plans_are_made_judged_and_served_as_further_plans(make_config, model):
    config = make_config(model=model, quantization=VALUES, serving=SERVING, divergence={"num_samples": 4})
    assert forecast_of(config, "quantize") == ["3", "3"]
    first = run(config, "quantize")
    names = {"base-awq", "base-gptq", "attention-2-gptq"}
    assert set(first.checkpoints) == names
    assert forecast_of(config, "quantize") == ["3", "0"]

    checkpoint = open_checkpoint(first.checkpoints["attention-2-gptq"])
    assert checkpoint.config["model_type"] == "dropped_llama"
    assert checkpoint.config["drop_attn_list"] == sorted(first.plans[1].drop_attn)
    assert checkpoint.config["quantization_config"]["quant_method"] == "gptq"
    errors = read_table(open_store(config.store), quantize_commit(config, "attention-2-gptq"), RECONSTRUCTION)
    dropped = {(layer, "attention") for layer in first.plans[1].drop_attn}
    rows = errors.to_pylist()
    present = {(layer, module) for layer in range(4) for module in ("attention", "mlp")}
    assert {(row["layer"], row["module"]) for row in rows} == present - dropped
    assert all(0 < row["squared_method"] < row["squared_output"] for row in rows)

    panels = {label: panel_of_unit(config, label) for label in names | {"attention-2"}}
    assert all(0 < panel["kl"] < 10 for panel in panels.values())
    assert panels["base-gptq"]["top1_agreement"] > panels["attention-2"]["top1_agreement"]

    done = run(config)
    assert list(done.serving) == ["base", "attention-2-gptq"]
    assert done.found == first.computed
    report = open_store(config.store).read_file("runs/run/report.md").decode()
    assert "## Dropping and quantizing" in report
    assert re.search(r"^\| attention-2-gptq +\| +\d\.\d+ \xb1 ", report, re.MULTILINE)
    assert all(path in report for path in first.checkpoints.values())
    again = run(config)
    assert (again.computed, again.serving) == (0, done.serving)


def quantize_commit(config, label):
    return commit_of(config, "quantize", label)


def panel_of_unit(config, label):
    return json.loads(open_store(config.store).read_bytes(commit_of(config, "diverge", label), PANEL))


def commit_of(config, stage, label):
    store = open_store(config.store)
    units = json.loads(store.read_file("runs/run/steps.json"))
    unit = next(unit for unit in units if (unit["stage"], unit["label"]) == (stage, label))
    return store.find(Step(unit["name"], unit["identity"]))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"method": "awq", "group_size": 48}, r"quantization.*group_size.*32"),
        (
            {"method": "gptq", "group_size": 32, "plans": ["attention-9"]},
            "no plan is called attention-9; plans: attention-1, attention-2",
        ),
        ({"method": "gptq", "group_size": 32, "text": {"source": "{inputs}/text.txt", "seq_len": 4096}}, "positions"),
    ],
)
def test_what_does_not_fit_is_refused_before_any_work(make_config, model, inputs, line, message):
    text = {**line["text"], "source": line["text"]["source"].format(inputs=inputs)} if "text" in line else None
    config = make_config(model=model, quantization=[{"held_out": 4, **line, **({"text": text} if text else {})}])
    with pytest.raises(UserError, match=message):
        run(config)
    assert open_store(config.store).list("artifacts") == []
