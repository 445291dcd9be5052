"""tables/*.parquet: one tidy table per topic, for notebooks and for comparing runs; no pivoting needed.

A topic's columns are the fields of its rows, in their own types, and the fields' docstrings describe them: in the
Parquet files, and in docs/report-tables.md. What a field holds in turn has a column each (`average_value`); a property
is a column too. Equal results give equal bytes under one version of pyarrow.
"""

import ast
import inspect
import io
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import cache, reduce
from itertools import pairwise
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from tabulate import tabulate

from drop_ray.report import gate_rows, judgement, rows
from drop_ray.report.acceptance import AcceptanceRow, acceptance
from drop_ray.report.answers import FlipRow, flips
from drop_ray.report.budget_rows import BudgetRow, budgets_measured
from drop_ray.report.costs import CostRow
from drop_ray.report.divergence import DivergencePair, pairs
from drop_ray.report.divergence_rows import DivergenceRow, DivergenceSampleRow
from drop_ray.report.draft_rows import DraftPlanRow, DraftPrediction, DraftRow, SamplingRow, draft_predictions
from drop_ray.report.quantization import DifferenceRow, EffectsRow, differences, effects, perplexity_tasks
from drop_ray.report.recovery import RecoveryRow, recovery
from drop_ray.report.refit_rows import RefitErrorRow, RefitRow
from drop_ray.report.results import Results
from drop_ray.report.sensitivity_rows import AgreementRow, SensitivityRow
from drop_ray.report.serving import GammaRow, gamma_rows, references
from drop_ray.report.statistics import Standing, Task, standings
from drop_ray.report.texts import TextRow
from drop_ray.report.told_apart import ToldApartRow, told_apart
from drop_ray.store.identity import canonical_json

TOPICS: dict[str, tuple[type, Callable[[Results], Iterable[Any]]]] = {
    "variants": (rows.VariantRow, lambda results: results.variants),
    "scores": (rows.ScoreRow, lambda results: results.scores),
    "training": (rows.TrainingRow, lambda results: results.training),
    "evaluations": (rows.EvaluationRow, lambda results: results.evaluations),
    "documents": (rows.DocumentRow, lambda results: results.documents),
    "divergences": (DivergenceRow, lambda results: results.divergences),
    "divergence_samples": (DivergenceSampleRow, lambda results: results.divergence_samples),
    "divergence_pairs": (DivergencePair, pairs),
    "comparisons": (Standing, standings),
    "acceptance": (AcceptanceRow, acceptance),
    "verdicts": (gate_rows.VerdictRow, lambda results: results.verdicts),
    "gates": (gate_rows.GateRow, lambda results: results.gates),
    "cliffs": (gate_rows.CliffRow, lambda results: results.cliffs),
    "told_apart": (ToldApartRow, told_apart),
    "screening": (judgement.ScreenRow, lambda results: results.screening),
    "flips": (FlipRow, flips),
    "calibration": (judgement.CalibrationRow, lambda results: results.calibrations),
    "targets": (judgement.TargetRow, lambda results: results.targets),
    "quantization_differences": (DifferenceRow, lambda results: _of_texts(results, differences)),
    "quantization_effects": (EffectsRow, lambda results: _of_texts(results, effects)),
    "quantization_errors": (rows.QuantizationErrorRow, lambda results: results.quantization_errors),
    "recovery": (RecoveryRow, recovery),
    "refits": (RefitRow, lambda results: results.refits),
    "refit_errors": (RefitErrorRow, lambda results: results.refit_errors),
    "budgets": (BudgetRow, budgets_measured),
    "serving": (rows.ServingRow, lambda results: results.serving),
    "gamma": (GammaRow, lambda results: gamma_rows(standings(results), references(results))),
    "engines": (rows.EngineRow, lambda results: results.engines),
    "drafts": (DraftRow, lambda results: results.drafts),
    "sampling": (SamplingRow, lambda results: results.sampling),
    "draft_plans": (DraftPlanRow, lambda results: results.draft_plans),
    "draft_predictions": (DraftPrediction, draft_predictions),
    "sensitivity": (SensitivityRow, lambda results: results.sensitivity),
    "text_agreement": (AgreementRow, lambda results: results.agreements),
    "texts": (TextRow, lambda results: results.texts),
    "costs": (CostRow, lambda results: results.costs),
    "artifacts": (rows.ArtifactRow, lambda results: results.artifacts),
}
"""The type of a topic's rows, and the rows."""
ARROW = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
HEAD = """# Tables of a report

A run's folder has `tables/<topic>.parquet` for every topic that has rows. Tables are joined by `variant`, a name in
`variants`. The descriptions are in the files, too, as metadata of the columns. This page is generated:
`python -c "from drop_ray.report.tables import documentation; print(documentation(), end='')" > docs/report-tables.md`.
"""


@dataclass(frozen=True)
class TableColumn:
    """One column of a table."""

    name: str
    """Names of the fields on the way to the value."""
    type: pa.DataType
    """Of the values."""
    description: str
    """What the values are."""
    path: tuple[str, ...]
    """Attributes on the way to the value, from the row on."""

    def value(self, row: Any) -> Any:
        """None where an attribute on the way is."""
        found = reduce(lambda value, name: None if value is None else getattr(value, name), self.path, row)
        return canonical_json(found) if isinstance(found, Mapping) else found


def parquet_files(results: Results) -> Iterator[tuple[str, bytes]]:
    """Topic and content of each file; none of a topic without rows."""
    for topic in TOPICS:
        table = topic_table(topic, results)
        if table.num_rows:
            file = io.BytesIO()
            pq.write_table(table, file, compression="zstd")
            yield topic, file.getvalue()


def topic_table(topic: str, results: Results) -> pa.Table:
    """The table of one topic, with its descriptions."""
    row_type, rows_of = TOPICS[topic]
    columns, found = table_columns(row_type), list(rows_of(results))
    schema = pa.schema([pa.field(one.name, one.type, metadata={"description": one.description}) for one in columns])
    return pa.table([pa.array([one.value(row) for row in found], one.type) for one in columns], schema=schema)


@cache
def table_columns(row: type) -> tuple[TableColumn, ...]:
    """The columns of a dataclass: its fields and properties, in order."""
    return tuple(_columns(row))


def documentation() -> str:
    """docs/report-tables.md: every topic with its columns."""
    parts = [HEAD]
    for topic, (row_type, _) in TOPICS.items():
        lines = [(f"`{one.name}`", str(one.type), one.description) for one in table_columns(row_type)]
        table = tabulate(lines, ("column", "type", "meaning"), tablefmt="pipe", disable_numparse=True)
        parts.append(f"## {topic}\n{inspect.getdoc(row_type)}\n\n{table}\n")
    return "\n".join(parts)


def _of_texts(results: Results, rows_of: Callable[[Results, Task], list[Any]]) -> list[Any]:
    return [row for task in perplexity_tasks(results) for row in rows_of(results, task)]


def _columns(row: type, path: tuple[str, ...] = (), about: str = "") -> Iterator[TableColumn]:
    described, hints = _descriptions(row), typing.get_type_hints(row)
    for field in fields(row):
        hint = _plain(hints[field.name])
        text, inner = f"{about} {described[field.name]}".strip(), (*path, field.name)
        if hint is rows.VariantRow:
            yield TableColumn(field.name, pa.string(), text, (*inner, "name"))
        elif isinstance(hint, type) and is_dataclass(hint):
            yield from _columns(hint, inner, text)
        else:
            yield TableColumn("_".join(inner), _arrow(hints[field.name]), text, inner)
    for name, found in vars(row).items():
        if isinstance(found, property):
            arrow = _arrow(typing.get_type_hints(found.fget)["return"])
            yield TableColumn("_".join((*path, name)), arrow, inspect.getdoc(found) or "", (*path, name))


def _arrow(hint: Any) -> pa.DataType:
    """Mappings and literals are text."""
    if typing.get_origin(hint) is tuple:
        return pa.list_(ARROW[typing.get_args(hint)[0]])
    return ARROW.get(_plain(hint), pa.string())


def _plain(hint: Any) -> Any:
    """The type itself of `int | None`, `tuple[int, ...]`, `Literal["a"]`."""
    inner = [part for part in typing.get_args(hint) if part is not type(None)]
    if len(inner) == 1 and len(typing.get_args(hint)) == 2:
        return inner[0]
    return typing.get_origin(hint) or hint


def _descriptions(row: type) -> dict[str, str]:
    """The docstrings of a dataclass's fields, which Python does not keep, from its source."""
    found = {}
    for owner in reversed([one for one in row.__mro__ if is_dataclass(one)]):
        body = ast.parse(inspect.getsource(owner)).body[0].body  # type: ignore[attr-defined]
        for field, text in pairwise(body):
            if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr):
                found[field.target.id] = inspect.cleandoc(text.value.value)  # type: ignore[union-attr,attr-defined]
    return found
