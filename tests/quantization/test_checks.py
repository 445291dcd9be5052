"""What cannot be quantized is refused before any work, with the field and the remedy."""

import importlib.util
import subprocess
import sys

import pytest
from tiny_models import edit_json, write_checkpoint

from drop_ray.config import parse_config
from drop_ray.config.quantization import QuantizationSpec
from drop_ray.errors import UserError
from drop_ray.models.checkpoint import open_checkpoint
from drop_ray.quantization.checks import check_quantization
from drop_ray.quantization.families import QUANTIZABLE
from drop_ray.quantization.section import QUANTIZATION

FITTING = QuantizationSpec(method="gptq", group_size=32)


def refusal(folder, *specs):
    with pytest.raises(UserError) as caught:
        check_quantization([QuantizationSpec(**spec) for spec in specs], open_checkpoint(folder, weights=False))
    return str(caught.value)


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    """Inputs of its linears: 32 and 64."""
    return write_checkpoint(tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="module")
def wide_llama(tmp_path_factory):
    """Its key and value projections have 64 outputs."""
    return write_checkpoint(tmp_path_factory.mktemp("wide"), hidden_size=128, intermediate_size=192)


def test_what_fits_is_taken(wide_llama):
    specs = [{"method": "awq", "group_size": 64}, {"method": "gptq", "group_size": -1}, FITTING.model_dump()]
    check_quantization([QuantizationSpec(**spec) for spec in specs], open_checkpoint(wide_llama, weights=False))


def test_awq_needs_outputs_that_its_search_can_divide(llama):
    assert refusal(llama, {"method": "awq", "group_size": 32}) == (
        "quantization[0].method: layers.0.self_attn.q_proj has 32 outputs, awq takes multiples of 64; use gptq"
    )


def test_a_run_without_quantization_needs_no_library(llama, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    check_quantization([], open_checkpoint(llama, weights=False))


@pytest.mark.parametrize("library", ["gptqmodel", "optimum"])
def test_a_missing_library_is_named_with_the_extra_that_has_it(llama, monkeypatch, library):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == library else object())
    message = f"quantization: {library} is not installed; pip install 'drop-ray[quantization]', or on a CPU "
    assert refusal(llama, {"method": "awq", "group_size": 16}).startswith(message)


def test_a_group_size_that_divides_no_width_is_refused_with_those_that_divide_all(llama):
    message = refusal(llama, FITTING.model_dump(), {"method": "awq", "group_size": 64})
    assert message == (
        "quantization[1].group_size: 64 does not divide the 32 inputs of layers.0.self_attn.q_proj; use 16 or 32"
    )


def test_a_width_of_any_layer_counts(tmp_path):
    folder = write_checkpoint(tmp_path, intermediate_size=48)
    message = refusal(folder, {"method": "gptq", "group_size": 32})
    assert message == (
        "quantization[0].group_size: 32 does not divide the 48 inputs of layers.0.mlp.down_proj; "
        "use 16, or -1 for whole rows"
    )


def test_a_group_size_that_no_kernel_knows_is_refused(llama):
    message = refusal(llama, {"method": "awq", "group_size": 8})
    assert message == "quantization[0].group_size: 8 is no size that kernels know; use 16 or 32"


def test_a_model_that_no_group_size_fits_is_refused(tmp_path):
    folder = write_checkpoint(tmp_path, intermediate_size=24)
    assert refusal(folder, {"method": "awq", "group_size": 16}).endswith("; no size fits this model")
    check_quantization([QuantizationSpec(method="gptq", group_size=-1)], open_checkpoint(folder, weights=False))


def test_outputs_that_fill_no_words_are_refused(tmp_path):
    folder = write_checkpoint(tmp_path, intermediate_size=36)
    message = refusal(folder, {"method": "gptq", "group_size": -1})
    assert message == (
        "quantization[0].method: layers.0.mlp.gate_proj has 32 inputs and 36 outputs, which gptq cannot pack 8 in a "
        "word"
    )


def test_widths_of_layers_that_the_model_lacks_do_not_count(tmp_path):
    folder = write_checkpoint(tmp_path, hidden_size=32, intermediate_size=24, head_dim=8)
    every = list(range(4))
    edit_json(folder / "config.json", model_type="dropped_llama", architectures=["DroppedLlamaForCausalLM"])
    edit_json(folder / "config.json", drop_attn_list=[], drop_mlp_list=every)
    check_quantization([FITTING], open_checkpoint(folder, weights=False))


@pytest.mark.parametrize(
    ("architecture", "reason"),
    [
        ("GptOssForCausalLM", " (its files hold the experts of a layer as one tensor, in which nothing can be packed)"),
        ("DeepseekForCausalLM", " (gptqmodel 7.6 has no tree of its modules)"),
        ("CohereForCausalLM", ""),
    ],
)
def test_an_architecture_that_the_engine_does_not_take_is_refused_with_those_it_takes(tmp_path, architecture, reason):
    folder = write_checkpoint(tmp_path, architecture)
    message = refusal(folder, {"method": "gptq", "group_size": 16})
    assert message == (
        f"quantization[0].method: {architecture} cannot be quantized{reason}; these can: {', '.join(QUANTIZABLE)}"
    )


def test_the_linears_of_experts_count_and_routers_do_not(tmp_path):
    folder = write_checkpoint(tmp_path, "Qwen3MoeForCausalLM", moe_intermediate_size=24, num_experts=5)
    message = refusal(folder, {"method": "gptq", "group_size": 16})
    assert message == (
        "quantization[0].group_size: 16 does not divide the 24 inputs of layers.0.mlp.experts.0.down_proj; "
        "no size fits this model, or -1 for whole rows"
    )
    check_quantization([QuantizationSpec(method="gptq", group_size=-1)], open_checkpoint(folder, weights=False))


@pytest.mark.parametrize("fields", [{"evaluation": {"backend": "vllm"}}, {"serving": {}}])
def test_quantized_experts_are_not_run_in_vllm_on_a_cpu(tmp_path, fields):
    folder = write_checkpoint(tmp_path, "Qwen3MoeForCausalLM", moe_intermediate_size=32)
    values = {
        "name": "run",
        "model": {"path": str(folder)},
        "calibration": {"source": "text.txt", "num_samples": 16, "seq_len": 64},
        "quantization": [FITTING.model_dump(include={"method", "group_size"})],
    }
    checkpoint = open_checkpoint(folder, weights=False)
    QUANTIZATION.check(parse_config(values, "run.yaml"), checkpoint)
    with pytest.raises(UserError, match=r"^quantization: vLLM has no kernels for quantized experts on a CPU; leave"):
        QUANTIZATION.check(parse_config({**values, **fields}, "run.yaml"), checkpoint)


def test_a_method_that_is_wrong_for_an_architecture_is_refused_with_the_reason(tmp_path):
    folder = write_checkpoint(tmp_path, "Olmo2ForCausalLM")
    message = refusal(folder, {"method": "awq", "group_size": 16})
    assert message == (
        "quantization[0].method: Olmo2ForCausalLM cannot be quantized by awq (AWQ moves scales into the norm before a "
        "sub-layer, and there is none); use gptq"
    )
    folder = write_checkpoint(tmp_path / "experts", "MixtralForCausalLM")
    assert "(gptqmodel 7.6 scales the norm before the experts, and leaves the router behind it as it is); use gptq" in (
        refusal(folder, {"method": "awq", "group_size": 16})
    )


def test_a_quantized_model_is_refused_as_a_runs_model(llama, tmp_path):
    folder = write_checkpoint(tmp_path)
    edit_json(folder / "config.json", quantization_config={"quant_method": "awq"})
    assert "is quantized already (awq); give its 16-bit checkpoint" in refusal(folder, FITTING.model_dump())


def test_neither_the_checks_nor_the_engines_module_import_the_engine():
    code = "import drop_ray.quantization.checks, drop_ray.quantization.gptqmodel_engine, sys\n"
    code += "print('gptqmodel' in sys.modules, 'ray' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "False False\n"
