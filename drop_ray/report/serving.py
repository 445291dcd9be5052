"""What serving measurements say of variants: one speedup to compare them by, gamma, and the Pareto front.

A workload's speedup is that of output tokens per second at an equal batch, at the largest batch size that every
benchmarked variant was measured at.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from drop_ray.evaluation.estimates import Estimate
from drop_ray.report.results import Results
from drop_ray.report.rows import ServingRow, VariantRow
from drop_ray.report.statistics import Standing
from drop_ray.serving.ratios import Ratio
from drop_ray.serving.sdr import Gamma, estimate_gamma

SPEEDUP = "output_tokens_per_s"
LATENCIES = {"ttft": "time to first token", "tpot": "time per output token", "e2e": "end to end"}
PERCENTILES = ("p50", "p95", "p99")
POINTS = 100
"""Averages are shares of 1; gamma counts points of 100."""


@dataclass(frozen=True)
class Reference:
    """Where the variants are compared in one workload."""

    workload: str
    """Name of the workload."""
    batch_size: int
    """The largest that all were measured at."""
    rows: Mapping[str, ServingRow]
    """Speedups by variant."""


@dataclass(frozen=True)
class GammaRow:
    """A variant's gamma in one workload: points of quality lost per 1 % more output tokens per second."""

    variant: str
    """Name of the variant."""
    workload: str
    """Prompt and output tokens."""
    batch_size: int
    """Where the speedup was measured."""
    speedup: float
    """Output tokens per second, to the base's."""
    speedup_low: float
    """Lower end of its 95 % interval."""
    speedup_high: float
    """Its upper end."""
    points_lost: float | None
    """Average lost, of 100, paired by document; none without a paired difference."""
    points_lost_stderr: float | None
    """Its standard error."""
    gamma: float | None
    """Below 0 nothing is lost; none where it is undefined."""
    gamma_low: float | None
    """Lower end of its 95 % interval."""
    gamma_high: float | None
    """Its upper end."""
    why: str
    """Why there is no gamma."""


@dataclass(frozen=True)
class TradeOff:
    """A variant's place in quality against speedup."""

    variant: VariantRow
    """The variant."""
    speedup: Ratio
    """To the base."""
    quality: Estimate
    """Its average."""
    on_front: bool
    """Whether no other variant is as good in both and better in one."""


def ratio_of(row: ServingRow) -> Ratio:
    return Ratio(row.ratio, row.low, row.high, row.pairs)


def references(results: Results) -> list[Reference]:
    """One per workload, in the order of measurement; none for a workload without a batch size common to all."""
    rows = [
        row for row in results.serving if not row.control and row.metric == SPEEDUP and row.comparison == "equal_batch"
    ]
    variants = {row.variant for row in rows}
    found = []
    for workload in dict.fromkeys(row.workload for row in rows):
        sizes = (
            {row.batch_size for row in rows if (row.variant, row.workload) == (variant, workload)}
            for variant in variants
        )
        if common := set.intersection(*sizes):
            largest = max(common)
            chosen = {row.variant: row for row in rows if (row.workload, row.batch_size) == (workload, largest)}
            found.append(Reference(workload, largest, chosen))
    return found


def gamma_rows(standings: Sequence[Standing], measured: Sequence[Reference]) -> list[GammaRow]:
    """By variant, then by workload, of those that were benchmarked; none if no variant has a quality."""
    if all(standing.paired is None for standing in standings):
        return []
    return [
        _gamma_row(standing, reference)
        for standing in standings
        for reference in measured
        if standing.variant.name in reference.rows
    ]


def trade_offs(standings: Sequence[Standing], reference: Reference) -> list[TradeOff]:
    """Base and variants that were both benchmarked and evaluated, in their order."""
    points = []
    for standing in standings:
        quality, speedup = standing.average, _speedup(standing, reference)
        if speedup is not None and quality is not None and math.isfinite(quality.value):
            points.append((standing.variant, speedup, quality))
    front = pareto_front([(speedup.value, quality.value) for _, speedup, quality in points])
    return [TradeOff(*point, on_front) for point, on_front in zip(points, front, strict=True)]


def front(points: Sequence[TradeOff]) -> list[TradeOff]:
    """Those on the Pareto front, the fastest last."""
    return sorted((point for point in points if point.on_front), key=lambda point: point.speedup.value)


def pareto_front(points: Sequence[tuple[float, float]]) -> list[bool]:
    """Of each point (higher is better in both), whether no other is as high in both and higher in one."""
    return [
        not any(other != point and other[0] >= point[0] and other[1] >= point[1] for other in points)
        for point in points
    ]


def latencies(results: Results) -> dict[tuple[str, str, int, str], dict[str, float]]:
    """Seconds at equal batches, by (variant, workload, batch size, latency) and percentile.

    The base's are medians over everything that it was paired with.
    """
    metrics = {f"{name}_{percentile}_s": (name, percentile) for name in LATENCIES for percentile in PERCENTILES}
    measured: dict[tuple[str, str, int, str, str], list[float]] = {}
    for row in results.serving:
        if row.metric in metrics:
            place = (row.workload, row.batch_size, *metrics[row.metric])
            measured.setdefault((results.variants[0].name, *place), []).append(row.base_value)
            if row.comparison == "equal_batch" and not row.control:
                measured.setdefault((row.variant, *place), []).append(row.variant_value)
    found: dict[tuple[str, str, int, str], dict[str, float]] = {}
    for (variant, workload, batch_size, latency, percentile), values in measured.items():
        found.setdefault((variant, workload, batch_size, latency), {})[percentile] = statistics.median(values)
    return found


def _speedup(standing: Standing, reference: Reference) -> Ratio | None:
    if standing.variant.strategy == "base" and standing.variant.quantization is None:
        return Ratio(1.0, 1.0, 1.0, 0)
    row = reference.rows.get(standing.variant.name)
    return ratio_of(row) if row else None


def _gamma_row(standing: Standing, reference: Reference) -> GammaRow:
    row, paired = reference.rows[standing.variant.name], standing.paired
    lost, stderr, gamma = None, None, Gamma(None, why="unknown: no paired difference of quality")
    if paired is not None and math.isfinite(paired.value):
        lost = POINTS * (0.0 - paired.value)  # so that nothing lost is not minus zero
        stderr = None if paired.stderr is None else POINTS * paired.stderr
        gamma = estimate_gamma(lost, stderr, ratio_of(row))
    place = (row.variant, reference.workload, reference.batch_size, row.ratio, row.low, row.high)
    return GammaRow(*place, lost, stderr, gamma.value, gamma.low, gamma.high, gamma.why)
