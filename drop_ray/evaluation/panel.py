"""The divergence panel of a variant: how far its predictions are from the base's, over the tokens of a text."""

from dataclasses import dataclass


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
