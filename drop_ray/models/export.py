"""Writes a dropped checkpoint: the base's safetensors without the dropped tensors, copied in small pieces.

No tensor is decoded, so that the memory it takes does not depend on the model, and every kept byte is the base's own.
"""

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from drop_ray.errors import UserError
from drop_ray.models import modeling_dropped
from drop_ray.models.checkpoint import INDEX_FILE, Checkpoint, Shard, TensorSpan
from drop_ray.models.dropped import build_skeleton, check_tensors, drop_lists_of, dropped_prefixes, read_config
from drop_ray.models.families import DropLists
from drop_ray.progress import ignore_progress

COPY_BYTES = 16 << 20
# Beside weights and configuration, what a user of the base finds in its folder: tokenizer, licence, model card.
COMPANION_PATTERNS = (
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template*",
    "generation_config.json",
    "LICENSE*",
    "LICENCE*",
    "NOTICE*",
    "USE_POLICY*",
    "README*",
)


def export_checkpoint(
    checkpoint: Checkpoint,
    drops: DropLists,
    output: Path,
    *,
    provenance: dict[str, Any] | None = None,
    progress: Callable[[int, int], None] = ignore_progress,
) -> None:
    """Write the model without the sub-layers of `drops` to the new folder `output`.

    `provenance` goes into config.json as `drop_ray`. `progress` is told (bytes done, bytes in all).
    Raises UserError if the checkpoint does not fit its config.json or if `output` exists and is not empty.
    """
    if output.exists() and any(output.iterdir()):
        raise UserError(f"{output} is not empty; give a new folder")
    drops = drop_lists_of(checkpoint).union(drops)
    skeleton = build_skeleton(read_config(checkpoint), drops, torch.bfloat16, "eager")
    check_tensors(skeleton, checkpoint)
    output.mkdir(parents=True, exist_ok=True)
    weight_map = _write_shards(checkpoint, dropped_prefixes(skeleton, drops), output, progress)
    if (checkpoint.folder / INDEX_FILE).is_file():
        total_size = sum(checkpoint.tensors[name].num_bytes for name in weight_map)
        _write_json(output / INDEX_FILE, {"metadata": {"total_size": total_size}, "weight_map": weight_map})
    _write_json(output / "config.json", dropped_config(checkpoint, skeleton, drops, provenance))
    for pattern in COMPANION_PATTERNS:
        for path in sorted(checkpoint.folder.glob(pattern)):
            shutil.copyfile(path, output / path.name)
    source = Path(modeling_dropped.__file__)
    shutil.copyfile(source, output / source.name)


def dropped_config(
    checkpoint: Checkpoint, skeleton: PreTrainedModel, drops: DropLists, provenance: dict[str, Any] | None
) -> dict[str, Any]:
    """The base's config.json with a model type of its own, so that no program takes it for a full model."""
    config_class = type(skeleton.config)
    module = Path(modeling_dropped.__file__).stem
    return {
        **{key: value for key, value in checkpoint.config.items() if key != "_name_or_path"},
        "model_type": config_class.model_type,
        "architectures": [type(skeleton).__name__],
        "auto_map": {
            "AutoConfig": f"{module}.{config_class.__name__}",
            "AutoModelForCausalLM": f"{module}.{type(skeleton).__name__}",
        },
        "drop_attn_list": list(drops.attn),
        "drop_mlp_list": list(drops.mlp),
        "use_cache": True,
        **({"drop_ray": provenance} if provenance else {}),
    }


def _write_shards(
    checkpoint: Checkpoint, dropped: tuple[str, ...], output: Path, progress: Callable[[int, int], None]
) -> dict[str, str]:
    """Write every shard that keeps a tensor; returns the new index's tensor name -> file name."""
    kept = [
        (shard, {name: span for name, span in shard.tensors.items() if not name.startswith(dropped or ("\0",))})
        for shard in checkpoint.shards
    ]
    kept = [(shard, spans) for shard, spans in kept if spans]
    total = sum(span.num_bytes for _, spans in kept for span in spans.values())
    done = 0
    weight_map: dict[str, str] = {}
    for number, (shard, spans) in enumerate(kept, start=1):
        name = shard.file if len(checkpoint.shards) == 1 else f"model-{number:05}-of-{len(kept):05}.safetensors"
        _write_shard(checkpoint.folder, shard, spans, output / name)
        weight_map.update(dict.fromkeys(spans, name))
        done += sum(span.num_bytes for span in spans.values())
        progress(done, total)
    return dict(sorted(weight_map.items()))


def _write_shard(folder: Path, shard: Shard, spans: dict[str, TensorSpan], path: Path) -> None:
    """The safetensors format: header length as little-endian u64, JSON header padded to 8 bytes, then the data."""
    ordered = sorted(spans.items(), key=lambda item: item[1].start)
    header: dict[str, Any] = {"__metadata__": {"format": "pt", **shard.metadata}}
    offset = 0
    for name, span in ordered:
        header[name] = {
            "dtype": span.dtype,
            "shape": list(span.shape),
            "data_offsets": [offset, offset + span.num_bytes],
        }
        offset += span.num_bytes
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)
    with (folder / shard.file).open("rb") as source, path.open("wb") as target:
        target.write(struct.pack("<Q", len(encoded)) + encoded)
        for _, span in ordered:
            source.seek(span.start)
            left = span.num_bytes
            while left:
                piece = source.read(min(left, COPY_BYTES))
                if not piece:
                    raise UserError(f"{folder / shard.file} ended {left} bytes early; download it again")
                target.write(piece)
                left -= len(piece)


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n")
