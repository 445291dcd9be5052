"""Writes the folder of a quantized checkpoint: a dropped checkpoint whose linears are packed."""

import json
import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import torch

from drop_ray.config.quantization import QuantizationSpec
from drop_ray.errors import WorkerFailedError
from drop_ray.models.checkpoint import open_weights
from drop_ray.models.files.safetensors_writer import INDEX_FILE, ShardEntries, TensorEntry, write_shards
from drop_ray.models.files.stored_tensors import Shard, StoredTensor, byte_view


def write_packed_checkpoint(
    dropped: Path,
    packed: Path,
    spec: QuantizationSpec,
    dtype: torch.dtype,
    output: Path,
    names: Mapping[str, str] | None = None,
) -> None:
    """Write the weights of `packed`, and all other files of `dropped`, to the new folder `output`.

    `names` are those that modules get, by those that they have in `packed`; without it they keep these. Raises
    WorkerFailedError if the engine has made scales that are not finite.
    """
    output.mkdir(exist_ok=True)
    for path in sorted(dropped.iterdir()):
        if path.name != INDEX_FILE and path.suffix != ".safetensors":
            shutil.copyfile(path, output / path.name)
    shards = open_weights(packed)  # its config.json is in the engine's own spelling
    write_shards(
        output,
        [ShardEntries([_entry(shard, names or {}, *item) for item in shard.tensors.items()]) for shard in shards],
    )
    config = json.loads((dropped / "config.json").read_text())
    config.pop("torch_dtype", None)
    config |= {"dtype": str(dtype).removeprefix("torch."), "quantization_config": quantization_config(spec)}
    (output / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def quantization_config(spec: QuantizationSpec) -> dict[str, Any]:
    """`quantization_config` of config.json, with the fields that AutoAWQ and AutoGPTQ write."""
    if spec.method == "awq":
        return {
            "quant_method": "awq",
            "version": "gemm",
            "bits": spec.bits,
            "group_size": spec.group_size,
            "zero_point": not spec.is_symmetric,
            "modules_to_not_convert": None,
        }
    return {
        "quant_method": "gptq",
        "checkpoint_format": "gptq",
        "bits": spec.bits,
        "group_size": spec.group_size,
        "sym": spec.is_symmetric,
        "desc_act": spec.desc_act,
        "static_groups": False,
        "true_sequential": True,
        "lm_head": False,
    }


def _entry(shard: Shard, names: Mapping[str, str], name: str, tensor: StoredTensor) -> TensorEntry:
    module, _, part = name.rpartition(".")
    written = f"{names.get(module, module)}.{part}"
    if not name.endswith(".scales"):
        return TensorEntry(written, tensor.dtype, tensor.shape, tensor.num_bytes, partial(shard.copy, name))
    return TensorEntry(written, "F16", tensor.shape, tensor.num_bytes, partial(_write_scales, shard, name))


def _write_scales(shard: Shard, name: str, target: BinaryIO) -> None:
    """Write scales in float16, as both formats have them. The engine leaves those of a bfloat16 model in bfloat16."""
    scales = shard.read([name])[name].half()
    if not scales.isfinite().all():
        raise WorkerFailedError(
            f"{name} is not finite: the model leaves the range of the numbers it was quantized in; set model.dtype to "
            "bfloat16"
        )
    target.write(byte_view(scales))
