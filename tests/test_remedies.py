"""Remedies that errors print, each followed to its end: what comes of it gives the logits of the model meant."""

import json
import re
from pathlib import Path

import pytest
import torch
import transformers
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tiny_models import edit_json, logits_of, make_model, token_ids, write_checkpoint
from tiny_wrappers import WRAPPED, write_wrapper
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

from drop_ray.cli import main
from drop_ray.errors import UserError
from drop_ray.models.checkpoint import check_no_wrapper, open_checkpoint
from drop_ray.models.dropped import read_config
from drop_ray.models.families import FAMILIES, REMEDIES, architecture_of
from drop_ray.models.loading import WRAPPERS, load_model

IDS = token_ids(2, 24)


def remedy_of(folder: Path) -> str:
    with pytest.raises(UserError) as error:
        architecture_of(open_checkpoint(folder).config, str(folder))
    return str(error.value)


@pytest.mark.parametrize(
    "name", [name if name in ("gemma3", "qwen3_vl") else pytest.param(name, marks=pytest.mark.full) for name in WRAPPED]
)
def test_the_language_model_of_a_multimodal_checkpoint_is_written_by_the_command_that_errors_name(tmp_path, name):
    folder, output = write_wrapper(tmp_path / "wrapper", name, "1GB"), tmp_path / "text"
    with pytest.raises(UserError) as error:
        check_no_wrapper(open_checkpoint(folder), "quantization")
    command = re.search(r"drop-ray (import \S+ OUTPUT)$", str(error.value))
    assert main([output.as_posix() if word == "OUTPUT" else word for word in command[1].split()]) == 0
    whole = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    # Its own class: transformers lists that of Mistral 4 for no AutoModelForCausalLM.
    own = getattr(transformers, json.loads((output / "config.json").read_text())["architectures"][0])
    alone, report = own.from_pretrained(output, dtype=torch.float32, output_loading_info=True)
    assert not any(report.values())
    assert torch.equal(logits_of(alone.eval(), IDS), logits_of(whole, IDS))
    written, given = load_file(output / "model.safetensors"), load_file(folder / "model.safetensors")
    assert {tensor.numpy().tobytes() for tensor in written.values()} <= {
        tensor.numpy().tobytes() for tensor in given.values()
    }
    assert torch.equal(logits_of(load_model(output), IDS), logits_of(whole, IDS))


def test_a_language_model_that_lacks_a_tensor_is_not_written(tmp_path):
    folder = write_wrapper(tmp_path / "wrapper", "gemma3", "1GB")
    tensors = load_file(folder / "model.safetensors")
    name = next(name for name in tensors if name.endswith("language_model.model.layers.1.mlp.up_proj.weight"))
    save_file({key: value for key, value in tensors.items() if key != name}, folder / "model.safetensors")
    assert main(["import", str(folder), str(tmp_path / "text")]) == 2
    assert not (tmp_path / "text").exists()


def test_no_remedy_is_printed_where_transformers_has_no_class_for_the_language_model(tmp_path, llama_folder):
    fields = json.loads((llama_folder / "config.json").read_text())
    wrapper = {
        "architectures": ["Qwen3VLMoeForConditionalGeneration"],
        "text_config": {"model_type": "qwen3_vl_moe_text"},
    }
    (tmp_path / "config.json").write_text(json.dumps({**fields, **wrapper}))
    with pytest.raises(UserError, match="has no class for its language model alone; give another model") as error:
        architecture_of(open_checkpoint(tmp_path, weights=False).config, "here")
    assert "drop-ray import" not in str(error.value)


def test_every_architecture_with_a_remedy_is_in_a_test():
    assert {*REMEDIES} == {"BaichuanForCausalLM", "BaiChuanForCausalLM", "YiForCausalLM", "SolarForCausalLM"}


@pytest.mark.parametrize("name", ["BaichuanForCausalLM", "BaiChuanForCausalLM"])
def test_baichuan_is_imported_by_the_command_that_the_error_names(tmp_path, name):
    """tests/importing compares its logits with those of its own code."""
    write_checkpoint(tmp_path)
    edit_json(tmp_path / "config.json", architectures=[name])
    assert remedy_of(tmp_path).endswith(f"convert it first: drop-ray import {tmp_path} OUTPUT")


def test_yi_with_llamas_tensors_is_a_llama_once_config_json_says_so(tmp_path):
    folder = write_checkpoint(tmp_path)
    right = logits_of(load_model(folder), IDS)
    edit_json(folder / "config.json", architectures=["YiForCausalLM"], model_type="Yi")
    fields = re.search(r"set architectures to (\[.*\]) and model_type to (\".*\") in config.json", remedy_of(folder))
    edit_json(folder / "config.json", architectures=json.loads(fields[1]), model_type=json.loads(fields[2]))
    assert torch.equal(logits_of(load_model(folder), IDS), right)


def test_solar_10_7b_is_a_llama_as_the_error_says():
    assert "SOLAR-10.7B (LlamaForCausalLM) is supported" in REMEDIES["SolarForCausalLM"]
    assert "SOLAR-10.7B" in FAMILIES["LlamaForCausalLM"].models


@pytest.mark.parametrize(
    "prefix", ["module.", pytest.param("_orig_mod.", marks=pytest.mark.full, id="_orig_mod. (seconds of imports)")]
)
def test_a_saved_wrapper_of_torch_is_mended_as_the_error_says(tmp_path, prefix):
    model = make_model()
    right = logits_of(model, IDS)
    wrapped = torch.compile(model) if prefix == "_orig_mod." else torch.nn.DataParallel(model)
    folder = write_checkpoint(tmp_path, shard_size="1GB")
    save_file({name: tensor.clone() for name, tensor in wrapped.state_dict().items()}, folder / "model.safetensors")
    with pytest.raises(UserError) as error:
        load_model(folder)
    assert WRAPPERS[prefix] in str(error.value)
    inner = wrapped._orig_mod if prefix == "_orig_mod." else wrapped.module
    inner.save_pretrained(folder)
    assert torch.equal(logits_of(load_model(folder), IDS), right)


def test_a_rope_of_the_type_su_is_longrope_once_config_json_says_so(tmp_path):
    folder = write_checkpoint(tmp_path, "Phi3ForCausalLM")
    factors = {"short_factor": [1.0, 1.5, 2.0, 2.5], "long_factor": [1.0, 1.5, 2.0, 2.5]}
    fields = json.loads((folder / "config.json").read_text())
    del fields["rope_parameters"]
    fields |= {"rope_theta": 10000.0, "original_max_position_embeddings": 64}
    (folder / "config.json").write_text(json.dumps({**fields, "rope_scaling": {**factors, "type": "su"}}))
    with pytest.raises(UserError, match="called longrope now; write that"):
        open_checkpoint(folder)
    edit_json(folder / "config.json", rope_scaling={**factors, "type": "longrope"})
    assert read_config(open_checkpoint(folder)).rope_parameters["rope_type"] == "longrope"
    expected = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    assert torch.equal(logits_of(load_model(folder), IDS), logits_of(expected, IDS))


def test_bin_files_become_safetensors_by_import(tmp_path):
    folder = write_checkpoint(tmp_path / "model", shard_size="1GB")
    right = logits_of(load_model(folder), IDS)
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    assert main(["import", str(folder), str(tmp_path / "out")]) == 0
    with safe_open(tmp_path / "out" / "model.safetensors", "pt") as file:
        assert [*file.keys()]
    assert torch.equal(logits_of(load_model(tmp_path / "out"), IDS), right)
