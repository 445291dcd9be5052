"""What serving measurements say of plans: one speedup to compare them by, gamma, and the Pareto front.

In: `Results` and the plans' standings. A workload's speedup is that of output tokens per second at an equal batch,
at the largest batch size that every benchmarked plan was measured at.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from drop_ray.report.results import PlanRow, Results, ServingRow
from drop_ray.report.statistics import Estimate, Standing
from drop_ray.serving.ratios import Ratio
from drop_ray.serving.sdr import Gamma, estimate_gamma

SPEEDUP = "output_tokens_per_s"
POINTS = 100
"""Averages are shares of 1; gamma counts points of 100."""


@dataclass(frozen=True)
class Reference:
    """Where the plans are compared in one workload; rows: their speedups, by plan."""

    workload: str
    batch_size: int
    rows: Mapping[str, ServingRow]


@dataclass(frozen=True)
class GammaRow:
    """A plan's gamma in one workload. points_lost and stderr (of 100) are None where there is no paired difference."""

    plan: str
    workload: str
    batch_size: int
    speedup: Ratio
    points_lost: float | None
    stderr: float | None
    gamma: Gamma


@dataclass(frozen=True)
class TradeOff:
    """A plan's place in quality against speedup; on_front: no other plan is as good in both and better in one."""

    plan: PlanRow
    speedup: Ratio
    quality: Estimate
    on_front: bool


def ratio_of(row: ServingRow) -> Ratio:
    return Ratio(row.ratio, row.low, row.high, row.pairs)


def controls(results: Results) -> list[ServingRow]:
    """The base against itself."""
    return [row for row in results.serving if row.control]


def references(results: Results) -> list[Reference]:
    """One per workload, in the order of measurement; none for a workload without a batch size common to all plans."""
    rows = [
        row for row in results.serving if not row.control and row.metric == SPEEDUP and row.comparison == "equal_batch"
    ]
    plans = {row.plan for row in rows}
    found = []
    for workload in dict.fromkeys(row.workload for row in rows):
        sizes = ({row.batch_size for row in rows if (row.plan, row.workload) == (plan, workload)} for plan in plans)
        common = set.intersection(*sizes)
        if common:
            largest = max(common)
            chosen = {row.plan: row for row in rows if (row.workload, row.batch_size) == (workload, largest)}
            found.append(Reference(workload, largest, chosen))
    return found


def gamma_rows(standings: Sequence[Standing], measured: Sequence[Reference]) -> list[GammaRow]:
    """By plan, then by workload; plans that were not benchmarked have none, and no plan if none has a quality."""
    if all(standing.paired is None for standing in standings):
        return []
    return [
        _gamma_row(standing, reference)
        for standing in standings
        for reference in measured
        if standing.plan.name in reference.rows
    ]


def trade_offs(standings: Sequence[Standing], reference: Reference) -> list[TradeOff]:
    """Base and plans that were both benchmarked and evaluated, in the order of the plans."""
    points = []
    for standing in standings:
        quality = standing.average
        speedup = _speedup(standing, reference)
        if speedup is not None and quality is not None and math.isfinite(quality.value):
            points.append((standing.plan, speedup, quality))
    front = pareto_front([(speedup.value, quality.value) for _, speedup, quality in points])
    return [TradeOff(*point, on_front) for point, on_front in zip(points, front, strict=True)]


def pareto_front(points: Sequence[tuple[float, float]]) -> list[bool]:
    """Of each point (higher is better in both), whether no other is as high in both and higher in one."""
    return [
        not any(other != point and other[0] >= point[0] and other[1] >= point[1] for other in points)
        for point in points
    ]


def _speedup(standing: Standing, reference: Reference) -> Ratio | None:
    if standing.plan.strategy == "base" and standing.plan.quantization is None:
        return Ratio(1.0, 1.0, 1.0, 0)
    row = reference.rows.get(standing.plan.name)
    return ratio_of(row) if row else None


def _gamma_row(standing: Standing, reference: Reference) -> GammaRow:
    speedup, paired = ratio_of(reference.rows[standing.plan.name]), standing.paired
    place = (standing.plan.name, reference.workload, reference.batch_size, speedup)
    if paired is None or not math.isfinite(paired.value):
        return GammaRow(*place, None, None, Gamma(None, why="unknown: no paired difference of quality"))
    lost = POINTS * (0.0 - paired.value)  # so that nothing lost is not minus zero
    stderr = None if paired.stderr is None else POINTS * paired.stderr
    return GammaRow(*place, lost, stderr, estimate_gamma(lost, stderr, speedup))
