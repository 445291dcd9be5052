"""Drafts as a part of the stage `bench`: their units and what is refused; and in the night a run of them with vLLM."""

import json
import tempfile
from dataclasses import asdict
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from installed import needs_vllm
from local_run import run_state, variant

from drop_ray.config import parse_config
from drop_ray.errors import UserError
from drop_ray.job import steps
from drop_ray.job.artifacts import DRAFT, SAMPLING
from drop_ray.job.opening import open_job
from drop_ray.models.checkpoint import open_checkpoint
from drop_ray.models.families import DropLists
from drop_ray.pipeline import run
from drop_ray.serving.sampling_gate import SamplingGate
from drop_ray.serving.speculation import link_draft
from drop_ray.stages.bench import STAGE
from drop_ray.stages.draft_sampling import SamplingUnit, allowed_temperatures
from drop_ray.stages.drafts import DraftUnit, draft_units, measure_drafts
from drop_ray.stages.forecast import forecast_lines
from drop_ray.stages.report_drafts import sampling_rows

SERVING = {
    "workloads": [{"prompt": 24, "output": 8}],
    "batch_sizes": [1],
    "plans": [],
    "kv_cache_bytes": 1 << 20,
    "drafts": {"tokens": [1, 3], "prompt": 8, "output": 8},
}


def config_of(make_config, drafts=(), **fields):
    serving = {name: fields.pop(name) for name in ("engine", "kv_cache_bytes", "pairs") if name in fields}
    return make_config(serving={**SERVING, **serving, "drafts": {**SERVING["drafts"], **dict(drafts)}}, **fields)


@needs_vllm
def test_a_unit_is_a_draft_with_a_number_of_tokens_and_equal_drafts_are_one(make_config):
    job = open_job(config_of(make_config))
    plans = [("a", (2, 1)), ("b", (1, 2)), ("c", (), (3,))]
    units = draft_units(run_state(job, [variant(job, *plan) for plan in plans]))
    assert [unit.label for unit in units] == [
        "the base without a draft, twice",
        *(f"{name} as a draft, k = {tokens}" for name in "ac" for tokens in (1, 3)),
    ]
    assert len({unit.step.path for unit in units}) == len(units)


@needs_vllm
def test_the_base_may_draft_for_itself_if_it_is_named(make_config):
    job = open_job(config_of(make_config, {"plans": ["base", "attention-1"], "tokens": [2]}))
    units = draft_units(run_state(job, [variant(job, "attention-1", (1,)), variant(job, "attention-2", (1, 2))]))
    assert [(unit.variant.name, unit.num_drafted) for unit in units] == [("base", 0), ("base", 2), ("attention-1", 2)]


@needs_vllm
def test_drafts_are_keyed_by_what_they_measure_and_leave_the_benchmark_as_it_was(make_config):
    def step(**drafts):
        job = open_job(config_of(make_config, drafts))
        return steps.draft_step(job, variant(job, "a", (1,)), 3).path

    known = step()
    assert step(plans=["attention-1"]) == step(tokens=[3, 4]) == known
    assert len({known, step(prompt=9), step(output=9), step(batch_size=2)}) == 4
    job = open_job(config_of(make_config))
    assert steps.draft_step(job, variant(job, "a", (1,)), 3, 0.0).path == known
    # Greedy results are those of a run that samples, too.
    assert step(temperature=0.8) == step(temperature=[0, 0.8]) == known
    with_drafts, without = (
        open_job(make_config(serving={**SERVING, "drafts": drafts})) for drafts in (SERVING["drafts"], None)
    )
    assert steps.bench_step(with_drafts, with_drafts.base_variant) == steps.bench_step(without, without.base_variant)


def gate(temperature, kept):
    return SamplingGate(temperature, 3, (kept,) * 3, 512, 12, 0.3)


class AnsweringGate:
    """A cluster that finds the gate of sampling in the store, and no drafts."""

    def __init__(self, kept):
        self.kept, self.labels = kept, []

    def prepare(self, *_):
        pass

    def send(self, job, stage, shares, workers):
        del stage, workers
        for unit in (unit for share in shares for unit in getattr(share, "units", [share])):
            self.labels.append(unit.label)
            isinstance_gate = isinstance(unit, SamplingUnit)
            found = asdict(gate(unit.temperature, self.kept)) if isinstance_gate else {"tokens": unit.num_drafted}
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / (SAMPLING if isinstance_gate else DRAFT)
                path.write_text(json.dumps(found))
                yield job.store.commit(unit.step, {path.name: path}, provenance={})


@needs_vllm
@pytest.mark.parametrize(("kept", "measured"), [(0.999, [0, 0.8]), (0.036, [0])])
def test_sampling_is_measured_only_where_its_gate_holds_and_greedy_always(make_config, monkeypatch, kept, measured):
    job = open_job(config_of(make_config, {"temperature": [0, 0.8], "tokens": [3]}))
    state = run_state(job, [variant(job, "attention-1", (1,))])
    state.cluster = AnsweringGate(kept)
    monkeypatch.setattr(DraftUnit, "bound", lambda unit, run: unit)
    said = []
    monkeypatch.setattr(state, "tell", lambda message, *arguments: said.append(message % arguments))
    measure_drafts(state, STAGE)
    for temperature in allowed_temperatures(state, STAGE):
        measure_drafts(state, STAGE, temperature)
    labels = ["the base without a draft, twice", "attention-1 as a draft, k = 3"]
    labels += ["the base as its own draft, at temperature 0.8"]
    labels += ["attention-1 as a draft, k = 3, at temperature 0.8"] if len(measured) == 2 else []
    assert state.cluster.labels == labels
    assert state.sampling[0.8].holds == (len(measured) == 2)
    assert [line for line in said if "3.6, 3.6, 3.6 % were kept" in line] == said
    assert len(said) == 2 - len(measured)
    (row,) = sampling_rows(state)
    assert row.holds == (len(measured) == 2)


@needs_vllm
def test_a_dry_run_counts_drafts(make_config):
    config = config_of(make_config)
    (line,) = (line.split() for line in forecast_lines(config) if line.startswith("drafts"))
    # attention-1 and attention-2 with two numbers of tokens, and the control.
    assert line[1:3] == ["5", "5"]


@needs_vllm
@pytest.mark.parametrize(
    ("drafts", "fields", "message"),
    [
        ({}, {"engine": "transformers"}, "serving.drafts: only vllm lets a model draft for another"),
        ({"plans": ["attention-9"]}, {}, "serving.drafts.plans: no plan is called attention-9"),
        ({"output": 300}, {}, "engines of 325 tokens .* 256 positions; give a shorter `prompt` or `output`"),
        ({"batch_size": 50}, {}, "5 pairs of 50 prompts take 250 pieces of 8 tokens"),
        ({"batch_size": 4}, {"kv_cache_bytes": 65536}, "4 requests of 33 tokens need .* in base and draft"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_any_work(make_config, drafts, fields, message):
    with pytest.raises(UserError, match=message):
        open_job(config_of(make_config, drafts, **fields))


def test_a_draft_that_lacks_layers_is_a_link_to_the_bases_weights(llama_folder, tmp_path):
    base = open_checkpoint(llama_folder)
    link_draft(base, DropLists(attn=(1,)), tmp_path / "draft")
    files = {path.name: path for path in (tmp_path / "draft").iterdir()}
    linked = {name for name, path in files.items() if path.is_symlink()}
    assert linked
    assert linked == {path.name for path in llama_folder.iterdir() if "safetensors" in path.name}
    fields = json.loads(files["config.json"].read_text())
    assert (fields["drop_attn_list"], fields["drop_mlp_list"]) == ([1], [])
    assert sum(path.stat().st_size for name, path in files.items() if name not in linked) < 1 << 20


@needs_vllm
@pytest.mark.full
@pytest.mark.nightly
@pytest.mark.timeout(1800)
def test_dropped_and_refitted_drafts_of_a_run_leave_the_demos_greedy_text_as_it_is(local_ray, tmp_path):
    """In float32 on a CPU: every token is the base's own, and a forward pass predicts what is kept."""
    config = {
        "name": "drafts",
        "model": {"path": "demo:model", "dtype": "float32"},
        "calibration": {"source": "demo:calibration.jsonl", "num_samples": 16, "seq_len": 256},
        "plans": [{"strategy": "attention", "drop": [4]}, {"strategy": "block", "drop": [2]}],
        "refit": [{"ridge": 0.1, "plans": ["block-2"]}],
        "serving": {
            **SERVING,
            "enforce_eager": True,
            "kv_cache_bytes": 1 << 26,
            "drafts": {"plans": ["attention-4", "block-2-refit"], "tokens": [3], "batch_size": 4},
        },
        "store": str(tmp_path / "store"),
    }
    done = run(parse_config(config, "test"))
    tables = {
        topic: pq.read_table(Path(done.folder) / "tables" / f"{topic}.parquet").to_pylist()
        for topic in ("drafts", "draft_plans", "draft_predictions")
    }
    assert [(row["variant"], row["tokens"]) for row in tables["drafts"]] == [
        *(("base", 0), ("attention-4", 3), ("block-2-refit", 3))
    ]
    assert all((row["identical"], row["prompts"], row["holds"]) == (20, 20, True) for row in tables["drafts"])
    for row in tables["draft_predictions"]:
        assert abs(row["agreement"] - row["first_acceptance"]) < 0.03, row
        assert abs(row["predicted_tokens_per_step"] / row["tokens_per_step"] - 1) < 0.15, row
    draft = next(row for row in tables["drafts"] if row["variant"] == "attention-4")
    # Twelve layers of KV cache in the base, eight in the draft.
    assert draft["draft_kv_bytes_per_token"] * 12 == draft["base_kv_bytes_per_token"] * 8
    assert {row["decoding"] for row in tables["draft_plans"]} == {"greedy", "sampling"}
    assert run(parse_config(config, "test")).computed == 0
