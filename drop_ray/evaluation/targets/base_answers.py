"""What the base's whole evaluation of a task says, for variants that are compared with it while they are evaluated."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from drop_ray.evaluation.result import DocumentValue, MetricValue, TaskRequest
from drop_ray.evaluation.targets.target import Document, Outcome, Pursuit, Values, estimate_over_all

# A mean over documents, taken here and by lm-eval.
_SAME_MEAN = 1e-9


@dataclass(frozen=True)
class BaseAnswers:
    """The base's metrics and documents of one request."""

    metrics: Sequence[MetricValue]
    """Its numbers."""
    documents: Mapping[tuple[str, str], Values]
    """Its values by metric and filter, then by document."""

    @staticmethod
    def of(metrics: bytes, documents: pa.Table) -> "BaseAnswers":
        """From the bytes of metrics.json and the table of documents."""
        return BaseAnswers(
            [MetricValue(**metric) for metric in json.loads(metrics)["metrics"]],
            values_of(DocumentValue(**row) for row in documents.to_pylist()),
        )

    def pursuits(self, request: TaskRequest, leaves: Mapping[str, Sequence[str]], seed: int) -> list[Pursuit]:
        """One for each task or group that counts. leaves: the tasks of each task and group, by name.

        ValueError says why there can be none: then the task is evaluated whole.
        """
        assert request.target is not None
        found = []
        for row in self.metrics:
            if row.primary:
                values = self.values(row, leaves[row.task])
                if reason := _why_not(row, values):
                    raise ValueError(reason)
                found.append(Pursuit(row.task, row.metric, row.filter, values, request.target, seed))
        if not found:
            raise ValueError(f"{request.name} has no metric that counts")
        return found

    def values(self, row: MetricValue, leaves: Iterable[str]) -> Values:
        """The base's values of a metric on the documents of some tasks."""
        tasks = set(leaves)
        of_metric = self.documents.get((row.metric, row.filter), {})
        return {document: value for document, value in of_metric.items() if document[0] in tasks}

    def metric_rows(
        self, pursuits: Sequence[Pursuit], answered: Mapping[tuple[str, str], Values], spoiled: bool
    ) -> list[MetricValue]:
        """A variant's numbers: each the base's over all documents plus the difference on those that were evaluated.

        Metrics that are no mean of values in [0, 1] have none. With `spoiled`, all are NaN.
        """
        rows = []
        for pursuit in pursuits:
            tasks = {task for task, _ in pursuit.base}
            for row in self.metrics:
                values = self.values(row, tasks)
                own = answered.get((row.metric, row.filter), {})
                seen = {document: own[document] for document in pursuit.seen if document in own}
                if row.task != pursuit.name or _why_not(row, values) or len(seen) < len(pursuit.seen):
                    continue
                estimate = estimate_over_all(values, seen)
                rows.append(
                    MetricValue(
                        task=row.task,
                        metric=row.metric,
                        filter=row.filter,
                        value=math.nan if spoiled else estimate.value,
                        stderr=None if spoiled else estimate.stderr,
                        higher_is_better=row.higher_is_better,
                        num_documents=len(seen),
                        num_fewshot=row.num_fewshot,
                        primary=row.primary,
                    )
                )
        return rows


def values_of(rows: Iterable[DocumentValue]) -> dict[tuple[str, str], dict[Document, float]]:
    """Values by metric and filter, then by document; without those that are None."""
    found: dict[tuple[str, str], dict[Document, float]] = {}
    for row in rows:
        if row.value is not None:
            found.setdefault((row.metric, row.filter), {})[row.task, row.doc_id] = row.value
    return found


def evaluated_whole(request: TaskRequest, metrics: Iterable[MetricValue], why: str) -> list[Outcome]:
    """The outcome of a task that had a target and was evaluated whole."""
    target = request.target
    assert target is not None
    asked = target.within, target.confidence
    return [
        Outcome(
            *(row.task, row.metric, row.filter, *asked, row.num_documents, row.num_documents, None, None, None),
            no_interval=f"evaluated whole, since {why}",
        )
        for row in metrics
        if row.primary
    ]


def _why_not(row: MetricValue, values: Values) -> str:
    """Why a metric is not a mean over documents of values in [0, 1]; empty if it is."""
    if not math.isfinite(row.value):
        return f"{row.task}: the base has no number"
    if len(values) < row.num_documents or not values:
        return f"{row.task}: {row.metric} has no value for single documents"
    if not all(0 <= value <= 1 for value in values.values()):
        return f"{row.task}: {row.metric} is not bounded by 0 and 1"
    if abs(math.fsum(values.values()) / len(values) - row.value) > _SAME_MEAN:
        return f"{row.task}: {row.metric} is not the mean over all documents"
    return ""
