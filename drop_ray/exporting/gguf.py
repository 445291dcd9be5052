"""Writes a plan's model as a GGUF file, by the converter of the user's own llama.cpp."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from drop_ray.errors import UserError
from drop_ray.evaluation.export_check import check_export
from drop_ray.exporting.gguf_file import check_reader, compare_gguf
from drop_ray.exporting.gguf_limits import check_gguf
from drop_ray.models.checkpoint import Checkpoint
from drop_ray.models.dropped import checkpoint_dtype, drop_lists_of
from drop_ray.models.export import export_checkpoint
from drop_ray.models.families import DropLists
from drop_ray.text.progress import ignore_progress

SUFFIX = ".gguf"
# The converter's names of the types that keep every number as it is.
TYPES = {torch.float32: "f32", torch.float16: "f16", torch.bfloat16: "bf16"}
# Lines of the converter's complaint that are shown.
SHOWN = 5


def check_gguf_output(output: Path, converter: Path) -> None:
    """UserError unless a new file can be written to `output` by a script that is there, and be compared."""
    if output.suffix != SUFFIX or output.exists():
        raise UserError(f"{output}: give a new file whose name ends with {SUFFIX}")
    if not converter.is_file():
        raise UserError(
            f"--converter: {converter} is not a file; give convert_hf_to_gguf.py of a checkout of llama.cpp"
        )
    check_reader()


def export_gguf(
    checkpoint: Checkpoint,
    drops: DropLists,
    output: Path,
    converter: Path,
    *,
    provenance: Mapping[str, Any] | None = None,
    progress: Callable[[int, int], None] = ignore_progress,
) -> None:
    """Write the model without the sub-layers of `drops` to the new file `output`.

    A `nemotron-nas` checkpoint of it lies beside `output` meanwhile. converter: `convert_hf_to_gguf.py` of llama.cpp,
    which this Python runs. Others are as of `export_checkpoint`. UserError if the model has no such file, or the
    converter does not take it. ExportRefusedError, and no file, if it is not the model.
    """
    check_gguf_output(output, converter)
    check_gguf(checkpoint, drop_lists_of(checkpoint).union(drops))
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=".export-") as scratch:
        folder, file = Path(scratch) / output.stem, Path(scratch) / "model.gguf"
        export_checkpoint(checkpoint, drops, folder, format="nemotron-nas", provenance=provenance, progress=progress)
        check_export(checkpoint, drops, folder, "nemotron-nas")
        _convert(converter, folder, file, TYPES[checkpoint_dtype(checkpoint)])
        compare_gguf(folder, file)
        file.rename(output)


def _convert(converter: Path, folder: Path, file: Path, kind: str) -> None:
    command = [sys.executable, str(converter.resolve()), str(folder), "--outfile", str(file), "--outtype", kind]
    offline = {"HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", env={**os.environ, **offline})
    if done.returncode or not file.is_file():
        said = "\n".join((done.stderr or done.stdout).strip().splitlines()[-SHOWN:])
        raise UserError(f"{converter} did not convert the model (exit status {done.returncode}):\n{said}")
