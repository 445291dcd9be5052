"""Which of two variants is nearer to the base, by their divergence panels."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from drop_ray.evaluation.divergence.panel import KlDifference, kl_difference
from drop_ray.report.results import Results
from drop_ray.report.series import strategy_series

SEPARATED = 3.0
"""So many standard errors apart, two variants are taken to differ: some of many pairs are two apart by chance."""


@dataclass(frozen=True)
class DivergencePair:
    """Two variants that follow each other, paired by sample: both read the same text."""

    order: Literal["size", "kl"]
    """In which order: of one strategy by what is dropped, or of all variants by their KL."""
    variant: str
    """The one that comes first."""
    following: str
    """The next."""
    difference: float
    """Mean KL of the next less that of the first, in nats per token."""
    stderr: float
    """Its standard error over samples."""
    standard_errors: float
    """How many standard errors lie between the two; infinite where all samples differ alike."""
    separated: bool
    """Whether that is enough to tell them apart."""


def pairs(results: Results) -> list[DivergencePair]:
    """Neighbours within each strategy, then in the order of KL. There equal variants are one, by the first's name."""
    samples = kl_by_sample(results)
    first: dict[tuple[float, ...], str] = {}
    for variant, values in samples.items():
        first.setdefault(tuple(values.values()), variant)
    ranked = sorted(first.values(), key=lambda variant: sum(samples[variant].values()))
    found: list[tuple[Literal["size", "kl"], str, str]]
    found = [("size", *pair) for names in _sizes(results) for pair in pairwise(names)]
    found += [("kl", *pair) for pair in pairwise(ranked)]
    return [_pair(order, one, other, kl_difference(samples[other], samples[one])) for order, one, other in found]


def _sizes(results: Results) -> list[list[str]]:
    """Names of each strategy's variants by what is dropped; where several drop as much, the first."""
    compared = {row.variant for row in results.divergences}
    found = []
    for series in strategy_series([row for row in results.variants if row.quantization is None]):
        sizes: dict[int, str] = {}
        for row in series.variants if series.connected else ():
            if row.name in compared:
                sizes.setdefault(row.sublayers_dropped, row.name)
        found.append([sizes[size] for size in sorted(sizes)])
    return found


def kl_by_sample(results: Results) -> dict[str, dict[int, float]]:
    """Mean KL per token, by variant and sample."""
    found: dict[str, dict[int, float]] = {row.variant: {} for row in results.divergences}
    for row in results.divergence_samples:
        found[row.variant][row.sample] = row.kl
    return found


def equal_variants(results: Results) -> list[Sequence[str]]:
    """Names of variants that have the same numbers at every sample: their plans drop the same."""
    groups: dict[tuple[float, ...], list[str]] = {}
    for variant, values in kl_by_sample(results).items():
        groups.setdefault(tuple(values.values()), []).append(variant)
    return [names for names in groups.values() if len(names) > 1]


def _pair(order: Literal["size", "kl"], one: str, other: str, found: KlDifference) -> DivergencePair:
    apart = found.standard_errors
    return DivergencePair(order, one, other, found.value, found.stderr, apart, apart >= SEPARATED)
