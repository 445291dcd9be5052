"""The commit records that a run has seen, in one file of its folder: a resume need not read them one by one.

Nothing depends on it: `drop_ray.store.lookup` compares each record with a listing of the store, and reads those that
are not known, or not as they were. A line that cannot be read is a record that is not known.
"""

import json
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict

from drop_ray.errors import CorruptArtifactError
from drop_ray.store import Commit, Store

KNOWN = "commits.jsonl"
# Seconds between two writings while units are done. After a crash, only the records since the last one are read.
WRITE_INTERVAL_S = 10.0
# Writing takes at most this part of the time, however long the file.
WRITE_FRACTION = 0.05


class KnownCommits:
    """The records of one run, by the paths of their steps."""

    def __init__(self, store: Store, run_folder: str) -> None:
        self._store, self._path = store, f"{run_folder}/{KNOWN}"
        self._commits: dict[str, Commit] | None = None
        self._is_written, self._next = True, time.monotonic() + WRITE_INTERVAL_S

    @property
    def commits(self) -> Mapping[str, Commit]:
        """Read from the store when first asked for."""
        return self._loaded()

    def add(self, commit: Commit) -> None:
        """Remember a record, and from time to time write all."""
        known = self._loaded()
        if known.get(commit.step.path) != commit:
            known[commit.step.path] = commit
            self._is_written = False
            if time.monotonic() >= self._next:
                self.write()

    def write(self) -> None:
        """Write all records, if there are new ones."""
        if self._is_written:
            return
        started = time.monotonic()
        lines = [json.dumps(asdict(commit), separators=(",", ":")) for commit in self._loaded().values()]
        self._store.write_file(self._path, "".join(f"{line}\n" for line in lines).encode())
        ended = time.monotonic()
        self._is_written = True
        self._next = ended + max(WRITE_INTERVAL_S, (ended - started) / WRITE_FRACTION)

    def _loaded(self) -> dict[str, Commit]:
        if self._commits is None:
            self._commits = {}
            with suppress(FileNotFoundError, CorruptArtifactError):
                for line in self._store.read_file(self._path).split(b"\n"):
                    with suppress(CorruptArtifactError):
                        commit = Commit.from_json(line, KNOWN)
                        self._commits[commit.step.path] = commit
        return self._commits
