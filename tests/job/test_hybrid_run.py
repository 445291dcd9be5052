"""Runs in this process on models with sub-layers that must stay, or of several kinds: from scores to a report."""

import json

import local_run
import pytest
import tiny_models
import tiny_run

from drop_ray.errors import UserError
from drop_ray.job.opening import open_job
from drop_ray.models.families import DropLists
from drop_ray.planning.inspection import inspect_model
from drop_ray.stages.forecast import forecast_lines

# Of the tiny Gemma 4, layer 3 reads the keys and values of layer 1; each layer of Nemotron-H has one sub-layer.
STAYS = {
    "Gemma4ForCausalLM": DropLists((1,), ()),
    "NemotronHForCausalLM": DropLists((1, 3), (0, 2)),
    "Qwen3_5ForCausalLM": DropLists(),
}
PLANS = [
    {"strategy": "attention", "drop": [1, 2]},
    {"strategy": "attention", "drop": [2], "iterative": 1},
    {"strategy": "attention", "drop": [1], "kinds": ["full_attention"]},
    {"strategy": "mlp", "drop": [2]},
    {"strategy": "joint", "drop": [3]},
    {"strategy": "block", "drop": [2]},
    {"strategy": "greedy", "of": "joint", "drop": [2], "width": 2},
    {"strategy": "budget", "limit": {"kv_bytes_per_token": "0.5x"}, "swap_rounds": 1},
]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return tiny_run.write_inputs(tmp_path_factory.mktemp("inputs"))


def config_of(inputs, folder, architecture, plans, **fields):
    model = folder / architecture
    if not model.exists():
        tiny_models.write_checkpoint(model, architecture)
    fields = {
        "model": {"path": str(model), "dtype": "float32"},
        "calibration": {"source": str(inputs / "text.txt"), "num_samples": 4, "seq_len": 32},
        "scoring": {"metrics": ["cosine", "kl"], "micro_batch": 2, "range_size": 2},
        **fields,
    }
    return tiny_run.config_of(inputs, folder / "store", tasks=[], plans=plans, **fields)


@pytest.mark.parametrize(
    "architecture",
    ["Gemma4ForCausalLM", *(pytest.param(name, marks=pytest.mark.full) for name in STAYS if "Gemma4" not in name)],
)
def test_a_run_plans_what_can_be_dropped_and_its_report_says_what_cannot(architecture, inputs, tmp_path):
    stays = STAYS[architecture]
    plans = [*PLANS, {"strategy": "block_consecutive", "drop": 2}]
    if architecture == "Qwen3_5ForCausalLM":
        # Without all attention the linear mixers are left, which do not count tokens: generation and texts are right.
        plans.append({"strategy": "attention", "drop": [2], "kinds": ["full_attention"]})
    config = config_of(inputs, tmp_path, architecture, plans, export="all")
    job = open_job(config)
    dry = "\n".join(forecast_lines(config))
    state = local_run.run_stages(job)
    assert len(state.plans) == len({plan.name for plan in state.plans}) == len(plans) + 1
    for plan in state.plans:
        assert not {*plan.drop_attn} & {*stays.attn}, plan.name
        assert not {*plan.drop_mlp} & {*stays.mlp}, plan.name
        assert plan.kv_bytes_per_token == job.size.kv_bytes_per_token(plan.drops)
        file = tmp_path / f"{plan.name}.json"
        file.write_text(plan.to_json())  # every plan is a file that is taken
        assert inspect_model(str(tmp_path / architecture), plan=file).parameters == plan.parameters
    (only_full,) = (plan for plan in state.plans if plan.name == "attention-1-full_attention")
    assert [job.size.layers.kinds[layer] for layer in only_full.drop_attn] == ["full_attention"]
    report = (tmp_path / "store" / "runs" / "run" / "report.md").read_text()
    shown = "\n".join(inspect_model(str(tmp_path / architecture)).lines())
    for reason in job.size.layers.stays:
        assert reason in report
        assert reason in dry
        assert reason in shown
    assert bool(stays.count) == bool([*job.size.layers.stays])
    for kind in job.size.layers.mixer_kinds:
        assert f"{kind} in layer" in report
        assert f"{kind} in layer" in shown


@pytest.mark.parametrize("architecture", ["Gemma4ForCausalLM", "NemotronHForCausalLM"])
def test_a_plan_file_of_what_must_stay_is_refused_before_any_work(architecture, inputs, tmp_path):
    stays = STAYS[architecture]
    (tmp_path / "mine.json").write_text(json.dumps({"drop_attn": stays.attn, "drop_mlp": stays.mlp}))
    config = config_of(inputs, tmp_path, architecture, [{"file": str(tmp_path / "mine.json")}])
    with pytest.raises(UserError, match="plan .*mine.json: drop_attn names layer 1, "):
        open_job(config)
