"""Where a model's files are (a local folder, a URL, or a Hugging Face name that is downloaded), and its tokenizer."""

from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
)
from transformers import AutoTokenizer

from drop_ray.errors import UserError
from drop_ray.models.files.companions import TOKENIZER_FILES
from drop_ray.models.files.model_folder import SMALL_FILES
from drop_ray.models.files.weight_files import FORMATS, read_index
from drop_ray.models.place import check_place
from drop_ray.text.faults import in_a_line
from drop_ray.text.path_names import inner_path


def locate_model(path: str, revision: str | None, *, weights: bool = True) -> str:
    """The local folder or URL of a model, for `open_checkpoint`. A Hugging Face name is downloaded.

    `revision` is a branch, tag or commit of a Hugging Face name, or a subfolder of a folder or URL. With
    `weights=False` the weights of a Hugging Face name are not downloaded. UserError names the remedy.
    """
    if revision is not None:
        try:
            inner_path(revision)
        except ValueError as error:
            raise UserError(f"model.revision: {error}") from error
    if "://" in path:
        return path if revision is None else f"{path.rstrip('/')}/{revision}"
    folder = Path(path)
    if folder.is_dir():
        return str(_subfolder(folder, revision))
    check_place(path)
    try:
        return str(_download(path, revision, weights))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled, OSError) as error:
        raise UserError(
            f"model.path: {path} is no local folder, and the Hugging Face hub did not give it ({error}); "
            "check the name, the network, HF_TOKEN for a gated model, or give a folder"
        ) from error


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer that lies beside a model's weights. UserError if there is none that transformers can load."""
    for name in TOKENIZER_FILES:
        if (folder / name).exists() and not (folder / name).is_file():
            raise UserError(f"model.path: {folder / name} is not a file; remove it, or download the model again")
    try:
        # False, not None: transformers would ask at the terminal whether to run the code that a config.json names.
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # damaged files make transformers and tokenizers fail in any way
        raise UserError(
            f"model.path: {folder} has no tokenizer that transformers can load ({in_a_line(error)}); copy the base "
            "model's tokenizer files into it"
        ) from error


def find_tokenizer(folder: Path) -> Any | None:
    """The tokenizer that lies beside a model's weights; None where there is no file of one.

    UserError for files that transformers cannot load.
    """
    return load_tokenizer(folder) if has_tokenizer(folder) else None


def has_tokenizer(folder: Path) -> bool:
    """Whether a model's folder has a file of a tokenizer."""
    return any((folder / name).exists() for name in TOKENIZER_FILES)


def _download(name: str, revision: str | None, weights: bool) -> Path:
    """Download the small files, then the weights in the first format that the repository has: many have two formats."""
    folder = Path(snapshot_download(name, revision=revision, allow_patterns=list(SMALL_FILES)))
    for kind in FORMATS if weights else ():
        index = folder / kind.index
        files = sorted(read_index(index, str(index))) if index.is_file() else [kind.single]
        # A snapshot's folder is called by its commit: a branch may move between two downloads.
        snapshot_download(name, revision=folder.name, allow_patterns=files)
        if index.is_file() or (folder / kind.single).is_file():
            break
    return folder


def _subfolder(folder: Path, revision: str | None) -> Path:
    if revision is None:
        return folder
    if not (folder / revision).is_dir():
        raise UserError(
            f"model.path: the folder {folder} has no subfolder {revision}; the revision of a local model is a subfolder"
        )
    return folder / revision
