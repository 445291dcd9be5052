"""What a model card says of a variant's results: metrics for the hub's model-index, and the same for people."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from huggingface_hub import EvalResult

from drop_ray.evaluation.estimates import paired_difference
from drop_ray.report import blocks, formatting
from drop_ray.report.markdown import block_markdown
from drop_ray.report.results import Results
from drop_ray.report.rows import EvaluationRow
from drop_ray.report.statistics import documents_by_task

HUB_NAME_PARTS = (1, 2)
LOCAL = ("json", "csv", "text", "parquet", "arrow")
"""What lm-eval's `dataset_path` is for files, which are no data set of the hub."""


@dataclass(frozen=True)
class TaskData:
    """What a task reads, as lm-eval's configuration of it says."""

    path: str
    """Name of a data set on the hub, or the kind of files."""
    config: str | None
    """Name of its configuration."""
    split: str | None
    """The split that is evaluated."""


def task_data_of(lm_eval: Mapping[str, Any]) -> dict[str, TaskData]:
    """By task, from a results file of lm-eval."""
    return {
        task: TaskData(
            str(config.get("dataset_path") or "unknown"),
            config.get("dataset_name"),
            config.get("test_split") or config.get("validation_split"),
        )
        for task, config in lm_eval.get("configs", {}).items()
    }


def evaluations_for_the_hub(results: Results, variant: str, data: Mapping[str, TaskData]) -> list[EvalResult]:
    """The variant's metrics that are numbers. The hub has no field for errors and shots: they are arguments."""
    return [
        EvalResult(
            task_type="text-generation",
            dataset_type=_dataset_type(row.task, data),
            dataset_name=row.task,
            dataset_config=data[row.task].config if row.task in data else None,
            dataset_split=data[row.task].split if row.task in data else None,
            metric_type=row.metric,
            metric_value=row.value,
            metric_name=row.metric,
            metric_args={name: value for name, value in _arguments(row) if value is not None},
        )
        for row in results.evaluations
        if row.variant == variant and math.isfinite(row.value)
    ]


def results_text(results: Results, variant: str) -> str:
    """Tasks beside the base, paired by document; then predictions, the damage gates and speed, where they are known."""
    return "\n\n".join(part for block in _blocks(results, variant) for part in block_markdown(block))


def _blocks(results: Results, variant: str) -> Iterator[blocks.Block]:
    base = results.variants[0].name
    documents = documents_by_task(results)
    of_base = {(row.task, row.metric): row for row in results.evaluations if row.variant == base}
    rows = []
    for row in (row for row in results.evaluations if row.variant == variant):
        beside = of_base.get((row.task, row.metric))
        pair = paired_difference(
            *(documents.get((name, row.task, row.metric), {}) for name in (variant, base)),
        )
        rows.append(
            (
                row.task,
                row.metric,
                blocks.estimate_cell(row.value, row.stderr),
                blocks.estimate_cell(beside.value, beside.stderr) if beside else blocks.NOTHING,
                blocks.estimate_cell(pair.value, pair.stderr, "+") if pair else blocks.NOTHING,
                str(row.num_documents),
                formatting.NOT_AVAILABLE if row.num_fewshot is None else str(row.num_fewshot),
            )
        )
    if rows:
        columns = ("task", "metric", "this model", "the base", "difference", "documents", "shots")
        note = (
            f"Measured by drop_ray's run {results.run.name}, tasks by lm-evaluation-harness. "
            f"{formatting.PLUS_MINUS} is a standard error, and differences are paired by document."
        )
        yield blocks.table(columns, rows, names=2, note=note)
    else:
        yield blocks.Paragraph("Nothing was evaluated.")
    yield from (blocks.Paragraph(line) for line in _lines(results, variant))


def _lines(results: Results, variant: str) -> Iterator[str]:
    for panel in (row for row in results.divergences if row.variant == variant):
        spelled = formatting.estimate(panel.kl, panel.kl_stderr)
        yield (
            f"KL of its predictions to the base's: {spelled} nats per token, over {panel.samples} samples; it has the "
            f"same most probable token at {panel.top1_agreement:.1%}."
        )
    for verdict in (row for row in results.verdicts if row.variant == variant):
        yield f"Damage gates: {verdict.outcome}: {verdict.reason}."
    for row in results.serving:
        if (row.variant, row.metric, row.control) == (variant, "output_tokens_per_s", False):
            yield (
                f"Output tokens per second, {row.workload} with {row.batch_size} requests at a time, in {row.engine}: "
                f"{formatting.ratio(row.ratio)} times the base's, 95 % interval "
                f"{formatting.interval(row.low, row.high)}."
            )


def _dataset_type(task: str, data: Mapping[str, TaskData]) -> str:
    """The data set's name on the hub, or the task's where it is of files."""
    path = data[task].path if task in data else task
    return task if path in LOCAL or path.count("/") + 1 not in HUB_NAME_PARTS or path.startswith(("/", ".")) else path


def _arguments(row: EvaluationRow) -> Iterator[tuple[str, Any]]:
    yield "num_fewshot", row.num_fewshot
    yield "documents", row.num_documents
    yield "stderr", row.stderr if row.stderr is not None and math.isfinite(row.stderr) else None
