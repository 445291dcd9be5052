"""Gamma, the speedup degradation ratio (He et al., arXiv 2406.15786): points of quality lost per 1 % of speedup.

The interval comes from those of its two parts by the method of variance estimates recovery for a ratio (Donner and Zou,
Statistical Methods in Medical Research 2012): gamma's limits are where `loss - gamma * speedup` has a limit of zero.
It takes the speedup's interval as it is, lopsided or not, and holds as long as that lies above 1.
"""

import math
from dataclasses import dataclass

from drop_ray.serving.ratios import Ratio

NORMAL_975 = 1.959964
"""The 97.5 % quantile of the normal distribution: half the width of a 95 % interval, in standard errors."""


@dataclass(frozen=True)
class Gamma:
    """`value` is None where there is no speedup to divide by, and `why` then says so; no limits without a value.

    low, high: 95 % interval; None too where the quality's standard error is unknown.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    why: str = ""


def sdr(points_lost: float, speedup: float) -> float:
    """Points per 1 % of speedup; negative for a gain. points_lost: base minus plan, of 100. ValueError at speedup 1."""
    if speedup == 1:
        raise ValueError("without a speedup there is no degradation per speedup")
    return points_lost / ((speedup - 1) * 100)


def estimate_gamma(points_lost: float, stderr: float | None, speedup: Ratio) -> Gamma:
    """Gamma with its interval; undefined unless the whole interval of the speedup lies above 1.

    points_lost: base minus plan, of 100; stderr: its standard error, in points, None if unknown.
    """
    if speedup.high < 1:
        return Gamma(None, why="undefined: the plan is slower")
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
    """The g with `loss - g * gain = sqrt(room^2 + (g * d)^2)`, where d is the gain's distance to its upper limit
    (`above`) for g > 0, to its lower (`below`) for g < 0. No two nearly equal numbers are subtracted."""
    distance = above if loss > room else below
    # The squares' quadratic equation a g^2 - 2 b g + c = 0; its smaller root is the one where loss - g * gain > 0.
    a, b, c = gain**2 - distance**2, loss * gain, loss**2 - room**2
    root = math.sqrt(max(b**2 - a * c, 0.0))
    if b > 0:
        return c / (b + root)
    return (b - root) / a
