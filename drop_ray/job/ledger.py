"""Which units a run has and which of them are done: the memory behind resuming, `drop-ray status` and the report."""

import json
import logging
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from drop_ray.errors import CorruptArtifactError, UserError
from drop_ray.job.known_commits import KnownCommits
from drop_ray.job.run_files import read_run_file
from drop_ray.reading.json_text import parse_json
from drop_ray.store import Commit, Step, Store
from drop_ray.store.filesystem import READS_AT_ONCE
from drop_ray.store.lookup import Found, find_all
from drop_ray.store.steps import ARTIFACTS, VERSIONS

logger = logging.getLogger(__name__)

MANIFEST = "steps.json"


@dataclass(frozen=True)
class Entry:
    """A unit of the run."""

    stage: str
    """Stage that the unit belongs to."""
    label: str
    """Name of the unit, for people."""
    step: Step
    """The unit's step, which identifies it."""
    commit: Commit | None
    """The unit's commit; None until it is done."""
    computed: bool = False
    """Whether this start of the run computed it."""


class Ledger:
    """The units of one run, in the order in which they were met.

    With `reuse`, it takes units that were done with other library versions, if all units of a stage were done with the
    same ones.
    """

    def __init__(self, store: Store, run_folder: str, reuse: bool = False):
        self._store, self._run_folder, self._reuse = store, run_folder, reuse
        self._known = KnownCommits(store, run_folder)
        self._entries: dict[str, Entry] = {}
        self._written = ""

    @property
    def entries(self) -> list[Entry]:
        return list(self._entries.values())

    @property
    def kept(self) -> str:
        """What a run that ends early leaves, for people; empty if it came to no units."""
        done = sum(entry.commit is not None for entry in self._entries.values())
        return (
            f"{done} of the {len(self._entries)} units that it has come to are done and kept" if self._entries else ""
        )

    def pending(self, stage: str, steps: Mapping[str, Step]) -> dict[str, Step]:
        """The labelled steps that are not done.

        A corrupt artifact is named and removed, and so pending again.
        """
        asked = {label: step for label, step in steps.items() if not self._has(step)}
        found = self.look(asked.values())
        for label, step in asked.items():
            self._entries[step.path] = Entry(stage, label, step, self._taken(label, step, found[step.path]))
        for name in sorted({step.name for step in steps.values()}):
            alike = {label: step for label, step in steps.items() if step.name == name}
            if any(self._entries[step.path].commit is None for step in alike.values()):
                self._look_at_other_versions(stage, alike)
        return {label: step for label, step in steps.items() if self._entries[step.path].commit is None}

    def look(self, steps: Iterable[Step]) -> dict[str, Found]:
        """What the store has of some steps, by their paths, as `find_all` does; nothing is changed."""
        return find_all(self._store, steps, self._known.commits)

    def add(self, commit: Commit) -> None:
        """A unit that `pending` named is now done."""
        entry = self._entries[commit.step.path]
        self._entries[commit.step.path] = Entry(entry.stage, entry.label, entry.step, commit, computed=True)
        self._known.add(commit)

    def redo(self, step: Step) -> None:
        """Take a done step's artifact away, because what it was made of has changed."""
        entry = self._entries[step.path]
        if entry.commit is not None:
            self._store.discard(entry.commit)
        self._entries[step.path] = Entry(entry.stage, entry.label, step, None)

    def is_done(self, step: Step) -> bool:
        """Whether a step that `pending` was told of is done."""
        return self._entries[step.path].commit is not None

    def commit_of(self, step: Step) -> Commit:
        commit = self._entries[step.path].commit
        if commit is None:
            raise KeyError(f"{step.path} is not done")
        return commit

    def _has(self, step: Step) -> bool:
        return step.path in self._entries and self._entries[step.path].commit is not None

    def _taken(self, label: str, step: Step, found: Found) -> Commit | None:
        """What a look into the store has found, once a corrupt artifact is out of the way."""
        if isinstance(found, CorruptArtifactError):
            logger.warning("%s is corrupt and will be redone: %s", label, found)
            self._store.discard(step)
            return None
        if found is not None:
            self._known.add(found)
        return found

    def _look_at_other_versions(self, stage: str, steps: Mapping[str, Step]) -> None:
        """Log which steps were done with other library versions.

        With `reuse`, take those commits if they cover every step: versions never mix.
        """
        done = self._other_versions(steps)
        if not done:
            return
        versions, commits = max(done.items(), key=lambda item: len(item[1]))
        example = next(iter(commits.values()))
        if self._reuse and len(commits) == len(steps):
            logger.info("%s: reusing %d units done with %s", stage, len(steps), versions)
            for label, step in steps.items():
                self._entries[step.path] = Entry(stage, label, step, commits[label])
            return
        remedy = "run with --reuse to take them" if len(commits) == len(steps) else "they cannot be mixed with new ones"
        logger.warning(
            "%s: %d of %d units were done with other libraries (%s), such as %s; %s",
            *(stage, len(commits), len(steps), versions, example.step.path, remedy),
        )

    def _other_versions(self, steps: Mapping[str, Step]) -> dict[str, dict[str, Commit]]:
        """The labelled steps that were done with other library versions: {versions as text: {label: commit}}."""
        labels = {step.family: label for label, step in steps.items()}
        own = {step.folder_name for step in steps.values()}
        done: dict[str, dict[str, Commit]] = {}
        families = {name: name.rpartition("-")[0] for name in self._artifact_names if name not in own}
        alike = [name for name, family in families.items() if family in labels]
        with ThreadPoolExecutor(READS_AT_ONCE, thread_name_prefix="versions") as readers:
            commits = dict(zip(alike, readers.map(self._store.commit_at, alike), strict=True))
        for name, commit in commits.items():
            if commit is not None:
                versions = ", ".join(
                    f"{library} {number}" for library, number in commit.step.identity[VERSIONS].items()
                )
                done.setdefault(versions, {})[labels[families[name]]] = commit
        return done

    @cached_property
    def _artifact_names(self) -> list[str]:
        """Names of all artifacts, listed once, and only if something is to be computed."""
        return self._store.list(ARTIFACTS)

    def write(self) -> None:
        """Write the manifest, with the units that an earlier start met in stages this start has not come to yet.

        The records of the units that are done are written too, for the next start and for `drop-ray status`.
        """
        self._known.write()
        steps = [
            (entry.stage, entry.label, entry.commit.step if entry.commit else entry.step)
            for entry in self._entries.values()
        ]
        stages = {stage for stage, _, _ in steps}
        steps += [unit for unit in self._earlier if unit[0] not in stages]
        units = [
            json.dumps({"stage": stage, "label": label, "name": step.name, "identity": step.identity})
            for stage, label, step in steps
        ]
        text = "[\n" + ",\n".join(units) + "\n]\n"
        if text != self._written:
            self._store.write_file(f"{self._run_folder}/{MANIFEST}", text.encode())
            self._written = text

    @cached_property
    def _earlier(self) -> list[tuple[str, str, Step]]:
        """(stage, label, step) of the units that an earlier start of the run had met."""
        try:
            return read_manifest(self._store, self._run_folder)
        except FileNotFoundError:
            return []
        except UserError as error:
            logger.warning("%s; it is written anew", error)
            self._store.files.remove(f"{self._run_folder}/{MANIFEST}")
            return []


def read_manifest(store: Store, run_folder: str) -> list[tuple[str, str, Step]]:
    """(stage, label, step) of every unit that the run has met so far.

    FileNotFoundError if there is no such run. UserError if the list cannot be read; the next start writes it anew.
    """
    path = f"{run_folder}/{MANIFEST}"
    where = store.location(path)
    try:
        units = parse_json(read_run_file(store, path), where)
        return [(_text(unit["stage"]), _text(unit["label"]), Step(unit["name"], unit["identity"])) for unit in units]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{where}: is not the list of a run's units: {error!r}") from error


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value
