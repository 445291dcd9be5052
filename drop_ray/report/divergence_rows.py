"""Rows of divergence panels, and the text that they are of."""

import math
from dataclasses import dataclass

from drop_ray.evaluation.divergence.panel import Panel


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
