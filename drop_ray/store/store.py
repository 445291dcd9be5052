"""Finding, committing and discarding artifacts, and the plain files of a run.

An artifact is a folder of attempts and one record, `commit.json`, which is written last and by one writer only. It is
done if the record parses, its identity is the step's and its outputs are there with their sizes. A crash at any point
leaves either no record, or a record whose outputs are complete. Files of lost attempts are never read. `store.lookup`
finds many artifacts at a time.
"""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO
from uuid import uuid4

from drop_ray.errors import CorruptArtifactError, StoreOutageError, StoreRefusedError, UserError
from drop_ray.store.filesystem import Files
from drop_ray.store.identity import difference
from drop_ray.store.steps import ARTIFACTS, RECORD, Commit, Output, Step, plain

HASHED_BY_FIND = 16 * 2**20
"""Largest output, in bytes, whose sha256 `find` checks: reading checkpoints back for each resume would take minutes."""

PROBE_PREFIX = ".probe-"
"""Begins the names of the folders that `check_writable` makes, and removes unless it is killed."""

NO_UNITS: Mapping[str, str] = MappingProxyType({})


class Store:
    """Artifacts (written once) below `artifacts/`, and files of runs (replaced at will) below `runs/`. Picklable."""

    def __init__(self, files: Files) -> None:
        """`files` are the operations that the store is built on. Nothing outside this package should need them."""
        self.files = files

    def __repr__(self) -> str:
        return f"Store({self.files.absolute('')!r})"

    def check_writable(self) -> None:
        """Write, list, read and remove a probe. UserError, with the remedy, if this or put-if-absent fails.

        StoreOutageError if the store is out of reach: no input need be at fault, and another attempt may succeed.
        """
        folder = f"{PROBE_PREFIX}{uuid4().hex}"
        probe = f"{folder}/probe"
        try:
            self.files.create(probe, b"first")
            overwritten = self.files.create(probe, b"second")
            self.files.sizes(folder)
            self.files.read(probe)
            self.files.remove_folder(folder)
        except StoreRefusedError as error:
            raise UserError(f"store: {self.files.absolute('')} is not writable: {error}") from error
        except self.files.failures as error:
            text = f"store: {self.files.absolute('')} is not writable: {error}; {self.files.remedy(error)}"
            raise (StoreOutageError(text) if isinstance(error, StoreOutageError) else UserError(text)) from error
        if overwritten:
            raise UserError(
                f"store: {self.files.absolute('')} ignores If-None-Match, so two runs could overwrite each other's "
                "records; use a store with conditional writes (S3, MinIO, Ceph) or a local folder"
            )

    def find(self, step: Step) -> Commit | None:
        """The commit of a step, or None if it is not done.

        Raises CorruptArtifactError, naming the file, in the cases of `recorded`, and if an output is missing, has
        another size or (up to `HASHED_BY_FIND` bytes) other bytes.
        """
        commit = self.recorded(step)
        if commit is None:
            return None
        self.check_sizes(commit, self.files.sizes(commit.folder))
        for logical, output in commit.outputs.items():
            if output.size <= HASHED_BY_FIND:
                self.read_bytes(commit, logical)
        return commit

    def check_sizes(self, commit: Commit, sizes: Mapping[str, int]) -> None:
        """CorruptArtifactError if an output is missing, or has another size. `sizes` are those in its folder."""
        for logical, output in commit.outputs.items():
            if logical not in sizes:
                raise self._corrupt(commit, logical, "missing")
            if sizes[logical] != output.size:
                raise self._corrupt(commit, logical, f"{sizes[logical]} bytes instead of {output.size}")

    def recorded(self, step: Step) -> Commit | None:
        """The commit record of a step, without a look at its outputs. None if there is none.

        Raises CorruptArtifactError if the record does not parse or has another identity.
        """
        commit = self._recorded(step)
        if commit is None:
            return None
        if (commit.step.name, commit.step.canonical) != (step.name, step.canonical):
            recorded, wanted = ({"step": s.name, **s.identity} for s in (commit.step, step))
            raise CorruptArtifactError(
                f"{self.files.absolute(step.record_path)} has another identity: "
                + "; ".join(difference(wanted, recorded))
            )
        return commit

    def commit_at(self, folder_name: str) -> Commit | None:
        """The commit record in a folder below `artifacts/`, unchecked.

        None if there is no record, or none that can be read.
        """
        path = f"{ARTIFACTS}/{folder_name}/{RECORD}"
        try:
            return Commit.from_json(self.files.read(path), self.files.absolute(path))
        except (FileNotFoundError, CorruptArtifactError):
            return None

    def commit(
        self,
        step: Step,
        outputs: Mapping[str, Path],
        *,
        units: Mapping[str, str] = NO_UNITS,
        provenance: Mapping[str, Any],
    ) -> Commit:
        """Copy local files or folders into the store and record them as the step's outputs.

        `outputs` maps a logical name without `/` to a file, or to a folder whose files become `name/relative/path`. Of
        several writers the first to record wins. The others, and whoever comes later, get its commit. Raises
        CorruptArtifactError if a corrupt artifact stands in the way (`discard` it first).
        """
        provenance = plain(provenance)
        sources = _files_of(outputs)
        if done := self.find(step):
            return done
        attempt = uuid4().hex[:8]
        folder = f"{step.path}/{attempt}"
        with ExitStack() as undo:
            undo.callback(self.files.remove_folder, folder)
            copied = {logical: self.files.upload(source, f"{folder}/{logical}") for logical, source in sources.items()}
            # From here on the files stay on any error: a record may be there although its answer was lost.
            undo.pop_all()
        created = datetime.now(UTC).isoformat(timespec="seconds")
        own = Commit(step, attempt, copied, dict(units), provenance, created)
        while not self.files.create(step.record_path, own.to_json().encode()):
            standing = self.find(step)
            if standing is None:
                continue  # discarded in between
            if standing.attempt != attempt:
                self.files.remove_folder(folder)
            return standing
        return own

    def discard(self, artifact: Step | Commit) -> None:
        """Remove an artifact so that it can be done again: the record first, then the outputs it names.

        A step stands for whatever is recorded for it. A commit stands for itself only, and is left alone if the step
        was redone since. Files of other attempts stay, because one may be about to be recorded. So do those of an
        unreadable record.
        """
        step = artifact if isinstance(artifact, Step) else artifact.step
        try:
            recorded = self._recorded(step)
        except CorruptArtifactError:
            self.files.remove(step.record_path)
            return
        if recorded is None or (isinstance(artifact, Commit) and recorded != artifact):
            return
        self.files.remove(step.record_path)
        self.files.remove_folder(f"{step.path}/{recorded.attempt}")

    @contextmanager
    def discarded_if_corrupt(self, commit: Commit) -> Iterator[None]:
        """Discards the commit at a CorruptArtifactError, which goes on: the next start makes it anew."""
        try:
            yield
        except CorruptArtifactError:
            self.discard(commit)
            raise

    def path_of(self, commit: Commit, logical: str) -> str:
        """The absolute path or `s3://` URL of an output or of a folder of outputs. KeyError if there is none."""
        if logical not in commit.outputs and not any(name.startswith(f"{logical}/") for name in commit.outputs):
            raise KeyError(f"{commit.step.path} has no output {logical!r}, only {sorted(commit.outputs)}")
        return self.files.absolute(f"{commit.folder}/{logical}")

    def read_bytes(self, commit: Commit, logical: str) -> bytes:
        """The bytes of an output. Raises CorruptArtifactError if they are not those that were committed."""
        try:
            data = self.files.read(f"{commit.folder}/{logical}")
        except FileNotFoundError as error:
            raise self._corrupt(commit, logical, "missing") from error
        self._check(commit, logical, Output(len(data), hashlib.sha256(data).hexdigest()))
        return data

    def download(self, commit: Commit, logical: str, target: BinaryIO) -> None:
        """Write the bytes of an output, which may be larger than memory, to `target`.

        Raises CorruptArtifactError in the cases of `read_bytes`, but only after the bytes were written.
        """
        try:
            read = self.files.download(f"{commit.folder}/{logical}", target)
        except FileNotFoundError as error:
            raise self._corrupt(commit, logical, "missing") from error
        self._check(commit, logical, read)

    def local_path(self, commit: Commit, logical: str) -> Path | None:
        """The place of an output or folder of outputs on this machine; None if programs would need a copy of it."""
        return self.files.local_path(f"{commit.folder}/{logical}")

    def write_file(self, path: str, data: bytes | Path) -> None:
        """Write or replace a file of a run (`runs/{name}/...`), from bytes or a local file."""
        self.files.replace(path, data)

    def read_file(self, path: str) -> bytes:
        """The bytes of a file of a run. FileNotFoundError if there is none."""
        return self.files.read(path)

    def exists(self, path: str) -> bool:
        """Whether a file or folder is there."""
        return self.files.exists(path)

    def list(self, folder: str) -> list[str]:
        """Sorted names of the files and folders directly in a folder, empty if there is no folder."""
        return self.files.names(folder)

    def location(self, path: str) -> str:
        """The absolute path or `s3://` URL of a file or folder of a run."""
        return self.files.absolute(path)

    def size(self, folder: str) -> int:
        """Bytes of all files below a folder."""
        return sum(self.files.sizes(folder).values())

    def _recorded(self, step: Step) -> Commit | None:
        try:
            text = self.files.read(step.record_path)
        except FileNotFoundError:
            return None
        return Commit.from_json(text, self.files.absolute(step.record_path))

    def _check(self, commit: Commit, logical: str, read: Output) -> None:
        output = commit.outputs[logical]
        if read.size != output.size:
            raise self._corrupt(commit, logical, f"{read.size} bytes instead of {output.size}")
        if read.sha256 != output.sha256:
            raise self._corrupt(commit, logical, f"sha256 {read.sha256} instead of {output.sha256}")

    def _corrupt(self, commit: Commit, logical: str, fault: str) -> CorruptArtifactError:
        return CorruptArtifactError(f"{self.files.absolute(f'{commit.folder}/{logical}')}: {fault}")


def _files_of(outputs: Mapping[str, Path]) -> dict[str, Path]:
    """Logical name -> file, with folders replaced by the files in them."""
    files = {}
    for logical, path in outputs.items():
        if not logical or "/" in logical:
            raise ValueError(f"not a logical name: {logical!r}")
        if not path.is_dir():
            files[logical] = path
            continue
        inside = {f"{logical}/{p.relative_to(path).as_posix()}": p for p in sorted(path.rglob("*")) if not p.is_dir()}
        if not inside:
            raise ValueError(f"output {logical!r} is an empty folder: {path}")
        files |= inside
    return files
