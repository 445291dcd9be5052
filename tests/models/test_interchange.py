"""Exported forms that other programs read: plain, llm-drop, config-only; and checkpoints as LLM-Drop writes them."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import (
    edit_json,
    logits_of,
    logits_without,
    make_model,
    make_tokenizer,
    token_ids,
    write_checkpoint,
)
from torch import nn
from transformers import AutoModelForCausalLM

from drop_ray.errors import UserError
from drop_ray.models.checkpoint import open_checkpoint
from drop_ray.models.dropped import drop_lists_of
from drop_ray.models.export import export_checkpoint
from drop_ray.models.families import FAMILIES, DropLists
from drop_ray.models.layer_settings import setting_that_differs
from drop_ray.models.loading import load_model
from drop_ray.models.location import load_tokenizer
from drop_ray.models.plain import plain_checkpoint
from drop_ray.planning.modules import drops_name
from drop_ray.scoring.scorer import Scorer
from drop_ray.scoring.sweep import SweepSettings


def blocks(*layers):
    return DropLists(layers, layers)


IDS = token_ids(2, 24)  # longer than the sliding windows of the tiny models
# How a layer's setting is found in config.json: every mechanism once, the other families with the long matrices.
MECHANISMS = {
    "LlamaForCausalLM": "none",
    "Gemma2ForCausalLM": "layer_types that the class computes from the number",
    "Olmo3ForCausalLM": "layer_types in the file",
    "MixtralForCausalLM": "none, and the files' names of experts",
    "DeepseekForCausalLM": "first_k_dense_replace, in a class of ours",
    "DeepseekV3ForCausalLM": "first_k_dense_replace",
}
# Of hybrids some attention stays. Jamba's layers have a rhythm, and each of Nemotron-H's has one sub-layer.
HYBRIDS = ("Qwen3Next", "Qwen3_5", "Qwen3_5Moe", "GraniteMoeHybrid", "OlmoHybrid", "Lfm2", "Lfm2Moe", "KimiLinear")
PLAIN = {
    **{f"{name}ForCausalLM": (blocks(0), blocks(1, 2), blocks(0, 1)) for name in HYBRIDS},
    "JambaForCausalLM": (blocks(0, 1), blocks(2, 3)),
    "NemotronHForCausalLM": (DropLists((0,), ()), DropLists((0,), (3,)), DropLists((), (1, 3))),
    "Gemma4ForCausalLM": (),  # its embeddings for the layers are one tensor
}
FAMILY_CASES = [name if name in MECHANISMS else pytest.param(name, marks=pytest.mark.full) for name in FAMILIES]


def config_of(folder):
    return json.loads((folder / "config.json").read_text())


def export(folder, drops, output, format):
    export_checkpoint(open_checkpoint(folder), drops, output, format=format, provenance={"strategy": "test"})
    return output


def load_plainly(folder, architecture):
    """By transformers alone: no class of ours, no remote code."""
    attention = "eager" if FAMILIES[architecture].needs_eager else "sdpa"
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation=attention, trust_remote_code=False
    ).eval()
    assert type(model).__module__.startswith("transformers.models.")
    return model


@pytest.mark.parametrize("architecture", FAMILY_CASES)
def test_a_plain_checkpoint_gives_the_logits_of_the_dropped_model_without_our_code(architecture, tmp_path):
    base = write_checkpoint(tmp_path / "base", architecture)
    if "layer_types" in config_of(base) and architecture == "Gemma2ForCausalLM":
        edit_json(base / "config.json", layer_types=None)  # as Gemma 2 was released
    for drops in PLAIN.get(architecture, (blocks(0), blocks(1, 2), blocks(0, 1, 3))):
        plain = export(base, drops, tmp_path / f"plain-{drops_name(drops)}", "plain")
        expected = logits_without(architecture, drops, IDS)
        assert torch.equal(logits_of(load_model(plain), IDS), expected)
        if architecture != "DeepseekForCausalLM":  # no class of transformers
            assert torch.equal(logits_of(load_plainly(plain, architecture), IDS), expected)


def test_a_plain_checkpoint_is_the_base_with_fewer_layers_byte_for_byte(llama_folder, tmp_path):
    plain = export(llama_folder, blocks(1), tmp_path / "plain", "plain")
    base, left = open_checkpoint(llama_folder), open_checkpoint(plain)
    before, after = base.read(base.tensors), left.read(left.tensors)
    layers = {name.split(".")[2] for name in left.tensors if ".layers." in name}
    assert layers == {"0", "1", "2"}
    for name in left.tensors:
        old = name
        for new, kept in (("1", "2"), ("2", "3")):
            if name.startswith(f"model.layers.{new}."):
                old = name.replace(f"layers.{new}", f"layers.{kept}")
        assert torch.equal(after[name], before[old])
    config, base_config = config_of(plain), config_of(llama_folder)
    assert config == {**base_config, "num_hidden_layers": 3, "use_cache": True, "drop_ray": {"strategy": "test"}}
    assert not list(plain.glob("*.py"))
    assert (plain / "LICENSE").is_file()
    assert load_tokenizer(plain)("a").input_ids == load_tokenizer(llama_folder)("a").input_ids


# Beyond the tiny models' own settings: overrides, fields that config.json lacks, drops, and what becomes of them.
PER_LAYER = {
    "Gemma 2's windows move with their layers": (
        "Gemma2ForCausalLM",
        {},
        {"layer_types": None},
        blocks(0),
        {"layer_types": ["full_attention", "sliding_attention", "full_attention"]},
    ),
    "windows from a layer on": (
        "Qwen2ForCausalLM",
        {"use_sliding_window": True, "sliding_window": 16, "max_window_layers": 2},
        {"layer_types": None},
        blocks(0, 3),
        {"layer_types": ["full_attention", "sliding_attention"], "max_window_layers": 1},
    ),
    "a period that an explicit list overrides": (
        "Gemma3ForCausalLM",
        {"layer_types": ["sliding_attention", "full_attention", "sliding_attention", "full_attention"]},
        {"layer_types": None, "sliding_window_pattern": 2},
        blocks(0),
        {"layer_types": ["full_attention", "sliding_attention", "full_attention"]},
    ),
    "a configuration of single layers, and layers that read another's keys": (
        "Gemma4ForCausalLM",
        {"hidden_size_per_layer_input": 0},
        {},
        blocks(0),
        {"per_layer_config": {"0": {"head_dim": 32}, "2": {"head_dim": 32}}, "num_kv_shared_layers": 1},
    ),
    "experts from a layer on": (
        "Ernie4_5_MoeForCausalLM",
        {},
        {},
        blocks(0, 3),
        {"moe_layer_start_index": 0, "moe_layer_end_index": 1},
    ),
    "dense layers by number": (
        "Qwen3MoeForCausalLM",
        {"mlp_only_layers": [0, 2]},
        {},
        blocks(0),
        {"mlp_only_layers": [1]},
    ),
    "as many dense layers by number as layers": (
        "Qwen3MoeForCausalLM",
        {"mlp_only_layers": [0, 1, 2, 3]},
        {},
        blocks(1),
        {"mlp_only_layers": [0, 1, 2]},
    ),
    "every other layer dense, where the drops keep the rhythm": (
        "Qwen3MoeForCausalLM",
        {"decoder_sparse_step": 2},
        {},
        blocks(0, 1),
        {"decoder_sparse_step": 2, "mlp_only_layers": []},
    ),
    "two dense layers first, of which one is dropped": (
        "DeepseekForCausalLM",
        {"first_k_dense_replace": 2},
        {},
        blocks(1, 3),
        {"first_k_dense_replace": 1},
    ),
}


@pytest.mark.parametrize("case", PER_LAYER)
def test_settings_of_single_layers_travel_with_them(case, tmp_path):
    architecture, overrides, fields, drops, expected = PER_LAYER[case]
    base = write_checkpoint(tmp_path / "base", architecture, **overrides)
    edit_json(base / "config.json", **fields)
    plain = export(base, drops, tmp_path / "plain", "plain")
    config = config_of(plain)
    assert {field: config[field] for field in expected} == expected
    reference = logits_of(load_model(base, drops), IDS)
    load = load_model if architecture == "DeepseekForCausalLM" else lambda folder: load_plainly(folder, architecture)
    assert torch.equal(logits_of(load(plain), IDS), reference)
    if "layer_types" in expected:
        other = {"full_attention": "sliding_attention", "sliding_attention": "full_attention"}
        edit_json(plain / "config.json", layer_types=[other[kind] for kind in expected["layer_types"]])
        assert not torch.equal(logits_of(load(plain), IDS), reference)


def test_lists_that_are_as_long_by_chance_stay(llama_folder, tmp_path):
    base = write_checkpoint(tmp_path / "base")
    edit_json(base / "config.json", eos_token_id=[0, 2, 3, 4], of_layers=[5, 6, 7, 8], by_kind=[1, 0, 1])
    config = plain_checkpoint(open_checkpoint(base), blocks(1)).config
    assert (config["eos_token_id"], config["of_layers"], config["by_kind"]) == ([0, 2, 3, 4], [5, 7, 8], [1, 0, 1])


REFUSED = {
    r"can lack whole blocks only, and the plan drops attention or MLP alone": (
        "LlamaForCausalLM",
        {},
        {},
        ((1, 2), (1,)),
    ),
    r"no layer would be left": ("LlamaForCausalLM", {}, {}, ((0, 1, 2, 3), (0, 1, 2, 3))),
    r"`mlp.__class__` of layer 1 is Qwen3MoeSparseMoeBlock, and would be Qwen3MoeMLP, as layer 0: this per-layer": (
        "Qwen3MoeForCausalLM",
        {"decoder_sparse_step": 2},
        {},
        ((0,), (0,)),
    ),
    r"`mlp.__class__` of layer 1 is LlamaMLP, and would be DeepseekMoe, as layer 0": (
        "DeepseekForCausalLM",
        {"moe_layer_freq": 2, "first_k_dense_replace": 0},
        {},
        ((0,), (0,)),
    ),
    r"model.embed_tokens_per_layer.weight holds parts of every layer in one tensor": (
        "Gemma4ForCausalLM",
        {},
        {},
        ((0,), (0,)),
    ),
    r"no attention would be left, by which the family's class counts tokens": (
        "Lfm2ForCausalLM",
        {},
        {},
        ((1, 3), (1, 3)),
    ),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_cannot_be_plain_is_refused_and_nothing_written(reason, tmp_path):
    architecture, overrides, fields, lists = REFUSED[reason]
    base = write_checkpoint(tmp_path / "base", architecture, **overrides)
    edit_json(base / "config.json", **fields)
    with pytest.raises(UserError, match=f"no plain checkpoint: .*{reason}.*; export as `dropped`"):
        export(base, DropLists(*lists), tmp_path / "plain", "plain")
    assert not (tmp_path / "plain").exists()


class Layer(nn.Module):
    def __init__(self, scale=1.0, width=2, computed=0.0, **settings):
        super().__init__()
        self.part = nn.Linear(width, 2)
        self.part.scale, self.part.layer_idx = scale, len(settings)
        self.register_buffer("computed", torch.full((2,), computed), persistent=False)
        self.register_buffer("stored", torch.rand(2))
        vars(self).update(settings)


@pytest.mark.parametrize(
    ("settings", "difference"),
    [
        ({}, None),
        ({"scale": 2.0}, ("part.scale", 1.0, 2.0)),
        ({"scale": 1}, ("part.scale", 1.0, 1)),
        ({"window": None}, ("window", "absent", None)),
        ({"mask": (1, "a")}, ("mask", "absent", (1, "a"))),
        ({"width": 3}, ("part.in_features", 2, 3)),
        ({"an_object": object()}, None),
    ],
)
def test_a_setting_that_differs_is_found(settings, difference):
    assert setting_that_differs(Layer(), Layer(**settings)) == difference


def test_a_buffer_that_is_computed_differently_is_found():
    assert setting_that_differs(Layer(), Layer(computed=1.0))[0] == "computed"


def test_layers_that_predict_further_tokens_are_left_out_of_a_plain_checkpoint_only(tmp_path):
    base = write_checkpoint(tmp_path / "base", "DeepseekV3ForCausalLM", shard_size="1GB")
    edit_json(base / "config.json", num_nextn_predict_layers=1)
    extra = {"model.layers.4.enorm.weight": torch.ones(32)}
    save_file(load_file(base / "model.safetensors") | extra, base / "model.safetensors", {"format": "pt"})
    plain = export(base, blocks(1), tmp_path / "plain", "plain")
    assert config_of(plain)["num_nextn_predict_layers"] == 0
    assert {name.split(".")[2] for name in open_checkpoint(plain).tensors if ".layers." in name} == {"0", "1", "2"}
    expected = logits_without("DeepseekV3ForCausalLM", blocks(1), IDS)
    assert torch.equal(logits_of(load_plainly(plain, "DeepseekV3ForCausalLM"), IDS), expected)
    full = export(base, blocks(1), tmp_path / "full", "llm-drop")
    assert open_checkpoint(full).tensors == open_checkpoint(base).tensors


def test_a_dropped_checkpoint_becomes_plain_once_its_blocks_are_whole_but_never_full_again(llama_folder, tmp_path):
    dropped = export(llama_folder, DropLists((1, 3), (3,)), tmp_path / "dropped", "dropped")
    plain = export(dropped, DropLists((), (1,)), tmp_path / "plain", "plain")
    assert torch.equal(
        logits_of(load_plainly(plain, "LlamaForCausalLM"), IDS), logits_without("LlamaForCausalLM", blocks(1, 3), IDS)
    )
    assert drop_lists_of(open_checkpoint(plain)) == DropLists()
    with pytest.raises(UserError, match=r"--format: llm-drop has all tensors of the model .* export it from the base"):
        export(dropped, DropLists((0,), ()), tmp_path / "full", "llm-drop")


DROPS = DropLists((0, 2), (2, 3))


@pytest.mark.parametrize("architecture", ["MistralForCausalLM", "DeepseekForCausalLM"])
def test_llm_drop_has_all_tensors_and_config_only_none(architecture, tmp_path):
    base = write_checkpoint(tmp_path / "base", architecture)
    full = export(base, DROPS, tmp_path / "full", "llm-drop")
    before, after = open_checkpoint(base), open_checkpoint(full)
    assert after.tensors.keys() == before.tensors.keys()
    values, own = before.read(before.tensors), after.read(after.tensors)
    assert all(torch.equal(own[name], values[name]) for name in values)
    config = config_of(full)
    family = config_of(base)
    assert {field: config[field] for field in ("model_type", "architectures")} == {
        field: family[field] for field in ("model_type", "architectures")
    }
    assert (config["drop_attn_list"], config["drop_mlp_list"]) == ([0, 2], [2, 3])
    expected = logits_without(architecture, DROPS, IDS)
    assert torch.equal(logits_of(load_model(full), IDS), expected)

    bare = export(base, DROPS, tmp_path / "bare", "config-only")
    assert config_of(bare) == config
    assert {path.name for path in bare.iterdir()} == {
        path.name for path in full.iterdir() if "safetensors" not in path.name
    }
    for path in base.glob("*.safetensors*"):
        (bare / path.name).symlink_to(path)
    assert torch.equal(logits_of(load_model(bare), IDS), expected)


SPELLINGS = {
    "numbers": ([2, 0], [3, 2]),
    "booleans": ([True, False, True, False], [False, False, True, True]),
    "one of each": ([0, 2], [False, False, True, True]),
}


def write_as_llm_drop(folder, architecture, lists, with_code):
    """Full weights, lists in config.json, and code of its own that need not be there."""
    write_checkpoint(folder, architecture)
    family = FAMILIES[architecture].model_type
    files = {"AutoConfig": f"configuration_dropped_{family}", "AutoModelForCausalLM": f"modeling_dropped_{family}"}
    auto_map = {name: f"{file}.{architecture}" for name, file in files.items()}
    edit_json(
        folder / "config.json", drop_attn_list=lists[0], drop_mlp_list=lists[1], auto_map=auto_map, use_cache=False
    )
    for file in files.values() if with_code else ():
        (folder / f"{file}.py").write_text("raise RuntimeError('code of a checkpoint was run')\n")
    return folder


@pytest.mark.parametrize(
    ("architecture", "spelling", "with_code"),
    [
        ("MistralForCausalLM", "numbers", True),
        ("MistralForCausalLM", "booleans", False),
        ("DeepseekForCausalLM", "one of each", True),
    ],
)
def test_a_checkpoint_of_llm_drop_is_loaded_scored_and_exported_small(architecture, spelling, with_code, tmp_path):
    base = write_checkpoint(tmp_path / "base", architecture)
    foreign = write_as_llm_drop(tmp_path / "foreign", architecture, SPELLINGS[spelling], with_code)
    expected = logits_without(architecture, DROPS, IDS)
    assert torch.equal(logits_of(load_model(foreign), IDS), expected)
    assert load_tokenizer(foreign)("a").input_ids == make_tokenizer()("a").input_ids

    def scores(folder, drops):
        scorer = Scorer(
            open_checkpoint(folder), drops, dtype=torch.float32, attn_implementation=None, placement="streamed"
        )
        return [row for _, rows in scorer.score(IDS, [range(2)], SweepSettings(2)) for row in rows]

    rows = scores(foreign, DropLists())
    assert rows == scores(base, DROPS)
    assert {row.layer for row in rows if row.module == "attention"} == {1, 3}

    small = export(foreign, DropLists(), tmp_path / "small", "dropped")
    assert config_of(small)["model_type"] == f"dropped_{FAMILIES[architecture].model_type}"
    assert config_of(small)["use_cache"]
    assert open_checkpoint(small).tensors.keys() < open_checkpoint(foreign).tensors.keys()
    assert torch.equal(logits_of(load_model(small), IDS), expected)
    assert not list(small.glob("*_dropped_*.py"))
    # In its own form again: the lists as numbers, every tensor.
    again = export(foreign, DropLists((1,), ()), tmp_path / "again", "llm-drop")
    assert (config_of(again)["drop_attn_list"], config_of(again)["drop_mlp_list"]) == ([0, 1, 2], [2, 3])


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([True, False], "drop_attn_list has 2 booleans for 4 layers; list one for each layer"),
        ([True, 2], r"drop_attn_list is \[True, 2\]; list the numbers of the dropped layers, or one boolean"),
        ([1.0], "drop_attn_list is .*; list the numbers"),
        (["1"], "drop_attn_list is .*; list the numbers"),
        (3, "drop_attn_list is 3; list the numbers"),
        ([4], "drop_attn names layer 4, but the model has layers 0 to 3"),
        ([-1], "drop_attn names layer -1, but the model has layers 0 to 3"),
    ],
)
def test_drop_lists_that_do_not_fit_are_refused_by_name(tmp_path, entries, message):
    (tmp_path / "model").mkdir()
    make_model("MistralForCausalLM").config.save_pretrained(tmp_path / "model")
    edit_json(tmp_path / "model" / "config.json", architectures=["MistralForCausalLM"], drop_attn_list=entries)
    with pytest.raises(UserError, match=f"model.path: .*model/config.json: {message}"):
        drop_lists_of(open_checkpoint(tmp_path / "model", weights=False))


def test_empty_drop_lists_are_those_of_a_base(llama_folder, tmp_path):
    (tmp_path / "config.json").write_text((llama_folder / "config.json").read_text())
    for empty in (None, [], [False] * 4):
        edit_json(tmp_path / "config.json", drop_attn_list=empty, drop_mlp_list=None)
        assert drop_lists_of(open_checkpoint(tmp_path, weights=False)) == DropLists()
