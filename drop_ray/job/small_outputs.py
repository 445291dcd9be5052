"""The small results of a run's units in one file of its folder, so that a report need not read thousands of files.

An output is found by the sha256 that its commit record names, and compared with it: the file cannot give wrong bytes.
What it lacks is read from the artifacts, several at a time, and added to it.
"""

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.parquet as pq

from drop_ray.store import Commit, Store
from drop_ray.store.filesystem import READS_AT_ONCE

GATHERED = "outputs.parquet"
# Reading a larger output takes longer than asking for it.
SMALL_BYTES = 64 << 10

Wanted = tuple[Commit, str]


def read_outputs(store: Store, run_folder: str, wanted: Sequence[Wanted]) -> list[bytes]:
    """The bytes of outputs, each named by its commit and its logical name.

    CorruptArtifactError if the bytes are not those that were committed; the unit is then done again at the next start.
    """
    path = f"{run_folder}/{GATHERED}"
    gathered = _gathered(store, path)
    hashes = [commit.outputs[logical].sha256 for commit, logical in wanted]
    missing = {sha256: output for sha256, output in zip(hashes, wanted, strict=True) if sha256 not in gathered}
    with ThreadPoolExecutor(READS_AT_ONCE, thread_name_prefix="outputs") as readers:
        read = dict(zip(missing, readers.map(lambda output: _read(store, *output), missing.values()), strict=True))
    found = {**gathered, **read}
    small = {sha256: found[sha256] for sha256 in hashes if len(found[sha256]) <= SMALL_BYTES}
    if small.keys() != gathered.keys():
        table = pa.table({"sha256": list(small), "data": pa.array(small.values(), pa.binary())})
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="zstd", use_dictionary=False)
        store.write_file(path, sink.getvalue().to_pybytes())
    return [found[sha256] for sha256 in hashes]


def _read(store: Store, commit: Commit, logical: str) -> bytes:
    with store.discarded_if_corrupt(commit):
        return store.read_bytes(commit, logical)


def _gathered(store: Store, path: str) -> dict[str, bytes]:
    """The sound rows by sha256; none if there is no such file, or none that can be read."""
    try:
        table = pq.read_table(pa.BufferReader(store.read_file(path)), columns=["sha256", "data"])
    except (FileNotFoundError, pa.ArrowException):
        return {}
    rows = zip(table["sha256"].to_pylist(), table["data"].to_pylist(), strict=True)
    return {sha256: data for sha256, data in rows if hashlib.sha256(data).hexdigest() == sha256}
