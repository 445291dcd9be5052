"""Result tables as parquet files whose bytes depend on their values only: equal results have equal checksums."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from drop_ray.store.steps import Commit
from drop_ray.store.store import Store


def write_table(table: pa.Table, path: Path) -> None:
    """Write a parquet file with the same bytes for the same columns, types and values, in the order they are in.

    How the table was cut into chunks and its metadata (a pandas index, notes of a reader) leave no trace.
    """
    # Fields carry metadata too: parquet readers add a field id, which would make a copy differ from its original.
    schema = pa.schema([field.remove_metadata() for field in table.schema])
    pq.write_table(
        pa.Table.from_arrays(table.columns, schema=schema),
        path,
        version="2.6",
        compression="zstd",
        compression_level=3,
        row_group_size=2**20,
        data_page_version="1.0",
    )


def read_table(store: Store, commit: Commit, logical: str) -> pa.Table:
    """A table of an artifact. Raises CorruptArtifactError if its bytes are not those that were committed."""
    return pq.read_table(pa.BufferReader(store.read_bytes(commit, logical)))
