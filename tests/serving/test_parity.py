"""vLLM serves what transformers runs: every family, every way of dropping, every form of a checkpoint."""

import pytest
from parity import FORMS, FURTHER, NUM_LAYERS, PATTERNS, SERVED, patterns_of, run_families

# Rounding in float32: vLLM adds to the residual in another order.
TOLERANCE = 2e-5
# The state spaces of Nemotron and the activation of Apertus, in the full model too.
OWN_TOLERANCE = {"NemotronHForCausalLM": 1e-4, "ApertusForCausalLM": 1e-2}
# In bfloat16, beside what the base itself differs by from transformers in float32.
TOLERANCE_16_BITS = 3
# vLLM shares out the blocks of layers of several kinds in groups of one size: no simple ratio.
SHARED_BLOCKS = {
    "Gemma2ForCausalLM",
    "Gemma3ForCausalLM",
    "Olmo3ForCausalLM",
    "Exaone4ForCausalLM",
    "ExaoneMoeForCausalLM",
    "GptOssForCausalLM",
    "Cohere2ForCausalLM",
    "AfmoeForCausalLM",
    "GraniteMoeHybridForCausalLM",
    "FalconH1ForCausalLM",
    "Lfm2ForCausalLM",
    "Lfm2MoeForCausalLM",
    "MiMoV2FlashForCausalLM",
    "Qwen3NextForCausalLM",
    "NemotronHForCausalLM",
}
# One family of each kind: windows and norms on both sides, experts, its own class; norms after in a layer that adds
# contributions itself, side by side, attention of another name, two MLPs and a state space, an output that the caller
# makes, by the backend. The others run by night.
REPRESENTATIVES = (
    "Gemma2ForCausalLM",
    "Qwen3MoeForCausalLM",
    "DeepseekForCausalLM",
    "Exaone4ForCausalLM",
    "Cohere2ForCausalLM",
    "GptOssForCausalLM",
    "GraniteMoeHybridForCausalLM",
    "Lfm2ForCausalLM",
    "GPTNeoXForCausalLM",
)
LLAMA_CASES = [
    ("nothing", "dropped"),
    *((drops, form) for drops in ("attention 0, 2", "blocks 0, 3") for form in FORMS),
]
# hf_overrides drop from a full checkpoint, as engines of a run do. They come first: a small model of an unlisted family
# is run then, and a backend's engine changes its class.
CASES = [("blocks 0, 3", "hf_overrides"), ("nothing", "dropped"), ("attention 0, 1, 2; MLP 1, 2", "dropped")]


def check_model(result, full=None):
    drops = PATTERNS[result.pattern]
    if result.is_exact:
        assert result.greedy_equal, result
        assert result.difference < OWN_TOLERANCE.get(result.architecture, TOLERANCE), result
    else:
        assert result.difference <= TOLERANCE_16_BITS * full.difference, (result, full)
    assert (result.without_attention, result.without_mlp) == (list(drops.attn), list(drops.mlp)), result


def check(results):
    """The results of one family."""
    full = next((result for result in results if result.pattern == "nothing"), None)
    for result in results:
        check_model(result, full)
        if full:
            check_cache(result, full)


def check_cache(result, full):
    drops = PATTERNS[result.pattern]
    num_kept = NUM_LAYERS - len(drops.attn)
    if not num_kept:
        assert result.kv_tokens is None
    elif result.architecture in SHARED_BLOCKS:
        assert result.kv_tokens > full.kv_tokens if drops.attn else result.kv_tokens == full.kv_tokens
    else:
        assert result.kv_tokens == pytest.approx(full.kv_tokens * NUM_LAYERS / num_kept, abs=result.block_size)


def test_llama_in_every_form():
    check(run_families(["LlamaForCausalLM"], LLAMA_CASES))


@pytest.mark.full
def test_families_of_every_kind():
    found = run_families(REPRESENTATIVES, CASES)
    for architecture in REPRESENTATIVES:
        check([result for result in found if result.architecture == architecture])


@pytest.mark.full
@pytest.mark.nightly
@pytest.mark.parametrize("architecture", {**SERVED, **FURTHER})
def test_a_family(architecture):
    patterns = patterns_of(architecture)
    check(run_families([architecture], [(pattern, "dropped") for pattern in patterns]))
    check(run_families([architecture], [(patterns[-1], "hf_overrides")]))


@pytest.mark.full
def test_checkpoints_that_are_stored_quantized():
    """int4 by vLLM's own kernels for CPUs, FP8 by the tests': vLLM's need AMX. Names, shapes and scales are loaded."""
    names = ["LlamaForCausalLM/fp8", "LlamaForCausalLM/int4"]
    found = run_families(names, CASES)
    for name in names:
        check([result for result in found if result.architecture == name])


@pytest.mark.full
@pytest.mark.parametrize(
    "architecture", ["LlamaForCausalLM", pytest.param("Olmo2ForCausalLM", marks=pytest.mark.nightly)]
)
def test_a_compiled_model(architecture):
    # Two drop patterns after each other: a compiled graph is not taken for another's.
    patterns = ["nothing", "attention 0, 2", "blocks 0, 3"]
    check(run_families([architecture], [(pattern, "dropped") for pattern in patterns], enforce_eager=False))


@pytest.mark.full
@pytest.mark.parametrize(
    "architecture", ["LlamaForCausalLM", pytest.param("Olmo2ForCausalLM", marks=pytest.mark.nightly)]
)
def test_tensor_parallel(architecture):
    cases = [("attention 0, 2", "dropped"), ("blocks 0, 3", "dropped")]
    parallel = {"tensor_parallel_size": 2, "distributed_executor_backend": "mp"}
    for result in run_families([architecture], cases, **parallel):
        check_model(result)


@pytest.mark.nightly
@pytest.mark.parametrize("architecture", ["LlamaForCausalLM", "Olmo2ForCausalLM"])
def test_pipeline_parallel_with_a_stage_without_attention(architecture):
    cases = [("attention 0, 1, 2; MLP 1, 2", "dropped"), ("blocks 0, 3", "dropped")]
    parallel = {"pipeline_parallel_size": 2, "distributed_executor_backend": "mp", "enforce_eager": False}
    for result in run_families([architecture], cases, **parallel):
        check_model(result)


@pytest.mark.full
def test_a_dropped_deepseek_is_refused_in_float16():
    with pytest.raises(RuntimeError, match="not served in float16: give --dtype bfloat16 or float32"):
        run_families(["DeepseekForCausalLM"], [("blocks 0, 3", "dropped")], dtype="float16")
