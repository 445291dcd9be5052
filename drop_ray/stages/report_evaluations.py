"""Makes rows of the report from the artifacts of an evaluation: metrics.json and documents.parquet."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from drop_ray.job.artifacts import DOCUMENTS, METRICS
from drop_ray.job.small_outputs import read_outputs
from drop_ray.report.quantization import LOG_PERPLEXITY
from drop_ray.report.rows import DocumentRow, EvaluationRow
from drop_ray.store import Commit, Store


@dataclass(frozen=True)
class Evaluated:
    """The result of one task or text on one variant, read once."""

    metrics: Sequence[Mapping[str, Any]]
    """The metrics in metrics.json."""
    documents: Sequence[Mapping[str, Any]]
    """Rows of documents.parquet that have a value."""

    @staticmethod
    def read_all(store: Store, run_folder: str, commits: Sequence[Commit]) -> "list[Evaluated]":
        wanted = [(commit, name) for commit in commits for name in (METRICS, DOCUMENTS)]
        outputs = read_outputs(store, run_folder, wanted)
        return [Evaluated.of(*pair) for pair in zip(outputs[::2], outputs[1::2], strict=True)]

    @staticmethod
    def of(metrics: bytes, documents: bytes) -> "Evaluated":
        """From the bytes of metrics.json and documents.parquet."""
        rows = pq.ParquetFile(pa.BufferReader(documents)).read().to_pylist()
        return Evaluated(json.loads(metrics)["metrics"], [row for row in rows if row["value"] is not None])

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

    def document_rows(self, variant: str) -> Iterator[DocumentRow]:
        """Values of the primary metrics by document; for a text each sample's loss, by which perplexities are paired.

        The rows of a group are those of its tasks, numbered through."""
        tasks = {row["task"] for row in self.documents}
        for metric in self.metrics:
            if not metric["primary"] and metric["metric"] != LOG_PERPLEXITY:
                continue
            key = metric["metric"], metric["filter"]
            same = [row for row in self.documents if (row["metric"], row["filter"]) == key]
            if metric["task"] in tasks:
                same = [row for row in same if row["task"] == metric["task"]]
            for number, row in enumerate(same):
                doc_id = row["doc_id"] if metric["task"] in tasks else number
                yield DocumentRow(variant, metric["task"], _metric_name(metric), doc_id, row["value"])


def _metric_name(metric: Mapping[str, str]) -> str:
    return metric["metric"] if metric["filter"] == "none" else f"{metric['metric']} ({metric['filter']})"
