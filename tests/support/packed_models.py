"""Packs weights as AutoGPTQ and AutoAWQ do, number by number, and writes checkpoints of them: no code of an engine."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from drop_ray.models.checkpoint import open_checkpoint
from drop_ray.models.export import export_checkpoint

# AutoAWQ's, awq/utils/packing_utils.py: the output whose code is the first, second, ... of a word.
AWQ_ORDER = [0, 2, 4, 6, 1, 3, 5, 7]


def pack_row(numbers, bits):
    """Python integers into words, lowest bits first, as the int32 that have these bits."""
    per_word = 32 // bits
    words = []
    for start in range(0, len(numbers), per_word):
        word = sum(number << bits * i for i, number in enumerate(numbers[start : start + per_word]))
        words.append(word - (1 << 32) if word >= 1 << 31 else word)
    return words


def pack_gptq(codes, zeros, scales, group_of, bits):
    """codes: [inputs, outputs]; zeros and scales: [groups, outputs]; group_of: [inputs]."""
    columns = [pack_row(column, bits) for column in codes.T.tolist()]
    stored = [[(zero - 1) % (1 << bits) for zero in row] for row in zeros.tolist()]
    return {
        "qweight": torch.tensor(columns, dtype=torch.int32).T.contiguous(),
        "qzeros": torch.tensor([pack_row(row, bits) for row in stored], dtype=torch.int32),
        "scales": scales.half(),
        "g_idx": group_of.int(),
    }


def pack_awq(codes, zeros, scales):
    def packed(rows):
        reordered = [[row[i + j] for i in range(0, len(row), 8) for j in AWQ_ORDER] for row in rows.tolist()]
        return torch.tensor([pack_row(row, 4) for row in reordered], dtype=torch.int32)

    return {"qweight": packed(codes), "qzeros": packed(zeros), "scales": scales.half()}


def pack_rounded(weight, method, bits, group_size):
    """Round to nearest: gptq symmetric, awq from the smallest to the largest weight of a group."""
    inputs = weight.shape[1]
    groups = weight.float().T.reshape(inputs // group_size, group_size, -1)  # [groups, group_size, outputs]
    last = 2**bits - 1
    if method == "gptq":
        scales = (groups.abs().amax(1) * 2 / last).half()
        zeros = torch.full(scales.shape, 2 ** (bits - 1))
    else:
        low, high = groups.amin(1).clamp(max=0), groups.amax(1).clamp(min=0)
        scales = ((high - low) / last).half()
        zeros = (-low / scales.float()).round().clamp(0, last).long()
    codes = ((groups / scales.float()[:, None]).round().long() + zeros[:, None]).clamp(0, last).reshape(inputs, -1)
    if method == "awq":
        return pack_awq(codes, zeros, scales)
    return pack_gptq(codes, zeros, scales, torch.arange(inputs) // group_size, bits)


def write_rounded(base: Path, drops, output: Path, method, bits=4, group_size=16, change=lambda tensors: None):
    """The dropped model with every linear of its layers rounded and packed; `change` edits the tensors before that."""
    export_checkpoint(open_checkpoint(base), drops, output)
    tensors = {}
    for file in sorted(output.glob("*.safetensors*")):
        if file.suffix == ".safetensors":
            tensors |= load_file(file)
        file.unlink()
    change(tensors)
    packed = {}
    for name, tensor in tensors.items():
        if name.endswith(("_proj.weight", ".w1.weight", ".w2.weight", ".w3.weight", "_with_mqa.weight")):
            parts = pack_rounded(tensor, method, bits, group_size)
            packed |= {name.replace("weight", part): value for part, value in parts.items()}
        else:
            packed[name] = tensor
    save_file(packed, output / "model.safetensors")
    own = {"checkpoint_format": "gptq", "sym": True, "desc_act": False}
    own = own if method == "gptq" else {"version": "gemm", "zero_point": True}
    config = json.loads((output / "config.json").read_text())
    config["quantization_config"] = {"quant_method": method, "bits": bits, "group_size": group_size, **own}
    (output / "config.json").write_text(json.dumps(config))
    return output


def edit_tensor(folder: Path, name: str, change) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors[name] = change(tensors[name])
    save_file(tensors, folder / "model.safetensors")
