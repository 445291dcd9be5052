"""What is logged of a run: names and values; and that a place which fails, or is not installed, fails no run."""

import importlib.util
import math
from dataclasses import replace

import pytest
from large_results import TASKS, large_results
from serving_results import served_results

from drop_ray.config import parse_config
from drop_ray.errors import UserError
from drop_ray.sharing.mlflow_log import NOT_IN_NAMES, mlflow_name
from drop_ray.sharing.tracked import tracked
from drop_ray.sharing.tracking import check_installed, log_to, track_after_run
from drop_ray.sharing.wandb_log import wandb_summary

MINIMAL = {"name": "r", "model": {"path": "demo:model"}, "calibration": {"source": "demo:calibration.jsonl"}}


def run_of(config_yaml="plans: [{strategy: attention, drop: [1, 2]}]\nempty: []\n", **fields):
    results = large_results()
    return replace(results, run=replace(results.run, config_yaml=config_yaml), **fields)


def test_parameters_are_the_fields_of_the_config_with_model_and_versions():
    assert tracked(run_of(), {}).parameters == {
        "plans[0].strategy": "attention",
        "plans[0].drop": "[1, 2]",
        "empty": "[]",
        "model_identity": "0123",
        "num_layers": "32",
        "version.torch": "2",
    }


def test_every_variant_has_its_sizes_and_every_metric_with_its_error():
    results = run_of()
    found = tracked(results, {})
    assert [one.name for one in found.variants] == [row.name for row in results.variants]
    one = next(one for one in found.variants if one.name == "joint-4-refit-gptq")
    assert one.parameters == {"strategy": "joint", "dropped": "block 4-7", "changes": "refit-gptq"}
    assert one.metrics["dropped_sublayers"] == 8
    values = {row.task: row.value for row in results.evaluations if row.variant == one.name}
    assert {name: one.metrics[f"{name}/acc"] for name in TASKS} == values
    assert one.metrics["mmlu/acc_stderr"] == 0.06
    assert math.isclose(one.metrics["average"], sum(values.values()) / len(values))


def test_speedups_are_named_by_workload_and_batch():
    results = served_results()
    rows = [row for row in results.serving if row.metric == "output_tokens_per_s" and row.comparison == "equal_batch"]
    metrics = {one.name: one.metrics for one in tracked(results, {}).variants}
    assert rows
    for row in rows:
        name = f"speedup/{row.workload} x{row.batch_size}"
        assert [metrics[row.variant][name + end] for end in ("", "_low", "_high")] == [row.ratio, row.low, row.high]


def test_what_is_no_number_stays_so():
    results = run_of()
    rows = [replace(results.evaluations[0], value=math.nan, stderr=math.nan), *results.evaluations[1:]]
    metrics = tracked(replace(results, evaluations=rows), {}).variants[0].metrics
    name = f"{rows[0].task}/acc"
    assert math.isnan(metrics[name])
    assert f"{name}_stderr" not in metrics


def test_equal_results_have_one_fingerprint_and_others_another():
    first, second = tracked(run_of(), {}), tracked(run_of(), {"report.html": b"x"})
    assert first.fingerprint == second.fingerprint
    others = [
        tracked(run_of("a: 1"), {}),
        tracked(run_of(evaluations=run_of().evaluations[1:]), {}),
        replace(first, name="other"),
    ]
    assert len({first.fingerprint, *(one.fingerprint for one in others)}) == 4


def test_names_are_what_the_programs_take():
    run = tracked(run_of(), {})
    names = {name for one in run.variants for name in one.metrics} | {*run.parameters}
    assert not any(NOT_IN_NAMES.search(mlflow_name(name)) for name in names)
    assert mlflow_name("plans[10].drop") == "plans.10.drop"
    assert mlflow_name("speedup/2048+128 x4") == "speedup/2048_128 x4"
    assert wandb_summary(run)["base/mmlu/acc"] == run.variants[0].metrics["mmlu/acc"]


@pytest.mark.parametrize("values", [{}, {"mlflow": None}, {"mlflow": {}}, {"wandb": {"mode": "maybe"}}])
def test_a_section_that_names_no_place_is_refused(values):
    with pytest.raises(UserError, match="tracking"):
        parse_config({**MINIMAL, "tracking": values}, "test")


def test_an_address_with_a_password_is_refused():
    with pytest.raises(UserError, match="user name or password"):
        parse_config({**MINIMAL, "tracking": {"mlflow": {"uri": "http://me:secret@host"}}}, "test")


@pytest.mark.parametrize("name", ["mlflow", "wandb"])
@pytest.mark.parametrize("present", [True, False])
def test_what_is_not_installed_is_said_before_any_work(name, present, monkeypatch):
    config = parse_config({**MINIMAL, "tracking": {name: {"uri": "runs"} if name == "mlflow" else {}}}, "test")
    monkeypatch.setattr(importlib.util, "find_spec", lambda asked: object() if present else None)
    if present:
        check_installed(config.tracking)
    else:
        with pytest.raises(UserError, match=rf"tracking.{name}: .* pip install 'drop-ray\[{name}\]'"):
            check_installed(config.tracking)


def test_a_place_that_fails_is_told_and_raises_nothing():
    def fails(run):
        raise ConnectionError("nobody there")

    logged = log_to("MLflow", fails, tracked(run_of(), {}))
    assert logged.failed
    assert logged.line == "MLflow: not logged: nobody there; `drop-ray track` logs it once more"


def test_a_run_that_cannot_be_read_back_is_told_and_raises_nothing(tmp_path):
    tracking = {"mlflow": {"uri": "runs"}}
    config = parse_config({**MINIMAL, "store": str(tmp_path), "tracking": tracking}, "test")
    (logged,) = track_after_run(config)
    assert logged.failed
    assert track_after_run(parse_config({**MINIMAL, "store": str(tmp_path)}, "test")) == []
