"""vLLM serves what transformers runs: every family, every way of dropping, every form of a checkpoint."""

import pytest
from parity import FORMS, PATTERNS, run_family

from drop_ray.models.families import FAMILIES

# Rounding in float32: vLLM adds to the residual in another order.
TOLERANCE = 2e-5
# vLLM shares out the blocks of layers with and without a window in groups of one size: no simple ratio.
PARTLY_WINDOWED = {"Gemma2ForCausalLM", "Gemma3ForCausalLM", "Olmo3ForCausalLM"}
NUM_LAYERS = 4
# One family of each kind: windows and norms on both sides, experts, fused projections, norms after, its own class.
REPRESENTATIVES = {
    "Gemma2ForCausalLM",
    "Qwen3MoeForCausalLM",
    "Phi3ForCausalLM",
    "Olmo2ForCausalLM",
    "DeepseekForCausalLM",
}


def check_model(result):
    drops = PATTERNS[result.pattern]
    assert result.greedy_equal, result
    assert result.difference < TOLERANCE, result
    assert (result.without_attention, result.without_mlp) == (list(drops.attn), list(drops.mlp)), result


def check(results):
    full = results[0]
    assert full.pattern == "nothing"
    for result in results:
        check_model(result)
        drops = PATTERNS[result.pattern]
        num_kept = NUM_LAYERS - len(drops.attn)
        if not num_kept:
            assert result.kv_tokens is None
        elif result.architecture in PARTLY_WINDOWED:
            assert result.kv_tokens > full.kv_tokens if drops.attn else result.kv_tokens == full.kv_tokens
        else:
            assert result.kv_tokens == pytest.approx(full.kv_tokens * NUM_LAYERS / num_kept, abs=result.block_size)


def test_llama_in_every_form():
    check(run_family("LlamaForCausalLM", ["nothing", "attention 0, 2", "blocks 0, 3"], FORMS))


@pytest.mark.full
@pytest.mark.parametrize(
    "architecture",
    [pytest.param(name, marks=() if name in REPRESENTATIVES else pytest.mark.nightly) for name in FAMILIES],
)
def test_a_family(architecture):
    # The others of the table drop less than these.
    patterns = ["nothing", "blocks 0, 3", "attention 0, 1, 2; MLP 1, 2", "attention 0, 1, 2, 3"]
    check(run_family(architecture, patterns))


@pytest.mark.full
@pytest.mark.parametrize("architecture", ["LlamaForCausalLM", "Olmo2ForCausalLM"])
def test_a_compiled_model(architecture):
    # Two drop patterns after each other: a compiled graph is not taken for another's.
    check(run_family(architecture, ["nothing", "attention 0, 2", "blocks 0, 3"], enforce_eager=False))


@pytest.mark.full
@pytest.mark.parametrize(
    "architecture", ["LlamaForCausalLM", pytest.param("Olmo2ForCausalLM", marks=pytest.mark.nightly)]
)
def test_tensor_parallel(architecture):
    patterns = ["attention 0, 2", "blocks 0, 3"]
    for result in run_family(architecture, patterns, tensor_parallel_size=2, distributed_executor_backend="mp"):
        check_model(result)


@pytest.mark.full
@pytest.mark.parametrize(
    "architecture", [pytest.param("LlamaForCausalLM", marks=pytest.mark.nightly), "Olmo2ForCausalLM"]
)
def test_pipeline_parallel_with_a_stage_without_attention(architecture):
    patterns = ["attention 0, 1, 2; MLP 1, 2", "blocks 0, 3"]
    parallel = {"pipeline_parallel_size": 2, "distributed_executor_backend": "mp", "enforce_eager": False}
    for result in run_family(architecture, patterns, **parallel):
        check_model(result)


@pytest.mark.full
def test_a_dropped_deepseek_is_refused_in_float16():
    with pytest.raises(RuntimeError, match="not served in float16: give --dtype bfloat16 or float32"):
        run_family("DeepseekForCausalLM", ["blocks 0, 3"], dtype="float16")
