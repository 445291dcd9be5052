"""What is asked of an evaluation and what comes back: plain values that travel between driver and workers."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import pyarrow as pa

from drop_ray.errors import UserError

DOCUMENT_SCHEMA = pa.schema(
    [
        ("task", pa.string()),
        ("doc_id", pa.int64()),
        ("doc_hash", pa.string()),
        ("prompt_hash", pa.string()),
        ("metric", pa.string()),
        ("filter", pa.string()),
        ("value", pa.float64()),
    ]
)


@dataclass(frozen=True)
class TaskRequest:
    """One task, tag or group by its lm-eval name.

    `num_fewshot` None keeps the number that the task states (0 when it states none); `limit` evaluates only the first
    documents of each leaf task. Raises UserError for a negative `num_fewshot` or a `limit` below 1.
    """

    name: str
    num_fewshot: int | None = None
    limit: int | None = None

    def __post_init__(self) -> None:
        if self.num_fewshot is not None and self.num_fewshot < 0:
            raise UserError(f"evaluation.tasks: {self.name}: num_fewshot must be 0 or more, not {self.num_fewshot}")
        if self.limit is not None and self.limit < 1:
            raise UserError(
                f"evaluation.tasks: {self.name}: limit must be 1 or more, not {self.limit}; omit it for all"
            )


@dataclass(frozen=True)
class MetricValue:
    """One reported number.

    `task` is a leaf task or a group; `filter` the name of the post-processing ("none" mostly); `stderr` is None where
    lm-eval has no estimate; `higher_is_better` is None where neither the task nor lm-eval's registry says.
    `num_fewshot` is None for a group whose leaf tasks differ. `primary` marks the numbers that count for the request.
    """

    task: str
    metric: str
    filter: str
    value: float
    stderr: float | None
    higher_is_better: bool | None
    num_documents: int
    num_fewshot: int | None
    primary: bool


class DocumentValue(NamedTuple):
    """One row of the table of documents, in the order of `DOCUMENT_SCHEMA`.

    `value` has the unit of the metric; None for metrics that exist only for a whole task (f1, bleu, ...).
    """

    task: str
    doc_id: int
    doc_hash: str
    prompt_hash: str
    metric: str
    filter: str
    value: float | None


@dataclass(frozen=True)
class TaskResult:
    """Everything one request gave.

    `documents` has `DOCUMENT_SCHEMA` and is sorted by task, doc_id, metric and filter, so that equal results are equal
    bytes; `raw` is lm-eval's result dictionary without the samples, as plain JSON values.
    """

    task: TaskRequest
    metrics: list[MetricValue]
    documents: pa.Table
    raw: dict[str, Any]


def document_table(rows: Iterable[DocumentValue]) -> pa.Table:
    """The rows as a sorted table with `DOCUMENT_SCHEMA`."""
    ordered = sorted(rows, key=lambda row: (row.task, row.doc_id, row.metric, row.filter))
    columns = [list(column) for column in zip(*ordered, strict=True)] or [[] for _ in DOCUMENT_SCHEMA]
    return pa.Table.from_arrays(
        [pa.array(column, field.type) for column, field in zip(columns, DOCUMENT_SCHEMA, strict=True)],
        schema=DOCUMENT_SCHEMA,
    )
