"""Finding, committing and discarding artifacts, and the plain files of a run.

An artifact is a folder of attempts and one record, `commit.json`, that is written last and by one writer only. It is
done when the record parses, its identity is the step's and its outputs are there with their sizes. A crash at any
point leaves no record, or a record whose outputs are complete; files of lost attempts are never read.
"""

import hashlib
from collections.abc import Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any
from uuid import uuid4

from drop_ray.errors import CorruptArtifactError, UserError
from drop_ray.identity import canonical_json, difference
from drop_ray.store.filesystem import Files, LocalFiles
from drop_ray.store.steps import ARTIFACTS, RECORD, Commit, Step, plain

HASHED_BY_FIND = 16 * 2**20
"""Largest output, in bytes, whose sha256 `find` checks: reading back checkpoints for each resume would cost minutes."""

NO_UNITS: Mapping[str, str] = MappingProxyType({})


class Store:
    """Artifacts (written once) below `artifacts/`, files of runs (replaced at will) below `runs/`. Picklable."""

    def __init__(self, files: Files) -> None:
        self._files = files

    def __repr__(self) -> str:
        return f"Store({self._files.absolute('')!r})"

    def check_writable(self) -> None:
        """Write, list, read and remove a probe; raises UserError with the remedy if this or put-if-absent fails."""
        folder = f".probe-{uuid4().hex}"
        probe = f"{folder}/probe"
        try:
            self._files.create(probe, b"first")
            overwritten = self._files.create(probe, b"second")
            self._files.sizes(folder)
            self._files.read(probe)
            self._files.remove_folder(folder)
        except self._files.failures as error:
            raise UserError(
                f"store: {self._files.absolute('')} is not writable: {error}; {self._files.remedy(error)}"
            ) from error
        if overwritten:
            raise UserError(
                f"store: {self._files.absolute('')} ignores If-None-Match, so two runs could overwrite each other's "
                "records; use a store with conditional writes (S3, MinIO, Ceph) or a local folder"
            )

    def find(self, step: Step) -> Commit | None:
        """The commit of a step, or None if it is not done.

        Raises CorruptArtifactError, naming the file, if the record does not parse or has another identity, or if an
        output is missing, has another size or (up to `HASHED_BY_FIND` bytes) other bytes.
        """
        commit = self._recorded(step)
        if commit is None:
            return None
        if canonical_json(commit.step.identity) != canonical_json(step.identity) or commit.step.name != step.name:
            recorded, wanted = ({"step": s.name, **s.identity} for s in (commit.step, step))
            raise CorruptArtifactError(
                f"{self._files.absolute(step.record_path)} has another identity: "
                + "; ".join(difference(wanted, recorded))
            )
        sizes = self._files.sizes(commit.folder)
        for logical, output in commit.outputs.items():
            if logical not in sizes:
                raise self._corrupt(commit, logical, "missing")
            if sizes[logical] != output.size:
                raise self._corrupt(commit, logical, f"{sizes[logical]} bytes instead of {output.size}")
            if output.size <= HASHED_BY_FIND:
                self.read_bytes(commit, logical)
        return commit

    def commit_at(self, folder_name: str) -> Commit | None:
        """What is recorded in a folder below `artifacts/`, unchecked; None if nothing is, or nothing readable."""
        path = f"{ARTIFACTS}/{folder_name}/{RECORD}"
        try:
            return Commit.from_json(self._files.read(path), self._files.absolute(path))
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

        `outputs` maps a logical name without `/` to a file, or to a folder whose files become `name/relative/path`.
        Of several writers the first to record wins; the others, and whoever comes later, get its commit. Raises
        CorruptArtifactError if a corrupt artifact stands in the way (`discard` it first).
        """
        provenance = plain(provenance)
        sources = _files_of(outputs)
        if done := self.find(step):
            return done
        attempt = uuid4().hex[:8]
        folder = f"{step.path}/{attempt}"
        with ExitStack() as undo:
            undo.callback(self._files.remove_folder, folder)
            copied = {logical: self._files.upload(source, f"{folder}/{logical}") for logical, source in sources.items()}
            # From here on the files stay on any error: a record may be there although its answer was lost.
            undo.pop_all()
        created = datetime.now(UTC).isoformat(timespec="seconds")
        own = Commit(step, attempt, copied, dict(units), provenance, created)
        while not self._files.create(step.record_path, own.to_json().encode()):
            standing = self.find(step)
            if standing is None:
                continue  # discarded in between
            if standing.attempt != attempt:
                self._files.remove_folder(folder)
            return standing
        return own

    def discard(self, artifact: Step | Commit) -> None:
        """Remove an artifact so that it can be done again: the record first, then the outputs it names.

        A step stands for whatever is recorded for it, a commit only for itself: it is left alone if the step was redone
        since. Other attempts' files stay, because one may be about to be recorded; so do those of an unreadable record.
        """
        step = artifact if isinstance(artifact, Step) else artifact.step
        try:
            recorded = self._recorded(step)
        except CorruptArtifactError:
            self._files.remove(step.record_path)
            return
        if recorded is None or (isinstance(artifact, Commit) and recorded != artifact):
            return
        self._files.remove(step.record_path)
        self._files.remove_folder(f"{step.path}/{recorded.attempt}")

    def path_of(self, commit: Commit, logical: str) -> str:
        """The absolute path or `s3://` URL of an output or of a folder of outputs; KeyError if there is none."""
        if logical not in commit.outputs and not any(name.startswith(f"{logical}/") for name in commit.outputs):
            raise KeyError(f"{commit.step.path} has no output {logical!r}, only {sorted(commit.outputs)}")
        return self._files.absolute(f"{commit.folder}/{logical}")

    def read_bytes(self, commit: Commit, logical: str) -> bytes:
        """The bytes of an output; raises CorruptArtifactError if they are not those that were committed."""
        output = commit.outputs[logical]
        try:
            data = self._files.read(f"{commit.folder}/{logical}")
        except FileNotFoundError as error:
            raise self._corrupt(commit, logical, "missing") from error
        if len(data) != output.size:
            raise self._corrupt(commit, logical, f"{len(data)} bytes instead of {output.size}")
        digest = hashlib.sha256(data).hexdigest()
        if digest != output.sha256:
            raise self._corrupt(commit, logical, f"sha256 {digest} instead of {output.sha256}")
        return data

    def write_file(self, path: str, data: bytes | Path) -> None:
        """Write or replace a file of a run (`runs/{name}/...`), from bytes or a local file."""
        self._files.replace(path, data)

    def read_file(self, path: str) -> bytes:
        """The bytes of a file of a run; FileNotFoundError if there is none."""
        return self._files.read(path)

    def exists(self, path: str) -> bool:
        """Whether a file or folder is there."""
        return self._files.exists(path)

    def list(self, folder: str) -> list[str]:
        """Sorted names of the files and folders directly in a folder; empty if there is none."""
        return self._files.names(folder)

    def location(self, path: str) -> str:
        """The absolute path or `s3://` URL of a file or folder of a run."""
        return self._files.absolute(path)

    def size(self, folder: str) -> int:
        """Bytes of all files below a folder."""
        return sum(self._files.sizes(folder).values())

    def _recorded(self, step: Step) -> Commit | None:
        try:
            text = self._files.read(step.record_path)
        except FileNotFoundError:
            return None
        return Commit.from_json(text, self._files.absolute(step.record_path))

    def _corrupt(self, commit: Commit, logical: str, fault: str) -> CorruptArtifactError:
        return CorruptArtifactError(f"{self._files.absolute(f'{commit.folder}/{logical}')}: {fault}")


def open_store(url: str, options: Mapping[str, Any] | None = None) -> Store:
    """The store at a local folder or at `s3://bucket/prefix`; nothing is read or written yet.

    `options` are arguments of `s3fs.S3FileSystem`, such as `endpoint_url`. Raises UserError for any other kind of URL,
    and for options with a folder.
    """
    scheme, separator, root = url.partition("://")
    if not separator:
        if options:
            raise UserError(f"store: options {sorted(options)} are for s3:// only, not for the folder {url}")
        return Store(LocalFiles(Path(url).expanduser().absolute()))
    if scheme != "s3" or not root.strip("/"):
        raise UserError(f"store: {url} is neither a local folder nor s3://bucket/prefix")
    from drop_ray.store.s3 import S3Files  # s3fs and botocore take 0.3 s to import

    return Store(S3Files(root.strip("/"), options or {}))


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
