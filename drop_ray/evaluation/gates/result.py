"""What the gates say of one model: right or wrong by item, and which gates were not asked and why."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

ITEMS_SCHEMA = pa.schema(
    [("gate", pa.string()), ("item", pa.int32()), ("right", pa.int8()), ("measure", pa.float64())],
)


@dataclass(frozen=True)
class GateResult:
    """The answers to one gate."""

    gate: str
    """Its name, such as `needle-1024`."""
    title: str
    """Its name for people, such as `needle at 1,024 tokens`."""
    chance: float
    """Share of items that guessing gets right."""
    right: tuple[bool, ...] = ()
    """By item: whether the answer is right. Empty where there were no numbers."""
    measures: tuple[float, ...] = ()
    """By item: what was measured to decide it; empty for gates that compare likelihoods."""
    fault: str = ""
    """Why there are no numbers, if there are none."""

    @property
    def share(self) -> float:
        """Share of items that are right."""
        return sum(self.right) / len(self.right)


@dataclass(frozen=True)
class SkippedGate:
    """A gate that was not asked."""

    gate: str
    """Its name."""
    title: str
    """Its name for people."""
    reason: str
    """Why not."""


@dataclass(frozen=True)
class Answers:
    """All gates of one model."""

    results: tuple[GateResult, ...]
    """Of the gates that were asked, in order."""
    skipped: tuple[SkippedGate, ...] = ()
    """Of the others."""

    def to_json(self) -> str:
        """All but the single items, which `items` has."""
        results = [
            {
                "gate": one.gate,
                "title": one.title,
                "chance": one.chance,
                "share": one.share if one.right else None,
                "fault": one.fault,
            }
            for one in self.results
        ]
        return json.dumps({"results": results, "skipped": [vars(one) for one in self.skipped]}, indent=1)

    def items(self) -> pa.Table:
        """A row for each item."""
        rows = [
            (one.gate, number, int(right), one.measures[number] if one.measures else None)
            for one in self.results
            for number, right in enumerate(one.right)
        ]
        columns = zip(*rows, strict=True) if rows else [()] * len(ITEMS_SCHEMA)
        arrays = [pa.array(column, kind.type) for column, kind in zip(columns, ITEMS_SCHEMA, strict=True)]
        return pa.Table.from_arrays(arrays, schema=ITEMS_SCHEMA)


def read_answers(summary: bytes, items: pa.Table) -> Answers:
    """The answers again, from what `to_json` and `items` gave."""
    values = json.loads(summary)
    rows: dict[str, list[Mapping[str, object]]] = {}
    for row in items.to_pylist():
        rows.setdefault(row["gate"], []).append(row)
    return Answers(
        tuple(_result(one, rows.get(one["gate"], [])) for one in values["results"]),
        tuple(SkippedGate(**one) for one in values["skipped"]),
    )


def _result(values: Mapping[str, object], rows: Sequence[Mapping[str, object]]) -> GateResult:
    measures = tuple(row["measure"] for row in rows if row["measure"] is not None)
    return GateResult(
        gate=str(values["gate"]),
        title=str(values["title"]),
        chance=float(values["chance"]),  # type: ignore[arg-type]
        right=tuple(bool(row["right"]) for row in rows),
        measures=measures,  # type: ignore[arg-type]
        fault=str(values["fault"]),
    )
