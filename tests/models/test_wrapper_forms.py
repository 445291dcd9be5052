"""Multimodal checkpoints in every format of an export, as the hub has them, and what of them is refused."""

import copy
import json

import pytest
import torch
from in_process import Scale
from quantized_bases import BLOCK as BLOCK_SIZE
from quantized_bases import KINDS, fp8_blocks
from safetensors.torch import load_file, save_file
from tiny_models import edit_json, make_tokenizer, token_ids
from tiny_wrappers import image_and_text, make_wrapper, outputs, silenced, write_wrapper
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    FineGrainedFP8Config,
    PaliGemmaConfig,
)
from transformers import PaliGemmaForConditionalGeneration as PaliGemma

import drop_ray
from drop_ray.cli import main
from drop_ray.config import parse_config
from drop_ray.errors import UserError
from drop_ray.job.opening import open_job
from drop_ray.models.checkpoint import open_checkpoint
from drop_ray.models.edited import edited
from drop_ray.models.export import export_checkpoint, weight_file_bytes
from drop_ray.models.families import DropLists
from drop_ray.models.loading import load_model
from drop_ray.models.probe import check_architecture
from drop_ray.planning.inspection import inspect_model
from drop_ray.text.units import human_bytes, human_count

TEXT = {"input_ids": token_ids(2, 24)}
BLOCK = DropLists((2,), (2,))


def load(folder):
    model, report = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    assert not any(report.values())
    return copy.deepcopy(model).eval()


def read(folder):
    return {name: tensor for path in sorted(folder.glob("*.safetensors")) for name, tensor in load_file(path).items()}


@pytest.fixture(scope="module")
def gemma(tmp_path_factory):
    return write_wrapper(tmp_path_factory.mktemp("gemma3"), "gemma3")


@pytest.fixture
def copied(gemma, tmp_path):
    """One file of weights, which a test may change."""
    model = make_wrapper("gemma3")
    model.save_pretrained(tmp_path / "copied")
    make_tokenizer().save_pretrained(tmp_path / "copied")
    return tmp_path / "copied"


def test_without_a_whole_block_it_is_a_plain_wrapper_with_fewer_layers(gemma, tmp_path):
    export_checkpoint(open_checkpoint(gemma), BLOCK, tmp_path / "plain", format="plain")
    config = json.loads((tmp_path / "plain" / "config.json").read_text())
    assert (config["model_type"], config["architectures"]) == ("gemma3", ["Gemma3ForConditionalGeneration"])
    assert config["text_config"]["num_hidden_layers"] == 3
    assert config["vision_config"]["num_hidden_layers"] == 4
    assert not (tmp_path / "plain" / "modeling_dropped.py").exists()
    image = image_and_text("gemma3")
    assert torch.equal(outputs(load(tmp_path / "plain"), image), outputs(silenced(load(gemma), BLOCK), image))


def test_a_plain_wrapper_keeps_the_layers_that_image_features_are_added_behind(tmp_path):
    """The tiny Qwen3-VL has two of them."""
    write_wrapper(tmp_path / "base", "qwen3_vl")
    base = open_checkpoint(tmp_path / "base")
    with pytest.raises(UserError, match="image features are added behind each of the first 2 layers, by their numbers"):
        export_checkpoint(base, DropLists((1,), (1,)), tmp_path / "plain", format="plain")
    export_checkpoint(base, BLOCK, tmp_path / "plain", format="plain")
    image = image_and_text("qwen3_vl")
    assert torch.equal(
        outputs(load(tmp_path / "plain"), image), outputs(silenced(load(tmp_path / "base"), BLOCK), image)
    )


def test_the_paper_s_formats_have_the_wrappers_own_type_and_its_lists_inside(gemma, tmp_path):
    for format in ("llm-drop", "config-only"):
        export_checkpoint(open_checkpoint(gemma), BLOCK, tmp_path / format, format=format)
        config = json.loads((tmp_path / format / "config.json").read_text())
        assert (config["model_type"], config["text_config"]["drop_attn_list"]) == ("gemma3", [2])
        assert "AutoModelForImageTextToText" in config["auto_map"]
    assert read(tmp_path / "llm-drop").keys() == read(gemma).keys()
    assert not [*(tmp_path / "config-only").glob("*.safetensors")]
    again = open_checkpoint(tmp_path / "llm-drop")
    assert torch.equal(outputs(load_model(again), TEXT), outputs(silenced(load(gemma), BLOCK), TEXT))


def test_a_config_with_the_language_models_fields_beside_the_towers_is_read(tmp_path):
    """As that of Qwen2.5-VL on the hub, which has no `text_config`."""
    folder = write_wrapper(tmp_path / "base", "qwen2_5_vl")
    config = json.loads((folder / "config.json").read_text())
    text = config.pop("text_config")
    del text["model_type"]
    text["rope_theta"], rope = text["rope_parameters"]["rope_theta"], text.pop("rope_parameters")
    flat = {**text, **config, "rope_scaling": {"type": "mrope", "mrope_section": rope["mrope_section"]}}
    (folder / "config.json").write_text(json.dumps(flat))
    full = load(folder)
    assert torch.equal(outputs(load_model(folder), TEXT), outputs(full, TEXT))
    export_checkpoint(open_checkpoint(folder), BLOCK, tmp_path / "dropped")
    assert AutoConfig.from_pretrained(tmp_path / "dropped").text_config.drop_attn_list == [2]
    image = image_and_text("qwen2_5_vl")
    assert torch.equal(outputs(load(tmp_path / "dropped"), image), outputs(silenced(full, BLOCK), image))


def test_a_stored_head_unlike_the_embedding_is_the_models(copied, tmp_path):
    """config.json ties them, as the defaults of most wrappers do; transformers looks at the weights."""
    tensors = load_file(copied / "model.safetensors")
    tensors["language_model.lm_head.weight"] = tensors["language_model.model.embed_tokens.weight"] + 1
    save_file(tensors, copied / "model.safetensors")
    assert torch.equal(outputs(load_model(copied), TEXT), outputs(load(copied), TEXT))
    export_checkpoint(open_checkpoint(copied), BLOCK, tmp_path / "dropped")
    assert json.loads((tmp_path / "dropped" / "config.json").read_text())["tie_word_embeddings"] is False
    assert torch.equal(outputs(load(tmp_path / "dropped"), TEXT), outputs(silenced(load(copied), BLOCK), TEXT))


def test_a_wrapper_in_fp8_is_read_in_16_bits_and_exported_as_it_is_stored(tmp_path):
    """As Mistral Small 4 and Qwen3.5 FP8: its language model alone is quantized."""
    folder = write_wrapper(tmp_path / "base", "mistral3", shard_size="1GB")
    tensors = load_file(folder / "model.safetensors")
    for name in [name for name in tensors if "language_model.model.layers" in name and name.endswith("proj.weight")]:
        tensors[name], tensors[f"{name}_scale_inv"] = fp8_blocks(tensors[name])
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    left = ["model.vision_tower", "model.multi_modal_projector", "lm_head"]
    stored = {**KINDS["fp8"][1], "modules_to_not_convert": left}
    edit_json(folder / "config.json", quantization_config=stored)
    export_checkpoint(open_checkpoint(folder), BLOCK, tmp_path / "dropped")
    assert json.loads((tmp_path / "dropped" / "config.json").read_text())["quantization_config"] == stored
    written = load_file(tmp_path / "dropped" / "model.safetensors")
    assert all(torch.equal(written[name].view(torch.uint8), tensors[name].view(torch.uint8)) for name in written)
    assert sum(name.endswith("_scale_inv") for name in written) == 3 * 7
    own = FineGrainedFP8Config(dequantize=True, weight_block_size=(BLOCK_SIZE, BLOCK_SIZE), modules_to_not_convert=left)
    expected, found = (
        AutoModelForImageTextToText.from_pretrained(each, dtype=torch.float32, quantization_config=own).eval()
        for each in (folder, tmp_path / "dropped")
    )
    image = image_and_text("mistral3")
    silenced(expected, BLOCK)
    assert torch.equal(outputs(copy.deepcopy(found), image), outputs(copy.deepcopy(expected), image))
    assert torch.equal(outputs(load_model(tmp_path / "dropped"), TEXT), outputs(copy.deepcopy(expected), TEXT))


def test_a_changed_tensor_of_the_language_model_is_exported_changed(gemma, tmp_path):
    name = "model.layers.0.mlp.down_proj.weight"
    export_checkpoint(edited(open_checkpoint(gemma), [Scale(name, 2)]), BLOCK, tmp_path / "dropped")
    before, after = read(gemma), read(tmp_path / "dropped")
    changed = {each for each in after if not torch.equal(after[each], before[each])}
    assert changed == {f"language_model.{name}"}
    assert torch.equal(after[f"language_model.{name}"], before[f"language_model.{name}"] * 2)


def test_a_wrapper_that_lacks_a_tensor_of_its_tower_is_not_exported(copied, tmp_path):
    tensors = load_file(copied / "model.safetensors")
    name = next(name for name in tensors if "vision_tower" in name)
    save_file({key: value for key, value in tensors.items() if key != name}, copied / "model.safetensors")
    with pytest.raises(
        UserError, match="1 tensors of a Gemma3ForConditionalGeneration are missing, the first is model.vis"
    ):
        export_checkpoint(open_checkpoint(copied), BLOCK, tmp_path / "dropped")
    assert not (tmp_path / "dropped").exists()


def test_its_towers_are_part_of_its_identity_and_of_its_size(copied):
    before = open_checkpoint(copied)
    identity = before.identity
    alone = sum(tensor.num_bytes for tensor in before.tensors.values())
    stored = sum(tensor.numel() * 4 for tensor in load_file(copied / "model.safetensors").values())
    assert before.tower_bytes == stored - alone > 0
    assert weight_file_bytes(before, DropLists(), torch.float32) == (copied / "model.safetensors").stat().st_size
    tensors = load_file(copied / "model.safetensors")
    name = next(name for name in tensors if "vision_tower" in name)
    save_file({**tensors, name: tensors[name] + 1}, copied / "model.safetensors")
    assert open_checkpoint(copied).identity != identity


def test_its_language_model_alone_is_imported_dropped_or_not(gemma, tmp_path):
    export_checkpoint(open_checkpoint(gemma), BLOCK, tmp_path / "dropped")
    for source in (gemma, tmp_path / "dropped"):
        output = tmp_path / f"alone-{source.name}"
        assert main(["import", str(source), str(output)]) == 0
        alone, report = AutoModelForCausalLM.from_pretrained(output, dtype=torch.float32, output_loading_info=True)
        assert not any(report.values())
        assert torch.equal(outputs(copy.deepcopy(alone).eval(), TEXT), outputs(load(source), TEXT))
        assert not any("vision" in name for name in read(output))


def test_inspection_says_what_it_is_part_of_and_counts_the_towers(gemma, tmp_path):
    export_checkpoint(open_checkpoint(gemma), BLOCK, tmp_path / "dropped")
    count = sum(tensor.numel() for name, tensor in read(gemma).items() if "language_model" not in name)
    for folder in (gemma, tmp_path / "dropped"):
        lines = str(inspect_model(str(folder)))
        assert "a Gemma3ForConditionalGeneration, of whose language model all that follows is" in lines
        assert f"{human_count(count)} parameters, {human_bytes(2 * count)} in 16 bits; they stay" in lines
        assert " of them its towers'" in lines


@pytest.mark.full
def test_a_wrapper_that_no_test_covers_is_exported_if_it_is_allowed(tmp_path):
    text = {"model_type": "gemma", **{"vocab_size": 300, "hidden_size": 32, "intermediate_size": 64, "head_dim": 8}}
    text |= {"num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2, "pad_token_id": 0}
    tower = {"model_type": "siglip_vision_model", "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
    tower |= {"num_attention_heads": 2, "image_size": 8, "patch_size": 4, "vision_use_head": False}
    torch.manual_seed(0)
    PaliGemma(PaliGemmaConfig(text_config=text, vision_config=tower, projection_dim=32)).save_pretrained(
        tmp_path / "base"
    )
    base = open_checkpoint(tmp_path / "base")
    check_architecture(base, allow_unlisted=True)
    export_checkpoint(base, BLOCK, tmp_path / "dropped")
    assert torch.equal(
        outputs(load(tmp_path / "dropped"), TEXT), outputs(silenced(load(tmp_path / "base"), BLOCK), TEXT)
    )


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"quantization": [{"method": "gptq"}]}, "quantization"),
        ({"evaluation": {"backend": "vllm"}}, "evaluation.backend: vllm"),
        ({"serving": {"engine": "vllm"}}, "serving.engine: vllm"),
    ],
)
def test_what_takes_the_language_model_alone_is_refused_with_the_way_to_it(gemma, tmp_path, fields, what):
    (tmp_path / "text.txt").write_text("a text\n\n" * 50)
    config = {
        "name": "wrapper",
        "model": {"path": str(gemma), "dtype": "float32"},
        "calibration": {"source": str(tmp_path / "text.txt"), "num_samples": 20, "seq_len": 8},
        "store": str(tmp_path / "store"),
        **fields,
    }
    with pytest.raises(UserError, match=f"{what} is for language models alone, .* is a Gemma3For.*: drop-ray import"):
        open_job(parse_config(config, "test"))


def test_a_wrong_value_inside_is_named_with_its_place(copied):
    config = json.loads((copied / "config.json").read_text())
    edit_json(copied / "config.json", text_config={**config["text_config"], "num_hidden_layers": "many"})
    with pytest.raises(UserError, match="config.json: text_config: num_hidden_layers is 'many', which is not a whole"):
        drop_ray.load(copied)
    edit_json(copied / "config.json", text_config={**config["text_config"], "layer_types": ["sliding_attention"]})
    with pytest.raises(UserError, match="config.json: text_config"):
        drop_ray.load(copied)
    for field, value in (("depth", 10**9), ("num_hidden_layers", "many"), ("patch_size", "x")):
        edit_json(copied / "config.json", text_config=config["text_config"], vision_config={field: value})
        with pytest.raises(UserError, match=field):
            drop_ray.load(copied)
