"""Makes rows of the report from the artifacts of an evaluation: metrics.json and documents.parquet."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from drop_ray.job import steps
from drop_ray.job.artifacts import DOCUMENTS, METRICS
from drop_ray.job.job import Job
from drop_ray.job.small_outputs import read_outputs
from drop_ray.planning.variants import Variant
from drop_ray.report.judgement import TargetRow
from drop_ray.report.quantization import LOG_PERPLEXITY
from drop_ray.report.results import grouped
from drop_ray.report.rows import DocumentRow, EvaluationRow
from drop_ray.store import Commit, Store

Numbers = Mapping[tuple[str, int], int]
"""Number of a document in a group, by its task and its number there; the same for all variants."""


@dataclass(frozen=True)
class Evaluated:
    """The result of one task or text on one variant, read once."""

    metrics: Sequence[Mapping[str, Any]]
    """The metrics in metrics.json."""
    documents: Sequence[Mapping[str, Any]]
    """Rows of documents.parquet that have a value."""
    raw: Mapping[str, Any] = field(default_factory=dict)
    """lm-eval's result dictionary in metrics.json; of a text what was computed."""
    outcomes: Sequence[Mapping[str, Any]] = ()
    """How a task with a target ended."""

    @staticmethod
    def read_all(store: Store, run_folder: str, commits: Sequence[Commit]) -> "list[Evaluated]":
        wanted = [(commit, name) for commit in commits for name in (METRICS, DOCUMENTS)]
        outputs = read_outputs(store, run_folder, wanted)
        return [Evaluated.of(*pair) for pair in zip(outputs[::2], outputs[1::2], strict=True)]

    @staticmethod
    def of(metrics: bytes, documents: bytes) -> "Evaluated":
        """From the bytes of metrics.json and documents.parquet."""
        rows = pq.ParquetFile(pa.BufferReader(documents)).read().to_pylist()
        found = json.loads(metrics)
        known = [row for row in rows if row["value"] is not None]
        return Evaluated(found["metrics"], known, found["raw"], found.get("outcomes", ()))

    def evaluation_rows(self, variant: str) -> Iterator[EvaluationRow]:
        for metric in self.metrics:
            if metric["higher_is_better"] is None:
                continue  # neither the task nor lm-eval says how to read it; it stays in the artifact
            yield EvaluationRow(
                variant=variant,
                task=metric["task"],
                metric=_metric_name(metric),
                value=metric["value"],
                stderr=metric["stderr"],
                higher_is_better=metric["higher_is_better"],
                num_documents=metric["num_documents"],
                num_fewshot=metric["num_fewshot"],
                primary=metric["primary"],
            )

    def document_rows(self, variant: str, numbers: Numbers) -> Iterator[DocumentRow]:
        """Values of the primary metrics by document; for a text each sample's loss, by which perplexities are paired.

        The rows of a group are those of its tasks, by their numbers in the group."""
        for metric in self.metrics:
            if not metric["primary"] and metric["metric"] != LOG_PERPLEXITY:
                continue
            for row in self.rows_of(metric["task"], metric["metric"], metric["filter"]):
                doc_id = row["doc_id"] if row["task"] == metric["task"] else numbers[row["task"], row["doc_id"]]
                yield DocumentRow(variant, metric["task"], _metric_name(metric), doc_id, row["value"])

    def rows_of(self, task: str, metric: str, chosen: str) -> Iterator[Mapping[str, Any]]:
        """A metric's rows of the documents of a task, or of all tasks for a group."""
        is_group = all(row["task"] != task for row in self.documents)
        for row in self.documents:
            if (row["metric"], row["filter"]) == (metric, chosen) and (is_group or row["task"] == task):
                yield row

    def target_rows(self, variant: str) -> Iterator[TargetRow]:
        for outcome in self.outcomes:
            fields = {name: value for name, value in outcome.items() if name != "filter"}
            yield TargetRow(variant=variant, **{**fields, "metric": _metric_name(outcome)})


@dataclass(frozen=True)
class Named:
    """An evaluation under the name of one of the variants that share it."""

    variant: str
    """Name of the variant."""
    of: str
    """Name of the task or text."""
    commit: Commit
    """Where it is."""
    result: Evaluated
    """What it says."""
    numbers: Numbers
    """Numbers of the documents of the task, the same for all variants."""


def read_evaluations(job: Job, variants: Sequence[Variant], done: Mapping[str, Commit]) -> list[Named]:
    """Every evaluation that is done, by variant, then by task or text. done: commits by the paths of their steps."""
    found = [
        (variant.name, of, done[step.path])
        for variant in variants
        for of, step in steps.evaluation_steps(job, variant).items()
        if step.path in done
    ]
    results = Evaluated.read_all(job.store, job.run_folder, [commit for _, _, commit in found])
    same = grouped(zip(found, results, strict=True), lambda pair: pair[0][1])
    numbers = {of: document_numbers(result for _, result in pairs) for of, pairs in same.items()}
    return [
        Named(variant, of, commit, result, numbers[of])
        for (variant, of, commit), result in zip(found, results, strict=True)
    ]


def document_numbers(results: Iterable[Evaluated]) -> Numbers:
    """Numbers of the documents of one request, of which variants may have been evaluated on different ones."""
    documents = {(row["task"], row["doc_id"]) for result in results for row in result.documents}
    return {document: number for number, document in enumerate(sorted(documents))}


def _metric_name(metric: Mapping[str, str]) -> str:
    return metric["metric"] if metric["filter"] == "none" else f"{metric['metric']} ({metric['filter']})"
