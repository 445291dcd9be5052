"""Gamma, the speedup degradation ratio (He et al., arXiv 2406.15786): points of quality lost per 1 % of speedup.

Its interval comes from the intervals of its two parts, by the method of variance estimates recovery for a ratio (Donner
and Zou, Statistical Methods in Medical Research 2012): the limits of gamma are where `loss - gamma * speedup` has a
limit of zero. The interval of the speedup need not be symmetric, but has to lie above 1.
"""

import math
from dataclasses import dataclass

from drop_ray.serving.ratios import Ratio

NORMAL_975 = 1.959964
"""The 97.5 % quantile of the normal distribution: half the width of a 95 % interval, in standard errors."""


@dataclass(frozen=True)
class Gamma:
    """The speedup degradation ratio of a variant."""

    value: float | None
    """Gamma itself; None where there is no speedup to divide by."""
    low: float | None = None
    """Lower limit of the 95 % interval; None without a value, or if the standard error of the quality is unknown."""
    high: float | None = None
    """Upper limit, None as `low` is."""
    why: str = ""
    """Why there is no value; empty if there is one."""


def sdr(points_lost: float, speedup: float) -> float:
    """Points lost per 1 % of speedup, negative for a gain. ValueError at a speedup of 1.

    `points_lost` is base minus variant, of 100.
    """
    if speedup == 1:
        raise ValueError("without a speedup there is no degradation per speedup")
    return points_lost / ((speedup - 1) * 100)


def estimate_gamma(points_lost: float, stderr: float | None, speedup: Ratio) -> Gamma:
    """Gamma with its interval. It is undefined unless the whole interval of the speedup lies above 1.

    `points_lost` is base minus variant, of 100. `stderr` is its standard error in points, None if unknown.
    """
    if speedup.high < 1:
        return Gamma(None, why="undefined: the variant is slower")
    if speedup.low <= 1:
        return Gamma(None, why="undefined: the speedup's interval contains 1")
    value = sdr(points_lost, speedup.value)
    if stderr is None or not math.isfinite(points_lost + stderr):
        return Gamma(value)
    gain, least, most = ((bound - 1) * 100 for bound in (speedup.value, speedup.low, speedup.high))
    room = NORMAL_975 * stderr
    low = _lower_limit(points_lost, room, gain, most - gain, gain - least)
    high = 0.0 - _lower_limit(-points_lost, room, gain, most - gain, gain - least)
    return Gamma(value, low, high)


def _lower_limit(loss: float, room: float, gain: float, above: float, below: float) -> float:
    """The g with `loss - g * gain = sqrt(room^2 + (g * d)^2)`, found without subtracting two nearly equal numbers.

    Here d is the distance of the gain to its upper limit (`above`) if g is positive, and to its lower limit (`below`)
    if g is negative.
    """
    distance = above if loss > room else below
    # The squares' quadratic equation a g^2 - 2 b g + c = 0; its smaller root is the one where loss - g * gain > 0.
    a, b, c = gain**2 - distance**2, loss * gain, loss**2 - room**2
    root = math.sqrt(max(b**2 - a * c, 0.0))
    if b > 0:
        return c / (b + root)
    return (b - root) / a
