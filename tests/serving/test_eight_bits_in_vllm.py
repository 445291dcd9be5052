"""8-bit floats in a real vLLM, through the benchmark and its gate: the KV cache, and weights made while it loads."""

from dataclasses import replace

import pytest
from demo_text import heldout_pieces
from installed import needs_vllm

from drop_ray.config import ServingConfig
from drop_ray.config.section import DEMO_FOLDER
from drop_ray.models.accounting import measure
from drop_ray.models.checkpoint import open_checkpoint
from drop_ray.models.dropped import build_skeleton, parse_dtype, read_config
from drop_ray.models.families import DropLists
from drop_ray.serving.bench import run_bench
from drop_ray.serving.engine import EngineSettings
from drop_ray.serving.spec import BenchSpec

pytestmark = [pytest.mark.full, needs_vllm]
NOTHING, HALF = DropLists(), DropLists(attn=(11, 7, 2, 10, 9, 8))
KV_NUMBERS = 12 * 2 * 2 * 32
"""Of a token: layers, keys and values, heads, their width."""


def benched(dtype, kv_cache_dtype, drops=NOTHING, **of_variant):
    checkpoint = open_checkpoint(DEMO_FOLDER / "model")
    serving = ServingConfig.model_validate(
        {"workloads": [{"prompt": 48, "output": 16}], "batch_sizes": [1], "dtype": dtype, "enforce_eager": True}
    )
    base = EngineSettings(
        *("vllm", str(checkpoint.folder), NOTHING, NOTHING, dtype, "cpu", 64, 4, 1 << 24),
        threads=1,
        enforce_eager=True,
        kv_cache_dtype=kv_cache_dtype,
    )
    size = measure(build_skeleton(read_config(checkpoint), NOTHING, parse_dtype(dtype)))
    return run_bench(
        BenchSpec(
            serving=serving,
            base=base,
            variant=replace(base, drops=drops, **of_variant),
            size=replace(size, kv_number_bytes=None if kv_cache_dtype == "auto" else 1),
            vocab_size=1024,
            tokens=range(1, 1024),
            text=heldout_pieces(2, 32),
            kv_shards=1,
            control=False,
            variant_layer_bytes=1.0 if of_variant else None,
        )
    )


@pytest.mark.parametrize("dtype", ["float32", pytest.param("float16", marks=pytest.mark.nightly)])
def test_a_cache_in_8_bits_has_a_byte_a_number_and_the_gate_sees_what_it_rounds(dtype):
    found = benched(dtype, "fp8_e4m3", HALF)
    print(found.facts["gate"])
    kv = found.facts["kv"]
    assert (kv["dtype"], kv["bytes_per_token_base"], kv["bytes_per_token_plan"]) == (
        "fp8_e4m3",
        KV_NUMBERS,
        KV_NUMBERS // 2,
    )
    assert kv["base_tokens"] == pytest.approx((1 << 24) / KV_NUMBERS, abs=kv["block_size"])
    assert kv["predicted_ratio"] == 2
    assert found.facts["gate"]["in_8_bits"] == "cache"
    assert {row["comparison"] for row in found.rows} == {"equal_batch", "equal_memory"}


def test_what_vllm_makes_of_the_base_while_it_loads_passes_the_gate_and_has_half_the_weights():
    found = benched("float16", "auto", fp8_at_load=True)
    print(found.facts["gate"])
    memory, embedding = found.facts["memory"], 1024 * 128 * 2
    layers = [memory[f"{side}_weights_bytes"] - embedding for side in ("base", "plan")]
    assert 0.5 < layers[1] / layers[0] < 0.53
    assert found.facts["gate"]["in_8_bits"] == "inputs"
    assert {row["pairs"] for row in found.rows} == {5}
