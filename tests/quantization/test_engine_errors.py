"""The engine's files, read by code that shares nothing with it: the same weights, and smaller errors than rounding."""

from pathlib import Path

import pytest
import torch
from engine_process import EngineJob, kernel_weights, quantize_all
from tiny_models import token_ids, write_checkpoint
from transformers import AutoTokenizer

import drop_ray.demo
from drop_ray.calibration.packing import pack
from drop_ray.calibration.text_files import read_documents
from drop_ray.config.quantization import QuantizationSpec
from drop_ray.models.checkpoint import open_checkpoint
from drop_ray.models.families import DropLists
from drop_ray.quantization.dequantized import open_dequantized
from drop_ray.quantization.reconstruction import reconstruction_errors

DEMO = Path(drop_ray.demo.__file__).parent
DROPS = DropLists((0, 1), (1, 2))
SPECS = {
    "gptq": {"method": "gptq", "group_size": 32},
    "gptq-8": {"method": "gptq", "group_size": 64, "bits": 8},
    "gptq-rows": {"method": "gptq", "group_size": -1},
    "gptq-active-first": {"method": "gptq", "group_size": 32, "desc_act": True},
    "gptq-zeros": {"method": "gptq", "group_size": 32, "symmetric": False},
    "awq": {"method": "awq", "group_size": 32},
    "awq-symmetric": {"method": "awq", "group_size": 32, "symmetric": True},
}


def quantized_by_engine(architecture, names, scratch):
    """The base's folder, and by name of a spec (the spec, the quantized folder)."""
    traits = {"head_dim": 32} if architecture == "Gemma2ForCausalLM" else {}
    base = write_checkpoint(scratch / "base", architecture, hidden_size=128, intermediate_size=256, **traits)
    made = {name: (QuantizationSpec(**SPECS[name]), scratch / name) for name in names}
    quantize_all([EngineJob(base, DROPS, spec, token_ids(16, 48), output) for spec, output in made.values()], scratch)
    return base, made


def check_files(base, spec, folder):
    """Our reading of each linear is the kernels', whose arithmetic is bfloat16, and no sub-layer is much worse than by
    rounding."""
    packed = open_dequantized(folder)
    kernels = kernel_weights(folder)
    assert len(kernels) == 2 * 4 + 2 * 3
    for linear in packed.linears:
        weight = packed.read([f"{linear}.weight"])[f"{linear}.weight"]
        steps = packed.packed.read([f"{linear}.scales"])[f"{linear}.scales"].float().amin(0)[:, None]
        assert ((kernels[linear] - weight).abs() < 0.25 * steps).all(), linear
    errors = reconstruction_errors(open_checkpoint(base), DROPS, folder, spec, token_ids(4, 48, seed=1))
    assert [(error.layer, error.module) for error in errors] == [
        (0, "mlp"),
        (2, "attention"),
        (3, "attention"),
        (3, "mlp"),
    ]
    for error in errors:
        assert error.method < 2 * error.round_to_nearest


@pytest.mark.parametrize(
    ("architecture", "names"),
    [
        pytest.param("LlamaForCausalLM", sorted(SPECS), marks=pytest.mark.full),
        pytest.param("MistralForCausalLM", ["gptq", "awq"], marks=pytest.mark.nightly),
        pytest.param("Qwen2ForCausalLM", ["gptq", "awq"], marks=pytest.mark.nightly),
        pytest.param("Gemma2ForCausalLM", ["gptq", "awq"], marks=pytest.mark.nightly),
    ],
)
def test_the_files_of_a_dropped_model_are_read_as_the_kernels_read_them(architecture, names, tmp_path):
    base, made = quantized_by_engine(architecture, names, tmp_path)
    for spec, folder in made.values():
        check_files(base, spec, folder)


def demo_samples(file, num_samples):
    tokenizer = AutoTokenizer.from_pretrained(DEMO / "model")
    documents = read_documents(DEMO / file, "text", "text")
    ids = pack(
        documents,
        lambda texts: tokenizer(texts, add_special_tokens=False)["input_ids"],
        tokenizer.eos_token_id,
        num_samples,
        256,
        field="text",
    )
    return torch.from_numpy(ids).long()


@pytest.mark.parametrize(
    ("method", "num_samples", "bound"),
    [
        ("gptq", 8, 1.0),
        pytest.param("gptq", 24, 1.0, marks=pytest.mark.nightly),
        pytest.param("awq", 24, 1.02, marks=pytest.mark.nightly),
    ],
)
def test_the_demo_model_is_nearer_to_16_bits_than_by_rounding(method, num_samples, bound, tmp_path):
    """By the sum of the errors of all sub-layers, on a text that is not the one it was calibrated on."""
    spec = QuantizationSpec(method=method, group_size=32)
    samples = demo_samples("calibration.jsonl", num_samples)
    job = EngineJob(DEMO / "model", DropLists(), spec, samples, tmp_path / "quantized")
    quantize_all([job], tmp_path)
    base = open_checkpoint(DEMO / "model")
    errors = reconstruction_errors(base, DropLists(), job.output, spec, demo_samples("heldout.jsonl", 8))
    rounding = sum(error.squared_round_to_nearest for error in errors)
    assert sum(error.squared_method for error in errors) < bound * rounding
    assert len(errors) == 24
