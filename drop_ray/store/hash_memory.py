"""Remembers on each node the sha256 of large files, so that a file is hashed once and not at every start.

A file is known by its state: what changes whenever its bytes do, such as device, inode, size and times. A line of a
small file in the node's cache folder has a hash of the state and the sha256 of the bytes. Several processes may add
lines at the same time. A line that is damaged is as if it were not there: the file that it was about is hashed again.
"""

import fcntl
import hashlib
import logging
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from uuid import uuid4

logger = logging.getLogger(__name__)

FILE, WRITING, HASHING = "hashes.txt", "hashes.lock", "hashing.lock"
# Half of the lines go when there are more. The oldest are of models that were replaced or moved.
MAX_LINES = 2000


class HashMemory:
    """The hashes in one folder, and those that this process was given or has found out."""

    def __init__(self, folder: Path, known: Mapping[str, str] | None = None) -> None:
        """`known` are hashes by state, from another node."""
        self._folder = folder
        self._lines: dict[str, str] | None = None
        self.known: dict[str, str] = dict(known or {})

    def get(self, state: str) -> str | None:
        """The sha256 of the file in that state; None if it is not known."""
        if state not in self.known:
            if self._lines is None:
                self._lines = _read(self._folder / FILE)
            found = self._lines.get(_name(state))
            if found is None:
                return None
            self.known[state] = found
        return self.known[state]

    def of_scheme(self, scheme: str) -> dict[str, str]:
        """The known hashes of files whose states begin so: what is true on any node."""
        return {state: sha256 for state, sha256 in self.known.items() if state.startswith(scheme)}

    def put(self, state: str, sha256: str) -> None:
        """Remember a hash. Where the folder cannot be written to, only this process remembers it."""
        self.known[state] = sha256
        file = self._folder / FILE
        try:
            with self._locked(WRITING):
                lines = _read(file)
                if len(lines) < MAX_LINES:
                    with file.open("ab") as writer:
                        # A line break first, because the last writer may have been killed inside its line.
                        writer.write(f"\n{_line(_name(state), sha256)}".encode())
                    return
                kept = {**dict(list(lines.items())[-MAX_LINES // 2 :]), _name(state): sha256}
                temporary = self._folder / f".{FILE}-{uuid4().hex}"
                temporary.write_text("\n".join(_line(*pair) for pair in kept.items()), encoding="ascii")
                temporary.replace(file)
        except OSError as error:
            logger.warning(
                "the hash of a model's file cannot be remembered (%s), so the file is hashed again at every start; "
                "name a folder that may be written to by execution.cache_dir or XDG_CACHE_HOME",
                error,
            )

    @contextmanager
    def alone(self) -> Iterator[None]:
        """One process of a node hashes at a time: others wait, and then find what it has found out."""
        with ExitStack() as held:
            try:
                held.enter_context(self._locked(HASHING))
            except OSError as error:
                logger.debug("processes of this node hash beside each other: %s", error)
            self._lines = None
            yield

    @contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / name).open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _read(path: Path) -> dict[str, str]:
    """The sound lines: hash of a state -> sha256. Of two lines for one state the later counts."""
    try:
        text = path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return {}
    found = {}
    for line in text.split("\n"):
        words = line.split(" ")
        if len(words) == 3 and line == _line(words[0], words[1]):
            found[words[0]] = words[1]
    return found


def _name(state: str) -> str:
    return hashlib.sha256(state.encode()).hexdigest()


def _line(name: str, sha256: str) -> str:
    """The third word tells a whole line from one that was cut or overwritten."""
    return f"{name} {sha256} {hashlib.sha256(f'{name} {sha256}'.encode()).hexdigest()[:16]}"
