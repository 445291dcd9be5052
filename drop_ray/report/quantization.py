"""Dropping and quantizing as one grid: variants without quantization by row, each as it is and quantized by column.

Out: the grid, what a variant loses by being quantized, and whether the effects of dropping and of quantizing add up.
Perplexities are compared by their logarithms, in nats per token: effects multiply perplexity.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from drop_ray.report.results import Results
from drop_ray.report.rows import QuantizationErrorRow, VariantRow
from drop_ray.report.statistics import Estimate, Task, paired_difference, primary_tasks

LOG_PERPLEXITY = "nll"
"""Metric of the documents that pair perplexities: mean nats per token of one sample."""


@dataclass(frozen=True)
class Grid:
    """Which variants were quantized, and how."""

    rows: tuple[VariantRow, ...]
    """The base, and every variant that was quantized at least once."""
    labels: tuple[str, ...]
    """The columns beside the variants as they are."""
    quantized: Mapping[tuple[str, str], VariantRow]
    """By name of the row and label of the column."""
    left_out: tuple[str, ...]
    """Names of the variants that were never quantized."""


@dataclass(frozen=True)
class LogPerplexities:
    """Nats per token on one text."""

    values: Mapping[str, float]
    """By variant; without those that have no finite logarithm."""
    samples: Mapping[str, Mapping[int, float]]
    """By variant and sample; empty where samples are not known."""


@dataclass(frozen=True)
class DifferenceRow:
    """What quantizing does to a variant's log-perplexity on one text."""

    variant: str
    """Name of the quantized variant."""
    task: str
    """Name of the text."""
    metric: str
    """Which perplexity."""
    difference: float
    """Log-perplexity less that of the same variant without quantization, in nats per token."""
    stderr: float | None
    """Its standard error, where it can be paired by sample."""


@dataclass(frozen=True)
class EffectsRow:
    """What dropping, quantizing and both do to the base's log-perplexity, in nats per token; above 0 is worse."""

    variant: str
    """Name of the variant without quantization."""
    label: str
    """How it was quantized."""
    task: str
    """Name of the text."""
    metric: str
    """Which perplexity."""
    dropping: float
    """The variant's less the base's."""
    quantizing: float
    """The quantized base's less the base's."""
    both: float
    """The quantized variant's less the base's."""
    stderr: float | None
    """Standard error of `excess`, where it can be paired by sample."""

    @property
    def excess(self) -> float:
        """How much more both lose than the sum of what each loses."""
        return self.both - (self.dropping + self.quantizing)


@dataclass(frozen=True)
class Reconstruction:
    """Squared errors of one quantized variant's outputs, summed over its sub-layers."""

    variant: VariantRow
    """The quantized variant."""
    num_modules: int
    """Sub-layers measured."""
    error: float
    """Of its method."""
    round_to_nearest: float
    """Of rounding to nearest."""

    @property
    def ratio(self) -> float | None:
        """None where rounding to nearest makes no error."""
        return self.error / self.round_to_nearest if self.round_to_nearest else None


def quantization_grid(results: Results) -> Grid | None:
    """None where nothing is quantized."""
    quantized = {(how.of, how.label): row for row in results.variants if (how := row.quantization)}
    if not quantized:
        return None
    plain = [row for row in results.variants if row.quantization is None]
    shown = {plain[0].name, *(of for of, _ in quantized)}
    return Grid(
        rows=tuple(row for row in plain if row.name in shown),
        labels=tuple(dict.fromkeys(label for _, label in quantized)),
        quantized=quantized,
        left_out=tuple(row.name for row in plain if row.name not in shown),
    )


def perplexity_tasks(results: Results) -> list[Task]:
    """The tasks whose primary metric is a perplexity, in order of evaluation."""
    return [task for task in primary_tasks(results) if "perplexity" in task.metric and not task.higher_is_better]


def log_perplexities(results: Results, task: Task) -> LogPerplexities:
    """Those of one task."""
    values = task.values(results)
    samples: dict[str, dict[int, float]] = {variant: {} for variant in values}
    for row in results.documents:
        if (row.task, row.metric) == (task.task, LOG_PERPLEXITY) and row.variant in samples:
            samples[row.variant][row.doc_id] = row.value
    return LogPerplexities(
        {name: math.log(value.value) for name, value in values.items() if 0 < value.value < math.inf}, samples
    )


def log_difference(known: LogPerplexities, one: str, other: str) -> Estimate | None:
    """One variant's log-perplexity less another's, paired by sample where both have samples; None where one of the
    perplexities is missing or not finite."""
    if one not in known.values or other not in known.values:
        return None
    pair = paired_difference(known.samples[one], known.samples[other])
    return Estimate(known.values[one] - known.values[other], pair.stderr if pair else None)


def differences(results: Results) -> Iterator[DifferenceRow]:
    """By task, then by quantized variant; only where it is known."""
    for task in perplexity_tasks(results):
        known = log_perplexities(results, task)
        for row in results.variants:
            if row.quantization and (found := log_difference(known, row.name, row.quantization.of)):
                yield DifferenceRow(row.name, task.task, task.metric, found.value, found.stderr)


def effects(results: Results, task: Task) -> list[EffectsRow]:
    """By variant, then by label; only where all four perplexities are known and finite."""
    grid = quantization_grid(results)
    if grid is None:
        return []
    known, base = log_perplexities(results, task), grid.rows[0].name
    logs, rows = known.values, []
    for variant in grid.rows[1:]:
        for label in grid.labels:
            both, alone = grid.quantized.get((variant.name, label)), grid.quantized.get((base, label))
            if both is None or alone is None or not {base, variant.name, both.name, alone.name} <= logs.keys():
                continue
            samples = [known.samples[name] for name in (both.name, variant.name, alone.name, base)]
            excess = paired_difference(_differences(*samples[:2]), _differences(*samples[2:]))
            rows.append(
                EffectsRow(
                    *(variant.name, label, task.task, task.metric),
                    dropping=logs[variant.name] - logs[base],
                    quantizing=logs[alone.name] - logs[base],
                    both=logs[both.name] - logs[base],
                    stderr=excess.stderr if excess else None,
                )
            )
    return rows


def errors_of(results: Results, variant: VariantRow | None) -> list[QuantizationErrorRow]:
    """Of a quantized variant, by layer; none where there is no such variant."""
    rows = [row for row in results.quantization_errors if variant is not None and row.variant == variant.name]
    return sorted(rows, key=lambda row: row.layer)


def reconstructions(results: Results, grid: Grid) -> list[Reconstruction]:
    """By label, then by variant; none of those without measured errors."""
    rows = []
    for label in grid.labels:
        for plain in grid.rows:
            variant = grid.quantized.get((plain.name, label))
            if variant is not None and (errors := errors_of(results, variant)):
                total = math.fsum(row.error_sum for row in errors)
                nearest = math.fsum(row.round_to_nearest_sum for row in errors)
                rows.append(Reconstruction(variant, len(errors), total, nearest))
    return rows


def _differences(one: Mapping[int, float], other: Mapping[int, float]) -> dict[int, float]:
    return {sample: one[sample] - other[sample] for sample in one.keys() & other.keys()}
