"""What the reference rounds as vLLM does: keys and values, and weights that are made at load."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_models import token_ids, write_checkpoint

from drop_ray.config.quantization import Fp8Spec
from drop_ray.models.checkpoint import open_checkpoint
from drop_ray.models.families import DropLists
from drop_ray.quantization.fp8 import ENGINE, quantization_config
from drop_ray.serving.eight_bits import CACHES, has_inputs_in_8_bits, rounded
from drop_ray.serving.engine import EngineSettings
from drop_ray.serving.reference import Reference

NOTHING, DROPS = DropLists(), DropLists(attn=(1,), mlp=(2,))
PROMPTS = token_ids(2, 24, seed=5).tolist()


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    sizes = {"hidden_size": 256, "intermediate_size": 384, "head_dim": 64}
    return write_checkpoint(tmp_path_factory.mktemp("bits") / "base", "LlamaForCausalLM", **sizes)


def settings(folder, drops=NOTHING, **fields):
    one = EngineSettings("reference", str(folder), drops, drops, "float32", "cpu", 64, 2, None, threads=1)
    return replace(one, **fields)


def logprobs(folder, drops=NOTHING, **fields):
    return Reference(settings(folder, drops, **fields)).score_prompts(PROMPTS).logprobs


@pytest.mark.parametrize("dtype", CACHES.values())
def test_a_cache_on_a_cpu_has_the_next_number_towards_zero(dtype):
    codes = torch.arange(256, dtype=torch.uint8).view(dtype).float()
    numbers = codes[codes.isfinite()].unique()
    assert torch.equal(rounded(numbers, dtype, True), numbers)
    between = torch.cat([numbers[:-1].lerp(numbers[1:], share) for share in (0.01, 0.5, 0.99)])
    lower = numbers[(numbers[:, None] <= between.abs()).sum(0) - 1] * between.sign()
    assert torch.equal(rounded(between, dtype, True), lower)
    assert torch.equal(rounded(torch.tensor([1e9, -1e9]), dtype, True), torch.tensor([1.0, -1.0]) * numbers[-1])


@pytest.mark.parametrize("dtype", CACHES.values())
def test_a_cache_on_a_gpu_has_the_nearest_number(dtype):
    numbers = torch.linspace(-3, 3, 1001)
    assert torch.equal(rounded(numbers, dtype, False), numbers.to(dtype).float())
    assert rounded(torch.tensor([1e9]), dtype, False) == torch.finfo(dtype).max


@pytest.mark.parametrize("drops", [NOTHING, DROPS])
def test_a_cache_in_8_bits_moves_the_answers_a_little_and_is_said(base, drops):
    exact = logprobs(base, drops)
    for name in CACHES:
        found = Reference(settings(base, drops, kv_cache_dtype=name)).score_prompts(PROMPTS)
        assert found.in_8_bits == "cache"
        assert 0 < np.abs(found.logprobs - exact).mean() < 0.3
    assert Reference(settings(base, drops)).score_prompts(PROMPTS).in_8_bits is None


def test_a_cache_that_rounds_nothing_changes_nothing(base, monkeypatch):
    monkeypatch.setattr("drop_ray.serving.eight_bits.rounded", lambda numbers, *_: numbers)
    assert np.abs(logprobs(base, DROPS, kv_cache_dtype="fp8_e4m3") - logprobs(base, DROPS)).max() < 1e-5


def test_what_vllm_makes_at_load_is_what_is_stored_by_channel(base, tmp_path):
    made = {"dtype": torch.float32, "device": "cpu", "provenance": {}, "progress": lambda *_: None}
    stored = Fp8Spec(method="fp8")
    ENGINE.quantize(open_checkpoint(base), DROPS, stored, torch.zeros(0, 2), tmp_path / "made", **made)
    expected = logprobs(tmp_path / "made", DROPS, quantized=True)
    assert np.abs(logprobs(base, DROPS, fp8_at_load=True) - expected).max() < 1e-5
    assert np.abs(logprobs(base, DROPS) - expected).max() > 0.01


def test_where_inputs_may_be_rounded_is_read_of_the_checkpoint():
    channel, block = (quantization_config(Fp8Spec(method="fp8", scheme=scheme)) for scheme in ("channel", "block"))
    assert has_inputs_in_8_bits({"quantization_config": channel})
    assert has_inputs_in_8_bits({"quantization_config": block})
    for config in ({}, {"quantization_config": {"quant_method": "gptq", "bits": 4}}):
        assert not has_inputs_in_8_bits(config)
    channel["config_groups"]["group_0"]["input_activations"] = None
    assert not has_inputs_in_8_bits({"quantization_config": channel})
