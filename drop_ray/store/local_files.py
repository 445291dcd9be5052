"""The store's file operations on local folders, and what a user can do when the operating system refuses one."""

import errno
import hashlib
import os
import shutil
import stat
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from drop_ray.errors import CorruptArtifactError, DropRayError, StoreRefusedError
from drop_ray.store.filesystem import TEMPORARY_PREFIX, Stored, Upload, is_temporary
from drop_ray.store.steps import Output

COPY_CHUNK = 4 * 2**20
# What to do about what an operating system says.
FREE_SOME = "free some (`drop-ray gc` lists what nobody needs) and run the same command again"
REMEDIES = {
    errno.ENOSPC: FREE_SOME,
    errno.EDQUOT: FREE_SOME,
    errno.EFBIG: "a limit of the file system or of this process (`ulimit -f`) is smaller than the file; raise it",
    errno.EACCES: "give this user the permission to read and write there",
    errno.EPERM: "give this user the permission to read and write there",
    errno.EROFS: "mount the file system for writing",
    errno.EIO: "the disk or its server has a fault; see the system's log",
    errno.ESTALE: "the file server has lost the file; mount it again",
    errno.EISDIR: "a folder stands where a file of the store should be; remove it",
    errno.ENOTDIR: "a file stands where a folder of the store should be; remove it, or name a folder",
}


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
        with _told(target), _temporary(target) as temporary:
            _write(temporary, data)
            try:
                os.link(temporary, target)
            except FileExistsError:
                return False
            _sync_folder(target.parent)
        return True

    def replace(self, path: str, data: bytes | Path) -> None:
        target = self._root / path
        with _told(target), _temporary(target) as temporary:
            if isinstance(data, bytes):
                _write(temporary, data)
            else:
                _copy(data, temporary)
            temporary.replace(target)
            _sync_folder(target.parent)

    def upload(self, source: Path, path: str) -> Output:
        target = self._root / path
        with _told(target):
            _make_folder(target.parent)
            output = _copy(source, target)
            _sync_folder(target.parent)
        return output

    def read(self, path: str) -> bytes:
        with _told(self._root / path), _open(self._root / path) as reader:
            return reader.read()

    def download(self, path: str, target: BinaryIO) -> Output:
        with _told(self._root / path), _open(self._root / path) as reader:
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
                # Another process may remove a file between the listing and this. A link is not followed: what it leads
                # to is not the store's.
                with suppress(FileNotFoundError):
                    status = path.lstat()
                    found[path.relative_to(base).as_posix()] = Stored(status.st_size, status.st_mtime)
        return found

    def trees(self, folders: Collection[str]) -> dict[str, dict[str, Stored]]:
        # What is there and no folder has no files, but is not nothing.
        return {
            folder: tree
            for folder in folders
            if (tree := self.inventory(folder)) or os.path.lexists(self._root / folder)
        }

    def uploads(self) -> list[Upload]:
        return []

    def give_up(self, upload: Upload) -> None:
        raise KeyError(upload.identifier)

    def names(self, folder: str) -> list[str]:
        try:
            names = sorted(path.name for path in (self._root / folder).iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return []
        return [name for name in names if not name.startswith(TEMPORARY_PREFIX)]

    def remove(self, path: str) -> None:
        self._remove(self._root / path)

    def remove_folder(self, folder: str) -> None:
        self._remove(self._root / folder)

    def _remove(self, path: Path) -> None:
        """Remove a file or a folder, or the file that stands where its folder should be."""
        with _told(path):
            try:
                if path.is_dir() and not path.is_symlink():
                    # Another process may remove the same folder at the same time, and finish first.
                    with suppress(FileNotFoundError):
                        shutil.rmtree(path)
                else:
                    path.unlink(missing_ok=True)
            except NotADirectoryError:
                if self._root not in path.parents:
                    raise
                self._remove(path.parent)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Raise the errors of the operating system that a user can mend with the path and the remedy."""
    try:
        yield
    except OSError as error:
        if isinstance(error, DropRayError) or error.errno not in REMEDIES:
            raise
        raise StoreRefusedError(f"{path}: {error.strerror}; {REMEDIES[error.errno]}") from error


def _open(path: Path) -> BinaryIO:
    """Open a regular file for reading. CorruptArtifactError for anything else, which is not waited for."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except NotADirectoryError as error:
        raise CorruptArtifactError(f"{path}: a file stands where one of its folders should be") from error
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.ENXIO):
            raise
        raise CorruptArtifactError(f"{path}: is a socket or a link to itself, not a file") from error
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    raise CorruptArtifactError(f"{path}: is a folder, a device or a pipe, not a file")


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
