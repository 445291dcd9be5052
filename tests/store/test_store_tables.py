"""Parquet tables: bytes that depend on the values only, and reading that checks them."""

from pathlib import Path

import pyarrow as pa
import pytest

from drop_ray.errors import CorruptArtifactError
from drop_ray.store import Step, Store
from drop_ray.store.tables import read_table, write_table

ROWS = 60_000  # several parquet pages, whose borders must not follow the chunks


@pytest.fixture
def table() -> pa.Table:
    return pa.table(
        {
            "sample": pa.array([i // 10 for i in range(ROWS)], pa.int32()),
            "module": ["attention" if i % 3 else "mlp" for i in range(ROWS)],
            "total": pa.array([None if i == 7 else i / 7 for i in range(ROWS)], pa.float64()),
        }
    )


def test_equal_values_give_equal_bytes(table: pa.Table, tmp_path: Path) -> None:
    variants = {
        "whole": table,
        "again": table,
        "chunked": pa.concat_tables([table.slice(0, 1), table.slice(1, 1234), table.slice(1235)]),
        "sliced": pa.concat_tables([table, table]).slice(ROWS // 2 + ROWS // 2, ROWS),
        "noted": table.replace_schema_metadata({"pandas": "{}", "reader": "x"}),
        "from pandas": pa.Table.from_pandas(table.to_pandas()).cast(table.schema),
    }
    for name, variant in variants.items():
        write_table(variant, tmp_path / name)
    contents = {name: (tmp_path / name).read_bytes() for name in variants}
    assert {name for name, content in contents.items() if content != contents["whole"]} == set()
    write_table(table.slice(1), tmp_path / "fewer")
    assert (tmp_path / "fewer").read_bytes() != contents["whole"]


def test_metadata_of_a_field_leaves_no_trace(table: pa.Table, tmp_path: Path) -> None:
    noted = pa.schema([field.with_metadata({"note": "x"}) for field in table.schema])
    write_table(table, tmp_path / "plain")
    write_table(table.cast(noted), tmp_path / "noted")
    assert (tmp_path / "noted").read_bytes() == (tmp_path / "plain").read_bytes()


def test_a_committed_table_is_read_back_and_checked(store: Store, step: Step, table: pa.Table, tmp_path: Path) -> None:
    write_table(table, tmp_path / "scores.parquet")
    commit = store.commit(step, {"scores.parquet": tmp_path / "scores.parquet"}, provenance={})
    assert read_table(store, commit, "scores.parquet").equals(table)
    damaged = bytearray((tmp_path / "scores.parquet").read_bytes())
    damaged[200] ^= 1
    store.write_file(f"{commit.folder}/scores.parquet", bytes(damaged))
    with pytest.raises(CorruptArtifactError, match=r"scores\.parquet: sha256"):
        read_table(store, commit, "scores.parquet")
