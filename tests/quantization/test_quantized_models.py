"""What is dropped and quantized gives the same numbers in transformers, with and without this package, and in vLLM."""

import hashlib
import json

import pytest
from quantized_runs import PATTERNS, SPECS, run_family
from safetensors import safe_open
from tiny_models import modeling_files

from drop_ray.quantization.families import QUANTIZABLE, WITH_EXPERTS

pytestmark = pytest.mark.full

MIXED = "attention 0, 1; MLP 1, 2"
# Of a log-probability to the float32 reference; twice the largest that was measured. gptqmodel's kernel for CPUs
# multiplies in bfloat16, also of a float32 model (0.05), vLLM's in the served dtype (float16: 0.01, bfloat16: 0.11).
TOLERANCES = {"transformers": 0.1, "remote code": 0.1, "vllm": 0.02}
IN_BFLOAT16 = {**TOLERANCES, "vllm": 0.2}
REQUIRED = ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Gemma2ForCausalLM")
# Those with experts have tests of their own: a token that changes its expert changes much.
OTHERS = [name for name, entry in QUANTIZABLE.items() if name not in REQUIRED and entry is not WITH_EXPERTS]


def check(architecture, folder, patterns):
    methods = QUANTIZABLE[architecture].methods
    tolerances = IN_BFLOAT16 if architecture.startswith("Gemma") else TOLERANCES
    for case, found in run_family(architecture, folder, patterns, {name: SPECS[name] for name in methods}).items():
        assert found.keys() == tolerances.keys()
        for runner, difference in found.items():
            assert difference < tolerances[runner], (case, runner)


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    """A folder with the checkpoints `awq, PATTERN` and `gptq, PATTERN`."""
    folder = tmp_path_factory.mktemp("quantized")
    check("LlamaForCausalLM", folder, [MIXED])
    return folder


def tensors_of(folder):
    """(dtype, shape) by name."""
    with safe_open(folder / "model.safetensors", "pt") as file:
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
        return {name: (tensor.get_dtype(), tuple(tensor.get_shape())) for name, tensor in slices.items()}


def quantized_parts(folder, module):
    return {
        name.removeprefix(f"{module}."): entry for name, entry in tensors_of(folder).items() if name.startswith(module)
    }


def config_of(folder):
    return json.loads((folder / "config.json").read_text())


def test_the_tensors_of_awq_are_those_of_autoawq(llama):
    folder = llama / f"awq, {MIXED}"
    assert quantized_parts(folder, "model.layers.2.self_attn.k_proj") == {
        "qweight": ("I32", (128, 64 // 8)),
        "qzeros": ("I32", (128 // 32, 64 // 8)),
        "scales": ("F16", (128 // 32, 64)),
    }
    assert quantized_parts(folder, "model.layers.0.mlp.down_proj") == {
        "qweight": ("I32", (256, 128 // 8)),
        "qzeros": ("I32", (256 // 32, 128 // 8)),
        "scales": ("F16", (256 // 32, 128)),
    }


def test_the_tensors_of_gptq_are_those_of_autogptq(llama):
    folder = llama / f"gptq, {MIXED}"
    assert quantized_parts(folder, "model.layers.2.self_attn.k_proj") == {
        "qweight": ("I32", (128 // 8, 64)),
        "qzeros": ("I32", (128 // 32, 64 // 8)),
        "scales": ("F16", (128 // 32, 64)),
        "g_idx": ("I32", (128,)),
    }


def test_symmetric_gptq_has_the_first_formats_zeros_and_groups_in_order(llama):
    with safe_open(llama / f"gptq, {MIXED}" / "model.safetensors", "pt") as file:
        zeros = file.get_tensor("model.layers.3.self_attn.q_proj.qzeros")
        groups = file.get_tensor("model.layers.3.self_attn.q_proj.g_idx")
    assert (zeros == 0x77777777).all()  # 8 in every place, less one
    assert groups.tolist() == [position // 32 for position in range(128)]


@pytest.mark.parametrize("method", ["awq", "gptq"])
def test_only_kept_sublayers_have_tensors_and_all_their_linears_are_packed(llama, method):
    names = tensors_of(llama / f"{method}, {MIXED}").keys()
    packed = {name.removesuffix(".qweight") for name in names if name.endswith(".qweight")}
    kept = {f"model.layers.{layer}.self_attn.{name}_proj" for layer in (2, 3) for name in "qkvo"}
    kept |= {f"model.layers.{layer}.mlp.{name}_proj" for layer in (0, 3) for name in ("gate", "up", "down")}
    assert packed == kept
    rest = {name for name in names if name.rpartition(".")[0] not in packed}
    norms = {f"model.layers.{layer}.input_layernorm.weight" for layer in (2, 3)}
    norms |= {f"model.layers.{layer}.post_attention_layernorm.weight" for layer in (0, 3)}
    assert rest == norms | {"model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"}


def test_the_config_is_a_dropped_models_with_what_readers_of_either_format_read(llama):
    for method, own in {
        "awq": {"version": "gemm", "zero_point": True, "modules_to_not_convert": None},
        "gptq": {"checkpoint_format": "gptq", "sym": True, "desc_act": False},
    }.items():
        config = config_of(llama / f"{method}, {MIXED}")
        assert config["model_type"] == "dropped_llama"
        assert config["architectures"] == ["DroppedLlamaForCausalLM"]
        assert (config["drop_attn_list"], config["drop_mlp_list"]) == ([0, 1], [1, 2])
        assert config["drop_ray"] == {"plan": f"{method}, {MIXED}"}
        assert config["dtype"] == {"awq": "float16", "gptq": "float32"}[method]
        settings = config["quantization_config"]
        assert {**settings, "quant_method": method, "bits": 4, "group_size": 32, **own} == settings


@pytest.mark.parametrize("method", ["awq", "gptq"])
def test_the_folder_holds_what_the_unquantized_one_does_and_nothing_is_left_beside_it(llama, method):
    names = {path.name for path in (llama / f"{method}, {MIXED}").iterdir()}
    tokenizer = {"tokenizer.json", "tokenizer_config.json"}
    written = {"README.md", "config.json", "generation_config.json", "model.safetensors", "LICENSE"}
    assert names == written | tokenizer | modeling_files("LlamaForCausalLM")
    results = {"quantize.json", "transformers.json", "remote code.json", "vllm.json"}
    assert {path.name for path in llama.iterdir()} - results == {
        "base",
        "modules",
        f"awq, {MIXED}",
        f"gptq, {MIXED}",
    }


@pytest.mark.nightly
def test_equal_inputs_give_equal_bytes(llama, tmp_path):
    run_family("LlamaForCausalLM", tmp_path, [MIXED], SPECS, runners=())
    for method in SPECS:
        again, first = (folder / f"{method}, {MIXED}" / "model.safetensors" for folder in (tmp_path, llama))
        assert hashlib.sha256(again.read_bytes()).digest() == hashlib.sha256(first.read_bytes()).digest()


@pytest.mark.nightly
@pytest.mark.parametrize("architecture", REQUIRED)
def test_a_family_in_every_pattern(architecture, tmp_path):
    check(architecture, tmp_path, PATTERNS)


@pytest.mark.nightly
@pytest.mark.parametrize("architecture", OTHERS)
def test_another_family(architecture, tmp_path):
    check(architecture, tmp_path, [MIXED, "attention 0, 1, 2, 3"])
