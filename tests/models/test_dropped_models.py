"""Dropped models against the original with the modules' contributions removed, and their checkpoints against both."""

import copy
import json
import os
import shutil
import subprocess
import sys

import pytest
import torch
from tiny_models import edit_json, make_model, make_tokenizer, token_ids, write_checkpoint
from torch import nn

import drop_ray
from drop_ray.errors import UserError
from drop_ray.models.checkpoint import open_checkpoint
from drop_ray.models.dropped import load_model
from drop_ray.models.export import export_checkpoint
from drop_ray.models.families import DropLists

IDS = token_ids(2, 24)  # longer than the sliding window of the tiny Mistral
PATTERNS = [
    DropLists((0,), ()),
    DropLists((3,), ()),
    DropLists((), (0, 3)),
    DropLists((1, 2), (2,)),
    DropLists((0, 1, 2, 3), ()),
    DropLists((0, 1, 2, 3), (0, 1, 2, 3)),
]


class Silenced(nn.Module):
    """Runs a module of the full model and returns its output times zero: its contribution removed, no code of ours."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, *args, **kwargs):
        output = self.module(*args, **kwargs)
        return (output[0] * 0, *output[1:]) if isinstance(output, tuple) else output * 0


@pytest.fixture(scope="module")
def silenced(family_folder):
    """drops -> logits of the full model with the dropped modules' outputs multiplied by zero."""
    family = json.loads((family_folder / "config.json").read_text())["model_type"]

    def logits(drops, ids=IDS):
        model = make_model(family)
        for layer in drops.attn:
            model.model.layers[layer].self_attn = Silenced(model.model.layers[layer].self_attn)
        for layer in drops.mlp:
            model.model.layers[layer].mlp = Silenced(model.model.layers[layer].mlp)
        with torch.no_grad():
            return model(ids).logits

    return logits


def logits_of(model, ids=IDS):
    with torch.no_grad():
        return model(ids).logits


@pytest.mark.parametrize("drops", PATTERNS, ids=str)
def test_logits_are_those_of_the_original_without_the_contributions(family_folder, silenced, drops, tmp_path):
    expected = silenced(drops)
    assert torch.equal(logits_of(load_model(family_folder, drops)), expected)
    export_checkpoint(open_checkpoint(family_folder), drops, tmp_path / "dropped")
    assert torch.equal(logits_of(load_model(tmp_path / "dropped")), expected)
    assert not torch.equal(expected, silenced(DropLists()))


@pytest.mark.parametrize("drops", PATTERNS, ids=str)
def test_a_checkpoint_lacks_the_dropped_tensors_and_keeps_the_others_byte_for_byte(family_folder, drops, tmp_path):
    base = open_checkpoint(family_folder)
    export_checkpoint(base, drops, tmp_path / "dropped")
    dropped = open_checkpoint(tmp_path / "dropped")
    gone = [f"layers.{i}.{name}" for i in drops.attn for name in ("self_attn.", "input_layernorm.")]
    gone += [f"layers.{i}.{name}" for i in drops.mlp for name in ("mlp.", "post_attention_layernorm.")]
    kept = {name for name in base.tensors if not any(part in name for part in gone)}
    assert dropped.tensors.keys() == kept
    assert len(kept) < len(base.tensors)
    before, after = base.read(kept), dropped.read(kept)
    assert all(torch.equal(before[name], after[name]) for name in kept)


@pytest.mark.parametrize("drops", PATTERNS[:5], ids=str)
def test_generation_with_a_cache_equals_generation_without_and_caches_kept_layers_only(family_folder, drops):
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
    assert len(cache.layers) == 4 - len(drops.attn)


@pytest.fixture(scope="module")
def dropped_folder(family_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("dropped") / "checkpoint"
    export_checkpoint(
        open_checkpoint(family_folder), DropLists((0, 2), (2, 3)), folder, provenance={"strategy": "test"}
    )
    return folder


def test_the_checkpoint_format(family_folder, dropped_folder):
    config = json.loads((dropped_folder / "config.json").read_text())
    base = json.loads((family_folder / "config.json").read_text())
    family, name = base["model_type"], base["architectures"][0]
    assert config["model_type"] == f"dropped_{family}"
    assert config["architectures"] == [f"Dropped{name}"]
    assert (config["drop_attn_list"], config["drop_mlp_list"], config["use_cache"]) == ([0, 2], [2, 3], True)
    assert config["auto_map"].keys() == {"AutoConfig", "AutoModelForCausalLM"}
    names = {path.name for path in dropped_folder.iterdir()}
    assert {
        "tokenizer.json",
        "tokenizer_config.json",
        "generation_config.json",
        "LICENSE",
        "modeling_dropped.py",
    } <= names


def run_python(code, **environment):
    settings = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": environment.pop("cache", ""), **environment}
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, stdin=subprocess.DEVNULL, env=settings
    )
    return result.returncode, result.stdout, result.stderr


def test_remote_code_loads_it_in_a_process_that_never_imports_drop_ray(dropped_folder, silenced, tmp_path):
    code = f"""
import sys, torch
from transformers import AutoModelForCausalLM
model = AutoModelForCausalLM.from_pretrained({str(dropped_folder)!r}, trust_remote_code=True, dtype="float32").eval()
assert not any(name.split(".")[0] == "drop_ray" for name in sys.modules)
torch.save(model(torch.tensor({IDS.tolist()})).logits.detach(), {str(tmp_path / "logits.pt")!r})
model.save_pretrained({str(tmp_path / "again")!r})
"""
    status, _, errors = run_python(code, cache=str(tmp_path / "modules"))
    assert status == 0, errors
    expected = silenced(DropLists((0, 2), (2, 3)))
    assert torch.equal(torch.load(tmp_path / "logits.pt"), expected)
    # Saved again it is still a dropped checkpoint, with the modeling file beside it.
    assert json.loads((tmp_path / "again/config.json").read_text())["model_type"].startswith("dropped_")
    assert (tmp_path / "again/modeling_dropped.py").is_file()
    assert torch.equal(logits_of(load_model(tmp_path / "again")), expected)


def test_plain_transformers_without_remote_code_fails_loudly(dropped_folder, tmp_path):
    code = f"""
from transformers import AutoModelForCausalLM
AutoModelForCausalLM.from_pretrained({str(dropped_folder)!r})
"""
    status, _, errors = run_python(code, cache=str(tmp_path / "modules"))
    assert status != 0
    assert "trust_remote_code" in errors


@pytest.mark.parametrize("order", ["drop_ray first", "transformers first"])
def test_importing_drop_ray_registers_the_dropped_types(dropped_folder, order, tmp_path):
    imports = ["import drop_ray", "from transformers import AutoModelForCausalLM"]
    code = "\n".join(imports if order == "drop_ray first" else reversed(imports))
    code += f"\nprint(type(AutoModelForCausalLM.from_pretrained({str(dropped_folder)!r})).__module__)"
    status, output, errors = run_python(code, cache=str(tmp_path / "modules"))
    assert status == 0, errors
    assert output.strip() == "drop_ray.models.modeling_dropped"


def test_saving_a_registered_model_keeps_the_format(dropped_folder, silenced, tmp_path):
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(dropped_folder, dtype=torch.float32).eval()
    expected = silenced(DropLists((0, 2), (2, 3)))
    assert torch.equal(logits_of(model), expected)
    model.save_pretrained(tmp_path / "again")
    assert torch.equal(logits_of(drop_ray.load(tmp_path / "again")), expected)


def test_a_dropped_checkpoint_can_be_dropped_further(dropped_folder, silenced, tmp_path):
    export_checkpoint(open_checkpoint(dropped_folder), DropLists((1,), ()), tmp_path / "further")
    expected = silenced(DropLists((0, 1, 2), (2, 3)))
    assert torch.equal(logits_of(load_model(tmp_path / "further")), expected)
    assert torch.equal(logits_of(load_model(dropped_folder, DropLists((1,), ()))), expected)


def test_the_identity_is_of_the_files_and_never_of_the_path(llama_folder, tmp_path):
    same = shutil.copytree(llama_folder, tmp_path / "elsewhere")
    assert open_checkpoint(same).identity == open_checkpoint(llama_folder).identity
    edit_json(same / "config.json", _name_or_path="somewhere", transformers_version="9")
    assert open_checkpoint(same).identity == open_checkpoint(llama_folder).identity
    edit_json(same / "config.json", rms_norm_eps=1e-3)
    assert open_checkpoint(same).identity != open_checkpoint(llama_folder).identity
    other = write_checkpoint(tmp_path / "other", seed=1)  # another training, equal headers
    assert open_checkpoint(other).identity != open_checkpoint(llama_folder).identity


@pytest.fixture
def broken(llama_folder, tmp_path):
    return shutil.copytree(llama_folder, tmp_path / "broken")


def first_shard(folder):
    return sorted(folder.glob("model-*.safetensors"))[0]


def truncate(folder):
    path = first_shard(folder)
    path.write_bytes(path.read_bytes()[:-10])


def truncate_header(folder):
    path = first_shard(folder)
    path.write_bytes(path.read_bytes()[:20])


def rename_tensor(folder):
    path = next(path for path in folder.glob("model-*.safetensors") if b"layers.1.mlp.up_proj" in path.read_bytes())
    path.write_bytes(path.read_bytes().replace(b"layers.1.mlp.up_proj", b"layers.1.mlp.xx_proj"))


BREAK = {
    "is truncated: ": truncate,
    "is truncated inside its header": truncate_header,
    "which is not there": lambda folder: first_shard(folder).unlink(),
    "no config.json": lambda folder: (folder / "config.json").unlink(),
    "config.json is not JSON": lambda folder: (folder / "config.json").write_text("{"),
    "unsupported architecture GPT2LMHeadModel": lambda folder: edit_json(
        folder / "config.json", architectures=["GPT2LMHeadModel"]
    ),
    "tensors are missing, the first is model.layers.4": lambda folder: edit_json(
        folder / "config.json", num_hidden_layers=5
    ),
    "have no place in the model, the first is model.layers.3": lambda folder: edit_json(
        folder / "config.json", num_hidden_layers=3
    ),
    r"down_proj.weight has shape \[32, 64\], config.json asks for \[32, 128\]": lambda folder: edit_json(
        folder / "config.json", intermediate_size=128
    ),
    "1 tensors are missing, the first is model.layers.1.mlp.up_proj": rename_tensor,
    "drop_attn names layer 9": lambda folder: edit_json(folder / "config.json", drop_attn_list=[9]),
}


@pytest.mark.parametrize("message", BREAK)
def test_a_broken_checkpoint_is_refused_by_name(broken, message):
    BREAK[message](broken)
    with pytest.raises(UserError, match=message):
        load_model(broken)


def test_a_folder_without_weights_says_what_it_holds(tmp_path):
    make_tokenizer().save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match=r"has no safetensors weights .* it holds config.json, tokenizer.json"):
        load_model(tmp_path)


def test_export_refuses_a_folder_with_something_in_it(llama_folder, tmp_path):
    (tmp_path / "mine.txt").write_text("")
    with pytest.raises(UserError, match="is not empty"):
        export_checkpoint(open_checkpoint(llama_folder), DropLists((0,), ()), tmp_path)


def test_a_deep_copy_of_a_dropped_configuration_keeps_its_lists(llama_folder):
    config = load_model(llama_folder, DropLists((1,), (2,))).config
    again = copy.deepcopy(config)
    assert (again.drop_attn_list, again.drop_mlp_list, again.model_type) == ([1], [2], "dropped_llama")
