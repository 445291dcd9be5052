"""Dropping and quantizing as one grid: variants without quantization by row, each as it is and quantized by column.

Out: the grid, what a variant loses by being quantized, and whether the effects of dropping and of quantizing add up.
Perplexities are compared by their logarithms, in nats per token: effects multiply perplexity.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from drop_ray.evaluation.estimates import paired_difference
from drop_ray.report.results import Results
from drop_ray.report.rows import QuantizationErrorRow, VariantRow
from drop_ray.report.statistics import Task, documents_by_task, primary_tasks

LOG_PERPLEXITY = "nll"
"""Metric of the documents that pair perplexities: mean nats per token of one sample."""


@dataclass(frozen=True)
class Grid:
    """Which variants were quantized, and how."""

    rows: tuple[VariantRow, ...]
    """The base, and every variant that was quantized at least once."""
    columns: Mapping[str, Mapping[str, VariantRow]]
    """The quantized variants by label, then by name of the row."""
    left_out: int
    """How many variants were never quantized."""

    def stored(self, row: VariantRow) -> list[VariantRow]:
        """A row's variant as it is, and quantized."""
        return [row, *(column[row.name] for column in self.columns.values() if row.name in column)]


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

    variant: str
    """Name of the variant without quantization."""
    label: str
    """How it was quantized."""
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
    quantized = {(how.label, how.of): row for row in results.variants if (how := row.quantization)}
    if not quantized:
        return None
    plain = [row for row in results.variants if row.quantization is None]
    shown = {plain[0].name, *(of for _, of in quantized)}
    rows = tuple(row for row in plain if row.name in shown)
    columns = {
        label: {row.name: quantized[label, row.name] for row in rows if (label, row.name) in quantized}
        for label in dict.fromkeys(label for label, _ in quantized)
    }
    return Grid(rows, columns, len(plain) - len(rows))


def perplexity_tasks(results: Results) -> list[Task]:
    """The tasks whose primary metric is a perplexity, in order of evaluation."""
    return [task for task in primary_tasks(results) if "perplexity" in task.metric and not task.higher_is_better]


def differences(results: Results, task: Task) -> list[DifferenceRow]:
    """By quantized variant; only where both perplexities are known and finite."""
    logs, samples, rows = _logarithms(results, task), _samples(results, task), []
    for row in results.variants:
        if row.quantization and {row.name, row.quantization.of} <= logs.keys():
            one, other = row.name, row.quantization.of
            pair = paired_difference(samples[one], samples[other])
            stderr = pair.stderr if pair else None
            rows.append(DifferenceRow(one, task.task, task.metric, logs[one] - logs[other], stderr))
    return rows


def effects(results: Results, task: Task) -> list[EffectsRow]:
    """By variant, then by label; only where all four perplexities are known and finite."""
    grid = quantization_grid(results)
    if grid is None:
        return []
    logs, samples, base, rows = _logarithms(results, task), _samples(results, task), grid.rows[0].name, []
    for variant in grid.rows[1:]:
        for label, column in grid.columns.items():
            if not {base, variant.name} <= column.keys():
                continue
            both, alone = column[variant.name].name, column[base].name
            if not {base, variant.name, both, alone} <= logs.keys():
                continue
            excess = paired_difference(
                _less(samples[both], samples[variant.name]), _less(samples[alone], samples[base])
            )
            rows.append(
                EffectsRow(
                    *(variant.name, label, task.task, task.metric),
                    dropping=logs[variant.name] - logs[base],
                    quantizing=logs[alone] - logs[base],
                    both=logs[both] - logs[base],
                    stderr=excess.stderr if excess else None,
                )
            )
    return rows


def errors_of(results: Results, variant: VariantRow, *modules: str) -> list[QuantizationErrorRow]:
    """Of a quantized variant, by layer; of some kinds of sub-layers, if not of all."""
    rows = (row for row in results.quantization_errors if row.variant == variant.name)
    return sorted((row for row in rows if row.module in modules or not modules), key=lambda row: row.layer)


def reconstructions(results: Results, grid: Grid) -> list[Reconstruction]:
    """By label, then by variant; none of those without measured errors."""
    rows = []
    for label, column in grid.columns.items():
        for name, variant in column.items():
            if errors := errors_of(results, variant):
                total = math.fsum(row.error_sum for row in errors)
                nearest = math.fsum(row.round_to_nearest_sum for row in errors)
                rows.append(Reconstruction(name, label, len(errors), total, nearest))
    return rows


def _logarithms(results: Results, task: Task) -> dict[str, float]:
    """Nats per token by variant, without those that have no finite logarithm."""
    values = task.values(results)
    return {name: math.log(found.value) for name, found in values.items() if 0 < found.value < math.inf}


def _samples(results: Results, task: Task) -> dict[str, Mapping[int, float]]:
    """Nats per token by variant and sample; empty where samples are not known."""
    documents = documents_by_task(results)
    return {row.name: documents.get((row.name, task.task, LOG_PERPLEXITY), {}) for row in results.variants}


def _less(one: Mapping[int, float], other: Mapping[int, float]) -> dict[int, float]:
    return {sample: one[sample] - other[sample] for sample in one.keys() & other.keys()}
