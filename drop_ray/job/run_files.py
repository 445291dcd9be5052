"""The files that a run writes into its folder, with lists of their checksums for `drop-ray verify`.

`files/{start}.json` says what a start that came to its end has left there. From its beginning to its end there is
`files/{start}.begun`, so that a crash leaves files that are said to be unchecked, and never some that are said to be
damaged. A start that ends removes what it found in `files/` at its beginning. Two starts at once write the same files,
not always with the same bytes, as each has its own warnings: both lists stay, and a file is right by either of them.
"""

import hashlib
import json
from dataclasses import asdict
from uuid import uuid4

from drop_ray.errors import CorruptArtifactError, UserError
from drop_ray.reading.json_text import parse_json_object
from drop_ray.store import Output, Store
from drop_ray.text.path_names import inner_path

FILES = "files"
"""Folder in a run's folder that has the lists, one for each start."""
BEGUN = ".begun"


class RunFiles:
    """The files of one run, as one start of it writes them."""

    def __init__(self, store: Store, run_folder: str):
        self._store, self._run_folder = store, run_folder
        self._start = f"{run_folder}/{FILES}/{uuid4().hex[:12]}"
        self._earlier: list[str] = []
        self._known: dict[str, Output] | None = None
        self._untouched: set[str] = set()

    def write(self, name: str, data: bytes) -> None:
        """Write or replace a file, unless it is there already. `name` is its path in the run's folder."""
        known, output = self._begin(), Output(len(data), hashlib.sha256(data).hexdigest())
        if name in self._untouched and known[name] == output:
            return
        known[name] = output
        self._untouched.discard(name)
        self._store.write_file(f"{self._run_folder}/{name}", data)

    def under(self, folder: str) -> list[str]:
        """Paths of the files in a folder of the run's folder that an earlier start or this one wrote."""
        return [name for name in self._begin() if name.startswith(f"{folder}/")]

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        self._begin().pop(name, None)
        self._untouched.discard(name)
        self._store.files.remove(f"{self._run_folder}/{name}")

    def finish(self) -> None:
        """The run has come to its end: what is there is what `verify` shall find."""
        files = {name: asdict(output) for name, output in sorted(self._begin().items())}
        self._store.write_file(f"{self._start}.json", json.dumps({"files": files}, indent=1).encode())
        for path in (*self._earlier, f"{self._start}{BEGUN}"):
            self._store.files.remove(path)

    def _begin(self) -> dict[str, Output]:
        if self._known is None:
            listed = self._store.files.inventory(self._run_folder)
            lists = [name for name in listed if name.startswith(f"{FILES}/")]
            self._earlier = [f"{self._run_folder}/{name}" for name in lists]
            try:
                recorded = recorded_files(self._store, self._run_folder)
            except UserError:
                recorded = {}
            self._known = {name: outputs[0] for name, outputs in recorded.items()}
            # The list was written last: a file that is younger was written by somebody else since. Of two starts at
            # once nobody knows which one wrote a file.
            written = listed[lists[0]].modified if len(lists) == 1 else 0.0
            self._untouched = {
                name
                for name, output in self._known.items()
                if name in listed and listed[name].size == output.size and listed[name].modified <= written
            }
            self._store.write_file(f"{self._start}{BEGUN}", b"")
        return self._known


def are_complete(store: Store, run_folder: str) -> bool:
    """Whether a start of the run came to its end, and none is under way or was interrupted since."""
    names = store.list(f"{run_folder}/{FILES}")
    return bool(names) and not any(name.endswith(BEGUN) for name in names)


def recorded_files(store: Store, run_folder: str) -> dict[str, list[Output]]:
    """Size and checksum of each file of a run, by its path in the run's folder, as the starts that ended left it.

    More than one where starts at once wrote different bytes. UserError if a list cannot be read.
    """
    found: dict[str, list[Output]] = {}
    lists = [name for name in store.list(f"{run_folder}/{FILES}") if not name.endswith(BEGUN)]
    for path in (f"{run_folder}/{FILES}/{name}" for name in lists):
        where = store.location(path)
        try:
            values = parse_json_object(read_run_file(store, path), where)
            files = {inner_path(name): Output.of(fields) for name, fields in values["files"].items()}
        except FileNotFoundError:
            continue  # a start has just come to its end
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError(f"{where}: is not the list of a run's files: {error!r}") from error
        for name, output in files.items():
            if output not in found.setdefault(name, []):
                found[name].append(output)
    return found


def read_run_file(store: Store, path: str) -> bytes:
    """The bytes of a file in a run's folder.

    FileNotFoundError if there is none. UserError if what is there is no file.
    """
    try:
        return store.read_file(path)
    except CorruptArtifactError as error:
        raise UserError(str(error)) from error
