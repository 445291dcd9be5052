"""Every wrapper: its dropped checkpoint against the full wrapper with the contributions removed, for text and image."""

import copy
import json
import math
import subprocess
import sys

import pytest
import torch
from processes import bare
from safetensors.torch import load_file
from tiny_models import token_ids
from tiny_wrappers import LAYERS, WRAPPED, image_and_text, outputs, silenced, write_wrapper
from transformers import AutoModelForImageTextToText

import drop_ray
from drop_ray.models.checkpoint import open_checkpoint
from drop_ray.models.export import export_checkpoint
from drop_ray.models.families import DropLists
from drop_ray.models.loading import load_model
from drop_ray.models.probe import is_listed
from drop_ray.models.sublayers import find_layers, sublayer_names
from drop_ray.models.wrappers import WRAPPERS, wrapper_class
from drop_ray.planning.inspection import inspect_model

TEXT = {"input_ids": token_ids(2, 24)}
DROPS = DropLists((1,), (2, 3))
# One for each layout of tensors and each kind of decoder; `make test-full` runs the others.
REPRESENTATIVES = ("gemma3", "qwen2_5_vl", "qwen3_5_moe")
NAMES = [name if name in REPRESENTATIVES else pytest.param(name, marks=pytest.mark.full) for name in WRAPPED]


def read(folder):
    return {name: tensor for path in sorted(folder.glob("*.safetensors")) for name, tensor in load_file(path).items()}


def load(folder):
    model, report = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    assert not any(report.values())
    # Copied: products of small matrices differ in the last bit with the alignment of what a file's mapping holds.
    return copy.deepcopy(model).eval()


@pytest.fixture(scope="module", params=NAMES)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def folder(name, tmp_path_factory):
    """A wrapper in `base`, and in `dropped` its export without `DROPS`."""
    folder = tmp_path_factory.mktemp("wrapper")
    write_wrapper(folder / "base", name)
    export_checkpoint(open_checkpoint(folder / "base"), DROPS, folder / "dropped", provenance={"strategy": "by hand"})
    return folder


@pytest.fixture(scope="module")
def dropped(folder):
    return load(folder / "dropped")


def test_text_and_image_are_read_as_by_the_full_wrapper_without_the_contributions(name, folder, dropped):
    full = load(folder / "base")
    image = image_and_text(name)
    before = outputs(full, image)
    expected = silenced(full, DROPS)
    assert torch.equal(outputs(dropped, image), outputs(expected, image))
    assert not torch.equal(outputs(dropped, image), before)
    assert torch.equal(outputs(dropped, TEXT), outputs(expected, TEXT))
    assert torch.equal(outputs(load_model(folder / "base", DROPS), TEXT), outputs(expected, TEXT))
    darker = {**image, "pixel_values": image["pixel_values"] / 2}
    assert not torch.equal(outputs(dropped, image)[:, -1], outputs(dropped, darker)[:, -1])


def test_scores_are_those_of_the_wrappers_own_decoder(folder):
    """Of the silenced wrapper: the state before and after each layer, as transformers computes it."""
    model = silenced(load(folder / "base"), DROPS)
    distances = []

    def note(layer, args, kwargs, output):
        after = output[0] if isinstance(output, tuple) else output
        cosine = torch.cosine_similarity(args[0].double(), after.double(), dim=-1)
        distances.append(1 - cosine.mean().item())

    for layer in find_layers(model):
        layer.register_forward_hook(note, with_kwargs=True)
    outputs(model, TEXT)
    found = drop_ray.score(load_model(folder / "base", DROPS), TEXT["input_ids"])
    assert found["block"] == pytest.approx(
        [
            distance if known else math.nan
            for distance, known in zip(distances, map(math.isfinite, found["block"]), strict=True)
        ],
        abs=1e-6,
        nan_ok=True,
    )
    assert sum(score > 1e-3 for score in found["block"]) >= 2


def test_the_towers_and_what_is_kept_have_their_bytes_and_names(folder, dropped):
    before, after = read(folder / "base"), read(folder / "dropped")
    layers = find_layers(load(folder / "base"))
    parts = [(layer, part) for layer in DROPS.attn for part in sublayer_names(layers[layer])["attention"]]
    parts += [(layer, part) for layer in DROPS.mlp for part in sublayer_names(layers[layer])["mlp"]]
    gone = {name for name in before if any(f"layers.{layer}.{part}." in name for layer, part in parts)}
    gone = {name for name in gone if "language_model" in name or name.startswith("model.layers.")}
    assert after.keys() == before.keys() - gone
    assert gone
    assert all(after[name].numpy().tobytes() == before[name].numpy().tobytes() for name in after)
    assert sum("vision" in name or "visual" in name for name in after) > LAYERS


def test_config_json_is_the_wrappers_with_the_lists_of_its_decoder(folder):
    base, config = (json.loads((folder / each / "config.json").read_text()) for each in ("base", "dropped"))
    assert config["model_type"] == f"dropped_{base['model_type']}"
    assert config["architectures"] == [f"Dropped{base['architectures'][0]}"]
    text = config["text_config"]
    assert (text["drop_attn_list"], text["drop_mlp_list"]) == ([1], [2, 3])
    added = {"drop_attn_list", "drop_mlp_list", "returned_values"}
    assert {key: value for key, value in text.items() if key not in added} == base["text_config"]
    assert not added & config.keys()
    changed = {"model_type", "architectures", "text_config", "auto_map", "use_cache", "drop_ray", "tie_word_embeddings"}
    assert {key: value for key, value in config.items() if key not in changed} == {
        key: value for key, value in base.items() if key not in changed
    }
    assert "AutoModelForImageTextToText" in config["auto_map"]
    names = {path.name for path in (folder / "dropped").iterdir()}
    assert {"modeling_dropped.py", "preprocessor_config.json", "tokenizer.json", "LICENSE"} <= names


def test_generation_from_an_image_is_the_same_with_a_cache_of_the_kept_mixers(name, dropped):
    settings = {"max_new_tokens": 4, "min_new_tokens": 4, "do_sample": False, "pad_token_id": 0}
    inputs = image_and_text(name)
    cached = dropped.generate(**inputs, use_cache=True, return_dict_in_generate=True, **settings)
    assert torch.equal(cached.sequences, dropped.generate(**inputs, use_cache=False, **settings))
    full = dropped.config.text_config
    shared = getattr(full, "num_kv_shared_layers", 0) or 0
    assert len(cached.past_key_values.layers) == full.num_hidden_layers - shared - 1
    with torch.no_grad():
        own = dropped(**TEXT, use_cache=True).past_key_values
    assert [type(layer) for layer in own.layers] == [type(layer) for layer in cached.past_key_values.layers]


def test_a_dropped_wrapper_is_a_base_again(folder, tmp_path):
    """Exported with more, it is what the base without all of them is; loaded, saved and loaded, it is itself."""
    dropped = open_checkpoint(folder / "dropped")
    assert dropped.identity != open_checkpoint(folder / "base").identity
    export_checkpoint(dropped, DropLists((), (0,)), tmp_path / "more")
    export_checkpoint(open_checkpoint(folder / "base"), DropLists((1,), (0, 2, 3)), tmp_path / "at-once")
    more, at_once = read(tmp_path / "more"), read(tmp_path / "at-once")
    assert more.keys() == at_once.keys()
    assert all(torch.equal(more[name], at_once[name]) for name in more)
    configs = [json.loads((tmp_path / each / "config.json").read_text()) for each in ("more", "at-once")]
    assert {**configs[0], "drop_ray": None} == {**configs[1], "drop_ray": None}
    model = load(folder / "dropped")
    model.save_pretrained(tmp_path / "saved")
    assert torch.equal(outputs(load(tmp_path / "saved"), TEXT), outputs(model, TEXT))


def test_it_is_listed_with_its_language_model(folder):
    for each in ("base", "dropped"):
        opened = open_checkpoint(folder / each)
        assert opened.config["architectures"][0] in WRAPPERS[wrapper_class(opened.whole.config)].language_models
        assert is_listed(opened)
        assert "not listed" not in str(inspect_model(str(folder / each)))


def test_all_language_models_of_the_list_are_in_the_tests():
    assert {tiny.architecture for tiny in WRAPPED.values()} == {*WRAPPERS}
    assert sum(len(family.language_models) for family in WRAPPERS.values()) == len(WRAPPED) - 1  # two of Gemma 4


@pytest.mark.full
def test_transformers_without_drop_ray_loads_each_as_remote_code(tmp_path):
    """In a process of its own: this one knows the dropped classes."""
    for name in WRAPPED:
        write_wrapper(tmp_path / name / "base", name)
        export_checkpoint(open_checkpoint(tmp_path / name / "base"), DROPS, tmp_path / name / "dropped")
    program = f"""
import copy, sys, torch
from transformers import AutoModelForImageTextToText
for name in {[*WRAPPED]!r}:
    folder = {str(tmp_path)!r} + "/" + name
    model, report = AutoModelForImageTextToText.from_pretrained(
        folder + "/dropped", dtype=torch.float32, trust_remote_code=True, output_loading_info=True)
    assert not any(report.values()), report
    with torch.no_grad():
        torch.save(copy.deepcopy(model).eval()(**torch.load(folder + "/inputs.pt")).logits, folder + "/logits.pt")
assert "drop_ray" not in sys.modules
"""
    for name in WRAPPED:
        torch.save(image_and_text(name), tmp_path / name / "inputs.pt")
    subprocess.run([sys.executable, "-c", program], env=bare(tmp_path), cwd=tmp_path, check=True, timeout=500)
    for name in WRAPPED:
        expected = outputs(load(tmp_path / name / "dropped"), image_and_text(name))
        # To rounding: the other process may share products among another number of threads.
        torch.testing.assert_close(torch.load(tmp_path / name / "logits.pt"), expected, rtol=1e-4, atol=1e-4)
