"""results.parquet: every number of a report in one long table, for notebooks and for comparing runs.

One row is one number. `kind` says which of the other columns identify it (the rest are null) and `name` what it is:

    kind        identified by                                      name
    score       drop_state, module, layer, gap, metric             score
    training    revision, module, layer, gap, metric               score, of every checkpoint of model.revisions
    plan        plan, strategy, metric                             num_dropped, sublayers_dropped, parameters, ...
    dropped     plan, strategy, module, layer                      dropped (always 1)
    evaluation  plan, strategy, task, metric, primary, higher...   value, num_documents, num_fewshot
    document    plan, strategy, task, metric, doc_id               value
    comparison  plan, strategy                                     average, paired_difference, within_one_stderr
    quantized   plan, strategy, quantized_from, label, method      bits, group_size, symmetric, desc_act
    difference  plan, strategy, quantized_from, label, task        log_perplexity, of a form less its plan as it is
    effects     plan, strategy, quantized_from, label, task        dropping, quantizing, both, excess
    layer_error plan, strategy, quantized_from, label, module,     error, round_to_nearest, error_sum,
                layer                                              round_to_nearest_sum
    serving     plan, strategy, workload, comparison, batch_size,  base, plan, ratio, low, high, predicted, pairs
                plan_batch_size, control, metric
    gamma       plan, strategy, workload, batch_size               gamma, low, high; no row where it is undefined
    engine      plan, strategy                                     kv_tokens_base, weights_bytes_plan, gate_mean, ...
    artifact    step, path                                         bytes

Equal results give equal bytes under one version of pyarrow.
"""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from drop_ray.report.quantization_rows import quantization_rows
from drop_ray.report.results import Results, ScoreRow
from drop_ray.report.serving import gamma_rows, references
from drop_ray.report.statistics import standings

SCHEMA = pa.schema(
    [
        ("kind", pa.string()),
        ("plan", pa.string()),
        ("strategy", pa.string()),
        ("drop_state", pa.string()),
        ("revision", pa.string()),
        ("task", pa.string()),
        ("module", pa.string()),
        ("layer", pa.int32()),
        ("gap", pa.int32()),
        ("metric", pa.string()),
        ("doc_id", pa.int64()),
        ("step", pa.string()),
        ("path", pa.string()),
        ("quantized_from", pa.string()),
        ("label", pa.string()),
        ("method", pa.string()),
        ("workload", pa.string()),
        ("comparison", pa.string()),
        ("batch_size", pa.int32()),
        ("plan_batch_size", pa.int32()),
        ("control", pa.bool_()),
        ("primary", pa.bool_()),
        ("higher_is_better", pa.bool_()),
        ("name", pa.string()),
        ("value", pa.float64()),
        ("stderr", pa.float64()),
    ]
)

Row = dict[str, Any]


def write_results_parquet(results: Results, path: Path) -> None:
    """Write the table to a local file, replacing it."""
    pq.write_table(results_table(results), path, compression="zstd")


def results_table(results: Results) -> pa.Table:
    """The long table, in the order of the results' own tables."""
    strategies = {plan.name: plan.strategy for plan in results.plans}
    rows = [
        *(_score_row(row) for row in results.scores),
        *_training_rows(results),
        *_plan_rows(results),
        *_evaluation_rows(results, strategies),
        *_comparison_rows(results),
        *quantization_rows(results),
        *_serving_rows(results, strategies),
        *_gamma_rows(results, strategies),
        *_engine_rows(results, strategies),
        *_artifact_rows(results),
    ]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def _score_row(row: ScoreRow) -> Row:
    return {
        "kind": "score",
        "drop_state": row.drop_state,
        "module": row.module,
        "layer": row.layer,
        "gap": row.gap,
        "metric": row.metric,
        "name": "score",
        "value": row.mean,
        "stderr": row.stderr,
    }


def _training_rows(results: Results) -> Iterator[Row]:
    for revision, rows in results.training.items():
        for row in rows:
            yield {**_score_row(row), "kind": "training", "revision": revision}


def _plan_rows(results: Results) -> Iterator[Row]:
    names = (
        "num_dropped",
        "sublayers_dropped",
        "parameters",
        "parameters_saved",
        "kv_bytes_per_token",
        "kv_bytes_saved_per_token",
        "weight_bytes",
    )
    for plan in results.plans:
        common = {"plan": plan.name, "strategy": plan.strategy}
        for name in names:
            yield {**common, "kind": "plan", "metric": plan.metric, "name": name, "value": getattr(plan, name)}
        for module, layers in (("attention", plan.drop_attn), ("mlp", plan.drop_mlp)):
            for layer in layers:
                yield {**common, "kind": "dropped", "module": module, "layer": layer, "name": "dropped", "value": 1}


def _evaluation_rows(results: Results, strategies: dict[str, str]) -> Iterator[Row]:
    for row in results.evaluations:
        common = {
            "kind": "evaluation",
            "plan": row.plan,
            "strategy": strategies[row.plan],
            "task": row.task,
            "metric": row.metric,
            "primary": row.primary,
            "higher_is_better": row.higher_is_better,
        }
        yield {**common, "name": "value", "value": row.value, "stderr": row.stderr}
        yield {**common, "name": "num_documents", "value": row.num_documents}
        if row.num_fewshot is not None:
            yield {**common, "name": "num_fewshot", "value": row.num_fewshot}
    for document in results.documents:
        yield {
            "kind": "document",
            "plan": document.plan,
            "strategy": strategies[document.plan],
            "task": document.task,
            "metric": document.metric,
            "doc_id": document.doc_id,
            "name": "value",
            "value": document.value,
        }


def _comparison_rows(results: Results) -> Iterator[Row]:
    for standing in standings(results):
        common = {"kind": "comparison", "plan": standing.plan.name, "strategy": standing.plan.strategy}
        if standing.average is not None:
            within = float(standing.within_one_stderr)
            yield {**common, "name": "average", "value": standing.average.value, "stderr": standing.average.stderr}
            yield {**common, "name": "within_one_stderr", "value": within}
        if standing.paired is not None:
            difference, stderr = standing.paired.value, standing.paired.stderr
            yield {**common, "name": "paired_difference", "value": difference, "stderr": stderr}


def _serving_rows(results: Results, strategies: dict[str, str]) -> Iterator[Row]:
    places = ("plan", "workload", "comparison", "batch_size", "plan_batch_size", "control", "metric")
    for row in results.serving:
        common = {"kind": "serving", "strategy": strategies[row.plan], **{name: getattr(row, name) for name in places}}
        yield {**common, "name": "base", "value": row.base_value}
        yield {**common, "name": "plan", "value": row.plan_value}
        for name in ("ratio", "low", "high", "predicted", "pairs"):
            if getattr(row, name) is not None:
                yield {**common, "name": name, "value": getattr(row, name)}


def _gamma_rows(results: Results, strategies: dict[str, str]) -> Iterator[Row]:
    for row in gamma_rows(standings(results), references(results)):
        common = {"kind": "gamma", "plan": row.plan, "strategy": strategies[row.plan], "workload": row.workload}
        values = {"gamma": row.gamma.value, "low": row.gamma.low, "high": row.gamma.high}
        for name, value in values.items():
            if value is not None:
                yield {**common, "batch_size": row.batch_size, "name": name, "value": value}


def _engine_rows(results: Results, strategies: dict[str, str]) -> Iterator[Row]:
    for row in results.serving_facts:
        common = {"kind": "engine", "plan": row.plan, "strategy": strategies[row.plan]}
        for name, value in asdict(row).items():
            if isinstance(value, int | float):
                yield {**common, "name": name, "value": float(value)}


def _artifact_rows(results: Results) -> Iterator[Row]:
    for row in results.artifacts:
        yield {"kind": "artifact", "step": row.step, "path": row.path, "name": "bytes", "value": row.bytes}
