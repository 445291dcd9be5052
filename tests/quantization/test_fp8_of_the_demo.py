"""The demo's base and two plans in FP8: what transformers and vLLM make of them on text that nothing was fitted to.

With `-s` it prints the table of docs/quantizing.md. The demo's keys are 64 wide, which is no block of 128.
"""

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from demo_text import heldout_pieces
from installed import needs_vllm
from transformers import AutoModelForCausalLM

from drop_ray.config.quantization import Fp8Spec
from drop_ray.config.section import DEMO_FOLDER
from drop_ray.models.checkpoint import open_checkpoint
from drop_ray.models.export import export_checkpoint
from drop_ray.models.families import DropLists
from drop_ray.quantization.fp8 import ENGINE
from drop_ray.serving.engine import EngineSettings
from drop_ray.serving.engine_process import EngineProcess
from drop_ray.serving.reference import Reference, scores_of

pytestmark = [pytest.mark.full, needs_vllm]
NOTHING = DropLists()
PLANS = {"base": NOTHING, "attention-1": DropLists(attn=(11,)), "block-2": DropLists(attn=(7, 10), mlp=(7, 10))}
PIECES, LENGTH = 24, 128
OF_VLLM = 2
"""The first pieces, which vLLM scores: PyTorch multiplies 8-bit floats on a CPU at a crawl, 17 s for a piece."""
# Differences of a log-probability, as docs/quantizing.md states them.
OF_WEIGHTS, OF_INPUTS, OF_BOTH = 0.01, 0.012, 0.015
"""Mean: of 8-bit weights, of 8-bit inputs of linears, and of both to the unquantized model."""
LARGEST = 0.6
"""At any position, of both."""


@dataclass(frozen=True)
class Figures:
    """What was measured of one variant."""

    bytes_before: int
    bytes_after: int
    unquantized: np.ndarray
    weights: np.ndarray
    transformers: np.ndarray
    vllm: np.ndarray

    def differences(self, one, other):
        """Of log-probabilities, on the positions that both have."""
        count = min(len(getattr(self, one)), len(getattr(self, other)))
        return np.abs(getattr(self, one)[:count] - getattr(self, other)[:count])

    def mean_difference(self, one, other):
        return float(self.differences(one, other).mean())

    def largest_difference(self, one, other):
        return float(self.differences(one, other).max())

    def perplexity(self, of, count=None):
        return math.exp(-getattr(self, of)[:count].mean())


def engine_settings(kind, folder, drops, dtype, quantized):
    return EngineSettings(
        *(kind, str(folder), drops, drops, dtype, "cpu", LENGTH + 16, 4, 1 << 26),
        threads=1,
        enforce_eager=True,
        quantized=quantized,
    )


def by_reference(settings, texts):
    return Reference(settings).score_prompts(texts).logprobs


def by_transformers(folder, texts):
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="sdpa").eval()
    ids = torch.tensor(texts)
    with torch.inference_mode():
        return scores_of(model(ids, use_cache=False).logits, ids).logprobs


def by_vllm(settings, texts):
    engine = EngineProcess(settings, "the variant")
    try:
        return engine.wait().score_prompts(texts[:OF_VLLM]).logprobs
    finally:
        engine.close()


def weight_bytes(folder):
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))


def measured(checkpoint, drops, folder, texts):
    plain, made = folder / "plain", folder / "fp8"
    export_checkpoint(checkpoint, drops, plain)
    settings = {"dtype": torch.bfloat16, "device": "cpu", "provenance": {}, "progress": lambda *_: None}
    ENGINE.quantize(checkpoint, drops, Fp8Spec(method="fp8"), torch.zeros(0, 1), made, **settings)
    exact = engine_settings("reference", made, drops, "float32", quantized=True)
    return Figures(
        *(weight_bytes(plain), weight_bytes(made)),
        unquantized=by_reference(engine_settings("reference", plain, drops, "float32", quantized=False), texts),
        weights=by_reference(exact, texts),
        transformers=by_transformers(made, texts),
        vllm=by_vllm(engine_settings("vllm", made, drops, "float16", quantized=True), texts),
    )


@pytest.fixture(scope="module")
def figures(tmp_path_factory):
    checkpoint, texts = open_checkpoint(DEMO_FOLDER / "model"), heldout_pieces(PIECES, LENGTH)
    found = {name: measured(checkpoint, drops, tmp_path_factory.mktemp(name), texts) for name, drops in PLANS.items()}
    for name, one in found.items():
        perplexities = (f"{one.perplexity(of):.4f}" for of in ("unquantized", "weights", "transformers"))
        differences = [
            ("weights", "unquantized"),
            ("vllm", "unquantized"),
            ("transformers", "weights"),
            ("vllm", "weights"),
        ]
        spelled = (f"{one.mean_difference(*pair):.4f}" for pair in differences)
        spelled = (*spelled, *(f"{one.largest_difference(by, 'unquantized'):.2f}" for by in ("transformers", "vllm")))
        print("|", " | ".join([name, str(one.bytes_before), str(one.bytes_after), *perplexities, *spelled]), "|")
    return found


@pytest.mark.parametrize("name", PLANS)
def test_fp8_is_near_the_model_that_it_was_made_of(figures, name):
    found = figures[name]
    assert 0 < found.mean_difference("weights", "unquantized") < OF_WEIGHTS
    for by in ("transformers", "vllm"):
        assert 0 < found.mean_difference(by, "unquantized") < OF_BOTH
        assert found.largest_difference(by, "unquantized") < LARGEST
    for of in ("weights", "transformers", "vllm"):
        expected = found.perplexity("unquantized", count=len(getattr(found, of)))
        assert found.perplexity(of) == pytest.approx(expected, rel=0.005)


@pytest.mark.parametrize("name", PLANS)
def test_transformers_and_vllm_compute_with_these_weights(figures, name):
    """And round what linears are given, which is less than what was lost before."""
    found = figures[name]
    for by in ("transformers", "vllm"):
        assert 0 < found.mean_difference(by, "weights") < OF_INPUTS


@pytest.mark.parametrize("name", PLANS)
def test_layers_take_half_the_bytes(figures, name):
    found = figures[name]
    embedding = 1024 * 128 * 2
    layers = (found.bytes_before - embedding, found.bytes_after - embedding)
    assert 0.5 < layers[1] / layers[0] < 0.56
