"""A model's folder behind a URL (S3, or whatever fsspec knows): small files are fetched once, weights read by range."""

import atexit
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec

from drop_ray.errors import UserError
from drop_ray.models.files.model_folder import ByteSource, ended_early, is_small_file

PIECE_BYTES = 16 << 20
# Requests under way at a time; with the size of a piece it bounds what a read takes beside the tensors themselves.
PIECES_AT_ONCE = 8


@dataclass(frozen=True)
class RemoteFolder:
    """Made by `open_remote_folder`. sizes: of all files directly in it, by name."""

    location: str
    folder: Path
    filesystem: Any
    root: str
    sizes: Mapping[str, int]

    @property
    def names(self) -> list[str]:
        return sorted(self.sizes)

    def source(self, name: str) -> ByteSource:
        return RemoteSource(f"{self.location}/{name}", self.sizes[name], self.filesystem, f"{self.root}/{name}")


@dataclass(frozen=True)
class RemoteSource:
    location: str
    size: int
    filesystem: Any
    path: str

    def fill(self, pieces: Sequence[tuple[int, memoryview]]) -> None:
        parts = [
            (offset + start, view[start : start + PIECE_BYTES])
            for offset, view in pieces
            for start in range(0, len(view), PIECE_BYTES)
        ]
        for first in range(0, len(parts), PIECES_AT_ONCE):
            batch = parts[first : first + PIECES_AT_ONCE]
            starts = [offset for offset, _ in batch]
            stops = [offset + len(view) for offset, view in batch]
            found = self.filesystem.cat_ranges([self.path] * len(batch), starts, stops, on_error="raise")
            for (_, view), data in zip(batch, found, strict=True):
                if len(data) < len(view):
                    raise ended_early(self, len(view) - len(data))
                view[:] = data


def open_remote_folder(url: str, options: Mapping[str, Any]) -> RemoteFolder:
    """List the folder and fetch its small files into a temporary folder of this process.

    `options` are arguments of the file system's class, such as `s3fs.S3FileSystem`. UserError if it cannot be read.
    """
    url = url.rstrip("/")
    try:
        filesystem, root = fsspec.core.url_to_fs(url, **{**_defaults(url), **options})
    except (ImportError, ValueError) as error:
        raise UserError(f"model.path: {url} cannot be opened: {error}") from error
    root = root.rstrip("/")
    folder = Path(tempfile.mkdtemp(prefix="drop-ray-model-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    try:
        entries = [entry for entry in filesystem.ls(root, detail=True) if entry["type"] == "file"]
        sizes = {entry["name"].rpartition("/")[2]: entry["size"] for entry in entries}
        small = [name for name in sizes if is_small_file(name)]
        filesystem.get([f"{root}/{name}" for name in small], [str(folder / name) for name in small])
    except FileNotFoundError as error:
        raise UserError(f"model.path: there is nothing at {url}; correct the bucket or the prefix") from error
    except Exception as error:  # each storage raises errors of its own library
        raise UserError(
            f"model.path: {url} cannot be read ({error}); check the URL, the endpoint, and that the credentials "
            "(AWS_PROFILE, an instance role, execution.store_options) may list the folder and get its files"
        ) from error
    return RemoteFolder(url, folder, filesystem, root, sizes)


def _defaults(url: str) -> Mapping[str, Any]:
    if not url.startswith("s3://"):
        return {}
    from drop_ray.store.s3 import S3FS_OPTIONS  # imports s3fs

    return S3FS_OPTIONS
