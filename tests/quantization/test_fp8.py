"""FP8 checkpoints: scales and codes against another computation, files, what reads them, and what is refused."""

import json
import os
import subprocess
import sys

import pytest
import torch
from huggingface_hub import ModelCard
from installed import needs_vllm
from quantized_bases import fp8_blocks
from safetensors.torch import load_file, save_file
from tiny_models import token_ids, write_checkpoint
from transformers import AutoModelForCausalLM

from drop_ray.config.quantization import Fp8Spec
from drop_ray.errors import NotFiniteError, UserError
from drop_ray.models.checkpoint import open_checkpoint
from drop_ray.models.families import DropLists
from drop_ray.models.loading import load_model
from drop_ray.models.quantized import load_quantized
from drop_ray.quantization.checks import check_quantization
from drop_ray.quantization.dequantized import open_dequantized
from drop_ray.quantization.fp8 import ENGINE
from drop_ray.quantization.reconstruction import reconstruction_errors

SCHEMES = ("channel", "block")
DROPS = DropLists(attn=(1,), mlp=(2,))
PROMPTS = token_ids(2, 24, seed=5)
# Mean of a log-probability of a random model: weights have three significant bits after the first.
NEAR = 0.2
RUN_VLLM = """
import json, sys, vllm
llm = vllm.LLM(model=sys.argv[1], dtype="bfloat16", enforce_eager=True, max_model_len=64, max_num_seqs=2,
               kv_cache_memory_bytes=2**26, distributed_executor_backend="uni", skip_tokenizer_init=True)
sampling = vllm.SamplingParams(temperature=0, max_tokens=1, prompt_logprobs=0, detokenize=False)
prompts = json.loads(sys.argv[2])
found = llm.generate([{"prompt_token_ids": prompt} for prompt in prompts], sampling, use_tqdm=False)
rows = [[entry[token].logprob for token, entry in zip(prompt[1:], one.prompt_logprobs[1:])]
        for prompt, one in zip(prompts, found)]
print("FOUND", json.dumps(rows))
"""


def spec_of(scheme):
    return Fp8Spec(method="fp8", scheme=scheme)


def quantize(base, scheme, output, drops=DROPS):
    settings = {"dtype": torch.bfloat16, "device": "cpu", "provenance": {"base": "b"}, "progress": lambda *_: None}
    ENGINE.quantize(open_checkpoint(base), drops, spec_of(scheme), torch.zeros(0, 2), output, **settings)
    return output


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """Key and value projections have 128 outputs, a whole block."""
    sizes = {"hidden_size": 256, "intermediate_size": 384, "head_dim": 64}
    return write_checkpoint(tmp_path_factory.mktemp("fp8") / "base", "LlamaForCausalLM", **sizes)


@pytest.fixture(scope="module")
def made(base, tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    return {scheme: quantize(base, scheme, folder / scheme) for scheme in SCHEMES}


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_model_card_says_how_weights_are_stored(made, scheme):
    card = (made[scheme] / "README.md").read_text()
    data = ModelCard(card).data
    assert data.base_model_relation == "quantized"
    assert "fp8" in data.tags
    assert "# A model without 1 attention layer and 1 MLP, quantized\n" in card
    assert f"- weights: FP8, by {scheme}\n" in card


def tensors_of(folder):
    return {name: tensor for path in sorted(folder.glob("*.safetensors")) for name, tensor in load_file(path).items()}


def is_linear(name):
    return name.endswith("proj.weight")


def logprobs(model, prompts=PROMPTS):
    with torch.inference_mode():
        found = model(prompts, use_cache=False).logits[:, :-1].float().log_softmax(-1)
    return found.gather(2, prompts[:, 1:, None])[..., 0]


def test_a_scale_for_each_output_is_its_largest_weight_over_448(base, made):
    weights, found = tensors_of(base), tensors_of(made["channel"])
    linears = [name for name in found if is_linear(name)]
    assert len(linears) == 3 * 4 + 3 * 3
    for name in linears:
        scales = weights[name].float().abs().amax(1, keepdim=True) / 448
        assert torch.equal(found[f"{name}_scale"], scales)
        assert found[f"{name}_scale"].dtype == torch.float32
        assert torch.equal(found[name].float(), (weights[name].float() / scales).to(torch.float8_e4m3fn).float())
        # Three bits behind the first: a sixteenth of a number, or half of the smallest one, 2^-9.
        error = (found[name].float() * scales - weights[name].float()).abs()
        assert (error <= torch.maximum(weights[name].float().abs() / 16, scales * 2**-10) * 1.001).all()


def test_blocks_are_those_of_another_computation(base, made):
    weights, found = tensors_of(base), tensors_of(made["block"])
    for name in (name for name in found if is_linear(name)):
        codes, scales = fp8_blocks(weights[name].float(), 128)
        assert torch.equal(found[f"{name}_scale_inv"], scales)
        assert torch.equal(found[name].float(), codes.float())


@pytest.mark.parametrize("scheme", SCHEMES)
def test_what_is_no_linear_of_a_layer_stays_byte_for_byte_and_dropped_layers_are_absent(base, made, scheme):
    weights, found = tensors_of(base), tensors_of(made[scheme])
    kept = {name for name in weights if ".layers.1.self_attn" not in name and ".layers.2.mlp" not in name}
    kept -= {"model.layers.1.input_layernorm.weight", "model.layers.2.post_attention_layernorm.weight"}
    assert {name for name in found if "_scale" not in name} == kept
    for name in kept:
        assert found[name].dtype == (torch.float8_e4m3fn if is_linear(name) else weights[name].dtype)
        assert is_linear(name) or torch.equal(found[name], weights[name])


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_weight_takes_a_byte_and_its_part_of_a_scale(made, scheme):
    found = tensors_of(made[scheme])
    weights = sum(tensor.numel() for name, tensor in found.items() if is_linear(name))
    scales = sum(tensor.nbytes for name, tensor in found.items() if "_scale" in name)
    stated = spec_of(scheme).bytes_per_weight
    # Of a channel's scale the share depends on the width, and is left out.
    assert (weights + scales * (scheme == "block")) / weights == pytest.approx(stated, rel=1e-6)
    assert sum(path.stat().st_size for path in made[scheme].glob("*.safetensors")) < 1.2 * sum(
        tensor.nbytes for tensor in found.values()
    )


@pytest.mark.parametrize("scheme", SCHEMES)
def test_it_computes_with_the_numbers_that_the_codes_stand_for(base, made, scheme):
    exact = load_model(open_checkpoint(base), DROPS, dtype=torch.float32)
    quantized = load_quantized(made[scheme], dtype=torch.float32)
    numbers = open_dequantized(made[scheme])
    assert len(numbers.linears) == 3 * 4 + 3 * 3
    name = "model.layers.0.mlp.down_proj.weight"
    assert torch.equal(quantized.state_dict()[name], numbers.read([name])[name])
    difference = (logprobs(quantized) - logprobs(exact)).abs()
    assert 0 < difference.mean() < NEAR


@pytest.mark.parametrize("scheme", SCHEMES)
def test_transformers_loads_it_by_itself(made, scheme):
    loaded, report = AutoModelForCausalLM.from_pretrained(
        made[scheme], dtype=torch.float32, output_loading_info=True, attn_implementation="sdpa"
    )
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    expected = logprobs(load_quantized(made[scheme], dtype=torch.float32))
    # On a CPU it computes with the same weights; activations that compressed-tensors rounds have three bits, too.
    assert (logprobs(loaded) - expected).abs().mean() < NEAR


@pytest.mark.parametrize("scheme", SCHEMES)
def test_errors_of_layers_are_those_of_rounding(base, made, scheme):
    errors = reconstruction_errors(
        open_checkpoint(base), DROPS, made[scheme], spec_of(scheme), token_ids(2, 16), dtype=torch.float32
    )
    assert len(errors) == 2 * 4 - 2
    for error in errors:
        assert 0 < error.method < 0.01
        assert error.method == pytest.approx(error.round_to_nearest, rel=1e-5)


def test_one_weight_is_read_at_a_time(base, tmp_path, monkeypatch):
    reads = []
    kind = type(open_checkpoint(base).shards[0])
    read = kind.read
    monkeypatch.setattr(kind, "read", lambda self, names: reads.append(list(names)) or read(self, names))
    quantize(base, "channel", tmp_path / "out")
    assert {len(names) for names in reads} == {1}
    # Once for the scales, once for the codes.
    assert len(reads) == 2 * (3 * 4 + 3 * 3)


def test_equal_weights_of_zero_become_zero(tmp_path, base):
    folder = write_checkpoint(tmp_path / "zero", shard_size="1GB", hidden_size=256, intermediate_size=384, head_dim=64)
    tensors = load_file(folder / "model.safetensors")
    name = "model.layers.0.mlp.down_proj.weight"
    tensors[name] = torch.zeros_like(tensors[name])
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    for scheme in SCHEMES:
        numbers = open_dequantized(quantize(folder, scheme, tmp_path / scheme)).read([name])
        assert torch.equal(numbers[name], torch.zeros_like(numbers[name]))
    tensors[name][0, 0] = float("nan")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(NotFiniteError, match=name):
        quantize(folder, "channel", tmp_path / "nan")


@pytest.mark.parametrize(
    ("architecture", "scheme", "message"),
    [
        ("MixtralForCausalLM", "channel", r"quantization\[0\].method: fp8 takes models whose layers have linears only"),
        ("LlamaForCausalLM", "block", r"quantization\[0\].scheme: .* are no whole blocks of 128; use channel"),
    ],
)
def test_what_it_cannot_store_is_refused(tmp_path, architecture, scheme, message):
    folder = write_checkpoint(tmp_path / "model", architecture)
    with pytest.raises(UserError, match=message):
        check_quantization([spec_of(scheme)], open_checkpoint(folder, weights=False))


def test_it_needs_no_library(base, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    check_quantization([spec_of("channel")], open_checkpoint(base, weights=False))


@pytest.mark.full
@needs_vllm
def test_vllm_serves_channels_with_activations_in_8_bits_too(made):
    scheme = "channel"
    done = subprocess.run(
        [sys.executable, "-c", RUN_VLLM, str(made[scheme]), json.dumps(PROMPTS.tolist())],
        env={**os.environ, "VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_NO_USAGE_STATS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = torch.tensor(json.loads(done.stdout.split("FOUND ")[1].splitlines()[0]))
    expected = logprobs(load_quantized(made[scheme], dtype=torch.float32))
    assert (found - expected).abs().mean() < NEAR
