"""The parts of a layer, found by structure; the states within a layer; what may not be dropped."""

import json

import pytest
import torch
import transformers
from tiny_models import COMMON, TRAITS, make_model, token_ids, write_checkpoint

from drop_ray.errors import UserError
from drop_ray.models.accounting import measure
from drop_ray.models.candidates import candidates, layers_of
from drop_ray.models.checkpoint import open_checkpoint
from drop_ray.models.export import export_checkpoint
from drop_ray.models.families import FAMILIES, DropLists
from drop_ray.models.layer_inputs import layer_inputs
from drop_ray.models.layer_states import replayed_states, seen_states
from drop_ray.models.loading import load_model
from drop_ray.models.modeling_dropped import counting_layer
from drop_ray.models.shrinking import small_config
from drop_ray.models.sublayers import find_layers, layers_and_path, sublayer_names
from drop_ray.models.tracing import seen, traits_of_model

IDS = token_ids(2, 24)
PATHS = {
    "LlamaForCausalLM": ("model.layers", ["input_layernorm", "self_attn"], ["post_attention_layernorm", "mlp"]),
    "Olmo2ForCausalLM": (
        "model.layers",
        ["self_attn", "post_attention_layernorm"],
        ["mlp", "post_feedforward_layernorm"],
    ),
    "Cohere2ForCausalLM": ("model.layers", ["self_attn"], ["mlp"]),  # the one norm before both stays
    "JambaForCausalLM": ("model.layers", ["input_layernorm", "mamba"], ["pre_ff_layernorm", "feed_forward"]),
    "GPTNeoXForCausalLM": (
        "gpt_neox.layers",
        ["input_layernorm", "attention"],
        ["post_attention_layernorm", "mlp"],
    ),
}


@pytest.mark.parametrize("architecture", PATHS)
def test_the_parts_of_a_layer_and_the_place_of_the_layers(architecture):
    path, attention, mlp = PATHS[architecture]
    found, layers = layers_and_path(make_model(architecture))
    assert (found, sublayer_names(layers[0])) == (path, {"attention": attention, "mlp": mlp})


@pytest.mark.parametrize(
    "architecture", [name for name, family in FAMILIES.items() if family.has_middle and name in PATHS]
)
def test_a_replay_gives_the_bits_that_a_module_sees(architecture):
    model = make_model(architecture)
    traits_of_model(model)
    inputs = layer_inputs(model, IDS)
    hidden = inputs.hidden
    with torch.no_grad():
        for layer, arguments in zip(find_layers(model), inputs.keyword_arguments, strict=True):
            replayed, shown = replayed_states(layer, hidden, arguments), seen_states(layer, hidden, arguments)
            assert all(map(torch.equal, replayed, shown))
            hidden = shown[1]


def test_side_by_side_the_middle_is_the_layer_without_its_mlp():
    model = make_model("Cohere2ForCausalLM")
    traits_of_model(model)
    inputs = layer_inputs(model, IDS)
    layer, arguments = find_layers(model)[0], inputs.keyword_arguments[0]
    with torch.no_grad():
        middle, after = replayed_states(layer, inputs.hidden, arguments)
        given = layer.input_layernorm(inputs.hidden)
        attention, _ = layer.self_attn(given, **arguments)
        assert torch.equal(middle, inputs.hidden + attention + torch.zeros_like(attention))
        torch.testing.assert_close(after, middle + layer.mlp(given))
    assert layer.mlp(given).abs().max() > 0


def test_what_listed_families_state_is_seen_in_them():
    for architecture in ("GptOssForCausalLM", "CohereForCausalLM", "LlamaForCausalLM", "FalconH1ForCausalLM"):
        family, found = FAMILIES[architecture], seen(make_model(architecture))
        assert (found.returned_values, found.has_middle) == (family.returned_values, family.has_middle), architecture


def test_how_many_values_a_stand_in_returns_is_in_the_checkpoint(tmp_path):
    base = write_checkpoint(tmp_path / "base", "GPTNeoXForCausalLM")
    export_checkpoint(open_checkpoint(base), DropLists((1,), ()), tmp_path / "dropped")
    assert json.loads((tmp_path / "dropped" / "config.json").read_text())["returned_values"] == {"GPTNeoXAttention": 2}
    model = load_model(tmp_path / "dropped")
    assert model.gpt_neox.layers[1].attention.returned_values == 2
    assert [model.gpt_neox.layers[layer].attention.layer_idx for layer in (0, 2, 3)] == [0, 1, 2]


def test_a_layer_whose_keys_others_read_is_no_candidate_and_refused_with_the_reason():
    config = transformers.Gemma4TextConfig(
        **{**COMMON, "vocab_size_per_layer_input": 300, "hidden_size_per_layer_input": 8, "head_dim": 8},
        num_hidden_layers=4,
        layer_types=["sliding_attention", "full_attention"] * 2,
        num_kv_shared_layers=2,
    )
    model = transformers.Gemma4ForCausalLM(config)
    assert candidates(model) == DropLists((2, 3), (0, 1, 2, 3))
    with pytest.raises(UserError, match=r"plan x: drop_attn names layer 1, whose keys and values later layers read"):
        layers_of(model).check(DropLists((1,), ()), "plan x")
    assert measure(model).kv_layers(DropLists()) == (0, 1)


def test_a_layer_may_have_one_sub_layer_only():
    config = transformers.MambaConfig(hidden_size=32, state_size=8, num_hidden_layers=2, vocab_size=64)
    model = transformers.MambaForCausalLM(config)
    assert candidates(model) == DropLists((0, 1), ())
    with pytest.raises(UserError, match="drop_mlp names layer 0, which has no MLP"):
        layers_of(model).check(DropLists((), (0,)), "plan x")


def test_where_constant_states_alone_are_kept_a_dropped_attention_counts_the_tokens():
    kinds = ["linear_attention", "full_attention", "moe", "sliding_attention"]
    assert counting_layer(kinds, [0, 1]) is None
    assert counting_layer(kinds, [1, 3]) == counting_layer(kinds, [0, 1, 3]) == 1
    assert counting_layer(kinds, range(4)) is None  # there is no cache at all
    assert counting_layer(["linear_attention"] * 2, [1]) is None  # no attention ever did


HYBRIDS = ["Jamba", "Qwen3Next", "FalconH1", "NemotronH", "KimiLinear", "Lfm2", "GraniteMoeHybrid", "OlmoHybrid"]
WINDOWED = ["Gemma3", "Gemma4", "MiMoV2Flash", "Llama4", "Mistral"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("num_tokens", [9, 40])
@pytest.mark.parametrize("family", HYBRIDS + WINDOWED)
def test_the_cache_is_as_large_as_it_is_counted(family, num_tokens, dtype):
    """9 tokens fit into the windows of 16; between steps, transformers keeps all of a full one but its oldest token."""
    model = make_model(f"{family}ForCausalLM").to(dtype)
    with torch.no_grad():
        cache = model(token_ids(1, num_tokens), use_cache=True).past_key_values
    size = measure(model)
    assert size.num_layers == 4
    assert [*size.kv_layers(DropLists())] == [
        layer for layer, cached in enumerate(cache.layers) if getattr(cached, "keys", None) is not None
    ]
    for layer, cached in enumerate(cache.layers):
        others = DropLists(tuple(other for other in range(4) if other != layer), ())
        window = size.windows[layer]
        tensors = [value for name in ("keys", "values") if (value := getattr(cached, name, None)) is not None]
        for name in ("conv_states", "recurrent_states"):
            states = getattr(cached, name, None) or ()
            tensors += states.values() if isinstance(states, dict) else states
        held = [tensor for tensor in tensors if isinstance(tensor, torch.Tensor)]
        tokens = num_tokens if window is None else min(num_tokens, window - 1)
        assert size.kv_bytes(others, tokens) == sum(tensor.nbytes for tensor in held)
        assert size.kv_bytes(others, 1000) == size.kv_bytes(others, window or 1000)


def test_a_configuration_is_made_small_though_its_fields_depend_on_each_other():
    config = transformers.DeepseekV3Config()
    config.architectures = ["DeepseekV3ForCausalLM"]
    small = small_config(config, transformers.DeepseekV3ForCausalLM)
    assert small.num_hidden_layers == 4  # the first with experts is the fourth
    assert small.first_k_dense_replace == config.first_k_dense_replace
    assert small.hidden_size < 64
    assert TRAITS.keys() >= FAMILIES.keys()
