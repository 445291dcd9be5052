"""The values the store speaks of: a step (what is to be computed), its outputs, and the commit record proving them.

Pure: no files are touched here. A step's identity decides its path, so equal steps of several runs share an artifact.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from drop_ray.errors import CorruptArtifactError
from drop_ray.identity import canonical_json, fingerprint

STEP_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
ARTIFACTS = "artifacts"
RECORD = "commit.json"
VERSIONS = "versions"
ATTEMPT_NAME = re.compile(r"[0-9a-f]{8}")


@dataclass(frozen=True)
class Step:
    """A step or a unit of one: its name and whatever decides the values it computes.

    The identity's field `versions`, if there is one, has the library versions: they have a hash of their own in the
    path, so that artifacts which differ in nothing else are found beside each other.

    The identity is kept as plain JSON values (tuples become lists), so a step read back from a record equals the
    original. Raises TypeError for an identity that has no canonical JSON, ValueError for a name that is not lower case
    letters, digits, `_` and `-`, or for an identity with a field `step`, which would hide the name.
    """

    name: str
    identity: Mapping[str, Any]

    def __post_init__(self) -> None:
        if not STEP_NAME.fullmatch(self.name):
            raise ValueError(f"not a step name: {self.name!r} (lower case letters, digits, _ and -)")
        if "step" in self.identity:
            raise ValueError(f"the identity of {self.name} has a field 'step', which is reserved for the name")
        object.__setattr__(self, "identity", plain(self.identity))

    @cached_property
    def family(self) -> str:
        """The beginning of the folder's name that all library versions share."""
        values = {key: value for key, value in self.identity.items() if key != VERSIONS}
        return f"{self.name}-{fingerprint({'step': self.name, **values})}"

    @cached_property
    def folder_name(self) -> str:
        versions = self.identity.get(VERSIONS)
        return f"{self.family}-{fingerprint(versions)[:8]}" if versions else self.family

    @property
    def path(self) -> str:
        """The artifact's folder below the store."""
        return f"{ARTIFACTS}/{self.folder_name}"

    @property
    def record_path(self) -> str:
        """The commit record, below the store."""
        return f"{self.path}/{RECORD}"


@dataclass(frozen=True)
class Output:
    """One committed file: its size in bytes and the sha256 of its bytes (64 hex digits)."""

    size: int
    sha256: str


@dataclass(frozen=True)
class Commit:
    """What a finished step left behind.

    `attempt` is the folder of the writer that won, `outputs` is keyed by logical name (`scores.parquet`,
    `checkpoint/config.json`), `units` maps the path of each unit's step to that unit's checksum, `provenance` is
    free (library versions, host, times) and identifies nothing, `created` is ISO 8601 in UTC.
    """

    step: Step
    attempt: str
    outputs: Mapping[str, Output]
    units: Mapping[str, str]
    provenance: Mapping[str, Any]
    created: str

    @property
    def checksum(self) -> str:
        """The sha256 of what was computed: logical names and bytes only, so that a redone step has an equal one."""
        pairs = sorted((logical, output.sha256) for logical, output in self.outputs.items())
        return hashlib.sha256(canonical_json(pairs).encode()).hexdigest()

    @property
    def folder(self) -> str:
        """The folder of the outputs, below the store."""
        return f"{self.step.path}/{self.attempt}"

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1, sort_keys=True)

    @staticmethod
    def from_json(text: bytes, where: str) -> "Commit":
        """Parse a record; raises CorruptArtifactError, which names the file `where` and what is wrong."""
        try:
            record = json.loads(text)
            if not ATTEMPT_NAME.fullmatch(record["attempt"]):
                raise ValueError(f"not the name of an attempt: {record['attempt']!r}")
            return Commit(
                step=Step(record["step"]["name"], record["step"]["identity"]),
                attempt=record["attempt"],
                outputs={name: Output(int(o["size"]), str(o["sha256"])) for name, o in record["outputs"].items()},
                units=dict(record["units"]),
                provenance=dict(record["provenance"]),
                created=str(record["created"]),
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CorruptArtifactError(f"{where} is not a commit record: {type(error).__name__}: {error}") from error


def plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """A copy made of plain JSON values; raises TypeError where there is no canonical JSON."""
    copy: dict[str, Any] = json.loads(canonical_json(values))
    return copy
