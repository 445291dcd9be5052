"""The sha256 of each of a model's weight files: of all of their bytes, several files at a time, and once.

What the storage says of a file, or what is remembered of it, is taken in place of reading it.
"""

import hashlib
import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from drop_ray.errors import UserError
from drop_ray.models.files.model_folder import ByteSource, FileState
from drop_ray.store.hash_memory import HashMemory
from drop_ray.text.units import human_bytes

logger = logging.getLogger(__name__)

T = TypeVar("T")

# Threads: hashlib lets others run. Times the size of a piece, this is the memory that hashing takes.
FILES_AT_ONCE = 4
PIECE_BYTES = 32 << 20
# Two changes within one tick of the file system's clock can leave equal times.
SETTLED_S = 1.0
TOLD_EVERY_S = 5.0


def weight_hashes(sources: Mapping[str, ByteSource], memory: HashMemory, location: str) -> dict[str, str]:
    """The sha256 of each file, by the names of `sources`. UserError if one changes while it is read.

    `location` is the model's, for the lines that say how far it is.
    """
    found = _known(sources, memory)
    if len(found) == len(sources):
        return found
    with memory.alone():
        found = _known(sources, memory)
        left = {name: source for name, source in sources.items() if name not in found}
        progress = _Progress(location, sum(source.size for source in left.values()))
        return {**found, **_each(left, lambda source: _hash(source, memory, progress.add))}


def _known(sources: Mapping[str, ByteSource], memory: HashMemory) -> dict[str, str]:
    """The hashes that need no reading."""
    states = _each(sources, lambda source: source.state())
    hashes = {name: state.sha256 or memory.get(state.key) for name, state in states.items() if state is not None}
    return {name: sha256 for name, sha256 in hashes.items() if sha256 is not None}


def _each(sources: Mapping[str, ByteSource], ask: Callable[[ByteSource], T]) -> dict[str, T]:
    with ThreadPoolExecutor(FILES_AT_ONCE, thread_name_prefix="hashes") as threads:
        return dict(zip(sources, threads.map(ask, sources.values()), strict=True))


def _hash(source: ByteSource, memory: HashMemory, tell: Callable[[int], None]) -> str:
    before, started = source.state(), time.time()
    digest, size = hashlib.sha256(), source.size
    buffer = memoryview(bytearray(min(size, PIECE_BYTES)))
    for start in range(0, size, PIECE_BYTES):
        piece = buffer[: size - start]
        source.fill([(start, piece)])
        digest.update(piece)
        tell(len(piece))
    if source.state() != before:
        raise UserError(f"model.path: {source.location} changed while it was read; start again when it is complete")
    if before is not None and _is_settled(before, started):
        memory.put(before.key, digest.hexdigest())
    return digest.hexdigest()


def _is_settled(state: FileState, now: float) -> bool:
    return state.changed is None or state.changed < now - SETTLED_S


class _Progress:
    """Says from time to time how much is done, once it takes long enough to be noticed."""

    def __init__(self, location: str, total: int) -> None:
        self._location, self._total, self._done = location, total, 0
        self._told, self._lock = time.monotonic(), threading.Lock()

    def add(self, num_bytes: int) -> None:
        with self._lock:
            self._done += num_bytes
            if time.monotonic() - self._told >= TOLD_EVERY_S:
                self._told = time.monotonic()
                done, total = human_bytes(self._done), human_bytes(self._total)
                logger.info("identifying %s by all of its bytes: %s of %s read", self._location, done, total)
