"""`drop-ray import SOURCE OUTPUT`: writes a checkpoint anew as one that runs take.

The result is a model of a transformers class, in safetensors.
"""

import logging
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from drop_ray.errors import UserError
from drop_ray.importing.baichuan import as_llama, is_baichuan, llama_config
from drop_ray.importing.sentencepiece_tokenizer import convert_tokenizer
from drop_ray.models.checkpoint import Checkpoint, open_checkpoint
from drop_ray.models.dropped import drop_lists_of
from drop_ray.models.export import check_new_folder, copy_checkpoint, export_checkpoint
from drop_ray.models.families import DropLists, architecture_of
from drop_ray.models.files.companions import companion_files, copy_companion
from drop_ray.models.location import locate_model
from drop_ray.models.whole import without_towers
from drop_ray.models.wrappers import wrapper_class
from drop_ray.text.units import human_bytes

logger = logging.getLogger(__name__)

# Files that name the tokenizer class and its settings. The converted tokenizer has its own.
REPLACED_FILES = {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"}


def import_model(source: str, revision: str | None, output: Path) -> None:
    """Write the language model of a multimodal one, Baichuan's 7B models as Llama, any other's .bin as safetensors.

    `source` is a folder, a URL or a Hugging Face name. `revision` is a branch, tag or commit of the latter. UserError,
    before anything is written, for a model that cannot be imported or need not be. Faults of configuration and
    tokenizer are found before weights are downloaded.
    """
    check_new_folder(output)
    described = open_checkpoint(locate_model(source, revision, weights=False), weights=False)
    if described.whole is not None:
        architecture_of(described.config, described.location)
        alone = without_towers(open_checkpoint(locate_model(source, revision)))
        origin = {"imported_from": wrapper_class(described.whole.config)}
        if drop_lists_of(alone).count:
            _write(alone, output, origin)
        else:
            copy_checkpoint(alone, output, provenance=origin, progress=_tell)
        return
    if not is_baichuan(described.config):
        architecture_of(described.config, described.location)
        _write(_only_bin(open_checkpoint(locate_model(source, revision))), output, None)
        return
    llama_config(described.config, described.location)
    with TemporaryDirectory(prefix="drop-ray-import-") as path:
        folder = Path(path)
        _copy_companions(described.folder, folder)
        convert_tokenizer(described.folder, described.location).save_pretrained(folder)
        checkpoint = as_llama(open_checkpoint(locate_model(source, revision)), folder)
        _write(checkpoint, output, _origin(described))


def _origin(described: Checkpoint) -> dict[str, Any]:
    return {"imported_from": described.config["architectures"][0]}


def _only_bin(checkpoint: Checkpoint) -> Checkpoint:
    if all(shard.file.endswith(".safetensors") for shard in checkpoint.shards):
        raise UserError(f"{checkpoint.location} needs no import: use it as model.path")
    return checkpoint


def _copy_companions(source: Path, target: Path) -> None:
    for path in companion_files(source):
        if path.name not in REPLACED_FILES:
            copy_companion(path, target)


def _write(checkpoint: Checkpoint, output: Path, provenance: dict[str, Any] | None) -> None:
    total = sum(tensor.num_bytes for tensor in checkpoint.tensors.values())
    logger.info("import: %s in %d files to write", human_bytes(total), len(checkpoint.shards))
    export_checkpoint(
        checkpoint,
        DropLists(),
        output,
        format="dropped" if drop_lists_of(checkpoint).count else "plain",
        provenance=provenance,
        progress=_tell,
    )


def _tell(done: int, total: int) -> None:
    logger.info("import: %s of %s", human_bytes(done), human_bytes(total))
