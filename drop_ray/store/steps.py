"""The values that the store deals in: a step (what is to be computed), its outputs, and the commit record of them.

No files are touched here. A step's identity decides its path, so equal steps of several runs share an artifact.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from drop_ray.errors import CorruptArtifactError, UserError
from drop_ray.reading.json_text import parse_json_object
from drop_ray.store.identity import canonical_json, fingerprint, json_sha256
from drop_ray.text.path_names import inner_path

STEP_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
ARTIFACTS = "artifacts"
RECORD = "commit.json"
VERSIONS = "versions"
ATTEMPT_NAME = re.compile(r"[0-9a-f]{8}")


@dataclass(frozen=True)
class Step:
    """A step or a unit of one: its name and its identity.

    The field `versions` of the identity, if there is one, has the library versions. They have a hash of their own in
    the path, so that artifacts which differ in nothing else are found beside each other.

    Tuples become lists, so that a step read back from a record equals the original. Raises TypeError for an identity
    that has no canonical JSON. Raises ValueError for a name that is not lower case letters, digits, `_` and `-`, and
    for an identity with a field `step`, which would hide the name.
    """

    name: str
    """Name of the computation, such as `score`."""
    identity: Mapping[str, Any]
    """Everything that decides the values that it computes, as plain JSON values."""

    def __post_init__(self) -> None:
        if not STEP_NAME.fullmatch(self.name):
            raise ValueError(f"not a step name: {self.name!r} (lower case letters, digits, _ and -)")
        if "step" in self.identity:
            raise ValueError(f"the identity of {self.name} has a field 'step', which is reserved for the name")
        canonical = canonical_json(self.identity)
        object.__setattr__(self, "identity", json.loads(canonical))
        self.__dict__["canonical"] = canonical  # known already: the property need not write it again

    @cached_property
    def canonical(self) -> str:
        """The identity as canonical JSON."""
        return canonical_json(self.identity)

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
    """One committed file."""

    size: int
    """Size in bytes."""
    sha256: str
    """sha256 of its bytes, 64 hex digits."""

    @staticmethod
    def of(fields: Any) -> "Output":
        """From the fields as a record has them. ValueError, KeyError or TypeError for anything else."""
        size, sha256 = fields["size"], fields["sha256"]
        if type(size) is not int or size < 0 or not isinstance(sha256, str):
            raise ValueError(f"not the size and the checksum of an output: {fields!r}")
        return Output(size, sha256)


@dataclass(frozen=True)
class Commit:
    """The commit record of a finished step."""

    step: Step
    """The step that was done."""
    attempt: str
    """Name of the folder of the writer that recorded first."""
    outputs: Mapping[str, Output]
    """Outputs by logical name (`scores.parquet`, `checkpoint/config.json`)."""
    units: Mapping[str, str]
    """Checksum of each unit that it was made of, by the path of the unit's step."""
    provenance: Mapping[str, Any]
    """Library versions, host and times, which identify nothing."""
    created: str
    """When it was recorded, ISO 8601 in UTC."""

    @property
    def checksum(self) -> str:
        """The sha256 of what was computed: of logical names and bytes only, so that a redone step has an equal one."""
        pairs = sorted((logical, output.sha256) for logical, output in self.outputs.items())
        return json_sha256(pairs)

    @property
    def folder(self) -> str:
        """The folder of the outputs, below the store."""
        return f"{self.step.path}/{self.attempt}"

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1, sort_keys=True)

    @staticmethod
    def from_json(text: bytes, where: str) -> "Commit":
        """Parse a record. Raises CorruptArtifactError, which names the file `where` and what is wrong."""
        try:
            record = parse_json_object(text, where)
            if not ATTEMPT_NAME.fullmatch(record["attempt"]):
                raise ValueError(f"not the name of an attempt: {record['attempt']!r}")
            return Commit(
                step=Step(record["step"]["name"], record["step"]["identity"]),
                attempt=record["attempt"],
                outputs={inner_path(name): Output.of(fields) for name, fields in record["outputs"].items()},
                units=dict(record["units"]),
                provenance=dict(record["provenance"]),
                created=str(record["created"]),
            )
        except UserError as error:
            fault = str(error).removeprefix(f"{where}: ")
            raise CorruptArtifactError(f"{where} is not a commit record: {fault}") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CorruptArtifactError(f"{where} is not a commit record: {type(error).__name__}: {error}") from error


def plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """A copy made of plain JSON values. Raises TypeError where there is no canonical JSON."""
    copy: dict[str, Any] = json.loads(canonical_json(values))
    return copy
