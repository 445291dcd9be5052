"""The ratio of two measurements made in pairs, with a 95 % interval: what every speedup of the benchmark is.

Base and variant are measured one right after the other, so that what slows the machine for a while slows both. Only the
ratio within a pair is used. Statistics are those of the logarithms, so that swapping the two sides inverts them
exactly.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
STUDENT_T_975 = {2: 12.7062, 3: 4.3027, 4: 3.1824, 5: 2.7764}
"""The 97.5 % quantile of Student's t, with one degree of freedom less than pairs, by the number of pairs."""
INTERVAL_TEXT = (
    "95 % intervals of the median ratio over pairs: from six pairs on between order statistics, which assumes nothing "
    "of their distribution; of fewer pairs, which cannot reach 95 % that way, by Student's t on the ratios' logarithms"
)


@dataclass(frozen=True)
class Ratio:
    """A speedup with its 95 % interval."""

    value: float
    """The median of the pairs' ratios; above 1 the variant is better."""
    low: float
    """Lower limit of the 95 % interval, at most `value`."""
    high: float
    """Upper limit of the 95 % interval, at least `value`."""
    pairs: int
    """Number of pairs."""

    @property
    def contains_one(self) -> bool:
        """Whether the two sides cannot be told apart."""
        return self.low <= 1 <= self.high


def paired_ratio(base: Sequence[float], variant: Sequence[float], higher_is_better: bool = True) -> Ratio:
    """Variant over base, or base over variant if lower measurements are better, as seconds are.

    `base` and `variant` are the measurements of the pairs in one order. Raises ValueError for fewer than two pairs,
    sides of unequal length, or a measurement that is not positive and finite.
    """
    if len(base) != len(variant) or len(base) < 2:
        raise ValueError(f"a ratio needs two pairs at least, not {len(base)} measurements and {len(variant)}")
    measured = np.array([base, variant], dtype=np.float64)
    if not (np.isfinite(measured).all() and (measured > 0).all()):
        raise ValueError(f"measurements must be positive and finite: {measured.tolist()}")
    before, after = np.log(measured)
    logs = np.sort(after - before if higher_is_better else before - after)
    median = float(np.median(logs))
    low, high = _interval(logs)
    # The mean of equal numbers may differ from them in the last bit.
    return Ratio(math.exp(median), math.exp(min(low, median)), math.exp(max(high, median)), len(logs))


def _interval(logs: NDArray[np.float64]) -> tuple[float, float]:
    """The 95 % interval of the median of sorted logarithms.

    For few pairs the interval is made around the mean. It contains the median too, which lies within one standard
    deviation of the mean.
    """
    count = len(logs)
    if count in STUDENT_T_975:
        mean = float(logs.mean())
        room = STUDENT_T_975[count] * float(logs.std(ddof=1)) / math.sqrt(count)
        return mean - room, mean + room
    rank = _order_statistic(count)
    return float(logs[rank]), float(logs[count - 1 - rank])


def _order_statistic(count: int) -> int:
    """How many values to leave out at either end: the median lies beyond the others with at most 2.5 % there."""
    allowed = (1 - CONFIDENCE) / 2 * 2**count
    below, rank = 1, 0
    while below + math.comb(count, rank + 1) <= allowed:
        rank += 1
        below += math.comb(count, rank)
    return rank
