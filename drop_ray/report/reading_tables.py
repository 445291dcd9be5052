"""tables/*.parquet read back into rows: the other way of `report/tables.py`."""

import typing
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

import pyarrow as pa

Row = TypeVar("Row")


def rows_of_table(row: type[Row], table: pa.Table) -> list[Row]:
    """The rows of a topic's table. TypeError where a column of the rows is missing, as in tables of another version."""
    return [row(**dict(_values(row, values))) for values in table.to_pylist()]


def _values(row: type, values: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """The fields of a dataclass; what it holds in turn is none where all its columns are."""
    hints = typing.get_type_hints(row)
    for field in fields(row):
        inner = next((one for one in typing.get_args(hints[field.name]) if is_dataclass(one)), None)
        if inner is not None:
            held = dict(_values(inner, values, f"{path}{field.name}_"))  # type: ignore[arg-type]
            empty = all(value is None for value in held.values())
            yield field.name, None if empty else inner(**held)  # type: ignore[operator]
        elif (name := f"{path}{field.name}") in values:
            yield field.name, tuple(values[name]) if isinstance(values[name], list) else values[name]
