"""What is asked of an evaluation and what comes back, in plain values that travel between driver and workers."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pyarrow as pa

from drop_ray.errors import UserError
from drop_ray.evaluation.targets.target import Outcome, Target

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
    """What to evaluate. Raises UserError for a negative `num_fewshot` or a `limit` below 1."""

    name: str
    """lm-eval's name of a task, tag or group."""
    num_fewshot: int | None = None
    """Examples in each prompt; None keeps the number that the task states, or 0 if it states none."""
    limit: int | None = None
    """Number of first documents of each leaf task to evaluate; None takes all."""
    target: Target | None = None
    """How well the difference to the base is to be known, at which the task ends; None takes what `limit` says."""

    def __post_init__(self) -> None:
        if self.num_fewshot is not None and self.num_fewshot < 0:
            raise UserError(f"evaluation.tasks: {self.name}: num_fewshot must be 0 or more, not {self.num_fewshot}")
        if self.limit is not None and self.limit < 1:
            raise UserError(
                f"evaluation.tasks: {self.name}: limit must be 1 or more, not {self.limit}; omit it for all"
            )


@dataclass(frozen=True)
class MetricValue:
    """One reported number."""

    task: str
    """A leaf task or a group."""
    metric: str
    """Name of the metric, such as `acc`."""
    filter: str
    """Name of the post-processing of answers, mostly `none`."""
    value: float
    """The metric's value, in its own unit."""
    stderr: float | None
    """Standard error of the value; None where lm-eval has no estimate."""
    higher_is_better: bool | None
    """Whether higher values are better; None where neither the task nor lm-eval's registry says."""
    num_documents: int
    """Number of documents that the value is taken over."""
    num_fewshot: int | None
    """Examples in each prompt; None for a group whose leaf tasks differ."""
    primary: bool
    """Whether it is the main number of the request."""


class DocumentValue(NamedTuple):
    """One row of the table of documents, in the order of `DOCUMENT_SCHEMA`."""

    task: str
    """Leaf task."""
    doc_id: int
    """Number of the document in its task."""
    doc_hash: str
    """Hash of the document's content."""
    prompt_hash: str
    """sha256 of the prompt."""
    metric: str
    """Name of the metric."""
    filter: str
    """Name of the post-processing of answers."""
    value: float | None
    """The metric's value on the document; None for metrics that exist only for a whole task (f1, bleu, ...)."""


@dataclass(frozen=True)
class TaskResult:
    """The result of one request."""

    task: TaskRequest
    """The request."""
    metrics: list[MetricValue]
    """The reported numbers."""
    documents: pa.Table
    """Table with `DOCUMENT_SCHEMA`, sorted so that equal results are equal bytes (`document_table`)."""
    raw: dict[str, Any]
    """lm-eval's result dictionary without the samples, as plain JSON values."""
    outcomes: Sequence[Outcome] = ()
    """How a task with a target ended, a value for each task or group that counts."""
    samples: pa.Table | None = None
    """Prompts and responses with `logged_samples.SCHEMA`, where they are to be kept."""


def document_table(rows: Iterable[DocumentValue]) -> pa.Table:
    """The rows as a sorted table with `DOCUMENT_SCHEMA`."""
    ordered = sorted(rows, key=lambda row: (row.task, row.doc_id, row.metric, row.filter))
    columns = [list(column) for column in zip(*ordered, strict=True)] or [[] for _ in DOCUMENT_SCHEMA]
    return pa.Table.from_arrays(
        [pa.array(column, field.type) for column, field in zip(columns, DOCUMENT_SCHEMA, strict=True)],
        schema=DOCUMENT_SCHEMA,
    )
