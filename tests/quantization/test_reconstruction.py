"""Errors of quantized sub-layers, against a plain computation on the whole model, and that they show what is wrong."""

import pytest
import torch
from packed_models import edit_tensor, write_rounded
from tiny_models import Silenced, token_ids, write_checkpoint

from drop_ray.config.quantization import QuantizationSpec
from drop_ray.errors import UserError
from drop_ray.models.checkpoint import open_checkpoint
from drop_ray.models.families import DropLists
from drop_ray.models.loading import load_model
from drop_ray.quantization.dequantized import open_dequantized
from drop_ray.quantization.families import QUANTIZABLE, WITH_EXPERTS
from drop_ray.quantization.reconstruction import reconstruction_errors

# Those whose norms AWQ scales.
FAMILIES = ["LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Gemma2ForCausalLM"]
SAMPLES = token_ids(3, 24)
DROPS = DropLists((0, 1), (1, 2))
GPTQ = QuantizationSpec(method="gptq", group_size=16)
AWQ = QuantizationSpec(method="awq", group_size=16)


@pytest.fixture(scope="module")
def rounded_folder(llama_folder, tmp_path_factory):
    """The tiny Llama without drops, rounded to nearest in the layout of gptq."""
    return write_rounded(llama_folder, DropLists(), tmp_path_factory.mktemp("rounded"), "gptq")


def errors_of(base, quantized, spec=GPTQ, drops=DropLists()):
    return reconstruction_errors(open_checkpoint(base), drops, quantized, spec, SAMPLES)


def by_sublayer(errors):
    return {(error.layer, error.module): error for error in errors}


def with_one_word_inverted(words):
    words[3, 5] = ~words[3, 5]
    return words


def added(layer, silenced, hidden, arguments):
    """What the sub-layer that is not silenced adds to the residual stream."""
    module = getattr(layer, silenced)
    setattr(layer, silenced, Silenced(module))
    try:
        return layer(hidden, **arguments) - hidden
    finally:
        setattr(layer, silenced, module)


def reference(exact, other, drops):
    """{(layer, module): (squared sum of the output, of the difference)} by whole models, in float64."""
    calls, sums = [], {}
    for layer in exact.model.layers:
        layer.register_forward_pre_hook(lambda _, args, kwargs: calls.append((args[0], kwargs)), with_kwargs=True)
    with torch.no_grad():
        exact(SAMPLES, use_cache=False)
        for index, (hidden, arguments) in enumerate(calls[:]):
            layers = exact.model.layers[index], other.model.layers[index]
            attention = [added(layer, "mlp", hidden, arguments) for layer in layers]
            middle = hidden + attention[0]
            mlp = [added(layer, "self_attn", middle, arguments) for layer in layers]
            for module, (right, found), dropped in (("attention", attention, drops.attn), ("mlp", mlp, drops.mlp)):
                if index not in dropped:
                    sums[index, module] = right.square().sum().item(), (found - right).square().sum().item()
    return sums


DENSE = [name for name, entry in QUANTIZABLE.items() if entry is not WITH_EXPERTS]
# The names of an expert's linears are those of other linears, or Mixtral's.
CASES = [
    *((architecture, method) for architecture in DENSE for method in ("gptq", "awq")),
    ("MixtralForCausalLM", "gptq"),
    pytest.param("Glm4MoeForCausalLM", "gptq", marks=pytest.mark.full),
]


@pytest.mark.parametrize(("architecture", "method"), CASES)
def test_errors_are_those_of_whole_models(architecture, method, tmp_path):
    base = write_checkpoint(tmp_path / "base", architecture)
    quantized = write_rounded(base, DROPS, tmp_path / "quantized", method)
    exact = load_model(base, DROPS, dtype=torch.float64)
    other = load_model(open_dequantized(quantized), dtype=torch.float64)
    for model in (exact, other):
        model.set_experts_implementation("eager")  # others have no float64
    expected = reference(exact, other, DROPS)

    errors = by_sublayer(errors_of(base, quantized, GPTQ if method == "gptq" else AWQ, DROPS))
    assert list(errors) == [(0, "mlp"), (2, "attention"), (3, "attention"), (3, "mlp")]
    for key, error in errors.items():
        squared_output, squared_error = expected[key]
        assert error.squared_output == pytest.approx(squared_output, rel=1e-4)
        assert error.squared_method == pytest.approx(squared_error, rel=1e-3)
        assert error.method == error.squared_method / error.squared_output
        # The tests' own files are rounded to nearest.
        assert error.squared_round_to_nearest == pytest.approx(squared_error, rel=1e-3)
        assert 1e-5 < error.method < 0.2


@pytest.mark.parametrize("architecture", FAMILIES)
def test_a_scale_moved_from_a_norm_to_its_linears_is_no_error(architecture, tmp_path):
    """What AWQ does; here by powers of two, which rounding does not see. A norm of Gemma holds its scale less one."""
    base = write_checkpoint(tmp_path / "base", architecture)
    offset = 1.0 if architecture == "Gemma2ForCausalLM" else 0.0
    mlp_norm = "pre_feedforward_layernorm" if offset else "post_attention_layernorm"
    scales = torch.tensor([0.25, 4.0]).repeat_interleave(16)  # one for each group of inputs
    readers = {"input_layernorm": ("q_proj", "k_proj", "v_proj"), mlp_norm: ("gate_proj", "up_proj")}

    def fold(tensors):
        for name, tensor in tensors.items():
            if name.endswith("norm.weight") and (norm := name.split(".")[-2]) in readers:
                tensor.copy_((tensor + offset) / scales - offset)
                for linear, weight in tensors.items():
                    same_layer = linear.split(".")[:3] == name.split(".")[:3]
                    if same_layer and linear.split(".")[-2] in readers[norm] and linear.endswith("weight"):
                        weight.mul_(scales)

    plain = errors_of(base, write_rounded(base, DropLists(), tmp_path / "plain", "awq"), AWQ)
    folded = errors_of(base, write_rounded(base, DropLists(), tmp_path / "folded", "awq", change=fold), AWQ)
    for one, other in zip(plain, folded, strict=True):
        assert other.squared_method == pytest.approx(one.squared_method, rel=1e-3)


def test_one_wrong_word_shows_in_its_sublayer_alone(llama_folder, rounded_folder, tmp_path):
    before = by_sublayer(errors_of(llama_folder, rounded_folder))
    broken = write_rounded(llama_folder, DropLists(), tmp_path / "broken", "gptq")
    edit_tensor(broken, "model.layers.2.mlp.down_proj.qweight", with_one_word_inverted)
    after = by_sublayer(errors_of(llama_folder, broken))
    worse = after.pop((2, "mlp"))
    assert worse.squared_method > 1.5 * before.pop((2, "mlp")).squared_method
    assert after == before


def test_a_norm_of_the_quantized_files_is_the_one_that_is_used(llama_folder, rounded_folder, tmp_path):
    other = write_rounded(llama_folder, DropLists(), tmp_path / "other", "gptq")
    edit_tensor(other, "model.layers.1.post_attention_layernorm.weight", lambda weight: weight * 2)
    before, after = (by_sublayer(errors_of(llama_folder, folder)) for folder in (rounded_folder, other))
    assert after.pop((1, "mlp")).method > 0.5
    assert before.pop((1, "mlp")).method < 0.2
    assert after == before


def test_errors_of_eight_bits_are_far_smaller(llama_folder, rounded_folder, tmp_path):
    spec = QuantizationSpec(method="gptq", bits=8, group_size=16)
    eight = write_rounded(llama_folder, DropLists(), tmp_path / "eight", "gptq", bits=8)
    for error, coarse in zip(
        errors_of(llama_folder, eight, spec), errors_of(llama_folder, rounded_folder), strict=True
    ):
        # A step is 17 times smaller.
        assert error.method < coarse.method / 100
        assert error.method == pytest.approx(error.round_to_nearest, rel=1e-2)


def test_progress_counts_layers(llama_folder, rounded_folder):
    told = []
    base = open_checkpoint(llama_folder)
    arguments = (base, DropLists(), rounded_folder, GPTQ, SAMPLES)
    reconstruction_errors(*arguments, progress=lambda done, total: told.append((done, total)))
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_a_checkpoint_of_other_drop_lists_is_refused(llama_folder, rounded_folder):
    with pytest.raises(ValueError, match=r"lacks \{'drop_attn': \[\], 'drop_mlp': \[\]\}, not"):
        errors_of(llama_folder, rounded_folder, drops=DROPS)


def test_a_checkpoint_that_is_not_quantized_is_refused(llama_folder):
    with pytest.raises(ValueError, match="quant_method is None"):
        errors_of(llama_folder, llama_folder)


def test_a_linear_whose_tensors_break_the_layout_is_named(llama_folder, tmp_path):
    folder = write_rounded(llama_folder, DropLists(), tmp_path / "quantized", "gptq")
    edit_tensor(folder, "model.layers.3.mlp.up_proj.g_idx", lambda groups: groups.flip(0))
    with pytest.raises(ValueError, match=r"model\.layers\.3\.mlp\.up_proj: g_idx does not name the groups in turn"):
        errors_of(llama_folder, folder)


def test_a_missing_tensor_is_named(llama_folder, tmp_path):
    folder = write_rounded(
        llama_folder,
        DropLists(),
        tmp_path / "quantized",
        "gptq",
        change=lambda tensors: tensors.pop("model.norm.weight"),
    )
    with pytest.raises(UserError, match=r"model\.norm\.weight"):
        errors_of(llama_folder, folder)
