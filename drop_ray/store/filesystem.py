"""The few file operations that the store is built on, and their implementation for local folders.

Paths are relative to the store's root, with `/`. A local folder and S3 differ in how a file is created only if it does
not exist, in how it becomes durable and in what their errors mean. All other code of the store is the same for both.
"""

import hashlib
import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol
from uuid import uuid4

from drop_ray.store.steps import Output

COPY_CHUNK = 4 * 2**20
TEMPORARY_PREFIX = ".tmp-"


@dataclass(frozen=True)
class Stored:
    """A file in the store, as a listing shows it."""

    size: int
    """Size in bytes."""
    modified: float
    """When it was last written, in seconds since 1970."""


@dataclass(frozen=True)
class Upload:
    """An upload in parts that was begun, and neither finished nor given up."""

    path: str
    """Path of the file, relative to the store's root."""
    identifier: str
    """The storage's name of the upload."""
    begun: float
    """When it was begun, in seconds since 1970."""


class Files(Protocol):
    """The operations.

    They are picklable. Missing files raise FileNotFoundError, but removing what is missing is no error.
    """

    failures: tuple[type[Exception], ...]
    """What the operations below may raise when the storage cannot be used."""

    def absolute(self, path: str) -> str:
        """A path or URL that other programs can open."""

    def remedy(self, error: Exception) -> str:
        """What a user can do about one of `failures`."""

    def create(self, path: str, data: bytes) -> bool:
        """Write a whole file unless it exists. Of any number of racing writers one gets True. Durable on return."""

    def replace(self, path: str, data: bytes | Path) -> None:
        """Write a file, or replace it. Readers see either the old bytes or the new ones."""

    def upload(self, source: Path, path: str) -> Output:
        """Copy a local file to a path that nobody else writes. Durable on return, but partial after a failure."""

    def read(self, path: str) -> bytes:
        """All bytes of a file."""

    def download(self, path: str, target: BinaryIO) -> Output:
        """Write all bytes of a file to `target`, however many, and say how many and which they were."""

    def local_path(self, path: str) -> Path | None:
        """The place of a file or folder on this machine; None if programs would need a copy of it."""

    def exists(self, path: str) -> bool:
        """Whether a file or a folder with files is there."""

    def sizes(self, folder: str) -> dict[str, int]:
        """Bytes of each file at any depth, by its path relative to the folder. Empty if there is no folder."""

    def inventory(self, folder: str) -> dict[str, Stored]:
        """Like `sizes`, with the temporary files of writers that died, which all other operations hide."""

    def trees(self, folders: Collection[str]) -> dict[str, dict[str, Stored]]:
        """The `inventory` of each of the folders, which have one parent; those that are not there are left out."""

    def uploads(self) -> list[Upload]:
        """Uploads in parts that are under way, or were when their writer died."""

    def give_up(self, upload: Upload) -> None:
        """Remove the parts of an upload."""

    def names(self, folder: str) -> list[str]:
        """Sorted names of the files and folders directly in a folder. Empty if there is no folder."""

    def remove(self, path: str) -> None:
        """Remove one file."""

    def remove_folder(self, folder: str) -> None:
        """Remove all files below a folder."""


class LocalFiles:
    """A folder of a POSIX file system. Several machines may share it if it has hard links and fsync, as NFS has."""

    failures: tuple[type[Exception], ...] = (OSError,)

    def __init__(self, root: Path) -> None:
        self._root = root

    def absolute(self, path: str) -> str:
        return str(self._root / path)

    def remedy(self, error: Exception) -> str:  # noqa: ARG002 - the operating system's message says which of these it is
        return "name a folder (not a file) that this user may create and write to, on a file system with hard links"

    def create(self, path: str, data: bytes) -> bool:
        target = self._root / path
        with _temporary(target) as temporary:
            _write(temporary, data)
            try:
                os.link(temporary, target)
            except FileExistsError:
                return False
        _sync_folder(target.parent)
        return True

    def replace(self, path: str, data: bytes | Path) -> None:
        target = self._root / path
        with _temporary(target) as temporary:
            if isinstance(data, bytes):
                _write(temporary, data)
            else:
                _copy(data, temporary)
            temporary.replace(target)
        _sync_folder(target.parent)

    def upload(self, source: Path, path: str) -> Output:
        target = self._root / path
        _make_folder(target.parent)
        output = _copy(source, target)
        _sync_folder(target.parent)
        return output

    def read(self, path: str) -> bytes:
        return (self._root / path).read_bytes()

    def download(self, path: str, target: BinaryIO) -> Output:
        with (self._root / path).open("rb") as reader:
            return _pump(reader, target)

    def local_path(self, path: str) -> Path | None:
        return self._root / path

    def exists(self, path: str) -> bool:
        return (self._root / path).exists()

    def sizes(self, folder: str) -> dict[str, int]:
        found = self.inventory(folder)
        return {path: file.size for path, file in found.items() if not is_temporary(path)}

    def inventory(self, folder: str) -> dict[str, Stored]:
        base = self._root / folder
        found = {}
        for parent, _, names in os.walk(base):
            for path in (Path(parent, name) for name in names):
                # Another process may remove a file between the listing and the stat.
                with suppress(FileNotFoundError):
                    status = path.stat()
                    found[path.relative_to(base).as_posix()] = Stored(status.st_size, status.st_mtime)
        return found

    def trees(self, folders: Collection[str]) -> dict[str, dict[str, Stored]]:
        return {folder: tree for folder in folders if (tree := self.inventory(folder))}

    def uploads(self) -> list[Upload]:
        return []

    def give_up(self, upload: Upload) -> None:
        raise KeyError(upload.identifier)

    def names(self, folder: str) -> list[str]:
        try:
            names = sorted(path.name for path in (self._root / folder).iterdir())
        except FileNotFoundError:
            return []
        return [name for name in names if not name.startswith(TEMPORARY_PREFIX)]

    def remove(self, path: str) -> None:
        (self._root / path).unlink(missing_ok=True)

    def remove_folder(self, folder: str) -> None:
        # Another process may remove the same folder at the same time, and finish first.
        with suppress(FileNotFoundError):
            shutil.rmtree(self._root / folder)


def is_temporary(path: str) -> bool:
    return path.rpartition("/")[2].startswith(TEMPORARY_PREFIX)


@contextmanager
def _temporary(target: Path) -> Iterator[Path]:
    """A fresh name beside the target, which is gone afterwards. The target's folder is made."""
    _make_folder(target.parent)
    temporary = target.parent / f"{TEMPORARY_PREFIX}{uuid4().hex}"
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def _write(path: Path, data: bytes) -> None:
    with path.open("xb") as writer:
        writer.write(data)
        writer.flush()
        os.fsync(writer.fileno())


def _copy(source: Path, target: Path) -> Output:
    with source.open("rb") as reader, target.open("xb") as writer:
        output = _pump(reader, writer)
        writer.flush()
        os.fsync(writer.fileno())
    return output


def _pump(reader: BinaryIO, writer: BinaryIO) -> Output:
    digest, size = hashlib.sha256(), 0
    while chunk := reader.read(COPY_CHUNK):
        digest.update(chunk)
        writer.write(chunk)
        size += len(chunk)
    return Output(size, digest.hexdigest())


def _make_folder(folder: Path) -> None:
    """Make a folder and its parents so that their names survive a power cut."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in missing:
        _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
