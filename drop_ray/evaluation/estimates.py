"""Values with standard errors: means over tasks and differences paired by document."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Estimate:
    """A value with its standard error."""

    value: float
    """The value."""
    stderr: float | None
    """Its standard error, where it is known."""

    def bounds(self) -> tuple[float, float] | None:
        """One standard error below and above; None where there is none to draw."""
        error = self.stderr
        return None if error is None or not math.isfinite(error) else (self.value - error, self.value + error)


@dataclass(frozen=True)
class PairedDifference:
    """One side less the other, on the documents that both have."""

    value: float
    """The mean difference."""
    stderr: float | None
    """Its standard error; unknown of a single document."""
    num_documents: int
    """Pairs of documents."""


def mean_over_tasks(estimates: Sequence[Estimate]) -> Estimate:
    """The mean of T independent estimates, with standard error sqrt(sum se_t^2) / T.

    One unknown error makes the mean's error unknown. ValueError without estimates.
    """
    if not estimates:
        raise ValueError("a mean over no tasks")
    value = math.fsum(estimate.value for estimate in estimates) / len(estimates)
    errors = [estimate.stderr for estimate in estimates if estimate.stderr is not None]
    if len(errors) < len(estimates):
        return Estimate(value, None)
    return Estimate(value, math.sqrt(math.fsum(error**2 for error in errors)) / len(estimates))


def paired_difference(one: Mapping[int, float], other: Mapping[int, float]) -> PairedDifference | None:
    """The mean of one - other over the documents (by doc_id) that both have; None without any.

    The standard error is sqrt(var(d) / n) with the unbiased variance.
    """
    differences = [one[doc_id] - other[doc_id] for doc_id in sorted(one.keys() & other.keys())]
    if not differences:
        return None
    count = len(differences)
    mean = math.fsum(differences) / count
    if count == 1:
        return PairedDifference(mean, None, 1)
    variance = math.fsum((difference - mean) ** 2 for difference in differences) / (count - 1)
    return PairedDifference(mean, math.sqrt(variance / count), count)
