"""An interval for the mean of a finite population, from documents drawn without replacement, that holds at all times.

The method is the betting confidence sequence for sampling without replacement of Waudby-Smith and Ramdas, "Estimating
means of bounded random variables by betting" (JRSS B 86, 2024), section 5. Against each candidate mean m somebody bets
on every document; if m is the mean of the population, their capital is a nonnegative martingale that starts at 1. By
Ville's inequality it ever reaches 2 / alpha with probability alpha / 2 at most, on each side. The candidates against
which it has not are the interval. So it may be looked at after every document, and work may stop for what is seen.

The bets are made for one width: lambda = w / variance is the bet that grows fastest against a mean that is w away. A
beginning without variance stops nothing too early: validity holds for any bets made before the document is seen, and
bets are capped, so that even equal documents shrink the interval at a limited rate.
"""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
# The largest share of the capital that one document can take away.
_CAP = 0.75
_PRECISION = 1e-7


def mean_difference_interval(
    differences: Sequence[float], population: int, within: float, confidence: float
) -> tuple[float, float]:
    """Interval of the mean over `population` documents of differences in [-1, 1], of which the first were seen.

    The order must be random. `within` is the half width that the bets aim at: it decides how wide the interval is, not
    whether it holds. ValueError for a difference outside of [-1, 1], and for more than the population.
    """
    values = np.asarray(differences, np.float64)
    if len(values) > population or (len(values) and not (np.abs(values) <= 1).all()):
        raise ValueError("differences are in [-1, 1], and no more than the population has")
    low, high = _interval((values + 1) / 2, population, within / 2, 1 - confidence)
    return 2 * low - 1, 2 * high - 1


def _interval(values: Array, population: int, width: float, alpha: float) -> tuple[float, float]:
    """The same for values in [0, 1]. The upper end is the lower one of 1 - values, turned."""
    return _lower_end(values, population, width, alpha), 1 - _lower_end(1 - values, population, width, alpha)


def _lower_end(values: Array, population: int, width: float, alpha: float) -> float:
    """The least mean against which the capital has not reached 2 / alpha.

    The capital falls as m rises, so that bisection finds it; the end that was refuted is returned, or one below it.
    """
    seen = np.concatenate(([0.0], np.cumsum(values)))[: len(values)]
    left = population - np.arange(len(values), dtype=np.float64)
    bets = width / _variances(values)
    # What is left cannot be below 0, nor above 1.
    low, high = float(values.sum()) / population, (float(values.sum()) + population - len(values)) / population
    threshold = math.log(2 / alpha)
    if not len(values) or _capital(low, values, seen, left, bets, population) < threshold:
        return low
    while high - low > _PRECISION:
        middle = (low + high) / 2
        if _capital(middle, values, seen, left, bets, population) < threshold:
            high = middle
        else:
            low = middle
    return low


def _capital(mean: float, values: Array, seen: Array, left: Array, bets: Array, population: int) -> float:
    """The largest logarithm that the capital ever had, of bets that the population's mean is above `mean`."""
    rest = (population * mean - seen) / left  # the mean of what is left, if `mean` is that of all
    if (rest < -1e-12).any():
        return math.inf  # more was seen than there would be
    rest = np.clip(rest, 0.0, 1.0)
    capped = np.minimum(bets, _CAP / np.maximum(rest, 1e-12))
    return float(np.cumsum(np.log1p(capped * (values - rest))).max())


def _variances(values: Array) -> Array:
    """The variance of what was seen before each document, as if one of the largest variance, 1/4, stood first."""
    count = np.arange(len(values)) + 1.0
    means = (0.5 + np.concatenate(([0.0], np.cumsum(values)))[: len(values)]) / count
    squares = (values - np.concatenate((means[1:], [0.0]))) ** 2 if len(values) else values
    before = np.concatenate(([0.0], np.cumsum(squares)))[: len(values)]
    return np.asarray((0.25 + before) / count, np.float64)
