"""Tables that the driver makes itself and commits."""

import tempfile
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa

from drop_ray.job.job import Job
from drop_ray.store import Commit, Step
from drop_ray.store.tables import write_table
from drop_ray.store.versions import full_versions


def commit_table(job: Job, step: Step, name: str, table: pa.Table, units: Mapping[str, str] | None = None) -> Commit:
    """Commit a table. units: checksums of the units that it was made of, by the paths of their steps."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        write_table(table, path)
        return job.store.commit(step, {name: path}, units=units or {}, provenance={"versions": full_versions()})
