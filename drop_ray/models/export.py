"""Writes a plan's checkpoint in one of the `EXPORT_FORMATS`: the base's tensors, copied in small pieces to safetensors.

No tensor is decoded. So the memory needed does not grow with the model, and every kept byte is the base's own. A
multimodal checkpoint is written whole, its towers as they are (whole.py).
"""

import json
import logging
import math
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import torch

from drop_ray.errors import UserError
from drop_ray.models.card_text import BASE_CARD, CardFacts
from drop_ray.models.checkpoint import Checkpoint
from drop_ray.models.dropped import base_skeleton, drop_lists_of, read_config
from drop_ray.models.export_contents import Contents, contents_of, no_further_layers, renamed_tensors
from drop_ray.models.export_formats import ExportFormat
from drop_ray.models.families import DropLists
from drop_ray.models.files.companions import companion_files, copy_companion, without_code
from drop_ray.models.files.hub_blobs import hub_name
from drop_ray.models.files.safetensors_writer import TensorEntry, write_shards
from drop_ray.models.files.stored_tensors import SAFETENSORS_DTYPES
from drop_ray.models.loading import Weights
from drop_ray.models.model_card import MODEL_CARD, base_card_of, model_card
from drop_ray.models.quantized_base.reading import name_as_read
from drop_ray.models.whole import check_whole
from drop_ray.text.progress import ignore_progress

logger = logging.getLogger(__name__)

CONFIG = "config.json"


class Recoding(Protocol):
    """Stores some tensors otherwise than the base does: a quantization of the weights alone, made while they pass."""

    @property
    def config(self) -> Mapping[str, Any]:
        """Further fields of config.json."""

    @property
    def description(self) -> str:
        """How weights are stored, for the model card: the method, then a comma and its settings."""

    def entries(self, entry: TensorEntry) -> Sequence[TensorEntry]:
        """What is written in place of `entry`, which copies a tensor."""


def export_checkpoint(
    checkpoint: Checkpoint,
    drops: DropLists,
    output: Path,
    *,
    format: ExportFormat = "dropped",
    provenance: Mapping[str, Any] | None = None,
    card: str | None = None,
    recoding: Recoding | None = None,
    progress: Callable[[int, int], None] = ignore_progress,
) -> None:
    """Write the model without the sub-layers of `drops` to the new folder `output`.

    `provenance` goes into config.json as `drop_ray`. `card` is how they were refitted, for the model card.
    `recoding` stores tensors otherwise than the base does.
    `progress` is told (bytes done, bytes in all).
    Raises UserError if the checkpoint does not fit its config.json, if the model without `drops` has no such format, if
    a file beside the weights is linked from elsewhere, or if `output` exists and is not empty. Raises NotFiniteError if
    a tensor that is kept holds NaN or infinity.
    """
    check_new_folder(output)
    contents = contents_of(checkpoint, drop_lists_of(checkpoint).union(drops), format)
    if checkpoint.whole is not None and format != "config-only":
        check_whole(checkpoint, contents.config, [entry.name for file in contents.files for entry in file.entries])
    if recoding is not None:
        contents = _recoded(contents, recoding)
    _write(checkpoint, contents, output, provenance, progress)
    # Of the base in another form, as an import writes it, the base's own card holds.
    if drops.count or card is not None or recoding is not None:
        write_card(
            checkpoint,
            drops,
            output,
            format=format,
            provenance=provenance,
            refit=card,
            quantization=recoding.description if recoding else None,
        )


def write_card(
    checkpoint: Checkpoint,
    drops: DropLists,
    output: Path,
    *,
    format: ExportFormat = "dropped",
    provenance: Mapping[str, Any] | None,
    refit: str | None,
    quantization: str | None,
    notes: Sequence[str] = (),
) -> None:
    """Write the model card of a checkpoint in the folder `output`, and the base's own beside it.

    quantization: how weights are stored, as `Recoding.description` has it; refit and notes: as of `CardFacts`.
    """
    base_card = base_card_of(checkpoint.folder)
    facts = CardFacts(
        base=hub_name(checkpoint.folder),
        base_card=base_card,
        lacks=drop_lists_of(checkpoint).union(drops),
        num_layers=read_config(checkpoint).num_hidden_layers,
        format=format,
        is_whole=checkpoint.whole is not None,
        strategy=(provenance or {}).get("strategy"),
        refit=refit,
        notes=notes,
        quantization=quantization,
    )
    (output / MODEL_CARD).write_text(model_card(facts), encoding="utf-8")
    if base_card is not None:
        shutil.copyfile(checkpoint.folder / MODEL_CARD, output / BASE_CARD)


def _recoded(contents: Contents, recoding: Recoding) -> Contents:
    files = [
        replace(file, entries=[new for old in file.entries for new in recoding.entries(old)]) for file in contents.files
    ]
    return replace(contents, config={**contents.config, **recoding.config}, files=files)


def copy_checkpoint(
    checkpoint: Checkpoint,
    output: Path,
    *,
    provenance: Mapping[str, Any] | None = None,
    progress: Callable[[int, int], None] = ignore_progress,
) -> None:
    """Write a base of any family as it is, also of one that nothing can be dropped from. Else as `export_checkpoint`.

    What no model here has a place for is left out.
    """
    check_new_folder(output)
    weights = Weights(base_skeleton(read_config(checkpoint)), checkpoint)
    names = {name: name for name in checkpoint.tensors if name_as_read(checkpoint, name) not in weights.ignored}
    config = {**without_code(checkpoint.config), **no_further_layers(checkpoint)}
    contents = Contents(config, renamed_tensors(checkpoint, names))
    _write(checkpoint, contents, output, provenance, progress)


def _write(
    checkpoint: Checkpoint,
    contents: Contents,
    output: Path,
    provenance: Mapping[str, Any] | None,
    progress: Callable[[int, int], None],
) -> None:
    companions = companion_files(checkpoint.folder)
    output.mkdir(parents=True, exist_ok=True)
    write_shards(output, contents.files, progress)
    config = {**contents.config, "use_cache": True, **({"drop_ray": dict(provenance)} if provenance else {})}
    (output / CONFIG).write_text(json.dumps(config, indent=2) + "\n")
    for path in companions:
        copy_companion(path, output)
    for path in contents.code:
        shutil.copyfile(path, output / path.name)


def weight_file_bytes(checkpoint: Checkpoint, drops: DropLists, dtype: torch.dtype) -> int:
    """Bytes of the weight files of the model without the sub-layers of `drops`, with its numbers in `dtype`.

    Headers count. Where the checkpoint is stored in that dtype, it is the size of what `export_checkpoint` writes.
    """
    contents = contents_of(checkpoint, drop_lists_of(checkpoint).union(drops), "dropped")
    shards = [shard for shard in contents.files if shard.entries]
    converted = sum(
        math.prod(entry.shape) * (dtype.itemsize - stored.itemsize)
        for shard in shards
        for entry in shard.entries
        if (stored := SAFETENSORS_DTYPES.get(entry.dtype)) is not None and stored.is_floating_point
    )
    return sum(shard.file_bytes for shard in shards) + converted


@contextmanager
def unfinished(output: Path) -> Iterator[Path]:
    """A new folder to write a checkpoint to, whose files become those of the new folder `output` if no error comes.

    It lies inside of `output`, which may be a file system of its own. UserError as of `check_new_folder`.
    """
    check_new_folder(output)
    is_new = not output.exists()
    output.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(dir=output, prefix=".unfinished-") as scratch:
            yield Path(scratch)
            # config.json comes last: without it nothing takes the folder for a model.
            for path in sorted(Path(scratch).iterdir(), key=lambda path: path.name == CONFIG):
                path.rename(output / path.name)
    except BaseException:
        if is_new:
            shutil.rmtree(output)
        raise


def check_new_folder(output: Path) -> None:
    """UserError unless a checkpoint can be written to `output`: it does not exist yet, or is an empty folder."""
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UserError(f"{output} is a file, or is not empty; give a new folder")
