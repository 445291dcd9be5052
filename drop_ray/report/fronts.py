"""Pareto fronts over all variants: what is given up for fewer bytes, or for more speed.

A variant is on a front if no other is as good in both and better in one, by the measured values; their intervals may
overlap. The base is one of the variants.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from drop_ray.evaluation.estimates import Estimate
from drop_ray.report.results import Results
from drop_ray.report.rows import VariantRow
from drop_ray.report.serving import pareto_front, references, trade_offs
from drop_ray.report.statistics import averages, standings

Place = tuple[float, float]


@dataclass(frozen=True)
class Front:
    """Variants by the bytes of their weights and one measure of quality."""

    measure: str
    """`average` or `KL`."""
    higher_is_better: bool
    """False for KL."""
    points: Mapping[VariantRow, Estimate]
    """The measure of every variant that has a finite one, in their order."""
    members: tuple[VariantRow, ...]
    """Those on the front, the smallest first."""

    def corners(self) -> list[Place]:
        """The front as steps of (bytes, measure): with room for bytes between two of it, the smaller one is had."""
        places = [(float(row.weight_bytes), self.points[row].value) for row in self.members if row in self.drawn]
        corners = places[:1]
        for before, after in pairwise(places):
            corners += [(after[0], before[1]), after]
        return corners

    @property
    def drawn(self) -> list[VariantRow]:
        """Those that a chart can show: a KL of 0 has no place on a logarithmic scale."""
        return [row for row, value in self.points.items() if self.higher_is_better or value.value > 0]


def size_fronts(results: Results) -> list[Front]:
    """By the average over tasks and by KL, each if two variants have it."""
    of_tasks = averages(results)
    of_panels = {row.variant: Estimate(row.kl, row.kl_stderr) for row in results.divergences}
    if of_panels:
        of_panels[results.variants[0].name] = Estimate(0.0, None)
    return [
        _front(results, measure, higher, values)
        for measure, higher, values in (("average", True, of_tasks), ("KL", False, of_panels))
        if len(values) > 1
    ]


def on_fronts(results: Results) -> dict[str, list[str]]:
    """Of each variant that is on a front, which ones: `average`, `KL` (against bytes), `speed` (average against it)."""
    found: dict[str, list[str]] = {}
    for front in size_fronts(results):
        for row in front.members:
            found.setdefault(row.name, []).append(front.measure)
    if measured := references(results):
        for point in trade_offs(standings(results), measured[0]):
            if point.on_front:
                found.setdefault(point.variant.name, []).append("speed")
    return found


def _front(results: Results, measure: str, higher: bool, values: Mapping[str, Estimate]) -> Front:
    points = {
        row: values[row.name]
        for row in results.variants
        if row.name in values and math.isfinite(values[row.name].value)
    }
    sign = 1 if higher else -1
    best = pareto_front([(-row.weight_bytes, sign * found.value) for row, found in points.items()])
    members = [row for row, is_best in zip(points, best, strict=True) if is_best]
    return Front(measure, higher, points, tuple(sorted(members, key=lambda row: row.weight_bytes)))
