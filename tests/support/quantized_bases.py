"""Writes tiny checkpoints whose files are quantized, tensor by tensor as the hub has them."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tiny_models import edit_json, write_checkpoint

BLOCK = 16
FP8_LARGEST = torch.finfo(torch.float8_e4m3fn).max
# Linears that no publisher quantizes.
LEFT = ("embed_tokens", "lm_head", "norm", "mlp.gate.")


def fp8_blocks(weight, block=BLOCK):
    """Codes and scales of blocks; those at the lower and right edge may be cut off."""
    rows, columns = weight.shape
    grid = -(-rows // block), -(-columns // block)
    padded = torch.zeros(grid[0] * block, grid[1] * block)
    padded[:rows, :columns] = weight
    blocks = padded.view(grid[0], block, grid[1], block)
    scales = blocks.abs().amax((1, 3)).clamp(min=1e-6) / FP8_LARGEST
    codes = (blocks / scales[:, None, :, None]).view(padded.shape)[:rows, :columns]
    return codes.to(torch.float8_e4m3fn).contiguous(), scales


def int4_groups(weight, group=BLOCK):
    """Packed words, scales and shape, as compressed-tensors packs them: the first code in the lowest bits."""
    rows, columns = weight.shape
    groups = weight.view(rows, columns // group, group)
    scales = (groups.abs().amax(-1).clamp(min=1e-6) / 7).bfloat16()
    codes = (groups / scales.float()[..., None]).round().clamp(-8, 7).view(rows, columns).int() + 8
    words = (codes.view(rows, columns // 8, 8) << torch.arange(0, 32, 4)).sum(-1).int()
    return words, scales, torch.tensor([rows, columns])


def mxfp4_groups(weight, group=32):
    """Blocks and scales of experts [experts, inputs, outputs]: pairs of 4-bit floats, the first in the lower bits."""
    experts, inputs, outputs = weight.shape
    groups = weight.transpose(1, 2).reshape(experts, outputs, inputs // group, group)
    exponents = (groups.abs().amax(-1).clamp(min=1e-6) / 6).log2().ceil()
    levels = torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0])
    values = groups / exponents.exp2()[..., None]
    codes = (values.abs()[..., None] - levels).abs().argmin(-1) + 8 * (values < 0)
    pairs = codes.view(*codes.shape[:-1], group // 2, 2)
    return (pairs[..., 0] | pairs[..., 1] << 4).to(torch.uint8), (exponents + 127).to(torch.uint8)


def _mxfp4(name, weight):
    blocks, scales = mxfp4_groups(weight)
    return {f"{name}_blocks": blocks, f"{name}_scales": scales}


def _fp8(name, weight):
    codes, scales = fp8_blocks(weight)
    return {name: codes, f"{name}_scale_inv": scales}


def _fp8_rows(name, weight):
    scales = weight.abs().amax(1, keepdim=True).clamp(min=1e-6) / FP8_LARGEST
    return {name: (weight / scales).to(torch.float8_e4m3fn), f"{name}_scale": scales.bfloat16()}


def _int4(name, weight):
    words, scales, shape = int4_groups(weight)
    return {f"{name}_packed": words, f"{name}_scale": scales, f"{name}_shape": shape}


def _compressed(format, weights):
    groups = {"group_0": {"targets": ["Linear"], "weights": weights, "input_activations": None}}
    return {
        "quant_method": "compressed-tensors",
        "format": format,
        "quantization_status": "compressed",
        "config_groups": groups,
        "ignore": ["lm_head", "re:.*mlp.gate$"],
    }


# For each kind, how a linear's weight is stored, and `quantization_config`.
KINDS = {
    "fp8": (
        _fp8,
        {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic", "weight_block_size": [BLOCK, BLOCK]},
    ),
    "fp8 rows": (
        _fp8_rows,
        _compressed(
            "float-quantized",
            {"num_bits": 8, "type": "float", "strategy": "channel", "symmetric": True, "dynamic": False},
        ),
    ),
    "mxfp4": (
        _mxfp4,
        {
            "quant_method": "mxfp4",
            "modules_to_not_convert": [
                "model.layers.*.self_attn",
                "model.layers.*.mlp.router",
                "model.embed_tokens",
                "lm_head",
            ],
        },
    ),
    "int4": (
        _int4,
        _compressed(
            "pack-quantized",
            {
                "num_bits": 4,
                "type": "int",
                "strategy": "group",
                "group_size": BLOCK,
                "symmetric": True,
                "dynamic": False,
                "actorder": None,
            },
        ),
    ),
}


def write_quantized_base(folder: Path, kind="fp8", architecture="LlamaForCausalLM", left=None, **kwargs) -> Path:
    """A tiny checkpoint in bfloat16 whose linears, or stacked experts of mxfp4, are stored as `kind` says.

    left: fields of `quantization_config` that list modules which are not quantized.
    """
    write_checkpoint(folder, architecture, shard_size="1GB", **kwargs)
    store, quantization = KINDS[kind]
    tensors = {}
    for name, tensor in load_file(folder / "model.safetensors").items():
        is_linear = tensor.dim() == 2 and not any(part in name for part in LEFT)
        is_stored = name.endswith("_proj") if kind == "mxfp4" else is_linear
        tensors |= store(name, tensor.float()) if is_stored else {name: tensor.bfloat16()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    edit_json(folder / "config.json", dtype="bfloat16", quantization_config={**quantization, **(left or {})})
    return folder


def as_published(folder: Path) -> Path:
    """The checkpoint with the fields of config.json as they were spelled when such models were published."""
    config = json.loads((folder / "config.json").read_text())
    rope = config.pop("rope_parameters")
    config["rope_theta"] = rope.pop("rope_theta")
    kind = rope.pop("rope_type")
    config["rope_scaling"] = None if kind == "default" else {"type": kind, **rope}
    config["torch_dtype"] = config.pop("dtype")
    config["transformers_version"] = "4.51.0"
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def in_shards(folder: Path) -> None:
    """The checkpoint again, with the scales in another file than their weights."""
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
    placed = {name: names["scale" in name] for name in tensors}
    for file in names:
        inside = {name: tensors[name] for name in tensors if placed[name] == file}
        save_file(inside, folder / file, metadata={"format": "pt"})
    index = {"metadata": {}, "weight_map": placed}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
