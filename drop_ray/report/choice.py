"""Which of the acceptable variants are named: the safest, the smallest, the fastest."""

from collections.abc import Sequence
from dataclasses import dataclass

from drop_ray.report.acceptance import AcceptanceRow
from drop_ray.report.objections import doubts_of_speed, losses_beside
from drop_ray.report.results import Results
from drop_ray.report.rows import ServingRow, VariantRow
from drop_ray.report.serving import references

SAFEST, SMALLEST, FASTEST = "safest", "smallest", "fastest"


@dataclass(frozen=True)
class Named:
    """One variant that the first line names."""

    variant: VariantRow
    """The variant."""
    row: AcceptanceRow
    """What the rule says of it."""
    roles: tuple[str, ...]
    """What it is named for."""
    speedup: ServingRow | None
    """Its speedup in the first workload, where it was measured."""
    objections: tuple[str, ...]
    """What speaks against it, in clauses."""


def choose(results: Results, rows: Sequence[AcceptanceRow]) -> list[Named]:
    """In the order safest, smallest, fastest; one that is more than one of these comes once. Of equals the earlier one.

    Safest is the lowest upper end of the loss, of those without losses beside it (`objections.losses_beside`). Smallest
    has the fewest bytes of weights, then of KV cache. Fastest is the largest speedup in the first workload, of those
    whose interval is above 1.
    """
    fine = [row for row in rows if row.outcome == "acceptable"]
    if not fine:
        return []
    variants = {row.name: row for row in results.variants}
    speedups = next((reference.rows for reference in references(results)), {})
    beside = {row.variant: losses_beside(results, row) for row in fine}
    faster = [row for row in fine if row.variant in speedups and speedups[row.variant].low > 1]
    roles: dict[str, list[str]] = {}
    if safe := [row for row in fine if not beside[row.variant]]:
        roles.setdefault(min(safe, key=_upper_end).variant, []).append(SAFEST)
    smallest = min(fine, key=lambda row: _size(variants[row.variant])).variant
    roles.setdefault(smallest, []).append(SMALLEST)
    if faster:
        roles.setdefault(max(faster, key=lambda row: speedups[row.variant].ratio).variant, []).append(FASTEST)
    found = {row.variant: row for row in fine}
    named = []
    for name, its in roles.items():
        speedup = speedups.get(name)
        doubts = doubts_of_speed(results, speedup) if speedup else []
        named.append(Named(variants[name], found[name], tuple(its), speedup, (*beside[name], *doubts)))
    return named


def _upper_end(row: AcceptanceRow) -> float:
    assert row.high is not None, "an acceptable variant has a loss"
    return row.high


def _size(variant: VariantRow) -> tuple[int, int]:
    return variant.weight_bytes, variant.kv_bytes_per_token
