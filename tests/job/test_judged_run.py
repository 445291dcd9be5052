"""A run that screens its plans and ends tasks early, in this process: who is asked what, and what is left of it."""

import json
import random
from dataclasses import dataclass, replace

import datasets
import pytest
import tiny_run
from lm_eval.utils import (
    get_file_datetime,
    get_file_task_name,
    get_latest_filename,
    get_results_filenames,
    get_sample_results_filenames,
    make_table,
)
from local_run import run_stages

from drop_ray.errors import UserError
from drop_ray.evaluation.divergence.panel import Panel
from drop_ray.job.artifacts import DOCUMENTS, METRICS
from drop_ray.job.opening import open_job
from drop_ray.planning.changes import Remake
from drop_ray.stages.evaluate import evaluate
from drop_ray.stages.forecast import forecast
from drop_ray.stages.screening import kept
from drop_ray.store import Step
from drop_ray.store.tables import read_table

SIZE = 300
TASK = """
task: long
dataset_path: json
dataset_kwargs: {data_files: {test: long.jsonl, train: train.jsonl}}
test_split: test
fewshot_split: train
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_choice: "{{choices}}"
doc_to_target: answer
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
"""


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tiny_run.write_inputs(tmp_path_factory.mktemp("inputs"))
    words = random.Random(1).choices(["red", "green", "seven", "two", "walks", "sings", "the", "a"], k=2 * SIZE)
    rows = [
        {"question": f"{words[2 * i]} {words[2 * i + 1]} {i}", "choices": ["yes", "no"], "answer": i % 2}
        for i in range(SIZE)
    ]
    (folder / "tasks" / "long.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "tasks" / "long.yaml").write_text(TASK)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("datasets"))
        yield folder


@dataclass(frozen=True)
class HalvedWeights(Remake):
    """A kind of quantization that is never done."""

    kind = "halved"
    field = "quantized"
    libraries = ()
    label = "halved"
    bytes_per_weight = 1.0

    def identity(self):
        return {}

    def step(self, base, before):
        return Step("halve", {"base": base, **before})

    def environment(self, device):
        raise AssertionError(device)

    def load(self, folder, **_):
        raise AssertionError(folder)


def job_of(inputs, store, name="run", keep=1, log_samples=True):
    values = tiny_run.config_values(inputs, store, name=name)
    values["plans"] = [{"strategy": "attention", "drop": [1, 2]}, {"strategy": "block", "drop": [2]}]
    values["evaluation"] |= {
        "tasks": [{"name": "long", "num_fewshot": 1, "limit": {"within": 0.1, "confidence": 0.9}}],
        "divergence": {"num_samples": 8},
        "screen": {"keep": keep},
        "log_samples": log_samples,
        "batch_size": 16,
    }
    values["scoring"]["range_size"] = 20
    return open_job(tiny_run.parse_config(values, "test"))


@pytest.fixture(scope="module")
def done(inputs, tmp_path_factory):
    return run_stages(job_of(inputs, tmp_path_factory.mktemp("store")))


def commits(run, step="evaluate"):
    return {entry.label: entry.commit for entry in run.ledger.entries if entry.step.name == step}


def folder_of(run):
    return run.job.store.files.inventory(run.job.run_folder)


def test_only_the_plan_nearest_to_the_base_gets_tasks_and_texts(done):
    assert len(done.panels) == 3
    nearest = min(done.panels, key=lambda name: done.panels[name].kl)
    assert done.cluster.names["evaluate"] == [
        "base on long",
        "base on text",
        f"{nearest} on long",
        f"{nearest} on text",
    ]
    assert {name for name, (is_kept, _) in done.screened.items() if is_kept} == {nearest}
    report = done.job.store.read_file(f"{done.job.run_folder}/report.md").decode()
    for name, (_, reason) in done.screened.items():
        assert f"KL {done.panels[name].kl:.3g} is" in reason
        assert reason in report
    assert "1 of 3 were evaluated" in report


def test_the_base_is_evaluated_whole_and_the_plan_until_the_difference_is_known(done):
    of_base, of_plan = commits(done).values()
    documents = [read_table(done.job.store, commit, DOCUMENTS).to_pylist() for commit in (of_base, of_plan)]
    of_all, of_some = ({row["doc_id"] for row in rows} for rows in documents)
    assert len(of_all) == SIZE
    (outcome,) = json.loads(done.job.store.read_bytes(of_plan, METRICS))["outcomes"]
    assert 64 <= len(of_some) == outcome["documents"] < SIZE
    assert (outcome["high"] - outcome["low"]) / 2 <= 0.1
    assert "target" not in of_base.step.identity
    assert of_plan.step.identity["target"] == {
        "algorithm": 1,
        "within": 0.1,
        "confidence": 0.9,
        "base": of_base.step.family,
    }


def test_a_base_with_a_target_shares_the_artifact_of_one_without(done, inputs):
    values = done.job.config.model_dump(mode="json")
    values["evaluation"]["tasks"][0]["limit"] = None
    values["evaluation"]["screen"] = None
    whole = open_job(tiny_run.parse_config(values, "test"))
    lines = {work.name: work for work in forecast(whole)}
    assert (lines["evaluate long"].units, lines["evaluate long"].todo) == (4, 3)  # all but the base's


def test_results_are_the_same_bytes_in_another_order_of_units(done, inputs, tmp_path):
    again = run_stages(job_of(inputs, tmp_path / "store"), order=lambda shares: shares[::-1])
    assert again.cluster.names != done.cluster.names
    for step in ("evaluate", "diverge", "perplexity"):
        first, second = commits(done, step), commits(again, step)
        assert first.keys() == second.keys()
        assert [commit.outputs for commit in first.values()] == [commit.outputs for commit in second.values()]


def test_a_dry_run_counts_as_many_plans_as_will_be_kept(inputs, tmp_path):
    for keep, count in ((2, 3), ("pareto", 4)):
        lines = {work.name: work for work in forecast(job_of(inputs, tmp_path / "store", keep=keep))}
        assert lines["evaluate long"].units == count
        assert lines["diverge"].units == 3


def test_a_screen_without_text_for_panels_is_refused_before_any_work(inputs, tmp_path):
    values = tiny_run.config_values(inputs, tmp_path / "store")
    del values["evaluation"]["divergence"]
    values["evaluation"]["screen"] = {"keep": 1}
    values["calibration"] |= {"source": str(tmp_path / "short.txt"), "num_samples": 3}
    (tmp_path / "short.txt").write_text("red green two " * 8)
    job = open_job(tiny_run.parse_config(values, "test"))
    with pytest.raises(UserError, match=r"evaluation.screen chooses by panels, .* has 0 samples .*divergence.source"):
        run_stages(job)


def test_a_screen_that_keeps_none_says_what_is_wrong(done):
    odd = {name: replace(panel, kl=float("nan")) for name, panel in done.panels.items()}
    with pytest.raises(UserError, match=r"evaluation.screen: keeps no plan \(.*its KL is nan"):
        evaluate(replace(done, panels=odd), [done.base, *done.variants])
    with pytest.raises(UserError, match="it has no panel"):
        evaluate(replace(done, panels={}), [done.base, *done.variants])


def test_a_quantized_variant_follows_its_plan(done):
    run = replace(done, screened=dict(done.screened))
    of_base, *quantized = [variant.then(HalvedWeights()) for variant in (done.base, *done.variants)]
    left = kept(run, [of_base, *quantized])
    assert [variant.name for variant in left] == [
        "base-halved",
        *(f"{name}-halved" for name, (is_kept, _) in done.screened.items() if is_kept),
    ]
    assert all(run.screened[variant.name][0] == (variant in left) for variant in quantized)
    assert {reason for name, (_, reason) in run.screened.items() if name.endswith("halved")} == {
        f"as {name}, of which it is made" for name in done.screened
    }


def test_tools_around_lm_eval_read_its_files(done, tmp_path):
    folder = f"{done.job.run_folder}/lm-eval/"
    names = [f"{folder}{name.removeprefix('lm-eval/')}" for name in folder_of(done) if name.startswith("lm-eval/")]
    plans = {name.removeprefix(folder).split("/")[0] for name in names}
    assert plans == {"base", *(name for name, (is_kept, _) in done.screened.items() if is_kept)}
    for plan in plans:
        own = [name for name in names if name.startswith(f"{folder}{plan}/")]
        (results_name,) = get_results_filenames(own)
        (samples_name,) = get_sample_results_filenames(own)
        assert get_latest_filename([samples_name]) == samples_name
        assert get_file_task_name(samples_name.split("/")[-1]) == "long"
        assert get_file_datetime(samples_name) == get_file_datetime(results_name).removesuffix(".json")
        results = json.loads(done.job.store.read_file(results_name))
        accuracy = results["results"]["long"]["acc,none"]
        assert f"{round(accuracy, 4):g}|" in make_table(results).replace(" ", "")
        path = tmp_path / plan / "samples.jsonl"
        path.parent.mkdir()
        path.write_bytes(done.job.store.read_file(samples_name))
        loaded = datasets.load_dataset("json", data_files=str(path), split="train", cache_dir=str(tmp_path / "cache"))
        assert sum(loaded["acc"]) / len(loaded) == pytest.approx(accuracy)
        assert results["n-samples"]["long"]["effective"] == len(loaded)
        assert results["config"]["model_args"]["pretrained"] == plan
        assert "yes" in loaded[0]["arguments"]["gen_args_0"]["arg_1"]
        assert str(tmp_path.anchor + "tmp") not in json.dumps(results)


def test_samples_are_kept_only_where_asked_and_change_no_number(done, inputs, tmp_path):
    without = run_stages(job_of(inputs, tmp_path / "store", log_samples=False))
    assert not [name for name in folder_of(without) if "samples_" in name]
    assert [name for name in folder_of(without) if "results_" in name]
    for label, commit in commits(without).items():
        kept = commits(done)[label].outputs
        assert commit.step.path == commits(done)[label].step.path
        assert commit.outputs == {name: kept[name] for name in (METRICS, DOCUMENTS)}


def test_a_report_written_anew_leaves_the_files_as_they_are(done):
    before = folder_of(done)
    again = run_stages(done.job)
    assert "evaluate" not in again.cluster.names
    after = {name: entry.modified for name, entry in folder_of(again).items() if name.startswith("lm-eval/")}
    assert after == {name: entry.modified for name, entry in before.items() if name.startswith("lm-eval/")}


def test_panels_have_what_screening_reads(done):
    assert all(isinstance(panel, Panel) and panel.kl > 0 for panel in done.panels.values())
