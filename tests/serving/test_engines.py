"""Engines in processes of their own, on a tiny Llama: transformers always, vLLM where it is installed."""

import os
import signal

import numpy as np
import pytest
import tiny_models
from installed import needs_vllm

from drop_ray.config import ServingConfig
from drop_ray.models.accounting import measure
from drop_ray.models.checkpoint import open_checkpoint
from drop_ray.models.dropped import build_skeleton, parse_dtype, read_config
from drop_ray.models.families import DropLists
from drop_ray.serving.bench import run_bench
from drop_ray.serving.engine import EngineError, EngineSettings
from drop_ray.serving.engine_process import EngineProcess
from drop_ray.serving.spec import BenchSpec

BASE, PLAN = DropLists(), DropLists(attn=(0, 2), mlp=(1,))
KV_BYTES = 1 << 24


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    # vLLM's attention on CPU has heads of 32 and more.
    return tiny_models.write_checkpoint(tmp_path_factory.mktemp("model"), hidden_size=128, head_dim=32)


def settings(folder, drops, kind="transformers", dtype="float32"):
    return EngineSettings(
        kind=kind,
        folder=str(folder),
        drops=drops,
        own_drops=BASE,
        dtype=dtype,
        device="cpu",
        max_model_len=128,
        max_batch=8,
        kv_cache_bytes=KV_BYTES,
        threads=1,
        enforce_eager=True,
    )


@pytest.fixture(scope="module")
def reference(folder):
    with_scores = EngineProcess(settings(folder, PLAN, "reference"), "the reference").wait()
    yield with_scores
    with_scores.close()


@pytest.fixture(scope="module")
def engine(folder):
    started = EngineProcess(settings(folder, PLAN), "the plan").wait()
    yield started
    started.close()


def test_the_transformers_engine_generates_and_scores_as_the_reference_through_its_kv_cache(engine, reference):
    prompts = tiny_models.token_ids(3, 40).tolist()
    assert engine.generate(prompts, 12).tokens == reference.greedy(prompts, 12)
    own, expected = engine.score_prompts(prompts), reference.score_prompts(prompts)
    assert own.logprobs.shape == expected.logprobs.shape == (3 * 39,)
    np.testing.assert_allclose(own.logprobs, expected.logprobs, atol=1e-4)
    assert (own.top == expected.top).all()


def test_the_transformers_engine_keeps_kv_of_the_kept_layers_only(engine):
    facts = engine.facts()
    assert (facts.kv_layers, facts.kv_bytes_per_token) == ((1, 3), 2 * 2 * 2 * 32 * 4)
    assert facts.kv_tokens == KV_BYTES // facts.kv_bytes_per_token


def test_times_of_a_generation_add_up(engine):
    generation = engine.generate(tiny_models.token_ids(2, 10).tolist(), 5)
    for request in generation.requests:
        assert request.ttft + 4 * request.tpot == pytest.approx(request.e2e)
        assert 0 < request.ttft < request.e2e <= generation.wall
    assert engine.generate([[5, 6]], 1).requests[0].tpot is None


def test_a_killed_engine_is_an_error_and_so_is_whatever_it_is_asked_then(folder):
    engine = EngineProcess(settings(folder, BASE), "the variant").wait()
    os.kill(engine.pid, signal.SIGKILL)
    for _ in range(2):
        with pytest.raises(EngineError, match=r"the engine of the variant .*\(signal 9\)"):
            engine.facts()
    assert not engine.alive
    engine.close()


def test_what_an_engine_raises_is_told_with_its_last_lines(folder):
    engine = EngineProcess(settings(folder, BASE), "the variant").wait()
    with pytest.raises(EngineError, match=r"(?s)in `generate`: IndexError.*\(exit code 1\).*last lines:.*IndexError"):
        engine.generate([[10**6]], 1)
    engine.close()
    missing = EngineProcess(settings(folder / "nowhere", BASE), "the base")
    with pytest.raises(
        EngineError, match="(?s)the base did not start: UserError: model.path: .*nowhere is not a folder"
    ):
        missing.wait()
    missing.close()


def bench_spec(folder, kind, dtype="float32", **fields):
    serving = ServingConfig.model_validate(
        {
            "engine": kind,
            "workloads": [{"prompt": 24, "output": 8}],
            "batch_sizes": [2],
            "kv_cache_bytes": KV_BYTES,
            "max_model_len": 128,
            **fields,
        }
    )
    skeleton = build_skeleton(read_config(open_checkpoint(folder)), BASE, parse_dtype(dtype))
    return BenchSpec(
        serving=serving,
        base=settings(folder, BASE, kind, dtype),
        variant=settings(folder, PLAN, kind, dtype),
        size=measure(skeleton),
        vocab_size=tiny_models.VOCAB_SIZE,
        tokens=range(2, tiny_models.VOCAB_SIZE - 40),
        text=tiny_models.token_ids(2, 48, seed=1).tolist(),
        kv_shards=1,
        control=False,
    )


@pytest.mark.full
@needs_vllm
def test_vllm_passes_the_gate_and_is_measured_in_pairs(folder):
    result = run_bench(bench_spec(folder, "vllm"))
    gate, kv, memory = result.facts["gate"], result.facts["kv"], result.facts["memory"]
    assert gate["mean_difference"] < 1e-4
    assert gate["greedy_equal"]
    assert gate["compared_tokens"] == 6 * 47
    assert (kv["plan_blocks"], kv["predicted_ratio"], kv["layers"]) == (2 * kv["base_blocks"], 2.0, [1, 3])
    assert memory["base_weights_bytes"] > memory["plan_weights_bytes"] > 0
    batches = {(row["comparison"], row["batch_size"], row["plan_batch_size"]) for row in result.rows}
    assert batches == {("equal_batch", 2, 2), ("equal_memory", 2, 4)}
    for row in result.rows:
        assert 0 < row["low"] <= row["ratio"] <= row["high"]
        assert row["pairs"] == 5


@needs_vllm
@pytest.mark.nightly
def test_vllm_passes_the_gate_in_bfloat16_and_in_rounds_of_one_engine_at_a_time(folder):
    result = run_bench(bench_spec(folder, "vllm", dtype="bfloat16", mode="reload", pairs=3))
    assert result.facts["gate"]["greedy_equal"] is None
    assert result.facts["kv"]["plan_blocks"] == 2 * result.facts["kv"]["base_blocks"]
    assert {row["pairs"] for row in result.rows} == {3}
