"""What identifies a checkpoint, and broken ones that are refused by name."""

import copy
import shutil

import pytest
from tiny_models import edit_json, make_tokenizer, write_checkpoint

from drop_ray.errors import UserError
from drop_ray.models.checkpoint import open_checkpoint
from drop_ray.models.export import export_checkpoint
from drop_ray.models.families import DropLists
from drop_ray.models.loading import load_model


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
    "config.json: is not JSON": lambda folder: (folder / "config.json").write_text("{"),
    "tensors are missing, the first is model.layers.4": lambda folder: edit_json(
        folder / "config.json", num_hidden_layers=5
    ),
    "have no place in the model, the first is model.layers.3": lambda folder: edit_json(
        folder / "config.json", num_hidden_layers=3
    ),
    r"down_proj.weight has shape \[32, 64\], config.json asks for \[32, 128\]": lambda folder: edit_json(
        folder / "config.json", intermediate_size=128
    ),
    "lacks model.layers.1.mlp.up_proj.weight, which the index says is in it": rename_tensor,
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
    with pytest.raises(UserError, match=r"has no weights .* it holds config.json, tokenizer.json"):
        load_model(tmp_path)


def test_export_refuses_a_folder_with_something_in_it(llama_folder, tmp_path):
    (tmp_path / "mine.txt").write_text("")
    with pytest.raises(UserError, match="is not empty"):
        export_checkpoint(open_checkpoint(llama_folder), DropLists((0,), ()), tmp_path)


def test_a_deep_copy_of_a_dropped_configuration_keeps_its_lists(llama_folder):
    config = load_model(llama_folder, DropLists((1,), (2,))).config
    again = copy.deepcopy(config)
    assert (again.drop_attn_list, again.drop_mlp_list, again.model_type) == ([1], [2], "dropped_llama")
