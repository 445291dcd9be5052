"""The rows of documents.parquet from lm-eval's samples."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from drop_ray.evaluation.confidence import confidence_values
from drop_ray.evaluation.metrics import document_values
from drop_ray.evaluation.result import DocumentValue


def document_rows(
    samples: Mapping[str, Sequence[Mapping[str, Any]]], tasks: Mapping[str, Any]
) -> Iterator[DocumentValue]:
    """Values of every metric by document, and of multiple-choice tasks how sure the model was."""
    for name, of_task in samples.items():
        values = list(document_values(name, of_task, tasks[name].aggregation()))
        yield from values
        if tasks[name].OUTPUT_TYPE == "multiple_choice":
            yield from confidence_values(name, of_task, values)
