"""The stage `bench` on a tiny Llama, with the engine that needs no vLLM: units, resuming, failures, bad input."""

import json
from types import SimpleNamespace

import pytest
from installed import needs_vllm
from local_run import run_state, variant

from drop_ray.errors import UserError, WorkerFailedError
from drop_ray.job import steps
from drop_ray.job.artifacts import SERVING, SERVING_FACTS
from drop_ray.job.drivers import Presence
from drop_ray.job.opening import open_job
from drop_ray.job.units import UnitFailure, WorkerRequest
from drop_ray.pipeline import run
from drop_ray.planning.variants import variant_of
from drop_ray.runtime.dispatch import RayCluster
from drop_ray.stages.bench import STAGE, bench_units
from drop_ray.stages.forecast import forecast_lines
from drop_ray.store import open_store
from drop_ray.store.tables import read_table

SERVING_VALUES = {
    "engine": "transformers",
    "workloads": [{"prompt": 24, "output": 8}],
    "batch_sizes": [2],
    "plans": ["attention-2"],
    "kv_cache_bytes": 1 << 20,
}


def test_a_run_measures_the_base_against_itself_and_the_chosen_plans_once(make_config):
    config = make_config(serving=SERVING_VALUES, evaluation={"divergence": None})
    assert next(line.split()[1:3] for line in forecast_lines(config) if line.startswith("bench")) == ["2", "2"]
    first = run(config, "bench")
    assert list(first.serving) == ["base", "attention-2"]
    for plan, rows in first.serving.items():
        assert {row["control"] for row in rows} == {plan == "base"}
        assert {row["pairs"] for row in rows} == {5}
    assert {row["comparison"] for row in first.serving["attention-2"]} == {"equal_batch", "equal_memory"}
    assert next(line.split()[1:3] for line in forecast_lines(config) if line.startswith("bench")) == ["2", "0"]
    again = run(config)  # the report too: it takes what is measured
    assert (again.computed, again.serving) == (0, first.serving)

    store = open_store(config.store)
    commit = store.find(steps.bench_step(job := open_job(config), variant_of(job.checkpoint.identity, again.plans[1])))
    assert read_table(store, commit, SERVING).num_rows == len(first.serving["attention-2"])
    facts = json.loads(store.read_bytes(commit, SERVING_FACTS))
    assert facts["kv"]["base_tokens"] * 2 == facts["kv"]["plan_tokens"]
    assert facts["gate"]["greedy_equal"]


def test_a_unit_is_keyed_by_what_it_measures_and_where(make_config):
    def step(**fields):
        execution = fields.pop("execution", {})
        job = open_job(make_config(serving={**SERVING_VALUES, **fields}, execution=execution))
        return steps.bench_step(job, variant(job, "a", (1,))).path

    known = step()
    # A name, the choice of plans, and how many workers there are change nothing.
    assert step(plans="all") == step(dtype="float32") == step(execution={"num_workers": 2}) == known
    assert step(kv_cache_dtype="auto", fp8_at_load=[]) == known
    others = [
        step(seed=1),
        step(pairs=6),
        step(batch_sizes=[1]),
        step(kv_cache_bytes=1 << 21),
        step(dtype="bfloat16"),
        step(execution={"gpus_per_worker": 1}),
        step(execution={"threads_per_worker": 2}),
        step(execution={"tensor_parallel": 2}),
    ]
    assert len({known, *others}) == 1 + len(others)


def test_equal_variants_are_measured_once_and_the_base_always(make_config):
    job = open_job(make_config(serving={**SERVING_VALUES, "plans": "all"}))
    plans = [("a", (2, 1)), ("b", (1, 2)), ("nothing",), ("c", (), (3,))]
    units = bench_units(run_state(job, [variant(job, *plan) for plan in plans]))
    assert [unit.label for unit in units] == ["the base against itself", "a against the base", "c against the base"]


@needs_vllm
def test_what_vllm_makes_of_a_variant_is_measured_beside_it_under_a_name_of_its_own(make_config):
    def job_of(**fields):
        wanted = {"engine": "vllm", "dtype": "float16", "plans": [], "fp8_at_load": "all", **fields}
        return open_job(
            make_config(serving={**SERVING_VALUES, **wanted}, quantization=[{"method": "fp8", "held_out": 2}])
        )

    job = job_of()
    plan = variant(job, "attention-1", (1,))
    quantized = plan.then(job.changes["quantization"][0])
    units = bench_units(run_state(job, [plan, quantized]))
    assert [unit.name for unit in units] == ["base", "base-fp8-at-load", "attention-1-fp8-at-load"]
    assert len({unit.step.path for unit in units}) == 3
    only = bench_units(run_state(job_of(fp8_at_load=["attention-1"]), [plan]))
    assert [unit.label for unit in only] == ["the base against itself", "attention-1 in FP8 by vLLM against the base"]
    # The control is that of a run without.
    without = job_of(fp8_at_load=[])
    assert units[0].step == bench_units(run_state(without, []))[0].step


@needs_vllm
def test_a_cache_in_8_bits_is_a_measurement_of_its_own_and_takes_half_the_bytes(make_config):
    found = {}
    for dtype in ("auto", "fp8", "fp8_e4m3", "fp8_e5m2"):
        values = {"engine": "vllm", "dtype": "float16", "kv_cache_dtype": dtype}
        job = open_job(make_config(serving={**SERVING_VALUES, **values}, execution={"gpus_per_worker": 1}))
        (unit,) = bench_units(run_state(job, []))
        found[dtype] = unit.step.path, unit.size.kv_bytes_per_token(unit.base.drops)
    assert found["fp8"] == found["fp8_e4m3"]
    assert len({path for path, _ in found.values()}) == 3
    assert found["auto"][1] == 2 * found["fp8"][1]


class Answers(RayCluster):
    """A cluster whose workers answer at once."""

    def __init__(self, job, results):
        super().__init__(job.config.execution, Presence(job.store, job.run_folder))
        self._results = results

    def pool(self, *_):
        return SimpleNamespace(run=lambda _, shares, *__: ((share, self._results[share.name]) for share in shares))


def test_a_unit_that_fails_keeps_the_others_and_is_named_at_the_end(make_config):
    job = open_job(make_config(serving=SERVING_VALUES))
    shares = [
        SimpleNamespace(name=name, kind="", title="", model_key=None, tokens=0) for name in ("one", "two", "three")
    ]
    failures = UnitFailure("the engine died;\n  out of luck"), UnitFailure("gate")
    cluster = Answers(job, {"one": failures[0], "two": ["commit"], "three": failures[1]})
    commits = cluster.send(job, STAGE, shares, WorkerRequest())
    assert next(commits) == "commit"
    with pytest.raises(
        WorkerFailedError, match="(?s)of one failed: the engine died.*luck\nbench of three failed: gate"
    ):
        next(commits)


@needs_vllm
@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"kv_cache_dtype": "fp8", "engine": "transformers"},
            "kv_cache_dtype: only vllm keeps .* in fp8_e4m3; set it to",
        ),
        ({"kv_cache_dtype": "fp8"}, "kv_cache_dtype: on CPUs vLLM has it for heads of a multiple of 32 .* have 8"),
        ({"fp8_at_load": "all", "engine": "transformers"}, "fp8_at_load: only vllm does it; set serving.engine"),
        ({"fp8_at_load": "all", "dtype": "float32"}, "fp8_at_load: vLLM does it in 16 bits only; set serving.dtype"),
        ({"fp8_at_load": ["attention-9"]}, "serving.fp8_at_load: no plan is called attention-9"),
        ({"fp8_at_load": ["base-fp8"]}, "serving.fp8_at_load: no plan is called base-fp8"),
    ],
)
def test_8_bits_that_are_not_served_are_refused_before_any_work(make_config, fields, message):
    serving = {**SERVING_VALUES, "engine": "vllm", "dtype": "float16", **fields}
    # Quantized variants are served in 16 bits only, too.
    lines = [{"method": "fp8", "held_out": 2}] if serving["dtype"] == "float16" else []
    with pytest.raises(UserError, match=message):
        open_job(make_config(serving=serving, quantization=lines))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"workloads": [{"prompt": 200, "output": 57}]}, "serving.workloads: engines of 257 tokens .* 256 positions"),
        (
            {"kv_cache_bytes": 65_535},
            "serving.kv_cache_bytes: one request of 32 tokens needs 65536, the budget is 65535",
        ),
        ({"plans": ["attention-9"]}, "serving.plans: no plan is called attention-9; plans: attention-1"),
        (
            {"kv_cache_bytes": None, "execution": {"gpus_per_worker": 1}},
            "serving.kv_cache_bytes: say what each of two resident engines may take of a GPU",
        ),
    ],
)
def test_what_cannot_be_measured_is_refused_before_any_work(make_config, fields, message):
    others = {name: fields.pop(name) for name in ("execution",) if name in fields}
    with pytest.raises(UserError, match=message):
        run(make_config(serving={**SERVING_VALUES, **fields}, **others), "bench")


def test_vllm_that_is_absent_is_named_with_the_remedy(make_config, monkeypatch):
    monkeypatch.setattr("drop_ray.serving.servable.DISTRIBUTIONS", ("no-such-vllm",))
    with pytest.raises(UserError, match=r"vLLM: pip install 'drop-ray\[gpu\]'"):
        open_job(make_config(serving={**SERVING_VALUES, "engine": "vllm"}))


def test_a_bench_without_a_serving_section_says_what_is_missing(make_config):
    with pytest.raises(UserError, match="serving: the config has no such section"):
        run(make_config(), "bench")
