"""The few file operations that the store is built on: `local_files` and `s3` implement them.

Paths are relative to the store's root, with `/`. A local folder and S3 differ in how a file is created only if it does
not exist, in how it becomes durable and in what their errors mean. All other code of the store is the same for both.
"""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from drop_ray.store.steps import Output

READS_AT_ONCE = 16
"""Small files that are read at a time: reading one is mostly waiting for the storage."""

TEMPORARY_PREFIX = ".tmp-"
"""Begins the names of files that are being written to a local folder, and of those whose writer died."""


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

    They are picklable. Missing files raise FileNotFoundError, but removing what is missing is no error. What stands in
    the place of a file and is none raises CorruptArtifactError, and can be removed like a file. StoreRefusedError says
    why the storage does not do what it is asked for, and the remedy.
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


def is_temporary(path: str) -> bool:
    return path.rpartition("/")[2].startswith(TEMPORARY_PREFIX)
