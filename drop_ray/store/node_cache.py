"""A folder on each node with what its workers fetch from S3, kept by content, and either whole or not there at all.

Locks are `flock`s of files beside the entries. The kernel releases them when their holder dies in whatever way. One
process of a node fetches at a time, under the lock `fetch`, so that whatever lies in `unfinished` while it is free was
left by a process that died. A user of an entry holds a shared lock on it, so that what is in use is never removed to
make room.
"""

import errno
import fcntl
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from drop_ray.errors import UserError
from drop_ray.store import Commit, Store
from drop_ray.store.identity import fingerprint
from drop_ray.text.units import human_bytes

logger = logging.getLogger(__name__)

# Below XDG_CACHE_HOME, or below ~/.cache where it is not set.
DEFAULT_FOLDER = "drop-ray"
# Bytes of the disk that are left for whatever else is written to it meanwhile.
KEPT_FREE = 1 << 30


def cache_root(folder: str | None) -> Path:
    """The node's cache folder: `execution.cache_dir`, or the user's cache if that is null."""
    if folder is not None:
        return Path(folder).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / DEFAULT_FOLDER


class NodeCache:
    """The cache as one process uses it.

    `folder` is as for `cache_root`. `max_bytes` limits all entries together. Without it, they may take what the
    disk has free.
    """

    def __init__(self, folder: str | None, max_bytes: int | None) -> None:
        self._root = cache_root(folder)
        self._max_bytes = max_bytes
        self._held: dict[Path, BinaryIO] = {}

    def folder_of(self, store: Store, commit: Commit, logical: str) -> Path:
        """A local folder with the files of a committed folder, such as `checkpoint`, which must not be written to.

        For a local store it is the store's own. For a store on S3 it stays until `release`, or until this process ends.
        CorruptArtifactError if the store's bytes are not those committed. UserError if the disk is too small.
        """
        own = store.local_path(commit, logical)
        if own is not None:
            return own
        outputs = {name: output for name, output in commit.outputs.items() if name.startswith(f"{logical}/")}
        names = {name.removeprefix(f"{logical}/"): name for name in outputs}

        def fetch(folder: Path) -> None:
            for relative, name in names.items():
                (folder / relative).parent.mkdir(parents=True, exist_ok=True)
                with (folder / relative).open("xb") as target:
                    store.download(commit, name, target)

        key = fingerprint({relative: outputs[name].sha256 for relative, name in names.items()})
        return self.entry(key, sum(output.size for output in outputs.values()), store.path_of(commit, logical), fetch)

    def entry(self, key: str, num_bytes: int, what: str, fetch: Callable[[Path], None]) -> Path:
        """The folder that `fetch` has filled, now or earlier. It stays until `release`, or until this process ends.

        `key` names the content, and is usable as a file's name. `num_bytes` is what `fetch` writes. `what` is for
        messages. UserError if there is no room.
        """
        folder = self._root / "entries" / key
        if folder in self._held:
            return folder
        self._hold(folder)
        try:
            if not folder.is_dir():
                with _lock(self._root / "locks" / "fetch", fcntl.LOCK_EX):
                    # Another process may have fetched it while this one waited.
                    if not folder.is_dir():
                        self._fetch(folder, num_bytes, what, fetch)
            found = _size(folder)
            if found != num_bytes:
                raise UserError(
                    f"execution.cache_dir: {folder} has {found} bytes, but {what} has {num_bytes}; remove that folder"
                )
            os.utime(folder)
        except BaseException:
            self.release(folder)
            raise
        return folder

    def release(self, folder: Path) -> None:
        """Let go of an entry, which may then be removed when room is needed. Other folders are left alone."""
        if folder in self._held:
            self._held.pop(folder).close()

    def _hold(self, folder: Path) -> None:
        """Keep an entry from being removed. This waits only while one is being removed, which takes a moment."""
        try:
            self._held[folder] = _lock(self._lock_of(folder), fcntl.LOCK_SH)
        except OSError as error:
            raise UserError(
                f"execution.cache_dir: {self._root} cannot be used ({error}); name a folder that may be written to"
            ) from error

    def _fetch(self, folder: Path, num_bytes: int, what: str, fetch: Callable[[Path], None]) -> None:
        unfinished = self._root / "unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        target = unfinished / folder.name
        target.mkdir(parents=True)
        folder.parent.mkdir(exist_ok=True)
        self._make_room(num_bytes, what)
        logger.info("fetching %s (%s) to %s", what, human_bytes(num_bytes), self._root)
        try:
            fetch(target)
            _sync(target)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise self._too_small(num_bytes, what, f"was filled by others meanwhile ({error})") from error
        target.rename(folder)

    def _make_room(self, num_bytes: int, what: str) -> None:
        """Remove the entries that were not used for the longest time, until there is room."""
        entries = sorted((self._root / "entries").iterdir(), key=lambda entry: entry.stat().st_mtime)
        for entry in entries:
            if self._lacking(num_bytes) > 0:
                self._remove_unused(entry)
        lacking = self._lacking(num_bytes)
        if lacking > 0:
            limit = "" if self._max_bytes is None else f" within execution.cache_bytes ({self._max_bytes})"
            raise self._too_small(num_bytes, what, f"has room for {max(0, num_bytes - lacking)}{limit}")

    def _too_small(self, num_bytes: int, what: str, fault: str) -> UserError:
        return UserError(
            f"execution.cache_dir: {what} takes {num_bytes} bytes, but {self._root} {fault}; free that disk, name a "
            "folder on a larger one, or raise execution.cache_bytes"
        )

    def _lacking(self, num_bytes: int) -> int:
        room = shutil.disk_usage(self._root).free - KEPT_FREE
        if self._max_bytes is not None:
            room = min(room, self._max_bytes - _size(self._root / "entries"))
        return num_bytes - room

    def _remove_unused(self, entry: Path) -> None:
        with _open(self._lock_of(entry)) as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
            logger.info("removing %s from the cache", entry)
            # Renamed first: a removal that is cut short must not leave half an entry.
            removed = self._root / "unfinished" / f"removed-{entry.name}"
            entry.rename(removed)
        shutil.rmtree(removed)

    def _lock_of(self, folder: Path) -> Path:
        return self._root / "locks" / folder.name


def _lock(path: Path, kind: int) -> BinaryIO:
    """Take a lock, which is held until the returned file is closed."""
    file = _open(path)
    fcntl.flock(file, kind)
    return file


def _open(path: Path) -> BinaryIO:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.open("ab")


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _sync(folder: Path) -> None:
    """Write all files to disk.

    After a power cut, they could otherwise be there with their sizes, but without their bytes.
    """
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
