"""From lm-eval's result dictionary and logged samples to metric rows and per-document values."""

import hashlib
import json
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np
from lm_eval.api.metrics import bits_per_byte, brier_score, perplexity, weighted_perplexity
from lm_eval.utils import handle_non_serializable

from drop_ray.evaluation.result import DocumentValue, MetricValue

# Aggregations whose value for one document alone is meaningful, though the document's own entry is not that value.
_PER_DOCUMENT = (bits_per_byte, brier_score, perplexity, weighted_perplexity)


def choose_primary(reported: Sequence[tuple[str, str]], listed: Sequence[str]) -> tuple[str, str]:
    """The (metric, filter) that counts for a task.

    It is acc_norm if the task reports it, else acc, else exact_match, else the first metric in the order of the task's
    YAML (`listed`). Of several filters the first counts. `reported` is in lm-eval's order and not empty.
    """
    for metric in ("acc_norm", "acc", "exact_match", *listed):
        for candidate in reported:
            if candidate[0] == metric:
                return candidate
    return reported[0]


def metric_rows(
    name: str,
    results: Mapping[str, Any],
    tasks: Mapping[str, Any],
    groups: Mapping[str, Any],
    spoiled: Collection[str] = (),
) -> list[MetricValue]:
    """Every number that lm-eval reports for the request `name`: leaf tasks in order, then groups.

    A group with an aggregate of its own counts by that aggregate, and its members do not count. A tag, or a group
    without an aggregate, counts by each of its members. `tasks` and `groups` are lm-eval's loaded objects by name.
    What is taken over one of the `spoiled` tasks is NaN.
    """
    counting = _counting(groups[name], groups) if name in groups else set(tasks)
    rows = []
    for task in tasks:
        rows += _rows(task, [task], results, _listed(tasks[task].config.metric_list), task in counting, spoiled)
    for group in groups.values():
        leaves = [leaf.task_name for leaf in group.get_all_tasks()]
        listed = [aggregate.metric for aggregate in group.aggregate_metric_list or []]
        rows += _rows(group.name, leaves, results, listed, group.name in counting, spoiled)
    return rows


def document_values(
    task: str, samples: Sequence[Mapping[str, Any]], aggregations: Mapping[str, Callable[..., Any]]
) -> Iterator[DocumentValue]:
    """One value per document, filter and metric of a leaf task.

    Perplexities are those of the document alone. Metrics that have no value for one document have None.
    """
    for sample in samples:
        arguments = json.dumps(sample["arguments"], default=handle_non_serializable)
        prompt_hash = hashlib.sha256(arguments.encode()).hexdigest()
        for metric in sample["metrics"]:
            value = _document_value(sample[metric], aggregations.get(metric))
            yield DocumentValue(
                task, sample["doc_id"], sample["doc_hash"], prompt_hash, metric, sample["filter"], value
            )


def _document_value(entry: Any, aggregation: Callable[..., Any] | None) -> float | None:
    if aggregation is not None and aggregation in _PER_DOCUMENT:
        return float(aggregation([entry]))
    return float(entry) if isinstance(entry, Real | np.bool_) else None


def _counting(group: Any, groups: Mapping[str, Any]) -> set[str]:
    if group.has_aggregation:
        return {group.name}
    names: set[str] = set()
    for child in group.child_names:
        names |= _counting(groups[child], groups) if child in groups else {child}
    return names


def _rows(
    task: str,
    leaves: Sequence[str],
    results: Mapping[str, Any],
    listed: Sequence[str],
    counts: bool,
    spoiled: Collection[str],
) -> list[MetricValue]:
    scores = results["results"][task]
    reported = [_split(key) for key in scores if "," in key and not key.partition(",")[0].endswith("_stderr")]
    if not reported:
        return []
    primary = choose_primary(reported, listed) if counts else None
    shots = {results["n-shot"][leaf] for leaf in leaves}
    is_spoiled = not set(spoiled).isdisjoint(leaves)
    num_fewshot = shots.pop() if len(shots) == 1 else None
    return [
        MetricValue(
            task=task,
            metric=metric,
            filter=chosen,
            value=math.nan if is_spoiled else float(scores[f"{metric},{chosen}"]),
            stderr=None if is_spoiled else _number(scores[f"{metric}_stderr,{chosen}"]),
            higher_is_better=_direction(metric, leaves, results),
            num_documents=sum(results["results"][leaf]["sample_len"] for leaf in leaves),
            num_fewshot=num_fewshot,
            primary=(metric, chosen) == primary,
        )
        for metric, chosen in reported
    ]


def _split(key: str) -> tuple[str, str]:
    metric, _, chosen = key.partition(",")
    return metric, chosen


def _number(stderr: Any) -> float | None:
    return float(stderr) if isinstance(stderr, Real) else None  # lm-eval writes "N/A" where it has none


def _direction(metric: str, leaves: Sequence[str], results: Mapping[str, Any]) -> bool | None:
    directions = {results["higher_is_better"][leaf].get(metric) for leaf in leaves} - {None}
    return directions.pop() if len(directions) == 1 else None


def _listed(metric_list: Sequence[Mapping[str, Any]] | None) -> list[str]:
    named = (entry["metric"] for entry in metric_list or [])
    return [metric if isinstance(metric, str) else metric.__name__ for metric in named]
