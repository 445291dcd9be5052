"""The divergence panel of a variant: how far its predictions are from the base's, over the tokens of a text."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from drop_ray.evaluation.estimates import paired_difference

Values = NDArray[np.float64]
"""Numbers of predicted tokens, float64 [samples, tokens of a sample]."""


@dataclass(frozen=True)
class Panel:
    """Statistics over all predicted tokens of a text; P is the base's prediction of a token, Q the variant's."""

    tokens: int
    """Number of predicted tokens."""
    samples: int
    """Number of samples, over which standard errors are taken."""
    kl: float
    """Mean KL(P || Q) per token, in nats."""
    kl_stderr: float
    """Standard error of the mean over samples."""
    kl_median: float
    """Median of KL(P || Q)."""
    kl_p90: float
    """90th percentile."""
    kl_p95: float
    """95th percentile."""
    kl_p99: float
    """99th percentile."""
    kl_p999: float
    """99.9th percentile."""
    kl_max: float
    """Largest value."""
    top1_agreement: float
    """Share of the tokens at which P and Q have the same most probable token."""
    acceptance: float
    """Mean of 1 - total variation of P and Q: how often a draft drawn from Q is accepted by P."""
    log_perplexity_ratio: float
    """Mean of the variant's negative log-likelihood less the base's, in nats per token."""
    log_perplexity_ratio_stderr: float
    """Standard error of that mean, paired by sample."""


def panel_of(kl: Values, base_nll: Values, variant_nll: Values, agreed: Values, acceptance: Values) -> Panel:
    """The panel of what `evaluation.divergence.Comparison` has of every token.

    Percentiles are interpolated linearly between order statistics. Samples have equal numbers of tokens, so that a mean
    over tokens is one over the means of samples, of whose standard deviation (n - 1) its standard error is 1 / sqrt(n).
    ValueError for fewer than 2 samples, or for samples without tokens.
    """
    if kl.ndim != 2 or kl.shape[0] < 2 or kl.shape[1] < 1:
        raise ValueError(f"a panel takes [samples >= 2, tokens >= 1], not {list(kl.shape)}")
    mean, stderr = _mean(kl)
    ratio, ratio_stderr = _mean(variant_nll - base_nll)
    median, p90, p95, p99, p999 = map(float, np.quantile(kl, [0.5, 0.9, 0.95, 0.99, 0.999]))
    return Panel(
        tokens=kl.size,
        samples=len(kl),
        kl=mean,
        kl_stderr=stderr,
        kl_median=median,
        kl_p90=p90,
        kl_p95=p95,
        kl_p99=p99,
        kl_p999=p999,
        kl_max=float(kl.max()),
        top1_agreement=float(agreed.mean()),
        acceptance=float(acceptance.mean()),
        log_perplexity_ratio=ratio,
        log_perplexity_ratio_stderr=ratio_stderr,
    )


@dataclass(frozen=True)
class KlDifference:
    """Mean KL of one variant less that of another, paired by sample: both read the same text."""

    value: float
    """The difference, in nats per token."""
    stderr: float
    """Its standard error over samples."""

    @property
    def standard_errors(self) -> float:
        """How many standard errors lie between the two; infinite where all samples differ alike, 0 where none does."""
        if self.stderr == 0:
            return math.inf if self.value else 0.0
        return abs(self.value) / self.stderr


def kl_difference(one: Mapping[int, float], other: Mapping[int, float]) -> KlDifference:
    """The paired difference of two variants. Both arguments: mean KL per token, by sample.

    The standard error is sqrt(var(d) / n) with the unbiased variance. ValueError unless both have the same samples, two
    or more.
    """
    if one.keys() != other.keys() or len(one) < 2:
        raise ValueError(f"not the same samples: {len(one)} and {len(other)}")
    pair = paired_difference(one, other)
    assert pair is not None
    assert pair.stderr is not None
    return KlDifference(pair.value, pair.stderr)


def _mean(values: Values) -> tuple[float, float]:
    """The mean over all tokens, and its standard error over samples."""
    means = values.mean(axis=1)
    return float(means.mean()), float(means.std(ddof=1) / math.sqrt(len(means)))
