"""Every architecture: the dropped model against the original with the contributions removed, and its checkpoint."""

import json

import pytest
import torch
from tiny_models import droppable, logits_of, logits_without, make_model, modeling_files, token_ids

import drop_ray
from drop_ray.models.candidates import only
from drop_ray.models.checkpoint import open_checkpoint
from drop_ray.models.export import export_checkpoint
from drop_ray.models.families import FAMILIES, DropLists
from drop_ray.models.loading import load_model
from drop_ray.models.sublayers import layers_and_path, sublayer_names
from drop_ray.models.tensor_map import map_tensors
from drop_ray.models.transformers_private import layer_types

IDS = token_ids(2, 24)  # longer than the sliding window of the tiny Mistral
PATTERNS = [
    DropLists((0,), ()),
    DropLists((3,), ()),
    DropLists((), (0, 3)),
    DropLists((1, 2), (2,)),
    DropLists((1, 3), ()),  # of hybrids all attention
    DropLists((0, 1, 2, 3), ()),
    DropLists((0, 1, 2, 3), (0, 1, 2, 3)),
]


@pytest.fixture(scope="module")
def architecture(family_folder):
    return json.loads((family_folder / "config.json").read_text())["architectures"][0]


@pytest.fixture(params=PATTERNS, ids=str)
def drops(request, architecture):
    """The part of each pattern that the family can be dropped from."""
    drops = only(request.param, droppable(architecture))
    if not drops.count:
        pytest.skip("this family's layers have none of these")
    return drops


def test_logits_are_those_of_the_original_without_the_contributions(architecture, family_folder, drops, tmp_path):
    expected = logits_without(architecture, drops, IDS)
    assert torch.equal(logits_of(load_model(family_folder, drops), IDS), expected)
    export_checkpoint(open_checkpoint(family_folder), drops, tmp_path / "dropped")
    assert torch.equal(logits_of(load_model(tmp_path / "dropped"), IDS), expected)
    assert not torch.equal(expected, logits_without(architecture, DropLists(), IDS))


def test_a_checkpoint_lacks_the_dropped_tensors_and_keeps_the_others_byte_for_byte(
    architecture, family_folder, drops, tmp_path
):
    base = open_checkpoint(family_folder)
    export_checkpoint(base, drops, tmp_path / "dropped")
    dropped = open_checkpoint(tmp_path / "dropped")
    model = make_model(architecture)
    path, layers = layers_and_path(model)
    gone = [f"{path}.{i}.{name}." for i in drops.attn for name in sublayer_names(layers[i])["attention"]]
    gone += [f"{path}.{i}.{name}." for i in drops.mlp for name in sublayer_names(layers[i])["mlp"]]
    # Files have other names, some of them for the parts of a tensor.
    places = {
        name: recipe.target for recipe in map_tensors(model, base.tensors).recipes.values() for name in recipe.names
    }
    kept = {name for name in base.tensors if not places[name].startswith(tuple(gone))}
    assert dropped.tensors.keys() == kept
    assert len(kept) < len(base.tensors)
    before, after = base.read(kept), dropped.read(kept)
    assert all(torch.equal(before[name], after[name]) for name in kept)


def test_generation_with_a_cache_equals_generation_without_and_caches_kept_layers_only(
    architecture, family_folder, drops
):
    model = load_model(family_folder, drops)
    mask = torch.ones_like(IDS)
    mask[0, :5] = 0  # left-padded
    settings = {
        "attention_mask": mask,
        "max_new_tokens": 12,
        "do_sample": False,
        "pad_token_id": 0,
        "eos_token_id": None,
    }
    assert torch.equal(
        model.generate(IDS, use_cache=True, **settings), model.generate(IDS, use_cache=False, **settings)
    )
    with torch.no_grad():
        cache = model(IDS, use_cache=True).past_key_values
    kept = [kind for layer, kind in enumerate(layer_types(make_model(architecture).config)) if layer not in drops.attn]
    counts = not kept or any(("attention" in kind and kind != "linear_attention") or kind == "hybrid" for kind in kept)
    assert len(cache.layers) == len(kept) + (not counts)  # where none is left, a dropped one goes on to count tokens


@pytest.fixture(scope="module")
def lists(architecture):
    return only(DropLists((0, 2), (2, 3)), droppable(architecture))


@pytest.fixture(scope="module")
def dropped_folder(family_folder, lists, tmp_path_factory):
    folder = tmp_path_factory.mktemp("dropped") / "checkpoint"
    export_checkpoint(open_checkpoint(family_folder), lists, folder, provenance={"strategy": "test"})
    return folder


def test_the_checkpoint_format(architecture, family_folder, dropped_folder, lists):
    config = json.loads((dropped_folder / "config.json").read_text())
    base = json.loads((family_folder / "config.json").read_text())
    family, name = base["model_type"], base["architectures"][0]
    assert config["model_type"] == f"dropped_{family}"
    assert config["architectures"] == [f"Dropped{name}"]
    assert (config["drop_attn_list"], config["drop_mlp_list"]) == ([*lists.attn], [*lists.mlp])
    assert config["use_cache"]
    assert config["auto_map"].keys() == {"AutoConfig", "AutoModelForCausalLM"}
    names = {path.name for path in dropped_folder.iterdir()}
    assert {
        "tokenizer.json",
        "tokenizer_config.json",
        "generation_config.json",
        "LICENSE",
        *modeling_files(architecture),
    } <= names


def test_saving_a_registered_model_keeps_the_format(architecture, dropped_folder, lists, tmp_path):
    from transformers import AutoModelForCausalLM

    attention = "eager" if FAMILIES[architecture].needs_eager else "sdpa"
    model = AutoModelForCausalLM.from_pretrained(
        dropped_folder, dtype=torch.float32, attn_implementation=attention
    ).eval()
    expected = logits_without(architecture, lists, IDS)
    assert torch.equal(logits_of(model, IDS), expected)
    model.save_pretrained(tmp_path / "again")
    assert torch.equal(logits_of(drop_ray.load(tmp_path / "again"), IDS), expected)


def test_a_dropped_checkpoint_can_be_dropped_further(architecture, dropped_folder, lists, tmp_path):
    more = only(DropLists((1,), (1,)), droppable(architecture))
    export_checkpoint(open_checkpoint(dropped_folder), more, tmp_path / "further")
    expected = logits_without(architecture, lists.union(more), IDS)
    assert torch.equal(logits_of(load_model(tmp_path / "further"), IDS), expected)
    assert torch.equal(logits_of(load_model(dropped_folder, more), IDS), expected)
