"""Bases in FP8 and packed INT4: read as transformers dequantizes them, exported in their own bytes."""

import json
import logging
from dataclasses import dataclass

import pytest
import torch
from quantized_bases import BLOCK, KINDS, fp8_blocks, in_shards, write_quantized_base
from safetensors.torch import load_file, save_file
from tiny_models import edit_json, logits_of, token_ids, write_checkpoint
from transformers import AutoModelForCausalLM, CompressedTensorsConfig, FineGrainedFP8Config

import drop_ray
from drop_ray.errors import NotFiniteError, UserError
from drop_ray.models import registration
from drop_ray.models.accounting import measure
from drop_ray.models.checkpoint import open_checkpoint
from drop_ray.models.dropped import build_skeleton, read_config
from drop_ray.models.edited import edited
from drop_ray.models.export import export_checkpoint
from drop_ray.models.families import DropLists
from drop_ray.models.loading import Weights, load_model
from drop_ray.models.quantized_base.fp8 import scaled
from drop_ray.models.quantized_base.kinds import check_in_16_bits
from drop_ray.models.quantized_base.mxfp4 import Mxfp4
from drop_ray.models.quantized_base.reading import stored_width

DROPS = DropLists((1,), (2,))
IDS = token_ids(2, 24)
# Widths of DeepSeek-V3 that make blocks at an edge: 24 rows of `kv_a_proj_with_mqa`, as its 576 with blocks of 128.
CASES = [
    ("fp8", "LlamaForCausalLM"),
    ("fp8", "Qwen3MoeForCausalLM"),
    ("fp8 rows", "LlamaForCausalLM"),
    ("int4", "LlamaForCausalLM"),
    ("int4", "Qwen3MoeForCausalLM"),
]


def dequantized_by_transformers(folder, kind, dtype):
    """transformers' own load. Its model is the same whether or not the kernels of the kind are installed."""
    if kind == "fp8":
        own = FineGrainedFP8Config(dequantize=True, weight_block_size=(BLOCK, BLOCK))
    else:
        pytest.importorskip("compressed_tensors")
        own = CompressedTensorsConfig(**KINDS[kind][1], dequantize=True)
    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, quantization_config=own).eval()


# In float32, transformers multiplies packed experts in the type of their scales, bfloat16; all else once in float32.
@pytest.mark.parametrize(
    ("kind", "architecture", "dtype"),
    [*((*case, torch.bfloat16) for case in CASES), *((*case, torch.float32) for case in CASES[:-1])],
    ids=str,
)
def test_weights_are_bit_for_bit_what_transformers_dequantizes(tmp_path, kind, architecture, dtype):
    folder = write_quantized_base(tmp_path, kind, architecture)
    expected = dequantized_by_transformers(folder, kind, dtype).state_dict()
    found = load_model(folder, dtype=dtype).state_dict()
    for name, tensor in found.items():
        assert torch.equal(tensor, expected[name]), name
        assert tensor.dtype == dtype


@pytest.mark.parametrize(("kind", "architecture"), CASES)
def test_an_export_keeps_the_stored_bytes_and_loads_in_every_way(tmp_path, kind, architecture):
    base = open_checkpoint(write_quantized_base(tmp_path / "base", kind, architecture))
    export_checkpoint(base, DROPS, tmp_path / "out")
    exported = open_checkpoint(tmp_path / "out")
    assert exported.config["quantization_config"] == KINDS[kind][1]
    gone = base.tensors.keys() - exported.tensors.keys()
    assert any("scale" in name for name in gone)
    assert all("layers.1." in name or "layers.2." in name for name in gone)
    before, after = base.read(exported.tensors), exported.read(exported.tensors)
    assert all(after[name].view(torch.uint8).equal(before[name].view(torch.uint8)) for name in after)
    right = logits_of(load_model(base, DROPS), IDS)
    assert torch.equal(logits_of(drop_ray.load(tmp_path / "out"), IDS), right)
    if kind == "fp8":
        loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.bfloat16).eval()
        assert torch.equal(logits_of(loaded, IDS), right)


def test_deepseek_v3_with_blocks_cut_off_at_the_edge(tmp_path):
    """transformers 5.19 does not dequantize a grid of scales that does not divide its weight."""
    folder = write_quantized_base(tmp_path, "fp8", "DeepseekV3ForCausalLM")
    stored = load_file(folder / "model.safetensors")
    name = "model.layers.0.self_attn.kv_a_proj_with_mqa.weight"
    codes, scales = stored[name], stored[f"{name}_scale_inv"]
    assert (codes.shape, scales.shape) == ((24, 32), (2, 2))
    factors = scales.repeat_interleave(BLOCK, 0)[:24].repeat_interleave(BLOCK, 1)
    assert torch.equal(load_model(folder).state_dict()[name], (codes.float() * factors).bfloat16())
    export_checkpoint(open_checkpoint(folder), DROPS, tmp_path / "out")
    assert torch.equal(logits_of(load_model(tmp_path / "out"), IDS), logits_of(load_model(folder, DROPS), IDS))


def test_scales_may_lie_in_another_file_than_their_weights(tmp_path):
    folder = write_quantized_base(tmp_path)
    right = logits_of(load_model(folder), IDS)
    in_shards(folder)
    assert torch.equal(logits_of(load_model(folder), IDS), right)


def test_a_layer_is_read_alone(tmp_path):
    """So a sweep that streams holds two layers, in 16 bits."""
    checkpoint = open_checkpoint(write_quantized_base(tmp_path))
    skeleton = build_skeleton(read_config(checkpoint), DropLists(), torch.bfloat16)
    asked = []
    weights = Weights(skeleton, checkpoint)
    source = weights._checkpoint
    object.__setattr__(source, "stored", _Recorded(source.stored, asked))
    tensors = weights.read(skeleton.model.layers[1], "model.layers.1.")
    assert {name.split(".")[2] for name in asked} == {"1"}
    assert sum(name.endswith("_scale_inv") for name in asked) == 7
    assert {tensor.dtype for tensor in tensors.values()} == {torch.bfloat16}


class _Recorded:
    def __init__(self, checkpoint, asked):
        self.tensors, self._checkpoint, self._asked = checkpoint.tensors, checkpoint, asked

    def read(self, names):
        names = list(names)
        self._asked += names
        return self._checkpoint.read(names)


@pytest.mark.parametrize("shape", [(32, 48), (24, 40), (3, 24, 40)], ids=str)
def test_a_scale_multiplies_its_block(shape):
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    matrices = [fp8_blocks(matrix) for matrix in weight.reshape(-1, *shape[-2:])]
    codes = torch.stack([codes for codes, _ in matrices]).reshape(shape)
    scales = torch.stack([scales for _, scales in matrices]).reshape(*shape[:-2], *matrices[0][1].shape)
    found = scaled(codes, scales, (BLOCK, BLOCK), torch.float32)
    assert ((found - weight).abs() <= weight.abs() / 16 + 0.01).all()
    for index in ((0, 0), (shape[-2] - 1, shape[-1] - 1), (17, 31)):
        index = (*[0] * (len(shape) - 2), *index)
        block = (*index[:-2], index[-2] // BLOCK, index[-1] // BLOCK)
        assert found[index] == codes[index].float() * scales[block]


def test_a_scale_of_the_whole_tensor_and_scales_of_rows():
    codes = torch.tensor([[1.0, 2.0], [3.0, 4.0]]).to(torch.float8_e4m3fn)
    for scale in (torch.tensor(2.0), torch.tensor([2.0]), torch.tensor([[2.0]])):
        assert scaled(codes, scale, None, torch.float32).tolist() == [[2, 4], [6, 8]]
    for rows in (torch.tensor([1.0, 10.0]), torch.tensor([[1.0], [10.0]])):
        assert scaled(codes, rows, None, torch.float32).tolist() == [[1, 2], [30, 40]]
    powers = torch.tensor([[2.0], [0.5]]).to(torch.float8_e8m0fnu)
    assert scaled(codes, powers, None, torch.float32).tolist() == [[2, 4], [1.5, 2]]
    with pytest.raises(ValueError, match="a grid of 2 x 3 scales does not fit a weight of 2 x 2"):
        scaled(codes, torch.ones(2, 3), None, torch.float32)


def test_mxfp4_is_what_transformers_makes_of_it():
    from transformers.integrations.mxfp4 import convert_moe_packed_tensors

    generator = torch.Generator().manual_seed(0)
    blocks = torch.randint(0, 256, (3, 10, 2, 16), generator=generator).to(torch.uint8)
    scales = torch.randint(100, 150, (3, 10, 2), generator=generator).to(torch.uint8)
    parts = {"_blocks": blocks, "_scales": scales}
    for dtype in (torch.bfloat16, torch.float32):
        found = Mxfp4().weight(parts, dtype)
        assert torch.equal(found, convert_moe_packed_tensors(blocks.clone(), scales.clone(), dtype=dtype))
    assert found.shape == (3, 64, 10)
    # One byte is two codes, the lower four bits first: 0x2F is -6 and 1, times 2 to the power of 128 - 127.
    one = {"_blocks": torch.tensor([[[[0x2F]]]], dtype=torch.uint8), "_scales": torch.tensor([[[128]]]).byte()}
    assert Mxfp4().weight(one, torch.float32).flatten().tolist() == [-12.0, 2.0]


def test_a_base_without_its_scales_is_refused_by_the_tensors_name(tmp_path):
    folder = write_quantized_base(tmp_path)
    tensors = load_file(folder / "model.safetensors")
    name = "model.layers.1.mlp.up_proj.weight"
    save_file(
        {key: value for key, value in tensors.items() if key != f"{name}_scale_inv"}, folder / "model.safetensors"
    )
    with pytest.raises(UserError, match=f"{name} cannot be read: its scale is absent; is this checkpoint complete"):
        load_model(folder)
    save_file({key: value for key, value in tensors.items() if key != name}, folder / "model.safetensors")
    with pytest.raises(UserError, match=f"{name} cannot be read: its weight is absent"):
        load_model(folder)
    save_file({**tensors, f"{name}_scale_inv": torch.ones(3, 3)}, folder / "model.safetensors")
    with pytest.raises(
        UserError, match=f"{name} cannot be read: a grid of 3 x 3 scales does not fit a weight of 64 x 32"
    ):
        load_model(folder)


def test_a_code_that_is_not_a_number_stops_an_export(tmp_path):
    folder = write_quantized_base(tmp_path / "base")
    tensors = load_file(folder / "model.safetensors")
    codes = tensors["model.layers.3.mlp.up_proj.weight"].view(torch.uint8)
    codes[0, 0] = 0x7F
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(NotFiniteError, match="layers.3.mlp.up_proj.weight holds NaN"):
        export_checkpoint(open_checkpoint(folder), DROPS, tmp_path / "out")


REFUSED = {
    r"quantized already \(bitsandbytes\); give its 16-bit checkpoint": {"quant_method": "bitsandbytes"},
    r"quantized already \(awq\); give its 16-bit checkpoint": {"quant_method": "awq", "bits": 4},
    r"quantized already \(an unknown method\)": {"bits": 4},
    "format is nvfp4-pack-quantized; pack-quantized and float-quantized are read; give": {
        "quant_method": "compressed-tensors",
        "format": "nvfp4-pack-quantized",
    },
    "format is not stated": {"quant_method": "compressed-tensors"},
    "zero points": {
        **KINDS["int4"][1],
        "config_groups": {"a": {"weights": {"type": "int", "num_bits": 4, "symmetric": False}}},
    },
    "weights of 3 bits; 4 and 8 are read": {
        **KINDS["int4"][1],
        "config_groups": {"a": {"weights": {"type": "int", "num_bits": 3}}},
    },
    r"weight_block_size is \[0, 16\]; it is a list of two sizes": {"quant_method": "fp8", "weight_block_size": [0, 16]},
}


@pytest.mark.parametrize("message", REFUSED)
def test_kinds_that_are_not_read_are_refused_with_the_remedy(tmp_path, message):
    folder = write_checkpoint(tmp_path)
    edit_json(folder / "config.json", quantization_config=REFUSED[message])
    with pytest.raises(UserError, match=message):
        load_model(folder)


def test_a_plain_export_numbers_the_modules_that_are_not_quantized_anew(tmp_path):
    folder = write_quantized_base(tmp_path / "base")
    names = ["lm_head", "model.layers.1.mlp.gate", "model.layers.3.mlp.gate", "re:.*layers.3.*"]
    fields = {**KINDS["fp8"][1], "modules_to_not_convert": names}
    edit_json(folder / "config.json", quantization_config=fields)
    export_checkpoint(open_checkpoint(folder), DropLists((1,), (1,)), tmp_path / "plain", format="plain")
    written = json.loads((tmp_path / "plain" / "config.json").read_text())["quantization_config"]
    assert written["modules_to_not_convert"] == ["lm_head", "model.layers.2.mlp.gate", "re:.*layers.3.*"]
    right = logits_of(load_model(folder, DropLists((1,), (1,))), IDS)
    assert torch.equal(logits_of(load_model(tmp_path / "plain"), IDS), right)


@dataclass
class _Halved:
    wanted: str

    def edits(self, name):
        return name == self.wanted

    def edit(self, name, tensor):
        return tensor / 2


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize(("kind", "field"), [("fp8", "modules_to_not_convert"), ("int4", "ignore")])
def test_a_changed_weight_lies_in_16_bits_beside_the_others(tmp_path, kind, field, apart):
    folder = write_quantized_base(tmp_path / "base", kind)
    if apart:
        in_shards(folder)
    name = "model.layers.3.mlp.down_proj.weight"
    base = open_checkpoint(folder)
    changed = edited(base, [_Halved(name), _Halved("model.norm.weight")])
    before, after = (load_model(one, DROPS).state_dict() for one in (base, changed))
    for key, tensor in after.items():
        assert torch.equal(tensor, before[key] / 2 if key in (name, "model.norm.weight") else before[key]), key

    export_checkpoint(changed, DROPS, tmp_path / "out")
    exported = open_checkpoint(tmp_path / "out")
    assert exported.config["quantization_config"][field] == [
        *KINDS[kind][1].get(field, ()),
        name.removesuffix(".weight"),
    ]
    assert [part for part in exported.tensors if "layers.3.mlp.down_proj" in part] == [name]
    assert exported.tensors[name].dtype == "BF16"
    kept = exported.tensors.keys() - {name, "model.norm.weight"}
    stored, written = base.read(kept), exported.read(kept)
    assert all(written[key].view(torch.uint8).equal(stored[key].view(torch.uint8)) for key in kept)
    right = logits_of(load_model(changed, DROPS), IDS)
    assert torch.equal(logits_of(load_model(tmp_path / "out"), IDS), right)
    registration.register()
    assert torch.equal(logits_of(dequantized_by_transformers(tmp_path / "out", kind, torch.bfloat16), IDS), right)


def test_an_edit_of_no_tensor_is_refused(tmp_path):
    checkpoint = open_checkpoint(write_quantized_base(tmp_path))
    with pytest.raises(UserError, match="changes no tensor of"):
        edited(checkpoint, [_Halved("model.layers.3.mlp.down_proj.weight_scale_inv")])
    assert edited(checkpoint, [_Halved("model.norm.weight")]).config == checkpoint.config


def test_quantizing_a_quantized_base_anew_is_refused(tmp_path):
    checkpoint = open_checkpoint(write_quantized_base(tmp_path))
    with pytest.raises(UserError, match=r"quantization: changes weights, and those of .* \(fp8\); give model.path"):
        check_in_16_bits(checkpoint.config, checkpoint.location, "quantization")


def test_the_bytes_that_are_stored_are_counted_with_their_scales(tmp_path):
    checkpoint = open_checkpoint(write_quantized_base(tmp_path))
    skeleton = build_skeleton(read_config(checkpoint), DropLists(), torch.bfloat16)
    parameters = measure(skeleton).parameters
    size = (tmp_path / "model.safetensors").stat().st_size
    assert 1 < stored_width(checkpoint, parameters) < 2
    assert stored_width(checkpoint, parameters) * parameters == pytest.approx(size, rel=0.2)


def test_gguf_files_are_told_apart_from_a_folder_without_a_model(tmp_path):
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    with pytest.raises(
        UserError, match="holds GGUF files, .* give the transformers checkpoint that they were made from"
    ):
        open_checkpoint(tmp_path)


@pytest.fixture(autouse=True)
def _without_warnings_of_kernels(caplog):
    caplog.set_level(logging.ERROR, logger="transformers")
