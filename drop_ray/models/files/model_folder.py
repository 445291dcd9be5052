"""A model's folder: its small files as local files, and its weights as bytes that can be read from any offset."""

import fnmatch
import json
import os
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from drop_ray.errors import UserError
from drop_ray.models.files.companions import COMPANION_PATTERNS
from drop_ray.models.files.hub_blobs import blob_sha256

# Files that are always fetched from a remote folder. The configuration and an index are JSON too.
SMALL_FILES = ("*.json", *COMPANION_PATTERNS)

# One thread copies 1 GB/s out of the system's cache, for it also pays for the pages of the new memory. Disks of a node
# give several times that. Who reads less at a time, as hashing does, has threads of its own.
PART_BYTES = 8 << 20
READERS = min(8, os.cpu_count() or 1)
MIN_PARALLEL_PARTS = 8


@dataclass(frozen=True)
class FileState:
    """What tells the bytes of a file from those it had before, without reading them."""

    key: str
    """A text that is another one after every change."""
    changed: float | None
    """When the file last changed, in seconds since 1970 by this machine's clock; None if another clock says it."""
    sha256: str | None
    """The sha256 of its bytes, where the storage says so."""


class ByteSource(Protocol):
    """A file of weights, local or remote."""

    @property
    def location(self) -> str:
        """Its path or URL, for messages."""

    @property
    def size(self) -> int:
        """Its size in bytes."""

    def fill(self, pieces: Sequence[tuple[int, memoryview]]) -> None:
        """Fill each buffer with the bytes that begin at its offset. UserError if the file ends early."""

    def state(self) -> FileState | None:
        """The state that the file is in now; None if the storage does not say when its bytes change."""


class ModelFolder(Protocol):
    """A folder that `open_checkpoint` can read a model from."""

    @property
    def location(self) -> str:
        """The path or URL that the user gave, for messages."""

    @property
    def folder(self) -> Path:
        """A local folder with the small files."""

    @property
    def names(self) -> Collection[str]:
        """Names of all files directly in it, the weights among them."""

    def source(self, name: str) -> ByteSource:
        """The file of weights with this name."""


@dataclass(frozen=True)
class LocalFolder:
    """A model's folder on this machine."""

    folder: Path
    """The folder itself."""
    origin: str | None = None
    """The URL that the user gave, if the files were fetched from there."""

    @property
    def location(self) -> str:
        return self.origin or str(self.folder)

    @property
    def names(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir() if path.is_file())

    def source(self, name: str) -> ByteSource:
        return LocalSource(self.folder / name)


@dataclass(frozen=True)
class LocalSource:
    """A file of weights on this machine."""

    path: Path
    """Path of the file."""

    @property
    def location(self) -> str:
        return str(self.path)

    @property
    def size(self) -> int:
        return self.path.stat().st_size

    def fill(self, pieces: Sequence[tuple[int, memoryview]]) -> None:
        parts = [
            (offset + start, view[start : start + PART_BYTES])
            for offset, view in pieces
            for start in range(0, len(view), PART_BYTES)
        ]
        # Unbuffered: one read straight into each buffer, no second copy.
        with self.path.open("rb", buffering=0) as file:
            if len(parts) < MIN_PARALLEL_PARTS:
                for part in parts:
                    self._fill(file.fileno(), *part)
                return
            with ThreadPoolExecutor(READERS) as readers:
                for _ in readers.map(lambda part: self._fill(file.fileno(), *part), parts):
                    pass

    def _fill(self, descriptor: int, offset: int, view: memoryview) -> None:
        done = 0
        while done < len(view):
            count = os.preadv(descriptor, [view[done:]], offset + done)
            if not count:
                raise ended_early(self, len(view) - done)
            done += count

    def state(self) -> FileState:
        """ctime too: programs that copy files set mtime to the original's, and nothing sets ctime."""
        status = self.path.stat()
        key = [status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns]
        return FileState(json.dumps(key), status.st_ctime, blob_sha256(self.path))


def read_bytes(source: ByteSource, offset: int, count: int) -> bytes:
    buffer = bytearray(count)
    source.fill([(offset, memoryview(buffer))])
    return bytes(buffer)


def is_small_file(name: str) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in SMALL_FILES)


def ended_early(source: ByteSource, missing: int) -> UserError:
    return UserError(f"model.path: {source.location} ended {missing} bytes early; download it again")
