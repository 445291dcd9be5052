"""Divergence panels of a run: their rows, and which of two variants is nearer to the base."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from drop_ray.evaluation.panel import KlDifference, Panel, kl_difference

if TYPE_CHECKING:
    from drop_ray.report.results import Results

SEPARATED = 3.0
"""So many standard errors apart, two variants are taken to differ: some of many pairs are two apart by chance."""


@dataclass(frozen=True)
class DivergenceText:
    """The text that the panels are of."""

    source: str
    """Where it is from."""
    num_samples: int
    """Samples that were compared; without at least two there are no panels."""
    seq_len: int
    """Tokens of a sample."""
    shortage: str | None = None
    """What is to be said where the text was shorter than was asked for."""


@dataclass(frozen=True)
class DivergenceRow(Panel):
    """The divergence panel of one variant: how its predictions Q of a text's tokens differ from the base's, P."""

    variant: str
    """Name of the variant."""

    @property
    def perplexity_ratio(self) -> float:
        """Perplexity of the variant over that of the base."""
        return math.exp(self.log_perplexity_ratio)

    @property
    def perplexity_interval(self) -> tuple[float, float]:
        """The 95 % interval of that ratio, paired by sample."""
        half = 1.96 * self.log_perplexity_ratio_stderr
        return math.exp(self.log_perplexity_ratio - half), math.exp(self.log_perplexity_ratio + half)


@dataclass(frozen=True)
class DivergenceSampleRow:
    """What one variant's panel is made of: means over the tokens of one sample."""

    variant: str
    """Name of the variant."""
    sample: int
    """Number of the sample, the same for all variants."""
    tokens: int
    """Predicted tokens."""
    kl: float
    """Mean KL(P || Q) per token, in nats."""
    base_nll: float
    """Mean negative log-likelihood of a token in the base, in nats."""
    variant_nll: float
    """The same in the variant."""
    top1_agreement: float
    """Share of the tokens at which both have the same most probable token."""
    acceptance: float
    """Mean of 1 - total variation."""


@dataclass(frozen=True)
class DivergencePair:
    """Two variants that follow each other in the order of KL, paired by sample."""

    nearer: str
    """The one with the smaller KL to the base."""
    farther: str
    """The other."""
    difference: float
    """Mean KL of the farther less that of the nearer, in nats per token."""
    stderr: float
    """Its standard error over samples."""
    standard_errors: float
    """How many standard errors lie between the two; infinite where all samples differ alike."""
    separated: bool
    """Whether that is enough to tell them apart."""


def neighbours(results: "Results") -> list[DivergencePair]:
    """Each variant and the next one in the order of KL. Variants that are equal are one, by the name of the first."""
    samples = kl_by_sample(results)
    rows: dict[tuple[float, ...], DivergenceRow] = {}
    for row in results.divergences:
        rows.setdefault(tuple(samples[row.variant].values()), row)
    ranked = sorted(rows.values(), key=lambda row: row.kl)
    return [
        _pair(one, other, kl_difference(samples[other.variant], samples[one.variant]))
        for one, other in pairwise(ranked)
    ]


def kl_by_sample(results: "Results") -> dict[str, dict[int, float]]:
    """Mean KL per token, by variant and sample."""
    found: dict[str, dict[int, float]] = {row.variant: {} for row in results.divergences}
    for row in results.divergence_samples:
        found[row.variant][row.sample] = row.kl
    return found


def equal_variants(results: "Results") -> list[Sequence[str]]:
    """Names of variants that have the same numbers at every sample: their plans drop the same."""
    groups: dict[tuple[float, ...], list[str]] = {}
    for variant, values in kl_by_sample(results).items():
        groups.setdefault(tuple(values.values()), []).append(variant)
    return [names for names in groups.values() if len(names) > 1]


def _pair(nearer: DivergenceRow, farther: DivergenceRow, found: KlDifference) -> DivergencePair:
    return DivergencePair(
        nearer.variant,
        farther.variant,
        found.value,
        found.stderr,
        found.standard_errors,
        found.standard_errors >= SEPARATED,
    )
