"""Calibration text from a Hugging Face dataset or a folder of data files, as a stream of documents.

Which documents these are is fixed: the content of a dataset is part of what identifies the calibration samples.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi

from drop_ray.config import TextOrigin, resolve_path
from drop_ray.errors import UserError
from drop_ray.reading.files import BYTE_ORDER_MARK
from drop_ray.store.identity import json_sha256
from drop_ray.text.faults import with_cause

# One word may be a kind of file, such as json, for which the library would look in the working folder.
NAME = re.compile(r"[\w.-]+/[\w.-]+")
COMMIT = re.compile(r"[0-9a-f]{40}")
# A stream cannot be shuffled as a whole: the next document is drawn from a buffer of so many.
SHUFFLE_BUFFER = 10_000


@dataclass(frozen=True)
class CalibrationDataset:
    """A split of a dataset whose content is fixed: by a commit on the hub, or by the sha256 of a folder's files."""

    path: str
    """Hugging Face name, or path of a folder."""
    config: str | None
    """Configuration of the dataset, such as `en` of C4."""
    split: str
    """Name of the split."""
    commit: str | None
    """Commit on the hub; None for a folder."""
    files_sha256: str | None
    """sha256 over names and contents of a folder's files; None for a dataset of the hub."""
    section: str = "calibration"
    """The section of the config that names it, for messages."""

    @property
    def identity(self) -> dict[str, Any]:
        """What identifies the split. A folder is identified by its content, never by its path."""
        content = {"files": self.files_sha256} if self.commit is None else {"name": self.path, "commit": self.commit}
        return {**content, "config": self.config, "split": self.split}

    @property
    def label(self) -> str:
        """A name for people: `allenai/c4, en, validation, commit 1588ec454efa`."""
        parts = (self.path, self.config, self.split, self.commit and f"commit {self.commit[:12]}")
        return ", ".join(part for part in parts if part)

    def documents(self, text_field: str, shuffle_seed: int | None) -> Iterator[str]:
        """The texts in the dataset's order, or in a seeded one.

        Empty ones are left out, and no more are read than taken. UserError names the field and the remedy.
        """
        with _errors_named(self.path, self.section):
            rows = self._open_split()
            if shuffle_seed is not None:
                rows = rows.shuffle(seed=shuffle_seed, buffer_size=SHUFFLE_BUFFER)
            for row in rows:
                text = _text_of(row, text_field, self.path, self.section)
                if text:
                    yield text

    def _open_split(self) -> Any:
        from datasets import load_dataset

        if self.commit is None:
            _check_first_values(Path(self.path), self.section)
        try:
            splits = load_dataset(self.path, self.config, revision=self.commit, streaming=True)
        except ValueError as error:
            if "BuilderConfig" not in str(error) and "Config name" not in str(error):
                raise
            reason = " ".join(str(error).partition("Example of usage")[0].split())
            raise UserError(f"{self.section}.dataset_config: {self.path}: {reason}") from error
        if self.split not in splits:
            raise UserError(
                f"{self.section}.dataset_split: {self.path} has no split {self.split}; it has {', '.join(splits)}"
            )
        return splits[self.split]


def open_dataset(settings: TextOrigin, section: str = "calibration") -> CalibrationDataset:
    """Find what the `dataset` of a section names. The hub is asked for the commit, unless `dataset_revision` is one.

    UserError if it is neither a folder nor a dataset that the hub gives.
    """
    assert settings.dataset is not None
    folder = resolve_path(settings.dataset)
    config, split, revision = settings.dataset_config, settings.dataset_split, settings.dataset_revision
    if folder.is_dir():
        if revision is not None:
            raise UserError(f"{section}.dataset_revision: a folder has no revisions; remove it")
        # Absolute: the library reads a relative `json` or `text` as the name of a format.
        return CalibrationDataset(str(folder.absolute()), config, split, None, _files_sha256(folder), section)
    if not NAME.fullmatch(settings.dataset):
        raise UserError(
            f"{section}.dataset: {settings.dataset} is neither a folder nor a Hugging Face name "
            "(organisation/dataset); a single file goes into `source`"
        )
    return CalibrationDataset(
        settings.dataset, config, split, _commit(settings.dataset, revision, section), None, section
    )


def _commit(name: str, revision: str | None, section: str) -> str:
    if revision is not None and COMMIT.fullmatch(revision):
        return revision
    with _errors_named(name, section):
        sha = HfApi().dataset_info(name, revision=revision).sha
    assert sha is not None
    return sha


def _files_sha256(folder: Path) -> str:
    """sha256 over names and contents of all files but hidden ones, which the library passes over too."""
    files = {path.relative_to(folder): path for path in folder.rglob("*") if path.is_file()}
    contents = {}
    for name, path in files.items():
        if not any(part.startswith(".") for part in name.parts):
            with path.open("rb") as file:
                contents[name.as_posix()] = hashlib.file_digest(file, "sha256").hexdigest()
    return json_sha256(contents)


def _check_first_values(folder: Path, section: str) -> None:
    """pyarrow ends the process where the first value of a JSON file is null."""
    for path in sorted([*folder.rglob("*.json"), *folder.rglob("*.jsonl")]):
        if path.is_file():
            with path.open("rb") as file:
                start = file.read(1 << 16)
            if start.removeprefix(BYTE_ORDER_MARK).lstrip().startswith(b"null"):
                raise UserError(f"{section}.dataset: {path} begins with null; it must hold objects")


def _text_of(row: Mapping[str, Any], text_field: str, path: str, section: str) -> str | None:
    columns = ", ".join(row)
    if text_field not in row:
        raise UserError(f"{section}.text_field: {path} has no column {text_field}; it has {columns}")
    text = row[text_field]
    if not isinstance(text, str | None):
        raise UserError(
            f"{section}.text_field: column {text_field} of {path} holds no text but {type(text).__name__}; "
            f"columns: {columns}"
        )
    return text


@contextmanager
def _errors_named(path: str, section: str) -> Iterator[None]:
    """Turn every error into a UserError about the dataset.

    The hub, the file systems and the readers of each format have errors of their own, without a common base.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"{section}.dataset: {path} cannot be read ({with_cause(error)}); check the name and the "
            "revision, the network, HF_TOKEN for a gated dataset, or give a folder of data files"
        ) from error
